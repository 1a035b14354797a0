//! Whether the agent met its guarantees: a pure comparison of the agents' ledgers, the dynos' output and the test drain's
//! report. Each problem is one line of plain text; a loss that an injected fault explains is a note.

use crate::expected_loss::ExpectedLoss;
use crate::ledger::{Digest, DrainLedger, Ledger, OutputCounts, RunEnd, RunRecord, lines};
use crate::platform::Limits;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tailrace_drain::stats::Report;

/// What the verdict is based on.
#[derive(Clone, Debug)]
pub struct Observations {
    /// The runs of all dynos.
    pub runs: Vec<RunRecord>,
    /// The local drain's report; `None` with `--drain`.
    pub drain: Option<Report>,
    /// Digests of the lines that the local drain received from the agents, by dyno.
    pub received: BTreeMap<String, Digest>,
    /// The token of the platform's own drain.
    pub platform_token: String,
    /// Faults that were requested and not injected, and why.
    pub rejected_faults: Vec<String>,
    /// The platform's time limits.
    pub limits: Limits,
}

/// The problems, and other facts worth reporting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Empty when the agent met its guarantees.
    pub problems: Vec<String>,
    /// Losses that are explained, and similar facts.
    pub notes: Vec<String>,
}

/// The sums over all runs of one dyno.
#[derive(Clone, Debug, Default)]
struct DynoTotals {
    captured: u64,
    delivered: u64,
    dropped: u64,
    held: u64,
    printed: Option<OutputCounts>,
    /// Whether a run was killed after the exit timeout: its ledger may be out of date then.
    was_killed: bool,
}

impl Observations {
    /// Compares the counts.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.notes.extend(self.rejected_faults.iter().map(|fault| format!("not tried: {fault}")));
        for run in &self.runs {
            verdict.check_end(run, &self.limits);
            match &run.ledger {
                Some(Ok(_)) if run.end == RunEnd::ExitTimeout => {}
                Some(Ok(ledger)) => verdict.check_ledger(&run.dyno, ledger, &run.expected_loss),
                Some(Err(_)) if run.was_stopped_early() => {}
                Some(Err(reason)) => verdict.problem(format_args!("{}: no ledger: {reason}", run.dyno)),
                None => {}
            }
        }
        let Some(drain) = &self.drain else { return verdict };
        verdict.check_drain(drain);
        // Frames of a replaced dyno and of its replacement, which has the same name, may interleave.
        let was_replaced = self.runs.iter().any(|run| run.was_replaced);
        verdict.problem_unless(
            drain.out_of_order == 0 || was_replaced,
            format_args!("{} frames were out of order", drain.out_of_order),
        );
        let totals = self.totals();
        for (dyno, totals) in &totals {
            verdict.compare(dyno, totals, self.app_frames(drain, dyno), self.received.get(dyno));
        }
        let dropped: u64 = totals.values().map(|totals| totals.dropped).sum();
        let announced = drain.losses.lines;
        let was_killed = totals.values().any(|totals| totals.was_killed);
        verdict.problem_unless(
            announced == dropped || was_killed && announced >= dropped,
            format_args!("ledgers and drain disagree: {dropped} lines dropped, {announced} announced"),
        );
        verdict
    }

    /// Frames with lines of the app that arrived from the agent of a dyno.
    fn app_frames(&self, drain: &Report, dyno: &str) -> u64 {
        let from_agents = drain.streams.iter().filter(|(token, _)| **token != self.platform_token);
        from_agents.filter_map(|(_, procs)| procs.get(dyno)).map(|stream| stream.lines).sum()
    }

    /// The sums by dyno, for dynos that can be compared.
    fn totals(&self) -> BTreeMap<String, DynoTotals> {
        let without_output: BTreeSet<&str> =
            self.runs.iter().filter(|run| run.printed.is_none()).map(|run| run.dyno.as_str()).collect();
        let mut all: BTreeMap<String, DynoTotals> = BTreeMap::new();
        for run in &self.runs {
            let Some(Ok(ledger)) = &run.ledger else { continue };
            let totals = all.entry(run.dyno.clone()).or_default();
            totals.was_killed |= run.end == RunEnd::ExitTimeout;
            totals.captured += ledger.captured_lines;
            totals.delivered += ledger.drains.iter().map(|drain| drain.delivered_lines).sum::<u64>();
            totals.dropped += ledger.drains.iter().map(|drain| drain.dropped_lines).sum::<u64>();
            totals.held += ledger.drains.iter().map(|drain| drain.held_lines).sum::<u64>();
            if let Some(printed) = run.printed.filter(|_| !without_output.contains(run.dyno.as_str())) {
                totals.printed = Some(totals.printed.unwrap_or_default().merge(printed));
            }
        }
        // A dyno with a missing ledger cannot be compared; the missing ledger was reported as a problem.
        let lacks_ledger = |run: &&RunRecord| matches!(run.ledger, Some(Err(_))) && !run.was_stopped_early();
        for run in self.runs.iter().filter(lacks_ledger) {
            all.remove(&run.dyno);
        }
        all
    }
}

