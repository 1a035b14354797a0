//! Full speed: the complete load through each contestant, one after the other.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::harness::{Harness, PipeCapacity, pipe};
use crate::measure::{Cost, observe};
use crate::peak::Peak;
use crate::results::Results;

/// The longest time that a run may take.
const LIMIT: Duration = Duration::from_mins(3);

/// A program that carries the load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    Tee,
    BareLoop(Encoding),
    Ship(Encoding),
    Run(Encoding, Stdout),
}

/// How a contestant sends its bodies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    /// At level 6.
    Gzip,
}

/// Where the standard output of `run` goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// To `/dev/null`.
    Null,
    /// Through a pipe to `cat`.
    Pipe,
}

impl Contestant {
    /// All contestants, in the order of one run.
    pub(crate) const ALL: [Self; 8] = [
        Self::Tee,
        Self::BareLoop(Encoding::Identity),
        Self::Ship(Encoding::Identity),
        Self::Run(Encoding::Identity, Stdout::Null),
        Self::Run(Encoding::Identity, Stdout::Pipe),
        Self::BareLoop(Encoding::Gzip),
        Self::Ship(Encoding::Gzip),
        Self::Run(Encoding::Gzip, Stdout::Null),
    ];

    /// The prefix of the keys of its figures.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tee => "tee",
            Self::BareLoop(Encoding::Identity) => "bare",
            Self::BareLoop(Encoding::Gzip) => "bare.gzip",
            Self::Ship(Encoding::Identity) => "ship",
            Self::Ship(Encoding::Gzip) => "ship.gzip",
            Self::Run(Encoding::Gzip, _) => "run.gzip",
            Self::Run(_, Stdout::Pipe) => "run.pipe",
            Self::Run(..) => "run",
        }
    }
}

/// Runs one contestant and adds its figures to `results`.
pub(crate) fn run(harness: &mut Harness, contestant: Contestant, results: &mut Results) -> Result<()> {
    harness.sink.ask("reset")?;
    let mut peak = match contestant {
        Contestant::Ship(_) | Contestant::Run(..) => Peak::with_spool(harness.path("spool")),
        Contestant::Tee | Contestant::BareLoop(_) => Peak::default(),
    };
    let (cost, app) = match contestant {
        Contestant::Tee => {
            let mut tee = Command::new("tee");
            tee.arg(harness.path("tee"));
            (fed(harness, &mut tee, &mut peak)?, Duration::ZERO)
        }
        Contestant::BareLoop(encoding) => {
            let mut bare_loop = harness.bare_loop(encoding);
            (fed(harness, &mut bare_loop, &mut peak)?, Duration::ZERO)
        }
        Contestant::Ship(encoding) => {
            let mut ship = harness.tailrace(encoding)?;
            ship.arg("ship");
            (fed(harness, &mut ship, &mut peak)?, Duration::ZERO)
        }
        Contestant::Run(encoding, stdout) => {
            let mut run = harness.tailrace(encoding)?;
            run.args(["run", "--"]).arg(harness.blast().get_program()).args(harness.blast().get_args());
            let cost = wrapped(harness, &mut run, stdout, &mut peak)?;
            (cost, Duration::from_secs_f64(harness.app_report()?.get("cpu")?))
        }
    };
    if contestant == Contestant::Tee {
        std::fs::remove_file(harness.path("tee"))?;
    }
    record(harness, contestant, &cost, app, &peak, results)
}

/// The load through `blast | command`.
fn fed(harness: &Harness, command: &mut Command, peak: &mut Peak) -> Result<Cost> {
    let (mut feeder, mut child) =
        pipe(&mut harness.blast(), command.stderr(harness.stderr()?), PipeCapacity::Large)?;
    let cost = observe(&harness.cores, &mut child, LIMIT, |at, processes| {
        peak.sample(at, processes);
        Ok(())
    });
    feeder.wait()?;
    cost
}

/// The load through `command -- blast`.
fn wrapped(harness: &Harness, command: &mut Command, stdout: Stdout, peak: &mut Peak) -> Result<Cost> {
    command.stderr(harness.stderr()?).stdout(Stdio::null());
    let mut reader = None;
    if stdout == Stdout::Pipe {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        command.stdout(cat.stdin.take().ok_or("cat has no input")?);
        reader = Some(cat);
    }
    let mut child = command.spawn()?;
    command.stdout(Stdio::null()); // closes this process's write end, so that the reader gets an EOF
    let cost = observe(&harness.cores, &mut child, LIMIT, |at, processes| {
        peak.sample(at, processes);
        Ok(())
    });
    if let Some(mut cat) = reader {
        cat.wait()?;
    }
    cost
}

/// Adds the figures of one run; `app` is the CPU time of the app.
fn record(
    harness: &mut Harness,
    contestant: Contestant,
    cost: &Cost,
    app: Duration,
    peak: &Peak,
    results: &mut Results,
) -> Result<()> {
    let key = contestant.key();
    let millions = harness.lines as f64 / 1e6;
    let shipper = cost.all.saturating_sub(app + cost.supervisor).max(cost.shipper_seen);
    let cpu = cost.supervisor + shipper;
    if cost.exit != Some(0) {
        return Err(format!("{key} ended with {:?}", cost.exit).into());
    }
    results.add(format!("{key}.cpu"), cpu.as_secs_f64() / millions);
    results.add(format!("{key}.rate"), harness.lines as f64 / cost.wall.as_secs_f64());
    results.add(format!("{key}.peak"), peak.pss as f64);
    if let Some(cache) = peak.cache {
        results.add(format!("{key}.cache"), cache as f64);
    }
    let report = harness.sink.ask("report")?;
    if contestant != Contestant::Tee {
        results.add(format!("{key}.wire"), report.get("wire")? / harness.lines as f64);
        let arrived = report.get("lines")? as u64;
        match contestant {
            Contestant::BareLoop(_) => results.expect_delivered(key, harness.lines, arrived),
            _ => results.expect(key, "lines at the sink", harness.lines, arrived),
        }
        results.expect(key, "bad bodies", 0, report.get("bad")? as u64);
    }
    if let Contestant::Run(..) = contestant {
        results.add(format!("{key}.supervisor"), cost.supervisor.as_secs_f64() / millions);
        results.add(format!("{key}.shipper"), shipper.as_secs_f64() / millions);
        results.add(format!("{key}.threads"), peak.threads as f64);
    }
    if matches!(contestant, Contestant::Ship(_) | Contestant::Run(..)) {
        harness.expect_delivered(key, harness.lines, results)?;
    }
    Ok(())
}
