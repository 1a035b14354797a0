//! Conformance: the rules of Logplex's form, how often each was broken, and the last example.

use super::Batch;
use serde::Serialize;
use std::collections::BTreeMap;
use tailrace::frame::{self, MAX_FRAME, ParseError, ParseErrorKind, TIMESTAMP_LEN};

/// A rule. A body is parsed up to the first invalid frame, so a request breaks at most one of the first nine rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Rule {
    /// LEN counts the bytes after its space, including the LF.
    #[serde(rename = "LEN leads to the next frame")]
    Len,
    /// A frame ends with a line feed.
    #[serde(rename = "a line feed ends the frame")]
    LineFeedMissing,
    /// It has no other line feed.
    #[serde(rename = "no line feed within or between frames")]
    LineFeedExtra,
    /// Frames are UTF-8.
    #[serde(rename = "text is UTF-8")]
    Utf8,
    /// No frame is longer than receivers accept.
    #[serde(rename = "a frame has at most 10,240 bytes")]
    Long,
    /// PRI and version are valid.
    #[serde(rename = "PRI from <0>1 to <255>1")]
    Priority,
    /// The timestamp can be parsed.
    #[serde(rename = "time can be read")]
    Time,
    /// HOSTNAME, APP-NAME and PROCID are printable ASCII.
    #[serde(rename = "header fields are printable ASCII")]
    Field,
    /// The message id is `-`.
    #[serde(rename = "`-` stands before the message")]
    MessageId,
    /// The timestamp is in Logplex's form.
    #[serde(rename = "time has six digits and +00:00")]
    Stamp,
    /// HOSTNAME is `host`.
    #[serde(rename = "hostname is `host`")]
    Host,
    /// There is no structured data.
    #[serde(rename = "one dash before the message")]
    OneDash,
    /// There is no carriage return.
    #[serde(rename = "no CR in the message")]
    CarriageReturn,
    /// `Logplex-Msg-Count` is the number of frames.
    #[serde(rename = "Logplex-Msg-Count is the number of frames")]
    Count,
    /// `Content-Type` is `application/logplex-1`.
    #[serde(rename = "Content-Type is application/logplex-1")]
    ContentType,
    /// `Logplex-Frame-Id` is present.
    #[serde(rename = "Logplex-Frame-Id is there")]
    FrameId,
    /// `Logplex-Drain-Token` is present.
    #[serde(rename = "Logplex-Drain-Token is there")]
    Token,
}

/// All rules, in the order of the page.
const RULES: [Rule; 17] = [
    Rule::Len,
    Rule::LineFeedMissing,
    Rule::LineFeedExtra,
    Rule::Utf8,
    Rule::Long,
    Rule::Priority,
    Rule::Time,
    Rule::Field,
    Rule::MessageId,
    Rule::Stamp,
    Rule::Host,
    Rule::OneDash,
    Rule::CarriageReturn,
    Rule::Count,
    Rule::ContentType,
    Rule::FrameId,
    Rule::Token,
];

/// Violations of one rule.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Violations {
    /// Requests or frames that broke the rule.
    pub broken: u64,
    /// The last example.
    pub last: Option<String>,
}

/// Violations by rule.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Conformance(pub BTreeMap<Rule, Violations>);

impl Default for Conformance {
    fn default() -> Self {
        Self(RULES.into_iter().map(|rule| (rule, Violations::default())).collect())
    }
}

impl Conformance {
    fn check(&mut self, rule: Rule, holds: bool, example: impl FnOnce() -> String) {
        if holds {
            return;
        }
        let rule = self.0.entry(rule).or_default();
        rule.broken += 1;
        rule.last = Some(example().chars().take(200).collect());
    }

    pub(crate) fn check_batch(&mut self, batch: &Batch<'_>) {
        let headers = batch.headers;
        if let Some(error) = batch.error {
            let at = batch.frames.iter().map(|frame| frame.total).sum();
            self.check(diagnose(batch.body, at, error), false, || {
                let rest = batch.body.get(at..).unwrap_or_default();
                let excerpt = String::from_utf8_lossy(&rest[..rest.len().min(120)]);
                format!("{error}; the frame at byte {at}: {}", excerpt.escape_debug())
            });
        }
        self.check(Rule::Count, headers.count == Some(batch.frames.len() as u64), || {
            let found = headers.count.map_or_else(|| "nothing".to_owned(), |count| count.to_string());
            format!("the header says {found}, there are {} frames", batch.frames.len())
        });
        self.check(
            Rule::ContentType,
            headers.content_type.as_deref() == Some("application/logplex-1"),
            || headers.content_type.clone().unwrap_or_else(|| "no Content-Type".to_owned()),
        );
        self.check(Rule::FrameId, headers.id.is_some(), || "a request without it".to_owned());
        self.check(Rule::Token, !headers.token().is_empty(), || "a request without it".to_owned());
        for frame in batch.frames {
            let time = frame.time.as_bytes();
            let is_time = time.len() == TIMESTAMP_LEN && time[19] == b'.' && time.ends_with(b"+00:00");
            self.check(Rule::Stamp, is_time, || frame.time.to_owned());
            self.check(Rule::Host, frame.host == "host", || frame.host.to_owned());
            self.check(Rule::OneDash, !frame.msg.starts_with("- "), || frame.msg.to_owned());
            let has_cr = memchr::memchr(b'\r', frame.msg.as_bytes()).is_some();
            self.check(Rule::CarriageReturn, !has_cr, || frame.msg.escape_debug().to_string());
        }
    }
}

