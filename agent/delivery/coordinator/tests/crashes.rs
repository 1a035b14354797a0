//! Spool, ledger and coordinator under random actions, and agents that are killed at any step of the disk: their
//! successors recover, and are killed in that too.

use super::agent::{Agent, Piece, Place, Settings, live};
use super::drain::{Answer, World};
use crate::line::Stream;
use crate::spool::crash::{self, CrashAt, Ended, Step};
use nix::fcntl::{Flock, FlockArg};
use proptest::prelude::*;

/// A step of the model.
#[derive(Clone, Debug)]
enum Action {
    Append {
        pieces: Vec<Piece>,
        bytes: usize,
    },
    /// So many appends of about 200 KiB, while nobody else does anything.
    Burst(u8),
    CloseLine(Stream),
    Tick,
    WorkOnDisk,
    Exchange {
        drain: usize,
    },
    /// So many rounds in which everybody does something.
    Rounds(u8),
    Answer {
        drain: usize,
        answer: Answer,
    },
    KillShipper,
    /// The shipper dies with its next message for a drain: before it is sent, or before it is read.
    KillSpeaker {
        drain: usize,
        is_sent: bool,
    },
    StartShipper,
    Trim,
}

fn actions(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Action>> {
    let stream = || prop_oneof![Just(Stream::Out), Just(Stream::Err)];
    let piece = prop_oneof![
        6 => stream().prop_map(Piece::Line),
        2 => stream().prop_map(Piece::Part),
        1 => Just(Piece::Agent),
    ];
    let answer = prop_oneof![
        4 => Just(Answer::Accept),
        1 => Just(Answer::AcceptUnheard),
        2 => Just(Answer::Fail),
        1 => Just(Answer::Reject),
        1 => Just(Answer::TooLarge),
    ];
    let bytes = prop_oneof![3 => 0usize..200, 1 => 5000usize..9000];
    let action = prop_oneof![
        6 => (prop::collection::vec(piece, 1..20), bytes)
            .prop_map(|(pieces, bytes)| Action::Append { pieces, bytes }),
        2 => (1u8..14).prop_map(Action::Burst),
        1 => stream().prop_map(Action::CloseLine),
        2 => Just(Action::Tick),
        2 => Just(Action::WorkOnDisk),
        6 => (0usize..3).prop_map(|drain| Action::Exchange { drain }),
        4 => (1u8..8).prop_map(Action::Rounds),
        3 => (0usize..3, answer).prop_map(|(drain, answer)| Action::Answer { drain, answer }),
        1 => Just(Action::KillShipper),
        1 => (0usize..3, any::<bool>()).prop_map(|(drain, is_sent)| Action::KillSpeaker { drain, is_sent }),
        3 => Just(Action::StartShipper),
        1 => Just(Action::Trim),
    ];
    prop::collection::vec(action, count)
}

fn settings() -> impl Strategy<Value = Settings> {
    let batch_bytes = prop_oneof![Just(16 << 10), Just(512 << 10)];
    (1usize..4, (2u64 << 20)..(4 << 20), batch_bytes)
        .prop_map(|(drains, spool_bytes, batch_bytes)| Settings { drains, spool_bytes, batch_bytes })
}

/// Where an agent dies: often in its recovery.
fn crash_at() -> impl Strategy<Value = CrashAt> {
    (prop_oneof![0u32..12, 0u32..60, 0u32..300], 0u8..101)
        .prop_map(|(steps, pages_percent)| CrashAt { steps, pages_percent })
}

/// An agent of a case.
#[derive(Clone, Debug)]
struct Life {
    actions: Vec<Action>,
    /// Where it is killed, if at all.
    at: Option<CrashAt>,
    /// The shipper of the agent before it still runs, so that the spool of that one cannot be adopted.
    leaves_last: bool,
}

/// Mostly short lives, one in twenty a long one that is killed late.
fn life() -> impl Strategy<Value = Life> {
    let late = (0u32..4000, crash_at()).prop_map(|(steps, at)| CrashAt { steps, ..at });
    let work = prop_oneof![
        19 => (actions(0..30), prop::option::weighted(0.8, crash_at())),
        1 => (actions(256..300), prop::option::weighted(0.8, late)),
    ];
    (work, prop::bool::weighted(0.2)).prop_map(|((actions, at), leaves_last)| Life {
        actions,
        at,
        leaves_last,
    })
}

fn act(agent: &mut Agent<'_>, drains: usize, action: &Action) {
    match action {
        Action::Append { pieces, bytes } => agent.append(pieces, *bytes),
        Action::Burst(appends) => {
            for _ in 0..*appends {
                agent.append(&[Piece::Line(Stream::Out); 25], 8000);
            }
        }
        Action::CloseLine(stream) => agent.close_line(*stream),
        Action::Tick => agent.tick(),
        Action::WorkOnDisk => agent.work_on_disk(),
        Action::Exchange { drain } => {
            agent.exchange(drain % drains);
        }
        Action::Rounds(rounds) => {
            for _ in 0..*rounds {
                (0..drains).for_each(|drain| {
                    agent.exchange(drain);
                });
                agent.work_on_disk();
            }
        }
        Action::Answer { drain, answer } => agent.world.drains[drain % drains].answer = *answer,
        Action::KillShipper => agent.kill_shipper(),
        Action::KillSpeaker { drain, is_sent } => {
            if let (_, Some(message)) = agent.next_message(drain % drains)
                && *is_sent
            {
                agent.send(&message);
            }
            agent.kill_shipper();
        }
        Action::StartShipper => agent.start_shipper(),
        Action::Trim => agent.trim(),
    }
    assert_eq!(agent.violations, 0, "nobody lies");
    agent.check();
}

/// Agents on one disk, one after the other, each of which is killed; then one that delivers everything.
struct Case {
    settings: Settings,
    world: World,
    base: tempfile::TempDir,
    agents: usize,
}

impl Case {
    fn new(settings: Settings) -> Self {
        let base = tempfile::tempdir().expect("a directory");
        Self { settings, world: World::new(settings.drains), base, agents: 0 }
    }

    /// An agent lives, and is killed.
    fn kill(&mut self, actions: &[Action], at: Option<CrashAt>) -> Ended {
        let drains = self.settings.drains;
        self.live(at, |agent| {
            agent.start_shipper();
            for action in actions {
                act(agent, drains, action);
            }
        })
    }

    /// As [`Case::kill`], while the spool of the last agent is locked.
    fn kill_beside_shipper(&mut self, actions: &[Action], at: Option<CrashAt>) {
        let lock = Place { base: self.base.path(), number: self.agents }.path().join("lock");
        let file = std::fs::OpenOptions::new().write(true).open(lock);
        let _locked = file.ok().map(|file| {
            self.world.drains.iter_mut().for_each(|drain| drain.is_ordered = false);
            Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("its agent is dead")
        });
        self.kill(actions, at);
    }

    fn live(&mut self, at: Option<CrashAt>, work: impl FnOnce(&mut Agent<'_>)) -> Ended {
        self.agents += 1;
        let place = Place { base: self.base.path(), number: self.agents };
        let ended = crash::run(at, || live(&mut self.world, self.settings, place, work));
        self.world.may_announce_twice |= match &ended {
            // The checkpoints of several directories are not written at once.
            Ended::Crashed(Step::Write(path)) => self.agents > 1 && path.ends_with("cursors"),
            // The last segment of a dead agent: that it was dropped no later record tells.
            Ended::Crashed(Step::Remove) => true,
            Ended::Crashed(Step::Other) | Ended::Finished(_) => false,
        };
        ended
    }

    /// The last agent delivers what is left, and leaves nothing behind.
    fn finish(mut self) {
        for drain in &mut self.world.drains {
            drain.answer = Answer::Accept;
        }
        self.live(None, |agent| {
            agent.finish();
            assert_eq!(agent.violations, 0, "nobody lies");
            agent.check();
        });
        self.world.check_end();
        // An agent that died before it said whose lines these are has left none.
        for entry in std::fs::read_dir(self.base.path()).expect("listed").flatten() {
            let files = std::fs::read_dir(entry.path()).expect("listed").flatten();
            let files: Vec<_> = files.filter(|file| file.file_name() != "lock").collect();
            let is_nameless = files.iter().all(|file| {
                file.file_name() == "app" && file.metadata().is_ok_and(|metadata| metadata.len() == 0)
            });
            assert!(is_nameless, "{} is left behind: {files:?}", entry.path().display());
        }
    }
}

proptest! {
    #![proptest_config(crate::tests::property_config())]

    /// Every line is delivered, or dropped and announced, or refused; none arrives twice under different ids, and the
    /// order holds.
    #[test]
    fn agents_that_are_killed_one_after_the_other_lose_nothing_silently(
        settings in settings(),
        lives in prop::collection::vec(life(), 1..5),
    ) {
        let mut case = Case::new(settings);
        for Life { actions, at, leaves_last } in &lives {
            if *leaves_last {
                case.kill_beside_shipper(actions, *at);
            } else {
                case.kill(actions, *at);
            }
        }
        case.finish();
    }
}

proptest! {
    #![proptest_config(crate::tests::property_config_with(0.02))]

    /// The same for every step of one agent; its successor dies in its recovery.
    #[test]
    fn every_step_of_the_disk_can_be_the_last(
        settings in settings(),
        actions in actions(10..30),
        at in crash_at(),
    ) {
        let Ended::Finished(steps) = Case::new(settings).kill(&actions, None) else { unreachable!() };
        for steps in 0..steps {
            let mut case = Case::new(settings);
            case.kill(&actions, Some(CrashAt { steps, ..at }));
            case.kill(&[], Some(CrashAt { steps: steps % 16, ..at }));
            case.finish();
        }
    }
}

#[test]
fn a_dead_agents_line_without_an_end_whose_start_was_delivered_hides_no_other_loss() {
    let (drains, spool_bytes, batch_bytes) = (1, 2_460_928, 16 << 10);
    let mut case = Case::new(Settings { drains, spool_bytes, batch_bytes });
    case.kill(&[Action::Append { pieces: vec![Piece::Part(Stream::Err)], bytes: 0 }, Action::Burst(6)], None);
    let speaker = Action::KillSpeaker { drain: 0, is_sent: true };
    case.kill(&[Action::Rounds(2), speaker, Action::Burst(6), Action::Burst(6)], None);
    case.finish();
}

#[test]
fn a_segment_whose_start_was_delivered_is_dropped_while_an_older_spool_is_delivered() {
    let (drains, spool_bytes, batch_bytes) = (1, 2_460_928, 16 << 10);
    let mut case = Case::new(Settings { drains, spool_bytes, batch_bytes });
    let answers = |answer| Action::Answer { drain: 0, answer };
    case.kill(&[answers(Answer::Fail), Action::Burst(2), Action::Rounds(3)], None);
    case.kill_beside_shipper(&[answers(Answer::Accept), Action::Burst(6), Action::Rounds(4)], None);
    case.kill(&[answers(Answer::Fail), Action::Rounds(2), Action::Burst(9)], None);
    case.finish();
}

#[test]
fn what_was_delivered_of_a_spool_behind_an_older_one_stays_known_over_the_next_agent() {
    let mut case = Case::new(Settings { drains: 2, spool_bytes: 2_097_152, batch_bytes: 16 << 10 });
    let lines = |count| Action::Append { pieces: vec![Piece::Line(Stream::Out); count], bytes: 0 };
    case.kill(&[lines(1)], None);
    let at = CrashAt { steps: 24, pages_percent: 96 }; // within the burst, when both lines are delivered
    case.kill_beside_shipper(&[Action::Rounds(13), lines(2), Action::Rounds(3), Action::Burst(5)], Some(at));
    case.kill(&[lines(1)], None);
    case.finish();
}
