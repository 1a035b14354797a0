//! Launch modes: as an ordinary process, and as PID 1 of a container. The tests of wrappers run in both.

use crate::harness::{Agent, Harness, skip, wait_for};
use crate::namespace;
use crate::procfs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;

/// How tailrace is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaunchMode {
    Ordinary,
    /// As PID 1 of a PID namespace.
    Pid1,
}

/// A language in which a test app is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Bash,
    Python,
    Node,
}

impl LaunchMode {
    /// Both modes, or only the first where PID namespaces cannot be created.
    pub(crate) fn all() -> Vec<Self> {
        if namespace::is_available() { vec![Self::Ordinary, Self::Pid1] } else { vec![Self::Ordinary] }
    }

    /// Starts `tailrace run -- COMMAND`.
    pub(crate) fn run(self, harness: &Harness, command: &[&str]) -> LaunchedAgent {
        self.run_via(harness, &[], command)
    }

    /// Starts `PREFIX tailrace run -- COMMAND`; the prefix is a command that executes its last arguments.
    pub(crate) fn run_via(self, harness: &Harness, prefix: &[&str], command: &[&str]) -> LaunchedAgent {
        let namespace = if self == Self::Pid1 { namespace::AS_PID_1 } else { &[] };
        let arguments = [&["run", "--"], command].concat();
        let prefix = [namespace, prefix].concat();
        let agent = if prefix.is_empty() {
            harness.start(&arguments)
        } else {
            harness.start_via(&prefix, &arguments)
        };
        LaunchedAgent { agent, mode: self }
    }
}

impl Language {
    /// The languages whose interpreter is installed.
    pub(crate) fn installed() -> Vec<Self> {
        let is_installed =
            |language: &Self| Command::new(language.command("")[0]).arg("--version").output().is_ok();
        let (installed, missing): (Vec<_>, Vec<_>) =
            [Self::Bash, Self::Python, Self::Node].into_iter().partition(is_installed);
        for language in missing {
            skip(&format!("{language:?} is not installed"));
        }
        installed
    }

    /// The command that runs a program text.
    pub(crate) fn command(self, text: &str) -> Vec<&str> {
        match self {
            Self::Bash => vec!["bash", "-c", text],
            Self::Python => vec!["python3", "-uc", text],
            Self::Node => vec!["node", "-e", text],
        }
    }
}

/// A Python program that counts SIGTERMs; at SIGUSR1 it prints their number and exits with 3. It takes signals by
/// sigwait(3): handlers run in the order of signal numbers, and one that runs just before `pause` leaves that waiting.
pub(crate) const COUNTS_SIGTERM: &str = "
import signal, sys
both = {signal.SIGTERM, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
print('up')
count = 0
while signal.sigwait(both) == signal.SIGTERM: count += 1
if signal.SIGTERM in signal.sigpending(): count += 1
print(count)
sys.exit(3)
";

/// A running tailrace in one of the modes.
pub(crate) struct LaunchedAgent {
    pub(crate) agent: Agent,
    mode: LaunchMode,
}

impl LaunchedAgent {
    /// The supervisor's PID in the namespace of the test.
    pub(crate) fn supervisor_pid(&self) -> i32 {
        match self.mode {
            LaunchMode::Ordinary => self.agent.pid(),
            LaunchMode::Pid1 => namespace::pid_1_of(&self.agent).as_raw(),
        }
    }

    /// Waits until the shipper runs; returns its process.
    pub(crate) fn wait_for_shipper(&self) -> i32 {
        let supervisor = self.supervisor_pid();
        wait_for("a shipper", || procfs::shipper_of(supervisor))
    }

    /// Sends a signal to the supervisor.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.supervisor_pid()), signal).unwrap();
    }

    /// Sends a signal to each process of the dyno, one after the other, as Cedar does.
    pub(crate) fn signal_every_process(&self, signal: Signal) {
        let supervisor = self.supervisor_pid();
        for pid in [vec![supervisor], procfs::descendants(supervisor)].concat() {
            kill(Pid::from_raw(pid), signal).ok(); // it may have exited
        }
    }
}
