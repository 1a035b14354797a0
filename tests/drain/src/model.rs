//! The model: what the page shows in addition to the report, counted frame by frame in bounded memory.
//!
//! The panels and `GET /model.json` read it. What the report counts is not counted here again.

pub mod application;
pub mod conformance;
pub mod connections;
pub mod delivery;
pub mod dynos;
pub mod errors;
pub mod kind;
pub mod parity;
pub mod requests;
pub mod retries;
pub mod router;
pub mod samples;
#[cfg(test)]
mod tests;

use crate::measure::{BoundedMap, Series};
use crate::stats::Headers;
use application::Application;
use delivery::Delivery;
use dynos::Dynos;
use errors::{AppErrors, Errors, Rates};
use kind::LineKind;
use parity::Parity;
use requests::Requests;
use router::{Overview, RouterLine};
use samples::Samples;
use serde::Serialize;
use std::time::Duration;
use tailrace::frame::{Frame, ParseError, Timestamp};

/// Largest age of a frame, in s, at which its timestamp is used; beyond it, its time of arrival is.
const MAX_FRAME_AGE: u64 = 3600;

/// A request that was answered or closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// Its end, in µs since the Unix epoch.
    pub(crate) ended_at: u64,
    /// The drain token; empty without one.
    pub(crate) token: &'a str,
    /// `Logplex-Frame-Id`.
    pub(crate) id: Option<&'a str>,
    /// The answer; `None` when the connection was closed instead.
    pub(crate) status: Option<u16>,
    /// From its headers to its end.
    pub(crate) duration: Duration,
}

impl Attempt<'_> {
    /// Its start, in µs since the Unix epoch.
    pub(crate) fn started_at(&self) -> u64 {
        self.ended_at.saturating_sub(self.duration.as_micros() as u64)
    }
}

/// A request whose body was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    /// Now, in µs since the Unix epoch.
    pub(crate) now: u64,
    pub(crate) headers: &'a Headers,
    pub(crate) body: &'a [u8],
    pub(crate) frames: &'a [Frame<'a>],
    /// Why the body could not be split completely.
    pub(crate) error: Option<ParseError>,
}

/// A received frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedFrame<'a> {
    pub(crate) frame: Frame<'a>,
    /// Its bytes.
    pub(crate) raw: &'a [u8],
    /// Its timestamp, in µs since the Unix epoch.
    pub(crate) sent: Option<u64>,
}

impl<'a> ReceivedFrame<'a> {
    pub(crate) fn new(frame: Frame<'a>, raw: &'a [u8]) -> Self {
        Self { frame, raw, sent: Timestamp::parse(frame.time).map(Timestamp::as_micros) }
    }

    /// The time of its event, in s since the Unix epoch: the timestamp if it is plausible, else the arrival at `now`.
    fn event_time(&self, now: u64) -> u64 {
        let sent = self.sent.map_or(now, |micros| micros / 1_000_000);
        if sent <= now && sent + MAX_FRAME_AGE > now { sent } else { now }
    }
}

/// Whose drain delivered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainKind {
    /// The platform's own drain.
    Platform,
    /// A drain of tailrace.
    Agent,
}

/// Frames that were received together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    /// Now, in µs since the Unix epoch.
    pub(crate) now: u64,
    pub(crate) frames: &'a [ReceivedFrame<'a>],
    pub(crate) drain: DrainKind,
    /// Whether the platform's own drain delivers here too, so that some lines are received twice.
    pub(crate) has_platform_drain: bool,
}

/// The data of all panels.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Model {
    /// Arrival of the first frame, in s since the Unix epoch.
    pub since: Option<u64>,
    /// Frames by arrival, of tailrace and of the platform's own drain.
    pub frames: Series<BoundedMap<u64, 2>>,
    /// Lines and error lines. A line that both drains deliver counts once.
    pub lines: Rates,
    /// Router lines.
    pub overview: Overview,
    /// Lines of the platform about dynos.
    pub dynos: Dynos,
    /// Lines of the platform about the app.
    pub application: Application,
    /// Sample lines.
    pub samples: Samples,
    /// Errors of the platform.
    pub errors: Errors,
    /// Errors of the app.
    pub app_errors: AppErrors,
    /// Delivery health by frames.
    pub delivery: Delivery,
    /// Delivery health by requests.
    pub requests: Requests,
    /// Published parsers.
    pub parity: Parity,
}

impl Model {
    /// Counts frames that were received together.
    pub(crate) fn frames(&mut self, arrival: &Arrival<'_>) {
        let second = arrival.now / 1_000_000;
        self.since.get_or_insert(second);
        let drain = match arrival.drain {
            DrainKind::Platform => "platform",
            DrainKind::Agent => "tailrace",
        };
        *self.frames.at(second).entry(drain) += arrival.frames.len() as u64;
        self.samples.tick(second);
        self.delivery.frames(arrival);
        for received in arrival.frames {
            let frame = &received.frame;
            let kind = LineKind::of(frame);
            self.parity.line(kind, frame, received.raw, second);
            if !is_counted(kind, arrival) {
                continue;
            }
            let is_error = errors::is_error(frame.msg);
            self.lines.add(frame, is_error);
            if is_error && !matches!(frame.app, "heroku" | "tailrace") {
                self.app_errors.add(frame, received.event_time(second));
            }
            if kind != LineKind::App {
                self.event(kind, frame, received.event_time(second), second);
            }
        }
    }

    /// Counts a line of the platform or the agent. Its event was at second `at`; it was received at second `now`.
    fn event(&mut self, kind: LineKind, frame: &Frame<'_>, at: u64, now: u64) {
        match kind {
            LineKind::App | LineKind::Api => {}
            LineKind::Router => {
                let line = RouterLine::parse(frame.msg);
                self.errors.request(&line, frame, at);
                self.overview.add(&line, at);
            }
            LineKind::Memory | LineKind::Load | LineKind::Sample => {
                self.samples.add(frame.msg, kind, at, now);
            }
            LineKind::State => self.dynos.state(frame.time, frame.proc_id, frame.msg, at),
            LineKind::Exit => self.dynos.exit(frame.proc_id, frame.msg),
            LineKind::Platform => self.dynos.platform(frame.proc_id, frame.msg, at),
            LineKind::Code => self.errors.line(frame, at),
            LineKind::Scaling | LineKind::Deploy | LineKind::Release | LineKind::Build | LineKind::Config => {
                if kind == LineKind::Scaling {
                    self.dynos.scaled(frame.time, frame.msg, at);
                }
                self.application.add(kind, frame.time, frame.msg, at);
            }
            LineKind::Agent => self.delivery.agent(frame),
        }
    }
}

/// Whether a line counts. If both drains deliver it, lines of the app and samples count by tailrace, and lines of the
/// platform about dynos by the platform. Error codes count by both: their sets are disjoint.
fn is_counted(kind: LineKind, arrival: &Arrival<'_>) -> bool {
    match kind {
        LineKind::App | LineKind::Memory | LineKind::Load | LineKind::Sample | LineKind::Agent => {
            arrival.drain == DrainKind::Agent
        }
        kind => {
            let is_duplicate = arrival.drain == DrainKind::Agent && arrival.has_platform_drain;
            !(is_duplicate && kind.is_dyno_event())
        }
    }
}
