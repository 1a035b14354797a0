//! What reaches the recorder: chunks and gaps of the app's output, and lines of our own.

use super::buffer_pool::{BUFFERS, Buffer};
use crate::frame::AgentLine;
use crate::line::Stream;
use std::sync::Arc;

/// Bytes that passed by without being recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// LFs in them.
    pub newlines: u64,
    /// Whether the last byte is an LF.
    pub ends_line: bool,
    /// Time of the first byte, in µs since the Unix epoch.
    pub since: u64,
    /// Time of the last byte, in µs since the Unix epoch.
    pub until: u64,
}

impl Gap {
    /// The gap that `bytes`, read at `now`, leave behind.
    pub fn of(bytes: &[u8], now: u64) -> Self {
        Self {
            newlines: memchr::memchr_iter(b'\n', bytes).count() as u64,
            ends_line: bytes.last() == Some(&b'\n'),
            since: now,
            until: now,
        }
    }

    /// ExtraLine bytes behind these.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self {
            newlines: self.newlines + more.newlines,
            ends_line: more.ends_line,
            since: self.since,
            until: more.until,
        }
    }
}

/// From pump to recorder.
#[derive(Debug)]
pub enum Input {
    /// The app runs: the spool may be opened.
    Start,
    /// A chunk, read at `now` in µs since the Unix epoch, and what went by before it unrecorded.
    Chunk {
        /// Of which stream.
        stream: Stream,
        /// Its bytes.
        bytes: Arc<Buffer>,
        /// When it was read.
        now: u64,
        /// What is missing before it.
        gap: Option<Gap>,
    },
    /// The first lines of our own: nothing is complete without them.
    FirstLines(Vec<AgentLine>),
    /// Lines of our own, and the place that they hold while they wait.
    AgentLines(Vec<AgentLine>, Permits),
    /// The last lines of our own, to stand behind everything that the app said.
    LastLines(Vec<AgentLine>),
    /// The stream ended.
    End {
        /// Which one.
        stream: Stream,
        /// What is missing at its end.
        gap: Option<Gap>,
    },
}

/// A place for lines of our own on the way to the recorder. They come whether the recorder works or not, and must not
/// take the permits of the app's: those are as many as there are buffers.
pub type Permits = Arc<()>;

/// Lines of our own that may wait at once.
const OWN: usize = 16;
/// Inputs that may wait at once: every buffer, both ends, the start, the greeting, the word of the stop, the farewell,
/// and our own.
pub const INPUTS: usize = BUFFERS + 6 + OWN;

/// Another place, of all that are `permits`; none when so many wait that something must be wrong.
pub fn permit(permits: &Permits) -> Option<Permits> {
    (Arc::strong_count(permits) <= OWN).then(|| Arc::clone(permits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_for_our_own_are_bounded_and_free_again() {
        let permits = Permits::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| permit(&permits)).collect();
        assert_eq!(taken.len(), OWN);
        taken.pop();
        assert!(permit(&permits).is_some());
    }
}
