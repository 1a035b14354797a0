//! What panels are made of, each in bounded memory: quantiles, histograms, series over time, bounded maps.

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Counters that can be added up.
pub trait Merge: Default {
    /// Adds `other`.
    fn absorb(&mut self, other: Self);
}

impl Merge for u64 {
    fn absorb(&mut self, other: Self) {
        *self += other;
    }
}

impl<K: Ord, V: Merge> Merge for BTreeMap<K, V> {
    fn absorb(&mut self, other: Self) {
        for (key, value) in other {
            self.entry(key).or_default().absorb(value);
        }
    }
}

/// Sum and count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Mean {
    /// Sum of the values.
    pub sum: f64,
    /// Number of values.
    pub count: u64,
}

impl Mean {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// The mean; `None` without a value.
    pub fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Merge for Mean {
    fn absorb(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }
}

/// Values from 0 on, counted in cells that are exact below 32 and at most 1/16 wide above: percentiles of any
/// number of values in 4 KiB at most. Serialized as `{count, mean, p50, p95, p99, max}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantiles {
    cells: Vec<u32>,
    mean: Mean,
    max: f64,
}

const FINE: u32 = 4; // 2^4 cells per power of two

fn cell(value: f64) -> usize {
    let value = value.clamp(0.0, 1e15) as u64;
    let power = (value | 1).ilog2();
    let shift = power.saturating_sub(FINE);
    ((u64::from(shift) << FINE) + (value >> shift)) as usize
}

fn lower_bound(cell: usize) -> f64 {
    let shift = (cell >> FINE).saturating_sub(1);
    ((cell - (shift << FINE)) as u64 * (1 << shift)) as f64
}

impl Quantiles {
    /// Adds a value; below 0 counts as 0.
    pub fn add(&mut self, value: f64) {
        let cell = cell(value);
        if self.cells.len() <= cell {
            self.cells.resize(cell + 1, 0);
        }
        self.cells[cell] = self.cells[cell].saturating_add(1);
        self.mean.add(value.max(0.0));
        self.max = self.max.max(value);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.mean.count
    }

    /// The mean; 0 without a value.
    pub fn mean(&self) -> f64 {
        self.mean.get().unwrap_or_default()
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The value below which this share of all lies, rounded down to its cell; 0 without a value.
    pub fn at(&self, share: f64) -> f64 {
        let rank = (self.mean.count as f64 * share) as u64;
        let mut seen = 0;
        let found = self.cells.iter().position(|count| {
            seen += u64::from(*count);
            seen > rank
        });
        found.map_or(self.max, lower_bound).min(self.max)
    }
}

impl Merge for Quantiles {
    fn absorb(&mut self, other: Self) {
        self.cells.resize(self.cells.len().max(other.cells.len()), 0);
        for (mine, theirs) in self.cells.iter_mut().zip(&other.cells) {
            *mine = mine.saturating_add(*theirs);
        }
        self.mean.absorb(other.mean);
        self.max = self.max.max(other.max);
    }
}

impl Serialize for Quantiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Quantiles", 6)?;
        out.serialize_field("count", &self.count())?;
        out.serialize_field("mean", &self.mean())?;
        out.serialize_field("p50", &self.at(0.5))?;
        out.serialize_field("p95", &self.at(0.95))?;
        out.serialize_field("p99", &self.at(0.99))?;
        out.serialize_field("max", &self.max)?;
        out.end()
    }
}

/// A histogram by powers of two: step `n` counts values from 2^(n-1)+1 to 2^n.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Powers([u64; 24]);

impl Powers {
    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        let step = value.max(1).next_power_of_two().ilog2() as usize;
        self.0[step.min(self.0.len() - 1)] += 1;
    }

    /// Upper bound and count of each step, from the first to the last that has any.
    pub fn steps(&self) -> Vec<(u64, u64)> {
        let first = self.0.iter().position(|count| *count > 0);
        let last = self.0.iter().rposition(|count| *count > 0);
        let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
        (first..=last).map(|step| (1 << step, self.0[step])).collect()
    }
}

