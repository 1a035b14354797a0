//! The rules of four receivers of Logplex drains, to check requests with.

use crate::stats::Headers;
use tailrace::frame::{self, Frame};

/// A request, as the rules of receivers need it.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Logplex-Msg-Count`.
    pub count: Option<u64>,
    /// `Logplex-Frame-Id`.
    pub id: Option<&'a str>,
    /// `Logplex-Drain-Token`.
    pub token: Option<&'a str>,
    /// `User-Agent`.
    pub user_agent: Option<&'a str>,
    /// The body, after gzip.
    pub body: &'a [u8],
    /// Its frames, split by LEN up to the first invalid one.
    pub frames: &'a [Frame<'a>],
    /// Whether the whole body was split.
    pub is_complete: bool,
}

impl<'a> RequestView<'a> {
    pub(crate) fn new(
        headers: &'a Headers,
        body: &'a [u8],
        frames: &'a [Frame<'a>],
        is_complete: bool,
    ) -> Self {
        Self {
            content_type: headers.content_type.as_deref(),
            count: headers.count,
            id: headers.id.as_deref(),
            token: headers.token.as_deref(),
            user_agent: headers.user_agent.as_deref(),
            body,
            frames,
            is_complete,
        }
    }
}

/// A receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Receiver {
    /// Sumo Logic's HTTP source: splits at line feeds, and names the source after the drain token.
    Sumo,
    /// Vector's `heroku_logs` source: splits at line feeds, requires every header and the right count.
    Vector,
    /// Grafana Alloy and heroku/x: split by LEN, at most 10,240 bytes per frame.
    Alloy,
    /// The exact form that Logplex sends.
    LogplexStrict,
}

impl Receiver {
    /// All receivers.
    pub const ALL: [Self; 4] = [Self::Sumo, Self::Vector, Self::Alloy, Self::LogplexStrict];

    /// The name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sumo => "sumo",
            Self::Vector => "vector",
            Self::Alloy => "alloy",
            Self::LogplexStrict => "logplex-strict",
        }
    }

    /// The receiver with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|receiver| receiver.as_str() == name)
    }

    /// The first rule that a request breaks, if any.
    pub fn complaint(self, request: &RequestView<'_>) -> Option<String> {
        match self {
            Self::Sumo => sumo(request),
            Self::Vector => vector(request),
            Self::Alloy => alloy(request),
            Self::LogplexStrict => logplex_strict(request),
        }
    }
}

/// SumoLogic/sumologic-documentation `upload-logs.md`: lines are split at LF, and cut at 64 KB.
fn sumo(request: &RequestView<'_>) -> Option<String> {
    if request.token.is_none_or(str::is_empty) {
        return Some("no Logplex-Drain-Token: the source has no name".to_owned());
    }
    check_lines(request.body, 64 << 10)
}

