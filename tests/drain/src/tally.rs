//! What the drain saw: the report.

use crate::personality::{Personality, Seen};
use crate::stream::{Counter, Lags};
pub use crate::stream::{Lag, Stream};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use tailrace::frame::{self, Frame, PRI_APP, now_micros};

/// Frame ids that are remembered, to tell repetitions.
const IDS: usize = 1 << 20;
/// Lags that are kept for the percentiles.
const LAGS: usize = 1 << 16;

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

/// Loss notices (L10).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Notices.
    pub notices: u64,
    /// Lines that they announce.
    pub lines: u64,
}

impl Losses {
    fn add(&mut self, lines: u64) {
        self.notices += 1;
        self.lines += lines;
    }
}

/// Complaints of one personality.
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

/// What the drain saw. What came with the token of the platform's own drain stands under `streams` only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests that reached the drain.
    pub requests: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests whose body was recorded.
    pub accepted: u64,
    /// Frames recorded, without repetitions.
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
    /// By personality.
    pub conformance: BTreeMap<String, Complaints>,
    /// Numbered messages, by PROCID.
    pub sequence: BTreeMap<String, Sequence>,
    /// By drain token, then by PROCID.
    #[serde(default)]
    pub streams: BTreeMap<String, BTreeMap<String, Stream>>,
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
    /// Whether the body came with gzip.
    pub gzip: bool,
    /// Bytes of the body as it came.
    pub wire_bytes: u64,
}

/// Counts.
#[derive(Debug)]
pub struct Tally {
    report: Report,
    personalities: Vec<Personality>,
    keep: usize,
    lines: VecDeque<Line>,
    dropped: u64,
    ids: HashMap<String, u64>,
    id_order: VecDeque<String>,
    /// By drain token, then by PROCID.
    last_time: HashMap<String, HashMap<String, String>>,
    lags: Lags,
    streams: BTreeMap<String, BTreeMap<String, Counter>>,
    /// The token of the platform's own drain.
    platform: Option<String>,
    /// Loss notices are not taken note of.
    is_deaf: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            report: Report::default(),
            personalities: Vec::new(),
            keep: 0,
            lines: VecDeque::new(),
            dropped: 0,
            ids: HashMap::new(),
            id_order: VecDeque::new(),
            last_time: HashMap::new(),
            lags: Lags::new(LAGS),
            streams: BTreeMap::new(),
            platform: None,
            is_deaf: false,
        }
    }
}

impl Tally {
    /// Counts with these personalities; keeps the last `keep` lines.
    pub fn new(personalities: &[Personality], keep: usize) -> Self {
        let mut tally = Self { personalities: personalities.to_vec(), keep, ..Self::default() };
        for personality in personalities {
            tally.report.conformance.insert(personality.as_str().to_owned(), Complaints::default());
        }
        tally
    }

    /// The token with which the platform's own drain comes: nothing is asked of it, and it is no part of the totals.
    #[must_use]
    pub fn beside(mut self, platform: Option<String>) -> Self {
        self.platform = platform;
        self
    }

    /// Starts anew.
    pub fn reset(&mut self) {
        let platform = self.platform.take();
        *self = Self::new(&std::mem::take(&mut self.personalities), self.keep).beside(platform);
    }

    /// Whether loss notices are overheard from now on: a switch for tests of who looks at the report.
    pub fn set_deaf(&mut self, is_deaf: bool) {
        self.is_deaf = is_deaf;
    }

    /// A request came.
    pub fn request(&mut self) {
        self.report.requests += 1;
    }

    /// A request was answered.
    pub fn answered(&mut self, status: u16) {
        *self.report.by_status.entry(status).or_default() += 1;
    }

