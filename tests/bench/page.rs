//! The page under load: how fast it opens, how late its lines are, and what it costs the drain.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};
use tailrace::frame::Timestamp;
use tailrace_drain::{Drain, Options};
use tailrace_page::browser::Window;
use tailrace_page::client::{Client, frame};
use tailrace_page::expected::Expected;
use tailrace_page::script;

const HELP: &str = "\
tests/bench/page [--seconds N]                      the table; N seconds under load (10), N/10 for each measurement.
                                                    The limit on the page's cost applies to the drain's CPU per line,
                                                    which the browser and the senders on the same cores do not affect
tests/bench/page --shot FILE [--tab NAME] [--theme light|dark] [--width PX] [--height PX] [--seconds N]
                                                    a screenshot of a run of N seconds (60); FILE is relative to the repository
";

/// Lines in the history when the page is opened.
const HELD: u64 = 200_000;
/// Lines per second during the measurement.
const LINES_PER_SECOND: u64 = 10_000;
/// Requests per second that carry them.
const REQUESTS_PER_SECOND: u64 = 40;
/// Number of dynos that send the lines.
const DYNOS: u64 = 200;
/// Pages to measure: tabs, a search that examines every line, a filter.
const PAGES: [&str; 5] =
    ["tail", "overview", "delivery", "tail&search=nothing+like+it", "overview&proc=web.7"];
/// Pairs of measurements, without and with each page.
const PAIRS: usize = 9;
/// Wait after a tab switch, until the browser is idle.
const SETTLE_TIME: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.iter().any(|arg| arg == "--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprint!("{error}\n{HELP}");
            ExitCode::from(64)
        }
    }
}

/// Whether every limit is met; an error if an option is wrong.
fn run(args: &[String]) -> Result<bool, String> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let number = |name: &str, default: u64| match value(name) {
        Some(text) => text.parse().map_err(|_| format!("{name}: found {text:?}, expected a number")),
        None => Ok(default),
    };
    let Some(file) = value("--shot") else {
        return Ok(bench(Duration::from_secs(number("--seconds", 10)?)));
    };
    screenshot(&Screenshot {
        file: Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file),
        width: number("--width", 1280)? as u32,
        height: number("--height", 860)? as u32,
        tab: value("--tab").unwrap_or("overview".into()),
        theme: value("--theme").unwrap_or("light".into()),
        seconds: number("--seconds", 60)?,
    });
    Ok(true)
}

fn start(platform: Option<&str>) -> (Drain, String) {
    let control = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let platform = platform.map(str::to_owned);
    let drain = Drain::start(Options { control, platform, ..Options::default() }).expect("a drain starts");
    let page = drain.control().expect("a control endpoint");
    (drain, page)
}

/// What `--shot` makes.
struct Screenshot {
    file: PathBuf,
    width: u32,
    height: u32,
    tab: String,
    theme: String,
    /// Length of the run before it.
    seconds: u64,
}

/// A run in real time with one second of faults in the middle, then a screenshot.
fn screenshot(options: &Screenshot) {
    let Screenshot { file, width, height, tab, theme, seconds } = options;
    let (drain, page) = start(Some(script::TOKENS[0]));
    let (mut client, mut expected) = (Client::connect(&drain), Expected::default());
    let window = Window::open(&format!("{page}/?tab={tab}"));
    window.set_viewport(*width, *height, theme);
    window.wait_until("document.querySelector('#status').dataset.state === 'live'");
    for number in 0..*seconds {
        let (begun, at) = (Instant::now(), Timestamp::now().as_micros() - 45_000 - number * 7 % 20 * 1000);
        script::send_platform(&mut client, &mut expected, number, at);
        if number == seconds / 2 {
            drain.set_faults("status=503:n=4").expect("a fault");
        }
        script::send_agent(&mut client, &mut expected, number, at);
        sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    window.screenshot(file);
}

/// A thread that sends until this is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// `rate` lines per second in `REQUESTS_PER_SECOND` requests; without a rate, as fast as the drain accepts them.
    fn start(drain: &Drain, rate: Option<u64>) -> Self {
        let mut client = Client::connect(drain);
        let begun = Instant::now();
        let mut requests = 0u32;
        let full_batch = batch(1000);
        Self::spawn(move || {
            let Some(rate) = rate else {
                client.send("d.bench", &full_batch);
                return full_batch.len() as u64;
            };
            let lines = batch(rate / REQUESTS_PER_SECOND);
            client.send("d.bench", &lines);
            requests += 1;
            let due = Duration::from_secs(1) / REQUESTS_PER_SECOND as u32 * requests;
            sleep(due.saturating_sub(begun.elapsed()));
            lines.len() as u64
        })
    }

    /// About 14 marked lines per second, whose latency is measured.
    fn marks(drain: &Drain) -> Self {
        let mut client = Client::connect(drain);
        Self::spawn(move || {
            let now = Timestamp::now().as_micros();
            client.send("d.mark", &[frame(now, 190, "app web.1", &format!("mark sent={}", now / 1000))]);
            sleep(Duration::from_millis(73));
            1
        })
    }

    /// Calls `work` in a loop; it returns the number of lines that it sent.
    fn spawn(mut work: impl FnMut() -> u64 + Send + 'static) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                counter.fetch_add(work(), Ordering::Relaxed);
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }
}

