//! The ledger under random actions, beside a model that knows every frame of every line.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// One step of the model.
#[derive(Clone, Debug)]
enum Act {
    Frame(Stream, Fragment),
    AgentLine,
    CloseFinal(Stream),
    CloseIncomplete(Stream),
    Rotate,
    Seal { drain: DrainIndex, frames: u64 },
    Complete { drain: DrainIndex, outcome: BatchOutcome },
    DropOldest,
    Unrecorded,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let stream = prop_oneof![Just(Stream::Out), Just(Stream::Err)];
    let drain = (0usize..2).prop_map(DrainIndex::new);
    let fragment =
        prop_oneof![3 => Just(Fragment::Full), 3 => Just(Fragment::Partial), 2 => Just(Fragment::Final)];
    let outcome = prop_oneof![8 => Just(BatchOutcome::Delivered), 2 => Just(BatchOutcome::Rejected)];
    let act = prop_oneof![
        12 => (stream.clone(), fragment).prop_map(|(s, f)| Act::Frame(s, f)),
        1 => Just(Act::AgentLine),
        2 => stream.clone().prop_map(Act::CloseFinal),
        2 => stream.prop_map(Act::CloseIncomplete),
        3 => Just(Act::Rotate),
        6 => (drain.clone(), 1u64..6).prop_map(|(drain, frames)| Act::Seal { drain, frames }),
        6 => (drain, outcome).prop_map(|(drain, outcome)| Act::Complete { drain, outcome }),
        2 => Just(Act::DropOldest),
        1 => Just(Act::Unrecorded),
    ];
    prop_oneof![
        9 => proptest::collection::vec(act.clone(), 0..120),
        1 => proptest::collection::vec(act, 256..400),
    ]
}

/// A line of the model.
#[derive(Clone, Debug, Default)]
struct Line {
    frames: Vec<Offset>,
    is_ended: bool,
    is_incomplete: bool,
}

/// The ledger, and what it should say.
struct Model {
    ledger: Ledger,
    lines: Vec<Line>,
    /// The line under way of each stream.
    unfinished: PerStream<Option<usize>>,
    delivered: [HashSet<Offset>; 2],
    /// Lines that delivered notices announced.
    announced: [u64; 2],
    slot: u8,
}

impl Model {
    /// A notice: a byte for each line.
    fn notice(losses: &Losses) -> Vec<u8> {
        vec![b'n'; lines_of(losses).iter().sum::<u64>() as usize]
    }

    fn apply(&mut self, act: &Act) {
        match *act {
            Act::Frame(stream, fragment) => self.frame(stream, fragment),
            Act::AgentLine => append_agent_line(&mut self.ledger),
            Act::CloseFinal(stream) => self.close(stream, FrameKind::Final(stream)),
            Act::CloseIncomplete(stream) => {
                self.close(stream, FrameKind::Incomplete(stream, DropReason::RecorderBehind));
            }
            Act::Rotate => {
                if self.ledger.segments().last().is_some_and(|s| s.len > 0) {
                    self.slot = self.slot.wrapping_add(1);
                    self.ledger.open_segment(SegmentLocation::Memory(self.slot));
                }
            }
            Act::Seal { drain, frames } => {
                if self.ledger.accounts()[drain.get()].batch().is_none() {
                    let SealRange { cursor, limit, .. } = self.ledger.seal_range(drain);
                    let frames = frames.min((limit - cursor) / FRAME);
                    let range = BatchRange { start: cursor, end: cursor + frames * FRAME, frames };
                    let has_notice = self.ledger.has_to_announce(drain);
                    let is_sealed = self.ledger.seal(drain, range, &IDENTITY, Model::notice).is_ok();
                    assert_eq!(is_sealed, frames > 0 || has_notice);
                }
            }
            Act::Complete { drain, outcome } => {
                if let Some(batch) = self.ledger.accounts()[drain.get()].batch().cloned() {
                    if outcome == BatchOutcome::Delivered {
                        let frames = (0..batch.range.frames).map(|frame| batch.range.start + frame * FRAME);
                        self.delivered[drain.get()].extend(frames);
                        self.announced[drain.get()] += batch.notice.len() as u64;
                    }
                    self.ledger.complete_batch(drain, outcome);
                    while self.ledger.pop_consumed().is_some() {}
                }
            }
            Act::DropOldest => drop(self.ledger.drop_oldest(DropReason::SpoolFull)),
            Act::Unrecorded => {
                self.lines.push(Line { frames: vec![Offset::MAX], is_ended: true, is_incomplete: true });
                let reason = DropReason::SpoolUnwritable;
                self.ledger.drop_unrecorded(1, reason);
                let (since, until) = Default::default();
                self.ledger.announce(&Losses::from_iter([Loss { lines: 1, since, until, reason }]));
            }
        }
        let unfinished = self.unfinished;
        self.ledger
            .set_unfinished(PerStream { out: unfinished.out.is_some(), err: unfinished.err.is_some() });
    }

