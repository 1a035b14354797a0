//! How long a drain is left alone after an attempt: one gate per drain, pure but for its seed.

use super::verdict::Verdict;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The window of the first wait.
const BASE: Duration = Duration::from_millis(500);
/// The widest window.
const CAP: Duration = Duration::from_mins(1);
/// The middle of the waits for a person.
const HOLD: Duration = Duration::from_mins(1);

/// Exponential back-off with full jitter over the capped window, before the very first retry too: after a
/// restart of an app, or of a drain, all dynos are one synchronised client.
///
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Debug)]
pub struct Backoff {
    /// Attempts since the last delivery that have to be retried.
    failures: u32,
    random: Random,
}

impl Backoff {
    /// A gate that is open, with a seed from the operating system.
    #[expect(clippy::new_without_default, reason = "a random value is no default")]
    pub fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(std::process::id()))
    }

    /// The same, with a seed: the waits are a function of it.
    pub fn seeded(seed: u64) -> Self {
        Self { failures: 0, random: Random(seed) }
    }

    /// The wait before the next request to this drain, after an attempt that ended in `verdict` and asked for
    /// `retry_after`.
    ///
    /// | verdict | wait |
    /// |---|---|
    /// | Delivered | none; the window is the first one again |
    /// | Retry | between zero and the window (500 ms, doubled by each failure, at most 60 s) |
    /// | Hold | 45 s to 75 s; the window stays |
    /// | Halve, Plain, Reject | none; the window stays |
    ///
    /// `retry_after` is the least wait after anything but a delivery; what comes on top is spread over the
    /// window or a quarter of `retry_after`, whichever is wider, so that many dynos do not come back at once.
    pub fn next(&mut self, verdict: Verdict, retry_after: Option<Duration>) -> Duration {
        let mut window = self.window();
        let wait = match verdict {
            Verdict::Delivered => {
                self.failures = 0;
                return Duration::ZERO;
            }
            Verdict::Retry => {
                self.failures = self.failures.saturating_add(1);
                self.random.within(window)
            }
            Verdict::Hold => HOLD * 3 / 4 + self.random.within(HOLD / 2),
            Verdict::Split | Verdict::RetryUncompressed | Verdict::Reject => Duration::ZERO,
        };
        let Some(least) = retry_after.filter(|least| !least.is_zero()) else { return wait };
        window = window.max(least / 4);
        wait.max(least.saturating_add(self.random.within(window)))
    }

    fn window(&self) -> Duration {
        BASE.saturating_mul(1 << self.failures.min(16)).min(CAP)
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): any seed will do, and nothing here needs more.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A duration from zero to `window`, to the microsecond.
    fn within(&mut self, window: Duration) -> Duration {
        let steps = u128::from(self.next()) * (window.as_micros() + 1);
        Duration::from_micros((steps >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shortest and the longest of the `n`th wait over many seeds.
    fn spread(n: usize, verdict: Verdict, retry_after: Option<Duration>) -> (Duration, Duration) {
        let waits = (0..2000).map(|seed| {
            let mut backoff = Backoff::seeded(seed);
            for _ in 1..n {
                backoff.next(Verdict::Retry, None);
            }
            backoff.next(verdict, retry_after)
        });
        waits.fold((Duration::MAX, Duration::ZERO), |(low, high), wait| (low.min(wait), high.max(wait)))
    }

    fn about(actual: Duration, expected: Duration, slack: Duration) -> bool {
        actual.abs_diff(expected) <= slack
    }

    #[test]
    fn full_jitter_over_the_capped_window() {
        let seconds = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0];
        for (n, window) in seconds.into_iter().enumerate() {
            let window = Duration::from_secs_f64(window);
            let (low, high) = spread(n + 1, Verdict::Retry, None);
            assert!(low < window / 50, "{n}: {low:?}");
            assert!(high <= window && high > window * 49 / 50, "{n}: {high:?}");
        }
        let (_, high) = spread(1000, Verdict::Retry, None);
        assert!(high <= CAP);
    }

    #[test]
    fn the_mean_is_half_the_window() {
        let mut backoff = Backoff::seeded(7);
        for _ in 0..10 {
            backoff.next(Verdict::Retry, None);
        }
        let sum: Duration = (0..4000).map(|_| backoff.next(Verdict::Retry, None)).sum();
        assert!(about(sum / 4000, Duration::from_secs(30), Duration::from_secs(1)), "{:?}", sum / 4000);
    }

    #[test]
    fn a_delivery_opens_the_gate_and_nothing_else_does() {
        let mut backoff = Backoff::seeded(1);
        for _ in 0..20 {
            backoff.next(Verdict::Retry, None);
        }
        for verdict in [Verdict::Split, Verdict::RetryUncompressed, Verdict::Reject] {
            assert_eq!(backoff.next(verdict, None), Duration::ZERO);
        }
        backoff.next(Verdict::Hold, None);
        assert_eq!(backoff.window(), CAP);
        assert_eq!(backoff.next(Verdict::Delivered, Some(CAP)), Duration::ZERO);
        assert_eq!(backoff.window(), BASE);
    }

    #[test]
    fn held_batches_are_tried_about_once_a_minute() {
        let (low, high) = spread(1, Verdict::Hold, None);
        assert!(low >= Duration::from_secs(45) && low < Duration::from_secs(46), "{low:?}");
        assert!(high <= Duration::from_secs(75) && high > Duration::from_secs(74), "{high:?}");
    }

    #[test]
    fn retry_after_is_the_least_and_is_spread() {
        for verdict in [Verdict::Retry, Verdict::Split, Verdict::RetryUncompressed, Verdict::Reject] {
            let (low, high) = spread(1, verdict, Some(Duration::from_secs(80)));
            assert!(low >= Duration::from_secs(80) && low < Duration::from_secs(81), "{low:?}");
            assert!(high <= Duration::from_secs(100) && high > Duration::from_secs(99), "{high:?}");
        }
        let (low, _) = spread(1, Verdict::Hold, Some(Duration::from_secs(1)));
        assert!(low >= Duration::from_secs(45), "{low:?}");
        // After long trouble the window is the wider one.
        let (_, high) = spread(10, Verdict::Retry, Some(Duration::from_secs(10)));
        assert!(high > Duration::from_secs(69), "{high:?}");
        // Zero asks for nothing, and does not take the jitter away.
        let (_, high) = spread(1, Verdict::Retry, Some(Duration::ZERO));
        assert!(high <= BASE, "{high:?}");
    }

    #[test]
    fn two_gates_differ() {
        let waits = |backoff: &mut Backoff| -> Vec<Duration> {
            (0..8).map(|_| backoff.next(Verdict::Retry, None)).collect()
        };
        assert_ne!(waits(&mut Backoff::new()), waits(&mut Backoff::new()));
        assert_eq!(waits(&mut Backoff::seeded(3)), waits(&mut Backoff::seeded(3)));
    }
}
