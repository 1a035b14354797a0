//! Whether the agent kept its promises: a pure comparison of what its ledger, the test drain and the dyno's own
//! output say. Each problem is one line of plain words.

use crate::account::{Digest, DrainLedger, Ledger, Printed};
use tailrace_drain::tally::Report;

/// How the dyno ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Stopped by us, with this exit status.
    Stopped(u8),
    /// By itself, with this exit status.
    Exited(u8),
    /// By itself, with this exit status, before it listened on `$PORT`.
    Died(u8),
    /// By SIGKILL, because it did not listen on `$PORT` in time (R10).
    BootTimeout,
    /// By SIGKILL, because it outlived the 30 s after SIGTERM (R12).
    ExitTimeout,
}

/// All that the verdict is made from.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// How the dyno ended.
    pub ending: Ending,
    /// What the agent left behind, or why there is nothing.
    pub ledger: Result<Ledger, String>,
    /// What the drain saw.
    pub drain: Report,
    /// The text of the lines that it saw.
    pub arrived: Digest,
    /// What the dyno printed; nothing when pass-through is off.
    pub printed: Option<Printed>,
}

impl Evidence {
    /// What is wrong: empty when all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Problems(Vec::new());
        problems.ending(self.ending);
        problems.drain(&self.drain);
        match &self.ledger {
            Ok(ledger) => {
                problems.ledger(ledger);
                problems.compare(ledger, self);
            }
            Err(why) => problems.add(format!("no ledger: {why}")),
        }
        problems.0
    }
}

struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, text: String) {
        self.0.push(text);
    }

    fn unless(&mut self, is_well: bool, text: std::fmt::Arguments<'_>) {
        if !is_well {
            self.add(text.to_string());
        }
    }

    fn ending(&mut self, ending: Ending) {
        match ending {
            Ending::Stopped(_) => {}
            Ending::Exited(status) => self.add(format!("the app ended by itself, with status {status}")),
            Ending::Died(status) => {
                self.add(format!("the app ended with status {status} before it listened on $PORT"));
            }
            Ending::BootTimeout => self.add("the app did not listen on $PORT within 60 s".to_owned()),
            Ending::ExitTimeout => self.add("the dyno did not end within 30 s of SIGTERM".to_owned()),
        }
    }

    /// What the ledger has to say by itself.
    fn ledger(&mut self, ledger: &Ledger) {
        let drains = ledger.drains.len();
        self.unless(drains == 1, format_args!("the ledger has {drains} drains, the simulation one"));
        for account in &ledger.drains {
            let DrainLedger { delivered_lines, held_lines, dropped_lines, rejected_lines, .. } = *account;
            let known = delivered_lines + held_lines + dropped_lines + rejected_lines;
            self.unless(
                known == ledger.captured_lines,
                format_args!(
                    "the ledger does not add up: captured {}, but delivered, held, dropped and rejected are {known}",
                    ledger.captured_lines
                ),
            );
            let reasons: u64 = account.dropped.values().sum();
            self.unless(
                reasons == dropped_lines,
                format_args!("the ledger does not add up: dropped {dropped_lines}, but by reason {reasons}"),
            );
            self.unless(
                held_lines == 0,
                format_args!("{held_lines} lines were still held at the end and went with the dyno"),
            );
            self.unless(
                rejected_lines == 0,
                format_args!("the drain refused {rejected_lines} lines for good"),
            );
        }
    }

    /// What no drain may see, whatever the ledger says.
    fn drain(&mut self, drain: &Report) {
        for (count, what) in [
            (drain.changed_bodies, "batches came again with another body"),
            (drain.count_mismatches, "batches had another number of frames than Logplex-Msg-Count says"),
            (drain.malformed, "bodies were malformed"),
            (drain.out_of_order, "frames were out of order"),
        ] {
            self.unless(count == 0, format_args!("{count} {what}"));
        }
        for (personality, complaints) in &drain.conformance {
            let errors = complaints.errors;
            let last = complaints.last.as_ref().map(|last| format!(", last: {last}")).unwrap_or_default();
            self.unless(errors == 0, format_args!("{personality} objected {errors} times{last}"));
        }
    }

    /// The witnesses against each other.
    fn compare(&mut self, ledger: &Ledger, evidence: &Evidence) {
        let captured = ledger.captured_lines;
        let delivered: u64 = ledger.drains.iter().map(|drain| drain.delivered_lines).sum();
        let dropped: u64 = ledger.drains.iter().map(|drain| drain.dropped_lines).sum();
        let (frames, announced) = (evidence.drain.lines, evidence.drain.losses.lines);
        self.unless(
            announced == dropped,
            format_args!("ledger and drain disagree: {dropped} lines dropped, {announced} announced"),
        );
        let Some(printed) = evidence.printed else {
            // How many frames a long line fills is not known then.
            return self.unless(
                frames >= delivered,
                format_args!(
                    "ledger and drain disagree: {delivered} lines delivered, {frames} frames arrived"
                ),
            );
        };
        self.unless(
            captured == printed.lines,
            format_args!("the ledger captured {captured} lines, the dyno printed {}", printed.lines),
        );
        // A line longer than a frame fills several; which ones are missing, when some are, is not known.
        let more = printed.frames.saturating_sub(printed.lines);
        let least = if delivered == captured { delivered + more } else { delivered };
        let most = delivered + more + printed.stalls;
        let agrees = (least..=most).contains(&frames);
        self.unless(
            agrees,
            format_args!(
                "ledger and drain disagree: {delivered} lines delivered, which are {least} to {most} frames, \
                 {frames} arrived"
            ),
        );
        let is_same = evidence.arrived == printed.text;
        let is_comparable =
            agrees && captured == printed.lines && delivered == captured && printed.stalls == 0;
        self.unless(is_same || !is_comparable, format_args!("what arrived is not what the dyno printed"));
    }
}

#[cfg(test)]
mod tests;
