//! A scripted run: an app on three dynos, its router, platform errors, and the agent.

use crate::client::{Client, frame};
use crate::expected::{Expected, Request};
use tailrace::frame::Timestamp;

/// Drain tokens: the platform's, then tailrace's.
pub const TOKENS: [&str; 2] =
    ["d.5f2c1b0e-8d3a-4c6f-9a71-2e4b6d8f0a13", "d.c0ffee00-1111-4222-8333-444455556666"];
const PLATFORM: &str = TOKENS[0];
const AGENT: &str = TOKENS[1];

const PATHS: [&str; 5] = ["/", "/users?page=2", "/articles/42", "/api/search?q=logs", "/checkout"];

/// One request to the drain; counts its frames in `expected`.
struct Post<'a> {
    expected: &'a mut Expected,
    token: &'static str,
    frames: Vec<String>,
}

impl<'a> Post<'a> {
    fn new(expected: &'a mut Expected, token: &'static str) -> Self {
        Self { expected, token, frames: Vec::new() }
    }

    fn push(&mut self, at: u64, pri: u8, from: &str, text: &str) {
        self.expected.add_frame(self.token, from);
        self.frames.push(frame(at, pri, from, text));
    }

    fn deliver(self, client: &mut Client) {
        client.deliver(self.token, &self.frames);
        *self.expected.deliveries.entry(self.token).or_default() += 1;
    }

    fn request(&mut self, at: u64, request: Request, id: &str) {
        let Request { path, dyno, status, connect, service, bytes, clients, code } = &request;
        let start = match code {
            None => "at=info".to_owned(),
            Some(code) => format!("at=error code={code} desc=\"Request timeout\""),
        };
        let line = format!(
            "{start} method=GET path=\"{path}\" host=myapp.herokuapp.com request_id=5d0a2b7e-97b6-4486-a9f7-{id} \
             fwd=\"{}\" dyno={dyno} connect={connect}ms service={service}ms status={status} bytes={bytes} \
             protocol=https",
            clients.join(", ")
        );
        self.push(at, 158, "heroku router", &line);
        if let Some(code) = *code {
            self.expected.add_code(code);
            self.expected.add_error_line("heroku[router]");
        }
        self.expected.requests.push(request);
    }
}

/// Pseudorandom numbers, the same in every run (`SplitMix64`).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (z ^ (z >> 27)) >> 20
}

/// Sends one second of the run from both drains.
pub fn send_second(client: &mut Client, expected: &mut Expected, number: u64, at: u64) {
    send_platform(client, expected, number, at);
    send_agent(client, expected, number, at);
}

fn visits(number: u64) -> impl Iterator<Item = (u64, u64)> {
    let count = 9 + mix(number) % 8 + number % 30 / 6;
    (0..count).map(move |index| (index, mix(number * 31 + index) % 1000))
}

fn visit(n: u64) -> Request {
    Request {
        path: PATHS[(n % 5) as usize],
        dyno: format!("web.{}", 1 + n % 2),
        status: if n.is_multiple_of(41) { 404 } else { 200 },
        connect: n % 3,
        service: 12 + n * n % 90 + if n.is_multiple_of(13) { 400 } else { 0 },
        bytes: 400 + n * 13 % 5000,
        clients: vec![format!("203.0.113.{}", n % 9)],
        code: None,
    }
}

/// Sends what the platform's drain delivers in that second.
pub fn send_platform(client: &mut Client, expected: &mut Expected, number: u64, at: u64) {
    let mut post = Post::new(expected, PLATFORM);
    for (index, n) in visits(number) {
        post.request(at + index * 1000, visit(n), &format!("{number:06}{index:06}"));
    }
    if number.is_multiple_of(20) {
        platform_errors(&mut post, at + 30_000, number);
    }
    post.deliver(client);
}

/// Sends what tailrace delivers in that second.
pub fn send_agent(client: &mut Client, expected: &mut Expected, number: u64, at: u64) {
    let mut post = Post::new(expected, AGENT);
    for (index, n) in visits(number) {
        let Request { path, dyno, status, service, .. } = visit(n);
        let line = format!("\u{1b}[32mINFO\u{1b}[0m request path={path} status={status} took={service}ms");
        post.push(at + index * 1000, 190, &format!("app {dyno}"), &line);
    }
    let worker = format!("[worker] job=mail seq={number} delivered to the queue “daily”");
    post.push(at + 20_000, 190, "app worker.1", &worker);
    if number.is_multiple_of(9) {
        let line = "\u{1b}[1;31mERROR\u{1b}[0m could not reach the cache: connection refused";
        post.push(at + 21_000, 190, "app worker.1", line);
        post.expected.add_error_line("app[worker.1]");
    }
    for (index, source) in ["web.1", "web.2", "worker.1"].into_iter().enumerate() {
        if number % 5 == index as u64 {
            push_samples(&mut post, at + 22_000, source, number, index as u64);
        }
    }
    post.deliver(client);
}

