//! As PID 1 of a PID namespace, as in a container on Fir: orphans are reaped, signals come from outside.

use crate::harness::{Agent, Harness, quoted, skip, wait_for, wait_until};
use crate::procfs::{self, children};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::Command;

/// A prefix that runs the command after it as PID 1 of a new PID namespace with its own `/proc`.
pub(crate) const AS_PID_1: &[&str] =
    &["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// Prints a line for each SIGTERM. After the first it runs on for a second: longer than the supervisor takes to decide
/// whether to forward one. Its children ignore SIGTERM.
const PRINTS_SIGTERMS: &str = "
    pause() { (trap '' TERM; exec sleep 0.05) & wait $!; }
    trap 'echo term; stopped=1' TERM
    echo up
    until [ \"$stopped\" ]; do pause; done
    for i in $(seq 20); do pause; done
    exit 3";

/// Whether PID namespaces can be created here.
pub(crate) fn is_available() -> bool {
    let output = Command::new(AS_PID_1[0]).args(&AS_PID_1[1..]).arg("true").output();
    match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
        Err(error) => skip(&format!("unshare: {error}")),
    }
    false
}

/// Runs a command under tailrace as PID 1.
fn run_as_pid_1(harness: &Harness, command: &[&str]) -> Agent {
    harness.start_via(AS_PID_1, &[&["run", "--"], command].concat())
}

/// PID 1 of the namespace, by its PID in the namespace of the test.
pub(crate) fn pid_1_of(agent: &Agent) -> Pid {
    let pid = wait_for("PID 1", || children(agent.pid()).first().copied());
    wait_until("tailrace", || {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(4).any(|bytes| bytes == b"run\0"))
    });
    Pid::from_raw(pid)
}

#[test]
fn every_exit_status_is_passed_on() {
    if !is_available() {
        return;
    }
    for status in [0, 1, 2, 32, 64, 126, 127, 254, 255] {
        let harness = Harness::new();
        let output = run_as_pid_1(&harness, &["sh", "-c", &format!("echo $$; exit {status}")]).finish();
        assert_eq!((output.status, output.stderr.as_str()), (status, ""));
        assert_ne!(output.stdout_text(), "1\n", "tailrace must be PID 1, not the app");
        harness.assert_all_delivered(&output, 1);
    }
    for (signal, status) in [("TERM", 143), ("HUP", 129), ("QUIT", 131), ("KILL", 137), ("SEGV", 139)] {
        let harness = Harness::new();
        let output =
            run_as_pid_1(&harness, &["sh", "-c", &format!("ulimit -c 0; kill -{signal} $$; sleep 60")])
                .finish();
        assert_eq!((output.status, output.stderr.as_str()), (status, ""));
    }
    let harness = Harness::new();
    let output = run_as_pid_1(&harness, &[harness.absent_path().to_str().unwrap()]).finish();
    assert_eq!((output.status, output.messages().len()), (127, 1), "{}", output.stderr);
}

#[test]
fn a_sigterm_from_outside_reaches_the_app_once() {
    if !is_available() {
        return;
    }
    for to_all in [false, true] {
        let harness = Harness::new();
        let agent = run_as_pid_1(&harness, &["bash", "-c", PRINTS_SIGTERMS]);
        agent.wait_for_stdout("up\n");
        let init = pid_1_of(&agent);
        let shipper = wait_for("a shipper", || procfs::shipper_of(init.as_raw()));
        if to_all {
            for pid in children(init.as_raw()).into_iter().filter(|pid| *pid != shipper) {
                kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
            }
            kill(Pid::from_raw(shipper), Signal::SIGTERM).unwrap();
        }
        kill(init, Signal::SIGTERM).unwrap();
        let output = agent.finish();
        assert_eq!(
            (output.status, output.stdout_text().as_str(), output.stderr.as_str()),
            (3, "up\nterm\n", ""),
            "to all: {to_all}"
        );
        harness.assert_all_delivered(&output, 2);
    }
}

