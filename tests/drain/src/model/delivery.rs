//! Delivery health as the frames tell of it: what no hosted receiver shows.

use super::kind::pairs;
use super::requests::Asked;
use super::{Fragment, Lot};
use crate::duplicates::Found;
use crate::filter::name_of;
use crate::measure::{Histogram, Names, Quantiles, Series};
use crate::stats::Snapshot;
use serde::Serialize;
use std::collections::BTreeMap;
use tailrace::frame::Frame;

/// One drain token: one drain of the platform, or one tailrace. Made from the streams and the requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Token {
    /// Whose drain it is.
    pub role: &'static str,
    /// Its requests.
    #[serde(flatten)]
    pub asked: Asked,
    /// Frames, those of the agent and the platform included.
    pub frames: u64,
    /// Lines of the app.
    pub lines: u64,
    /// From a frame's stamp to its arrival, in ms.
    pub lag: Quantiles,
    /// Frames whose time lies in the future.
    pub skewed: u64,
    /// Messages of 10,000 bytes or more.
    pub cut: u64,
    /// Frames that came before, by another request.
    pub repeated: u64,
    /// Loss notices.
    pub notices: u64,
    /// Lines that they announce.
    pub lost: u64,
}

/// What an agent said of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Agent {
    /// `at=start` lines.
    pub starts: u64,
    /// `at=stop` lines.
    pub stops: u64,
    /// When the last line was written.
    pub time: String,
    /// The last line.
    pub last: String,
    /// The last value of each key.
    pub pairs: BTreeMap<String, String>,
}

/// Keys of an agent's lines that are kept.
const PAIRS: usize = 32;

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// From a frame's stamp to its arrival, in ms, over time.
    pub lag: Series<Quantiles>,
    /// Bytes of frames, LEN and its space included.
    pub frame_sizes: Histogram,
    /// The longest frame, in bytes.
    pub longest: u64,
    /// Messages of 10,000 bytes or more.
    pub cut: u64,
    /// Frames of tailrace that came before, by another request.
    pub repeated: u64,
    /// The last of them.
    pub repeated_last: Option<String>,
    /// Frames that were looked at for that.
    pub repeated_of: u64,
    /// By drain token.
    pub tokens: BTreeMap<String, Token>,
    /// tailrace's own words, by PROCID.
    pub agents: Names<Agent, 100>,
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
            agents: Names::default(),
        }
    }
}

/// A drain as it is called where it stands beside others.
pub(crate) fn label(token: &str, is_platform: bool) -> String {
    let name = name_of(token);
    if is_platform { format!("{name} (platform)") } else { name.to_owned() }
}

impl Delivery {
    pub(crate) fn frames(&mut self, lot: &Lot<'_>) {
        if lot.is_platform || lot.pieces.is_empty() {
            return;
        }
        let lags = self.lag.at(lot.now / 1_000_000);
        for Fragment { frame, sent, .. } in lot.pieces {
            self.frame_sizes.add(frame.total as u64);
            self.longest = self.longest.max(frame.total as u64);
            self.cut += u64::from(frame.msg.len() >= crate::stream::CUT);
            if let Some(sent) = sent {
                lags.add(lot.now.saturating_sub(*sent) as f64 / 1000.0);
            }
        }
    }

    pub(crate) fn agent(&mut self, frame: &Frame<'_>) {
        let agent = self.agents.of(frame.proc_id);
        agent.starts += u64::from(frame.msg.starts_with("at=start"));
        agent.stops += u64::from(frame.msg.starts_with("at=stop"));
        frame.time.clone_into(&mut agent.time);
        frame.msg.clone_into(&mut agent.last);
        for (key, value) in pairs(frame.msg).filter(|(key, _)| *key != "at") {
            if agent.pairs.len() < PAIRS || agent.pairs.contains_key(key) {
                agent.pairs.insert(key.to_owned(), value.to_owned());
            }
        }
    }

    /// The drains side by side.
    pub(crate) fn compare(&mut self, asked: &Names<Asked, 32>, snapshot: &Snapshot, found: Found) {
        let is_platform = |name: &str| snapshot.platform.as_deref() == Some(name);
        for (token, streams) in &snapshot.report.streams {
            let name = name_of(token);
            let mut row = Token {
                lag: snapshot.lags.get(token).cloned().unwrap_or_default(),
                repeated: found.by_token.get(name).copied().unwrap_or_default(),
                ..Token::default()
            };
            for stream in streams.values() {
                row.frames += stream.frames();
                row.lines += stream.lines;
                row.skewed += stream.skewed;
                row.cut += stream.cut;
                row.notices += stream.losses.notices;
                row.lost += stream.losses.lines;
            }
            self.tokens.insert(label(name, is_platform(name)), row);
        }
        for (name, asked) in asked.iter() {
            self.tokens.entry(label(name, is_platform(name))).or_default().asked = *asked;
        }
        for (label, row) in &mut self.tokens {
            row.role = if label.ends_with(" (platform)") { "platform" } else { "tailrace" };
        }
        self.repeated =
            self.tokens.values().filter(|row| row.role == "tailrace").map(|row| row.repeated).sum();
        (self.repeated_last, self.repeated_of) = (found.last, found.looked_at);
    }
}
