//! Errors: codes of the platform, and what the app calls an error.

use super::measure::{Names, Series};
use regex::Regex;
use serde::Serialize;
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

/// The keywords of Sumo Logic's app: an error, or a code that is logged without that word. Also right behind a
/// colour (`ESC [ 31 m`), whose last letter would hide it.
static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    let words = r"(?i-u)(?:\b|\x1b\[[0-9;]*m)(?:error|H81|H27|H28|H82|H83|L11)\b";
    Regex::new(words).expect("a constant that a test compiles")
});

/// Whether a line counts as an error.
pub(crate) fn is_error(message: &str) -> bool {
    WORDS.is_match(message)
}

/// A line that tells of an error.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Detail {
    /// Time of the line.
    pub time: String,
    /// APP-NAME and PROCID.
    pub component: String,
    /// The first 300 characters, without colours.
    pub text: String,
}

static COLOURS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\x1b\[[0-9;:]*[A-Za-z]").expect("a constant that a test compiles"));

fn keep(details: &mut VecDeque<Detail>, frame: &Frame<'_>) {
    if details.len() == DETAILS {
        details.pop_front();
    }
    let text = COLOURS.replace_all(frame.msg, "").chars().take(300).collect();
    let component = format!("{}[{}]", frame.app, frame.proc_id);
    details.push_back(Detail { time: frame.time.to_owned(), component, text });
}

/// The platform's codes, and all lines with an error.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Errors {
    /// Lines with one of the keywords.
    pub total: u64,
    /// Codes: times.
    pub by_code: Names<u64, 64>,
    /// Codes over time.
    pub over_time: Series<BTreeMap<String, u64>>,
    /// Lines with one of the keywords, by APP-NAME and PROCID.
    pub by_component: Names<u64>,
    /// The last lines with a code.
    pub details: VecDeque<Detail>,
}

impl Errors {
    pub(crate) fn word(&mut self, frame: &Frame<'_>) {
        self.total += 1;
        *self.by_component.of(&format!("{}[{}]", frame.app, frame.proc_id)) += 1;
    }

    pub(crate) fn code(&mut self, code: &str, frame: &Frame<'_>, second: u64) {
        *self.by_code.of(code) += 1;
        *self.over_time.at(second).entry(code.to_owned()).or_default() += 1;
        keep(&mut self.details, frame);
    }
}

/// What the app calls an error (the word `error` in its lines).
#[derive(Clone, Debug, Default, Serialize)]
pub struct AppErrors {
    /// Lines.
    pub total: u64,
    /// Those about a release (`error`, `app`, `release`).
    pub release: u64,
    /// `Worker failed to boot`.
    pub boot: u64,
    /// `Worker … was sent SIGTERM`.
    pub sigterm: u64,
    /// By PROCID.
    pub by_dyno: Names<u64>,
    /// Over time.
    pub over_time: Series<u64>,
    /// The last lines.
    pub details: VecDeque<Detail>,
}

impl AppErrors {
    pub(crate) fn add(&mut self, frame: &Frame<'_>, second: u64) {
        let lower = frame.msg.to_ascii_lowercase();
        self.total += 1;
        self.release += u64::from(lower.contains("app") && lower.contains("release"));
        self.boot += u64::from(lower.contains("worker failed to boot"));
        self.sigterm += u64::from(lower.contains("worker") && lower.contains("was sent sigterm"));
        *self.by_dyno.of(frame.proc_id) += 1;
        *self.over_time.at(second) += 1;
        keep(&mut self.details, frame);
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
        ] {
            assert!(is_error(text), "{text}");
        }
        for text in ["errors", "terror", "H270", "all is well"] {
            assert!(!is_error(text), "{text}");
        }
    }
}
