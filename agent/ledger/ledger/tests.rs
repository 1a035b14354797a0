use super::super::TimeRange;
use super::*;
use crate::frame::{Loss, Timestamp};
use crate::line::{Fragment, Stream};

const IDENTITY: Identity<'_> = Identity { agent: "a1", drain: "d.1" };
/// Bytes of every frame in these tests.
const FRAME: u64 = 10;
/// The first drain.
const D0: DrainIndex = DrainIndex::new(0);
const TIMES: TimeRange = TimeRange { first: Timestamp::from_micros(1), last: Timestamp::from_micros(2) };

/// The offset of the frame with this number.
const fn offset(frame: u64) -> Offset {
    Offset::new(frame * FRAME)
}

/// The frames with these numbers.
fn range(frames: Range<u64>) -> BatchRange {
    BatchRange { start: offset(frames.start), end: offset(frames.end), frames: frames.end - frames.start }
}

fn ledger(drains: usize) -> Ledger {
    let mut ledger = Ledger::new((0..drains).map(|d| format!("drain-{d}")), Vec::new());
    ledger.open_segment(SegmentLocation::Memory(0));
    ledger
}

fn append(ledger: &mut Ledger, fragments: &[(Stream, Fragment)]) {
    let special = fragments.iter().enumerate().filter_map(|(index, (stream, fragment))| {
        let kind = FrameKind::of(*fragment, *stream)?;
        Some(SpecialFrame { offset: index as u32 * FRAME as u32, kind })
    });
    ledger.append(&Appended {
        notices: Vec::new(),
        len: fragments.len() as u64 * FRAME,
        frames: fragments.len() as u64,
        special: special.collect(),
        ended: fragments.iter().filter(|(_, fragment)| *fragment != Fragment::Partial).count() as u64,
        closed: Vec::new(),
        times: Some(TIMES),
    });
}

fn lines_of(losses: &Losses) -> Vec<u64> {
    losses.iter().map(|loss| loss.lines).collect()
}

/// Appends a notice of this loss.
fn append_notice(ledger: &mut Ledger, loss: Loss) {
    ledger.append(&Appended {
        len: FRAME,
        frames: 1,
        special: vec![SpecialFrame { offset: 0, kind: FrameKind::Agent }],
        notices: vec![SpooledNotice { offset: 0, loss }],
        times: Some(TIMES),
        ..Appended::default()
    });
}

/// The losses that the next batch, of one frame, announces.
fn next_announced(ledger: &mut Ledger) -> Losses {
    let start = ledger.seal_range(D0).cursor;
    let (mut announced, range) = (Losses::default(), BatchRange { start, end: start + FRAME, frames: 1 });
    let sealed = ledger.seal(D0, range, &IDENTITY, |losses| {
        announced = losses.clone();
        b"notice".to_vec()
    });
    sealed.expect("a frame");
    announced
}

fn append_agent_line(ledger: &mut Ledger) {
    let special = vec![SpecialFrame { offset: 0, kind: FrameKind::Agent }];
    ledger.append(&Appended { len: FRAME, frames: 1, special, ..Appended::default() });
}

fn seal(ledger: &mut Ledger, frames: u64) -> SealedBatch {
    let start = ledger.seal_range(D0).cursor;
    let range = BatchRange { start, end: start + frames * FRAME, frames };
    ledger.seal(D0, range, &IDENTITY, |_| Vec::new()).expect("within the range").clone()
}

fn deliver(ledger: &mut Ledger) {
    ledger.complete_batch(D0, BatchOutcome::Delivered);
}

#[test]
fn a_delivered_batch_leaves_nothing_held() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Full), (Stream::Err, Fragment::Full)]);
    assert_eq!((ledger.captured(), ledger.held(D0)), (2, 2));
    seal(&mut ledger, 2);
    deliver(&mut ledger);
    assert_eq!((ledger.held(D0), ledger.accounts()[0].delivered(), ledger.imbalance(D0)), (0, 2, 0));
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    assert_eq!((ledger.held(D0), ledger.imbalance(D0)), (1, 0));
}

