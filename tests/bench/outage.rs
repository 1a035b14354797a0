//! An outage at full speed: the drain answers 503 while the app writes far more than the spool can hold.

use std::process::Stdio;
use std::time::Duration;

use crate::Result;
use crate::full_speed::Encoding;
use crate::harness::Harness;
use crate::measure::observe;
use crate::peak::Peak;
use crate::results::Results;

/// The size limit of the spool; the load does not fit into it.
const SPOOL_BYTES: &str = "32MiB";
/// The longest time that a run may take.
const LIMIT: Duration = Duration::from_mins(2);

/// Runs the complete load without delivery. Lines that do not fit are dropped, and every line is accounted for.
pub(crate) fn run(harness: &mut Harness, results: &mut Results) -> Result<()> {
    harness.sink.ask("reset")?;
    harness.sink.ask("answer 503")?;
    let outcome = flood(harness, results);
    harness.sink.ask("answer 204")?;
    outcome
}

fn flood(harness: &Harness, results: &mut Results) -> Result<()> {
    let mut command = harness.tailrace(Encoding::Identity)?;
    command.env("TAILRACE_SPOOL_BYTES", SPOOL_BYTES).env("TAILRACE_STOP_GRACE", "2s");
    command.args(["run", "--"]).arg(harness.blast().get_program()).args(harness.blast().get_args());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?; // it reports the outage, as it should
    let mut peak = Peak::with_spool(harness.path("spool"));
    let cost = observe(&harness.cores, &mut child, LIMIT, |at, processes| {
        peak.sample(at, processes);
        Ok(())
    })?;
    if cost.exit != Some(0) {
        return Err(format!("ended with {:?}", cost.exit).into());
    }
    let ledger = harness.balance("outage", harness.lines, results)?;
    results.expect("outage", "lines delivered", 0, ledger.delivered);
    if ledger.dropped == 0 {
        return Err("the load fits into the spool: give more --lines".into());
    }
    results.add("outage.peak", peak.pss as f64);
    if let Some(cache) = peak.cache {
        results.add("outage.cache", cache as f64);
    }
    results.add("outage.dropped", ledger.dropped as f64);
    Ok(())
}
