//! The recorder's thread in the supervisor: takes chunks from the pumps and wakes the main loop for new frames.

use super::wakeups::Wake;
use super::{BufferPool, FrameFormat, Input, Recorder, RecorderWarning, Wakeups};
use crate::diag;
use crate::frame::{AgentLine, AgentLineKind, Timestamp};
use crate::spool::{Opened, Spool, SpoolError, WhenFull};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use nix::sys::eventfd::EventFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Buffers and spare files are released after this long without input.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the app's first lines wait for the agent's, which tell of the start and precede them.
const FIRST_LINES_TIMEOUT: Duration = Duration::from_millis(500);
/// Inputs that come once and end the thread's work together with the ends of the streams: the agent's first lines and
/// its last.
const FINAL_AGENT_INPUTS: usize = 2;

/// What the recorder's thread shares with the main loop.
#[derive(Debug)]
pub(crate) struct RecorderThread {
    spool: OnceLock<Arc<Spool>>,
    finished: AtomicBool,
    wake: Arc<EventFd>,
    pool: Arc<BufferPool>,
    /// Streams whose end is waited for.
    streams: usize,
    /// Bytes of the app that were read, and are neither in the spool nor counted as dropped.
    unrecorded: Arc<AtomicU64>,
}

impl RecorderThread {
    /// `wake` is written to when there are new frames; `pool` is trimmed when no input comes; so many `streams` end.
    pub(crate) fn new(wake: Arc<EventFd>, pool: Arc<BufferPool>, streams: usize) -> Self {
        Self {
            spool: OnceLock::new(),
            finished: AtomicBool::new(false),
            wake,
            pool,
            streams,
            unrecorded: Arc::default(),
        }
    }

    /// The spool, once it is open.
    pub(crate) fn spool(&self) -> Option<Arc<Spool>> {
        self.spool.get().cloned()
    }

    /// Whether all streams have ended and everything is in the spool.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Bytes of the app that were read, and are neither in the spool nor counted as dropped. The pumps add to it.
    pub(crate) fn unrecorded(&self) -> &Arc<AtomicU64> {
        &self.unrecorded
    }

    fn wake_main_loop(&self) {
        self.wake.write(1).ok(); // fails only when so many are unread that it is awake anyway
    }

    /// Waits for the start, opens the spool, and records until all streams have ended. `open` opens the spool and
    /// says how many bytes it may hold.
    pub(crate) fn run(
        &self,
        inputs: &Receiver<Input>,
        format: &FrameFormat,
        wakeups: Wakeups,
        open: impl FnOnce() -> (Opened, u64),
    ) {
        let Some(mut early) = wait_for_start(inputs) else { return };
        let (opened, limit) = open();
        let spool = self.share(opened);
        let writer = spool.writer(limit, WhenFull::DropOldest, || false);
        let mut handler = InputHandler::new(Recorder::new(spool, writer, format), wakeups, self.streams);
        wait_for_first_lines(inputs, &mut early);
        for input in early {
            self.handle(&mut handler, input);
        }
        self.wake_main_loop();
        self.record(inputs, &mut handler, spool);
        handler.finish(spool);
        self.finished.store(true, Ordering::Release);
        self.wake_main_loop();
    }

    /// Makes the spool known to the main loop, and reports what it found.
    fn share(&self, opened: Opened) -> &Arc<Spool> {
        if let Some(error) = &opened.error {
            report_spool_in_memory(error);
        }
        let adopted = opened.spool.adopted_bytes();
        if adopted > 0 {
            diag::event(diag::Event::Adopted).field("bytes", adopted).emit();
        }
        self.spool.get_or_init(|| Arc::new(opened.spool))
    }

    /// Handles one input.
    fn handle(&self, handler: &mut InputHandler<'_>, input: Input) -> Wake {
        let bytes = input.bytes();
        let wake = handler.handle(input);
        self.unrecorded.fetch_sub(bytes, Ordering::Relaxed);
        wake
    }

