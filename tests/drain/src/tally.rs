//! What the drain saw: the report.

mod report;
#[cfg(test)]
mod tests;

use crate::kept::Kept;
use crate::model::{Attempt, Batch, Model};
use crate::personality::{Personality, Seen};
use crate::stream::{Counter, Lags};
pub use crate::stream::{Lag, Stream};
pub use report::{Complaints, Headers, Line, Losses, Report, Sequence};
use std::collections::{BTreeMap, HashMap, VecDeque};
use tailrace::frame::{self, Frame, PRI_APP, StampText, now_micros};

/// Frame ids that are remembered, to tell repetitions.
const IDS: usize = 1 << 20;
/// Lags that are kept for the percentiles.
const LAGS: usize = 1 << 16;

/// Whether a frame is a line of the app.
pub(crate) fn is_app(frame: &Frame<'_>) -> bool {
    frame.pri == PRI_APP && frame.app != "tailrace"
}

/// Counts.
#[derive(Debug)]
pub struct Tally {
    report: Report,
    personalities: Vec<Personality>,
    keep: usize,
    kept: Kept,
    model: Option<Box<Model>>,
    ids: HashMap<String, u64>,
    id_order: VecDeque<String>,
    /// By drain token, then by PROCID.
    last_time: HashMap<String, HashMap<String, String>>,
    lags: Lags,
    streams: BTreeMap<String, BTreeMap<String, Counter>>,
    /// The token of the platform's own drain.
    platform: Option<String>,
    /// Loss notices are not taken note of.
    is_deaf: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            report: Report::default(),
            personalities: Vec::new(),
            keep: 0,
            kept: Kept::default(),
            model: None,
            ids: HashMap::new(),
            id_order: VecDeque::new(),
            last_time: HashMap::new(),
            lags: Lags::new(LAGS),
            streams: BTreeMap::new(),
            platform: None,
            is_deaf: false,
        }
    }
}

impl Tally {
    /// Counts with these personalities; keeps the last `keep` lines.
    pub fn new(personalities: &[Personality], keep: usize) -> Self {
        let kept = Kept::new(keep);
        let mut tally = Self { personalities: personalities.to_vec(), keep, kept, ..Self::default() };
        for personality in personalities {
            tally.report.conformance.insert(personality.as_str().to_owned(), Complaints::default());
        }
        tally
    }

    /// Counts for the page, too.
    #[must_use]
    pub(crate) fn with_model(mut self) -> Self {
        self.model = Some(Box::default());
        self
    }

    /// The token with which the platform's own drain comes: nothing is asked of it, and it is no part of the totals.
    #[must_use]
    pub fn beside(mut self, platform: Option<String>) -> Self {
        self.platform = platform;
        self
    }

    /// Whether loss notices are overheard from now on: a switch for tests of who looks at the report.
    pub fn set_deaf(&mut self, is_deaf: bool) {
        self.is_deaf = is_deaf;
    }

    /// Starts anew.
    pub fn reset(&mut self) {
        let platform = self.platform.take();
        let fresh = Self::new(&std::mem::take(&mut self.personalities), self.keep).beside(platform);
        *self = if self.model.is_some() { fresh.with_model() } else { fresh };
    }

    /// What the page shows beside the report.
    pub(crate) fn model(&self) -> Option<&Model> {
        self.model.as_deref()
    }

    /// Frames recorded, as in the report.
    pub(crate) fn frame_count(&self) -> u64 {
        self.report.frames
    }

