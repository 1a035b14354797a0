//! The frame parser: the encoder's exact inverse. For adoption, tests, fuzzing and the tools.
//!
//! It refuses what some receiver of Logplex drains refuses: a LEN that does not lead to the next frame
//! (heroku/logplex `src/syslog_parser.erl`), a PRI above 255, an unreadable time, a missing space after MSGID
//! (heroku/x `logplex/encoding/parser.go`), a frame without its LF or with one inside, and bytes that are not
//! UTF-8 (vectordotdev/vector `src/sources/heroku_logs.rs` splits on LF and drops such lines).

use super::{MAX_FRAME, PRI_APP};
use std::fmt;

/// One frame, borrowed from the bytes that it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Facility × 8 + severity.
    pub pri: u8,
    /// RFC 3339 text, as sent.
    pub time: &'a str,
    /// HOSTNAME; `host` on Logplex drains.
    pub host: &'a str,
    /// APP-NAME; `app` or `heroku`.
    pub app: &'a str,
    /// PROCID; the dyno.
    pub proc_id: &'a str,
    /// The message without its LF.
    pub msg: &'a str,
    /// Bytes of the whole frame, LEN and its space included.
    pub total: usize,
}

impl Frame<'_> {
    /// Whether it is a line of the app: not one of the agent, the dyno manager, or a loss notice. PRI alone tells:
    /// the names in the header are the user's choice.
    pub fn is_app_line(&self) -> bool {
        self.pri == PRI_APP
    }

    /// Writes the frame as it was parsed.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { pri, time, host, app, proc_id, msg, .. } = self;
        let body = format!("<{pri}>1 {time} {host} {app} {proc_id} - {msg}\n");
        out.extend_from_slice(format!("{} {body}", body.len()).as_bytes());
    }
}

/// What is wrong with the bytes at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// A header field is empty, or not printable ASCII.
    Field,
    /// LEN is not 1 to 5 digits without a leading zero, followed by a space.
    Length,
    /// A line feed stands inside the frame.
    LineFeedInside,
    /// The frame does not end with a line feed.
    LineFeedMissing,
    /// LEN and the message are longer than any receiver takes.
    Long,
    /// MSGID is not `-` followed by a space.
    MessageId,
    /// PRI is not `<0>` to `<255>` followed by version 1 and a space.
    Priority,
    /// TIME is not `YYYY-MM-DDTHH:MM:SS[.ffffff]` with `Z` or a numeric offset.
    Time,
    /// The bytes end before the frame does.
    Truncated,
    /// A byte sequence is not UTF-8.
    Utf8,
}

impl fmt::Display for ParseErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Field => "expected a header field of printable ASCII and a space",
            Self::Length => "expected LEN: 1 to 5 digits without a leading zero, then a space",
            Self::LineFeedInside => "line feed inside the frame",
            Self::LineFeedMissing => "expected a line feed as the last byte that LEN counts",
            Self::Long => "frame longer than 10240 bytes",
            Self::MessageId => "expected `- ` (no message id, no structured data)",
            Self::Priority => "expected `<PRI>1 ` with PRI from 0 to 255",
            Self::Time => "expected a time such as 2026-03-04T05:06:07.089012+00:00",
            Self::Truncated => "the bytes end inside the frame",
            Self::Utf8 => "not UTF-8",
        })
    }
}

/// Where parsing stopped, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Byte offset, counted from the start of the bytes that were given.
    pub offset: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.offset, self.kind)
    }
}

impl std::error::Error for ParseError {}

/// Where the SYSLOG-MSG of the frame at `at` starts and ends, by LEN alone: the cheap hop over a frame.
///
/// # Errors
/// [`ParseErrorKind::Length`], [`ParseErrorKind::Long`] or [`ParseErrorKind::Truncated`].
pub fn span(bytes: &[u8], at: usize) -> Result<(usize, usize), ParseError> {
    let fail = |offset, kind| Err(ParseError { offset, kind });
    let mut len = 0usize;
    let mut here = at;
    loop {
        match bytes.get(here) {
            Some(digit @ b'0'..=b'9') if here - at < 5 && (here > at || *digit != b'0') => {
                len = len * 10 + usize::from(digit - b'0');
            }
            Some(b' ') if here > at => break,
            Some(_) => return fail(at, ParseErrorKind::Length),
            None => return fail(here, ParseErrorKind::Truncated),
        }
        here += 1;
    }
    let start = here + 1;
    if start - at + len > MAX_FRAME {
        return fail(at, ParseErrorKind::Long);
    }
    if bytes.len() - start < len {
        return fail(bytes.len(), ParseErrorKind::Truncated);
    }
    Ok((start, start + len))
}

