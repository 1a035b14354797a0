//! Whether the agent kept its promises: a pure comparison of what its ledgers, the test drain and the dynos' own
//! output say. Each problem is one line of plain words; what a fault excuses is a note.

use crate::expected_loss::ExpectedLoss;
use crate::ledger::{Digest, DrainLedger, Ledger, OutputCounts, RunEnd, RunRecord, lines};
use crate::platform::Limits;
use std::collections::{BTreeMap, BTreeSet};
use tailrace_drain::tally::Report;

/// All that the verdict is made from.
#[derive(Clone, Debug)]
pub struct Observations {
    /// The dynos that ran.
    pub boots: Vec<RunRecord>,
    /// What the drain saw; nothing when the agents shipped elsewhere.
    pub drain: Option<Report>,
    /// The text of the lines that it saw, by dyno.
    pub arrived: BTreeMap<String, Digest>,
    /// The token of the platform's own drain.
    pub platform: String,
    /// Faults that were asked for and not put in force.
    pub refused: Vec<String>,
    /// The platform's patience.
    pub limits: Limits,
}

/// What is wrong, and what is to be known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Empty when all is well.
    pub problems: Vec<String>,
    /// Losses that were announced, and the like.
    pub notes: Vec<String>,
}

/// One dyno's witnesses, over all times that it ran.
#[derive(Clone, Debug, Default)]
struct DynoTotals {
    captured: u64,
    delivered: u64,
    dropped: u64,
    held: u64,
    printed: Option<OutputCounts>,
    /// The platform's kill ended it: its ledger is that of an earlier moment.
    was_killed: bool,
}

impl Observations {
    /// What is to be said.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.notes.extend(self.refused.iter().map(|fault| format!("not tried: {fault}")));
        for boot in &self.boots {
            verdict.ending(boot, &self.limits);
            match &boot.ledger {
                Some(Ok(_)) if boot.ending == RunEnd::ExitTimeout => {}
                Some(Ok(ledger)) => verdict.ledger(&boot.dyno, ledger, &boot.excuse),
                Some(Err(_)) if boot.was_stopped_early() => {}
                Some(Err(why)) => verdict.problem(format_args!("{}: no ledger: {why}", boot.dyno)),
                None => {}
            }
        }
        let Some(drain) = &self.drain else { return verdict };
        verdict.drain(drain);
        // The order of two dynos of one name, of which one makes room for the other, is nobody's.
        let made_room = self.boots.iter().any(|boot| boot.made_room);
        verdict.problem_unless(
            drain.out_of_order == 0 || made_room,
            format_args!("{} frames were out of order", drain.out_of_order),
        );
        let witnesses = self.witnesses();
        for (dyno, witness) in &witnesses {
            verdict.compare(dyno, witness, self.frames(drain, dyno), self.arrived.get(dyno));
        }
        let dropped: u64 = witnesses.values().map(|witness| witness.dropped).sum();
        let announced = drain.losses.lines;
        let was_killed = witnesses.values().any(|witness| witness.was_killed);
        verdict.problem_unless(
            announced == dropped || was_killed && announced >= dropped,
            format_args!("ledgers and drain disagree: {dropped} lines dropped, {announced} announced"),
        );
        verdict
    }

    /// Frames with lines of the app that came from a dyno, but not by the platform's drain.
    pub fn frames(&self, drain: &Report, dyno: &str) -> u64 {
        let ours = drain.streams.iter().filter(|(token, _)| **token != self.platform);
        ours.filter_map(|(_, procs)| procs.get(dyno)).map(|stream| stream.lines).sum()
    }

    fn witnesses(&self) -> BTreeMap<String, DynoTotals> {
        let silent: BTreeSet<&str> =
            self.boots.iter().filter(|boot| boot.printed.is_none()).map(|boot| boot.dyno.as_str()).collect();
        let mut witnesses: BTreeMap<String, DynoTotals> = BTreeMap::new();
        for boot in &self.boots {
            let Some(Ok(ledger)) = &boot.ledger else { continue };
            let witness = witnesses.entry(boot.dyno.clone()).or_default();
            witness.was_killed |= boot.ending == RunEnd::ExitTimeout;
            witness.captured += ledger.captured_lines;
            witness.delivered += ledger.drains.iter().map(|drain| drain.delivered_lines).sum::<u64>();
            witness.dropped += ledger.drains.iter().map(|drain| drain.dropped_lines).sum::<u64>();
            witness.held += ledger.drains.iter().map(|drain| drain.held_lines).sum::<u64>();
            if let Some(printed) = boot.printed.filter(|_| !silent.contains(boot.dyno.as_str())) {
                witness.printed = Some(witness.printed.unwrap_or_default().and(printed));
            }
        }
        // A dyno of which one agent left nothing cannot be compared; that is a problem already.
        let has_gap = |boot: &&RunRecord| matches!(boot.ledger, Some(Err(_))) && !boot.was_stopped_early();
        for boot in self.boots.iter().filter(has_gap) {
            witnesses.remove(&boot.dyno);
        }
        witnesses
    }
}