    /// The lines that are kept.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// A request is over, one way or another.
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>) {
        if let Some(model) = &mut self.model {
            model.attempt(attempt);
        }
    }

    /// A request came.
    pub fn request(&mut self) {
        self.report.requests += 1;
    }

    /// A request was answered.
    pub fn answered(&mut self, status: u16) {
        *self.report.by_status.entry(status).or_default() += 1;
    }

    /// Records a body; returns the lines that are new.
    pub fn record(&mut self, headers: &Headers, body: &[u8]) -> Vec<Line> {
        if headers.token.is_some() && headers.token == self.platform {
            return self.record_platform(headers, &tidy(body));
        }
        if let Some(same) = self.before(headers, body) {
            let report = &mut self.report;
            *(if same { &mut report.duplicates } else { &mut report.changed_bodies }) += 1;
            return Vec::new();
        }
        let (frames, error) = split(body);
        let report = &mut self.report;
        report.accepted += 1;
        report.bytes += body.len() as u64;
        report.wire_bytes += headers.wire_bytes;
        report.gzip_requests += u64::from(headers.gzip);
        report.frames += frames.len() as u64;
        report.count_mismatches += u64::from(headers.count != Some(frames.len() as u64));
        report.malformed += u64::from(error.is_some());
        let seen = Seen {
            content_type: headers.content_type.as_deref(),
            count: headers.count,
            id: headers.id.as_deref(),
            token: headers.token.as_deref(),
            user_agent: headers.user_agent.as_deref(),
            body,
            is_whole: error.is_none(),
            frames: &frames,
        };
        for personality in &self.personalities {
            if let Some(complaint) = personality.complaint(&seen) {
                let complaints = report.conformance.entry(personality.as_str().to_owned()).or_default();
                complaints.errors += 1;
                complaints.last = Some(complaint);
            }
        }
        let now = now_micros();
        let token = headers.token.clone().unwrap_or_default();
        if let Some(model) = &mut self.model {
            let batch = Batch { now, headers, token: &token, body, frames: &frames, error: error.as_deref() };
            model.batch(&batch, self.platform.is_some());
        }
        if error.is_some() {
            report.malformed_last = error;
        }
        self.frames(now, &token, &frames);
        self.lines_of(now, &token, body, &frames)
    }

    /// Whether a batch of this id came before with the same body, if one came; else the id is remembered.
    fn before(&mut self, headers: &Headers, body: &[u8]) -> Option<bool> {
        let id = headers.id.as_ref()?;
        let hash = fingerprint(body);
        if let Some(before) = self.ids.get(id) {
            let same = *before == hash;
            let procs = self.streams.entry(headers.token.clone().unwrap_or_default()).or_default();
            for frame in split(&tidy(body)).0 {
                procs.entry(frame.proc_id.to_owned()).or_default().stream.repeats += 1;
            }
            return Some(same);
        }
        self.ids.insert(id.clone(), hash);
        self.id_order.push_back(id.clone());
        if self.id_order.len() > IDS
            && let Some(oldest) = self.id_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        None
    }

    /// What came by the platform's own drain.
    fn record_platform(&mut self, headers: &Headers, body: &[u8]) -> Vec<Line> {
        if self.before(headers, body).is_some() {
            return Vec::new();
        }
        let now = now_micros();
        let token = headers.token.clone().unwrap_or_default();
        let (frames, _) = split(body);
        if let Some(model) = &mut self.model {
            model.platform(&Batch { now, headers, token: &token, body, frames: &frames, error: None });
        }
        self.lines_of(now, &token, body, &frames)
    }

    /// Into the totals.
    fn frames(&mut self, now: u64, token: &str, frames: &[Frame<'_>]) {
        for frame in frames {
            if is_app(frame) {
                self.report.lines += 1;
                self.number(frame);
            } else {
                self.report.own_frames += 1;
                if let Some(count) = self.dropped_by(frame) {
                    self.report.losses.add(count);
                }
            }
            self.time(token, frame, now);
        }
        let lines = frames.iter().filter(|frame| frame.pri == PRI_APP).count() as u64;
        *self.report.by_token.entry(token.to_owned()).or_default() += lines;
    }

    /// Into their streams, and among the kept lines.
    fn lines_of(&mut self, now: u64, token: &str, body: &[u8], frames: &[Frame<'_>]) -> Vec<Line> {
        self.kept.add(now, token, body, frames);
        for frame in frames {
            let dropped = self.dropped_by(frame);
            let streams = match self.streams.get_mut(token) {
                Some(streams) => streams,
                None => self.streams.entry(token.to_owned()).or_default(),
            };
            let counter = match streams.get_mut(frame.proc_id) {
                Some(counter) => counter,
                None => streams.entry(frame.proc_id.to_owned()).or_default(),
            };
            let stream = &mut counter.stream;
            *(if is_app(frame) { &mut stream.lines } else { &mut stream.own_frames }) += 1;
            stream.longest = stream.longest.max(frame.msg.len() as u64);
            if let Some(count) = dropped {
                stream.losses.add(count);
            }
            if let Some(sent) = StampText::read(frame.time) {
                counter.lags.add(lag(sent, now));
            }
        }
        let wanted = if self.keep > 0 { frames } else { &[] };
        wanted.iter().map(|frame| Line::of(frame, token)).collect()
    }

    /// How many lines a loss notice announces; nothing when it is none.
    fn dropped_by(&self, frame: &Frame<'_>) -> Option<u64> {
        announced(frame.msg).filter(|_| !self.is_deaf && !is_app(frame))
    }

    fn number(&mut self, frame: &Frame<'_>) {
        let text = frame.msg.split_once("seq=").map_or(frame.msg, |(_, rest)| rest);
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        if end < text.len() && text.len() == frame.msg.len() {
            return; // not a plain number
        }
        let Ok(number) = text[..end].parse::<u64>() else { return };
        let sequence = match self.report.sequence.get_mut(frame.proc_id) {
            Some(sequence) => sequence,
            None => self.report.sequence.entry(frame.proc_id.to_owned()).or_default(),
        };
        sequence.count += 1;
        sequence.first.get_or_insert(number);
        match sequence.last {
            Some(last) if number <= last => sequence.backward += 1,
            Some(last) => sequence.missing += number - last - 1,
            None => {}
        }
        sequence.last = Some(sequence.last.map_or(number, |last| last.max(number)));
    }

    fn time(&mut self, token: &str, frame: &Frame<'_>, now: u64) {
        let last = self.last_time.get_mut(token).and_then(|procs| procs.get_mut(frame.proc_id));
        if let Some(last) = last {
            self.report.out_of_order += u64::from(frame.time < last.as_str());
            frame.time.clone_into(last);
        } else {
            let procs = self.last_time.entry(token.to_owned()).or_default();
            procs.insert(frame.proc_id.to_owned(), frame.time.to_owned());
        }
        if let Some(sent) = StampText::read(frame.time) {
            self.lags.add(lag(sent, now));
        }
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        let of_token = |procs: &BTreeMap<String, Counter>| {
            procs.iter().map(|(name, counter)| (name.clone(), counter.report())).collect()
        };
        let streams = self.streams.iter().map(|(token, procs)| (token.clone(), of_token(procs))).collect();
        Report { lag_ms: self.lags.summary(), streams, ..self.report.clone() }
    }

    /// Lines from number `from` on, at most `limit`, and the number behind them. Numbers count from 0.
    pub fn lines(&self, from: u64, limit: usize) -> (Vec<Line>, u64) {
        let from = from.max(self.kept.first());
        let mut lines = Vec::new();
        for chunk in self.kept.since(from) {
            let inside = from.max(chunk.first)..chunk.end();
            lines.extend(
                inside
                    .filter_map(|line| Some(Line::of(&chunk.get(line)?.0, &chunk.token)))
                    .take(limit - lines.len()),
            );
        }
        let next = from + lines.len() as u64;
        (lines, next)
    }
}

/// The lines that a loss notice announces.
pub(crate) fn announced(message: &str) -> Option<u64> {
    let rest = message.strip_prefix("Error L10 (output buffer overflow): ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Logplex's own frames as our parser takes them: its L10 notices have no LF, and it cuts lines within characters.
fn tidy(body: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(body.len()), body);
    while let Some(space) = rest.iter().position(|byte| *byte == b' ')
        && let Some(length) =
            std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse::<usize>().ok())
        && let Some(frame) = rest.get(space + 1..space + 1 + length)
    {
        let text = String::from_utf8_lossy(frame);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        out.extend_from_slice(format!("{} {text}\n", text.len() + 1).as_bytes());
        rest = &rest[space + 1 + length..];
    }
    out
}

/// From a stamp to its arrival, in ms.
fn lag(sent: u64, now: u64) -> f64 {
    (now as f64 - sent as f64) / 1000.0
}

/// Frames by LEN, and what is wrong with the first one that is none.
pub(crate) fn split(body: &[u8]) -> (Vec<Frame<'_>>, Option<String>) {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < body.len() {
        match frame::parse(body, at) {
            Ok(frame) => {
                at += frame.total;
                frames.push(frame);
            }
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
    (frames, None)
}

fn fingerprint(body: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}