impl Serialize for Powers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let steps = self.steps();
        let mut out = serializer.serialize_map(Some(steps.len()))?;
        for (bound, count) in steps {
            out.serialize_entry(&bound, &count)?;
        }
        out.end()
    }
}

/// Buckets over the whole time, at most 120: when they are full, each two become one of twice the width.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series<T> {
    /// Start of the first bucket, in s since the Unix epoch.
    pub start: u64,
    /// Width of a bucket, in s.
    pub width: u64,
    /// From old to new.
    pub buckets: Vec<T>,
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self { start: 0, width: 1, buckets: Vec::new() }
    }
}

impl<T: Merge> Series<T> {
    const MOST: u64 = 120;

    /// The bucket of second `at`; times before the first one count for the first one.
    pub fn at(&mut self, at: u64) -> &mut T {
        if self.buckets.is_empty() {
            self.start = at;
        }
        let since = at.saturating_sub(self.start);
        while since / self.width >= Self::MOST {
            self.halve();
        }
        let index = (since / self.width) as usize;
        if self.buckets.len() <= index {
            self.buckets.resize_with(index + 1, T::default);
        }
        &mut self.buckets[index]
    }

    fn halve(&mut self) {
        self.width *= 2;
        let mut old = std::mem::take(&mut self.buckets).into_iter();
        while let Some(mut bucket) = old.next() {
            if let Some(next) = old.next() {
                bucket.absorb(next);
            }
            self.buckets.push(bucket);
        }
    }

    /// Start of each bucket in s since the Unix epoch, and the bucket.
    pub fn points(&self) -> impl Iterator<Item = (u64, &T)> {
        let times = (0..).map(|index| self.start + index * self.width);
        times.zip(&self.buckets)
    }
}

/// A map with at most `MOST` keys; what comes later is counted under `(other)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Names<V, const MOST: usize = 200>(BTreeMap<String, V>);

impl<V, const MOST: usize> Default for Names<V, MOST> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V: Default, const MOST: usize> Names<V, MOST> {
    /// The value of `name`.
    #[expect(clippy::missing_panics_doc, reason = "it cannot")]
    pub fn of(&mut self, name: &str) -> &mut V {
        let name = if self.0.contains_key(name) || self.0.len() < MOST { name } else { "(other)" };
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), V::default());
        }
        self.0.get_mut(name).expect("it is there: it was looked for and, if need be, put in")
    }
}

impl<V, const MOST: usize> std::ops::Deref for Names<V, MOST> {
    type Target = BTreeMap<String, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_below_32_and_close_above() {
        let mut quantiles = Quantiles::default();
        for value in 0..=20 {
            quantiles.add(f64::from(value));
        }
        assert_eq!((quantiles.at(0.5), quantiles.at(0.95), quantiles.max()), (10.0, 19.0, 20.0));
        for value in [31.0, 32.0, 33.0, 100.0, 1000.0, 30001.0, 1e9] {
            let mut one = Quantiles::default();
            one.add(value);
            let found = one.at(0.5);
            assert!(found <= value && found >= value * 15.0 / 16.0, "{value}: {found}");
        }
    }

    #[test]
    fn a_series_keeps_all_of_the_time_in_few_buckets() {
        let mut series = Series::<u64>::default();
        for second in 1000..1600 {
            *series.at(second) += 1;
        }
        *series.at(5) += 1;
        assert_eq!((series.width, series.buckets.iter().sum::<u64>()), (8, 601));
        assert!(series.buckets.len() <= 120 && series.points().next() == Some((1000, &9)));
    }

    #[test]
    fn names_and_powers_are_bounded() {
        let mut names = Names::<u64, 2>::default();
        for name in ["a", "b", "c", "a", "d"] {
            *names.of(name) += 1;
        }
        let found: Vec<_> = names.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, [("(other)", 2), ("a", 2), ("b", 1)]);
        let mut powers = Powers::default();
        for value in [1, 3, 4, 5] {
            powers.add(value);
        }
        assert_eq!(powers.steps(), [(1, 1), (2, 0), (4, 2), (8, 1)]);
    }
}
