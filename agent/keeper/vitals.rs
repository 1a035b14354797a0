//! What the keeper's threads tell each other of the dyno's life.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Who lives, and how it is looked at.
#[derive(Debug, Default)]
pub struct Vitals {
    shipper: AtomicI32,
    is_up: AtomicBool,
    probe: OnceLock<String>,
}

impl Vitals {
    /// The shipper's pid, or 0.
    pub(super) fn shipper(&self) -> i32 {
        self.shipper.load(Ordering::Relaxed)
    }

    pub(super) fn set_shipper(&self, pid: i32) {
        self.shipper.store(pid, Ordering::Relaxed);
    }

    /// Whether the app is up: it runs, and as a web process somebody listens.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    pub(super) fn set_up(&self) {
        self.is_up.store(true, Ordering::Relaxed);
    }

    /// What is sampled and how, once it was chosen.
    pub fn probe(&self) -> Option<&str> {
        self.probe.get().map(String::as_str)
    }

    pub(super) fn set_probe(&self, text: String) {
        let _chosen_once = self.probe.set(text);
    }
}
