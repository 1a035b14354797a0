//! Injected faults have a visible effect, and no loss goes unreported.

use crate::harness::{Harness, Running, TIMEOUT, agent};
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// 200 numbered lines within a second, then one every 200 ms.
const STEADY_APP: &str = "worker: for i in $(seq 200); do echo \"line $i\"; sleep 0.005; done; \
                    while sleep 0.2; do echo more; done\n";
/// Bursts of more lines than Logplex buffers.
const FLOODING_APP: &str = "worker: while true; do seq 4000; sleep 0.5; done\n";

/// A count of the first dyno's ledger for its first drain.
fn ledger_count(report: &Value, name: &str) -> u64 {
    report["dynos"][0]["ledger"]["drains"][0][name].as_u64().unwrap_or_else(|| panic!("{name}: {report:#}"))
}

/// The summary of a drain.
fn drain_summary<'a>(report: &'a Value, drain: &str) -> &'a Value {
    let summaries = report["drains"].as_array().expect("is an array");
    summaries
        .iter()
        .find(|summary| summary["drain"] == drain)
        .unwrap_or_else(|| panic!("{drain}: {report:#}"))
}

/// Runs a simulation in which no line may be lost; returns the report and standard error.
fn run_without_loss(procfile: &str, options: &[&str]) -> (Value, String) {
    let harness = Harness::new(procfile);
    let (status, report, err) = harness.report(options);
    assert_eq!(status, 0, "{report:#}{err}");
    assert_eq!(
        ledger_count(&report, "delivered_lines"),
        report["dynos"][0]["ledger"]["captured_lines"],
        "{report:#}"
    );
    harness.assert_clean();
    (report, err)
}

#[test]
fn receiver_errors_are_retried_without_loss() {
    let (report, _) = run_without_loss(STEADY_APP, &["--for", "2s", "--fault", "drain=503:50%"]);
    assert!(report["drain"]["by_status"]["503"].as_u64() >= Some(1), "{report:#}");
    assert!(ledger_count(&report, "attempts") > ledger_count(&report, "batches"), "{report:#}");
}

#[test]
fn during_an_outage_only_the_platforms_drain_loses_lines() {
    let (report, err) = run_without_loss(FLOODING_APP, &["--for", "5s", "--fault", "outage=3s"]);
    let (tailrace, platform) = (drain_summary(&report, "tailrace"), drain_summary(&report, "platform"));
    assert_eq!(tailrace["arrived"], tailrace["messages"], "{report:#}");
    assert!(platform["arrived"].as_u64() < platform["messages"].as_u64(), "{report:#}{err}");
    assert!(platform["announced"].as_u64() > Some(0), "{report:#}");
    assert!(tailrace["lag_ms"]["max"].as_f64() > Some(1000.0), "held lines arrive late: {report:#}");
}

#[test]
fn a_slow_receiver_increases_the_lag() {
    let (report, _) = run_without_loss(STEADY_APP, &["--for", "2s", "--fault", "latency=700ms"]);
    assert!(drain_summary(&report, "tailrace")["lag_ms"]["p50"].as_f64() > Some(600.0), "{report:#}");
}

