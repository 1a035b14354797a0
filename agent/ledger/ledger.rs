//! The ledger of one agent: its segments, and an account per drain.

use super::account::{Account, Identity, SealRange, SealedBatch};
use super::segment::{Appended, FrameKind, Segment, SegmentLocation};
use crate::frame::{DropReason, Loss};
use std::collections::VecDeque;

/// The ledger of one agent.
#[derive(Debug)]
pub struct Ledger {
    segments: VecDeque<Segment>,
    accounts: Vec<Account>,
    head: u64,
    ended: u64,
    open: [bool; 2],
    /// Offset of the last part of the line under way, when it has parts.
    last_part: [Option<u64>; 2],
    pub(super) own_frames: u64,
    bytes: u64,
}

impl Ledger {
    /// A ledger for `drains` drains, shown by these names. Adopted segments stand first, from offset 0.
    pub fn new(drains: impl IntoIterator<Item = String>, adopted: Vec<Segment>) -> Self {
        let head = adopted.last().map_or(0, Segment::end);
        let bytes = adopted.iter().map(|s| s.len).sum();
        let mut accounts: Vec<Account> = drains.into_iter().map(Account::new).collect();
        let mut end = 0;
        for segment in &adopted {
            // What the dead agent had removed is a gap that nobody can read.
            for account in &mut accounts {
                account.skip_range(end, segment.start);
            }
            end = segment.end();
        }
        Self {
            segments: adopted.into(),
            accounts,
            head,
            ended: 0,
            open: [false; 2],
            last_part: [None; 2],
            own_frames: 0,
            bytes,
        }
    }

