//! The pending-signal probe. The shipper blocks the same signals as the supervisor and is in its process group: a
//! signal that is pending in the shipper was sent to the whole group or to every process of the dyno.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that are forwarded to the app when they were sent to the supervisor alone. Not among them: SIGKILL and
/// SIGSTOP, which cannot be caught; SIGCHLD, SIGTTIN, SIGTTOU and SIGPIPE, which concern the supervisor itself; and the
/// signals of faults.
pub(crate) const FORWARDED: [Signal; 18] = [
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

/// The bit of a signal in the signal sets of proc(5).
pub(crate) fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

/// A signal set, one field of the text of `/proc/PID/status`.
fn signal_set(status: &str, field: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// The signals that are pending in a process (proc(5), `ShdPnd`); none without `/proc`, or when the process is gone.
pub(crate) fn pending_signals(pid: i32) -> Option<u64> {
    signal_set(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "ShdPnd")
}

/// The signals that this process ignores (proc(5), `SigIgn`); none without `/proc`.
pub(super) fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    signal_set(&status, "SigIgn").unwrap_or(0)
}

/// Whether a running process cannot have received a SIGTERM: it neither catches, ignores nor blocks it, and none is
/// pending, so it would have ended (proc(5)). False when it cannot be read.
pub(crate) fn missed_term(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| missed_term_in(&status))
}

/// [`missed_term`] by the text of `/proc/PID/status`.
fn missed_term_in(status: &str) -> bool {
    let sets = ["SigCgt", "SigIgn", "SigBlk", "ShdPnd", "SigPnd"].map(|field| signal_set(status, field));
    let is_zombie = status.lines().any(|line| line.starts_with("State:\tZ"));
    !is_zombie && sets.iter().all(|set| set.is_some_and(|set| set & bit(Signal::SIGTERM) == 0))
}

/// Consumes the forwarded signals that are pending in this process, so that the next one shows.
pub(crate) fn clear_pending() {
    let mut set = SigSet::empty();
    for signal in FORWARDED {
        set.add(signal);
    }
    let Ok(source) = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) else {
        return;
    };
    // A standard signal is pending once at most (signal(7)).
    for _ in FORWARDED {
        if !matches!(source.read_signal(), Ok(Some(_))) {
            return;
        }
    }
}

/// Finds signals that were sent to the shipper alone. The supervisor knows nothing of them and never has them cleared;
/// left pending, they would make the next such signal look like one to the whole group.
#[derive(Debug, Default)]
pub(crate) struct StalePending(u64);

impl StalePending {
    /// Clears what was pending at the previous check too. To be called every few seconds, while the supervisor sends
    /// nothing.
    pub(crate) fn check(&mut self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let forwarded = FORWARDED.into_iter().fold(0, |set, signal| set | bit(signal));
        let pending = signal_set(&status, "ShdPnd").unwrap_or(0) & forwarded;
        if pending & self.0 != 0 {
            clear_pending();
        }
        self.0 = pending;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_was_missed_only_when_it_would_have_ended_the_process() {
        let status = |state: &str, sets: [u64; 5]| {
            let fields = ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"].iter().zip(sets);
            let sets: Vec<String> = fields.map(|(field, set)| format!("{field}:\t{set:016x}\n")).collect();
            format!("Name:\tx\nState:\t{state}\n{}", sets.concat())
        };
        let others = !bit(Signal::SIGTERM);
        assert!(missed_term_in(&status("S (sleeping)", [others; 5])));
        for index in 0..5 {
            let mut sets = [0; 5];
            sets[index] = bit(Signal::SIGTERM);
            assert!(!missed_term_in(&status("S (sleeping)", sets)), "set {index}");
        }
        assert!(!missed_term_in(&status("Z (zombie)", [0; 5])));
        assert!(!missed_term_in("Name:\tx\n"), "a status without signal sets");
    }
}
