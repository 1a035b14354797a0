//! Health of the drains: what each answered last, when a person is alerted (at once, again every 10 minutes, and when
//! it is over), and for how long a drain is waited for at the end.

use crate::diag::{self, Throttle};
use crate::ledger::{Account, DrainIndex};
use crate::spool::Spool;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A first failure is reported at once when it took so long, or is followed by a wait of this length.
const LONG_FAILURE: Duration = Duration::from_secs(2);
/// How long a drain that sends no answer is waited for, once the app has ended.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a drain that fails is waited for when only agent lines are left.
const AGENT_LINES_TIMEOUT: Duration = Duration::from_millis(500);

/// The last answer of a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LastAnswer {
    /// It took a batch.
    Delivered {
        /// When.
        at: Instant,
    },
    /// It answered with a status that is no delivery, for now or for good.
    Refused {
        /// HTTP status.
        status: u16,
        /// What it answered.
        detail: String,
        /// When.
        at: Instant,
    },
    /// It did not answer.
    NoAnswer {
        /// What went wrong.
        detail: String,
        /// When.
        at: Instant,
    },
}

impl LastAnswer {
    /// Of a failed attempt or a rejected batch; `status` is none when there was no answer.
    fn failed(status: Option<u16>, detail: &str, at: Instant) -> Self {
        let detail = detail.to_owned();
        match status {
            Some(status) => Self::Refused { status, detail, at },
            None => Self::NoAnswer { detail, at },
        }
    }

    /// What the drain answered, or went wrong; empty for a delivery.
    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::Delivered { .. } => "",
            Self::Refused { detail, .. } | Self::NoAnswer { detail, .. } => detail,
        }
    }

    /// When it came.
    pub(crate) fn at(&self) -> Instant {
        match self {
            Self::Delivered { at } | Self::Refused { at, .. } | Self::NoAnswer { at, .. } => *at,
        }
    }
}

/// A failed attempt that will be repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    /// HTTP status; none when there was no answer.
    pub(super) status: Option<u16>,
    /// Whether a person has to act before an attempt can succeed.
    pub(super) needs_action: bool,
    /// Until the next attempt.
    pub(super) wait: Duration,
    /// What went wrong.
    pub(super) detail: &'a str,
}

/// What a drain still has to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// Lines of the app.
    AppLines,
    /// Lines of the agent only.
    AgentLines,
}

/// A delivery.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    at: Instant,
    /// From the first attempt to the answer.
    took: Duration,
}

/// Health of one drain.
#[derive(Clone, Debug, Default)]
pub(crate) struct DrainHealth {
    /// Failed attempts since the last delivery.
    pub failures: u64,
    /// Since when they fail, and when that was reported.
    pub failing: Throttle,
    /// The last answer.
    pub last: Option<LastAnswer>,
    /// When the next attempt begins, after a failure.
    pub next_attempt: Option<Instant>,
    /// When the attempt under way began.
    attempt_began: Option<Instant>,
    last_delivery: Option<Delivery>,
    rejections: Throttle,
}

impl DrainHealth {
    /// When it is no longer worth waiting for this drain, the app having ended at `ended`. A drain that delivers is
    /// waited for as long as it does, also when attempts fail in between.
    pub(crate) fn patience_end(&self, ended: Instant, remaining: Remaining) -> Instant {
        let last = self.last_delivery.unwrap_or(Delivery { at: ended, took: Duration::ZERO });
        let begin = last.at.max(ended);
        match (self.failures, remaining) {
            (0, _) => begin + SILENCE_TIMEOUT + last.took,
            (_, Remaining::AgentLines) => ended + AGENT_LINES_TIMEOUT,
            (_, Remaining::AppLines) => begin + SILENCE_TIMEOUT,
        }
    }

    /// The drain took a batch. Returns how long it had failed, when that was alerted.
    fn record_delivery(&mut self, now: Instant) -> Option<Duration> {
        let took = self.attempt_began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let mut before = std::mem::replace(
            self,
            Self {
                last: Some(LastAnswer::Delivered { at: now }),
                last_delivery: Some(Delivery { at: now, took }),
                rejections: self.rejections,
                ..Self::default()
            },
        );
        before.failing.resolve(now)
    }

    /// An attempt failed. Returns whether it is alerted: one failure alone is not, unless it is a long one or a person
    /// has to act. `is_ending`: the closing report follows soon, and only what needs action is alerted.
    fn record_failure(&mut self, failure: &Failure<'_>, is_ending: bool, now: Instant) -> bool {
        self.failures += 1;
        self.failing.begin(now);
        self.last = Some(LastAnswer::failed(failure.status, failure.detail, now));
        let next = now + failure.wait;
        self.next_attempt = Some(next);
        let began = self.attempt_began.replace(next);
        let took = began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let is_long = took >= LONG_FAILURE || failure.wait >= LONG_FAILURE;
        let is_relevant = failure.needs_action || (!is_ending && (is_long || self.failures >= 2));
        is_relevant && self.failing.permit(now)
    }

