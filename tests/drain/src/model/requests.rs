//! Delivery health by requests. Requests have no app and no dyno.

use super::conformance::Conformance;
use super::connections::Connections;
use super::delivery::label;
use super::retries::Retries;
use super::{Attempt, Batch, DrainKind};
use crate::filter::name_of;
use crate::measure::{BoundedMap, Histogram, Merge, Quantiles, Series};
use serde::Serialize;
use tailrace::frame::ParseErrorKind;

/// The requests of one drain token.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TokenRequests {
    /// Requests that were answered or closed.
    pub requests: u64,
    /// Answered with a 2xx status.
    #[serde(rename = "taken")]
    pub accepted: u64,
    /// Answered with another status.
    #[serde(rename = "refused")]
    pub rejected: u64,
    /// Closed without an answer.
    pub closed: u64,
}

/// The requests of one bucket of a time series.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RequestCounts {
    /// By status; `closed` without an answer.
    pub by_status: BoundedMap<u64, 20>,
    /// Frames that were recorded.
    pub frames: u64,
    /// Bytes of bodies, after gzip.
    pub bytes: u64,
    /// Bytes of bodies as received.
    pub wire_bytes: u64,
}

impl Merge for RequestCounts {
    fn merge(&mut self, other: Self) {
        self.by_status.merge(other.by_status);
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.wire_bytes += other.wire_bytes;
    }
}

/// Delivery health by requests. Those of the platform's drain are in `connections` and `tokens` only.
#[derive(Clone, Debug, Serialize)]
pub struct Requests {
    /// Requests over time.
    pub answers: Series<RequestCounts>,
    /// Requests that ended without an answer.
    pub closed: u64,
    /// Time from the headers of a request to its end, in ms.
    pub duration: Quantiles,
    /// Frames per recorded request.
    pub batches: Histogram,
    /// Bodies with a frame of more than 10,240 bytes.
    pub too_long: u64,
    /// Repeated requests.
    pub retries: Retries,
    /// Conformance to Logplex's form.
    pub conformance: Conformance,
    /// Connections by drain.
    pub connections: BoundedMap<Connections, 32>,
    /// Requests by drain token.
    #[serde(skip)]
    pub tokens: BoundedMap<TokenRequests, 32>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            answers: Series::default(),
            closed: 0,
            duration: Quantiles::default(),
            batches: Histogram::of_counts(),
            too_long: 0,
            retries: Retries::default(),
            conformance: Conformance::default(),
            connections: BoundedMap::default(),
            tokens: BoundedMap::default(),
        }
    }
}

impl Requests {
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>, drain: DrainKind) {
        let counts = self.tokens.entry(name_of(attempt.token));
        counts.requests += 1;
        *(match attempt.status {
            Some(200..=299) => &mut counts.accepted,
            Some(_) => &mut counts.rejected,
            None => &mut counts.closed,
        }) += 1;
        if drain == DrainKind::Platform {
            return;
        }
        let status = attempt.status.map_or_else(|| "closed".to_owned(), |status| status.to_string());
        self.closed += u64::from(attempt.status.is_none());
        self.duration.add(attempt.duration.as_secs_f64() * 1000.0);
        *self.answers.at(attempt.ended_at / 1_000_000).by_status.entry(&status) += 1;
        self.retries.attempt(attempt);
    }

    pub(crate) fn batch(&mut self, batch: &Batch<'_>) {
        let answers = self.answers.at(batch.now / 1_000_000);
        answers.frames += batch.frames.len() as u64;
        answers.bytes += batch.body.len() as u64;
        answers.wire_bytes += batch.headers.wire_bytes;
        self.batches.add(batch.frames.len() as u64);
        self.too_long += u64::from(batch.error.is_some_and(|error| error.kind == ParseErrorKind::Long));
        self.conformance.check_batch(batch);
    }

    /// The connections of a drain.
    pub(crate) fn connection(&mut self, token: &str, drain: DrainKind) -> &mut Connections {
        self.connections.entry(&label(token, drain))
    }

    /// The connections that ended before a request: their drain is not known.
    pub(crate) fn connections_without_request(&mut self) -> &mut Connections {
        self.connections.entry("(no request)")
    }
}
