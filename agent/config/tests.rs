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
fn long_header_fields_leave_less_room_for_the_message() {
    let longest = "x".repeat(128);
    let names = ["TAILRACE_FRAME_HOST", "TAILRACE_FRAME_APP", "TAILRACE_FRAME_PROC"];
    let fields = names.map(|name| (name, longest.as_str()));
    // LEN and a space, `<190>1 `, the time, three fields, `- `, and the line feed; each field with its space.
    assert_eq!(valid(&fields).max_line, 10_240 - 6 - 7 - 33 - 3 * 129 - 2 - 1);
    assert_eq!(valid(&[&fields[..], &[("TAILRACE_MAX_LINE", "9000")]].concat()).max_line, 9000);
}

#[test]
fn settings_have_the_values_that_they_are_given() {
    let config = valid(&[
        ("DYNO", "web.1"),
        ("HEROKU_APP_NAME", "shop"),
        ("HEROKU_DYNO_ID", "1f0c0a5e"),
        ("PORT", " 5000 "),
        ("SSL_CERT_FILE", "/certs"),
        ("TMPDIR", "/var/tmp"),
        ("TAILRACE", "off"),
        ("TAILRACE_DRAIN_URL", "https://h/x#batch=1MiB https://h/y"),
        ("TAILRACE_BATCH_BYTES", "64KiB"),
        ("TAILRACE_CA_FILE", "ca.pem"),
        ("TAILRACE_LEDGER_FILE", "ledger.json"),
        ("TAILRACE_SAMPLE_INTERVAL", "0"),
        ("TAILRACE_SAMPLE_MORE", "on"),
        ("TAILRACE_HEARTBEAT", "1m"),
        ("TAILRACE_LIFECYCLE", "on"),
        ("TAILRACE_TTY", "wrap"),
        ("TAILRACE_FRAME_APP", "shop"),
    ]);
    assert!(!config.enabled && config.app_known && config.sample_extra && config.lifecycle);
    assert_eq!((config.app.as_str(), config.dyno_id.as_deref()), ("shop", Some("1f0c0a5e")));
    assert_eq!((config.port, config.waits_for_port(), config.tty), (Some(5000), true, Tty::Wrap));
    assert_eq!((config.sample_interval, config.heartbeat), (None, Some(Duration::from_mins(1))));
    assert_eq!(config.drains.iter().map(|drain| drain.batch_bytes).collect::<Vec<_>>(), [1 << 20, 64 << 10]);
    assert_eq!(config.frame_app.as_str(), "shop");
    let paths = config.paths();
    let expected = [
        ("TAILRACE_CA_FILE", "ca.pem"),
        ("SSL_CERT_FILE", "/certs"),
        ("TAILRACE_LEDGER_FILE", "ledger.json"),
        ("TAILRACE_SPOOL_DIR", "/var/tmp/tailrace"),
    ];
    assert_eq!(paths, expected.map(|(name, path)| (name, PathBuf::from(path))));
    let mut absolute = config.clone();
    absolute.absolutize_paths();
    let here = std::env::current_dir().expect("a current directory");
    let expected = paths.into_iter().map(|(name, path)| (name, here.join(path))).collect::<Vec<_>>();
    assert_eq!(absolute.paths(), expected);
    let explicit = config.explicit();
    assert!(explicit.contains(&("TAILRACE_HEARTBEAT".to_owned(), "1m".to_owned())), "{explicit:?}");
    assert!(explicit.contains(&("TAILRACE_DRAIN_URL".to_owned(), "https://h/…".to_owned())), "{explicit:?}");
    assert!(format!("{config:?}").contains(r#""TAILRACE_HEARTBEAT": "1m""#));
}

#[test]
fn the_app_is_up_at_once_unless_a_web_process_has_a_port() {
    for (dyno, port, waits) in [
        ("web.1", Some("5000"), true),
        ("web.1", None, false),
        ("web.1", Some("none"), false),
        ("worker.1", Some("5000"), false),
    ] {
        let port = port.map(|port| ("PORT", port));
        let vars: Vec<_> = [("DYNO", dyno)].into_iter().chain(port).collect();
        let config = valid(&vars);
        assert_eq!(config.waits_for_port(), waits, "{dyno} {port:?}");
    }
}

#[test]
fn lifecycle_lines_are_sent_where_the_platform_sends_none() {
    let fir = "web-12a34b56d-e78f9";
    for (dyno, setting, expected) in [
        ("web.1", "auto", false),
        (fir, "auto", true),
        (fir, "", true),
        ("web.1", "on", true),
        (fir, "off", false),
    ] {
        let config = valid(&[("DYNO", dyno), ("TAILRACE_LIFECYCLE", setting)]);
        assert_eq!(config.lifecycle, expected, "{dyno} {setting}");
    }
}

#[test]
fn the_shipper_is_ended_for_a_forbidden_call_only_in_tests() {
    for (value, kills) in [("kill", true), ("deny", false), ("", false)] {
        assert_eq!(valid(&[("TAILRACE_TEST_CONFINEMENT", value)]).confinement_kills, kills, "{value}");
    }
}

#[test]
fn values_are_accepted_up_to_their_limits() {
    for (name, accepted, refused) in [
        ("TAILRACE_BATCH_BYTES", ["16KiB", "4MiB"], ["16383", "4194305"]),
        ("TAILRACE_BATCH_LINGER", ["0", "60s"], ["60001ms", "-1s"]),
        ("TAILRACE_REQUEST_TIMEOUT", ["1s", "5m"], ["999ms", "300001ms"]),
        ("TAILRACE_SPOOL_BYTES", ["4MiB", "64GiB"], ["4194303", "68719476737"]),
        ("TAILRACE_MAX_LINE", ["256", "10000"], ["255", "10001"]),
        ("TAILRACE_STOP_GRACE", ["0", "10m"], ["600001ms", "1"]),
        ("TAILRACE_SAMPLE_INTERVAL", ["1s", "24h"], ["999ms", "86401s"]),
        ("TAILRACE_HEARTBEAT", ["off", "0s"], ["never", "1"]),
        ("TAILRACE_MEMORY_QUOTA", ["1", "1TiB"], ["0", "much"]),
        ("TAILRACE_LIFECYCLE", ["auto", "off"], ["automatic", "2"]),
        ("TAILRACE_TTY", ["exec", " wrap "], ["on", "Exec"]),
        ("TAILRACE_FRAME_HOST", ["h", "a-long-name"], ["a name", "caf\u{e9}"]),
        ("TAILRACE_HEADER_X", ["a value", "~"], ["caf\u{e9}", "a\tb"]),
        ("TAILRACE_DRAIN_TOKEN", ["", " "], ["d.1", "d.1 d.2"]),
        ("TAILRACE_ALLOW_PLAINTEXT", ["on", "0"], ["2", "maybe"]),
    ] {
        for value in accepted {
            valid(&[(name, value)]);
        }
        for value in refused {
            let (_, problems) = read(&[(name, value)]);
            assert_eq!(problems.len(), 1, "{name}={value}: {problems:?}");
            let is_bad = problems[0].kind == ProblemKind::BadValue;
            assert!(is_bad && problems[0].name == name, "{value}: {problems:?}");
        }
    }
    let bytes = valid(&[("TAILRACE_SPOOL_BYTES", "64GiB")]).spool_bytes;
    assert_eq!(bytes, Some(64 << 30));
    let (_, problems) = read(&[("TAILRACE_HEADER_", "a value")]);
    assert!(problems[0].text.starts_with("expected a header name"), "{problems:?}");
}

#[test]
fn drains_without_encryption_are_on_this_machine_or_allowed() {
    for (url, setting, is_drain) in [
        ("http://127.0.0.1:9/x", "off", true),
        ("http://localhost/x", "off", true),
        ("http://h/x", "off", false),
        ("http://h/x", "on", true),
        ("https://h/x", "off", true),
        ("syslog://h", "on", false),
        ("syslog+tls://h", "on", false),
    ] {
        let (config, problems) = read(&[("TAILRACE_DRAIN_URL", url), ("TAILRACE_ALLOW_PLAINTEXT", setting)]);
        assert_eq!(
            (config.drains.len(), problems.len()),
            (is_drain.into(), (!is_drain).into()),
            "{url} {setting}"
        );
    }
    let (_, problems) = read(&[("TAILRACE_DRAIN_URL", "ftp://h")]);
    assert_eq!(problems[0].text, "unknown scheme: expected https://", "the only URL has no number");
    let (_, problems) = read(&[("TAILRACE_DRAIN_URL", "https://h ftp://h")]);
    assert_eq!(problems[0].text, "URL 2: unknown scheme: expected https://");
}

#[test]
fn a_token_is_printable_and_one_per_drain() {
    for (tokens, is_valid) in
        [("d.1 d.2", true), ("d.1", false), ("d.1 d.2 d.3", false), ("d.1 caf\u{e9}", false)]
    {
        let (_, problems) =
            read(&[("TAILRACE_DRAIN_URL", "https://h/x https://h/y"), ("TAILRACE_DRAIN_TOKEN", tokens)]);
        assert_eq!(problems.is_empty(), is_valid, "{tokens}: {problems:?}");
    }
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
        "TAILRACE_MAX_LINE: 20000: more than 10000; did you mean 10000?",
        "TAILRACE_PASSTHROUGH: found \"maybe\", expected on or off",
        "TAILRACE_DRAIN_TOKEN: found 1 tokens, expected 4",
        "TAILRACE_BATCH_LINGRE: unknown setting; did you mean TAILRACE_BATCH_LINGER?",
        "TAILRACE_NONSENSE_OF_ALL_KINDS: unknown setting: `tailrace help settings`",
    ] {
        assert!(texts.iter().any(|text| text.starts_with(expected)), "{expected}: {texts:#?}");
    }
    assert_eq!(problems.len(), 9);
    assert_eq!(
        problems.iter().filter(|problem| problem.kind == ProblemKind::UnknownName).count(),
        2,
        "unknown names are warnings"
    );
}

#[test]
fn only_settings_have_to_be_utf_8() {
    let not_utf8 = || std::os::unix::ffi::OsStringExt::from_vec(b"\xff".to_vec());
    for (name, expected) in [
        ("TAILRACE_APP", Some(ProblemKind::BadValue)),
        ("TAILRACE_HEADER_X", Some(ProblemKind::BadValue)),
        ("TAILRACE_APPS", Some(ProblemKind::UnknownName)),
        ("TAILRACER_CONFIG", None),
        ("DYNO", None),
    ] {
        let (_, problems) = Config::from_env([(OsString::from(name), not_utf8())]);
        let kinds: Vec<ProblemKind> = problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, Vec::from_iter(expected), "{name}: {problems:?}");
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
        "TAILRACE_TYPES: web; worker: names are separated by commas; did you mean web,worker?"
    );
    let (_, problems) = read(&[("TAILRACE_TYPES", "web/worker")]);
    assert_eq!(
        problems[0].to_string(),
        "TAILRACE_TYPES: found \"web/worker\", expected all, none, or names of entries"
    );
}

