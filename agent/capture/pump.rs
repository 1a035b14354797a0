//! A pump: the app's pipe to the dyno's own stream, byte-exact, and a copy of every chunk to the recorder.
//!
//! A pump does not wait for a recorder that stands still: without a free buffer the bytes pass through and are
//! counted as a gap. For one that is at work it waits a moment, as any pipe would have the app wait.

use super::passthrough::{Passthrough, PendingChunk};
use crate::frame::now_micros;
use crate::line::Stream;
use crate::poll::timeout;
use crate::recorder::{BufferPool, Gap, Input};
use crossbeam_channel::Sender;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A read below this was a small write: others are gathered before the next read.
const SMALL: usize = 16 << 10;
/// For how long they are gathered.
const REST: Duration = Duration::from_millis(30);
/// The app began to write after a pause: so long it has the pipe for itself, a burst costs it no more than
/// without us.
const HEAD_START: Duration = Duration::from_millis(2);
/// The app is gone: a pipe that stays silent so long is done with.
const IDLE: Duration = Duration::from_millis(100);
/// The app is gone: when a pipe that goes on talking is given up.
pub const LAST: Duration = Duration::from_secs(2);
/// Reads that empty a pipe.
const PIPE: usize = (1 << 20) / SPARE;
/// For how long a pump waits for a buffer: several times what the recorder needs for one, unless its disk
/// stands still.
const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes read at a time when no buffer is free.
const SPARE: usize = 64 << 10;
/// Inputs that wait for a recorder that is at work.
const BEHIND: usize = 2;
/// Bytes that wait to be passed on at most, the app being gone.
const KEPT: usize = 4 << 20;

/// Whether there are bytes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    /// They were there.
    Now,
    /// They came after a while.
    AfterPause,
    /// The app is gone; there may be bytes.
    Gone,
    /// None will come any more.
    Never,
}

/// One stream's pump.
#[derive(Debug)]
pub struct Pump {
    /// Which stream.
    pub stream: Stream,
    /// The app's pipe, non-blocking.
    pub from: OwnedFd,
    /// The dyno's own stream; none to keep what is recorded off it.
    pub passthrough: bool,
    /// Whether the pipe is large enough to gather small writes in it.
    pub coalesces: bool,
    /// Buffers, shared with the other pump.
    pub pool: Arc<BufferPool>,
    /// To the recorder.
    pub recorder: Sender<Input>,
    /// Becomes readable, for good, when the app is gone.
    pub gone: Arc<EventFd>,
    /// Both streams go to one file or pipe: who has it writes.
    pub write_lock: Option<Arc<Mutex<()>>>,
    /// How many pumps have passed on everything, or given up; the main loop is woken then.
    pub finished: Arc<AtomicUsize>,
    /// See above.
    pub wake: Arc<EventFd>,
    /// What went by unrecorded since the last chunk.
    pub gap: Option<Gap>,
    /// Where bytes are read to when no buffer is free.
    pub spare: Vec<u8>,
}

