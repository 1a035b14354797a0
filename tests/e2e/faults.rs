//! A drain that misbehaves: what is repeated is the same, what is refused is counted, and a person is told.

use crate::harness::{Account, PATIENCE, Rig, in_order, numbers};
use std::time::{Duration, Instant};

/// An app prints `count` lines in one go at a drain with these faults, and lives until all are delivered.
fn survive(rig: &Rig, count: u64) -> Account {
    let mut agent = rig.run(&["cat"]);
    agent.feed(numbers(1..=count));
    rig.wait_lines(count);
    // Delivered, and known to be: an answer that never came is no delivery.
    let end = agent.end();
    assert_eq!(end.status, 0, "{}", end.err);
    rig.all_delivered(&end, count);
    in_order(&rig.report(), count);
    rig.agree(&end)
}

#[test]
fn a_reset_behind_the_body_repeats_it_unchanged() {
    let rig = Rig::with_faults("reset-after:n=2");
    let account = survive(&rig, 1000);
    let report = rig.report();
    assert!(report.duplicates == 2 && account.attempts >= account.batches + 2, "{report:?}");
}

#[test]
fn a_reset_before_the_body_repeats_nothing() {
    let rig = Rig::with_faults("reset-before:n=2");
    let account = survive(&rig, 1000);
    assert_eq!(rig.report().duplicates, 0);
    assert_eq!(account.attempts, account.batches + 2);
}

#[test]
fn too_large_a_batch_is_halved() {
    let rig = Rig::with_faults("status=413:n=3");
    let mut agent = rig.run(&["cat"]);
    // In one write, so that the first batch is not a single line, which cannot be halved.
    agent.feed(numbers(1..=500));
    rig.wait_lines(500);
    let end = agent.end();
    rig.all_delivered(&end, 500);
    let report = rig.report();
    in_order(&report, 500);
    assert_eq!((report.by_status[&413], report.duplicates), (3, 0));
    assert!(rig.agree(&end).batches >= 2, "an eighth of it, and the rest");
}

#[test]
fn what_was_too_large_once_is_not_tried_again() {
    let rig = Rig::with_faults("too-large=40KiB");
    let mut agent = rig.run(&["cat"]);
    agent.feed(numbers(1..=20_000));
    rig.wait_lines(20_000);
    let end = agent.end();
    rig.all_delivered(&end, 20_000);
    // 1.3 MB: 512 KiB are halved until they fit, and the next 30 batches or more fit at once.
    let report = rig.report();
    in_order(&report, 20_000);
    assert!(report.by_status[&413] <= 5, "{:?}", report.by_status);
}

