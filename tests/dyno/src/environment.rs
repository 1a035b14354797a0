//! A dyno's environment: the config vars and what the platform sets. Of the caller's environment only PATH is used.

use crate::platform::Generation;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tailrace::frame::Timestamp;

/// PATH of a dyno when the caller has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What the environment is built from.
#[derive(Clone, Copy, Debug)]
pub struct EnvironmentInputs<'a> {
    /// The generation of the platform.
    pub generation: Generation,
    /// The dyno's name.
    pub dyno: &'a str,
    /// The dyno's id.
    pub dyno_id: &'a str,
    /// The app's name.
    pub app_name: &'a str,
    /// The app's directory, as the dyno sees it.
    pub app: &'a Path,
    /// `/tmp`, as the dyno sees it.
    pub tmp: &'a Path,
    /// `$PORT`, for a web dyno.
    pub port: Option<u16>,
    /// Directories in front of the caller's PATH.
    pub path: &'a [PathBuf],
    /// The caller's PATH.
    pub caller_path: Option<&'a OsStr>,
    /// Directory shared with the simulation, as the dyno sees it: the ledger, and the CA certificate of the local drain.
    pub shared_dir: &'a Path,
    /// `TAILRACE_DRAIN_URL`.
    pub drain_url: &'a str,
    /// Whether the drain is the local one.
    pub is_local_drain: bool,
    /// Memory quota in bytes, where the agent cannot read it from the dyno.
    pub memory_quota: Option<u64>,
    /// How long delivery may take after SIGTERM, when the exit timeout is not Heroku's.
    pub stop_grace: Option<Duration>,
    /// The values of `HEROKU_*`, which `heroku labs:enable runtime-dyno-metadata` sets.
    pub metadata: Option<&'a Metadata>,
}

/// Metadata of the app and its release (Dev Center, "Dyno Metadata").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The app's id.
    pub app_id: String,
    /// Creation time of the release (RFC 3339, whole seconds).
    pub released_at: String,
    /// The commit, if the app is in a git repository.
    pub commit: Option<String>,
}

impl Metadata {
    /// For the app in this directory, released now.
    pub fn now(app: &Path) -> Self {
        let now = Timestamp::now().to_string();
        let released_at = now.split('.').next().map(|second| format!("{second}Z")).unwrap_or_default();
        Self { app_id: uuid(), released_at, commit: git_commit(app) }
    }
}

