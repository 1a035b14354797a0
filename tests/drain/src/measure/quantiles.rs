//! Percentiles in bounded memory.

use super::{Mean, Merge};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Percentiles of values from 0 on, in 6 KiB at most: the cells are exact below 64, and above at most 1/32 of the value
/// wide. Serialized as `{count, mean, p50, p95, p99, max}`; without a value all but `count` are null.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantiles {
    cells: Vec<u32>,
    mean: Mean,
    max: f64,
}

/// The precision, for readers of the page.
pub(crate) const EXACTNESS: &str =
    "Percentiles are those of whole milliseconds, exact below 64 and at most 1/32 low above.";

/// 2^5 cells per power of two.
const CELL_BITS: u32 = 5;

fn cell(value: f64) -> usize {
    let value = value.clamp(0.0, 1e15) as u64;
    let power = (value | 1).ilog2();
    let shift = power.saturating_sub(CELL_BITS);
    ((u64::from(shift) << CELL_BITS) + (value >> shift)) as usize
}

fn lower_bound(cell: usize) -> f64 {
    let shift = (cell >> CELL_BITS).saturating_sub(1);
    ((cell - (shift << CELL_BITS)) as u64 * (1 << shift)) as f64
}

impl Quantiles {
    /// Adds a value; a negative one counts as 0.
    pub fn add(&mut self, value: f64) {
        let value = value.max(0.0);
        let cell = cell(value);
        if self.cells.len() <= cell {
            self.cells.resize(cell + 1, 0);
        }
        self.cells[cell] = self.cells[cell].saturating_add(1);
        self.mean.add(value);
        self.max = self.max.max(value);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.mean.count()
    }

    /// The mean; 0 without a value.
    pub fn mean(&self) -> f64 {
        self.mean.get().unwrap_or_default()
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The quantile at `share` (0.5: the median), rounded down to its cell; 0 without a value.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (self.count() as f64 * share) as u64;
        let mut below = 0;
        let found = self.cells.iter().position(|count| {
            below += u64::from(*count);
            below > rank
        });
        found.map_or(self.max, lower_bound).min(self.max)
    }
}

impl Merge for Quantiles {
    fn merge(&mut self, other: Self) {
        self.cells.resize(self.cells.len().max(other.cells.len()), 0);
        for (mine, theirs) in self.cells.iter_mut().zip(&other.cells) {
            *mine = mine.saturating_add(*theirs);
        }
        self.mean.merge(other.mean);
        self.max = self.max.max(other.max);
    }
}

impl Serialize for Quantiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = |value: f64| (self.count() > 0).then_some(value);
        let mut out = serializer.serialize_struct("Quantiles", 6)?;
        out.serialize_field("count", &self.count())?;
        out.serialize_field("mean", &self.mean.get())?;
        out.serialize_field("p50", &known(self.quantile(0.5)))?;
        out.serialize_field("p95", &known(self.quantile(0.95)))?;
        out.serialize_field("p99", &known(self.quantile(0.99)))?;
        out.serialize_field("max", &known(self.max))?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_below_64_and_close_above() {
        let mut quantiles = Quantiles::default();
        for value in 0..=20 {
            quantiles.add(f64::from(value));
        }
        assert_eq!((quantiles.quantile(0.5), quantiles.quantile(0.95), quantiles.max()), (10.0, 19.0, 20.0));
        for value in [63.0, 64.0, 65.0, 100.0, 1000.0, 30001.0, 1e9] {
            let mut one = Quantiles::default();
            one.add(value);
            let found = one.quantile(0.5);
            assert!(found <= value && found >= value * 31.0 / 32.0, "{value}: {found}");
        }
    }

    #[test]
    fn merged_quantiles_equal_those_of_all_values() {
        let (mut one, mut other, mut both) =
            (Quantiles::default(), Quantiles::default(), Quantiles::default());
        for value in 0..500 {
            let value = f64::from(value * value % 1009);
            both.add(value);
            (if value < 300.0 { &mut one } else { &mut other }).add(value);
        }
        one.merge(other);
        assert_eq!(one, both);
    }
}