#[test]
fn what_is_refused_for_good_is_counted_and_said() {
    for status in [400, 405, 410, 422] {
        let rig = Rig::with_faults(&format!("status={status}"));
        let end = rig.sh("seq 300").end();
        let account = rig.agree(&end);
        assert_eq!((end.status, account.rejected, account.delivered), (0, 300, 0));
        let said = end.said().join("\n");
        for words in
            ["at=drain-rejected", &format!("status={status}"), "at=lines-not-delivered", "rejected=300"]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}

#[test]
fn a_batch_that_is_refused_does_not_stop_the_next() {
    let rig = Rig::with_faults("status=400:n=1");
    let mut agent = rig.run(&["cat"]);
    agent.feed("bad\n");
    assert!(rig.drain.wait_until(PATIENCE, |report| report.by_status.contains_key(&400)));
    agent.feed("good\n");
    rig.wait_lines(1);
    let end = agent.end();
    let account = rig.agree(&end);
    assert_eq!((account.rejected, account.delivered), (1, 1));
    assert_eq!(rig.drain.lines(), ["good"]);
}

#[test]
fn what_a_person_can_cure_is_held_and_said() {
    for status in [401, 403, 404] {
        let rig = Rig::with_faults(&format!("status={status}"));
        let mut agent = rig.run(&["cat"]);
        agent.feed("kept\n");
        let status = format!("status={status}");
        let words = ["at=drain-refused", &status, "held=1", "oldest=", "retry=", "try=\"tailrace check\""];
        agent.wait_said(&words);
        assert_eq!(rig.report().requests, 1, "it is not asked again at once");
        rig.drain.set_faults("").unwrap();
        let end = agent.end();
        rig.all_delivered(&end, 1);
        assert!(end.err.contains("at=drain-ok"), "{}", end.err);
    }
}

#[test]
fn what_is_still_refused_at_the_end_is_held() {
    let rig = Rig::with_faults("status=401").set("TAILRACE_STOP_GRACE", "1s");
    let end = rig.sh("seq 20; exit 9").end();
    let account = rig.agree(&end);
    assert_eq!((end.status, account.held, account.rejected), (9, 20, 0), "the app's status, not ours");
    assert!(end.said().last().unwrap().contains("held=20"), "{}", end.err);
}

#[test]
fn retry_after_is_obeyed_in_both_forms() {
    for form in ["retry-after=2", "retry-date=3"] {
        let rig = Rig::with_faults(&format!("status=503:n=1:{form}"));
        let mut agent = rig.run(&["cat"]);
        let start = Instant::now();
        agent.feed("patience\n");
        rig.wait_lines(1);
        // A date has whole seconds. Without it, half a second would be the longest wait.
        assert!(start.elapsed() >= Duration::from_secs(2), "{form}: after {:?}", start.elapsed());
        let end = agent.end();
        rig.all_delivered(&end, 1);
        let account = rig.agree(&end);
        assert_eq!(account.attempts, account.batches + 1);
    }
}

#[test]
fn trouble_of_the_drains_own_is_tried_again() {
    for fault in ["status=500", "status=503", "status=429", "status=408", "status=301"] {
        let rig = Rig::with_faults(&format!("{fault}:n=2"));
        assert_eq!(survive(&rig, 100).attempts, rig.report().requests);
        assert_eq!(rig.report().duplicates, 0);
    }
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    let rig = Rig::with_faults("stall=60s:n=1").set("TAILRACE_REQUEST_TIMEOUT", "1s");
    survive(&rig, 100);
    assert_eq!(rig.report().duplicates, 1);
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    let rig = Rig::with_faults("tls-stall:n=1").set("TAILRACE_REQUEST_TIMEOUT", "1s");
    survive(&rig, 100);
}

#[test]
fn a_drain_that_closes_every_connection_is_served_all_the_same() {
    let rig = Rig::with_faults("close-after-answer").set("TAILRACE_BATCH_LINGER", "10ms");
    let account = survive(&rig, 3000);
    assert_eq!((account.attempts, rig.report().duplicates), (account.batches, 0));
}

#[test]
fn a_certificate_of_nobody_gets_nothing() {
    let rig = Rig::with_faults("wrong-cert").set("TAILRACE_STOP_GRACE", "1s");
    let mut agent = rig.run(&["cat"]);
    agent.feed("secret\n");
    let line = agent.wait_said(&["at=drain-unreachable"]);
    assert!(line.contains("certificate"), "{line}");
    let end = agent.end();
    assert_eq!((rig.agree(&end).held, rig.report().requests), (1, 0));
}

#[test]
fn gzip_is_sent_where_it_is_asked_for() {
    let rig = Rig::new().option("gzip=on");
    survive(&rig, 5000);
    let report = rig.report();
    assert_eq!(report.gzip_requests, report.accepted);
    assert!(report.wire_bytes * 3 < report.bytes, "{report:?}");
}

#[test]
fn gzip_is_given_up_where_it_is_not_taken() {
    let rig = Rig::with_faults("status=415:n=1").option("gzip=on");
    survive(&rig, 1000);
    let report = rig.report();
    assert_eq!((report.gzip_requests, report.by_status[&415]), (0, 1), "once plain, plain for good");
}

#[test]
fn everything_at_once() {
    let faults =
        "reset-before:5%, reset-after:5%, status=503:10%, status=413:5%, close-after-answer:10%, latency=5ms";
    let rig =
        Rig::with_faults(faults).set("TAILRACE_BATCH_LINGER", "20ms").set("TAILRACE_BATCH_BYTES", "16KiB");
    let mut agent = rig.run(&["cat"]);
    for chunk in 0..200 {
        agent.feed(numbers(chunk * 100 + 1..=(chunk + 1) * 100));
    }
    rig.wait_lines(20_000);
    rig.drain.set_faults("").unwrap();
    let end = agent.end();
    rig.all_delivered(&end, 20_000);
    in_order(&rig.report(), 20_000);
}