impl Verdict {
    fn problem(&mut self, text: std::fmt::Arguments<'_>) {
        self.problems.push(text.to_string());
    }

    fn problem_unless(&mut self, is_well: bool, text: std::fmt::Arguments<'_>) {
        if !is_well {
            self.problem(text);
        }
    }

    fn note(&mut self, text: std::fmt::Arguments<'_>) {
        self.notes.push(text.to_string());
    }

    fn ending(&mut self, boot: &RunRecord, limits: &Limits) {
        let dyno = &boot.dyno;
        match boot.ending {
            RunEnd::Stopped(_) => {}
            RunEnd::Exited(status) | RunEnd::Died(status) if boot.excuse.app_killed => {
                self.note(format_args!(
                    "{dyno}: the app was killed as asked for, and ended with status {status}"
                ));
            }
            RunEnd::Exited(status) => {
                self.problem(format_args!("{dyno}: the app ended by itself, with status {status}"));
            }
            RunEnd::Died(status) => {
                self.problem(format_args!(
                    "{dyno}: the app ended with status {status} before it listened on $PORT"
                ));
            }
            RunEnd::BootTimeout => {
                let seconds = limits.boot.as_secs_f64();
                self.problem(format_args!(
                    "{dyno}: the app did not listen on $PORT within {seconds} s (R10)"
                ));
            }
            // The app's own doing: what it printed has to arrive even so.
            RunEnd::ExitTimeout => {
                let seconds = limits.exit.as_secs_f64();
                self.note(format_args!("{dyno}: the app did not end within {seconds} s of SIGTERM (R12)"));
            }
        }
    }

    /// What a ledger has to say by itself.
    fn ledger(&mut self, dyno: &str, ledger: &Ledger, excuse: &ExpectedLoss) {
        for account in &ledger.drains {
            let DrainLedger { delivered_lines, held_lines, dropped_lines, rejected_lines, .. } = *account;
            let known = delivered_lines + held_lines + dropped_lines + rejected_lines;
            self.problem_unless(
                known == ledger.captured_lines,
                format_args!(
                    "{dyno}: the ledger does not add up: captured {}, but delivered, held, dropped and rejected are {known}",
                    ledger.captured_lines
                ),
            );
            let reasons: u64 = account.dropped.values().sum();
            self.problem_unless(
                reasons == dropped_lines,
                format_args!(
                    "{dyno}: the ledger does not add up: dropped {dropped_lines}, but by reason {reasons}"
                ),
            );
            self.losses(dyno, account, excuse);
        }
    }

