//! Shutdown policy: the app's state, when delivery ends and when the supervisor exits. Pure: time and facts are passed
//! in.

use crate::capture::pump;
use crate::delivery;
use std::time::{Duration, Instant};

/// How long after the app's exit its last output may take to be recorded and copied: as long as a pump reads on, and
/// some time for the recorder behind it.
const LAST_OUTPUT_TIMEOUT: Duration = pump::STDOUT_DRAIN_TIMEOUT.saturating_add(Duration::from_millis(500));

/// How long delivery goes on for the last lines of an app that ends when the stop deadline is near or over, and how far
/// beyond that deadline: the platform kills the dyno 2 s after the default one.
const LAST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_BEYOND_STOP_DEADLINE: Duration = Duration::from_millis(1500);

/// The report that is written at the stop deadline while the app still runs: the platform may kill the dyno next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KillReport {
    /// Not written yet.
    Due,
    /// Written.
    Written,
}

/// The app's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppState {
    /// It runs, and was not asked to stop.
    Running,
    /// SIGTERM was received and the app still runs.
    Stopping {
        /// When delivery ends: the first SIGTERM plus the stop grace.
        deadline: Instant,
        report: KillReport,
    },
    /// It ended.
    Exited {
        /// When.
        at: Instant,
        /// Its exit status, as a shell would show it.
        status: u8,
        /// SIGTERM was received, before or after the exit: when delivery ends.
        stop_deadline: Option<Instant>,
    },
}

impl AppState {
    /// When delivery ends because of a SIGTERM.
    fn stop_deadline(self) -> Option<Instant> {
        match self {
            Self::Running => None,
            Self::Stopping { deadline, .. } => Some(deadline),
            Self::Exited { stop_deadline, .. } => stop_deadline,
        }
    }

    /// Whether the app was asked to stop.
    pub(super) fn is_stop_requested(self) -> bool {
        self.stop_deadline().is_some()
    }

    pub(super) fn has_exited(self) -> bool {
        matches!(self, Self::Exited { .. })
    }

    /// SIGTERM was received. Delivery is to end at `deadline`, or earlier when it was received before; returns the
    /// deadline that holds.
    pub(super) fn request_stop(&mut self, deadline: Instant) -> Instant {
        match self {
            Self::Running => {
                *self = Self::Stopping { deadline, report: KillReport::Due };
                deadline
            }
            Self::Stopping { deadline: first, .. } => *first,
            Self::Exited { stop_deadline, .. } => *stop_deadline.get_or_insert(deadline),
        }
    }

    /// The app ended.
    pub(super) fn set_exited(&mut self, at: Instant, status: u8) {
        *self = Self::Exited { at, status, stop_deadline: self.stop_deadline() };
    }

    /// When the kill report is to be written, if it is still due.
    pub(super) fn kill_report_due(self) -> Option<Instant> {
        match self {
            Self::Stopping { deadline, report: KillReport::Due } => Some(deadline),
            Self::Running | Self::Stopping { .. } | Self::Exited { .. } => None,
        }
    }

    /// The kill report was written.
    pub(super) fn set_kill_report_written(&mut self) {
        if let Self::Stopping { report, .. } = self {
            *report = KillReport::Written;
        }
    }
}

/// What the deadlines depend on, once the app has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// When the app ended.
    pub(super) exited_at: Instant,
    /// When delivery ends because of a SIGTERM.
    pub(super) stop_deadline: Option<Instant>,
    /// `TAILRACE_STOP_GRACE`.
    pub(super) grace: Duration,
    /// Until when a drain is worth waiting for that still has bytes to get, the latest of all. None: there is no such
    /// drain, the spool is not open yet, or no shipper can be started.
    pub(super) drain_patience: Option<Instant>,
    /// Whether everything that the app printed is in the spool.
    pub(super) is_recorded: bool,
    /// Whether the dyno's own streams took everything, or nothing more.
    pub(super) is_copied: bool,
}

/// When delivery ends, the app having ended: at the stop deadline, or a moment later when the app's last lines came
/// shortly before or after it; without one when no drain is worth waiting for, but not later than the grace.
pub(super) fn delivery_deadline(facts: &Facts) -> Instant {
    let Some(deadline) = facts.stop_deadline else {
        let patience = facts.drain_patience.unwrap_or(facts.exited_at + delivery::SILENCE_TIMEOUT);
        return patience.min(facts.exited_at + facts.grace);
    };
    let latest = deadline + MAX_BEYOND_STOP_DEADLINE;
    (facts.exited_at + LAST_DELIVERY_TIMEOUT).min(latest).max(deadline)
}

