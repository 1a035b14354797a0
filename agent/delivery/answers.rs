//! What the supervisor answers the shipper: pure over the ledger. (What a drain answers: `shipper::verdict`.)

use crate::frame::Losses;
use crate::ledger::{BatchRange, DrainIndex, Identity, Ledger, Offset, SegmentStart};
use crate::protocol::{Connection, ToShipper};

/// Where updates go.
pub(super) trait Outbox {
    /// Whether updates may be added.
    fn has_room(&self) -> bool;
    /// Adds a message.
    fn add(&mut self, message: ToShipper);
}

impl Outbox for Connection {
    fn has_room(&self) -> bool {
        Self::has_room(self)
    }

    fn add(&mut self, message: ToShipper) {
        self.send(&message);
    }
}

/// How much of the spool the shipper knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShipperView {
    log_end: Offset,
    /// Start of the last segment that was sent; none for a new shipper.
    segment: Option<Offset>,
}

impl ShipperView {
    /// Sends the segments and frames that the shipper does not know. A new one gets all segments, however many; later
    /// updates end where the outbox is full.
    pub(super) fn update(&mut self, ledger: &Ledger, outbox: &mut impl Outbox) {
        let known = self.segment;
        let new = ledger.segments().rev().take_while(|s| known.is_none_or(|known| s.start > known)).count();
        for segment in ledger.segments().skip(ledger.segments().len() - new) {
            if !outbox.has_room() && known.is_some() {
                return;
            }
            let (start, location) = (segment.start, segment.location.clone());
            outbox.add(ToShipper::Segment(SegmentStart { start, location }));
            self.segment = Some(start);
        }
        if self.is_behind(ledger) && outbox.has_room() {
            self.log_end = ledger.log_end();
            outbox.add(ToShipper::LogEnd(self.log_end));
        }
    }

    /// Whether there are frames that the shipper does not know of.
    pub(super) fn is_behind(&self, ledger: &Ledger) -> bool {
        ledger.log_end() > self.log_end
    }
}

/// Where a drain continues: with its sealed batch, or where it may seal.
pub(super) fn position(ledger: &Ledger, drain: DrainIndex) -> ToShipper {
    match ledger.account(drain).and_then(|account| account.batch()) {
        Some(batch) => ToShipper::SealedBatch { drain, batch: batch.clone() },
        None => seal_range(ledger, drain),
    }
}

/// Where a drain may seal. Up to the end of the log means without a limit: that end moves.
fn seal_range(ledger: &Ledger, drain: DrainIndex) -> ToShipper {
    let mut range = ledger.seal_range(drain);
    if range.limit == ledger.log_end() && !range.is_one_batch {
        range.limit = Offset::MAX;
    }
    ToShipper::SealRange { drain, range }
}

/// Seals a batch as asked, or says where the drain may seal.
pub(super) fn seal(
    ledger: &mut Ledger,
    drain: DrainIndex,
    range: BatchRange,
    identity: &Identity<'_>,
    notice: impl FnOnce(&Losses) -> Vec<u8>,
) -> ToShipper {
    match ledger.seal(drain, range, identity, notice) {
        Ok(batch) => ToShipper::SealedBatch { drain, batch: batch.clone() },
        Err(_) => seal_range(ledger, drain),
    }
}

