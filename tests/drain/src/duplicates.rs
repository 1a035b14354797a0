//! Duplicate frames: frames with the token and the bytes of an earlier one, in whatever request. They are searched in
//! the history when the page is rendered, not when they are received: each search costs a cache miss.

use crate::filter::name_of;
use crate::history::Chunk;
use crate::measure::BoundedMap;
use crate::model::DrainKind;
use crate::server::Shared;
use foldhash::fast::RandomState;
use foldhash::quality::FixedState;
use serde::Serialize;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

/// Most frames that are remembered.
const MAX_FRAMES: usize = 250_000;
/// How long a frame is remembered, in µs.
const MAX_AGE: u64 = 600_000_000;

/// The duplicates so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct DuplicateCounts {
    /// Duplicates by drain token.
    pub(crate) by_token: BoundedMap<u64, 32>,
    /// The message of the last one that came by another drain than the platform's.
    pub(crate) last: Option<String>,
    /// Frames that were inspected.
    pub(crate) inspected: u64,
}

/// Finds duplicates by a hash of token and frame. The timestamps of a dyno increase, so equal frames are the same line.
#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    epoch: u64,
    next: u64,
    seen: HashSet<u64, RandomState>,
    /// Time of arrival and hash, from old to new.
    order: VecDeque<(u64, u64)>,
    counts: DuplicateCounts,
}

impl Duplicates {
    /// Searches the lines since the last call.
    pub(crate) fn update(&mut self, shared: &Shared) -> DuplicateCounts {
        let (chunks, from, platform) = {
            let stats = shared.stats();
            let history = stats.history();
            if self.epoch != stats.epoch() {
                *self = Self { epoch: stats.epoch(), ..Self::default() };
            }
            let from = self.next.max(history.first());
            self.next = history.next();
            (history.since(from), from, stats.platform().map(str::to_owned))
        };
        for chunk in chunks {
            let is_platform = platform.as_deref() == Some(&chunk.token);
            self.search(&chunk, from, if is_platform { DrainKind::Platform } else { DrainKind::Agent });
        }
        self.counts.clone()
    }

    fn search(&mut self, chunk: &Chunk, from: u64, drain: DrainKind) {
        for line in chunk.first.max(from)..chunk.end() {
            let Some(bytes) = chunk.bytes_of(line) else { continue };
            self.counts.inspected += 1;
            if self.is_duplicate(&chunk.token, bytes, chunk.at) {
                *self.counts.by_token.entry(name_of(&chunk.token)) += 1;
                if let Some((frame, _)) = chunk.get(line).filter(|_| drain == DrainKind::Agent) {
                    self.counts.last = Some(frame.msg.chars().take(200).collect());
                }
            }
        }
    }

    /// Whether a frame is a duplicate; if not, it is remembered.
    fn is_duplicate(&mut self, token: &str, raw: &[u8], now: u64) -> bool {
        while let Some((at, oldest)) = self.order.front()
            && (self.order.len() >= MAX_FRAMES || at + MAX_AGE < now)
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
    fn frames_are_remembered_for_ten_minutes() {
        let mut duplicates = Duplicates::default();
        let minute = 60_000_000;
        let found = [("a", 0), ("b", 0), ("a", 9), ("a", 11), ("a", 12)]
            .map(|(token, at)| duplicates.is_duplicate(token, b"frame", at * minute));
        assert_eq!(found, [false, false, true, false, true]);
    }

    #[test]
    fn the_oldest_frames_are_evicted() {
        let mut duplicates = Duplicates::default();
        for number in 0..MAX_FRAMES as u64 + 10 {
            assert!(!duplicates.is_duplicate("", &number.to_le_bytes(), 0));
        }
        assert_eq!((duplicates.seen.len(), duplicates.order.len()), (MAX_FRAMES, MAX_FRAMES));
        assert!(!duplicates.is_duplicate("", &0u64.to_le_bytes(), 0));
    }
}