#[test]
fn a_bad_value_is_named_with_its_nearest_right_form_and_the_default_is_used() {
    for (name, value, expected) in [
        ("TAILRACE_STOP_GRACE", "20", "20: no unit; did you mean 20s?"),
        ("TAILRACE_STOP_GRACE", "20 seconds", "20 seconds: not a unit that is known; did you mean 20s?"),
        ("TAILRACE_STOP_GRACE", "1h", "1h: more than 10m; did you mean 10m?"),
        ("TAILRACE_STOP_GRACE", "'20s'", "'20s': it is in quotes; did you mean 20s?"),
        ("TAILRACE_STOP_GRACE", "soon", "found \"soon\", expected a duration such as 250ms, 20s or 5m"),
        ("TAILRACE_HEARTBEAT", "60", "60: no unit; did you mean 60s?"),
        ("TAILRACE_HEARTBEAT", "never", "never: not a value that is known; did you mean off?"),
        ("TAILRACE_SPOOL_BYTES", "64", "64: less than 4MiB; did you mean 64MiB?"),
        ("TAILRACE_MEMORY_QUOTA", "512 Mi", "512 Mi: not a unit that is known; did you mean 512MiB?"),
        ("TAILRACE", "disabled", "disabled: not a value that is known; did you mean off?"),
        ("TAILRACE_TTY", "Wrap", "Wrap: not a value that is known; did you mean wrap?"),
        ("TAILRACE_LIFECYCLE", "automatic", "automatic: not a value that is known; did you mean auto?"),
        ("TAILRACE_FRAME_HOST", "my host", "my host: a frame cannot hold it; did you mean my_host?"),
        (
            "TAILRACE_PROXY",
            "p:3128",
            "expected http://HOST:PORT, without user and password: put http:// before it",
        ),
    ] {
        let (config, problems) = read(&[("TAILRACE_DRAIN_URL", "https://h/x"), (name, value)]);
        assert_eq!(problems[0].text, expected, "{name}={value}");
        assert_eq!((problems.len(), config.drains.len()), (1, 1), "{name}={value}: {problems:?}");
        let set = |(name, _): &(String, String)| name != "TAILRACE_DRAIN_URL";
        assert_eq!(config.explicit().iter().find(|setting| set(setting)), None, "a bad value is not in use");
        let defaults = valid(&[("TAILRACE_DRAIN_URL", "https://h/x")]);
        assert_eq!(
            (config.stop_grace, config.heartbeat, config.spool_bytes, config.enabled, config.tty),
            (defaults.stop_grace, defaults.heartbeat, defaults.spool_bytes, defaults.enabled, defaults.tty)
        );
    }
}

