//! Maps by names that strangers choose.

use super::Merge;
use serde::Serialize;
use std::collections::BTreeMap;

/// Where what comes after the first so many names is counted.
pub(crate) const OTHER: &str = "(other)";

/// Bytes of a name; what is longer counts under its beginning.
const LONG: usize = 300;

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
        let name = &name[..name.floor_char_boundary(LONG)];
        let name = if self.0.contains_key(name) || self.0.len() < MOST { name } else { OTHER };
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), V::default());
        }
        self.0.get_mut(name).expect("it is there: it was looked for and, if need be, put in")
    }
}

impl<V: Merge, const MOST: usize> Merge for Names<V, MOST> {
    fn absorb(&mut self, other: Self) {
        for (name, value) in other.0 {
            self.of(&name).absorb(value);
        }
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
    fn they_are_bounded() {
        let mut names = Names::<u64, 2>::default();
        for name in ["a", "b", "c", "a", "d"] {
            *names.of(name) += 1;
        }
        let found: Vec<_> = names.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, [(OTHER, 2), ("a", 2), ("b", 1)]);
        let mut more = Names::<u64, 2>::default();
        *more.of("z") += 3;
        names.absorb(more);
        assert_eq!(names[OTHER], 5);
        let mut long = Names::<u64, 2>::default();
        *long.of(&"\u{e9}".repeat(1000)) += 1;
        assert_eq!(long.keys().map(String::len).max(), Some(LONG));
    }
}
