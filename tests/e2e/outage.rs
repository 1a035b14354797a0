//! The drain is away, the shipper is killed or stopped: the app notices nothing, and nothing is lost.

use crate::feed::Feed;
use crate::harness::{Agent, PATIENCE, Rig, conforms, in_order, wait_for};
use crate::procfs::{self, Memory};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::thread;
use std::time::{Duration, Instant};

/// Lines per second of the app.
const RATE: u64 = 5000;
/// The longest write that is noise of the machine. A pump that waited for the drain would take as long as that.
const NOISE: Duration = Duration::from_secs(1);
/// Resident memory of keeper and shipper together, in bytes: of a build without optimisation.
const MEMORY: u64 = 16 << 20;
/// What it may grow by in an outage, in bytes.
const GROWTH: u64 = 4 << 20;

/// Memory of keeper and shipper; nothing while there is no shipper.
fn memory(agent: &Agent) -> Option<Memory> {
    Some(Memory::of(agent.pid())?.and(Memory::of(procfs::shipper_of(agent.pid())?)?))
}

/// Runs `during` for so long, every now and then.
fn meanwhile(length: Duration, mut during: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < length {
        during();
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until everything that was fed has arrived, then ends; everything came once, in order.
fn recover(rig: &Rig, mut agent: Agent, feed: Feed) {
    let (count, longest) = feed.stop(&mut agent);
    assert!(longest < NOISE, "the app had to wait {longest:?} for one write");
    rig.wait_lines(count);
    let end = agent.end();
    assert_eq!(end.status, 0, "{}", end.err);
    rig.all_delivered(&end, count);
    in_order(&rig.report(), count);
    assert_eq!(rig.report().losses.notices, 0);
}

#[test]
fn an_outage_loses_nothing_and_pauses_nobody() {
    let rig = Rig::new();
    let mut agent = rig.run(&["cat"]);
    let feed = Feed::start(&mut agent, RATE);
    rig.wait_lines(RATE / 2);
    let before = wait_for("the memory before", || memory(&agent));
    rig.drain.set_faults("refuse").unwrap();
    let (start, mut most) = (feed.written(), before);
    meanwhile(Duration::from_secs(4), || most = most.max(memory(&agent).unwrap_or_default()));
    assert!(feed.written() > start + 2 * RATE, "the app goes on during the outage");
    let taken = rig.report().lines;
    let said = agent.wait_said(&["at=drain-unreachable", "held=", "oldest="]);
    assert!(feed.written() > taken + 2 * RATE, "{taken} lines came through closed doors: {said}");
    rig.drain.set_faults("").unwrap();
    agent.wait_said(&["at=drain-ok", "down="]);
    most = most.max(memory(&agent).unwrap_or_default());
    let is_flat = most.resident < MEMORY && most.own < before.own + GROWTH;
    assert!(is_flat, "{before:?} before, {most:?} at most");
    recover(&rig, agent, feed);
}

#[test]
fn killing_the_shipper_again_and_again_loses_nothing() {
    // Most of the time a batch is with the drain, which has it and has not answered.
    let rig = Rig::with_faults("stall=200ms").set("TAILRACE_BATCH_LINGER", "50ms");
    let mut agent = rig.run(&["cat"]);
    let feed = Feed::start(&mut agent, RATE);
    rig.wait_lines(RATE / 2);
    rig.drain.set_faults("refuse:@2s+2s, stall=200ms").unwrap();
    let mut killed = Vec::new();
    let mut next = Instant::now();
    meanwhile(Duration::from_secs(6), || {
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
    assert!(killed.len() == count && count >= 3, "each time another one: {killed:?}");
    rig.drain.set_faults("").unwrap();
    recover(&rig, agent, feed);
}

#[test]
fn what_was_sent_before_the_shipper_died_is_repeated_under_its_id() {
    let rig = Rig::with_faults("stall=60s:n=1");
    let mut agent = rig.run(&["cat"]);
    agent.feed("1\n");
    assert!(rig.drain.wait_until(PATIENCE, |report| report.accepted == 1));
    kill(Pid::from_raw(agent.shipper()), Signal::SIGKILL).unwrap();
    agent.feed("2\n");
    rig.wait_lines(2);
    let end = agent.end();
    rig.all_delivered(&end, 2);
    assert_eq!((rig.report().duplicates, rig.drain.lines()), (1, vec!["1".to_owned(), "2".to_owned()]));
}

#[test]
fn a_shipper_that_dies_at_the_end_is_replaced() {
    let rig = Rig::with_faults("stall=60s:n=1");
    let agent = rig.run(&["echo", "last words"]);
    assert!(rig.drain.wait_until(PATIENCE, |report| report.accepted == 1));
    kill(Pid::from_raw(agent.shipper()), Signal::SIGKILL).unwrap();
    let end = agent.end();
    assert_eq!((end.status, end.err.as_str()), (0, ""));
    rig.all_delivered(&end, 1);
    assert_eq!(rig.report().duplicates, 1);
}

#[test]
fn a_shipper_that_hangs_is_replaced() {
    let rig = Rig::new().set("TAILRACE_REQUEST_TIMEOUT", "1s");
    let mut agent = rig.run(&["cat"]);
    let feed = Feed::start(&mut agent, RATE / 5);
    rig.wait_lines(100);
    let stopped = agent.shipper();
    kill(Pid::from_raw(stopped), Signal::SIGSTOP).unwrap();
    agent.wait_said(&["at=shipper-hangs"]);
    let replaced =
        wait_for("another shipper", || procfs::shipper_of(agent.pid()).filter(|pid| *pid != stopped));
    assert!(replaced > 0);
    recover(&rig, agent, feed);
    conforms(&rig.drain.report());
}

#[test]
fn a_shipper_that_always_dies_is_said_once_and_when_it_is_over() {
    let rig = Rig::new();
    let mut agent = rig.run(&["cat"]);
    agent.feed("1\n");
    rig.wait_lines(1);
    rig.drain.set_faults("refuse").unwrap();
    agent.feed("2\n");
    let mut killed = 0;
    while !agent.err().contains("at=shipper-fails") {
        let pid = agent.shipper();
        killed += u32::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        wait_for("it to be gone", || (procfs::shipper_of(agent.pid()) != Some(pid)).then_some(()));
        assert!(killed < 10, "{}", agent.err());
    }
    rig.drain.set_faults("").unwrap();
    rig.wait_lines(2);
    agent.wait_said(&["at=shipper-ok", "down="]);
    let end = agent.end();
    rig.all_delivered(&end, 2);
    let said = end.said();
    assert!(said.iter().filter(|line| line.contains("at=shipper")).count() == 2 && killed >= 3, "{said:?}");
}