    /// Offset behind the last byte of the spool.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = &Segment> + DoubleEndedIterator {
        self.segments.iter()
    }

    /// The accounts of the drains, in the order of the setting.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// The account of one drain, to change what does not touch lines (attempts, verdicts).
    pub fn account_mut(&mut self, drain: usize) -> Option<&mut Account> {
        self.accounts.get_mut(drain)
    }

    /// Opens a segment at the head; what is appended from now on is in it.
    pub fn open_segment(&mut self, place: SegmentLocation) {
        self.segments.push_back(Segment::new(self.head, place));
    }

    /// Books what the recorder wrote to the last segment.
    pub fn append(&mut self, appended: &Appended) {
        for kind in &appended.closed {
            self.close(*kind);
        }
        self.ended += appended.ended;
        let Some(segment) = self.segments.back_mut() else {
            return;
        };
        let offset = segment.len as u32;
        segment.kinds.extend(appended.kinds.iter().map(|(at, kind)| (offset + at, *kind)));
        segment.len += appended.len;
        segment.frames += appended.frames;
        if let Some((first, last)) = appended.times {
            segment.times = Some((segment.times.map_or(first, |(earliest, _)| earliest), last));
        }
        self.bytes += appended.len;
        for (at, kind) in &appended.kinds {
            match kind {
                FrameKind::Agent => self.own_frames += 1,
                FrameKind::Partial(stream) => {
                    self.last_part[*stream as usize] = Some(self.head + u64::from(*at))
                }
                FrameKind::Final(stream) | FrameKind::Incomplete(stream, _) => {
                    self.last_part[*stream as usize] = None
                }
            }
        }
        self.head += appended.len;
    }

    /// Which streams are in the middle of a line that may yet be recorded.
    pub fn set_open(&mut self, open: [bool; 2]) {
        self.open = open;
    }

    /// Books `lines` that were captured and dropped without ever reaching the spool.
    pub fn drop_unrecorded(&mut self, lines: u64, reason: DropReason) {
        self.ended += lines;
        for account in &mut self.accounts {
            account.drop_lines(lines, reason);
        }
    }

    /// The line under way ended with its last part, which was appended earlier: `kind` says how.
    fn close(&mut self, kind: FrameKind) {
        let Some(stream) = kind.stream() else { return };
        let Some(at) = self.last_part[stream as usize].take() else { return };
        for account in &mut self.accounts {
            account.close_line(stream, at, kind);
        }
        let segment = self.segments.iter_mut().rev().find(|s| s.start <= at);
        if let Some(segment) = segment.filter(|s| at < s.end()) {
            let offset = (at - segment.start) as u32;
            if let Ok(index) = segment.kinds.binary_search_by_key(&offset, |(offset, _)| *offset) {
                segment.kinds[index].1 = kind;
            }
        }
    }

    /// Lines captured: their first byte was read from the app.
    pub fn captured(&self) -> u64 {
        self.ended + self.open.iter().filter(|open| **open).count() as u64
    }

    /// Lines that are in the spool (or under way to it) and not yet answered for by this drain. Counted from
    /// the segments, not inferred from the other numbers.
    pub fn held(&self, drain: usize) -> u64 {
        let Some(account) = self.accounts.get(drain) else { return 0 };
        let mut lines = self.open.iter().filter(|open| **open).count() as u64;
        for (segment, from) in self.ahead(account) {
            let not_lines = segment
                .kinds_in(from, segment.end())
                .iter()
                .filter(|(_, kind)| matches!(kind, FrameKind::Agent | FrameKind::Partial(_)))
                .count() as u64;
            lines += (segment.frames - account.frames_passed(segment)).saturating_sub(not_lines);
        }
        lines.saturating_sub(account.already_counted_lines())
    }

    /// Bytes that this drain has not yet answered for.
    pub fn held_bytes(&self, drain: usize) -> u64 {
        self.accounts
            .get(drain)
            .map_or(0, |account| self.ahead(account).map(|(segment, from)| segment.end() - from).sum())
    }

    /// Bytes of dead agents that this drain has not yet answered for.
    pub fn adopted_bytes(&self, drain: usize) -> u64 {
        let Some(account) = self.accounts.get(drain) else { return 0 };
        let adopted = self.segments.iter().filter(|segment| segment.origin.is_some());
        let left = adopted.map(|segment| (segment, segment.start.max(account.cursor())));
        left.filter(|(_, from)| !account.in_dropped_range(*from))
            .map(|(s, from)| s.end().saturating_sub(from))
            .sum()
    }

    /// Where the oldest frame stands that this drain has not answered for: its segment, and its offset in that.
    pub fn oldest(&self, drain: usize) -> Option<(&Segment, u64)> {
        let account = self.accounts.get(drain)?;
        self.ahead(account).next().map(|(segment, from)| (segment, from - segment.start))
    }

    /// The segments of ours that lie ahead of an account, outside its dropped_ranges, and from which offset on.
    fn ahead<'a>(&'a self, account: &'a Account) -> impl Iterator<Item = (&'a Segment, u64)> {
        self.segments.iter().filter(|s| s.origin.is_none()).filter_map(|segment| {
            let from = segment.start.max(account.cursor());
            (from < segment.end() && !account.in_dropped_range(from)).then_some((segment, from))
        })
    }

    /// What is missing on the left or right side of the conservation law: 0 at every instant.
    pub fn imbalance(&self, drain: usize) -> i64 {
        let Some(account) = self.accounts.get(drain) else { return 0 };
        let known = account.delivered() + self.held(drain) + account.dropped() + account.rejected();
        self.captured() as i64 - known as i64
    }

    /// Drops the oldest segment that no sealed batch pins, for every drain that has not passed it, and takes
    /// it out of the ledger: the caller removes its bytes. The last segment stays, it is being written.
    pub fn drop_oldest(&mut self, reason: DropReason) -> Option<Segment> {
        let last = self.segments.len().checked_sub(1)?;
        let index = (0..last).find(|index| {
            let segment = &self.segments[*index];
            !self.accounts.iter().any(|account| account.pins(segment))
        })?;
        for account in &mut self.accounts {
            account.drop_oldest(&self.segments, index, reason);
        }
        let segment = self.segments.remove(index)?;
        self.bytes -= segment.len;
        Some(segment)
    }

    /// Takes out the oldest segment when every drain is past it; the caller removes its bytes.
    pub fn pop_consumed(&mut self) -> Option<Segment> {
        let front = self.segments.front()?;
        let is_last = self.segments.len() == 1;
        let passed = self.accounts.iter().all(|account| account.cursor() >= front.end());
        if is_last || !passed {
            return None;
        }
        let segment = self.segments.pop_front()?;
        self.bytes -= segment.len;
        Some(segment)
    }

    /// Seals a batch for a drain: from now on its range, count, notice and id stay as they are, until it is
    /// answered for or halved. `agent` is our id, `notice` writes a loss notice.
    ///
    /// # Errors
    /// [`SealRange`] says from where to where the drain may seal.
    pub fn seal(
        &mut self,
        drain: usize,
        range: (u64, u64),
        frames: u64,
        identity: &Identity<'_>,
        notice: impl FnOnce(&Loss) -> Vec<u8>,
    ) -> Result<&SealedBatch, SealRange> {
        let head = self.head;
        let segments = &self.segments;
        let account = self.accounts.get_mut(drain).ok_or(SealRange { cursor: head, limit: head })?;
        account.seal(segments, head, range, frames, identity, notice)
    }

    /// Where a drain may seal: from its cursor to its next range, or to the head.
    pub fn window(&self, drain: usize) -> SealRange {
        self.accounts.get(drain).map_or(SealRange { cursor: self.head, limit: self.head }, |account| {
            account.window(&self.segments, self.head)
        })
    }

    /// The sealed batch of a drain was taken.
    pub fn delivered(&mut self, drain: usize) {
        if let Some(account) = self.accounts.get_mut(drain) {
            account.complete_batch(&self.segments, true);
        }
    }

    /// The sealed batch of a drain was refused for good.
    pub fn rejected(&mut self, drain: usize) {
        if let Some(account) = self.accounts.get_mut(drain) {
            account.complete_batch(&self.segments, false);
        }
    }

    /// What stands at the drain's cursor is not frames: the drain goes on behind that segment. Returns the
    /// bytes that were passed over.
    pub fn skip_damaged(&mut self, drain: usize) -> u64 {
        let Some(account) = self.accounts.get_mut(drain) else { return 0 };
        let from = account.cursor();
        let Some(index) = self.segments.iter().position(|s| (s.start..s.end()).contains(&from)) else {
            return 0;
        };
        account.cancel_batch();
        account.drop_oldest(&self.segments, index, DropReason::SpoolDamaged);
        account.cursor() - from
    }
}

#[cfg(test)]
mod tests;
