//! The page under load: how fast it opens, how late its lines are, and what it costs the drain.

#[path = "../drain/tests/page/browser.rs"]
#[expect(dead_code, reason = "shared with the page's tests, which use all of it")]
mod browser;
#[path = "../drain/tests/page/client.rs"]
mod client;
#[path = "../drain/tests/page/expected.rs"]
#[expect(dead_code, reason = "shared with the page's tests, which use all of it")]
mod expected;
#[path = "../drain/tests/page/script.rs"]
#[expect(dead_code, reason = "shared with the page's tests, which use all of it")]
mod script;

use browser::Window;
use client::{Client, frame};
use expected::Sent;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};
use tailrace::frame::Timestamp;
use tailrace_drain::{Drain, Options};

const HELP: &str = "\
tests/bench/page [--seconds N]                      the table; N seconds under load (10), a tenth of it a moment; the
                                                    bar for what the page costs the drain is the drain's own CPU per
                                                    line, which browser and senders on the same cores leave alone
tests/bench/page --shot FILE [--tab NAME] [--theme light|dark] [--width PX] [--height PX] [--seconds N]
                                                    a screenshot of a run of N seconds (60); FILE is relative to the repository
";

/// Lines that are held when the page is opened, and lines per second that come meanwhile.
const HELD: u64 = 200_000;
const RATE: u64 = 10_000;
/// Requests per second that carry them.
const REQUESTS: u64 = 40;
/// Dynos that the lines come from.
const DYNOS: u64 = 200;
/// What is open: tabs, a search that has to look at every line, a filter.
const PAGES: [&str; 5] =
    ["tail", "overview", "delivery", "tail&search=nothing+like+it", "overview&proc=web.7"];
/// Moments without and with each of them.
const PAIRS: usize = 9;
/// Until a browser that brings another tab to the front is calm.
const SETTLE: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let number = |name: &str, otherwise: u64| match value(name) {
        Some(text) => text.parse().map_err(|_| format!("{name}: found {text:?}, expected a number")),
        None => Ok(otherwise),
    };
    if args.iter().any(|arg| arg == "--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let done = match value("--shot") {
        Some(file) => (|| {
            let (width, height) = (number("--width", 1280)?, number("--height", 860)?);
            let (tab, theme) = (value("--tab"), value("--theme"));
            let (tab, theme) = (tab.unwrap_or("overview".into()), theme.unwrap_or("light".into()));
            shot(
                &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file),
                &tab,
                &theme,
                (width as u32, height as u32),
                number("--seconds", 60)?,
            );
            Ok(true)
        })(),
        None => number("--seconds", 10).map(|seconds| bench(Duration::from_secs(seconds))),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprint!("{error}\n{HELP}");
            ExitCode::from(64)
        }
    }
}

fn start(platform: Option<&str>) -> (Drain, String) {
    let control = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let platform = platform.map(str::to_owned);
    let drain = Drain::start(Options { control, platform, ..Options::default() }).expect("a drain starts");
    let page = drain.control().expect("it was asked for");
    (drain, page)
}

