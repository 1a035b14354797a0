//! Reading the spool: whole frames from an offset on, across segments.

use super::SEGMENT_BYTES;
use super::directory::open_regular;
use crate::frame::{self, ParseErrorKind};
use crate::ledger::{BatchRange, Offset, SegmentLocation, SegmentStart};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Why the spool cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum ReadError {
    /// There is no frame at this offset.
    Damaged {
        /// Offset in the spool.
        at: Offset,
    },
    /// No segment holds this offset: it was dropped meanwhile, or somebody removed its file.
    Gone {
        /// Offset in the spool.
        at: Offset,
    },
    /// Reading failed.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { at } => write!(f, "no frame at offset {at} of the spool"),
            Self::Gone { at } => write!(f, "no segment holds offset {at} of the spool"),
            Self::Io(error) => write!(f, "cannot read the spool: {error}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Io(error) = self { Some(error) } else { None }
    }
}

/// A segment as the reader knows it: the end of one is the start of the next.
#[derive(Debug)]
struct KnownSegment {
    start: Offset,
    /// None for a stretch that is gone.
    location: Option<SegmentLocation>,
}

/// The segment file that is open.
#[derive(Debug)]
struct OpenFile {
    start: Offset,
    file: File,
}

/// A piece of a segment to be read into a body.
#[derive(Clone, Copy)]
struct Piece {
    /// Index behind the segment in the list of known ones.
    index: usize,
    /// Offset of its first byte.
    at: Offset,
    /// Where it goes in the body.
    into: usize,
    /// Bytes wanted.
    len: usize,
}

/// Frames at the start of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct WholeFrames {
    bytes: usize,
    frames: u64,
}

/// When this many segments are known, those that are gone are looked for and merged.
const MAX_KNOWN: usize = 512;

/// One consumer of the spool.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    known: VecDeque<KnownSegment>,
    open: Option<OpenFile>,
    memory: Option<File>,
    /// Known segments from which on they are merged next; at least [`MAX_KNOWN`].
    merge_at: usize,
}

impl Reader {
    /// A reader that knows no segment yet; `memory` is the memory file.
    pub(crate) fn new(memory: Option<File>) -> Self {
        Self { memory, ..Self::default() }
    }

    /// A segment was opened behind all others.
    pub(crate) fn add(&mut self, segment: SegmentStart) {
        let SegmentStart { start, location } = segment;
        self.known.retain(|known| known.start < start);
        self.known.push_back(KnownSegment { start, location: Some(location) });
        if self.known.len() > self.merge_at.max(MAX_KNOWN) {
            self.merge_gone();
            self.merge_at = self.known.len() * 2;
        }
    }

    /// In a long outage the oldest segments are dropped one by one: a stretch of them needs one entry.
    fn merge_gone(&mut self) {
        for known in &mut self.known {
            let file = &known.location;
            if matches!(file, Some(SegmentLocation::File(path)) if std::fs::symlink_metadata(path).is_err()) {
                known.location = None;
            }
        }
        let mut in_gap = false;
        self.known.retain(|known| {
            let was_in_gap = std::mem::replace(&mut in_gap, known.location.is_none());
            !(in_gap && was_in_gap)
        });
    }

    /// Adds those of `segments`, which ascend, that are not known yet, and forgets those wholly before `cursor`.
    pub(crate) fn update(&mut self, segments: &[SegmentStart], cursor: Offset) {
        let last = self.last();
        let new = segments.partition_point(|segment| last.is_some_and(|last| segment.start <= last));
        for segment in &segments[new..] {
            self.add(segment.clone());
        }
        while self.known.get(1).is_some_and(|next| next.start <= cursor) {
            self.known.pop_front();
        }
    }

    /// Where the last known segment starts.
    pub(crate) fn last(&self) -> Option<Offset> {
        self.known.back().map(|known| known.start)
    }

    /// Reads whole frames from offset `from` on: at most `max` bytes of them (but at least one frame), none that
    /// reaches beyond `limit`. They replace what `body` holds, whose old bytes spare the zeroing of new ones. A range
    /// without frames means that nothing is there yet.
    ///
    /// # Errors
    /// [`ReadError`]; `body` is empty then.
    pub(crate) fn read(
        &mut self,
        from: Offset,
        limit: Offset,
        max: usize,
        body: &mut BytesMut,
    ) -> Result<BatchRange, ReadError> {
        let result = self.read_segments(from, limit, max, body);
        body.truncate(result.as_ref().map_or(0, |range| (range.end - from) as usize));
        result
    }