    fn frame(&mut self, stream: Stream, fragment: Fragment) {
        let fragment = match (fragment, self.unfinished[stream]) {
            (Fragment::Full, Some(_)) => Fragment::Final,
            (Fragment::Final, None) => Fragment::Full,
            (fragment, _) => fragment,
        };
        let index = self.unfinished[stream].unwrap_or_else(|| {
            self.lines.push(Line::default());
            self.lines.len() - 1
        });
        self.lines[index].frames.push(self.ledger.log_end());
        self.lines[index].is_ended = fragment != Fragment::Partial;
        self.unfinished[stream] = (fragment == Fragment::Partial).then_some(index);
        append(&mut self.ledger, &[(stream, fragment)]);
    }

    fn close(&mut self, stream: Stream, kind: FrameKind) {
        if let Some(index) = self.unfinished[stream].take() {
            self.lines[index].is_ended = true;
            self.lines[index].is_incomplete = matches!(kind, FrameKind::Incomplete(..));
            self.ledger.append(&Appended { closed: vec![kind], ended: 1, ..Appended::default() });
        }
    }

    /// Lines of which the drain has every frame.
    fn delivered_lines(&self, drain: usize) -> u64 {
        let frames = &self.delivered[drain];
        let is_whole = |line: &&Line| {
            line.is_ended && !line.is_incomplete && line.frames.iter().all(|frame| frames.contains(frame))
        };
        self.lines.iter().filter(is_whole).count() as u64
    }
}

proptest! {
    #![proptest_config(crate::tests::property_config_with(8.0))]
    #[test]
    fn the_law_holds_at_every_instant_and_delivered_means_every_frame(acts in acts()) {
        let mut model = Model {
            ledger: ledger(2),
            lines: Vec::new(),
            unfinished: PerStream::default(),
            delivered: [HashSet::new(), HashSet::new()],
            announced: [0; 2],
            slot: 0,
        };
        for act in acts {
            model.apply(&act);
            let ledger = &model.ledger;
            prop_assert_eq!(ledger.captured(), model.lines.len() as u64);
            for drain in ledger.drains() {
                prop_assert_eq!(ledger.imbalance(drain), 0, "drain {}: {:?}", drain, ledger.report());
                let account = &ledger.accounts()[drain.get()];
                let announced = [DropReason::SpoolFull, DropReason::SpoolUnwritable];
                let dropped = account.dropped_by().filter(|(reason, _)| announced.contains(reason));
                prop_assert_eq!(
                    dropped.map(|(_, lines)| lines).sum::<u64>(),
                    model.announced[drain.get()] + account.to_announce(),
                    "drain {}: every loss is announced once", drain
                );
                let delivered = account.delivered();
                prop_assert_eq!(delivered, model.delivered_lines(drain.get()), "drain {}", drain);
            }
        }
    }
}
