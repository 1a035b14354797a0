//! Every fault has an effect that is seen, and no loss goes by without a word.

use crate::harness::{Harness, PATIENCE, Running, agent};
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// 200 numbered lines in a second, and then a few now and then.
const TALK: &str = "worker: for i in $(seq 200); do echo \"line $i\"; sleep 0.005; done; \
                    while sleep 0.2; do echo more; done\n";
/// More at once than Logplex keeps, in every second.
const FLOOD: &str = "worker: while true; do seq 4000; sleep 0.5; done\n";

/// The first dyno's count at its first drain.
fn count(report: &Value, name: &str) -> u64 {
    report["dynos"][0]["ledger"]["drains"][0][name].as_u64().unwrap_or_else(|| panic!("{name}: {report:#}"))
}

fn side<'a>(report: &'a Value, drain: &str) -> &'a Value {
    let sides = report["drains"].as_array().expect("are some");
    sides.iter().find(|side| side["drain"] == drain).unwrap_or_else(|| panic!("{drain}: {report:#}"))
}

/// A run under a fault in which nothing may be lost.
fn nothing_lost(procfile: &str, options: &[&str]) -> (Value, String) {
    let desk = Harness::new(procfile);
    let (status, report, err) = desk.report(options);
    assert_eq!(status, 0, "{report:#}{err}");
    assert_eq!(
        count(&report, "delivered_lines"),
        report["dynos"][0]["ledger"]["captured_lines"],
        "{report:#}"
    );
    desk.assert_clean();
    (report, err)
}

#[test]
fn errors_of_the_receiver_cost_attempts_and_no_lines() {
    let (report, _) = nothing_lost(TALK, &["--for", "2s", "--fault", "drain=503:50%"]);
    assert!(report["drain"]["by_status"]["503"].as_u64() >= Some(1), "{report:#}");
    assert!(count(&report, "attempts") > count(&report, "batches"), "{report:#}");
}

#[test]
fn in_an_outage_the_platform_loses_lines_and_tailrace_none() {
    let (report, err) = nothing_lost(FLOOD, &["--for", "5s", "--fault", "outage=3s"]);
    let (ours, theirs) = (side(&report, "tailrace"), side(&report, "platform"));
    assert_eq!(ours["arrived"], ours["messages"], "{report:#}");
    assert!(theirs["arrived"].as_u64() < theirs["messages"].as_u64(), "{report:#}{err}");
    assert!(theirs["announced"].as_u64() > Some(0), "{report:#}");
    assert!(ours["lag_ms"]["max"].as_f64() > Some(1000.0), "what waited came late: {report:#}");
}

#[test]
fn a_slow_receiver_is_seen_in_the_lag() {
    let (report, _) = nothing_lost(TALK, &["--for", "2s", "--fault", "latency=700ms"]);
    assert!(side(&report, "tailrace")["lag_ms"]["p50"].as_f64() > Some(600.0), "{report:#}");
}

