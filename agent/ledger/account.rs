//! One drain's side of the ledger: its cursor, its sealed batch, its dropped_ranges and its counts.

use super::{FrameKind, Segment};
use crate::frame::{DropReason, Loss};
use crate::line::Stream;
use std::collections::{BTreeMap, VecDeque};

/// A sealed batch: the same on every attempt and after every restart of the shipper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset behind the last byte.
    pub end: u64,
    /// Frames in the range, without the notice.
    pub frames: u64,
    /// The loss notice that goes first: a whole frame, or nothing.
    pub notice: Vec<u8>,
    /// `Logplex-Frame-Id`.
    pub id: String,
    announces: Option<Loss>,
}

/// ProcessFilter seals, for the frame id.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Our id.
    pub agent: &'a str,
    /// The drain's token.
    pub drain: &'a str,
}

impl Identity<'_> {
    /// 32 upper-case hex digits: the first half of SHA-256 over agent, drain, range and notice. Logplex's own
    /// ids have that form (heroku/logplex `src/logplex_http_drain.erl`, `frame_id`).
    fn frame_id(self, start: u64, end: u64, notice: &[u8]) -> String {
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

/// A batch cannot be sealed as asked: the drain may seal from `cursor` up to `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealRange {
    /// Where the next batch starts.
    pub cursor: u64,
    /// Where it ends at the latest.
    pub limit: u64,
}

/// A dropped stretch ahead of the cursor.
#[derive(Clone, Debug)]
struct DroppedRange {
    from: u64,
    to: u64,
    loss: Option<Loss>,
    /// Whether a line goes on behind the range of which a part was in it; unknown where it held no kinds.
    already_counted: [Option<bool>; 2],
}

/// One drain's account.
#[derive(Debug)]
pub struct Account {
    name: String,
    cursor: u64,
    /// Frames passed in the segment that starts at `passed_in`.
    passed: u64,
    passed_in: u64,
    batch: Option<SealedBatch>,
    dropped_ranges: Vec<DroppedRange>,
    already_counted: [bool; 2],
    pending: Option<Loss>,
    /// Batches that dead agents had sealed: start, end, notice.
    resumed: Vec<(u64, u64, Vec<u8>)>,
    delivered: u64,
    rejected: u64,
    dropped: BTreeMap<DropReason, u64>,
    adopted_frames: u64,
    batches: u64,
    /// Loss notices delivered in front of a batch.
    notices: u64,
    /// Requests tried.
    pub attempts: u64,
}

