//! The ledger of one agent: its segments, and an account per drain.

use super::account::{Account, Consumed, CountedLines};
use super::batch::{BatchOutcome, BatchRange, Identity, SealRange, SealedBatch};
use super::segment::{
    AdoptedContent, Appended, FrameKind, Origin, Segment, SegmentLocation, SpecialFrame, SpooledNotice,
    TimeRange,
};
use super::{DrainIndex, Offset};
use crate::frame::{DropReason, Losses};
use crate::line::PerStream;
use std::collections::VecDeque;
use std::ops::Range;

/// What dead agents left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AdoptedLeft {
    /// Lines of the app, as far as their checkpoints and frames tell.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The ledger of one agent.
#[derive(Debug)]
pub(crate) struct Ledger {
    segments: VecDeque<Segment>,
    accounts: Vec<Account>,
    log_end: Offset,
    /// Lines that ended.
    ended: u64,
    /// Streams in the middle of a line that may yet be recorded.
    unfinished: PerStream<bool>,
    /// Offset of the last part of the line under way, when it has parts.
    last_part: PerStream<Option<Offset>>,
    agent_frames: u64,
    bytes: u64,
}

/// A segment of ours that a drain has not consumed, and where the unconsumed part starts.
struct Unconsumed<'a> {
    segment: &'a Segment,
    from: Offset,
}

impl Ledger {
    /// A ledger for drains that are shown by these names. Adopted segments come first, from offset 0.
    pub(crate) fn new(drains: impl IntoIterator<Item = String>, adopted: Vec<Segment>) -> Self {
        let log_end = adopted.last().map_or(Offset::ZERO, Segment::end);
        let bytes = adopted.iter().map(|s| s.len).sum();
        let mut accounts: Vec<Account> = drains.into_iter().map(Account::new).collect();
        let mut end = Offset::ZERO;
        for segment in &adopted {
            // What the dead agent had removed is a gap that nobody can read.
            for account in &mut accounts {
                account.skip_range(end, segment.start, None);
            }
            end = segment.end();
        }
        Self {
            segments: adopted.into(),
            accounts,
            log_end,
            ended: 0,
            unfinished: PerStream::default(),
            last_part: PerStream::default(),
            agent_frames: 0,
            bytes,
        }
    }

    /// Offset behind the last byte of the spool.
    pub(crate) fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames in the spool that the agent itself made.
    pub(super) fn agent_frames(&self) -> u64 {
        self.agent_frames
    }

    /// The segments, oldest first.
    pub(crate) fn segments(&self) -> impl ExactSizeIterator<Item = &Segment> + DoubleEndedIterator {
        self.segments.iter()
    }

    /// The accounts of the drains, in the order of the setting.
    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// The account of one drain.
    pub(crate) fn account(&self, drain: DrainIndex) -> Option<&Account> {
        self.accounts.get(drain.get())
    }

    /// The account of one drain, to change what does not concern lines.
    pub(crate) fn account_mut(&mut self, drain: DrainIndex) -> Option<&mut Account> {
        self.accounts.get_mut(drain.get())
    }

    /// The numbers of the drains.
    pub(crate) fn drains(&self) -> impl Iterator<Item = DrainIndex> + use<> {
        DrainIndex::all(self.accounts.len())
    }

    /// Opens a segment at the end of the spool; what is appended from now on is in it.
    pub(crate) fn open_segment(&mut self, location: SegmentLocation) {
        self.segments.push_back(Segment::new(self.log_end, location));
    }

