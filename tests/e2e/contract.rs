//! The interface for people and scripts: `check`, the help texts, the keys of the ledger.

use crate::harness::{Harness, Output, documented_keys, key_paths, wait_for};
use std::collections::BTreeSet;

fn check(harness: &Harness, arguments: &[&str]) -> Output {
    let output = harness.start(&[&["check"], arguments].concat()).finish();
    assert_eq!(output.stderr, "", "check reports on standard output");
    output
}

fn assert_contains(output: &Output, parts: &[&str]) {
    let text = output.stdout_text();
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
}

#[test]
fn check_succeeds_with_a_healthy_drain() {
    let harness = Harness::new();
    let output = check(&harness, &[]);
    assert_eq!(output.status, 0, "{}", output.stdout_text());
    let steps = ["name     ok", "TCP      ok", "TLS      ok", "request  ok", "answer   ok: 204"];
    assert_contains(
        &output,
        &["app      e2e", "dyno     web.1", "spool    ", "token    d.", "TAILRACE_CA_FILE=/"],
    );
    assert_contains(&output, &steps);
    assert_contains(&output, &["TAILRACE_HEADER_X_KEY=(not shown)", "https://…@127.0.0.1:", "/…\n"]);
    let frames = harness.drain.frames();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].message.starts_with("at=check "), "{frames:?}");
    let report = harness.report();
    assert_eq!(
        (report.requests, report.lines),
        (1, 0),
        "the frame of check must not count as a line of the app"
    );
}

#[test]
fn check_no_send_sends_no_request() {
    let harness = Harness::new();
    let output = check(&harness, &["--no-send"]);
    assert_eq!((output.status, harness.report().requests), (0, 0));
    assert_contains(&output, &["TLS      ok", "request  not tried"]);
}

#[test]
fn check_reports_errors_and_warnings_of_settings() {
    let output = check(&Harness::new().unset("TAILRACE_DRAIN_URL"), &[]);
    assert_eq!(output.status, 64);
    assert_contains(&output, &["no drain: set TAILRACE_DRAIN_URL"]);
    let harness =
        Harness::new().set("TAILRACE_SPOOL_BYTES", "lots").set("TAILRACE_LINGER", "1s").unset("TAILRACE_APP");
    let output = check(&harness, &[]);
    assert_eq!((output.status, harness.report().requests), (64, 1), "lines are shipped, so it is tried");
    assert_contains(
        &output,
        &[
            "problems\n",
            "  these settings have their defaults; lines are shipped\n",
            "  error: TAILRACE_SPOOL_BYTES: found \"lots\"",
            "  warning: TAILRACE_LINGER: ",
        ],
    );
    assert_contains(&output, &["app      unknown", "set TAILRACE_APP"]);
}

#[test]
fn check_names_the_failed_step_and_a_remedy() {
    for (fault, expected) in [
        ("status=401", ["answer   FAILED: 401", "were they rotated?"]),
        ("status=404", ["answer   FAILED: 404", "compare TAILRACE_DRAIN_URL"]),
        ("status=415", ["answer   FAILED: 415", "does not take Logplex frames"]),
        ("status=503", ["answer   FAILED: 503", "trouble of its own"]),
        ("wrong-cert", ["TLS      FAILED: ", "set TAILRACE_CA_FILE"]),
        ("refuse", ["TCP      FAILED: ", "is the host right"]),
    ] {
        let harness = Harness::with_faults(fault);
        // The drain closes its listener asynchronously.
        let address = harness.drain.url().replace("https://", "");
        let address = address.split('/').next().unwrap().to_owned();
        if fault == "refuse" {
            wait_for("the listener to close", || std::net::TcpStream::connect(&address).err());
        }
        let output = check(&harness, &[]);
        assert_eq!(output.status, 69, "{fault}: {}", output.stdout_text());
        assert_contains(&output, &expected);
    }
}

