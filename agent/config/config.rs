//! The settings as the agent uses them.

use super::drain_url::DrainUrl;
use super::env::{EnvReader, Problem, size, words};
use super::settings;
use super::value;
use crate::dyno::name::{is_entry_name, platform_sends_lifecycle, process_type};
use crate::frame::Field;
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
pub struct DrainSettings {
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
    pub drains: Vec<DrainSettings>,
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
    pub sample_extra: bool,
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
    explicit: Vec<(String, String)>,
}

impl Config {
    /// Bytes that the spool may hold. Where the setting is absent they follow from the dyno's memory quota, which
    /// `probe` finds out from `TAILRACE_MEMORY_QUOTA` and the machine.
    pub fn spool_limit(&self, probe: impl FnOnce(Option<u64>) -> Option<u64>) -> u64 {
        self.spool_bytes.unwrap_or_else(|| spool_default(probe(self.memory_quota)))
    }

    /// Whether the app is up only when somebody listens on its port.
    pub fn waits_for_port(&self) -> bool {
        self.port.is_some() && process_type(&self.dyno) == "web"
    }

    /// The settings that are paths, as they are now: for a process of ours that starts in another directory.
    pub fn paths(&self) -> Vec<(&'static str, PathBuf)> {
        let explicit = [
            ("TAILRACE_CA_FILE", self.ca_file.as_ref()),
            ("SSL_CERT_FILE", self.ssl_cert_file.as_ref()),
            ("TAILRACE_LEDGER_FILE", self.ledger_file.as_ref()),
            ("TAILRACE_SPOOL_DIR", Some(&self.spool_dir)),
        ];
        explicit.into_iter().filter_map(|(name, path)| Some((name, path?.clone()))).collect()
    }

    /// Makes paths absolute, by the directory that we are in now.
    pub fn absolutize_paths(&mut self) {
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
        f.debug_map().entries(self.explicit.iter().map(|(name, value)| (name, value))).finish()
    }
}

/// What the spool may hold where a dyno has this much memory, in bytes.
pub(super) fn spool_default(quota: Option<u64>) -> u64 {
    quota.map_or(SPOOL_DEFAULT, |quota| SPOOL_DEFAULT.min(quota / 4).max(*SPOOL.start()))
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
        Self::read(EnvReader { vars: map, problems, explicit: Vec::new() })
    }

    fn read(mut from: EnvReader) -> (Self, Vec<Problem>) {
        let second = Duration::from_secs(1);
        let enabled = from.switch("TAILRACE", true);
        let heroku_app = from.secret("HEROKU_APP_NAME");
        let app = from.take("TAILRACE_APP").or(heroku_app);
        let app_known = app.is_some();
        let app = app.unwrap_or_else(|| "unknown".to_owned());
        let dyno = from.secret("DYNO");
        let platform_sends_lifecycle = platform_sends_lifecycle(dyno.as_deref());
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
            sample_extra: from.switch("TAILRACE_SAMPLE_MORE", false),
            heartbeat: from.interval("TAILRACE_HEARTBEAT", None),
            lifecycle: from.parse("TAILRACE_LIFECYCLE", !platform_sends_lifecycle, |text| {
                match text.trim() {
                    "auto" => Ok(!platform_sends_lifecycle),
                    text => value::switch(text).map_err(|_| "auto, on or off".to_owned()),
                }
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
                let are_names = words(text).all(is_entry_name);
                are_names.then(|| text.to_owned()).ok_or_else(|| "all, none, or names of entries".to_owned())
            }),
            dyno,
            explicit: Vec::new(),
        };
        for name in settings::OF_THE_BUILD {
            drop(from.secret(name));
        }
        from.unknown();
        (Self { explicit: from.explicit, ..config }, from.problems)
    }

    /// Whether this Procfile entry runs under us here: never in a one-off dyno, where somebody is at the other end.
    pub fn wraps(&self, name: &str) -> bool {
        let is_listed = |word: &str| word == name || (word == "all" && name != "release");
        process_type(&self.dyno) != "run" && words(&self.types).any(is_listed)
    }

    /// The settings that were explicit, as they may be shown.
    pub fn explicit(&self) -> &[(String, String)] {
        &self.explicit
    }
}
