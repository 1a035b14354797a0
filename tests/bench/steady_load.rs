//! Everyday loads: an idle app, 1,000 and 10,000 lines a second, a shipper in trouble, a burst, a start.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::Result;
use crate::cores::Cores;
use crate::harness::Rig;
use crate::measure::{Cost, Rates, Tree, Usages, monotonic_micros, watch};
use crate::results::Book;
use crate::stats::{Facts, Percentiles};

/// The start of a run is not measured: the certificate roots, the first connection.
const WARM_UP: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_millis(250);
/// What the longest stop may add to a run.
const STOP: Duration = Duration::from_secs(40);

/// Where Debian's package `tini` puts it.
const TINI: &str = "/usr/bin/tini";

/// What happens to the shipper while the app writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    Stopped,
    Killed,
}

/// How long the measurements are.
#[derive(Clone, Copy)]
pub(crate) struct Lengths {
    pub(crate) idle: Duration,
    pub(crate) paced: Duration,
    pub(crate) trouble: Duration,
    pub(crate) bursts: u64,
    pub(crate) starts: u64,
}

/// Looks at a tree: its rates and memory between the warm-up and a moment before the app ends.
struct Window {
    until: Duration,
    next: Duration,
    from: Option<Usages>,
    rates: Option<Rates>,
    peak: u64,
    last: u64,
    threads: u64,
}

impl Window {
    fn of(time: Duration) -> Self {
        Self {
            until: time.saturating_sub(2 * LOOK),
            next: WARM_UP,
            from: None,
            rates: None,
            peak: 0,
            last: 0,
            threads: 0,
        }
    }

    /// `true` in the moment when the window opens.
    fn look(&mut self, at: Duration, tree: &Tree) -> bool {
        if at < self.next || self.rates.is_some() {
            return false;
        }
        self.next = at + LOOK;
        self.last = tree.pss();
        self.peak = self.peak.max(self.last);
        self.threads = self.threads.max(tree.threads());
        match self.from {
            None => self.from = Some(tree.usages()),
            Some(from) if at >= self.until => self.rates = Some(tree.usages().since(&from)),
            Some(_) => return false,
        }
        self.rates.is_none()
    }
}

/// An app that says one line and sleeps.
pub(crate) fn idle(rig: &mut Rig, time: Duration, book: &mut Book) -> Result<()> {
    let mut window = Window::of(time);
    let mut command = run_of(rig, rig.own("idle").arg(time.as_secs_f64().to_string()).arg(rig.path("app")))?;
    let cost = start(&rig.cores, &mut command, time, |at, tree| {
        window.look(at, tree);
        Ok(())
    })?;
    ended("idle", &cost)?;
    let rates = window.rates.ok_or("idle: ended before its time")?;
    book.add("idle.pss", window.last as f64);
    book.add("idle.threads", window.threads as f64);
    book.add("idle.wakeups", rates.wakeups);
    book.add("idle.cpu", rates.keeper + rates.shipper);
    rig.delivered("idle", 1, book)
}

/// `rate` lines a second, one write each.
pub(crate) fn paced(rig: &mut Rig, rate: u64, time: Duration, book: &mut Book) -> Result<()> {
    let key = format!("paced.{rate}");
    rig.sink.ask("reset")?;
    let mut window = Window::of(time);
    let app = &mut pace(rig, rate, time);
    let mut command = run_of(rig, app)?;
    let mut child = command.env("TAILRACE_BATCH_LINGER", "250ms").spawn()?;
    let cost = watch(&rig.cores, &mut child, time + STOP, |at, tree| {
        if window.look(at, tree) {
            rig.sink.ask("mark")?;
        }
        Ok(())
    })?;
    ended(&key, &cost)?;
    let rates = window.rates.ok_or("paced: ended before its time")?;
    let seen = rig.sink.ask("report")?;
    book.add(format!("{key}.cpu"), rates.keeper + rates.shipper);
    book.add(format!("{key}.keeper"), rates.keeper);
    book.add(format!("{key}.shipper"), rates.shipper);
    book.add(format!("{key}.wakeups"), rates.wakeups);
    book.add(format!("{key}.peak"), window.peak as f64);
    book.add(format!("{key}.p50"), seen.get("p50")?);
    book.add(format!("{key}.p99"), seen.get("p99")?);
    let sent = rig.app_report()?.get("lines")? as u64;
    book.expect(&key, "lines at the sink", sent, seen.get("lines")? as u64);
    rig.delivered(&key, sent, book)
}

