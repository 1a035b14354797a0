//! Standard input of `ship`, read and recorded until it ends.

use crate::diag;
use crate::frame::Timestamp;
use crate::line::Stream;
use crate::poll;
use crate::recorder::{Recorder, Wake, Wakeups, report_warnings};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Capacity that a pipe on standard input is given, in bytes.
const PIPE_CAPACITY: i32 = 1 << 20;

/// What the reader of standard input and the main loop of `ship` share.
#[derive(Debug)]
pub(crate) struct StdinState {
    /// Wakes the main loop.
    wake: EventFd,
    /// The reader must stop.
    stop: AtomicBool,
    /// Wakes the reader to see that.
    stop_event: EventFd,
    /// Everything that was read is in the spool.
    finished: AtomicBool,
}

impl StdinState {
    /// For a reader that is about to start.
    ///
    /// # Errors
    /// When the kernel has no more events.
    pub(crate) fn new() -> nix::Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        Ok(Self {
            wake: event()?,
            stop: AtomicBool::new(false),
            stop_event: event()?,
            finished: AtomicBool::new(false),
        })
    }

    /// The event that wakes the main loop, to poll it.
    pub(crate) fn wake_event(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Wakes the main loop.
    pub(crate) fn wake(&self) {
        self.wake.write(1).ok(); // fails only when so many are unread that it is awake anyway
    }

    /// Resets the event that wakes the main loop.
    pub(crate) fn clear_wake(&self) {
        self.wake.read().ok(); // there may be nothing to read
    }

    /// Makes the reader stop.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_event.write(1).ok(); // fails only when it is set
    }

    /// Whether the reader must stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Everything that was read is in the spool, and nothing more will be read.
    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether [`StdinState::finish`] was called.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }
}

/// Reads and records standard input until it ends.
pub(crate) fn read(mut recorder: Recorder<'_>, mut wakeups: Wakeups, state: &StdinState) {
    let stdin = io::stdin();
    let input = stdin.as_fd();
    fcntl(input, FcntlArg::F_SETPIPE_SZ(PIPE_CAPACITY)).ok(); // it may be no pipe
    let mut buffer = vec![0; BUFFER_BYTES];
    while !state.is_stopping() {
        if !wait(input, &mut recorder, &mut wakeups, state) {
            continue;
        }
        match nix::unistd::read(input, &mut buffer) {
            Ok(0) => break,
            Ok(got) => {
                recorder.chunk(Stream::Out, &buffer[..got], Timestamp::now());
                if wakeups.add(got as u64, Instant::now()) == Wake::Now {
                    state.wake();
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(errno) => {
                diag::event(diag::Event::CannotRead).field("error", errno.desc()).emit();
                break;
            }
        }
        report_warnings(&mut recorder);
    }
    recorder.end(Stream::Out);
    report_warnings(&mut recorder);
}

/// Waits for input, and does meanwhile what is due. Returns whether there is input.
fn wait(
    input: BorrowedFd<'_>,
    recorder: &mut Recorder<'_>,
    wakeups: &mut Wakeups,
    state: &StdinState,
) -> bool {
    let mut polled =
        [PollFd::new(input, PollFlags::POLLIN), PollFd::new(state.stop_event.as_fd(), PollFlags::POLLIN)];
    let idle_deadline = recorder.idle_deadline();
    let deadline = idle_deadline.into_iter().chain(wakeups.deadline()).min();
    poll(&mut polled, poll::until(deadline)).ok(); // interrupted: the caller waits again
    if polled[0].any().unwrap_or(false) {
        return true;
    }
    let now = Instant::now();
    if idle_deadline.is_some_and(|deadline| deadline <= now) {
        recorder.flush(Timestamp::now());
        state.wake();
    }
    if wakeups.poll(now) == Wake::Now {
        state.wake();
    }
    false
}
