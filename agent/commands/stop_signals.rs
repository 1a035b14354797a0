//! The signals that ask `ship` to stop. They end nothing at once: the writer in front of `ship` has the grace to write
//! its last lines.

use crate::signals::source::Signals;
use nix::sys::signal::Signal;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

const STOP_SIGNALS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// The stop signals, and until when to work after the first of them.
#[derive(Debug)]
pub(super) struct StopSignals {
    signals: Signals,
    deadline: Option<Instant>,
}

impl StopSignals {
    /// Receives them as events from now on. To be called before any thread starts.
    ///
    /// # Errors
    /// When the kernel refuses that.
    pub(super) fn block() -> nix::Result<Self> {
        Ok(Self { signals: Signals::block_unless_ignored(STOP_SIGNALS)?, deadline: None })
    }

    /// The descriptor to poll.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.signals.fd().as_fd()
    }

    /// Takes the signals that came. Returns when to end: `grace` after the first of all; later ones change nothing.
    pub(super) fn deadline(&mut self, grace: Duration) -> Option<Instant> {
        while self.signals.next().is_some() {
            self.deadline.get_or_insert_with(|| Instant::now() + grace);
        }
        self.deadline
    }
}

/// Whether a stop signal ends the input at once: at a terminal no other program writes it.
pub(super) fn ends_input() -> bool {
    io::stdin().is_terminal()
}
