//! A drain with faults: repeated batches are unchanged, rejected lines are counted, and a message reports the fault.

use crate::harness::{DrainAccount, Harness, WAIT_TIMEOUT, assert_in_order, numbers};
use crate::threads::check_in_threads;
use std::time::{Duration, Instant};

/// Prints `count` lines at once and exits after all of them arrived; checks that all were delivered in order.
fn deliver_all(harness: &Harness, count: u64) -> DrainAccount {
    let mut agent = harness.run(&["cat"]);
    agent.feed(numbers(1..=count));
    harness.wait_for_lines(count);
    // The exit waits until the drain has acknowledged them: lines without an answer are not delivered.
    let output = agent.finish();
    assert_eq!(output.status, 0, "{}", output.stderr);
    harness.assert_all_delivered(&output, count);
    assert_in_order(&harness.report(), count);
    harness.reconcile(&output)
}

#[test]
fn a_batch_is_repeated_unchanged_after_a_reset_behind_its_body() {
    let harness = Harness::with_faults("reset-after:n=2");
    let account = deliver_all(&harness, 1000);
    let report = harness.report();
    assert!(report.duplicates == 2 && account.attempts >= account.batches + 2, "{report:?}");
}

#[test]
fn a_reset_before_the_body_causes_no_duplicate() {
    let harness = Harness::with_faults("reset-before:n=2");
    let account = deliver_all(&harness, 1000);
    assert_eq!(harness.report().duplicates, 0);
    assert_eq!(account.attempts, account.batches + 2);
}

#[test]
fn a_batch_that_is_too_large_is_split() {
    let harness = Harness::with_faults("status=413:n=3");
    let mut agent = harness.run(&["cat"]);
    // In one write, so that the first batch has several lines: a single line cannot be split.
    agent.feed(numbers(1..=500));
    harness.wait_for_lines(500);
    let output = agent.finish();
    harness.assert_all_delivered(&output, 500);
    let report = harness.report();
    assert_in_order(&report, 500);
    assert_eq!((report.by_status[&413], report.duplicates), (3, 0));
    let account = harness.reconcile(&output);
    assert!(account.batches >= 2, "an eighth of the batch, and the rest");
    assert_eq!(account.attempts, report.requests, "also those that were answered by 413");
}

#[test]
fn the_batch_limit_is_remembered_after_a_413() {
    let harness = Harness::with_faults("too-large=40KiB");
    let mut agent = harness.run(&["cat"]);
    agent.feed(numbers(1..=20_000));
    harness.wait_for_lines(20_000);
    let output = agent.finish();
    harness.assert_all_delivered(&output, 20_000);
    // 1.3 MB: the first batch of 512 KiB is split until it fits, and the next 30 batches or more fit at once.
    let report = harness.report();
    assert_in_order(&report, 20_000);
    assert!(report.by_status[&413] <= 5, "{:?}", report.by_status);
}

#[test]
fn rejected_lines_are_counted_and_reported() {
    for status in [400, 406, 409, 422] {
        let harness = Harness::with_faults(&format!("status={status}"));
        let output = harness.sh("seq 300").finish();
        let account = harness.reconcile(&output);
        assert_eq!((output.status, account.rejected, account.delivered), (0, 300, 0));
        let messages = output.messages().join("\n");
        for part in
            ["at=drain-rejected", &format!("status={status}"), "at=lines-not-delivered", "rejected=300"]
        {
            assert!(messages.contains(part), "{part}: {messages}");
        }
    }
}

#[test]
fn a_rejected_batch_does_not_stop_the_next() {
    let harness = Harness::with_faults("status=400:n=1");
    let mut agent = harness.run(&["cat"]);
    agent.feed("bad\n");
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.by_status.contains_key(&400)));
    agent.feed("good\n");
    harness.wait_for_lines(1);
    let output = agent.finish();
    let account = harness.reconcile(&output);
    assert_eq!((account.rejected, account.delivered), (1, 1));
    assert_eq!(harness.drain.lines(), ["good"]);
}

#[test]
fn lines_are_held_and_reported_when_an_operator_must_act() {
    check_in_threads(3, [401, 403, 404], |status| {
        let harness = Harness::with_faults(&format!("status={status}"));
        let mut agent = harness.run(&["cat"]);
        agent.feed("kept\n");
        let status = format!("status={status}");
        let parts = ["at=drain-refused", &status, "held=1", "oldest=", "retry=", "try=\"tailrace check\""];
        agent.wait_for_message(&parts);
        assert_eq!(harness.report().requests, 1, "the batch was sent again at once");
        harness.drain.set_faults("").unwrap();
        let output = agent.finish();
        harness.assert_all_delivered(&output, 1);
        assert!(output.stderr.contains("at=drain-ok"), "{}", output.stderr);
    });
}