impl Verdict {
    fn problem(&mut self, text: fmt::Arguments<'_>) {
        self.problems.push(text.to_string());
    }

    fn problem_unless(&mut self, holds: bool, text: fmt::Arguments<'_>) {
        if !holds {
            self.problem(text);
        }
    }

    fn note(&mut self, text: fmt::Arguments<'_>) {
        self.notes.push(text.to_string());
    }

    /// Checks how a run ended.
    fn check_end(&mut self, run: &RunRecord, limits: &Limits) {
        let dyno = &run.dyno;
        match run.end {
            RunEnd::Stopped(_) => {}
            RunEnd::Exited(status) | RunEnd::ExitedBeforeUp(status) if run.expected_loss.app_killed => {
                self.note(format_args!(
                    "{dyno}: the app was killed as requested, and ended with status {status}"
                ));
            }
            RunEnd::Exited(status) => {
                self.problem(format_args!("{dyno}: the app ended by itself, with status {status}"));
            }
            RunEnd::ExitedBeforeUp(status) => {
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
            // Caused by the app, not by the agent; the lines that it printed have to arrive nevertheless.
            RunEnd::ExitTimeout => {
                let seconds = limits.exit.as_secs_f64();
                self.note(format_args!("{dyno}: the app did not end within {seconds} s of SIGTERM (R12)"));
            }
        }
    }

    /// Checks that a ledger is consistent in itself.
    fn check_ledger(&mut self, dyno: &str, ledger: &Ledger, expected_loss: &ExpectedLoss) {
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
            self.check_losses(dyno, account, expected_loss);
        }
    }

    /// Checks that injected faults explain the lines that were not delivered.
    fn check_losses(&mut self, dyno: &str, account: &DrainLedger, expected_loss: &ExpectedLoss) {
        let DrainLedger { held_lines: held, rejected_lines: rejected, .. } = *account;
        if held > 0 && expected_loss.held_by.is_empty() {
            self.problem(format_args!(
                "{dyno}: {held} lines were still held at the end and were lost with the dyno"
            ));
        } else if held > 0 {
            let faults: Vec<&str> = expected_loss.held_by.iter().map(String::as_str).collect();
            let faults = faults.join(", ");
            self.note(format_args!(
                "{dyno}: {held} lines were still held at the end, under {faults}, and were lost with the dyno"
            ));
        }
        let refused = format!("{dyno}: the receiver refused {rejected} lines for good");
        if rejected > 0 && expected_loss.rejected {
            self.note(format_args!("{refused}, as requested"));
        } else {
            self.problem_unless(rejected == 0, format_args!("{refused}"));
        }
        for (reason, lines) in account.dropped.iter().filter(|(_, lines)| **lines > 0) {
            let dropped = format!("{dyno}: {lines} lines were dropped ({reason})");
            let is_expected = expected_loss.drop_reasons.contains(reason.as_str());
            (if is_expected { &mut self.notes } else { &mut self.problems }).push(dropped);
        }
    }

