//! Whether the agent kept its promises: a pure comparison of what its ledger, the test drain and the dyno's own
//! output say. Each problem is one line of plain words.

use crate::account::{Drain, DrainLedger, Ledger, Printed};

/// How the dyno ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Stopped by us, with this exit status.
    Stopped(u8),
    /// By itself, with this exit status.
    Exited(u8),
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
    /// What the drain saw, or why it did not say.
    pub drain: Result<Drain, String>,
    /// What the dyno printed; nothing when pass-through is off.
    pub printed: Option<Printed>,
}

impl Evidence {
    /// What is wrong: empty when all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Problems(Vec::new());
        problems.ending(self.ending);
        match &self.ledger {
            Ok(ledger) => problems.ledger(ledger),
            Err(why) => problems.add(format!("no ledger: {why}")),
        }
        match &self.drain {
            Ok(drain) => problems.drain(drain),
            Err(why) => problems.add(format!("no report of the drain: {why}")),
        }
        if let (Ok(ledger), Some(printed)) = (&self.ledger, self.printed) {
            let (captured, printed) = (ledger.captured_lines, printed.lines);
            problems.unless(
                captured == printed,
                format_args!("the ledger captured {captured} lines, the dyno printed {printed}"),
            );
        }
        if let (Ok(ledger), Ok(drain)) = (&self.ledger, &self.drain) {
            problems.compare(ledger, drain);
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
    fn drain(&mut self, drain: &Drain) {
        for (count, what) in [
            (drain.changed_bodies, "batches came again with another body"),
            (drain.count_mismatches, "batches had another number of frames than Logplex-Msg-Count says"),
            (drain.malformed, "bodies were malformed"),
            (drain.out_of_order, "frames were out of order"),
        ] {
            self.unless(count == 0, format_args!("{count} {what}"));
        }
        for (personality, conformance) in &drain.conformance {
            let errors = conformance.errors;
            let last = conformance.last.as_str().map(|last| format!(", last: {last}")).unwrap_or_default();
            self.unless(errors == 0, format_args!("{personality} objected {errors} times{last}"));
        }
    }

    fn compare(&mut self, ledger: &Ledger, drain: &Drain) {
        let delivered: u64 = ledger.drains.iter().map(|drain| drain.delivered_lines).sum();
        let dropped: u64 = ledger.drains.iter().map(|drain| drain.dropped_lines).sum();
        let (lines, announced) = (drain.lines, drain.losses.lines);
        self.unless(
            lines == delivered,
            format_args!("ledger and drain disagree: {delivered} lines delivered, {lines} arrived"),
        );
        self.unless(
            announced == dropped,
            format_args!("ledger and drain disagree: {dropped} lines dropped, {announced} announced"),
        );
    }
}

#[cfg(test)]
mod tests;
