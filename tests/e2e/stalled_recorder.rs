//! A stalled recorder: the app continues, and lines that were not recorded are counted.

use crate::harness::{Harness, WAIT_TIMEOUT, numbers, wait_until};
use crate::suspended_threads::SuspendedThreads;
use std::thread;
use std::time::Duration;

#[test]
fn lines_that_pass_a_stalled_recorder_are_counted_and_announced() {
    let harness = Harness::new().set("TAILRACE_SAMPLE_INTERVAL", "1s").set("TAILRACE_HEARTBEAT", "1s");
    let mut agent = harness.run(&["cat"]);
    agent.feed(numbers(1..=10));
    harness.wait_for_lines(10);
    let Some(suspended) = SuspendedThreads::of(agent.pid(), &["recorder"]) else { return };
    // Agent lines use up their 16 queue permits, at two a second; they must not displace lines of the app.
    thread::sleep(Duration::from_secs(10));
    // More than all buffers can hold.
    let last = 1_000_000;
    let text = numbers(11..=last);
    agent.feed(&text);
    let size = (numbers(1..=10) + &text).len();
    wait_until("everything on standard output", || agent.stdout().len() == size);
    drop(suspended);
    // The recorder runs again. What is missing is announced, although the app says nothing more.
    harness.wait_for_lines(11);
    let is_announced = |report: &tailrace_drain::stats::Report| report.losses.lines > 0;
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, is_announced), "{:?}", harness.drain.report());
    agent.feed(numbers(last + 1..=last + 10));
    let arrived = |report: &tailrace_drain::stats::Report| {
        report.sequence.get("web.1").is_some_and(|sequence| sequence.last == Some(last + 10))
    };
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, arrived), "{:?}", harness.drain.report());
    let output = agent.finish();
    assert_eq!(output.stdout_text(), numbers(1..=last + 10), "standard output must be byte-exact");
    let (account, report) = (harness.reconcile(&output), harness.report());
    assert_eq!((output.ledger().captured, account.held), (last + 10, 0), "{account:?}");
    assert!(account.dropped > 0 && account.delivered > 20, "{account:?}");
    let sequence = &report.sequence["web.1"];
    assert_eq!((sequence.missing, sequence.backward), (account.dropped, 0), "{sequence:?}");
    assert_eq!(report.losses.lines, account.dropped, "the loss notices must name exactly the missing lines");
}
