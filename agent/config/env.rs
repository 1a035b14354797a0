//! Reads environment variables one by one and collects the problems with them.

use super::drain_url::{DrainUrl, Scheme};
use super::nearest::{self, Nearest};
use super::settings;
use super::value::{self, show_bytes, show_duration};
use crate::frame::Field;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Headers that describe the body and its framing, which tailrace sets itself. `Authorization` and `User-Agent` may be
/// replaced.
pub(crate) const RESERVED_HEADERS: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "logplex-drain-token",
    "logplex-frame-id",
    "logplex-msg-count",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a problem with a setting means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// Its value cannot be used: its default is. A drain URL is left out.
    BadValue,
    /// There is no setting of this name: it is ignored.
    UnknownName,
}

/// A problem with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub name: String,
    /// What was found, what was expected, what to do.
    pub text: String,
    /// What it means for the setting.
    pub kind: ProblemKind,
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

    /// Reports a value that cannot be used.
    pub(super) fn error(&mut self, name: &str, text: impl Into<String>) {
        self.problems.push(Problem { name: name.to_owned(), text: text.into(), kind: ProblemKind::BadValue });
    }

    /// Reports a name that is not that of a setting.
    fn warning(&mut self, name: &str, text: impl Into<String>) {
        self.problems.push(Problem {
            name: name.to_owned(),
            text: text.into(),
            kind: ProblemKind::UnknownName,
        });
    }

    /// Adds a setting to the list of those that are set.
    pub(super) fn list(&mut self, name: &str, value: String) {
        self.explicit.push((name.to_owned(), value));
    }

    /// Whether a variable is set and not blank, and was not read yet.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.vars.get(name).is_some_and(|value| !value.trim().is_empty())
    }

    /// Whether a variable is in the environment, and was not read yet.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.vars.contains_key(name)
    }

    /// Reads a variable that is set and not blank, and lists it with its value.
    pub(super) fn read(&mut self, name: &str) -> Option<String> {
        let text = self.read_unlisted(name)?;
        self.list(name, text.clone());
        Some(text)
    }

    /// Reads a variable that is set and not blank, without the white space around its value. It is not listed: it is a
    /// secret or not a setting of tailrace.
    pub(super) fn read_unlisted(&mut self, name: &str) -> Option<String> {
        let text = self.vars.remove(name)?;
        Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Reads a setting with `parse`, whose error is what was expected; `default` when it is not set or invalid.
    /// `nearest` guesses what may have been meant.
    pub(super) fn parse<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
        nearest: impl Fn(&str) -> Option<Nearest>,
    ) -> T {
        let Some(text) = self.read_unlisted(name) else { return default };
        match parse(&text) {
            Ok(value) => {
                self.list(name, text);
                value
            }
            Err(expected) => {
                let nearest = [nearest::unquoted(&text), nearest(&text)].into_iter().flatten();
                let text = match nearest.into_iter().find(|nearest| parse(&nearest.form).is_ok()) {
                    Some(Nearest { reason, form }) => format!("{text}: {reason}; did you mean {form}?"),
                    None => format!("found {text:?}, expected {expected}"),
                };
                self.error(name, text);
                default
            }
        }
    }

    pub(super) fn switch(&mut self, name: &str, default: bool) -> bool {
        self.parse(name, default, |text| value::switch(text).map_err(str::to_owned), nearest::switch)
    }

    pub(super) fn duration(
        &mut self,
        name: &str,
        default: Duration,
        range: &RangeInclusive<Duration>,
    ) -> Duration {
        let parse = |text: &str| {
            let duration = value::duration(text).map_err(str::to_owned)?;
            let (min, max) = (show_duration(*range.start()), show_duration(*range.end()));
            range
                .contains(&duration)
                .then_some(duration)
                .ok_or_else(|| format!("a duration from {min} to {max}"))
        };
        self.parse(name, default, parse, |text| nearest::duration(text, range))
    }

    /// Reads the interval of a periodic task; `off` and 0 mean none.
    pub(super) fn interval(&mut self, name: &str, default: Option<Duration>) -> Option<Duration> {
        const RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
        let parse = |text: &str| match value::duration(text) {
            _ if text == "off" => Ok(None),
            Ok(Duration::ZERO) => Ok(None),
            Ok(interval) if RANGE.contains(&interval) => Ok(Some(interval)),
            _ => Err("off, or a duration from 1s to 24h".to_owned()),
        };
        let nearest = |text: &str| {
            let off = || nearest::switch(text).filter(|nearest| nearest.form == "off");
            nearest::duration(text, &RANGE).or_else(off)
        };
        self.parse(name, default, parse, nearest)
    }

    pub(super) fn bytes(&mut self, name: &str, default: u64, range: &RangeInclusive<u64>) -> u64 {
        self.optional_bytes(name, range).unwrap_or(default)
    }

    /// As [`EnvReader::bytes`], for a setting without a constant default.
    pub(super) fn optional_bytes(&mut self, name: &str, range: &RangeInclusive<u64>) -> Option<u64> {
        let nearest = |text: &str| nearest::bytes(text, range);
        self.parse(name, None, |text| size(text, range).map(Some), nearest)
    }

    pub(super) fn field(&mut self, name: &str, default: Field) -> Field {
        let parse = |text: &str| {
            Field::new(text).map_err(|_| "1 to 128 printable ASCII characters without blanks".to_owned())
        };
        let nearest = |text: &str| {
            let form = Field::coerce(text).as_str().to_owned();
            Some(Nearest { reason: "a frame cannot hold it".to_owned(), form })
        };
        self.parse(name, default, parse, nearest)
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
            if RESERVED_HEADERS.iter().any(|reserved| header.eq_ignore_ascii_case(reserved)) {
                self.error(&name, format!("tailrace sets {header} itself: unset it"));
            } else if is_header_name(&header) && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
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
        let parse = |text: &str| {
            let url = DrainUrl::parse(text).ok()?;
            (url.scheme() == Scheme::Http && url.authorization().is_none()).then_some(url)
        };
        if let Some(url) = parse(&text) {
            self.list(NAME, url.to_string());
            return Some((url.host().to_owned(), url.port()));
        }
        let remedy = match text.split_once("://") {
            None if parse(&format!("http://{text}")).is_some() => ": put http:// before it",
            Some((_, address)) if parse(&format!("http://{address}")).is_some() => {
                ": put http:// in place of its scheme"
            }
            _ if nearest::quote_around(&text).is_some() => ": remove the quotes around it",
            _ => "",
        };
        self.error(NAME, format!("expected http://HOST:PORT, without user and password{remedy}"));
        None
    }

    /// Warns of the variables of tailrace that were not read, with the most similar names of settings; where no drain
    /// URL is set, also of what others call it.
    pub(super) fn warn_of_unknown_names(&mut self, drain_url: DrainUrlState) {
        let unknown: Vec<String> =
            self.vars.keys().filter(|name| name.starts_with("TAILRACE_")).cloned().collect();
        for name in unknown {
            let text = match settings::similar(&name) {
                similar if similar.is_empty() => {
                    "unknown setting: `tailrace help settings` lists them".to_owned()
                }
                similar => format!("unknown setting; did you mean {}?", similar.join(" or ")),
            };
            self.warning(&name, text);
        }
        if drain_url == DrainUrlState::Unset {
            let others = settings::OTHER_NAMES_OF_DRAIN_URL.into_iter();
            for name in others.filter(|name| self.is_set(name)).collect::<Vec<_>>() {
                self.warning(name, "tailrace does not read it; did you mean TAILRACE_DRAIN_URL?");
            }
        }
    }
}

/// Whether there is a value of `TAILRACE_DRAIN_URL`, however wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainUrlState {
    Set,
    Unset,
}

/// A token of RFC 9110 section 5.6.2.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Parses a size in bytes within a range. The error is what was expected.
fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = value::bytes(text).map_err(str::to_owned)?;
    let (min, max) = (show_bytes(*range.start()), show_bytes(*range.end()));
    range.contains(&bytes).then_some(bytes).ok_or_else(|| format!("a size from {min} to {max}"))
}