/// A run in real time, a second of trouble in the middle of it, and a picture.
fn shot(file: &Path, tab: &str, theme: &str, size: (u32, u32), seconds: u64) {
    let (drain, page) = start(Some(script::TOKENS[0]));
    let (mut client, mut sent) = (Client::connect(&drain), Sent::default());
    let window = Window::open(&format!("{page}/?tab={tab}"));
    window.look(size.0, size.1, theme);
    window.until("document.querySelector('#status').dataset.state === 'live'");
    for number in 0..seconds {
        let (begun, at) = (Instant::now(), Timestamp::now().as_micros() - 45_000 - number * 7 % 20 * 1000);
        script::platform(&mut client, &mut sent, number, at);
        if number == seconds / 2 {
            drain.set_faults("status=503:n=4").expect("a fault");
        }
        script::ours(&mut client, &mut sent, number, at);
        sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    window.shot(file);
}

/// Sends until it is told to stop.
struct Load {
    halt: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// `rate` lines per second in `REQUESTS` requests; without a rate, as fast as they are taken.
    fn start(drain: &Drain, rate: Option<u64>) -> Self {
        let mut client = Client::connect(drain);
        let begun = Instant::now();
        let mut requests = 0u32;
        let whole = batch(1000);
        Self::running(move || {
            let Some(rate) = rate else {
                client.send("d.bench", &whole);
                return whole.len() as u64;
            };
            let lines = batch(rate / REQUESTS);
            client.send("d.bench", &lines);
            requests += 1;
            let due = Duration::from_secs(1) / REQUESTS as u32 * requests;
            sleep(due.saturating_sub(begun.elapsed()));
            lines.len() as u64
        })
    }

    /// A few lines per second, at odd times, to be looked for.
    fn marks(drain: &Drain) -> Self {
        let mut client = Client::connect(drain);
        Self::running(move || {
            let now = Timestamp::now().as_micros();
            client.send("d.mark", &[frame(now, 190, "app web.1", &format!("mark sent={}", now / 1000))]);
            sleep(Duration::from_millis(73));
            1
        })
    }

    /// Calls `work` until the end; it returns the lines that it sent.
    fn running(mut work: impl FnMut() -> u64 + Send + 'static) -> Self {
        let (halt, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, counter) = (Arc::clone(&halt), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                counter.fetch_add(work(), Ordering::Relaxed);
            }
        });
        Self { halt, sent, thread: Some(thread) }
    }
}

/// Lines that were sent so far.
fn sent(loads: &[Load]) -> u64 {
    loads.iter().map(|load| load.sent.load(Ordering::Relaxed)).sum()
}

