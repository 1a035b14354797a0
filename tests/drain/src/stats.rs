//! What the drain saw: the report.

mod report;
mod streams;
#[cfg(test)]
mod tests;

use crate::history::{FrameBytes, History, NewRequest};
use crate::measure::Quantiles;
use crate::model::{Attempt, Batch, Fragment, Lot, Model};
use crate::receiver::{Receiver, Seen};
pub use crate::stream::{Lag, Stream};
use foldhash::quality::FixedState;
pub use report::{Complaints, Headers, Line, Losses, Report, Sequence};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher;
use streams::Streams;
use tailrace::frame::{self, Frame, PRI_APP, ParseError, Timestamp};

/// Frame ids that are remembered, to tell repetitions.
const IDS: usize = 1 << 20;

/// Whether a frame is a line of the app.
pub(crate) fn is_app(frame: &Frame<'_>) -> bool {
    frame.pri == PRI_APP && frame.app != "tailrace"
}

/// Counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests; the frames are in `streams`.
    report: Report,
    streams: Streams,
    receivers: Vec<Receiver>,
    keep: usize,
    kept: History,
    /// Since when it counts, in µs since the Unix epoch: numbers of lines mean nothing beyond a reset.
    epoch: u64,
    model: Option<Box<Model>>,
    ids: HashMap<String, u64>,
    id_order: VecDeque<String>,
    /// The token of the platform's own drain.
    platform: Option<String>,
    /// Loss notices are not taken note of.
    ignores_losses: bool,
}

/// Report and model at one instant, and what both are made of.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) report: Report,
    pub(crate) model: Option<Box<Model>>,
    /// Lag by drain token.
    pub(crate) lags: BTreeMap<String, Quantiles>,
    pub(crate) platform: Option<String>,
}

impl Stats {
    /// Counts with these receivers; keeps the last `keep` lines.
    pub fn new(receivers: &[Receiver], keep: usize) -> Self {
        let receivers = receivers.to_vec();
        let mut stats = Self {
            receivers,
            keep,
            kept: History::new(keep),
            epoch: Timestamp::now().as_micros(),
            ..Self::default()
        };
        for receiver in &stats.receivers {
            stats.report.conformance.insert(receiver.as_str().to_owned(), Complaints::default());
        }
        stats
    }

    /// Counts for the page, too.
    #[must_use]
    pub(crate) fn with_model(mut self) -> Self {
        self.model = Some(Box::default());
        self
    }

    /// The token with which the platform's own drain comes: nothing is asked of it, and it is no part of the totals.
    #[must_use]
    pub fn with_platform_drain(mut self, platform: Option<String>) -> Self {
        self.platform = platform;
        self
    }

    /// Whether loss notices are overheard from now on: a switch for tests of who looks at the report.
    pub fn set_ignores_losses(&mut self, ignores_losses: bool) {
        self.ignores_losses = ignores_losses;
    }

    /// Starts anew.
    pub fn reset(&mut self) {
        let platform = self.platform.take();
        let fresh = Self::new(&std::mem::take(&mut self.receivers), self.keep).with_platform_drain(platform);
        let fresh = Self { epoch: fresh.epoch.max(self.epoch + 1), ..fresh };
        *self = if self.model.is_some() { fresh.with_model() } else { fresh };
    }

    /// What the page shows beside the report.
    pub(crate) fn model(&mut self) -> Option<&mut Model> {
        self.model.as_deref_mut()
    }

    /// All frames that came.
    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The lines that are kept.
    pub(crate) fn kept(&self) -> &History {
        &self.kept
    }

    /// Since when it counts, in µs since the Unix epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The token of the platform's own drain.
    pub(crate) fn platform(&self) -> Option<&str> {
        self.platform.as_deref()
    }

    /// Whether this is the platform's own drain.
    pub(crate) fn is_platform(&self, token: &str) -> bool {
        self.platform.as_deref() == Some(token)
    }

    /// A request came.
    pub fn request(&mut self, headers: &Headers) {
        self.report.requests += u64::from(!self.is_platform(headers.token()));
    }