/// Lines sent so far.
fn total_sent(loads: &[Load]) -> u64 {
    loads.iter().map(|load| load.sent.load(Ordering::Relaxed)).sum()
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // a panic has been reported
        }
    }
}

/// Frames of an app, each with its creation time in the message.
fn batch(lines: u64) -> Vec<String> {
    let now = Timestamp::now().as_micros();
    let line = |n| {
        let text =
            format!("sent={} request id={n} path=/articles/42 status=200 took=12ms user=4711", now / 1000);
        frame(now, 190, &format!("app web.{}", n % DYNOS + 1), &text)
    };
    (0..lines).map(line).collect()
}

/// Records the latency of each line that is added to the tail, in ms.
const RECORD_LATENCY: &str = "(() => { window.latencies = []; new MutationObserver((changes) => { \
    const now = Date.now(); \
    for (const change of changes) for (const row of change.addedNodes) { \
        const sent = /sent=([0-9]+)/.exec(row.textContent); if (sent) window.latencies.push(now - sent[1]); } \
    }).observe(document.querySelector('#lines'), { childList: true }); })()";

/// A quantile of the recorded latencies, in ms.
fn latency_quantile(window: &Window, quantile: f64) -> f64 {
    let sorted = "[...window.latencies].sort((a, b) => a - b)";
    let at = format!(
        "{sorted}[Math.min(window.latencies.length - 1, Math.floor(window.latencies.length * {quantile}))]"
    );
    window.evaluate(&at).parse().unwrap_or(f64::INFINITY)
}

/// A row of the table.
struct Row {
    name: String,
    value: f64,
    /// The limit as text; empty if there is none.
    limit: String,
    is_met: bool,
}

impl Row {
    /// A measurement without a limit.
    fn info(name: String, value: f64) -> Self {
        Self { name, value, limit: String::new(), is_met: true }
    }

    /// A measurement with an upper limit.
    fn at_most(name: impl Into<String>, value: f64, limit: f64) -> Self {
        let digits = usize::from(limit.fract() != 0.0) * 2;
        Self { name: name.into(), value, limit: format!("at most {limit:.digits$}"), is_met: value <= limit }
    }
}

/// CPU time of the drain's receiving thread, in ns: `/proc/PID/task/TID/schedstat`, its first field.
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

/// One measurement of the drain at full speed.
#[derive(Clone, Copy)]
struct Throughput {
    lines_per_second: f64,
    /// In ns.
    cpu_per_line: f64,
}

impl Throughput {
    fn measure(loads: &[Load], duration: Duration) -> Self {
        let (begun, before, cpu) = (Instant::now(), total_sent(loads), drain_cpu());
        sleep(duration);
        let lines = (total_sent(loads) - before) as f64;
        Self {
            lines_per_second: lines / begun.elapsed().as_secs_f64(),
            cpu_per_line: (drain_cpu() - cpu) / lines,
        }
    }
}