#[test]
fn a_line_of_which_a_part_was_dropped_is_dropped_whole() {
    use Fragment::{Final, Full, Partial};
    use Stream::{Err, Out};
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Out, Full), (Out, Partial)]);
    seal(&mut ledger, 2);
    deliver(&mut ledger);
    append(&mut ledger, &[(Out, Partial), (Err, Full)]);
    ledger.open_segment(SegmentLocation::Memory(1));
    append(&mut ledger, &[(Out, Final), (Out, Full)]);
    ledger.open_segment(SegmentLocation::Memory(2));
    append(&mut ledger, &[(Out, Full)]);
    assert!(ledger.drop_oldest(DropReason::SpoolFull).is_some());
    assert_eq!(ledger.accounts()[0].dropped(), 2, "the long line and the one on stderr");
    assert_eq!(ledger.held(D0), 2);
    seal(&mut ledger, 3);
    deliver(&mut ledger);
    assert_eq!(ledger.accounts()[0].delivered(), 3);
    assert_eq!(ledger.imbalance(D0), 0);
}

#[test]
fn a_sealed_batch_is_pinned_and_the_loss_is_announced_at_the_gap() {
    let mut ledger = ledger(1);
    for slot in 1..5 {
        append(&mut ledger, &[(Stream::Out, Fragment::Full); 3]);
        ledger.open_segment(SegmentLocation::Memory(slot));
    }
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    seal(&mut ledger, 2);
    let dropped = ledger.drop_oldest(DropReason::SpoolFull).expect("the oldest that is not pinned");
    assert_eq!(dropped.start, offset(3));
    assert_eq!(ledger.imbalance(D0), 0);
    deliver(&mut ledger);
    let allowed = SealRange { cursor: offset(2), limit: offset(3), is_one_batch: false };
    assert_eq!(ledger.seal_range(D0), allowed, "up to the gap");
    assert_eq!(ledger.seal(D0, range(2..7), &IDENTITY, |_| Vec::new()).err(), Some(allowed));
    assert!(seal(&mut ledger, 1).notice.is_empty(), "not before the gap");
    deliver(&mut ledger);
    assert_eq!(ledger.seal_range(D0).cursor, offset(6));
    let batch = ledger.seal(D0, range(6..9), &IDENTITY, |losses| {
        let (since, until) = (TIMES.first, TIMES.last);
        let loss = Loss { lines: 3, since, until, reason: DropReason::SpoolFull };
        assert_eq!(*losses, Losses::from_iter([loss]));
        b"notice".to_vec()
    });
    let first = batch.expect("behind the gap").clone();
    let half = ledger.seal(D0, range(6..7), &IDENTITY, |_| unreachable!()).expect("split").clone();
    assert_eq!((first.notice.as_slice(), half.notice.as_slice()), (&b"notice"[..], &b"notice"[..]));
    assert_ne!(first.id, half.id);
    ledger.complete_batch(D0, BatchOutcome::Rejected);
    let again =
        ledger.seal(D0, range(7..8), &IDENTITY, |losses| format!("{:?}", lines_of(losses)).into_bytes());
    assert_eq!(again.expect("next").notice, b"[3]", "a notice that was refused is announced again");
    assert_eq!(ledger.imbalance(D0), 0);
}

/// A line whose rest was lost, and the notice of that loss, in a segment of their own; behind it a whole line.
fn ledger_with_gap() -> (Ledger, Loss) {
    let (since, until) = (TIMES.first, TIMES.last);
    let gap = Loss { lines: 5, since, until, reason: DropReason::RecorderBehind };
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Full), (Stream::Out, Fragment::Partial)]);
    let kind = FrameKind::Incomplete(Stream::Out, gap.reason);
    ledger.append(&Appended { ended: 1, closed: vec![kind], ..Appended::default() });
    append_notice(&mut ledger, gap);
    ledger.drop_unrecorded(4, gap.reason);
    ledger.open_segment(SegmentLocation::Memory(1));
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    (ledger, gap)
}

#[test]
fn what_a_dropped_notice_would_have_announced_is_announced_anew() {
    let (mut ledger, gap) = ledger_with_gap();
    ledger.drop_oldest(DropReason::SpoolFull).expect("the segment with the notice");
    assert_eq!(
        ledger.accounts()[0].dropped(),
        6,
        "one whole line, one of which a part was lost, four unrecorded"
    );
    let full = Loss { lines: 1, reason: DropReason::SpoolFull, ..gap };
    assert_eq!(next_announced(&mut ledger), Losses::from_iter([full, gap]), "each line once, by its reason");
    assert_eq!(ledger.imbalance(D0), 0);
}

#[test]
fn what_a_refused_notice_in_the_spool_announces_is_announced_anew() {
    let (mut ledger, gap) = ledger_with_gap();
    seal(&mut ledger, 3);
    ledger.complete_batch(D0, BatchOutcome::Rejected);
    assert_eq!(next_announced(&mut ledger), Losses::from_iter([gap]));
    assert_eq!(ledger.imbalance(D0), 0);
}

