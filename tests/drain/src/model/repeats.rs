//! Frames that came before, whatever request brought them.

use foldhash::fast::RandomState;
use foldhash::quality::FixedState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

/// Frames that are remembered, and for how long, in µs.
const MOST: usize = 250_000;
const LONG: u64 = 600_000_000;

/// What is remembered of the last frames: a hash of token, header and message. Times are a dyno's own and go up,
/// so the same frame again is the same line again.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    seen: HashSet<u64, RandomState>,
    order: VecDeque<(u64, u64)>,
}

impl Repeats {
    /// Whether a frame came before; it is remembered.
    pub(crate) fn is_repeated(&mut self, token: &str, raw: &[u8], now: u64) -> bool {
        while let Some((at, oldest)) = self.order.front()
            && (self.order.len() >= MOST || at + LONG < now)
        {
            self.seen.remove(oldest);
            self.order.pop_front();
        }
        let hash = FixedState::default().hash_one((token, raw));
        let is_new = self.seen.insert(hash);
        if is_new {
            self.order.push_back((now, hash));
        }
        !is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_known_for_ten_minutes() {
        let mut repeats = Repeats::default();
        let minute = 60_000_000;
        let found = [("a", 0), ("b", 0), ("a", 9), ("a", 11), ("a", 12)]
            .map(|(token, at)| repeats.is_repeated(token, b"frame", at * minute));
        assert_eq!(found, [false, false, true, false, true]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut repeats = Repeats::default();
        for number in 0..MOST as u64 + 10 {
            assert!(!repeats.is_repeated("", &number.to_le_bytes(), 0));
        }
        assert_eq!((repeats.seen.len(), repeats.order.len()), (MOST, MOST));
        assert!(!repeats.is_repeated("", &0u64.to_le_bytes(), 0));
    }
}
