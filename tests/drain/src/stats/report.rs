//! The report, and what is recorded of a line and of the headers of a request.

use crate::stream::{Lag, Stream};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tailrace::frame::Frame;

/// A line as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Timestamp of the frame.
    pub time: String,
    /// APP-NAME.
    pub app: String,
    /// PROCID.
    pub proc_id: String,
    /// `Logplex-Drain-Token` of the request.
    pub token: String,
    /// The message.
    pub message: String,
    /// Whether the app wrote it, not the agent or the platform.
    pub is_app: bool,
}

impl Line {
    pub(super) fn new(frame: &Frame<'_>, token: &str) -> Self {
        Self {
            time: frame.time.to_owned(),
            app: frame.app.to_owned(),
            proc_id: frame.proc_id.to_owned(),
            token: token.to_owned(),
            message: frame.msg.to_owned(),
            is_app: frame.is_app_line(),
        }
    }
}

/// Loss notices (L10).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Notices.
    pub notices: u64,
    /// Lines that they announce as lost.
    pub lines: u64,
}

impl Losses {
    pub(crate) fn add(&mut self, lines: u64) {
        self.notices += 1;
        self.lines += lines;
    }
}

/// Complaints of one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaints {
    /// Requests that it rejects or misreads.
    pub errors: u64,
    /// The last complaint.
    pub last: Option<String>,
}

/// Sequence numbers of the messages of one PROCID that are a number or contain `seq=` with a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The first number.
    pub first: Option<u64>,
    /// The highest number.
    pub last: Option<u64>,
    /// Messages with a number.
    pub count: u64,
    /// Numbers not above the highest one before: repeated or out of order.
    pub backward: u64,
    /// Numbers that were skipped.
    pub missing: u64,
}

/// What the drain received. Requests and frames of the platform's own drain are in `streams` only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests.
    pub requests: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests whose body was recorded.
    pub accepted: u64,
    /// Frames of those requests, without repeated batches.
    pub frames: u64,
    /// Of those, frames with the PRI of an app's line.
    pub lines: u64,
    /// The other frames.
    #[serde(rename = "own_frames")]
    pub system_frames: u64,
    /// Requests with the id and the body of an earlier one.
    pub duplicates: u64,
    /// Requests with the id of an earlier one and another body.
    pub changed_bodies: u64,
    /// Requests whose `Logplex-Msg-Count` was wrong.
    pub count_mismatches: u64,
    /// Bodies that could not be split by LEN.
    pub malformed: u64,
    /// The last parse error.
    pub malformed_last: Option<String>,
    /// Loss notices.
    pub losses: Losses,
    /// Frames whose timestamp is before that of the preceding frame of the same drain token and PROCID.
    pub out_of_order: u64,
    /// Frames whose timestamp is in the future: clock skew.
    #[serde(default)]
    pub skewed: u64,
    /// The largest skew, in ms.
    #[serde(default)]
    pub ahead_ms: f64,
    /// Lag.
    pub lag_ms: Lag,
    /// Bytes of bodies, after gzip.
    pub bytes: u64,
    /// Bytes of bodies as received.
    pub wire_bytes: u64,
    /// Requests with gzip.
    pub gzip_requests: u64,
    /// Lines by drain token.
    pub by_token: BTreeMap<String, u64>,
    /// Complaints by receiver.
    pub conformance: BTreeMap<String, Complaints>,
    /// Sequence numbers by PROCID.
    pub sequence: BTreeMap<String, Sequence>,
    /// Streams by drain token and PROCID.
    #[serde(default)]
    pub streams: BTreeMap<String, BTreeMap<String, Stream>>,
    /// Frames of the streams beyond the first 500: they are counted under `(other)`, and their order is not checked.
    #[serde(default, rename = "unfollowed")]
    pub untracked: u64,
}

impl Report {
    /// Takes the counts of frames from another report, and keeps those of requests.
    pub(crate) fn with_frames_of(self, other: Self) -> Self {
        let Self { frames, lines, system_frames, losses, out_of_order, skewed, ahead_ms, lag_ms, .. } = other;
        let Self { by_token, sequence, streams, untracked, .. } = other;
        Self {
            frames,
            lines,
            system_frames,
            losses,
            out_of_order,
            skewed,
            ahead_ms,
            lag_ms,
            by_token,
            sequence,
            streams,
            untracked,
            ..self
        }
    }
}

/// The headers of a request.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Logplex-Msg-Count`.
    pub count: Option<u64>,
    /// `Logplex-Frame-Id`.
    pub id: Option<String>,
    /// `Logplex-Drain-Token`.
    pub token: Option<String>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// How the request authenticates, by kind, without the credentials.
    pub auth: String,
    /// Whether the body is compressed with gzip.
    pub gzip: bool,
    /// Bytes of the body as received.
    pub wire_bytes: u64,
}

impl Headers {
    /// `Logplex-Drain-Token`; empty without one.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }
}
