use super::*;
use std::time::Duration;
use tailrace_drain::tally::{Complaints, Losses, Stream};

fn text(message: &str) -> Digest {
    let mut digest = Digest::default();
    digest.add(message);
    digest
}

/// 100 lines, one of which fills two frames, all of which arrived.
fn well() -> Observations {
    let account =
        DrainLedger { drain: "localhost".to_owned(), delivered_lines: 100, ..DrainLedger::default() };
    let conformance = ["sumo", "vector"].map(|name| (name.to_owned(), Complaints::default()));
    let stream = Stream { lines: 101, ..Stream::default() };
    let platform = Stream { lines: 7, ..Stream::default() };
    let of = |stream| [("web.1".to_owned(), stream)].into();
    let streams = [("d.agent".to_owned(), of(stream)), ("d.platform".to_owned(), of(platform))].into();
    let boot = RunRecord {
        dyno: "web.1".to_owned(),
        ending: RunEnd::Stopped(143),
        ledger: Some(Ok(Ledger { captured_lines: 100, own_frames: 2, drains: vec![account] })),
        printed: Some(OutputCounts {
            lines: 100,
            frames: 101,
            text: text("all of it"),
            ..OutputCounts::default()
        }),
        took: Duration::from_secs(1),
        memory: 3000,
        excuse: ExpectedLoss::default(),
        made_room: false,
    };
    Observations {
        boots: vec![boot],
        drain: Some(Report { frames: 103, conformance: conformance.into(), streams, ..Report::default() }),
        arrived: [("web.1".to_owned(), text("all of it"))].into(),
        platform: "d.platform".to_owned(),
        refused: Vec::new(),
        limits: Limits::default(),
    }
}

/// 100 lines, of which 30 were dropped and announced.
fn shed() -> Observations {
    let mut evidence = well();
    shed_for(&mut evidence, "spool-full");
    excuse(&mut evidence).dropped.insert("spool-full");
    evidence
}

/// 30 lines are dropped for this reason, and announced.
fn shed_for(evidence: &mut Observations, reason: &str) {
    let account = ledger(evidence);
    (account.delivered_lines, account.dropped_lines) = (70, 30);
    account.dropped.insert(reason.to_owned(), 30);
    *lines(evidence) = 70;
    drain(evidence).losses = Losses { notices: 2, lines: 30 };
    arrive(evidence, "some of it");
}

/// As when it is well, but a line stood still half-way, which filled a frame more.
fn stalled() -> Observations {
    let mut evidence = well();
    printed(&mut evidence).stalls = 2;
    *lines(&mut evidence) += 1;
    arrive(&mut evidence, "cut elsewhere");
    evidence
}

/// Without pass-through nothing is compared with it.
fn quiet() -> Observations {
    let mut evidence = well();
    evidence.boots[0].printed = None;
    evidence
}

fn drain(evidence: &mut Observations) -> &mut Report {
    evidence.drain.as_mut().expect("there is one")
}

/// How many lines came from the dyno.
fn lines(evidence: &mut Observations) -> &mut u64 {
    let streams = drain(evidence).streams.get_mut("d.agent").expect("is known");
    &mut streams.get_mut("web.1").expect("is known").lines
}

fn arrive(evidence: &mut Observations, what: &str) {
    evidence.arrived.insert("web.1".to_owned(), text(what));
}

fn whole(evidence: &mut Observations) -> &mut Ledger {
    let ledger = evidence.boots[0].ledger.as_mut().expect("there is one");
    ledger.as_mut().expect("can be read")
}

fn ledger(evidence: &mut Observations) -> &mut DrainLedger {
    &mut whole(evidence).drains[0]
}

fn excuse(evidence: &mut Observations) -> &mut ExpectedLoss {
    &mut evidence.boots[0].excuse
}

fn printed(evidence: &mut Observations) -> &mut OutputCounts {
    evidence.boots[0].printed.as_mut().expect("there is one")
}

#[test]
fn what_adds_up_is_well() {
    assert_eq!(well().verdict().problems, Vec::<String>::new());
    assert_eq!(shed().verdict().problems, Vec::<String>::new());
    assert_eq!(stalled().verdict().problems, Vec::<String>::new());
    assert_eq!(quiet().verdict().problems, Vec::<String>::new());
}

#[test]
fn repeats_under_the_same_id_are_well() {
    let mut evidence = well();
    drain(&mut evidence).duplicates = 3;
    assert_eq!(evidence.verdict().problems, Vec::<String>::new());
}

