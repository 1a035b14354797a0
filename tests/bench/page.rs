//! The page under load: how fast it opens, how late its lines are, and what it costs the drain.

#[path = "../drain/tests/page/browser.rs"]
#[expect(dead_code, reason = "shared with the page's tests, which use all of it")]
mod browser;
#[path = "../drain/tests/page/client.rs"]
mod client;
#[path = "../drain/tests/page/script.rs"]
#[expect(dead_code, reason = "shared with the page's tests, which use all of it")]
mod script;

use browser::Window;
use client::{Client, frame};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};
use tailrace::frame::now_micros;
use tailrace_drain::{Drain, Options};

const HELP: &str = "\
tests/bench/page [--seconds N]                      the table; N seconds a measurement (10)
tests/bench/page --shot FILE [--tab NAME] [--theme light|dark] [--width PX] [--height PX] [--seconds N]
                                                    a screenshot of a run of N seconds (60)
";

/// Lines that are held when the page is opened, and lines per second that come meanwhile.
const HELD: u64 = 200_000;
const RATE: u64 = 10_000;
/// Requests per second that carry them.
const REQUESTS: u64 = 40;
/// Rounds of throughput, each without and with the page.
const ROUNDS: usize = 3;

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
            shot(&PathBuf::from(file), &tab, &theme, (width as u32, height as u32), number("--seconds", 60)?);
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

fn start() -> (Drain, String) {
    let control = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let drain = Drain::start(Options { control, ..Options::default() }).expect("a drain starts");
    let page = drain.control().expect("it was asked for");
    (drain, page)
}

/// A run in real time, a second of trouble in the middle of it, and a picture.
fn shot(file: &std::path::Path, tab: &str, theme: &str, size: (u32, u32), seconds: u64) {
    let (drain, page) = start();
    let mut client = Client::connect(&drain);
    for number in 0..seconds {
        let begun = Instant::now();
        if number == seconds / 2 {
            drain.set_faults("status=503:n=4").expect("a fault");
        }
        script::second(&mut client, number, now_micros() - 45_000 - number * 7 % 20 * 1000);
        sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    let window = Window::open(&format!("{page}/?tab={tab}"));
    window.look(size.0, size.1, theme);
    window.until("document.querySelector('#status').dataset.state === 'live'");
    window.until("document.querySelector('#held').textContent !== '–'");
    sleep(Duration::from_millis(1500)); // a rate needs two ticks
    window.shot(file);
    println!("{}", file.display());
}

/// Sends until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// `rate` lines per second in `REQUESTS` requests; without a rate, as fast as they are taken.
    fn start(drain: &Drain, rate: Option<u64>) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let mut client = Client::connect(drain);
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut requests = 0u32;
            let mut lines = batch(1000);
            while !stopped.load(Ordering::Relaxed) {
                if let Some(rate) = rate {
                    lines = batch(rate / REQUESTS);
                }
                client.send("d.bench", &lines);
                counter.fetch_add(lines.len() as u64, Ordering::Relaxed);
                requests += 1;
                if rate.is_some() {
                    let due = Duration::from_secs(1) / REQUESTS as u32 * requests;
                    sleep(due.saturating_sub(begun.elapsed()));
                }
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// Lines per second over a while.
    fn rate(&self, over: Duration) -> f64 {
        let (begun, before) = (Instant::now(), self.sent.load(Ordering::Relaxed));
        sleep(over);
        (self.sent.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Lines of an app, each with the time when it was made.
fn batch(lines: u64) -> Vec<String> {
    let now = now_micros();
    let line = |n| {
        let text =
            format!("sent={} request id={n} path=/articles/42 status=200 took=12ms user=4711", now / 1000);
        frame(now, 190, "app web.1", &text)
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

fn bench(while_: Duration) -> bool {
    let (drain, page) = start();
    let mut client = Client::connect(&drain);
    for _ in 0..HELD / 1000 {
        client.send("d.bench", &batch(1000));
    }
    let mut rows = Vec::new();
    let load = Load::start(&drain, Some(RATE));
    sleep(Duration::from_secs(1));
    let window = Window::open(&format!("{page}/?tab=tail"));
    window.until("document.querySelectorAll('#lines li').length > 0");
    let navigation = "performance.getEntriesByType('navigation')[0]";
    let loaded: f64 = window.text(&format!("{navigation}.loadEventEnd")).parse().unwrap_or(f64::INFINITY);
    window.text(WATCH);
    let rate = load.rate(while_);
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
    drop((load, window));

    let load = Load::start(&drain, None);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        without.push(load.rate(while_));
        let window = Window::open(&format!("{page}/?tab={}", ["tail", "overview", "delivery"][round % 3]));
        with.push(load.rate(while_));
        drop(window);
    }
    drop(load);
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (without, with) = (median(&mut without), median(&mut with));
    rows.push(("lines per second, no page".to_owned(), without, String::new(), true));
    rows.push(("lines per second, a page open".to_owned(), with, String::new(), true));
    let ratio = with / without;
    rows.push(("the second of the first".to_owned(), ratio, "at least 0.90".to_owned(), ratio >= 0.90));
    for (what, value, bar, is_met) in &rows {
        let digits = usize::from(*value < 10.0) * 2;
        println!("{what:<42} {value:>12.digits$}  {bar:<14} {}", if *is_met { "" } else { "MISSED" });
    }
    rows.iter().all(|row| row.3)
}
