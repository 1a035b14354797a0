//! What dead agents left: their segments, sealed batches and losses.

use super::super::super::{LongLines, Origin, ResumedBatch};
use super::*;
use std::sync::Arc;

/// A segment of a dead agent, the frames with these numbers. Its own offsets are two frames lower.
fn adopted(frames: Range<u64>, agent: &str) -> Segment {
    let BatchRange { start, end, frames } = range(frames);
    let origin = Origin { agent: agent.to_owned(), shift: 2 * FRAME };
    Segment {
        len: end - start,
        frames,
        recorded_lines: frames,
        origin: Some(Arc::new(origin)),
        ..Segment::new(start, SegmentLocation::Memory(9))
    }
}

/// A ledger of one drain that adopted these segments; its own first one is empty.
fn ledger_of(adopted: Vec<Segment>) -> Ledger {
    let mut ledger = Ledger::new(["drain-0".to_owned()], adopted);
    ledger.open_segment(SegmentLocation::Memory(0));
    ledger
}

fn account(ledger: &mut Ledger) -> &mut Account {
    ledger.account_mut(D0).expect("a drain")
}

fn losses(lines: u64, reason: DropReason) -> Losses {
    Losses::from_iter([Loss { lines, since: TIMES.first, until: TIMES.last, reason }])
}

fn resumed(frames: Range<u64>) -> ResumedBatch {
    let BatchRange { start, end, .. } = range(frames);
    ResumedBatch { start, end, notice: b"old".to_vec(), announced: losses(5, DropReason::SpoolFull) }
}

#[test]
fn frames_of_dead_agents_are_counted_apart_and_keep_their_ids() {
    let mut ledger =
        ledger_of(vec![adopted(2..4, "a"), adopted(4..5, "a"), adopted(7..9, "a"), adopted(9..10, "b")]);
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 2]);
    assert_eq!((ledger.bytes(), ledger.log_end()), (8 * FRAME, offset(12)));
    assert_eq!((ledger.held_bytes(D0), ledger.adopted_left(D0).bytes), (2 * FRAME, 6 * FRAME));
    for (frames, agent, adopted_left) in [(2..5, "a", 3), (7..9, "a", 1), (9..10, "b", 0), (10..12, "a1", 0)]
    {
        let range = range(frames);
        let allowed = SealRange { cursor: range.start, limit: range.end, is_one_batch: false };
        assert_eq!(ledger.seal_range(D0), allowed, "up to the gap or the next agent's");
        let shift = if agent == "a1" { 0 } else { 2 * FRAME };
        let id =
            Identity { agent, ..IDENTITY }.frame_id(range.start.get() - shift, range.end.get() - shift, &[]);
        assert_eq!(seal(&mut ledger, range.frames).id, id);
        deliver(&mut ledger);
        assert_eq!(ledger.adopted_left(D0).bytes, adopted_left * FRAME);
    }
    let account = &ledger.accounts()[0];
    assert_eq!((account.adopted_frames(), account.delivered(), account.batches()), (6, 2, 4));
    assert!(ledger.is_consumed(D0) && ledger.imbalance(D0) == 0);
}

#[test]
fn a_batch_that_a_dead_agent_had_sealed_is_repeated_as_it_was() {
    let mut ledger = ledger_of(vec![adopted(2..6, "a")]);
    account(&mut ledger).resume(resumed(2..5));
    let allowed = SealRange { cursor: offset(2), limit: offset(5), is_one_batch: true };
    assert_eq!(ledger.seal_range(D0), allowed);
    for cut in [range(2..4), range(2..6), range(3..5)] {
        assert_eq!(ledger.seal(D0, cut, &IDENTITY, |_| Vec::new()).err(), Some(allowed));
    }
    let batch = ledger.seal(D0, range(2..5), &IDENTITY, |_| unreachable!()).expect("all of it").clone();
    assert_eq!(batch.notice, b"old");
    assert_eq!(batch.id, Identity { agent: "a", ..IDENTITY }.frame_id(0, 30, b"old"));
    assert_eq!((ledger.has_to_announce(D0), ledger.accounts()[0].unannounced()), (true, Losses::default()));
    let half = ledger.seal(D0, range(2..4), &IDENTITY, |_| unreachable!()).expect("the drain asked for less");
    assert_eq!(half.notice, b"old");
    deliver(&mut ledger);
    let account = &ledger.accounts()[0];
    assert_eq!((account.adopted_frames(), account.notices(), account.batches()), (2, 0, 1));
    assert!(!ledger.has_to_announce(D0));
}

