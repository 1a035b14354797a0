//! Settings and drain URLs: any values; each problem names its variable, and no text has a secret.

use super::drain_url::DrainUrl;
use super::*;
use crate::tests::fuzz::{Target, fuzz_test};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// Stands for a secret in an input.
const MARK: char = '$';

/// The secret that the `index`th mark stands for: as it is nowhere else.
fn secret(index: usize) -> String {
    format!("q7Zsecret{index}x9")
}

fn with_secrets(text: &str) -> String {
    let mut parts = text.split(MARK);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        out.push_str(&secret(index));
        out.push_str(part);
    }
    out
}

/// Panics when `shown` has a secret of `text`, except where `is_public` says that it may be shown.
fn assert_hidden(text: &str, is_public: impl Fn(usize) -> bool, shown: &str) {
    let shown = shown.to_lowercase();
    for (index, (at, _)) in text.match_indices(MARK).enumerate().filter(|(_, (at, _))| !is_public(*at)) {
        let is_shown = shown.contains(&secret(index).to_lowercase());
        assert!(!is_shown, "{text:?} is shown as {shown}: the secret at {at}");
    }
}

/// Whether byte `at` of a URL is no secret: in its host.
fn is_public(url: &str, at: usize) -> bool {
    let Some(start) = url.find("://").map(|at| at + 3) else { return false };
    let end = url[start..].find('#').map_or(url.len(), |at| start + at);
    let authority_end = url[start..end].find(['/', '?']).map_or(end, |at| start + at);
    let host = url[start..authority_end].rfind('@').map_or(start, |at| start + at);
    (host..authority_end).contains(&at)
}

fn urls(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match DrainUrl::parse(&with_secrets(text)) {
        Err(error) => assert_hidden(text, |_| false, &format!("{error} {error:?}")),
        Ok(url) => {
            assert_hidden(text, |at| is_public(text, at), &format!("{url} {url:?} {}", url.name()));
            assert!(url.port() > 0 && !url.host().is_empty() && url.path_and_query().starts_with('/'));
            let is_sendable = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
            assert!(is_sendable(url.host()) && is_sendable(url.path_and_query()), "{text:?}");
            let authorization = url.authorization();
            assert!(authorization.is_none_or(|value| value.bytes().all(|b| (b' '..=b'~').contains(&b))));
            assert!(url.batch_bytes().is_none_or(|bytes| drain_url::BATCH_BYTES.contains(&bytes)));
            // What is shown is a URL to the same host and port, unless it has a user.
            let shown = url.to_string().replace('\u{2026}', "");
            let again = DrainUrl::parse(&shown.replace('@', "")).expect("what is shown is a URL");
            assert_eq!((again.scheme(), again.host(), again.port()), (url.scheme(), url.host(), url.port()));
        }
    }
}

/// Lines of `NAME=VALUE`, in which the values of these variables are secrets.
fn settings_of_environment(input: &[u8]) {
    let is_secret = |name: &[u8]| {
        name == b"TAILRACE_DRAIN_URL" || name == b"TAILRACE_PROXY" || name.starts_with(b"TAILRACE_HEADER_")
    };
    let mut vars = Vec::new();
    let mut secrets = Vec::new();
    for line in input.split(|b| *b == b'\n') {
        let at = line.iter().position(|b| *b == b'=').unwrap_or(line.len());
        let (name, value) = (&line[..at], line.get(at + 1..).unwrap_or_default());
        let value = match std::str::from_utf8(value) {
            Ok(text) if is_secret(name) => {
                secrets.extend(text.split_whitespace().map(str::to_owned));
                with_secrets(text).into_bytes()
            }
            _ => value.to_owned(),
        };
        vars.push((OsString::from_vec(name.to_owned()), OsString::from_vec(value)));
    }
    let (mut config, problems) = Config::from_env(vars);
    let mut shown = format!("{config:?} {:?} {:?}", config.explicit(), config.drains);
    for problem in &problems {
        let is_other = settings::OTHER_NAMES_OF_DRAIN_URL.contains(&problem.name.as_str());
        assert!(is_other || problem.name.starts_with("TAILRACE"), "{problem}");
        assert!(!problem.text.is_empty(), "{problem}");
        let is_known = settings::names().any(|name| name == problem.name);
        let is_unknown = problem.kind == ProblemKind::UnknownName;
        assert!(is_known || is_unknown || problem.name.starts_with("TAILRACE_"), "{problem}");
        write!(shown, " {problem} {problem:?}").expect("a String takes it");
    }
    // Marks are numbered within a variable: which one is shown does not matter where none may be.
    let has_public = |url: &String| url.match_indices(MARK).any(|(at, _)| is_public(url, at));
    if !secrets.iter().any(has_public) {
        let hidden = (0..9).map(secret).find(|secret| shown.to_lowercase().contains(&secret.to_lowercase()));
        assert_eq!(hidden, None, "{shown}");
    }
    check_limits(&mut config);
}

