//! Shutdown: when delivery ends, when the supervisor may exit, and what is reported before it does.

use super::supervisor::Supervisor;
use crate::capture::pump;
use crate::delivery::{self, Remaining};
use crate::diag;
use crate::line::Stream;
use crate::poll::timeout;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The app's last words are waited for so long: as long as a pump goes on, and the recorder behind it.
const LAST_WORDS: Duration = pump::LAST.saturating_add(Duration::from_millis(500));
/// The last that is written to the disk is waited for so long.
const FILES: Duration = Duration::from_secs(1);

impl Supervisor<'_> {
    /// When delivery ends, the app having ended: with the grace, and before that once no drain is worth waiting for.
    pub(super) fn deadline(&self) -> Instant {
        if let Some(stop_at) = self.stop_at {
            return stop_at;
        }
        let Some(ended) = self.ended else { return Instant::now() + self.config.stop_grace };
        let until = match &self.coordinator {
            Some(coordinator) if !self.shipper.fails() => {
                let ledger = coordinator.spool().shared.lock();
                let drains = || 0..self.config.drains.len();
                let waits = drains().filter(|drain| ledger.held_bytes(*drain) > 0);
                // What is left is our own when no drain holds lines.
                let is_ours =
                    self.recorder_thread.is_finished() && drains().all(|drain| ledger.held(drain) == 0);
                let remaining = if is_ours { Remaining::AgentLines } else { Remaining::AppLines };
                let health = waits.filter_map(|drain| coordinator.health().get(drain));
                health.map(|health| health.patience_end(ended, remaining)).max()
            }
            _ => None,
        };
        let until = until.unwrap_or(ended + delivery::SILENCE_TIMEOUT);
        until.min(ended + self.config.stop_grace)
    }

    /// Whether we may go, the app having gone.
    pub(super) fn may_exit(&mut self) -> bool {
        if self.recorder_thread.is_finished()
            && let Some(coordinator) = &self.coordinator
        {
            self.shipper.finish();
            if coordinator.is_done() && self.has_copied_all() {
                return true;
            }
        }
        Instant::now() >= self.exit_deadline()
    }

    /// Whether the dyno's own streams have taken all, or do not take anything.
    pub(super) fn has_copied_all(&self) -> bool {
        self.pumps.load(Ordering::Acquire) == Stream::ALL.len()
    }

    /// When we go at the latest, the app having gone: what it left in its pipes is recorded and passed on, also when
    /// the time for delivery is over.
    pub(super) fn exit_deadline(&self) -> Instant {
        let deadline = self.deadline();
        match self.ended {
            Some(ended) if !self.recorder_thread.is_finished() => deadline.max(ended + LAST_WORDS),
            // Somebody reads, or the pump would have given up.
            Some(ended) if !self.has_copied_all() => {
                deadline.max(self.stop_at.unwrap_or(ended + self.config.stop_grace)).max(ended + LAST_WORDS)
            }
            _ => deadline,
        }
    }

    /// The time for delivery is over and the app is still there: the platform is about to kill us all, so what can be
    /// said is said now.
    pub(super) fn report_before_kill(&mut self) {
        let is_late = self.stop_at.is_some_and(|stop_at| Instant::now() >= stop_at);
        if self.status.is_some() || !is_late || self.has_reported {
            return;
        }
        if let Some(coordinator) = &self.coordinator {
            coordinator.report_missing();
            coordinator.write_ledger(self.config);
        }
        self.has_reported = true;
    }

    /// The last words: the ledger, and what did not arrive.
    pub(super) fn close(&mut self) {
        self.shipper.kill(self.coordinator.as_mut());
        let Some(coordinator) = &self.coordinator else {
            diag::event("no-spool")
                .field("detail", "the spool was not ready in time; lines may be missing")
                .emit();
            return;
        };
        coordinator.report_missing();
        coordinator.write_ledger(self.config);
        let (last, until) = (coordinator.close(), Instant::now() + FILES);
        while !coordinator.has_done(last) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                diag::event("disk-stands-still")
                    .field("detail", "the last words of the books are not written")
                    .emit();
                return;
            }
            let mut polled = [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
            let _or_interrupted = poll(&mut polled, timeout(left));
            let _or_nothing = self.wake.read();
        }
    }
}