#[test]
fn lines_that_are_refused_until_the_exit_are_held() {
    let harness = Harness::with_faults("status=401").set("TAILRACE_STOP_GRACE", "1s");
    let output = harness.sh("seq 20; exit 9").finish();
    let account = harness.reconcile(&output);
    assert_eq!(
        (output.status, account.held, account.rejected),
        (9, 20, 0),
        "the exit status must be that of the app"
    );
    assert!(output.messages().last().unwrap().contains("held=20"), "{}", output.stderr);
}

#[test]
fn retry_after_is_a_lower_bound_in_both_forms() {
    for form in ["retry-after=2", "retry-date=3"] {
        let harness = Harness::with_faults(&format!("status=503:n=1:{form}"));
        let mut agent = harness.run(&["cat"]);
        let start = Instant::now();
        agent.feed("line\n");
        harness.wait_for_lines(1);
        // A date has whole seconds. Without Retry-After the wait would be half a second at most.
        assert!(start.elapsed() >= Duration::from_secs(2), "{form}: after {:?}", start.elapsed());
        let output = agent.finish();
        harness.assert_all_delivered(&output, 1);
        let account = harness.reconcile(&output);
        assert_eq!(account.attempts, account.batches + 1);
    }
}

#[test]
fn temporary_errors_are_retried() {
    for fault in ["status=500", "status=503", "status=429", "status=408", "status=301"] {
        let harness = Harness::with_faults(&format!("{fault}:n=2"));
        assert_eq!(deliver_all(&harness, 100).attempts, harness.report().requests);
        assert_eq!(harness.report().duplicates, 0);
    }
}

#[test]
fn a_missing_answer_ends_with_the_request_timeout() {
    let harness = Harness::with_faults("stall=60s:n=1").set("TAILRACE_REQUEST_TIMEOUT", "1s");
    deliver_all(&harness, 100);
    assert_eq!(harness.report().duplicates, 1);
}

#[test]
fn a_missing_tls_handshake_ends_with_the_request_timeout() {
    let harness = Harness::with_faults("tls-stall:n=1").set("TAILRACE_REQUEST_TIMEOUT", "1s");
    deliver_all(&harness, 100);
}

#[test]
fn a_drain_that_closes_every_connection_gets_everything() {
    let harness = Harness::with_faults("close-after-answer").set("TAILRACE_BATCH_LINGER", "10ms");
    let account = deliver_all(&harness, 3000);
    assert_eq!((account.attempts, harness.report().duplicates), (account.batches, 0));
}

#[test]
fn an_untrusted_certificate_gets_no_data() {
    let harness = Harness::with_faults("wrong-cert").set("TAILRACE_STOP_GRACE", "1s");
    let mut agent = harness.run(&["cat"]);
    agent.feed("secret\n");
    let line = agent.wait_for_message(&["at=drain-unreachable"]);
    assert!(line.contains("certificate"), "{line}");
    let output = agent.finish();
    assert_eq!((harness.reconcile(&output).held, harness.report().requests), (1, 0));
}

#[test]
fn bodies_are_compressed_when_gzip_is_on() {
    let harness = Harness::new().drain_option("gzip=on");
    deliver_all(&harness, 5000);
    let report = harness.report();
    assert_eq!(report.gzip_requests, report.accepted);
    assert!(report.wire_bytes * 3 < report.bytes, "{report:?}");
}

#[test]
fn compression_is_turned_off_after_a_415() {
    let harness = Harness::with_faults("status=415:n=1").drain_option("gzip=on");
    deliver_all(&harness, 1000);
    let report = harness.report();
    assert_eq!((report.gzip_requests, report.by_status[&415]), (0, 1), "gzip must stay off after a 415");
}

#[test]
fn everything_is_delivered_under_all_faults_at_once() {
    let faults =
        "reset-before:5%, reset-after:5%, status=503:10%, status=413:5%, close-after-answer:10%, latency=5ms";
    let harness = Harness::with_faults(faults)
        .set("TAILRACE_BATCH_LINGER", "20ms")
        .set("TAILRACE_BATCH_BYTES", "16KiB");
    let mut agent = harness.run(&["cat"]);
    for chunk in 0..200 {
        agent.feed(numbers(chunk * 100 + 1..=(chunk + 1) * 100));
    }
    harness.wait_for_lines(20_000);
    harness.drain.set_faults("").unwrap();
    let output = agent.finish();
    harness.assert_all_delivered(&output, 20_000);
    assert_in_order(&harness.report(), 20_000);
}