#[test]
fn a_drain_that_does_not_exist_holds_nothing_and_cannot_seal() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 2]);
    let none = DrainIndex::new(1);
    assert_eq!((ledger.held(none), ledger.held_bytes(none), ledger.adopted_left(none).bytes), (0, 0, 0));
    assert!(ledger.is_consumed(none) && !ledger.has_to_announce(none) && ledger.oldest(none).is_none());
    let nothing = SealRange { cursor: offset(2), limit: offset(2), is_one_batch: false };
    assert_eq!(ledger.seal_range(none), nothing);
    assert_eq!(ledger.seal(none, range(0..1), &IDENTITY, |_| Vec::new()).err(), Some(nothing));
    assert!(ledger.is_possible(none, range(0..1)));
    assert_eq!(ledger.skip_damaged(none), 0);
}

#[test]
fn a_segment_is_removed_when_every_drain_has_consumed_it() {
    let (mut ledger, d1) = (ledger(2), DrainIndex::new(1));
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 2]);
    ledger.open_segment(SegmentLocation::Memory(1));
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 3]);
    assert_eq!((ledger.bytes(), ledger.held_bytes(D0)), (5 * FRAME, 5 * FRAME));
    let batch = |ledger: &mut Ledger, drain, frames| {
        ledger.seal(drain, range(frames), &IDENTITY, |_| Vec::new()).expect("frames");
        ledger.complete_batch(drain, BatchOutcome::Delivered);
    };
    batch(&mut ledger, D0, 0..1);
    let oldest = ledger.oldest(D0).map(|(segment, at)| (segment.start, at));
    assert_eq!((oldest, ledger.held_bytes(D0)), (Some((offset(0), FRAME)), 4 * FRAME));
    batch(&mut ledger, D0, 1..2);
    assert_eq!(ledger.oldest(D0).map(|(segment, at)| (segment.start, at)), Some((offset(2), 0)));
    assert!(ledger.pop_consumed().is_none(), "not by the second drain");
    assert!(!ledger.is_consumed(D0) && !ledger.is_consumed(d1));
    batch(&mut ledger, d1, 0..2);
    assert_eq!(ledger.pop_consumed().map(|segment| segment.start), Some(offset(0)));
    assert_eq!((ledger.bytes(), ledger.segments().len()), (3 * FRAME, 1));
    batch(&mut ledger, D0, 2..5);
    batch(&mut ledger, d1, 2..5);
    assert!(ledger.pop_consumed().is_none() && ledger.next_to_drop().is_none(), "the last one is written to");
    assert!(ledger.is_consumed(D0) && ledger.is_consumed(d1));
}

#[test]
fn a_batch_has_as_many_frames_as_its_range_can_hold() {
    use Fragment::{Final, Full, Partial};
    use Stream::Out;
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Out, Full), (Out, Partial), (Out, Final), (Out, Full), (Out, Full)]);
    ledger.open_segment(SegmentLocation::Memory(1));
    append(&mut ledger, &[(Out, Full); 4]);
    let possible = |ledger: &Ledger, end: Offset| {
        let start = ledger.seal_range(D0).cursor;
        (0..20)
            .filter(|frames| ledger.is_possible(D0, BatchRange { start, end, frames: *frames }))
            .collect::<Vec<_>>()
    };
    for (end, frames) in [
        (offset(1), vec![1, 2, 3]),
        (offset(2), vec![1, 2, 3, 4]),
        (offset(3), vec![2, 3, 4]),
        (offset(5), vec![5]),
        (offset(6), vec![6, 7, 8]),
        (offset(9), vec![9]),
    ] {
        assert_eq!(possible(&ledger, end), frames, "{end}");
    }
    seal(&mut ledger, 3);
    deliver(&mut ledger);
    assert_eq!((possible(&ledger, offset(4)), possible(&ledger, offset(5))), (vec![1], vec![2]));
    seal(&mut ledger, 2);
    deliver(&mut ledger);
    assert_eq!((possible(&ledger, offset(6)), possible(&ledger, offset(9))), (vec![1, 2, 3], vec![4]));
    let any = (0..20).collect::<Vec<_>>();
    assert_eq!(possible(&ledger, offset(5)), any, "an empty range is judged elsewhere");
    assert_eq!(possible(&ledger, offset(10)), any, "and one beyond the end");
}