/// The rule that the frame at byte `at` breaks. A wrong LEN appears as a line feed in the wrong place, so the real
/// starts of frames decide.
fn diagnose(body: &[u8], at: usize, error: ParseError) -> Rule {
    let is_start = |at: usize| body.get(at..).is_some_and(is_header);
    match error.kind {
        ParseErrorKind::Length if body.get(at) == Some(&b'\n') => Rule::LineFeedExtra,
        ParseErrorKind::LineFeedMissing | ParseErrorKind::LineFeedInside => {
            let Ok((start, end)) = frame::span(body, at) else { return Rule::Len };
            let inside = memchr::memchr_iter(b'\n', &body[start..end]).map(|lf| start + lf);
            let mut inside = inside.filter(|lf| lf + 1 < end);
            let is_len_too_large = inside.clone().any(|lf| is_start(lf + 1));
            let is_len_too_small = body.get(end) == Some(&b'\n');
            match error.kind {
                _ if is_len_too_large || is_len_too_small => Rule::Len,
                ParseErrorKind::LineFeedMissing if end == body.len() || is_start(end) => {
                    Rule::LineFeedMissing
                }
                ParseErrorKind::LineFeedMissing => Rule::Len,
                _ => {
                    debug_assert!(inside.next().is_some(), "a line feed inside the frame was reported");
                    Rule::LineFeedExtra
                }
            }
        }
        ParseErrorKind::Utf8 => Rule::Utf8,
        ParseErrorKind::Long if !is_len_right(body, at) => Rule::Len,
        ParseErrorKind::Long => Rule::Long,
        ParseErrorKind::Priority => Rule::Priority,
        ParseErrorKind::Time => Rule::Time,
        ParseErrorKind::Field => Rule::Field,
        ParseErrorKind::MessageId => Rule::MessageId,
        _ => Rule::Len,
    }
}

/// Whether the bytes start like a frame: `75 <190>1 `.
fn is_header(bytes: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = digits(bytes);
    let Some(rest) = bytes.get(length..).and_then(|rest| rest.strip_prefix(b" <")) else { return false };
    (1..=5).contains(&length) && rest[digits(rest)..].starts_with(b">1 ")
}

/// Whether LEN of a frame that is too long is right: the body has all its bytes, and the last one is a line feed.
fn is_len_right(body: &[u8], at: usize) -> bool {
    let digits: Vec<u8> = body[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    let length = std::str::from_utf8(&digits).ok().and_then(|text| text.parse::<usize>().ok());
    let end = length.map(|length| at + digits.len() + 1 + length);
    end.is_some_and(|end| end > at + MAX_FRAME && end <= body.len() && body[end - 1] == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Headers, split};

    const GOOD: &str = "75 <190>1 2026-03-04T05:06:07.089012+00:00 host app web.1 - listening on 5000\n";

    fn broken(body: &[u8]) -> Vec<Rule> {
        let (frames, error) = split(body);
        let headers = Headers {
            content_type: Some("application/logplex-1".to_owned()),
            count: Some(frames.len() as u64),
            id: Some("A".to_owned()),
            token: Some("d.1".to_owned()),
            ..Headers::default()
        };
        let mut conformance = Conformance::default();
        conformance.check_batch(&Batch { now: 0, headers: &headers, body, frames: &frames, error });
        let violations =
            conformance.0.into_iter().filter(|(_, rule)| rule.broken == 1 && rule.last.is_some());
        violations.map(|(rule, _)| rule).collect()
    }

    #[test]
    fn each_rule_is_checked_on_its_own() {
        let second = |change: &dyn Fn(&str) -> String| [GOOD, &change(GOOD), GOOD].concat();
        let framed = |text: &str| format!("{} {text}\n", text.len() + 1);
        let long = format!("<190>1 2026-03-04T05:06:07.089012+00:00 host app web.1 - {}", "x".repeat(10_300));
        let cases = [
            (second(&|good| good.replace("75 ", "76 ")), Rule::Len),
            (second(&|good| good.replace("75 ", "74 ")), Rule::Len),
            (second(&|good| good.replace("75 ", "154 ")), Rule::Len),
            (second(&|good| good.replace("75 ", "075 ")), Rule::Len),
            ([GOOD, "75 <190>1 2026"].concat(), Rule::Len),
            (second(&|good| good.replace("75 ", "74 ").replace('\n', "")), Rule::LineFeedMissing),
            (GOOD.replace("75 ", "74 ").replace('\n', ""), Rule::LineFeedMissing),
            (second(&|good| format!("{good}\n")), Rule::LineFeedExtra),
            (second(&|good| good.replace("on 5000", "on\n5000")), Rule::LineFeedExtra),
            (second(&|_| framed(&long)), Rule::Long),
            (second(&|good| good.replace("75 ", "99999 ")), Rule::Len),
            (second(&|good| good.replace("<190>", "<500>")), Rule::Priority),
            (second(&|good| good.replace("2026-03", "2026-13")), Rule::Time),
            (second(&|good| good.replace("75 ", "72 ").replace("app", "")), Rule::Field),
            (second(&|good| good.replace(" - ", " x ")), Rule::MessageId),
            (second(&|good| good.replace("75 ", "70 ").replace("+00:00", "Z")), Rule::Stamp),
            (second(&|good| good.replace("host", "h0st")), Rule::Host),
            (second(&|good| good.replace(" - li", " - - ")), Rule::OneDash),
            (second(&|good| good.replace("000\n", "00\r\n")), Rule::CarriageReturn),
        ];
        for (body, rule) in cases {
            assert_eq!(broken(body.as_bytes()), [rule], "{body}");
        }
        let mut latin = GOOD.as_bytes().to_vec();
        latin[70] = 0xe9;
        assert_eq!(broken(&latin), [Rule::Utf8]);
        assert_eq!(broken([GOOD, GOOD].concat().as_bytes()), []);
    }
}
