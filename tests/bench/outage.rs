//! An outage at full speed: the drain answers 503 while the app writes far more than the spool may hold.

use std::process::Stdio;
use std::time::Duration;

use crate::Result;
use crate::harness::Rig;
use crate::measure::watch;
use crate::peak::Peak;
use crate::results::Book;

/// The load does not fit into this.
const SPOOL: &str = "32MiB";
const LIMIT: Duration = Duration::from_mins(2);

/// The whole load with nobody to take it. What does not fit is dropped, and every line has to be accounted for.
pub(crate) fn run(rig: &mut Rig, book: &mut Book) -> Result<()> {
    rig.sink.ask("reset")?;
    rig.sink.ask("answer 503")?;
    let outcome = flood(rig, book);
    rig.sink.ask("answer 204")?;
    outcome
}

fn flood(rig: &Rig, book: &mut Book) -> Result<()> {
    let mut command = rig.tailrace("gzip=off")?;
    command.env("TAILRACE_SPOOL_BYTES", SPOOL).env("TAILRACE_STOP_GRACE", "2s");
    command.args(["run", "--"]).arg(rig.blast().get_program()).args(rig.blast().get_args());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?; // it complains, rightly
    let mut peak = Peak::with_spool(rig.path("spool"));
    let cost = watch(&rig.cores, &mut child, LIMIT, |at, tree| {
        peak.look(at, tree);
        Ok(())
    })?;
    if cost.exit != Some(0) {
        return Err(format!("ended with {:?}", cost.exit).into());
    }
    let ledger = rig.balance("outage", rig.lines, book)?;
    book.expect("outage", "lines delivered", 0, ledger.delivered);
    if ledger.dropped == 0 {
        return Err("the load fits into the spool: give more --lines".into());
    }
    book.add("outage.peak", peak.pss as f64);
    if let Some(cache) = peak.cache {
        book.add("outage.cache", cache as f64);
    }
    book.add("outage.dropped", ledger.dropped as f64);
    Ok(())
}
