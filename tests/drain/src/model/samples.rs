//! Sample lines: memory, load, and whatever else a dyno measures of itself.

use super::kind::pairs;
use crate::measure::{Mean, Names, Peak, Series};
use serde::Serialize;

/// One metric of one dyno.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Metric {
    /// What stands behind the number: `MB`, `pages`, nothing.
    pub unit: String,
    /// The last value.
    pub now: f64,
    /// The average of all values.
    pub average: Option<f64>,
    /// The largest.
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

/// One dyno, by its `source=`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Source {
    /// `dyno=`: changes with each restart.
    pub dyno: String,
    /// Sample lines.
    pub samples: u64,
    /// When the last one came, in s since the Unix epoch.
    pub last: u64,
    /// `memory_total` (rss, cache and swap) in percent of the quota: above 100 the platform says R14.
    pub quota_percent: Option<Metric>,
    /// By name, as behind `sample#`.
    pub metrics: Names<Metric, 32>,
}

impl Source {
    /// The last value of a metric.
    pub fn now(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric).map(|metric| metric.now)
    }
}

/// All dynos that measure themselves.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Samples {
    /// Sample lines.
    pub lines: u64,
    /// Those that the platform does not have.
    pub more: u64,
    /// Dynos with a sample in the minute before.
    pub over_time: Series<Peak>,
    /// By `source=`.
    pub by_source: Names<Source, 100>,
    #[serde(skip)]
    second: u64,
}

/// A dyno is there when it measured itself within so many seconds.
pub const CURRENT: u64 = 60;

impl Samples {
    /// Dynos that are there at `now`, in s since the Unix epoch.
    pub fn current(&self, now: u64) -> u64 {
        self.by_source.values().filter(|source| source.last + CURRENT >= now).count() as u64
    }

    /// Something came: the moment to count who is there.
    pub(crate) fn tick(&mut self, now: u64) {
        if self.second != now && !self.by_source.is_empty() {
            self.second = now;
            self.mark(now);
        }
    }

    fn mark(&mut self, now: u64) {
        let current = self.current(now);
        let peak = self.over_time.at(now);
        peak.0 = peak.0.max(Some(current));
    }

    pub(crate) fn add(&mut self, message: &str, is_more: bool, second: u64, now: u64) {
        let mut pairs = pairs(message);
        let Some(("source", name)) = pairs.next() else { return };
        self.lines += 1;
        self.more += u64::from(is_more);
        let source = self.by_source.of(name);
        source.samples += 1;
        let is_back = source.last + CURRENT < now;
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
            let metric = source.metrics.of(name);
            value[end..].clone_into(&mut metric.unit);
            metric.add(number, second);
        }
        if message.contains(" sample#memory_total=")
            && let Some((total, quota)) = source.now("memory_total").zip(source.now("memory_quota"))
            && quota > 0.0
        {
            source.quota_percent.get_or_insert_default().add(total / quota * 100.0, second);
        }
        if is_back {
            self.mark(now);
        }
    }
}