    /// A request is over, one way or another.
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>) {
        let is_platform = self.is_platform(attempt.token);
        if let Some(status) = attempt.status.filter(|_| !is_platform) {
            *self.report.by_status.entry(status).or_default() += 1;
        }
        if let Some(model) = &mut self.model {
            model.requests.attempt(attempt, is_platform);
        }
    }

    /// Records a body; returns the lines that are new.
    pub fn record(&mut self, headers: &Headers, body: &[u8]) -> Vec<Line> {
        if self.is_platform(headers.token()) {
            return self.record_platform(headers, body);
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
        for receiver in &self.receivers {
            if let Some(complaint) = receiver.complaint(&seen) {
                let complaints = report.conformance.entry(receiver.as_str().to_owned()).or_default();
                complaints.errors += 1;
                complaints.last = Some(complaint);
            }
        }
        let now = Timestamp::now().as_micros();
        if let Some(model) = &mut self.model {
            model.requests.batch(&Batch { now, headers, body, frames: &frames, error });
        }
        if let Some(error) = error {
            report.malformed_last = Some(error.to_string());
        }
        self.take(now, headers.token(), body, &frames, None)
    }

    /// Whether a batch of this id came before with the same body, if one came; else the id is remembered.
    fn before(&mut self, headers: &Headers, body: &[u8]) -> Option<bool> {
        let id = headers.id.as_ref()?;
        let hash = fingerprint(body);
        if let Some(before) = self.ids.get(id) {
            let same = *before == hash;
            for frame in split(&tidy(body).0).0 {
                self.streams.repeat(headers.token(), frame.proc_id);
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
        let (tidied, raw) = tidy(body);
        let (frames, _) = split(&tidied);
        self.take(Timestamp::now().as_micros(), headers.token(), &tidied, &frames, raw)
    }

    /// Into the counts, and among the kept lines.
    fn take(
        &mut self,
        at: u64,
        token: &str,
        body: &[u8],
        frames: &[Frame<'_>],
        raw: Option<FrameBytes>,
    ) -> Vec<Line> {
        let mut end = 0;
        let pieces = frames.iter().map(|frame| {
            let start = end;
            end += frame.total;
            Fragment::new(*frame, &body[start..end])
        });
        let ignores_losses = self.ignores_losses;
        self.count(at, token, &pieces.collect::<Vec<_>>(), ignores_losses);
        self.kept.add(NewRequest { at, token, ignores_losses, body, frames, raw });
        let wanted = if self.keep > 0 { frames } else { &[] };
        wanted.iter().map(|frame| Line::of(frame, token)).collect()
    }

    /// Counts frames that came at once, at `now` in µs since the Unix epoch.
    pub(crate) fn count(&mut self, now: u64, token: &str, pieces: &[Fragment<'_>], ignores_losses: bool) {
        let is_platform = self.is_platform(token);
        for piece in pieces {
            let dropped = announced(piece.frame.msg).filter(|_| !ignores_losses && !is_app(&piece.frame));
            self.streams.add(token, piece, now, dropped, !is_platform);
        }
        if let Some(model) = &mut self.model {
            let is_told = self.platform.is_some() && !is_platform;
            model.frames(&Lot { now, pieces, is_platform, is_told });
        }
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        self.streams.fill(&mut report, self.platform.as_deref());
        report
    }

    /// All that is shown, as it is now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let lags = self.streams.tokens().map(|token| (token.to_owned(), self.streams.lag(token)));
        Snapshot {
            report: self.report(),
            model: self.model.clone(),
            lags: lags.collect(),
            platform: self.platform.clone(),
        }
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

impl Snapshot {
    /// The same, but the frames as another snapshot has them: requests have no app and no dyno.
    pub(crate) fn with_frames_of(self, other: Self) -> Self {
        let report = self.report.with_frames_of(other.report);
        let model = other.model.zip(self.model).map(|(mut model, whole)| {
            model.requests = whole.requests;
            model
        });
        Self { report, model, lags: other.lags, platform: self.platform }
    }
}

/// The lines that a loss notice announces.
pub(crate) fn announced(message: &str) -> Option<u64> {
    let rest = message.strip_prefix("Error L10 (output buffer overflow): ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Logplex's own frames as our parser takes them: its L10 notices have no LF, and it cuts lines within characters.
/// With them how they came, where that differs.
fn tidy(body: &[u8]) -> (Vec<u8>, Option<FrameBytes>) {
    let (mut out, mut rest) = (Vec::with_capacity(body.len()), body);
    let mut lengths = Vec::new();
    while let Some(space) = rest.iter().position(|byte| *byte == b' ')
        && let Some(length) =
            std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse::<usize>().ok())
        && let Some(frame) = rest.get(space + 1..space + 1 + length)
    {
        let text = String::from_utf8_lossy(frame);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        out.extend_from_slice(format!("{} {text}\n", text.len() + 1).as_bytes());
        lengths.push(space + 1 + length);
        rest = &rest[space + 1 + length..];
    }
    let raw = (out != body).then(|| FrameBytes::new(body, lengths.into_iter()));
    (out, raw)
}

/// Frames by LEN, and what is wrong with the first one that is none.
pub(crate) fn split(body: &[u8]) -> (Vec<Frame<'_>>, Option<ParseError>) {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < body.len() {
        match frame::parse(body, at) {
            Ok(frame) => {
                at += frame.total;
                frames.push(frame);
            }
            Err(error) => return (frames, Some(error)),
        }
    }
    (frames, None)
}

fn fingerprint(body: &[u8]) -> u64 {
    FixedState::default().hash_one(body)
}
