//! Settings: environment variables, because config vars are this platform's convention. Pure: no file is looked
//! at. All problems are found at once, and no secret is in any text.

mod table;
pub mod value;

#[cfg(test)]
mod tests;

pub use table::{SETTINGS, Setting, markdown, text};
pub(crate) use value::show_bytes;

use crate::drain::url::{DrainUrl, Scheme};
use crate::frame::Field;
use crate::lifecycle::{Lifecycle, process_type};
use crate::procfile;
use crate::sample::{self, Wish};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// What a batch may hold, in bytes.
pub(crate) const BATCH: RangeInclusive<u64> = (16 << 10)..=(4 << 20);
/// What a line may hold, in bytes of message per frame. With its header it must fit the 10,240 bytes that
/// heroku/x and Grafana Alloy accept.
const LINE: RangeInclusive<u64> = 256..=10_000;
/// What the spool may hold, in bytes.
const SPOOL: RangeInclusive<u64> = (4 << 20)..=(64 << 30);
const SPOOL_DEFAULT: u64 = 256 << 20;

/// What to do when standard output is a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tty {
    /// Run the command plainly.
    Exec,
    /// Ship anyway.
    Wrap,
}

/// One drain.
#[derive(Clone, Debug)]
pub struct DrainConfig {
    /// Where it is.
    pub url: DrainUrl,
    /// `Logplex-Drain-Token`.
    pub token: String,
    /// Whether bodies go out with gzip.
    pub gzip: bool,
    /// Bytes at which a batch closes.
    pub batch_bytes: usize,
}

/// All settings.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone)]
pub struct Config {
    /// `TAILRACE` is not `off`.
    pub enabled: bool,
    /// The drains.
    pub drains: Vec<DrainConfig>,
    /// Which app this is.
    pub app: String,
    /// Whether that was set.
    pub app_known: bool,
    /// `$DYNO`.
    pub dyno: String,
    /// Extra request headers: names and values. Values may be secret.
    pub headers: Vec<(String, String)>,
    /// PEM bundle trusted beside the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// `SSL_CERT_FILE`: trusted too, when it is there.
    pub ssl_cert_file: Option<PathBuf>,
    /// Host and port of the CONNECT proxy.
    pub proxy: Option<(String, u16)>,
    /// The app's own `HTTPS_PROXY` is set, and not used.
    pub proxy_ignored: bool,
    /// A batch closes after this.
    pub batch_linger: Duration,
    /// For one request.
    pub request_timeout: Duration,
    /// Where the spool is.
    pub spool_dir: PathBuf,
    /// Bytes that it may hold, when somebody set that; [`Config::spool_limit`] knows them in any case.
    pub spool_bytes: Option<u64>,
    /// Bytes of message per frame.
    pub max_line: usize,
    /// From TERM to the end of delivery.
    pub stop_grace: Duration,
    /// The dyno's memory, in bytes.
    pub memory_quota: Option<u64>,
    /// How often the dyno is sampled.
    pub sample_interval: Option<Duration>,
    /// A third line per sample.
    pub sample_more: bool,
    /// How often the agent says how it is.
    pub heartbeat: Option<Duration>,
    /// Whether it is told what happens to the dyno.
    pub lifecycle: bool,
    /// `PORT`, where a web process listens.
    pub port: Option<u16>,
    /// `HEROKU_DYNO_ID`.
    pub dyno_id: Option<String>,
    /// Whether what was recorded also goes to the dyno's own output.
    pub passthrough: bool,
    /// What to do with a terminal.
    pub tty: Tty,
    /// HOSTNAME of the frames.
    pub frame_host: Field,
    /// APP-NAME of the frames.
    pub frame_app: Field,
    /// PROCID of the frames.
    pub frame_proc: Field,
    /// Where the final ledger goes.
    pub ledger_file: Option<PathBuf>,
    /// Which Procfile entries run under us.
    types: String,
    given: Vec<(String, String)>,
}