#[test]
fn a_notice_that_a_dead_agent_had_sealed_alone_is_repeated_alone() {
    let mut ledger = ledger_of(vec![adopted(2..4, "a")]);
    account(&mut ledger).resume(resumed(2..2));
    let batch = ledger.seal(D0, range(2..2), &IDENTITY, |_| unreachable!()).expect("the notice");
    assert_eq!(batch.notice, b"old");
    deliver(&mut ledger);
    assert_eq!(ledger.seal_range(D0), SealRange { cursor: offset(2), limit: offset(4), is_one_batch: false });
}

#[test]
fn of_adopted_frames_only_their_bytes_are_known() {
    let mut ledger = ledger_of(vec![adopted(2..4, "a")]);
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 3]);
    let possible = |end| {
        let range = BatchRange { start: offset(2), end, frames: 0 };
        ledger.accounts()[0].possible_frames(&ledger.segments, range)
    };
    assert_eq!(possible(offset(3)), 1..=3, "three bytes each, at least");
    assert_eq!(possible(offset(4)), 1..=6);
    assert_eq!(possible(offset(5)), 2..=8, "of our three one is behind the range");
    assert_eq!(possible(offset(7)), 4..=9);
}

#[test]
fn what_a_damaged_batch_of_a_dead_agent_announced_is_announced_anew() {
    let mut ledger = ledger_of(vec![adopted(2..6, "a")]);
    account(&mut ledger).resume(resumed(2..5));
    account(&mut ledger).resume(resumed(5..6));
    for at in [offset(5), offset(1)] {
        ledger.cancel_resumed(D0, at);
        assert!(ledger.seal_range(D0).is_one_batch, "it ends before that, or starts behind it");
    }
    ledger.cancel_resumed(D0, offset(4));
    let allowed = SealRange { cursor: offset(2), limit: offset(6), is_one_batch: false };
    assert_eq!(ledger.seal_range(D0), allowed);
    assert_eq!(ledger.accounts()[0].unannounced(), losses(5, DropReason::SpoolFull), "the other one is good");
    assert!(ledger.has_to_announce(D0));
}

#[test]
fn a_line_that_goes_on_behind_a_dropped_adopted_segment_is_lost_once() {
    // Two frames in each. A line ends with the first one; another goes on to the fifth; another is the last one.
    let segments = || {
        [(2..4, 1, 2), (4..6, 0, 2), (6..8, 2, 1)].map(|(frames, recorded_lines, bits)| {
            let recorded_long_lines = LongLines::from_bits(bits);
            Segment { recorded_lines, recorded_long_lines, ..adopted(frames, "a") }
        })
    };
    for (dropped, lines) in [(1, 2), (2, 2), (3, 3)] {
        let mut ledger = ledger_of(segments().to_vec());
        for _ in 0..dropped {
            ledger.drop_oldest(DropReason::SpoolFull);
        }
        assert_eq!(ledger.accounts()[0].adopted_dropped(), lines, "{dropped} segments");
    }
    // The first was delivered: its last line has its end in the third.
    let mut ledger = ledger_of(segments().to_vec());
    seal(&mut ledger, 2);
    deliver(&mut ledger);
    ledger.pop_consumed();
    ledger.drop_oldest(DropReason::SpoolFull);
    assert_eq!(ledger.accounts()[0].adopted_dropped(), 1);
}

#[test]
fn a_line_that_goes_on_far_behind_a_dropped_adopted_segment_is_lost_once() {
    // Per segment: lines that end in it, and its long lines. One of stderr begins in the first, has nothing in the second,
    // and ends in the third.
    let segments = |third: &'static str| {
        [(2..4, 1, 8, "a"), (4..6, 2, 0, "a"), (6..8, 2, 4, third)].map(|(frames, lines, bits, agent)| {
            let recorded_long_lines = LongLines::from_bits(bits);
            Segment { recorded_lines: lines, recorded_long_lines, ..adopted(frames, agent) }
        })
    };
    let dropped = |ledger: &mut Ledger, segments: usize| {
        for _ in 0..segments {
            ledger.drop_oldest(DropReason::SpoolFull);
        }
        ledger.accounts()[0].adopted_dropped()
    };
    for (count, lines) in [(1, 2), (2, 4), (3, 5)] {
        assert_eq!(dropped(&mut ledger_of(segments("a").to_vec()), count), lines, "{count} segments");
    }
    assert_eq!(dropped(&mut ledger_of(segments("b").to_vec()), 3), 6, "another agent's line");
    // Its start was delivered: it counts where its end is.
    let mut ledger = ledger_of(segments("a").to_vec());
    account(&mut ledger).skip_range(
        offset(2),
        offset(3),
        Some(Consumed { segment: offset(2), frames: 1, lines: 0 }),
    );
    assert_eq!(dropped(&mut ledger, 3), 1 + 2 + 2);
}

