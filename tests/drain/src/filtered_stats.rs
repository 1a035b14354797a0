//! Counts of the lines that pass a filter. They are made from the history when the page is rendered, not when lines
//! are received.

use crate::filter::Filter;
use crate::model::ReceivedFrame;
use crate::server::Shared;
use crate::stats::{Snapshot, Stats};
use serde::Serialize;

/// Filters whose counts are cached; the least recently used is evicted.
const MAX_FILTERS: usize = 4;

/// The cached counts, the most recently used last.
#[derive(Debug, Default)]
pub(crate) struct FilteredStats(Vec<FilterState>);

#[derive(Debug)]
struct FilterState {
    filter: Filter,
    epoch: u64,
    /// The number of the first line that was not inspected.
    next: u64,
    coverage: Coverage,
    stats: Stats,
}

/// The lines from which the counts were made.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Coverage {
    /// Arrival of the oldest inspected line, in s since the Unix epoch.
    pub(crate) since: Option<u64>,
    /// Inspected lines.
    #[serde(rename = "looked_at")]
    pub(crate) inspected: u64,
    /// Lines that passed the filter.
    pub(crate) lines: u64,
}

impl FilteredStats {
    /// The snapshot of what passes `filter`, up to the last line that was received.
    pub(crate) fn update(&mut self, shared: &Shared, filter: &Filter) -> (Snapshot, Coverage) {
        let found = self.0.iter().position(|cached| cached.filter == *filter);
        let found = found.map(|index| self.0.remove(index));
        let (mut cached, chunks, first) = {
            let stats = shared.stats();
            let (history, epoch) = (stats.history(), stats.epoch());
            let is_usable = |cached: &FilterState| cached.epoch == epoch && cached.next >= history.first();
            let mut cached = found.filter(is_usable).unwrap_or_else(|| FilterState {
                filter: filter.clone(),
                epoch,
                next: history.first(),
                coverage: Coverage::default(),
                // A filter by drain shows everything that came by it, even if another drain brought it too.
                stats: Stats::new(&[], 0).with_model().with_platform_drain(
                    stats.platform().filter(|_| filter.token.is_empty()).map(str::to_owned),
                ),
            });
            let chunks = history.since(cached.next);
            let first = cached.next;
            cached.next = history.next();
            (cached, chunks, first)
        };
        for chunk in chunks {
            let inside = chunk.first.max(first)..chunk.end();
            cached.coverage.since.get_or_insert(chunk.at / 1_000_000);
            cached.coverage.inspected += chunk.end() - inside.start;
            if !filter.passes_token(&chunk.token) {
                continue;
            }
            let frames = inside.filter_map(|line| chunk.get(line));
            let passing = frames.filter(|(frame, _)| filter.passes_frame(frame));
            let received: Vec<_> = passing.map(|(frame, raw)| ReceivedFrame::new(frame, raw)).collect();
            cached.coverage.lines += received.len() as u64;
            if !received.is_empty() {
                cached.stats.count(chunk.at, &chunk.token, &received, chunk.loss_notices);
            }
        }
        let counts = (cached.stats.snapshot(), cached.coverage);
        self.0.push(cached);
        if self.0.len() > MAX_FILTERS {
            self.0.remove(0);
        }
        counts
    }
}