#[test]
fn a_batch_without_a_notice_has_bytes_and_frames() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 2]);
    let allowed = SealRange { cursor: offset(0), limit: offset(2), is_one_batch: false };
    for (start, end, frames) in [(0, 1, 0), (0, 0, 1), (0, 0, 0), (0, 3, 2), (1, 2, 1)] {
        let range = BatchRange { start: offset(start), end: offset(end), frames };
        assert_eq!(ledger.seal(D0, range, &IDENTITY, |_| Vec::new()).err(), Some(allowed), "{range:?}");
    }
}

#[test]
fn a_line_of_which_parts_are_refused_or_dropped_counts_once() {
    use Fragment::{Final, Full, Partial};
    let out = |fragment| (Stream::Out, fragment);
    let mut ledger = ledger(1);
    append(&mut ledger, &[out(Partial), out(Partial), out(Final), out(Partial)]);
    for _ in 0..2 {
        seal(&mut ledger, 1);
        ledger.complete_batch(D0, BatchOutcome::Rejected);
        assert_eq!((ledger.accounts()[0].rejected(), ledger.imbalance(D0)), (1, 0), "at its first part");
    }
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    assert_eq!((ledger.accounts()[0].delivered(), ledger.imbalance(D0)), (0, 0));
    ledger.open_segment(SegmentLocation::Memory(1));
    append(&mut ledger, &[out(Final), out(Full)]);
    ledger.open_segment(SegmentLocation::Memory(2));
    seal(&mut ledger, 1);
    ledger.drop_oldest(DropReason::SpoolFull).expect("its end");
    ledger.complete_batch(D0, BatchOutcome::Rejected);
    let account = &ledger.accounts()[0];
    assert_eq!(
        (account.rejected(), account.dropped(), ledger.imbalance(D0)),
        (1, 2, 0),
        "dropped before it was refused"
    );
}

#[test]
fn a_dropped_segment_without_lines_is_no_loss() {
    let mut ledger = ledger(1);
    append_agent_line(&mut ledger);
    ledger.open_segment(SegmentLocation::Memory(1));
    ledger.drop_oldest(DropReason::SpoolFull).expect("the first segment");
    assert!(ledger.is_consumed(D0) && ledger.accounts()[0].unannounced().is_empty());
    assert_eq!((ledger.accounts()[0].dropped_by().count(), ledger.accounts()[0].cursor()), (0, offset(1)));
}

#[test]
fn a_dropped_segment_says_nothing_of_a_line_that_has_no_part_in_it() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Partial)]);
    ledger.open_segment(SegmentLocation::Memory(1));
    append(&mut ledger, &[(Stream::Err, Fragment::Full)]);
    ledger.open_segment(SegmentLocation::Memory(2));
    append(&mut ledger, &[(Stream::Out, Fragment::Final)]);
    seal(&mut ledger, 1);
    ledger.drop_oldest(DropReason::SpoolFull).expect("the line on stderr");
    ledger.complete_batch(D0, BatchOutcome::Rejected);
    assert_eq!((ledger.accounts()[0].rejected(), ledger.imbalance(D0)), (1, 0));
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    let account = &ledger.accounts()[0];
    assert_eq!((account.delivered(), account.dropped(), ledger.imbalance(D0)), (0, 1, 0));
}

#[test]
fn a_line_across_dropped_segments_counts_where_it_began() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Err, Fragment::Full)]);
    let segments = [
        (Stream::Out, Fragment::Partial),
        (Stream::Err, Fragment::Full),
        (Stream::Out, Fragment::Final),
        (Stream::Out, Fragment::Full),
    ];
    for (slot, line) in (1..).zip(segments) {
        ledger.open_segment(SegmentLocation::Memory(slot));
        append(&mut ledger, &[line]);
    }
    seal(&mut ledger, 1);
    for (dropped, held) in [(1, 3), (2, 2), (2, 2)] {
        ledger.drop_oldest(DropReason::SpoolFull).expect("a segment behind the sealed batch");
        assert_eq!((ledger.accounts()[0].dropped(), ledger.held(D0)), (dropped, held));
    }
    deliver(&mut ledger);
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    assert_eq!((ledger.accounts()[0].delivered(), ledger.held(D0), ledger.imbalance(D0)), (2, 0, 0));
}

