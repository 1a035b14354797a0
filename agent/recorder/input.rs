//! What reaches the recorder: chunks and gaps of the app's output, and lines of the agent itself.

use super::buffer_pool::{Buffer, MAX_BUFFERS};
use crate::frame::{AgentLine, Timestamp};
use crate::line::Stream;
use std::sync::Arc;

/// Bytes of a stream that were not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// How many.
    pub bytes: u64,
    /// LFs in them.
    pub newlines: u64,
    /// Whether the last byte is an LF.
    pub ends_line: bool,
    /// When the first byte was read.
    pub since: Timestamp,
    /// When the last byte was read.
    pub until: Timestamp,
}

impl Gap {
    /// The gap that `bytes`, read at `now`, leave.
    pub(crate) fn of(bytes: &[u8], now: Timestamp) -> Self {
        Self {
            bytes: bytes.len() as u64,
            newlines: memchr::memchr_iter(b'\n', bytes).count() as u64,
            ends_line: bytes.last() == Some(&b'\n'),
            since: now,
            until: now,
        }
    }

    /// This gap and the one that follows it directly.
    #[must_use]
    pub(crate) fn joined(self, next: Self) -> Self {
        Self {
            bytes: self.bytes + next.bytes,
            newlines: self.newlines + next.newlines,
            ends_line: next.ends_line,
            since: self.since,
            until: next.until,
        }
    }
}

/// A message to the recorder.
#[derive(Debug)]
pub(crate) enum Input {
    /// The app runs: the spool may be opened.
    Start,
    /// A chunk, and what was lost before it. It is empty when nothing came behind that yet.
    Chunk {
        /// The stream it is of.
        stream: Stream,
        /// Its bytes.
        bytes: Arc<Buffer>,
        /// When it was read.
        now: Timestamp,
        /// What was not recorded before it.
        gap: Option<Gap>,
    },
    /// The first lines of the agent. They are always sent, also empty: the recorder waits for them.
    FirstLines(Vec<AgentLine>),
    /// Lines of the agent, and the permit that they hold while they wait.
    AgentLines(Vec<AgentLine>, Permits),
    /// The last lines of the agent: they follow everything that the app wrote. Always sent.
    LastLines(Vec<AgentLine>),
    /// A stream ended.
    End {
        /// The stream.
        stream: Stream,
        /// What was not recorded at its end.
        gap: Option<Gap>,
    },
}

impl Input {
    /// Bytes of the app in it, also those of its gap.
    pub(crate) fn bytes(&self) -> u64 {
        let (bytes, gap) = match self {
            Self::Chunk { bytes, gap, .. } => (bytes.len() as u64, gap),
            Self::End { gap, .. } => (0, gap),
            Self::Start | Self::FirstLines(_) | Self::AgentLines(..) | Self::LastLines(_) => return 0,
        };
        bytes + gap.map_or(0, |gap| gap.bytes)
    }
}

/// Permits for agent lines in the recorder's queue; each clone of the first is one. App chunks have one slot per
/// buffer; agent lines hold at most [`MAX_PERMITS`], so they can never take a chunk's slot.
pub(crate) type Permits = Arc<()>;

/// Inputs of agent lines in the queue at most.
const MAX_PERMITS: usize = 16;
/// Slots of the recorder's queue: one per buffer, one per permit, and six for the inputs that come once: the start,
/// the first lines, the line about the stop, the last lines, and the ends of both streams.
pub(crate) const QUEUE_SLOTS: usize = MAX_BUFFERS + 6 + MAX_PERMITS;

/// Another permit; none when all are in use, because the recorder does not keep up.
pub(crate) fn permit(permits: &Permits) -> Option<Permits> {
    (Arc::strong_count(permits) <= MAX_PERMITS).then(|| Arc::clone(permits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_and_can_be_used_again() {
        let permits = Permits::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| permit(&permits)).collect();
        assert_eq!(taken.len(), MAX_PERMITS);
        taken.pop();
        assert!(permit(&permits).is_some());
    }
}
