//! Shutdown with drains of every kind: it is in time, and undelivered lines are counted and reported once.

use crate::harness::{
    Harness, Output, WAIT_TIMEOUT, assert_in_order, contents, numbers, wait_for, wait_until,
};
use crate::procfs;
use crate::status::status_of;
use crate::threads::check_in_threads;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// What a machine under load may add to the duration of a shutdown.
const SLACK: Duration = Duration::from_secs(8);

/// Faults with which nothing is ever delivered.
const DEAD_DRAINS: &[&str] = &[
    "refuse",
    "stall=600s",
    "tls-stall",
    "slow-read=1B/s",
    "status=500",
    "status=429:retry-after=600",
    "reset-before",
];

/// Checks that the twenty lines for a dead drain are held and that one message reports that.
fn assert_all_held(harness: &Harness, output: &Output, status: i32) {
    let (account, messages) = (output.ledger().drains[0].clone(), output.messages());
    assert_eq!((output.status, output.ledger().captured), (status, 20), "{}", output.stderr);
    assert_eq!(
        (account.held, account.delivered, account.dropped, account.rejected),
        (20, 0, 0, 0),
        "{account:?}"
    );
    let reports = messages.iter().filter(|line| line.contains("at=lines-not-delivered")).count();
    assert_eq!((reports, messages.last().unwrap().contains("held=20")), (1, true), "{messages:?}");
    assert!(messages.len() <= 2, "one message for the fault and one for the held lines: {messages:?}");
    assert!(!harness.is_spool_empty(), "held lines must stay in the spool for the next agent");
}

#[test]
fn a_stop_with_a_dead_drain_ends_with_the_stop_grace() {
    check_in_threads(DEAD_DRAINS.len(), DEAD_DRAINS, |fault| {
        let harness = Harness::with_faults(fault).set("TAILRACE_STOP_GRACE", "1s");
        let agent = harness.sh("seq 20; exec sleep 60");
        agent.wait_for_stdout("20");
        let start = Instant::now();
        agent.signal(Signal::SIGTERM);
        let output = agent.finish();
        let duration = start.elapsed();
        assert!(duration >= Duration::from_millis(900) && duration < SLACK, "{fault}: {duration:?}");
        assert_all_held(&harness, &output, 143);
    });
}

#[test]
fn a_crash_with_a_dead_drain_delays_the_exit_by_five_seconds_at_most() {
    check_in_threads(DEAD_DRAINS.len(), DEAD_DRAINS, |fault| {
        let harness = Harness::with_faults(fault);
        let mut agent = harness.run(&["sh", "-c", "seq 20; read line; exit 9"]);
        agent.wait_for_stdout("\n20\n");
        agent.feed("go\n");
        let start = Instant::now();
        let output = agent.finish();
        let duration = start.elapsed();
        assert!(duration < Duration::from_secs(5) + SLACK, "{fault}: {duration:?}");
        assert_all_held(&harness, &output, 9);
    });
}

#[test]
fn a_stop_with_an_unresolvable_drain_ends_with_the_stop_grace() {
    // Names below `invalid` never resolve: RFC 6761 section 6.4.
    let harness =
        Harness::new().set("TAILRACE_DRAIN_URL", "https://drain.invalid/").set("TAILRACE_STOP_GRACE", "1s");
    let agent = harness.sh("seq 20; exec sleep 60");
    agent.wait_for_stdout("20");
    let start = Instant::now();
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    assert_all_held(&harness, &output, 143);
}

#[test]
fn a_drain_that_recovers_within_the_stop_grace_gets_everything() {
    let harness = Harness::with_faults("status=429:n=2:retry-after=600").set("TAILRACE_STOP_GRACE", "6s");
    let agent = harness.sh("trap 'echo last; exit 3' TERM; seq 20; while :; do sleep 0.1; done");
    agent.wait_for_stdout("20");
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.requests >= 1));
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    assert_eq!(output.status, 3, "{}", output.stderr);
    harness.assert_all_delivered(&output, 21);
}

