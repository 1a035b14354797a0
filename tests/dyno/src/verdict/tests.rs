use super::*;
use std::time::Duration;
use tailrace_drain::stats::{Complaints, Losses, Stream};

fn text(message: &str) -> Digest {
    let mut digest = Digest::default();
    digest.add(message);
    digest
}

/// 100 lines, one of which fills two frames; all arrived.
fn complete() -> Observations {
    let account =
        DrainLedger { drain: "localhost".to_owned(), delivered_lines: 100, ..DrainLedger::default() };
    let conformance = ["sumo", "vector"].map(|name| (name.to_owned(), Complaints::default()));
    let stream = Stream { lines: 101, ..Stream::default() };
    let platform = Stream { lines: 7, ..Stream::default() };
    let of = |stream| [("web.1".to_owned(), stream)].into();
    let streams = [("d.agent".to_owned(), of(stream)), ("d.platform".to_owned(), of(platform))].into();
    let run = RunRecord {
        dyno: "web.1".to_owned(),
        end: RunEnd::Stopped(143),
        ledger: Some(Ok(Ledger { captured_lines: 100, agent_frames: 2, drains: vec![account] })),
        printed: Some(OutputCounts {
            lines: 100,
            frames: 101,
            text: text("all of it"),
            ..OutputCounts::default()
        }),
        duration: Duration::from_secs(1),
        agent_memory_kib: 3000,
        expected_loss: ExpectedLoss::default(),
        was_replaced: false,
    };
    Observations {
        runs: vec![run],
        drain: Some(Report { frames: 103, conformance: conformance.into(), streams, ..Report::default() }),
        received: [("web.1".to_owned(), text("all of it"))].into(),
        platform_token: "d.platform".to_owned(),
        rejected_faults: Vec::new(),
        limits: Limits::default(),
    }
}

/// 100 lines, of which 30 were dropped and announced, as the faults explain.
fn with_drops() -> Observations {
    let mut observed = complete();
    drop_lines(&mut observed, "spool-full");
    expected_loss(&mut observed).drop_reasons.insert("spool-full");
    observed
}

/// Drops 30 lines for this reason, and announces them.
fn drop_lines(observed: &mut Observations, reason: &str) {
    let account = account(observed);
    (account.delivered_lines, account.dropped_lines) = (70, 30);
    account.dropped.insert(reason.to_owned(), 30);
    *arrived_lines(observed) = 70;
    drain(observed).losses = Losses { notices: 2, lines: 30 };
    set_received(observed, "some of it");
}

/// All lines arrived; output paused twice within a line, which cost one frame more.
fn with_pauses() -> Observations {
    let mut observed = complete();
    printed(&mut observed).stalls = 2;
    *arrived_lines(&mut observed) += 1;
    set_received(&mut observed, "cut elsewhere");
    observed
}

/// All lines arrived, and the output is unknown.
fn without_passthrough() -> Observations {
    let mut observed = complete();
    observed.runs[0].printed = None;
    observed
}

fn drain(observed: &mut Observations) -> &mut Report {
    observed.drain.as_mut().expect("is present")
}

/// The frames that arrived from the dyno.
fn arrived_lines(observed: &mut Observations) -> &mut u64 {
    let streams = drain(observed).streams.get_mut("d.agent").expect("is known");
    &mut streams.get_mut("web.1").expect("is known").lines
}

fn set_received(observed: &mut Observations, what: &str) {
    observed.received.insert("web.1".to_owned(), text(what));
}

fn ledger(observed: &mut Observations) -> &mut Ledger {
    let ledger = observed.runs[0].ledger.as_mut().expect("is present");
    ledger.as_mut().expect("can be read")
}

fn account(observed: &mut Observations) -> &mut DrainLedger {
    &mut ledger(observed).drains[0]
}

fn expected_loss(observed: &mut Observations) -> &mut ExpectedLoss {
    &mut observed.runs[0].expected_loss
}

fn printed(observed: &mut Observations) -> &mut OutputCounts {
    observed.runs[0].printed.as_mut().expect("is present")
}

#[test]
fn consistent_counts_have_no_problems() {
    assert_eq!(complete().verdict().problems, Vec::<String>::new());
    assert_eq!(with_drops().verdict().problems, Vec::<String>::new());
    assert_eq!(with_pauses().verdict().problems, Vec::<String>::new());
    assert_eq!(without_passthrough().verdict().problems, Vec::<String>::new());
}

#[test]
fn batches_repeated_under_the_same_id_are_no_problem() {
    let mut observed = complete();
    drain(&mut observed).duplicates = 3;
    assert_eq!(observed.verdict().problems, Vec::<String>::new());
}

