//! Sample lines: memory, load, and whatever else a dyno measures of itself.

use super::kind::pairs;
use super::measure::{Mean, Names, Series};
use serde::Serialize;

/// One metric of one dyno.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Metric {
    /// What stands behind the number: `MB`, `pages`, nothing.
    pub unit: String,
    /// The last value.
    pub now: f64,
    /// All values.
    pub mean: Mean,
    /// The largest.
    pub max: f64,
    /// Over time.
    pub over_time: Series<Mean>,
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
    /// `memory_total` (rss, cache and swap) as a share of the quota, in percent: above 100 the platform says R14.
    pub quota_percent: Option<f64>,
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
    /// Dynos that measured themselves within the minute before the last sample line.
    pub current: usize,
    /// By `source=`.
    pub by_source: Names<Source, 100>,
}

/// A dyno is there when it measured itself within so many seconds.
pub const CURRENT: u64 = 60;

impl Samples {
    pub(crate) fn add(&mut self, message: &str, is_more: bool, second: u64, now: u64) {
        let mut pairs = pairs(message);
        let Some(("source", name)) = pairs.next() else { return };
        self.lines += 1;
        self.more += u64::from(is_more);
        let source = self.by_source.of(name);
        source.samples += 1;
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
            metric.now = number;
            metric.max = metric.max.max(number);
            metric.mean.add(number);
            metric.over_time.at(second).add(number);
        }
        let quota = source.now("memory_quota").filter(|quota| *quota > 0.0);
        source.quota_percent = quota.and_then(|quota| Some(source.now("memory_total")? / quota * 100.0));
        self.current = self.by_source.values().filter(|source| source.last + CURRENT >= now).count();
    }
}