    /// Books what the recorder wrote to the last segment.
    pub(crate) fn append(&mut self, appended: &Appended) {
        for kind in &appended.closed {
            self.close_line(*kind);
        }
        self.ended += appended.ended;
        let Some(segment) = self.segments.back_mut() else {
            return;
        };
        let offset = segment.len as u32;
        let shifted =
            appended.special.iter().map(|frame| SpecialFrame { offset: offset + frame.offset, ..*frame });
        segment.special.extend(shifted);
        let shifted =
            appended.notices.iter().map(|notice| SpooledNotice { offset: offset + notice.offset, ..*notice });
        segment.notices.extend(shifted);
        segment.len += appended.len;
        segment.frames += appended.frames;
        if let Some(times) = appended.times {
            segment.times = Some(TimeRange::extended(segment.times, times));
        }
        self.bytes += appended.len;
        for frame in &appended.special {
            match frame.kind {
                FrameKind::Agent => self.agent_frames += 1,
                FrameKind::Partial(stream) => {
                    self.last_part[stream] = Some(self.log_end + u64::from(frame.offset));
                }
                FrameKind::Final(stream) | FrameKind::Incomplete(stream, _) => self.last_part[stream] = None,
            }
        }
        self.log_end += appended.len;
    }

    /// Which streams are in the middle of a line that may yet be recorded.
    pub(crate) fn set_unfinished(&mut self, unfinished: PerStream<bool>) {
        self.unfinished = unfinished;
    }

    /// Books `lines` that were captured and dropped without ever reaching the spool.
    pub(crate) fn drop_unrecorded(&mut self, lines: u64, reason: DropReason) {
        self.ended += lines;
        for account in &mut self.accounts {
            account.drop_lines(lines, reason);
        }
    }

    /// Lines that are dropped before anything else is appended: each drain is told in front of what follows.
    pub(crate) fn announce(&mut self, losses: &Losses) {
        for account in &mut self.accounts {
            account.announce_at(self.log_end, losses);
        }
    }

    /// The line under way ended with its last part, which was appended earlier: `kind` is what that part is now.
    fn close_line(&mut self, kind: FrameKind) {
        let Some(stream) = kind.stream() else { return };
        let Some(at) = self.last_part[stream].take() else { return };
        for account in &mut self.accounts {
            account.close_line(stream, at, kind);
        }
        if let Some(segment) = self.segments.iter_mut().rev().find(|s| s.contains(at)) {
            let offset = (at - segment.start) as u32;
            if let Ok(index) = segment.special.binary_search_by_key(&offset, |frame| frame.offset) {
                segment.special[index].kind = kind;
            }
        }
    }

    fn unfinished_lines(&self) -> u64 {
        self.unfinished.iter().filter(|unfinished| **unfinished).count() as u64
    }

    /// Lines captured: their first byte was read from the app.
    pub(crate) fn captured(&self) -> u64 {
        self.ended + self.unfinished_lines()
    }

    /// Lines in the spool, or under way to it, that this drain has not consumed. Counted from the segments, not
    /// inferred from the other numbers.
    pub(crate) fn held(&self, drain: DrainIndex) -> u64 {
        let Some(account) = self.account(drain) else { return 0 };
        let mut lines = self.unfinished_lines();
        for Unconsumed { segment, from } in self.unconsumed(account) {
            let special = segment.special_in(from, segment.end()).iter();
            let no_lines = special.filter(|frame| !frame.kind.ends_line()).count() as u64;
            lines += (segment.frames - account.frames_consumed(segment)).saturating_sub(no_lines);
        }
        lines.saturating_sub(account.already_counted_lines())
    }

    /// Whether a loss is still to be announced to this drain.
    pub(crate) fn has_to_announce(&self, drain: DrainIndex) -> bool {
        self.account(drain).is_some_and(Account::has_to_announce)
    }

    /// Whether this drain has consumed everything, and every loss is announced to it.
    pub(crate) fn is_consumed(&self, drain: DrainIndex) -> bool {
        self.account(drain).is_none_or(|account| account.cursor() >= self.log_end)
            && !self.has_to_announce(drain)
    }