#[test]
fn a_shipper_that_is_killed_is_replaced() {
    let desk = Harness::new(TALK);
    let mut command = desk.command(&[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.until("app[worker.1]: line 1");
    let first = desk.shippers(&[]);
    running.type_line("fault shipper=kill");
    running.until("fault: worker.1: the shipper was killed");
    desk.shippers(&first);
    let begun = Instant::now();
    while first.iter().any(|process| process.exists()) {
        assert!(begun.elapsed() < PATIENCE, "{first:?} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    running.type_line("stop");
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    assert!(seen.contains(" lines arrived, and no receiver objected.\n"), "{seen}");
    desk.assert_clean();
}

#[test]
fn a_fault_that_meets_nobody_says_so() {
    // The first dyno has no agent: no buildpack has wrapped its line.
    let desk =
        Harness::new("clock: sleep 300\nworker: sleep 300\n").with(".tailrace/types/worker", "sleep 300\n");
    let bin = desk.app.path().join(".tailrace/bin");
    fs::create_dir_all(&bin).expect("is made");
    fs::copy(agent(), bin.join("tailrace")).expect("is copied");
    fs::write(
        desk.app.path().join("Procfile"),
        "clock: sleep 300\nworker: .tailrace/bin/tailrace run --type worker\n",
    )
    .expect("is written");
    let mut command = desk.command(&["--fault", "shipper=kill,app=kill"]);
    command.arg("--slug").arg(desk.app.path());
    let mut running = Running::start(command);
    for part in ["fault: clock.1: there is no shipper in it", "fault: worker.1: the shipper was killed"] {
        running.until(part);
    }
    running.interrupt();
    let (_, seen) = running.end();
    assert!(seen.contains("fault: clock.1: there is no app under an agent in it\n"), "{seen}");
    desk.assert_clean();
}

#[test]
fn a_shipper_that_stands_still_holds_lines_up_and_loses_none() {
    let (report, _) = nothing_lost(TALK, &["--for", "4s", "--fault", "shipper=stop@200ms+2s"]);
    assert!(side(&report, "tailrace")["lag_ms"]["max"].as_f64() > Some(1500.0), "{report:#}");
}

#[test]
fn a_full_disk_stops_neither_the_app_nor_delivery() {
    let desk = Harness::new(TALK);
    let (status, report, err) = desk.report(&["--for", "3s", "--fault", "disk=full"]);
    assert_eq!(status, 0, "{report:#}{err}");
    if !err.contains("no disk of their own") {
        assert!(err.contains(" app[worker.1]: tailrace at=spool"), "it is said: {err}");
    }
    desk.assert_clean();
}

#[test]
fn a_disk_can_be_filled_at_run_time() {
    let desk = Harness::new(TALK);
    let mut command = desk.command(&[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.until("app[worker.1]: line 1");
    if running.seen.contains("process groups of this system") {
        running.type_line("fault disk=full");
        running.until("fault: the disk is full: not here, ");
    } else {
        running.type_line("fault disk=full");
        running.until("fault: the dynos start again, with a disk that can be full");
        running.until("fault: worker.1: the disk is full");
        running.until(" app[worker.1]: tailrace at=spool");
        running.type_line("heal");
        running.until("fault: worker.1: the disk has room again");
    }
    running.type_line("stop");
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    desk.assert_clean();
}

#[test]
fn what_would_harm_this_machine_is_not_done() {
    let desk = Harness::new(TALK);
    let (status, report, err) =
        desk.report(&["--for", "300ms", "--size", "performance-2xl", "--fault", "memory=grow"]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(err.contains("fault: memory grows beyond the quota: not here, "), "{err}");
    assert!(report["notes"].to_string().contains("not tried: memory grows beyond the quota"), "{report:#}");
    desk.assert_clean();
}

#[test]
fn memory_beyond_the_quota_is_r14() {
    let desk = Harness::new(TALK);
    let options = ["--fault", "memory=grow", "--config", "TAILRACE_SAMPLE_INTERVAL=1s"];
    let mut running = Running::start(desk.command(&options));
    running.until("fault: worker.1: memory grows beyond the quota");
    // The agent looks closely at a process once a minute, and may just have done so while it grew.
    running.until_within(Duration::from_secs(150), " tailrace[worker.1]: Error R14 (Memory quota exceeded)");
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    desk.assert_clean();
}

#[test]
fn an_app_that_is_killed_crashes_and_starts_again() {
    let desk = Harness::new("worker: echo begun; sleep 300; true\n");
    let (status, report, err) = desk.report(&["--for", "3s", "--fault", "app=kill@300ms"]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert_eq!(report["dynos"].as_array().map(Vec::len), Some(2), "{report:#}");
    assert_eq!(report["dynos"][0]["exit_status"], 137, "{report:#}");
    assert!(err.contains("State changed from crashed to starting\n"), "{err}");
    desk.assert_clean();
}

#[test]
fn only_a_fault_of_its_kind_excuses_a_loss() {
    // Nothing listens there, and a fault of the receiver cannot be played: what waits is lost for no reason.
    let nowhere = ["--drain", "https://127.0.0.1:9/x", "--config", "TAILRACE_STOP_GRACE=1s"];
    for (procfile, options, status, said) in [
        (
            TALK,
            &[&nowhere[..], &["--fault", "shipper=kill"]].concat()[..],
            1,
            "lines were still held at the end",
        ),
        (
            TALK,
            &["--fault", "drain=404", "--config", "TAILRACE_STOP_GRACE=1s"],
            0,
            "under status=404, and went",
        ),
        (TALK, &["--fault", "drain=400"], 0, "lines for good, as it was told to"),
        ("worker: sleep 1; exit 3\n", &["--fault", "latency=1ms"], 1, "ended by itself, with status 3"),
    ] {
        let desk = Harness::new(procfile);
        let (code, out, err) = desk.run(&[&["--check", "--for", "2s"], options].concat());
        assert_eq!(code, status, "{options:?}: {out}{err}");
        assert!(out.contains(said), "{options:?}: {out}{err}");
        assert!(!out.contains("announced.\n"), "{options:?}: {out}{err}");
        desk.assert_clean();
    }
    // A command line that contradicts itself is refused before anything runs.
    let (code, _, err) = Harness::new(TALK).run(&[&nowhere[..], &["--fault", "outage=1s"]].concat());
    assert!(code == 64 && err.contains("outage=1s: the receiver of --drain is not ours"), "{err}");
}

#[test]
fn a_loss_that_nobody_announces_fails_the_check() {
    let desk = Harness::new(TALK);
    let (status, report, err) = desk.report(&["--for", "2s", "--fault", "drain=swallow:80%"]);
    assert_eq!((status, &report["ok"]), (1, &false.into()), "{report:#}{err}");
    let problems = report["problems"].to_string();
    assert!(problems.contains("ledger and drain disagree"), "{problems}");

    // Lines are shed on purpose, and the notice is overheard.
    let flood = Harness::new(
        "worker: while true; do head -c 3000000 /dev/zero | tr '\\\\0' x | fold -w 100; sleep 0.1; done\n",
    );
    let options = ["--for", "4s", "--config", "TAILRACE_SPOOL_BYTES=4MiB", "--fault", "outage=2s"];
    let (status, report, err) = flood.report(&options);
    assert_eq!(status, 0, "announced: {}{err}", report["problems"]);
    assert!(count(&report, "dropped_lines") > 0, "{report:#}");
    let (status, report, _) = flood.report(&[&options[..], &["--fault", "drain=deaf"]].concat());
    assert_eq!(status, 1, "{}", report["notes"]);
    assert!(report["problems"].to_string().contains("0 announced"), "{}", report["problems"]);
}

#[test]
fn faults_can_be_typed_and_healed() {
    let desk = Harness::new(TALK);
    let mut command = desk.command(&[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.until("app[worker.1]: line 1");
    running.type_line("fault drain=refuse");
    running.until("tailrace at=drain-unreachable");
    running.type_line("heal");
    running.until("tailrace at=drain-ok");
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    desk.assert_clean();
}
