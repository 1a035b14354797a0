//! Stopping: SIGTERM reaches the app once, whichever processes it was sent to, and the app's last lines are delivered.

use crate::harness::{Agent, Harness, numbers, wait_until};
use crate::launch::COUNTS_SIGTERM;
use crate::threads::check_in_threads;
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::{Duration, Instant};

/// Prints a line for each SIGTERM. After the first it waits for longer than the supervisor takes to decide whether to
/// forward one, then prints a last line and exits with 3. Its sleeping children ignore SIGTERM, so that the shell does
/// not print a message about their end.
const APP: &str = "
    pause() { (trap '' TERM; exec sleep $1) >/dev/null 2>&1 & wait $!; }
    trap 'echo term; stopped=1; : >$STOPPED' TERM
    echo ready
    until [ \"$stopped\" ]; do pause 1; done
    for i in 1 2 3 4 5; do pause 0.2; done
    echo last line
    exit 3";

/// Runs that app and stops it with `stop`, whose path is a file that exists once the app got a SIGTERM.
fn assert_stops_once(stop: impl FnOnce(&Agent, &Path)) {
    let harness = Harness::new();
    let stopped = harness.path("stopped");
    let harness = harness.set("STOPPED", stopped.to_str().unwrap());
    let agent = harness.sh(APP);
    agent.wait_for_stdout("ready");
    agent.wait_for_shipper();
    stop(&agent, &stopped);
    let output = agent.finish();
    output.assert_exit(3, "ready\nterm\nlast line\n", "");
    assert_eq!(harness.drain.lines(), ["ready", "term", "last line"]);
    harness.assert_all_delivered(&output, 3);
}

#[test]
fn a_sigterm_to_the_supervisor_alone_is_forwarded_once() {
    assert_stops_once(|agent, _| agent.signal(Signal::SIGTERM));
}

#[test]
fn a_sigterm_to_the_group_reaches_the_app_once() {
    assert_stops_once(|agent, stopped| {
        // The app handles its SIGTERM before the supervisor continues, so a forwarded one could not merge with it.
        agent.signal(Signal::SIGSTOP);
        agent.signal_group(Signal::SIGTERM);
        wait_until("SIGTERM to reach the app", || stopped.exists());
        agent.signal(Signal::SIGCONT);
    });
}

#[test]
fn repeated_sigterms_within_one_stop_are_forwarded_once() {
    assert_stops_once(|agent, _| {
        for _ in 0..3 {
            agent.signal(Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(100)); // so that the kernel does not merge them
        }
    });
}

#[test]
fn the_status_of_an_app_that_sigterm_kills_is_143() {
    for to_all in [false, true] {
        let harness = Harness::new();
        let agent = harness.sh("echo up; exec sleep 60");
        agent.wait_for_stdout("up\n");
        agent.wait_for_shipper();
        let start = Instant::now();
        let stop = if to_all { Agent::signal_group } else { Agent::signal };
        stop(&agent, Signal::SIGTERM);
        let output = agent.finish();
        assert_eq!((output.status, output.stderr.as_str()), (143, ""));
        assert!(start.elapsed() < Duration::from_secs(10), "a healthy drain delayed the exit");
        harness.assert_all_delivered(&output, 1);
    }
}

#[test]
fn other_signals_are_forwarded() {
    for (signal, name) in [(Signal::SIGUSR1, "USR1"), (Signal::SIGHUP, "HUP"), (Signal::SIGINT, "INT")] {
        let harness = Harness::new();
        let script = format!("trap 'echo got {name}; exit 5' {name}; echo up; while :; do sleep 0.1; done");
        let agent = harness.sh(&script);
        agent.wait_for_stdout("up\n");
        agent.signal(signal);
        let output = agent.finish();
        assert_eq!((output.status, output.stdout_text()), (5, format!("up\ngot {name}\n")));
        harness.assert_all_delivered(&output, 2);
    }
}

#[test]
fn the_agent_does_not_exit_before_the_app() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "100ms");
    let agent = harness.sh("trap 'sleep 0.5; seq 100000; exit 4' TERM; echo up; while :; do sleep 0.1; done");
    agent.wait_for_stdout("up\n");
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    let (status, text) = (output.status, output.stdout_text());
    assert!(text == format!("up\n{}", numbers(1..=100_000)), "{} bytes", text.len());
    // Output that was still in the pipe at the exit is captured too; no time is left to deliver it.
    assert_eq!((status, output.ledger().captured), (4, 100_001));
}

#[test]
fn delivery_ends_with_the_stop_grace() {
    let harness = Harness::with_faults("stall=60s").set("TAILRACE_STOP_GRACE", "1s");
    let agent = harness.sh("seq 10; exec sleep 60");
    agent.wait_for_stdout("10");
    agent.signal(Signal::SIGTERM);
    let start = Instant::now();
    let output = agent.finish();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(output.status, 143);
    let account = output.ledger().drains[0].clone();
    assert_eq!((output.ledger().captured, account.held), (10, 10), "lines without an answer must be held");
    assert!(output.stderr.contains("at=lines-not-delivered"), "{}", output.stderr);
}

#[test]
fn repeated_signals_to_the_group_are_not_multiplied() {
    let cases =
        [500, 100, 20, 0].into_iter().flat_map(|pause| (1..=5).rev().map(move |repeats| (pause, repeats)));
    check_in_threads(5, cases, |(pause, repeats)| {
        let harness = Harness::new();
        let agent = harness.run(&["python3", "-uc", COUNTS_SIGTERM]);
        agent.wait_for_stdout("up\n");
        agent.wait_for_shipper();
        for _ in 0..repeats {
            agent.signal_group(Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(pause));
        }
        // Time to forward one too many; then USR1 ends the app.
        std::thread::sleep(Duration::from_millis(250));
        agent.signal_group(Signal::SIGUSR1);
        let output = agent.finish();
        let count: u32 = output.stdout_text().trim_start_matches("up\n").trim().parse().unwrap();
        assert!((1..=repeats).contains(&count), "{count} of {repeats}, {pause} ms apart");
        assert_eq!((output.status, output.stderr.as_str()), (3, ""));
    });
}

#[test]
fn a_stop_at_any_moment_of_the_start_is_obeyed() {
    // From before `main` to before the first byte and the TLS handshake.
    check_in_threads(3, 0..60, |step| {
        let harness = Harness::new();
        let agent = harness.sh("exec sleep 60");
        std::thread::sleep(Duration::from_micros(step * 150));
        let start = Instant::now();
        agent.signal(Signal::SIGTERM);
        let output = agent.finish();
        assert!([143, -15].contains(&output.status), "{}: {}", output.status, output.stderr);
        assert_eq!(output.stderr, "", "after {} us", step * 150);
        assert!(start.elapsed() < Duration::from_secs(10), "after {} us: {:?}", step * 150, start.elapsed());
    });
}
