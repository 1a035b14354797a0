//! When all is well: streams, exit statuses, every line once and in order.

use crate::harness::{Rig, in_order, numbers};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tailrace_drain::Options;

#[test]
fn both_streams_pass_through_and_arrive() {
    let rig = Rig::new();
    let end = rig.sh("echo out; echo err >&2; exit 7").end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (7, "out\n", "err\n"));
    let mut lines = rig.drain.lines();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
    rig.all_delivered(&end, 2);
    let frames = rig.drain.frames();
    let frame = frames.iter().find(|frame| frame.is_app).unwrap();
    assert_eq!((frame.app.as_str(), frame.proc_id.as_str()), ("app", "web.1"));
}

#[test]
fn a_shell_line_reads_as_in_a_procfile() {
    let rig = Rig::new().set("PORT", "5000");
    let end = rig.start(&["run", "--shell", "echo \"on $PORT\" | tr o 0 && exit 3"]).end();
    assert_eq!((end.status, end.text().as_str()), (3, "0n 5000\n"));
    rig.all_delivered(&end, 1);
}

#[test]
fn exit_statuses_are_the_apps() {
    let rig = Rig::new();
    for status in 0..=255 {
        let end = rig.sh(&format!("exit {status}")).end();
        assert_eq!((end.status, end.err.as_str()), (status, ""));
        rig.all_delivered(&end, 0);
    }
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("HUP", 1), ("SEGV", 11)] {
        let end = rig.sh(&format!("kill -{signal} $$")).end();
        assert_eq!((end.status, end.said().len()), (128 + number, 0), "{signal}: {}", end.err);
    }
    assert_eq!(rig.report().lines, 0, "nothing was said");
}

#[test]
fn a_command_that_cannot_be_started_is_named() {
    let rig = Rig::new();
    let file = rig.path("not-executable");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let dir = rig.path("tmp");
    for (command, status) in
        [("no-such-command", 127), (file.to_str().unwrap(), 126), (dir.to_str().unwrap(), 126)]
    {
        let end = rig.run(&[command]).end();
        assert_eq!((end.status, end.text().as_str()), (status, ""));
        assert_eq!(end.err.lines().count(), 1, "{}", end.err);
        assert!(end.err.starts_with("tailrace at=cannot-start") && end.err.contains(command), "{}", end.err);
    }
}

#[test]
fn a_million_lines_are_shipped_once_and_in_order() {
    let count = 1_000_000;
    let rig = Rig::on(Options { keep: 0, ..Options::default() }).set("TAILRACE_STOP_GRACE", "5m");
    let mut ship = rig.start(&["ship"]);
    ship.feed(numbers(1..=count));
    let end = ship.end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (0, "", ""));
    rig.all_delivered(&end, count);
    let report = rig.report();
    in_order(&report, count);
    assert_eq!((report.duplicates, report.losses.notices), (0, 0));
}

#[test]
fn ship_says_how_many_lines_were_lost() {
    let rig = Rig::with_faults("refuse").set("TAILRACE_STOP_GRACE", "1s");
    let mut ship = rig.start(&["ship"]);
    ship.feed("x\n".repeat(1234));
    let end = ship.end();
    assert_eq!((end.status, end.text().as_str()), (75, ""));
    let said = end.said();
    let last = said.last().unwrap();
    let words = ["at=lines-not-delivered", "captured=1234", "delivered=0", "held=1234"];
    assert!(words.iter().all(|word| last.contains(word)), "{said:?}");
    let account = rig.agree(&end);
    assert_eq!((account.held, account.delivered), (1234, 0));
}

#[test]
fn each_of_two_drains_has_its_own_account() {
    let (rig, other) = (Rig::new(), Rig::with_faults("status=400"));
    let ca = rig.path("both.pem");
    let pems = [&rig, &other].map(|rig| std::fs::read_to_string(rig.drain.ca_file()).unwrap());
    std::fs::write(&ca, pems.concat()).unwrap();
    let urls = format!("{} {}", rig.drain.url(), other.drain.url());
    let rig = rig.set("TAILRACE_CA_FILE", ca.to_str().unwrap()).set("TAILRACE_DRAIN_URL", &urls);
    let end = rig.sh("seq 500").end();
    let drains = &end.ledger().drains;
    assert_eq!((drains[0].delivered, drains[0].rejected), (500, 0));
    assert_eq!((drains[1].delivered, drains[1].rejected), (0, 500));
    in_order(&rig.report(), 500);
    assert_eq!(other.report().lines, 0);
    let tokens: Vec<String> = rig.report().by_token.into_keys().collect();
    assert!(tokens.len() == 1 && tokens[0].starts_with("d."), "{tokens:?}");
}

#[test]
fn a_reader_that_goes_away_stops_only_the_pass_through() {
    let rig = Rig::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let agent = rig.start_with(|command| {
        command.args(["run", "--", "sh", "-c", "seq 5000; echo survived >&2"]).stdout(Stdio::from(writer));
    });
    let end = agent.end();
    assert_eq!((end.status, end.err.as_str()), (0, "survived\n"));
    rig.all_delivered(&end, 5001);
}

#[test]
fn a_flood_passes_through_and_every_line_is_accounted_for() {
    // Both streams at full speed: the app is not held up for the recorder, which may have to let lines go.
    let rig = Rig::on(Options { keep: 0, ..Options::default() }).set("TAILRACE_STOP_GRACE", "5m");
    let end = rig.sh("seq 200000 & seq 200001 400000 >&2; wait").end();
    assert!(end.text() == numbers(1..=200_000) && end.err.starts_with(&numbers(200_001..=400_000)));
    let (account, report) = (rig.agree(&end), rig.report());
    assert_eq!(
        (end.ledger().captured, account.delivered + account.dropped),
        (400_000, 400_000),
        "{account:?}"
    );
    assert_eq!(report.losses.lines, account.dropped, "the stream says what is missing");
}

#[test]
fn a_grandchild_that_holds_the_streams_does_not_hold_us() {
    let rig = Rig::new();
    let start = Instant::now();
    let end = rig.sh("sleep 300 & echo gone; exit 6").end();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (6, "gone\n", ""));
    rig.all_delivered(&end, 1);
}

#[test]
fn pass_through_can_be_turned_off() {
    let rig = Rig::new().set("TAILRACE_PASSTHROUGH", "off");
    let end = rig.sh("seq 100; echo err >&2").end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (0, "", ""));
    rig.all_delivered(&end, 101);
}
