//! Signals received as events, by signalfd(2).

use super::pending::{self, FORWARDED};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A signal that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedSignal {
    /// The signal.
    pub signal: Signal,
    /// Pid of the sender; 0 for the kernel and for processes outside of the pid namespace.
    pub sender: i32,
    /// Whether the kernel sent it.
    pub from_kernel: bool,
}

impl ReceivedSignal {
    /// Whether the kernel sent it and the app is to have none from us: it got its own (a terminal signals a whole
    /// process group), or the cause is ours alone (a resource limit). Excepted are signals that the app would have
    /// received in our place: a terminal that hangs up signals the leader of its session only (`tty_ioctl(4)`), and a
    /// timer stays armed across exec (setitimer(2)).
    pub(super) fn is_kernel_notice(self) -> bool {
        use Signal::{SIGALRM, SIGHUP, SIGPROF, SIGVTALRM};
        self.from_kernel && ![SIGHUP, SIGALRM, SIGPROF, SIGVTALRM].contains(&self.signal)
    }
}

/// Signals received as events. They stay blocked in every thread, and in the shipper.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    /// The signal mask before: the app's.
    pub original_mask: SigSet,
}

impl Signals {
    /// Blocks all that the supervisor forwards or handles itself.
    ///
    /// # Errors
    /// As [`Signals::block`].
    pub(crate) fn block_forwarded() -> nix::Result<Self> {
        // With SIGTTOU and SIGTTIN blocked, output to a terminal from the background does not stop this process.
        let others = [Signal::SIGCHLD, Signal::SIGTTIN, Signal::SIGTTOU];
        Self::block(FORWARDED.into_iter().chain(others))
    }

    /// As [`Signals::block`], without the signals that are ignored already: those were not meant for this process, such
    /// as SIGHUP below nohup(1), and SIGINT in a job that a shell runs in the background. Blocked, they would no longer
    /// be ignored.
    ///
    /// # Errors
    /// As [`Signals::block`].
    pub(crate) fn block_unless_ignored(signals: impl IntoIterator<Item = Signal>) -> nix::Result<Self> {
        let ignored = pending::ignored_signals();
        Self::block(signals.into_iter().filter(|signal| ignored & pending::bit(*signal) == 0))
    }

    /// Blocks these signals and opens the event source. To be called before any thread starts.
    ///
    /// # Errors
    /// When the kernel refuses either.
    pub(crate) fn block(signals: impl IntoIterator<Item = Signal>) -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for signal in signals {
            set.add(signal);
        }
        let original_mask = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        match SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) {
            Ok(fd) => Ok(Self { fd, original_mask }),
            Err(errno) => {
                original_mask.thread_set_mask()?;
                Err(errno)
            }
        }
    }

    /// The descriptor to poll.
    pub(crate) fn fd(&self) -> &SignalFd {
        &self.fd
    }

    /// The next signal that was received; none when there is no other.
    pub(crate) fn next(&self) -> Option<ReceivedSignal> {
        let info = self.fd.read_signal().ok()??;
        Some(ReceivedSignal {
            signal: Signal::try_from(info.ssi_signo as i32).ok()?,
            sender: info.ssi_pid as i32,
            from_kernel: info.ssi_code == nix::libc::SI_KERNEL,
        })
    }

    /// Restores the original signal mask, before the command is executed in place of this process.
    pub(crate) fn restore_mask(&self) {
        self.original_mask.thread_set_mask().ok(); // the command runs with what it gets
    }
}
