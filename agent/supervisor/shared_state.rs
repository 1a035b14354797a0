//! What the keeper's threads tell each other of the dyno's life.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// How far the app's life is.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    /// It runs, and as a web process somebody listens.
    is_up: bool,
    /// It was asked to stop, or ended: nothing comes up any more.
    is_ending: bool,
}

/// ProcessFilter lives, and how it is looked at.
#[derive(Debug, Default)]
pub struct SharedState {
    shipper: AtomicI32,
    life: Mutex<Life>,
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

    /// The app is up, unless its end began before that. `tell` says so: in the order in which things happen.
    pub(super) fn up(&self, tell: impl FnOnce()) {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if !life.is_ending {
            life.is_up = true;
            tell();
        }
    }

    /// The app's end begins, or has come. `tell` says so, and hears whether the app was up.
    pub(super) fn end(&self, tell: impl FnOnce(bool)) {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        life.is_ending = true;
        tell(life.is_up);
    }

    /// What is sampled and how, once it was chosen.
    pub fn probe(&self) -> Option<&str> {
        self.probe.get().map(String::as_str)
    }

    pub(super) fn set_probe(&self, text: String) {
        let _chosen_once = self.probe.set(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_up_once_the_end_began() {
        let shared_state = SharedState::default();
        shared_state.end(|was_up| assert!(!was_up));
        shared_state.up(|| panic!("it is going down"));
        shared_state.end(|was_up| assert!(!was_up));
        let shared_state = SharedState::default();
        shared_state.up(|| {});
        shared_state.end(|was_up| assert!(was_up));
    }
}
