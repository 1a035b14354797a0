//! Filtered counts: what came from one drain, app or dyno, counted from the lines that are held. Whoever looks pays,
//! not the drain.

use crate::filter::Filter;
use crate::model::Fragment;
use crate::server::Shared;
use crate::stats::{Snapshot, Stats};
use serde::Serialize;

/// Filters whose counts are kept up to date; what was not looked at for longer is counted anew.
const MOST: usize = 4;

/// The filters that were looked through.
#[derive(Debug, Default)]
pub(crate) struct FilteredStats(Vec<FilterState>);

#[derive(Debug)]
struct FilterState {
    filter: Filter,
    epoch: u64,
    /// The number of the first line that it did not look at.
    next: u64,
    counted: Counted,
    stats: Stats,
}

/// What a filter was counted from.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counted {
    /// When the oldest line came that it looked at, in s since the Unix epoch.
    pub(crate) since: Option<u64>,
    /// Lines that it looked at.
    pub(crate) looked_at: u64,
    /// Lines that passed.
    pub(crate) lines: u64,
}

impl FilteredStats {
    /// All that is shown of what passes `filter`.
    pub(crate) fn look(&mut self, shared: &Shared, filter: &Filter) -> (Snapshot, Counted) {
        let known = self.0.iter().position(|lens| lens.filter == *filter);
        let lens = known.map(|index| self.0.remove(index));
        let (mut lens, chunks, first) = {
            let stats = shared.stats();
            let (kept, epoch) = (stats.kept(), stats.epoch());
            let is_up_to_date = |lens: &FilterState| lens.epoch == epoch && lens.next >= kept.first();
            let mut lens = lens.filter(is_up_to_date).unwrap_or_else(|| FilterState {
                filter: filter.clone(),
                epoch,
                next: kept.first(),
                counted: Counted::default(),
                // Who looks at one drain sees all that came by it, also what another drain brought as well.
                stats: Stats::new(&[], 0).with_model().with_platform_drain(
                    stats.platform().filter(|_| filter.token.is_empty()).map(str::to_owned),
                ),
            });
            let chunks = kept.since(lens.next);
            let first = lens.next;
            lens.next = kept.next();
            (lens, chunks, first)
        };
        for chunk in chunks {
            let inside = chunk.first.max(first)..chunk.end();
            lens.counted.since.get_or_insert(chunk.at / 1_000_000);
            lens.counted.looked_at += chunk.end() - inside.start;
            if !filter.takes(&chunk.token) {
                continue;
            }
            let frames = inside.filter_map(|line| chunk.get(line));
            let passing = frames.filter(|(frame, _)| filter.passes(frame));
            let pieces: Vec<_> = passing.map(|(frame, raw)| Fragment::new(frame, raw)).collect();
            lens.counted.lines += pieces.len() as u64;
            if !pieces.is_empty() {
                lens.stats.count(chunk.at, &chunk.token, &pieces, chunk.ignores_losses);
            }
        }
        let seen = (lens.stats.snapshot(), lens.counted);
        self.0.push(lens);
        if self.0.len() > MOST {
            self.0.remove(0);
        }
        seen
    }
}
