//! Records the streams of one app: splits, frames and appends; summary gaps.

use super::frame_writer::FrameWriter;
use super::input::Gap;
use crate::config::Config;
use crate::frame::AgentLine;
use crate::frame::{ClockStep, Field};
use crate::frame::{DropReason, Loss};
use crate::line::{Splitter, Stream};
use crate::spool::{Spool, SpoolError, Writer};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A line that stands still so long without its LF goes out as it is.
const SILENCE: Duration = Duration::from_secs(1);

/// How the frames of a dyno look.
#[derive(Clone, Debug)]
pub struct FrameFormat {
    /// HOSTNAME.
    pub host: Field,
    /// APP-NAME.
    pub app: Field,
    /// PROCID.
    pub proc_id: Field,
    /// The dyno's name, for notices.
    pub source: String,
    /// Bytes of message per frame at most.
    pub max_line: usize,
}

impl FrameFormat {
    /// As the settings say.
    pub fn of(config: &Config) -> Self {
        Self {
            host: config.frame_host.clone(),
            app: config.frame_app.clone(),
            proc_id: config.frame_proc.clone(),
            source: config.dyno.clone(),
            max_line: config.max_line,
        }
    }
}

struct StreamState {
    splitter: Splitter,
    /// The line that is being skipped was counted already.
    already_counted: bool,
    /// Why it is being skipped.
    skip_reason: DropReason,
    last: Instant,
}

impl StreamState {
    fn is_open(&self) -> bool {
        self.splitter.mid_line() && !(self.splitter.is_skipping() && self.already_counted)
    }
}

/// What the recorder has to say to a person.
#[derive(Debug)]
pub enum RecorderWarning {
    /// The disk does not take the spool; memory serves.
    Disk(SpoolError),
    /// The system clock stepped back by more than 5 s.
    ClockBack,
    /// A bug of ours: so many lines are lost.
    Fault(u64),
}

/// Records the streams of one app.
pub struct Recorder<'a> {
    streams: [StreamState; 2],
    frames: FrameWriter<'a>,
    spool: &'a Spool,
    warnings: Vec<RecorderWarning>,
}

impl<'a> Recorder<'a> {
    /// A recorder into `spool` through `writer`.
    pub fn new(spool: &'a Spool, writer: Writer<'a>, look: &FrameFormat) -> Self {
        let stream_state = || StreamState {
            splitter: Splitter::new(look.max_line),
            already_counted: false,
            skip_reason: DropReason::RecorderBehind,
            last: Instant::now(),
        };
        Self {
            streams: [stream_state(), stream_state()],
            frames: FrameWriter::new(writer, look),
            spool,
            warnings: Vec::new(),
        }
    }

    /// Records a chunk that was read at `now`, in µs since the Unix epoch.
    pub fn chunk(&mut self, stream: Stream, bytes: &[u8], now: u64) {
        let stream_state = &self.streams[stream as usize];
        let emitted_partial = stream_state.splitter.mid_line() && stream_state.splitter.emitted_partial();
        self.frames.begin();
        let recorded = catch_unwind(AssertUnwindSafe(|| self.record(stream, bytes, now)));
        if recorded.is_err() {
            // What was appended before the panic is booked; everything else of the chunk is a gap.
            let ended = self.frames.discard();
            let gap = Gap::of(bytes, now);
            let gap = Gap { newlines: gap.newlines.saturating_sub(ended), ..gap };
            self.warnings.push(RecorderWarning::Fault(gap.newlines));
            self.record_gap(stream, &gap, DropReason::RecorderFault, emitted_partial && ended == 0);
        }
        self.commit();
    }

    fn record(&mut self, stream: Stream, bytes: &[u8], now: u64) {
        self.observe(now);
        let (stream_state, frames) = (&mut self.streams[stream as usize], &mut self.frames);
        stream_state.last = Instant::now();
        let was_skipping = stream_state.splitter.is_skipping();
        stream_state.splitter.push(bytes, &mut |msg, piece| frames.frame(stream, msg, piece));
        if was_skipping && !stream_state.splitter.is_skipping() {
            self.skipped(stream);
        }
        self.frames.append();
        if self.frames.take_lost() && self.streams[stream as usize].splitter.emitted_partial() {
            // Parts of the line under way could not be written: the line is dropped whole.
            let stream_state = &mut self.streams[stream as usize];
            stream_state.splitter.skip_line();
            (stream_state.already_counted, stream_state.skip_reason) = (false, DropReason::SpoolUnwritable);
        }
    }

