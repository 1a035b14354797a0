//! Retries: no loop without a pause, and no delivery given up that makes progress.

use crate::harness::{Harness, WAIT_TIMEOUT, assert_in_order, numbers};
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
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
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