    /// Records a body; returns the lines that are new.
    pub fn record(&mut self, headers: &Headers, body: &[u8]) -> Vec<Line> {
        if headers.token.is_some() && headers.token == self.platform {
            return self.lines_of(headers.token.as_deref().unwrap_or_default(), &split(&tidy(body)).0);
        }
        let hash = fingerprint(body);
        if let Some(id) = &headers.id {
            if let Some(before) = self.ids.get(id) {
                let same = *before == hash;
                let report = &mut self.report;
                *(if same { &mut report.duplicates } else { &mut report.changed_bodies }) += 1;
                return Vec::new();
            }
            self.ids.insert(id.clone(), hash);
            self.id_order.push_back(id.clone());
            if self.id_order.len() > IDS
                && let Some(oldest) = self.id_order.pop_front()
            {
                self.ids.remove(&oldest);
            }
        }
        let (frames, error) = split(body);
        let report = &mut self.report;
        report.accepted += 1;
        report.bytes += body.len() as u64;
        report.wire_bytes += headers.wire_bytes;
        report.gzip_requests += u64::from(headers.gzip);
        report.frames += frames.len() as u64;
        report.count_mismatches += u64::from(headers.count != Some(frames.len() as u64));
        report.malformed += u64::from(error.is_some());
        let seen = Seen {
            content_type: headers.content_type.as_deref(),
            count: headers.count,
            id: headers.id.as_deref(),
            token: headers.token.as_deref(),
            user_agent: headers.user_agent.as_deref(),
            body,
            is_whole: error.is_none(),
            frames: &frames,
        };
        for personality in &self.personalities {
            if let Some(complaint) = personality.complaint(&seen) {
                let complaints = report.conformance.entry(personality.as_str().to_owned()).or_default();
                complaints.errors += 1;
                complaints.last = Some(complaint);
            }
        }
        if let Some(error) = error {
            report.malformed_last = Some(error);
        }
        let token = headers.token.clone().unwrap_or_default();
        self.frames(&token, &frames)
    }

    /// Into the totals.
    fn frames(&mut self, token: &str, frames: &[Frame<'_>]) -> Vec<Line> {
        let now = now_micros();
        for frame in frames {
            if is_app(frame) {
                self.report.lines += 1;
                self.number(frame);
            } else {
                self.report.own_frames += 1;
                if let Some(count) = self.dropped_by(frame) {
                    self.report.losses.add(count);
                }
            }
            self.time(token, frame, now);
        }
        let lines = frames.iter().filter(|frame| frame.pri == PRI_APP).count() as u64;
        *self.report.by_token.entry(token.to_owned()).or_default() += lines;
        self.lines_of(token, frames)
    }

    /// Into their streams, and among the kept lines.
    fn lines_of(&mut self, token: &str, frames: &[Frame<'_>]) -> Vec<Line> {
        let now = now_micros();
        for frame in frames {
            let dropped = self.dropped_by(frame);
            let streams = self.streams.entry(token.to_owned()).or_default();
            let counter = match streams.get_mut(frame.proc_id) {
                Some(counter) => counter,
                None => streams.entry(frame.proc_id.to_owned()).or_default(),
            };
            let stream = &mut counter.stream;
            *(if is_app(frame) { &mut stream.lines } else { &mut stream.own_frames }) += 1;
            stream.longest = stream.longest.max(frame.msg.len() as u64);
            if let Some(count) = dropped {
                stream.losses.add(count);
            }
            if let Some(sent) = micros(frame.time) {
                counter.lags.add(lag(sent, now));
            }
        }
        if self.keep == 0 {
            return Vec::new();
        }
        let line = |frame: &Frame<'_>| Line {
            time: frame.time.to_owned(),
            app: frame.app.to_owned(),
            proc_id: frame.proc_id.to_owned(),
            token: token.to_owned(),
            message: frame.msg.to_owned(),
            is_app: is_app(frame),
        };
        let fresh: Vec<Line> = frames.iter().map(line).collect();
        for line in &fresh {
            if self.lines.len() == self.keep {
                self.lines.pop_front();
                self.dropped += 1;
            }
            self.lines.push_back(line.clone());
        }
        fresh
    }

    /// How many lines a loss notice announces; nothing when it is none.
    fn dropped_by(&self, frame: &Frame<'_>) -> Option<u64> {
        let rest = frame.msg.strip_prefix("Error L10 (output buffer overflow): ")?;
        let is_notice = !self.is_deaf && !is_app(frame);
        rest.split(' ').next()?.parse().ok().filter(|_| is_notice)
    }

    fn number(&mut self, frame: &Frame<'_>) {
        let text = frame.msg.split_once("seq=").map_or(frame.msg, |(_, rest)| rest);
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        if end < text.len() && text.len() == frame.msg.len() {
            return; // not a plain number
        }
        let Ok(number) = text[..end].parse::<u64>() else { return };
        let sequence = match self.report.sequence.get_mut(frame.proc_id) {
            Some(sequence) => sequence,
            None => self.report.sequence.entry(frame.proc_id.to_owned()).or_default(),
        };
        sequence.count += 1;
        sequence.first.get_or_insert(number);
        match sequence.last {
            Some(last) if number <= last => sequence.backward += 1,
            Some(last) => sequence.missing += number - last - 1,
            None => {}
        }
        sequence.last = Some(sequence.last.map_or(number, |last| last.max(number)));
    }

    fn time(&mut self, token: &str, frame: &Frame<'_>, now: u64) {
        let last = self.last_time.get_mut(token).and_then(|procs| procs.get_mut(frame.proc_id));
        if let Some(last) = last {
            self.report.out_of_order += u64::from(frame.time < last.as_str());
            frame.time.clone_into(last);
        } else {
            let procs = self.last_time.entry(token.to_owned()).or_default();
            procs.insert(frame.proc_id.to_owned(), frame.time.to_owned());
        }
        if let Some(sent) = micros(frame.time) {
            self.lags.add(lag(sent, now));
        }
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        let of_token = |procs: &BTreeMap<String, Counter>| {
            procs.iter().map(|(name, counter)| (name.clone(), counter.report())).collect()
        };
        let streams = self.streams.iter().map(|(token, procs)| (token.clone(), of_token(procs))).collect();
        Report { lag_ms: self.lags.summary(), streams, ..self.report.clone() }
    }

    /// Lines from number `from` on, at most `limit`, and the number behind them. Numbers count from 0.
    pub fn lines(&self, from: u64, limit: usize) -> (Vec<Line>, u64) {
        let skip = from.saturating_sub(self.dropped) as usize;
        let lines: Vec<Line> = self.lines.iter().skip(skip).take(limit).cloned().collect();
        let next = from.max(self.dropped) + lines.len() as u64;
        (lines, next)
    }
}

/// Logplex's own frames as our parser takes them: its L10 notices have no LF, and it cuts lines within characters.
fn tidy(body: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(body.len()), body);
    while let Some(space) = rest.iter().position(|byte| *byte == b' ')
        && let Some(length) =
            std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse::<usize>().ok())
        && let Some(frame) = rest.get(space + 1..space + 1 + length)
    {
        let text = String::from_utf8_lossy(frame);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        out.extend_from_slice(format!("{} {text}\n", text.len() + 1).as_bytes());
        rest = &rest[space + 1 + length..];
    }
    out
}

