//! Where a pump writes: the dyno's own stream, byte-exact. It may be slow, stand still, or go away, and that must hold
//! up nobody for longer than a reader that is at work.

use crate::poll::timeout;
use crate::recorder::Buffer;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a pipe that can be written to takes without waiting (`PIPE_BUF`, pipe(7)).
const SURE: usize = 4096;

/// Bytes under way.
#[derive(Debug)]
pub enum PendingChunk {
    /// The recorder has them too.
    Buffer(Arc<Buffer>),
    /// Nobody else has them.
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

/// How it is written to.
#[derive(Debug)]
enum WriteMode {
    /// A description of our own of the same pipe that does not wait: the one that we were given is others' too.
    Pipe(OwnedFd),
    /// A pipe of which we cannot have one.
    GivenPipe,
    Socket,
    /// A file or a terminal, as it comes.
    Other,
}

/// The dyno's own stream.
#[derive(Debug)]
pub struct Passthrough<'a> {
    to: BorrowedFd<'a>,
    way: WriteMode,
    queue: VecDeque<PendingChunk>,
    /// Bytes of the first chunk that are written.
    written: usize,
    broken: bool,
}

impl<'a> Passthrough<'a> {
    /// Output to this descriptor.
    pub fn to(to: BorrowedFd<'a>) -> Self {
        let kind = fstat(to).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        let way = match kind {
            Ok(SFlag::S_IFIFO) => {
                let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
                let path = format!("/proc/self/fd/{}", to.as_raw_fd());
                open(path.as_str(), flags, Mode::empty()).map_or(WriteMode::GivenPipe, WriteMode::Pipe)
            }
            Ok(SFlag::S_IFSOCK) => WriteMode::Socket,
            _ => WriteMode::Other,
        };
        Self { to, way, queue: VecDeque::new(), written: 0, broken: false }
    }

    /// ExtraLine to pass on.
    pub fn add(&mut self, chunk: PendingChunk) {
        if !self.broken {
            self.queue.push_back(chunk);
        }
    }

    /// Whether all is passed on that will be.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.queue.iter().map(|chunk| chunk.bytes().len()).sum::<usize>() - self.written
    }

    /// Passes everything on; false when the app is `gone` before that.
    pub fn pass(&mut self, gone: &EventFd) -> bool {
        while self.write() {
            let mut polled =
                [PollFd::new(self.to, PollFlags::POLLOUT), PollFd::new(gone.as_fd(), PollFlags::POLLIN)];
            let _or_interrupted = poll(&mut polled, PollTimeout::NONE);
            if polled[1].any().unwrap_or(false) {
                self.keep();
                return false;
            }
        }
        true
    }

    /// Passes on what is taken now.
    pub fn offer(&mut self) {
        if self.write() {
            self.keep();
        }
    }

    /// Passes everything on, unless nothing is taken for as long as `patience`.
    pub fn flush(&mut self, patience: Duration) {
        let (mut since, mut left) = (Instant::now(), self.len());
        while self.write() {
            if self.len() < left {
                (since, left) = (Instant::now(), self.len());
            }
            let rest = patience.saturating_sub(since.elapsed());
            if rest.is_zero() {
                self.give_up();
                return;
            }
            let mut polled = [PollFd::new(self.to, PollFlags::POLLOUT)];
            let _or_interrupted = poll(&mut polled, timeout(rest));
        }
    }

    /// What waits gives its buffers back: others need them.
    fn keep(&mut self) {
        for chunk in &mut self.queue {
            *chunk = PendingChunk::Copy(chunk.bytes().to_vec());
        }
    }

    fn give_up(&mut self) {
        self.broken = true;
        self.queue.clear();
        self.written = 0;
    }

    /// Writes as much as is taken now; whether some is left.
    fn write(&mut self) -> bool {
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
                Err(Errno::EAGAIN) => return true,
                Err(_) => self.give_up(),
            }
        }
        false
    }

    fn write_some(&self, bytes: &[u8]) -> nix::Result<usize> {
        match &self.way {
            WriteMode::Pipe(own) => nix::unistd::write(own, bytes),
            WriteMode::Socket => {
                send(self.to.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
            }
            WriteMode::GivenPipe => {
                let mut polled = [PollFd::new(self.to, PollFlags::POLLOUT)];
                match poll(&mut polled, PollTimeout::ZERO) {
                    Ok(0) => Err(Errno::EAGAIN),
                    _ => nix::unistd::write(self.to, &bytes[..bytes.len().min(SURE)]),
                }
            }
            WriteMode::Other => nix::unistd::write(self.to, bytes),
        }
    }
}
