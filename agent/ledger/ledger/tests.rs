use super::*;
use crate::line::{Fragment, Stream};
use proptest::prelude::*;

const IDENTITY: Identity<'_> = Identity { agent: "a1", drain: "d.1" };
const FRAME: u64 = 10;

fn ledger(drains: usize) -> Ledger {
    let mut ledger = Ledger::new((0..drains).map(|d| format!("drain-{d}")), Vec::new());
    ledger.open_segment(SegmentLocation::Memory(0));
    ledger
}

fn append(ledger: &mut Ledger, pieces: &[(Stream, Fragment)]) {
    let kinds = pieces
        .iter()
        .enumerate()
        .filter_map(|(index, (stream, piece))| {
            Some((index as u32 * FRAME as u32, FrameKind::of(*piece, *stream)?))
        })
        .collect();
    let ended = pieces.iter().filter(|(_, piece)| *piece != Fragment::Partial).count() as u64;
    let len = pieces.len() as u64 * FRAME;
    ledger.append(&Appended {
        len,
        frames: pieces.len() as u64,
        kinds,
        ended,
        closed: Vec::new(),
        times: Some((1, 2)),
    });
}

fn seal(ledger: &mut Ledger, frames: u64) -> SealedBatch {
    let window = ledger.window(0);
    let range = (window.cursor, window.cursor + frames * FRAME);
    ledger.seal(0, range, frames, &IDENTITY, |_| Vec::new()).expect("in the window").clone()
}

#[test]
fn a_delivered_batch_leaves_nothing_held() {
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Stream::Out, Fragment::Full), (Stream::Err, Fragment::Full)]);
    assert_eq!((ledger.captured(), ledger.held(0)), (2, 2));
    seal(&mut ledger, 2);
    ledger.delivered(0);
    assert_eq!((ledger.held(0), ledger.accounts()[0].delivered(), ledger.imbalance(0)), (0, 2, 0));
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    assert_eq!((ledger.held(0), ledger.imbalance(0)), (1, 0));
}

#[test]
fn a_line_of_which_a_part_was_dropped_is_dropped_whole() {
    use Fragment::{Final, Full, Partial};
    use Stream::{Err, Out};
    let mut ledger = ledger(1);
    append(&mut ledger, &[(Out, Full), (Out, Partial)]);
    seal(&mut ledger, 2);
    ledger.delivered(0);
    append(&mut ledger, &[(Out, Partial), (Err, Full)]);
    ledger.open_segment(SegmentLocation::Memory(1));
    append(&mut ledger, &[(Out, Final), (Out, Full)]);
    ledger.open_segment(SegmentLocation::Memory(2));
    append(&mut ledger, &[(Out, Full)]);
    assert!(ledger.drop_oldest(DropReason::SpoolFull).is_some());
    assert_eq!(ledger.accounts()[0].dropped(), 2, "the long line and the one on stderr");
    assert_eq!(ledger.held(0), 2);
    seal(&mut ledger, 3);
    ledger.delivered(0);
    assert_eq!(ledger.accounts()[0].delivered(), 3);
    assert_eq!(ledger.imbalance(0), 0);
}

#[test]
fn a_sealed_batch_is_pinned_and_the_loss_stands_in_its_place() {
    let mut ledger = ledger(1);
    for slot in 1..5 {
        append(&mut ledger, &[(Stream::Out, Fragment::Full); 3]);
        ledger.open_segment(SegmentLocation::Memory(slot));
    }
    append(&mut ledger, &[(Stream::Out, Fragment::Full)]);
    seal(&mut ledger, 2);
    let drop_oldest = ledger.drop_oldest(DropReason::SpoolFull).expect("the oldest that is not pinned");
    assert_eq!(drop_oldest.start, 3 * FRAME);
    assert_eq!(ledger.imbalance(0), 0);
    ledger.delivered(0);
    assert_eq!(ledger.window(0), SealRange { cursor: 2 * FRAME, limit: 3 * FRAME }, "up to the range");
    let refused = ledger.seal(0, (2 * FRAME, 7 * FRAME), 5, &IDENTITY, |_| Vec::new()).err();
    assert_eq!(refused, Some(SealRange { cursor: 2 * FRAME, limit: 3 * FRAME }));
    assert!(seal(&mut ledger, 1).notice.is_empty(), "not before the gap");
    ledger.delivered(0);
    assert_eq!(ledger.window(0).cursor, 6 * FRAME);
    let batch = ledger.seal(0, (6 * FRAME, 9 * FRAME), 3, &IDENTITY, |loss| {
        assert_eq!(*loss, Loss { lines: 3, since: 1, until: 2, reason: DropReason::SpoolFull });
        b"notice".to_vec()
    });
    let first = batch.expect("behind the gap").clone();
    let half =
        ledger.seal(0, (6 * FRAME, 7 * FRAME), 1, &IDENTITY, |_| unreachable!()).expect("halved").clone();
    assert_eq!((first.notice.as_slice(), half.notice.as_slice()), (&b"notice"[..], &b"notice"[..]));
    assert_ne!(first.id, half.id);
    ledger.rejected(0);
    let again =
        ledger.seal(0, (7 * FRAME, 8 * FRAME), 1, &IDENTITY, |loss| loss.lines.to_string().into_bytes());
    assert_eq!(again.expect("next").notice, b"3", "a notice that was refused is announced again");
    assert_eq!(ledger.imbalance(0), 0);
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
    let json: serde_json::Value = serde_json::from_str(&ledger.report().json("a\"1")).unwrap();
    assert_eq!((&json["agent"], &json["captured_lines"]), (&"a\"1".into(), &5.into()));
    assert_eq!(json["own_frames"], 0);
    let drain = &json["drains"][0];
    for (key, value) in
        [("held_lines", 2), ("dropped_lines", 3), ("rejected_lines", 0), ("batches", 0), ("attempts", 0)]
    {
        assert_eq!(drain[key], value, "{key} in {json}");
    }
    assert_eq!(drain["dropped"], serde_json::json!({ "recorder-behind": 3 }));
}

