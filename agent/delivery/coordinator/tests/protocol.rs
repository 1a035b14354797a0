//! The protocol under a shipper whose messages are lost, repeated and reordered, which says what is not true, and which
//! dies at any point and is replaced.

use super::agent::{Agent, Piece, Place, Settings, live};
use super::drain::{Answer, World};
use crate::ledger::{BatchRange, DrainIndex, Offset};
use crate::line::Stream;
use crate::protocol::ToSupervisor;
use proptest::prelude::*;

/// What becomes of a message of the shipper.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    IsLost,
    ComesTwice,
    /// It comes behind the next one.
    IsLate,
}

/// What a shipper says that is not true.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Delivered,
    Rejected,
    TooLarge,
    /// So many bytes from the cursor on are damaged.
    Damaged(u64),
    /// From the cursor on, so many bytes and frames.
    Seal(u64, u64),
}

/// A step of the model.
#[derive(Clone, Debug)]
enum Action {
    Append(usize),
    Burst(u8),
    Answer { drain: usize, answer: Answer },
    Exchange { drain: usize, fate: Fate },
    Lie { drain: usize, lie: Lie },
    Tick,
    WorkOnDisk,
    KillShipper,
    StartShipper,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let answer = prop_oneof![
        3 => Just(Answer::Accept),
        1 => Just(Answer::Fail),
        1 => Just(Answer::Reject),
        1 => Just(Answer::TooLarge),
    ];
    let fate = prop_oneof![
        8 => Just(Fate::Arrives),
        1 => Just(Fate::IsLost),
        1 => Just(Fate::ComesTwice),
        1 => Just(Fate::IsLate),
    ];
    let lie = prop_oneof![
        Just(Lie::Delivered),
        Just(Lie::Rejected),
        Just(Lie::TooLarge),
        prop_oneof![Just(0u64), 0u64..1000].prop_map(Lie::Damaged),
        (0u64..1000, 0u64..10).prop_map(|(bytes, frames)| Lie::Seal(bytes, frames)),
    ];
    let action = prop_oneof![
        5 => (1usize..20).prop_map(Action::Append),
        1 => (1u8..8).prop_map(Action::Burst),
        2 => (0usize..2, answer).prop_map(|(drain, answer)| Action::Answer { drain, answer }),
        16 => (0usize..2, fate).prop_map(|(drain, fate)| Action::Exchange { drain, fate }),
        1 => (0usize..2, lie).prop_map(|(drain, lie)| Action::Lie { drain, lie }),
        2 => Just(Action::Tick),
        8 => Just(Action::WorkOnDisk),
        1 => Just(Action::KillShipper),
        4 => Just(Action::StartShipper),
    ];
    prop_oneof![
        9 => prop::collection::vec(action.clone(), 1..150),
        1 => prop::collection::vec(action, 256..300),
    ]
}

/// What was sealed and completed for one drain.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    sealed: Option<BatchRange>,
    cursor: Offset,
    completed: u64,
}

/// The agent, the messages that are late, and what the ledger said last.
struct Model<'a, 'b> {
    agent: &'a mut Agent<'b>,
    late: Vec<ToSupervisor>,
    seen: [Seen; 2],
}

impl Model<'_, '_> {
    fn act(&mut self, action: &Action) {
        match action {
            Action::Append(lines) => self.agent.append(&vec![Piece::Line(Stream::Out); *lines], 20),
            Action::Burst(appends) => {
                for _ in 0..*appends {
                    self.agent.append(&[Piece::Line(Stream::Out); 25], 8000);
                }
            }
            Action::Answer { drain, answer } => self.agent.world.drains[*drain].answer = *answer,
            Action::Exchange { drain, fate } => {
                if let (_, Some(message)) = self.agent.next_message(*drain) {
                    self.send(message, *fate);
                }
            }
            Action::Lie { drain, lie } => {
                let message = self.lie(DrainIndex::new(*drain), *lie);
                self.deliver(&message);
            }
            Action::Tick => self.agent.tick(),
            Action::WorkOnDisk => self.agent.work_on_disk(),
            Action::KillShipper => {
                self.agent.kill_shipper();
                self.late.clear();
            }
            Action::StartShipper => self.agent.start_shipper(),
        }
        self.check();
    }