#[test]
fn white_space_around_values_is_ignored() {
    let config = valid(&[
        ("TAILRACE_DRAIN_URL", "\n https://h/x\r\n https://h/y \r\n"),
        ("TAILRACE_DRAIN_TOKEN", "d.1 d.2\n"),
        ("TAILRACE_APP", " shop\n"),
        ("TAILRACE_STOP_GRACE", "\t20s\r\n"),
        ("TAILRACE_CA_FILE", " ca.pem\n"),
        ("TAILRACE_FRAME_HOST", "h\n"),
        ("TAILRACE_HEADER_X", " a value\n"),
        ("TAILRACE_HEARTBEAT", "off\n"),
    ]);
    assert_eq!(
        config.drains.iter().map(|drain| drain.url.path_and_query()).collect::<Vec<_>>(),
        ["/x", "/y"]
    );
    assert_eq!((config.app.as_str(), config.stop_grace), ("shop", Duration::from_secs(20)));
    assert_eq!((config.ca_file.as_deref(), config.frame_host.as_str()), (Some("ca.pem".as_ref()), "h"));
    assert_eq!((config.headers[0].1.as_str(), config.drains[1].token.as_str()), ("a value", "d.2"));
}

#[test]
fn urls_that_cannot_be_used_are_left_out_and_the_others_keep_their_tokens() {
    let (config, problems) = read(&[
        ("TAILRACE_DRAIN_URL", "https://a/1 ftp://b/2 https://c/3"),
        ("TAILRACE_DRAIN_TOKEN", "d.1 d.2 d.3"),
    ]);
    let drains: Vec<_> = config.drains.iter().map(|drain| (drain.url.host(), drain.token.as_str())).collect();
    assert_eq!(drains, [("a", "d.1"), ("c", "d.3")]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].text, "URL 2: unknown scheme: expected https://");
}