    /// Handles inputs until the last one.
    fn record(&self, inputs: &Receiver<Input>, handler: &mut InputHandler<'_>, spool: &Spool) {
        let mut is_idle = false;
        while handler.final_inputs_left > 0 {
            let due = handler.deadline();
            let deadline = due.or_else(|| (!is_idle).then(|| Instant::now() + IDLE_TIMEOUT));
            let next = match deadline {
                Some(deadline) => inputs.recv_deadline(deadline),
                None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(input) => {
                    is_idle = false;
                    if self.handle(handler, input) == Wake::Now {
                        self.wake_main_loop();
                    }
                }
                Err(RecvTimeoutError::Timeout) if due.is_some() => {
                    if handler.handle_deadline() == Wake::Now {
                        self.wake_main_loop();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    is_idle = true;
                    handler.recorder.release_memory();
                    self.pool.trim();
                    spool.trim();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            report_warnings(&mut handler.recorder);
        }
    }
}

/// Waits until the app runs: nothing is done before that. Returns the inputs that came earlier; none when the
/// supervisor gave up.
fn wait_for_start(inputs: &Receiver<Input>) -> Option<Vec<Input>> {
    let mut early = Vec::new();
    loop {
        match inputs.recv().ok()? {
            Input::Start => return Some(early),
            other => early.push(other),
        }
    }
}

/// Waits for the agent's first lines and puts them in front of what came earlier.
fn wait_for_first_lines(inputs: &Receiver<Input>, early: &mut Vec<Input>) {
    let deadline = Instant::now() + FIRST_LINES_TIMEOUT;
    while let Ok(input) = inputs.recv_deadline(deadline) {
        if matches!(input, Input::FirstLines(_)) {
            early.insert(0, input);
            return;
        }
        early.push(input);
    }
}

/// Lines of the agent that wait for the app's: in a batch of their own they would make the app's next line wait for
/// the linger.
struct WaitingLines {
    lines: Vec<AgentLine>,
    /// When they came.
    time: Timestamp,
}

/// Records the inputs.
struct InputHandler<'a> {
    recorder: Recorder<'a>,
    wakeups: Wakeups,
    waiting: Vec<WaitingLines>,
    last_lines: Vec<AgentLine>,
    has_first_lines: bool,
    final_inputs_left: usize,
}

impl<'a> InputHandler<'a> {
    fn new(recorder: Recorder<'a>, wakeups: Wakeups, streams: usize) -> Self {
        Self {
            recorder,
            wakeups,
            waiting: Vec::new(),
            last_lines: Vec::new(),
            has_first_lines: false,
            final_inputs_left: streams + FINAL_AGENT_INPUTS,
        }
    }

    /// Handles one input.
    fn handle(&mut self, input: Input) -> Wake {
        let new_bytes = input.bytes();
        match input {
            Input::Start => Wake::Later,
            Input::AgentLines(lines, _permit) => {
                self.add_waiting(lines);
                Wake::Later
            }
            Input::FirstLines(lines) => {
                self.add_waiting(lines);
                if !std::mem::replace(&mut self.has_first_lines, true) {
                    self.final_inputs_left -= 1;
                }
                Wake::Later
            }
            Input::LastLines(lines) => {
                self.last_lines = lines;
                self.final_inputs_left -= 1;
                Wake::Later
            }
            Input::Chunk { stream, bytes, now, gap } => {
                self.record_waiting();
                if let Some(gap) = gap {
                    self.recorder.gap(stream, &gap);
                }
                self.recorder.chunk(stream, &bytes, now);
                self.wakeups.add(new_bytes, Instant::now())
            }
            Input::End { stream, gap } => {
                self.record_waiting();
                if let Some(gap) = gap {
                    self.recorder.gap(stream, &gap);
                }
                self.recorder.end(stream);
                self.final_inputs_left -= 1;
                Wake::Later
            }
        }
    }

    /// When there is something to do without an input.
    fn deadline(&self) -> Option<Instant> {
        self.recorder.idle_deadline().into_iter().chain(self.wakeups.deadline()).min()
    }

    /// Does what is due.
    fn handle_deadline(&mut self) -> Wake {
        let now = Instant::now();
        let mut wake = Wake::Later;
        if self.recorder.idle_deadline().is_some_and(|deadline| deadline <= now) {
            self.recorder.flush(Timestamp::now());
            wake = Wake::Now;
        }
        if self.wakeups.poll(now) == Wake::Now {
            self.record_waiting();
            wake = Wake::Now;
        }
        wake
    }

    fn add_waiting(&mut self, lines: Vec<AgentLine>) {
        self.waiting.push(WaitingLines { lines, time: Timestamp::now() });
        self.wakeups.add_agent_lines(Instant::now());
    }

    fn record_waiting(&mut self) {
        for WaitingLines { lines, time } in self.waiting.drain(..) {
            self.recorder.agent_lines(&lines, time);
        }
    }

    /// Records the last lines, behind everything else.
    fn finish(&mut self, spool: &Spool) {
        self.record_waiting();
        // What waits stands before this line in the spool: when this one arrives, that has arrived.
        let text = format!("at=stop {}", spool.summary("queued"));
        self.last_lines.push(AgentLine::new(AgentLineKind::Agent, text));
        self.recorder.agent_lines(&self.last_lines, Timestamp::now());
        report_warnings(&mut self.recorder);
    }
}

fn report_spool_in_memory(error: &SpoolError) {
    let event = diag::event(diag::Event::SpoolInMemory).field("error", error);
    event.field("detail", "memory serves: little of an outage is covered").emit();
}

/// Reports the recorder's warnings on stderr.
pub(crate) fn report_warnings(recorder: &mut Recorder<'_>) {
    for warning in recorder.take_warnings() {
        match warning {
            RecorderWarning::Disk(error @ SpoolError::NoStorage) => {
                let event = diag::event(diag::Event::SpoolUnwritable).field("error", error);
                event.field("detail", "lines are passed on, and counted as dropped").emit();
            }
            RecorderWarning::Disk(error) => report_spool_in_memory(&error),
            RecorderWarning::ClockBack => {
                diag::event(diag::Event::ClockSteppedBack).field("detail", "timestamps follow it").emit();
            }
            RecorderWarning::Fault(lines) => {
                let event = diag::event(diag::Event::RecorderFault).field("lines", lines);
                event.field("detail", "a bug of ours; the lines are counted as dropped").emit();
            }
        }
    }
}
