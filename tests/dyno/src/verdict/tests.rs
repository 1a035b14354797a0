use super::*;
use crate::account::{Conformance, Losses};

/// 100 lines, all of which arrived.
fn well() -> Evidence {
    let account =
        DrainLedger { drain: "localhost".to_owned(), delivered_lines: 100, ..DrainLedger::default() };
    let conformance = ["sumo", "vector"].map(|name| (name.to_owned(), Conformance::default()));
    Evidence {
        ending: Ending::Stopped(143),
        ledger: Ok(Ledger { captured_lines: 100, own_frames: 2, drains: vec![account] }),
        drain: Ok(Drain { lines: 100, frames: 102, conformance: conformance.into(), ..Drain::default() }),
        printed: Some(Printed { lines: 100, frames: 101 }),
    }
}

/// 100 lines, of which 30 were dropped and announced.
fn shed() -> Evidence {
    let mut evidence = well();
    let account = ledger(&mut evidence);
    (account.delivered_lines, account.dropped_lines) = (70, 30);
    account.dropped.insert("spool-full".to_owned(), 30);
    let drain = drain(&mut evidence);
    (drain.lines, drain.losses) = (70, Losses { notices: 2, lines: 30 });
    evidence
}

fn ledger(evidence: &mut Evidence) -> &mut DrainLedger {
    &mut evidence.ledger.as_mut().expect("there is one").drains[0]
}

fn drain(evidence: &mut Evidence) -> &mut Drain {
    evidence.drain.as_mut().expect("there is one")
}

#[test]
fn what_adds_up_is_well() {
    assert_eq!(well().problems(), Vec::<String>::new());
    assert_eq!(shed().problems(), Vec::<String>::new());
}

#[test]
fn repeats_under_the_same_id_are_well() {
    let mut evidence = well();
    drain(&mut evidence).duplicates = 3;
    assert_eq!(evidence.problems(), Vec::<String>::new());
}

#[test]
fn without_pass_through_nothing_is_compared_with_it() {
    let evidence = Evidence { printed: None, ..well() };
    assert_eq!(evidence.problems(), Vec::<String>::new());
}

#[test]
fn every_disagreement_is_one_problem_in_words() {
    type Change = fn(&mut Evidence);
    let table: [(Evidence, Change, &str); 22] = [
        (well(), |e| e.ending = Ending::Exited(7), "by itself, with status 7"),
        (well(), |e| e.ending = Ending::Exited(0), "by itself, with status 0"),
        (well(), |e| e.ending = Ending::BootTimeout, "did not listen on $PORT within 60 s"),
        (well(), |e| e.ending = Ending::ExitTimeout, "within 30 s of SIGTERM"),
        (well(), |e| e.ledger = Err("gone".to_owned()), "no ledger: gone"),
        (well(), |e| e.drain = Err("silent".to_owned()), "no report of the drain: silent"),
        (
            well(),
            |e| e.printed = Some(Printed { lines: 99, frames: 99 }),
            "captured 100 lines, the dyno printed 99",
        ),
        (well(), |e| e.printed = Some(Printed { lines: 101, frames: 101 }), "the dyno printed 101"),
        (well(), |e| drain(e).lines = 99, "100 lines delivered, 99 arrived"),
        (well(), |e| drain(e).lines = 101, "100 lines delivered, 101 arrived"),
        (shed(), |e| drain(e).losses.lines = 0, "30 lines dropped, 0 announced"),
        (shed(), |e| drain(e).losses.lines = 29, "30 lines dropped, 29 announced"),
        (well(), |e| drain(e).losses.lines = 1, "0 lines dropped, 1 announced"),
        (shed(), |e| ledger(e).dropped.clear(), "dropped 30, but by reason 0"),
        (well(), |e| drain(e).changed_bodies = 1, "1 batches came again with another body"),
        (well(), |e| drain(e).count_mismatches = 2, "Logplex-Msg-Count"),
        (well(), |e| drain(e).malformed = 3, "3 bodies were malformed"),
        (well(), |e| drain(e).out_of_order = 4, "4 frames were out of order"),
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
    drain(&mut evidence).lines = 90;
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
    drain(evidence).lines -= held + rejected;
}

fn object(evidence: &mut Evidence, personality: &str, errors: u64, last: &str) {
    let conformance = Conformance { errors, last: last.into() };
    drain(evidence).conformance.insert(personality.to_owned(), conformance);
}
