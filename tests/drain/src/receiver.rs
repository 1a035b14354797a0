//! Four receivers of Logplex drains, and what each of them would say against a request.

use tailrace::frame::{self, Frame};

/// A request as a receiver sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
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
    /// Its frames, split by LEN; short when it could not be.
    pub frames: &'a [Frame<'a>],
    /// Whether all of it could be split.
    pub is_whole: bool,
}

/// A receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Receiver {
    /// Sumo Logic's HTTP source: splits at line feeds, names the source by the drain token.
    Sumo,
    /// Vector's `heroku_logs` source: splits at line feeds, wants every header, and the count to be right.
    Vector,
    /// Grafana Alloy and heroku/x: splits by LEN, at most 10,240 bytes a frame.
    Alloy,
    /// Logplex's own idea of its frames, to the letter.
    LogplexStrict,
}

impl Receiver {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Sumo, Self::Vector, Self::Alloy, Self::LogplexStrict];

    /// Its name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sumo => "sumo",
            Self::Vector => "vector",
            Self::Alloy => "alloy",
            Self::LogplexStrict => "logplex-strict",
        }
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|receiver| receiver.as_str() == name)
    }

    /// What it has against a request; the first complaint.
    pub fn complaint(self, seen: &Seen<'_>) -> Option<String> {
        match self {
            Self::Sumo => sumo(seen),
            Self::Vector => vector(seen),
            Self::Alloy => alloy(seen),
            Self::LogplexStrict => strict(seen),
        }
    }
}

/// SumoLogic/sumologic-documentation `upload-logs.md`: lines are split at LF, and cut at 64 KB.
fn sumo(seen: &Seen<'_>) -> Option<String> {
    if seen.token.is_none_or(str::is_empty) {
        return Some("no Logplex-Drain-Token: the source has no name".to_owned());
    }
    by_lines(seen.body, 64 << 10)
}

/// Every line of the body is exactly one frame: what LEN says and what the line feeds say is the same.
fn by_lines(body: &[u8], most: usize) -> Option<String> {
    let mut at = 0;
    while at < body.len() {
        let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |end| at + end + 1);
        if end - at > most {
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
fn vector(seen: &Seen<'_>) -> Option<String> {
    if seen.count.is_none() || seen.id.is_none() || seen.token.is_none() {
        return Some("a Logplex header is missing: 400".to_owned());
    }
    let lines = memchr::memchr_iter(b'\n', seen.body).count() as u64;
    if seen.count != Some(lines) {
        return Some(format!("Logplex-Msg-Count says {:?}, the body has {lines} lines: 400", seen.count));
    }
    by_lines(seen.body, usize::MAX)
}

/// grafana/alloy `loki.source.heroku` over heroku/x `logplex/encoding/{scanner,parser}.go`.
fn alloy(seen: &Seen<'_>) -> Option<String> {
    if !seen.is_whole {
        return Some(
            "a frame cannot be parsed: what stands before it is stored, the rest is lost".to_owned(),
        );
    }
    let long = seen.frames.iter().find(|frame| frame.total > frame::MAX_FRAME);
    long.map(|frame| format!("a frame of {} bytes: at most {}", frame.total, frame::MAX_FRAME))
}

/// heroku/logplex `src/logplex_http_drain.erl`, and log-shuttle's timestamps.
fn strict(seen: &Seen<'_>) -> Option<String> {
    if seen.content_type != Some("application/logplex-1") {
        return Some(format!("Content-Type {:?}: 415", seen.content_type));
    }
    let is_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if seen.id.is_none_or(|id| id.len() != 32 || !id.bytes().all(is_hex)) {
        return Some("Logplex-Frame-Id is not 32 upper-case hex digits".to_owned());
    }
    if seen.count != Some(seen.frames.len() as u64) || !seen.is_whole {
        return Some(format!(
            "Logplex-Msg-Count says {:?}, there are {} frames",
            seen.count,
            seen.frames.len()
        ));
    }
    if seen.user_agent.is_none_or(str::is_empty) {
        return Some("no User-Agent".to_owned());
    }
    seen.frames.iter().find_map(|frame| {
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

    fn complaints(body: &[u8], change: impl Fn(&mut Seen<'_>)) -> Vec<&'static str> {
        let frames = frame::parse_all(body);
        let mut seen = Seen {
            content_type: Some("application/logplex-1"),
            count: Some(1),
            id: Some(ID),
            token: Some("d.1"),
            user_agent: Some("tailrace/1"),
            body,
            is_whole: frames.is_ok(),
            frames: &frames.unwrap_or_default(),
        };
        change(&mut seen);
        Receiver::ALL.into_iter().filter(|p| p.complaint(&seen).is_some()).map(Receiver::as_str).collect()
    }

    #[test]
    fn what_logplex_sends_pleases_all() {
        assert_eq!(complaints(GOOD.as_bytes(), |_| {}), Vec::<&str>::new());
    }

    #[test]
    fn each_has_its_own_complaints() {
        let good = GOOD.as_bytes();
        assert_eq!(complaints(good, |seen| seen.token = None), ["sumo", "vector"]);
        assert_eq!(complaints(good, |seen| seen.count = Some(2)), ["vector", "logplex-strict"]);
        assert_eq!(complaints(good, |seen| seen.content_type = Some("text/plain")), ["logplex-strict"]);
        assert_eq!(complaints(good, |seen| seen.id = Some("abc")), ["logplex-strict"]);
        let z = GOOD.replace("75 ", "70 ").replace("+00:00", "Z");
        assert_eq!(complaints(z.as_bytes(), |_| {}), ["logplex-strict"]);
        let off_by_one = GOOD.replace("75 ", "76 ");
        assert_eq!(complaints(off_by_one.as_bytes(), |_| {}), ["sumo", "vector", "alloy", "logplex-strict"]);
        let no_end = GOOD.replace("75 ", "74 ").replace('\n', "");
        assert_eq!(complaints(no_end.as_bytes(), |_| {}), ["vector", "alloy", "logplex-strict"]);
    }
}
