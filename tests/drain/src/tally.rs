//! What the drain saw: the report.

mod report;
#[cfg(test)]
mod tests;

use crate::kept::Kept;
use crate::model::{Attempt, Batch, Model};
use crate::personality::{Personality, Seen};
pub use report::{Complaints, Headers, Lag, Line, Losses, Report, Sequence};
use std::collections::{HashMap, VecDeque};
use tailrace::frame::{self, Frame, PRI_APP, now_micros};

/// Frame ids that are remembered, to tell repetitions.
const IDS: usize = 1 << 20;
/// Lags that are kept for the percentiles.
const LAGS: usize = 1 << 16;

/// Whether a frame is a line of the app.
pub(crate) fn is_app(frame: &Frame<'_>) -> bool {
    frame.pri == PRI_APP && frame.app != "tailrace"
}

/// Counts.
#[derive(Debug, Default)]
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
    lags: Vec<f64>,
    arrivals: u64,
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

    /// Starts anew.
    pub fn reset(&mut self) {
        let fresh = Self::new(&std::mem::take(&mut self.personalities), self.keep);
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
        let hash = fingerprint(body);
        if let Some(id) = &headers.id {
            if let Some(before) = self.ids.get(id) {
                let same = *before == hash;
                let report = &mut self.report;
                *(if same { &mut report.duplicates } else { &mut report.changed_bodies }) += 1;
                return Vec::new();
            }
            self.ids.insert(id.clone(), hash);
            self.id_order.push_back(id.clone());
            if self.id_order.len() > IDS
                && let Some(oldest) = self.id_order.pop_front()
            {
                self.ids.remove(&oldest);
            }
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
            model.batch(&batch);
        }
        if error.is_some() {
            report.malformed_last = error;
        }
        self.kept.add(now, &token, body, &frames);
        self.frames(now, &token, &frames);
        let wanted = if self.keep > 0 { &frames[..] } else { &[] };
        wanted.iter().map(Line::of).collect()
    }

    fn frames(&mut self, now: u64, token: &str, frames: &[Frame<'_>]) {
        for frame in frames {
            if is_app(frame) {
                self.report.lines += 1;
                self.number(frame);
            } else {
                self.report.own_frames += 1;
                self.notice(frame);
            }
            self.time(token, frame, now);
        }
        let lines = frames.iter().filter(|frame| frame.pri == PRI_APP).count() as u64;
        *self.report.by_token.entry(token.to_owned()).or_default() += lines;
    }

    fn notice(&mut self, frame: &Frame<'_>) {
        if let Some(count) = announced(frame.msg) {
            self.report.losses.notices += 1;
            self.report.losses.lines += count;
        }
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
        // A sample of the lags, the younger the denser.
        self.arrivals += 1;
        if let Some(sent) = micros(frame.time) {
            let lag = (now as f64 - sent as f64) / 1000.0;
            if self.lags.len() < LAGS {
                self.lags.push(lag);
            } else {
                self.lags[(self.arrivals % LAGS as u64) as usize] = lag;
            }
            self.report.lag_ms.max = self.report.lag_ms.max.max(lag);
        }
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        let mut lags = self.lags.clone();
        lags.sort_unstable_by(f64::total_cmp);
        let at =
            |share: f64| lags.get(((lags.len() as f64 * share) as usize).min(lags.len().saturating_sub(1)));
        let lag = |share| at(share).copied().unwrap_or_default();
        report.lag_ms = Lag { p50: lag(0.5), p95: lag(0.95), p99: lag(0.99), max: self.report.lag_ms.max };
        report
    }

    /// Lines from number `from` on, at most `limit`, and the number behind them. Numbers count from 0.
    pub fn lines(&self, from: u64, limit: usize) -> (Vec<Line>, u64) {
        let from = from.max(self.kept.first());
        let mut lines = Vec::new();
        for chunk in self.kept.since(from) {
            let inside = from.max(chunk.first)..chunk.end();
            lines.extend(
                inside.filter_map(|line| Some(Line::of(&chunk.get(line)?.0))).take(limit - lines.len()),
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

/// Frames by LEN, and what is wrong with the first one that is none.
fn split(body: &[u8]) -> (Vec<Frame<'_>>, Option<String>) {
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

/// A frame's time in µs since the Unix epoch; `2026-03-04T05:06:07.089012+00:00` and nothing else.
pub(crate) fn micros(time: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days from the civil calendar, after Howard Hinnant's `days_from_civil`.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    Some(seconds * 1_000_000 + number(20..26)?)
}
