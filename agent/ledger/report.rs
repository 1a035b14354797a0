//! The ledger as others see it: `TAILRACE_LEDGER_FILE`, `status`, the closing line.

use super::{Account, DrainIndex, Ledger};
use crate::frame::DropReason;
use std::fmt::Write;
use std::time::Duration;

/// What one drain's account says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// How the drain is shown.
    pub drain: String,
    /// Lines delivered.
    pub delivered: u64,
    /// Lines not answered for.
    pub held: u64,
    /// Lines dropped, by reason.
    pub dropped: Vec<(DropReason, u64)>,
    /// Lines refused for good.
    pub rejected: u64,
    /// Batches delivered.
    pub batches: u64,
    /// Requests tried.
    pub attempts: u64,
    /// Frames of dead agents delivered.
    pub adopted_frames: u64,
}

impl DrainReport {
    /// Lines dropped, whatever the reason.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.iter().map(|(_, lines)| lines).sum()
    }

    /// Lines that did not arrive: dropped, rejected or still held.
    pub fn missing(&self) -> u64 {
        self.dropped_lines() + self.rejected + self.held
    }
}

/// The ledger's numbers at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Lines captured.
    pub captured: u64,
    /// Frames that the agent itself made: those in the spool, and the notices of each drain's own losses.
    pub own_frames: u64,
    /// Per drain.
    pub drains: Vec<DrainReport>,
}

impl Report {
    /// The numbers as our own frames tell them: those of the drain that got least. `oldest` says how long the oldest
    /// line of a drain has waited.
    pub fn summary(&self, oldest: impl Fn(DrainIndex) -> Duration) -> String {
        let worst = self.drains.iter().enumerate().min_by_key(|(_, drain)| drain.delivered);
        let Some((drain, worst)) = worst else { return format!("captured={}", self.captured) };
        format!(
            "captured={} delivered={} held={} dropped={} rejected={} retries={} oldest={}s",
            self.captured,
            worst.delivered,
            worst.held,
            worst.dropped_lines(),
            worst.rejected,
            worst.attempts.saturating_sub(worst.batches),
            oldest(DrainIndex::new(drain)).as_secs(),
        )
    }
}

impl Ledger {
    /// The numbers now.
    pub fn report(&self) -> Report {
        let drains = self.drains().zip(self.accounts()).map(|(drain, account)| DrainReport {
            drain: account.name().to_owned(),
            delivered: account.delivered(),
            held: self.held(drain),
            dropped: account.dropped_by().collect(),
            rejected: account.rejected(),
            batches: account.batches(),
            attempts: account.attempts,
            adopted_frames: account.adopted_frames(),
        });
        let own_frames = self.agent_frames() + self.accounts().iter().map(Account::notices).sum::<u64>();
        Report { captured: self.captured(), own_frames, drains: drains.collect() }
    }
}

impl Report {
    /// The JSON of `TAILRACE_LEDGER_FILE`. `agent` is our id.
    pub fn json(&self, agent: &str) -> String {
        let mut out = format!("{{\n  \"agent\": {},\n", json_text(agent));
        let _infallible = write!(
            out,
            "  \"captured_lines\": {},\n  \"own_frames\": {},\n  \"drains\": [",
            self.captured, self.own_frames
        );
        for (index, drain) in self.drains.iter().enumerate() {
            let dropped: Vec<String> = drain
                .dropped
                .iter()
                .map(|(reason, lines)| format!("{}: {lines}", json_text(reason.as_str())))
                .collect();
            let _infallible = write!(
                out,
                "{}\n    {{\n      \"drain\": {},\n      \"delivered_lines\": {},\n      \"held_lines\": {},\n      \
                 \"dropped_lines\": {},\n      \"dropped\": {{{}}},\n      \"rejected_lines\": {},\n      \
                 \"batches\": {},\n      \"attempts\": {},\n      \"adopted_frames\": {}\n    }}",
                if index == 0 { "" } else { "," },
                json_text(&drain.drain),
                drain.delivered,
                drain.held,
                drain.dropped_lines(),
                dropped.join(", "),
                drain.rejected,
                drain.batches,
                drain.attempts,
                drain.adopted_frames,
            );
        }
        out.push_str("\n  ]\n}\n");
        out
    }
}

/// A JSON string (RFC 8259 section 7).
pub fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 => {
                let _infallible = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