/// The drain found no frames at `at`. Skips what is left of that segment if `at` is its cursor; returns also the bytes
/// that were skipped.
pub(super) fn skip_damage(ledger: &mut Ledger, drain: DrainIndex, at: Offset) -> (ToShipper, u64) {
    let is_cursor = ledger.account(drain).is_some_and(|account| account.cursor() == at);
    let skipped = if is_cursor && at < ledger.log_end() { ledger.skip_damaged(drain) } else { 0 };
    if !is_cursor {
        ledger.cancel_resumed(drain, at);
    }
    (seal_range(ledger, drain), skipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::DropReason;
    use crate::ledger::{Appended, BatchOutcome, SealRange, SegmentLocation};

    /// Bytes of every frame in these tests.
    const FRAME: u64 = 10;
    const D0: DrainIndex = DrainIndex::new(0);
    const IDENTITY: Identity<'_> = Identity { agent: "a1", drain: "d.1" };

    /// Messages by their kind and offsets, and how many fit.
    #[derive(Default)]
    struct Sent {
        messages: Vec<ToShipper>,
        room: usize,
    }

    impl Outbox for Sent {
        fn has_room(&self) -> bool {
            self.messages.len() < self.room
        }

        fn add(&mut self, message: ToShipper) {
            self.messages.push(message);
        }
    }

    /// A ledger with segments of this many frames each, all full lines.
    fn ledger(segments: &[u64]) -> Ledger {
        let mut ledger = Ledger::new(["drain".to_owned()], Vec::new());
        for (slot, frames) in (0..).zip(segments) {
            ledger.open_segment(SegmentLocation::Memory(slot));
            append(&mut ledger, *frames);
        }
        ledger
    }

    fn append(ledger: &mut Ledger, frames: u64) {
        let len = frames * FRAME;
        ledger.append(&Appended { len, frames, ended: frames, ..Appended::default() });
    }

    fn segment(slot: u8, frame: u64) -> ToShipper {
        let start = Offset::new(frame * FRAME);
        ToShipper::Segment(SegmentStart { start, location: SegmentLocation::Memory(slot) })
    }

    fn log_end(frame: u64) -> ToShipper {
        ToShipper::LogEnd(Offset::new(frame * FRAME))
    }

    fn may_seal(from: u64, limit: Option<u64>) -> ToShipper {
        let limit = limit.map_or(Offset::MAX, |frame| Offset::new(frame * FRAME));
        ToShipper::SealRange {
            drain: D0,
            range: SealRange { cursor: Offset::new(from * FRAME), limit, is_one_batch: false },
        }
    }

    fn range(frames: std::ops::Range<u64>) -> BatchRange {
        let (start, end) = (Offset::new(frames.start * FRAME), Offset::new(frames.end * FRAME));
        BatchRange { start, end, frames: frames.end - frames.start }
    }

    #[test]
    fn a_shipper_learns_of_every_segment_and_then_of_the_log_end() {
        let mut ledger = ledger(&[2, 3]);
        let mut view = ShipperView::default();
        let mut update = |ledger: &Ledger, room| {
            let mut sent = Sent { room, ..Sent::default() };
            view.update(ledger, &mut sent);
            sent.messages
        };
        assert_eq!(update(&ledger, 0), [segment(0, 0), segment(1, 2)], "a new one gets all segments");
        assert_eq!(update(&ledger, 9), [log_end(5)], "what did not fit comes later");
        assert_eq!(update(&ledger, 9), [], "nothing is sent twice");
        append(&mut ledger, 1);
        assert_eq!(update(&ledger, 9), [log_end(6)]);
        for slot in 2..4 {
            ledger.open_segment(SegmentLocation::Memory(slot));
            append(&mut ledger, 1);
        }
        assert_eq!(update(&ledger, 1), [segment(2, 6)], "an update ends where the outbox is full");
        assert_eq!(update(&ledger, 9), [segment(3, 7), log_end(8)]);
    }

    #[test]
    fn a_seal_request_is_answered_with_the_batch_or_with_where_to_seal() {
        for (asked, answer) in [
            (range(0..3), None),
            (range(0..0), Some(may_seal(0, None))),
            (range(1..3), Some(may_seal(0, None))),
            (range(0..9), Some(may_seal(0, None))),
        ] {
            let mut ledger = ledger(&[2, 3]);
            let actual = seal(&mut ledger, D0, asked, &IDENTITY, |_| Vec::new());
            if let Some(answer) = answer {
                assert_eq!(actual, answer, "{asked:?}");
            } else {
                assert!(matches!(&actual, ToShipper::SealedBatch { batch, .. } if batch.range == asked));
                assert_eq!(position(&ledger, D0), actual, "a new shipper gets the same batch");
            }
        }
        let no_drain = DrainIndex::new(7);
        let answer = seal(&mut ledger(&[1]), no_drain, range(0..1), &IDENTITY, |_| Vec::new());
        assert!(matches!(answer, ToShipper::SealRange { .. }));
    }

    #[test]
    fn a_dropped_range_limits_the_next_batch() {
        let mut ledger = ledger(&[2, 3, 4]);
        seal(&mut ledger, D0, range(0..1), &IDENTITY, |_| Vec::new());
        assert!(ledger.drop_oldest(DropReason::SpoolFull).is_some_and(|s| s.start == Offset::new(2 * FRAME)));
        ledger.complete_batch(D0, BatchOutcome::Delivered);
        assert_eq!(position(&ledger, D0), may_seal(1, Some(2)));
    }

    #[test]
    fn damage_is_skipped_at_the_cursor_only() {
        for (at, skipped, answer) in [
            (0, 2 * FRAME, may_seal(2, None)),
            (1, 0, may_seal(0, None)), // not the cursor: the shipper is out of date
            (5, 0, may_seal(0, None)), // behind the end
        ] {
            let mut ledger = ledger(&[2, 3]);
            let actual = skip_damage(&mut ledger, D0, Offset::new(at * FRAME));
            assert_eq!(actual, (answer, skipped), "at frame {at}");
            assert_eq!(ledger.imbalance(D0), 0);
        }
        let mut ledger = ledger(&[]);
        assert_eq!(skip_damage(&mut ledger, D0, Offset::ZERO), (may_seal(0, None), 0), "an empty spool");
    }
}