    fn send(&mut self, message: ToSupervisor, fate: Fate) {
        match fate {
            Fate::IsLost => {}
            Fate::IsLate => self.late.push(message),
            Fate::ComesTwice => {
                self.deliver(&message);
                self.deliver(&message);
            }
            Fate::Arrives => {
                self.deliver(&message);
                for late in std::mem::take(&mut self.late) {
                    self.deliver(&late);
                }
            }
        }
    }

    /// The supervisor gets one message, and what it says then is checked.
    fn deliver(&mut self, message: &ToSupervisor) {
        self.agent.send(message);
        self.agent.tick();
        self.check();
    }

    fn lie(&self, drain: DrainIndex, lie: Lie) -> ToSupervisor {
        let cursor = self.agent.ledger().seal_range(drain).cursor;
        match lie {
            Lie::Delivered => ToSupervisor::Delivered { drain },
            Lie::Rejected => ToSupervisor::Rejected { drain, status: 400, detail: String::new() },
            Lie::TooLarge => ToSupervisor::TooLarge { drain },
            Lie::Damaged(bytes) => ToSupervisor::SpoolDamaged { drain, at: cursor + bytes },
            Lie::Seal(bytes, frames) => {
                let range = BatchRange { start: cursor, end: cursor + bytes, frames };
                ToSupervisor::SealRequest { drain, range }
            }
        }
    }

    /// The law, and that a line counts as delivered or refused only with a batch that was sealed for it.
    fn check(&mut self) {
        self.agent.check_law();
        let ledger = self.agent.ledger();
        for (account, seen) in ledger.accounts().iter().zip(&mut self.seen) {
            let completed = account.delivered() + account.rejected();
            let now = account.batch().map(|batch| batch.range);
            assert!(account.cursor() >= seen.cursor, "a cursor never moves back");
            if completed > seen.completed {
                let batch = seen.sealed.expect("a batch was sealed");
                assert!(completed - seen.completed <= batch.frames, "{batch:?}: no more than its lines");
                assert!(account.cursor() >= batch.end, "{batch:?}: it is behind the cursor");
                assert_ne!(now, Some(batch), "a batch is completed once");
            }
            assert!(now.is_none_or(|batch| batch.end <= ledger.log_end()), "{now:?} is in the spool");
            *seen = Seen { sealed: now, cursor: account.cursor(), completed };
        }
    }
}

proptest! {
    #![proptest_config(crate::tests::property_config())]

    #[test]
    fn whatever_a_shipper_says_the_law_holds_and_its_successor_delivers_the_rest(actions in actions()) {
        let settings = Settings { drains: 2, spool_bytes: 2 << 20, batch_bytes: 1000 };
        let mut world = World::new(settings.drains);
        for drain in &mut world.drains {
            drain.takes_anything = true; // also what this shipper sends twice
        }
        let base = tempfile::tempdir().expect("a directory");
        live(&mut world, settings, Place { base: base.path(), number: 1 }, |agent| {
            let mut model = Model { agent, late: Vec::new(), seen: [Seen::default(); 2] };
            for action in &actions {
                model.act(action);
            }
            let Model { agent, .. } = model;
            agent.kill_shipper();
            for drain in &mut agent.world.drains {
                drain.answer = Answer::Accept;
            }
            let lies = agent.violations + actions.len();
            agent.finish();
            assert!(agent.violations <= lies, "a lie costs one shipper at most");
            agent.check_law();
            let ledger = agent.ledger();
            assert!(ledger.drains().all(|drain| ledger.held(drain) == 0), "nothing is held");
        });
    }
}
