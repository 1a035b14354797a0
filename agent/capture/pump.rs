//! A pump: copies the app's pipe to the dyno's own stream, byte-exact, and every chunk to the recorder.
//!
//! A pump does not wait for a stalled recorder: without a free buffer the bytes are passed through and counted as a
//! gap. For a recorder that makes progress it waits a moment, as a full pipe would make the app wait.
//!
//! A pump that has emptied the pipe rests, so that writes gather there: a wake-up costs more than reading many lines. It
//! rests as long as the pipe is sure to take what the app writes, by the rate at which it wrote before.
//!
//! Two pumps, where the streams are two, read them together: what the app wrote to one stream is read when it turns to
//! the other, at most [`MIN_REST`] and [`HEAD_START`] later. Chunks are recorded in the order in which they were read.

use super::passthrough::{Passed, Passthrough, PendingChunk};
use crate::frame::Timestamp;
use crate::line::Stream;
use crate::poll::timeout;
use crate::recorder::{BufferPool, Gap, Input};
use crossbeam_channel::Sender;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use rustix::io::ioctl_fionread;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may gather in the pipe during a rest, by the rate so far: half of what it holds, so that a burst finds room.
const REST_BYTES: u64 = 512 << 10;
/// How long a pump rests at most. What the drain gets is later by as much.
const REST: Duration = Duration::from_millis(35);
/// How long it rests at least, however soon the app writes to the other stream.
const MIN_REST: Duration = Duration::from_millis(2);
/// After a pause the app has the pipe for itself this long: a burst costs it no more than without the agent.
const HEAD_START: Duration = Duration::from_millis(2);
/// After the app's exit a pipe without data for this long is done.
const DRAIN_IDLE_TIMEOUT: Duration = Duration::from_millis(100);
/// After the app's exit a pipe that a surviving child keeps writing to is read this long; as long is waited for the
/// recorder and for the dyno's own stream.
pub(crate) const STDOUT_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Reads that empty a full pipe of 1 MiB.
const PIPE_READS: usize = (1 << 20) / SPARE_BYTES;
/// How long a pump waits for a buffer: several times what the recorder needs for one, unless its disk is stalled.
const BUFFER_TIMEOUT: Duration = Duration::from_millis(100);
/// When the app is silent, how often it is tried to report a gap.
const GAP_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes read at a time when no buffer is free.
const SPARE_BYTES: usize = 64 << 10;
/// Inputs in the queue of a recorder that keeps up.
const QUEUE_OF_BUSY_RECORDER: usize = 2;
/// Bytes that wait for the dyno's own stream after the app's exit, at most.
const MAX_PENDING_BYTES: usize = 4 << 20;

/// Whether there are bytes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    /// They were there already.
    Now,
    /// They came after a wait.
    AfterPause,
    /// The app exited; there may be bytes.
    AppExited,
    /// None will come any more.
    Never,
}

/// Why copying ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyEnd {
    /// The app exited, and its pipe is still open.
    AppExited,
    /// The pipe ended.
    PipeEnded,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadOutcome {
    /// Bytes.
    Read {
        bytes: usize,
        /// There was room for more.
        empties: bool,
        /// A line ends with them, as far as can be known.
        ends_line: bool,
        /// They are to be passed on.
        passes: bool,
    },
    /// No bytes for now.
    Nothing,
    /// The pipe ended.
    End,
}

/// How fast the app writes.
#[derive(Clone, Copy, Debug)]
struct WriteRate {
    /// When the app began to write what is read since.
    since: Instant,
    /// What was read.
    bytes: u64,
}

impl WriteRate {
    fn since(since: Instant) -> Self {
        Self { since, bytes: 0 }
    }

    /// How long it takes at this rate to write [`REST_BYTES`].
    fn time_to_gather(self, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.since);
        elapsed.mul_f64(REST_BYTES as f64 / self.bytes.max(1) as f64)
    }
}