#[test]
fn the_end_of_a_refused_line_is_not_dropped_again() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Partial)]);
    ledger.open_segment(SegmentLocation::Memory(1));
    append(&mut ledger, &[(Stream::Out, Fragment::Final), (Stream::Out, Fragment::Full)]);
    ledger.open_segment(SegmentLocation::Memory(2));
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    seal(&mut ledger, 1);
    ledger.complete_batch(D0, BatchOutcome::Rejected);
    ledger.drop_oldest(DropReason::SpoolFull).expect("what was refused");
    ledger.drop_oldest(DropReason::SpoolFull).expect("its end, and one more line");
    let account = &ledger.accounts()[0];
    assert_eq!((account.rejected(), account.dropped(), ledger.imbalance(D0)), (1, 1, 0));
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    assert_eq!((ledger.accounts()[0].delivered(), ledger.imbalance(D0)), (1, 0));
}

#[test]
fn a_notice_alone_does_not_move_the_cursor_back() {
    let mut ledger = ledger(1);
    let (since, until) = (TIMES.first, TIMES.last);
    ledger.announce(&Losses::from_iter([Loss {
        lines: 1,
        since,
        until,
        reason: DropReason::SpoolUnwritable,
    }]));
    ledger.seal(D0, range(0..0), &IDENTITY, |_| b"n".to_vec()).expect("a notice alone");
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    ledger.open_segment(SegmentLocation::Memory(1));
    ledger.drop_oldest(DropReason::SpoolFull).expect("a segment that no batch pins");
    deliver(&mut ledger);
    assert_eq!((ledger.accounts()[0].cursor(), ledger.imbalance(D0)), (offset(1), 0));
}

#[test]
fn a_line_that_ended_with_an_earlier_part_counts_where_that_part_is() {
    let (out, reason) = (Stream::Out, DropReason::RecorderBehind);
    for (kind, delivered, dropped) in
        [(FrameKind::Final(out), 1, 0), (FrameKind::Incomplete(out, reason), 0, 1)]
    {
        let close = |ledger: &mut Ledger| {
            ledger.append(&Appended { ended: 1, closed: vec![kind], ..Appended::default() });
            assert_eq!(ledger.imbalance(D0), 0);
        };
        let counts = |ledger: &Ledger| {
            let account = &ledger.accounts()[0];
            (account.delivered(), account.dropped(), account.rejected(), ledger.held(D0))
        };
        let part_and_line = || {
            let mut ledger = ledger(1);
            append(&mut ledger, &[(out, Fragment::Partial), (Stream::Err, Fragment::Full)]);
            ledger
        };

        let mut ledger = part_and_line();
        close(&mut ledger);
        assert_eq!(counts(&ledger), (0, 0, 0, 2), "at the cursor");
        seal(&mut ledger, 1);
        deliver(&mut ledger);
        assert_eq!(counts(&ledger), (delivered, dropped, 0, 1));

        let mut ledger = part_and_line();
        seal(&mut ledger, 1);
        deliver(&mut ledger);
        close(&mut ledger);
        assert_eq!(counts(&ledger), (delivered, dropped, 0, 1), "behind the cursor");

        let mut ledger = part_and_line();
        seal(&mut ledger, 1);
        ledger.complete_batch(D0, BatchOutcome::Rejected);
        close(&mut ledger);
        assert_eq!(counts(&ledger), (0, 0, 1, 1), "refused before");

        let mut ledger = part_and_line();
        seal(&mut ledger, 2);
        ledger.open_segment(SegmentLocation::Memory(1));
        append(&mut ledger, &[(out, Fragment::Partial)]);
        ledger.open_segment(SegmentLocation::Memory(2));
        ledger.drop_oldest(DropReason::SpoolFull).expect("behind the sealed batch");
        close(&mut ledger);
        append(&mut ledger, &[(out, Fragment::Full)]);
        deliver(&mut ledger);
        assert_eq!(counts(&ledger), (1, 1, 0, 1), "dropped before");
    }
}

#[test]
fn a_damaged_part_of_a_line_that_was_dropped_further_on_is_not_counted_again() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Partial)]);
    ledger.open_segment(SegmentLocation::Memory(1));
    append(&mut ledger, &[(Stream::Out, Fragment::Final)]);
    ledger.open_segment(SegmentLocation::Memory(2));
    seal(&mut ledger, 1);
    ledger.drop_oldest(DropReason::SpoolFull).expect("its end");
    assert_eq!(ledger.skip_damaged(D0), 2 * FRAME, "up to the next frame that is left");
    assert_eq!((ledger.accounts()[0].dropped(), ledger.held(D0), ledger.imbalance(D0)), (1, 0, 0));
}