    /// The drain refused a batch for good. Returns whether that is alerted.
    fn record_rejection(&mut self, status: u16, detail: &str, now: Instant) -> bool {
        self.failures = 0;
        self.next_attempt = None;
        self.last = Some(LastAnswer::failed((status != 0).then_some(status), detail, now));
        self.rejections.permit(now)
    }
}

/// Health of all drains.
#[derive(Debug)]
pub(crate) struct HealthTracker {
    spool: Arc<Spool>,
    drains: Vec<DrainHealth>,
    is_ending: bool,
}

impl HealthTracker {
    /// Nothing is known of the drains of `spool` yet.
    pub(crate) fn new(spool: Arc<Spool>) -> Self {
        let drains = spool.drains().iter().map(|_| DrainHealth::default()).collect();
        Self { spool, drains, is_ending: false }
    }

    /// The end is near: from now on only failures that need action are alerted. The closing report names the rest.
    pub(crate) fn end(&mut self) {
        self.is_ending = true;
    }

    /// Why the drain takes nothing, while attempts fail.
    pub(crate) fn failure(&self, drain: DrainIndex) -> Option<&str> {
        let health = self.drains.get(drain.get()).filter(|health| health.failures > 0)?;
        health.last.as_ref().map(LastAnswer::detail).filter(|detail| !detail.is_empty())
    }

    /// Health of one drain.
    pub(crate) fn get(&self, drain: DrainIndex) -> Option<&DrainHealth> {
        self.drains.get(drain.get())
    }

    /// A batch was sealed; its first attempt begins.
    pub(crate) fn begin_attempt(&mut self, drain: DrainIndex) {
        if let Some(health) = self.drains.get_mut(drain.get()) {
            health.attempt_began = Some(Instant::now());
        }
    }

    fn held_lines(&self, drain: DrainIndex) -> u64 {
        self.spool.shared.lock().held(drain)
    }

    /// The drain took a batch.
    pub(crate) fn delivered(&mut self, drain: DrainIndex) {
        let Some(health) = self.drains.get_mut(drain.get()) else { return };
        if let Some(down) = health.record_delivery(Instant::now()) {
            diag::event(diag::Event::DrainOk)
                .field("drain", self.spool.token(drain))
                .field("down", diag::seconds(down))
                .field("held", self.held_lines(drain))
                .emit();
        }
    }

    /// An attempt failed and will be repeated.
    pub(super) fn failed(&mut self, drain: DrainIndex, failure: &Failure<'_>) {
        let Some(health) = self.drains.get_mut(drain.get()) else { return };
        if !health.record_failure(failure, self.is_ending, Instant::now()) {
            return;
        }
        let event = match failure.status {
            None => diag::Event::DrainUnreachable,
            Some(_) if failure.needs_action => diag::Event::DrainRefused,
            Some(_) => diag::Event::DrainFailing,
        };
        let mut line = diag::event(event).field("drain", self.spool.token(drain));
        if let Some(status) = failure.status {
            line = line.field("status", status);
        }
        line = line
            .field("held", self.held_lines(drain))
            .field("oldest", diag::seconds(self.spool.oldest(drain)))
            .field("retry", diag::seconds(failure.wait));
        let adopted = self.spool.adopted_left(drain);
        if adopted.bytes > 0 {
            line = line.field("adopted_bytes", adopted.bytes);
        }
        if !failure.detail.is_empty() {
            line = line.field("error", failure.detail);
        }
        line.field("try", "tailrace check").emit();
    }

    /// The drain refused a batch for good.
    pub(crate) fn rejected(&mut self, drain: DrainIndex, status: u16, detail: &str) {
        let Some(health) = self.drains.get_mut(drain.get()) else { return };
        if !health.record_rejection(status, detail, Instant::now()) {
            return;
        }
        let rejected = self.spool.shared.lock().account(drain).map_or(0, Account::rejected);
        let mut line = diag::event(diag::Event::DrainRejected)
            .field("drain", self.spool.token(drain))
            .field("status", status)
            .field("rejected", rejected);
        if !detail.is_empty() {
            line = line.field("error", detail);
        }
        line.field("try", "tailrace check").emit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const S: fn(u64) -> Duration = Duration::from_secs;

    fn failure(wait: Duration) -> Failure<'static> {
        Failure { status: Some(503), needs_action: false, wait, detail: "busy" }
    }

