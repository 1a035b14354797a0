//! Medians, percentiles, and the `key=value` lines that the processes exchange.

use std::collections::BTreeMap;
use std::fmt;

use crate::Result;

/// The value at `share` (0 to 1) of sorted values; 0 if there are none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

/// The median of `values`; for an even number of values the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[half]),
        _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
    }
}

/// The number of values, their p50, p99, p99.9 and maximum, in the unit of the values.
pub(crate) struct Percentiles {
    count: usize,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Percentiles {
    /// Computes the percentiles; sorts `values`.
    pub(crate) fn of(values: &mut [f64]) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self {
            count: values.len(),
            p50: quantile(values, 0.5),
            p99: quantile(values, 0.99),
            p999: quantile(values, 0.999),
            max: quantile(values, 1.0),
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p99, p999, max } = self;
        write!(f, "count={count}\np50={p50}\np99={p99}\np999={p999}\nmax={max}\n")
    }
}

/// Figures that another process reported as `key=value`, separated by white space.
pub(crate) struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Parses `text`, which must consist of `key=number` pairs.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let figure = |pair: &str| -> Result<(String, f64)> {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("not key=value: {pair}"))?;
            Ok((key.to_owned(), value.parse()?))
        };
        Ok(Self(text.split_whitespace().map(figure).collect::<Result<_>>()?))
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Result<f64> {
        self.0.get(key).copied().ok_or_else(|| format!("no {key} in the report").into())
    }
}