#[test]
fn quotes_and_separators_of_urls_are_named_and_no_part_of_a_url_is_shown() {
    for (urls, expected) in [
        ("\"https://h/HIDDEN\"", &["there are quotes (\") around the URL: remove them"][..]),
        ("'https://h/HIDDEN", &["there are quotes (') around the URL: remove them"]),
        ("\u{201c}https://h/HIDDEN\u{201d}", &["there are quotes (\u{201c}) around the URL: remove them"]),
        (
            "https://h/HIDDEN,https://h/HIDDEN",
            &["several URLs with a comma between them: put a blank between them"],
        ),
        (
            "https://h/HIDDEN;http://h/HIDDEN",
            &["several URLs with a semicolon between them: put a blank between them"],
        ),
        (
            "https://h/HIDDEN, https://h/HIDDEN; https://h/HIDDEN",
            &[
                "URL 1: put a blank between them, and nothing else",
                "URL 2: put a blank between them, and nothing else",
            ],
        ),
        (
            "'https://h/HIDDEN https://h/HIDDEN'",
            &[
                "URL 1: there are quotes (') around the URL: remove them",
                "URL 2: there are quotes (') around the URL: remove them",
            ],
        ),
        ("https://h/<HIDDEN>", &["byte 10 is < or >: is it the placeholder of an example?"]),
    ] {
        let (_, problems) = read(&[("TAILRACE_DRAIN_URL", urls)]);
        let texts: Vec<&str> = problems.iter().map(|problem| problem.text.as_str()).collect();
        assert_eq!(texts, expected, "{urls}");
    }
    // What is no separator: a comma in one URL, a URL in another's query.
    valid(&[("TAILRACE_DRAIN_URL", "https://h/a,b;c?u=https://i/,")]);
}

