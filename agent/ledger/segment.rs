//! Segments as the ledger knows them: byte ranges of the spool, their frame counts, and which frames are special.

use super::{Consumed, Offset};
use crate::frame::{DropReason, Loss, Timestamp};
use crate::line::{Fragment, PerStream, Stream};
use std::path::PathBuf;
use std::sync::Arc;

/// What a frame is when it is not a whole line of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
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
    /// The kind of a message of `stream`; none for a whole line.
    pub(crate) fn of(fragment: Fragment, stream: Stream) -> Option<Self> {
        match fragment {
            Fragment::Full | Fragment::EmptyFinal => None,
            Fragment::Partial => Some(Self::Partial(stream)),
            Fragment::Final => Some(Self::Final(stream)),
        }
    }

    /// The stream of the line; none for the agent's own.
    pub(crate) fn stream(self) -> Option<Stream> {
        match self {
            Self::Agent => None,
            Self::Partial(stream) | Self::Final(stream) | Self::Incomplete(stream, _) => Some(stream),
        }
    }

    /// Whether a line ends with this frame.
    pub(super) fn ends_line(self) -> bool {
        !matches!(self, Self::Agent | Self::Partial(_))
    }

    /// Whether a line of `stream` ends with this frame.
    pub(super) fn ends_line_of(self, stream: Stream) -> bool {
        matches!(self, Self::Final(s) | Self::Incomplete(s, _) if s == stream)
    }
}

/// A frame that is not a whole line of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpecialFrame {
    /// Bytes from the start of the segment, or of what was appended, to the frame.
    pub offset: u32,
    /// What it is.
    pub kind: FrameKind,
}

/// A loss notice in the spool. Where it is dropped or rejected, what it announces is announced anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpooledNotice {
    /// Bytes from the start of the segment, or of what was appended, to its frame.
    pub offset: u32,
    /// What it announces.
    pub loss: Loss,
}

/// What is in a segment of a dead agent, for when it is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AdoptedContent {
    /// Where the lines of its app start, in bytes from its start. Each frame of a long line counts.
    pub lines: Vec<u32>,
    /// The loss notices.
    pub notices: Vec<SpooledNotice>,
    /// The times of the first and of the last line.
    pub times: Option<TimeRange>,
}

/// Where the bytes of a segment are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SegmentLocation {
    /// A file.
    File(PathBuf),
    /// A slot of the memory file.
    Memory(u8),
}

/// Where a segment starts, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentStart {
    /// Offset of its first byte.
    pub start: Offset,
    /// Where it is.
    pub location: SegmentLocation,
}

/// The times of the first and of the last frame of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeRange {
    /// That of the first frame.
    pub first: Timestamp,
    /// That of the last frame.
    pub last: Timestamp,
}

impl TimeRange {
    /// Both ranges as one, this one being the earlier.
    #[must_use]
    pub(crate) fn extended(earlier: Option<Self>, later: Self) -> Self {
        Self { first: earlier.map_or(later.first, |earlier| earlier.first), last: later.last }
    }
}

/// A range of the spool in one file or slot of memory, named by the offset of its first byte.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Offset of the first byte.
    pub start: Offset,
    /// Bytes.
    pub len: u64,
    /// Whole frames. For adopted segments as the checkpoint says, or 0.
    pub frames: u64,
    /// The times of its frames. Not known for adopted segments, unless they are to be dropped.
    pub times: Option<TimeRange>,
    /// Where it is.
    pub location: SegmentLocation,
    /// The dead agent that wrote it, when it was adopted: its frames are no lines of ours.
    pub origin: Option<Arc<Origin>>,
    /// Of an adopted segment that is to be dropped: where the lines of its app start, in bytes from its start.
    pub(super) adopted_lines: Option<Vec<u32>>,
    /// Of an adopted segment: its lines, as the checkpoint says.
    pub recorded_lines: u64,
    /// Of an adopted segment: its lines of several frames, as the checkpoint says.
    pub recorded_long_lines: PerStream<LongLines>,
    /// Ascending by offset.
    pub(super) special: Vec<SpecialFrame>,
    /// Ascending by offset.
    pub notices: Vec<SpooledNotice>,
}

