//! As an ordinary process, and as the first process of a container: what wrappers are tested for, in both.

use crate::harness::{Agent, Rig, wait_for};
use crate::namespace;
use crate::procfs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;

/// How tailrace is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Ordinary,
    /// PID 1 of a namespace of processes.
    First,
}

/// What an app may be written in, with what runs a text of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Bash,
    Python,
    Node,
}

impl Mode {
    /// Both, where namespaces can be made.
    pub(crate) fn all() -> Vec<Self> {
        if namespace::has_namespaces() { vec![Self::Ordinary, Self::First] } else { vec![Self::Ordinary] }
    }

    /// Starts `tailrace run -- WORDS`.
    pub(crate) fn run(self, rig: &Rig, words: &[&str]) -> Running {
        self.through(rig, &[], words)
    }

    /// The same behind other words, which exec what follows them.
    pub(crate) fn through(self, rig: &Rig, before: &[&str], words: &[&str]) -> Running {
        let init = if self == Self::First { namespace::INIT } else { &[] };
        let arguments = [&["run", "--"], words].concat();
        let prefix = [init, before].concat();
        let agent = if prefix.is_empty() { rig.start(&arguments) } else { rig.through(&prefix, &arguments) };
        Running { agent, mode: self }
    }
}

impl Language {
    /// Those that are installed.
    pub(crate) fn all() -> Vec<Self> {
        let is_installed =
            |language: &Self| Command::new(language.words("")[0]).arg("--version").output().is_ok();
        let (there, missing): (Vec<_>, Vec<_>) =
            [Self::Bash, Self::Python, Self::Node].into_iter().partition(is_installed);
        for language in missing {
            namespace::skipped(&format!("{language:?} is not installed"));
        }
        there
    }

    /// The words that run a text.
    pub(crate) fn words(self, text: &str) -> Vec<&str> {
        match self {
            Self::Bash => vec!["bash", "-c", text],
            Self::Python => vec!["python3", "-uc", text],
            Self::Node => vec!["node", "-e", text],
        }
    }
}

/// A tailrace that runs.
pub(crate) struct Running {
    pub(crate) agent: Agent,
    mode: Mode,
}

impl Running {
    /// The keeper, by its pid out here.
    pub(crate) fn keeper(&self) -> i32 {
        match self.mode {
            Mode::Ordinary => self.agent.pid(),
            Mode::First => namespace::init_of(&self.agent).as_raw(),
        }
    }

    /// The shipper, once there is one.
    pub(crate) fn shipper(&self) -> i32 {
        let keeper = self.keeper();
        wait_for("a shipper", || procfs::shipper_of(keeper))
    }

    /// Sends the keeper a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.keeper()), signal).unwrap();
    }

    /// Sends it to every process of the dyno, as Cedar does: one after the other.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let keeper = self.keeper();
        for pid in [vec![keeper], procfs::descendants(keeper)].concat() {
            let _gone_already = kill(Pid::from_raw(pid), signal);
        }
    }
}
