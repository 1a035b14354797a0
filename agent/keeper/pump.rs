//! A pump: the app's pipe to the dyno's own stream, byte-exact, and a copy of every chunk to the recorder.
//!
//! A pump does not wait for a recorder that stands still: without a free buffer the bytes pass through and are
//! counted as a gap. For one that is at work it waits a moment, as any pipe would have the app wait.

use crate::frame::now_micros;
use crate::ledger::Stream;
use crate::own::Own;
use crate::recorder::{Buffer, Gap, Pool};
use crossbeam_channel::Sender;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a buffer.
pub(super) const BUFFER: usize = 256 << 10;
/// Buffers at most: 4 MiB.
pub(super) const BUFFERS: usize = 16;
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
pub(super) const LAST: Duration = Duration::from_secs(2);
/// Reads that empty a pipe.
const PIPE: usize = (1 << 20) / SPARE;
/// For how long a pump waits for a buffer: several times what the recorder needs for one, unless its disk
/// stands still.
const PATIENCE: Duration = Duration::from_millis(20);
/// Bytes read at a time when no buffer is free.
const SPARE: usize = 64 << 10;

/// From pump to recorder.
#[derive(Debug)]
pub(super) enum Input {
    /// The app runs: the spool may be opened.
    Start,
    /// A chunk, read at `now` in µs since the Unix epoch, and what went by before it unrecorded.
    Chunk {
        /// Of which stream.
        stream: Stream,
        /// Its bytes.
        bytes: Arc<Buffer>,
        /// When it was read.
        now: u64,
        /// What is missing before it.
        gap: Option<Gap>,
    },
    /// The first lines of our own: nothing is complete without them.
    Greeting(Vec<Own>),
    /// Lines of our own, and the place that they hold while they wait.
    Own(Vec<Own>, Place),
    /// The last lines of our own, to stand behind everything that the app said.
    Farewell(Vec<Own>),
    /// The stream ended.
    End {
        /// Which one.
        stream: Stream,
        /// What is missing at its end.
        gap: Option<Gap>,
    },
}

/// A place for lines of our own on the way to the recorder. They come whether the recorder works or not, and must not
/// take the places of the app's: those are as many as there are buffers.
pub(super) type Place = Arc<()>;

/// Lines of our own that may wait at once.
const OWN: usize = 16;
/// Inputs that may wait at once: every buffer, both ends, the start, the greeting, the word of the stop, the farewell,
/// and our own.
pub(super) const INPUTS: usize = BUFFERS + 6 + OWN;

/// Another place, of all that are `places`; none when so many wait that something must be wrong.
pub(super) fn place(places: &Place) -> Option<Place> {
    (Arc::strong_count(places) <= OWN).then(|| Arc::clone(places))
}

/// Whether there are bytes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    /// They were there.
    Now,
    /// They came after a while.
    AfterPause,
    /// None will come any more that we have to wait for.
    Never,
}

/// One stream's pump.
#[derive(Debug)]
pub(super) struct Pump {
    /// Which stream.
    pub(super) stream: Stream,
    /// The app's pipe, non-blocking.
    pub(super) from: OwnedFd,
    /// The dyno's own stream; none to keep what is recorded off it.
    pub(super) passthrough: bool,
    /// Whether the pipe is large enough to gather small writes in it.
    pub(super) gathers: bool,
    /// Buffers, shared with the other pump.
    pub(super) pool: Arc<Pool>,
    /// To the recorder.
    pub(super) recorder: Sender<Input>,
    /// Becomes readable, for good, when the app is gone.
    pub(super) gone: Arc<EventFd>,
    /// Both streams go to one file or pipe: who has it writes.
    pub(super) turn: Option<Arc<Mutex<()>>>,
}

