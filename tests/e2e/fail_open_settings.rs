//! Fail open: whatever is wrong with the settings, the app runs, and one line says what is wrong.

use crate::harness::{End, Rig};
use nix::pty::openpty;
use std::fs::File;
use std::io::Read;
use std::process::Stdio;

/// Runs an app that says its pid on both streams and ends with 7; returns whether it ran in our place.
fn execs(rig: &Rig) -> (bool, End) {
    let agent = rig.sh("echo $$; echo err >&2; exit 7");
    let pid = agent.pid();
    let end = agent.end();
    assert_eq!(end.status, 7, "{}", end.err);
    assert!(end.err.ends_with("err\n"), "{}", end.err);
    let in_place = end.text() == format!("{pid}\n");
    assert_eq!(in_place, !end.has_ledger());
    (in_place, end)
}

#[test]
fn without_a_drain_the_app_runs_in_our_place() {
    for rig in [Rig::new().unset("TAILRACE_DRAIN_URL"), Rig::new().set("TAILRACE_DRAIN_URL", " ")] {
        let (in_place, end) = execs(&rig);
        assert!(in_place);
        assert_eq!((end.err.as_str(), rig.report().requests), ("err\n", 0));
    }
}

#[test]
fn off_is_off() {
    let rig = Rig::new().set("TAILRACE", "off");
    let (in_place, end) = execs(&rig);
    assert!(in_place);
    assert_eq!((end.err.as_str(), rig.report().requests), ("err\n", 0));
}

#[test]
fn bad_settings_are_told_all_at_once() {
    let rig = Rig::new()
        .set("TAILRACE_DRAIN_URL", "https://s3cret-user:s3cret-word@127.0.0.1:port/x/LOCAL-SECRET")
        .set("TAILRACE_REQUEST_TIMEOUT", "soon")
        .set("TAILRACE_SPOOL_BYTES", "1")
        .set("TAILRACE_SPOOL_DIRR", "/tmp");
    let (in_place, end) = execs(&rig);
    assert!(in_place);
    let said = end.said();
    assert_eq!(said.len(), 1, "{said:?}");
    let problems =
        ["TAILRACE_DRAIN_URL: ", "TAILRACE_REQUEST_TIMEOUT: found ", "TAILRACE_SPOOL_BYTES: found "];
    let words = ["at=bad-settings", "did you mean TAILRACE_SPOOL_DIR?", "runs without tailrace"];
    for words in problems.iter().chain(&words) {
        assert!(said[0].contains(words), "{words}: {}", said[0]);
    }
}

#[test]
fn insecure_is_refused_with_a_sentence() {
    let (in_place, end) = execs(&Rig::new().option("insecure"));
    assert!(in_place);
    assert!(end.said()[0].contains("at=bad-settings") && end.said()[0].contains("insecure"), "{}", end.err);
}

#[test]
fn plain_http_beyond_this_machine_is_refused() {
    let (in_place, end) = execs(&Rig::new().set("TAILRACE_DRAIN_URL", "http://drain.example/LOCAL-SECRET"));
    assert!(in_place);
    assert!(end.said()[0].contains("TAILRACE_ALLOW_PLAINTEXT"), "{}", end.err);
}

#[test]
fn an_unknown_setting_is_a_warning_and_everything_is_shipped() {
    let rig = Rig::new().set("TAILRACE_BATCH_LINGERS", "2s");
    let (in_place, end) = execs(&rig);
    assert!(!in_place);
    let said = end.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("TAILRACE_BATCH_LINGERS: unknown setting; did you mean TAILRACE_BATCH_LINGER?"));
    rig.all_delivered(&end, 2);
}

#[test]
fn a_bundle_that_cannot_be_read_stops_no_app() {
    let rig = Rig::new().set("TAILRACE_CA_FILE", "/nonexistent/ca.pem").set("TAILRACE_STOP_GRACE", "1s");
    let mut agent = rig.run(&["cat"]);
    agent.feed("line\n");
    let line = agent.wait_said(&["/nonexistent/ca.pem"]);
    let end = agent.end();
    assert_eq!((end.status, end.text().as_str()), (0, "line\n"), "{line}");
    assert_eq!((rig.agree(&end).held, rig.report().requests), (1, 0));
}

#[test]
fn on_a_terminal_the_app_runs_in_our_place_unless_told_otherwise() {
    for (tty, wrapped) in [("exec", false), ("wrap", true)] {
        let rig = Rig::new().set("TAILRACE_TTY", tty);
        let pty = openpty(None, None).unwrap();
        let (mut terminal, slave) = (File::from(pty.master), pty.slave);
        let agent = rig.start_with(|command| {
            command.args(["run", "--", "sh", "-c", "echo $$; exit 7"]).stdout(Stdio::from(slave));
        });
        let pid = agent.pid();
        let end = agent.end();
        let mut shown = [0; 64];
        let count = terminal.read(&mut shown).unwrap();
        let in_place = shown[..count] == *format!("{pid}\r\n").as_bytes();
        assert_eq!((end.status, in_place, end.has_ledger()), (7, !wrapped, wrapped));
        assert_eq!(rig.report().lines, u64::from(wrapped));
    }
}

#[test]
fn ship_reads_nothing_with_bad_settings() {
    for rig in [Rig::new().unset("TAILRACE_DRAIN_URL"), Rig::new().set("TAILRACE_BATCH_LINGER", "x")] {
        let end = rig.start(&["ship"]).end();
        assert_eq!((end.status, end.said().len()), (64, 1), "{}", end.err);
        assert!(end.said()[0].contains("nothing was read"), "{}", end.err);
    }
}
