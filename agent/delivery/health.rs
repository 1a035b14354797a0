//! What the drains' last answers were, and what a person is told of them: trouble at once, again every 10 minutes,
//! and when it is over.

use crate::diag;
use crate::ledger::{Account, DrainIndex};
use crate::spool::Spool;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often trouble that goes on is said again.
const AGAIN: Duration = Duration::from_mins(10);
/// A failure that took longer, or is followed by a longer wait, is no weather.
const WEATHER: Duration = Duration::from_secs(2);
/// For how long a drain is waited for that says nothing, once the app has ended.
pub const SILENCE: Duration = Duration::from_secs(5);
/// The same for one that fails, when nothing but lines of our own is left.
const OURS: Duration = Duration::from_millis(500);

/// One drain's.
#[derive(Clone, Debug, Default)]
pub struct DrainHealth {
    /// Attempts that failed since the last that did not.
    pub failures: u64,
    /// Since when they do.
    pub since: Option<Instant>,
    /// The last answer: its status (0 for none at all), what it said when it was no delivery, and when it came.
    pub last: Option<(u16, String, Instant)>,
    /// When it is tried again.
    pub next: Option<Instant>,
    /// When the attempt began that is under way.
    begun: Option<Instant>,
    /// When the last delivery was answered for, and how long that had taken.
    delivered: Option<(Instant, Duration)>,
    said: Option<Instant>,
    rejected: Option<Instant>,
}

/// All drains'.
#[derive(Debug)]
pub struct HealthTracker {
    spool: Arc<Spool>,
    all: Vec<DrainHealth>,
    /// The end is near: what came of it is said then.
    is_ending: bool,
}

impl HealthTracker {
    /// Nothing is known of the drains of `spool` yet.
    pub fn new(spool: Arc<Spool>) -> Self {
        let all = spool.drains().iter().map(|_| DrainHealth::default()).collect();
        Self { spool, all, is_ending: false }
    }

    /// From now on only that is said of which a person has to know more than what came of it.
    pub fn end(&mut self) {
        self.is_ending = true;
    }

    /// Why the drain does not take anything, while it does not.
    pub fn failure(&self, drain: DrainIndex) -> Option<&str> {
        let health = self.all.get(drain.get()).filter(|health| health.failures > 0)?;
        health.last.as_ref().map(|(_, detail, _)| detail.as_str()).filter(|detail| !detail.is_empty())
    }

    /// Of one drain.
    pub fn get(&self, drain: DrainIndex) -> Option<&DrainHealth> {
        self.all.get(drain.get())
    }

    /// Until when a drain is worth waiting for, the app having `ended`: one that delivers, for as long as it does.
    /// `is_ours`: nothing but lines of our own is left.
    pub fn patience(&self, drain: DrainIndex, ended: Instant, is_ours: bool) -> Instant {
        let Some(health) = self.all.get(drain.get()).filter(|health| health.failures == 0) else {
            return ended + if is_ours { OURS } else { SILENCE };
        };
        let (last, took) = health.delivered.unwrap_or((ended, Duration::ZERO));
        last.max(ended) + SILENCE + took
    }

    /// A batch is sealed, and goes out now.
    pub fn begins(&mut self, drain: DrainIndex) {
        if let Some(health) = self.all.get_mut(drain.get()) {
            health.begun = Some(Instant::now());
        }
    }

    /// What the drain still has to get: its lines, and the age of the oldest.
    pub fn held(&self, drain: DrainIndex) -> (u64, Duration) {
        let held = self.spool.shared.lock().held(drain);
        (held, self.spool.oldest(drain))
    }

    /// The drain took a batch.
    pub fn delivered(&mut self, drain: DrainIndex) {
        let Some(health) = self.all.get_mut(drain.get()) else { return };
        let now = Instant::now();
        let last = Some((200, String::new(), now));
        let delivered = Some((now, health.begun.map_or(Duration::ZERO, |begun| now - begun)));
        let was = std::mem::replace(health, DrainHealth { last, delivered, ..DrainHealth::default() });
        health.rejected = was.rejected;
        if let (Some(_), Some(since)) = (was.said, was.since) {
            diag::event("drain-ok")
                .field("drain", self.spool.token(drain))
                .field("down", diag::seconds(since.elapsed()))
                .field("held", self.held(drain).0)
                .emit();
        }
    }

    /// `acts`: a person has to act before it can succeed.
    pub fn failed(&mut self, drain: DrainIndex, status: u16, acts: bool, wait: Duration, detail: &str) {
        let Some(health) = self.all.get_mut(drain.get()) else { return };
        let now = Instant::now();
        health.failures += 1;
        health.since.get_or_insert(now);
        health.last = Some((status, detail.to_owned(), now));
        let next = now + wait;
        health.next = Some(next);
        let took =
            health.begun.replace(next).map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun));
        // One failure alone is weather, unless it is a long one.
        let is_long = took >= WEATHER || wait >= WEATHER;
        let is_due = health.said.is_none_or(|said| said.elapsed() >= AGAIN);
        let is_news = !self.is_ending && (is_long || health.failures >= 2);
        if !is_due || !(acts || is_news) {
            return;
        }
        health.said = Some(now);
        let (held, oldest) = self.held(drain);
        let event = match status {
            0 => "drain-unreachable",
            _ if acts => "drain-refused",
            _ => "drain-failing",
        };
        let mut line = diag::event(event).field("drain", self.spool.token(drain));
        if status != 0 {
            line = line.field("status", status);
        }
        line = line
            .field("held", held)
            .field("oldest", diag::seconds(oldest))
            .field("retry", diag::seconds(wait));
        let adopted = self.spool.adopted_left(drain);
        if adopted > 0 {
            line = line.field("adopted_bytes", adopted);
        }
        if !detail.is_empty() {
            line = line.field("error", detail);
        }
        line.field("try", "tailrace check").emit();
    }

    /// The drain refused a batch for good.
    pub fn rejected(&mut self, drain: DrainIndex, status: u16, detail: &str) {
        let Some(health) = self.all.get_mut(drain.get()) else { return };
        health.failures = 0;
        health.next = None;
        health.last = Some((status, detail.to_owned(), Instant::now()));
        if health.rejected.is_some_and(|said| said.elapsed() < AGAIN) {
            return;
        }
        health.rejected = Some(Instant::now());
        let rejected = self.spool.shared.lock().accounts().get(drain.get()).map_or(0, Account::rejected);
        diag::event("drain-rejected")
            .field("drain", self.spool.token(drain))
            .field("status", status)
            .field("rejected", rejected)
            .field("error", detail)
            .field("try", "tailrace check")
            .emit();
    }
}
