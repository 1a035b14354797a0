//! Errors: codes of the platform, and what the app calls an error.

use super::kind;
use super::router::RouterLine;
use crate::ansi;
use crate::measure::{Merge, Names, Series, Share};
use regex::Regex;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;
use tailrace::frame::Frame;

/// Lines that are kept.
const DETAILS: usize = 30;

/// Codes and their meaning (Dev Center, "Heroku Error Codes"); those that the page always names.
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

/// The keywords of Sumo Logic's app: an error, or a code that is logged without that word.
static WORDS: LazyLock<Regex> = LazyLock::new(|| words("error|H81|H27|H28|H82|H83|L11"));
static RELEASE: LazyLock<[Regex; 2]> = LazyLock::new(|| ["app", "release"].map(words));
static BOOT: LazyLock<[Regex; 4]> = LazyLock::new(|| ["worker", "failed", "to", "boot"].map(words));
static SIGTERM: LazyLock<[Regex; 4]> = LazyLock::new(|| ["worker", "was", "sent", "sigterm"].map(words));

/// Any of some words, whole, in any case.
fn words(any: &str) -> Regex {
    Regex::new(&format!(r"(?i-u)\b(?:{any})\b")).expect("a constant that a test compiles")
}

/// Whether a line counts as an error.
pub(crate) fn is_error(message: &str) -> bool {
    WORDS.is_match(&ansi::plain(message))
}

/// The first 300 characters of a line, without colours.
fn beginning(message: &str) -> String {
    ansi::plain(message).chars().take(300).collect()
}

fn component(frame: &Frame<'_>) -> String {
    format!("{}[{}]", frame.app, frame.proc_id)
}

fn push<T>(details: &mut VecDeque<T>, detail: T) {
    if details.len() == DETAILS {
        details.pop_front();
    }
    details.push_back(detail);
}

/// Lines, and those among them that count as an error, by APP-NAME (what Sumo Logic's app calls the host) and
/// PROCID. Serialized as `{all, by_app, by_component}`.
#[derive(Clone, Debug, Default)]
pub struct Rates(Names<Names<Share>, 50>);

impl Rates {
    pub(crate) fn add(&mut self, frame: &Frame<'_>, is_error: bool) {
        self.0.of(frame.app).of(frame.proc_id).add(is_error);
    }

    /// Together.
    pub fn all(&self) -> Share {
        sum(self.0.values().flat_map(|procs| procs.values()))
    }

    /// By APP-NAME.
    pub fn by_app(&self) -> BTreeMap<&str, Share> {
        self.0.iter().map(|(app, procs)| (app.as_str(), sum(procs.values()))).collect()
    }

    /// By APP-NAME and PROCID.
    pub fn by_component(&self) -> BTreeMap<String, Share> {
        let of_app = |(app, procs): (&String, &Names<Share>)| {
            let named = procs.iter().map(|(proc_id, share)| (format!("{app}[{proc_id}]"), *share));
            named.collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of_app).collect()
    }
}

fn sum<'a>(shares: impl Iterator<Item = &'a Share>) -> Share {
    let mut sum = Share::default();
    shares.for_each(|share| sum.absorb(*share));
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

/// A line with a code.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Detail {
    /// Time of the line.
    pub time: String,
    /// APP-NAME and PROCID.
    pub component: String,
    /// The code.
    pub code: String,
    /// `at=`.
    pub level: String,
    /// What it says of itself.
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

/// The platform's codes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Errors {
    /// Lines with a code.
    pub total: u64,
    /// Codes: times.
    pub by_code: Names<u64, 64>,
    /// Codes over time.
    pub over_time: Series<Names<u64, 64>>,
    /// Lines with a code, by APP-NAME and PROCID.
    pub by_component: Names<u64>,
    /// The last of them.
    pub details: VecDeque<Detail>,
}

impl Errors {
    fn add(&mut self, code: &str, frame: &Frame<'_>, second: u64, detail: Detail) {
        self.total += 1;
        *self.by_code.of(code) += 1;
        *self.over_time.at(second).of(code) += 1;
        *self.by_component.of(&component(frame)) += 1;
        let (time, component) = (frame.time.to_owned(), component(frame));
        push(&mut self.details, Detail { time, component, code: code.to_owned(), ..detail });
    }

    /// `Error R14 (Memory quota exceeded)`.
    pub(crate) fn line(&mut self, frame: &Frame<'_>, second: u64) {
        if let Some((code, rest)) = kind::code(frame.msg) {
            self.add(code, frame, second, Detail { text: beginning(rest), ..Detail::default() });
        }
    }

    /// A request that failed with a code.
    pub(crate) fn request(&mut self, line: &RouterLine<'_>, frame: &Frame<'_>, second: u64) {
        let Some(code) = line.code else { return };
        let detail = Detail {
            level: line.level.to_owned(),
            text: beginning(line.description),
            method: line.method.to_owned(),
            path: beginning(line.path),
            dyno: line.dyno.to_owned(),
            clients: beginning(line.clients),
            connect: line.connect,
            service: line.service,
            status: Some(line.status),
            bytes: line.bytes,
            ..Detail::default()
        };
        self.add(code, frame, second, detail);
    }
}

/// A line of the app with an error.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AppLine {
    /// Time of the line.
    pub time: String,
    /// APP-NAME and PROCID.
    pub component: String,
    /// The first 300 characters, without colours.
    pub text: String,
}

/// What the app calls an error (the word `error` in its lines). Further words are looked for in all of the event,
/// as Sumo Logic's app does: `release.1` has the word `release`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AppErrors {
    /// Lines.
    pub total: u64,
    /// Those with the words `app` and `release`.
    pub release: u64,
    /// Those with the words of `Worker failed to boot`.
    pub boot: u64,
    /// Those with the words of `Worker was sent SIGTERM`.
    pub sigterm: u64,
    /// By APP-NAME and PROCID.
    pub by_component: Names<u64>,
    /// Over time.
    pub over_time: Series<u64>,
    /// By APP-NAME and PROCID, over time.
    pub components_over_time: Series<Names<u64, 20>>,
    /// The last lines.
    pub details: VecDeque<AppLine>,
}

impl AppErrors {
    pub(crate) fn add(&mut self, frame: &Frame<'_>, second: u64) {
        let component = component(frame);
        let event = format!("{} {} - {}", frame.app, frame.proc_id, ansi::plain(frame.msg));
        let has = |words: &[Regex]| u64::from(words.iter().all(|word| word.is_match(&event)));
        self.total += 1;
        self.release += has(&*RELEASE);
        self.boot += has(&*BOOT);
        self.sigterm += has(&*SIGTERM);
        *self.by_component.of(&component) += 1;
        *self.over_time.at(second) += 1;
        *self.components_over_time.at(second).of(&component) += 1;
        let text = beginning(frame.msg);
        push(&mut self.details, AppLine { time: frame.time.to_owned(), component, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_whole_word() {
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
    fn words_are_looked_for_in_the_whole_event() {
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
