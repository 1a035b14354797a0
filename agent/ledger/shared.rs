//! The ledger, shared between threads.

use super::Ledger;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The ledger as recorder, main loop and disk worker share it.
#[derive(Debug)]
pub(crate) struct SharedLedger {
    ledger: Mutex<Ledger>,
    freed: Condvar,
    /// How often segments were removed.
    removals: AtomicU64,
}

impl SharedLedger {
    /// Shares a ledger.
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { ledger: Mutex::new(ledger), freed: Condvar::new(), removals: AtomicU64::new(0) }
    }

    /// Locks the ledger, for a short moment. A panic under the lock does not poison it: every change leaves the ledger
    /// consistent.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a waiting writer: segments were removed, or it must not wait any longer.
    pub(crate) fn notify(&self) {
        self.removals.fetch_add(1, Ordering::Relaxed);
        self.freed.notify_all();
    }

    /// How often segments were removed.
    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Ordering::Relaxed)
    }

    /// Waits until a segment was removed, `timeout` at most; the lock is released meanwhile.
    pub(crate) fn wait_for_removal<'l>(
        &self,
        ledger: MutexGuard<'l, Ledger>,
        timeout: Duration,
    ) -> MutexGuard<'l, Ledger> {
        self.freed.wait_timeout(ledger, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_writer_waits_for_a_removal_or_the_timeout() {
        let shared = SharedLedger::new(Ledger::new([], Vec::new()));
        let short = Duration::from_millis(20);
        let start = Instant::now();
        drop(shared.wait_for_removal(shared.lock(), short));
        assert!(start.elapsed() >= short && shared.removals() == 0);
        let ledger = shared.lock();
        std::thread::scope(|threads| {
            // It gets the lock when the writer waits.
            threads.spawn(|| {
                drop(shared.lock());
                shared.notify();
            });
            drop(shared.wait_for_removal(ledger, Duration::from_mins(10)));
        });
        assert_eq!(shared.removals(), 1);
        assert!(start.elapsed() < Duration::from_mins(5), "it was woken");
    }
}