/// Checks that every line of the body is exactly one frame: LEN and the line feeds agree.
fn check_lines(body: &[u8], max_line: usize) -> Option<String> {
    let mut at = 0;
    while at < body.len() {
        let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |end| at + end + 1);
        if end - at > max_line {
            return Some(format!("a line of {} bytes at byte {at}", end - at));
        }
        match frame::span(body, at) {
            Ok((_, frame_end)) if frame_end == end => at = end,
            Ok((_, frame_end)) => {
                return Some(format!("LEN leads to byte {frame_end}, the line feed to byte {end}"));
            }
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

/// vectordotdev/vector `src/sources/heroku_logs.rs`.
fn vector(request: &RequestView<'_>) -> Option<String> {
    if request.count.is_none() || request.id.is_none() || request.token.is_none() {
        return Some("a Logplex header is missing: 400".to_owned());
    }
    let lines = memchr::memchr_iter(b'\n', request.body).count() as u64;
    if request.count != Some(lines) {
        return Some(format!("Logplex-Msg-Count says {:?}, the body has {lines} lines: 400", request.count));
    }
    check_lines(request.body, usize::MAX)
}

/// grafana/alloy `loki.source.heroku` over heroku/x `logplex/encoding/{scanner,parser}.go`.
fn alloy(request: &RequestView<'_>) -> Option<String> {
    if !request.is_complete {
        return Some(
            "a frame cannot be parsed: the frames before it are stored, the rest is lost".to_owned(),
        );
    }
    let long = request.frames.iter().find(|frame| frame.total > frame::MAX_FRAME);
    long.map(|frame| format!("a frame of {} bytes: at most {}", frame.total, frame::MAX_FRAME))
}

/// heroku/logplex `src/logplex_http_drain.erl`, and log-shuttle's timestamps.
fn logplex_strict(request: &RequestView<'_>) -> Option<String> {
    if request.content_type != Some("application/logplex-1") {
        return Some(format!("Content-Type {:?}: 415", request.content_type));
    }
    let is_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if request.id.is_none_or(|id| id.len() != 32 || !id.bytes().all(is_hex)) {
        return Some("Logplex-Frame-Id is not 32 upper-case hex digits".to_owned());
    }
    if request.count != Some(request.frames.len() as u64) || !request.is_complete {
        return Some(format!(
            "Logplex-Msg-Count says {:?}, there are {} frames",
            request.count,
            request.frames.len()
        ));
    }
    if request.user_agent.is_none_or(str::is_empty) {
        return Some("no User-Agent".to_owned());
    }
    request.frames.iter().find_map(|frame| {
        let time = frame.time.as_bytes();
        let is_time = time.len() == frame::TIMESTAMP_LEN && time[19] == b'.' && time.ends_with(b"+00:00");
        if !is_time {
            return Some(format!("time {:?}: expected six digits of fraction and +00:00", frame.time));
        }
        if frame.host != "host" {
            return Some(format!("hostname {:?}: expected `host`", frame.host));
        }
        if !matches!(frame.app, "app" | "heroku" | "tailrace") {
            return Some(format!("app name {:?}: expected `app` or `heroku`", frame.app));
        }
        frame.msg.contains(['\r', '\0']).then(|| "CR or NUL in a message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789ABCDEF0123456789ABCDEF";
    const GOOD: &str = "75 <190>1 2026-03-04T05:06:07.089012+00:00 host app web.1 - listening on 5000\n";

    fn complaints(body: &[u8], change: impl Fn(&mut RequestView<'_>)) -> Vec<&'static str> {
        let frames = frame::parse_all(body);
        let mut request = RequestView {
            content_type: Some("application/logplex-1"),
            count: Some(1),
            id: Some(ID),
            token: Some("d.1"),
            user_agent: Some("tailrace/1"),
            body,
            is_complete: frames.is_ok(),
            frames: &frames.unwrap_or_default(),
        };
        change(&mut request);
        Receiver::ALL
            .into_iter()
            .filter(|receiver| receiver.complaint(&request).is_some())
            .map(Receiver::as_str)
            .collect()
    }

    #[test]
    fn every_receiver_accepts_the_form_of_logplex() {
        assert_eq!(complaints(GOOD.as_bytes(), |_| {}), Vec::<&str>::new());
    }

    #[test]
    fn each_receiver_checks_its_own_rules() {
        let good = GOOD.as_bytes();
        assert_eq!(complaints(good, |request| request.token = None), ["sumo", "vector"]);
        assert_eq!(complaints(good, |request| request.count = Some(2)), ["vector", "logplex-strict"]);
        assert_eq!(complaints(good, |request| request.content_type = Some("text/plain")), ["logplex-strict"]);
        assert_eq!(complaints(good, |request| request.id = Some("abc")), ["logplex-strict"]);
        let z = GOOD.replace("75 ", "70 ").replace("+00:00", "Z");
        assert_eq!(complaints(z.as_bytes(), |_| {}), ["logplex-strict"]);
        let off_by_one = GOOD.replace("75 ", "76 ");
        assert_eq!(complaints(off_by_one.as_bytes(), |_| {}), ["sumo", "vector", "alloy", "logplex-strict"]);
        let no_end = GOOD.replace("75 ", "74 ").replace('\n', "");
        assert_eq!(complaints(no_end.as_bytes(), |_| {}), ["vector", "alloy", "logplex-strict"]);
    }
}
