//! The dyno's own stream, written byte-exact. It may be slow, stall, or go away, and none of that may delay others for
//! longer than a reader that makes progress.

use crate::poll::timeout;
use crate::recorder::Buffer;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::isatty;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that a writable pipe accepts without blocking (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

/// Opens what is behind a descriptor a second time, to write to it without blocking.
fn open_again(to: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    open(format!("/proc/self/fd/{}", to.as_raw_fd()).as_str(), flags, Mode::empty())
}

/// Bytes that wait to be written.
#[derive(Debug)]
pub(crate) enum PendingChunk {
    /// Shared with the recorder.
    Buffer(Arc<Buffer>),
    /// Not shared: the buffer is back in the pool.
    Copy(Vec<u8>),
}

impl PendingChunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer,
            Self::Copy(bytes) => bytes,
        }
    }
}

/// How the stream is written to without blocking.
#[derive(Debug)]
enum WriteMode {
    /// A pipe or a terminal, through a non-blocking open file description of our own: the inherited one is shared with
    /// others. A terminal stands still after Ctrl-S.
    OwnDescription(OwnedFd),
    /// A pipe that cannot be opened again: written in pieces of [`PIPE_BUF`] while it is writable.
    InheritedPipe,
    /// A socket, with `MSG_DONTWAIT`.
    Socket,
    /// A file: blocking. Also a terminal that cannot be opened again.
    Other,
}

/// Whether everything was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Everything.
    All,
    /// The app exited before that.
    AppExited,
}

/// Whether anything is left to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    All,
    Partly,
}

/// The dyno's own stream.
#[derive(Debug)]
pub(crate) struct Passthrough<'a> {
    to: BorrowedFd<'a>,
    mode: WriteMode,
    queue: VecDeque<PendingChunk>,
    /// Bytes of the first chunk that are written.
    written: usize,
    broken: bool,
}

impl<'a> Passthrough<'a> {
    /// Output to this descriptor.
    pub(crate) fn new(to: BorrowedFd<'a>) -> Self {
        let kind = fstat(to).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        let mode = match kind {
            Ok(SFlag::S_IFIFO) => open_again(to).map_or(WriteMode::InheritedPipe, WriteMode::OwnDescription),
            Ok(SFlag::S_IFSOCK) => WriteMode::Socket,
            Ok(SFlag::S_IFCHR) if isatty(to).unwrap_or(false) => {
                open_again(to).map_or(WriteMode::Other, WriteMode::OwnDescription)
            }
            _ => WriteMode::Other,
        };
        Self { to, mode, queue: VecDeque::new(), written: 0, broken: false }
    }

    /// Adds bytes to write.
    pub(crate) fn add(&mut self, chunk: PendingChunk) {
        if !self.broken {
            self.queue.push_back(chunk);
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.iter().map(|chunk| chunk.bytes().len()).sum::<usize>() - self.written
    }

    /// Writes everything, unless the app exits before that.
    pub(crate) fn pass(&mut self, app_exited: &EventFd) -> Passed {
        while self.write() == Written::Partly {
            let mut polled = [
                PollFd::new(self.to, PollFlags::POLLOUT),
                PollFd::new(app_exited.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut polled, PollTimeout::NONE).ok(); // interrupted: the loop looks again
            if polled[1].any().unwrap_or(false) {
                self.release_buffers();
                return Passed::AppExited;
            }
        }
        Passed::All
    }

    /// Writes what is accepted now.
    pub(crate) fn offer(&mut self) {
        if self.write() == Written::Partly {
            self.release_buffers();
        }
    }

    /// Writes everything, unless nothing is accepted for as long as `idle_timeout`.
    pub(crate) fn flush(&mut self, idle_timeout: Duration) {
        let (mut since, mut waiting) = (Instant::now(), self.len());
        while self.write() == Written::Partly {
            if self.len() < waiting {
                (since, waiting) = (Instant::now(), self.len());
            }
            let left = idle_timeout.saturating_sub(since.elapsed());
            if left.is_zero() {
                self.give_up();
                return;
            }
            let mut polled = [PollFd::new(self.to, PollFlags::POLLOUT)];
            poll(&mut polled, timeout(left)).ok(); // interrupted: the loop looks again
        }
    }

    /// Copies what waits, so that its buffers go back to the pool.
    fn release_buffers(&mut self) {
        for chunk in &mut self.queue {
            *chunk = PendingChunk::Copy(chunk.bytes().to_vec());
        }
    }

    fn give_up(&mut self) {
        self.broken = true;
        self.queue.clear();
        self.written = 0;
    }

    /// Writes as much as is accepted now.
    fn write(&mut self) -> Written {
        while let Some(chunk) = self.queue.front() {
            let bytes = &chunk.bytes()[self.written..];
            match self.write_some(bytes) {
                Ok(written) if written < bytes.len() => self.written += written,
                // A full disk behind it may have room again for the next chunk.
                Ok(_) | Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => {
                    self.queue.pop_front();
                    self.written = 0;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Written::Partly,
                Err(_) => self.give_up(),
            }
        }
        Written::All
    }

    fn write_some(&self, bytes: &[u8]) -> nix::Result<usize> {
        match &self.mode {
            WriteMode::OwnDescription(own) => nix::unistd::write(own, bytes),
            WriteMode::Socket => {
                send(self.to.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
            }
            WriteMode::InheritedPipe => {
                let mut polled = [PollFd::new(self.to, PollFlags::POLLOUT)];
                match poll(&mut polled, PollTimeout::ZERO) {
                    Ok(0) => Err(Errno::EAGAIN),
                    _ => nix::unistd::write(self.to, &bytes[..bytes.len().min(PIPE_BUF)]),
                }
            }
            WriteMode::Other => nix::unistd::write(self.to, bytes),
        }
    }
}
