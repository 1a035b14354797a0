//! Counts of one stream: the frames of one process that came by one drain. They let drains be compared.

use crate::measure::Quantiles;
use crate::model::ReceivedFrame;
use crate::stats::Losses;
use serde::{Deserialize, Serialize};
use tailrace::frame::Frame;

/// A message of this many bytes was truncated by Logplex, or before it.
pub(crate) const TRUNCATED_LEN: usize = 10_000;

/// Time from a frame's timestamp to its arrival, in ms: exact below 64, at most 1/32 low above. A timestamp in the
/// future counts as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Maximum, exact.
    pub max: f64,
}

impl From<&Quantiles> for Lag {
    fn from(lag: &Quantiles) -> Self {
        Self { p50: lag.quantile(0.5), p95: lag.quantile(0.95), p99: lag.quantile(0.99), max: lag.max() }
    }
}

/// The counts of one drain token and PROCID.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stream {
    /// Frames with the PRI of an app's line.
    pub lines: u64,
    /// The other frames.
    #[serde(rename = "own_frames")]
    pub system_frames: u64,
    /// Frames of batches whose id had already been received. They are in no other count.
    pub repeats: u64,
    /// Bytes of the longest message.
    pub longest: u64,
    /// Messages of 10,000 bytes or more, which were truncated.
    pub cut: u64,
    /// Loss notices.
    pub losses: Losses,
    /// Frames whose timestamp is before that of the preceding frame.
    pub out_of_order: u64,
    /// Frames whose timestamp is in the future: clock skew.
    pub skewed: u64,
    /// The largest skew, in ms.
    pub ahead_ms: f64,
    /// Lag.
    pub lag_ms: Lag,
}

impl Stream {
    /// All frames.
    pub fn frames(&self) -> u64 {
        self.lines + self.system_frames
    }
}

/// A stream, and what its next frame is compared with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    pub(crate) stream: Stream,
    pub(crate) lag: Quantiles,
    last_time: String,
}

impl Counter {
    /// Counts a frame that was received at `now`, in µs since the Unix epoch. `lost` is the number of lines that it
    /// announces as lost.
    pub(crate) fn add(
        &mut self,
        ReceivedFrame { frame, sent, .. }: &ReceivedFrame<'_>,
        now: u64,
        lost: Option<u64>,
    ) {
        let stream = &mut self.stream;
        *(if frame.is_app_line() { &mut stream.lines } else { &mut stream.system_frames }) += 1;
        stream.longest = stream.longest.max(frame.msg.len() as u64);
        stream.cut += u64::from(frame.msg.len() >= TRUNCATED_LEN);
        if let Some(count) = lost {
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

    /// Compares the timestamp with that of the preceding frame.
    pub(crate) fn check_order(&mut self, frame: &Frame<'_>) {
        self.stream.out_of_order += u64::from(frame.time < self.last_time.as_str());
        frame.time.clone_into(&mut self.last_time);
    }

    pub(crate) fn report(&self) -> Stream {
        Stream { lag_ms: Lag::from(&self.lag), ..self.stream.clone() }
    }
}