impl Drop for Load {
    fn drop(&mut self) {
        self.halt.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Lines of an app, each with the time when it was made.
fn batch(lines: u64) -> Vec<String> {
    let now = Timestamp::now().as_micros();
    let line = |n| {
        let text =
            format!("sent={} request id={n} path=/articles/42 status=200 took=12ms user=4711", now / 1000);
        frame(now, 190, &format!("app web.{}", n % DYNOS + 1), &text)
    };
    (0..lines).map(line).collect()
}

/// Notes, for each line that comes, how late it is.
const WATCH: &str = "(() => { window.late = []; new MutationObserver((changes) => { \
    const now = Date.now(); \
    for (const change of changes) for (const row of change.addedNodes) { \
        const sent = /sent=([0-9]+)/.exec(row.textContent); if (sent) window.late.push(now - sent[1]); } \
    }).observe(document.querySelector('#lines'), { childList: true }); })()";

/// The share of `window.late` below which the rest lies, in ms.
fn late(window: &Window, share: f64) -> f64 {
    let sorted = "[...window.late].sort((a, b) => a - b)";
    let at = format!("{sorted}[Math.min(window.late.length - 1, Math.floor(window.late.length * {share}))]");
    window.text(&at).parse().unwrap_or(f64::INFINITY)
}

/// A row of the table: what, how much, its bar, and whether that is met.
type Row = (String, f64, String, bool);

/// CPU that the drain's receiving thread has used, in ns: `/proc/PID/task/TID/schedstat`, its first field.
fn drain_cpu() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs").flatten().map(|task| task.path());
    let drains =
        tasks.filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "drain\n"));
    let used = drains.filter_map(|task| {
        let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    used.sum()
}

/// What an open page costs the drain, at full speed. The two of a pair stand close together, since the machine's own
/// pace wanders: the page is live only while it is in front of another tab.
fn cost(drain: &Drain, page: &str, moment: Duration) -> Vec<Row> {
    // Two senders: the drain, not a sender, is what is slowest.
    let two = [Load::start(drain, None), Load::start(drain, None)];
    let measure = || {
        let (begun, before, cpu) = (Instant::now(), sent(&two), drain_cpu());
        sleep(moment);
        let lines = (sent(&two) - before) as f64;
        (lines / begun.elapsed().as_secs_f64(), (drain_cpu() - cpu) / lines)
    };
    let window = Window::open("about:blank");
    let blank = window.another("about:blank");
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), vec![Vec::new(); PAGES.len()]);
    measure(); // both senders, and the machine, are at their pace now
    // By turns, so that what else changes meanwhile is nobody's.
    for _ in 0..PAIRS {
        for (open, ratios) in PAGES.iter().zip(&mut ratios) {
            blank.front();
            sleep(SETTLE);
            let before = measure();
            window.front();
            window.go(&format!("{page}/?tab={open}"));
            window.until("document.querySelector('#status').dataset.state === 'live'");
            sleep(SETTLE);
            let then = measure();
            ratios.push(then.1 / before.1);
            without.push(before);
            with.push(then);
        }
    }
    let mut rows: Vec<Row> = PAGES
        .iter()
        .zip(&ratios)
        .map(|(open, of_page)| {
            (format!("CPU per line with {open}, × without"), median(of_page), String::new(), true)
        })
        .collect();
    let ratios = ratios.concat();
    for (name, moments) in [("no page", &without), ("a page open", &with)] {
        let (rates, cpu): (Vec<f64>, Vec<f64>) = moments.iter().copied().unzip();
        rows.push((format!("lines per second, {name}"), median(&rates), String::new(), true));
        rows.push((format!("the drain's CPU per line, {name}, ns"), median(&cpu), String::new(), true));
    }
    let what = format!("the second of the first, median of {} pairs", ratios.len());
    let ratio = median(&ratios);
    rows.push((what, ratio, "at most 1.10".to_owned(), ratio <= 1.10));
    rows
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn bench(while_: Duration) -> bool {
    let (drain, page) = start(None);
    let mut client = Client::connect(&drain);
    for _ in 0..HELD / 1000 {
        client.send("d.bench", &batch(1000));
    }
    let mut rows: Vec<Row> = Vec::new();
    let load = Load::start(&drain, Some(RATE));
    sleep(Duration::from_secs(1));
    let marks = Load::marks(&drain);
    // Without a filter only the youngest lines of each moment are shown; these few are all shown, however old.
    let window = Window::open(&format!("{page}/?tab=tail&search=mark"));
    window.until("document.querySelectorAll('#lines li').length > 0");
    let navigation = "performance.getEntriesByType('navigation')[0]";
    let loaded: f64 = window.text(&format!("{navigation}.loadEventEnd")).parse().unwrap_or(f64::INFINITY);
    window.text(WATCH);
    let before = sent(std::slice::from_ref(&load));
    sleep(while_);
    let rate = (sent(std::slice::from_ref(&load)) - before) as f64 / while_.as_secs_f64();
    let (p50, p95, worst) = (late(&window, 0.5), late(&window, 0.95), late(&window, 1.0));
    rows.push((
        format!("lines per second that came, {HELD} held"),
        rate,
        format!("about {RATE}"),
        rate > 9000.0,
    ));
    rows.push(("page load, ms".to_owned(), loaded, "at most 1000".to_owned(), loaded <= 1000.0));
    rows.push((
        "a line's way to the screen, p50, ms".to_owned(),
        p50,
        "at most 400".to_owned(),
        p50 <= 400.0,
    ));
    rows.push(("p95, ms".to_owned(), p95, "at most 800".to_owned(), p95 <= 800.0));
    rows.push(("longest, ms".to_owned(), worst, String::new(), true));
    for tab in ["overview", "delivery"] {
        let show = format!(
            "(async () => {{ const start = performance.now(); await (await fetch('/panels/{tab}')).text(); \
             return performance.now() - start; }})()"
        );
        let took: f64 = window.text(&show).parse().unwrap_or(f64::INFINITY);
        rows.push((format!("panels of {tab}, ms"), took, "at most 300".to_owned(), took <= 300.0));
    }
    drop((load, marks, window));

    rows.extend(cost(&drain, &page, while_ / 10));
    for (what, value, bar, is_met) in &rows {
        let digits = usize::from(*value < 10.0) * 2;
        println!("{what:<56} {value:>12.digits$}  {bar:<14} {}", if *is_met { "" } else { "MISSED" });
    }
    rows.iter().all(|row| row.3)
}
