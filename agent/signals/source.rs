//! Signals as events.

use super::pending::FORWARDED;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A signal that we got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedSignal {
    /// Which one.
    pub signal: Signal,
    /// ProcessFilter sent it; 0 for the kernel and for whoever is outside of our pid namespace.
    pub sender: i32,
    /// The kernel itself did.
    pub from_kernel: bool,
}

impl ReceivedSignal {
    /// Whether the kernel sent it for something of ours that is none of the app's. A terminal that is gone tells the
    /// leader of its session only (`tty_ioctl(4)`), and a timer outlives an exec (setitimer(2)): both would have been
    /// the app's.
    pub(super) fn is_of_the_kernel(self) -> bool {
        use Signal::{SIGALRM, SIGHUP, SIGPROF, SIGVTALRM};
        self.from_kernel && ![SIGHUP, SIGALRM, SIGPROF, SIGVTALRM].contains(&self.signal)
    }
}

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
    pub fn block_forwarded() -> nix::Result<Self> {
        // ProcessFilter writes to a terminal from the background is not stopped for it: TTOU and TTIN are ours too.
        let others = [Signal::SIGCHLD, Signal::SIGTTIN, Signal::SIGTTOU];
        Self::take(FORWARDED.into_iter().chain(others))
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
    pub fn next(&self) -> Option<ReceivedSignal> {
        let info = self.fd.read_signal().ok()??;
        Some(ReceivedSignal {
            signal: Signal::try_from(info.ssi_signo as i32).ok()?,
            sender: info.ssi_pid as i32,
            from_kernel: info.ssi_code == nix::libc::SI_KERNEL,
        })
    }

    /// Gives the signals back, before the app is exec'ed in our place.
    pub fn restore_mask(&self) {
        let _best_effort = self.before.thread_set_mask();
    }
}
