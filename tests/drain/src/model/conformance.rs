//! Conformance: each rule of Logplex's form, how often it was broken, and the last example.

use super::Batch;
use serde::Serialize;
use std::collections::BTreeMap;
use tailrace::frame::{self, MAX_FRAME, ParseError, ParseErrorKind, TIMESTAMP_LEN};

/// A rule. Bodies are read to the first frame that is none, so of the first nine a request breaks at most one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Rule {
    /// LEN counts the bytes behind its space through the LF.
    #[serde(rename = "LEN leads to the next frame")]
    Len,
    /// A frame ends with a line feed.
    #[serde(rename = "a line feed ends the frame")]
    LineFeedMissing,
    /// There is no other.
    #[serde(rename = "no line feed within or between frames")]
    LineFeedExtra,
    /// Everything is UTF-8.
    #[serde(rename = "text is UTF-8")]
    Utf8,
    /// No frame is longer than receivers take.
    #[serde(rename = "a frame has at most 10,240 bytes")]
    Long,
    /// PRI and version.
    #[serde(rename = "PRI from <0>1 to <255>1")]
    Priority,
    /// The time can be read.
    #[serde(rename = "time can be read")]
    Time,
    /// HOSTNAME, APP-NAME, PROCID.
    #[serde(rename = "header fields are printable ASCII")]
    Field,
    /// No message id.
    #[serde(rename = "`-` stands before the message")]
    MessageId,
    /// The time is as Logplex writes it.
    #[serde(rename = "time has six digits and +00:00")]
    Stamp,
    /// HOSTNAME.
    #[serde(rename = "hostname is `host`")]
    Host,
    /// No structured data.
    #[serde(rename = "one dash before the message")]
    OneDash,
    /// No carriage return.
    #[serde(rename = "no CR in the message")]
    CarriageReturn,
    /// The count is right.
    #[serde(rename = "Logplex-Msg-Count is the number of frames")]
    Count,
    /// The header is right.
    #[serde(rename = "Content-Type is application/logplex-1")]
    ContentType,
    /// The header is there.
    #[serde(rename = "Logplex-Frame-Id is there")]
    FrameId,
    /// The header is there.
    #[serde(rename = "Logplex-Drain-Token is there")]
    Token,
}

/// All rules, in the order in which they are shown.
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

/// How often a rule was broken.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Broken {
    /// Requests or frames that broke it.
    pub broken: u64,
    /// The last one.
    pub last: Option<String>,
}

/// All rules.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Conformance(pub BTreeMap<Rule, Broken>);

impl Default for Conformance {
    fn default() -> Self {
        Self(RULES.into_iter().map(|rule| (rule, Broken::default())).collect())
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

    pub(crate) fn batch(&mut self, batch: &Batch<'_>) {
        let headers = batch.headers;
        if let Some(error) = batch.error {
            let at = batch.frames.iter().map(|frame| frame.total).sum();
            self.check(diagnose(batch.body, at, error), false, || {
                let rest = batch.body.get(at..).unwrap_or_default();
                let shown = String::from_utf8_lossy(&rest[..rest.len().min(120)]);
                format!("{error}; the frame at byte {at}: {}", shown.escape_debug())
            });
        }
        self.check(Rule::Count, headers.count == Some(batch.frames.len() as u64), || {
            let said = headers.count.map_or_else(|| "nothing".to_owned(), |count| count.to_string());
            format!("the header says {said}, there are {} frames", batch.frames.len())
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

/// Which rule the frame at byte `at` breaks. A wrong LEN shows as a line feed in the wrong place, so it is looked
/// where frames really start.
fn diagnose(body: &[u8], at: usize, error: ParseError) -> Rule {
    let is_start = |at: usize| body.get(at..).is_some_and(is_header);
    match error.kind {
        ParseErrorKind::Length if body.get(at) == Some(&b'\n') => Rule::LineFeedExtra,
        ParseErrorKind::LineFeedMissing | ParseErrorKind::LineFeedInside => {
            let Ok((start, end)) = frame::span(body, at) else { return Rule::Len };
            let inside = memchr::memchr_iter(b'\n', &body[start..end]).map(|lf| start + lf);
            let mut inside = inside.filter(|lf| lf + 1 < end);
            let leads_past_the_end = inside.clone().any(|lf| is_start(lf + 1));
            let leads_short_of_it = body.get(end) == Some(&b'\n');
            match error.kind {
                _ if leads_past_the_end || leads_short_of_it => Rule::Len,
                ParseErrorKind::LineFeedMissing if end == body.len() || is_start(end) => {
                    Rule::LineFeedMissing
                }
                ParseErrorKind::LineFeedMissing => Rule::Len,
                _ => {
                    debug_assert!(inside.next().is_some(), "there is one");
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

/// Whether bytes start as a frame does: `75 <190>1 `.
fn is_header(bytes: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = digits(bytes);
    let Some(rest) = bytes.get(length..).and_then(|rest| rest.strip_prefix(b" <")) else { return false };
    (1..=5).contains(&length) && rest[digits(rest)..].starts_with(b">1 ")
}

/// Whether a frame that is too long is really that long: its bytes are there, and end with a line feed.
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
        conformance.batch(&Batch { now: 0, headers: &headers, body, frames: &frames, error });
        let broken = conformance.0.into_iter().filter(|(_, rule)| rule.broken == 1 && rule.last.is_some());
        broken.map(|(rule, _)| rule).collect()
    }

    #[test]
    fn each_rule_is_broken_by_itself() {
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
