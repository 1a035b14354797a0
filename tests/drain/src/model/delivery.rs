//! Delivery health by frames, which no hosted receiver shows.

use super::kind::pairs;
use super::requests::TokenRequests;
use super::{Arrival, DrainKind, ReceivedFrame};
use crate::duplicates::DuplicateCounts;
use crate::filter::name_of;
use crate::measure::{BoundedMap, Histogram, Quantiles, Series};
use crate::stats::Snapshot;
use crate::stream::TRUNCATED_LEN;
use serde::Serialize;
use std::collections::BTreeMap;
use tailrace::frame::Frame;

/// The counts of one drain token, made from its streams and its requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DrainSummary {
    /// `platform` or `tailrace`.
    pub role: &'static str,
    /// Its requests.
    #[serde(flatten)]
    pub requests: TokenRequests,
    /// Frames, those of the agent and the platform included.
    pub frames: u64,
    /// Lines of the app.
    pub lines: u64,
    /// Time from a frame's timestamp to its arrival, in ms.
    pub lag: Quantiles,
    /// Frames whose timestamp is in the future.
    pub skewed: u64,
    /// Messages of 10,000 bytes or more, which were truncated.
    pub cut: u64,
    /// Duplicate frames.
    pub repeated: u64,
    /// Loss notices.
    pub notices: u64,
    /// Lines that they announce as lost.
    pub lost: u64,
}

/// The lines of one agent about itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Agent {
    /// `at=start` lines.
    pub starts: u64,
    /// `at=stop` lines.
    pub stops: u64,
    /// Timestamp of the last line.
    pub time: String,
    /// The last line.
    pub last: String,
    /// The last value of each key.
    pub pairs: BTreeMap<String, String>,
}

/// Most keys per agent.
const MAX_PAIRS: usize = 32;

/// Delivery health by frames.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// Time from a frame's timestamp to its arrival, in ms, over time.
    pub lag: Series<Quantiles>,
    /// Bytes of frames, LEN and its space included.
    pub frame_sizes: Histogram,
    /// The longest frame, in bytes.
    pub longest: u64,
    /// Messages of 10,000 bytes or more, which were truncated.
    pub cut: u64,
    /// Duplicate frames of tailrace.
    pub repeated: u64,
    /// The message of the last one.
    pub repeated_last: Option<String>,
    /// Frames that were searched for duplicates.
    pub repeated_of: u64,
    /// Drains by token.
    pub tokens: BTreeMap<String, DrainSummary>,
    /// Lines of the agents about themselves, by PROCID.
    pub agents: BoundedMap<Agent, 100>,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            lag: Series::default(),
            frame_sizes: Histogram::of_frame_sizes(),
            longest: 0,
            cut: 0,
            repeated: 0,
            repeated_last: None,
            repeated_of: 0,
            tokens: BTreeMap::new(),
            agents: BoundedMap::default(),
        }
    }
}

/// The name of a drain in comparisons.
pub(crate) fn label(token: &str, drain: DrainKind) -> String {
    let name = name_of(token);
    match drain {
        DrainKind::Platform => format!("{name} (platform)"),
        DrainKind::Agent => name.to_owned(),
    }
}

impl Delivery {
    pub(crate) fn frames(&mut self, arrival: &Arrival<'_>) {
        if arrival.drain == DrainKind::Platform || arrival.frames.is_empty() {
            return;
        }
        let lags = self.lag.at(arrival.now / 1_000_000);
        for ReceivedFrame { frame, sent, .. } in arrival.frames {
            self.frame_sizes.add(frame.total as u64);
            self.longest = self.longest.max(frame.total as u64);
            self.cut += u64::from(frame.msg.len() >= TRUNCATED_LEN);
            if let Some(sent) = sent {
                lags.add(arrival.now.saturating_sub(*sent) as f64 / 1000.0);
            }
        }
    }

    pub(crate) fn agent(&mut self, frame: &Frame<'_>) {
        let agent = self.agents.entry(frame.proc_id);
        agent.starts += u64::from(frame.msg.starts_with("at=start"));
        agent.stops += u64::from(frame.msg.starts_with("at=stop"));
        frame.time.clone_into(&mut agent.time);
        frame.msg.clone_into(&mut agent.last);
        for (key, value) in pairs(frame.msg).filter(|(key, _)| *key != "at") {
            if agent.pairs.len() < MAX_PAIRS || agent.pairs.contains_key(key) {
                agent.pairs.insert(key.to_owned(), value.to_owned());
            }
        }
    }

    /// Combines requests, streams and duplicates into one summary per drain.
    pub(crate) fn summarize(
        &mut self,
        requests: &BoundedMap<TokenRequests, 32>,
        snapshot: &Snapshot,
        duplicates: DuplicateCounts,
    ) {
        let label = |name: &str| {
            let is_platform = snapshot.platform.as_deref() == Some(name);
            label(name, if is_platform { DrainKind::Platform } else { DrainKind::Agent })
        };
        for (token, streams) in &snapshot.report.streams {
            let name = name_of(token);
            let mut row = DrainSummary {
                lag: snapshot.lags.get(token).cloned().unwrap_or_default(),
                repeated: duplicates.by_token.get(name).copied().unwrap_or_default(),
                ..DrainSummary::default()
            };
            for stream in streams.values() {
                row.frames += stream.frames();
                row.lines += stream.lines;
                row.skewed += stream.skewed;
                row.cut += stream.cut;
                row.notices += stream.losses.notices;
                row.lost += stream.losses.lines;
            }
            self.tokens.insert(label(name), row);
        }
        for (name, requests) in requests.iter() {
            self.tokens.entry(label(name)).or_default().requests = *requests;
        }
        for (label, row) in &mut self.tokens {
            row.role = if label.ends_with(" (platform)") { "platform" } else { "tailrace" };
        }
        self.repeated =
            self.tokens.values().filter(|row| row.role == "tailrace").map(|row| row.repeated).sum();
        self.repeated_last = duplicates.last;
        self.repeated_of = duplicates.inspected;
    }
}
