//! What the report says, and what a line and the headers of a request are.

use super::is_app;
use crate::stream::{Lag, Stream};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tailrace::frame::Frame;

/// A line as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Time of the frame.
    pub time: String,
    /// APP-NAME.
    pub app: String,
    /// PROCID.
    pub proc_id: String,
    /// `Logplex-Drain-Token` of the request.
    pub token: String,
    /// The message.
    pub message: String,
    /// Whether it is a line of the app, not one of the agent or the platform.
    pub is_app: bool,
}

impl Line {
    pub(super) fn of(frame: &Frame<'_>, token: &str) -> Self {
        Self {
            time: frame.time.to_owned(),
            app: frame.app.to_owned(),
            proc_id: frame.proc_id.to_owned(),
            token: token.to_owned(),
            message: frame.msg.to_owned(),
            is_app: is_app(frame),
        }
    }
}

/// Loss notices (L10).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Notices.
    pub notices: u64,
    /// Lines that they announce.
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
    /// Requests that it had something against.
    pub errors: u64,
    /// What, the last time.
    pub last: Option<String>,
}

/// Messages that are numbers, or have one behind `seq=`, per stream: what is missing between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The first number.
    pub first: Option<u64>,
    /// The highest number.
    pub last: Option<u64>,
    /// Numbers that came.
    pub count: u64,
    /// Numbers that were lower than or equal to one before: repeated or out of order.
    pub backward: u64,
    /// Numbers that were left out.
    pub missing: u64,
}

/// What the drain saw. What came with the token of the platform's own drain, requests and frames, stands under
/// `streams` only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests that reached the drain.
    pub requests: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests whose body was recorded.
    pub accepted: u64,
    /// Frames of those, without repetitions.
    pub frames: u64,
    /// Frames with the PRI of an app's line, among them.
    pub lines: u64,
    /// The others.
    pub own_frames: u64,
    /// Requests with the id and the body of one that was recorded before.
    pub duplicates: u64,
    /// Requests with the id of another one, and another body.
    pub changed_bodies: u64,
    /// Requests whose `Logplex-Msg-Count` was wrong.
    pub count_mismatches: u64,
    /// Bodies that could not be split by LEN.
    pub malformed: u64,
    /// The last reason for that.
    pub malformed_last: Option<String>,
    /// Loss notices.
    pub losses: Losses,
    /// Frames with a time before that of the frame before, per drain token and PROCID.
    pub out_of_order: u64,
    /// Frames whose time lies in the future: clock skew.
    #[serde(default)]
    pub skewed: u64,
    /// How far, at most, in ms.
    #[serde(default)]
    pub ahead_ms: f64,
    /// Lag.
    pub lag_ms: Lag,
    /// Bytes of bodies, after gzip.
    pub bytes: u64,
    /// Bytes as they came.
    pub wire_bytes: u64,
    /// Requests with gzip.
    pub gzip_requests: u64,
    /// Lines by drain token.
    pub by_token: BTreeMap<String, u64>,
    /// By receiver.
    pub conformance: BTreeMap<String, Complaints>,
    /// Numbered messages, by PROCID.
    pub sequence: BTreeMap<String, Sequence>,
    /// By drain token, then by PROCID.
    #[serde(default)]
    pub streams: BTreeMap<String, BTreeMap<String, Stream>>,
    /// Frames of the streams beyond the first 500: they stand under `(other)`, and nobody looked at their order.
    #[serde(default)]
    pub unfollowed: u64,
}

impl Report {
    /// The same, but the frames as another report has them.
    pub(crate) fn with_frames_of(self, other: Self) -> Self {
        let Self { frames, lines, own_frames, losses, out_of_order, skewed, ahead_ms, lag_ms, .. } = other;
        let Self { by_token, sequence, streams, unfollowed, .. } = other;
        Self {
            frames,
            lines,
            own_frames,
            losses,
            out_of_order,
            skewed,
            ahead_ms,
            lag_ms,
            by_token,
            sequence,
            streams,
            unfollowed,
            ..self
        }
    }
}

/// A request's headers, as far as they matter here.
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
    /// How the sender shows who it is, by kind: never what it says.
    pub auth: String,
    /// Whether the body came with gzip.
    pub gzip: bool,
    /// Bytes of the body as it came.
    pub wire_bytes: u64,
}

impl Headers {
    /// `Logplex-Drain-Token`; empty without one.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }
}
