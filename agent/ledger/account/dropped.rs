//! What a drain loses in front of its cursor: dropped ranges, and the lines that count with them.

use super::{Account, Consumed, special};
use crate::frame::{DropReason, Loss, Losses};
use crate::ledger::Offset;
use crate::ledger::segment::{FrameKind, LongLines, Origin, Segment};
use crate::line::{PerStream, Stream};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A range ahead of the cursor that was dropped.
#[derive(Clone, Debug)]
pub(super) struct DroppedRange {
    pub(super) from: Offset,
    pub(super) to: Offset,
    pub(super) losses: Losses,
    /// What of the segment under its end is behind that, where a dead agent had delivered up to there.
    consumed: Option<Consumed>,
    /// Whether a line continues behind the range of which a part was in it; none where the range has no special
    /// frame of the stream and so does not tell.
    continues: PerStream<Option<bool>>,
}

impl DroppedRange {
    pub(super) fn contains(&self, at: Offset) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// On which streams a line is under way at an offset that is already counted as dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CountedLines {
    /// The offset.
    pub at: Offset,
    /// The streams.
    pub streams: PerStream<bool>,
}

/// Where it is noted that a line under way is already counted.
enum NotedAt {
    /// At the cursor.
    Cursor,
    /// With the dropped range of this index.
    Range(usize),
}

impl Account {
    /// Announces losses in front of the frames that follow `at`, the end of the log.
    pub(in crate::ledger) fn announce_at(&mut self, at: Offset, losses: &Losses) {
        if let Some(range) = self.dropped_ranges.last_mut().filter(|range| range.to == at) {
            range.losses.extend(losses.iter().copied());
        } else if !losses.is_empty() {
            let continues = PerStream::default();
            let (losses, consumed) = (losses.clone(), None);
            self.insert_dropped(DroppedRange { from: at, to: at, losses, consumed, continues });
        }
    }

    /// Moves over a range of a dead agent that it had delivered or removed: no line of ours, nothing to announce.
    /// `consumed` is what it had delivered of the segment under `to`.
    pub(crate) fn skip_range(&mut self, from: Offset, to: Offset, consumed: Option<Consumed>) {
        if from < to {
            let (losses, continues) = Default::default();
            self.insert_dropped(DroppedRange { from, to, losses, consumed, continues });
        }
    }

    /// What of the segment under `at` is behind it, where that is known.
    pub(in crate::ledger) fn consumed_at(&self, at: Offset) -> Option<Consumed> {
        if self.cursor == at {
            return Some(self.consumed);
        }
        self.dropped_ranges.iter().find(|range| range.to == at && range.consumed.is_some())?.consumed
    }

    /// Where the part of `segment` starts that is neither behind the cursor nor dropped, and what of the segment is before
    /// that. It reaches to the segment's end: a drain consumes and loses a segment from its start on.
    pub(in crate::ledger) fn left_of(&self, segment: &Segment) -> Option<(Offset, Consumed)> {
        let (mut from, mut consumed) = (segment.start.max(self.cursor), self.consumed_of(segment));
        while let Some(range) = self.dropped_ranges.iter().find(|range| range.contains(from)) {
            from = range.to;
            let is_known = |consumed: &Consumed| consumed.segment == segment.start;
            consumed = range.consumed.filter(is_known).unwrap_or_default();
        }
        (from < segment.end()).then_some((from, consumed))
    }

    /// Lines already counted whose last frame is still ahead.
    pub(in crate::ledger) fn already_counted_lines(&self) -> u64 {
        let at_cursor = self.already_counted.iter().filter(|counted| **counted).count();
        let behind_ranges =
            self.dropped_ranges.iter().flat_map(|range| [range.continues.out, range.continues.err]);
        (at_cursor + behind_ranges.filter(|continues| *continues == Some(true)).count()) as u64
    }

