//! The ledger's numbers at one instant: for `TAILRACE_LEDGER_FILE`, `tailrace status` and the closing report.

use super::{Account, AdoptedLeft, DrainIndex, Ledger};
use crate::frame::DropReason;
use serde::{Serialize, Serializer};
use std::time::Duration;

/// One drain's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DrainReport {
    /// The drain's display name, without secrets.
    pub drain: String,
    /// Lines delivered.
    pub delivered: u64,
    /// Lines not yet answered for.
    pub held: u64,
    /// Lines dropped, by reason.
    pub dropped: Vec<(DropReason, u64)>,
    /// Lines refused for good.
    pub rejected: u64,
    /// Batches delivered.
    pub batches: u64,
    /// Requests, failed ones included.
    pub attempts: u64,
    /// What dead agents left and is not delivered.
    pub adopted_left: AdoptedLeft,
    /// Frames of dead agents delivered.
    pub adopted_frames: u64,
    /// Lines of dead agents' apps dropped.
    pub adopted_dropped: u64,
}

impl DrainReport {
    /// Lines dropped, whatever the reason.
    pub(crate) fn dropped_lines(&self) -> u64 {
        self.dropped.iter().map(|(_, lines)| lines).sum()
    }

    /// Lines that did not arrive: dropped, rejected or still held.
    pub(crate) fn missing(&self) -> u64 {
        self.dropped_lines() + self.rejected + self.held
    }
}

/// The ledger's numbers at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Lines captured.
    pub captured: u64,
    /// Frames that the agent itself made: those in the spool, and the loss notices that were delivered.
    pub own_frames: u64,
    /// Per drain.
    pub drains: Vec<DrainReport>,
}

impl Report {
    /// The numbers of the heartbeat and stop lines, for the drain that got fewest lines. `held` is what the lines are
    /// called that wait for it, `oldest` returns how long the oldest one has waited.
    pub(crate) fn summary(&self, held: &str, oldest: impl Fn(DrainIndex) -> Duration) -> String {
        let worst =
            DrainIndex::all(self.drains.len()).zip(&self.drains).min_by_key(|(_, drain)| drain.delivered);
        let Some((drain, worst)) = worst else { return format!("captured={}", self.captured) };
        format!(
            "captured={} delivered={} {held}={} dropped={} rejected={} retries={} oldest={}s",
            self.captured,
            worst.delivered,
            worst.held,
            worst.dropped_lines(),
            worst.rejected,
            worst.attempts.saturating_sub(worst.batches),
            oldest(drain).as_secs(),
        )
    }

    /// The JSON of `TAILRACE_LEDGER_FILE`. `agent` is this agent's id.
    pub(crate) fn json(&self, agent: &str) -> String {
        let drains = self.drains.iter().map(|drain| LedgerFileDrain {
            drain: &drain.drain,
            delivered_lines: drain.delivered,
            held_lines: drain.held,
            dropped_lines: drain.dropped_lines(),
            dropped: &drain.dropped,
            rejected_lines: drain.rejected,
            batches: drain.batches,
            attempts: drain.attempts,
            adopted_held_lines: drain.adopted_left.lines,
            adopted_frames: drain.adopted_frames,
            adopted_dropped_lines: drain.adopted_dropped,
        });
        let file = LedgerFile {
            agent,
            captured_lines: self.captured,
            own_frames: self.own_frames,
            drains: drains.collect(),
        };
        let mut json = serde_json::to_string_pretty(&file).unwrap_or_default(); // text and numbers always serialize
        json.push('\n');
        json
    }
}

/// `TAILRACE_LEDGER_FILE`.
#[derive(Serialize)]
struct LedgerFile<'a> {
    agent: &'a str,
    captured_lines: u64,
    own_frames: u64,
    drains: Vec<LedgerFileDrain<'a>>,
}

/// One drain in `TAILRACE_LEDGER_FILE`.
#[derive(Serialize)]
struct LedgerFileDrain<'a> {
    drain: &'a str,
    delivered_lines: u64,
    held_lines: u64,
    dropped_lines: u64,
    #[serde(serialize_with = "dropped_by_reason")]
    dropped: &'a [(DropReason, u64)],
    rejected_lines: u64,
    batches: u64,
    attempts: u64,
    adopted_held_lines: u64,
    adopted_frames: u64,
    adopted_dropped_lines: u64,
}

/// Serializes dropped lines as a map from reason to number.
pub(crate) fn dropped_by_reason<S: Serializer>(
    dropped: &[(DropReason, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(dropped.iter().map(|(reason, lines)| (reason.as_str(), lines)))
}

impl Ledger {
    /// The numbers now.
    pub(crate) fn report(&self) -> Report {
        let drains = self.drains().zip(self.accounts()).map(|(drain, account)| DrainReport {
            drain: account.name().to_owned(),
            delivered: account.delivered(),
            held: self.held(drain),
            dropped: account.dropped_by().collect(),
            rejected: account.rejected(),
            batches: account.batches(),
            attempts: account.attempts,
            adopted_left: self.adopted_left(drain),
            adopted_frames: account.adopted_frames(),
            adopted_dropped: account.adopted_dropped(),
        });
        let own_frames = self.agent_frames() + self.accounts().iter().map(Account::notices).sum::<u64>();
        Report { captured: self.captured(), own_frames, drains: drains.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_that_of_the_drain_that_got_fewest_lines() {
        let drain = |delivered, attempts| DrainReport {
            drain: String::new(),
            delivered,
            held: 1,
            dropped: vec![(DropReason::SpoolFull, 2), (DropReason::RecorderBehind, 3)],
            rejected: 4,
            batches: 5,
            attempts,
            adopted_left: AdoptedLeft::default(),
            adopted_frames: 0,
            adopted_dropped: 0,
        };
        let mut report =
            Report { captured: 19, own_frames: 0, drains: vec![drain(9, 5), drain(8, 7), drain(9, 5)] };
        assert_eq!(
            report.summary("held", |drain| Duration::from_millis(drain.get() as u64 * 1999)),
            "captured=19 delivered=8 held=1 dropped=5 rejected=4 retries=2 oldest=1s"
        );
        assert_eq!((report.drains[0].dropped_lines(), report.drains[0].missing()), (5, 10));
        report.drains.clear();
        assert_eq!(report.summary("held", |_| Duration::ZERO), "captured=19");
    }

    #[test]
    fn the_ledger_file_is_pretty_json_in_a_stable_order() {
        let report = Report {
            captured: 9,
            own_frames: 2,
            drains: vec![DrainReport {
                drain: "https://drain.example \"a\"".to_owned(),
                delivered: 3,
                held: 2,
                dropped: vec![(DropReason::SpoolFull, 1), (DropReason::RecorderBehind, 2)],
                rejected: 1,
                batches: 4,
                attempts: 6,
                adopted_left: AdoptedLeft { lines: 7, bytes: 700 },
                adopted_frames: 5,
                adopted_dropped: 7,
            }],
        };
        let expected = r#"{
  "agent": "00ff",
  "captured_lines": 9,
  "own_frames": 2,
  "drains": [
    {
      "drain": "https://drain.example \"a\"",
      "delivered_lines": 3,
      "held_lines": 2,
      "dropped_lines": 3,
      "dropped": {
        "spool-full": 1,
        "recorder-behind": 2
      },
      "rejected_lines": 1,
      "batches": 4,
      "attempts": 6,
      "adopted_held_lines": 7,
      "adopted_frames": 5,
      "adopted_dropped_lines": 7
    }
  ]
}
"#;
        assert_eq!(report.json("00ff"), expected);
    }
}
