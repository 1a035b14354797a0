//! The settings, parsed and with their defaults.

use super::drain::{DRAIN_URL, DrainSettings};
use super::drain_url::BATCH_BYTES;
use super::env::{Collected, DrainUrlState, EnvReader, Problem};
use super::nearest::{self, Nearest};
use super::settings;
use super::value;
use crate::dyno::name::{is_entry_name, platform_sends_lifecycle, process_type};
use crate::frame::{Encoder, Field, PRI_APP};
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Limits of `TAILRACE_MAX_LINE`: bytes of message per frame.
const MAX_LINE_BYTES: RangeInclusive<u64> = 256..=10_000;
/// Limits of the spool, in bytes.
const SPOOL_BYTES: RangeInclusive<u64> = (4 << 20)..=(64 << 30);
const DEFAULT_SPOOL_BYTES: u64 = 256 << 20;
const DEFAULT_BATCH_BYTES: u64 = 512 << 10;
const SECOND: Duration = Duration::from_secs(1);
const BATCH_LINGER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(1);
const REQUEST_TIMEOUT: RangeInclusive<Duration> = SECOND..=Duration::from_mins(5);
const STOP_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(10);

/// What `tailrace run` does when standard output is a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tty {
    /// Executes the command without the agent.
    Exec,
    /// Runs it under the agent.
    Wrap,
}

/// All settings.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent setting")]
#[derive(Clone)]
pub struct Config {
    /// False when `TAILRACE` is `off`.
    pub enabled: bool,
    /// The drains.
    pub drains: Vec<DrainSettings>,
    /// Name of the app.
    pub app: String,
    /// Whether the name is set; else it is `unknown`.
    pub app_known: bool,
    /// `$DYNO`.
    pub dyno: String,
    /// Extra request headers: names and values. Values may be secret.
    pub headers: Vec<(String, String)>,
    /// PEM bundle trusted beside the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// `SSL_CERT_FILE`: trusted too, when the file exists.
    pub ssl_cert_file: Option<PathBuf>,
    /// Host and port of the CONNECT proxy.
    pub proxy: Option<(String, u16)>,
    /// The app's `HTTPS_PROXY` is set; tailrace does not use it.
    pub proxy_ignored: bool,
    /// Time after which a batch closes.
    pub batch_linger: Duration,
    /// Timeout of one request.
    pub request_timeout: Duration,
    /// Directory of the spool.
    pub spool_dir: PathBuf,
    /// The configured limit of the spool, in bytes; [`Config::spool_limit`] is the effective one.
    pub spool_bytes: Option<u64>,
    /// Bytes of message per frame: `TAILRACE_MAX_LINE`, or fewer where the header fields leave less room.
    pub max_line: usize,
    /// Time from SIGTERM to the end of delivery.
    pub stop_grace: Duration,
    /// The configured memory quota of the dyno, in bytes.
    pub memory_quota: Option<u64>,
    /// Interval of samples; none when they are off.
    pub sample_interval: Option<Duration>,
    /// Whether samples have a third line.
    pub sample_extra: bool,
    /// Interval of the agent's status lines; none when they are off.
    pub heartbeat: Option<Duration>,
    /// Whether lifecycle lines of the dyno are sent.
    pub lifecycle: bool,
    /// `PORT`, where a web process listens.
    pub port: Option<u16>,
    /// `HEROKU_DYNO_ID`.
    pub dyno_id: Option<String>,
    /// Whether lines that were recorded are also written to the dyno's output.
    pub passthrough: bool,
    /// What to do when standard output is a terminal.
    pub tty: Tty,
    /// HOSTNAME of the frames.
    pub frame_host: Field,
    /// APP-NAME of the frames.
    pub frame_app: Field,
    /// PROCID of the frames.
    pub frame_proc: Field,
    /// For tests (`tests/README.md`): a system call that the shipper must not make ends it.
    pub confinement_kills: bool,
    /// Where the final ledger is written.
    pub ledger_file: Option<PathBuf>,
    /// `TAILRACE_TYPES`, a list.
    wrapped_types: String,
    explicit: Vec<(String, String)>,
}

impl Config {
    /// The limit of the spool in bytes. Where it is not configured it follows from the dyno's memory quota, which `probe`
    /// determines from the configured quota.
    pub fn spool_limit(&self, probe: impl FnOnce(Option<u64>) -> Option<u64>) -> u64 {
        self.spool_bytes.unwrap_or_else(|| default_spool_limit(probe(self.memory_quota)))
    }

