//! Maps whose keys come from received data, and whose size is bounded.

use super::Merge;
use serde::Serialize;
use std::collections::BTreeMap;

/// The key under which everything beyond the maximum number of keys is counted.
pub(crate) const OTHER: &str = "(other)";

/// Most bytes of a key; longer keys are truncated.
const MAX_KEY_BYTES: usize = 300;

/// A map with at most `MAX` keys and `(other)`, under which further keys are counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct BoundedMap<V, const MAX: usize = 200>(BTreeMap<String, V>);

impl<V, const MAX: usize> Default for BoundedMap<V, MAX> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V: Default, const MAX: usize> BoundedMap<V, MAX> {
    /// The value of `name`, or of `(other)` when the map is full.
    #[expect(clippy::missing_panics_doc, reason = "the key is present")]
    pub fn entry(&mut self, name: &str) -> &mut V {
        let name = &name[..name.floor_char_boundary(MAX_KEY_BYTES)];
        let name = if self.0.contains_key(name) || self.0.len() < MAX { name } else { OTHER };
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), V::default());
        }
        self.0.get_mut(name).expect("the key was inserted if it was missing")
    }
}

impl<V: Merge, const MAX: usize> Merge for BoundedMap<V, MAX> {
    fn merge(&mut self, other: Self) {
        for (name, value) in other.0 {
            self.entry(&name).merge(value);
        }
    }
}

impl<V, const MAX: usize> std::ops::Deref for BoundedMap<V, MAX> {
    type Target = BTreeMap<String, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bounded_in_number_and_length() {
        let mut names = BoundedMap::<u64, 2>::default();
        for name in ["a", "b", "c", "a", "d"] {
            *names.entry(name) += 1;
        }
        let found: Vec<_> = names.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, [(OTHER, 2), ("a", 2), ("b", 1)]);
        let mut more = BoundedMap::<u64, 2>::default();
        *more.entry("z") += 3;
        names.merge(more);
        assert_eq!(names[OTHER], 5);
        let mut long = BoundedMap::<u64, 2>::default();
        *long.entry(&"\u{e9}".repeat(1000)) += 1;
        assert_eq!(long.keys().map(String::len).max(), Some(MAX_KEY_BYTES));
    }
}
