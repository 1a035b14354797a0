use super::config::default_spool_limit;
use super::*;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

fn read(vars: &[(&str, &str)]) -> (Config, Vec<Problem>) {
    Config::from_env(vars.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
}

/// Settings without a problem.
fn valid(vars: &[(&str, &str)]) -> Config {
    let (config, problems) = read(vars);
    assert_eq!(problems, []);
    config
}

#[test]
fn defaults_are_those_in_the_table() {
    let config = valid(&[("DYNO", "web.1"), ("TAILRACE_DRAIN_URL", "https://h/x")]);
    assert!(config.enabled && config.passthrough && !config.app_known);
    assert_eq!((config.max_line, config.spool_bytes), (10_000, None));
    assert_eq!((config.batch_linger, config.stop_grace), (Duration::from_secs(1), Duration::from_secs(28)));
    assert_eq!(config.spool_dir, PathBuf::from("/tmp/tailrace"));
    assert_eq!((config.frame_host.as_str(), config.frame_proc.as_str()), ("host", "web.1"));
    assert_eq!((config.drains[0].batch_bytes, config.drains[0].gzip), (512 << 10, false));
}

#[test]
fn the_spool_limit_is_at_most_a_quarter_of_the_quota() {
    let limit = |vars: &[(&str, &str)]| valid(vars).spool_limit(|configured| configured);
    assert_eq!(limit(&[("TAILRACE_MEMORY_QUOTA", "512MiB")]), 128 << 20);
    assert_eq!(limit(&[("TAILRACE_MEMORY_QUOTA", "14GiB")]), 256 << 20);
    assert_eq!(limit(&[("TAILRACE_MEMORY_QUOTA", "512MiB"), ("TAILRACE_SPOOL_BYTES", "1GiB")]), 1 << 30);
    let probed = [None, Some(512 << 20), Some(1 << 20), Some(u64::MAX)].map(default_spool_limit);
    assert_eq!(probed, [256 << 20, 128 << 20, 4 << 20, 256 << 20]);
}

#[test]
fn all_problems_are_reported_at_once_and_each_names_its_variable() {
    let (_, problems) = read(&[
        ("TAILRACE_DRAIN_URL", "https://h/x ftp://h/y http://example.com/z syslog+tls://h:6514"),
        ("TAILRACE_BATCH_LINGER", "soon"),
        ("TAILRACE_MAX_LINE", "20000"),
        ("TAILRACE_PASSTHROUGH", "maybe"),
        ("TAILRACE_DRAIN_TOKEN", "d.1"),
        ("TAILRACE_BATCH_LINGRE", "1s"),
        ("TAILRACE_NONSENSE_OF_ALL_KINDS", "1"),
    ]);
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    for expected in [
        "TAILRACE_DRAIN_URL: URL 2: unknown scheme",
        "TAILRACE_DRAIN_URL: URL 3: http:// would send everything in the clear",
        "TAILRACE_DRAIN_URL: URL 4: syslog drains are not supported",
        "TAILRACE_BATCH_LINGER: found \"soon\", expected a duration",
        "TAILRACE_MAX_LINE: found \"20000\", expected a size from 256 to 10000",
        "TAILRACE_PASSTHROUGH: found \"maybe\", expected on or off",
        "TAILRACE_DRAIN_TOKEN: found 1 tokens, expected 4",
        "TAILRACE_BATCH_LINGRE: unknown setting; did you mean TAILRACE_BATCH_LINGER?",
        "TAILRACE_NONSENSE_OF_ALL_KINDS: unknown setting: `tailrace help settings`",
    ] {
        assert!(texts.iter().any(|text| text.starts_with(expected)), "{expected}: {texts:#?}");
    }
    assert_eq!(problems.len(), 9);
    assert_eq!(problems.iter().filter(|problem| !problem.is_fatal).count(), 2, "unknown names are warnings");
}

#[test]
fn only_settings_have_to_be_utf_8() {
    let not_utf8 = || std::os::unix::ffi::OsStringExt::from_vec(b"\xff".to_vec());
    for (name, fatal) in [
        ("TAILRACE_APP", Some(true)),
        ("TAILRACE_HEADER_X", Some(true)),
        ("TAILRACE_APPS", Some(false)),
        ("TAILRACER_CONFIG", None),
        ("DYNO", None),
    ] {
        let (_, problems) = Config::from_env([(OsString::from(name), not_utf8())]);
        let is_fatal: Vec<bool> = problems.iter().map(|problem| problem.is_fatal).collect();
        assert_eq!(is_fatal, Vec::from_iter(fatal), "{name}: {problems:?}");
    }
}

#[test]
fn tokens_do_not_depend_on_secrets() {
    let token = |app: &str, url: &str| {
        let config = valid(&[("TAILRACE_APP", app), ("TAILRACE_DRAIN_URL", url)]);
        config.drains.iter().map(|drain| drain.token.clone()).collect::<Vec<_>>()
    };
    let first = token("shop", "https://h/secret-1 https://h/other");
    assert_eq!(first, token("shop", "https://u:p@h/secret-2?x https://h/other"));
    assert_ne!(first, token("blog", "https://h/secret-1 https://h/other"));
    assert_ne!(first[0], first[1]);
    assert_eq!((first[0].len(), &first[0][16..17]), (38, "8"));
    let configured =
        valid(&[("TAILRACE_DRAIN_URL", "https://h/x https://h/y"), ("TAILRACE_DRAIN_TOKEN", "d.1 d.2")]);
    assert_eq!((configured.drains[0].token.as_str(), configured.drains[1].token.as_str()), ("d.1", "d.2"));
}

#[test]
fn tokens_do_not_depend_on_the_position() {
    let tokens = |urls: &str| {
        let config = valid(&[("TAILRACE_APP", "shop"), ("TAILRACE_DRAIN_URL", urls)]);
        config.drains.iter().map(|drain| drain.token.clone()).collect::<Vec<_>>()
    };
    let all = tokens("https://a/1 https://b/1 https://b:8443/1 https://b/1 https://b/2");
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 5, "{all:?}");
    for (urls, expected) in [
        ("https://b/1", &[1][..]),
        ("https://b:443/1", &[1]),
        ("https://b:8443/1 https://b/1", &[2, 1]),
        ("https://b/2 https://a/9 https://b/1", &[1, 0, 3]),
    ] {
        assert_eq!(
            tokens(urls),
            expected.iter().map(|index| all[*index].clone()).collect::<Vec<_>>(),
            "{urls}"
        );
    }
    // As it always was: receivers know a drain by its token.
    assert_eq!(tokens("https://h/x"), ["d.00bec6dd-d1d9-8f32-b28d-2b77e8d196bb"]);
}

