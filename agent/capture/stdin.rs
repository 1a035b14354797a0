//! Standard input of `ship`, read and recorded until it ends.

use crate::diag;
use crate::frame::now_micros;
use crate::line::Stream;
use crate::poll;
use crate::recorder::{Recorder, Wakeups, complain};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::EventFd;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Bytes read at a time.
const BUFFER: usize = 256 << 10;
/// What the pipe shall hold.
const PIPE: i32 = 1 << 20;

/// What reader and books tell each other.
pub struct StdinState {
    /// There are news for the books.
    pub wake: EventFd,
    /// The reader shall stop: a signal came, or the time is over.
    pub stop: AtomicBool,
    /// Wakes the reader to see that.
    pub halt: EventFd,
    /// Everything that was read is in the spool.
    pub finished: AtomicBool,
}

impl StdinState {
    /// There are news for the books.
    pub fn notify(&self) {
        let _or_full = self.wake.write(1);
    }
}

/// Reads and records standard input until it ends.
pub fn read(mut recorder: Recorder<'_>, mut pacer: Wakeups, shared: &StdinState) {
    let stdin = io::stdin();
    let input = stdin.as_fd();
    let _best_effort = fcntl(input, FcntlArg::F_SETPIPE_SZ(PIPE));
    let mut buffer = vec![0; BUFFER];
    while !shared.stop.load(Ordering::Relaxed) {
        if !wait(input, &mut recorder, &mut pacer, shared) {
            continue;
        }
        match nix::unistd::read(input, &mut buffer) {
            Ok(0) => break,
            Ok(got) => {
                recorder.chunk(Stream::Out, &buffer[..got], now_micros());
                if pacer.add(got as u64, Instant::now()) {
                    shared.notify();
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(errno) => {
                diag::event("cannot-read").field("error", errno.desc()).emit();
                break;
            }
        }
        complain(&mut recorder);
    }
    recorder.end(Stream::Out);
    complain(&mut recorder);
}

/// Waits for input; a line that stands still goes out meanwhile. False when there is none yet.
fn wait(
    input: BorrowedFd<'_>,
    recorder: &mut Recorder<'_>,
    pacer: &mut Wakeups,
    shared: &StdinState,
) -> bool {
    let mut polled =
        [PollFd::new(input, PollFlags::POLLIN), PollFd::new(shared.halt.as_fd(), PollFlags::POLLIN)];
    let silence = recorder.silence();
    let _or_interrupted = poll(&mut polled, poll::until(silence.into_iter().chain(pacer.due()).min()));
    if polled[0].any().unwrap_or(false) {
        return true;
    }
    let now = Instant::now();
    if silence.is_some_and(|silence| silence <= now) {
        recorder.flush(now_micros());
        shared.notify();
    }
    if pacer.is_due(now) {
        shared.notify();
    }
    false
}
