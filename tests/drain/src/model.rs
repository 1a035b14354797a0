//! The model: what the page shows beside the report, counted frame by frame as they come, in bounded memory.
//!
//! Every panel and `GET /model.json` read it; a number that the report has too is only in the report.

pub mod conformance;
pub mod delivery;
pub mod dynos;
pub mod errors;
pub mod kind;
pub mod measure;
pub mod parity;
pub mod retries;
pub mod router;
pub mod samples;
#[cfg(test)]
mod tests;

use crate::tally::{Headers, announced};
use conformance::Conformance;
use delivery::Delivery;
use dynos::Dynos;
use errors::{AppErrors, Errors};
use kind::Kind;
use parity::Parity;
use router::{Overview, RouterLine};
use samples::Samples;
use serde::Serialize;
use std::time::Duration;
use tailrace::frame::{Frame, StampText};

/// A frame's own time counts when it is not older than this, in s; else its arrival does.
const OLD: u64 = 3600;

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// Its end, in µs since the Unix epoch.
    pub(crate) now: u64,
    /// `Logplex-Frame-Id`.
    pub(crate) id: Option<&'a str>,
    /// The answer; `None` when the connection was closed instead.
    pub(crate) status: Option<u16>,
    /// From its head to its end.
    pub(crate) took: Duration,
}

/// A request that was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    /// Now, in µs since the Unix epoch.
    pub(crate) now: u64,
    pub(crate) headers: &'a Headers,
    pub(crate) token: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) frames: &'a [Frame<'a>],
    /// Why it could not be split to its end.
    pub(crate) error: Option<&'a str>,
}

/// All panels.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Model {
    /// When the first request came, in s since the Unix epoch.
    pub since: Option<u64>,
    /// Frames by second.
    pub frames: measure::Series<u64>,
    /// Frames by APP-NAME.
    pub apps: measure::Names<u64>,
    /// Frames by PROCID.
    pub procs: measure::Names<u64>,
    /// Router lines.
    pub overview: Overview,
    /// Platform lines about dynos.
    pub dynos: Dynos,
    /// Sample lines.
    pub samples: Samples,
    /// Errors of the platform.
    pub errors: Errors,
    /// Errors of the app.
    pub app_errors: AppErrors,
    /// Delivery health.
    pub delivery: Delivery,
    /// Rules of form.
    pub conformance: Conformance,
    /// Published parsers.
    pub parity: Parity,
}

impl Model {
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>) {
        self.delivery.attempt(attempt);
    }

    /// A request was taken. Where the platform itself tells of its dynos (`is_told`), the agent's words about them would
    /// count twice.
    pub(crate) fn batch(&mut self, batch: &Batch<'_>, is_told: bool) {
        let second = batch.now / 1_000_000;
        self.since.get_or_insert(second);
        *self.frames.at(second) += batch.frames.len() as u64;
        self.delivery.batch(batch);
        self.conformance.batch(batch);
        let mut end = 0;
        for frame in batch.frames {
            let raw = &batch.body[end..end + frame.total];
            end += frame.total;
            self.frame(batch.token, frame, raw, second, is_told);
        }
    }

    /// A request of the platform's own drain was taken: what it says of requests and dynos counts, and beside the
    /// others' what the drain itself does. The apps' lines come by the agent too.
    pub(crate) fn platform(&mut self, batch: &Batch<'_>) {
        let token = format!("{} (platform)", batch.token);
        self.delivery.token(&Batch { token: &token, ..*batch });
        for frame in batch.frames {
            let kind = Kind::of(frame);
            if !matches!(kind, Kind::App | Kind::Memory | Kind::Load | Kind::Sample | Kind::Agent) {
                self.event(kind, &token, frame, batch.now / 1_000_000);
            }
        }
    }

    fn frame(&mut self, token: &str, frame: &Frame<'_>, raw: &[u8], now: u64, is_told: bool) {
        let kind = Kind::of(frame);
        *self.apps.of(frame.app) += 1;
        *self.procs.of(frame.proc_id) += 1;
        let is_error = errors::is_error(frame.msg);
        if is_error {
            self.errors.word(frame);
        }
        self.parity.line(kind, raw, now);
        let is_told = is_told && matches!(kind, Kind::State | Kind::Exit | Kind::Platform);
        if !is_told && (kind != Kind::App || is_error) {
            self.event(kind, token, frame, now);
        }
    }

    fn event(&mut self, kind: Kind, token: &str, frame: &Frame<'_>, now: u64) {
        let sent = StampText::read(frame.time).map_or(now, |micros| micros / 1_000_000);
        let at = if sent <= now && sent + OLD > now { sent } else { now };
        match kind {
            Kind::App => self.app_errors.add(frame, at),
            Kind::Router => {
                let line = RouterLine::read(frame.msg);
                if let Some(code) = line.code {
                    self.errors.code(code, frame, at);
                }
                self.overview.add(&line, at);
            }
            Kind::Memory | Kind::Load | Kind::Sample => {
                self.samples.add(frame.msg, kind == Kind::Sample, at, now);
            }
            Kind::State => self.dynos.state(frame.time, frame.proc_id, frame.msg, at),
            Kind::Exit => self.dynos.exit(frame.proc_id, frame.msg),
            Kind::Code => {
                if let Some((code, _)) = kind::code(frame.msg) {
                    self.errors.code(code, frame, at);
                }
                if let Some(lines) = announced(frame.msg) {
                    self.delivery.notice(token, lines);
                }
            }
            Kind::Scaling => self.dynos.event(frame.time, "scaling", frame.msg),
            Kind::Deploy => self.dynos.event(frame.time, "deploy", frame.msg),
            Kind::Release => self.dynos.event(frame.time, "release", frame.msg),
            Kind::Agent => self.delivery.agent(frame),
            Kind::Platform => self.dynos.platform(frame.proc_id, frame.msg, at),
        }
    }
}
