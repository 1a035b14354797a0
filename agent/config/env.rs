//! Reads environment variables one by one and collects the problems with them.

use super::drain_url::{DrainUrl, Scheme};
use super::settings;
use super::value::{self, show_bytes};
use crate::frame::Field;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A problem with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub name: String,
    /// What was found, what was expected, what to do.
    pub text: String,
    /// Nothing can be shipped until it is corrected; else it is a warning.
    pub is_fatal: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.text)
    }
}

/// Reads variables, and collects problems and the settings that are set.
pub(super) struct EnvReader {
    /// The variables that were not read yet.
    vars: BTreeMap<String, String>,
    problems: Vec<Problem>,
    explicit: Vec<(String, String)>,
}

/// What an [`EnvReader`] collected.
pub(super) struct Collected {
    pub(super) problems: Vec<Problem>,
    /// Names and values of the settings that are set, without secrets.
    pub(super) explicit: Vec<(String, String)>,
}

impl EnvReader {
    pub(super) fn new(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut env = Self { vars: BTreeMap::new(), problems: Vec::new(), explicit: Vec::new() };
        for (name, value) in vars {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(env.vars.insert(name, value)),
                Err(_) if settings::is_known(&name) => env.error(&name, "its value is not UTF-8"),
                Err(_) => drop(env.vars.insert(name, String::new())), // as if it were not set
            }
        }
        env
    }

    pub(super) fn finish(self) -> Collected {
        Collected { problems: self.problems, explicit: self.explicit }
    }

    /// Reports a problem because of which nothing can be shipped.
    pub(super) fn error(&mut self, name: &str, text: impl Into<String>) {
        self.problems.push(Problem { name: name.to_owned(), text: text.into(), is_fatal: true });
    }

    /// Reports a problem despite which lines are shipped.
    fn warning(&mut self, name: &str, text: impl Into<String>) {
        self.problems.push(Problem { name: name.to_owned(), text: text.into(), is_fatal: false });
    }

    /// Adds a setting to the list of those that are set.
    pub(super) fn list(&mut self, name: &str, value: String) {
        self.explicit.push((name.to_owned(), value));
    }

    /// Whether a variable is set and was not read yet.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.vars.contains_key(name)
    }

    /// Reads a variable that is set and not blank, and lists it with its value.
    pub(super) fn read(&mut self, name: &str) -> Option<String> {
        let text = self.read_unlisted(name)?;
        self.list(name, text.clone());
        Some(text)
    }

    /// Reads a variable that is set and not blank. It is not listed: it is a secret or not a setting of tailrace.
    pub(super) fn read_unlisted(&mut self, name: &str) -> Option<String> {
        self.vars.remove(name).filter(|text| !text.trim().is_empty())
    }

    /// Reads a setting with `parse`, whose error is what was expected; `default` when it is not set or invalid.
    pub(super) fn parse<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some(text) = self.read(name) else { return default };
        parse(&text).unwrap_or_else(|expected| {
            self.error(name, format!("found {text:?}, expected {expected}"));
            default
        })
    }

    pub(super) fn switch(&mut self, name: &str, default: bool) -> bool {
        self.parse(name, default, |text| value::switch(text).map_err(str::to_owned))
    }

    pub(super) fn duration(
        &mut self,
        name: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.parse(name, default, |text| {
            let duration = value::duration(text).map_err(str::to_owned)?;
            let (min, max) = (range.start(), range.end());
            let is_valid = range.contains(&duration);
            is_valid.then_some(duration).ok_or_else(|| format!("a duration from {min:?} to {max:?}"))
        })
    }

    /// Reads the interval of a periodic task; `off` and 0 mean none.
    pub(super) fn interval(&mut self, name: &str, default: Option<Duration>) -> Option<Duration> {
        const DAY: Duration = Duration::from_hours(24);
        self.parse(name, default, |text| match value::duration(text) {
            _ if text.trim() == "off" => Ok(None),
            Ok(Duration::ZERO) => Ok(None),
            Ok(interval) if (Duration::from_secs(1)..=DAY).contains(&interval) => Ok(Some(interval)),
            _ => Err("off, or a duration from 1s to 24h".to_owned()),
        })
    }

    pub(super) fn bytes(&mut self, name: &str, default: u64, range: &RangeInclusive<u64>) -> u64 {
        self.parse(name, default, |text| size(text, range))
    }

    pub(super) fn field(&mut self, name: &str, default: Field) -> Field {
        self.parse(name, default, |text| {
            Field::new(text).map_err(|_| "1 to 128 printable ASCII characters without blanks".to_owned())
        })
    }

    /// Reads extra request headers, as pairs of name and value, from the variables `TAILRACE_HEADER_<NAME>`.
    pub(super) fn headers(&mut self) -> Vec<(String, String)> {
        const PREFIX: &str = "TAILRACE_HEADER_";
        let names: Vec<String> = self.vars.keys().filter(|name| name.starts_with(PREFIX)).cloned().collect();
        let mut headers = Vec::new();
        for name in names {
            let parts = name[PREFIX.len()..].split('_').map(|part| {
                let (first, rest) = part.split_at_checked(1).unwrap_or((part, ""));
                format!("{}{}", first.to_ascii_uppercase(), rest.to_ascii_lowercase())
            });
            let header = parts.collect::<Vec<_>>().join("-");
            let Some(text) = self.read_unlisted(&name) else { continue };
            if text.bytes().all(|b| (b' '..=b'~').contains(&b)) && !header.is_empty() {
                self.list(&name, "(not shown)".to_owned());
                headers.push((header, text));
            } else {
                self.error(
                    &name,
                    "expected a header name after TAILRACE_HEADER_ and printable ASCII as its value",
                );
            }
        }
        headers
    }

    /// Reads host and port of the proxy.
    pub(super) fn proxy(&mut self) -> Option<(String, u16)> {
        const NAME: &str = "TAILRACE_PROXY";
        let text = self.read_unlisted(NAME)?;
        match DrainUrl::parse(&text) {
            Ok(url) if url.scheme() == Scheme::Http && url.authorization().is_none() => {
                self.list(NAME, url.to_string());
                Some((url.host().to_owned(), url.port()))
            }
            _ => {
                self.error(NAME, "expected http://HOST:PORT, without user and password");
                None
            }
        }
    }

    /// Warns of the variables of tailrace that were not read, with the most similar name of a setting.
    pub(super) fn warn_of_unknown_names(&mut self) {
        const MAX_EDITS: usize = 4;
        let unknown: Vec<String> =
            self.vars.keys().filter(|name| name.starts_with("TAILRACE_")).cloned().collect();
        for name in unknown {
            let edits = settings::names().map(|known| (strsim::levenshtein(&known, &name), known));
            let text = match edits.min_by_key(|(edits, _)| *edits) {
                Some((edits, similar)) if edits <= MAX_EDITS => {
                    format!("unknown setting; did you mean {similar}?")
                }
                _ => "unknown setting: `tailrace help settings` lists them".to_owned(),
            };
            self.warning(&name, text);
        }
    }
}

/// Parses a size in bytes within a range. The error is what was expected.
pub(super) fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = value::bytes(text).map_err(str::to_owned)?;
    let (min, max) = (show_bytes(*range.start()), show_bytes(*range.end()));
    range.contains(&bytes).then_some(bytes).ok_or_else(|| format!("a size from {min} to {max}"))
}