#[test]
fn a_killed_shipper_is_replaced() {
    let harness = Harness::new(STEADY_APP);
    let mut command = harness.command(&[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.wait_for("app[worker.1]: line 1");
    let first = harness.shippers(&[]);
    running.type_line("fault shipper=kill");
    running.wait_for("fault: worker.1: the shipper was killed");
    harness.shippers(&first);
    let started = Instant::now();
    while first.iter().any(|process| process.exists()) {
        assert!(started.elapsed() < TIMEOUT, "{first:?} is still running");
        std::thread::sleep(Duration::from_millis(20));
    }
    running.type_line("stop");
    let (status, output) = running.end();
    assert_eq!(status, 0, "{output}");
    assert!(output.contains(" lines arrived, and no receiver objected.\n"), "{output}");
    harness.assert_clean();
}

#[test]
fn a_fault_without_a_target_is_reported() {
    // The clock dyno has no agent: its entry is not wrapped.
    let harness =
        Harness::new("clock: sleep 300\nworker: sleep 300\n").with(".tailrace/types/worker", "sleep 300\n");
    let bin = harness.app.path().join(".tailrace/bin");
    fs::create_dir_all(&bin).expect("is created");
    fs::copy(agent(), bin.join("tailrace")).expect("is copied");
    fs::write(
        harness.app.path().join("Procfile"),
        "clock: sleep 300\nworker: .tailrace/bin/tailrace run --type worker\n",
    )
    .expect("is written");
    let mut command = harness.command(&["--fault", "shipper=kill,app=kill"]);
    command.arg("--slug").arg(harness.app.path());
    let mut running = Running::start(command);
    for part in ["fault: clock.1: there is no shipper in it", "fault: worker.1: the shipper was killed"] {
        running.wait_for(part);
    }
    running.interrupt();
    let (_, output) = running.end();
    assert!(output.contains("fault: clock.1: there is no app under an agent in it\n"), "{output}");
    harness.assert_clean();
}

#[test]
fn a_stopped_shipper_delays_lines_without_loss() {
    let (report, _) = run_without_loss(STEADY_APP, &["--for", "4s", "--fault", "shipper=stop@200ms+2s"]);
    assert!(drain_summary(&report, "tailrace")["lag_ms"]["max"].as_f64() > Some(1500.0), "{report:#}");
}

#[test]
fn a_full_disk_stops_neither_the_app_nor_delivery() {
    let harness = Harness::new(STEADY_APP);
    let (status, report, err) = harness.report(&["--for", "3s", "--fault", "disk=full"]);
    assert_eq!(status, 0, "{report:#}{err}");
    if !err.contains("no disk of their own") {
        assert!(err.contains(" app[worker.1]: tailrace at=spool"), "the agent reports it: {err}");
    }
    harness.assert_clean();
}

#[test]
fn a_disk_can_be_filled_at_run_time() {
    let harness = Harness::new(STEADY_APP);
    let mut command = harness.command(&[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.wait_for("app[worker.1]: line 1");
    if running.output.contains("process groups of this system") {
        running.type_line("fault disk=full");
        running.wait_for("fault: the disk is full: not possible here, ");
    } else {
        running.type_line("fault disk=full");
        running.wait_for("fault: the dynos restart with a disk that can be full");
        running.wait_for("fault: worker.1: the disk is full");
        running.wait_for(" app[worker.1]: tailrace at=spool");
        running.type_line("heal");
        running.wait_for("fault: worker.1: the disk has room again");
    }
    running.type_line("stop");
    let (status, output) = running.end();
    assert_eq!(status, 0, "{output}");
    harness.assert_clean();
}

#[test]
fn a_fault_that_would_exhaust_this_machine_is_rejected() {
    let harness = Harness::new(STEADY_APP);
    let (status, report, err) =
        harness.report(&["--for", "300ms", "--size", "performance-2xl", "--fault", "memory=grow"]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(err.contains("fault: memory grows beyond the quota: not possible here, "), "{err}");
    assert!(report["notes"].to_string().contains("not tried: memory grows beyond the quota"), "{report:#}");
    harness.assert_clean();
}

#[test]
fn memory_above_the_quota_is_reported_as_r14() {
    let harness = Harness::new(STEADY_APP);
    let options = ["--fault", "memory=grow", "--config", "TAILRACE_SAMPLE_INTERVAL=1s"];
    let mut running = Running::start(harness.command(&options));
    running.wait_for("fault: worker.1: memory grows beyond the quota");
    // The agent reads a process's detailed memory figures once a minute.
    running
        .wait_for_within(Duration::from_secs(150), " tailrace[worker.1]: Error R14 (Memory quota exceeded)");
    running.interrupt();
    let (status, output) = running.end();
    assert_eq!(status, 0, "{output}");
    harness.assert_clean();
}

#[test]
fn a_killed_app_crashes_and_is_restarted() {
    let harness = Harness::new("worker: echo started; sleep 300; true\n");
    let (status, report, err) = harness.report(&["--for", "3s", "--fault", "app=kill@300ms"]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert_eq!(report["dynos"].as_array().map(Vec::len), Some(2), "{report:#}");
    assert_eq!(report["dynos"][0]["exit_status"], 137, "{report:#}");
    assert!(err.contains("State changed from crashed to starting\n"), "{err}");
    harness.assert_clean();
}

#[test]
fn a_fault_explains_only_losses_of_its_kind() {
    // Nothing listens at this address, and the receiver is not the local one: no fault explains the held lines.
    let unreachable = ["--drain", "https://127.0.0.1:9/x", "--config", "TAILRACE_STOP_GRACE=1s"];
    for (procfile, options, status, message) in [
        (
            STEADY_APP,
            &[&unreachable[..], &["--fault", "shipper=kill"]].concat()[..],
            1,
            "lines were still held at the end",
        ),
        (
            STEADY_APP,
            &["--fault", "drain=404", "--config", "TAILRACE_STOP_GRACE=1s"],
            0,
            "under status=404, and were lost",
        ),
        (STEADY_APP, &["--fault", "drain=400"], 0, "lines for good, as requested"),
        ("worker: sleep 1; exit 3\n", &["--fault", "latency=1ms"], 1, "ended by itself, with status 3"),
    ] {
        let harness = Harness::new(procfile);
        let (code, out, err) = harness.run(&[&["--check", "--for", "2s"], options].concat());
        assert_eq!(code, status, "{options:?}: {out}{err}");
        assert!(out.contains(message), "{options:?}: {out}{err}");
        assert!(!out.contains("announced.\n"), "{options:?}: {out}{err}");
        harness.assert_clean();
    }
    // Contradicting options are rejected before anything runs.
    let (code, _, err) =
        Harness::new(STEADY_APP).run(&[&unreachable[..], &["--fault", "outage=1s"]].concat());
    assert!(code == 64 && err.contains("outage=1s: the receiver of --drain is not the local one"), "{err}");
}

#[test]
fn a_loss_that_is_not_announced_fails_the_check() {
    let harness = Harness::new(STEADY_APP);
    let (status, report, err) = harness.report(&["--for", "2s", "--fault", "drain=swallow:80%"]);
    assert_eq!((status, &report["ok"]), (1, &false.into()), "{report:#}{err}");
    let problems = report["problems"].to_string();
    assert!(problems.contains("ledger and drain disagree"), "{problems}");

    // Lines are dropped, and the drain ignores the notice.
    let flooding = Harness::new(
        "worker: while true; do head -c 3000000 /dev/zero | tr '\\\\0' x | fold -w 100; sleep 0.1; done\n",
    );
    let options = ["--for", "4s", "--config", "TAILRACE_SPOOL_BYTES=4MiB", "--fault", "outage=2s"];
    let (status, report, err) = flooding.report(&options);
    assert_eq!(status, 0, "announced: {}{err}", report["problems"]);
    assert!(ledger_count(&report, "dropped_lines") > 0, "{report:#}");
    let (status, report, _) = flooding.report(&[&options[..], &["--fault", "drain=deaf"]].concat());
    assert_eq!(status, 1, "{}", report["notes"]);
    assert!(report["problems"].to_string().contains("0 announced"), "{}", report["problems"]);
}

#[test]
fn typed_faults_are_injected_and_healed() {
    let harness = Harness::new(STEADY_APP);
    let mut command = harness.command(&[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.wait_for("app[worker.1]: line 1");
    running.type_line("fault drain=refuse");
    running.wait_for("tailrace at=drain-unreachable");
    running.type_line("heal");
    running.wait_for("tailrace at=drain-ok");
    running.interrupt();
    let (status, output) = running.end();
    assert_eq!(status, 0, "{output}");
    harness.assert_clean();
}
