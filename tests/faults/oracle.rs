//! Compares what the apps printed, what the drains stored, what was announced as lost, and the ledgers.
//!
//! What an agent that was killed read from its pipes and had not recorded is unknown: its last lines may be missing
//! without a word. All else is exact.

use crate::app::Written;
use crate::harness::Output as Finished;
use crate::run::sum;
use crate::schedule::{Disk, End, Event, Output, Schedule};
use crate::tally::Tally;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tailrace_drain::stats::Report;

/// Lines in a segment at most: 1 MiB of frames with a header of 60 bytes and a message of 40. A damaged segment of a
/// dead agent may be missing as a whole, and nobody knows how many lines were in it.
const MAX_LINES_OF_SEGMENT: u64 = (1 << 20) / 100;

/// Bytes of the shortest line that an app prints, with its end.
const MIN_LINE: u64 = 40;

/// A run that ended.
pub(crate) struct Ended {
    pub(crate) number: usize,
    pub(crate) written: [Written; 2],
    /// By drain: lines of this run that it had then.
    pub(crate) whole_at_end: Vec<u64>,
    /// Its directory was read-only: it had neither segments nor a checkpoint there.
    pub(crate) read_only: bool,
    /// Of an agent that was killed: the highest number of a line by output that it had recorded and not yet removed.
    pub(crate) recorded: [u64; 2],
    /// None when the agent was killed.
    pub(crate) finished: Option<Finished>,
}

/// What was seen of a schedule.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a schedule")]
pub(crate) struct Observed {
    pub(crate) runs: Vec<Ended>,
    /// What the agents at the end said.
    pub(crate) last: Vec<Finished>,
    /// Directories of agents that are still there.
    pub(crate) left: Vec<PathBuf>,
    pub(crate) tallies: Vec<Tally>,
    pub(crate) reports: Vec<Report>,
    /// What the watch over liveness found.
    pub(crate) dead: Vec<String>,
    /// Segments may have been in memory, which nobody adopts after the end of the agent.
    pub(crate) is_in_memory: bool,
    /// Segments that were damaged after the end of their agent, or whose agent ended before they were consumed.
    pub(crate) adopted_damaged: u64,
    /// By drain: it may have stored a batch and then have refused it, which then goes out under another id.
    takes_and_refuses: Vec<bool>,
    /// Frames behind the first one of each long line that the apps were told to print.
    more_parts: u64,
    /// A checkpoint was damaged or removed.
    loses_checkpoint: bool,
    /// Frames need not be in the order of their times.
    is_unordered: bool,
    has_foreign_files: bool,
}

impl Observed {
    pub(crate) fn new(schedule: &Schedule) -> Self {
        let refuses = |faults: &str| {
            ["status=400", "status=413", "too-large"].iter().any(|refusal| faults.contains(refusal))
        };
        let refuses = |drain| {
            schedule.has(
                |event| matches!(event, Event::Drain { index, faults } if *index == drain && refuses(faults)),
            )
        };
        let supervisor_dies = schedule.runs.iter().any(|run| run.end == End::KillSupervisor);
        // A run that cannot read the directory leaves what is there to a later one.
        let skips_spools = schedule.runs.iter().any(|run| run.read_only);
        // A batch that is stored and not answered is sent again; what is damaged of it meanwhile, or went with the memory
        // of its agent, counts as lost, and the rest comes twice.
        let may_damage = matches!(schedule.disk, Disk::Own(_))
            || schedule.has(|event| matches!(event, Event::Damage { .. }));
        let damages_sent = may_damage
            && schedule
                .has(|event| matches!(event, Event::KillShipper | Event::Stop { .. } | Event::Drain { .. }));
        // Where the batches were that had been sent, and what was announced, is known from the checkpoint only.
        let loses_checkpoint = schedule.has(|event| matches!(event, Event::DamageCheckpoint { .. }));
        Self {
            runs: Vec::new(),
            last: Vec::new(),
            left: Vec::new(),
            tallies: Vec::new(),
            reports: Vec::new(),
            dead: Vec::new(),
            // A small disk may have been full.
            is_in_memory: matches!(schedule.disk, Disk::Own(_)),
            adopted_damaged: 0,
            takes_and_refuses: (0..schedule.drains)
                .map(|drain| refuses(drain) || loses_checkpoint || damages_sent)
                .collect(),
            more_parts: more_parts(schedule),
            loses_checkpoint,
            // A shipper without a supervisor delivers beside the next agent.
            is_unordered: loses_checkpoint
                || supervisor_dies
                || skips_spools
                || schedule.has(|event| matches!(event, Event::StepClock { .. })),
            has_foreign_files: schedule.has(|event| matches!(event, Event::ForeignFile { .. })),
        }
    }
}

impl Observed {
    /// Of what a dead agent had recorded last, and of the damaged segments, a later one knows frames, not lines: so many
    /// more it may announce.
    fn frames_that_are_no_lines(&self, drain: usize) -> u64 {
        self.more_parts + self.tallies[drain].no_lines
    }
}

