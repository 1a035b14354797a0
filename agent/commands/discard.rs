//! Standard input of a `ship` that cannot ship or is switched off: read and discarded, so that whoever writes runs on.

use super::stop_signals::{self, StopSignals};
use crate::poll;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What is said about the input.
pub(super) const DISCARDED: &str = "the input is read and discarded";
/// Bytes read at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Reads standard input and discards it: until it ends or cannot be read, but no longer than `grace` after a stop
/// signal. Without `signals` those end this process.
pub(super) fn discard_input(mut signals: Option<&mut StopSignals>, grace: Duration) {
    let stdin = io::stdin();
    let input = stdin.as_fd();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let deadline = signals.as_mut().and_then(|signals| signals.deadline(grace));
        if deadline.is_some_and(|deadline| deadline <= Instant::now() || stop_signals::ends_input()) {
            return;
        }
        if !wait(input, signals.as_deref(), deadline) {
            continue;
        }
        match nix::unistd::read(input, &mut buffer) {
            Ok(0) => return,
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => return, // nobody misses what cannot be read
        }
    }
}

/// Waits for input, a signal or the deadline. Returns whether there is input.
fn wait(input: BorrowedFd<'_>, signals: Option<&StopSignals>, deadline: Option<Instant>) -> bool {
    let mut polled = vec![PollFd::new(input, PollFlags::POLLIN)];
    polled.extend(signals.map(|signals| PollFd::new(signals.fd(), PollFlags::POLLIN)));
    match poll(&mut polled, poll::until(deadline)) {
        Ok(_) => polled[0].any().unwrap_or(false),
        Err(Errno::EINTR) => false,
        Err(_) => true, // the read waits
    }
}
