//! Signals as events.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What is passed on to the app when it was meant for us.
pub(super) const PASSED_ON: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Signals that the keeper takes as events. They stay blocked in every thread and in the shipper.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    /// What was blocked before: the app's mask.
    pub before: SigSet,
}

impl Signals {
    /// Blocks them and opens the event source. To be called before any thread starts.
    ///
    /// # Errors
    /// When the kernel refuses either.
    pub fn take() -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for signal in PASSED_ON.into_iter().chain([Signal::SIGTERM, Signal::SIGCHLD]) {
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

    /// The next signal and the pid of its sender (0 for the kernel's).
    pub fn next(&self) -> Option<(Signal, i32)> {
        let info = self.fd.read_signal().ok()??;
        Some((Signal::try_from(info.ssi_signo as i32).ok()?, info.ssi_pid as i32))
    }

    /// Gives the signals back, before the app is exec'ed in our place.
    pub fn give_back(&self) {
        let _best_effort = self.before.thread_set_mask();
    }
}

/// Whether SIGTERM waits for process `pid`: whoever has it blocked is the canary that tells a broadcast from a
/// signal that was meant for us alone. None without `/proc` (proc(5), `ShdPnd`).
pub(super) fn term_is_pending(pid: i32) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"))?;
    let set = u64::from_str_radix(pending.trim(), 16).ok()?;
    Some(set & (1 << (Signal::SIGTERM as i32 - 1)) != 0)
}