fn locked(write_lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    write_lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pump {
    /// Pumps until the pipe ends, or until the app is gone and the pipe silent; then passes on what the dyno's own
    /// stream has not taken yet.
    pub fn run(mut self, to: BorrowedFd<'_>) {
        let mut passthrough_to = Passthrough::to(to);
        let gap = if self.copy_until_exit(&mut passthrough_to) {
            self.drain_after_exit(&mut passthrough_to)
        } else {
            self.gap.take()
        };
        drop(self.recorder.send_timeout(Input::End { stream: self.stream, gap }, LAST));
        if !passthrough_to.is_empty() {
            let _turn = self.write_lock();
            passthrough_to.flush(LAST);
        }
        self.finished.fetch_add(1, Ordering::Release);
        let _or_full = self.wake.write(1);
    }

    /// While the app is there. True when it is gone and its pipe has not ended.
    fn copy_until_exit(&mut self, passthrough_to: &mut Passthrough<'_>) -> bool {
        let turns = self.write_lock.clone();
        let mut write_lock: Option<MutexGuard<'_, ()>> = None;
        loop {
            if write_lock.is_some() && !self.is_ready() {
                write_lock = None; // the rest of the line may take its time
            }
            match self.wait() {
                Ready::Gone => return true,
                Ready::Never => return false,
                Ready::AfterPause if self.coalesces => self.rest(HEAD_START),
                Ready::AfterPause | Ready::Now => {}
            }
            let behind = self.recorder.len();
            let Some((got, is_end, passes)) = self.take(passthrough_to) else { return false };
            if passes {
                write_lock = write_lock.or_else(|| turns.as_deref().map(locked));
                if !passthrough_to.pass(&self.gone) {
                    return true; // what is left is passed on later
                }
                // A buffer that was filled may end within a line: the other stream waits for its rest.
                if is_end {
                    write_lock = None;
                }
            }
            if got > 0 && got < SMALL && self.coalesces {
                // A recorder that is behind shall not have all buffers for a few lines each.
                self.rest(REST * (1 << behind.saturating_sub(BEHIND).min(5)));
            }
        }
    }

    /// The app is gone: what it left in its pipe is recorded first, and waits to be passed on. Returns what is missing
    /// at the end.
    fn drain_after_exit(&mut self, passthrough_to: &mut Passthrough<'_>) -> Option<Gap> {
        let (since, mut left) = (Instant::now(), PIPE);
        loop {
            let patience = LAST.saturating_sub(since.elapsed());
            if patience.is_zero() {
                // Whoever goes on talking is given up: what is in the pipe now is the rest.
                left = left.saturating_sub(1);
            }
            let mut polled = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            let is_there = match poll(&mut polled, timeout(patience.min(IDLE))) {
                Err(Errno::EINTR) => continue,
                other => other.is_ok_and(|ready| ready > 0),
            };
            if !is_there || left == 0 || self.take(passthrough_to).is_none() {
                return self.gap.take();
            }
            passthrough_to.offer();
            if passthrough_to.len() > KEPT {
                passthrough_to.flush(LAST);
            }
        }
    }

    /// Takes what is in the pipe: to the recorder, and to the passthrough_to. Returns the number of bytes, whether a line ends
    /// with them as far as one can tell, and whether they are to be passed on; none at the pipe's end.
    fn take(&mut self, passthrough_to: &mut Passthrough<'_>) -> Option<(usize, bool, bool)> {
        let mut buffer = self.pool.take_within(PATIENCE);
        let into = if let Some(buffer) = &mut buffer {
            buffer.space()
        } else {
            self.spare.resize(SPARE, 0);
            &mut self.spare[..]
        };
        let room = into.len();
        let got = match nix::unistd::read(&self.from, into) {
            Ok(0) => return None,
            Ok(got) => got,
            Err(Errno::EINTR | Errno::EAGAIN) => return Some((0, true, false)),
            Err(_) => return None,
        };
        let now = now_micros();
        let Some(mut buffer) = buffer else {
            let bytes = &self.spare[..got];
            let more = Gap::of(bytes, now);
            self.gap = Some(self.gap.map_or(more, |gap| gap.and(more)));
            passthrough_to.add(PendingChunk::Copy(bytes.to_vec()));
            return Some((got, got < room || bytes.ends_with(b"\n"), true));
        };
        buffer.set_len(got);
        let bytes = Arc::new(buffer);
        let is_end = got < room || bytes.ends_with(b"\n");
        let gap = self.gap.take();
        let chunk = Input::Chunk { stream: self.stream, bytes: Arc::clone(&bytes), now, gap };
        // There is a place for every buffer, so this fails only when the recorder is gone.
        let recorded = match self.recorder.try_send(chunk) {
            Ok(()) => true,
            Err(refused) => {
                self.gap = Some(missed(&refused.into_inner(), Gap::of(&bytes, now)));
                false
            }
        };
        let passes = self.passthrough || !recorded;
        if passes {
            passthrough_to.add(PendingChunk::Buffer(bytes));
        }
        Some((got, is_end, passes))
    }

    /// Our write_lock to write, where both streams go to one place.
    fn write_lock(&self) -> Option<MutexGuard<'_, ()>> {
        self.write_lock.as_deref().map(locked)
    }

    /// Whether bytes are there already.
    fn is_ready(&self) -> bool {
        let mut polled = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Waits for bytes, or for the end of the app.
    fn wait(&self) -> Ready {
        let mut ready = Ready::Now;
        let mut patience = PollTimeout::ZERO;
        loop {
            let mut polled = [
                PollFd::new(self.from.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.gone.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, patience) {
                Ok(0) => (ready, patience) = (Ready::AfterPause, PollTimeout::NONE),
                Err(Errno::EINTR) => continue,
                Err(_) => return Ready::Never,
                Ok(_) => {}
            }
            if polled[1].any().unwrap_or(false) {
                return Ready::Gone;
            }
            if polled[0].any().unwrap_or(false) {
                return ready;
            }
        }
    }

    /// Lets writes gather in the pipe.
    fn rest(&self, time: Duration) {
        let mut polled = [PollFd::new(self.gone.as_fd(), PollFlags::POLLIN)];
        let _or_interrupted = poll(&mut polled, timeout(time));
    }
}

/// What is missing when this input could not be sent: its own bytes are `more`.
fn missed(input: &Input, more: Gap) -> Gap {
    match input {
        Input::Chunk { gap: Some(gap), .. } => gap.and(more),
        _ => more,
    }
}

#[cfg(test)]
mod tests;
