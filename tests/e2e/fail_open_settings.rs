//! Fail open: the app runs whatever is wrong with the settings, and one message names every problem.

use crate::harness::{Harness, Output, wait_until};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read;
use std::process::Stdio;

/// Runs an app that prints its PID and exits with 7; returns whether the agent replaced itself with the app.
fn run_app(harness: &Harness) -> (bool, Output) {
    let agent = harness.sh("echo $$; echo err >&2; exit 7");
    let pid = agent.pid();
    let output = agent.finish();
    assert_eq!(output.status, 7, "{}", output.stderr);
    assert!(output.stderr.ends_with("err\n"), "{}", output.stderr);
    let replaced = output.stdout_text() == format!("{pid}\n");
    assert_eq!(replaced, !output.has_ledger());
    (replaced, output)
}

#[test]
fn without_a_drain_the_app_replaces_the_agent() {
    for harness in [Harness::new().unset("TAILRACE_DRAIN_URL"), Harness::new().set("TAILRACE_DRAIN_URL", " ")]
    {
        let (replaced, output) = run_app(&harness);
        assert!(replaced);
        assert_eq!((output.stderr.as_str(), harness.report().requests), ("err\n", 0));
    }
}

#[test]
fn the_agent_can_be_turned_off() {
    let harness = Harness::new().set("TAILRACE", "off");
    let (replaced, output) = run_app(&harness);
    assert!(replaced);
    assert_eq!((output.stderr.as_str(), harness.report().requests), ("err\n", 0));
}

#[test]
fn all_bad_settings_are_reported_in_one_message() {
    let harness = Harness::new()
        .set("TAILRACE_DRAIN_URL", "https://s3cret-user:s3cret-word@127.0.0.1:port/x/LOCAL-SECRET")
        .set("TAILRACE_REQUEST_TIMEOUT", "soon")
        .set("TAILRACE_SPOOL_BYTES", "1")
        .set("TAILRACE_SPOOL_DIRR", "/tmp");
    let (replaced, output) = run_app(&harness);
    assert!(replaced);
    let messages = output.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    let problems =
        ["TAILRACE_DRAIN_URL: ", "TAILRACE_REQUEST_TIMEOUT: found ", "TAILRACE_SPOOL_BYTES: 1: less than "];
    let parts = ["at=bad-settings", "did you mean TAILRACE_SPOOL_DIR?", "runs without tailrace"];
    for part in problems.iter().chain(&parts) {
        assert!(messages[0].contains(part), "{part}: {}", messages[0]);
    }
}

#[test]
fn with_bad_values_lines_are_shipped_with_the_defaults() {
    let harness = Harness::new();
    let urls = format!("{} 'https://drain.example/LOCAL-SECRET'", harness.settings()["TAILRACE_DRAIN_URL"]);
    let harness = harness
        .set("TAILRACE_DRAIN_URL", &urls)
        .set("TAILRACE_STOP_GRACE", "20")
        .set("TAILRACE_SPOOL_BYTES", "lots")
        .set("TAILRACE_PROXY", "http://s3cret-user:s3cret-word@proxy.example:3128")
        .set("TAILRACE_HEADER_CONTENT_TYPE", "s3cret-header")
        .set("TAILRACE_APP", " e2e\n");
    let (replaced, output) = run_app(&harness);
    assert!(!replaced);
    let messages = output.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    for part in [
        "at=bad-settings",
        "TAILRACE_DRAIN_URL: URL 2: there are quotes (') around the URL: remove them",
        "TAILRACE_STOP_GRACE: 20: no unit; did you mean 20s?",
        "TAILRACE_SPOOL_BYTES: found ",
        "TAILRACE_PROXY: expected http://HOST:PORT",
        "TAILRACE_HEADER_CONTENT_TYPE: tailrace sets Content-Type itself",
        "these settings have their defaults; lines are shipped to the other drains",
    ] {
        assert!(messages[0].contains(part), "{part}: {}", messages[0]);
    }
    harness.assert_all_delivered(&output, 2);
    let check = harness.start(&["check"]).finish();
    assert_eq!((check.status, check.stderr.as_str()), (64, ""), "{}", check.stdout_text());
    for part in [
        "  error: TAILRACE_STOP_GRACE: 20: no unit; did you mean 20s?\n",
        "  error: TAILRACE_DRAIN_URL: URL 2: there are quotes (') around the URL",
        "  these settings have their defaults; lines are shipped to the other drains\n",
        "answer   ok: 204",
    ] {
        assert!(check.stdout_text().contains(part), "{part}: {}", check.stdout_text());
    }
}

#[test]
fn without_a_drain_url_the_variable_that_has_it_is_named() {
    for name in ["TAILRACE_URL", "SUMO_URL", "LOG_DRAIN_URL"] {
        let harness = Harness::new().unset("TAILRACE_DRAIN_URL").set(name, "https://h/LOCAL-SECRET");
        let (replaced, output) = run_app(&harness);
        assert!(replaced);
        let messages = output.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        for part in [
            &format!("{name}: "),
            "did you mean TAILRACE_DRAIN_URL?",
            "TAILRACE_DRAIN_URL is not set: the command runs without tailrace",
        ] {
            assert!(messages[0].contains(part), "{part}: {}", messages[0]);
        }
    }
}

