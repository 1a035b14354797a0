//! How many values of which size.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

/// Upper bounds for numbers of things.
const POWERS: [u64; 21] = {
    let mut bounds = [1; 21];
    let mut power = 1;
    while power < bounds.len() {
        bounds[power] = 1 << power;
        power += 1;
    }
    bounds
};

/// Upper bounds for sizes of frames: powers of two, and the two limits of receivers.
const SIZES: [u64; 15] =
    [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 10_000, 10_240, 16_384, 32_768, 65_536, u64::MAX];

/// One step of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The largest value in it.
    pub up_to: u64,
    /// Values.
    pub count: u64,
}

/// A histogram. Serialized as its steps, from the first to the last that has any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: Vec<u64>,
}

impl Histogram {
    /// In steps of powers of two.
    pub fn of_counts() -> Self {
        Self { bounds: &POWERS, counts: vec![0; POWERS.len()] }
    }

    /// In steps for the sizes of frames.
    pub fn of_frame_sizes() -> Self {
        Self { bounds: &SIZES, counts: vec![0; SIZES.len()] }
    }

    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        let step = self.bounds.partition_point(|bound| *bound < value);
        self.counts[step.min(self.bounds.len() - 1)] += 1;
    }

    /// The steps, from the first to the last that has any value.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        let first = self.counts.iter().position(|count| *count > 0).unwrap_or(self.counts.len());
        let end = self.counts.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
        (first..end).map(|step| Step { up_to: self.bounds[step], count: self.counts[step] })
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_seq(None)?;
        for step in self.steps() {
            out.serialize_element(&step)?;
        }
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(mut histogram: Histogram, values: &[u64]) -> Vec<(u64, u64)> {
        for value in values {
            histogram.add(*value);
        }
        histogram.steps().map(|step| (step.up_to, step.count)).collect()
    }

    #[test]
    fn bounds_belong_to_the_step_below_them() {
        assert_eq!(steps(Histogram::of_counts(), &[1, 3, 4, 5]), [(1, 1), (2, 0), (4, 2), (8, 1)]);
        let limits = [10_000, 10_001, 10_240, 10_241];
        assert_eq!(steps(Histogram::of_frame_sizes(), &limits), [(10_000, 1), (10_240, 2), (16_384, 1)]);
        assert_eq!(steps(Histogram::of_counts(), &[]), []);
    }
}
