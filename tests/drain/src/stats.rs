//! Counts what the drain receives.

mod report;
mod streams;
#[cfg(test)]
mod tests;

use crate::history::{FrameBytes, History, NewRequest};
use crate::measure::Quantiles;
use crate::model::{Arrival, Attempt, Batch, DrainKind, Model, ReceivedFrame};
use crate::receiver::{Receiver, RequestView};
pub use crate::stream::{Lag, Stream};
use foldhash::quality::FixedState;
pub use report::{Complaints, Headers, Line, Losses, Report, Sequence};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher;
use streams::Streams;
use tailrace::frame::{self, Frame, ParseError, Timestamp};

/// Frame ids that are remembered, to recognize repeated batches.
const MAX_IDS: usize = 1 << 20;

/// Whether loss notices are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LossNotices {
    /// They are counted.
    #[default]
    Counted,
    /// They are ignored (the `deaf` fault), to test those who rely on the count.
    Ignored,
}

/// A batch that had already been received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RepeatedBatch {
    SameBody,
    ChangedBody,
}

/// The counts of a drain.
#[derive(Debug, Default)]
pub struct Stats {
    /// The counts of requests; those of frames are in `streams`.
    report: Report,
    streams: Streams,
    receivers: Vec<Receiver>,
    history: History,
    /// Start of the counts, in µs since the Unix epoch. Line numbers are valid within one epoch: a reset starts a new
    /// one.
    epoch: u64,
    model: Option<Box<Model>>,
    ids: HashMap<String, u64>,
    id_order: VecDeque<String>,
    /// The token of the platform's own drain.
    platform: Option<String>,
    loss_notices: LossNotices,
}

/// Report and model at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) report: Report,
    pub(crate) model: Option<Box<Model>>,
    /// Lag by drain token.
    pub(crate) lags: BTreeMap<String, Quantiles>,
    pub(crate) platform: Option<String>,
}

impl Stats {
    /// Checks requests as these receivers do; keeps the last `keep` lines in the history.
    pub fn new(receivers: &[Receiver], keep: usize) -> Self {
        let receivers = receivers.to_vec();
        let mut stats = Self {
            receivers,
            history: History::new(keep),
            epoch: Timestamp::now().as_micros(),
            ..Self::default()
        };
        for receiver in &stats.receivers {
            stats.report.conformance.insert(receiver.as_str().to_owned(), Complaints::default());
        }
        stats
    }

    /// Counts for the page too.
    #[must_use]
    pub(crate) fn with_model(mut self) -> Self {
        self.model = Some(Box::default());
        self
    }

    /// Sets the token of the platform's own drain. Its requests are not checked, and its frames are not part of the
    /// totals.
    #[must_use]
    pub fn with_platform_drain(mut self, platform: Option<String>) -> Self {
        self.platform = platform;
        self
    }

    /// Whether loss notices are counted from now on.
    pub fn set_loss_notices(&mut self, loss_notices: LossNotices) {
        self.loss_notices = loss_notices;
    }

    /// Resets all counts and the history.
    pub fn reset(&mut self) {
        let platform = self.platform.take();
        let receivers = std::mem::take(&mut self.receivers);
        let fresh = Self::new(&receivers, self.history.max_lines()).with_platform_drain(platform);
        let fresh = Self { epoch: fresh.epoch.max(self.epoch + 1), ..fresh };
        *self = if self.model.is_some() { fresh.with_model() } else { fresh };
    }

    /// The counts for the page.
    pub(crate) fn model(&mut self) -> Option<&mut Model> {
        self.model.as_deref_mut()
    }

    /// The counts by stream.
    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The last lines.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Start of the counts, in µs since the Unix epoch. A reset changes it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The token of the platform's own drain.
    pub(crate) fn platform(&self) -> Option<&str> {
        self.platform.as_deref()
    }

    /// Whose drain a token belongs to.
    pub(crate) fn drain_kind(&self, token: &str) -> DrainKind {
        if self.platform.as_deref() == Some(token) { DrainKind::Platform } else { DrainKind::Agent }
    }

    /// Counts a request whose headers were read.
    pub fn request(&mut self, headers: &Headers) {
        self.report.requests += u64::from(self.drain_kind(headers.token()) == DrainKind::Agent);
    }

