//! One drain's account: its cursor, its sealed batch, the ranges dropped ahead of it, and its counts.

use super::Offset;
use super::batch::{BatchOutcome, BatchRange, Identity, SealRange, SealedBatch};
use super::segment::{FrameKind, Origin, Segment};
use crate::frame::{DropReason, Loss, Losses};
use crate::line::{PerStream, Stream};
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

mod dropped;
mod resumed;

pub(crate) use dropped::CountedLines;
use dropped::DroppedRange;
pub(crate) use resumed::ResumedBatch;

/// The sealed batch, and the losses that its notices announce.
#[derive(Debug)]
struct Sealed {
    batch: SealedBatch,
    announced: Losses,
    /// A dead agent had sealed it: its notice is not ours.
    is_resumed: bool,
}

/// What of the segment under the cursor is behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consumed {
    /// The start of the segment.
    pub segment: Offset,
    /// Frames.
    pub frames: u64,
    /// Lines of a dead agent's app, as far as its checkpoint knows. Not kept up for segments of our own.
    pub lines: u64,
}

/// One drain's account.
#[derive(Debug)]
pub(crate) struct Account {
    name: String,
    cursor: Offset,
    consumed: Consumed,
    sealed: Option<Sealed>,
    /// Ascending, ahead of the cursor.
    dropped_ranges: Vec<DroppedRange>,
    /// The line under way at the cursor is already counted.
    already_counted: PerStream<bool>,
    /// Lost lines for the next notices.
    unannounced: Losses,
    resumed: Vec<ResumedBatch>,
    /// Agents, and the tokens that the ids of the batches of their spools are made with.
    id_tokens: Vec<(String, String)>,
    delivered: u64,
    rejected: u64,
    dropped: BTreeMap<DropReason, u64>,
    adopted_frames: u64,
    adopted_dropped: u64,
    /// Lines of dead agents that are already counted, by agent.
    counted_adopted: Vec<(Arc<Origin>, CountedLines)>,
    batches: u64,
    notices: u64,
    /// Requests tried.
    pub attempts: u64,
}

