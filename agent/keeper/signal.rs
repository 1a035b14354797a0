//! Signals as events.

use super::relay::{Received, bit};
use crate::canary::PASSED_ON;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that the keeper takes as events. They stay blocked in every thread and in the shipper.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    /// What was blocked before: the app's mask.
    pub before: SigSet,
}

impl Signals {
    /// Takes what the keeper needs to pass on.
    ///
    /// # Errors
    /// As [`Signals::take`].
    pub(super) fn take_all() -> nix::Result<Self> {
        // Who writes to a terminal from the background is not stopped for it: TTOU and TTIN are ours too.
        let others = [Signal::SIGCHLD, Signal::SIGTTIN, Signal::SIGTTOU];
        Self::take(PASSED_ON.into_iter().chain(others))
    }

    /// Blocks them and opens the event source. To be called before any thread starts.
    ///
    /// # Errors
    /// When the kernel refuses either.
    pub fn take(signals: impl IntoIterator<Item = Signal>) -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for signal in signals {
            set.add(signal);
        }
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        match SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) {
            Ok(fd) => Ok(Self { fd, before }),
            Err(errno) => {
                before.thread_set_mask()?;
                Err(errno)
            }
        }
    }

    /// To poll.
    pub fn fd(&self) -> &SignalFd {
        &self.fd
    }

    /// The next signal.
    pub fn next(&self) -> Option<Received> {
        let info = self.fd.read_signal().ok()??;
        Some(Received {
            signal: Signal::try_from(info.ssi_signo as i32).ok()?,
            sender: info.ssi_pid as i32,
            from_kernel: info.ssi_code == nix::libc::SI_KERNEL,
        })
    }

    /// Gives the signals back, before the app is exec'ed in our place.
    pub fn give_back(&self) {
        let _best_effort = self.before.thread_set_mask();
    }
}

/// One field of `/proc/PID/status`, a set of signals; none without `/proc`, or when the process is gone.
fn set_of(status: &str, field: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// The signals that wait for a process (proc(5), `ShdPnd`).
pub(super) fn waiting(pid: i32) -> Option<u64> {
    set_of(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "ShdPnd")
}

/// Whether a process cannot have had a SIGTERM: it neither catches nor ignores it, and none waits (proc(5)).
pub(super) fn is_untouched(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let sets = ["SigCgt", "SigIgn", "SigBlk", "ShdPnd", "SigPnd"].map(|field| set_of(&status, field));
    let is_zombie = status.lines().any(|line| line.starts_with("State:\tZ"));
    !is_zombie && sets.iter().all(|set| set.is_some_and(|set| set & bit(Signal::SIGTERM) == 0))
}

/// Whether `pid` is `ancestor` or descends from it, as far as `/proc` knows.
pub(super) fn descends(mut pid: i32, ancestor: i32) -> bool {
    // Deeper than any tree; a loop cannot arise but by pids that are used again while we look.
    for _ in 0..1000 {
        if pid == ancestor {
            return true;
        }
        let Some(parent) = parent_of(pid) else { return false };
        pid = parent;
        if pid <= 1 {
            return false;
        }
    }
    false
}

/// The parent of a process, as far as `/proc` knows.
pub(super) fn parent_of(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