/// When the supervisor exits at the latest, the app having ended. Output that the app left in its pipes is recorded and
/// copied first, also when the time for delivery is over.
pub(super) fn exit_deadline(facts: &Facts) -> Instant {
    let delivery = delivery_deadline(facts);
    let last_output = facts.exited_at + LAST_OUTPUT_TIMEOUT;
    if !facts.is_recorded {
        return delivery.max(last_output);
    }
    if !facts.is_copied {
        // The dyno's own stream is read, if slowly: the pump gives up otherwise. It gets the whole grace.
        let grace = facts.stop_deadline.unwrap_or(facts.exited_at + facts.grace);
        return delivery.max(grace).max(last_output);
    }
    delivery
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn deadlines_depend_on_stop_grace_drains_and_output() {
        let exited_at = Instant::now();
        let at = |after: Duration| Some(exited_at + after);
        let facts = Facts {
            exited_at,
            stop_deadline: None,
            grace: S(28),
            drain_patience: at(S(7)),
            is_recorded: true,
            is_copied: true,
        };
        // Name, facts, when delivery ends and when the supervisor exits, both after the app's exit.
        for (name, facts, delivery, exit) in [
            ("a drain that delivers", facts, S(7), S(7)),
            ("no drain to wait for", Facts { drain_patience: None, ..facts }, S(5), S(5)),
            ("patience beyond the grace", Facts { drain_patience: at(S(60)), ..facts }, S(28), S(28)),
            ("a short grace", Facts { grace: S(1), ..facts }, S(1), S(1)),
            ("asked to stop", Facts { stop_deadline: at(S(20)), ..facts }, S(20), S(20)),
            ("the stop deadline is over", Facts { stop_deadline: at(S(0)), ..facts }, S(1), S(1)),
            ("the stop deadline is near", Facts { stop_deadline: at(MS(300)), ..facts }, S(1), S(1)),
            ("not recorded", Facts { is_recorded: false, ..facts }, S(7), S(7)),
            ("not recorded, short grace", Facts { is_recorded: false, grace: S(1), ..facts }, S(1), MS(2500)),
            (
                "not recorded, the stop deadline is over",
                Facts { is_recorded: false, is_copied: false, stop_deadline: at(S(0)), ..facts },
                S(1),
                MS(2500),
            ),
            ("not copied", Facts { is_copied: false, ..facts }, S(7), S(28)),
            ("not copied, short grace", Facts { is_copied: false, grace: S(1), ..facts }, S(1), MS(2500)),
            (
                "not copied, asked to stop",
                Facts { is_copied: false, stop_deadline: at(S(20)), ..facts },
                S(20),
                S(20),
            ),
            (
                "not copied, the stop deadline is over",
                Facts { is_copied: false, stop_deadline: at(S(0)), ..facts },
                S(1),
                MS(2500),
            ),
            (
                "neither recorded nor copied",
                Facts { is_recorded: false, is_copied: false, ..facts },
                S(7),
                S(7),
            ),
        ] {
            assert_eq!(delivery_deadline(&facts) - exited_at, delivery, "{name}: delivery");
            assert_eq!(exit_deadline(&facts) - exited_at, exit, "{name}: exit");
        }
    }

    #[test]
    fn the_first_stop_deadline_holds_whenever_the_app_exits() {
        let now = Instant::now();
        let (first, second) = (now + S(1), now + S(2));

        let mut stopped = AppState::Running;
        assert!(!stopped.is_stop_requested() && stopped.kill_report_due().is_none());
        assert_eq!(stopped.request_stop(first), first);
        assert_eq!(stopped.request_stop(second), first);
        assert_eq!(stopped.kill_report_due(), Some(first));
        stopped.set_kill_report_written();
        assert_eq!(stopped.kill_report_due(), None);
        stopped.set_exited(now, 143);
        assert_eq!(stopped, AppState::Exited { at: now, status: 143, stop_deadline: Some(first) });
        assert_eq!(stopped.request_stop(second), first);

        let mut exited = AppState::Running;
        exited.set_exited(now, 0);
        assert!(exited.has_exited() && !exited.is_stop_requested());
        assert_eq!(exited.request_stop(first), first);
        assert_eq!(exited.request_stop(second), first);
        assert!(exited.is_stop_requested() && exited.kill_report_due().is_none());
    }
}
