//! What people type and read: `check`, the help, the ledger's keys.

use crate::harness::{End, Rig};
use std::collections::BTreeSet;

fn check(rig: &Rig, arguments: &[&str]) -> End {
    let end = rig.start(&[&["check"], arguments].concat()).end();
    assert_eq!(end.err, "", "what it has to say is its output");
    end
}

fn has(end: &End, words: &[&str]) {
    let text = end.text();
    assert!(words.iter().all(|words| text.contains(words)), "{words:?}: {text}");
}

#[test]
fn check_is_content_with_a_good_drain() {
    let rig = Rig::new();
    let end = check(&rig, &[]);
    assert_eq!(end.status, 0, "{}", end.text());
    let steps = ["name     ok", "TCP      ok", "TLS      ok", "request  ok", "answer   ok: 204"];
    has(&end, &["app      path", "dyno     web.1", "spool    ", "token    d.", "TAILRACE_CA_FILE=/"]);
    has(&end, &steps);
    has(&end, &["TAILRACE_HEADER_X_KEY=(not shown)", "https://…@127.0.0.1:", "/receiver/v1/http/…?…"]);
    let frames = rig.drain.frames();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].message.starts_with("at=check "), "{frames:?}");
    let report = rig.report();
    assert_eq!((report.requests, report.lines), (1, 0), "its frame is no line of the app");
}

#[test]
fn check_sends_nothing_when_told_so() {
    let rig = Rig::new();
    let end = check(&rig, &["--no-send"]);
    assert_eq!((end.status, rig.report().requests), (0, 0));
    has(&end, &["TLS      ok", "request  not tried"]);
}

#[test]
fn check_tells_settings_apart() {
    let end = check(&Rig::new().unset("TAILRACE_DRAIN_URL"), &[]);
    assert_eq!(end.status, 64);
    has(&end, &["no drain: set TAILRACE_DRAIN_URL"]);
    let rig =
        Rig::new().set("TAILRACE_SPOOL_BYTES", "lots").set("TAILRACE_LINGER", "1s").unset("TAILRACE_APP");
    let end = check(&rig, &[]);
    assert_eq!((end.status, rig.report().requests), (64, 0));
    has(
        &end,
        &["problems\n", "  error: TAILRACE_SPOOL_BYTES: found \"lots\"", "  warning: TAILRACE_LINGER: "],
    );
    has(&end, &["app      unknown", "set TAILRACE_APP"]);
}

#[test]
fn check_says_what_a_drain_has_against_us() {
    for (fault, words) in [
        ("status=401", ["answer   FAILED: 401", "were they rotated?"]),
        ("status=404", ["answer   FAILED: 404", "compare TAILRACE_DRAIN_URL"]),
        ("status=415", ["answer   FAILED: 415", "does not take Logplex frames"]),
        ("status=503", ["answer   FAILED: 503", "trouble of its own"]),
        ("wrong-cert", ["TLS      FAILED: ", "set TAILRACE_CA_FILE"]),
        ("refuse", ["TCP      FAILED: ", "is the host right"]),
    ] {
        let rig = Rig::with_faults(fault);
        // The listener closes a moment after it was told to.
        let address = rig.drain.url().replace("https://", "");
        let address = address.split('/').next().unwrap().to_owned();
        if fault == "refuse" {
            crate::harness::wait_for("closed doors", || std::net::TcpStream::connect(&address).err());
        }
        let end = check(&rig, &[]);
        assert_eq!(end.status, 69, "{fault}: {}", end.text());
        has(&end, &words);
    }
}

#[test]
fn check_tells_of_every_drain() {
    let (rig, other) = (Rig::new(), Rig::with_faults("status=403"));
    let ca = rig.path("both.pem");
    let pems = [&rig, &other].map(|rig| std::fs::read_to_string(rig.drain.ca_file()).unwrap());
    std::fs::write(&ca, pems.concat()).unwrap();
    let urls = format!("{} {}", other.drain.url(), rig.drain.url());
    let rig = rig.set("TAILRACE_CA_FILE", ca.to_str().unwrap()).set("TAILRACE_DRAIN_URL", &urls);
    let end = check(&rig, &[]);
    assert_eq!(end.status, 69);
    has(&end, &["drain 1: ", "answer   FAILED: 403", "drain 2: ", "answer   ok: 204"]);
}

