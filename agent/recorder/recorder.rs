//! Records the streams of one app: splits, frames and appends; books gaps.

use super::frame_writer::Tape;
use super::input::Gap;
use crate::config::Config;
use crate::frame::Own;
use crate::frame::{Field, Step};
use crate::frame::{Loss, Reason};
use crate::line::{Splitter, Stream};
use crate::spool::{Spool, SpoolError, Writer};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A line that stands still so long without its LF goes out as it is.
const SILENCE: Duration = Duration::from_secs(1);

/// How the frames of a dyno look.
#[derive(Clone, Debug)]
pub struct Look {
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

impl Look {
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

struct Track {
    splitter: Splitter,
    /// The line that is being skipped was counted already.
    is_counted: bool,
    /// Why it is being skipped.
    torn: Reason,
    last: Instant,
}

impl Track {
    fn is_open(&self) -> bool {
        self.splitter.mid_line() && !(self.splitter.is_skipping() && self.is_counted)
    }
}

/// What the recorder has to say to a person.
#[derive(Debug)]
pub enum Trouble {
    /// The disk does not take the spool; memory serves.
    Disk(SpoolError),
    /// The system clock stepped back by more than 5 s.
    ClockBack,
    /// A bug of ours: so many lines are lost.
    Fault(u64),
}

/// Records the streams of one app.
pub struct Recorder<'a> {
    tracks: [Track; 2],
    tape: Tape<'a>,
    spool: &'a Spool,
    trouble: Vec<Trouble>,
}

impl<'a> Recorder<'a> {
    /// A recorder into `spool` through `writer`.
    pub fn new(spool: &'a Spool, writer: Writer<'a>, look: &Look) -> Self {
        let track = || Track {
            splitter: Splitter::new(look.max_line),
            is_counted: false,
            torn: Reason::RecorderBehind,
            last: Instant::now(),
        };
        Self { tracks: [track(), track()], tape: Tape::new(writer, look), spool, trouble: Vec::new() }
    }

    /// Records a chunk that was read at `now`, in µs since the Unix epoch.
    pub fn chunk(&mut self, stream: Stream, bytes: &[u8], now: u64) {
        let track = &self.tracks[stream as usize];
        let parted = track.splitter.mid_line() && track.splitter.parted();
        self.tape.begin();
        let recorded = catch_unwind(AssertUnwindSafe(|| self.record(stream, bytes, now)));
        if recorded.is_err() {
            // What was appended before the panic is booked; everything else of the chunk is a gap.
            let ended = self.tape.forget();
            let gap = Gap::of(bytes, now);
            let gap = Gap { newlines: gap.newlines.saturating_sub(ended), ..gap };
            self.trouble.push(Trouble::Fault(gap.newlines));
            self.tear(stream, &gap, Reason::RecorderFault, parted && ended == 0);
        }
        self.commit();
    }

    fn record(&mut self, stream: Stream, bytes: &[u8], now: u64) {
        self.observe(now);
        let (track, tape) = (&mut self.tracks[stream as usize], &mut self.tape);
        track.last = Instant::now();
        let was_skipping = track.splitter.is_skipping();
        track.splitter.push(bytes, &mut |msg, piece| tape.frame(stream, msg, piece));
        if was_skipping && !track.splitter.is_skipping() {
            self.skipped(stream);
        }
        self.tape.append();
        if self.tape.take_lost() && self.tracks[stream as usize].splitter.parted() {
            // Parts of the line under way could not be written: the line is dropped whole.
            let track = &mut self.tracks[stream as usize];
            track.splitter.tear(false);
            (track.is_counted, track.torn) = (false, Reason::SpoolUnwritable);
        }
    }

    fn observe(&mut self, now: u64) {
        if self.tape.observe(now) == Step::Back {
            self.trouble.push(Trouble::ClockBack);
        }
    }

