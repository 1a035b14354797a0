//! Retries: no loop without a pause, and no delivery given up that makes progress.

use crate::harness::{Harness, WAIT_TIMEOUT, assert_in_order, numbers, wait_until};
use crate::spool::leave_lines;
use crate::status::status_of;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn no_answer_is_asked_for_in_a_loop_without_a_pause() {
    let statuses = [302, 400, 401, 402, 403, 404, 405, 408, 410, 413, 415, 421, 425, 429, 500, 503];
    thread::scope(|scope| {
        for status in statuses {
            scope.spawn(move || {
                let harness = Harness::with_faults(&format!("status={status}"))
                    .drain_option(if status % 2 == 0 { "gzip=on" } else { "gzip=off" })
                    .set("TAILRACE_STOP_GRACE", "1s");
                let output = harness.sh("seq 3000; sleep 3; seq 3001 3100").finish();
                let (account, requests) = (&output.ledger().drains[0], harness.report().requests);
                assert!((1..=40).contains(&requests), "{status}: {requests} requests");
                assert_eq!(account.delivered, 0, "{status}");
                assert!(account.attempts <= requests, "{status}: {requests} requests, {account:?}");
                let is_final = matches!(status, 400 | 413 | 415);
                assert_eq!(account.rejected > 0, is_final, "{status}: {account:?}");
            });
        }
    });
}

#[test]
fn a_flaky_drain_gets_everything_within_the_grace() {
    let harness = Harness::with_faults("status=503:30%,reset-before:10%")
        .set("TAILRACE_BATCH_BYTES", "16KiB")
        .set("TAILRACE_BATCH_LINGER", "20ms");
    let output = harness.run(&["sh", "-c", "seq -f %.0f 24000"]).finish();
    harness.assert_all_delivered(&output, 24_000);
    assert_in_order(&harness.report(), 24_000);
}

#[test]
fn a_flaky_drain_gets_also_what_a_dead_agent_left() {
    let harness = Harness::with_faults("refuse")
        .set("TAILRACE_BATCH_BYTES", "16KiB")
        .set("TAILRACE_BATCH_LINGER", "20ms");
    leave_lines(&harness, 24_000);
    harness.drain.set_faults("status=503:30%,reset-before:10%").unwrap();
    let output = harness.run(&["true"]).finish();
    assert_eq!((output.status, output.messages().len()), (0, 1), "only that it adopts: {}", output.stderr);
    assert_in_order(&harness.report(), 24_000);
    assert!(harness.is_spool_empty());
}

#[test]
fn what_a_dead_agent_left_and_is_not_delivered_is_named_at_the_end_and_by_status() {
    let harness = Harness::with_faults("refuse");
    leave_lines(&harness, 2000);
    let harness = harness.set("TAILRACE_STOP_GRACE", "1s");
    let agent = harness.run(&["sleep", "60"]);
    wait_until("the status to name them", || {
        status_of(&agent).is_some_and(|status| {
            let drain = &status["drains"][0];
            drain["adopted_held_lines"] == 2000 && drain["adopted_held_bytes"].as_u64() > Some(100_000)
        })
    });
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    let at_end = output.messages().into_iter().find(|message| message.contains(" at=bytes-not-delivered "));
    assert!(at_end.is_some_and(|message| message.contains(" lines=2000 ")), "{}", output.stderr);
}

#[test]
fn a_shipper_that_hangs_at_the_end_is_replaced() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "60s");
    let mut agent = harness.run(&["sh", "-c", "echo 1; read line; seq 2 20; exec sleep 60"]);
    harness.wait_for_lines(1);
    kill(Pid::from_raw(agent.wait_for_shipper()), Signal::SIGSTOP).unwrap();
    agent.feed("go\n");
    agent.wait_for_stdout("\n20\n");
    let start = Instant::now();
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    // It is replaced after 2 s; the timeout of a request and that of a shipper that says nothing are together 25 s.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    harness.assert_all_delivered(&output, 20);
}

#[test]
fn the_last_lines_of_an_app_that_ends_with_the_grace_are_delivered() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let script = "trap 'sleep 1.2; seq 2 200; exit 3' TERM; echo 1; while :; do sleep 0.1; done";
    let agent = harness.run(&["bash", "-c", script]);
    harness.wait_for_lines(1);
    agent.signal(Signal::SIGTERM);
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.lines == 200), "{:?}", harness.report());
    let output = agent.finish();
    assert_eq!((output.status, output.stdout_text()), (3, numbers(1..=200)));
    harness.assert_all_delivered(&output, 200);
}
