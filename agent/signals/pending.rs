//! The signals that the shipper has blocked, as the keeper has: what waits for it went to all of the dyno.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What is passed on to the app when it was meant for the keeper alone: all but those that cannot be caught, those of
/// children, terminals and pipes, which are the keeper's own, and those of faults.
pub const FORWARDED: [Signal; 18] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGSTKFLT,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGURG,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGWINCH,
    Signal::SIGIO,
    Signal::SIGPWR,
];

/// The bit of a signal in the sets of proc(5).
pub(crate) fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

/// One field of `/proc/PID/status`, a set of signals; none without `/proc`, or when the process is gone.
pub(crate) fn set_of(status: &str, field: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// The signals that wait for a process (proc(5), `ShdPnd`).
pub fn waiting(pid: i32) -> Option<u64> {
    set_of(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "ShdPnd")
}

/// Whether a process cannot have had a SIGTERM: it neither catches nor ignores it, and none waits (proc(5)).
pub fn is_untouched(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let sets = ["SigCgt", "SigIgn", "SigBlk", "ShdPnd", "SigPnd"].map(|field| set_of(&status, field));
    let is_zombie = status.lines().any(|line| line.starts_with("State:\tZ"));
    !is_zombie && sets.iter().all(|set| set.is_some_and(|set| set & bit(Signal::SIGTERM) == 0))
}

/// Forgets what waits for this process, so that the next one is news.
pub fn forget() {
    let mut set = SigSet::empty();
    for signal in FORWARDED {
        set.add(signal);
    }
    let Ok(waiting) = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) else {
        return;
    };
    // Each waits once at most.
    for _ in FORWARDED {
        if !matches!(waiting.read_signal(), Ok(Some(_))) {
            return;
        }
    }
}

/// What was sent to the shipper by itself: nobody will come for it, and it would be taken for what went to all.
#[derive(Debug, Default)]
pub struct StalePending(u64);

impl StalePending {
    /// To be called every few seconds while the keeper has nothing to say: what waited the last time too is
    /// forgotten.
    pub fn look(&mut self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let all = FORWARDED.into_iter().fold(0, |all, signal| all | bit(signal));
        let waiting = set_of(&status, "ShdPnd").unwrap_or(0) & all;
        if waiting & self.0 != 0 {
            forget();
        }
        self.0 = waiting;
    }
}
