//! Delivery health as the requests tell of it. They have no app and no dyno.

use super::conformance::Conformance;
use super::connections::Connections;
use super::delivery::label;
use super::retries::Retries;
use super::{Attempt, Batch};
use crate::filter::name_of;
use crate::measure::{Histogram, Merge, Names, Quantiles, Series};
use serde::Serialize;
use tailrace::frame::ParseErrorKind;

/// Requests of one drain.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Asked {
    /// Those that are over.
    pub requests: u64,
    /// Answered with a 2xx.
    pub taken: u64,
    /// Answered with another status.
    pub refused: u64,
    /// Not answered: the connection ended.
    pub closed: u64,
}

/// Requests of one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answers {
    /// By status; `closed` without an answer.
    pub by_status: Names<u64, 20>,
    /// Frames that were recorded.
    pub frames: u64,
    /// Bytes of their bodies, after gzip.
    pub bytes: u64,
    /// The same as they came.
    pub wire_bytes: u64,
}

impl Merge for Answers {
    fn absorb(&mut self, other: Self) {
        self.by_status.absorb(other.by_status);
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.wire_bytes += other.wire_bytes;
    }
}

/// All of it; of the platform's drain only what stands beside the others.
#[derive(Clone, Debug, Serialize)]
pub struct Requests {
    /// What was answered, over time.
    pub answers: Series<Answers>,
    /// Requests that ended without an answer.
    pub closed: u64,
    /// From the head of a request to its end, in ms.
    pub duration: Quantiles,
    /// Frames per request that was recorded.
    pub batches: Histogram,
    /// Bodies with a frame of more than 10,240 bytes.
    pub too_long: u64,
    /// Requests that came more than once.
    pub retries: Retries,
    /// Rules of form.
    pub conformance: Conformance,
    /// By drain.
    pub connections: Names<Connections, 32>,
    /// By drain token.
    #[serde(skip)]
    pub tokens: Names<Asked, 32>,
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
            connections: Names::default(),
            tokens: Names::default(),
        }
    }
}

impl Requests {
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>, is_platform: bool) {
        let asked = self.tokens.of(name_of(attempt.token));
        asked.requests += 1;
        *(match attempt.status {
            Some(200..=299) => &mut asked.taken,
            Some(_) => &mut asked.refused,
            None => &mut asked.closed,
        }) += 1;
        if is_platform {
            return;
        }
        let status = attempt.status.map_or_else(|| "closed".to_owned(), |status| status.to_string());
        self.closed += u64::from(attempt.status.is_none());
        self.duration.add(attempt.took.as_secs_f64() * 1000.0);
        *self.answers.at(attempt.now / 1_000_000).by_status.of(&status) += 1;
        self.retries.attempt(attempt);
    }

    pub(crate) fn batch(&mut self, batch: &Batch<'_>) {
        let answers = self.answers.at(batch.now / 1_000_000);
        answers.frames += batch.frames.len() as u64;
        answers.bytes += batch.body.len() as u64;
        answers.wire_bytes += batch.headers.wire_bytes;
        self.batches.add(batch.frames.len() as u64);
        self.too_long += u64::from(batch.error.is_some_and(|error| error.kind == ParseErrorKind::Long));
        self.conformance.batch(batch);
    }

    /// What connections bring about that belong to a drain; without a request they belong to none.
    pub(crate) fn connection(&mut self, token: Option<&str>, is_platform: bool) -> &mut Connections {
        match token {
            Some(token) => self.connections.of(&label(token, is_platform)),
            None => self.connections.of("(no request)"),
        }
    }
}
