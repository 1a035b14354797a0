//! Positions in the spool, and the numbers of drains.

use std::fmt;
use std::num::ParseIntError;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

/// A position in the spool: bytes from the beginning of its first segment. Differences are plain byte counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Offset(u64);

impl Offset {
    /// The beginning of the spool.
    pub(crate) const ZERO: Self = Self(0);
    /// Behind every byte: "without a limit".
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// The position so many bytes from the beginning.
    pub(crate) const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes from the beginning.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    /// Bytes from `start` to here; 0 when `start` is behind.
    pub(crate) const fn bytes_since(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

impl Add<u64> for Offset {
    type Output = Self;

    fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl AddAssign<u64> for Offset {
    fn add_assign(&mut self, bytes: u64) {
        self.0 += bytes;
    }
}

impl Sub<u64> for Offset {
    type Output = Self;

    fn sub(self, bytes: u64) -> Self {
        Self(self.0 - bytes)
    }
}

impl Sub for Offset {
    type Output = u64;

    fn sub(self, start: Self) -> u64 {
        self.0 - start.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Offset {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// The number of a drain: its position in `TAILRACE_DRAIN_URL`, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DrainIndex(usize);

impl DrainIndex {
    /// The drain at this position.
    #[cfg(test)]
    pub(crate) const fn new(position: usize) -> Self {
        Self(position)
    }

    /// Its position.
    pub(crate) const fn get(self) -> usize {
        self.0
    }

    /// The first `count` drains.
    pub(crate) fn all(count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(Self)
    }
}

impl fmt::Display for DrainIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DrainIndex {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_numbers_of_drains_are_read_back_from_their_text() {
        let offset = Offset::new(42);
        assert_eq!((offset.to_string(), "42".parse()), ("42".to_owned(), Ok(offset)));
        let drain = DrainIndex::all(3).last().expect("three drains");
        assert_eq!((drain.to_string(), "2".parse(), drain.get()), ("2".to_owned(), Ok(drain), 2));
        assert!("-1".parse::<Offset>().is_err() && "x".parse::<DrainIndex>().is_err());
    }

    #[test]
    fn differences_of_offsets_are_bytes() {
        let (start, mut end) = (Offset::new(3), Offset::new(10));
        assert_eq!((end - start, end - 3, start + 4), (7, Offset::new(7), Offset::new(7)));
        assert_eq!((end.bytes_since(start), start.bytes_since(end)), (7, 0));
        end += 2;
        assert_eq!(end, Offset::new(12));
    }
}
