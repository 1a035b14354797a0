//! The recorder's thread in the keeper: takes chunks from the pumps, and tells the main loop of news.

use super::{BufferPool, FrameFormat, Input, Recorder, RecorderWarning, Wakeups};
use crate::diag;
use crate::frame::now_micros;
use crate::frame::{AgentLine, AgentLineKind};
use crate::line::Stream;
use crate::spool::{Spool, SpoolError, WhenFull};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use nix::sys::eventfd::EventFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// After so long without a chunk, buffers are given back.
const REST: Duration = Duration::from_secs(2);
/// For so long the app's first lines wait for ours, which tell of the start and stand before them.
const GREETING: Duration = Duration::from_millis(500);

/// What the recorder's thread shares with the main loop.
#[derive(Debug)]
pub struct RecorderThread {
    spool: OnceLock<Arc<Spool>>,
    finished: AtomicBool,
    wake: Arc<EventFd>,
    pool: Arc<BufferPool>,
}

impl RecorderThread {
    /// `wake` is written to when there are news; `pool` is trimmed when nothing comes.
    pub fn new(wake: Arc<EventFd>, pool: Arc<BufferPool>) -> Self {
        Self { spool: OnceLock::new(), finished: AtomicBool::new(false), wake, pool }
    }

    /// The spool, once it is open.
    pub fn spool(&self) -> Option<Arc<Spool>> {
        self.spool.get().cloned()
    }

    /// Both streams have ended and everything is in the spool.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    fn news(&self) {
        // It fails only when so many are unread that there is no room for one more.
        let _or_full = self.wake.write(1);
    }

    /// Waits for the start, opens the spool, which comes with its limit in bytes, and records until both streams
    /// have ended. `pacer` says how often the main loop hears of it.
    pub fn run(
        &self,
        input: &Receiver<Input>,
        look: &FrameFormat,
        mut pacer: Wakeups,
        open: impl FnOnce() -> ((Spool, Option<SpoolError>), u64),
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
        let ((spool, trouble), limit) = open();
        let spool = Arc::new(spool);
        if let Some(error) = trouble {
            let line = diag::event("spool-in-memory").field("error", error);
            line.field("detail", "memory serves: little of an outage is covered").emit();
        }
        let adopted = spool.adopted_bytes();
        if adopted > 0 {
            diag::event("adopted").field("bytes", adopted).emit();
        }
        let spool = self.spool.get_or_init(|| spool);
        let recorder = Recorder::new(spool, spool.writer(limit, WhenFull::DropOldest, || false), look);
        let mut pen = InputHandler { recorder, waiting: Vec::new(), farewell: Vec::new(), is_greeted: false };
        // Both streams, our first word and our last.
        let mut left = Stream::ALL.len() + 2;
        let mut awake = true;
        let start = Instant::now();
        while let Ok(next) = input.recv_deadline(start + GREETING) {
            if matches!(next, Input::FirstLines(_)) {
                left -= usize::from(pen.take(next, &mut pacer).1);
                break;
            }
            early.push(next);
        }
        for input in early {
            left -= usize::from(pen.take(input, &mut pacer).1);
        }
        self.news();
        while left > 0 {
            let soon = pen.recorder.silence().into_iter().chain(pacer.due()).min();
            let deadline = soon.or_else(|| awake.then(|| Instant::now() + REST));
            let next = match deadline {
                Some(deadline) => input.recv_deadline(deadline),
                None => input.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(input) => {
                    awake = true;
                    let (is_news, is_last) = pen.take(input, &mut pacer);
                    left -= usize::from(is_last);
                    if is_news {
                        self.news();
                    }
                }
                Err(RecvTimeoutError::Timeout) if soon.is_some() => {
                    let now = Instant::now();
                    if pen.recorder.silence().is_some_and(|silence| silence <= now) {
                        pen.recorder.flush(now_micros());
                        self.news();
                    }
                    if pacer.is_due(now) {
                        pen.write();
                        self.news();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    awake = false;
                    pen.recorder.release_memory();
                    self.pool.trim();
                    spool.trim();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            complain(&mut pen.recorder);
        }
        pen.farewell(spool);
        complain(&mut pen.recorder);
        self.finished.store(true, Ordering::Release);
        self.news();
    }
}

/// Writes what comes. Lines of our own wait for company: in a batch by themselves they would make the app's next line
/// wait for the linger.
struct InputHandler<'a> {
    recorder: Recorder<'a>,
    /// Lines of our own, and when they came, in µs since the Unix epoch.
    waiting: Vec<(Vec<AgentLine>, u64)>,
    farewell: Vec<AgentLine>,
    is_greeted: bool,
}

impl InputHandler<'_> {
    /// Writes the lines that wait.
    fn write(&mut self) {
        for (lines, now) in self.waiting.drain(..) {
            self.recorder.agent_lines(&lines, now);
        }
    }

    fn wait(&mut self, lines: Vec<AgentLine>, pacer: &mut Wakeups) {
        self.waiting.push((lines, now_micros()));
        pacer.later(Instant::now());
    }

    /// Takes an input; whether there are news, and whether it was the last of its kind.
    fn take(&mut self, input: Input, pacer: &mut Wakeups) -> (bool, bool) {
        match input {
            Input::Start => (false, false),
            Input::AgentLines(lines, _place_is_free_again) => {
                self.wait(lines, pacer);
                (false, false)
            }
            Input::FirstLines(lines) => {
                self.wait(lines, pacer);
                (false, !std::mem::replace(&mut self.is_greeted, true))
            }
            Input::LastLines(lines) => {
                self.farewell = lines;
                (false, true)
            }
            Input::Chunk { stream, bytes, now, gap } => {
                self.write();
                if let Some(gap) = gap {
                    self.recorder.gap(stream, &gap);
                }
                self.recorder.chunk(stream, &bytes, now);
                (pacer.add(bytes.len() as u64, Instant::now()), false)
            }
            Input::End { stream, gap } => {
                self.write();
                if let Some(gap) = gap {
                    self.recorder.gap(stream, &gap);
                }
                self.recorder.end(stream);
                (false, true)
            }
        }
    }

    /// The end, behind everything else.
    fn farewell(&mut self, spool: &Spool) {
        self.write();
        let text = format!("at=stop {}", spool.summary());
        self.farewell.push(AgentLine::new(AgentLineKind::Agent, text));
        self.recorder.agent_lines(&self.farewell, now_micros());
    }
}

pub(crate) fn complain(recorder: &mut Recorder<'_>) {
    for trouble in recorder.take_warnings() {
        match trouble {
            RecorderWarning::Disk(error @ SpoolError::Nowhere) => {
                let line = diag::event("spool-unwritable").field("error", error);
                line.field("detail", "lines are passed on, and counted as dropped").emit();
            }
            RecorderWarning::Disk(error) => {
                let line = diag::event("spool-in-memory").field("error", error);
                line.field("detail", "memory serves: little of an outage is covered").emit();
            }
            RecorderWarning::ClockBack => {
                diag::event("clock-stepped-back").field("detail", "timestamps follow it").emit()
            }
            RecorderWarning::Fault(lines) => {
                let line = diag::event("recorder-fault").field("lines", lines);
                line.field("detail", "a bug of ours; the lines are counted as dropped").emit();
            }
        }
    }
}
