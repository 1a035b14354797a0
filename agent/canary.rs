//! The signals that the shipper has blocked, as the keeper has: what waits for it went to all of the dyno.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What is passed on to the app when it was meant for the keeper alone.
pub const PASSED_ON: [Signal; 9] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

/// Forgets what waits for this process, so that the next one is news. SIGTERM stays: there is one per life.
pub fn forget() {
    let mut set = SigSet::empty();
    for signal in PASSED_ON.into_iter().filter(|signal| *signal != Signal::SIGTERM) {
        set.add(signal);
    }
    let Ok(waiting) = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) else {
        return;
    };
    // Each waits once at most.
    for _ in PASSED_ON {
        if !matches!(waiting.read_signal(), Ok(Some(_))) {
            return;
        }
    }
}