#[test]
fn what_is_left_of_a_damaged_segment_is_dropped() {
    let mut ledger = ledger_of(vec![adopted(2..6, "a")]);
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 3]);
    account(&mut ledger).resume(resumed(3..5));
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    assert_eq!(ledger.skip_damaged(D0), 3 * FRAME);
    assert_eq!(ledger.accounts()[0].adopted_dropped(), 3, "by the checkpoint");
    let damaged = Loss {
        lines: 3,
        since: Timestamp::default(),
        until: Timestamp::default(),
        reason: DropReason::SpoolDamaged,
    };
    let mut expected = losses(5, DropReason::SpoolFull);
    expected.extend([damaged]);
    assert_eq!(ledger.accounts()[0].unannounced(), expected, "also what the batch would have announced");
    assert!(!ledger.seal_range(D0).is_one_batch);
    ledger.seal(D0, range(6..8), &IDENTITY, |_| b"n".to_vec()).expect("two frames");
    assert_eq!(ledger.skip_damaged(D0), 3 * FRAME);
    let account = &ledger.accounts()[0];
    assert_eq!((account.batch(), account.dropped(), account.cursor()), (None, 3, offset(9)));
    assert_eq!(account.to_announce(), 11);
    assert_eq!((ledger.skip_damaged(D0), ledger.imbalance(D0)), (0, 0));
}

#[test]
fn lines_of_a_dropped_adopted_segment_are_counted_from_the_cursor_on() {
    let notice = |frame: u32, lines| SpooledNotice {
        offset: frame * FRAME as u32,
        loss: Loss { lines, since: TIMES.first, until: TIMES.last, reason: DropReason::RecorderBehind },
    };
    // Two frames of four are one line; the checkpoint knows that, the count of frames does not.
    for (consumed, recorded_lines, frames, expected) in [
        (None, 9, 6, 4),
        (None, 3, 6, 3),
        (None, 3, 0, 4),
        (Some(Consumed { segment: offset(2), frames: 2, lines: 2 }), 3, 6, 1),
        (Some(Consumed { segment: offset(2), frames: 2, lines: 0 }), 9, 6, 3),
        (Some(Consumed { segment: offset(2), frames: 5, lines: 0 }), 9, 6, 1),
    ] {
        let segment = Segment { frames, recorded_lines, ..adopted(2..8, "a") };
        let mut ledger = ledger_of(vec![segment]);
        if let Some(consumed) = consumed {
            account(&mut ledger).skip_range(offset(2), offset(4), Some(consumed));
        }
        assert!(ledger.next_to_drop().is_some_and(Segment::is_uncounted));
        ledger.count_adopted(
            offset(2),
            AdoptedContent {
                lines: [0, 2, 3, 5].map(|frame| frame * FRAME as u32).to_vec(),
                notices: vec![notice(1, 7), notice(4, 8)],
                times: Some(TIMES),
            },
        );
        assert!(!ledger.next_to_drop().is_some_and(Segment::is_uncounted));
        assert!(ledger.drop_oldest(DropReason::SpoolFull).is_some());
        assert_eq!(
            ledger.accounts()[0].adopted_dropped(),
            expected,
            "{consumed:?} {recorded_lines} {frames}"
        );
        let announced = if consumed.is_some() { 8 } else { 15 };
        let mut all = losses(announced, DropReason::RecorderBehind);
        all.extend(losses(expected, DropReason::SpoolFull));
        assert_eq!(ledger.accounts()[0].unannounced(), all);
        assert_eq!((ledger.bytes(), ledger.imbalance(D0)), (0, 0));
    }
}

