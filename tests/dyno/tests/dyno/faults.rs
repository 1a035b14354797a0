//! Injected faults have a visible effect, and no loss goes unreported.

use crate::harness::{Harness, Running, TIMEOUT, agent};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tailrace_drain::skip;

/// 200 numbered lines within a second, then one every 200 ms.
const STEADY_APP: &str = "worker: for i in $(seq 200); do echo \"line $i\"; sleep 0.005; done; \
                    while sleep 0.2; do echo more; done\n";
/// Bursts of more lines than Logplex buffers.
const FLOODING_APP: &str = "worker: while true; do seq 4000; sleep 0.5; done\n";

/// As the buildpack wraps an entry.
const WRAPPED_WORKER: &str = "worker: .tailrace/bin/tailrace run --type worker\n";

/// The command of a simulation of the app as a slug with the agent in it. `worker`: the command of [`WRAPPED_WORKER`].
fn slug_command(harness: &Harness, worker: &str, options: &[&str]) -> Command {
    let app = harness.app.path();
    for dir in [".tailrace/bin", ".tailrace/types"] {
        fs::create_dir_all(app.join(dir)).expect("is created");
    }
    fs::copy(agent(), app.join(".tailrace/bin/tailrace")).expect("is copied");
    fs::write(app.join(".tailrace/types/worker"), worker).expect("is written");
    let mut command = harness.command(options);
    command.arg("--slug").arg(app);
    command
}

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

/// The output without the app's lines.
fn summary(output: &str) -> String {
    output.lines().filter(|line| !line.contains(" app[worker.1]: ")).collect::<Vec<_>>().join("\n")
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
    // All for a time: of a share of the requests, all may be the platform's.
    let (report, _) = run_without_loss(STEADY_APP, &["--for", "2s", "--fault", "drain=503:@0s+2s"]);
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
    let harness = Harness::new(&format!("clock: sleep 300\n{WRAPPED_WORKER}"));
    let mut running =
        Running::start(slug_command(&harness, "sleep 300\n", &["--fault", "shipper=kill,app=kill"]));
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
    let memory = std::env::var("TAILRACE_TEST_MEMORY").ok().and_then(|mib| mib.parse::<u64>().ok());
    if memory.is_some_and(|mib| mib < 1024) {
        skip("there is less than 1 GiB of memory for a dyno with more than 512 MiB");
        return;
    }
    // The agent reads a process's detailed memory figures once a minute: one that grows after its first reading would
    // be reported a minute later. So the agent starts when a process has more than the quota of 512 MiB: 131072 pages.
    let harness = Harness::new(WRAPPED_WORKER).with(
        ".profile.d/wait.sh",
        "until awk '$2 > 131072 { found = 1 } END { exit !found }' /proc/[0-9]*/statm; do sleep 0.05; done 2>/dev/null\n",
    );
    let options = ["--fault", "memory=grow", "--config", "TAILRACE_SAMPLE_INTERVAL=1s"];
    let mut running = Running::start(slug_command(&harness, "sleep 300\n", &options));
    running.wait_for("fault: worker.1: memory grows beyond the quota");
    // A busy machine may all the same read it too early, and again a minute later.
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
    let killed = [&unreachable[..], &["--fault", "shipper=kill"]].concat();
    let cases = [
        (STEADY_APP, &killed[..], 1, "lines were still held at the end"),
        (
            STEADY_APP,
            &["--fault", "drain=404", "--config", "TAILRACE_STOP_GRACE=1s"],
            0,
            "under status=404, and were lost",
        ),
        (STEADY_APP, &["--fault", "drain=400"], 0, "lines for good, as requested"),
        ("worker: sleep 1; exit 3\n", &["--fault", "latency=1ms"], 1, "ended by itself, with status 3"),
    ];
    std::thread::scope(|scope| {
        for (procfile, options, status, message) in cases {
            scope.spawn(move || {
                let harness = Harness::new(procfile);
                let (code, out, err) = harness.run(&[&["--check", "--for", "2s"], options].concat());
                assert_eq!(code, status, "{options:?}: {out}{err}");
                assert!(out.contains(message), "{options:?}: {out}{err}");
                assert!(!out.contains("announced.\n"), "{options:?}: {out}{err}");
                harness.assert_clean();
            });
        }
    });
    // Contradicting options are rejected before anything runs.
    let (code, _, err) =
        Harness::new(STEADY_APP).run(&[&unreachable[..], &["--fault", "outage=1s"]].concat());
    assert!(code == 64 && err.contains("outage=1s: the receiver of --drain is not the local one"), "{err}");
}

#[test]
fn lines_that_the_receiver_loses_fail_the_check() {
    let harness = Harness::new(STEADY_APP);
    let (status, report, err) = harness.report(&["--for", "2s", "--fault", "drain=swallow:80%"]);
    assert_eq!((status, &report["ok"]), (1, &false.into()), "{report:#}{err}");
    let problems = report["problems"].to_string();
    assert!(problems.contains("ledger and drain disagree"), "{problems}");
}

/// Has an app print more than the spool holds during an outage, then types these lines. Returns exit status and output.
fn lose_lines(typed: &[&str]) -> (i32, String) {
    // In bursts, so that the recorder keeps up: lines that it does not record would be another loss.
    let harness = Harness::new(
        "worker: for i in $(seq 20); do head -c 300000 /dev/zero | tr '\\0' x | fold -w 2000; sleep 0.05; done; \
         echo; echo printed; sleep 300\n",
    );
    let mut command = harness.command(&["--config", "TAILRACE_SPOOL_BYTES=4MiB", "--fault", "outage=1h"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.wait_for("app[worker.1]: printed");
    for line in typed {
        running.type_line(line);
    }
    running.wait_for("tailrace at=drain-ok");
    running.type_line("stop");
    running.end()
}

#[test]
fn a_loss_that_is_not_announced_fails_the_check() {
    // Once with its notice, and once with a drain that ignores the notice.
    let (announced, ignored) = std::thread::scope(|scope| {
        let ignored = scope.spawn(|| lose_lines(&["heal", "fault drain=deaf"]));
        (lose_lines(&["heal"]), ignored.join().expect("does not panic"))
    });
    let (status, output) = announced;
    assert_eq!(status, 0, "{}", summary(&output));
    assert!(output.contains(" lines were dropped (spool-full)"), "{}", summary(&output));
    let (status, output) = ignored;
    assert_eq!(status, 1, "{}", summary(&output));
    assert!(output.contains(" 0 announced"), "{}", summary(&output));
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
