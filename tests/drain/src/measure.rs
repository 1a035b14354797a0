//! Counters in bounded memory: quantiles, histograms, time series, bounded maps.

mod bounded_map;
mod histogram;
mod quantiles;
mod series;

pub use bounded_map::BoundedMap;
pub(crate) use bounded_map::OTHER;
pub use histogram::Histogram;
pub(crate) use quantiles::EXACTNESS;
pub use quantiles::Quantiles;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
pub use series::Series;
use std::collections::BTreeMap;

/// Counters that can be merged.
pub trait Merge: Default {
    /// Adds the counts of `other`.
    fn merge(&mut self, other: Self);
}

impl Merge for u64 {
    fn merge(&mut self, other: Self) {
        *self += other;
    }
}

impl<K: Ord, V: Merge> Merge for BTreeMap<K, V> {
    fn merge(&mut self, other: Self) {
        for (key, value) in other {
            self.entry(key).or_default().merge(value);
        }
    }
}

/// Sum and count. Serialized as `{count, mean}`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean; `None` without a value.
    pub fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Merge for Mean {
    fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }
}

impl Serialize for Mean {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Mean", 2)?;
        out.serialize_field("count", &self.count)?;
        out.serialize_field("mean", &self.get())?;
        out.end()
    }
}

/// The largest of some values; `None` without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Peak(pub Option<u64>);

impl Merge for Peak {
    fn merge(&mut self, other: Self) {
        self.0 = self.0.max(other.0);
    }
}

/// Part of a whole. Serialized as `{all, part, percent}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The whole.
    pub all: u64,
    /// The part.
    pub part: u64,
}

impl Share {
    /// Counts one, which belongs to the part or not.
    pub fn add(&mut self, is_part: bool) {
        self.all += 1;
        self.part += u64::from(is_part);
    }
}

impl Merge for Share {
    fn merge(&mut self, other: Self) {
        self.all += other.all;
        self.part += other.part;
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Share", 3)?;
        out.serialize_field("all", &self.all)?;
        out.serialize_field("part", &self.part)?;
        let percent = (self.all > 0).then(|| self.part as f64 / self.all as f64 * 100.0);
        out.serialize_field("percent", &percent)?;
        out.end()
    }
}

/// Internal state of a counter, of which a snapshot does not need a copy: the clone is empty.
#[derive(Debug, Default)]
pub(crate) struct SkipClone<T>(pub(crate) T);

impl<T: Default> Clone for SkipClone<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_without_a_value_are_null() {
        let json = serde_json::to_value((Mean::default(), Peak::default(), Share::default()));
        let json = json.expect("is JSON").to_string();
        assert_eq!(json, r#"[{"count":0,"mean":null},null,{"all":0,"part":0,"percent":null}]"#);
        let mut share = Share::default();
        for is_part in [true, false, false, false] {
            share.add(is_part);
        }
        assert_eq!(serde_json::to_value(share).expect("is JSON")["percent"], 25.0);
    }
}