    /// What of the segment under `at` is behind it; known at the account's cursor, and where it goes on behind a range that
    /// a dead agent had delivered.
    pub(crate) fn consumed_before(&self, account: &Account, at: Offset) -> Option<Consumed> {
        let consumed = account.consumed_at(at)?;
        let segment = self.segments.iter().find(|segment| segment.start == consumed.segment)?;
        if segment.origin.is_some() {
            return Some(consumed);
        }
        let special = segment.special_in(segment.start, at).iter();
        let no_lines = special.filter(|frame| !frame.kind.ends_line()).count() as u64;
        Some(Consumed { lines: consumed.frames.saturating_sub(no_lines), ..consumed })
    }

    /// Where lines that are already counted go on in `range`: of our own spool, or of the dead agent `origin`.
    pub(crate) fn counted_in(
        &self,
        account: &Account,
        range: &Range<Offset>,
        origin: Option<&Origin>,
    ) -> Vec<CountedLines> {
        account.counted_in(&self.segments, range, origin)
    }

    /// Bytes of ours that this drain has not consumed.
    pub(crate) fn held_bytes(&self, drain: DrainIndex) -> u64 {
        self.account(drain)
            .map_or(0, |account| self.unconsumed(account).map(|part| part.segment.end() - part.from).sum())
    }

    /// What dead agents left that this drain has not consumed.
    pub(crate) fn adopted_left(&self, drain: DrainIndex) -> AdoptedLeft {
        let mut left = AdoptedLeft::default();
        let Some(account) = self.account(drain) else { return left };
        for segment in self.segments.iter().filter(|segment| segment.origin.is_some()) {
            if let Some((from, consumed)) = account.left_of(segment) {
                left.lines += segment.recorded_lines_from(from, Some(consumed));
                left.bytes += segment.end().bytes_since(from);
            }
        }
        left
    }

    /// Where the oldest frame of ours is that this drain has not consumed: its segment, and its place in that in
    /// bytes.
    pub(crate) fn oldest(&self, drain: DrainIndex) -> Option<(&Segment, u64)> {
        let account = self.account(drain)?;
        self.unconsumed(account).next().map(|part| (part.segment, part.from - part.segment.start))
    }

    /// The segments of ours ahead of an account and outside its dropped ranges.
    fn unconsumed<'a>(&'a self, account: &'a Account) -> impl Iterator<Item = Unconsumed<'a>> {
        self.segments
            .iter()
            .filter(|s| s.origin.is_none())
            .filter_map(|segment| account.left_of(segment).map(|(from, _)| Unconsumed { segment, from }))
    }

    /// Captured lines less those whose place is known: 0 at every instant, by the conservation law.
    #[cfg(test)]
    pub(crate) fn imbalance(&self, drain: DrainIndex) -> i64 {
        let Some(account) = self.account(drain) else { return 0 };
        let known = account.delivered() + self.held(drain) + account.dropped() + account.rejected();
        self.captured() as i64 - known as i64
    }

    fn oldest_unpinned(&self) -> Option<usize> {
        let last = self.segments.len().checked_sub(1)?;
        (0..last).find(|index| {
            let segment = &self.segments[*index];
            !self.accounts.iter().any(|account| account.pins(segment))
        })
    }

    /// The segment that [`Ledger::drop_oldest`] drops next.
    pub(crate) fn next_to_drop(&self) -> Option<&Segment> {
        self.oldest_unpinned().map(|index| &self.segments[index])
    }

    /// Books what is in the adopted segment at `start`, so that it can be dropped.
    pub(crate) fn count_adopted(&mut self, start: Offset, content: AdoptedContent) {
        if let Some(segment) = self.segments.iter_mut().find(|s| s.start == start && s.origin.is_some()) {
            let AdoptedContent { lines, notices, times } = content;
            segment.adopted_lines = Some(lines);
            segment.notices = notices;
            segment.times = times;
        }
    }

