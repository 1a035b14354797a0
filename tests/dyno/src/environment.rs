//! A dyno's environment: what the platform sets, the config vars, and nothing of the caller's but the tail of its PATH.

use crate::platform::Generation;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tailrace::frame::{StampText, now_micros};

/// Where programs are when the caller has no PATH.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What the environment is made from.
#[derive(Clone, Copy, Debug)]
pub struct EnvironmentInputs<'a> {
    /// The platform.
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
    /// Where it shall listen, if it shall.
    pub port: Option<u16>,
    /// In front of PATH.
    pub path: &'a [PathBuf],
    /// The caller's PATH.
    pub caller_path: Option<&'a OsStr>,
    /// What lies outside of the dyno: the ledger goes there, and the local drain's authority is there.
    pub exchange: &'a Path,
    /// `TAILRACE_DRAIN_URL`.
    pub drain_url: &'a str,
    /// The drain is the local one.
    pub is_local: bool,
    /// Memory in bytes, where nothing else in the dyno tells.
    pub quota: Option<u64>,
    /// When delivery ends after SIGTERM, where the platform kills sooner or later than Heroku's.
    pub grace: Option<Duration>,
    /// `HEROKU_*` are set, as by `heroku labs:enable runtime-dyno-metadata`.
    pub metadata: Option<&'a Metadata>,
}

/// What a dyno is told of its app and its release (Dev Center, "Dyno Metadata").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The app's id.
    pub app_id: String,
    /// When the release was made, to the second.
    pub released_at: String,
    /// The commit, where there is one.
    pub commit: Option<String>,
}

impl Metadata {
    /// Of an app in this directory that is released now.
    pub fn now(app: &Path) -> Self {
        let stamp = StampText::of(now_micros()).to_string();
        let released_at = stamp.split('.').next().map(|second| format!("{second}Z")).unwrap_or_default();
        Self { app_id: uuid(), released_at, commit: commit(app) }
    }
}