/// Whether one segment has parts of a stream's lines of several frames, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LongLines {
    /// A line ends in it. The first that does may have begun before it.
    pub ends: bool,
    /// A line goes on behind it, or has no end.
    pub goes_on: bool,
}

impl LongLines {
    /// Lines of both streams that go on behind the segment.
    pub(super) fn going_on(of: PerStream<Self>) -> u64 {
        of.iter().filter(|long| long.goes_on).count() as u64
    }

    /// Both streams as one digit: 1 and 2 for standard output, 4 and 8 for standard error.
    pub(crate) fn to_bits(of: PerStream<Self>) -> u8 {
        let bits = |long: Self| u8::from(long.ends) | u8::from(long.goes_on) << 1;
        bits(of.out) | bits(of.err) << 2
    }

    /// The inverse of [`LongLines::to_bits`]. Higher bits are ignored.
    pub(crate) fn from_bits(bits: u8) -> PerStream<Self> {
        let of = |bits: u8| Self { ends: bits & 1 != 0, goes_on: bits & 2 != 0 };
        PerStream { out: of(bits), err: of(bits >> 2) }
    }
}

/// What the checkpoint says of a segment, for the agent that adopts it: how much is missing where its file is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    /// Offset of the first byte.
    pub start: Offset,
    /// Bytes.
    pub len: u64,
    /// Whole frames.
    pub frames: u64,
    /// Lines of the app that end in it.
    pub lines: u64,
    /// Its lines of several frames.
    pub long_lines: PerStream<LongLines>,
    /// The times of its frames.
    pub times: Option<TimeRange>,
    /// The loss notices in it: what they announce is announced anew where they are missing. Ascending by offset.
    pub notices: Vec<SpooledNotice>,
}

impl SegmentRecord {
    /// Loss notices of one segment at most. Of more, the earlier ones are added to later ones.
    const MAX_NOTICES: usize = 16;

    /// That of a segment of which nothing is known but its start.
    pub(crate) fn empty(start: Offset) -> Self {
        Self {
            start,
            len: 0,
            frames: 0,
            lines: 0,
            long_lines: PerStream::default(),
            times: None,
            notices: Vec::new(),
        }
    }
}

/// The same losses in few notices. Where a drain consumed some of those that are added up, too many are announced, not
/// too few.
fn few(notices: &[SpooledNotice]) -> Vec<SpooledNotice> {
    let (earlier, later) = notices.split_at(notices.len().saturating_sub(SegmentRecord::MAX_NOTICES));
    let mut few = later.to_vec();
    for notice in earlier.iter().rev() {
        match few.iter_mut().find(|later| later.loss.reason == notice.loss.reason) {
            Some(later) => {
                later.loss.lines += notice.loss.lines;
                later.loss.since = later.loss.since.min(notice.loss.since);
            }
            None => few.insert(0, *notice),
        }
    }
    few
}

/// A dead agent whose spool was adopted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Its id: frame ids of its batches are hashed from it.
    pub agent: String,
    /// Bytes to add to an offset in its spool to get the offset in ours.
    pub shift: u64,
}