    /// Records lines of our own at `now`, in µs since the Unix epoch.
    pub fn own(&mut self, lines: &[Own], now: u64) {
        self.observe(now);
        for own in lines {
            self.tape.own(own);
        }
        self.tape.append();
        // No line of the app's was among them.
        let _not_the_apps = self.tape.take_lost();
        self.commit();
    }

    /// The line that was being skipped ended.
    fn skipped(&mut self, stream: Stream) {
        let track = &mut self.tracks[stream as usize];
        if !std::mem::take(&mut track.is_counted) {
            self.spool.shared.lock().drop_unrecorded(1, track.torn);
        }
    }

    /// Books a gap and announces it.
    pub fn gap(&mut self, stream: Stream, gap: &Gap) {
        let splitter = &self.tracks[stream as usize].splitter;
        let parted = splitter.mid_line() && splitter.parted();
        self.tear(stream, gap, Reason::RecorderBehind, parted);
        self.commit();
    }

    fn tear(&mut self, stream: Stream, gap: &Gap, reason: Reason, parted: bool) {
        let track = &mut self.tracks[stream as usize];
        let (was_skipping, was_counted) = (track.splitter.is_skipping(), track.is_counted);
        let goes_on = !gap.ends_line;
        let (mut dropped, mut announced) = (gap.newlines, gap.newlines + u64::from(goes_on));
        if was_skipping {
            // It was announced where it was torn.
            announced -= 1;
            dropped -= u64::from(was_counted && gap.newlines > 0);
        } else if parted {
            self.tape.kill(stream, reason);
            dropped -= u64::from(gap.newlines > 0);
        }
        track.splitter.tear(!goes_on);
        track.torn = reason;
        track.is_counted = goes_on && gap.newlines == 0 && (parted || (was_skipping && was_counted));
        if announced > 0 {
            self.tape.notice(&Loss { lines: announced, since: gap.since, until: gap.until, reason });
        }
        self.tape.append();
        if dropped > 0 {
            self.spool.shared.lock().drop_unrecorded(dropped, reason);
        }
    }

    /// A stream ended: what is left of it is a line.
    pub fn end(&mut self, stream: Stream) {
        let (track, tape) = (&mut self.tracks[stream as usize], &mut self.tape);
        let was_skipping = track.splitter.is_skipping();
        track.splitter.finish(&mut |msg, piece| tape.frame(stream, msg, piece));
        if was_skipping {
            self.skipped(stream);
        }
        self.tape.append();
        self.commit();
    }

    /// When a line will have stood still for too long.
    pub fn silence(&self) -> Option<Instant> {
        self.tracks.iter().filter(|t| t.splitter.holds_text()).map(|t| t.last + SILENCE).min()
    }

    /// Sends lines that stood still too long. `now` is in µs since the Unix epoch.
    pub fn flush(&mut self, now: u64) {
        self.tape.observe(now);
        for stream in Stream::ALL {
            let (track, tape) = (&mut self.tracks[stream as usize], &mut self.tape);
            if track.splitter.holds_text() && track.last.elapsed() >= SILENCE {
                track.splitter.flush(&mut |msg, piece| tape.frame(stream, msg, piece));
                track.last = Instant::now(); // a byte that is still undecided shall not keep us awake
            }
        }
        self.tape.append();
        self.commit();
    }

    /// Gives memory back: nothing came for a while.
    pub fn rest(&mut self) {
        self.tape.shrink();
    }

    fn commit(&mut self) {
        self.spool.shared.lock().set_open([self.tracks[0].is_open(), self.tracks[1].is_open()]);
        self.trouble.extend(self.tape.take_trouble().map(Trouble::Disk));
    }

    /// What is to be said since the last time.
    pub fn take_trouble(&mut self) -> Vec<Trouble> {
        std::mem::take(&mut self.trouble)
    }

    #[cfg(test)]
    fn panic_at(&mut self, message: &'static [u8]) {
        self.tape.panic_at = Some(message);
    }
}

impl std::fmt::Debug for Recorder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
