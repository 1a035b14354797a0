//! Steady loads: an idle app, 1,000, 10,000 and 100,000 lines per second, shipper faults, bursts, starts and exits.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::Result;
use crate::cores::Cores;
use crate::full_speed::Encoding;
use crate::harness::{Harness, PipeCapacity, pipe};
use crate::measure::{Cost, ProcessPair, Rates, UsageSnapshot, monotonic_micros, observe};
use crate::peak::Peak;
use crate::results::Results;
use crate::stats::{Figures, Percentiles};

/// The start of a run is not measured: reading the certificates, the first connection.
const WARM_UP: Duration = Duration::from_millis(1500);
/// The interval between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// What the longest shutdown may add to a run.
const MAX_SHUTDOWN: Duration = Duration::from_secs(40);

/// From this rate on, in lines per second, the page cache is looked at, which costs the machine some time.
const FAST_RATE: u64 = 100_000;

/// The path of Debian's package `tini`.
const TINI: &str = "/usr/bin/tini";

/// What happens to the shipper while the app writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShipperFault {
    None,
    Stopped,
    Killed,
}

/// Durations and repetitions of the measurements.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) idle: Duration,
    pub(crate) paced: Duration,
    pub(crate) fault: Duration,
    pub(crate) bursts: u64,
    pub(crate) starts: u64,
}

/// Rates and memory of a contestant between the warm-up and shortly before the exit of the app.
struct Window {
    until: Duration,
    next: Duration,
    from: Option<UsageSnapshot>,
    rates: Option<Rates>,
    peak: u64,
    last: u64,
    threads: u64,
}

impl Window {
    fn of(time: Duration) -> Self {
        Self {
            until: time.saturating_sub(2 * SAMPLE_INTERVAL),
            next: WARM_UP,
            from: None,
            rates: None,
            peak: 0,
            last: 0,
            threads: 0,
        }
    }

    /// Takes a sample; returns whether the window opened with it.
    fn sample(&mut self, at: Duration, processes: &ProcessPair) -> bool {
        if at < self.next || self.rates.is_some() {
            return false;
        }
        self.next = at + SAMPLE_INTERVAL;
        self.last = processes.pss();
        self.peak = self.peak.max(self.last);
        self.threads = self.threads.max(processes.threads());
        match self.from {
            None => self.from = Some(processes.usage()),
            Some(from) if at >= self.until => self.rates = Some(processes.usage().since(&from)),
            Some(_) => return false,
        }
        self.rates.is_none()
    }
}

/// An app that prints one line and sleeps.
pub(crate) fn idle(harness: &mut Harness, time: Duration, results: &mut Results) -> Result<()> {
    let mut window = Window::of(time);
    let mut command =
        run_of(harness, harness.role("idle").arg(time.as_secs_f64().to_string()).arg(harness.path("app")))?;
    let cost = start(&harness.cores, &mut command, time, |at, processes| {
        window.sample(at, processes);
        Ok(())
    })?;
    expect_success("idle", &cost)?;
    let rates = window.rates.ok_or("idle: exited too early")?;
    results.add("idle.pss", window.last as f64);
    results.add("idle.threads", window.threads as f64);
    results.add("idle.wakeups", rates.wakeups);
    results.add("idle.cpu", rates.supervisor + rates.shipper);
    harness.expect_delivered("idle", 1, results)
}

/// An app that writes `rate` lines per second, one write each.
pub(crate) fn paced(harness: &mut Harness, rate: u64, time: Duration, results: &mut Results) -> Result<()> {
    let key = format!("paced.{rate}");
    harness.sink.ask("reset")?;
    let (mut window, mut peak) = (Window::of(time), Peak::with_spool(harness.path("spool")));
    let app = &mut paced_app(harness, rate, time);
    let mut command = run_of(harness, app)?;
    let mut child = command.env("TAILRACE_BATCH_LINGER", "250ms").spawn()?;
    let cost = observe(&harness.cores, &mut child, time + MAX_SHUTDOWN, |at, processes| {
        if rate >= FAST_RATE {
            peak.sample(at, processes);
        }
        if window.sample(at, processes) {
            harness.sink.ask("mark")?;
        }
        Ok(())
    })?;
    expect_success(&key, &cost)?;
    let rates = window.rates.ok_or("paced: exited too early")?;
    let report = harness.sink.ask("report")?;
    let cpu = rates.supervisor + rates.shipper;
    results.add(format!("{key}.cpu"), cpu);
    results.add(format!("{key}.million"), cpu * 1e6 / rate as f64);
    if let Some(cache) = peak.cache {
        results.add(format!("{key}.cache"), cache as f64);
    }
    results.add(format!("{key}.supervisor"), rates.supervisor);
    results.add(format!("{key}.shipper"), rates.shipper);
    results.add(format!("{key}.wakeups"), rates.wakeups);
    results.add(format!("{key}.peak"), window.peak as f64);
    results.add(format!("{key}.p50"), report.get("p50")?);
    results.add(format!("{key}.p99"), report.get("p99")?);
    let sent = harness.app_report()?.get("lines")? as u64;
    results.expect(&key, "lines at the sink", sent, report.get("lines")? as u64);
    harness.expect_delivered(&key, sent, results)
}