/// Parses the frame that starts at byte `at`; the next one starts at `at + frame.total`.
///
/// # Errors
/// [`ParseError`] with the offset in `bytes`.
pub fn parse(bytes: &[u8], at: usize) -> Result<Frame<'_>, ParseError> {
    let (start, end) = span(bytes, at)?;
    let fail = |offset, kind| Err(ParseError { offset, kind });
    let Some(b'\n') = bytes[start..end].last() else {
        return fail(end, ParseErrorKind::LineFeedMissing);
    };
    if let Some(inside) = memchr::memchr(b'\n', &bytes[start..end - 1]) {
        return fail(start + inside, ParseErrorKind::LineFeedInside);
    }
    let text = match std::str::from_utf8(&bytes[start..end - 1]) {
        Ok(text) => text,
        Err(error) => return fail(start + error.valid_up_to(), ParseErrorKind::Utf8),
    };
    let (pri, mut rest) =
        priority(text).ok_or(ParseError { offset: start, kind: ParseErrorKind::Priority })?;
    let mut field = |kind, valid: fn(&str) -> bool| {
        let offset = end - 1 - rest.len();
        match rest.split_once(' ') {
            Some((value, after)) if valid(value) => {
                rest = after;
                Ok(value)
            }
            _ => Err(ParseError { offset, kind }),
        }
    };
    let time = field(ParseErrorKind::Time, is_time)?;
    let host = field(ParseErrorKind::Field, is_field)?;
    let app = field(ParseErrorKind::Field, is_field)?;
    let proc_id = field(ParseErrorKind::Field, is_field)?;
    field(ParseErrorKind::MessageId, |id| id == "-")?;
    Ok(Frame { pri, time, host, app, proc_id, msg: rest, total: end - at })
}

/// Parses all frames of `bytes`, which must end with the last one.
///
/// # Errors
/// The first [`ParseError`].
pub fn parse_all(bytes: &[u8]) -> Result<Vec<Frame<'_>>, ParseError> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let frame = parse(bytes, at)?;
        at += frame.total;
        frames.push(frame);
    }
    Ok(frames)
}

fn priority(text: &str) -> Option<(u8, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once(">1 ")?;
    let canonical = digits == "0" || !digits.starts_with('0');
    let numeric = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !canonical || !numeric {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

fn is_field(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// RFC 5424 section 6.2.3: RFC 3339 with upper-case `T` and `Z`, at most six digits of fraction.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = |at: usize, pattern: &[u8]| {
        bytes.get(at..at + pattern.len()).is_some_and(|part| {
            part.iter().zip(pattern).all(|(b, p)| if *p == b'0' { b.is_ascii_digit() } else { b == p })
        })
    };
    let number = |at: usize| u32::from(bytes[at] - b'0') * 10 + u32::from(bytes[at + 1] - b'0');
    if !shape(0, b"0000-00-00T00:00:00") {
        return false;
    }
    let ranges = (1..=12).contains(&number(5))
        && (1..=31).contains(&number(8))
        && number(11) < 24
        && number(14) < 60
        && number(17) < 60;
    let mut at = 19;
    if bytes.get(at) == Some(&b'.') {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=6).contains(&digits) {
            return false;
        }
        at += 1 + digits;
    }
    let zone = match &bytes[at..] {
        b"Z" => true,
        [b'+' | b'-', ..] => {
            shape(at + 1, b"00:00") && bytes.len() == at + 6 && number(at + 1) < 24 && number(at + 4) < 60
        }
        _ => false,
    };
    ranges && zone
}
