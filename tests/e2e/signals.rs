//! Stopping: SIGTERM reaches the app once, whoever it was sent to, and its last words are delivered.

use crate::harness::{Agent, Rig, numbers, wait_for};
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::{Duration, Instant};

/// Says each SIGTERM. After the first it listens for another one for longer than the keeper takes to make up its
/// mind, says its last words, and ends with a status of its own. Its naps are deaf, so that the shell has nothing
/// to say about them.
const APP: &str = "
    nap() { (trap '' TERM; exec sleep $1) >/dev/null 2>&1 & wait $!; }
    trap 'echo term; told=1; : >$TOLD' TERM
    echo ready
    until [ \"$told\" ]; do nap 1; done
    for i in 1 2 3 4 5; do nap 0.2; done
    echo last words
    exit 3";

/// Runs that app, stops it by `stop`, which gets the file that is there once the app was told.
fn stopped(stop: impl FnOnce(&Agent, &Path)) {
    let rig = Rig::new();
    let told = rig.path("told");
    let rig = rig.set("TOLD", told.to_str().unwrap());
    let agent = rig.sh(APP);
    agent.wait_out("ready");
    agent.shipper();
    stop(&agent, &told);
    let end = agent.end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "ready\nterm\nlast words\n", ""));
    assert_eq!(rig.drain.lines(), ["ready", "term", "last words"]);
    rig.all_delivered(&end, 3);
}

#[test]
fn a_sigterm_for_the_keeper_alone_is_passed_on_once() {
    stopped(|agent, _| agent.signal(Signal::SIGTERM));
}

#[test]
fn a_sigterm_for_all_reaches_the_app_once() {
    stopped(|agent, told| {
        // The app is through with its own before the keeper wakes up: a second one would not merge with it.
        agent.signal(Signal::SIGSTOP);
        agent.signal_all(Signal::SIGTERM);
        wait_for("the app to be told", || told.exists().then_some(()));
        agent.signal(Signal::SIGCONT);
    });
}

#[test]
fn repeated_sigterms_within_one_stop_do_not_multiply() {
    stopped(|agent, _| {
        for _ in 0..3 {
            agent.signal(Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(100)); // they shall not merge in the kernel
        }
    });
}

#[test]
fn an_app_that_sigterm_kills_ends_with_143() {
    for to_all in [false, true] {
        let rig = Rig::new();
        let agent = rig.sh("echo up; exec sleep 60");
        agent.wait_out("up");
        agent.shipper();
        let start = Instant::now();
        let stop = if to_all { Agent::signal_all } else { Agent::signal };
        stop(&agent, Signal::SIGTERM);
        let end = agent.end();
        assert_eq!((end.status, end.err.as_str()), (143, ""));
        assert!(start.elapsed() < Duration::from_secs(10), "a healthy drain does not hold it up");
        rig.all_delivered(&end, 1);
    }
}

#[test]
fn other_signals_are_passed_on() {
    for (signal, name) in [(Signal::SIGUSR1, "USR1"), (Signal::SIGHUP, "HUP"), (Signal::SIGINT, "INT")] {
        let rig = Rig::new();
        let script = format!("trap 'echo got {name}; exit 5' {name}; echo up; while :; do sleep 0.1; done");
        let agent = rig.sh(&script);
        agent.wait_out("up");
        agent.signal(signal);
        let end = agent.end();
        assert_eq!((end.status, end.text()), (5, format!("up\ngot {name}\n")));
        rig.all_delivered(&end, 2);
    }
}

#[test]
fn the_agent_does_not_leave_before_the_app() {
    let rig = Rig::new().set("TAILRACE_STOP_GRACE", "100ms");
    let agent = rig.sh("trap 'sleep 0.5; seq 100000; exit 4' TERM; echo up; while :; do sleep 0.1; done");
    agent.wait_out("up");
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    let (status, text) = (end.status, end.text());
    assert!(text == format!("up\n{}", numbers(1..=100_000)), "{} bytes of its last words", text.len());
    // What was still in a pipe when it ended was captured too; there was no time left to deliver it.
    assert_eq!((status, end.ledger().captured), (4, 100_001));
}

#[test]
fn delivery_ends_with_the_grace() {
    let rig = Rig::with_faults("stall=60s").set("TAILRACE_STOP_GRACE", "1s");
    let agent = rig.sh("seq 10; exec sleep 60");
    agent.wait_out("10");
    agent.signal(Signal::SIGTERM);
    let start = Instant::now();
    let end = agent.end();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(end.status, 143);
    let account = end.ledger().drains[0].clone();
    assert_eq!((end.ledger().captured, account.held), (10, 10), "what was not answered for is held");
    assert!(end.err.contains("at=lines-not-delivered"), "{}", end.err);
}

#[test]
fn repeated_broadcasts_reach_the_app_as_often_as_they_were_sent_at_most() {
    for repeats in 1..=5 {
        for pause in [0, 20, 100, 500] {
            let rig = Rig::new();
            let agent = rig.run(&["python3", "-uc", COUNTS]);
            agent.wait_out("up");
            agent.shipper();
            for _ in 0..repeats {
                agent.signal_all(Signal::SIGTERM);
                std::thread::sleep(Duration::from_millis(pause));
            }
            // The last word of all: USR1 ends it.
            std::thread::sleep(Duration::from_millis(250));
            agent.signal_all(Signal::SIGUSR1);
            let end = agent.end();
            let told: u32 = end.text().trim_start_matches("up\n").trim().parse().unwrap();
            assert!((1..=repeats).contains(&told), "{told} of {repeats}, {pause} ms apart");
            assert_eq!((end.status, end.err.as_str()), (3, ""));
        }
    }
}

/// Counts SIGTERMs until SIGUSR1.
const COUNTS: &str = "
import signal, sys
told = 0
def term(*_):
    global told
    told += 1
def usr1(*_):
    print(told)
    sys.exit(3)
signal.signal(signal.SIGTERM, term)
signal.signal(signal.SIGUSR1, usr1)
print('up')
while True: signal.pause()
";

#[test]
fn a_stop_at_any_moment_of_the_start_ends_it() {
    // From before there is a main thread to before the first byte and the handshake.
    for step in 0..60 {
        let rig = Rig::new();
        let agent = rig.sh("exec sleep 60");
        std::thread::sleep(Duration::from_micros(step * 150));
        let start = Instant::now();
        agent.signal(Signal::SIGTERM);
        let end = agent.end();
        assert!([143, -15].contains(&end.status), "{}: {}", end.status, end.err);
        assert_eq!(end.err, "", "after {} us", step * 150);
        assert!(start.elapsed() < Duration::from_secs(10), "after {} us: {:?}", step * 150, start.elapsed());
    }
}
