//! Frames that came before, whatever request brought them. Looked for among the lines that are held, by who looks at
//! the page: not where they are received, since it takes a look far into memory for each of them.

use crate::filter::name_of;
use crate::history::Chunk;
use crate::measure::Names;
use crate::server::Shared;
use foldhash::fast::RandomState;
use foldhash::quality::FixedState;
use serde::Serialize;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

/// Frames that are remembered, and for how long, in µs.
const MOST: usize = 250_000;
const LONG: u64 = 600_000_000;

/// What was found so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Found {
    /// Frames that came before, by another request and the same drain.
    pub(crate) by_token: Names<u64, 32>,
    /// The message of the last of them that is none of the platform's drain.
    pub(crate) last: Option<String>,
    /// Frames that were looked at.
    pub(crate) looked_at: u64,
}

/// What is remembered of the last frames: a hash of token, header and message. Times are a dyno's own and go up,
/// so the same frame again is the same line again.
#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    epoch: u64,
    next: u64,
    seen: HashSet<u64, RandomState>,
    order: VecDeque<(u64, u64)>,
    found: Found,
}

impl Duplicates {
    /// Looks at what came since the last time.
    pub(crate) fn look(&mut self, shared: &Shared) -> Found {
        let (chunks, from, platform) = {
            let stats = shared.stats();
            let kept = stats.kept();
            if self.epoch != stats.epoch() {
                *self = Self { epoch: stats.epoch(), ..Self::default() };
            }
            let from = self.next.max(kept.first());
            self.next = kept.next();
            (kept.since(from), from, stats.platform().map(str::to_owned))
        };
        for chunk in chunks {
            self.chunk(&chunk, from, platform.as_deref() == Some(&chunk.token));
        }
        self.found.clone()
    }

    fn chunk(&mut self, chunk: &Chunk, from: u64, is_platform: bool) {
        for line in chunk.first.max(from)..chunk.end() {
            let Some(bytes) = chunk.bytes_of(line) else { continue };
            self.found.looked_at += 1;
            if self.is_repeated(&chunk.token, bytes, chunk.at) {
                *self.found.by_token.of(name_of(&chunk.token)) += 1;
                if let Some((frame, _)) = chunk.get(line).filter(|_| !is_platform) {
                    self.found.last = Some(frame.msg.chars().take(200).collect());
                }
            }
        }
    }

    /// Whether a frame came before; it is remembered.
    fn is_repeated(&mut self, token: &str, raw: &[u8], now: u64) -> bool {
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
        let mut repeats = Duplicates::default();
        let minute = 60_000_000;
        let found = [("a", 0), ("b", 0), ("a", 9), ("a", 11), ("a", 12)]
            .map(|(token, at)| repeats.is_repeated(token, b"frame", at * minute));
        assert_eq!(found, [false, false, true, false, true]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut repeats = Duplicates::default();
        for number in 0..MOST as u64 + 10 {
            assert!(!repeats.is_repeated("", &number.to_le_bytes(), 0));
        }
        assert_eq!((repeats.seen.len(), repeats.order.len()), (MOST, MOST));
        assert!(!repeats.is_repeated("", &0u64.to_le_bytes(), 0));
    }
}
