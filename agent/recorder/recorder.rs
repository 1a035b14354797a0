//! Records the streams of one app: splits, frames, appends, and books gaps.

use super::frame_writer::FrameWriter;
use super::input::Gap;
use crate::config::Config;
use crate::frame::{AgentLine, ClockStep, DropReason, Field, Loss, Losses, Timestamp};
use crate::line::{PerStream, Splitter, Stream};
use crate::spool::{AppendOutcome, Spool, SpoolError, Writer};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A line without new bytes for this long is sent as far as it came.
const IDLE_LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// An unfinished line is sent as far as it came when its oldest unsent byte is this old, whether it pauses or not.
const MAX_UNSENT_AGE: Duration = Duration::from_secs(5);

/// The header fields of a dyno's frames, and the longest message.
#[derive(Clone, Debug)]
pub(crate) struct FrameFormat {
    /// HOSTNAME.
    pub host: Field,
    /// APP-NAME.
    pub app: Field,
    /// PROCID.
    pub proc_id: Field,
    /// The dyno's name, for notices.
    pub source: String,
    /// Longest message of a frame, in bytes.
    pub max_line: usize,
}

impl FrameFormat {
    /// As the settings say.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            host: config.frame_host.clone(),
            app: config.frame_app.clone(),
            proc_id: config.frame_proc.clone(),
            source: config.dyno.clone(),
            max_line: config.max_line,
        }
    }
}

/// How far the line at the end of a stream is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// Nothing of it, or there is none.
    Unrecorded,
    /// A part of it is in the spool.
    Partial,
    /// Its rest is skipped, and it is announced as dropped; `counted` as well or not yet.
    Skipped { counted: bool },
}

struct StreamState {
    splitter: Splitter,
    /// The line that is being skipped is already counted as dropped.
    already_counted: bool,
    /// Why a line is being skipped.
    skip_reason: DropReason,
    /// When the last bytes came.
    last: Instant,
    /// When the oldest byte came that the splitter holds; of no meaning while it holds none.
    oldest: Instant,
}

impl StreamState {
    fn new(max_line: usize) -> Self {
        Self {
            splitter: Splitter::new(max_line),
            already_counted: false,
            skip_reason: DropReason::RecorderBehind,
            last: Instant::now(),
            oldest: Instant::now(),
        }
    }

    fn line(&self) -> LineState {
        if self.splitter.is_skipping() {
            LineState::Skipped { counted: self.already_counted }
        } else if self.splitter.mid_line() && self.splitter.emitted_partial() {
            LineState::Partial
        } else {
            LineState::Unrecorded
        }
    }

    /// When the unfinished line is to be sent as far as it came, also when more of it has come.
    fn age_limit(&self) -> Option<Instant> {
        self.splitter.holds_text().then(|| self.oldest + MAX_UNSENT_AGE)
    }

    /// When the unfinished line is to be sent as far as it came, when no more of it comes.
    fn idle_deadline(&self) -> Option<Instant> {
        self.age_limit().map(|limit| limit.min(self.last + IDLE_LINE_TIMEOUT))
    }

    /// A line is under way that is not counted yet.
    fn is_unfinished(&self) -> bool {
        self.splitter.mid_line() && self.line() != LineState::Skipped { counted: true }
    }
}

/// What a person must know of the recorder.
#[derive(Debug)]
pub(crate) enum RecorderWarning {
    /// The disk cannot be written to.
    Disk(SpoolError),
    /// The system clock stepped back by more than 5 s.
    ClockBack,
    /// The recorder panicked, a bug of the agent: so many lines are dropped.
    Fault(u64),
}

/// Records the streams of one app.
pub(crate) struct Recorder<'a> {
    streams: PerStream<StreamState>,
    frames: FrameWriter<'a>,
    spool: &'a Spool,
    warnings: Vec<RecorderWarning>,
}

impl<'a> Recorder<'a> {
    /// A recorder into `spool` through `writer`.
    pub(crate) fn new(spool: &'a Spool, writer: Writer<'a>, format: &FrameFormat) -> Self {
        let state = || StreamState::new(format.max_line);
        Self {
            streams: PerStream { out: state(), err: state() },
            frames: FrameWriter::new(writer, format),
            spool,
            warnings: Vec::new(),
        }
    }

    /// Records a chunk that was read at `now`.
    pub(crate) fn chunk(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        let before = self.streams[stream].line();
        self.frames.begin();
        let recorded = catch_unwind(AssertUnwindSafe(|| self.record(stream, bytes, now)));
        if recorded.is_err() {
            // What was appended before the panic is booked; the rest of the chunk is a gap.
            let ended = self.frames.discard();
            let gap = Gap::of(bytes, now);
            let gap = Gap { newlines: gap.newlines.saturating_sub(ended), ..gap };
            self.warnings.push(RecorderWarning::Fault(gap.newlines));
            let line = match before {
                LineState::Partial if ended > 0 => LineState::Unrecorded,
                _ if self.streams[stream].splitter.is_skipping() => self.streams[stream].line(),
                LineState::Partial => LineState::Partial,
                _ => LineState::Unrecorded,
            };
            self.record_gap(stream, line, &gap, DropReason::RecorderFault);
        }
        // Here too, because the other stream may never pause. Silence is no reason: more may be in the queue.
        self.flush_due(StreamState::age_limit);
        self.commit();
    }

