//! Sample lines: memory, load and further metrics of a dyno.

use super::kind::{LineKind, pairs};
use crate::measure::{BoundedMap, Mean, Peak, Series};
use serde::Serialize;

/// One metric of one dyno.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Metric {
    /// The suffix of the number: `MB`, `pages` or none.
    pub unit: String,
    /// The last value.
    pub now: f64,
    /// The mean of all values.
    pub average: Option<f64>,
    /// The maximum.
    pub max: f64,
    /// Over time.
    pub over_time: Series<Mean>,
    #[serde(skip)]
    mean: Mean,
}

impl Metric {
    fn add(&mut self, value: f64, second: u64) {
        self.now = value;
        self.max = self.max.max(value);
        self.mean.add(value);
        self.average = self.mean.get();
        self.over_time.at(second).add(value);
    }
}

/// The samples of one `source=`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Source {
    /// `dyno=`, which changes at each restart.
    pub dyno: String,
    /// Sample lines.
    pub samples: u64,
    /// Arrival of the last one, in s since the Unix epoch.
    pub last: u64,
    /// `memory_total` (RSS, cache and swap) in percent of the quota: above 100 the platform logs R14.
    pub quota_percent: Option<Metric>,
    /// Metrics by the name after `sample#`.
    pub metrics: BoundedMap<Metric, 32>,
}

impl Source {
    /// The last value of a metric.
    pub fn now(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric).map(|metric| metric.now)
    }
}

/// Samples of all dynos.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Samples {
    /// Sample lines.
    pub lines: u64,
    /// Of those, lines with metrics that the platform does not log.
    #[serde(rename = "more")]
    pub extra: u64,
    /// Current dynos over time.
    pub over_time: Series<Peak>,
    /// Samples by `source=`.
    pub by_source: BoundedMap<Source, 100>,
    /// The second of the last [`Samples::tick`].
    #[serde(skip)]
    second: u64,
}

/// A dyno is current when its last sample is not older than this, in s.
pub const CURRENT_SECONDS: u64 = 60;

impl Samples {
    /// Number of dynos that are current at `now`, in s since the Unix epoch.
    pub fn current(&self, now: u64) -> u64 {
        self.by_source.values().filter(|source| source.last + CURRENT_SECONDS >= now).count() as u64
    }

    /// Counts the current dynos, once per second.
    pub(crate) fn tick(&mut self, now: u64) {
        if self.second != now && !self.by_source.is_empty() {
            self.second = now;
            self.record_current(now);
        }
    }

    fn record_current(&mut self, now: u64) {
        let current = self.current(now);
        let peak = self.over_time.at(now);
        peak.0 = peak.0.max(Some(current));
    }

    pub(crate) fn add(&mut self, message: &str, kind: LineKind, second: u64, now: u64) {
        let mut pairs = pairs(message);
        let Some(("source", name)) = pairs.next() else { return };
        self.lines += 1;
        self.extra += u64::from(kind == LineKind::Sample);
        let source = self.by_source.entry(name);
        source.samples += 1;
        let is_new = source.last + CURRENT_SECONDS < now;
        source.last = source.last.max(now);
        for (key, value) in pairs {
            let Some(name) = key.strip_prefix("sample#") else {
                if key == "dyno" {
                    value.clone_into(&mut source.dyno);
                }
                continue;
            };
            let end = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
            let Ok(number) = value[..end].parse::<f64>() else { continue };
            let metric = source.metrics.entry(name);
            value[end..].clone_into(&mut metric.unit);
            metric.add(number, second);
        }
        if message.contains(" sample#memory_total=")
            && let Some((total, quota)) = source.now("memory_total").zip(source.now("memory_quota"))
            && quota > 0.0
        {
            source.quota_percent.get_or_insert_default().add(total / quota * 100.0, second);
        }
        if is_new {
            self.record_current(now);
        }
    }
}