impl Account {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            cursor: Offset::ZERO,
            consumed: Consumed::default(),
            sealed: None,
            dropped_ranges: Vec::new(),
            already_counted: PerStream::default(),
            unannounced: Losses::default(),
            resumed: Vec::new(),
            id_tokens: Vec::new(),
            delivered: 0,
            rejected: 0,
            dropped: BTreeMap::new(),
            adopted_frames: 0,
            adopted_dropped: 0,
            counted_adopted: Vec::new(),
            batches: 0,
            notices: 0,
            attempts: 0,
        }
    }

    /// How the drain is shown: never with a secret.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Offset up to which every line is delivered, dropped or rejected.
    pub(crate) fn cursor(&self) -> Offset {
        self.cursor
    }

    /// The sealed batch.
    pub(crate) fn batch(&self) -> Option<&SealedBatch> {
        self.sealed.as_ref().map(|sealed| &sealed.batch)
    }

    /// Lines delivered.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Lines that the drain refused for good.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Lines dropped, for any reason.
    #[cfg(test)]
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Lines dropped, by reason.
    pub(crate) fn dropped_by(&self) -> impl Iterator<Item = (DropReason, u64)> {
        self.dropped.iter().map(|(reason, lines)| (*reason, *lines))
    }

    /// Batches delivered.
    pub(crate) fn batches(&self) -> u64 {
        self.batches
    }

    /// Loss notices of our own that were delivered in front of a batch. They are in no segment.
    pub(crate) fn notices(&self) -> u64 {
        self.notices
    }

    /// Frames of dead agents delivered.
    pub(crate) fn adopted_frames(&self) -> u64 {
        self.adopted_frames
    }

    /// Lines of dead agents' apps dropped.
    pub(crate) fn adopted_dropped(&self) -> u64 {
        self.adopted_dropped
    }

    pub(super) fn drop_lines(&mut self, lines: u64, reason: DropReason) {
        if lines > 0 {
            *self.dropped.entry(reason).or_default() += lines;
        }
    }

    /// What of the segment under the cursor is behind it.
    #[cfg(test)]
    pub(super) fn consumed(&self) -> Consumed {
        self.consumed
    }

    /// What no sealed batch announces yet.
    pub(crate) fn unannounced(&self) -> Losses {
        let ahead = self.dropped_ranges.iter().flat_map(|range| range.losses.iter());
        self.unannounced.iter().chain(ahead).copied().collect()
    }

    /// Whether a loss is still to be announced: by the sealed batch or by the next one.
    pub(crate) fn has_to_announce(&self) -> bool {
        !self.unannounced.is_empty()
            || self.sealed.as_ref().is_some_and(|sealed| !sealed.announced.is_empty())
    }

    /// Frames of `segment` that are behind the cursor.
    pub(super) fn frames_consumed(&self, segment: &Segment) -> u64 {
        self.consumed_of(segment).frames
    }

    pub(super) fn consumed_of(&self, segment: &Segment) -> Consumed {
        if self.consumed.segment == segment.start { self.consumed } else { Consumed::default() }
    }

    /// Whether bytes of `segment` are needed by the sealed batch, or by one that a dead agent had sealed.
    pub(super) fn pins(&self, segment: &Segment) -> bool {
        let sealed = self.batch().map(|batch| (batch.range.start, batch.range.end));
        let resumed = self.resumed.iter().map(|batch| (batch.start, batch.end));
        sealed.into_iter().chain(resumed).any(|(start, end)| start < segment.end() && segment.start < end)
    }

    pub(super) fn seal_range(&self, segments: &VecDeque<Segment>, log_end: Offset) -> SealRange {
        let mut limit = self.dropped_ranges.first().map_or(log_end, |range| range.from.min(log_end));
        // A batch stays within the segments of one agent: its id is hashed from that agent's.
        let mut first_agent = None;
        for segment in segments.iter().filter(|s| s.end() > self.cursor) {
            let agent = segment.origin.as_ref().map(|origin| &origin.agent);
            if *first_agent.get_or_insert(agent) != agent {
                limit = limit.min(segment.start);
                break;
            }
        }
        let resumed = self.resumed.iter().find(|batch| batch.start == self.cursor && batch.end <= limit);
        limit = resumed.map_or(limit, |batch| batch.end);
        SealRange { cursor: self.cursor, limit, is_one_batch: resumed.is_some() }
    }

    /// Lines that are dropped and not announced yet.
    #[cfg(test)]
    pub(super) fn to_announce(&self) -> u64 {
        let unannounced = self.unannounced();
        let sealed = self.sealed.iter().flat_map(|sealed| sealed.announced.iter());
        unannounced.iter().chain(sealed).map(|loss| loss.lines).sum()
    }

    fn has_notice_at(&self, at: Offset) -> bool {
        !self.unannounced.is_empty() || self.resumed.iter().any(|batch| (batch.start, batch.end) == (at, at))
    }

    pub(super) fn seal(
        &mut self,
        segments: &VecDeque<Segment>,
        log_end: Offset,
        range: BatchRange,
        identity: &Identity<'_>,
        notice: impl FnOnce(&Losses) -> Vec<u8>,
    ) -> Result<&SealedBatch, SealRange> {
        let BatchRange { start, end, frames } = range;
        let allowed = self.seal_range(segments, log_end);
        // A batch without frames carries a notice, when there is nothing else to send it with.
        let is_notice = (end, frames) == (start, 0) && self.has_notice_at(start);
        let has_frames = end > start && frames > 0;
        // It may have been delivered: it is repeated under its own id or not at all.
        let is_cut = allowed.is_one_batch && self.sealed.is_none() && end != allowed.limit;
        if start != allowed.cursor || end > allowed.limit || is_cut || !(has_frames || is_notice) {
            return Err(allowed);
        }
        // A batch that is split keeps its notice, so that the announced number cannot change.
        let before =
            self.sealed.take().map(|sealed| (sealed.batch.notice, sealed.announced, sealed.is_resumed));
        let resumed = self.resumed.iter().position(|batch| (batch.start, batch.end) == (start, end));
        let (notice, announced, is_resumed) = match (before, resumed) {
            (Some(before), _) => before,
            (None, Some(index)) => {
                let ResumedBatch { notice, announced, .. } = self.resumed.remove(index);
                (notice, announced, true)
            }
            (None, None) => {
                let losses = std::mem::take(&mut self.unannounced);
                (if losses.is_empty() { Vec::new() } else { notice(&losses) }, losses, false)
            }
        };
        let origin = segments.iter().find(|s| s.contains(start)).and_then(|s| s.origin.as_ref());
        let id = match origin {
            Some(origin) => {
                let (agent, drain) = (&origin.agent, self.id_token(origin).unwrap_or(identity.drain));
                let (start, end) = (start.get() - origin.shift, end.get() - origin.shift);
                Identity { agent, drain }.frame_id(start, end, &notice)
            }
            None => identity.frame_id(start.get(), end.get(), &notice),
        };
        let batch = SealedBatch { range, notice, id };
        Ok(&self.sealed.insert(Sealed { batch, announced, is_resumed }).batch)
    }

    /// How many frames a range from the cursor can hold, by the frames that its segments have and by those in it and
    /// behind it that are known one by one. At the end of a segment the count is exact. Of adopted segments only the
    /// bytes are known.
    pub(super) fn possible_frames(
        &self,
        segments: &VecDeque<Segment>,
        range: BatchRange,
    ) -> RangeInclusive<u64> {
        /// `1 ` and LF: the shortest frame that the reader of the spool takes.
        const MIN_FRAME_BYTES: u64 = 3;
        let (mut least, mut most) = (0_u64, 0_u64);
        for segment in segments.iter().filter(|s| s.start < range.end && range.start < s.end()) {
            let (from, to) = (segment.start.max(range.start), segment.end().min(range.end));
            let known = |from, to| segment.special_in(from, to).len() as u64;
            if segment.origin.is_some() {
                least += 1;
                most += (to - from) / MIN_FRAME_BYTES;
                continue;
            }
            let left = segment.frames.saturating_sub(self.frames_consumed(segment));
            let is_whole = to == segment.end();
            least += if is_whole { left } else { known(from, to).max(1) };
            most += if is_whole { left } else { left.saturating_sub(known(to, segment.end()).max(1)) };
        }
        least..=most
    }

    /// Gives the sealed batch up. What it would have announced is announced later.
    pub(super) fn cancel_batch(&mut self) {
        if let Some(sealed) = self.sealed.take() {
            self.unannounced.extend(sealed.announced);
        }
    }

    /// The sealed batch was delivered, or rejected for good: counts it and moves the cursor behind it.
    pub(super) fn complete_batch(&mut self, segments: &VecDeque<Segment>, outcome: BatchOutcome) {
        let Some(Sealed { batch, announced, is_resumed }) = self.sealed.take() else { return };
        let range = batch.range;
        let is_adopted = segments.iter().any(|s| s.origin.is_some() && s.contains(range.start));
        match outcome {
            BatchOutcome::Delivered => {
                if is_adopted {
                    self.adopted_frames += range.frames;
                } else {
                    self.count_delivered(segments, range);
                }
                self.batches += 1;
                if !is_resumed {
                    self.notices += announced.len() as u64;
                }
            }
            BatchOutcome::Rejected => {
                if !is_adopted {
                    self.count_rejected(segments, range);
                }
                self.unannounced.extend(announced);
                self.unannounced.extend(announced_in(segments, range.start, range.end));
            }
        }
        // A notice alone pins no segment: the cursor may have moved on over dropped ones.
        if range.frames > 0 {
            self.advance(segments, range.end, range.frames);
        }
    }

    /// Lines of a range that count as its own: those whose last frame is in it and that are not already counted. A line
    /// whose rest was dropped is dropped, whatever becomes of this part.
    fn count_lines(&mut self, segments: &VecDeque<Segment>, range: BatchRange) -> u64 {
        let mut lines = range.frames;
        for kind in special(segments, range.start, range.end) {
            match kind {
                FrameKind::Agent | FrameKind::Partial(_) => lines -= 1,
                FrameKind::Final(stream) | FrameKind::Incomplete(stream, _)
                    if std::mem::take(&mut self.already_counted[stream]) =>
                {
                    lines -= 1;
                }
                FrameKind::Final(_) => {}
                FrameKind::Incomplete(_, reason) => {
                    self.drop_lines(1, reason);
                    lines -= 1;
                }
            }
        }
        lines
    }

    fn count_delivered(&mut self, segments: &VecDeque<Segment>, range: BatchRange) {
        self.delivered += self.count_lines(segments, range);
    }

    fn count_rejected(&mut self, segments: &VecDeque<Segment>, range: BatchRange) {
        let mut lines = self.count_lines(segments, range);
        for stream in Stream::ALL {
            let last =
                special(segments, range.start, range.end).filter(|kind| kind.stream() == Some(stream)).last();
            let continues = matches!(last, Some(FrameKind::Partial(_)));
            let counted = self.already_counted[stream] || self.counted_ahead(segments, stream, range.end);
            if continues && !counted {
                self.already_counted[stream] = true;
                lines += 1;
            }
        }
        self.rejected += lines;
    }

    /// Moves the cursor over `frames` frames to `to`, and over the dropped ranges that begin there.
    fn advance(&mut self, segments: &VecDeque<Segment>, to: Offset, mut frames: u64) {
        let mut here = segments.partition_point(|s| s.start <= self.cursor).saturating_sub(1);
        if let Some(segment) = segments.get(here) {
            frames += self.frames_consumed(segment);
        }
        while let Some(next) = segments.get(here + 1).filter(|next| next.start <= to) {
            let consumed = &segments[here];
            // Of a dead agent's segment the count may be wrong, which must not reach ours: a batch ends with its last.
            let is_unknown = consumed.frames == 0 || next.origin != consumed.origin;
            let is_reset = consumed.origin.is_some() && is_unknown;
            frames = if is_reset { 0 } else { frames.saturating_sub(consumed.frames) };
            here += 1;
            debug_assert!(
                next.start < to || frames == 0 || consumed.origin.is_some(),
                "the frames of a consumed segment add up"
            );
        }
        let segment = segments.get(here).map_or(to, |segment| segment.start);
        let lines = if segment == self.consumed.segment { self.consumed.lines } else { 0 };
        self.consumed = Consumed { segment, frames, lines };
        self.cursor = to;
        self.enter_dropped_ranges();
    }
}

/// What the loss notices in `from..to` announce.
fn announced_in(segments: &VecDeque<Segment>, from: Offset, to: Offset) -> impl Iterator<Item = Loss> {
    let inside = segments.iter().filter(move |s| s.start < to && from < s.end());
    inside.flat_map(move |segment| segment.announced_in(from, to))
}

/// The kinds of the special frames in `from..to`.
fn special(segments: &VecDeque<Segment>, from: Offset, to: Offset) -> impl Iterator<Item = FrameKind> {
    segments
        .iter()
        .filter(move |s| s.start < to && from < s.end())
        .flat_map(move |s| s.special_in(from, to))
        .map(|frame| frame.kind)
}
