//! A scripted run: an app on three dynos, its router, its troubles, and the agent.

use super::client::{Client, frame};
use tailrace::frame::now_micros;

/// The drain of the platform, and tailrace's.
pub(crate) const TOKENS: [&str; 2] =
    ["d.5f2c1b0e-8d3a-4c6f-9a71-2e4b6d8f0a13", "d.c0ffee00-1111-4222-8333-444455556666"];

const PATHS: [&str; 5] = ["/", "/users?page=2", "/articles/42", "/api/search?q=logs", "/checkout"];

/// The same numbers in every run, and no pattern to the eye (`SplitMix64`).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (z ^ (z >> 27)) >> 20
}

/// One second of the run.
pub(crate) fn second(client: &mut Client, number: u64, at: u64) {
    let mut platform = Vec::new();
    let mut ours = Vec::new();
    let step = |index: u64| at + index * 1_000;
    for index in 0..9 + mixed(number) % 8 + number % 30 / 6 {
        let n = mixed(number * 31 + index) % 1000;
        let path = PATHS[(n % 5) as usize];
        let service = 12 + n * n % 90 + if n.is_multiple_of(13) { 400 } else { 0 };
        let (status, dyno) = (if n.is_multiple_of(41) { 404 } else { 200 }, 1 + n % 2);
        let line = format!(
            "at=info method=GET path=\"{path}\" host=myapp.herokuapp.com \
             request_id=5d0a2b7e-97b6-4486-a9f7-{number:06}{index:06} fwd=\"203.0.113.{}\" dyno=web.{dyno} \
             connect={}ms service={service}ms status={status} bytes={} protocol=https",
            n % 9,
            n % 3,
            400 + n * 13 % 5000
        );
        platform.push(frame(step(index), 158, "heroku router", &line));
        let line = format!("\u{1b}[32mINFO\u{1b}[0m request path={path} status={status} took={service}ms");
        ours.push(frame(step(index), 190, &format!("app web.{dyno}"), &line));
    }
    let worker = format!("[worker] job=mail seq={number} delivered to the queue “daily”");
    ours.push(frame(step(20), 190, "app worker.1", &worker));
    if number.is_multiple_of(9) {
        let line = "\u{1b}[1;31mERROR\u{1b}[0m could not reach the cache: connection refused";
        ours.push(frame(step(21), 190, "app worker.1", line));
    }
    for (index, source) in ["web.1", "web.2", "worker.1"].into_iter().enumerate() {
        if number % 5 == index as u64 {
            ours.extend(samples(step(22), source, number, index as u64));
        }
    }
    if number.is_multiple_of(20) {
        platform.extend(troubles(step(30), number));
    }
    client.deliver(TOKENS[0], &platform);
    client.deliver(TOKENS[1], &ours);
}

fn samples(at: u64, source: &str, number: u64, index: u64) -> [String; 2] {
    let who = format!("source={source} dyno=heroku.322071457.63c5abfd-838b-4e2d-bce1-ce46de28067{index}");
    let rss = 180 + index * 70 + number * (3 - index) / 2 % 220;
    let memory = format!(
        "{who} sample#memory_total={}.43MB sample#memory_rss={rss}.05MB sample#memory_cache=4.38MB \
         sample#memory_swap=0.00MB sample#memory_pgpgin={}pages sample#memory_pgpgout={}pages \
         sample#memory_quota=512.00MB",
        rss + 4,
        84_329 + number * 17,
        38_140 + number * 11
    );
    let load = format!(
        "{who} sample#load_avg_1m=0.{:02} sample#load_avg_5m=0.{:02} sample#load_avg_15m=0.21",
        20 + number * 7 % 60,
        15 + number % 30
    );
    [memory, load].map(|line| frame(at, 134, &format!("heroku {source}"), &line))
}

fn troubles(at: u64, number: u64) -> Vec<String> {
    let line = format!(
        "at=error code=H12 desc=\"Request timeout\" method=GET path=\"/slow\" host=myapp.herokuapp.com \
         request_id=5d0a2b7e-97b6-4486-a9f7-h12{number:09} fwd=\"203.0.113.7, 198.51.100.4\" dyno=web.1 \
         connect=1ms service=30001ms status=503 bytes=0 protocol=https"
    );
    vec![
        frame(at, 158, "heroku router", &line),
        frame(at + 1, 45, "heroku web.1", "Error R14 (Memory quota exceeded)"),
        frame(at + 2, 45, "heroku web.2", "State changed from up to crashed"),
        frame(at + 3, 45, "heroku web.2", "Process exited with status 143"),
        frame(at + 4, 45, "heroku web.2", "Restarting"),
        frame(at + 5, 45, "heroku web.2", "State changed from starting to up"),
        frame(at + 6, 45, "app api", "Scaled to web@2:Standard-1X by user dev@example.com"),
        frame(at + 7, 45, "app api", "Deploy 7d2ed6b9 by user dev@example.com"),
        frame(at + 8, 45, "app api", "Release v12 created by user dev@example.com"),
    ]
}

/// `seconds` of the run, sent at once: the last second of it is now.
pub(crate) fn history(client: &mut Client, seconds: u64) {
    let start = now_micros() - seconds * 1_000_000;
    let hello =
        frame(start, 190, "tailrace web.1", "at=start version=0.1.0 source=web.1 app=myapp probe=cgroup");
    client.deliver(TOKENS[1], &[hello]);
    for number in 0..seconds {
        second(client, number, start + number * 1_000_000);
    }
    let lost = "Error L10 (output buffer overflow): 12 messages dropped since 2026-05-01T10:20:00+00:00.";
    client.deliver(TOKENS[0], &[frame(now_micros(), 172, "heroku logplex", lost)]);
}
