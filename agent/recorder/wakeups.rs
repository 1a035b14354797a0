//! How often the recorder wakes the main loop, and through it the shipper, for new frames.

use crate::config::Config;
use std::time::{Duration, Instant};

/// At most so many new bytes wake at once, or as many as half a batch has: it may be full.
const MAX_WAKE_BYTES: u64 = 256 << 10;
/// The shortest and the longest interval between wake-ups for fewer bytes.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
const MAX_INTERVAL: Duration = Duration::from_millis(250);

/// Whether it is time to wake the main loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Wake it.
    Now,
    /// Not yet, or there is nothing new.
    Later,
}

/// Coalesces wake-ups: the first bytes after a pause wake at once, then one wake-up per interval or per half a batch.
#[derive(Debug)]
pub(crate) struct Wakeups {
    interval: Duration,
    linger: Duration,
    /// So many new bytes wake at once.
    wake_bytes: u64,
    last: Option<Instant>,
    /// New bytes of the app since then.
    bytes: u64,
    /// When to wake for the agent's own frames.
    agent_lines_due: Option<Instant>,
}

impl Wakeups {
    /// For batches that close after `linger` or, the smallest of them, at `batch_bytes`; more frequent wake-ups would be
    /// useless. A batch that closes takes in what is in the spool, announced or not.
    pub(crate) fn new(linger: Duration, batch_bytes: u64) -> Self {
        let interval = linger.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let wake_bytes = (batch_bytes / 2).min(MAX_WAKE_BYTES);
        Self { interval, linger, wake_bytes, last: None, bytes: 0, agent_lines_due: None }
    }

    /// For the drains of `config`.
    pub(crate) fn of(config: &Config) -> Self {
        let smallest = config.drains.iter().map(|drain| drain.batch_bytes as u64).min();
        Self::new(config.batch_linger, smallest.unwrap_or(u64::MAX))
    }

    /// Adds new bytes of the app at `now`.
    pub(crate) fn add(&mut self, bytes: u64, now: Instant) -> Wake {
        self.bytes += bytes;
        self.poll(now)
    }

    /// Adds frames of the agent at `now`. They wait for the app's as long as a batch may: after a batch of their own
    /// the app's next line would have to wait for the linger.
    pub(crate) fn add_agent_lines(&mut self, now: Instant) {
        self.agent_lines_due.get_or_insert(now + self.linger);
    }

    /// Whether to wake at `now`; everything added so far counts as announced then.
    pub(crate) fn poll(&mut self, now: Instant) -> Wake {
        let is_due = self.bytes >= self.wake_bytes
            || self.bytes > 0 && self.last.is_none_or(|last| last + self.interval <= now)
            || self.agent_lines_due.is_some_and(|due| due <= now);
        if !is_due {
            return Wake::Later;
        }
        (self.last, self.bytes, self.agent_lines_due) = (Some(now), 0, None);
        Wake::Now
    }

    /// When [`Wakeups::poll`] will say [`Wake::Now`]; none while there is nothing new.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let app = (self.bytes > 0).then(|| self.last.map_or_else(Instant::now, |last| last + self.interval));
        app.into_iter().chain(self.agent_lines_due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(250);
    const BATCH: u64 = 128 << 10;

    #[test]
    fn the_first_bytes_wake_at_once_and_the_next_wait_for_the_interval() {
        let mut wakeups = Wakeups::new(LINGER, BATCH);
        let start = Instant::now();
        assert_eq!(wakeups.deadline(), None, "nothing new, no wake-up");
        assert_eq!(wakeups.add(100, start), Wake::Now);
        assert_eq!(wakeups.deadline(), None);
        assert_eq!(wakeups.add(100, start + Duration::from_millis(20)), Wake::Later);
        assert_eq!(wakeups.deadline(), Some(start + LINGER));
        assert_eq!(wakeups.poll(start + Duration::from_millis(249)), Wake::Later);
        assert_eq!(wakeups.poll(start + LINGER), Wake::Now);
        assert_eq!(wakeups.poll(start + Duration::from_secs(9)), Wake::Later, "announced already");
        assert_eq!(wakeups.add(1, start + Duration::from_secs(9)), Wake::Now, "after a pause");
    }

    #[test]
    fn agent_lines_wait_for_the_linger_or_for_the_app() {
        let mut wakeups = Wakeups::new(LINGER, BATCH);
        let start = Instant::now();
        wakeups.add_agent_lines(start);
        assert_eq!((wakeups.poll(start), wakeups.deadline()), (Wake::Later, Some(start + LINGER)));
        assert_eq!(wakeups.add(1, start + Duration::from_millis(10)), Wake::Now, "with the app's first line");
        assert_eq!(wakeups.deadline(), None);
        wakeups.add_agent_lines(start + Duration::from_secs(1));
        assert_eq!(wakeups.poll(start + Duration::from_millis(1250)), Wake::Now);
    }

    #[test]
    fn many_bytes_wake_at_once() {
        let mut wakeups = Wakeups::new(Duration::from_secs(1), BATCH);
        let start = Instant::now();
        assert_eq!(wakeups.add(1, start), Wake::Now);
        assert_eq!(wakeups.add(BATCH / 2 - 1, start), Wake::Later);
        assert_eq!(wakeups.add(1, start), Wake::Now);
        assert_eq!(wakeups.add(1, start), Wake::Later);
    }
}
