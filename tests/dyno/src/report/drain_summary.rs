//! What came by one way: by tailrace, or by the platform's own drain. Both are counted by source, so that they can be
//! compared line by line; loss notices name no source, and stand at the whole.

use crate::ledger::RunRecord;
use crate::logplex::MessageCounts;
use crate::verdict::Observations;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tailrace_drain::tally::{Lag, Report, Stream};

/// The source of the platform's own lines: of its router, and about dynos.
const PLATFORM: &str = "heroku";
/// The source of Logplex's notices.
const LOGPLEX: &str = "logplex";

/// One way.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DrainSummary {
    pub(super) drain: &'static str,
    /// Messages that were to come; unknown when an output was not passed through.
    pub(super) messages: Option<u64>,
    /// How many came.
    pub(super) arrived: u64,
    /// How many were announced as lost.
    pub(super) announced: u64,
    /// Neither of both; below zero when some were announced and came even so.
    pub(super) unheard: Option<i64>,
    /// Messages that came again with their batch, under its id.
    pub(super) repeats: u64,
    /// Bytes of the longest.
    pub(super) longest: u64,
    /// Of several sources the worst: no percentile can be made from percentiles.
    pub(super) lag_ms: Lag,
    pub(super) sources: Vec<Source>,
}

/// A dyno, or the platform.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) messages: Option<u64>,
    pub(super) arrived: u64,
    pub(super) repeats: u64,
    pub(super) longest: u64,
    pub(super) lag_ms: Lag,
}

impl Source {
    fn new(name: &str, messages: Option<u64>) -> Self {
        Self { name: name.to_owned(), messages, ..Self::default() }
    }

    /// Takes what came in a stream, of which so many frames are its own.
    fn take(&mut self, stream: &Stream, arrived: u64) {
        self.arrived += arrived;
        self.repeats += stream.repeats;
        self.longest = self.longest.max(stream.longest);
        self.lag_ms = worst(self.lag_ms, stream.lag_ms);
    }
}

fn worst(one: Lag, other: Lag) -> Lag {
    Lag {
        p50: one.p50.max(other.p50),
        p95: one.p95.max(other.p95),
        p99: one.p99.max(other.p99),
        max: one.max.max(other.max),
    }
}

/// Both ways, as far as they were taken.
pub(super) fn sides(evidence: &Observations, taken: &BTreeMap<String, MessageCounts>) -> Vec<DrainSummary> {
    let Some(drain) = &evidence.drain else { return Vec::new() };
    let mut sides = vec![ours(evidence, drain)];
    if !taken.is_empty() {
        sides.push(theirs(evidence, drain, taken));
    }
    sides
}

fn ours(evidence: &Observations, drain: &Report) -> DrainSummary {
    let streams: Vec<_> = drain
        .streams
        .iter()
        .filter(|(token, _)| **token != evidence.platform)
        .flat_map(|(_, of)| of)
        .collect();
    let boots = || evidence.boots.iter().filter(|boot| boot.ledger.is_some());
    let dynos: BTreeSet<&str> = boots().map(|boot| boot.dyno.as_str()).collect();
    let sources = dynos.into_iter().map(|dyno| {
        let mut source = Source::new(dyno, None);
        for (_, stream) in streams.iter().filter(|(name, _)| *name == dyno) {
            source.take(stream, stream.lines);
        }
        source.messages = messages(boots().filter(|boot| boot.dyno == dyno), source.arrived);
        source
    });
    let announced = streams.iter().map(|(_, stream)| stream.losses.lines).sum();
    DrainSummary::of("tailrace", sources.collect(), announced)
}

/// The messages that these outputs make. A line that stood still may have filled one more each time.
fn messages<'a>(boots: impl Iterator<Item = &'a RunRecord>, arrived: u64) -> Option<u64> {
    let (mut least, mut most) = (0, 0);
    for boot in boots {
        let printed = boot.printed?;
        least += printed.frames;
        most += printed.frames + printed.stalls;
    }
    Some(arrived.clamp(least, most))
}

fn theirs(evidence: &Observations, drain: &Report, taken: &BTreeMap<String, MessageCounts>) -> DrainSummary {
    let nothing = BTreeMap::new();
    let streams = drain.streams.get(&evidence.platform).unwrap_or(&nothing);
    let mut sources = Vec::new();
    let mut platform = Source::new(PLATFORM, Some(taken.values().map(|taken| taken.platform).sum()));
    for (name, taken) in taken.iter().filter(|(_, taken)| taken.app > 0) {
        let mut source = Source::new(name, Some(taken.app));
        if let Some(stream) = streams.get(name) {
            source.take(stream, stream.lines);
        }
        sources.push(source);
    }
    for (name, stream) in streams {
        let own = stream.own_frames.saturating_sub(stream.losses.notices);
        if taken.get(name).is_some_and(|taken| taken.app > 0) {
            platform.arrived += own; // the rest of its stream is the app's
        } else if name != LOGPLEX {
            platform.take(stream, own);
        }
    }
    sources.push(platform);
    DrainSummary::of("platform", sources, streams.values().map(|stream| stream.losses.lines).sum())
}

impl DrainSummary {
    fn of(drain: &'static str, sources: Vec<Source>, announced: u64) -> Self {
        let sum = |of: fn(&Source) -> u64| sources.iter().map(of).sum::<u64>();
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
            lag_ms: sources.iter().map(|source| source.lag_ms).fold(Lag::default(), worst),
            sources,
        }
    }

    /// A row for each source, then one for all; with a single source one is enough.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let is_one = self.sources.len() == 1;
        let unknown = || "–".to_owned();
        let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
        let unheard = || self.unheard.map_or_else(unknown, |unheard| unheard.to_string());
        let mut rows: Vec<Vec<String>> = Vec::new();
        for Source { name, messages, arrived, repeats, longest, lag_ms } in &self.sources {
            let mut row = vec![self.drain.to_owned(), name.clone(), number(*messages), arrived.to_string()];
            row.extend(if is_one { [self.announced.to_string(), unheard()] } else { [unknown(), unknown()] });
            row.extend([repeats.to_string(), longest.to_string()]);
            row.extend([lag_ms.p50, lag_ms.p95, lag_ms.max].map(|ms| format!("{ms:.0} ms")));
            rows.push(row);
        }
        if !is_one {
            let counts = [self.arrived, self.announced].map(|count| count.to_string());
            let mut row = vec![self.drain.to_owned(), "all".to_owned(), number(self.messages)];
            row.extend(counts);
            row.extend([unheard(), self.repeats.to_string(), self.longest.to_string()]);
            rows.push(row);
        }
        rows
    }
}