/// An app that writes `rate` lines per second alternately to standard output and standard error, which go to two places:
/// how much their order differs at the sink.
pub(crate) fn alternating(
    harness: &mut Harness,
    rate: u64,
    time: Duration,
    results: &mut Results,
) -> Result<()> {
    let key = format!("streams.{rate}");
    harness.sink.ask("reset")?;
    let mut window = Window::of(time);
    let mut app = harness.role("alternate");
    app.arg(rate.to_string()).arg(time.as_secs_f64().to_string()).arg(harness.path("app"));
    let mut command = run_of(harness, &mut app)?;
    command.stderr(File::create(harness.path("app-stderr"))?).env("TAILRACE_BATCH_LINGER", "250ms");
    let cost = start(&harness.cores, &mut command, time, |at, processes| {
        if window.sample(at, processes) {
            harness.sink.ask("mark")?;
        }
        Ok(())
    })?;
    expect_success(&key, &cost)?;
    let rates = window.rates.ok_or("streams: exited too early")?;
    let report = harness.sink.ask("report")?;
    results.add(format!("{key}.cpu"), rates.supervisor + rates.shipper);
    results.add(format!("{key}.p99"), report.get("disorder_p99")?);
    results.add(format!("{key}.max"), report.get("disorder_max")?);
    let sent = harness.app_report()?.get("lines")? as u64;
    harness.expect_delivered(&key, sent, results)
}