    /// Counts a request that was answered or closed.
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>) {
        let drain = self.drain_kind(attempt.token);
        if let Some(status) = attempt.status.filter(|_| drain == DrainKind::Agent) {
            *self.report.by_status.entry(status).or_default() += 1;
        }
        if let Some(model) = &mut self.model {
            model.requests.attempt(attempt, drain);
        }
    }

    /// Records a body; returns its lines, or none if the batch had already been received.
    pub fn record(&mut self, headers: &Headers, body: &[u8]) -> Vec<Line> {
        if self.drain_kind(headers.token()) == DrainKind::Platform {
            return self.record_platform(headers, body);
        }
        match self.check_repeated(headers, body) {
            Some(RepeatedBatch::SameBody) => {
                self.report.duplicates += 1;
                return Vec::new();
            }
            Some(RepeatedBatch::ChangedBody) => {
                self.report.changed_bodies += 1;
                return Vec::new();
            }
            None => {}
        }
        let (frames, error) = split(body);
        let report = &mut self.report;
        report.accepted += 1;
        report.bytes += body.len() as u64;
        report.wire_bytes += headers.wire_bytes;
        report.gzip_requests += u64::from(headers.gzip);
        report.count_mismatches += u64::from(headers.count != Some(frames.len() as u64));
        report.malformed += u64::from(error.is_some());
        let is_complete = error.is_none();
        self.check_receivers(&RequestView::new(headers, body, &frames, is_complete));
        let now = Timestamp::now().as_micros();
        if let Some(model) = &mut self.model {
            model.requests.batch(&Batch { now, headers, body, frames: &frames, error });
        }
        if let Some(error) = error {
            self.report.malformed_last = Some(error.to_string());
        }
        self.add(NewRequest {
            at: now,
            token: headers.token(),
            loss_notices: self.loss_notices,
            body,
            frames: &frames,
            raw: None,
        })
    }

    fn check_receivers(&mut self, request: &RequestView<'_>) {
        for receiver in &self.receivers {
            if let Some(complaint) = receiver.complaint(request) {
                let complaints = self.report.conformance.entry(receiver.as_str().to_owned()).or_default();
                complaints.errors += 1;
                complaints.last = Some(complaint);
            }
        }
    }

    /// Checks whether a batch with this id has already been received; if not, the id is remembered.
    fn check_repeated(&mut self, headers: &Headers, body: &[u8]) -> Option<RepeatedBatch> {
        let id = headers.id.as_ref()?;
        let hash = fingerprint(body);
        if let Some(before) = self.ids.get(id) {
            let repeated = if *before == hash { RepeatedBatch::SameBody } else { RepeatedBatch::ChangedBody };
            for frame in split(&normalize(body).0).0 {
                self.streams.count_repeat(headers.token(), frame.proc_id);
            }
            return Some(repeated);
        }
        self.ids.insert(id.clone(), hash);
        self.id_order.push_back(id.clone());
        if self.id_order.len() > MAX_IDS
            && let Some(oldest) = self.id_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        None
    }

    /// Records a body of the platform's own drain.
    fn record_platform(&mut self, headers: &Headers, body: &[u8]) -> Vec<Line> {
        if self.check_repeated(headers, body).is_some() {
            return Vec::new();
        }
        let (normalized, raw) = normalize(body);
        let (frames, _) = split(&normalized);
        self.add(NewRequest {
            at: Timestamp::now().as_micros(),
            token: headers.token(),
            loss_notices: self.loss_notices,
            body: &normalized,
            frames: &frames,
            raw,
        })
    }

    /// Counts the frames of a request, adds them to the history and returns them as lines.
    fn add(&mut self, request: NewRequest<'_>) -> Vec<Line> {
        let NewRequest { at, token, body, frames, .. } = request;
        let mut end = 0;
        let received = frames.iter().map(|frame| {
            let start = end;
            end += frame.total;
            ReceivedFrame::new(*frame, &body[start..end])
        });
        self.count(at, token, &received.collect::<Vec<_>>(), request.loss_notices);
        self.history.add(request);
        // Without a history the sink gets no lines.
        let frames = if self.history.max_lines() > 0 { frames } else { &[] };
        frames.iter().map(|frame| Line::new(frame, token)).collect()
    }

    /// Counts frames that were received together at `now`, in µs since the Unix epoch.
    pub(crate) fn count(
        &mut self,
        now: u64,
        token: &str,
        frames: &[ReceivedFrame<'_>],
        loss_notices: LossNotices,
    ) {
        let drain = self.drain_kind(token);
        for received in frames {
            let counts_losses = loss_notices == LossNotices::Counted && !received.frame.is_app_line();
            let lost = announced_losses(received.frame.msg).filter(|_| counts_losses);
            self.streams.add(token, received, now, lost, drain);
        }
        if let Some(model) = &mut self.model {
            let has_platform_drain = self.platform.is_some();
            model.frames(&Arrival { now, frames, drain, has_platform_drain });
        }
    }

    /// The report so far.
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        self.streams.fill(&mut report, self.platform.as_deref());
        report
    }

    /// Report and model as they are now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let lags = self.streams.tokens().map(|token| (token.to_owned(), self.streams.lag(token)));
        Snapshot {
            report: self.report(),
            model: self.model.clone(),
            lags: lags.collect(),
            platform: self.platform.clone(),
        }
    }

    /// Lines from number `from` on, at most `limit`, and the number after them. Numbers count from 0.
    pub fn lines(&self, from: u64, limit: usize) -> (Vec<Line>, u64) {
        let from = from.max(self.history.first());
        let mut lines = Vec::new();
        for chunk in self.history.since(from) {
            let inside = from.max(chunk.first)..chunk.end();
            lines.extend(
                inside
                    .filter_map(|line| Some(Line::new(&chunk.get(line)?.0, &chunk.token)))
                    .take(limit - lines.len()),
            );
        }
        let next = from + lines.len() as u64;
        (lines, next)
    }
}

impl Snapshot {
    /// Takes the counts of frames from another snapshot, and keeps those of requests, which have no app and no dyno.
    pub(crate) fn with_frames_of(self, other: Self) -> Self {
        let report = self.report.with_frames_of(other.report);
        let model = other.model.zip(self.model).map(|(mut model, unfiltered)| {
            model.requests = unfiltered.requests;
            model
        });
        Self { report, model, lags: other.lags, platform: self.platform }
    }
}

/// The number of lines that a loss notice announces as lost; `None` for other messages.
pub(crate) fn announced_losses(message: &str) -> Option<u64> {
    let rest = message.strip_prefix("Error L10 (output buffer overflow): ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Normalizes Logplex's frames for the parser: its L10 notices have no final LF, and it truncates lines within
/// characters. Returns the frames as received too, if they differ.
fn normalize(body: &[u8]) -> (Vec<u8>, Option<FrameBytes>) {
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

/// Splits a body into frames by LEN, up to the first invalid one; returns its error too.
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
