//! Standard input of `ship`, read and recorded until it ends.
//!
//! A reader that must stop earlier records what is in the pipe at that moment: nobody could read it later.

use crate::diag;
use crate::frame::Timestamp;
use crate::line::Stream;
use crate::poll;
use crate::recorder::{Recorder, Wake, Wakeups, report_warnings};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Whence, lseek};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Capacity that a pipe on standard input is given, in bytes.
const PIPE_CAPACITY: i32 = 1 << 20;

/// Why the reader of standard input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// The input ended.
    EndOfFile,
    /// It cannot be read, which was reported.
    Unreadable,
    /// The reader had to stop.
    Stopped,
}

/// What the reader of standard input and the main loop of `ship` share.
#[derive(Debug)]
pub(crate) struct StdinState {
    /// Wakes the main loop.
    wake: EventFd,
    /// The reader must stop.
    stop: AtomicBool,
    /// Wakes the reader to see that.
    stop_event: EventFd,
    /// Set when everything that was read is in the spool.
    end: OnceLock<InputEnd>,
}

impl StdinState {
    /// For a reader that is about to start.
    ///
    /// # Errors
    /// When the kernel has no more events.
    pub(crate) fn new() -> nix::Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        Ok(Self { wake: event()?, stop: AtomicBool::new(false), stop_event: event()?, end: OnceLock::new() })
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
    pub(crate) fn finish(&self, end: InputEnd) {
        self.end.set(end).ok(); // a reader ends once
        self.wake();
    }

    /// What [`StdinState::finish`] was called with; none before.
    pub(crate) fn end(&self) -> Option<InputEnd> {
        self.end.get().copied()
    }
}

/// Reads and records standard input until it ends, cannot be read, or the reader must stop.
pub(crate) fn read(mut recorder: Recorder<'_>, mut wakeups: Wakeups, state: &StdinState) -> InputEnd {
    let stdin = io::stdin();
    let input = stdin.as_fd();
    fcntl(input, FcntlArg::F_SETPIPE_SZ(PIPE_CAPACITY)).ok(); // it may be no pipe
    let mut buffer = vec![0; BUFFER_BYTES];
    let end = if is_write_only(input) {
        unreadable(Errno::EBADF)
    } else {
        loop {
            if state.is_stopping() {
                break record_rest(input, &mut buffer, &mut recorder);
            }
            if !wait(input, &mut recorder, &mut wakeups, state) {
                continue;
            }
            match record_chunk(input, &mut buffer, &mut recorder) {
                Ok(0) => break InputEnd::EndOfFile,
                Ok(got) if wakeups.add(got as u64, Instant::now()) == Wake::Now => state.wake(),
                Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => break unreadable(errno),
            }
        }
    };
    recorder.end(Stream::Out);
    report_warnings(&mut recorder);
    end
}

/// Whether reading is not allowed: poll(2) would wait for ever.
fn is_write_only(input: BorrowedFd<'_>) -> bool {
    let flags = fcntl(input, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
    flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_WRONLY)
}

fn unreadable(errno: Errno) -> InputEnd {
    diag::event(diag::Event::CannotRead).field("error", errno.desc()).emit();
    InputEnd::Unreadable
}

/// Reads and records what one read brings; returns its bytes.
fn record_chunk(input: BorrowedFd<'_>, buffer: &mut [u8], recorder: &mut Recorder<'_>) -> nix::Result<usize> {
    let got = nix::unistd::read(input, buffer)?;
    if got > 0 {
        recorder.chunk(Stream::Out, &buffer[..got], Timestamp::now());
        report_warnings(recorder);
    }
    Ok(got)
}

/// Records what is in the pipe now. What is written from now on is not read: the writer may never end.
fn record_rest(input: BorrowedFd<'_>, buffer: &mut [u8], recorder: &mut Recorder<'_>) -> InputEnd {
    let mut left = unread_bytes().min(PIPE_CAPACITY as u64) as usize;
    while left > 0 && is_readable(input) {
        let space = left.min(buffer.len());
        match record_chunk(input, &mut buffer[..space], recorder) {
            Ok(0) => return InputEnd::EndOfFile,
            Ok(got) => left -= got,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break,
            Err(errno) => return unreadable(errno),
        }
    }
    InputEnd::Stopped
}

/// Whether a read does not have to wait.
fn is_readable(input: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(input, PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Bytes of standard input that can be read and were not; 0 where the system does not tell.
pub(crate) fn unread_bytes() -> u64 {
    let stdin = io::stdin();
    let input = stdin.as_fd();
    if let Ok(stat) = fstat(input)
        && SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
    {
        // FIONREAD has no more than 31 bits.
        let read = lseek(input, 0, Whence::SeekCur).unwrap_or(0);
        return (stat.st_size - read).max(0) as u64;
    }
    rustix::io::ioctl_fionread(input).unwrap_or(0)
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
