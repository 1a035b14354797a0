//! Environment variables: reads them one by one and collects what is wrong with them.

use super::config::DrainSettings;
use super::drain_url::{DrainUrl, Scheme};
use super::settings;
use super::value;
use super::value::show_bytes;
use crate::frame::Field;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub name: String,
    /// What was found, what was expected, what to do.
    pub text: String,
    /// Nothing can be shipped with it; else it is a warning.
    pub is_fatal: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.text)
    }
}

/// Reads variables and gathers what is wrong with them.
pub(super) struct EnvReader {
    pub(super) vars: BTreeMap<String, String>,
    pub(super) problems: Vec<Problem>,
    pub(super) explicit: Vec<(String, String)>,
}

impl EnvReader {
    pub(super) fn problem(&mut self, name: &str, text: impl Into<String>, is_fatal: bool) {
        self.problems.push(Problem { name: name.to_owned(), text: text.into(), is_fatal });
    }

    /// A variable that is set to something. Its value is shown as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let text = self.secret(name)?;
        self.explicit.push((name.to_owned(), text.clone()));
        Some(text)
    }

    /// A variable whose value is not shown.
    pub(super) fn secret(&mut self, name: &str) -> Option<String> {
        self.vars.remove(name).filter(|text| !text.trim().is_empty())
    }

    pub(super) fn parse<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some(text) = self.take(name) else { return default };
        parse(&text).unwrap_or_else(|expected| {
            self.problem(name, format!("found {text:?}, expected {expected}"), true);
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
            let (least, most) = (range.start(), range.end());
            let is_inside = range.contains(&duration);
            is_inside.then_some(duration).ok_or_else(|| format!("a duration from {least:?} to {most:?}"))
        })
    }

    /// How often something is done; `off` and 0 are never.
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

    pub(super) fn headers(&mut self) -> Vec<(String, String)> {
        const PREFIX: &str = "TAILRACE_HEADER_";
        let names: Vec<String> = self.vars.keys().filter(|name| name.starts_with(PREFIX)).cloned().collect();
        let mut headers = Vec::new();
        for name in names {
            let words = name[PREFIX.len()..].split('_').map(|word| {
                let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
                format!("{}{}", first.to_ascii_uppercase(), rest.to_ascii_lowercase())
            });
            let header = words.collect::<Vec<_>>().join("-");
            let Some(text) = self.secret(&name) else { continue };
            if text.bytes().all(|b| (b' '..=b'~').contains(&b)) && !header.is_empty() {
                self.explicit.push((name, "(not shown)".to_owned()));
                headers.push((header, text));
            } else {
                self.problem(
                    &name,
                    "expected a header name behind TAILRACE_HEADER_ and printable ASCII as its value",
                    true,
                );
            }
        }
        headers
    }

    pub(super) fn drains(&mut self, app: &str, batch_bytes: u64) -> Vec<DrainSettings> {
        const URL: &str = "TAILRACE_DRAIN_URL";
        const TOKEN: &str = "TAILRACE_DRAIN_TOKEN";
        let plaintext = self.switch("TAILRACE_ALLOW_PLAINTEXT", false);
        let text = self.secret(URL).unwrap_or_default();
        let mut drains = Vec::new();
        let count = text.split_whitespace().count();
        for (index, word) in text.split_whitespace().enumerate() {
            let which = if count > 1 { format!("URL {}: ", index + 1) } else { String::new() };
            let url = match DrainUrl::parse(word) {
                Ok(url) => url,
                Err(error) => {
                    self.problem(URL, format!("{which}{error}"), true);
                    continue;
                }
            };
            match url.scheme() {
                Scheme::SyslogTls | Scheme::Syslog => {
                    let text = "syslog drains are not supported by this version: use an https:// drain";
                    self.problem(URL, format!("{which}{text}"), true);
                    continue;
                }
                Scheme::Http if !url.is_loopback() && !plaintext => {
                    let text = "http:// would send everything in the clear: use https://, or set \
                                TAILRACE_ALLOW_PLAINTEXT=on";
                    self.problem(URL, format!("{which}{text}"), true);
                    continue;
                }
                Scheme::Http | Scheme::Https => {}
            }
            self.explicit.push((URL.to_owned(), url.to_string()));
            let batch_bytes = url.batch_bytes().unwrap_or(batch_bytes) as usize;
            drains.push(DrainSettings {
                token: token(app, url.host(), index),
                gzip: url.gzip(),
                batch_bytes,
                url,
            });
        }
        if let Some(tokens) = self.take(TOKEN) {
            let tokens: Vec<&str> = tokens.split_whitespace().collect();
            let are_plain = tokens.iter().all(|token| token.bytes().all(|b| b.is_ascii_graphic()));
            if tokens.len() == count && are_plain {
                for (drain, token) in drains.iter_mut().zip(tokens) {
                    token.clone_into(&mut drain.token);
                }
            } else {
                let found = tokens.len();
                self.problem(
                    TOKEN,
                    format!("found {found} tokens, expected {count}: one per drain URL"),
                    true,
                );
            }
        }
        drains
    }

    pub(super) fn proxy(&mut self) -> Option<(String, u16)> {
        const NAME: &str = "TAILRACE_PROXY";
        let text = self.secret(NAME)?;
        match DrainUrl::parse(&text) {
            Ok(url) if url.scheme() == Scheme::Http && url.authorization().is_none() => {
                self.explicit.push((NAME.to_owned(), url.to_string()));
                Some((url.host().to_owned(), url.port()))
            }
            _ => {
                self.problem(NAME, "expected http://HOST:PORT, without user and password", true);
                None
            }
        }
    }

    /// Warns of names that nobody reads, with the nearest one that somebody does.
    pub(super) fn unknown(&mut self) {
        let left: Vec<String> =
            self.vars.keys().filter(|name| name.starts_with("TAILRACE_")).cloned().collect();
        for name in left {
            let nearest =
                settings::names().min_by_key(|known| value::distance(known, &name)).unwrap_or_default();
            let text = if value::distance(&nearest, &name) <= 4 {
                format!("unknown setting; did you mean {nearest}?")
            } else {
                "unknown setting: `tailrace help settings` lists them".to_owned()
            };
            self.problem(&name, text, false);
        }
    }
}

/// A size in bytes within a range.
pub(super) fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = value::bytes(text).map_err(str::to_owned)?;
    let (least, most) = (show_bytes(*range.start()), show_bytes(*range.end()));
    range.contains(&bytes).then_some(bytes).ok_or_else(|| format!("a size from {least} to {most}"))
}

/// The drain token: the same for every dyno and release, and when a URL's secret is rotated. In the form of a
/// UUID (RFC 9562 section 5.8, version 8) behind `d.`, as Logplex's own are.
fn token(app: &str, host: &str, ordinal: usize) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [app.as_bytes(), host.as_bytes(), &(ordinal as u64).to_le_bytes()] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finish();
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_ref()[..16]);
    let bits = u128::from_be_bytes(half) & !(0xf << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("d.{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The words of a list.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty())
}