    fn observe(&mut self, now: u64) {
        if self.frames.observe(now) == ClockStep::Back {
            self.warnings.push(RecorderWarning::ClockBack);
        }
    }

    /// Records lines of our own at `now`, in µs since the Unix epoch.
    pub fn agent_lines(&mut self, lines: &[AgentLine], now: u64) {
        self.observe(now);
        for own in lines {
            self.frames.agent_line(own);
        }
        self.frames.append();
        // No line of the app's was among them.
        let _not_the_apps = self.frames.take_lost();
        self.commit();
    }

    /// The line that was being skipped ended.
    fn skipped(&mut self, stream: Stream) {
        let stream_state = &mut self.streams[stream as usize];
        if !std::mem::take(&mut stream_state.already_counted) {
            self.spool.shared.lock().drop_unrecorded(1, stream_state.skip_reason);
        }
    }

    /// Books a gap and announces it.
    pub fn gap(&mut self, stream: Stream, gap: &Gap) {
        let splitter = &self.streams[stream as usize].splitter;
        let emitted_partial = splitter.mid_line() && splitter.emitted_partial();
        self.record_gap(stream, gap, DropReason::RecorderBehind, emitted_partial);
        self.commit();
    }

    fn record_gap(&mut self, stream: Stream, gap: &Gap, reason: DropReason, emitted_partial: bool) {
        let stream_state = &mut self.streams[stream as usize];
        let (was_skipping, was_already_counted) =
            (stream_state.splitter.is_skipping(), stream_state.already_counted);
        let goes_on = !gap.ends_line;
        let (mut dropped, mut announced) = (gap.newlines, gap.newlines + u64::from(goes_on));
        if was_skipping {
            // It was announced where it was skip_reason.
            announced -= 1;
            dropped -= u64::from(was_already_counted && gap.newlines > 0);
        } else if emitted_partial {
            self.frames.mark_incomplete(stream, reason);
            dropped -= u64::from(gap.newlines > 0);
        }
        if goes_on {
            stream_state.splitter.skip_line();
        } else {
            stream_state.splitter.start_new_line();
        }
        stream_state.skip_reason = reason;
        stream_state.already_counted =
            goes_on && gap.newlines == 0 && (emitted_partial || (was_skipping && was_already_counted));
        if announced > 0 {
            self.frames.notice(&Loss { lines: announced, since: gap.since, until: gap.until, reason });
        }
        self.frames.append();
        if dropped > 0 {
            self.spool.shared.lock().drop_unrecorded(dropped, reason);
        }
    }

    /// A stream ended: what is left of it is a line.
    pub fn end(&mut self, stream: Stream) {
        let (stream_state, frames) = (&mut self.streams[stream as usize], &mut self.frames);
        let was_skipping = stream_state.splitter.is_skipping();
        stream_state.splitter.finish(&mut |msg, piece| frames.frame(stream, msg, piece));
        if was_skipping {
            self.skipped(stream);
        }
        self.frames.append();
        self.commit();
    }

    /// When a line will have stood still for too long.
    pub fn silence(&self) -> Option<Instant> {
        self.streams.iter().filter(|t| t.splitter.holds_text()).map(|t| t.last + SILENCE).min()
    }

    /// Sends lines that stood still too long. `now` is in µs since the Unix epoch.
    pub fn flush(&mut self, now: u64) {
        self.frames.observe(now);
        for stream in Stream::ALL {
            let (stream_state, frames) = (&mut self.streams[stream as usize], &mut self.frames);
            if stream_state.splitter.holds_text() && stream_state.last.elapsed() >= SILENCE {
                stream_state.splitter.flush(&mut |msg, piece| frames.frame(stream, msg, piece));
                stream_state.last = Instant::now(); // a byte that is still undecided shall not keep us awake
            }
        }
        self.frames.append();
        self.commit();
    }

    /// Gives memory back: nothing came for a while.
    pub fn release_memory(&mut self) {
        self.frames.release_memory();
    }

    fn commit(&mut self) {
        self.spool.shared.lock().set_open([self.streams[0].is_open(), self.streams[1].is_open()]);
        self.warnings.extend(self.frames.take_warning().map(RecorderWarning::Disk));
    }

    /// What is to be said since the last time.
    pub fn take_warnings(&mut self) -> Vec<RecorderWarning> {
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
