//! Two of the three counts that are compared: the agent's ledger, and what the dyno printed. The third is the test
//! drain's report.

use crate::expected_loss::ExpectedLoss;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

/// `1 line`, `2 lines`.
pub fn lines(count: u64) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{count} lines") }
}

/// How a run of a dyno ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Stopped by the simulation, with this exit status.
    Stopped(u8),
    /// Exited without being stopped, with this exit status.
    Exited(u8),
    /// Exited before it was up, with this exit status.
    ExitedBeforeUp(u8),
    /// Killed because it did not listen on `$PORT` in time (R10).
    BootTimeout,
    /// Killed because it had not exited 30 s after SIGTERM (R12).
    ExitTimeout,
}

impl RunEnd {
    /// The exit status of the dyno's main process.
    pub fn status(self) -> u8 {
        match self {
            Self::Stopped(status) | Self::Exited(status) | Self::ExitedBeforeUp(status) => status,
            Self::BootTimeout | Self::ExitTimeout => 137,
        }
    }
}

/// One run of a dyno, from its start to its end.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The dyno's name.
    pub dyno: String,
    /// How the run ended.
    pub end: RunEnd,
    /// The agent's ledger, or why it is missing; `None` when the dyno ran without the agent.
    pub ledger: Option<Result<Ledger, String>>,
    /// What the dyno printed; `None` when pass-through is off.
    pub printed: Option<OutputCounts>,
    /// How long the run took.
    pub duration: Duration,
    /// Highest memory of the agent's processes that was sampled, in KiB.
    pub agent_memory_kib: u64,
    /// The losses that injected faults explain.
    pub expected_loss: ExpectedLoss,
    /// Whether it was stopped while its replacement of the same name was already running.
    pub was_replaced: bool,
}

impl RunRecord {
    /// Whether it was stopped before its first line of output, when the agent may not have been started yet.
    pub fn was_stopped_early(&self) -> bool {
        matches!(self.end, RunEnd::Stopped(_)) && self.printed.is_some_and(|printed| printed.lines == 0)
    }
}

/// The agent's ledger (`TAILRACE_LEDGER_FILE`). Other keys are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ledger {
    /// Lines of which the first byte was read from the app.
    pub captured_lines: u64,
    /// Frames of the agent's own lines.
    #[serde(rename = "own_frames")]
    pub agent_frames: u64,
    /// One account per drain.
    pub drains: Vec<DrainLedger>,
}

/// The ledger's account of one drain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct DrainLedger {
    /// The drain's display name.
    pub drain: String,
    /// Lines delivered.
    pub delivered_lines: u64,
    /// Lines in the spool that are not yet acknowledged.
    pub held_lines: u64,
    /// Lines dropped.
    pub dropped_lines: u64,
    /// Lines dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Lines that the drain rejected for good.
    pub rejected_lines: u64,
    /// Batches delivered.
    pub batches: u64,
    /// Requests sent.
    pub attempts: u64,
}

/// What a dyno printed, as the agent splits and counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutputCounts {
    /// Lines.
    pub lines: u64,
    /// Frames of these lines, if the agent sends no incomplete line early.
    pub frames: u64,
    /// How often output paused within a line; each pause may have cost one frame more.
    pub stalls: u64,
    /// Lines that the dyno's shell printed before the agent was started; not included in `lines`.
    pub early: u64,
    /// Digest of the frames' messages.
    #[serde(skip)]
    pub text: Digest,
}

impl OutputCounts {
    /// The sum of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            frames: self.frames + other.frames,
            stalls: self.stalls + other.stalls,
            early: self.early + other.early,
            text: self.text.merge(other.text),
        }
    }
}

/// A digest of messages that does not depend on their order: the two streams of a dyno arrive interleaved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Adds a message.
    pub fn add(&mut self, message: &str) {
        let mut hasher = DefaultHasher::new();
        hasher.write(message.as_bytes());
        *self = self.merge(Self(hasher.finish()));
    }

    /// The digest of the messages of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
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
    fn a_digest_depends_on_messages_but_not_on_their_order() {
        assert_eq!(digest(&["a", "b", "b"]), digest(&["b", "a"]).merge(digest(&["b"])));
        assert_ne!(digest(&["a", "b"]), digest(&["a", "b", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["ab"]));
    }

    #[test]
    fn unknown_keys_of_a_ledger_are_ignored() {
        let text = r#"{"agent": "a", "captured_lines": 3, "own_frames": 1, "drains": [{"drain": "localhost",
            "delivered_lines": 1, "held_lines": 0, "dropped_lines": 2, "dropped": {"spool-full": 2},
            "rejected_lines": 0, "batches": 1, "attempts": 2, "adopted_frames": 0}]}"#;
        let ledger: Ledger = serde_json::from_str(text).expect("is a ledger");
        assert_eq!((ledger.captured_lines, ledger.drains[0].dropped["spool-full"]), (3, 2));
        assert!(serde_json::from_str::<Ledger>(&text.replace("held_lines", "hold_lines")).is_err());
    }
}