    /// What is missing, and whether a fault explains it.
    fn losses(&mut self, dyno: &str, account: &DrainLedger, excuse: &ExpectedLoss) {
        let DrainLedger { held_lines: held, rejected_lines: rejected, .. } = *account;
        if held > 0 && excuse.held.is_empty() {
            self.problem(format_args!(
                "{dyno}: {held} lines were still held at the end and went with the dyno"
            ));
        } else if held > 0 {
            let faults: Vec<&str> = excuse.held.iter().map(String::as_str).collect();
            let faults = faults.join(", ");
            self.note(format_args!(
                "{dyno}: {held} lines were still held at the end, under {faults}, and went with the dyno"
            ));
        }
        let refused = format!("{dyno}: the receiver refused {rejected} lines for good");
        if rejected > 0 && excuse.rejected {
            self.note(format_args!("{refused}, as it was told to"));
        } else {
            self.problem_unless(rejected == 0, format_args!("{refused}"));
        }
        for (reason, lines) in account.dropped.iter().filter(|(_, lines)| **lines > 0) {
            let dropped = format!("{dyno}: {lines} lines were dropped ({reason})");
            let is_excused = excuse.dropped.contains(reason.as_str());
            (if is_excused { &mut self.notes } else { &mut self.problems }).push(dropped);
        }
    }

    /// What no drain may see, whatever the ledgers say.
    fn drain(&mut self, drain: &Report) {
        for (count, what) in [
            (drain.changed_bodies, "batches came again with another body"),
            (drain.count_mismatches, "batches had another number of frames than Logplex-Msg-Count says"),
            (drain.malformed, "bodies were malformed"),
        ] {
            self.problem_unless(count == 0, format_args!("{count} {what}"));
        }
        for (personality, complaints) in &drain.conformance {
            let errors = complaints.errors;
            let last = complaints.last.as_ref().map(|last| format!(", last: {last}")).unwrap_or_default();
            self.problem_unless(errors == 0, format_args!("{personality} objected {errors} times{last}"));
        }
    }

    /// The witnesses against each other.
    fn compare(&mut self, dyno: &str, witness: &DynoTotals, frames: u64, arrived: Option<&Digest>) {
        let DynoTotals { captured, delivered, held, printed, .. } = *witness;
        let Some(printed) = printed else {
            // How many frames a long line fills is not known then.
            return self.problem_unless(
                frames >= delivered,
                format_args!(
                    "{dyno}: ledger and drain disagree: {delivered} lines delivered, {frames} frames arrived"
                ),
            );
        };
        if printed.early > 0 {
            self.note(format_args!(
                "{dyno}: {} came from .profile.d or .profile, before the agent was there: only the platform has \
                 them",
                lines(printed.early)
            ));
        }
        if witness.was_killed {
            let missing = printed.frames.saturating_sub(frames);
            if missing > 0 {
                let missing = lines(missing);
                self.note(format_args!("{dyno}: {missing} of its last moments went with the kill"));
            }
            let most = printed.frames + printed.stalls;
            return self.problem_unless(
                captured <= printed.lines && frames >= delivered && frames <= most,
                format_args!(
                    "{dyno}: printed {} lines; the ledger captured {captured} and delivered {delivered}, {frames} \
                     frames arrived",
                    printed.lines
                ),
            );
        }
        self.problem_unless(
            captured == printed.lines,
            format_args!("{dyno}: the ledger captured {captured} lines, the dyno printed {}", printed.lines),
        );
        // A line longer than a frame fills several; which ones are missing, when some are, is not known. Lines
        // may have arrived without an answer that says so.
        let more = printed.frames.saturating_sub(printed.lines);
        let least = if delivered == captured { delivered + more } else { delivered };
        let most = delivered + held + more + printed.stalls;
        let agrees = (least..=most).contains(&frames);
        self.problem_unless(
            agrees,
            format_args!(
                "{dyno}: ledger and drain disagree: {delivered} lines delivered, which are {least} to {most} frames, \
                 {frames} arrived"
            ),
        );
        let is_same = arrived.copied().unwrap_or_default() == printed.text;
        let is_comparable =
            agrees && captured == printed.lines && delivered == captured && printed.stalls == 0;
        self.problem_unless(
            is_same || !is_comparable,
            format_args!("{dyno}: what arrived is not what the dyno printed"),
        );
    }
}

#[cfg(test)]
mod tests;
