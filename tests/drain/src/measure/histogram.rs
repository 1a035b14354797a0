//! Histograms with fixed bounds.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

/// Upper bounds for counts: powers of two.
const POWERS: [u64; 21] = {
    let mut bounds = [1; 21];
    let mut power = 1;
    while power < bounds.len() {
        bounds[power] = 1 << power;
        power += 1;
    }
    bounds
};

/// Upper bounds for frame sizes: powers of two and the two limits of receivers.
const SIZES: [u64; 15] =
    [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 10_000, 10_240, 16_384, 32_768, 65_536, u64::MAX];

/// One bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// The upper bound, inclusive.
    pub up_to: u64,
    /// Number of values.
    pub count: u64,
}

/// A histogram. Serialized as its buckets, from the first to the last that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: Vec<u64>,
}

impl Histogram {
    /// A histogram with powers of two as bounds.
    pub fn of_counts() -> Self {
        Self { bounds: &POWERS, counts: vec![0; POWERS.len()] }
    }

    /// A histogram with bounds for frame sizes.
    pub fn of_frame_sizes() -> Self {
        Self { bounds: &SIZES, counts: vec![0; SIZES.len()] }
    }

    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.counts[index.min(self.bounds.len() - 1)] += 1;
    }

    /// The buckets, from the first to the last that is not empty.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        let first = self.counts.iter().position(|count| *count > 0).unwrap_or(self.counts.len());
        let end = self.counts.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
        (first..end).map(|index| Bucket { up_to: self.bounds[index], count: self.counts[index] })
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_seq(None)?;
        for bucket in self.buckets() {
            out.serialize_element(&bucket)?;
        }
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(mut histogram: Histogram, values: &[u64]) -> Vec<(u64, u64)> {
        for value in values {
            histogram.add(*value);
        }
        histogram.buckets().map(|bucket| (bucket.up_to, bucket.count)).collect()
    }

    #[test]
    fn upper_bounds_are_inclusive() {
        assert_eq!(buckets(Histogram::of_counts(), &[1, 3, 4, 5]), [(1, 1), (2, 0), (4, 2), (8, 1)]);
        let limits = [10_000, 10_001, 10_240, 10_241];
        assert_eq!(buckets(Histogram::of_frame_sizes(), &limits), [(10_000, 1), (10_240, 2), (16_384, 1)]);
        assert_eq!(buckets(Histogram::of_counts(), &[]), []);
    }
}