#[test]
fn each_disagreement_is_exactly_one_problem() {
    type Change = fn(&mut Observations);
    let table = [
        (complete(), (|e| e.runs[0].end = RunEnd::Exited(7)) as Change, "by itself, with status 7"),
        (complete(), |e| e.runs[0].end = RunEnd::Exited(0), "by itself, with status 0"),
        (
            complete(),
            |e| e.runs[0].end = RunEnd::ExitedBeforeUp(127),
            "with status 127 before it listened on $PORT",
        ),
        (complete(), |e| e.runs[0].end = RunEnd::BootTimeout, "did not listen on $PORT within 60 s"),
        (complete(), |e| e.runs[0].ledger = Some(Err("gone".to_owned())), "no ledger: gone"),
        (complete(), |e| set_printed(e, 99), "captured 100 lines, the dyno printed 99"),
        (complete(), |e| set_printed(e, 101), "captured 100 lines, the dyno printed 101"),
        (
            complete(),
            |e| *arrived_lines(e) = 100,
            "100 lines delivered, which are 101 to 101 frames, 100 arrived",
        ),
        (complete(), |e| *arrived_lines(e) = 102, "101 to 101 frames, 102 arrived"),
        (with_pauses(), |e| *arrived_lines(e) = 104, "101 to 103 frames, 104 arrived"),
        (with_drops(), |e| *arrived_lines(e) = 69, "70 to 71 frames, 69 arrived"),
        (with_drops(), |e| *arrived_lines(e) = 72, "70 to 71 frames, 72 arrived"),
        (without_passthrough(), |e| *arrived_lines(e) = 99, "100 lines delivered, 99 frames arrived"),
        (complete(), |e| set_received(e, "all of 1t"), "what arrived is not what the dyno printed"),
        (with_drops(), |e| drain(e).losses.lines = 0, "30 lines dropped, 0 announced"),
        (with_drops(), |e| drain(e).losses.lines = 29, "30 lines dropped, 29 announced"),
        (complete(), |e| drain(e).losses.lines = 1, "0 lines dropped, 1 announced"),
        (with_drops(), |e| account(e).dropped.clear(), "dropped 30, but by reason 0"),
        (
            with_drops(),
            |e| e.runs[0].expected_loss = ExpectedLoss::default(),
            "30 lines were dropped (spool-full)",
        ),
        (complete(), |e| drain(e).changed_bodies = 1, "1 batches were repeated with another body"),
        (complete(), |e| drain(e).count_mismatches = 2, "Logplex-Msg-Count"),
        (complete(), |e| drain(e).malformed = 3, "3 bodies were malformed"),
        (complete(), |e| drain(e).out_of_order = 4, "4 frames were out of order"),
        (complete(), |e| add_objection(e, "vector", 5, "no zone"), "vector objected 5 times, last: no zone"),
        // The ledger is consistent, but the lines did not arrive.
        (complete(), |e| undelivered(e, 10, 0), "10 lines were still held"),
        (complete(), |e| undelivered(e, 0, 10), "refused 10 lines for good"),
    ];
    for (mut observed, change, expected) in table {
        change(&mut observed);
        let problems = observed.verdict().problems;
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected:?}: {problems:#?}");
        assert_eq!(problems.len(), 1, "{expected:?}: {problems:#?}");
    }
}

#[test]
fn lines_missing_from_the_ledger_are_a_problem() {
    let mut observed = complete();
    account(&mut observed).delivered_lines = 90;
    *arrived_lines(&mut observed) = 90;
    set_received(&mut observed, "some of it");
    let problems = observed.verdict().problems;
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].contains("captured 100, but delivered, held, dropped and rejected are 90"),
        "{problems:#?}"
    );
}

#[test]
fn an_explained_loss_is_a_note_if_it_was_announced() {
    let mut observed = with_drops();
    assert_eq!(observed.verdict().notes, ["web.1: 30 lines were dropped (spool-full)"]);
    drain(&mut observed).losses.lines = 0;
    assert_eq!(observed.verdict().problems.len(), 1, "not announced");
    let mut observed = complete();
    observed.runs[0].end = RunEnd::ExitTimeout;
    assert!(observed.verdict().notes[0].contains("within 30 s of SIGTERM"), "caused by the app");
}