    /// Where lines that are already counted go on, in `range` of the spool: at the cursor, and behind dropped ranges
    /// ahead of it. `origin` is the dead agent whose range it is.
    pub(in crate::ledger) fn counted_in(
        &self,
        segments: &VecDeque<Segment>,
        range: &Range<Offset>,
        origin: Option<&Origin>,
    ) -> Vec<CountedLines> {
        let from = self.cursor_in(range);
        let is_ahead = |at: Offset| from <= at && at <= range.end;
        if let Some(origin) = origin {
            let of_origin = self.counted_adopted.iter().filter(|(of, _)| **of == *origin);
            return of_origin.map(|(_, counted)| *counted).filter(|counted| is_ahead(counted.at)).collect();
        }
        let ends = self.dropped_ranges.iter().map(|range| range.to).filter(|to| *to > from && is_ahead(*to));
        let counted = [from].into_iter().chain(ends).map(|at| {
            let is_counted = |stream| self.already_counted_at(segments, stream, at).is_some();
            CountedLines { at, streams: PerStream::from_fn(is_counted) }
        });
        // A range that another one follows directly has handed them on.
        counted.filter(|counted| counted.streams != PerStream::default()).collect()
    }

    /// A dead agent counted these lines.
    pub(crate) fn resume_counted(&mut self, origin: &Arc<Origin>, counted: CountedLines) {
        if counted.streams != PerStream::default() {
            self.counted_adopted.push((Arc::clone(origin), counted));
        }
    }

    /// Whether the line of `stream` under way at `at` is already counted. The flag that says so is cleared: the range
    /// that starts at `at` carries it on.
    pub(super) fn take_already_counted(
        &mut self,
        segments: &VecDeque<Segment>,
        stream: Stream,
        at: Offset,
    ) -> bool {
        match self.already_counted_at(segments, stream, at) {
            Some(NotedAt::Range(range)) => self.dropped_ranges[range].continues[stream] = Some(false),
            Some(NotedAt::Cursor) => self.already_counted[stream] = false,
            None => return false,
        }
        true
    }

    /// Where it is noted that the line of `stream` under way at `at` is already counted, if it is.
    fn already_counted_at(
        &self,
        segments: &VecDeque<Segment>,
        stream: Stream,
        at: Offset,
    ) -> Option<NotedAt> {
        let before =
            self.dropped_ranges.iter().rposition(|range| range.to <= at && range.continues[stream].is_some());
        let from = before.map_or(self.cursor, |index| self.dropped_ranges[index].to);
        let counted = match before {
            Some(index) => self.dropped_ranges[index].continues[stream] == Some(true),
            None => self.already_counted[stream],
        };
        let is_ended = || special(segments, from, at).any(|kind| kind.ends_line_of(stream));
        (counted && !is_ended()).then_some(before.map_or(NotedAt::Cursor, NotedAt::Range))
    }

    /// Whether the line of `stream` that continues at `at` is already counted in a dropped range further ahead.
    pub(super) fn counted_ahead(&self, segments: &VecDeque<Segment>, stream: Stream, at: Offset) -> bool {
        let range =
            self.dropped_ranges.iter().find(|range| range.from >= at && range.continues[stream].is_some());
        range.is_some_and(|range| !special(segments, at, range.from).any(|kind| kind.ends_line_of(stream)))
    }

    pub(super) fn insert_dropped(&mut self, range: DroppedRange) {
        let at = self.dropped_ranges.partition_point(|other| other.from < range.from);
        self.dropped_ranges.insert(at, range);
        self.enter_dropped_ranges();
    }

    pub(super) fn enter_dropped_ranges(&mut self) {
        while self.dropped_ranges.first().is_some_and(|range| range.from <= self.cursor) {
            let range = self.dropped_ranges.remove(0);
            if let Some(consumed) = range.consumed.filter(|_| range.to > self.cursor) {
                self.consumed = consumed;
            }
            self.cursor = self.cursor.max(range.to);
            self.unannounced.extend(range.losses);
            for stream in Stream::ALL {
                if let Some(continues) = range.continues[stream] {
                    self.already_counted[stream] = continues;
                }
            }
        }
        // A batch that a dead agent had sealed, and of which the start was dropped, announces nothing.
        for batch in self.resumed.extract_if(.., |batch| batch.start < self.cursor) {
            self.unannounced.extend(batch.announced);
        }
    }