impl Segment {
    /// An empty segment of our own.
    pub(crate) fn new(start: Offset, location: SegmentLocation) -> Self {
        Self {
            start,
            len: 0,
            frames: 0,
            times: None,
            location,
            origin: None,
            adopted_lines: None,
            recorded_lines: 0,
            recorded_long_lines: PerStream::default(),
            special: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Whether the lines in it must be counted before it is dropped ([`super::Ledger::count_adopted`]).
    pub(crate) fn is_uncounted(&self) -> bool {
        self.origin.is_some() && self.adopted_lines.is_none()
    }

    /// Lines of a dead agent's app from `from` on, `consumed` being before that: counted, or what the checkpoint leaves at
    /// most. Also those that go on behind the segment.
    pub(super) fn adopted_lines_from(&self, from: Offset, consumed: Consumed) -> u64 {
        let before = from.bytes_since(self.start);
        let counted = self
            .adopted_lines
            .as_ref()
            .map(|lines| (lines.len() - lines.partition_point(|at| u64::from(*at) < before)) as u64);
        // What is counted are frames: a long line has several.
        let is_recorded = self.frames > 0;
        let recorded = is_recorded.then(|| {
            let lines = self.recorded_lines_and_parts().saturating_sub(consumed.lines);
            lines.min(self.frames.saturating_sub(consumed.frames))
        });
        match (counted, recorded) {
            (Some(counted), Some(recorded)) => counted.min(recorded),
            (counted, recorded) => counted.or(recorded).unwrap_or(0),
        }
    }

    /// Of an adopted segment: its lines from `from` on, as the checkpoint says, `consumed` being what is before that.
    pub(crate) fn recorded_lines_from(&self, from: Offset, consumed: Option<Consumed>) -> u64 {
        let before = consumed.filter(|_| self.contains(from)).map_or(0, |consumed| consumed.lines);
        if from < self.end() { self.recorded_lines.saturating_sub(before) } else { 0 }
    }

    /// What the loss notices that start in `from..to` announce.
    pub(super) fn announced_in(&self, from: Offset, to: Offset) -> impl Iterator<Item = Loss> {
        let is_in =
            move |notice: &&SpooledNotice| (from..to).contains(&(self.start + u64::from(notice.offset)));
        self.notices.iter().filter(is_in).map(|notice| notice.loss)
    }

    /// What is recorded of it in the checkpoint.
    pub(crate) fn record(&self) -> SegmentRecord {
        let no_lines = self.special.iter().filter(|frame| !frame.kind.ends_line()).count() as u64;
        let (lines, long_lines) = if self.origin.is_some() {
            (self.recorded_lines, self.recorded_long_lines)
        } else {
            (self.frames - no_lines, self.long_lines())
        };
        let Self { start, len, frames, times, .. } = *self;
        SegmentRecord { start, len, frames, lines, long_lines, times, notices: few(&self.notices) }
    }

    /// Sets what a record says of it.
    pub(crate) fn set_record(&mut self, record: SegmentRecord) {
        let SegmentRecord { frames, lines, long_lines, times, notices, .. } = record;
        (self.frames, self.recorded_lines, self.recorded_long_lines) = (frames, lines, long_lines);
        (self.times, self.notices) = (times, notices);
    }

    /// The loss notices from `offset` on, in bytes from its start.
    pub(crate) fn notices_from(&self, offset: u64) -> &[SpooledNotice] {
        &self.notices[self.notices.partition_point(|notice| u64::from(notice.offset) < offset)..]
    }

    /// Its lines of several frames, when it is ours.
    fn long_lines(&self) -> PerStream<LongLines> {
        PerStream::from_fn(|stream| {
            let kinds = self.special.iter().map(|frame| frame.kind);
            let mut of_stream = kinds.filter(|kind| kind.stream() == Some(stream));
            let goes_on = matches!(of_stream.clone().next_back(), Some(FrameKind::Partial(_)));
            LongLines { ends: of_stream.any(FrameKind::ends_line), goes_on }
        })
    }

    /// Of an adopted segment: lines that end in it or go on behind it, as the checkpoint says.
    pub(crate) fn recorded_lines_and_parts(&self) -> u64 {
        self.recorded_lines + LongLines::going_on(self.recorded_long_lines)
    }

    /// Offset behind the last byte.
    pub(crate) fn end(&self) -> Offset {
        self.start + self.len
    }

    /// Whether the byte at `at` is in it.
    pub(crate) fn contains(&self, at: Offset) -> bool {
        (self.start..self.end()).contains(&at)
    }

    /// The special frames that start in `from..to`.
    pub(super) fn special_in(&self, from: Offset, to: Offset) -> &[SpecialFrame] {
        let index = |at: Offset| {
            let at = at.clamp(self.start, self.end()) - self.start;
            self.special.partition_point(|frame| u64::from(frame.offset) < at)
        };
        &self.special[index(from)..index(to)]
    }
}

/// What the recorder appended in one write.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    /// Bytes written to the last segment.
    pub len: u64,
    /// Frames in them.
    pub frames: u64,
    /// The special ones among them, by offset from the first of these bytes, ascending.
    pub special: Vec<SpecialFrame>,
    /// Lines that ended.
    pub ended: u64,
    /// Lines that turned out to have ended with a part that was appended earlier: what that part is now.
    pub closed: Vec<FrameKind>,
    /// The times of the frames.
    pub times: Option<TimeRange>,
    /// The loss notices among the frames, by offset from the first of these bytes, ascending.
    pub notices: Vec<SpooledNotice>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_frames_tell_whose_line_they_end() {
        use Stream::{Err, Out};
        let incomplete = FrameKind::Incomplete(Err, DropReason::RecorderBehind);
        for (kind, stream, ends_line, ends_out, ends_err) in [
            (FrameKind::Agent, None, false, false, false),
            (FrameKind::Partial(Out), Some(Out), false, false, false),
            (FrameKind::Final(Out), Some(Out), true, true, false),
            (incomplete, Some(Err), true, false, true),
        ] {
            assert_eq!((kind.stream(), kind.ends_line()), (stream, ends_line), "{kind:?}");
            assert_eq!((kind.ends_line_of(Out), kind.ends_line_of(Err)), (ends_out, ends_err), "{kind:?}");
        }
        let of = [Fragment::Full, Fragment::EmptyFinal, Fragment::Partial, Fragment::Final]
            .map(|fragment| FrameKind::of(fragment, Out));
        assert_eq!(of, [None, None, Some(FrameKind::Partial(Out)), Some(FrameKind::Final(Out))]);
    }

    #[test]
    fn the_checkpoint_has_the_lines_that_end_in_a_segment() {
        let special = [FrameKind::Agent, FrameKind::Partial(Stream::Out), FrameKind::Final(Stream::Out)];
        let special = (0..).zip(special).map(|(offset, kind)| SpecialFrame { offset: offset * 10, kind });
        let (first, last) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
        let times = Some(TimeRange { first, last });
        let ours = Segment {
            len: 50,
            frames: 5,
            times,
            special: special.collect(),
            ..Segment::new(Offset::new(100), SegmentLocation::Memory(0))
        };
        let start = Offset::new(100);
        let ends = LongLines { ends: true, goes_on: false };
        let long_lines = PerStream { out: ends, err: LongLines::default() };
        let record =
            SegmentRecord { len: 50, frames: 5, lines: 3, long_lines, times, ..SegmentRecord::empty(start) };
        assert_eq!(ours.record(), record);
        let origin = Some(Arc::new(Origin { agent: "a".to_owned(), shift: 0 }));
        let mut open = ours.clone();
        let kinds = [FrameKind::Partial(Stream::Err), FrameKind::Partial(Stream::Out), FrameKind::Agent];
        open.special.extend(kinds.map(|kind| SpecialFrame { offset: 40, kind }));
        let going_on = LongLines { ends: false, goes_on: true };
        let expected = PerStream { out: LongLines { ends: true, goes_on: true }, err: going_on };
        assert_eq!(open.record().long_lines, expected);
        for bits in 0..16 {
            assert_eq!(LongLines::to_bits(LongLines::from_bits(bits)), bits);
        }
        let adopted = Segment { origin, recorded_lines: 4, recorded_long_lines: expected, ..ours };
        let as_written = SegmentRecord { lines: 4, long_lines: expected, ..record.clone() };
        assert_eq!(adopted.record(), as_written, "as the dead agent wrote it");
        assert_eq!((adopted.contains(Offset::new(149)), adopted.contains(Offset::new(150))), (true, false));
        let specials = |from, to| adopted.special_in(Offset::new(from), Offset::new(to)).len();
        assert_eq!(
            [specials(0, 900), specials(100, 110), specials(101, 121), specials(121, 900)],
            [3, 1, 2, 0]
        );
        let later = TimeRange { first: last, last };
        assert_eq!(
            (TimeRange::extended(times, later), TimeRange::extended(None, later)),
            (TimeRange { first, last }, later)
        );
    }
}