/// Frames behind the first one of each line of the schedule.
fn more_parts(schedule: &Schedule) -> u64 {
    let prints = schedule.runs.iter().flat_map(|run| &run.events);
    let parts = prints.map(|(_, event)| match event {
        Event::Print { count, len, .. } => count * (len.saturating_sub(1) / schedule.max_line()),
        _ => 0,
    });
    parts.sum()
}

/// Judges what was seen.
///
/// # Errors
/// What was expected and what was found, one a line.
pub(crate) fn judge(seen: &Observed) -> Result<(), String> {
    let mut wrong = seen.dead.clone();
    for run in &seen.runs {
        judge_captured(run, &mut wrong);
    }
    for drain in 0..seen.tallies.len() {
        let mut here = Vec::new();
        judge_requests(seen, drain, &mut here);
        for run in &seen.runs {
            judge_run(seen, run, drain, &mut here);
        }
        judge_losses(seen, drain, &mut here);
        wrong.extend(here.into_iter().map(|text| format!("drain {drain}: {text}")));
    }
    if !seen.left.is_empty() && !seen.has_foreign_files {
        wrong.push(format!("the last agents left {:?}", seen.left));
    }
    let last = seen.last.last().filter(|last| last.has_ledger());
    if last.is_none_or(|last| last.ledger().drains.iter().any(|drain| drain.held > 0)) {
        wrong.push("the last agent delivered not everything, or wrote no ledger".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// The ledger's number of lines, or what the app noted.
fn judge_captured(run: &Ended, wrong: &mut Vec<String>) {
    let Some(finished) = &run.finished else { return };
    let number = run.number;
    if !finished.has_ledger() {
        wrong.push(format!("run {number}: no ledger; standard error: {}", finished.stderr));
        return;
    }
    let captured = finished.ledger().captured;
    let Written { done, begun } = sum(&run.written);
    // What the recorder of a starved agent did not handle until the end, standard error tells in bytes.
    let unrecorded = bytes_not_recorded(&finished.stderr).div_ceil(MIN_LINE);
    let least = done.saturating_sub(unrecorded);
    if !(least..=begun).contains(&captured) {
        let but = if unrecorded > 0 { format!(", at most {unrecorded} not recorded") } else { String::new() };
        wrong.push(format!("run {number}: captured {captured}, printed {done} to {begun}{but}"));
    }
    // Pass-through: the dyno's own stdout gets every byte.
    let copied = memchr::memchr_iter(b'\n', &finished.stdout).count() as u64;
    let Written { done, begun } = run.written[0];
    if !(done..=begun).contains(&copied) {
        wrong.push(format!("run {number}: {copied} lines on stdout, printed {done} to {begun}"));
    }
}

/// The bytes of `at=output-not-recorded bytes=N`, or 0.
fn bytes_not_recorded(stderr: &str) -> u64 {
    let named = stderr.split_once(" at=output-not-recorded bytes=").map(|(_, rest)| rest);
    let digits = named.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    digits.map_or(0, |digits| digits.parse().expect("a number of bytes"))
}

/// Form, order and repetition.
fn judge_requests(seen: &Observed, drain: usize, wrong: &mut Vec<String>) {
    let (tally, report) = (&seen.tallies[drain], &seen.reports[drain]);
    wrong.extend(tally.wrong.iter().take(5).cloned());
    // A batch that is damaged is sent as far as it is good, under another id.
    if !seen.takes_and_refuses[drain] && seen.adopted_damaged == 0 {
        wrong.extend(tally.behind.iter().take(5).cloned());
        wrong.extend(tally.twice.iter().take(5).map(|line| format!("twice, under different ids: {line:?}")));
    }
    for (receiver, complaints) in report.conformance.iter().filter(|(_, complaints)| complaints.errors > 0) {
        wrong.push(format!("{receiver}: {complaints:?}"));
    }
    let faults = (report.malformed, report.changed_bodies, report.count_mismatches);
    if faults != (0, 0, 0) {
        wrong.push(format!("(malformed, changed bodies, wrong counts): {faults:?}"));
    }
    // What is sent again under other ids comes behind what followed it.
    if !seen.is_unordered && !seen.takes_and_refuses[drain] {
        wrong.extend(tally.unordered.iter().take(3).map(|frames| format!("out of order: {frames:.400}")));
    }
}

/// What the ledger of a run says of a drain, and what the drain has.
fn judge_run(seen: &Observed, run: &Ended, drain: usize, wrong: &mut Vec<String>) {
    let Some(finished) = run.finished.as_ref().filter(|finished| finished.has_ledger()) else { return };
    let (ledger, tally) = (finished.ledger(), &seen.tallies[drain]);
    let (account, number) = (&ledger.drains[drain], run.number);
    if account.delivered > run.whole_at_end[drain] {
        wrong.push(format!("run {number}: stored {} lines of {account:?}", run.whole_at_end[drain]));
    }
    let missing = ledger.captured.saturating_sub(tally.whole(number, &run.written));
    let least = account.dropped + account.rejected;
    let mut most = least + if account.held > 0 { lost_later(seen, account.held) } else { 0 };
    // Of a line whose rest was dropped before it was recorded, the part that was recorded is held; its notice is too.
    let behind = "recorder-behind";
    let announced = tally.announced.get(behind).copied().unwrap_or(0);
    let dropped = account.reasons.get(behind).copied().unwrap_or(0);
    most = most.max(least + announced.saturating_sub(dropped).min(account.held));
    let is_known = (least..=most).contains(&missing) || (seen.takes_and_refuses[drain] && missing <= most);
    if !is_known {
        let missing_of = |output: Output| tally.missing(number, output, run.written[output as usize].done);
        let lines = Output::ALL.map(|output| format!("{output:?} {}", missing_of(output)));
        wrong.push(format!(
            "run {number}: {missing} lines are missing, not {least} to {most}: {}; {account:?}",
            lines.join(", ")
        ));
    }
}

/// How many of the lines that an agent held at its end may be lost.
fn lost_later(seen: &Observed, held: u64) -> u64 {
    let is_covered = seen.adopted_damaged == 0 && !seen.is_in_memory;
    // Later runs may drop them when the spool is full. How many the comparison with the notices tells.
    if is_covered && seen.runs.len() == 1 { 0 } else { held }
}

/// The announced losses against what is missing.
fn judge_losses(seen: &Observed, drain: usize, wrong: &mut Vec<String>) {
    let tally = &seen.tallies[drain];
    let announced = tally.announced_lines();
    let (mut least, mut most) = (0, 0);
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    let mut is_exact = true;
    for run in &seen.runs {
        let whole = tally.whole(run.number, &run.written);
        let Some(finished) = run.finished.as_ref().filter(|finished| finished.has_ledger()) else {
            // Not all of what the app wrote was read, and the account of the agent is gone with it.
            most += sum(&run.written).begun.saturating_sub(whole);
            if !run.read_only && !seen.takes_and_refuses[drain] {
                let known = Output::ALL
                    .map(|output| tally.last(run.number, output).max(run.recorded[output as usize]))
                    .iter()
                    .sum::<u64>();
                // Of the last line on each output a part may have been recorded, and the rest was in the killed agent.
                least += known.saturating_sub(whole).saturating_sub(Output::ALL.len() as u64);
            }
            is_exact = false;
            continue;
        };
        let account = &finished.ledger().drains[drain];
        let missing = finished.ledger().captured.saturating_sub(whole).saturating_sub(account.rejected);
        most += missing;
        least += match account.held {
            // What is held ends with it, and nothing on the disk tells the next agent.
            1.. if run.read_only => 0,
            // What a later agent of those it held delivers, the drain may refuse.
            _ if seen.takes_and_refuses[drain] => account.dropped,
            _ => missing,
        };
        is_exact &= account.held == 0;
        for (reason, lines) in &account.reasons {
            *reasons.entry(reason.as_str()).or_default() += lines;
        }
    }
    if !is_exact {
        most += seen.frames_that_are_no_lines(drain);
    }
    // How much of a damaged segment of a dead agent had been delivered is not known to the line.
    least = least.saturating_sub(seen.adopted_damaged * MAX_LINES_OF_SEGMENT);
    most += seen.adopted_damaged * MAX_LINES_OF_SEGMENT;
    if seen.is_in_memory && !is_exact {
        // A batch in memory may be stored, its agent ends before the answer, and the batch counts as lost. One in a run.
        most += seen.runs.len() as u64 * MAX_LINES_OF_SEGMENT;
    }
    if seen.loses_checkpoint {
        least = 0; // where the lines were that were in memory, and what was announced, is known from it only
    }
    if announced < least || (announced > most && !seen.takes_and_refuses[drain]) {
        let accounts =
            seen.runs.iter().filter_map(|run| run.finished.as_ref().filter(|run| run.has_ledger()));
        let accounts: Vec<_> = accounts.map(|run| run.ledger().drains[drain].clone()).collect();
        wrong.push(format!(
            "{announced} lines are announced as lost, not {least} to {most}: {:?}; by the ledgers {accounts:?}",
            tally.announced
        ));
    }
    // There is a notice for each reason.
    let is_exact = is_exact && seen.adopted_damaged == 0 && !seen.takes_and_refuses[drain];
    let by_reason = tally.announced.iter().map(|(reason, lines)| (reason.as_str(), *lines)).collect();
    reasons.retain(|_, lines| *lines > 0);
    if is_exact && !seen.loses_checkpoint && reasons != by_reason {
        wrong.push(format!("announced {:?}, dropped {reasons:?}", tally.announced));
    }
}
