//! A dyno's environment: what the platform sets, the config vars of this simulation, and nothing of the caller's but
//! its `TAILRACE_*` variables and the tail of its PATH.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The dyno that is simulated.
pub const DYNO: &str = "web.1";
/// Where programs are when the caller has no PATH.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What the environment is made from.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The app's directory: the dyno's `/app`.
    pub app: &'a Path,
    /// The dyno's `/tmp`.
    pub tmp: &'a Path,
    /// Where it shall listen.
    pub port: u16,
    /// In front of PATH.
    pub path: &'a [PathBuf],
    /// `TAILRACE_DRAIN_URL`.
    pub drain_url: &'a str,
    /// `TAILRACE_CA_FILE`.
    pub ca_file: &'a Path,
    /// `TAILRACE_LEDGER_FILE`.
    pub ledger_file: &'a Path,
}

/// Environment variables by name.
pub type Environment = BTreeMap<OsString, OsString>;

/// Settings of a desk, for who has not set them: a sample soon, the quota of the smallest dyno, and lines about the
/// dyno's life, which no platform sends here.
const DEFAULTS: [(&str, &str); 3] =
    [("TAILRACE_SAMPLE_INTERVAL", "5s"), ("TAILRACE_MEMORY_QUOTA", "512MiB"), ("TAILRACE_LIFECYCLE", "on")];

/// The dyno's environment (Dev Center, "Dynos", "Dyno metadata"). `caller` is the environment of this process.
pub fn environment(site: &Site<'_>, caller: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
    let caller: Environment = caller.into_iter().collect();
    let is_ours = |name: &OsStr| name == "TAILRACE" || name.as_bytes().starts_with(b"TAILRACE_");
    let mut vars: Environment = caller
        .iter()
        .filter(|(name, _)| is_ours(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut set = |name: &str, value: &OsStr| drop(vars.insert(name.into(), value.into()));
    let mut path = OsString::new();
    for dir in site.path {
        path.push(dir);
        path.push(":");
    }
    path.push(caller.get(OsStr::new("PATH")).map_or(OsStr::new(PATH), OsString::as_os_str));
    for (name, value) in DEFAULTS {
        if !caller.contains_key(OsStr::new(name)) {
            set(name, value.as_ref());
        }
    }
    set("PATH", &path);
    set("HOME", site.app.as_os_str());
    set("TMPDIR", site.tmp.as_os_str());
    set("PORT", site.port.to_string().as_ref());
    set("DYNO", DYNO.as_ref());
    set("HEROKU_APP_ID", uuid().as_ref());
    set("HEROKU_APP_NAME", app_name(site.app).as_ref());
    set("HEROKU_DYNO_ID", uuid().as_ref());
    set("HEROKU_RELEASE_VERSION", "v1".as_ref());
    set("TAILRACE_DRAIN_URL", site.drain_url.as_ref());
    set("TAILRACE_CA_FILE", site.ca_file.as_os_str());
    set("TAILRACE_LEDGER_FILE", site.ledger_file.as_os_str());
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

    fn simulated(caller: &[(&str, &str)], path: &[PathBuf]) -> BTreeMap<String, String> {
        let site = Site {
            app: Path::new("/home/me/My App"),
            tmp: Path::new("/tmp/x"),
            port: 5000,
            path,
            drain_url: "https://127.0.0.1:1/x",
            ca_file: Path::new("/tmp/ca"),
            ledger_file: Path::new("/tmp/ledger"),
        };
        let caller = caller.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let text = |text: OsString| text.into_string().expect("is text");
        environment(&site, caller).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn a_dyno_has_what_the_platform_sets_and_nothing_else() {
        let vars = simulated(&[("SECRET", "s"), ("HOME", "/home/me"), ("TAILRACED", "1")], &[]);
        for (name, value) in [
            ("DYNO", "web.1"),
            ("HEROKU_APP_NAME", "my-app"),
            ("HOME", "/home/me/My App"),
            ("PATH", PATH),
            ("PORT", "5000"),
            ("TMPDIR", "/tmp/x"),
        ] {
            assert_eq!(vars[name], value, "{name}");
        }
        assert!(!vars.contains_key("SECRET") && !vars.contains_key("TAILRACED"), "{vars:?}");
    }

    #[test]
    fn settings_pass_but_for_those_of_the_simulation() {
        let caller =
            [("TAILRACE", "off"), ("TAILRACE_MAX_LINE", "500"), ("TAILRACE_DRAIN_URL", "https://other/")];
        let vars = simulated(&caller, &[]);
        assert_eq!((vars["TAILRACE"].as_str(), vars["TAILRACE_MAX_LINE"].as_str()), ("off", "500"));
        assert_eq!(vars["TAILRACE_DRAIN_URL"], "https://127.0.0.1:1/x");
    }

    #[test]
    fn directories_of_the_command_line_come_first() {
        let vars = simulated(&[("PATH", "/bin")], &["/a".into(), "/b".into()]);
        assert_eq!(vars["PATH"], "/a:/b:/bin");
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