#[test]
fn segments_of_dead_agents_are_counted_one_by_one() {
    let mut ledger = ledger_of(vec![adopted(2..4, "a"), adopted(4..6, "a")]);
    ledger.count_adopted(offset(4), AdoptedContent::default());
    ledger.count_adopted(offset(6), AdoptedContent::default()); // ours
    assert_eq!(ledger.segments().map(Segment::is_uncounted).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn a_batch_that_a_dead_agent_had_sealed_pins_its_segment() {
    let mut ledger =
        ledger_of(vec![adopted(0..2, "a"), adopted(2..4, "a"), adopted(4..6, "a"), adopted(6..8, "a")]);
    account(&mut ledger).resume(resumed(2..4));
    assert!(ledger.seal(D0, range(0..0), &IDENTITY, |_| Vec::new()).is_err(), "nothing to announce here");
    let mut dropped = || ledger.drop_oldest(DropReason::SpoolFull).map(|segment| segment.start);
    assert_eq!(
        [dropped(), dropped(), dropped(), dropped()],
        [Some(offset(0)), Some(offset(4)), Some(offset(6)), None]
    );
}

#[test]
fn what_a_dead_agent_had_delivered_ahead_of_the_cursor_is_not_dropped() {
    let mut ledger = ledger_of(vec![adopted(2..4, "a"), adopted(4..6, "a"), adopted(6..8, "a")]);
    account(&mut ledger).resume(resumed(2..4));
    account(&mut ledger).skip_range(offset(4), offset(6), None);
    assert_eq!(ledger.adopted_left(D0).bytes, 4 * FRAME);
    assert_eq!(ledger.drop_oldest(DropReason::SpoolFull).map(|segment| segment.start), Some(offset(4)));
    assert_eq!(ledger.accounts()[0].adopted_dropped(), 0);
    assert_eq!(ledger.drop_oldest(DropReason::SpoolFull).map(|segment| segment.start), Some(offset(6)));
    assert_eq!(ledger.accounts()[0].adopted_dropped(), 2);
}

#[test]
fn the_next_agent_finds_where_each_drain_stands() {
    let mut ledger = ledger_of(vec![adopted(2..6, "a")]);
    append(
        &mut ledger,
        &[(Stream::Out, Fragment::Full), (Stream::Out, Fragment::Partial), (Stream::Out, Fragment::Final)],
    );
    account(&mut ledger).skip_range(offset(4), offset(5), None);
    account(&mut ledger).skip_range(offset(5), offset(5), None); // nothing
    let all = offset(0)..offset(9);
    let at = |ledger: &Ledger| ledger.accounts()[0].cursor_in(&all);
    assert_eq!(at(&ledger), offset(2), "behind what was removed");
    assert_eq!(ledger.accounts()[0].cursor_in(&(offset(3)..offset(9))), offset(3));
    assert_eq!(ledger.accounts()[0].cursor_in(&(offset(4)..offset(9))), offset(5));
    assert_eq!(ledger.accounts()[0].cursor_in(&(offset(0)..offset(1))), offset(1));
    account(&mut ledger).resume(resumed(2..4));
    assert_eq!(ledger.accounts()[0].sealed_in(&all), Some(resumed(2..4)), "not yet sealed again");
    assert_eq!(ledger.accounts()[0].sealed_in(&(offset(0)..offset(2))), None, "behind that range");
    ledger.seal(D0, range(2..4), &IDENTITY, |_| unreachable!()).expect("the same batch");
    assert_eq!(ledger.accounts()[0].sealed_in(&all), Some(resumed(2..4)));
    deliver(&mut ledger);
    assert_eq!((at(&ledger), ledger.accounts()[0].sealed_in(&all)), (offset(5), None));
    let consumed = |ledger: &Ledger, frame| ledger.consumed_before(&ledger.accounts()[0], offset(frame));
    assert_eq!(consumed(&ledger, 4), None, "the cursor is elsewhere");
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    assert_eq!(consumed(&ledger, 6), Some(Consumed { segment: offset(6), frames: 0, lines: 0 }));
    seal(&mut ledger, 2);
    deliver(&mut ledger);
    assert_eq!(
        consumed(&ledger, 8),
        Some(Consumed { segment: offset(6), frames: 2, lines: 1 }),
        "one is a part"
    );
    assert_eq!(ledger.imbalance(D0), 0);
}

#[test]
fn a_wrong_count_of_a_dead_agent_does_not_reach_another_segment() {
    for (recorded, next_agent, end, expected) in
        [(3, "a", 6, 1), (0, "a", 6, 0), (2, "b", 5, 0), (2, "", 5, 0), (3, "a", 5, 0)]
    {
        let mut segments = vec![Segment { frames: recorded, ..adopted(2..5, "a") }];
        segments.extend((!next_agent.is_empty()).then(|| adopted(5..7, next_agent)));
        let mut ledger = ledger_of(segments);
        append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
        seal(&mut ledger, end - 2);
        deliver(&mut ledger);
        let consumed = Consumed { segment: offset(5), frames: expected, lines: 0 };
        assert_eq!(ledger.accounts()[0].consumed(), consumed, "{recorded} {next_agent}");
    }
}

#[test]
fn what_a_dead_agent_had_consumed_of_a_segment_counts_until_that_is_left() {
    let mut ledger = ledger_of(vec![adopted(2..6, "a"), adopted(6..8, "a")]);
    let consumed = |frame, frames, lines| Consumed { segment: offset(frame), frames, lines };
    account(&mut ledger).skip_range(offset(2), offset(3), Some(consumed(2, 1, 1)));
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    assert_eq!(ledger.accounts()[0].consumed(), consumed(2, 2, 1));
    account(&mut ledger).skip_range(offset(2), offset(4), Some(consumed(2, 9, 9)));
    assert_eq!(ledger.accounts()[0].consumed(), consumed(2, 2, 1), "the cursor is there already");
    seal(&mut ledger, 3);
    deliver(&mut ledger);
    assert_eq!(ledger.accounts()[0].consumed(), consumed(6, 1, 0));
}

#[test]
fn losses_that_a_dead_agent_did_not_announce_are_announced_with_ours() {
    let mut ledger = ledger(1);
    account(&mut ledger).inherit_losses(losses(3, DropReason::SpoolFull));
    ledger.announce(&losses(4, DropReason::SpoolFull));
    ledger.announce(&losses(1, DropReason::RecorderBehind));
    append(&mut ledger, &[(Stream::Out, Fragment::Full); 2]);
    ledger.announce(&losses(2, DropReason::SpoolFull));
    assert!(ledger.has_to_announce(D0));
    let mut first = losses(7, DropReason::SpoolFull);
    first.extend(losses(1, DropReason::RecorderBehind));
    let mut all = first.clone();
    all.extend(losses(2, DropReason::SpoolFull));
    assert_eq!(ledger.accounts()[0].unannounced(), all, "also behind the lines");
    assert_eq!(ledger.seal_range(D0).limit, offset(2));
    assert_eq!(next_announced(&mut ledger), first);
    deliver(&mut ledger);
    assert_eq!((ledger.report().own_frames, ledger.has_to_announce(D0)), (2, false));
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    assert_eq!(
        ledger.accounts()[0].unannounced(),
        losses(2, DropReason::SpoolFull),
        "the cursor reached them"
    );
    assert!(!ledger.is_consumed(D0));
    let alone = BatchRange { start: offset(2), end: offset(2), frames: 0 };
    assert_eq!(ledger.seal(D0, alone, &IDENTITY, |_| b"n".to_vec()).expect("a notice alone").notice, b"n");
    deliver(&mut ledger);
    assert!(ledger.is_consumed(D0));
    let allowed = SealRange { cursor: offset(2), limit: offset(2), is_one_batch: false };
    assert_eq!(ledger.seal(D0, alone, &IDENTITY, |_| Vec::new()).err(), Some(allowed), "nothing to announce");
}

#[test]
fn a_segment_that_is_dropped_with_its_start_delivered_counts_from_there_on() {
    // The spool of `a` was locked by its shipper when `b` started: `b` delivered of its own what comes behind it here.
    let mut ledger = ledger_of(vec![adopted(2..4, "a"), adopted(4..9, "b"), adopted(9..11, "b")]);
    let consumed = Consumed { segment: offset(4), frames: 2, lines: 2 };
    account(&mut ledger).skip_range(offset(4), offset(6), Some(consumed));
    assert_eq!((ledger.adopted_left(D0).lines, ledger.adopted_left(D0).bytes), (7, 7 * FRAME));
    seal(&mut ledger, 1); // pins the first
    assert!(ledger.drop_oldest(DropReason::SpoolFull).is_some_and(|segment| segment.start == offset(4)));
    assert_eq!(lines_of(&ledger.accounts()[0].unannounced()), [3]);
    assert_eq!((ledger.accounts()[0].adopted_dropped(), ledger.adopted_left(D0).lines), (3, 4));
    deliver(&mut ledger);
    seal(&mut ledger, 1);
    deliver(&mut ledger);
    assert_eq!(ledger.seal_range(D0).cursor, offset(9), "nothing can be read before");
}

#[test]
fn bytes_that_no_segment_holds_are_skipped_as_damaged() {
    for (segments, behind) in
        [(vec![adopted(2..4, "a"), adopted(7..9, "a")], 7), (vec![adopted(2..4, "a")], 4)]
    {
        let mut ledger = ledger_of(segments);
        append(&mut ledger, &[(Stream::Out, Fragment::Full); 2]);
        // Nobody knows how it came to that: what no entry explains must not stop delivery.
        ledger.segments.pop_front();
        assert_eq!(ledger.seal_range(D0).cursor, offset(2));
        assert_eq!(ledger.skip_damaged(D0), (behind - 2) * FRAME);
        assert_eq!(ledger.seal_range(D0).cursor, offset(behind));
    }
}