impl Account {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            cursor: 0,
            passed: 0,
            passed_in: 0,
            batch: None,
            dropped_ranges: Vec::new(),
            already_counted: [false; 2],
            pending: None,
            resumed: Vec::new(),
            delivered: 0,
            rejected: 0,
            dropped: BTreeMap::new(),
            adopted_frames: 0,
            batches: 0,
            notices: 0,
            attempts: 0,
        }
    }

    /// How the drain is shown: never with a secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Offset up to which every line is answered for.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The sealed batch.
    pub fn batch(&self) -> Option<&SealedBatch> {
        self.batch.as_ref()
    }

    /// Lines delivered.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Lines refused for good.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Lines dropped, whatever the reason.
    pub fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Lines dropped, by reason.
    pub fn dropped_by(&self) -> impl Iterator<Item = (DropReason, u64)> {
        self.dropped.iter().map(|(reason, lines)| (*reason, *lines))
    }

    /// Batches delivered.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Loss notices of our own that were delivered in front of a batch: they are in no segment.
    pub fn notices(&self) -> u64 {
        self.notices
    }

    /// Frames of dead agents delivered.
    pub fn adopted_frames(&self) -> u64 {
        self.adopted_frames
    }

    pub(super) fn drop_lines(&mut self, lines: u64, reason: DropReason) {
        if lines > 0 {
            *self.dropped.entry(reason).or_default() += lines;
        }
    }

    /// A dead agent had delivered this stretch of its spool already: no line of ours, nothing to announce.
    pub fn skip_range(&mut self, from: u64, to: u64) {
        if from < to {
            let at = self.dropped_ranges.partition_point(|other| other.from < from);
            self.dropped_ranges.insert(at, DroppedRange { from, to, loss: None, already_counted: [None; 2] });
            self.enter_dropped_ranges();
        }
    }

    /// A dead agent had sealed this batch: it goes out again under the same id.
    pub fn resume(&mut self, start: u64, end: u64, notice: Vec<u8>) {
        self.resumed.push((start, end, notice));
    }

    pub(super) fn frames_passed(&self, segment: &Segment) -> u64 {
        if self.passed_in == segment.start { self.passed } else { 0 }
    }

    pub(super) fn in_dropped_range(&self, at: u64) -> bool {
        self.dropped_ranges.iter().any(|range| (range.from..range.to).contains(&at))
    }

    pub(super) fn pins(&self, segment: &Segment) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.start < segment.end() && segment.start < batch.end)
    }

    /// Lines counted already whose last frame is still to come.
    pub(super) fn already_counted_lines(&self) -> u64 {
        let behind_holes = self
            .dropped_ranges
            .iter()
            .flat_map(|range| range.already_counted)
            .filter(|already_counted| *already_counted == Some(true));
        (self.already_counted.iter().filter(|already_counted| **already_counted).count()
            + behind_holes.count()) as u64
    }

    /// Whether the line of `stream` that is under way at `at` was counted already. The one flag that says so
    /// is taken back: the stretch behind `at` carries it on.
    fn take_already_counted(&mut self, segments: &VecDeque<Segment>, stream: Stream, at: u64) -> bool {
        let stream_index = stream as usize;
        let before = self
            .dropped_ranges
            .iter()
            .rposition(|range| range.to <= at && range.already_counted[stream_index].is_some());
        let from = before.map_or(self.cursor, |index| self.dropped_ranges[index].to);
        let already_counted = match before {
            Some(index) => self.dropped_ranges[index].already_counted[stream_index] == Some(true),
            None => self.already_counted[stream_index],
        };
        if !already_counted || kinds(segments, from, at).any(|kind| is_last(kind, stream)) {
            return false;
        }
        match before {
            Some(index) => self.dropped_ranges[index].already_counted[stream_index] = Some(false),
            None => self.already_counted[stream_index] = false,
        }
        true
    }

    /// Whether the line of `stream` that goes on at `at` was counted already at a range further ahead.
    fn counted_ahead(&self, segments: &VecDeque<Segment>, stream: Stream, at: u64) -> bool {
        let range = self
            .dropped_ranges
            .iter()
            .find(|range| range.from >= at && range.already_counted[stream as usize].is_some());
        range.is_some_and(|range| !kinds(segments, at, range.from).any(|kind| is_last(kind, stream)))
    }

    pub(super) fn window(&self, segments: &VecDeque<Segment>, head: u64) -> SealRange {
        let mut limit = self.dropped_ranges.first().map_or(head, |range| range.from.min(head));
        // A batch keeps to the segments of one agent: its id is hashed from that agent's.
        let mut here = None;
        for segment in segments.iter().filter(|s| s.end() > self.cursor) {
            let agent = segment.origin.as_ref().map(|origin| &origin.agent);
            if *here.get_or_insert(agent) != agent {
                limit = limit.min(segment.start);
                break;
            }
        }
        if let Some((_, end, _)) = self.resumed.iter().find(|(start, ..)| *start == self.cursor) {
            limit = limit.min(*end);
        }
        SealRange { cursor: self.cursor, limit }
    }

    pub(super) fn seal(
        &mut self,
        segments: &VecDeque<Segment>,
        head: u64,
        (start, end): (u64, u64),
        frames: u64,
        identity: &Identity<'_>,
        notice: impl FnOnce(&Loss) -> Vec<u8>,
    ) -> Result<&SealedBatch, SealRange> {
        let window = self.window(segments, head);
        if start != window.cursor || end <= start || end > window.limit || frames == 0 {
            return Err(window);
        }
        // A batch that is halved keeps its notice, so that the number in it cannot change under way.
        let sealed = self.batch.take().map(|batch| (batch.notice, batch.announces));
        let resumed = self.resumed.iter().position(|(from, to, _)| (*from, *to) == (start, end));
        let (notice, announces) = match (sealed, resumed) {
            (Some(sealed), _) => sealed,
            (None, Some(index)) => (self.resumed.remove(index).2, None),
            (None, None) => {
                let loss = self.pending.take();
                (loss.as_ref().map(notice).unwrap_or_default(), loss)
            }
        };
        let origin =
            segments.iter().find(|s| s.start <= start && start < s.end()).and_then(|s| s.origin.clone());
        let id = match &origin {
            Some(origin) => Identity { agent: &origin.agent, ..*identity }.frame_id(
                start - origin.shift,
                end - origin.shift,
                &notice,
            ),
            None => identity.frame_id(start, end, &notice),
        };
        Ok(self.batch.insert(SealedBatch { start, end, frames, notice, id, announces }))
    }

    /// Takes the sealed batch back; what it would have announced is still to be announced.
    pub(super) fn cancel_batch(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.pending = Loss::join(batch.announces, self.pending);
        }
    }

    /// The sealed batch was answered for.
    pub(super) fn complete_batch(&mut self, segments: &VecDeque<Segment>, delivered: bool) {
        let Some(batch) = self.batch.take() else { return };
        let adopted =
            segments.iter().any(|s| s.origin.is_some() && (s.start..s.end()).contains(&batch.start));
        if adopted {
            self.adopted_frames += if delivered { batch.frames } else { 0 };
        } else {
            self.count(segments, &batch, delivered);
        }
        if delivered {
            self.batches += 1;
            self.notices += u64::from(batch.announces.is_some());
        } else {
            self.pending = Loss::join(batch.announces, self.pending);
        }
        self.pass(segments, batch.end, batch.frames);
    }

    fn count(&mut self, segments: &VecDeque<Segment>, batch: &SealedBatch, delivered: bool) {
        let mut lines = batch.frames;
        let mut last_is_part = [false; 2];
        for kind in kinds(segments, batch.start, batch.end) {
            if let Some(stream) = kind.stream() {
                last_is_part[stream as usize] = matches!(kind, FrameKind::Partial(_));
            }
            match kind {
                FrameKind::Agent | FrameKind::Partial(_) => lines -= 1,
                FrameKind::Final(stream) | FrameKind::Incomplete(stream, _)
                    if std::mem::take(&mut self.already_counted[stream as usize]) =>
                {
                    lines -= 1;
                }
                FrameKind::Final(_) => {}
                FrameKind::Incomplete(_, reason) => {
                    if delivered {
                        lines -= 1;
                        self.drop_lines(1, reason);
                    }
                }
            }
        }
        if delivered {
            self.delivered += lines;
            return;
        }
        for stream in Stream::ALL {
            let counted =
                self.already_counted[stream as usize] || self.counted_ahead(segments, stream, batch.end);
            if last_is_part[stream as usize] && !counted {
                self.already_counted[stream as usize] = true;
                lines += 1;
            }
        }
        self.rejected += lines;
    }

    /// Moves the cursor over `frames` frames to `to`, and over the dropped_ranges that begin there.
    fn pass(&mut self, segments: &VecDeque<Segment>, to: u64, mut frames: u64) {
        let mut here = segments.partition_point(|s| s.start <= self.cursor).saturating_sub(1);
        if let Some(segment) = segments.get(here) {
            frames += self.frames_passed(segment);
        }
        while let Some(next) = segments.get(here + 1).filter(|next| next.start <= to) {
            let passed = &segments[here];
            frames = if passed.origin.is_some() { 0 } else { frames.saturating_sub(passed.frames) };
            here += 1;
            debug_assert!(next.start < to || frames == 0, "the frames of a passed segment add up");
        }
        self.passed = frames;
        self.passed_in = segments.get(here).map_or(to, |segment| segment.start);
        self.cursor = to;
        self.enter_dropped_ranges();
    }

    fn enter_dropped_ranges(&mut self) {
        while self.dropped_ranges.first().is_some_and(|range| range.from <= self.cursor) {
            let range = self.dropped_ranges.remove(0);
            self.cursor = self.cursor.max(range.to);
            self.pending = Loss::join(self.pending, range.loss);
            for stream in Stream::ALL {
                if let Some(already_counted) = range.already_counted[stream as usize] {
                    self.already_counted[stream as usize] = already_counted;
                }
            }
        }
    }

    /// A segment is dropped, or what is left of it ahead of the cursor.
    pub(super) fn drop_oldest(&mut self, segments: &VecDeque<Segment>, index: usize, reason: DropReason) {
        let segment = &segments[index];
        let from = segment.start.max(self.cursor);
        if from >= segment.end() || self.in_dropped_range(from) {
            return;
        }
        let mut range = DroppedRange { from, to: segment.end(), loss: None, already_counted: [None; 2] };
        if segment.origin.is_none() {
            let mut lines = segment.frames - self.frames_passed(segment);
            let inside = segment.kinds_in(from, segment.end());
            for stream in Stream::ALL {
                let mut of_stream =
                    inside.iter().map(|(_, kind)| *kind).filter(|m| m.stream() == Some(stream)).peekable();
                if of_stream.peek().is_none() {
                    continue;
                }
                let mut already_counted = self.take_already_counted(segments, stream, from);
                let mut goes_on = false;
                for kind in of_stream {
                    goes_on = matches!(kind, FrameKind::Partial(_));
                    lines -= u64::from(goes_on || std::mem::take(&mut already_counted));
                }
                let counted =
                    goes_on && !already_counted && self.counted_ahead(segments, stream, segment.end());
                lines += u64::from(goes_on && !already_counted && !counted);
                range.already_counted[stream as usize] = Some(goes_on && !counted);
            }
            lines -= inside.iter().filter(|(_, kind)| *kind == FrameKind::Agent).count() as u64;
            self.drop_lines(lines, reason);
            let (since, until) = segment.times.unwrap_or_default();
            range.loss = (lines > 0).then_some(Loss { lines, since, until, reason });
        }
        let at = self.dropped_ranges.partition_point(|other| other.from < from);
        self.dropped_ranges.insert(at, range);
        self.enter_dropped_ranges();
        if self.cursor == segment.end() {
            (self.passed_in, self.passed) = (segment.start, segment.frames); // it may grow yet
        }
    }

    /// The line of `stream` whose last part was at `at` ended there.
    pub(super) fn close_line(&mut self, stream: Stream, at: u64, kind: FrameKind) {
        if let Some(range) = self.dropped_ranges.iter_mut().find(|range| (range.from..range.to).contains(&at))
        {
            range.already_counted[stream as usize] = Some(false);
        } else if at < self.cursor && !std::mem::take(&mut self.already_counted[stream as usize]) {
            match kind {
                FrameKind::Incomplete(_, reason) => self.drop_lines(1, reason),
                _ => self.delivered += 1,
            }
        }
    }
}

fn kinds(segments: &VecDeque<Segment>, from: u64, to: u64) -> impl Iterator<Item = FrameKind> {
    segments
        .iter()
        .filter(move |s| s.start < to && from < s.end())
        .flat_map(move |s| s.kinds_in(from, to))
        .map(|(_, kind)| *kind)
}

fn is_last(kind: FrameKind, stream: Stream) -> bool {
    matches!(kind, FrameKind::Final(s) | FrameKind::Incomplete(s, _) if s == stream)
}
