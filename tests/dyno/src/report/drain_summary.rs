//! What one drain received: tailrace's, or the platform's own. Both are counted by source, so that they can be compared
//! line by line. Loss notices name no source; they are counted for the whole drain.

use crate::ledger::RunRecord;
use crate::logplex::MessageCounts;
use crate::verdict::Observations;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tailrace_drain::stats::{Lag, Report, Stream};

/// The source of the platform's lines: those of the router, and those about dynos.
const PLATFORM: &str = "heroku";
/// The source of Logplex's notices.
const LOGPLEX: &str = "logplex";

/// What one drain received.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DrainSummary {
    pub(super) drain: &'static str,
    /// Messages that were to arrive; `None` when an output was not passed through.
    pub(super) messages: Option<u64>,
    /// Messages that arrived.
    pub(super) arrived: u64,
    /// Messages that were announced as lost.
    pub(super) announced: u64,
    /// Messages that neither arrived nor were announced; negative when some were announced and arrived nevertheless.
    pub(super) unheard: Option<i64>,
    /// Messages that arrived again in a repeated batch, under its id.
    pub(super) repeats: u64,
    /// Length of the longest message, in bytes.
    pub(super) longest: u64,
    /// The maximum over all sources: percentiles cannot be combined.
    pub(super) lag_ms: Lag,
    pub(super) sources: Vec<SourceSummary>,
}

/// What one drain received from a dyno, or from the platform.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct SourceSummary {
    pub(super) name: String,
    pub(super) messages: Option<u64>,
    pub(super) arrived: u64,
    pub(super) repeats: u64,
    pub(super) longest: u64,
    pub(super) lag_ms: Lag,
}

impl SourceSummary {
    fn new(name: &str, messages: Option<u64>) -> Self {
        Self { name: name.to_owned(), messages, ..Self::default() }
    }

    /// Adds a stream, of which `arrived` messages belong to this source.
    fn add(&mut self, stream: &Stream, arrived: u64) {
        self.arrived += arrived;
        self.repeats += stream.repeats;
        self.longest = self.longest.max(stream.longest);
        self.lag_ms = max_lag(self.lag_ms, stream.lag_ms);
    }
}

fn max_lag(one: Lag, other: Lag) -> Lag {
    Lag {
        p50: one.p50.max(other.p50),
        p95: one.p95.max(other.p95),
        p99: one.p99.max(other.p99),
        max: one.max.max(other.max),
    }
}

/// The summaries of the local drain: tailrace's, then the platform's if there is one.
pub(super) fn summaries(
    observations: &Observations,
    platform_messages: &BTreeMap<String, MessageCounts>,
) -> Vec<DrainSummary> {
    let Some(drain) = &observations.drain else { return Vec::new() };
    let mut summaries = vec![tailrace_drain(observations, drain)];
    if !platform_messages.is_empty() {
        summaries.push(platform_drain(observations, drain, platform_messages));
    }
    summaries
}

fn tailrace_drain(observations: &Observations, drain: &Report) -> DrainSummary {
    let streams: Vec<_> = drain
        .streams
        .iter()
        .filter(|(token, _)| **token != observations.platform_token)
        .flat_map(|(_, by_source)| by_source)
        .collect();
    let runs = || observations.runs.iter().filter(|run| run.ledger.is_some());
    let dynos: BTreeSet<&str> = runs().map(|run| run.dyno.as_str()).collect();
    let sources = dynos.into_iter().map(|dyno| {
        let mut source = SourceSummary::new(dyno, None);
        for (_, stream) in streams.iter().filter(|(name, _)| *name == dyno) {
            source.add(stream, stream.lines);
        }
        source.messages = printed_messages(runs().filter(|run| run.dyno == dyno), source.arrived);
        source
    });
    let announced = streams.iter().map(|(_, stream)| stream.losses.lines).sum();
    DrainSummary::new("tailrace", sources.collect(), announced)
}

/// The messages that these runs printed. The number is uncertain by one for each pause within a line; of the possible
/// numbers, the one nearest to what arrived.
fn printed_messages<'a>(runs: impl Iterator<Item = &'a RunRecord>, arrived: u64) -> Option<u64> {
    let (mut least, mut most) = (0, 0);
    for run in runs {
        let printed = run.printed?;
        least += printed.frames;
        most += printed.frames + printed.stalls;
    }
    Some(arrived.clamp(least, most))
}

fn platform_drain(
    observations: &Observations,
    drain: &Report,
    platform_messages: &BTreeMap<String, MessageCounts>,
) -> DrainSummary {
    let none = BTreeMap::new();
    let streams = drain.streams.get(&observations.platform_token).unwrap_or(&none);
    let mut sources = Vec::new();
    let platform_total = platform_messages.values().map(|counts| counts.platform).sum();
    let mut platform = SourceSummary::new(PLATFORM, Some(platform_total));
    for (name, counts) in platform_messages.iter().filter(|(_, counts)| counts.app > 0) {
        let mut source = SourceSummary::new(name, Some(counts.app));
        if let Some(stream) = streams.get(name) {
            source.add(stream, stream.lines);
        }
        sources.push(source);
    }
    for (name, stream) in streams {
        let platform_frames = stream.system_frames.saturating_sub(stream.losses.notices);
        if platform_messages.get(name).is_some_and(|counts| counts.app > 0) {
            platform.arrived += platform_frames; // the stream's other frames are the app's, and were added above
        } else if name != LOGPLEX {
            platform.add(stream, platform_frames);
        }
    }
    sources.push(platform);
    DrainSummary::new("platform", sources, streams.values().map(|stream| stream.losses.lines).sum())
}

impl DrainSummary {
    fn new(drain: &'static str, sources: Vec<SourceSummary>, announced: u64) -> Self {
        let sum = |field: fn(&SourceSummary) -> u64| sources.iter().map(field).sum::<u64>();
        let messages = sources.iter().map(|source| source.messages).sum::<Option<u64>>();
        let arrived = sum(|source| source.arrived);
        Self {
            drain,
            messages,
            arrived,
            announced,
            unheard: messages.map(|messages| messages as i64 - arrived as i64 - announced as i64),
            repeats: sum(|source| source.repeats),
            longest: sources.iter().map(|source| source.longest).max().unwrap_or_default(),
            lag_ms: sources.iter().map(|source| source.lag_ms).fold(Lag::default(), max_lag),
            sources,
        }
    }

    /// The rows of the table: one per source, then their sum if there are several.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let is_single = self.sources.len() == 1;
        let unknown = || "–".to_owned();
        let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
        let unheard = || self.unheard.map_or_else(unknown, |unheard| unheard.to_string());
        let mut rows: Vec<Vec<String>> = Vec::new();
        for SourceSummary { name, messages, arrived, repeats, longest, lag_ms } in &self.sources {
            let mut row = vec![self.drain.to_owned(), name.clone(), number(*messages), arrived.to_string()];
            row.extend(if is_single {
                [self.announced.to_string(), unheard()]
            } else {
                [unknown(), unknown()]
            });
            row.extend([repeats.to_string(), longest.to_string()]);
            row.extend([lag_ms.p50, lag_ms.p95, lag_ms.max].map(|ms| format!("{ms:.0} ms")));
            rows.push(row);
        }
        if !is_single {
            let counts = [self.arrived, self.announced].map(|count| count.to_string());
            let mut row = vec![self.drain.to_owned(), "all".to_owned(), number(self.messages)];
            row.extend(counts);
            row.extend([unheard(), self.repeats.to_string(), self.longest.to_string()]);
            rows.push(row);
        }
        rows
    }
}