    /// The segment at `index` is dropped, or what is left of it ahead of the cursor.
    pub(in crate::ledger) fn drop_segment(
        &mut self,
        segments: &VecDeque<Segment>,
        index: usize,
        reason: DropReason,
    ) {
        let segment = &segments[index];
        let Some((from, consumed)) = self.left_of(segment) else { return };
        let (losses, continues) = Default::default();
        let mut range = DroppedRange { from, to: segment.end(), losses, consumed: None, continues };
        let to_announce = if segment.origin.is_some() {
            self.drop_adopted(segment, from, consumed)
        } else {
            let mut lines = segment.frames - consumed.frames;
            let inside = segment.special_in(from, segment.end());
            for stream in Stream::ALL {
                let mut kinds = inside
                    .iter()
                    .map(|frame| frame.kind)
                    .filter(|kind| kind.stream() == Some(stream))
                    .peekable();
                if kinds.peek().is_none() {
                    continue;
                }
                let mut counted = self.take_already_counted(segments, stream, from);
                let mut continues = false;
                for kind in kinds {
                    continues = matches!(kind, FrameKind::Partial(_));
                    let is_no_line = continues || std::mem::take(&mut counted);
                    lines -= u64::from(is_no_line);
                    if let (FrameKind::Incomplete(_, gap), false) = (kind, is_no_line) {
                        self.drop_lines(1, gap); // the notice of the gap that took its rest announces it
                        lines -= 1;
                    }
                }
                let ahead = continues && !counted && self.counted_ahead(segments, stream, segment.end());
                lines += u64::from(continues && !counted && !ahead);
                range.continues[stream] = Some(continues && !ahead);
            }
            lines -= inside.iter().filter(|frame| frame.kind == FrameKind::Agent).count() as u64;
            self.drop_lines(lines, reason);
            lines
        };
        let times = segment.times.map(|times| (times.first, times.last));
        let (since, until) = times.unwrap_or_default();
        let loss = (to_announce > 0).then_some(Loss { lines: to_announce, since, until, reason });
        range.losses = segment.announced_in(from, segment.end()).chain(loss).collect();
        self.insert_dropped(range);
        if self.cursor == segment.end() {
            let (segment, frames) = (segment.start, segment.frames);
            self.consumed = Consumed { segment, frames, lines: 0 }; // it may still grow
        }
    }

    /// Counts the lines that are lost with a dead agent's segment from `from` on, `consumed` being before that. One that
    /// goes on behind it is not whole without its start; where its end is dropped as well it counts once.
    fn drop_adopted(&mut self, segment: &Segment, from: Offset, consumed: Consumed) -> u64 {
        let lines = segment.adopted_lines_from(from, consumed);
        let long = segment.recorded_long_lines;
        let ended = segment.recorded_lines.saturating_sub(consumed.lines);
        let count_all = lines >= ended + LongLines::going_on(long);
        let is_next = |(origin, counted): &mut (Arc<Origin>, CountedLines)| {
            counted.at == from && Some(&*origin) == segment.origin.as_ref()
        };
        let before = self.counted_adopted.extract_if(.., is_next).next();
        let before = before.map_or_else(PerStream::default, |(_, counted)| counted.streams);
        let is_again = |stream: &Stream| before[*stream] && (long[*stream].ends || long[*stream].goes_on);
        let again = Stream::ALL.into_iter().filter(is_again).count() as u64;
        let streams = PerStream::from_fn(|stream| {
            let LongLines { ends, goes_on } = long[stream];
            before[stream] && !ends || count_all && goes_on
        });
        if let Some(origin) = &segment.origin {
            self.resume_counted(origin, CountedLines { at: segment.end(), streams });
        }
        let lines = lines.saturating_sub(again);
        self.adopted_dropped += lines;
        lines
    }

    /// The line of `stream` whose last part was at `at` ended there; `kind` says how.
    pub(in crate::ledger) fn close_line(&mut self, stream: Stream, at: Offset, kind: FrameKind) {
        if let Some(range) = self.dropped_ranges.iter_mut().find(|range| range.contains(at)) {
            range.continues[stream] = Some(false);
        } else if at < self.cursor && !std::mem::take(&mut self.already_counted[stream]) {
            match kind {
                FrameKind::Incomplete(_, reason) => self.drop_lines(1, reason),
                _ => self.delivered += 1,
            }
        }
    }
}
