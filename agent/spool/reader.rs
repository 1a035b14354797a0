//! Reading the spool: whole frames from an offset on, across segments.

use super::SEGMENT;
use crate::frame::{self, ParseErrorKind};
use crate::ledger::SegmentLocation;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Why bytes cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// What stands at this offset is not a frame.
    Damaged {
        /// Offset in the spool.
        at: u64,
    },
    /// No segment holds this offset: it was dropped meanwhile, or its file was removed by somebody.
    Gone {
        /// Offset in the spool.
        at: u64,
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

/// A segment as the reader knows it: it learns of a segment's end by the start of the next one.
#[derive(Debug)]
struct KnownSegment {
    start: u64,
    /// None for a stretch that is gone.
    place: Option<SegmentLocation>,
}

/// So many segments may be known before it is looked which of them are gone.
const MANY: usize = 512;

/// One consumer of the spool.
#[derive(Debug, Default)]
pub struct Reader {
    known: VecDeque<KnownSegment>,
    open: Option<(u64, File)>,
    memory: Option<File>,
    many: usize,
}

impl Reader {
    /// A reader that knows no segment yet; `memory` is the memory file.
    pub fn new(memory: Option<File>) -> Self {
        Self { memory, ..Self::default() }
    }

    /// A segment was opened behind all others.
    pub fn add(&mut self, start: u64, place: SegmentLocation) {
        self.known.retain(|known| known.start < start);
        self.known.push_back(KnownSegment { start, place: Some(place) });
        if self.known.len() > self.many.max(MANY) {
            self.merge_gone();
            self.many = self.known.len() * 2;
        }
    }

    /// In a long outage the oldest segments are dropped one by one: a stretch of them needs one entry.
    fn merge_gone(&mut self) {
        for known in &mut self.known {
            if matches!(&known.place, Some(SegmentLocation::File(path)) if std::fs::symlink_metadata(path).is_err())
            {
                known.place = None;
            }
        }
        let mut in_gap = false;
        self.known.retain(|known| {
            let was_in_gap = std::mem::replace(&mut in_gap, known.place.is_none());
            !(in_gap && was_in_gap)
        });
    }

    /// Learns of those of `segments`, which ascend, that are new and not wholly before `offset`.
    pub fn learn(&mut self, segments: &[(u64, SegmentLocation)], offset: u64) {
        let last = self.known.back().map(|known| known.start);
        let new = segments.partition_point(|(start, _)| last.is_some_and(|last| *start <= last));
        for (start, place) in &segments[new..] {
            self.add(*start, place.clone());
        }
        self.forget_before(offset);
    }

    /// Where the last known segment starts.
    pub fn last(&self) -> Option<u64> {
        self.known.back().map(|known| known.start)
    }

    /// Nothing before `offset` will be read again.
    pub fn forget_before(&mut self, offset: u64) {
        while self.known.get(1).is_some_and(|next| next.start <= offset) {
            self.known.pop_front();
        }
    }

    /// Reads whole frames from offset `from` on: at most `max` bytes of them (but one frame at least), none that
    /// reaches over `limit`. They replace what `body` holds; its old bytes spare the zeroing of new ones. Returns
    /// the offset behind the frames and how many they are; none when nothing is there yet.
    ///
    /// # Errors
    /// [`ReadError`]; `body` is empty then.
    pub fn read(
        &mut self,
        from: u64,
        limit: u64,
        max: usize,
        body: &mut BytesMut,
    ) -> Result<(u64, u64), ReadError> {
        let result = self.read_on(from, limit, max, body);
        body.truncate(result.as_ref().map_or(0, |(end, _)| (end - from) as usize));
        result
    }

    fn read_on(
        &mut self,
        from: u64,
        limit: u64,
        max: usize,
        body: &mut BytesMut,
    ) -> Result<(u64, u64), ReadError> {
        let (mut at, mut frames) = (from, 0);
        loop {
            let here = (at - from) as usize;
            let index = self.known.partition_point(|known| known.start <= at);
            let mut end = self.known.get(index).map_or(limit, |next| next.start.min(limit));
            if let Some(KnownSegment { start, place: Some(SegmentLocation::Memory(_)) }) =
                self.known.get(index.wrapping_sub(1))
            {
                end = end.min(start + SEGMENT); // another slot is behind it
            }
            let room = max.saturating_sub(here);
            let want = if frames == 0 { room.max(frame::MAX_FRAME) } else { room };
            let want = (want as u64).min(end.saturating_sub(at)).min(SEGMENT) as usize;
            if want == 0 {
                return Ok((at, frames));
            }
            let got = self.fill(index, at, here, want, body)?;
            let (len, count) = whole_frames(&body[here..here + got], room, frames == 0)
                .map_err(|offset| ReadError::Damaged { at: at + offset as u64 })?;
            frames += count;
            at += len as u64;
            if count == 0 && self.known.get(index).is_some_and(|next| next.start - at == got as u64) {
                return Err(ReadError::Damaged { at }); // the segment ends inside a frame
            }
            if count == 0 || at < end {
                return Ok((at, frames));
            }
        }
    }

    /// Reads up to `want` bytes at `at` to `here` in `body`; says how many.
    fn fill(
        &mut self,
        index: usize,
        at: u64,
        here: usize,
        want: usize,
        body: &mut BytesMut,
    ) -> Result<usize, ReadError> {
        let known =
            index.checked_sub(1).and_then(|index| self.known.get(index)).ok_or(ReadError::Gone { at })?;
        let (file, base) = match &known.place {
            None => return Err(ReadError::Gone { at }),
            Some(SegmentLocation::Memory(slot)) => {
                (self.memory.as_ref().ok_or(ReadError::Gone { at })?, u64::from(*slot) * SEGMENT)
            }
            Some(SegmentLocation::File(path)) => {
                if self.open.as_ref().is_none_or(|(start, _)| *start != known.start) {
                    let file = File::open(path).map_err(|error| match error.kind() {
                        io::ErrorKind::NotFound => ReadError::Gone { at },
                        _ => ReadError::Io(error),
                    })?;
                    self.open = Some((known.start, file));
                }
                match &self.open {
                    Some((_, file)) => (file, 0),
                    None => return Err(ReadError::Gone { at }),
                }
            }
        };
        if body.len() < here + want {
            body.resize(here + want, 0);
        }
        let mut got = 0;
        while got < want {
            let space = &mut body[here + got..here + want];
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

/// Length and number of the whole frames at the start of `bytes` that fit in `room`, or of the first one when
/// it `must` go. A frame that is cut short at the end is not there yet, and where a NUL stands there is no more.
fn whole_frames(bytes: &[u8], room: usize, must: bool) -> Result<(usize, u64), usize> {
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        match frame::span(bytes, at) {
            Ok((_, end)) if end <= room || (must && count == 0) => {
                at = end;
                count += 1;
            }
            Ok(_) => break,
            Err(error) if error.kind == ParseErrorKind::Truncated => break,
            Err(_) if bytes[at] == 0 => break,
            Err(_) if count > 0 => break, // what is good goes out; the next read meets the rest
            Err(error) => return Err(error.offset),
        }
    }
    Ok((at, count))
}
