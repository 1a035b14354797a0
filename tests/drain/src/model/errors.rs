//! Errors: the platform's error codes, and error lines of the app.

use super::kind;
use super::router::RouterLine;
use crate::ansi;
use crate::measure::{BoundedMap, Merge, Series, Share};
use regex::Regex;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;
use tailrace::frame::Frame;

/// Most lines that are shown.
const MAX_DETAILS: usize = 30;

/// The codes that the page always lists, with their meaning (Dev Center, "Heroku Error Codes").
pub const CODES: [(&str, &str); 26] = [
    ("H10", "App crashed"),
    ("H11", "Backlog too deep"),
    ("H12", "Request timeout"),
    ("H13", "Connection closed without response"),
    ("H14", "No web dynos running"),
    ("H15", "Idle connection"),
    ("H17", "Poorly formatted HTTP response"),
    ("H18", "Server request interrupted"),
    ("H19", "Backend connection timeout"),
    ("H20", "App boot timeout"),
    ("H21", "Backend connection refused"),
    ("H22", "Connection limit reached"),
    ("H27", "Client request interrupted"),
    ("H28", "Client connection idle"),
    ("H81", "Blank app"),
    ("H82", "Free or eco dyno quota exhausted"),
    ("H99", "Platform error"),
    ("L10", "Drain buffer overflow"),
    ("L11", "Tail buffer overflow"),
    ("R10", "Boot timeout"),
    ("R12", "Exit timeout"),
    ("R13", "Attach error"),
    ("R14", "Memory quota exceeded"),
    ("R15", "Memory quota vastly exceeded"),
    ("R16", "Detached"),
    ("R17", "Checksum error"),
];

/// The keywords of Sumo Logic's app: `error`, and codes that are logged without it.
static ERROR_KEYWORDS: LazyLock<Regex> = LazyLock::new(|| keywords("error|H81|H27|H28|H82|H83|L11"));
static RELEASE: LazyLock<[Regex; 2]> = LazyLock::new(|| ["app", "release"].map(keywords));
static BOOT: LazyLock<[Regex; 4]> = LazyLock::new(|| ["worker", "failed", "to", "boot"].map(keywords));
static SIGTERM: LazyLock<[Regex; 4]> = LazyLock::new(|| ["worker", "was", "sent", "sigterm"].map(keywords));

/// Matches one of these alternatives as a whole word, in any case.
fn keywords(alternatives: &str) -> Regex {
    Regex::new(&format!(r"(?i-u)\b(?:{alternatives})\b")).expect("a constant that a test compiles")
}

/// Whether a message counts as an error.
pub(crate) fn is_error(message: &str) -> bool {
    ERROR_KEYWORDS.is_match(&ansi::plain(message))
}

/// The first 300 characters of a message, without control sequences.
fn excerpt(message: &str) -> String {
    ansi::plain(message).chars().take(300).collect()
}

fn component(frame: &Frame<'_>) -> String {
    format!("{}[{}]", frame.app, frame.proc_id)
}

/// Appends to the last [`MAX_DETAILS`] lines.
fn push<T>(details: &mut VecDeque<T>, detail: T) {
    if details.len() == MAX_DETAILS {
        details.pop_front();
    }
    details.push_back(detail);
}

/// Lines and error lines by APP-NAME (which Sumo Logic's app calls the host) and PROCID. Serialized as
/// `{all, by_app, by_component}`.
#[derive(Clone, Debug, Default)]
pub struct Rates(BoundedMap<BoundedMap<Share>, 50>);

impl Rates {
    pub(crate) fn add(&mut self, frame: &Frame<'_>, is_error: bool) {
        self.0.entry(frame.app).entry(frame.proc_id).add(is_error);
    }

    /// All lines.
    pub fn all(&self) -> Share {
        sum(self.0.values().flat_map(|procs| procs.values()))
    }

    /// By APP-NAME.
    pub fn by_app(&self) -> BTreeMap<&str, Share> {
        self.0.iter().map(|(app, procs)| (app.as_str(), sum(procs.values()))).collect()
    }

    /// By APP-NAME and PROCID.
    pub fn by_component(&self) -> BTreeMap<String, Share> {
        let of_app = |(app, procs): (&String, &BoundedMap<Share>)| {
            let named = procs.iter().map(|(proc_id, share)| (format!("{app}[{proc_id}]"), *share));
            named.collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of_app).collect()
    }
}

fn sum<'a>(shares: impl Iterator<Item = &'a Share>) -> Share {
    let mut sum = Share::default();
    shares.for_each(|share| sum.merge(*share));
    sum
}

impl Serialize for Rates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Rates", 3)?;
        out.serialize_field("all", &self.all())?;
        out.serialize_field("by_app", &self.by_app())?;
        out.serialize_field("by_component", &self.by_component())?;
        out.end()
    }
}

/// A line with an error code.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Detail {
    /// Timestamp of the line.
    pub time: String,
    /// APP-NAME and PROCID.
    pub component: String,
    /// The code.
    pub code: String,
    /// `at=`.
    pub level: String,
    /// The description.
    pub text: String,
    /// `method=`.
    pub method: String,
    /// `path=`, without the query.
    pub path: String,
    /// `dyno=`.
    pub dyno: String,
    /// `fwd=`.
    pub clients: String,
    /// `connect=`, in ms.
    pub connect: Option<f64>,
    /// `service=`, in ms.
    pub service: Option<f64>,
    /// `status=`.
    pub status: Option<u16>,
    /// `bytes=`.
    pub bytes: Option<u64>,
}

