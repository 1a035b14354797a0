//! How often the recorder tells the keeper's main loop, and by it the shipper, that there are news.

use std::time::{Duration, Instant};

/// So many bytes are news at once: a batch may be full.
const MUCH: u64 = 64 << 10;
/// News wait at least so long for others, and at most.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(250);

/// Gathers news: the first one after a pause goes at once, then one per interval, or per 64 KiB.
#[derive(Debug)]
pub struct Wakeups {
    interval: Duration,
    linger: Duration,
    last: Option<Instant>,
    bytes: u64,
    /// When frames of our own, which are in no hurry, are told.
    own: Option<Instant>,
}

impl Wakeups {
    /// A pacer for batches that close after `linger`: more often than that nobody asks. When a batch closes the
    /// shipper reads what there is, told or not.
    pub fn new(linger: Duration) -> Self {
        Self { interval: linger.clamp(SHORTEST, LONGEST), linger, last: None, bytes: 0, own: None }
    }

    /// There are so many bytes more, at `now`; whether it is time to tell.
    pub fn add(&mut self, bytes: u64, now: Instant) -> bool {
        self.bytes += bytes;
        self.is_due(now)
    }

    /// There are frames of our own, at `now`: they wait for company as long as a batch may, because after a batch of
    /// theirs the app's next line would not leave at once.
    pub fn later(&mut self, now: Instant) {
        self.own.get_or_insert(now + self.linger);
    }

    /// Whether there are news, and it is time to tell; they are taken for told then.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.bytes >= MUCH
            || self.bytes > 0 && self.last.is_none_or(|last| last + self.interval <= now)
            || self.own.is_some_and(|own| own <= now);
        if is_due {
            (self.last, self.bytes, self.own) = (Some(now), 0, None);
        }
        is_due
    }

    /// When there will be something to tell.
    pub fn due(&self) -> Option<Instant> {
        let app = (self.bytes > 0).then(|| self.last.map_or_else(Instant::now, |last| last + self.interval));
        app.into_iter().chain(self.own).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_and_others_wait_for_company() {
        let mut pacer = Wakeups::new(Duration::from_millis(250));
        let start = Instant::now();
        assert_eq!(pacer.due(), None, "no news, no wake-up");
        assert!(pacer.add(100, start));
        assert_eq!(pacer.due(), None);
        assert!(!pacer.add(100, start + Duration::from_millis(20)));
        assert_eq!(pacer.due(), Some(start + Duration::from_millis(250)));
        assert!(!pacer.is_due(start + Duration::from_millis(249)));
        assert!(pacer.is_due(start + Duration::from_millis(250)));
        assert!(!pacer.is_due(start + Duration::from_secs(9)), "told already");
        assert!(pacer.add(1, start + Duration::from_secs(9)), "after a pause");
    }

    #[test]
    fn our_own_wait_for_company_and_are_no_company_to_wait_for() {
        let mut pacer = Wakeups::new(Duration::from_millis(250));
        let start = Instant::now();
        pacer.later(start);
        assert_eq!((pacer.is_due(start), pacer.due()), (false, Some(start + Duration::from_millis(250))));
        assert!(pacer.add(1, start + Duration::from_millis(10)), "the app's first line takes them along");
        assert_eq!(pacer.due(), None);
        pacer.later(start + Duration::from_secs(1));
        assert!(pacer.is_due(start + Duration::from_millis(1250)));
    }

    #[test]
    fn much_does_not_wait() {
        let mut pacer = Wakeups::new(Duration::from_secs(1));
        let start = Instant::now();
        assert!(pacer.add(1, start));
        assert!(!pacer.add(MUCH - 1, start));
        assert!(pacer.add(1, start));
        assert!(!pacer.add(1, start));
    }
}