/// What an open page costs the drain at full speed. The two measurements of a pair follow each other closely, because
/// the speed of the machine varies. The page is live only while its tab is in front.
fn cost(drain: &Drain, page: &str, duration: Duration) -> Vec<Row> {
    // Two senders, so that the drain is the bottleneck.
    let loads = [Load::start(drain, None), Load::start(drain, None)];
    let measure = || Throughput::measure(&loads, duration);
    let window = Window::open("about:blank");
    let blank = window.new_tab("about:blank");
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), vec![Vec::new(); PAGES.len()]);
    measure(); // warm-up
    // The pages alternate, so that changes of the machine's speed affect all of them.
    for _ in 0..PAIRS {
        for (open, ratios) in PAGES.iter().zip(&mut ratios) {
            blank.bring_to_front();
            sleep(SETTLE_TIME);
            let before = measure();
            window.bring_to_front();
            window.navigate(&format!("{page}/?tab={open}"));
            window.wait_until("document.querySelector('#status').dataset.state === 'live'");
            sleep(SETTLE_TIME);
            let after = measure();
            ratios.push(after.cpu_per_line / before.cpu_per_line);
            without.push(before);
            with.push(after);
        }
    }
    let per_page = PAGES.iter().zip(&ratios);
    let per_page = per_page
        .map(|(open, ratios)| Row::info(format!("CPU per line with {open}, × without"), median(ratios)));
    let mut rows: Vec<Row> = per_page.collect();
    for (name, measured) in [("no page", &without), ("a page open", &with)] {
        let rates: Vec<f64> = measured.iter().map(|one| one.lines_per_second).collect();
        let cpu: Vec<f64> = measured.iter().map(|one| one.cpu_per_line).collect();
        rows.push(Row::info(format!("lines per second, {name}"), median(&rates)));
        rows.push(Row::info(format!("the drain's CPU per line, {name}, ns"), median(&cpu)));
    }
    let ratios = ratios.concat();
    let name = format!("CPU per line, page / no page, median of {} pairs", ratios.len());
    rows.push(Row::at_most(name, median(&ratios), 1.10));
    rows
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// How fast the page opens, and how late its lines are, while lines arrive at a fixed rate.
fn latency(drain: &Drain, page: &str, duration: Duration) -> Vec<Row> {
    let load = Load::start(drain, Some(LINES_PER_SECOND));
    sleep(Duration::from_secs(1));
    let _marks = Load::marks(drain);
    // Without a filter the tail shows only the newest lines of each batch; of the few marked lines it shows all.
    let window = Window::open(&format!("{page}/?tab=tail&search=mark"));
    window.wait_until("document.querySelectorAll('#lines li').length > 0");
    let navigation = "performance.getEntriesByType('navigation')[0]";
    let loaded: f64 = window.evaluate(&format!("{navigation}.loadEventEnd")).parse().unwrap_or(f64::INFINITY);
    window.evaluate(RECORD_LATENCY);
    let before = total_sent(std::slice::from_ref(&load));
    sleep(duration);
    let rate = (total_sent(std::slice::from_ref(&load)) - before) as f64 / duration.as_secs_f64();
    let mut rows = vec![
        Row {
            name: format!("lines per second received, {HELD} held"),
            value: rate,
            limit: format!("about {LINES_PER_SECOND}"),
            is_met: rate > 9000.0,
        },
        Row::at_most("page load, ms", loaded, 1000.0),
        Row::at_most("latency of a line, p50, ms", latency_quantile(&window, 0.5), 400.0),
        Row::at_most("latency of a line, p95, ms", latency_quantile(&window, 0.95), 800.0),
        Row::info("latency of a line, maximum, ms".to_owned(), latency_quantile(&window, 1.0)),
    ];
    for tab in ["overview", "delivery"] {
        let fetch = format!(
            "(async () => {{ const start = performance.now(); await (await fetch('/panels/{tab}')).text(); \
             return performance.now() - start; }})()"
        );
        let took: f64 = window.evaluate(&fetch).parse().unwrap_or(f64::INFINITY);
        rows.push(Row::at_most(format!("panels of {tab}, ms"), took, 300.0));
    }
    rows
}

/// Prints the table; whether every limit is met.
fn bench(duration: Duration) -> bool {
    let (drain, page) = start(None);
    let mut client = Client::connect(&drain);
    for _ in 0..HELD / 1000 {
        client.send("d.bench", &batch(1000));
    }
    let mut rows = latency(&drain, &page, duration);
    rows.extend(cost(&drain, &page, duration / 10));
    for Row { name, value, limit, is_met } in &rows {
        let digits = usize::from(*value < 10.0) * 2;
        println!("{name:<56} {value:>12.digits$}  {limit:<14} {}", if *is_met { "" } else { "MISSED" });
    }
    rows.iter().all(|row| row.is_met)
}