impl Pump {
    /// Pumps until the pipe ends, or until the app is gone and the pipe silent.
    pub(super) fn run(self, to: BorrowedFd<'_>) {
        let mut outlet = Passthrough { to, broken: false };
        let mut gap: Option<Gap> = None;
        let mut spare = Vec::new();
        let mut gone: Option<Instant> = None;
        let mut turn: Option<MutexGuard<'_, ()>> = None;
        let mut left = PIPE;
        loop {
            if turn.is_some() && !self.is_ready() {
                turn = None; // the rest of the line may take its time
            }
            match self.wait(&mut gone, &mut left) {
                Ready::Never => break,
                Ready::AfterPause if self.gathers => self.rest(HEAD_START),
                Ready::AfterPause | Ready::Now => {}
            }
            let mut buffer = self.pool.take_within(PATIENCE);
            let into = if let Some(buffer) = &mut buffer {
                buffer.space()
            } else {
                spare.resize(SPARE, 0);
                &mut spare[..]
            };
            let got = match nix::unistd::read(&self.from, into) {
                Ok(0) => break,
                Ok(got) => got,
                Err(Errno::EINTR | Errno::EAGAIN) => continue,
                Err(_) => break,
            };
            let now = now_micros();
            if let Some(mut buffer) = buffer {
                buffer.set_len(got);
                let bytes = Arc::new(buffer);
                let chunk =
                    Input::Chunk { stream: self.stream, bytes: Arc::clone(&bytes), now, gap: gap.take() };
                // There is a place for every buffer, so this fails only when the recorder is gone.
                let recorded = match self.recorder.try_send(chunk) {
                    Ok(()) => true,
                    Err(refused) => {
                        gap = Some(missed(&refused.into_inner(), Gap::of(&bytes, now)));
                        false
                    }
                };
                if self.passthrough || !recorded {
                    turn = turn.or_else(|| self.turn());
                    outlet.write(&bytes);
                    // A buffer that was filled may end within a line: the other stream waits for its rest.
                    if got < BUFFER || bytes.last() == Some(&b'\n') {
                        turn = None;
                    }
                }
            } else {
                let more = Gap::of(&spare[..got], now);
                gap = Some(gap.map_or(more, |gap| gap.and(more)));
                turn = turn.or_else(|| self.turn());
                outlet.write(&spare[..got]);
                if got < SPARE || spare[got - 1] == b'\n' {
                    turn = None;
                }
            }
            if got < SMALL && self.gathers && gone.is_none() {
                self.rest(REST);
            }
        }
        drop(self.recorder.send_timeout(Input::End { stream: self.stream, gap }, LAST));
    }

    /// Our turn to write, where both streams go to one place.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether bytes are there already.
    fn is_ready(&self) -> bool {
        let mut polled = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Waits for bytes that we have to wait for.
    ///
    /// The app being gone for long, that is what is in the pipe now: `left` reads of it.
    fn wait(&self, gone: &mut Option<Instant>, left: &mut usize) -> Ready {
        let mut ready = Ready::Now;
        let mut patience = PollTimeout::ZERO;
        loop {
            if let Some(since) = gone {
                if since.elapsed() >= LAST {
                    let is_some_left = *left > 0 && self.is_ready();
                    *left = left.saturating_sub(1);
                    return if is_some_left { Ready::Now } else { Ready::Never };
                }
                let mut polled = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
                match poll(&mut polled, timeout(IDLE)) {
                    Err(Errno::EINTR) => continue,
                    Ok(1..) => return Ready::Now,
                    _ => return Ready::Never,
                }
            }
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
                *gone = Some(Instant::now());
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

fn timeout(duration: Duration) -> PollTimeout {
    PollTimeout::try_from(duration).unwrap_or(PollTimeout::MAX)
}

/// The dyno's own stream.
struct Passthrough<'a> {
    to: BorrowedFd<'a>,
    broken: bool,
}

impl Passthrough<'_> {
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.broken {
            match nix::unistd::write(self.to, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::EINTR) => {}
                // Somebody made it non-blocking.
                Err(Errno::EAGAIN) => {
                    let mut polled = [PollFd::new(self.to, PollFlags::POLLOUT)];
                    let _or_interrupted = poll(&mut polled, PollTimeout::NONE);
                }
                // A full disk behind it may have room again for the next chunk.
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => return,
                Err(_) => self.broken = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::eventfd::EfdFlags;
    use std::io::Write;

    #[test]
    fn a_chunk_that_nobody_takes_is_a_gap() {
        let (from, end) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let (recorder, input) = bounded(1);
        recorder.send(Input::Start).unwrap();
        let pump = Pump {
            stream: Stream::Out,
            from,
            passthrough: true,
            gathers: false,
            pool: Pool::new(2, BUFFER),
            recorder,
            gone: Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap()),
            turn: None,
        };
        let (mut app, to) = (std::fs::File::from(end), tempfile::tempfile().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| pump.run(to.as_fd()));
            for text in ["a\nb\n", "c\n"] {
                app.write_all(text.as_bytes()).unwrap();
                // Until it has passed.
                while to.metadata().unwrap().len() < 4 {
                    std::thread::yield_now();
                }
            }
            drop(app);
            while to.metadata().unwrap().len() < 6 {
                std::thread::yield_now();
            }
            assert!(matches!(input.recv(), Ok(Input::Start)));
            let Ok(Input::End { gap: Some(gap), .. }) = input.recv() else { panic!("no gap at the end") };
            assert_eq!((gap.newlines, gap.ends_line), (3, true));
        });
    }

    #[test]
    fn places_for_our_own_are_bounded_and_free_again() {
        let places = Place::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| place(&places)).collect();
        assert_eq!(taken.len(), OWN);
        taken.pop();
        assert!(place(&places).is_some());
    }
}