/// Whether a frame is a line of the app, not one of the agent or the platform.
fn is_app(frame: &Frame<'_>) -> bool {
    frame.pri == PRI_APP && frame.app != "tailrace"
}

/// From a stamp to its arrival, in ms.
fn lag(sent: u64, now: u64) -> f64 {
    (now as f64 - sent as f64) / 1000.0
}

/// Frames by LEN, and what is wrong with the first one that is none.
fn split(body: &[u8]) -> (Vec<Frame<'_>>, Option<String>) {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < body.len() {
        match frame::parse(body, at) {
            Ok(frame) => {
                at += frame.total;
                frames.push(frame);
            }
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
    (frames, None)
}

fn fingerprint(body: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

/// A frame's time in µs since the Unix epoch; `2026-03-04T05:06:07.089012+00:00` and nothing else.
fn micros(time: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days from the civil calendar, after Howard Hinnant's `days_from_civil`.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    Some(seconds * 1_000_000 + number(20..26)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailrace::frame::{Encoder, Field};

    fn body(numbers: &[u64]) -> Vec<u8> {
        let field = Field::coerce;
        let mut encoder = Encoder::new(PRI_APP, &field("host"), &field("app"), &field("web.1"));
        let mut out = Vec::new();
        for (index, number) in numbers.iter().enumerate() {
            encoder.encode(&mut out, 1_772_600_767_089_012 + index as u64, number.to_string().as_bytes());
        }
        out
    }

    fn headers(id: &str, count: usize) -> Headers {
        Headers { count: Some(count as u64), id: Some(id.to_owned()), ..Headers::default() }
    }

    #[test]
    fn repetitions_count_once_and_changes_are_told_apart() {
        let mut tally = Tally::new(&[], 10);
        for (id, numbers) in [("a", &[1, 2, 3][..]), ("a", &[1, 2, 3]), ("a", &[9]), ("b", &[5, 4])] {
            tally.record(&headers(id, numbers.len()), &body(numbers));
        }
        let report = tally.report();
        assert_eq!((report.lines, report.duplicates, report.changed_bodies), (5, 1, 1));
        let sequence = &report.sequence["web.1"];
        assert_eq!((sequence.missing, sequence.backward, sequence.last), (1, 1, Some(5)));
        assert_eq!(report.out_of_order, 1, "the second body starts before the first one ended");
        assert_eq!(tally.lines(3, 9).0.len(), 2);
    }

    #[test]
    fn the_platforms_own_drain_is_no_part_of_the_totals() {
        let mut tally = Tally::new(&Personality::ALL, 10).beside(Some("d.platform".to_owned()));
        for token in ["d.platform", "d.agent"] {
            let headers = Headers { token: Some(token.to_owned()), ..headers(token, 2) };
            tally.record(&headers, &body(&[1, 2]));
        }
        let report = tally.report();
        assert_eq!((report.lines, report.accepted, report.by_token.len()), (2, 1, 1));
        assert_eq!(report.streams["d.platform"]["web.1"].lines, 2);
        assert_eq!(report.streams["d.agent"]["web.1"].longest, 1);
        assert_eq!(tally.lines(0, 9).0.iter().filter(|line| line.token == "d.platform").count(), 2);
    }

    #[test]
    fn the_platforms_frames_may_lack_their_end() {
        let notice = "<172>1 2026-03-04T05:06:07.089012+00:00 host heroku logplex - Error L10 (output buffer overflow): \
                      3 messages dropped since 2026-03-04T05:06:07.089012+00:00.";
        let mut bytes = format!("{} {notice}", notice.len()).into_bytes();
        let half = b"<190>1 2026-03-04T05:06:07.089012+00:00 host app web.1 - caf\xc3";
        bytes.extend_from_slice(format!("{} ", half.len()).as_bytes());
        bytes.extend_from_slice(half);
        let mut tally = Tally::new(&Personality::ALL, 10).beside(Some("d.platform".to_owned()));
        let headers = Headers { token: Some("d.platform".to_owned()), ..headers("a", 2) };
        tally.record(&headers, &bytes);
        let streams = &tally.report().streams["d.platform"];
        assert_eq!((streams["logplex"].losses.lines, streams["web.1"].lines), (3, 1));
        assert_eq!(tally.lines(0, 9).0[1].message, "caf\u{fffd}");
    }

    #[test]
    fn a_notice_counts_unless_nobody_listens() {
        let field = Field::coerce;
        let mut encoder =
            Encoder::new(frame::PRI_NOTICE, &field("host"), &field("heroku"), &field("logplex"));
        let mut bytes = Vec::new();
        encoder.encode(&mut bytes, 1_772_600_767_089_012, b"Error L10 (output buffer overflow): 3 messages");
        let mut tally = Tally::new(&[], 0);
        tally.record(&headers("a", 1), &bytes);
        tally.set_deaf(true);
        tally.record(&headers("b", 1), &bytes);
        assert_eq!(tally.report().losses, Losses { notices: 1, lines: 3 });
    }

    #[test]
    fn times_are_read_back() {
        assert_eq!(micros("2026-03-04T05:06:07.089012+00:00"), Some(1_772_600_767_089_012));
        assert_eq!(micros("2024-02-29T00:00:00.000000+00:00"), Some(1_709_164_800_000_000));
    }

    #[test]
    fn what_cannot_be_split_is_counted_up_to_there() {
        let mut tally = Tally::new(&Personality::ALL, 0);
        let mut bytes = body(&[1, 2]);
        bytes.extend_from_slice(b"999 <1>");
        tally.record(&headers("a", 2), &bytes);
        let report = tally.report();
        assert_eq!((report.malformed, report.frames), (1, 2));
        assert_eq!(report.conformance["alloy"].errors, 1);
    }
}