fn push_samples(post: &mut Post<'_>, at: u64, source: &str, number: u64, index: u64) {
    let prefix = format!("source={source} dyno=heroku.322071457.63c5abfd-838b-4e2d-bce1-ce46de28067{index}");
    let rss = 180 + index * 70 + number * (3 - index) / 2 % 220;
    let memory = format!(
        "{prefix} sample#memory_total={}.43MB sample#memory_rss={rss}.05MB sample#memory_cache=4.38MB \
         sample#memory_swap=0.00MB sample#memory_pgpgin={}pages sample#memory_pgpgout={}pages \
         sample#memory_quota=512.00MB",
        rss + 4,
        84_329 + number * 17,
        38_140 + number * 11
    );
    let load = format!(
        "{prefix} sample#load_avg_1m=0.{:02} sample#load_avg_5m=0.{:02} sample#load_avg_15m=0.21",
        20 + number * 7 % 60,
        15 + number % 30
    );
    for line in [memory, load] {
        post.push(at, 134, &format!("heroku {source}"), &line);
    }
    post.expected.add_sample(source, "memory_total", rss as f64 + 4.43);
    post.expected.add_sample(source, "memory_rss", rss as f64 + 0.05);
    post.expected.add_sample(source, "load_avg_15m", 0.21);
}

fn platform_errors(post: &mut Post<'_>, at: u64, number: u64) {
    let timeout = Request {
        path: "/slow",
        dyno: "web.1".to_owned(),
        status: 503,
        connect: 1,
        service: 30_001,
        bytes: 0,
        clients: vec!["203.0.113.7".to_owned(), "198.51.100.4".to_owned()],
        code: Some("H12"),
    };
    post.request(at, timeout, &format!("h12{number:09}"));
    for (pri, from, text, event) in [
        (45, "heroku web.1", "Error R14 (Memory quota exceeded)", "R14"),
        (45, "heroku web.2", "State changed from up to crashed", "crashed"),
        (45, "heroku web.2", "Process exited with status 143", "exit 143"),
        (45, "heroku web.2", "Restarting", "restarts"),
        (45, "heroku web.2", "State changed from starting to up", "up"),
        (45, "app api", "Build succeeded", "built"),
        (45, "app api", "Build failed -- check your build output", "not built"),
        (45, "app api", "Scaled to web@2:Standard-1X by user dev@example.com", "scaled"),
        (45, "app api", "Deploy 7d2ed6b9 by user dev@example.com", "deploys"),
        (45, "app api", "Release v12 created by user dev@example.com", "releases"),
    ] {
        post.push(at, pri, from, text);
        post.expected.add_event(event);
    }
    post.expected.add_code("R14");
    post.expected.add_error_line("heroku[web.1]");
}

/// Sends `seconds` of the run at once; the last of them is the current second.
pub fn send_history(client: &mut Client, seconds: u64) -> Expected {
    let mut expected = Expected::default();
    let start = Timestamp::now().as_micros() - seconds * 1_000_000;
    let mut post = Post::new(&mut expected, AGENT);
    post.push(start - 2, 134, "tailrace web.1", "at=start version=0.1.0 source=web.1 app=myapp probe=cgroup");
    let heartbeat = "at=heartbeat captured=90 delivered=78 held=12 dropped=0 rejected=0 retries=1 oldest=3s memory=3.58MB \
                 cpu=41ms";
    post.push(start - 1, 134, "tailrace web.1", heartbeat);
    post.deliver(client);
    for number in 0..seconds {
        send_second(client, &mut expected, number, start + number * 1_000_000);
    }
    for (token, lines) in [(PLATFORM, 2446), (AGENT, 12)] {
        let mut post = Post::new(&mut expected, token);
        let notice = format!(
            "Error L10 (output buffer overflow): {lines} messages dropped since 2026-05-01T10:20:00+00:00."
        );
        post.push(Timestamp::now().as_micros(), 172, "heroku logplex", &notice);
        post.expected.add_code("L10");
        post.expected.add_error_line("heroku[logplex]");
        post.expected.lost.insert(token, lines);
        post.deliver(client);
    }
    expected
}