    #[test]
    fn a_drain_is_waited_for_while_it_delivers_and_briefly_while_it_fails() {
        use Remaining::{AgentLines, AppLines};
        let ended = Instant::now();
        let health = |failures, delivery: Option<(Instant, Duration)>| DrainHealth {
            failures,
            last_delivery: delivery.map(|(at, took)| Delivery { at, took }),
            ..DrainHealth::default()
        };
        let before = ended.checked_sub(S(60)).unwrap();
        for (name, health, remaining, expected) in [
            ("nothing is known", health(0, None), AppLines, S(5)),
            ("delivered long ago", health(0, Some((before, S(3)))), AppLines, S(8)),
            ("delivered after the end", health(0, Some((ended + S(4), S(1)))), AppLines, S(10)),
            ("delivers, agent lines left", health(0, Some((ended + S(4), S(1)))), AgentLines, S(10)),
            ("fails between deliveries", health(1, Some((ended + S(4), S(1)))), AppLines, S(9)),
            ("delivered long ago, and fails", health(1, Some((before, S(3)))), AppLines, S(5)),
            ("fails", health(1, None), AppLines, S(5)),
            ("fails, agent lines left", health(1, None), AgentLines, MS(500)),
        ] {
            assert_eq!(health.patience_end(ended, remaining) - ended, expected, "{name}");
        }
    }

    #[test]
    fn failures_are_alerted_when_they_last_or_need_action() {
        let start = Instant::now();
        let refused = Failure { needs_action: true, ..failure(MS(1)) };
        // Failures so far, how long the attempt took, the failure, whether the end is near, whether it is alerted.
        for (before, took, failure, is_ending, expected) in [
            (0, MS(10), failure(MS(10)), false, false),
            (1, MS(10), failure(MS(10)), false, true),
            (0, S(2), failure(MS(10)), false, true),
            (0, MS(10), failure(S(2)), false, true),
            (0, MS(10), refused, false, true),
            (5, S(2), failure(S(2)), true, false),
            (0, MS(10), refused, true, true),
        ] {
            let mut health =
                DrainHealth { failures: before, attempt_began: Some(start), ..DrainHealth::default() };
            let is_alerted = health.record_failure(&failure, is_ending, start + took);
            assert_eq!(
                is_alerted, expected,
                "{before} before, took {took:?}, ending: {is_ending}, {failure:?}"
            );
        }
    }

    #[test]
    fn alerts_repeat_every_ten_minutes_and_end_with_a_delivery() {
        let (mut health, start) = (DrainHealth::default(), Instant::now());
        let alerted: Vec<u64> =
            (0..=1300).filter(|at| health.record_failure(&failure(MS(10)), false, start + S(*at))).collect();
        assert_eq!(alerted, [1, 601, 1201]);
        assert_eq!(health.record_delivery(start + S(1310)), Some(S(1310)));
        assert_eq!(health.record_delivery(start + S(1311)), None);
        assert!(!health.record_failure(&failure(MS(10)), false, start + S(1312)));
        assert_eq!(health.record_delivery(start + S(1313)), None, "the failure was not alerted");
    }

    #[test]
    fn rejections_are_alerted_every_ten_minutes_whatever_is_delivered_between() {
        let (mut health, start) = (DrainHealth::default(), Instant::now());
        assert!(health.record_rejection(400, "bad", start));
        health.record_delivery(start + S(1));
        assert!(!health.record_rejection(400, "bad", start + S(599)));
        assert!(health.record_rejection(400, "bad", start + S(600)));
    }

    #[test]
    fn an_attempt_is_timed_from_its_begin_or_from_the_end_of_the_wait() {
        let (mut health, start) = (DrainHealth::default(), Instant::now());
        health.attempt_began = Some(start);
        health.record_failure(&failure(S(3)), false, start + S(1));
        assert_eq!(health.next_attempt, Some(start + S(4)));
        health.record_delivery(start + S(6));
        assert_eq!(health.last_delivery.unwrap().took, S(2));
        assert_eq!((health.failures, health.next_attempt), (0, None));
    }

    #[test]
    fn the_last_answer_keeps_status_and_detail() {
        let (mut health, now) = (DrainHealth::default(), Instant::now());
        health.record_failure(&failure(MS(1)), false, now);
        assert_eq!(
            health.last,
            Some(LastAnswer::Refused { status: 503, detail: "busy".to_owned(), at: now })
        );
        health.record_failure(&Failure { status: None, ..failure(MS(1)) }, false, now);
        assert_eq!(health.last, Some(LastAnswer::NoAnswer { detail: "busy".to_owned(), at: now }));
        health.record_delivery(now);
        assert_eq!(health.last.as_ref().map(LastAnswer::detail), Some(""));
    }
}