impl Config {
    /// What is sampled.
    pub fn wish(&self) -> Wish {
        Wish {
            dyno: self.dyno.clone(),
            dyno_id: self.dyno_id.clone(),
            quota: self.memory_quota,
            more: self.sample_more,
            alarms: self.lifecycle,
        }
    }

    /// Bytes that the spool may hold. When nobody set that, the dyno's memory is looked up.
    pub fn spool_limit(&self) -> u64 {
        self.spool_bytes.unwrap_or_else(|| spool_default(sample::quota(self.memory_quota)))
    }

    /// Whether the app is up only when somebody listens on its port.
    pub fn waits_for_port(&self) -> bool {
        self.port.is_some() && Lifecycle::of(&self.dyno).is_web
    }

    /// The settings that are paths, as they are now: for a process of ours that starts in another directory.
    pub fn paths(&self) -> Vec<(&'static str, PathBuf)> {
        let given = [
            ("TAILRACE_CA_FILE", self.ca_file.as_ref()),
            ("SSL_CERT_FILE", self.ssl_cert_file.as_ref()),
            ("TAILRACE_LEDGER_FILE", self.ledger_file.as_ref()),
            ("TAILRACE_SPOOL_DIR", Some(&self.spool_dir)),
        ];
        given.into_iter().filter_map(|(name, path)| Some((name, path?.clone()))).collect()
    }

    /// Makes paths absolute, by the directory that we are in now.
    pub fn settle_paths(&mut self) {
        let optional = [&mut self.ca_file, &mut self.ssl_cert_file, &mut self.ledger_file];
        let paths = optional.into_iter().flatten().chain([&mut self.spool_dir]);
        for path in paths {
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.given.iter().map(|(name, value)| (name, value))).finish()
    }
}

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
struct Reader {
    vars: BTreeMap<String, String>,
    problems: Vec<Problem>,
    given: Vec<(String, String)>,
}

impl Reader {
    fn problem(&mut self, name: &str, text: impl Into<String>, is_fatal: bool) {
        self.problems.push(Problem { name: name.to_owned(), text: text.into(), is_fatal });
    }

    /// A variable that is set to something. Its value is shown as it is.
    fn take(&mut self, name: &str) -> Option<String> {
        let text = self.secret(name)?;
        self.given.push((name.to_owned(), text.clone()));
        Some(text)
    }

    /// A variable whose value is not shown.
    fn secret(&mut self, name: &str) -> Option<String> {
        self.vars.remove(name).filter(|text| !text.trim().is_empty())
    }

    fn parse<T>(&mut self, name: &str, default: T, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let Some(text) = self.take(name) else { return default };
        parse(&text).unwrap_or_else(|expected| {
            self.problem(name, format!("found {text:?}, expected {expected}"), true);
            default
        })
    }

    fn switch(&mut self, name: &str, default: bool) -> bool {
        self.parse(name, default, |text| value::switch(text).map_err(str::to_owned))
    }

    fn duration(&mut self, name: &str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        self.parse(name, default, |text| {
            let duration = value::duration(text).map_err(str::to_owned)?;
            let (least, most) = (range.start(), range.end());
            let is_inside = range.contains(&duration);
            is_inside.then_some(duration).ok_or_else(|| format!("a duration from {least:?} to {most:?}"))
        })
    }

    /// How often something is done; `off` and 0 are never.
    fn interval(&mut self, name: &str, default: Option<Duration>) -> Option<Duration> {
        const DAY: Duration = Duration::from_hours(24);
        self.parse(name, default, |text| match value::duration(text) {
            _ if text.trim() == "off" => Ok(None),
            Ok(Duration::ZERO) => Ok(None),
            Ok(interval) if (Duration::from_secs(1)..=DAY).contains(&interval) => Ok(Some(interval)),
            _ => Err("off, or a duration from 1s to 24h".to_owned()),
        })
    }

    fn bytes(&mut self, name: &str, default: u64, range: &RangeInclusive<u64>) -> u64 {
        self.parse(name, default, |text| size(text, range))
    }