#[test]
fn every_disagreement_is_one_problem_in_words() {
    type Change = fn(&mut Observations);
    let table = [
        (well(), (|e| e.boots[0].ending = RunEnd::Exited(7)) as Change, "by itself, with status 7"),
        (well(), |e| e.boots[0].ending = RunEnd::Exited(0), "by itself, with status 0"),
        (well(), |e| e.boots[0].ending = RunEnd::Died(127), "with status 127 before it listened on $PORT"),
        (well(), |e| e.boots[0].ending = RunEnd::BootTimeout, "did not listen on $PORT within 60 s"),
        (well(), |e| e.boots[0].ledger = Some(Err("gone".to_owned())), "no ledger: gone"),
        (well(), |e| print(e, 99), "captured 100 lines, the dyno printed 99"),
        (well(), |e| print(e, 101), "captured 100 lines, the dyno printed 101"),
        (well(), |e| *lines(e) = 100, "100 lines delivered, which are 101 to 101 frames, 100 arrived"),
        (well(), |e| *lines(e) = 102, "101 to 101 frames, 102 arrived"),
        (stalled(), |e| *lines(e) = 104, "101 to 103 frames, 104 arrived"),
        (shed(), |e| *lines(e) = 69, "70 to 71 frames, 69 arrived"),
        (shed(), |e| *lines(e) = 72, "70 to 71 frames, 72 arrived"),
        (quiet(), |e| *lines(e) = 99, "100 lines delivered, 99 frames arrived"),
        (well(), |e| arrive(e, "all of 1t"), "what arrived is not what the dyno printed"),
        (shed(), |e| drain(e).losses.lines = 0, "30 lines dropped, 0 announced"),
        (shed(), |e| drain(e).losses.lines = 29, "30 lines dropped, 29 announced"),
        (well(), |e| drain(e).losses.lines = 1, "0 lines dropped, 1 announced"),
        (shed(), |e| ledger(e).dropped.clear(), "dropped 30, but by reason 0"),
        (shed(), |e| e.boots[0].excuse = ExpectedLoss::default(), "30 lines were dropped (spool-full)"),
        (well(), |e| drain(e).changed_bodies = 1, "1 batches came again with another body"),
        (well(), |e| drain(e).count_mismatches = 2, "Logplex-Msg-Count"),
        (well(), |e| drain(e).malformed = 3, "3 bodies were malformed"),
        (well(), |e| drain(e).out_of_order = 4, "4 frames were out of order"),
        (well(), |e| object(e, "vector", 5, "no zone"), "vector objected 5 times, last: no zone"),
        // The books balance, and yet the lines are gone.
        (well(), |e| leave(e, 10, 0), "10 lines were still held"),
        (well(), |e| leave(e, 0, 10), "refused 10 lines for good"),
    ];
    for (mut evidence, change, expected) in table {
        change(&mut evidence);
        let problems = evidence.verdict().problems;
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected:?}: {problems:#?}");
        assert_eq!(problems.len(), 1, "{expected:?}: {problems:#?}");
    }
}

#[test]
fn lines_that_nobody_knows_about_are_a_problem() {
    let mut evidence = well();
    ledger(&mut evidence).delivered_lines = 90;
    *lines(&mut evidence) = 90;
    arrive(&mut evidence, "some of it");
    let problems = evidence.verdict().problems;
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].contains("captured 100, but delivered, held, dropped and rejected are 90"),
        "{problems:#?}"
    );
}

#[test]
fn what_a_fault_explains_is_a_note_once_it_is_announced() {
    let mut evidence = shed();
    assert_eq!(evidence.verdict().notes, ["web.1: 30 lines were dropped (spool-full)"]);
    drain(&mut evidence).losses.lines = 0;
    assert_eq!(evidence.verdict().problems.len(), 1, "not announced");
    let mut evidence = well();
    evidence.boots[0].ending = RunEnd::ExitTimeout;
    assert!(evidence.verdict().notes[0].contains("within 30 s of SIGTERM"), "the app's own doing");
}

