//! Time series in bounded memory.

use super::Merge;
use serde::Serialize;

/// A time series of at most 120 buckets. When a further one is needed, neighbours are merged in pairs and the width
/// doubles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series<T> {
    /// Start of the first bucket, in s since the Unix epoch.
    pub start: u64,
    /// Width of a bucket, in s.
    pub width: u64,
    /// Buckets, from old to new.
    pub buckets: Vec<T>,
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self { start: 0, width: 1, buckets: Vec::new() }
    }
}

impl<T: Merge> Series<T> {
    const MAX_BUCKETS: u64 = 120;

    /// The bucket of a time in s since the Unix epoch; earlier times belong to the first one.
    pub fn at(&mut self, second: u64) -> &mut T {
        if self.buckets.is_empty() {
            self.start = second;
        }
        let offset = second.saturating_sub(self.start);
        while offset / self.width >= Self::MAX_BUCKETS {
            self.merge_pairs();
        }
        let index = (offset / self.width) as usize;
        if self.buckets.len() <= index {
            self.buckets.resize_with(index + 1, T::default);
        }
        &mut self.buckets[index]
    }

    fn merge_pairs(&mut self) {
        self.width *= 2;
        let mut old = std::mem::take(&mut self.buckets).into_iter();
        while let Some(mut bucket) = old.next() {
            if let Some(next) = old.next() {
                bucket.merge(next);
            }
            self.buckets.push(bucket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let mut series = Series::<u64>::default();
        for second in 1000..1600 {
            *series.at(second) += 1;
        }
        *series.at(5) += 1;
        assert_eq!((series.width, series.buckets.iter().sum::<u64>()), (8, 601));
        assert!(series.buckets.len() <= 120 && (series.start, series.buckets[0]) == (1000, 9));
    }
}