    fn field(&mut self, name: &str, default: Field) -> Field {
        self.parse(name, default, |text| {
            Field::new(text).map_err(|_| "1 to 128 printable ASCII characters without blanks".to_owned())
        })
    }

    fn headers(&mut self) -> Vec<(String, String)> {
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
                self.given.push((name, "(not shown)".to_owned()));
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

    fn drains(&mut self, app: &str, batch_bytes: u64) -> Vec<DrainConfig> {
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
            self.given.push((URL.to_owned(), url.to_string()));
            let batch_bytes = url.batch_bytes().unwrap_or(batch_bytes) as usize;
            drains.push(DrainConfig {
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

    fn proxy(&mut self) -> Option<(String, u16)> {
        const NAME: &str = "TAILRACE_PROXY";
        let text = self.secret(NAME)?;
        match DrainUrl::parse(&text) {
            Ok(url) if url.scheme() == Scheme::Http && url.authorization().is_none() => {
                self.given.push((NAME.to_owned(), url.to_string()));
                Some((url.host().to_owned(), url.port()))
            }
            _ => {
                self.problem(NAME, "expected http://HOST:PORT, without user and password", true);
                None
            }
        }
    }

    /// Warns of names that nobody reads, with the nearest one that somebody does.
    fn unknown(&mut self) {
        let left: Vec<String> =
            self.vars.keys().filter(|name| name.starts_with("TAILRACE_")).cloned().collect();
        for name in left {
            let nearest =
                table::names().min_by_key(|known| value::distance(known, &name)).unwrap_or_default();
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
fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = value::bytes(text).map_err(str::to_owned)?;
    let (least, most) = (show_bytes(*range.start()), show_bytes(*range.end()));
    range.contains(&bytes).then_some(bytes).ok_or_else(|| format!("a size from {least} to {most}"))
}

/// What the spool may hold where a dyno has this much memory, in bytes.
fn spool_default(quota: Option<u64>) -> u64 {
    quota.map_or(SPOOL_DEFAULT, |quota| SPOOL_DEFAULT.min(quota / 4).max(*SPOOL.start()))
}

/// The words of a list.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty())
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

impl Config {
    /// Reads the settings from environment variables. What is wrong is in the second value; the settings hold
    /// defaults there.
    pub fn from_env(vars: impl IntoIterator<Item = (OsString, OsString)>) -> (Self, Vec<Problem>) {
        let text = |os: OsString| os.into_string().ok();
        let vars = vars.into_iter().filter_map(|(name, value)| Some((text(name)?, value)));
        let mut problems = Vec::new();
        let mut map = BTreeMap::new();
        for (name, value) in vars {
            match value.into_string() {
                Ok(value) => drop(map.insert(name, value)),
                Err(_) if name.starts_with("TAILRACE") => {
                    problems.push(Problem {
                        name,
                        text: "its value is not UTF-8".to_owned(),
                        is_fatal: true,
                    });
                }
                Err(_) => {}
            }
        }
        Self::read(Reader { vars: map, problems, given: Vec::new() })
    }

    fn read(mut from: Reader) -> (Self, Vec<Problem>) {
        let second = Duration::from_secs(1);
        let enabled = from.switch("TAILRACE", true);
        let heroku_app = from.secret("HEROKU_APP_NAME");
        let app = from.take("TAILRACE_APP").or(heroku_app);
        let app_known = app.is_some();
        let app = app.unwrap_or_else(|| "unknown".to_owned());
        let dyno = from.secret("DYNO");
        let is_told = Lifecycle::is_told(dyno.as_deref());
        // One word, in the lines of samples as in the frames' header.
        let dyno = dyno.map_or_else(|| "local.1".to_owned(), |dyno| Field::coerce(&dyno).as_str().to_owned());
        let batch_bytes = from.bytes("TAILRACE_BATCH_BYTES", 512 << 10, &BATCH);
        let drains = from.drains(&app, batch_bytes);
        let memory_quota = from.parse("TAILRACE_MEMORY_QUOTA", None, |text| {
            let bytes = value::bytes(text).map_err(str::to_owned)?;
            (bytes > 0).then_some(Some(bytes)).ok_or_else(|| "a size above 0".to_owned())
        });
        let tmp = from.secret("TMPDIR").unwrap_or_else(|| "/tmp".to_owned());
        let spool_dir = from.take("TAILRACE_SPOOL_DIR");
        let config = Self {
            enabled,
            drains,
            app,
            app_known,
            headers: from.headers(),
            ca_file: from.take("TAILRACE_CA_FILE").map(PathBuf::from),
            ssl_cert_file: from.secret("SSL_CERT_FILE").map(PathBuf::from),
            proxy: from.proxy(),
            proxy_ignored: ["HTTPS_PROXY", "https_proxy"].iter().any(|name| from.vars.contains_key(*name)),
            batch_linger: from.duration("TAILRACE_BATCH_LINGER", second, Duration::ZERO..=60 * second),
            request_timeout: from.duration("TAILRACE_REQUEST_TIMEOUT", 20 * second, second..=300 * second),
            spool_dir: spool_dir.map_or_else(|| PathBuf::from(tmp).join("tailrace"), PathBuf::from),
            spool_bytes: from.parse("TAILRACE_SPOOL_BYTES", None, |text| size(text, &SPOOL).map(Some)),
            max_line: from.bytes("TAILRACE_MAX_LINE", *LINE.end(), &LINE) as usize,
            stop_grace: from.duration("TAILRACE_STOP_GRACE", 28 * second, Duration::ZERO..=600 * second),
            memory_quota,
            sample_interval: from.interval("TAILRACE_SAMPLE_INTERVAL", Some(20 * second)),
            sample_more: from.switch("TAILRACE_SAMPLE_MORE", false),
            heartbeat: from.interval("TAILRACE_HEARTBEAT", None),
            lifecycle: from.parse("TAILRACE_LIFECYCLE", !is_told, |text| match text.trim() {
                "auto" => Ok(!is_told),
                text => value::switch(text).map_err(|_| "auto, on or off".to_owned()),
            }),
            port: from.secret("PORT").and_then(|port| port.trim().parse().ok()),
            dyno_id: from.secret("HEROKU_DYNO_ID"),
            passthrough: from.switch("TAILRACE_PASSTHROUGH", true),
            tty: from.parse("TAILRACE_TTY", Tty::Exec, |text| match text.trim() {
                "exec" => Ok(Tty::Exec),
                "wrap" => Ok(Tty::Wrap),
                _ => Err("exec or wrap".to_owned()),
            }),
            frame_host: from.field("TAILRACE_FRAME_HOST", Field::coerce("host")),
            frame_app: from.field("TAILRACE_FRAME_APP", Field::coerce("app")),
            frame_proc: from.field("TAILRACE_FRAME_PROC", Field::coerce(&dyno)),
            ledger_file: from.take("TAILRACE_LEDGER_FILE").map(PathBuf::from),
            types: from.parse("TAILRACE_TYPES", String::from("all"), |text| {
                let are_names = words(text).all(procfile::is_name);
                are_names.then(|| text.to_owned()).ok_or_else(|| "all, none, or names of entries".to_owned())
            }),
            dyno,
            given: Vec::new(),
        };
        for name in table::OF_THE_BUILD {
            drop(from.secret(name));
        }
        from.unknown();
        (Self { given: from.given, ..config }, from.problems)
    }

    /// Whether this Procfile entry runs under us here: never in a one-off dyno, where somebody is at the other end.
    pub fn wraps(&self, name: &str) -> bool {
        let is_listed = |word: &str| word == name || (word == "all" && name != "release");
        process_type(&self.dyno) != "run" && words(&self.types).any(is_listed)
    }

    /// The settings that were given, as they may be shown.
    pub fn given(&self) -> &[(String, String)] {
        &self.given
    }
}