#[test]
fn a_fault_explains_what_is_of_its_kind_alone() {
    type Change = fn(&mut Observations);
    let lost: [(Change, Change, &str); 5] = [
        (
            |e| leave(e, 10, 0),
            |e| excuse(e).held.extend(["outage=1s".to_owned()]),
            "10 lines were still held",
        ),
        (|e| leave(e, 0, 10), |e| excuse(e).rejected = true, "refused 10 lines for good"),
        (|e| e.boots[0].ending = RunEnd::Exited(137), |e| excuse(e).app_killed = true, "status 137"),
        (|e| e.boots[0].ending = RunEnd::Died(137), |e| excuse(e).app_killed = true, "status 137"),
        (
            |e| shed_for(e, "spool-full"),
            |e| excuse(e).dropped.extend(["spool-full"]),
            "30 lines were dropped",
        ),
    ];
    for (number, (lose, _, expected)) in lost.iter().enumerate() {
        for (other, (_, excused, _)) in lost.iter().enumerate() {
            let mut evidence = well();
            lose(&mut evidence);
            excused(&mut evidence);
            let Verdict { problems, notes } = evidence.verdict();
            let are_ends = [number, other].iter().all(|which| (2..=3).contains(which));
            let is_excused = number == other || are_ends;
            assert_eq!(
                (problems.len(), notes.len()),
                if is_excused { (0, 1) } else { (1, 0) },
                "{expected}, {other}"
            );
            let said = &[problems, notes].concat()[0];
            assert!(said.contains(expected) && !said.contains("announced"), "{said}");
        }
    }
    let mut evidence = well();
    shed_for(&mut evidence, "recorder-fault");
    excuse(&mut evidence).dropped.extend(["spool-full", "spool-unwritable"]);
    assert_eq!(evidence.verdict().problems, ["web.1: 30 lines were dropped (recorder-fault)"]);
}

#[test]
fn lines_that_were_held_for_want_of_an_answer_may_have_arrived() {
    let mut evidence = well();
    leave(&mut evidence, 10, 0);
    excuse(&mut evidence).held.insert("drain=reset-after".to_owned());
    *lines(&mut evidence) += 10;
    assert_eq!(evidence.verdict().problems, Vec::<String>::new());
}

#[test]
fn lines_before_the_agent_are_told_of() {
    let mut evidence = well();
    printed(&mut evidence).early = 3;
    let Verdict { problems, notes } = evidence.verdict();
    assert!(problems.is_empty() && notes[0].starts_with("web.1: 3 lines came from .profile.d"), "{notes:?}");
}

#[test]
fn what_was_refused_to_be_done_excuses_nothing() {
    let mut evidence = well();
    evidence.refused.push("outage=1s: not here, the receiver is not ours".to_owned());
    assert_eq!(evidence.verdict().notes, ["not tried: outage=1s: not here, the receiver is not ours"]);
    leave(&mut evidence, 10, 0);
    assert_eq!(evidence.verdict().problems.len(), 1);
}

#[test]
fn a_dyno_that_ran_twice_is_counted_twice() {
    let mut evidence = well();
    evidence.boots.push(evidence.boots[0].clone());
    assert_eq!(evidence.verdict().problems.len(), 1);
    *lines(&mut evidence) *= 2;
    // Both spoke at once, while one made room for the other.
    drain(&mut evidence).out_of_order = 5;
    evidence.boots[0].made_room = true;
    let both = text("all of it").and(text("all of it"));
    evidence.arrived.insert("web.1".to_owned(), both);
    assert_eq!(evidence.verdict().problems, Vec::<String>::new());
}

#[test]
fn what_a_killed_dyno_left_is_compared_with_what_arrived() {
    let mut evidence = well();
    evidence.boots[0].ending = RunEnd::ExitTimeout;
    let account = ledger(&mut evidence);
    (account.delivered_lines, account.held_lines) = (10, 5);
    whole(&mut evidence).captured_lines = 15; // of an earlier moment
    *lines(&mut evidence) = 99;
    let verdict = evidence.verdict();
    assert_eq!(verdict.problems, Vec::<String>::new());
    assert!(verdict.notes.iter().any(|note| note.contains(" 2 lines of its last moments")), "{verdict:?}");
    *lines(&mut evidence) = 9;
    assert_eq!(evidence.verdict().problems.len(), 1, "fewer than were delivered");
    *lines(&mut evidence) = 102;
    assert_eq!(evidence.verdict().problems.len(), 1, "more than there were");
}

/// Some of the lines did not arrive.
fn leave(evidence: &mut Observations, held: u64, rejected: u64) {
    let account = ledger(evidence);
    account.delivered_lines -= held + rejected;
    (account.held_lines, account.rejected_lines) = (held, rejected);
    *lines(evidence) -= held + rejected;
}

fn print(evidence: &mut Observations, lines: u64) {
    let printed = printed(evidence);
    (printed.frames, printed.lines) = (lines + 1, lines);
}

fn object(evidence: &mut Observations, personality: &str, errors: u64, last: &str) {
    let complaints = Complaints { errors, last: Some(last.to_owned()) };
    drain(evidence).conformance.insert(personality.to_owned(), complaints);
}
