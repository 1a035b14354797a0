//! The model: what the page shows beside the report, counted frame by frame as they come, in bounded memory.
//!
//! Every panel and `GET /model.json` read it; a number that the report has too is only in the report.

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

use crate::measure::{Names, Series};
use crate::stats::Headers;
use application::Application;
use delivery::Delivery;
use dynos::Dynos;
use errors::{AppErrors, Errors, Rates};
use kind::Kind;
use parity::Parity;
use requests::Requests;
use router::{Overview, RouterLine};
use samples::Samples;
use serde::Serialize;
use std::time::Duration;
use tailrace::frame::{Frame, ParseError, Timestamp};

/// A frame's own time counts when it is not older than this, in s; else its arrival does.
const OLD: u64 = 3600;

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// Its end, in µs since the Unix epoch.
    pub(crate) now: u64,
    /// The drain token; empty without one.
    pub(crate) token: &'a str,
    /// `Logplex-Frame-Id`.
    pub(crate) id: Option<&'a str>,
    /// The answer; `None` when the connection was closed instead.
    pub(crate) status: Option<u16>,
    /// From its head to its end.
    pub(crate) took: Duration,
}

impl Attempt<'_> {
    /// Its start, in µs since the Unix epoch.
    pub(crate) fn begun(&self) -> u64 {
        self.now.saturating_sub(self.took.as_micros() as u64)
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
    /// Why it could not be split to its end.
    pub(crate) error: Option<ParseError>,
}

/// A frame that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    pub(crate) frame: Frame<'a>,
    /// The bytes that it was read from.
    pub(crate) raw: &'a [u8],
    /// Its time, in µs since the Unix epoch.
    pub(crate) sent: Option<u64>,
}

impl<'a> Fragment<'a> {
    pub(crate) fn new(frame: Frame<'a>, raw: &'a [u8]) -> Self {
        Self { frame, raw, sent: Timestamp::parse(frame.time).map(Timestamp::as_micros) }
    }

    /// When it happened, in s since the Unix epoch: its own time when that may be so, else its arrival at `now`.
    fn moment(&self, now: u64) -> u64 {
        let sent = self.sent.map_or(now, |micros| micros / 1_000_000);
        if sent <= now && sent + OLD > now { sent } else { now }
    }
}

/// Frames that came at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lot<'a> {
    /// Now, in µs since the Unix epoch.
    pub(crate) now: u64,
    pub(crate) pieces: &'a [Fragment<'a>],
    /// They came by the platform's own drain.
    pub(crate) is_platform: bool,
    /// They did not, and there is one: what it tells of, too, would count twice.
    pub(crate) is_told: bool,
}

/// All panels.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Model {
    /// When the first frame came, in s since the Unix epoch.
    pub since: Option<u64>,
    /// Frames by arrival, of tailrace and of the platform's own drain.
    pub frames: Series<Names<u64, 2>>,
    /// Lines, each once though it may come by both drains, and those that count as an error.
    pub lines: Rates,
    /// Router lines.
    pub overview: Overview,
    /// Platform lines about dynos.
    pub dynos: Dynos,
    /// Platform lines about the app.
    pub application: Application,
    /// Sample lines.
    pub samples: Samples,
    /// Errors of the platform.
    pub errors: Errors,
    /// Errors of the app.
    pub app_errors: AppErrors,
    /// Delivery health, by frames.
    pub delivery: Delivery,
    /// Delivery health, by requests.
    pub requests: Requests,
    /// Published parsers.
    pub parity: Parity,
}

impl Model {
    /// Counts frames that came at once.
    pub(crate) fn frames(&mut self, lot: &Lot<'_>) {
        let second = lot.now / 1_000_000;
        self.since.get_or_insert(second);
        let drain = if lot.is_platform { "platform" } else { "tailrace" };
        *self.frames.at(second).of(drain) += lot.pieces.len() as u64;
        self.samples.tick(second);
        self.delivery.frames(lot);
        for piece in lot.pieces {
            let frame = &piece.frame;
            let kind = Kind::of(frame);
            self.parity.line(kind, frame, piece.raw, second);
            if !is_counted(kind, lot) {
                continue;
            }
            let is_error = errors::is_error(frame.msg);
            self.lines.add(frame, is_error);
            if is_error && !matches!(frame.app, "heroku" | "tailrace") {
                self.app_errors.add(frame, piece.moment(second));
            }
            if kind != Kind::App {
                self.event(kind, frame, piece.moment(second), second);
            }
        }
    }

    /// A line that is none of the app's happened at second `at`, and came `now`.
    fn event(&mut self, kind: Kind, frame: &Frame<'_>, at: u64, now: u64) {
        match kind {
            Kind::App | Kind::Api => {}
            Kind::Router => {
                let line = RouterLine::read(frame.msg);
                self.errors.request(&line, frame, at);
                self.overview.add(&line, at);
            }
            Kind::Memory | Kind::Load | Kind::Sample => {
                self.samples.add(frame.msg, kind == Kind::Sample, at, now);
            }
            Kind::State => self.dynos.state(frame.time, frame.proc_id, frame.msg, at),
            Kind::Exit => self.dynos.exit(frame.proc_id, frame.msg),
            Kind::Platform => self.dynos.platform(frame.proc_id, frame.msg, at),
            Kind::Code => self.errors.line(frame, at),
            Kind::Scaling | Kind::Deploy | Kind::Release | Kind::Build | Kind::Config => {
                if kind == Kind::Scaling {
                    self.dynos.scaled(frame.time, frame.msg, at);
                }
                self.application.add(kind, frame.time, frame.msg, at);
            }
            Kind::Agent => self.delivery.agent(frame),
        }
    }
}

/// Whether a line counts here: where both drains bring it, the app's lines and samples count by tailrace, and what
/// the platform says of dynos by the platform. Codes count by both: neither says the other's.
fn is_counted(kind: Kind, lot: &Lot<'_>) -> bool {
    match kind {
        Kind::App | Kind::Memory | Kind::Load | Kind::Sample | Kind::Agent => !lot.is_platform,
        kind => !(lot.is_told && kind.is_of_dynos()),
    }
}
