//! What two of the three witnesses say: the agent's ledger, and what the dyno printed. The third one, the test drain,
//! has a report of its own.

use crate::expected_loss::ExpectedLoss;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

/// So many lines, in words.
pub fn lines(count: u64) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{count} lines") }
}

/// How a dyno ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Stopped by us, with this exit status.
    Stopped(u8),
    /// By itself, with this exit status.
    Exited(u8),
    /// By itself, with this exit status, before it was up.
    Died(u8),
    /// By SIGKILL, because it did not listen on `$PORT` in time (R10).
    BootTimeout,
    /// By SIGKILL, because it outlived the 30 s after SIGTERM (R12).
    ExitTimeout,
}

impl RunEnd {
    /// The exit status of the dyno's main process.
    pub fn status(self) -> u8 {
        match self {
            Self::Stopped(status) | Self::Exited(status) | Self::Died(status) => status,
            Self::BootTimeout | Self::ExitTimeout => 137,
        }
    }
}

/// A dyno, from its start to its end.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its name.
    pub dyno: String,
    /// How it ended.
    pub ending: RunEnd,
    /// What the agent left behind, or why there is nothing; nothing is expected where it did not run.
    pub ledger: Option<Result<Ledger, String>>,
    /// What the dyno printed; nothing when pass-through is off.
    pub printed: Option<OutputCounts>,
    /// From its start to its end.
    pub took: Duration,
    /// The most that the agent's processes were seen to take, in KiB.
    pub memory: u64,
    /// What may be missing of it.
    pub excuse: ExpectedLoss,
    /// It was stopped to make room for another of its name, which ran by then.
    pub made_room: bool,
}

impl RunRecord {
    /// It was stopped before it said a word: so early that the agent may not have been there yet.
    pub fn was_stopped_early(&self) -> bool {
        matches!(self.ending, RunEnd::Stopped(_)) && self.printed.is_some_and(|printed| printed.lines == 0)
    }
}

/// The agent's ledger (`TAILRACE_LEDGER_FILE`); other keys may stand beside these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ledger {
    /// Lines of which the first byte was read from the app.
    pub captured_lines: u64,
    /// Frames that the agent itself made.
    pub own_frames: u64,
    /// Per drain.
    pub drains: Vec<DrainLedger>,
}

/// What the ledger says of one drain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct DrainLedger {
    /// How the drain is shown.
    pub drain: String,
    /// Lines delivered.
    pub delivered_lines: u64,
    /// Lines in the spool, not yet answered for.
    pub held_lines: u64,
    /// Lines shed on purpose.
    pub dropped_lines: u64,
    /// The same, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Lines refused for good.
    pub rejected_lines: u64,
    /// Batches delivered.
    pub batches: u64,
    /// Requests tried.
    pub attempts: u64,
}

/// What came out of the dyno itself, by the agent's own splitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutputCounts {
    /// Lines.
    pub lines: u64,
    /// Frames that they fill when no line stands still half-way.
    pub frames: u64,
    /// How often a line did: each time may have cost one frame more.
    pub stalls: u64,
    /// Lines before those, of the dyno's shell: the agent did not run yet.
    pub early: u64,
    /// The text of those that count.
    #[serde(skip)]
    pub text: Digest,
}

impl OutputCounts {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            frames: self.frames + other.frames,
            stalls: self.stalls + other.stalls,
            early: self.early + other.early,
            text: self.text.and(other.text),
        }
    }
}

/// A digest of messages in any order: two streams reach the drain as one, mixed as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Takes one message.
    pub fn add(&mut self, message: &str) {
        let mut hasher = DefaultHasher::new();
        hasher.write(message.as_bytes());
        *self = self.and(Self(hasher.finish()));
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(messages: &[&str]) -> Digest {
        let mut digest = Digest::default();
        for message in messages {
            digest.add(message);
        }
        digest
    }

    #[test]
    fn a_digest_is_blind_to_order_and_to_nothing_else() {
        assert_eq!(digest(&["a", "b", "b"]), digest(&["b", "a"]).and(digest(&["b"])));
        assert_ne!(digest(&["a", "b"]), digest(&["a", "b", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["ab"]));
    }

    #[test]
    fn a_ledger_may_say_more_than_is_asked() {
        let text = r#"{"agent": "a", "captured_lines": 3, "own_frames": 1, "drains": [{"drain": "localhost",
            "delivered_lines": 1, "held_lines": 0, "dropped_lines": 2, "dropped": {"spool-full": 2},
            "rejected_lines": 0, "batches": 1, "attempts": 2, "adopted_frames": 0}]}"#;
        let ledger: Ledger = serde_json::from_str(text).expect("is a ledger");
        assert_eq!((ledger.captured_lines, ledger.drains[0].dropped["spool-full"]), (3, 2));
        assert!(serde_json::from_str::<Ledger>(&text.replace("held_lines", "hold_lines")).is_err());
    }
}
