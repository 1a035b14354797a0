//! The drain is unreachable, the shipper is killed or stopped: the app is not blocked, and no line is lost.

use crate::feed::{Feed, FeedReport};
use crate::harness::{Agent, Harness, WAIT_TIMEOUT, assert_conforms, assert_in_order, wait_for, wait_until};
use crate::procfs::{self, Memory};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::thread;
use std::time::{Duration, Instant};

/// Lines per second of the app.
const RATE: u64 = 5000;
/// Limit of a single write of the app, above what scheduling on a loaded machine causes. A pump that waited for the
/// drain would block as long as the outage lasts.
const MAX_WRITE: Duration = Duration::from_secs(1);
/// Limit of the resident memory of supervisor and shipper together, in bytes, of a debug build.
const MAX_MEMORY: u64 = 16 << 20;
/// Limit of the growth of private memory during an outage, in bytes.
const MAX_GROWTH: u64 = 4 << 20;

/// Memory of supervisor and shipper; `None` while no shipper runs.
fn memory(agent: &Agent) -> Option<Memory> {
    Some(Memory::of(agent.pid())?.plus(Memory::of(procfs::shipper_of(agent.pid())?)?))
}

/// Calls `action` every 100 ms until `duration` has passed.
fn repeat_for(duration: Duration, mut action: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < duration {
        action();
        thread::sleep(Duration::from_millis(100));
    }
}

/// Stops the feed, waits until every line has arrived, and checks that each was delivered once and in order.
fn finish_feed(harness: &Harness, mut agent: Agent, feed: Feed) {
    let FeedReport { lines: count, longest_write } = feed.stop(&mut agent);
    assert!(longest_write < MAX_WRITE, "one write of the app took {longest_write:?}");
    harness.wait_for_lines(count);
    let output = agent.finish();
    assert_eq!(output.status, 0, "{}", output.stderr);
    harness.assert_all_delivered(&output, count);
    assert_in_order(&harness.report(), count);
    assert_eq!(harness.report().losses.notices, 0);
}

#[test]
fn an_outage_loses_no_lines_and_does_not_block_the_app() {
    let harness = Harness::new();
    let mut agent = harness.run(&["cat"]);
    let feed = Feed::start(&mut agent, RATE);
    harness.wait_for_lines(RATE / 2);
    let before = wait_for("the memory before the outage", || memory(&agent));
    harness.drain.set_faults("refuse").unwrap();
    let (start, mut most) = (feed.written(), before);
    repeat_for(Duration::from_secs(4), || most = most.max(memory(&agent).unwrap_or_default()));
    assert!(feed.written() > start + 2 * RATE, "the app was blocked during the outage");
    let received = harness.report().lines;
    let message = agent.wait_for_message(&["at=drain-unreachable", "held=", "oldest="]);
    assert!(feed.written() > received + 2 * RATE, "{received} lines arrived during the outage: {message}");
    harness.drain.set_faults("").unwrap();
    agent.wait_for_message(&["at=drain-ok", "down="]);
    most = most.max(memory(&agent).unwrap_or_default());
    let is_flat = most.resident < MAX_MEMORY && most.private < before.private + MAX_GROWTH;
    assert!(is_flat, "{before:?} before, {most:?} at most");
    finish_feed(&harness, agent, feed);
}

#[test]
fn repeated_kills_of_the_shipper_lose_no_lines() {
    // At most times the drain has received a batch and has not answered yet.
    let harness = Harness::with_faults("stall=200ms").set("TAILRACE_BATCH_LINGER", "50ms");
    let mut agent = harness.run(&["cat"]);
    let feed = Feed::start(&mut agent, RATE);
    harness.wait_for_lines(RATE / 2);
    harness.drain.set_faults("refuse:@2s+2s, stall=200ms").unwrap();
    let mut killed = Vec::new();
    let mut next = Instant::now();
    repeat_for(Duration::from_secs(6), || {
        if next <= Instant::now()
            && let Some(pid) = procfs::shipper_of(agent.pid())
            && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
        {
            killed.push(pid);
            next = Instant::now() + Duration::from_millis(500);
        }
    });
    let count = killed.len();
    killed.dedup();
    assert!(killed.len() == count && count >= 3, "every kill must hit another shipper: {killed:?}");
    harness.drain.set_faults("").unwrap();
    finish_feed(&harness, agent, feed);
}

#[test]
fn a_batch_that_was_sent_before_the_shipper_died_is_repeated_under_its_frame_id() {
    let harness = Harness::with_faults("stall=60s:n=1");
    let mut agent = harness.run(&["cat"]);
    agent.feed("1\n");
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.accepted == 1));
    kill(Pid::from_raw(agent.wait_for_shipper()), Signal::SIGKILL).unwrap();
    agent.feed("2\n");
    harness.wait_for_lines(2);
    let output = agent.finish();
    harness.assert_all_delivered(&output, 2);
    assert_eq!(
        (harness.report().duplicates, harness.drain.lines()),
        (1, vec!["1".to_owned(), "2".to_owned()])
    );
}

#[test]
fn a_shipper_that_dies_after_the_exit_of_the_app_is_replaced() {
    let harness = Harness::with_faults("stall=60s:n=1");
    let agent = harness.run(&["echo", "last line"]);
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.accepted == 1));
    kill(Pid::from_raw(agent.wait_for_shipper()), Signal::SIGKILL).unwrap();
    let output = agent.finish();
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    harness.assert_all_delivered(&output, 1);
    assert_eq!(harness.report().duplicates, 1);
}

#[test]
fn a_shipper_that_hangs_is_replaced() {
    let harness = Harness::new().set("TAILRACE_REQUEST_TIMEOUT", "1s");
    let mut agent = harness.run(&["cat"]);
    let feed = Feed::start(&mut agent, RATE / 5);
    harness.wait_for_lines(100);
    let stopped = agent.wait_for_shipper();
    kill(Pid::from_raw(stopped), Signal::SIGSTOP).unwrap();
    agent.wait_for_message(&["at=shipper-hangs"]);
    let replacement =
        wait_for("another shipper", || procfs::shipper_of(agent.pid()).filter(|pid| *pid != stopped));
    assert!(replacement > 0);
    finish_feed(&harness, agent, feed);
    assert_conforms(&harness.drain.report());
}

#[test]
fn repeated_deaths_of_the_shipper_are_reported_once_and_so_is_the_recovery() {
    let harness = Harness::new();
    let mut agent = harness.run(&["cat"]);
    agent.feed("1\n");
    harness.wait_for_lines(1);
    harness.drain.set_faults("refuse").unwrap();
    agent.feed("2\n");
    let mut killed = 0;
    while !agent.stderr().contains("at=shipper-fails") {
        let pid = agent.wait_for_shipper();
        killed += u32::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        wait_until("the shipper to be gone", || procfs::shipper_of(agent.pid()) != Some(pid));
        assert!(killed < 10, "{}", agent.stderr());
    }
    harness.drain.set_faults("").unwrap();
    harness.wait_for_lines(2);
    agent.wait_for_message(&["at=shipper-ok", "down="]);
    let output = agent.finish();
    harness.assert_all_delivered(&output, 2);
    let messages = output.messages();
    let reports = messages.iter().filter(|line| line.contains("at=shipper")).count();
    assert!(reports == 2 && killed >= 3, "{messages:?}");
}