#[test]
fn header_names_are_capitalized_and_their_values_are_not_shown() {
    let config = valid(&[
        ("TAILRACE_HEADER_X_SUMO_CATEGORY", "HIDDEN"),
        ("TAILRACE_DRAIN_URL", "https://u:HIDDEN@h/HIDDEN?HIDDEN"),
    ]);
    assert_eq!(config.headers, [("X-Sumo-Category".to_owned(), "HIDDEN".to_owned())]);
    assert!(!format!("{config:?} {:?}", config.explicit()).contains("HIDDEN"), "{config:?}");
}

#[test]
fn the_proxy_is_http_without_credentials() {
    assert_eq!(valid(&[("TAILRACE_PROXY", "http://p:3128")]).proxy, Some(("p".to_owned(), 3128)));
    for (name, is_ignored) in [("HTTPS_PROXY", true), ("https_proxy", true), ("HTTP_PROXY", false)] {
        assert_eq!(valid(&[(name, "http://p:3128")]).proxy_ignored, is_ignored, "{name}");
    }
    for invalid in ["p:3128", "https://p:3128", "http://u:SECRET@p:3128"] {
        let (_, problems) = read(&[("TAILRACE_PROXY", invalid)]);
        assert!(problems[0].text.starts_with("expected http://HOST:PORT"), "{problems:?}");
    }
}

#[test]
fn listed_entries_are_wrapped_except_in_one_off_dynos() {
    for (types, dyno, name, wrapped) in [
        ("all", "web.1", "web", true),
        ("all", "release.1", "release", false),
        ("all release", "release.1", "release", true),
        ("", "web.1", "web", true),
        ("none", "web.1", "web", false),
        ("web,worker", "worker.2", "worker", true),
        (" web\n", "web.1", "web", true),
        ("web", "worker.2", "worker", false),
        ("web", "web.1", "Web", false),
        ("all", "run.4321", "web", false),
        ("web", "run-12a34b56d-e78f9", "web", false),
        ("web", "web-12a34b56d-e78f9", "web", true),
        ("all", "run-jobs-12a34b56d-e78f9", "run-jobs", true),
        ("all", "scheduler.7", "clean", true),
    ] {
        let config = valid(&[("TAILRACE_TYPES", types), ("DYNO", dyno)]);
        assert_eq!(config.wraps_type(name), wrapped, "{types:?} {dyno} {name}");
    }
    let (_, problems) = read(&[("TAILRACE_TYPES", "web; worker")]);
    assert_eq!(
        problems[0].to_string(),
        "TAILRACE_TYPES: found \"web; worker\", expected all, none, or names of entries"
    );
}

#[test]
fn every_setting_in_the_table_is_read() {
    let vars: Vec<(String, String)> =
        settings::names().filter(|name| !name.contains('<')).map(|name| (name, String::from("-"))).collect();
    let vars = vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>();
    let (_, problems) = read(&vars);
    assert!(problems.iter().all(|problem| problem.is_fatal), "{problems:#?}");
}

#[test]
fn the_table_in_the_readme_is_up_to_date() {
    let readme = include_str!("../../README.md");
    let between =
        readme.split("<!-- settings -->\n").nth(1).and_then(|rest| rest.split("<!-- /settings -->").next());
    assert_eq!(
        between.map(str::trim),
        Some(markdown().trim()),
        "the table between the markers is out of date"
    );
}

#[test]
fn the_settings_help_is_at_most_100_columns_wide() {
    assert!(help_text().lines().all(|line| line.chars().count() <= 100), "{}", help_text());
}