#[test]
fn a_fault_explains_only_losses_of_its_kind() {
    type Change = fn(&mut Observations);
    let lost: [(Change, Change, &str); 5] = [
        (
            |e| undelivered(e, 10, 0),
            |e| expected_loss(e).held_by.extend(["outage=1s".to_owned()]),
            "10 lines were still held",
        ),
        (|e| undelivered(e, 0, 10), |e| expected_loss(e).rejected = true, "refused 10 lines for good"),
        (|e| e.runs[0].end = RunEnd::Exited(137), |e| expected_loss(e).app_killed = true, "status 137"),
        (
            |e| e.runs[0].end = RunEnd::ExitedBeforeUp(137),
            |e| expected_loss(e).app_killed = true,
            "status 137",
        ),
        (
            |e| drop_lines(e, "spool-full"),
            |e| expected_loss(e).drop_reasons.extend(["spool-full"]),
            "30 lines were dropped",
        ),
    ];
    for (loss, (lose, _, expected)) in lost.iter().enumerate() {
        for (fault, (_, explain, _)) in lost.iter().enumerate() {
            let mut observed = complete();
            lose(&mut observed);
            explain(&mut observed);
            let Verdict { problems, notes } = observed.verdict();
            let are_exits = [loss, fault].iter().all(|index| (2..=3).contains(index));
            let is_explained = loss == fault || are_exits;
            assert_eq!(
                (problems.len(), notes.len()),
                if is_explained { (0, 1) } else { (1, 0) },
                "{expected}, {fault}"
            );
            let message = &[problems, notes].concat()[0];
            assert!(message.contains(expected) && !message.contains("announced"), "{message}");
        }
    }
    let mut observed = complete();
    drop_lines(&mut observed, "recorder-fault");
    expected_loss(&mut observed).drop_reasons.extend(["spool-full", "spool-unwritable"]);
    assert_eq!(observed.verdict().problems, ["web.1: 30 lines were dropped (recorder-fault)"]);
}

#[test]
fn held_lines_may_have_arrived_without_an_acknowledgement() {
    let mut observed = complete();
    undelivered(&mut observed, 10, 0);
    expected_loss(&mut observed).held_by.insert("drain=reset-after".to_owned());
    *arrived_lines(&mut observed) += 10;
    assert_eq!(observed.verdict().problems, Vec::<String>::new());
}

#[test]
fn lines_printed_before_the_agent_started_are_a_note() {
    let mut observed = complete();
    printed(&mut observed).early = 3;
    let Verdict { problems, notes } = observed.verdict();
    assert!(problems.is_empty() && notes[0].starts_with("web.1: 3 lines came from .profile.d"), "{notes:?}");
}

#[test]
fn a_fault_that_was_not_injected_explains_nothing() {
    let mut observed = complete();
    observed
        .rejected_faults
        .push("outage=1s: not possible here, the receiver is not the local one".to_owned());
    assert_eq!(
        observed.verdict().notes,
        ["not tried: outage=1s: not possible here, the receiver is not the local one"]
    );
    undelivered(&mut observed, 10, 0);
    assert_eq!(observed.verdict().problems.len(), 1);
}

#[test]
fn the_runs_of_a_dyno_are_added_up() {
    let mut observed = complete();
    observed.runs.push(observed.runs[0].clone());
    assert_eq!(observed.verdict().problems.len(), 1);
    *arrived_lines(&mut observed) *= 2;
    // Both logged at the same time while one replaced the other.
    drain(&mut observed).out_of_order = 5;
    observed.runs[0].was_replaced = true;
    let both = text("all of it").merge(text("all of it"));
    observed.received.insert("web.1".to_owned(), both);
    assert_eq!(observed.verdict().problems, Vec::<String>::new());
}

#[test]
fn the_ledger_of_a_killed_dyno_may_be_out_of_date() {
    let mut observed = complete();
    observed.runs[0].end = RunEnd::ExitTimeout;
    let account = account(&mut observed);
    (account.delivered_lines, account.held_lines) = (10, 5);
    ledger(&mut observed).captured_lines = 15; // out of date
    *arrived_lines(&mut observed) = 99;
    let verdict = observed.verdict();
    assert_eq!(verdict.problems, Vec::<String>::new());
    assert!(verdict.notes.iter().any(|note| note.contains("its last 2 lines")), "{verdict:?}");
    *arrived_lines(&mut observed) = 9;
    assert_eq!(observed.verdict().problems.len(), 1, "fewer than were delivered");
    *arrived_lines(&mut observed) = 102;
    assert_eq!(observed.verdict().problems.len(), 1, "more than there were");
}

/// Makes lines held and rejected instead of delivered.
fn undelivered(observed: &mut Observations, held: u64, rejected: u64) {
    let account = account(observed);
    account.delivered_lines -= held + rejected;
    (account.held_lines, account.rejected_lines) = (held, rejected);
    *arrived_lines(observed) -= held + rejected;
}

fn set_printed(observed: &mut Observations, lines: u64) {
    let printed = printed(observed);
    (printed.frames, printed.lines) = (lines + 1, lines);
}

fn add_objection(observed: &mut Observations, receiver: &str, errors: u64, last: &str) {
    let complaints = Complaints { errors, last: Some(last.to_owned()) };
    drain(observed).conformance.insert(receiver.to_owned(), complaints);
}
