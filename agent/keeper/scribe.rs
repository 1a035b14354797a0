//! The recorder's thread in the keeper: takes chunks from the pumps, and tells the main loop of news.

use super::pump::Input;
use crate::ledger::Stream;
use crate::recorder::{Look, Pacer, Pool, Recorder, Trouble};
use crate::say;
use crate::spool::{Full, Spool, SpoolError};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use nix::sys::eventfd::EventFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// After so long without a chunk, buffers are given back.
const REST: Duration = Duration::from_secs(2);

/// What the recorder's thread shares with the main loop.
#[derive(Debug)]
pub(super) struct Scribe {
    spool: OnceLock<Arc<Spool>>,
    finished: AtomicBool,
    wake: Arc<EventFd>,
    pool: Arc<Pool>,
}

impl Scribe {
    /// `wake` is written to when there are news; `pool` is trimmed when nothing comes.
    pub(super) fn new(wake: Arc<EventFd>, pool: Arc<Pool>) -> Self {
        Self { spool: OnceLock::new(), finished: AtomicBool::new(false), wake, pool }
    }

    /// The spool, once it is open.
    pub(super) fn spool(&self) -> Option<Arc<Spool>> {
        self.spool.get().cloned()
    }

    /// Both streams have ended and everything is in the spool.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    fn news(&self) {
        // It fails only when so many are unread that there is no room for one more.
        let _or_full = self.wake.write(1);
    }

    /// Waits for the start, opens the spool, and records until both streams have ended. `limit` is in bytes;
    /// `pacer` says how often the main loop hears of it.
    pub(super) fn run(
        &self,
        input: &Receiver<Input>,
        look: &Look,
        limit: u64,
        mut pacer: Pacer,
        open: impl FnOnce() -> (Spool, Option<SpoolError>),
    ) {
        // The app runs before anything is done on its behalf. What comes before the start waits in its place.
        let mut early = Vec::new();
        loop {
            match input.recv() {
                Ok(Input::Start) => break,
                Ok(other) => early.push(other),
                Err(_) => return,
            }
        }
        let (spool, trouble) = open();
        let spool = Arc::new(spool);
        if let Some(error) = trouble {
            let line = say::at("spool-in-memory").with("error", error);
            line.with("detail", "memory serves: little of an outage is covered").say();
        }
        let adopted = spool.adopted_bytes();
        if adopted > 0 {
            say::at("adopted").with("bytes", adopted).say();
        }
        let spool = self.spool.get_or_init(|| spool);
        let mut recorder = Recorder::new(spool, spool.writer(limit, Full::Shed, || false), look);
        let mut left = Stream::ALL.len();
        let mut awake = true;
        for input in early {
            left -= usize::from(record(&mut recorder, input).is_none());
        }
        self.news();
        while left > 0 {
            let soon = recorder.silence().into_iter().chain(pacer.due()).min();
            let deadline = soon.or_else(|| awake.then(|| Instant::now() + REST));
            let next = match deadline {
                Some(deadline) => input.recv_deadline(deadline),
                None => input.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(input) => {
                    awake = true;
                    match record(&mut recorder, input) {
                        Some(bytes) if !pacer.add(bytes, Instant::now()) => {}
                        Some(_) => self.news(),
                        None => left -= 1,
                    }
                }
                Err(RecvTimeoutError::Timeout) if soon.is_some() => {
                    let now = Instant::now();
                    if recorder.silence().is_some_and(|silence| silence <= now) {
                        recorder.flush(crate::frame::now_micros());
                        self.news();
                    }
                    if pacer.is_due(now) {
                        self.news();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    awake = false;
                    recorder.rest();
                    self.pool.trim();
                    spool.trim();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            complain(&mut recorder);
        }
        self.finished.store(true, Ordering::Release);
        self.news();
    }
}

/// Records one input; says how many bytes it had, nothing at a stream's end.
fn record(recorder: &mut Recorder<'_>, input: Input) -> Option<u64> {
    match input {
        Input::Start => Some(0),
        Input::Chunk { stream, bytes, now, gap } => {
            if let Some(gap) = gap {
                recorder.gap(stream, &gap);
            }
            recorder.chunk(stream, &bytes, now);
            Some(bytes.len() as u64)
        }
        Input::End { stream, gap } => {
            if let Some(gap) = gap {
                recorder.gap(stream, &gap);
            }
            recorder.end(stream);
            None
        }
    }
}

pub(crate) fn complain(recorder: &mut Recorder<'_>) {
    for trouble in recorder.take_trouble() {
        match trouble {
            Trouble::Disk(error) => {
                let line = say::at("spool-in-memory").with("error", error);
                line.with("detail", "memory serves: little of an outage is covered").say();
            }
            Trouble::ClockBack => say::at("clock-stepped-back").with("detail", "timestamps follow it").say(),
            Trouble::Fault(lines) => {
                let line = say::at("recorder-fault").with("lines", lines);
                line.with("detail", "a bug of ours; the lines are counted as dropped").say();
            }
        }
    }
}