    /// Bytes of the longest message that a frame with these header fields has room for. Receivers refuse longer frames,
    /// and the reader of the spool takes them for damage.
    fn max_message_len(&self) -> usize {
        Encoder::new(PRI_APP, &self.frame_host, &self.frame_app, &self.frame_proc).max_message_len()
    }

    /// Whether the app is up only when a process listens on its port.
    pub fn waits_for_port(&self) -> bool {
        self.port.is_some() && process_type(&self.dyno) == "web"
    }

    /// The variables whose values are paths, with their present values: for a process of the agent that starts in
    /// another directory.
    pub fn paths(&self) -> Vec<(&'static str, PathBuf)> {
        let paths = [
            ("TAILRACE_CA_FILE", self.ca_file.as_ref()),
            ("SSL_CERT_FILE", self.ssl_cert_file.as_ref()),
            ("TAILRACE_LEDGER_FILE", self.ledger_file.as_ref()),
            ("TAILRACE_SPOOL_DIR", Some(&self.spool_dir)),
        ];
        paths.into_iter().filter_map(|(name, path)| Some((name, path?.clone()))).collect()
    }

    /// Makes all paths absolute, relative to the current directory.
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

/// The limit of the spool in bytes where a dyno has this memory quota, in bytes.
pub(super) fn default_spool_limit(quota: Option<u64>) -> u64 {
    quota.map_or(DEFAULT_SPOOL_BYTES, |quota| DEFAULT_SPOOL_BYTES.min(quota / 4).max(*SPOOL_BYTES.start()))
}

impl Config {
    /// Reads the settings from environment variables. The second value is all problems; settings that have one have
    /// their defaults.
    pub fn from_env(vars: impl IntoIterator<Item = (OsString, OsString)>) -> (Self, Vec<Problem>) {
        let mut env = EnvReader::new(vars);
        let drain_url = if env.is_set(DRAIN_URL) { DrainUrlState::Set } else { DrainUrlState::Unset };
        let mut config = Self::read(&mut env);
        config.max_line = config.max_line.min(config.max_message_len());
        for name in settings::BUILD_ONLY {
            drop(env.read_unlisted(name));
        }
        env.warn_of_unknown_names(drain_url);
        let Collected { problems, explicit } = env.finish();
        (Self { explicit, ..config }, problems)
    }

    fn read(env: &mut EnvReader) -> Self {
        let enabled = env.switch("TAILRACE", true);
        let heroku_app = env.read_unlisted("HEROKU_APP_NAME");
        let app = env.read("TAILRACE_APP").or(heroku_app);
        let app_known = app.is_some();
        let app = app.unwrap_or_else(|| "unknown".to_owned());
        let dyno = env.read_unlisted("DYNO");
        let default_lifecycle = !platform_sends_lifecycle(dyno.as_deref());
        // A frame field: sample lines and frame headers show the dyno without blanks.
        let dyno = dyno.map_or_else(|| "local.1".to_owned(), |dyno| Field::coerce(&dyno).as_str().to_owned());
        let batch_bytes = env.bytes("TAILRACE_BATCH_BYTES", DEFAULT_BATCH_BYTES, &BATCH_BYTES);
        Self {
            enabled,
            drains: DrainSettings::read_all(env, &app, batch_bytes),
            app,
            app_known,
            memory_quota: read_memory_quota(env),
            spool_dir: read_spool_dir(env),
            headers: env.headers(),
            ca_file: env.read("TAILRACE_CA_FILE").map(PathBuf::from),
            ssl_cert_file: env.read_unlisted("SSL_CERT_FILE").map(PathBuf::from),
            proxy: env.proxy(),
            proxy_ignored: ["HTTPS_PROXY", "https_proxy"].iter().any(|name| env.contains(name)),
            batch_linger: env.duration("TAILRACE_BATCH_LINGER", SECOND, &BATCH_LINGER),
            request_timeout: env.duration("TAILRACE_REQUEST_TIMEOUT", 20 * SECOND, &REQUEST_TIMEOUT),
            spool_bytes: env.optional_bytes("TAILRACE_SPOOL_BYTES", &SPOOL_BYTES),
            max_line: env.bytes("TAILRACE_MAX_LINE", *MAX_LINE_BYTES.end(), &MAX_LINE_BYTES) as usize,
            stop_grace: env.duration("TAILRACE_STOP_GRACE", 28 * SECOND, &STOP_GRACE),
            sample_interval: env.interval("TAILRACE_SAMPLE_INTERVAL", Some(20 * SECOND)),
            sample_extra: env.switch("TAILRACE_SAMPLE_MORE", false),
            heartbeat: env.interval("TAILRACE_HEARTBEAT", None),
            lifecycle: read_lifecycle(env, default_lifecycle),
            port: env.read_unlisted("PORT").and_then(|port| port.parse().ok()),
            dyno_id: env.read_unlisted("HEROKU_DYNO_ID"),
            passthrough: env.switch("TAILRACE_PASSTHROUGH", true),
            tty: read_tty(env),
            frame_host: env.field("TAILRACE_FRAME_HOST", Field::coerce("host")),
            frame_app: env.field("TAILRACE_FRAME_APP", Field::coerce("app")),
            frame_proc: env.field("TAILRACE_FRAME_PROC", Field::coerce(&dyno)),
            ledger_file: env.read("TAILRACE_LEDGER_FILE").map(PathBuf::from),
            confinement_kills: env
                .read_unlisted("TAILRACE_TEST_CONFINEMENT")
                .is_some_and(|what| what == "kill"),
            wrapped_types: read_types(env),
            dyno,
            explicit: Vec::new(),
        }
    }

