//! Segments as the ledger knows them: ranges of frames, and kinds on those that are not a line in one frame.

use crate::frame::DropReason;
use crate::line::{Fragment, Stream};
use std::path::PathBuf;

/// What a frame is when it is not a line in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Made by the agent itself: no line.
    Agent,
    /// A part of a line of which more may follow.
    Partial(Stream),
    /// The last frame of a line that needed several.
    Final(Stream),
    /// The last frame of a line whose rest was dropped before it was recorded.
    Incomplete(Stream, DropReason),
}

impl FrameKind {
    /// The kind of a message of `stream`; none for a line in one frame.
    pub fn of(piece: Fragment, stream: Stream) -> Option<Self> {
        match piece {
            Fragment::Full | Fragment::EmptyFinal => None,
            Fragment::Partial => Some(Self::Partial(stream)),
            Fragment::Final => Some(Self::Final(stream)),
        }
    }

    pub(super) fn stream(self) -> Option<Stream> {
        match self {
            Self::Agent => None,
            Self::Partial(stream) | Self::Final(stream) | Self::Incomplete(stream, _) => Some(stream),
        }
    }
}

/// Where the bytes of a segment are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentLocation {
    /// A file.
    File(PathBuf),
    /// A slot of the memory segments.
    Memory(u8),
}

/// A stretch of the spool: a file or a slot of memory, named by the offset of its first byte.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Offset of the first byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Whole frames.
    pub frames: u64,
    /// Time of the first and of the last frame, in µs since the Unix epoch.
    pub times: Option<(u64, u64)>,
    /// Where it is.
    pub place: SegmentLocation,
    /// The dead agent that wrote it, when it was adopted: its frames are no lines of ours.
    pub origin: Option<std::sync::Arc<Origin>>,
    pub(super) kinds: Vec<(u32, FrameKind)>,
}

/// A dead agent whose spool was adopted.
#[derive(Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its id: frame ids of its batches are hashed from it.
    pub agent: String,
    /// What is added to an offset in its spool to get the offset in ours.
    pub shift: u64,
}

impl Segment {
    /// An empty segment of our own.
    pub fn new(start: u64, place: SegmentLocation) -> Self {
        Self { start, len: 0, frames: 0, times: None, place, origin: None, kinds: Vec::new() }
    }

    /// Offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    pub(super) fn kinds_in(&self, from: u64, to: u64) -> &[(u32, FrameKind)] {
        let index = |at: u64| {
            let at = at.clamp(self.start, self.end()) - self.start;
            self.kinds.partition_point(|(offset, _)| u64::from(*offset) < at)
        };
        &self.kinds[index(from)..index(to)]
    }
}

/// What the recorder appended in one write.
#[derive(Debug, Default)]
pub struct Appended {
    /// Bytes written to the last segment.
    pub len: u64,
    /// Frames in them.
    pub frames: u64,
    /// Marks by offset from the first of these bytes, ascending.
    pub kinds: Vec<(u32, FrameKind)>,
    /// Lines that ended.
    pub ended: u64,
    /// A line whose parts were appended earlier turned out to have ended with its last part.
    pub closed: Vec<FrameKind>,
    /// Time of the first and of the last frame, in µs since the Unix epoch.
    pub times: Option<(u64, u64)>,
}