#[test]
fn unknown_names_get_the_setting_that_was_meant() {
    for (name, expected) in [
        ("TAILRACE_URL", "TAILRACE_DRAIN_URL"),
        ("TAILRACE_DRAIN", "TAILRACE_DRAIN_URL"),
        ("TAILRACE_LOG_DRAIN_URL", "TAILRACE_DRAIN_URL"),
        ("TAILRACE_SUMO_URL", "TAILRACE_DRAIN_URL"),
        ("TAILRACE_DRIAN_URL", "TAILRACE_DRAIN_URL"),
        ("TAILRACE_LINGER", "TAILRACE_BATCH_LINGER"),
        ("TAILRACE_BYTES", "TAILRACE_BATCH_BYTES or TAILRACE_SPOOL_BYTES"),
        ("TAILRACE_GRACE", "TAILRACE_STOP_GRACE"),
        ("TAILRACE_SPOOL_DIRECTORY", "TAILRACE_SPOOL_DIR"),
        ("TAILRACE_DRAIN_CA_FILE", "TAILRACE_CA_FILE"),
        ("TAILRACE_PROXY_URL", "TAILRACE_PROXY"),
    ] {
        let (_, problems) = read(&[("TAILRACE_DRAIN_URL", "https://h/x"), (name, "https://h/HIDDEN")]);
        assert_eq!(
            problems.iter().map(Problem::to_string).collect::<Vec<_>>(),
            [format!("{name}: unknown setting; did you mean {expected}?")]
        );
    }
}

#[test]
fn without_a_drain_url_its_other_names_are_recognized() {
    for name in settings::OTHER_NAMES_OF_DRAIN_URL {
        let (_, problems) = read(&[(name, "https://h/HIDDEN")]);
        let expected = format!("{name}: tailrace does not read it; did you mean TAILRACE_DRAIN_URL?");
        assert_eq!(problems.iter().map(Problem::to_string).collect::<Vec<_>>(), [expected]);
        valid(&[(name, "https://h/x"), ("TAILRACE_DRAIN_URL", "https://h/x")]);
        valid(&[(name, " ")]);
    }
}