/// What the model does next.
#[derive(Clone, Debug)]
enum Act {
    Frame(Stream, Fragment),
    AgentLine,
    CloseVoid(Stream),
    CloseDead(Stream),
    Rotate,
    Seal { drain: usize, frames: u64 },
    Settle { drain: usize, delivered: bool },
    Shed,
    Unrecorded,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let stream = prop_oneof![Just(Stream::Out), Just(Stream::Err)];
    let piece =
        prop_oneof![3 => Just(Fragment::Full), 3 => Just(Fragment::Partial), 2 => Just(Fragment::Final)];
    let act = prop_oneof![
        12 => (stream.clone(), piece).prop_map(|(s, p)| Act::Frame(s, p)),
        1 => Just(Act::AgentLine),
        2 => stream.clone().prop_map(Act::CloseVoid),
        2 => stream.prop_map(Act::CloseDead),
        3 => Just(Act::Rotate),
        6 => (0usize..2, 1u64..6).prop_map(|(drain, frames)| Act::Seal { drain, frames }),
        6 => (0usize..2, prop::bool::weighted(0.8)).prop_map(|(drain, delivered)| Act::Settle { drain, delivered }),
        2 => Just(Act::Shed),
        1 => Just(Act::Unrecorded),
    ];
    proptest::collection::vec(act, 0..120)
}

/// A line of the model: its frames by offset, and how it ended.
#[derive(Clone, Debug, Default)]
struct Line {
    frames: Vec<u64>,
    ended: bool,
    dead: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_law_holds_at_every_instant_and_delivered_means_every_frame(acts in acts()) {
        let mut ledger = ledger(2);
        let mut lines: Vec<Line> = Vec::new();
        let mut under_way: [Option<usize>; 2] = [None; 2];
        let mut delivered_frames = [std::collections::HashSet::new(), std::collections::HashSet::new()];
        let mut slot = 0u8;
        for act in acts {
            match act {
                Act::Frame(stream, piece) => {
                    let at = ledger.head();
                    let s = stream as usize;
                    let piece = match (piece, under_way[s]) {
                        (Fragment::Full, Some(_)) => Fragment::Final,
                        (Fragment::Final, None) => Fragment::Full,
                        (piece, _) => piece,
                    };
                    let index = under_way[s].unwrap_or_else(|| { lines.push(Line::default()); lines.len() - 1 });
                    lines[index].frames.push(at);
                    lines[index].ended = piece != Fragment::Partial;
                    under_way[s] = (piece == Fragment::Partial).then_some(index);
                    append(&mut ledger, &[(stream, piece)]);
                }
                Act::AgentLine => ledger.append(&Appended {
                    len: FRAME, frames: 1, kinds: vec![(0, FrameKind::Agent)], ..Appended::default()
                }),
                Act::CloseVoid(stream) | Act::CloseDead(stream) => {
                    if let Some(index) = under_way[stream as usize].take() {
                        let dead = matches!(act, Act::CloseDead(_));
                        lines[index].ended = true;
                        lines[index].dead = dead;
                        let kind = if dead { FrameKind::Incomplete(stream, DropReason::RecorderBehind) } else { FrameKind::Final(stream) };
                        ledger.append(&Appended { closed: vec![kind], ended: 1, ..Appended::default() });
                    }
                }
                Act::Rotate => {
                    if ledger.segments().last().is_some_and(|s| s.len > 0) {
                        slot = slot.wrapping_add(1);
                        ledger.open_segment(SegmentLocation::Memory(slot));
                    }
                }
                Act::Seal { drain, frames } => {
                    if ledger.accounts()[drain].batch().is_none() {
                        let window = ledger.window(drain);
                        let frames = frames.min((window.limit - window.cursor) / FRAME);
                        let range = (window.cursor, window.cursor + frames * FRAME);
                        let sealed = ledger.seal(drain, range, frames, &IDENTITY, |_| b"n".to_vec()).is_ok();
                        prop_assert_eq!(sealed, frames > 0);
                    }
                }
                Act::Settle { drain, delivered } => {
                    if let Some(batch) = ledger.accounts()[drain].batch().cloned() {
                        if delivered {
                            delivered_frames[drain].extend((batch.start..batch.end).step_by(FRAME as usize));
                            ledger.delivered(drain);
                        } else {
                            ledger.rejected(drain);
                        }
                        while ledger.pop_consumed().is_some() {}
                    }
                }
                Act::Shed => { ledger.drop_oldest(DropReason::SpoolFull); }
                Act::Unrecorded => {
                    lines.push(Line { frames: vec![u64::MAX], ended: true, dead: true });
                    ledger.drop_unrecorded(1, DropReason::RecorderBehind);
                }
            }
            ledger.set_open([under_way[0].is_some(), under_way[1].is_some()]);
            prop_assert_eq!(ledger.captured(), lines.len() as u64);
            for (drain, frames) in delivered_frames.iter().enumerate() {
                prop_assert_eq!(ledger.imbalance(drain), 0, "drain {}: {:?}", drain, ledger.report());
                let whole = lines.iter().filter(|l| l.ended && !l.dead && l.frames.iter().all(|f| frames.contains(f)));
                prop_assert_eq!(ledger.accounts()[drain].delivered(), whole.count() as u64, "drain {}", drain);
            }
        }
    }
}