#[test]
fn check_reports_every_drain() {
    let (harness, other) = (Harness::new(), Harness::with_faults("status=403"));
    let ca = harness.path("both.pem");
    let pems = [&harness, &other].map(|harness| std::fs::read_to_string(harness.drain.ca_file()).unwrap());
    std::fs::write(&ca, pems.concat()).unwrap();
    let urls = format!("{} {}", other.drain.url(), harness.drain.url());
    let harness = harness.set("TAILRACE_CA_FILE", ca.to_str().unwrap()).set("TAILRACE_DRAIN_URL", &urls);
    let output = check(&harness, &[]);
    assert_eq!(output.status, 69);
    assert_contains(&output, &["drain 1: ", "answer   FAILED: 403", "drain 2: ", "answer   ok: 204"]);
}

#[test]
fn help_fits_a_screen_and_ignores_settings() {
    let harness = Harness::new().set("TAILRACE_SPOOL_BYTES", "lots");
    for arguments in [&["--help"][..], &["help"], &["run", "--help"], &["check", "-h"], &[]] {
        let output = harness.start(arguments).finish();
        let text = output.stdout_text();
        assert_eq!((output.status, output.stderr.as_str()), (0, ""));
        assert!(text.lines().count() <= 24 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_contains(
            &output,
            &["tailrace run", "tailrace ship", "tailrace check", "tailrace help settings"],
        );
    }
}

#[test]
fn every_setting_is_listed_in_the_help() {
    let output = Harness::new().start(&["help", "settings"]).finish();
    let text = output.stdout_text();
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let names = "TAILRACE TAILRACE_DRAIN_URL TAILRACE_APP TAILRACE_DRAIN_TOKEN TAILRACE_HEADER_<NAME> \
                 TAILRACE_CA_FILE TAILRACE_ALLOW_PLAINTEXT TAILRACE_PROXY TAILRACE_BATCH_BYTES \
                 TAILRACE_BATCH_LINGER TAILRACE_REQUEST_TIMEOUT TAILRACE_SPOOL_DIR TAILRACE_SPOOL_BYTES \
                 TAILRACE_MAX_LINE TAILRACE_STOP_GRACE TAILRACE_SAMPLE_INTERVAL TAILRACE_SAMPLE_MORE TAILRACE_HEARTBEAT \
                 TAILRACE_LIFECYCLE TAILRACE_MEMORY_QUOTA TAILRACE_PASSTHROUGH TAILRACE_TTY \
                 TAILRACE_FRAME_HOST TAILRACE_FRAME_APP TAILRACE_FRAME_PROC TAILRACE_LEDGER_FILE \
                 TAILRACE_TYPES TAILRACE_VERSION TAILRACE_MIRROR TAILRACE_BUILD";
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
fn the_version_is_that_of_the_package() {
    for flag in ["--version", "-V"] {
        let output = Harness::new().start(&[flag]).finish();
        assert_eq!(
            (output.status, output.stdout_text()),
            (0, format!("tailrace {}\n", env!("CARGO_PKG_VERSION")))
        );
    }
}

#[test]
fn a_wrong_command_line_exits_with_64_and_names_the_help() {
    let harness = Harness::new();
    for arguments in [&["rnu"][..], &["run"], &["run", "--"], &["ship", "x"], &["check", "--sned"]] {
        let output = harness.start(arguments).finish();
        assert_eq!((output.status, output.stdout_text().as_str()), (64, ""), "{arguments:?}");
        assert!(
            output.stderr.starts_with("tailrace: ") && output.stderr.contains("tailrace --help"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn arguments_reach_the_command_unchanged() {
    let harness = Harness::new();
    let output = harness.run(&["printf", "[%s]\\n", "--help", "a b", "", "$HOME", "--"]).finish();
    assert_eq!(output.stdout_text(), "[--help]\n[a b]\n[]\n[$HOME]\n[--]\n");
    harness.assert_all_delivered(&output, 5);
}

#[test]
fn the_ledger_has_exactly_the_documented_keys() {
    let harness = Harness::with_faults("status=400");
    let output = harness.sh("echo refused").finish();
    let ledger = output.ledger();
    let [documented, _] = documented_keys();
    assert_eq!(key_paths(&ledger.value), documented);
    let name = ledger.value["drains"][0]["drain"].as_str().unwrap();
    assert!(
        harness.drain.url().contains(&format!("//{name}/")),
        "the name must be host and port only: {name}"
    );
    assert_eq!((ledger.agent_frames, ledger.drains[0].rejected), (2, 1));
}
