//! An app that prints at a steady rate, and the duration of its writes.
//!
//! The app is `cat`; it is fed through a pipe of one page. When the agent blocks the output of `cat`, that pipe is
//! full within milliseconds, and the write to it blocks too.

use crate::harness::Agent;
use nix::fcntl::{FcntlArg, fcntl};
use std::io::Write;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A thread that writes numbered lines, one write each.
pub(crate) struct Feed {
    thread: JoinHandle<FinishedWriter>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
}

/// What a [`Feed`] did.
pub(crate) struct FeedReport {
    /// Lines written.
    pub(crate) lines: u64,
    pub(crate) longest_write: Duration,
}

/// What the thread of a [`Feed`] returns.
struct FinishedWriter {
    stdin: ChildStdin,
    longest_write: Duration,
}

impl Feed {
    /// Writes `rate` lines per second to the agent, numbered from 1, until [`Feed::stop`].
    pub(crate) fn start(agent: &mut Agent, rate: u64) -> Self {
        let stdin = agent.stdin.take().unwrap();
        fcntl(&stdin, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (thread_stop, thread_written) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = thread::spawn(move || write_lines(stdin, rate, &thread_stop, &thread_written));
        Self { thread, stop, written }
    }

    /// Lines written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Stops writing and returns standard input to the agent.
    pub(crate) fn stop(self, agent: &mut Agent) -> FeedReport {
        self.stop.store(true, Ordering::Release);
        let FinishedWriter { stdin, longest_write } = self.thread.join().unwrap();
        agent.stdin = Some(stdin);
        FeedReport { lines: self.written.load(Ordering::Acquire), longest_write }
    }
}

fn write_lines(mut stdin: ChildStdin, rate: u64, stop: &AtomicBool, written: &AtomicU64) -> FinishedWriter {
    let (start, mut longest_write, mut number) = (Instant::now(), Duration::ZERO, 0);
    while !stop.load(Ordering::Acquire) {
        let due = (start.elapsed().as_micros() as u64 * rate) / 1_000_000;
        // After a pause of the machine, catches up in steps of a tenth of a second.
        let limit = due.min(number + rate / 10);
        while number < limit {
            number += 1;
            let line = format!("method=GET path=/orders/{number} status=200 service=12ms seq={number}\n");
            let before = Instant::now();
            stdin.write_all(line.as_bytes()).unwrap();
            longest_write = longest_write.max(before.elapsed());
        }
        written.store(number, Ordering::Release);
        thread::sleep(Duration::from_millis(1));
    }
    FinishedWriter { stdin, longest_write }
}