#[test]
fn urls_without_a_blank_between_them_are_refused() {
    for (separator, name) in [(",", "comma"), (";", "semicolon")] {
        let url = "https://s3cret-user:s3cret-word@drain.example/LOCAL-SECRET";
        let harness = Harness::new().set("TAILRACE_DRAIN_URL", &format!("{url}{separator}{url}"));
        let (replaced, output) = run_app(&harness);
        assert!(replaced);
        let expected = format!("several URLs with a {name} between them: put a blank between them");
        assert!(output.messages()[0].contains(&expected), "{}", output.stderr);
        assert!(!output.stderr.contains("drain.example"), "{}", output.stderr);
    }
}

#[test]
fn the_option_insecure_is_refused() {
    let (replaced, output) = run_app(&Harness::new().drain_option("insecure"));
    assert!(replaced);
    assert!(
        output.messages()[0].contains("at=bad-settings") && output.messages()[0].contains("insecure"),
        "{}",
        output.stderr
    );
}

#[test]
fn plain_http_to_another_machine_is_refused() {
    let (replaced, output) =
        run_app(&Harness::new().set("TAILRACE_DRAIN_URL", "http://drain.example/LOCAL-SECRET"));
    assert!(replaced);
    assert!(output.messages()[0].contains("TAILRACE_ALLOW_PLAINTEXT"), "{}", output.stderr);
}

#[test]
fn an_unknown_setting_is_a_warning_and_everything_is_delivered() {
    let harness = Harness::new().set("TAILRACE_BATCH_LINGERS", "2s");
    let (replaced, output) = run_app(&harness);
    assert!(!replaced);
    let messages = output.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(
        messages[0].contains("TAILRACE_BATCH_LINGERS: unknown setting; did you mean TAILRACE_BATCH_LINGER?")
    );
    harness.assert_all_delivered(&output, 2);
}

#[test]
fn the_app_runs_when_the_ca_file_cannot_be_read() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let absent = harness.absent_path();
    let absent = absent.to_str().unwrap();
    let harness = harness.set("TAILRACE_CA_FILE", absent);
    let mut agent = harness.run(&["cat"]);
    agent.feed("line\n");
    let line = agent.wait_for_message(&[absent]);
    let output = agent.finish();
    assert_eq!((output.status, output.stdout_text().as_str()), (0, "line\n"), "{line}");
    assert_eq!((harness.reconcile(&output).held, harness.report().requests), (1, 0));
}

#[test]
fn a_broken_entry_in_ssl_cert_file_stops_no_drain_and_is_reported_once() {
    let harness = Harness::new();
    let good = std::fs::read_to_string(harness.drain.ca_file()).unwrap();
    let file = harness.path("certs.pem");
    std::fs::write(&file, format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{good}"))
        .unwrap();
    let harness = harness.unset("TAILRACE_CA_FILE").set("SSL_CERT_FILE", file.to_str().unwrap());
    let mut agent = harness.run(&["cat"]);
    agent.feed("1\n");
    harness.wait_for_lines(1);
    let parts =
        ["at=ca-file", "SSL_CERT_FILE: certificate 1 of the CA bundle", "what can be read of it is trusted"];
    agent.wait_for_message(&parts);
    // A new shipper reads the file again, and finds the same.
    let shipper = agent.wait_for_shipper();
    kill(Pid::from_raw(shipper), Signal::SIGKILL).unwrap();
    wait_until("a new shipper", || agent.wait_for_shipper() != shipper);
    agent.feed("2\n");
    harness.wait_for_lines(2);
    let output = agent.finish();
    assert_eq!((output.status, output.messages().len()), (0, 1), "{}", output.stderr);
    harness.assert_all_delivered(&output, 2);
    let check = harness.start(&["check"]).finish();
    assert_eq!(check.status, 0, "{}", check.stdout_text());
    assert!(
        check.stdout_text().contains("  CA file  SSL_CERT_FILE: certificate 1 of"),
        "{}",
        check.stdout_text()
    );
}

#[test]
fn on_a_terminal_the_app_replaces_the_agent_unless_set_otherwise() {
    for (tty, wrapped) in [("exec", false), ("wrap", true)] {
        let harness = Harness::new().set("TAILRACE_TTY", tty);
        let pty = openpty(None, None).unwrap();
        let (mut terminal, slave) = (File::from(pty.master), pty.slave);
        let agent = harness.start_with(|command| {
            command.args(["run", "--", "sh", "-c", "echo $$; exit 7"]).stdout(Stdio::from(slave));
        });
        let pid = agent.pid();
        let output = agent.finish();
        let mut text = [0; 64];
        let count = terminal.read(&mut text).unwrap();
        let replaced = text[..count] == *format!("{pid}\r\n").as_bytes();
        assert_eq!((output.status, replaced, output.has_ledger()), (7, !wrapped, wrapped));
        assert_eq!(harness.report().lines, u64::from(wrapped));
    }
}
