//! State that the supervisor's main loop and its sampler thread share.

use crate::dyno::lifecycle::Readiness;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The app's lifecycle, as the platform's lifecycle lines show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AppPhase {
    /// It was started; a web process does not listen on its port yet.
    #[default]
    Starting,
    /// It runs, and a web process listens on its port.
    Up,
    /// It was asked to stop, or it ended. No other phase follows.
    Ending {
        /// How far it had come before.
        from: Readiness,
    },
}

/// State that the supervisor's main loop and its sampler thread share.
#[derive(Debug, Default)]
pub(crate) struct SharedState {
    shipper: AtomicI32,
    phase: Mutex<AppPhase>,
    probe: OnceLock<String>,
}

impl SharedState {
    /// The shipper's pid, or 0.
    pub(super) fn shipper(&self) -> i32 {
        self.shipper.load(Ordering::Relaxed)
    }

    pub(super) fn set_shipper(&self, pid: i32) {
        self.shipper.store(pid, Ordering::Relaxed);
    }

    /// The app is up. Calls `send_lines` unless the app is ending already. The call is made under the lock, so that
    /// lifecycle lines are sent in the order of the phases.
    pub(super) fn set_up(&self, send_lines: impl FnOnce()) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, AppPhase::Starting | AppPhase::Up) {
            *phase = AppPhase::Up;
            send_lines();
        }
    }

    /// The app is asked to stop, or ended. Calls `send_lines` with how far it had come, under the lock.
    pub(super) fn set_ending(&self, send_lines: impl FnOnce(Readiness)) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let from = match *phase {
            AppPhase::Starting => Readiness::Starting,
            AppPhase::Up => Readiness::Up,
            AppPhase::Ending { from } => from,
        };
        *phase = AppPhase::Ending { from };
        send_lines(from);
    }

    /// What is sampled, and how; none until the sampler has chosen.
    pub(crate) fn probe(&self) -> Option<&str> {
        self.probe.get().map(String::as_str)
    }

    pub(super) fn set_probe(&self, text: String) {
        self.probe.set(text).ok(); // the sampler chooses once
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_is_ending_does_not_come_up() {
        let shared_state = SharedState::default();
        shared_state.set_ending(|from| assert_eq!(from, Readiness::Starting));
        shared_state.set_up(|| panic!("it is ending"));
        shared_state.set_ending(|from| assert_eq!(from, Readiness::Starting));
        let shared_state = SharedState::default();
        shared_state.set_up(|| {});
        shared_state.set_ending(|from| assert_eq!(from, Readiness::Up));
        shared_state.set_ending(|from| assert_eq!(from, Readiness::Up));
    }
}
