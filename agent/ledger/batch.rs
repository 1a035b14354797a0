//! Batches: a range of frames for one drain, sealed before its first attempt.

use super::Offset;

/// A range of the spool that holds whole frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchRange {
    /// Offset of the first byte.
    pub start: Offset,
    /// Offset behind the last byte.
    pub end: Offset,
    /// Frames in the range.
    pub frames: u64,
}

/// A sealed batch: the same on every attempt and after every restart of the shipper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedBatch {
    /// Its frames, without the notice.
    pub range: BatchRange,
    /// The loss notices that precede them: whole frames, or nothing.
    pub notice: Vec<u8>,
    /// `Logplex-Frame-Id`.
    pub id: String,
}

/// Whose batch is sealed, for its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    /// The id of the agent.
    pub agent: &'a str,
    /// The drain's token.
    pub drain: &'a str,
}

impl Identity<'_> {
    /// 32 upper-case hex digits: the first half of SHA-256 over agent, drain, range and notice. Logplex's own
    /// ids have that form (heroku/logplex `src/logplex_http_drain.erl`, `frame_id`).
    pub(super) fn frame_id(self, start: u64, end: u64, notice: &[u8]) -> String {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for part in
            [self.agent.as_bytes(), self.drain.as_bytes(), &start.to_le_bytes(), &end.to_le_bytes(), notice]
        {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finish().as_ref()[..16].iter().fold(String::with_capacity(32), |mut id, byte| {
            for nibble in [byte >> 4, byte & 15] {
                id.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
            id
        })
    }
}

/// Where a drain may seal its next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealRange {
    /// Where the batch starts.
    pub cursor: Offset,
    /// Where it ends at the latest.
    pub limit: Offset,
    /// What is between the two was sealed by a dead agent: it is one batch, whatever its size.
    pub is_one_batch: bool,
}

/// How a sealed batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchOutcome {
    /// The drain has it.
    Delivered,
    /// The drain refused it for good.
    Rejected,
}
