use super::*;
use tailrace_drain::tally::{Complaints, Losses};

fn text(message: &str) -> Digest {
    let mut digest = Digest::default();
    digest.add(message);
    digest
}

/// 100 lines, one of which fills two frames, all of which arrived.
fn well() -> Evidence {
    let account =
        DrainLedger { drain: "localhost".to_owned(), delivered_lines: 100, ..DrainLedger::default() };
    let conformance = ["sumo", "vector"].map(|name| (name.to_owned(), Complaints::default()));
    Evidence {
        ending: Ending::Stopped(143),
        ledger: Ok(Ledger { captured_lines: 100, own_frames: 2, drains: vec![account] }),
        drain: Report { lines: 101, frames: 103, conformance: conformance.into(), ..Report::default() },
        arrived: text("all of it"),
        printed: Some(Printed { lines: 100, frames: 101, stalls: 0, text: text("all of it") }),
    }
}

/// 100 lines, of which 30 were dropped and announced.
fn shed() -> Evidence {
    let mut evidence = well();
    let account = ledger(&mut evidence);
    (account.delivered_lines, account.dropped_lines) = (70, 30);
    account.dropped.insert("spool-full".to_owned(), 30);
    (evidence.drain.lines, evidence.drain.losses) = (70, Losses { notices: 2, lines: 30 });
    evidence.arrived = text("some of it");
    evidence
}

/// As when it is well, but a line stood still half-way, which filled a frame more.
fn stalled() -> Evidence {
    let mut evidence = well();
    printed(&mut evidence).stalls = 2;
    evidence.drain.lines += 1;
    evidence.arrived = text("cut elsewhere");
    evidence
}

/// Without pass-through nothing is compared with it.
fn quiet() -> Evidence {
    Evidence { printed: None, ..well() }
}

fn ledger(evidence: &mut Evidence) -> &mut DrainLedger {
    &mut evidence.ledger.as_mut().expect("there is one").drains[0]
}

fn printed(evidence: &mut Evidence) -> &mut Printed {
    evidence.printed.as_mut().expect("there is one")
}

#[test]
fn what_adds_up_is_well() {
    assert_eq!(well().problems(), Vec::<String>::new());
    assert_eq!(shed().problems(), Vec::<String>::new());
    assert_eq!(stalled().problems(), Vec::<String>::new());
    assert_eq!(quiet().problems(), Vec::<String>::new());
}

#[test]
fn repeats_under_the_same_id_are_well() {
    let mut evidence = well();
    evidence.drain.duplicates = 3;
    assert_eq!(evidence.problems(), Vec::<String>::new());
}

#[test]
fn every_disagreement_is_one_problem_in_words() {
    type Change = fn(&mut Evidence);
    let table: [(Evidence, Change, &str); 27] = [
        (well(), |e| e.ending = Ending::Exited(7), "by itself, with status 7"),
        (well(), |e| e.ending = Ending::Exited(0), "by itself, with status 0"),
        (well(), |e| e.ending = Ending::Died(127), "with status 127 before it listened on $PORT"),
        (well(), |e| e.ending = Ending::BootTimeout, "did not listen on $PORT within 60 s"),
        (well(), |e| e.ending = Ending::ExitTimeout, "within 30 s of SIGTERM"),
        (well(), |e| e.ledger = Err("gone".to_owned()), "no ledger: gone"),
        (well(), |e| print(e, 99), "captured 100 lines, the dyno printed 99"),
        (well(), |e| print(e, 101), "captured 100 lines, the dyno printed 101"),
        (well(), |e| e.drain.lines = 100, "100 lines delivered, which are 101 to 101 frames, 100 arrived"),
        (well(), |e| e.drain.lines = 102, "101 to 101 frames, 102 arrived"),
        (stalled(), |e| e.drain.lines = 104, "101 to 103 frames, 104 arrived"),
        (shed(), |e| e.drain.lines = 69, "70 to 71 frames, 69 arrived"),
        (shed(), |e| e.drain.lines = 72, "70 to 71 frames, 72 arrived"),
        (quiet(), |e| e.drain.lines = 99, "100 lines delivered, 99 frames arrived"),
        (well(), |e| e.arrived = text("all of 1t"), "what arrived is not what the dyno printed"),
        (shed(), |e| e.drain.losses.lines = 0, "30 lines dropped, 0 announced"),
        (shed(), |e| e.drain.losses.lines = 29, "30 lines dropped, 29 announced"),
        (well(), |e| e.drain.losses.lines = 1, "0 lines dropped, 1 announced"),
        (shed(), |e| ledger(e).dropped.clear(), "dropped 30, but by reason 0"),
        (well(), |e| e.drain.changed_bodies = 1, "1 batches came again with another body"),
        (well(), |e| e.drain.count_mismatches = 2, "Logplex-Msg-Count"),
        (well(), |e| e.drain.malformed = 3, "3 bodies were malformed"),
        (well(), |e| e.drain.out_of_order = 4, "4 frames were out of order"),
        (well(), |e| object(e, "vector", 5, "no zone"), "vector objected 5 times, last: no zone"),
        (well(), |e| e.ledger.as_mut().expect("there is one").drains.clear(), "the ledger has 0 drains"),
        // The books balance, and yet the lines are gone.
        (well(), |e| leave(e, 10, 0), "10 lines were still held"),
        (well(), |e| leave(e, 0, 10), "refused 10 lines for good"),
    ];
    for (mut evidence, change, expected) in table {
        change(&mut evidence);
        let problems = evidence.problems();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected:?}: {problems:#?}");
        // Without a drain in the ledger nothing can have been delivered: two ways to say one thing.
        let most = if expected.contains("0 drains") { 2 } else { 1 };
        assert!(problems.len() <= most, "{expected:?}: {problems:#?}");
    }
}

#[test]
fn lines_that_nobody_knows_about_are_a_problem() {
    let mut evidence = well();
    ledger(&mut evidence).delivered_lines = 90;
    evidence.drain.lines = 90;
    evidence.arrived = text("some of it");
    let problems = evidence.problems();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].contains("captured 100, but delivered, held, dropped and rejected are 90"),
        "{problems:#?}"
    );
}

/// Some of the lines did not arrive.
fn leave(evidence: &mut Evidence, held: u64, rejected: u64) {
    let account = ledger(evidence);
    account.delivered_lines -= held + rejected;
    (account.held_lines, account.rejected_lines) = (held, rejected);
    evidence.drain.lines -= held + rejected;
}

fn print(evidence: &mut Evidence, lines: u64) {
    let printed = printed(evidence);
    (printed.frames, printed.lines) = (lines + 1, lines);
}

fn object(evidence: &mut Evidence, personality: &str, errors: u64, last: &str) {
    let complaints = Complaints { errors, last: Some(last.to_owned()) };
    evidence.drain.conformance.insert(personality.to_owned(), complaints);
}