/// The duration of the app's writes at 10,000 lines per second: into a bare pipe, and under `run` with the shipper
/// running, stopped, and killed twice per second.
pub(crate) fn writes(harness: &mut Harness, time: Duration, results: &mut Results) -> Result<()> {
    let report = bare_pipe(harness, &mut paced_app(harness, 10_000, time))?;
    add_latencies("write.pipe", &report, results)?;
    for (key, fault) in [
        ("write.run", ShipperFault::None),
        ("write.stopped", ShipperFault::Stopped),
        ("write.killed", ShipperFault::Killed),
    ] {
        let mut command = run_of(harness, &mut paced_app(harness, 10_000, time))?;
        let mut next = WARM_UP;
        let cost = start(&harness.cores, &mut command, time, |at, processes| {
            let Some(shipper) = processes.shipper.filter(|_| at >= next) else { return Ok(()) };
            next = at + Duration::from_millis(500);
            let signal = match fault {
                ShipperFault::Stopped if at < time => Signal::SIGSTOP,
                ShipperFault::Stopped => Signal::SIGCONT,
                ShipperFault::Killed if at < time => Signal::SIGKILL,
                ShipperFault::Killed | ShipperFault::None => return Ok(()),
            };
            match kill(shipper, signal) {
                // It may have exited meanwhile; a later sample finds its successor.
                Ok(()) | Err(Errno::ESRCH) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })?;
        expect_success(key, &cost)?;
        let report = harness.app_report()?;
        add_latencies(key, &report, results)?;
        harness.expect_delivered(key, report.get("lines")? as u64, results)?;
    }
    Ok(())
}

/// Bursts of 290 KB into a bare pipe and under `run`.
pub(crate) fn bursts(harness: &mut Harness, count: u64, results: &mut Results) -> Result<()> {
    let app = |harness: &Harness| {
        let mut command = harness.role("burst");
        command.arg(count.to_string()).arg(harness.path("app"));
        command
    };
    let report = bare_pipe(harness, &mut app(harness))?;
    add_latencies("burst.pipe", &report, results)?;
    let mut command = run_of(harness, &mut app(harness))?;
    let cost = start(&harness.cores, &mut command, Duration::from_mins(1), |_, _| Ok(()))?;
    expect_success("burst", &cost)?;
    let report = harness.app_report()?;
    add_latencies("burst.run", &report, results)?;
    harness.expect_delivered("burst", report.get("lines")? as u64, results)
}

/// The time from the spawn to the start of the app, in ms: without a wrapper, under tini (where it is installed) and
/// under `run`, in turn.
pub(crate) fn starts(harness: &mut Harness, count: u64, results: &mut Results) -> Result<()> {
    let app = |harness: &Harness| {
        let mut command = harness.role("stamp");
        command.arg(harness.path("app"));
        command
    };
    for _ in 0..count {
        let mut plain = app(harness);
        let mut wrapped = run_of(harness, &mut app(harness))?;
        let mut tini = Command::new(TINI);
        // As a subreaper: tini warns otherwise, because it is not PID 1.
        tini.args(["-s", "--"]).arg(app(harness).get_program()).args(app(harness).get_args());
        let mut kinds =
            vec![("start.plain", &mut plain), ("start.tini", &mut tini), ("start.run", &mut wrapped)];
        kinds.retain(|(key, _)| *key != "start.tini" || Path::new(TINI).exists());
        for (key, command) in kinds {
            let spawned = monotonic_micros()?;
            let cost = start(&harness.cores, command.stdout(Stdio::null()), Duration::ZERO, |_, _| Ok(()))?;
            expect_success(key, &cost)?;
            results.add(key, (harness.app_report()?.get("at")? - spawned as f64) / 1e3);
        }
    }
    Ok(())
}

/// The time from the exit of the app, which has just printed a hundred lines, to the exit of `run` with a healthy
/// drain, in ms.
pub(crate) fn ends(harness: &mut Harness, count: u64, results: &mut Results) -> Result<()> {
    let mut durations = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let mut app = harness.role("last");
        let mut command = run_of(harness, app.arg(harness.path("app")))?;
        let status = command.spawn()?.wait()?;
        let now = monotonic_micros()?;
        if !status.success() {
            return Err(format!("end: {status}").into());
        }
        let report = harness.app_report()?;
        durations.push((now as f64 - report.get("at")?) / 1e3);
        harness.expect_delivered("end", report.get("lines")? as u64, results)?;
    }
    let percentiles = Figures::parse(&Percentiles::of(&mut durations).to_string())?;
    results.add("end.p50", percentiles.get("p50")?);
    results.add("end.p99", percentiles.get("p99")?);
    Ok(())
}

/// The app that writes at a steady rate.
fn paced_app(harness: &Harness, rate: u64, time: Duration) -> Command {
    let mut command = harness.role("pace");
    command.arg(rate.to_string()).arg(time.as_secs_f64().to_string()).arg(harness.path("app"));
    command
}

/// `tailrace run -- app`, with its standard output to `/dev/null`.
fn run_of(harness: &Harness, app: &mut Command) -> Result<Command> {
    let mut command = harness.tailrace(Encoding::Identity)?;
    command.args(["run", "--"]).arg(app.get_program()).args(app.get_args());
    command.stdout(Stdio::null()).stderr(harness.stderr()?);
    Ok(command)
}

/// Runs `app | cat >/dev/null`; returns the report of the app.
fn bare_pipe(harness: &Harness, app: &mut Command) -> Result<Figures> {
    let (mut app, mut cat) = pipe(app, &mut Command::new("cat"), PipeCapacity::Default)?;
    let cost = observe(&harness.cores, &mut app, Duration::from_mins(3), |_, _| Ok(()));
    cat.wait()?;
    expect_success("bare pipe", &cost?)?;
    harness.app_report()
}

fn start(
    cores: &Cores,
    command: &mut Command,
    time: Duration,
    on_sample: impl FnMut(Duration, &ProcessPair) -> Result<()>,
) -> Result<Cost> {
    observe(cores, &mut command.spawn()?, time + MAX_SHUTDOWN, on_sample)
}

/// Adds the percentiles of the app's writes.
fn add_latencies(key: &str, report: &Figures, results: &mut Results) -> Result<()> {
    for share in ["p50", "p99", "p999", "max"] {
        results.add(format!("{key}.{share}"), report.get(share)?);
    }
    Ok(())
}

/// Fails unless the contestant exited with 0.
fn expect_success(key: &str, cost: &Cost) -> Result<()> {
    if cost.exit == Some(0) { Ok(()) } else { Err(format!("{key} ended with {:?}", cost.exit).into()) }
}
