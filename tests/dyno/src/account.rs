//! What the three witnesses say: the agent's ledger, the test drain's report, and what the dyno printed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// What the test drain saw (`GET /report` of its control).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Drain {
    /// Requests.
    pub requests: u64,
    /// Frames, those of the agent itself included.
    pub frames: u64,
    /// Lines of the app.
    pub lines: u64,
    /// Batches that came again under their id.
    pub duplicates: u64,
    /// Batches that came again with another body.
    pub changed_bodies: u64,
    /// Batches of which `Logplex-Msg-Count` was not the number of frames.
    pub count_mismatches: u64,
    /// Bodies that are not frames.
    pub malformed: u64,
    /// What loss notices announced.
    pub losses: Losses,
    /// Frames with an older time than the one before them.
    pub out_of_order: u64,
    /// From a frame's time to its arrival, in milliseconds.
    pub lag_ms: Lag,
    /// What receivers of each personality object to.
    pub conformance: BTreeMap<String, Conformance>,
}

/// What loss notices announced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Losses {
    /// Notices.
    pub notices: u64,
    /// Lines that they speak of.
    pub lines: u64,
}

/// Percentiles, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Lag {
    /// Half are below.
    pub p50: f64,
    /// 95 of 100 are below.
    pub p95: f64,
    /// None is above.
    pub max: f64,
}

/// What one personality objects to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Conformance {
    /// How often it objected.
    pub errors: u64,
    /// What it said last.
    pub last: serde_json::Value,
}

/// What came out of the dyno itself, by the agent's own splitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Printed {
    /// Lines.
    pub lines: u64,
    /// Frames that they fill when no line stands still half-way.
    pub frames: u64,
}