#[test]
fn headers_that_tailrace_sets_itself_are_left_out() {
    for (name, expected) in [
        ("TAILRACE_HEADER_CONTENT_TYPE", "tailrace sets Content-Type itself: unset it"),
        ("TAILRACE_HEADER_LOGPLEX_DRAIN_TOKEN", "tailrace sets Logplex-Drain-Token itself: unset it"),
        (
            "TAILRACE_HEADER_A B",
            "expected a header name after TAILRACE_HEADER_ and printable ASCII as its value",
        ),
    ] {
        let (config, problems) = read(&[(name, "HIDDEN"), ("TAILRACE_HEADER_X_KEY", "HIDDEN")]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].text.as_str(), config.headers.len()), (expected, 1), "{name}");
    }
}

#[test]
fn limits_in_the_table_are_those_of_the_values() {
    let mut checked = 0;
    for setting in SETTINGS {
        let Some((min, rest)) = setting.values.split_once("` to `") else { continue };
        let (min, max) = (min.trim_start_matches('`'), rest.split('`').next().unwrap_or_default());
        for limit in [min, max] {
            valid(&[(setting.name, limit)]);
        }
        // Much more than the limit, whatever its unit; and less, where less is not nothing.
        let more = format!("9{max}");
        let less = (!min.starts_with('0'))
            .then(|| format!("0.9{}", min.trim_start_matches(|c: char| c.is_ascii_digit())));
        for value in [Some(more), less].into_iter().flatten() {
            let (_, problems) = read(&[(setting.name, &value)]);
            assert_eq!(problems.len(), 1, "{}={value}", setting.name);
        }
        if !setting.default.contains('`') && setting.default != "off" {
            valid(&[(setting.name, setting.default)]);
        }
        checked += 1;
    }
    assert_eq!(checked, 8);
}

#[test]
fn every_setting_in_the_table_is_read() {
    let vars: Vec<(String, String)> =
        settings::names().filter(|name| !name.contains('<')).map(|name| (name, String::from("-"))).collect();
    let vars = vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>();
    let (_, problems) = read(&vars);
    assert!(problems.iter().all(|problem| problem.kind == ProblemKind::BadValue), "{problems:#?}");
}

#[test]
fn the_table_in_the_readme_is_up_to_date() {
    let readme = include_str!("../../README.md");
    let between =
        readme.split("<!-- settings -->\n").nth(1).and_then(|rest| rest.split("<!-- /settings -->").next());
    assert_eq!(
        between.map(str::trim),
        Some(markdown().trim()),
        "expected between the markers:\n{}",
        markdown()
    );
}

#[test]
fn lines_of_the_settings_help_are_filled_up_to_96_columns() {
    let help = help_text();
    assert!(help.lines().all(|line| line.chars().count() <= 96), "{help}");
    for (line, next) in help.lines().zip(help.lines().skip(1)) {
        if let (true, Some(next)) = (line.starts_with("    "), next.strip_prefix("    "))
            && !next.starts_with("values: ")
        {
            let word = next.split(' ').next().unwrap_or_default();
            assert!(line.chars().count() + 1 + word.chars().count() > 96, "{word} fits: {line}");
        }
    }
}

#[test]
fn the_settings_help_has_name_default_and_meaning() {
    let help = help_text();
    for expected in [
        "\nTAILRACE  (default: on)\n    off: exec the app and do nothing else, at the next boot\n",
        "\nTAILRACE_LEDGER_FILE\n    the final ledger, as JSON\n",
        "\nTAILRACE_APP  (default: $HEROKU_APP_NAME, else unknown)\n",
    ] {
        assert!(help.contains(expected), "{expected}: {help}");
    }
}
