//! What came over one drain from one process: the ground for comparing drains with each other.

use crate::tally::Losses;
use serde::{Deserialize, Serialize};

/// Lags that are kept of a stream for its percentiles.
const LAGS: usize = 1 << 12;

/// Time from a frame's stamp to its arrival, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// Lags in bounded memory: the latest so many, and the longest of all.
#[derive(Clone, Debug)]
pub(crate) struct Lags {
    kept: Vec<f64>,
    room: usize,
    arrivals: usize,
    max: f64,
}

impl Lags {
    pub(crate) fn new(room: usize) -> Self {
        Self { kept: Vec::new(), room, arrivals: 0, max: 0.0 }
    }

    pub(crate) fn add(&mut self, ms: f64) {
        if self.kept.len() < self.room {
            self.kept.push(ms);
        } else {
            self.kept[self.arrivals % self.room] = ms;
        }
        self.arrivals += 1;
        self.max = self.max.max(ms);
    }

    pub(crate) fn summary(&self) -> Lag {
        let mut sorted = self.kept.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let at = |share: f64| {
            sorted.get(((sorted.len() as f64 * share) as usize).min(last)).copied().unwrap_or_default()
        };
        Lag { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: self.max }
    }
}

/// What came with one drain token from one PROCID.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Frames with the PRI of an app's line.
    pub lines: u64,
    /// The others.
    pub own_frames: u64,
    /// Frames that came again with their batch, under its id. They stand in no other count.
    #[serde(default)]
    pub repeats: u64,
    /// Bytes of the longest message.
    pub longest: u64,
    /// Loss notices.
    pub losses: Losses,
    /// Lag.
    pub lag_ms: Lag,
}

/// A stream while it comes in.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    pub(crate) stream: Stream,
    pub(crate) lags: Lags,
}

impl Default for Counter {
    fn default() -> Self {
        Self { stream: Stream::default(), lags: Lags::new(LAGS) }
    }
}

impl Counter {
    pub(crate) fn report(&self) -> Stream {
        Stream { lag_ms: self.lags.summary(), ..self.stream.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_lags_and_the_longest_one_are_kept() {
        let mut lags = Lags::new(10);
        for lag in [500.0].into_iter().chain((1..=20).map(f64::from)) {
            lags.add(lag);
        }
        let summary = lags.summary();
        assert_eq!((summary.p50, summary.max), (16.0, 500.0));
        assert_eq!(Lags::new(10).summary(), Lag::default());
    }
}