/// One stream's pump.
#[derive(Debug)]
pub(crate) struct Pump {
    /// The stream.
    pub stream: Stream,
    /// The app's pipe, non-blocking.
    pub from: Arc<OwnedFd>,
    /// The other stream's pipe, where there is one: to poll it only.
    pub peer: Option<Arc<OwnedFd>>,
    /// Where there are two streams: held from reading until the chunk is in the recorder's queue, so that chunks are
    /// recorded in the order in which they were read, and get their times in it.
    pub order: Option<Arc<Mutex<()>>>,
    /// Whether what is recorded also goes to the dyno's own stream.
    pub passthrough: bool,
    /// Whether the pipe is large enough for writes to gather in it.
    pub coalesces: bool,
    /// Buffers, shared with the other pump.
    pub pool: Arc<BufferPool>,
    /// To the recorder.
    pub recorder: Sender<Input>,
    /// Becomes readable when the app exits, and stays so.
    pub app_exited: Arc<EventFd>,
    /// Where both streams go to one file or pipe: held while writing a line.
    pub write_lock: Option<Arc<Mutex<()>>>,
    /// How many pumps have not passed on everything yet, and have not given up.
    pub unfinished: Arc<AtomicUsize>,
    /// Wakes the main loop when that changes.
    pub wake: Arc<EventFd>,
    /// Bytes that were read, and that the recorder has not handled.
    pub unrecorded: Arc<AtomicU64>,
    /// What was not recorded since the last chunk.
    pub gap: Option<Gap>,
    /// Where bytes are read to when no buffer is free.
    pub spare: Vec<u8>,
}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pump {
    /// Pumps until the pipe ends, or until the app has exited and the pipe is drained; then passes on what the dyno's
    /// own stream has not accepted yet.
    pub(crate) fn run(mut self, to: BorrowedFd<'_>) {
        let mut output = Passthrough::new(to);
        let gap = match self.copy_until_exit(&mut output) {
            CopyEnd::AppExited => self.drain_after_exit(&mut output),
            CopyEnd::PipeEnded => self.gap.take(),
        };
        let end = Input::End { stream: self.stream, gap };
        self.recorder.send_timeout(end, STDOUT_DRAIN_TIMEOUT).ok(); // the recorder is gone or stalled
        if !output.is_empty() {
            let _guard = self.write_lock.as_deref().map(lock);
            output.flush(STDOUT_DRAIN_TIMEOUT);
        }
        self.unfinished.fetch_sub(1, Ordering::Release);
        self.wake.write(1).ok(); // fails only when so many are unread that the main loop is awake anyway
    }

    /// Copies while the app runs.
    fn copy_until_exit(&mut self, output: &mut Passthrough<'_>) -> CopyEnd {
        let write_lock = self.write_lock.clone();
        let mut guard: Option<MutexGuard<'_, ()>> = None;
        let mut rate = WriteRate::since(Instant::now());
        loop {
            if guard.is_some() && !self.is_ready() {
                guard = None; // the rest of the line may take long
            }
            match self.wait() {
                Ready::AppExited => return CopyEnd::AppExited,
                Ready::Never => return CopyEnd::PipeEnded,
                Ready::AfterPause if self.coalesces => {
                    rate = WriteRate::since(Instant::now());
                    self.pause(HEAD_START);
                }
                Ready::AfterPause | Ready::Now => {}
            }
            let queued = self.recorder.len();
            let (empties, ends_line, passes) = match self.read(output) {
                ReadOutcome::Read { bytes, empties, ends_line, passes } => {
                    rate.bytes += bytes as u64;
                    (empties, ends_line, passes)
                }
                ReadOutcome::Nothing => continue,
                ReadOutcome::End => return CopyEnd::PipeEnded,
            };
            if passes {
                guard = guard.or_else(|| write_lock.as_deref().map(lock));
                if output.pass(&self.app_exited) == Passed::AppExited {
                    return CopyEnd::AppExited; // what is left is passed on later
                }
                // A full buffer may end within a line: the other stream waits for its rest.
                if ends_line {
                    guard = None;
                }
            }
            if empties && self.coalesces {
                let now = Instant::now();
                // A recorder that is behind must not have all buffers occupied by a few lines each.
                let factor = 1 << queued.saturating_sub(QUEUE_OF_BUSY_RECORDER).min(5);
                let rest = rate.time_to_gather(now);
                self.rest(rest.min(REST * factor), rest.min(MIN_REST * factor));
                rate = WriteRate::since(now);
            }
        }
    }

    /// Drains the pipe after the app exited. Recording comes first; stdout gets what it accepts. Ends at EOF, after
    /// 100 ms without data, or about 2 s after exit if a surviving child keeps writing. Returns what was not recorded.
    fn drain_after_exit(&mut self, output: &mut Passthrough<'_>) -> Option<Gap> {
        self.peer = None; // who still writes to the other stream must get an error when its own pump has ended
        let (start, mut reads_left) = (Instant::now(), PIPE_READS);
        loop {
            let left = STDOUT_DRAIN_TIMEOUT.saturating_sub(start.elapsed());
            if left.is_zero() {
                // A child keeps writing: what is in the pipe now is the last that is read.
                reads_left = reads_left.saturating_sub(1);
            }
            let mut polled = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            let is_ready = match poll(&mut polled, timeout(left.min(DRAIN_IDLE_TIMEOUT))) {
                Err(Errno::EINTR) => continue,
                other => other.is_ok_and(|ready| ready > 0),
            };
            if !is_ready || reads_left == 0 || self.read(output) == ReadOutcome::End {
                return self.gap.take();
            }
            output.offer();
            if output.len() > MAX_PENDING_BYTES {
                output.flush(STDOUT_DRAIN_TIMEOUT);
            }
        }
    }

    /// Reads what is in the pipe: to the recorder, and to the output.
    fn read(&mut self, output: &mut Passthrough<'_>) -> ReadOutcome {
        let mut buffer = self.pool.take_within(BUFFER_TIMEOUT);
        let space = if let Some(buffer) = &mut buffer {
            buffer.space()
        } else {
            self.spare.resize(SPARE_BYTES, 0);
            &mut self.spare[..]
        };
        let size = space.len();
        let order = self.order.clone();
        let _guard = order.as_deref().map(lock);
        let waiting = if self.coalesces { ioctl_fionread(&*self.from).unwrap_or(0) } else { 0 };
        let got = match nix::unistd::read(&self.from, space) {
            Ok(0) => return ReadOutcome::End,
            Ok(got) => got,
            Err(Errno::EINTR | Errno::EAGAIN) => return ReadOutcome::Nothing,
            Err(_) => return ReadOutcome::End,
        };
        self.unrecorded.fetch_add(got as u64, Ordering::Relaxed);
        let now = Timestamp::now();
        if (got as u64) < waiting.min(size as u64) {
            self.coalesces = false; // it is in packet mode (pipe(2)): a read brings one write, and rests fill the pipe
        }
        let Some(mut buffer) = buffer else {
            let bytes = &self.spare[..got];
            let missing = Gap::of(bytes, now);
            self.gap = Some(self.gap.map_or(missing, |gap| gap.joined(missing)));
            output.add(PendingChunk::Copy(bytes.to_vec()));
            let empties = got < size;
            let ends_line = empties || bytes.ends_with(b"\n");
            return ReadOutcome::Read { bytes: got, empties, ends_line, passes: true };
        };
        buffer.set_len(got);
        let bytes = Arc::new(buffer);
        let empties = got < size;
        let ends_line = empties || bytes.ends_with(b"\n");
        let gap = self.gap.take();
        let chunk = Input::Chunk { stream: self.stream, bytes: Arc::clone(&bytes), now, gap };
        // The queue has a slot for every buffer, so this fails only when the recorder is gone.
        let recorded = match self.recorder.try_send(chunk) {
            Ok(()) => true,
            Err(refused) => {
                self.gap = Some(with_gap_of(&refused.into_inner(), Gap::of(&bytes, now)));
                false
            }
        };
        let passes = self.passthrough || !recorded;
        if passes {
            output.add(PendingChunk::Buffer(bytes));
        }
        ReadOutcome::Read { bytes: got, empties, ends_line, passes }
    }

    /// Reports the gap with an empty chunk when there is a buffer again: what the app says next may come late.
    fn send_gap(&mut self) {
        let Some(buffer) = self.pool.take_within(Duration::ZERO) else { return };
        let order = self.order.clone();
        let _guard = order.as_deref().map(lock);
        let chunk = Input::Chunk {
            stream: self.stream,
            bytes: Arc::new(buffer),
            now: Timestamp::now(),
            gap: self.gap,
        };
        if self.recorder.try_send(chunk).is_ok() {
            self.gap = None;
        }
    }

    /// Whether bytes are there already.
    fn is_ready(&self) -> bool {
        let mut polled = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Waits for bytes, or for the exit of the app.
    fn wait(&mut self) -> Ready {
        let mut ready = Ready::Now;
        let mut longest = PollTimeout::ZERO;
        loop {
            let mut polled = [
                PollFd::new(self.from.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.app_exited.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, longest) {
                Ok(0) => {
                    if ready == Ready::AfterPause {
                        self.send_gap();
                    }
                    ready = Ready::AfterPause;
                    longest = self.gap.map_or(PollTimeout::NONE, |_| timeout(GAP_INTERVAL));
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(_) => return Ready::Never,
                Ok(_) => {}
            }
            if polled[1].any().unwrap_or(false) {
                return Ready::AppExited;
            }
            if polled[0].any().unwrap_or(false) {
                return ready;
            }
        }
    }

    /// Lets writes gather in the pipe for `longest`. Ends early when the app exits, and, `shortest` being over, when it
    /// writes to the other stream: what it wrote to this one came first. The other pump waits for [`HEAD_START`]
    /// meanwhile.
    fn rest(&mut self, longest: Duration, shortest: Duration) {
        let start = Instant::now();
        let peer = self.peer.as_ref().map_or(self.app_exited.as_fd(), |peer| peer.as_fd());
        let mut polled =
            [PollFd::new(self.app_exited.as_fd(), PollFlags::POLLIN), PollFd::new(peer, PollFlags::POLLIN)];
        poll(&mut polled, timeout(longest)).ok(); // interrupted: a shorter rest does no harm
        if polled[1].revents() == Some(PollFlags::POLLHUP) {
            self.peer = None; // it has ended, and would end every rest
        }
        let left = shortest.saturating_sub(start.elapsed());
        if !left.is_zero() {
            self.pause(left);
        }
    }

    /// Does nothing for so long; ends early when the app exits.
    fn pause(&self, time: Duration) {
        let mut polled = [PollFd::new(self.app_exited.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, timeout(time)).ok(); // interrupted: a shorter pause does no harm
    }
}

/// What is missing when this input could not be sent, `bytes` being its own.
fn with_gap_of(input: &Input, bytes: Gap) -> Gap {
    match input {
        Input::Chunk { gap: Some(gap), .. } => gap.joined(bytes),
        _ => bytes,
    }
}

#[cfg(test)]
mod tests;