#[test]
fn an_app_without_a_handler_is_terminated_by_sigterm() {
    if !is_available() {
        return;
    }
    let harness = Harness::new().set("DYNO", "web-5f6f-abcde");
    let agent =
        run_as_pid_1(&harness, &["python3", "-c", "import time; print('up', flush=True); time.sleep(60)"]);
    agent.wait_for_stdout("up\n");
    kill(pid_1_of(&agent), Signal::SIGTERM).unwrap();
    let output = agent.finish();
    assert_eq!((output.status, output.stderr.as_str()), (143, ""));
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn orphans_are_reaped() {
    if !is_available() {
        return;
    }
    let harness = Harness::new();
    // Each subshell orphans a child, which is reparented to PID 1 and exits; no zombie may remain.
    let script = "for i in $(seq 50); do (sleep 0.05 & exec true); done
        sleep 0.5
        for i in $(seq 100); do
            left=$(grep -l '^State:.Z' /proc/[0-9]*/status | wc -l)
            [ $left = 0 ] && break
            sleep 0.05
        done
        echo zombies $left; exit 4";
    let output = run_as_pid_1(&harness, &["bash", "-c", script]).finish();
    output.assert_exit(4, "zombies 0\n", "");
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn a_daemon_that_keeps_the_pipe_open_does_not_delay_the_exit() {
    if !is_available() {
        return;
    }
    let harness = Harness::new();
    let output = run_as_pid_1(&harness, &["bash", "-c", "setsid sleep 3600 & echo up; exit 5"]).finish();
    assert_eq!((output.status, output.stdout_text().as_str()), (5, "up\n"));
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn an_init_that_signals_all_processes_stops_the_app_once() {
    if !is_available() {
        return;
    }
    // As the init of a container does: kill(-1) by PID 1, with DYNO set.
    let harness = Harness::new();
    let go = harness.path("go");
    let init = format!(
        "\"$@\" & child=$!; while [ ! -e {} ]; do sleep 0.05; done; trap '' TERM; kill -TERM -1; wait $child",
        quoted(&go)
    );
    let prefix = [AS_PID_1, &["bash", "-c", &init, "bash"]].concat();
    let agent = harness.start_via(&prefix, &["run", "--", "bash", "-c", PRINTS_SIGTERMS]);
    agent.wait_for_stdout("up\n");
    let bash = wait_for("the init", || children(agent.pid()).first().copied());
    let supervisor = || children(bash).into_iter().find(|pid| procfs::shipper_of(*pid).is_some());
    wait_for("a shipper", supervisor);
    fs::write(&go, "").unwrap();
    let output = agent.finish();
    output.assert_exit(3, "up\nterm\n", "");
    harness.assert_all_delivered(&output, 2);
}

#[test]
fn an_init_that_forwards_the_signal_to_its_child_stops_the_app_once() {
    if !is_available() {
        return;
    }
    // The init forwards the signal to its only child, the supervisor.
    let harness = Harness::new();
    let init = "\"$@\" & child=$!; trap 'kill -TERM $child' TERM; wait $child; wait $child";
    let prefix = [AS_PID_1, &["bash", "-c", init, "bash"]].concat();
    let agent = harness.start_via(&prefix, &["run", "--", "bash", "-c", PRINTS_SIGTERMS]);
    agent.wait_for_stdout("up\n");
    let bash = wait_for("the init", || children(agent.pid()).first().copied());
    let supervisor = || children(bash).into_iter().find(|pid| procfs::shipper_of(*pid).is_some());
    wait_for("a shipper", supervisor);
    kill(Pid::from_raw(bash), Signal::SIGTERM).unwrap();
    let output = agent.finish();
    output.assert_exit(3, "up\nterm\n", "");
    harness.assert_all_delivered(&output, 2);
}
