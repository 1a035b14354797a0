//! Delivery health: what no hosted receiver shows.

use super::kind::pairs;
use super::measure::{Merge, Names, Powers, Quantiles, Series};
use super::retries::Retries;
use super::{Attempt, Batch};
use serde::Serialize;
use std::collections::BTreeMap;
use tailrace::frame::{Frame, StampText};

/// Messages of so many bytes were cut by Logplex, or by somebody before it.
const CUT: usize = 10_000;

/// One drain token: one drain of the platform, or one tailrace.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Token {
    /// Frames, those of the agent and the platform included.
    pub frames: u64,
    /// From a frame's stamp to its arrival, in ms.
    pub lag: Quantiles,
    /// Messages of 10,000 bytes or more.
    pub cut: u64,
    /// Loss notices.
    pub notices: u64,
    /// Lines that they announce.
    pub lost: u64,
}

/// What an agent said of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Agent {
    /// `at=start` lines.
    pub starts: u64,
    /// `at=stop` lines.
    pub stops: u64,
    /// The last line.
    pub last: String,
    /// Its pairs.
    pub pairs: BTreeMap<String, String>,
}

/// Requests that ended with one answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answers {
    /// Requests by status; `closed` without an answer.
    pub by_status: BTreeMap<String, u64>,
    /// Frames that were taken.
    pub frames: u64,
    /// Bytes of their bodies, after gzip.
    pub bytes: u64,
}

impl Merge for Answers {
    fn absorb(&mut self, other: Self) {
        self.by_status.absorb(other.by_status);
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Delivery {
    /// From a frame's stamp to its arrival, in ms, over time.
    pub lag: Series<Quantiles>,
    /// Frames whose stamp lies in the future: clock skew.
    pub skewed: u64,
    /// What was answered, over time.
    pub answers: Series<Answers>,
    /// Requests that ended without an answer.
    pub closed: u64,
    /// From the head of a request to its end, in ms.
    pub duration: Quantiles,
    /// Frames per request that was taken.
    pub batches: Powers,
    /// Bytes of frames, LEN and its space included.
    pub frame_sizes: Powers,
    /// The longest frame, in bytes.
    pub longest: u64,
    /// Frames of more than 10,240 bytes, as LEN says.
    pub too_long: u64,
    /// Requests that came more than once.
    pub retries: Retries,
    /// By drain token.
    pub tokens: Names<Token, 32>,
    /// tailrace's own words, by PROCID.
    pub agents: Names<Agent, 100>,
}

impl Delivery {
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>) {
        let status = attempt.status.map_or_else(|| "closed".to_owned(), |status| status.to_string());
        self.closed += u64::from(attempt.status.is_none());
        self.duration.add(attempt.took.as_secs_f64() * 1000.0);
        *self.answers.at(attempt.now / 1_000_000).by_status.entry(status).or_default() += 1;
        self.retries.attempt(attempt);
    }

    pub(crate) fn batch(&mut self, batch: &Batch<'_>) {
        let answers = self.answers.at(batch.now / 1_000_000);
        answers.frames += batch.frames.len() as u64;
        answers.bytes += batch.body.len() as u64;
        self.batches.add(batch.frames.len() as u64);
        self.too_long += u64::from(batch.error.is_some_and(|error| error.contains("longer than")));
        let lags = self.lag.at(batch.now / 1_000_000);
        for frame in batch.frames {
            self.frame_sizes.add(frame.total as u64);
            self.longest = self.longest.max(frame.total as u64);
            if let Some(sent) = StampText::read(frame.time) {
                self.skewed += u64::from(sent > batch.now);
                lags.add(batch.now.saturating_sub(sent) as f64 / 1000.0);
            }
        }
        self.token(batch);
    }

    /// What this drain does, beside the others.
    pub(crate) fn token(&mut self, batch: &Batch<'_>) {
        let token = self.tokens.of(if batch.token.is_empty() { "(none)" } else { batch.token });
        token.frames += batch.frames.len() as u64;
        for frame in batch.frames {
            token.cut += u64::from(frame.msg.len() >= CUT);
            if let Some(sent) = StampText::read(frame.time) {
                token.lag.add(batch.now.saturating_sub(sent) as f64 / 1000.0);
            }
        }
    }

    pub(crate) fn notice(&mut self, token: &str, lines: u64) {
        let token = self.tokens.of(if token.is_empty() { "(none)" } else { token });
        token.notices += 1;
        token.lost += lines;
    }

    pub(crate) fn agent(&mut self, frame: &Frame<'_>) {
        let agent = self.agents.of(frame.proc_id);
        agent.starts += u64::from(frame.msg.starts_with("at=start"));
        agent.stops += u64::from(frame.msg.starts_with("at=stop"));
        frame.msg.clone_into(&mut agent.last);
        agent.pairs = pairs(frame.msg).take(32).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    }
}
