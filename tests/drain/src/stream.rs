//! What came over one drain from one process: the ground for comparing drains with each other.

use crate::measure::Quantiles;
use crate::model::Fragment;
use crate::stats::{Losses, is_app};
use serde::{Deserialize, Serialize};
use tailrace::frame::Frame;

/// Messages of so many bytes were cut by Logplex, or by somebody before it.
pub(crate) const CUT: usize = 10_000;

/// Time from a frame's stamp to its arrival, in ms: exact below 64, at most 1/32 low above. A stamp in the future
/// counts as no lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest, exactly.
    pub max: f64,
}

impl From<&Quantiles> for Lag {
    fn from(lag: &Quantiles) -> Self {
        Self { p50: lag.at(0.5), p95: lag.at(0.95), p99: lag.at(0.99), max: lag.max() }
    }
}

/// What came with one drain token from one PROCID.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stream {
    /// Frames with the PRI of an app's line.
    pub lines: u64,
    /// The others.
    pub own_frames: u64,
    /// Frames that came again with their batch, under its id. They stand in no other count.
    pub repeats: u64,
    /// Bytes of the longest message.
    pub longest: u64,
    /// Messages of 10,000 bytes or more.
    pub cut: u64,
    /// Loss notices.
    pub losses: Losses,
    /// Frames with a time before that of the frame before.
    pub out_of_order: u64,
    /// Frames whose time lies in the future: clock skew.
    pub skewed: u64,
    /// How far, at most, in ms.
    pub ahead_ms: f64,
    /// Lag.
    pub lag_ms: Lag,
}

impl Stream {
    /// Frames of both sorts.
    pub fn frames(&self) -> u64 {
        self.lines + self.own_frames
    }
}

/// A stream while it comes in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    pub(crate) stream: Stream,
    pub(crate) lag: Quantiles,
    last_time: String,
}

impl Counter {
    /// Counts a frame that came at `now`, in µs since the Unix epoch; `dropped` is what it announces.
    pub(crate) fn add(
        &mut self,
        Fragment { frame, sent, .. }: &Fragment<'_>,
        now: u64,
        dropped: Option<u64>,
    ) {
        let stream = &mut self.stream;
        *(if is_app(frame) { &mut stream.lines } else { &mut stream.own_frames }) += 1;
        stream.longest = stream.longest.max(frame.msg.len() as u64);
        stream.cut += u64::from(frame.msg.len() >= CUT);
        if let Some(count) = dropped {
            stream.losses.add(count);
        }
        if let Some(sent) = *sent {
            self.lag.add(now.saturating_sub(sent) as f64 / 1000.0);
            if sent > now {
                stream.skewed += 1;
                stream.ahead_ms = stream.ahead_ms.max((sent - now) as f64 / 1000.0);
            }
        }
    }

    /// Looks whether it comes in the order of its times.
    pub(crate) fn follow(&mut self, frame: &Frame<'_>) {
        self.stream.out_of_order += u64::from(frame.time < self.last_time.as_str());
        frame.time.clone_into(&mut self.last_time);
    }

    pub(crate) fn report(&self) -> Stream {
        Stream { lag_ms: Lag::from(&self.lag), ..self.stream.clone() }
    }
}
