//! An app that prints at a steady rate and measures its own writes.
//!
//! The app itself is `cat`, and this is what feeds it through a pipe of one page: when the agent makes `cat` wait
//! for its output, the pipe is full within milliseconds, and the write here waits too.

use crate::harness::Agent;
use nix::fcntl::{FcntlArg, fcntl};
use std::io::Write;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A writer of numbered lines, one write each.
pub(crate) struct Feed {
    thread: JoinHandle<(ChildStdin, Duration)>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
}

impl Feed {
    /// Feeds the agent `rate` lines a second, from 1 on, until it is told to stop.
    pub(crate) fn start(agent: &mut Agent, rate: u64) -> Self {
        let input = agent.input.take().unwrap();
        fcntl(&input, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = thread::spawn(move || feed(input, rate, &until, &count));
        Self { thread, stop, written }
    }

    /// Lines written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Stops, gives the agent its input back, and returns how many lines were written and how long the longest
    /// write took.
    pub(crate) fn stop(self, agent: &mut Agent) -> (u64, Duration) {
        self.stop.store(true, Ordering::Release);
        let (input, longest) = self.thread.join().unwrap();
        agent.input = Some(input);
        (self.written.load(Ordering::Acquire), longest)
    }
}

fn feed(mut input: ChildStdin, rate: u64, stop: &AtomicBool, written: &AtomicU64) -> (ChildStdin, Duration) {
    let (start, mut longest, mut number) = (Instant::now(), Duration::ZERO, 0);
    while !stop.load(Ordering::Acquire) {
        let due = (start.elapsed().as_micros() as u64 * rate) / 1_000_000;
        // What a machine under load missed is caught up with, though not all at once.
        let most = due.min(number + rate / 10);
        while number < most {
            number += 1;
            let line = format!("method=GET path=/orders/{number} status=200 service=12ms seq={number}\n");
            let before = Instant::now();
            input.write_all(line.as_bytes()).unwrap();
            longest = longest.max(before.elapsed());
        }
        written.store(number, Ordering::Release);
        thread::sleep(Duration::from_millis(1));
    }
    (input, longest)
}
