//! Counters over time.

use super::Merge;
use serde::Serialize;

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_time_stands_in_few_buckets() {
        let mut series = Series::<u64>::default();
        for second in 1000..1600 {
            *series.at(second) += 1;
        }
        *series.at(5) += 1;
        assert_eq!((series.width, series.buckets.iter().sum::<u64>()), (8, 601));
        assert!(series.buckets.len() <= 120 && (series.start, series.buckets[0]) == (1000, 9));
    }
}