    /// Checks what must never arrive at a drain.
    fn check_drain(&mut self, drain: &Report) {
        for (count, what) in [
            (drain.changed_bodies, "batches were repeated with another body"),
            (drain.count_mismatches, "batches had another number of frames than Logplex-Msg-Count says"),
            (drain.malformed, "bodies were malformed"),
        ] {
            self.problem_unless(count == 0, format_args!("{count} {what}"));
        }
        for (receiver, complaints) in &drain.conformance {
            let errors = complaints.errors;
            let last = complaints.last.as_ref().map(|last| format!(", last: {last}")).unwrap_or_default();
            self.problem_unless(errors == 0, format_args!("{receiver} objected {errors} times{last}"));
        }
    }

    /// Compares a dyno's ledgers and output with what arrived: `frames` frames, with the text `received`.
    fn compare(&mut self, dyno: &str, totals: &DynoTotals, frames: u64, received: Option<&Digest>) {
        let DynoTotals { captured, delivered, held, printed, was_killed, .. } = *totals;
        let Some(printed) = printed else {
            // Without the output, the number of frames that long lines fill is unknown.
            return self.problem_unless(
                frames >= delivered,
                format_args!(
                    "{dyno}: ledger and drain disagree: {delivered} lines delivered, {frames} frames arrived"
                ),
            );
        };
        if printed.early > 0 {
            self.note(format_args!(
                "{dyno}: {} came from .profile.d or .profile, before the agent was started: only the platform has \
                 them",
                lines(printed.early)
            ));
        }
        if was_killed {
            return self.compare_killed(dyno, totals, &printed, frames);
        }
        self.problem_unless(
            captured == printed.lines,
            format_args!("{dyno}: the ledger captured {captured} lines, the dyno printed {}", printed.lines),
        );
        // A long line fills several frames. When lines are missing, it is unknown which, so the number of frames has a
        // range. Held lines may have arrived without an acknowledgement.
        let extra = printed.frames.saturating_sub(printed.lines);
        let least = if delivered == captured { delivered + extra } else { delivered };
        let most = delivered + held + extra + printed.stalls;
        let agrees = (least..=most).contains(&frames);
        self.problem_unless(
            agrees,
            format_args!(
                "{dyno}: ledger and drain disagree: {delivered} lines delivered, which are {least} to {most} frames, \
                 {frames} arrived"
            ),
        );
        let is_same_text = received.copied().unwrap_or_default() == printed.text;
        let is_comparable =
            agrees && captured == printed.lines && delivered == captured && printed.stalls == 0;
        self.problem_unless(
            is_same_text || !is_comparable,
            format_args!("{dyno}: what arrived is not what the dyno printed"),
        );
    }

    /// Compares the counts of a dyno that was killed: its ledger may be out of date, and its last lines may be missing.
    fn compare_killed(&mut self, dyno: &str, totals: &DynoTotals, printed: &OutputCounts, frames: u64) {
        let DynoTotals { captured, delivered, .. } = *totals;
        let missing = printed.frames.saturating_sub(frames);
        if missing > 0 {
            let missing = lines(missing);
            self.note(format_args!("{dyno}: its last {missing} were lost with the kill"));
        }
        let most = printed.frames + printed.stalls;
        self.problem_unless(
            captured <= printed.lines && frames >= delivered && frames <= most,
            format_args!(
                "{dyno}: printed {} lines; the ledger captured {captured} and delivered {delivered}, {frames} frames \
                 arrived",
                printed.lines
            ),
        );
    }
}

#[cfg(test)]
mod tests;