    fn read_segments(
        &mut self,
        from: Offset,
        limit: Offset,
        max: usize,
        body: &mut BytesMut,
    ) -> Result<BatchRange, ReadError> {
        let mut range = BatchRange { start: from, end: from, frames: 0 };
        loop {
            let at = range.end;
            let into = (at - from) as usize;
            let index = self.known.partition_point(|known| known.start <= at);
            let end = self.readable_end(index, limit);
            let room = max.saturating_sub(into);
            let want = if range.frames == 0 { room.max(frame::MAX_FRAME) } else { room };
            let len = (want as u64).min(end.bytes_since(at)).min(SEGMENT_BYTES) as usize;
            if len == 0 {
                return Ok(range);
            }
            let got = self.fill(Piece { index, at, into, len }, body)?;
            let must_fit = if range.frames == 0 { Fit::AtLeastOne } else { Fit::Room };
            let whole = whole_frames(&body[into..into + got], room, must_fit)
                .map_err(|offset| ReadError::Damaged { at: at + offset as u64 })?;
            range.frames += whole.frames;
            range.end = at + whole.bytes as u64;
            let ends_inside_a_frame =
                whole.frames == 0 && self.known.get(index).is_some_and(|next| next.start - at == got as u64);
            if ends_inside_a_frame {
                return Err(ReadError::Damaged { at });
            }
            if whole.frames == 0 || range.end < end {
                return Ok(range);
            }
        }
    }

    /// Up to where the segment before `index` can be read.
    fn readable_end(&self, index: usize, limit: Offset) -> Offset {
        let end = self.known.get(index).map_or(limit, |next| next.start.min(limit));
        match index.checked_sub(1).and_then(|index| self.known.get(index)) {
            // Behind it is another slot.
            Some(KnownSegment { start, location: Some(SegmentLocation::Memory(_)) }) => {
                end.min(*start + SEGMENT_BYTES)
            }
            _ => end,
        }
    }

    /// Reads a piece into the body; returns how many bytes there were.
    fn fill(&mut self, piece: Piece, body: &mut BytesMut) -> Result<usize, ReadError> {
        let Piece { index, at, into, len } = piece;
        let known =
            index.checked_sub(1).and_then(|index| self.known.get(index)).ok_or(ReadError::Gone { at })?;
        let (file, base) = match &known.location {
            None => return Err(ReadError::Gone { at }),
            Some(SegmentLocation::Memory(slot)) => {
                (self.memory.as_ref().ok_or(ReadError::Gone { at })?, u64::from(*slot) * SEGMENT_BYTES)
            }
            Some(SegmentLocation::File(path)) => {
                let open = match self.open.take().filter(|open| open.start == known.start) {
                    Some(open) => open,
                    None => OpenFile { start: known.start, file: open_segment(path, at)? },
                };
                (&self.open.insert(open).file, 0)
            }
        };
        if body.len() < into + len {
            body.resize(into + len, 0);
        }
        let mut got = 0;
        while got < len {
            let space = &mut body[into + got..into + len];
            match file.read_at(space, base + (at - known.start) + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
        Ok(got)
    }
}

/// Opens the file of a segment in which `at` is. What stands there instead of it, such as a FIFO, is not waited for.
fn open_segment(path: &Path, at: Offset) -> Result<File, ReadError> {
    open_regular(path, OpenOptions::new().read(true)).map_err(|error| match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => ReadError::Gone { at },
        Err(_) if error.kind() == io::ErrorKind::NotFound => ReadError::Gone { at },
        _ => ReadError::Io(error),
    })
}

/// Which frames are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Those that fit in the room.
    Room,
    /// The first in any case, then those that fit.
    AtLeastOne,
}

/// The whole frames at the start of `bytes` that fit in `room`. A frame that is cut short at the end is not there
/// yet, and a NUL ends the segment.
///
/// # Errors
/// Where the first frame should be and none is.
fn whole_frames(bytes: &[u8], room: usize, fit: Fit) -> Result<WholeFrames, usize> {
    let mut whole = WholeFrames::default();
    while whole.bytes < bytes.len() {
        match frame::span(bytes, whole.bytes) {
            Ok((_, end)) if bytes[end - 1] != b'\n' => {
                // A damaged LEN leads anywhere.
                return if whole.frames > 0 { Ok(whole) } else { Err(whole.bytes) };
            }
            Ok((_, end)) if end <= room || (fit == Fit::AtLeastOne && whole.frames == 0) => {
                whole.bytes = end;
                whole.frames += 1;
            }
            Ok(_) => break,
            Err(error) if error.kind == ParseErrorKind::Truncated => break,
            Err(_) if bytes[whole.bytes] == 0 => break,
            Err(_) if whole.frames > 0 => break, // the good ones go out; the next read meets the rest
            Err(error) => return Err(error.offset),
        }
    }
    Ok(whole)
}
