//! Without faults: both streams, exit statuses, every line once and in order.

use crate::harness::{Harness, assert_in_order, numbers};
use crate::threads::check_in_threads;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tailrace_drain::Options;

#[test]
fn both_streams_are_passed_through_and_delivered() {
    let harness = Harness::new();
    let output = harness.sh("echo out; echo err >&2; exit 7").finish();
    output.assert_exit(7, "out\n", "err\n");
    let mut lines = harness.drain.lines();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
    harness.assert_all_delivered(&output, 2);
    let frames = harness.drain.frames();
    let frame = frames.iter().find(|frame| frame.is_app).unwrap();
    assert_eq!((frame.app.as_str(), frame.proc_id.as_str()), ("app", "web.1"));
}

#[test]
fn a_shell_line_is_expanded_as_in_a_procfile() {
    let harness = Harness::new().set("PORT", "5000");
    let output = harness.start(&["run", "--shell", "echo \"on $PORT\" | tr o 0 && exit 3"]).finish();
    assert_eq!((output.status, output.stdout_text().as_str()), (3, "0n 5000\n"));
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn the_exit_status_is_that_of_the_app() {
    check_in_threads(4, [0..64, 64..128, 128..192, 192..256], |statuses| {
        let harness = Harness::new();
        for status in statuses {
            let output = harness.sh(&format!("exit {status}")).finish();
            assert_eq!((output.status, output.stderr.as_str()), (status, ""));
            harness.assert_all_delivered(&output, 0);
        }
        assert_eq!(harness.report().lines, 0, "the app printed nothing");
    });
    let harness = Harness::new();
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("HUP", 1), ("SEGV", 11)] {
        let output = harness.sh(&format!("kill -{signal} $$")).finish();
        assert_eq!(
            (output.status, output.messages().len()),
            (128 + number, 0),
            "{signal}: {}",
            output.stderr
        );
    }
    assert_eq!(harness.report().lines, 0, "the app printed nothing");
}

#[test]
fn a_command_that_cannot_be_started_is_reported() {
    let harness = Harness::new();
    let file = harness.path("not-executable");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (dir, absent) = (harness.path("tmp"), harness.absent_command());
    for (command, status) in
        [(absent.as_str(), 127), (file.to_str().unwrap(), 126), (dir.to_str().unwrap(), 126)]
    {
        let output = harness.run(&[command]).finish();
        assert_eq!((output.status, output.stdout_text().as_str()), (status, ""));
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert!(
            output.stderr.starts_with("tailrace at=cannot-start") && output.stderr.contains(command),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn a_million_lines_are_delivered_once_and_in_order() {
    let count = 1_000_000;
    let harness =
        Harness::with_options(Options { keep: 0, ..Options::default() }).set("TAILRACE_STOP_GRACE", "5m");
    let mut ship = harness.start(&["ship"]);
    ship.feed(numbers(1..=count));
    let output = ship.finish();
    output.assert_exit(0, "", "");
    harness.assert_all_delivered(&output, count);
    let report = harness.report();
    assert_in_order(&report, count);
    assert_eq!((report.duplicates, report.losses.notices), (0, 0));
}

#[test]
fn ship_reports_how_many_lines_were_not_delivered() {
    let harness = Harness::with_faults("refuse").set("TAILRACE_STOP_GRACE", "1s");
    let mut ship = harness.start(&["ship"]);
    ship.feed("x\n".repeat(1234));
    let output = ship.finish();
    assert_eq!((output.status, output.stdout_text().as_str()), (75, ""));
    let messages = output.messages();
    let last = messages.last().unwrap();
    let parts = ["at=lines-not-delivered", "captured=1234", "delivered=0", "held=1234"];
    assert!(parts.iter().all(|part| last.contains(part)), "{messages:?}");
    let account = harness.reconcile(&output);
    assert_eq!((account.held, account.delivered), (1234, 0));
}

#[test]
fn each_of_two_drains_has_its_own_account() {
    let (harness, other) = (Harness::new(), Harness::with_faults("status=400"));
    let ca = harness.path("both.pem");
    let pems = [&harness, &other].map(|harness| std::fs::read_to_string(harness.drain.ca_file()).unwrap());
    std::fs::write(&ca, pems.concat()).unwrap();
    let urls = format!("{} {}", harness.drain.url(), other.drain.url());
    let harness = harness.set("TAILRACE_CA_FILE", ca.to_str().unwrap()).set("TAILRACE_DRAIN_URL", &urls);
    let output = harness.sh("seq 500").finish();
    let drains = &output.ledger().drains;
    assert_eq!((drains[0].delivered, drains[0].rejected), (500, 0));
    assert_eq!((drains[1].delivered, drains[1].rejected), (0, 500));
    assert_in_order(&harness.report(), 500);
    assert_eq!(other.report().lines, 0);
    let tokens: Vec<String> = harness.report().by_token.into_keys().collect();
    assert!(tokens.len() == 1 && tokens[0].starts_with("d."), "{tokens:?}");
}

#[test]
fn a_closed_reader_ends_only_the_pass_through() {
    let harness = Harness::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let agent = harness.start_with(|command| {
        command.args(["run", "--", "sh", "-c", "seq 5000; echo survived >&2"]).stdout(Stdio::from(writer));
    });
    let output = agent.finish();
    assert_eq!((output.status, output.stderr.as_str()), (0, "survived\n"));
    harness.assert_all_delivered(&output, 5001);
}

#[test]
fn every_line_of_a_flood_is_passed_through_and_accounted_for() {
    // Both streams at full speed. The app does not wait for the recorder, so lines may be dropped.
    let harness =
        Harness::with_options(Options { keep: 0, ..Options::default() }).set("TAILRACE_STOP_GRACE", "5m");
    let output = harness.sh("seq 200000 & seq 200001 400000 >&2; wait").finish();
    assert!(
        output.stdout_text() == numbers(1..=200_000)
            && output.stderr.starts_with(&numbers(200_001..=400_000))
    );
    let (account, report) = (harness.reconcile(&output), harness.report());
    assert_eq!(
        (output.ledger().captured, account.delivered + account.dropped),
        (400_000, 400_000),
        "{account:?}"
    );
    assert_eq!(report.losses.lines, account.dropped, "the loss notices must name the missing lines");
}

#[test]
fn a_grandchild_that_keeps_the_streams_open_does_not_delay_the_exit() {
    let harness = Harness::new();
    let start = Instant::now();
    let output = harness.sh("sleep 300 & echo gone; exit 6").finish();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    output.assert_exit(6, "gone\n", "");
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn pass_through_can_be_turned_off() {
    let harness = Harness::new().set("TAILRACE_PASSTHROUGH", "off");
    let output = harness.sh("seq 100; echo err >&2").finish();
    output.assert_exit(0, "", "");
    harness.assert_all_delivered(&output, 101);
}