    /// Whether this Procfile entry runs under the agent here. In a one-off dyno none does: a person is at its terminal.
    pub fn wraps_type(&self, name: &str) -> bool {
        process_type(&self.dyno) != "run" && self.includes_type(name)
    }

    /// Whether `TAILRACE_TYPES` includes this Procfile entry.
    pub fn includes_type(&self, name: &str) -> bool {
        let matches = |item: &str| item == name || (item == "all" && name != "release");
        list_items(&self.wrapped_types).any(matches)
    }

    /// Names and values of the settings that are set, without secrets.
    pub fn explicit(&self) -> &[(String, String)] {
        &self.explicit
    }
}

fn read_memory_quota(env: &mut EnvReader) -> Option<u64> {
    let parse = |text: &str| {
        let bytes = value::bytes(text).map_err(str::to_owned)?;
        (bytes > 0).then_some(Some(bytes)).ok_or_else(|| "a size above 0".to_owned())
    };
    env.parse("TAILRACE_MEMORY_QUOTA", None, parse, |text| nearest::bytes(text, &(1..=u64::MAX)))
}

fn read_spool_dir(env: &mut EnvReader) -> PathBuf {
    let temporary_dir = env.read_unlisted("TMPDIR").unwrap_or_else(|| "/tmp".to_owned());
    let configured = env.read("TAILRACE_SPOOL_DIR");
    configured.map_or_else(|| PathBuf::from(temporary_dir).join("tailrace"), PathBuf::from)
}

fn read_lifecycle(env: &mut EnvReader, default: bool) -> bool {
    let parse = |text: &str| match text {
        "auto" => Ok(default),
        text => value::switch(text).map_err(|_| "auto, on or off".to_owned()),
    };
    let nearest = |text: &str| nearest::choice(text, &["auto"]).or_else(|| nearest::switch(text));
    env.parse("TAILRACE_LIFECYCLE", default, parse, nearest)
}

fn read_tty(env: &mut EnvReader) -> Tty {
    let parse = |text: &str| match text {
        "exec" => Ok(Tty::Exec),
        "wrap" => Ok(Tty::Wrap),
        _ => Err("exec or wrap".to_owned()),
    };
    env.parse("TAILRACE_TTY", Tty::Exec, parse, |text| nearest::choice(text, &["exec", "wrap"]))
}

fn read_types(env: &mut EnvReader) -> String {
    let parse = |text: &str| {
        let is_valid = list_items(text).all(is_entry_name);
        is_valid.then(|| text.to_owned()).ok_or_else(|| "all, none, or names of entries".to_owned())
    };
    let nearest = |text: &str| {
        let names: Vec<&str> =
            text.split([';', ':', '|', '+', ' ', ',']).filter(|name| !name.is_empty()).collect();
        Some(Nearest { reason: "names are separated by commas".to_owned(), form: names.join(",") })
    };
    env.parse("TAILRACE_TYPES", String::from("all"), parse, nearest)
}

/// The items of a list that is separated by blanks or commas.
fn list_items(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\t', '\n']).filter(|item| !item.is_empty())
}
