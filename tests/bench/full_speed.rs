//! Full speed: the whole load through each contestant, one after the other.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::harness::{Rig, pipe};
use crate::measure::{Cost, watch};
use crate::peak::Peak;
use crate::results::Book;

const LIMIT: Duration = Duration::from_mins(3);

/// Who carries the load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Tee,
    Bare { gzip: bool },
    Ship { gzip: bool },
    Run { gzip: bool, pipe: bool },
}

impl Who {
    /// All, in the order of one round.
    pub(crate) const ALL: [Self; 8] = [
        Self::Tee,
        Self::Bare { gzip: false },
        Self::Ship { gzip: false },
        Self::Run { gzip: false, pipe: false },
        Self::Run { gzip: false, pipe: true },
        Self::Bare { gzip: true },
        Self::Ship { gzip: true },
        Self::Run { gzip: true, pipe: false },
    ];

    /// The beginning of the keys of its figures.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tee => "tee",
            Self::Bare { gzip: false } => "bare",
            Self::Bare { gzip: true } => "bare.gzip",
            Self::Ship { gzip: false } => "ship",
            Self::Ship { gzip: true } => "ship.gzip",
            Self::Run { gzip: true, .. } => "run.gzip",
            Self::Run { pipe: true, .. } => "run.pipe",
            Self::Run { .. } => "run",
        }
    }
}

/// One run of `who`; its figures go into `book`.
pub(crate) fn run(rig: &mut Rig, who: Who, book: &mut Book) -> Result<()> {
    rig.sink.ask("reset")?;
    let mut peak = match who {
        Who::Ship { .. } | Who::Run { .. } => Peak::with_spool(rig.path("spool")),
        Who::Tee | Who::Bare { .. } => Peak::default(),
    };
    let options = |gzip: bool| if gzip { "gzip=on" } else { "gzip=off" };
    let (cost, app) = match who {
        Who::Tee => {
            let mut tee = Command::new("tee");
            tee.arg(rig.path("tee"));
            (fed(rig, &mut tee, &mut peak)?, Duration::ZERO)
        }
        Who::Bare { gzip } => {
            let mut bare = rig.bare(gzip);
            (fed(rig, &mut bare, &mut peak)?, Duration::ZERO)
        }
        Who::Ship { gzip } => {
            let mut ship = rig.tailrace(options(gzip))?;
            ship.arg("ship");
            (fed(rig, &mut ship, &mut peak)?, Duration::ZERO)
        }
        Who::Run { gzip, pipe } => {
            let mut run = rig.tailrace(options(gzip))?;
            run.args(["run", "--"]).arg(rig.blast().get_program()).args(rig.blast().get_args());
            let cost = wrapped(rig, &mut run, pipe, &mut peak)?;
            (cost, Duration::from_secs_f64(rig.app_report()?.get("cpu")?))
        }
    };
    if who == Who::Tee {
        std::fs::remove_file(rig.path("tee"))?;
    }
    record(rig, who, &cost, app, &peak, book)
}

/// The load through `blast | command`.
fn fed(rig: &Rig, command: &mut Command, peak: &mut Peak) -> Result<Cost> {
    let (mut feeder, mut child) = pipe(&mut rig.blast(), command.stderr(rig.stderr()?), true)?;
    let cost = watch(&rig.cores, &mut child, LIMIT, |at, tree| {
        peak.look(at, tree);
        Ok(())
    });
    feeder.wait()?;
    cost
}

/// The load through `command -- blast`, its standard output to `/dev/null` or through a pipe to `cat`.
fn wrapped(rig: &Rig, command: &mut Command, pipe: bool, peak: &mut Peak) -> Result<Cost> {
    command.stderr(rig.stderr()?).stdout(Stdio::null());
    let mut reader = None;
    if pipe {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        command.stdout(cat.stdin.take().ok_or("cat has no input")?);
        reader = Some(cat);
    }
    let mut child = command.spawn()?;
    command.stdout(Stdio::null()); // closes our end of the pipe, so that the reader sees its end
    let cost = watch(&rig.cores, &mut child, LIMIT, |at, tree| {
        peak.look(at, tree);
        Ok(())
    });
    if let Some(mut cat) = reader {
        cat.wait()?;
    }
    cost
}

fn record(rig: &mut Rig, who: Who, cost: &Cost, app: Duration, peak: &Peak, book: &mut Book) -> Result<()> {
    let key = who.key();
    let millions = rig.lines as f64 / 1e6;
    let shipper = cost.all.saturating_sub(app + cost.keeper).max(cost.shipper_seen);
    let cpu = cost.keeper + shipper;
    if cost.exit != Some(0) {
        return Err(format!("{key} ended with {:?}", cost.exit).into());
    }
    book.add(format!("{key}.cpu"), cpu.as_secs_f64() / millions);
    book.add(format!("{key}.rate"), rig.lines as f64 / cost.wall.as_secs_f64());
    book.add(format!("{key}.peak"), peak.pss as f64);
    if let Some(cache) = peak.cache {
        book.add(format!("{key}.cache"), cache as f64);
    }
    let seen = rig.sink.ask("report")?;
    if who != Who::Tee {
        book.add(format!("{key}.wire"), seen.get("wire")? / rig.lines as f64);
        let arrived = seen.get("lines")? as u64;
        match who {
            Who::Bare { .. } => book.delivered(key, rig.lines, arrived),
            _ => book.expect(key, "lines at the sink", rig.lines, arrived),
        }
        book.expect(key, "bad bodies", 0, seen.get("bad")? as u64);
    }
    if let Who::Run { .. } = who {
        book.add(format!("{key}.keeper"), cost.keeper.as_secs_f64() / millions);
        book.add(format!("{key}.shipper"), shipper.as_secs_f64() / millions);
        book.add(format!("{key}.threads"), peak.threads as f64);
    }
    if matches!(who, Who::Ship { .. } | Who::Run { .. }) {
        rig.delivered(key, rig.lines, book)?;
    }
    Ok(())
}