#[test]
fn ten_megabytes_that_are_printed_at_the_stop_are_delivered() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "100s");
    let agent = harness.sh("trap 'seq 1300000; exit 4' TERM; echo up; while :; do sleep 0.1; done");
    agent.wait_for_stdout("up\n");
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    assert_eq!(output.status, 4, "{}", output.stderr);
    assert!(
        output.stdout_text() == format!("up\n{}", numbers(1..=1_300_000)),
        "{} bytes",
        output.stdout.len()
    );
    harness.assert_all_delivered(&output, 1_300_001);
    assert_in_order(&harness.report(), 1_300_000);
}

#[test]
fn the_agent_waits_for_an_app_that_ignores_the_stop() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let script = "trap '' TERM; echo up; for i in $(seq 30); do sleep 0.1; done; echo late; exit 6";
    let agent = harness.run(&["bash", "-c", script]);
    agent.wait_for_stdout("up\n");
    agent.signal_group(Signal::SIGTERM);
    let output = agent.finish();
    assert_eq!((output.status, output.stdout_text().as_str()), (6, "up\nlate\n"), "{}", output.stderr);
    let account = output.ledger().drains[0].clone();
    assert_eq!((output.ledger().captured, account.delivered + account.held), (2, 2), "{account:?}");
}

#[test]
fn the_ledger_is_written_at_the_deadline_while_the_app_still_runs() {
    for fault in ["", "status=503"] {
        let harness = Harness::with_faults(fault).set("TAILRACE_STOP_GRACE", "1s");
        let agent = harness.run(&["bash", "-c", "trap '' TERM; seq 9; exec sleep 60"]);
        agent.wait_for_stdout("\n9\n");
        agent.signal_group(Signal::SIGTERM);
        wait_for("the ledger", || agent.ledger_text());
        if !fault.is_empty() {
            agent.wait_for_message(&["at=lines-not-delivered", "captured=9 delivered=0 held=9"]);
        }
        agent.signal_group(Signal::SIGKILL);
        let output = agent.finish();
        let account = output.ledger().drains[0].clone();
        let expected = if fault.is_empty() { (9, 0) } else { (0, 9) };
        assert_eq!(
            (output.status, output.ledger().captured),
            (-(Signal::SIGKILL as i32), 9),
            "{}",
            output.stderr
        );
        assert_eq!((account.delivered, account.held), expected);
    }
}

#[test]
fn a_stopped_shipper_is_killed_at_the_deadline_and_the_ledger_is_final() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s"); // too short for another shipper
    let mut agent = harness.run(&["sh", "-c", "echo one; read line; seq 19; exec sleep 60"]);
    wait_until("the delivery in the ledger", || {
        status_of(&agent).is_some_and(|status| status["drains"][0]["delivered_lines"] == 1)
    });
    let shipper = agent.wait_for_shipper();
    kill(Pid::from_raw(shipper), Signal::SIGSTOP).unwrap();
    agent.feed("go\n");
    agent.wait_for_stdout("\n19\n");
    let start = Instant::now();
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    let account = output.ledger().drains[0].clone();
    assert_eq!(
        (output.status, output.ledger().captured, account.delivered, account.held),
        (143, 20, 1, 19),
        "{}",
        output.stderr
    );
    assert!(
        !std::path::Path::new(&format!("/proc/{shipper}")).exists(),
        "the shipper must be killed and reaped"
    );
}

#[test]
fn the_shipper_delivers_the_spool_of_a_killed_supervisor() {
    let harness = Harness::with_faults("status=503");
    let mut agent = harness.run(&["sh", "-c", "seq 5000; exec sleep 60"]);
    agent.wait_for_stdout("\n5000\n");
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.requests >= 1));
    let shipper = agent.wait_for_shipper();
    drop(agent.stdin.take());
    wait_until("all lines in the spool", || {
        String::from_utf8_lossy(&contents(&harness.spool_dir())).contains(" web.1 - 5000\n")
    });
    agent.signal(Signal::SIGKILL);
    harness.drain.set_faults("").unwrap();
    harness.wait_for_lines(5000);
    assert_in_order(&harness.report(), 5000);
    wait_until("the shipper to exit", || !procfs::is_alive(shipper));
    assert!(harness.is_spool_empty());
    assert_eq!(agent.finish().status, -9);
}
