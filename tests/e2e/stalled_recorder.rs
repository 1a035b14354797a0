//! A recorder that stands still, as for a disk that does: the app goes on, and what was not recorded is counted.

use crate::harness::{PATIENCE, Rig, numbers, wait_for};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Threads of a keeper, stopped by ptrace(2) until this is dropped, in the thread that made it.
pub(crate) struct Stalled(Vec<Pid>);

impl Stalled {
    /// Nothing where tracing is refused.
    pub(crate) fn of(keeper: i32, names: &[&str]) -> Option<Self> {
        let mut threads = Vec::new();
        for name in names {
            let is_it = |task: &PathBuf| {
                fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == *name)
            };
            let task = wait_for(name, || {
                fs::read_dir(format!("/proc/{keeper}/task")).unwrap().flatten().map(|e| e.path()).find(is_it)
            });
            let thread = Pid::from_raw(task.file_name()?.to_str()?.parse().ok()?);
            match ptrace::seize(thread, ptrace::Options::empty()) {
                Err(Errno::EPERM | Errno::ENOSYS) => {
                    crate::namespace::skipped("tracing is refused here");
                    return None;
                }
                other => other.unwrap(),
            }
            ptrace::interrupt(thread).unwrap();
            waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
            threads.push(thread);
        }
        Some(Self(threads))
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        // Where its process has ended, nobody may reap a thread before us; and one may wait for the other to be reaped.
        self.0.retain(|thread| ptrace::detach(*thread, None).is_err());
        let here = Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG);
        while !self.0.is_empty() {
            self.0.retain(|thread| matches!(waitpid(*thread, here), Ok(WaitStatus::StillAlive)));
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn what_passes_a_recorder_that_stands_still_is_counted_and_announced() {
    let rig = Rig::new().set("TAILRACE_SAMPLE_INTERVAL", "1s").set("TAILRACE_HEARTBEAT", "1s");
    let mut agent = rig.run(&["cat"]);
    agent.feed(numbers(1..=10));
    rig.wait_lines(10);
    let Some(stalled) = Stalled::of(agent.pid(), &["recorder"]) else { return };
    // Long enough for lines of our own to pile up: none of the app's may go for their sake.
    thread::sleep(Duration::from_secs(22));
    // More than all buffers hold.
    let last = 1_500_000;
    let text = numbers(11..=last);
    agent.feed(&text);
    let size = (numbers(1..=10) + &text).len();
    wait_for("all of it on standard output", || (agent.out().len() == size).then_some(()));
    drop(stalled);
    // It is at work again, and has buffers to give.
    rig.wait_lines(11);
    agent.feed(numbers(last + 1..=last + 10));
    let arrived = |report: &tailrace_drain::tally::Report| {
        report.sequence.get("web.1").is_some_and(|sequence| sequence.last == Some(last + 10))
    };
    assert!(rig.drain.wait_until(PATIENCE, arrived), "{:?}", rig.drain.report());
    let end = agent.end();
    assert_eq!(end.text(), numbers(1..=last + 10), "byte by byte");
    let (account, report) = (rig.agree(&end), rig.report());
    assert_eq!((end.ledger().captured, account.held), (last + 10, 0), "{account:?}");
    assert!(account.dropped > 0 && account.delivered > 20, "{account:?}");
    let sequence = &report.sequence["web.1"];
    assert_eq!((sequence.missing, sequence.backward), (account.dropped, 0), "{sequence:?}");
    assert_eq!(report.losses.lines, account.dropped, "exactly what is missing");
}