/// The platform's error codes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Errors {
    /// Lines with a code.
    pub total: u64,
    /// Lines by code.
    pub by_code: BoundedMap<u64, 64>,
    /// Lines by code over time.
    pub over_time: Series<BoundedMap<u64, 64>>,
    /// Lines with a code, by APP-NAME and PROCID.
    pub by_component: BoundedMap<u64>,
    /// The last lines.
    pub details: VecDeque<Detail>,
}

impl Errors {
    fn add(&mut self, code: &str, frame: &Frame<'_>, second: u64, detail: Detail) {
        self.total += 1;
        *self.by_code.entry(code) += 1;
        *self.over_time.at(second).entry(code) += 1;
        *self.by_component.entry(&component(frame)) += 1;
        let (time, component) = (frame.time.to_owned(), component(frame));
        push(&mut self.details, Detail { time, component, code: code.to_owned(), ..detail });
    }

    /// Counts a line such as `Error R14 (Memory quota exceeded)`.
    pub(crate) fn line(&mut self, frame: &Frame<'_>, second: u64) {
        if let Some((code, rest)) = kind::code(frame.msg) {
            self.add(code, frame, second, Detail { text: excerpt(rest), ..Detail::default() });
        }
    }

    /// Counts a request that failed with a code.
    pub(crate) fn request(&mut self, line: &RouterLine<'_>, frame: &Frame<'_>, second: u64) {
        let Some(code) = line.code else { return };
        let detail = Detail {
            level: line.level.to_owned(),
            text: excerpt(line.description),
            method: line.method.to_owned(),
            path: excerpt(line.path),
            dyno: line.dyno.to_owned(),
            clients: excerpt(line.clients),
            connect: line.connect,
            service: line.service,
            status: Some(line.status),
            bytes: line.bytes,
            ..Detail::default()
        };
        self.add(code, frame, second, detail);
    }
}

/// An error line of the app.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AppLine {
    /// Timestamp of the line.
    pub time: String,
    /// APP-NAME and PROCID.
    pub component: String,
    /// The first 300 characters, without control sequences.
    pub text: String,
}

/// Error lines of the app: those with the word `error`. Other keywords are searched in the whole event, as Sumo Logic's
/// app does: `release.1` contains the keyword `release`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AppErrors {
    /// Lines.
    pub total: u64,
    /// Of those, lines with the keywords `app` and `release`.
    pub release: u64,
    /// Of those, lines with the keywords of `Worker failed to boot`.
    pub boot: u64,
    /// Of those, lines with the keywords of `Worker was sent SIGTERM`.
    pub sigterm: u64,
    /// By APP-NAME and PROCID.
    pub by_component: BoundedMap<u64>,
    /// Over time.
    pub over_time: Series<u64>,
    /// By APP-NAME and PROCID, over time.
    pub components_over_time: Series<BoundedMap<u64, 20>>,
    /// The last lines.
    pub details: VecDeque<AppLine>,
}

impl AppErrors {
    pub(crate) fn add(&mut self, frame: &Frame<'_>, second: u64) {
        let component = component(frame);
        let event = format!("{} {} - {}", frame.app, frame.proc_id, ansi::plain(frame.msg));
        let has = |keywords: &[Regex]| u64::from(keywords.iter().all(|keyword| keyword.is_match(&event)));
        self.total += 1;
        self.release += has(&*RELEASE);
        self.boot += has(&*BOOT);
        self.sigterm += has(&*SIGTERM);
        *self.by_component.entry(&component) += 1;
        *self.over_time.at(second) += 1;
        *self.components_over_time.at(second).entry(&component) += 1;
        let text = excerpt(frame.msg);
        push(&mut self.details, AppLine { time: frame.time.to_owned(), component, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_keyword_is_a_whole_word() {
        for text in [
            "[ERROR] Worker",
            "Error R14 (x)",
            "at=info code=H27 desc=x",
            "error",
            "\x1b[1;31mERROR\x1b[0m no",
            "\x1b[?25lerror",
        ] {
            assert!(is_error(text), "{text}");
        }
        for text in ["errors", "terror", "H270", "all is well"] {
            assert!(!is_error(text), "{text}");
        }
    }

    #[test]
    fn keywords_are_searched_in_the_whole_event() {
        let mut errors = AppErrors::default();
        let frame = |app, proc_id, msg| Frame {
            pri: 190,
            time: "2026-03-04T05:06:07.089012+00:00",
            host: "host",
            app,
            proc_id,
            msg,
            total: 0,
        };
        for (proc_id, msg, counts) in [
            ("release.1", "error: migration failed", (1, 0, 0)),
            ("web.1", "Error: An unhappy release", (2, 0, 0)),
            ("web.1", "Error: happy released", (2, 0, 0)),
            ("web.1", "[ERROR] Worker failed to boot.", (2, 1, 0)),
            ("web.1", "[ERROR] Worker (pid:9) was sent SIGTERM!", (2, 1, 1)),
            ("web.1", "error: coworkers were sent sigterms", (2, 1, 1)),
        ] {
            errors.add(&frame("app", proc_id, msg), 0);
            assert_eq!((errors.release, errors.boot, errors.sigterm), counts, "{msg}");
        }
        assert_eq!((errors.total, errors.by_component["app[release.1]"]), (6, 1));
    }
}