    /// Drops the oldest segment that no sealed batch pins, for every drain that has not consumed it, and takes it out
    /// of the ledger: the caller removes its bytes. The last segment stays, it is being written.
    pub(crate) fn drop_oldest(&mut self, reason: DropReason) -> Option<Segment> {
        let index = self.oldest_unpinned()?;
        for account in &mut self.accounts {
            account.drop_segment(&self.segments, index, reason);
        }
        let segment = self.segments.remove(index)?;
        self.bytes -= segment.len;
        Some(segment)
    }

    /// Takes out the oldest segment when every drain has consumed it; the caller removes its bytes.
    pub(crate) fn pop_consumed(&mut self) -> Option<Segment> {
        let front = self.segments.front()?;
        let is_last = self.segments.len() == 1;
        let is_consumed = self.accounts.iter().all(|account| account.cursor() >= front.end());
        if is_last || !is_consumed {
            return None;
        }
        let segment = self.segments.pop_front()?;
        self.bytes -= segment.len;
        Some(segment)
    }

    /// Seals a batch for a drain: from now on its range, count, notice and id stay as they are, until it is completed
    /// or split. `notice` encodes a loss notice.
    ///
    /// # Errors
    /// [`SealRange`] says from where to where the drain may seal.
    pub(crate) fn seal(
        &mut self,
        drain: DrainIndex,
        range: BatchRange,
        identity: &Identity<'_>,
        notice: impl FnOnce(&Losses) -> Vec<u8>,
    ) -> Result<&SealedBatch, SealRange> {
        let log_end = self.log_end;
        let segments = &self.segments;
        let account = self.accounts.get_mut(drain.get()).ok_or(SealRange {
            cursor: log_end,
            limit: log_end,
            is_one_batch: false,
        })?;
        account.seal(segments, log_end, range, identity, notice)
    }

    /// Whether a range that the drain may seal can hold as many frames as it says.
    pub(crate) fn is_possible(&self, drain: DrainIndex, range: BatchRange) -> bool {
        let SealRange { cursor, limit, .. } = self.seal_range(drain);
        let may_seal = range.start == cursor && range.start < range.end && range.end <= limit;
        self.account(drain).is_none_or(|account| {
            !may_seal || account.possible_frames(&self.segments, range).contains(&range.frames)
        })
    }

    /// Where a drain may seal: from its cursor to its next dropped range, or to the end of the spool.
    pub(crate) fn seal_range(&self, drain: DrainIndex) -> SealRange {
        self.account(drain)
            .map_or(SealRange { cursor: self.log_end, limit: self.log_end, is_one_batch: false }, |account| {
                account.seal_range(&self.segments, self.log_end)
            })
    }

    /// The sealed batch of a drain is delivered, or rejected for good.
    pub(crate) fn complete_batch(&mut self, drain: DrainIndex, outcome: BatchOutcome) {
        if let Some(account) = self.accounts.get_mut(drain.get()) {
            account.complete_batch(&self.segments, outcome);
        }
    }

    /// A batch of a dead agent at the drain's cursor is damaged at `at`, further on.
    pub(crate) fn cancel_resumed(&mut self, drain: DrainIndex, at: Offset) {
        if let Some(account) = self.accounts.get_mut(drain.get()) {
            account.cancel_resumed(at);
        }
    }

    /// There are no frames at the drain's cursor: drops what is left of that segment, or skips what no segment holds.
    /// Returns the bytes that were skipped; more than none, so that delivery goes on whatever is there.
    pub(crate) fn skip_damaged(&mut self, drain: DrainIndex) -> u64 {
        let Some(account) = self.accounts.get_mut(drain.get()) else { return 0 };
        let from = account.cursor();
        account.cancel_batch();
        if let Some(index) = self.segments.iter().position(|s| s.contains(from)) {
            account.drop_segment(&self.segments, index, DropReason::SpoolDamaged);
        } else {
            let next = self.segments.iter().map(|segment| segment.start).find(|start| *start > from);
            account.skip_range(from, next.unwrap_or(self.log_end), None);
        }
        account.cursor().bytes_since(from)
    }
}

#[cfg(test)]
mod tests;