#[test]
fn a_segment_grows_on_behind_its_damaged_part() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 2]);
    assert_eq!(ledger.skip_damaged(D0), 2 * FRAME);
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    assert_eq!((ledger.held(D0), ledger.imbalance(D0)), (1, 0));
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    assert_eq!((ledger.accounts()[0].delivered(), ledger.held(D0)), (1, 0));
}

#[test]
fn a_part_is_known_until_its_line_ends() {
    use Fragment::{Final, Partial};
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Partial), (Stream::Err, Partial), (Stream::Out, Partial)]);
    ledger.set_unfinished(PerStream { out: true, err: true });
    assert_eq!((ledger.captured(), ledger.held(D0)), (2, 2));
    append(&mut ledger, &[(Stream::Out, Final)]);
    ledger.set_unfinished(PerStream { out: false, err: true });
    assert_eq!((ledger.captured(), ledger.held(D0)), (2, 2));
    ledger.set_unfinished(PerStream::default());
    ledger.append(&Appended { ended: 1, closed: vec![FrameKind::Final(Stream::Err)], ..Appended::default() });
    assert_eq!((ledger.captured(), ledger.held(D0)), (2, 2));
    let kinds = |ledger: &Ledger| {
        let segment = ledger.segments().next().expect("a segment");
        segment.special_in(segment.start, segment.end()).iter().map(|frame| frame.kind).collect::<Vec<_>>()
    };
    let (out, err) = (FrameKind::Partial(Stream::Out), FrameKind::Final(Stream::Err));
    assert_eq!(kinds(&ledger), [out, err, out, FrameKind::Final(Stream::Out)], "the part is the end now");
}

#[test]
fn losses_are_announced_where_they_happened() {
    let mut ledger = ledger(1);
    let loss =
        |lines, reason| Losses::from_iter([Loss { lines, since: TIMES.first, until: TIMES.last, reason }]);
    for lines in [1, 2, 3] {
        append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
        ledger.announce(&loss(lines, DropReason::SpoolUnwritable));
        ledger.announce(&loss(10 * lines, DropReason::SpoolUnwritable));
        ledger.announce(&Losses::default());
    }
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    for lines in [11, 22, 33] {
        assert_eq!(next_announced(&mut ledger), loss(lines, DropReason::SpoolUnwritable));
        deliver(&mut ledger);
    }
    assert!(ledger.is_consumed(D0));
}

#[test]
fn only_the_notices_of_a_refused_batch_are_announced_anew() {
    let loss = Loss { lines: 5, since: TIMES.first, until: TIMES.last, reason: DropReason::RecorderBehind };
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    ledger.append(&Appended {
        len: 2 * FRAME,
        frames: 2,
        special: vec![SpecialFrame { offset: FRAME as u32, kind: FrameKind::Agent }],
        ended: 1,
        notices: vec![SpooledNotice { offset: FRAME as u32, loss }],
        ..Appended::default()
    });
    for (frames, expected) in [(2, Losses::default()), (1, Losses::from_iter([loss]))] {
        seal(&mut ledger, frames);
        ledger.complete_batch(D0, BatchOutcome::Rejected);
        assert_eq!(ledger.accounts()[0].unannounced(), expected);
    }
}

#[test]
fn frame_ids_are_pinned() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 2]);
    assert_eq!(seal(&mut ledger, 2).id, "00301396204F65CA888D040659816EA1");
}

#[test]
fn the_json_has_the_keys_of_the_contract() {
    let mut ledger = ledger(2);
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 2]);
    ledger.drop_unrecorded(3, DropReason::RecorderBehind);
    ledger.drop_unrecorded(0, DropReason::SpoolFull);
    append_agent_line(&mut ledger);
    let json: serde_json::Value = serde_json::from_str(&ledger.report().json("a\"1")).unwrap();
    assert_eq!((&json["agent"], &json["captured_lines"]), (&"a\"1".into(), &5.into()));
    assert_eq!((&json["own_frames"], &json["drains"][1]["drain"]), (&1.into(), &"drain-1".into()));
    let drain = &json["drains"][0];
    assert_eq!(drain["drain"], "drain-0");
    for (key, value) in
        [("held_lines", 2), ("dropped_lines", 3), ("rejected_lines", 0), ("batches", 0), ("attempts", 0)]
    {
        assert_eq!(drain[key], value, "{key} in {json}");
    }
    assert_eq!(drain["dropped"], serde_json::json!({ "recorder-behind": 3 }));
}

mod adoption;
mod model;