/// The commit that is checked out there; none where git does not say.
fn commit(app: &Path) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(app).args(["rev-parse", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let commit = text.trim_end();
    let is_hash = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    (output.status.success() && is_hash).then(|| commit.to_owned())
}

/// Where an app is to be found.
pub fn domain(app_name: &str) -> String {
    format!("{app_name}.herokuapp.com")
}

/// Environment variables by name.
pub type Environment = BTreeMap<OsString, OsString>;

/// Settings of a desk, for who has not set them: a sample soon, and lines about the dyno's life, which no platform
/// sends to this drain.
const DEFAULTS: [(&str, &str); 2] = [("TAILRACE_SAMPLE_INTERVAL", "5s"), ("TAILRACE_LIFECYCLE", "on")];

/// The dyno's environment (Dev Center, "Dynos", "Dyno metadata").
pub fn environment(site: &EnvironmentInputs<'_>, config_vars: &Environment) -> Environment {
    let mut vars = config_vars.clone();
    let mut set = |name: &str, value: &OsStr| drop(vars.insert(name.into(), value.into()));
    let mut path = OsString::new();
    for dir in site.path {
        path.push(dir);
        path.push(":");
    }
    path.push(site.caller_path.unwrap_or(OsStr::new(PATH)));
    set("PATH", &path);
    set("HOME", site.app.as_os_str());
    set("TMPDIR", site.tmp.as_os_str());
    set("DYNO", site.dyno.as_ref());
    if let Some(port) = site.port {
        set("PORT", port.to_string().as_ref());
    }
    if site.generation == Generation::Fir {
        set("CNB_APP_DIR", site.app.as_os_str());
    }
    if let Some(Metadata { app_id, released_at, commit }) = site.metadata {
        set("HEROKU_APP_DEFAULT_DOMAIN_NAME", domain(site.app_name).as_ref());
        set("HEROKU_APP_ID", app_id.as_ref());
        set("HEROKU_APP_NAME", site.app_name.as_ref());
        set("HEROKU_DYNO_ID", site.dyno_id.as_ref());
        set("HEROKU_RELEASE_CREATED_AT", released_at.as_ref());
        set("HEROKU_RELEASE_VERSION", "v1".as_ref());
        if let Some(commit) = commit {
            set("HEROKU_SLUG_COMMIT", commit.as_ref());
            set("HEROKU_SLUG_DESCRIPTION", format!("Deploy {}", &commit[..8]).as_ref());
        }
    }
    if let Some(grace) = site.grace.filter(|_| !config_vars.contains_key(OsStr::new("TAILRACE_STOP_GRACE"))) {
        set("TAILRACE_STOP_GRACE", format!("{}ms", grace.as_millis()).as_ref());
    }
    for (name, value) in DEFAULTS {
        if !config_vars.contains_key(OsStr::new(name)) {
            set(name, value.as_ref());
        }
    }
    if let Some(quota) = site.quota.filter(|_| !config_vars.contains_key(OsStr::new("TAILRACE_MEMORY_QUOTA")))
    {
        set("TAILRACE_MEMORY_QUOTA", format!("{}MiB", quota >> 20).as_ref());
    }
    set("TAILRACE_DRAIN_URL", site.drain_url.as_ref());
    if site.is_local {
        set("TAILRACE_CA_FILE", site.exchange.join("ca.pem").as_os_str());
    }
    set("TAILRACE_LEDGER_FILE", site.exchange.join("ledger.json").as_os_str());
    vars
}

/// What the app is called: its directory's name, in the letters that the platform allows.
pub fn app_name(app: &Path) -> String {
    let name = app.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    match name.trim_matches('-') {
        "" => "app".to_owned(),
        name => name.to_owned(),
    }
}

/// A random UUID (RFC 9562 section 5.4), not hard to guess.
pub fn uuid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = String::with_capacity(36);
    for (index, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated(
        change: impl FnOnce(&mut EnvironmentInputs<'_>),
        config: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let path = [PathBuf::from("/a"), PathBuf::from("/b")];
        let metadata = Metadata {
            app_id: "app-id".to_owned(),
            released_at: "2026-03-04T05:06:07Z".to_owned(),
            commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        };
        let mut site = EnvironmentInputs {
            generation: Generation::Cedar,
            dyno: "web.1",
            dyno_id: "id",
            app_name: "my-app",
            app: Path::new("/app"),
            tmp: Path::new("/tmp"),
            port: Some(5000),
            path: &path,
            caller_path: Some(OsStr::new("/bin")),
            exchange: Path::new("/simulation"),
            drain_url: "https://127.0.0.1:1/x",
            is_local: true,
            quota: None,
            grace: None,
            metadata: Some(&metadata),
        };
        change(&mut site);
        let config = config.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let text = |text: OsString| text.into_string().expect("is text");
        environment(&site, &config).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn a_dyno_has_what_the_platform_sets_and_its_config_vars() {
        let vars = simulated(
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
    fn what_a_site_has_not_is_not_set() {
        let change = |site: &mut EnvironmentInputs<'_>| {
            (site.port, site.metadata, site.is_local, site.quota) = (None, None, false, Some(1 << 30));
            site.grace = Some(Duration::from_millis(1500));
        };
        let vars = simulated(change, &[("TAILRACE_LIFECYCLE", "off")]);
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
    fn a_release_is_made_now_of_what_is_checked_out() {
        let metadata = Metadata::now(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(metadata.released_at.len() == 20 && metadata.released_at.ends_with('Z'), "{metadata:?}");
        assert_eq!(Metadata::now(Path::new("/")).commit, None);
    }

    #[test]
    fn ids_look_like_uuids() {
        let id = uuid();
        let dashes: Vec<usize> = id.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!((id.len(), dashes), (36, vec![8, 13, 18, 23]), "{id}");
        assert_eq!(id.as_bytes()[14], b'4', "{id}");
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
    }

    #[test]
    fn apps_are_called_by_their_directory() {
        for (path, name) in
            [("/a/rust-web", "rust-web"), ("/a/My App", "my-app"), ("/", "app"), ("/__", "app")]
        {
            assert_eq!(app_name(Path::new(path)), name);
        }
    }
}