/// What the app's own writes take at 10,000 lines a second: into a bare pipe, and under `run` with the shipper
/// in good health, stopped, and killed twice a second.
pub(crate) fn writes(rig: &mut Rig, time: Duration, book: &mut Book) -> Result<()> {
    let report = bare_pipe(rig, &mut pace(rig, 10_000, time))?;
    latencies("write.pipe", &report, book)?;
    for (key, trouble) in
        [("write.run", Trouble::None), ("write.stopped", Trouble::Stopped), ("write.killed", Trouble::Killed)]
    {
        let mut command = run_of(rig, &mut pace(rig, 10_000, time))?;
        let mut next = WARM_UP;
        let cost = start(&rig.cores, &mut command, time, |at, tree| {
            let Some(shipper) = tree.shipper.filter(|_| at >= next) else { return Ok(()) };
            next = at + Duration::from_millis(500);
            let signal = match trouble {
                Trouble::Stopped if at < time => Signal::SIGSTOP,
                Trouble::Stopped => Signal::SIGCONT,
                Trouble::Killed if at < time => Signal::SIGKILL,
                Trouble::Killed | Trouble::None => return Ok(()),
            };
            match kill(shipper, signal) {
                // It may have gone in between: then the next look finds its successor.
                Ok(()) | Err(Errno::ESRCH) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })?;
        ended(key, &cost)?;
        let report = rig.app_report()?;
        latencies(key, &report, book)?;
        rig.delivered(key, report.get("lines")? as u64, book)?;
    }
    Ok(())
}

/// Bursts of 290 KB into a bare pipe and under `run`.
pub(crate) fn bursts(rig: &mut Rig, count: u64, book: &mut Book) -> Result<()> {
    let app = |rig: &Rig| {
        let mut command = rig.own("burst");
        command.arg(count.to_string()).arg(rig.path("app"));
        command
    };
    let report = bare_pipe(rig, &mut app(rig))?;
    latencies("burst.pipe", &report, book)?;
    let mut command = run_of(rig, &mut app(rig))?;
    let cost = start(&rig.cores, &mut command, Duration::from_mins(1), |_, _| Ok(()))?;
    ended("burst", &cost)?;
    let report = rig.app_report()?;
    latencies("burst.run", &report, book)?;
    rig.delivered("burst", report.get("lines")? as u64, book)
}

/// From the spawn to the first instruction of the app, in ms: without anything, under tini (where it is installed)
/// and under `run`, in turn.
pub(crate) fn starts(rig: &mut Rig, count: u64, book: &mut Book) -> Result<()> {
    let app = |rig: &Rig| {
        let mut command = rig.own("stamp");
        command.arg(rig.path("app"));
        command
    };
    for _ in 0..count {
        let mut plain = app(rig);
        let mut wrapped = run_of(rig, &mut app(rig))?;
        let mut tini = Command::new(TINI);
        // A subreaper: what is not PID 1 warns otherwise.
        tini.args(["-s", "--"]).arg(app(rig).get_program()).args(app(rig).get_args());
        let mut kinds =
            vec![("start.plain", &mut plain), ("start.tini", &mut tini), ("start.run", &mut wrapped)];
        kinds.retain(|(key, _)| *key != "start.tini" || Path::new(TINI).exists());
        for (key, command) in kinds {
            let spawned = monotonic_micros()?;
            let cost = start(&rig.cores, command.stdout(Stdio::null()), Duration::ZERO, |_, _| Ok(()))?;
            ended(key, &cost)?;
            book.add(key, (rig.app_report()?.get("at")? - spawned as f64) / 1e3);
        }
    }
    Ok(())
}

/// From the app's end, with a hundred lines of last words, to the end of `run`, at a healthy drain: in ms.
pub(crate) fn ends(rig: &mut Rig, count: u64, book: &mut Book) -> Result<()> {
    let mut took = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let mut app = rig.own("last");
        let mut command = run_of(rig, app.arg(rig.path("app")))?;
        let status = command.spawn()?.wait()?;
        let now = monotonic_micros()?;
        if !status.success() {
            return Err(format!("end: {status}").into());
        }
        let report = rig.app_report()?;
        took.push((now as f64 - report.get("at")?) / 1e3);
        rig.delivered("end", report.get("lines")? as u64, book)?;
    }
    let found = Facts::parse(&Percentiles::of(&mut took).to_string())?;
    book.add("end.p50", found.get("p50")?);
    book.add("end.p99", found.get("p99")?);
    Ok(())
}

/// The paced writer.
fn pace(rig: &Rig, rate: u64, time: Duration) -> Command {
    let mut command = rig.own("pace");
    command.arg(rate.to_string()).arg(time.as_secs_f64().to_string()).arg(rig.path("app"));
    command
}

/// `tailrace run -- app`, its standard output to nowhere.
fn run_of(rig: &Rig, app: &mut Command) -> Result<Command> {
    let mut command = rig.tailrace("gzip=off")?;
    command.args(["run", "--"]).arg(app.get_program()).args(app.get_args());
    command.stdout(Stdio::null()).stderr(rig.stderr()?);
    Ok(command)
}

/// `app | cat >/dev/null`: what the app reports.
fn bare_pipe(rig: &Rig, app: &mut Command) -> Result<Facts> {
    let (mut app, mut cat) = crate::harness::pipe(app, &mut Command::new("cat"), false)?;
    let cost = watch(&rig.cores, &mut app, Duration::from_mins(3), |_, _| Ok(()));
    cat.wait()?;
    ended("bare pipe", &cost?)?;
    rig.app_report()
}

fn start(
    cores: &Cores,
    command: &mut Command,
    time: Duration,
    look: impl FnMut(Duration, &Tree) -> Result<()>,
) -> Result<Cost> {
    watch(cores, &mut command.spawn()?, time + STOP, look)
}

fn latencies(key: &str, report: &Facts, book: &mut Book) -> Result<()> {
    for share in ["p50", "p99", "p999", "max"] {
        book.add(format!("{key}.{share}"), report.get(share)?);
    }
    Ok(())
}

fn ended(key: &str, cost: &Cost) -> Result<()> {
    if cost.exit == Some(0) { Ok(()) } else { Err(format!("{key} ended with {:?}", cost.exit).into()) }
}