#[test]
fn help_fits_a_screen_and_needs_no_settings() {
    let rig = Rig::new().set("TAILRACE_SPOOL_BYTES", "lots");
    for arguments in [&["--help"][..], &["help"], &["run", "--help"], &["check", "-h"], &[]] {
        let end = rig.start(arguments).end();
        let text = end.text();
        assert_eq!((end.status, end.err.as_str()), (0, ""));
        assert!(text.lines().count() <= 24 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        has(&end, &["tailrace run", "tailrace ship", "tailrace check", "tailrace help settings"]);
    }
}

#[test]
fn every_setting_is_in_the_table() {
    let end = Rig::new().start(&["help", "settings"]).end();
    let text = end.text();
    assert_eq!((end.status, end.err.as_str()), (0, ""));
    let names = "TAILRACE TAILRACE_DRAIN_URL TAILRACE_APP TAILRACE_DRAIN_TOKEN TAILRACE_HEADER_<NAME> \
                 TAILRACE_CA_FILE TAILRACE_ALLOW_PLAINTEXT TAILRACE_PROXY TAILRACE_BATCH_BYTES \
                 TAILRACE_BATCH_LINGER TAILRACE_REQUEST_TIMEOUT TAILRACE_SPOOL_DIR TAILRACE_SPOOL_BYTES \
                 TAILRACE_MAX_LINE TAILRACE_STOP_GRACE TAILRACE_SAMPLE_INTERVAL TAILRACE_SAMPLE_MORE TAILRACE_HEARTBEAT \
                 TAILRACE_LIFECYCLE TAILRACE_MEMORY_QUOTA TAILRACE_PASSTHROUGH TAILRACE_TTY \
                 TAILRACE_FRAME_HOST TAILRACE_FRAME_APP TAILRACE_FRAME_PROC TAILRACE_LEDGER_FILE \
                 TAILRACE_TYPES TAILRACE_VERSION TAILRACE_MIRROR";
    let listed: BTreeSet<&str> = text
        .lines()
        .filter(|line| line.starts_with("TAILRACE"))
        .flat_map(|line| line.split([' ', '/']))
        .collect();
    for name in names.split_whitespace() {
        assert!(listed.contains(name), "{name}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn the_version_is_the_packages() {
    for flag in ["--version", "-V"] {
        let end = Rig::new().start(&[flag]).end();
        assert_eq!((end.status, end.text()), (0, format!("tailrace {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn a_wrong_command_line_is_explained() {
    let rig = Rig::new();
    for arguments in [&["rnu"][..], &["run"], &["run", "--"], &["ship", "x"], &["check", "--sned"]] {
        let end = rig.start(arguments).end();
        assert_eq!((end.status, end.text().as_str()), (64, ""), "{arguments:?}");
        assert!(end.err.starts_with("tailrace: ") && end.err.contains("tailrace --help"), "{}", end.err);
    }
}

#[test]
fn arguments_reach_the_command_untouched() {
    let rig = Rig::new();
    let end = rig.run(&["printf", "[%s]\\n", "--help", "a b", "", "$HOME", "--"]).end();
    assert_eq!(end.text(), "[--help]\n[a b]\n[]\n[$HOME]\n[--]\n");
    rig.all_delivered(&end, 5);
}

#[test]
fn the_ledger_has_exactly_the_keys_that_were_promised() {
    let rig = Rig::with_faults("status=400");
    let end = rig.sh("echo refused").end();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    };
    let ledger = end.ledger();
    assert_eq!(keys(&ledger.value), ["agent", "captured_lines", "drains", "own_frames"]);
    assert_eq!(
        keys(&ledger.value["drains"][0]),
        [
            "adopted_frames",
            "attempts",
            "batches",
            "delivered_lines",
            "drain",
            "dropped",
            "dropped_lines",
            "held_lines",
            "rejected_lines"
        ]
    );
    let name = ledger.value["drains"][0]["drain"].as_str().unwrap();
    assert!(rig.drain.url().contains(&format!("//{name}/")), "host and port, and nothing else: {name}");
    assert_eq!((ledger.own_frames, ledger.drains[0].rejected), (2, 1));
}