fn check_limits(config: &mut Config) {
    assert!((256..=10_000).contains(&config.max_line));
    assert!(config.batch_linger <= Duration::from_mins(1) && config.stop_grace <= Duration::from_mins(10));
    assert!((Duration::from_secs(1)..=Duration::from_mins(5)).contains(&config.request_timeout));
    for interval in [config.sample_interval, config.heartbeat].into_iter().flatten() {
        assert!((Duration::from_secs(1)..=Duration::from_hours(24)).contains(&interval));
    }
    assert!(config.spool_limit(|quota| quota) >= 4 << 20);
    assert!(config.memory_quota != Some(0));
    assert!(config.proxy.as_ref().is_none_or(|(host, port)| !host.is_empty() && *port > 0));
    for drain in &config.drains {
        assert!(drain_url::BATCH_BYTES.contains(&(drain.batch_bytes as u64)));
        assert!(!drain.token.is_empty() && drain.token.bytes().all(|b| b.is_ascii_graphic()));
    }
    for (name, value) in &config.headers {
        assert!(!name.is_empty() && value.bytes().all(|b| (b' '..=b'~').contains(&b)));
    }
    for field in [&config.frame_host, &config.frame_app, &config.frame_proc] {
        assert!((1..=128).contains(&field.as_str().len()));
        assert!(field.as_str().bytes().all(|b| b.is_ascii_graphic()));
    }
    config.absolutize_paths();
    let _names: Vec<bool> = ["web", "release", ""].map(|name| config.wraps_type(name)).to_vec();
    config.waits_for_port();
}

const URL_TOKENS: &[&[u8]] = &[
    b"$",
    b"@",
    b":",
    b"/",
    b"?",
    b"#",
    b"&",
    b"=",
    b"[",
    b"]",
    b"%",
    b"%zz",
    b"://",
    b"https://",
    b"http://",
    b"syslog+tls://",
    b"[::1]",
    b"127.0.0.1",
    b":8443",
    b":65536",
    b"gzip=on",
    b"batch=1MiB",
    b"insecure",
];

fuzz_test!(
    no_url_shows_its_secret,
    Target {
        seeds: [
            "https://user:$@collectors.example.com:8443/receiver/v1/$?key=$&x=$#gzip=on&batch=1MiB",
            "https://h/$",
            "http://[::1]:9/a/b?$",
            "https://$@h#insecure",
            "syslog+tls://h:6514",
        ]
        .map(|url| url.as_bytes().to_vec())
        .to_vec(),
        tokens: URL_TOKENS,
        factor: 20.0,
        run: urls,
    }
);

/// All settings, with values that are valid.
const ALL_SETTINGS: &str = "TAILRACE=on
TAILRACE_DRAIN_URL=https://u:$@h:8443/$?k=$#gzip=off https://[::1]/$ http://localhost:9/$
TAILRACE_DRAIN_TOKEN=d.1 d.2 d.3
TAILRACE_APP=shop
DYNO=web.1
TAILRACE_HEADER_X_SUMO_CATEGORY=$
TAILRACE_CA_FILE=ca.pem
TAILRACE_PROXY=http://p:3128
TAILRACE_ALLOW_PLAINTEXT=off
TAILRACE_BATCH_BYTES=512KiB
TAILRACE_BATCH_LINGER=250ms
TAILRACE_REQUEST_TIMEOUT=20s
TAILRACE_SPOOL_DIR=spool
TAILRACE_SPOOL_BYTES=64MiB
TAILRACE_MAX_LINE=10000
TAILRACE_STOP_GRACE=28s
TAILRACE_SAMPLE_INTERVAL=20s
TAILRACE_HEARTBEAT=off
TAILRACE_MEMORY_QUOTA=512MiB
TAILRACE_LIFECYCLE=auto
TAILRACE_PASSTHROUGH=on
TAILRACE_TTY=exec
TAILRACE_FRAME_HOST=host
TAILRACE_LEDGER_FILE=ledger
TAILRACE_TYPES=web,worker
PORT=5000";

fuzz_test!(
    every_problem_names_its_setting_and_no_secret,
    Target {
        seeds: [
            ALL_SETTINGS,
            "TAILRACE_DRAIN_URL=https://h/$",
            "TAILRACE_BATCH_LINGRE=1s\nTAILRACE_PROXY=http://u:$@p:3128\nTAILRACE_HEADER_=$\nTAILRACE_HEADER_X=\u{e9}$",
            "TAILRACE_SAMPLE_INTERVAL=1e9h\nTAILRACE_SPOOL_BYTES=99999999999999999TiB\nTAILRACE_BATCH_LINGER=.5m",
        ]
        .map(|vars| vars.as_bytes().to_vec())
        .to_vec(),
        tokens: &[
            b"$", b"=", b"\n", b" ", b"\t", b".", b"-1", b"0", b"1e309", b"99999999999999999999", b"\xff", b"h", b"ms",
            b"TiB", b"TAILRACE_", b"TAILRACE_HEADER_", b"TAILRACE_DRAIN_URL=", b"https://", b"@", b"/", b"?", b"#",
        ],
        factor: 4.0,
        run: settings_of_environment,
    }
);
