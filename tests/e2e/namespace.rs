//! As PID 1 of a container, as on Fir: whoever ends is reaped, and signals come from outside.

use crate::harness::{Agent, Rig, wait_for};
use crate::procfs::{self, children};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::Command;

/// A namespace of processes with its own `/proc`; the first process is whatever follows.
pub(crate) const INIT: &[&str] =
    &["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// Says why a test is skipped; where all must run, it fails.
pub(crate) fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot be skipped here: {why}");
    eprintln!("skipped: {why}");
}

/// Whether namespaces can be made here.
pub(crate) fn has_namespaces() -> bool {
    let output = Command::new(INIT[0]).args(&INIT[1..]).arg("true").output();
    match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => skipped(&String::from_utf8_lossy(&output.stderr)),
        Err(error) => skipped(&format!("unshare: {error}")),
    }
    false
}

/// Runs `words` under tailrace as PID 1.
fn first(rig: &Rig, words: &[&str]) -> Agent {
    rig.through(INIT, &[&["run", "--"], words].concat())
}

/// The first process of the namespace, as it is called outside.
pub(crate) fn init_of(agent: &Agent) -> Pid {
    let pid = wait_for("the first process", || children(agent.pid()).first().copied());
    wait_for("tailrace", || {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(4).any(|word| word == b"run\0"))
            .then_some(())
    });
    Pid::from_raw(pid)
}

#[test]
fn every_exit_status_comes_through() {
    if !has_namespaces() {
        return;
    }
    for status in [0, 1, 2, 32, 64, 126, 127, 254, 255] {
        let rig = Rig::new();
        let end = first(&rig, &["sh", "-c", &format!("echo $$; exit {status}")]).end();
        assert_eq!((end.status, end.err.as_str()), (status, ""));
        assert_ne!(end.text(), "1\n", "the app is not the first process: we are");
        rig.all_delivered(&end, 1);
    }
    for (signal, status) in [("TERM", 143), ("HUP", 129), ("QUIT", 131), ("KILL", 137), ("SEGV", 139)] {
        let rig = Rig::new();
        let end = first(&rig, &["sh", "-c", &format!("ulimit -c 0; kill -{signal} $$; sleep 60")]).end();
        assert_eq!((end.status, end.err.as_str()), (status, ""));
    }
    let rig = Rig::new();
    let end = first(&rig, &["/nonexistent/app"]).end();
    assert_eq!((end.status, end.said().len()), (127, 1), "{}", end.err);
}

#[test]
fn a_stop_from_outside_reaches_the_app_once() {
    if !has_namespaces() {
        return;
    }
    for to_all in [false, true] {
        let rig = Rig::new();
        let script =
            "trap 'echo term' TERM; echo up; for i in $(seq 30); do sleep 0.05 & wait $!; done; exit 3";
        let agent = first(&rig, &["bash", "-c", script]);
        agent.wait_out("up");
        let init = init_of(&agent);
        let shipper = wait_for("a shipper", || procfs::shipper_of(init.as_raw()));
        if to_all {
            for pid in children(init.as_raw()).into_iter().filter(|pid| *pid != shipper) {
                kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
            }
            kill(Pid::from_raw(shipper), Signal::SIGTERM).unwrap();
        }
        kill(init, Signal::SIGTERM).unwrap();
        let end = agent.end();
        assert_eq!(
            (end.status, end.text().as_str(), end.err.as_str()),
            (3, "up\nterm\n", ""),
            "to all: {to_all}"
        );
        rig.all_delivered(&end, 2);
    }
}

#[test]
fn an_app_that_says_nothing_to_a_stop_is_ended_by_it() {
    if !has_namespaces() {
        return;
    }
    let rig = Rig::new().set("DYNO", "web-5f6f-abcde");
    let agent = first(&rig, &["python3", "-c", "import time; print('up', flush=True); time.sleep(60)"]);
    agent.wait_out("up");
    kill(init_of(&agent), Signal::SIGTERM).unwrap();
    let end = agent.end();
    assert_eq!((end.status, end.err.as_str()), (143, ""));
    rig.all_delivered(&end, 1);
}

#[test]
fn orphans_are_reaped() {
    if !has_namespaces() {
        return;
    }
    let rig = Rig::new();
    // Each subshell leaves a child behind, which becomes ours and ends; no zombie may be left.
    let script = "for i in $(seq 50); do (sleep 0.05 & exec true); done
        sleep 0.5
        for i in $(seq 100); do
            left=$(grep -l '^State:.Z' /proc/[0-9]*/status | wc -l)
            [ $left = 0 ] && break
            sleep 0.05
        done
        echo zombies $left; exit 4";
    let end = first(&rig, &["bash", "-c", script]).end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (4, "zombies 0\n", ""));
    rig.all_delivered(&end, 1);
}

#[test]
fn a_daemon_that_keeps_the_pipe_does_not_hold_the_container() {
    if !has_namespaces() {
        return;
    }
    let rig = Rig::new();
    let end = first(&rig, &["bash", "-c", "setsid sleep 3600 & echo up; exit 5"]).end();
    assert_eq!((end.status, end.text().as_str()), (5, "up\n"));
    rig.all_delivered(&end, 1);
}

#[test]
fn an_init_that_signals_everybody_stops_the_app_once() {
    if !has_namespaces() {
        return;
    }
    // As a container's init does it: kill(-1) by PID 1, with DYNO set.
    let rig = Rig::new();
    let go = rig.path("go");
    let init = format!(
        "\"$@\" & child=$!; while [ ! -e {} ]; do sleep 0.05; done; trap '' TERM; kill -TERM -1; wait $child",
        go.display()
    );
    let words = [INIT, &["bash", "-c", &init, "bash"]].concat();
    let script = "trap 'echo term' TERM; echo up; for i in $(seq 30); do (trap '' TERM; exec sleep 0.05) & wait $!; done; exit 3";
    let agent = rig.through(&words, &["run", "--", "bash", "-c", script]);
    agent.wait_out("up");
    let bash = wait_for("the init", || children(agent.pid()).first().copied());
    let keeper = || children(bash).into_iter().find(|pid| procfs::shipper_of(*pid).is_some());
    wait_for("a shipper", keeper);
    fs::write(&go, "").unwrap();
    let end = agent.end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "up\nterm\n", ""));
    rig.all_delivered(&end, 2);
}

#[test]
fn a_container_whose_init_is_another_stops_the_app_once() {
    if !has_namespaces() {
        return;
    }
    // The init passes the stop on to its child alone: to us.
    let rig = Rig::new();
    let init = "\"$@\" & child=$!; trap 'kill -TERM $child' TERM; wait $child; wait $child";
    let words = [INIT, &["bash", "-c", init, "bash"]].concat();
    let script = "trap 'echo term' TERM; echo up; for i in $(seq 30); do sleep 0.05 & wait $!; done; exit 3";
    let agent = rig.through(&words, &["run", "--", "bash", "-c", script]);
    agent.wait_out("up");
    let bash = wait_for("the init", || children(agent.pid()).first().copied());
    let keeper = || children(bash).into_iter().find(|pid| procfs::shipper_of(*pid).is_some());
    wait_for("a shipper", keeper);
    kill(Pid::from_raw(bash), Signal::SIGTERM).unwrap();
    let end = agent.end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "up\nterm\n", ""));
    rig.all_delivered(&end, 2);
}