/// The commit that is checked out in this directory, if git knows one.
fn git_commit(app: &Path) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(app).args(["rev-parse", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let commit = text.trim_end();
    let is_hash = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    (output.status.success() && is_hash).then(|| commit.to_owned())
}

/// The app's domain.
pub fn domain(app_name: &str) -> String {
    format!("{app_name}.herokuapp.com")
}

/// Environment variables by name.
pub type Environment = BTreeMap<OsString, OsString>;

/// Agent settings for a simulation, unless the config vars have them: frequent samples, and lifecycle lines, which no
/// platform sends to the local drain.
const DEFAULTS: [(&str, &str); 2] = [("TAILRACE_SAMPLE_INTERVAL", "5s"), ("TAILRACE_LIFECYCLE", "on")];

/// The dyno's environment (Dev Center, "Dynos", "Dyno metadata").
pub fn environment(inputs: &EnvironmentInputs<'_>, config_vars: &Environment) -> Environment {
    let mut vars = config_vars.clone();
    let mut set = |name: &str, value: &OsStr| drop(vars.insert(name.into(), value.into()));
    let mut path = OsString::new();
    for dir in inputs.path {
        path.push(dir);
        path.push(":");
    }
    path.push(inputs.caller_path.unwrap_or(OsStr::new(DEFAULT_PATH)));
    set("PATH", &path);
    set("HOME", inputs.app.as_os_str());
    set("TMPDIR", inputs.tmp.as_os_str());
    set("DYNO", inputs.dyno.as_ref());
    if let Some(port) = inputs.port {
        set("PORT", port.to_string().as_ref());
    }
    if inputs.generation == Generation::Fir {
        set("CNB_APP_DIR", inputs.app.as_os_str());
    }
    if let Some(Metadata { app_id, released_at, commit }) = inputs.metadata {
        set("HEROKU_APP_DEFAULT_DOMAIN_NAME", domain(inputs.app_name).as_ref());
        set("HEROKU_APP_ID", app_id.as_ref());
        set("HEROKU_APP_NAME", inputs.app_name.as_ref());
        set("HEROKU_DYNO_ID", inputs.dyno_id.as_ref());
        set("HEROKU_RELEASE_CREATED_AT", released_at.as_ref());
        set("HEROKU_RELEASE_VERSION", "v1".as_ref());
        if let Some(commit) = commit {
            set("HEROKU_SLUG_COMMIT", commit.as_ref());
            set("HEROKU_SLUG_DESCRIPTION", format!("Deploy {}", &commit[..8]).as_ref());
        }
    }
    if let Some(grace) =
        inputs.stop_grace.filter(|_| !config_vars.contains_key(OsStr::new("TAILRACE_STOP_GRACE")))
    {
        set("TAILRACE_STOP_GRACE", format!("{}ms", grace.as_millis()).as_ref());
    }
    for (name, value) in DEFAULTS {
        if !config_vars.contains_key(OsStr::new(name)) {
            set(name, value.as_ref());
        }
    }
    if let Some(quota) =
        inputs.memory_quota.filter(|_| !config_vars.contains_key(OsStr::new("TAILRACE_MEMORY_QUOTA")))
    {
        set("TAILRACE_MEMORY_QUOTA", format!("{}MiB", quota >> 20).as_ref());
    }
    set("TAILRACE_DRAIN_URL", inputs.drain_url.as_ref());
    if inputs.is_local_drain {
        set("TAILRACE_CA_FILE", inputs.shared_dir.join("ca.pem").as_os_str());
    }
    set("TAILRACE_LEDGER_FILE", inputs.shared_dir.join("ledger.json").as_os_str());
    vars
}

/// The app's name: the name of its directory, reduced to the characters that the platform allows.
pub fn app_name(app: &Path) -> String {
    let name = app.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    match name.trim_matches('-') {
        "" => "app".to_owned(),
        name => name.to_owned(),
    }
}

/// A random UUID (RFC 9562 section 5.4); not cryptographically secure.
pub fn uuid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = String::with_capacity(36);
    for (index, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").ok(); // writing to a String cannot fail
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment_with(
        change: impl FnOnce(&mut EnvironmentInputs<'_>),
        config: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let path = [PathBuf::from("/a"), PathBuf::from("/b")];
        let metadata = Metadata {
            app_id: "app-id".to_owned(),
            released_at: "2026-03-04T05:06:07Z".to_owned(),
            commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        };
        let mut inputs = EnvironmentInputs {
            generation: Generation::Cedar,
            dyno: "web.1",
            dyno_id: "id",
            app_name: "my-app",
            app: Path::new("/app"),
            tmp: Path::new("/tmp"),
            port: Some(5000),
            path: &path,
            caller_path: Some(OsStr::new("/bin")),
            shared_dir: Path::new("/simulation"),
            drain_url: "https://127.0.0.1:1/x",
            is_local_drain: true,
            memory_quota: None,
            stop_grace: None,
            metadata: Some(&metadata),
        };
        change(&mut inputs);
        let config = config.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let text = |text: OsString| text.into_string().expect("is text");
        environment(&inputs, &config).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn platform_variables_override_config_vars() {
        let vars = environment_with(
            |_| {},
            &[("SECRET", "s"), ("HOME", "/home/me"), ("TAILRACE_DRAIN_URL", "https://real/")],
        );
        for (name, value) in [
            ("DYNO", "web.1"),
            ("HEROKU_APP_DEFAULT_DOMAIN_NAME", "my-app.herokuapp.com"),
            ("HEROKU_APP_ID", "app-id"),
            ("HEROKU_APP_NAME", "my-app"),
            ("HEROKU_RELEASE_CREATED_AT", "2026-03-04T05:06:07Z"),
            ("HEROKU_SLUG_COMMIT", "0123456789abcdef0123456789abcdef01234567"),
            ("HEROKU_SLUG_DESCRIPTION", "Deploy 01234567"),
            ("HOME", "/app"),
            ("PATH", "/a:/b:/bin"),
            ("PORT", "5000"),
            ("SECRET", "s"),
            ("TAILRACE_CA_FILE", "/simulation/ca.pem"),
            ("TAILRACE_DRAIN_URL", "https://127.0.0.1:1/x"),
            ("TAILRACE_LIFECYCLE", "on"),
            ("TMPDIR", "/tmp"),
        ] {
            assert_eq!(vars[name], value, "{name}");
        }
        for name in ["TAILRACE_MEMORY_QUOTA", "TAILRACE_STOP_GRACE"] {
            assert!(!vars.contains_key(name), "{name}: {vars:?}");
        }
    }

    #[test]
    fn optional_variables_are_left_out() {
        let change = |inputs: &mut EnvironmentInputs<'_>| {
            (inputs.port, inputs.metadata, inputs.is_local_drain, inputs.memory_quota) =
                (None, None, false, Some(1 << 30));
            inputs.stop_grace = Some(Duration::from_millis(1500));
        };
        let vars = environment_with(change, &[("TAILRACE_LIFECYCLE", "off")]);
        for name in ["PORT", "HEROKU_DYNO_ID", "HEROKU_SLUG_COMMIT", "TAILRACE_CA_FILE"] {
            assert!(!vars.contains_key(name), "{name}: {vars:?}");
        }
        assert_eq!(
            (vars["TAILRACE_MEMORY_QUOTA"].as_str(), vars["TAILRACE_LIFECYCLE"].as_str()),
            ("1024MiB", "off")
        );
        assert_eq!(vars["TAILRACE_STOP_GRACE"], "1500ms");
    }

    #[test]
    fn a_release_has_a_time_and_a_commit_if_there_is_one() {
        let metadata = Metadata::now(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(metadata.released_at.len() == 20 && metadata.released_at.ends_with('Z'), "{metadata:?}");
        assert_eq!(Metadata::now(Path::new("/")).commit, None);
    }

    #[test]
    fn ids_are_random_uuids() {
        let id = uuid();
        let dashes: Vec<usize> = id.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!((id.len(), dashes), (36, vec![8, 13, 18, 23]), "{id}");
        assert_eq!(id.as_bytes()[14], b'4', "{id}");
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
    }

    #[test]
    fn the_app_name_is_derived_from_the_directory() {
        for (path, name) in
            [("/a/rust-web", "rust-web"), ("/a/My App", "my-app"), ("/", "app"), ("/__", "app")]
        {
            assert_eq!(app_name(Path::new(path)), name);
        }
    }
}