    fn record(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        self.observe(now);
        let (state, frames) = (&mut self.streams[stream], &mut self.frames);
        state.last = Instant::now();
        let was_skipping = state.splitter.is_skipping();
        let mut is_new = !state.splitter.holds_text();
        state.splitter.push(bytes, &mut |msg, fragment| {
            is_new = true;
            frames.message(stream, msg, fragment);
        });
        if is_new {
            state.oldest = state.last; // what is held now came with this chunk
        }
        if was_skipping && !state.splitter.is_skipping() {
            self.count_skipped(stream);
        }
        self.append(stream);
    }

    /// Appends what is pending, which ends with a message of this stream.
    fn append(&mut self, stream: Stream) {
        self.frames.append();
        let lost = self.frames.take_outcome() == AppendOutcome::Dropped;
        if lost && self.streams[stream].splitter.emitted_partial() {
            // Parts of the line under way could not be written: the line is dropped whole.
            let state = &mut self.streams[stream];
            state.splitter.skip_line();
            (state.already_counted, state.skip_reason) = (false, DropReason::SpoolUnwritable);
        }
    }

    fn observe(&mut self, now: Timestamp) {
        if self.frames.observe(now) == ClockStep::Back {
            self.warnings.push(RecorderWarning::ClockBack);
        }
    }

    /// Records lines of the agent itself at `now`.
    pub(crate) fn agent_lines(&mut self, lines: &[AgentLine], now: Timestamp) {
        self.observe(now);
        for line in lines {
            self.frames.agent_line(line);
        }
        self.frames.append();
        self.frames.take_outcome(); // no line of the app was among them
        self.commit();
    }

    /// The line that was being skipped ended.
    fn count_skipped(&mut self, stream: Stream) {
        let state = &mut self.streams[stream];
        if std::mem::take(&mut state.already_counted) {
            return;
        }
        let reason = state.skip_reason;
        let mut ledger = self.spool.shared.lock();
        ledger.drop_unrecorded(1, reason);
        // A gap was announced when it began.
        if reason == DropReason::SpoolUnwritable {
            let now = self.frames.now();
            ledger.announce(&Losses::from_iter([Loss { lines: 1, since: now, until: now, reason }]));
        }
    }

    /// Books a gap and announces it.
    pub(crate) fn gap(&mut self, stream: Stream, gap: &Gap) {
        let line = self.streams[stream].line();
        self.record_gap(stream, line, gap, DropReason::RecorderBehind);
        self.commit();
    }

    /// Books a gap behind a line in this state. Every line with a byte in the gap is dropped whole: announced here,
    /// and counted here when it ends in the gap.
    fn record_gap(&mut self, stream: Stream, line: LineState, gap: &Gap, reason: DropReason) {
        let continues = !gap.ends_line;
        // Whether the first of these lines is announced or counted already.
        let (announced, counted) = match line {
            LineState::Unrecorded => (false, false),
            LineState::Partial => {
                self.frames.mark_incomplete(stream, reason);
                (false, true)
            }
            LineState::Skipped { counted } => (true, counted),
        };
        let to_announce = gap.newlines + u64::from(continues) - u64::from(announced);
        let to_count = gap.newlines - u64::from(counted && gap.newlines > 0);
        let state = &mut self.streams[stream];
        if continues {
            state.splitter.skip_line();
        } else {
            state.splitter.start_new_line();
        }
        state.skip_reason = reason;
        state.already_counted = continues && gap.newlines == 0 && counted;
        if to_announce > 0 {
            self.frames.loss_notice(&Loss { lines: to_announce, since: gap.since, until: gap.until, reason });
        }
        self.frames.append();
        if to_count > 0 {
            self.spool.shared.lock().drop_unrecorded(to_count, reason);
        }
    }

    /// A stream ended: what is left of it is a line.
    pub(crate) fn end(&mut self, stream: Stream) {
        let (state, frames) = (&mut self.streams[stream], &mut self.frames);
        let was_skipping = state.splitter.is_skipping();
        state.splitter.finish(&mut |msg, fragment| frames.message(stream, msg, fragment));
        if was_skipping {
            self.count_skipped(stream);
        }
        self.frames.append();
        self.commit();
    }

    /// When the next unfinished line is to be sent as far as it came.
    pub(crate) fn idle_deadline(&self) -> Option<Instant> {
        self.streams.iter().filter_map(StreamState::idle_deadline).min()
    }

    /// Sends unfinished lines whose last bytes, or whose oldest, came too long ago. For when no chunk waits.
    pub(crate) fn flush(&mut self, now: Timestamp) {
        self.frames.observe(now);
        self.flush_due(StreamState::idle_deadline);
        self.commit();
    }

    fn flush_due(&mut self, deadline: impl Fn(&StreamState) -> Option<Instant>) {
        for stream in Stream::ALL {
            let (state, frames) = (&mut self.streams[stream], &mut self.frames);
            if deadline(state).is_some_and(|deadline| deadline <= Instant::now()) {
                state.splitter.flush(&mut |msg, fragment| frames.message(stream, msg, fragment));
                self.append(stream);
            }
        }
    }

    /// Releases buffers: no chunk came for a while.
    pub(crate) fn release_memory(&mut self) {
        self.frames.release_memory();
    }

    fn commit(&mut self) {
        let unfinished =
            PerStream { out: self.streams.out.is_unfinished(), err: self.streams.err.is_unfinished() };
        self.spool.shared.lock().set_unfinished(unfinished);
        self.warnings.extend(self.frames.take_warning().map(RecorderWarning::Disk));
    }

    /// What is to be reported since the last call.
    pub(crate) fn take_warnings(&mut self) -> Vec<RecorderWarning> {
        std::mem::take(&mut self.warnings)
    }

    #[cfg(test)]
    fn panic_at(&mut self, message: &'static [u8]) {
        self.frames.panic_at = Some(message);
    }
}

impl std::fmt::Debug for Recorder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
