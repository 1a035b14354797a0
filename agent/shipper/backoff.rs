//! The wait after an attempt, one per drain. Pure except for the seed.

use super::verdict::Verdict;
use fastrand::Rng;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The window of the first wait after a delivery: a drain that fails now and then is asked again at once.
const FIRST_WINDOW: Duration = Duration::from_millis(20);
/// The window of the second wait in a row.
const SECOND_WINDOW: Duration = Duration::from_millis(100);
/// The window doubles from then on, up to this.
const MAX_WINDOW: Duration = Duration::from_mins(1);
/// The mean wait after [`Verdict::Hold`].
const MEAN_HOLD_WAIT: Duration = Duration::from_mins(1);

/// Exponential back-off with full jitter over the capped window, for the first retry too: after a restart of an app
/// or of a drain, all dynos would otherwise retry in step.
///
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Debug)]
pub(super) struct Backoff {
    /// Attempts since the last delivery that were followed by a wait of the window.
    failures: u32,
    random: Rng,
}

impl Backoff {
    /// Starts with the first window and a seed from the operating system.
    pub(super) fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(std::process::id()))
    }

    /// Starts with the first window and a given seed, which determines all waits.
    pub(super) fn seeded(seed: u64) -> Self {
        Self { failures: 0, random: Rng::with_seed(seed) }
    }

    /// The wait before the next request to this drain, after an attempt with this verdict and `Retry-After`.
    ///
    /// | verdict | wait |
    /// |---|---|
    /// | `Delivered` | none; the window is reset to the first |
    /// | `Retry`, `Reject` | between zero and the window (20 ms, then 100 ms doubled by each, at most 60 s) |
    /// | `Hold` | 45 s to 75 s; the window stays |
    /// | `Split` | none; after a failure between zero and the window, which stays |
    /// | `RetryUncompressed` | none; the window stays |
    ///
    /// `retry_after` is a lower bound, except after a delivery. A random part is added to it, from zero to the window
    /// or to a quarter of `retry_after`, whichever is longer, so that many dynos do not retry at the same time.
    pub(super) fn next(&mut self, verdict: Verdict, retry_after: Option<Duration>) -> Duration {
        let mut window = self.window();
        let wait = match verdict {
            Verdict::Delivered => {
                self.failures = 0;
                return Duration::ZERO;
            }
            // A drain that refuses one batch after the other is in trouble, too: the next one waits.
            Verdict::Retry | Verdict::Reject => {
                self.failures = self.failures.saturating_add(1);
                self.jitter(window)
            }
            Verdict::Hold => MEAN_HOLD_WAIT * 3 / 4 + self.jitter(MEAN_HOLD_WAIT / 2),
            // Nor is a drain asked in a loop that takes no size.
            Verdict::Split if self.failures > 0 => self.jitter(window),
            Verdict::Split | Verdict::RetryUncompressed => Duration::ZERO,
        };
        let Some(minimum) = retry_after.filter(|minimum| !minimum.is_zero()) else { return wait };
        window = window.max(minimum / 4);
        wait.max(minimum.saturating_add(self.jitter(window)))
    }

    fn window(&self) -> Duration {
        match self.failures {
            0 => FIRST_WINDOW,
            more => SECOND_WINDOW.saturating_mul(1 << (more - 1).min(16)).min(MAX_WINDOW),
        }
    }

    /// A random duration from zero to `window`, to the microsecond.
    fn jitter(&mut self, window: Duration) -> Duration {
        let micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.u64(0..=micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shortest and the longest `n`th wait over many seeds.
    fn range_of_waits(n: usize, verdict: Verdict, retry_after: Option<Duration>) -> (Duration, Duration) {
        let waits = (0..2000).map(|seed| {
            let mut backoff = Backoff::seeded(seed);
            for _ in 1..n {
                backoff.next(Verdict::Retry, None);
            }
            backoff.next(verdict, retry_after)
        });
        waits.fold((Duration::MAX, Duration::ZERO), |(low, high), wait| (low.min(wait), high.max(wait)))
    }

    fn is_close(actual: Duration, expected: Duration, tolerance: Duration) -> bool {
        actual.abs_diff(expected) <= tolerance
    }

    #[test]
    fn full_jitter_over_the_capped_window() {
        let seconds = [0.02, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0];
        for (n, window) in seconds.into_iter().enumerate() {
            let window = Duration::from_secs_f64(window);
            let (low, high) = range_of_waits(n + 1, Verdict::Retry, None);
            assert!(low <= window / 50, "{n}: {low:?}");
            assert!(high <= window && high > window * 49 / 50, "{n}: {high:?}");
        }
        let (_, high) = range_of_waits(1000, Verdict::Retry, None);
        assert!(high <= MAX_WINDOW);
    }

    #[test]
    fn the_mean_is_half_the_window() {
        let mut backoff = Backoff::seeded(7);
        for _ in 0..12 {
            backoff.next(Verdict::Retry, None);
        }
        let sum: Duration = (0..4000).map(|_| backoff.next(Verdict::Retry, None)).sum();
        assert!(is_close(sum / 4000, Duration::from_secs(30), Duration::from_secs(1)), "{:?}", sum / 4000);
    }

    #[test]
    fn only_a_delivery_resets_the_window() {
        let mut backoff = Backoff::seeded(1);
        for _ in 0..20 {
            backoff.next(Verdict::Retry, None);
        }
        assert_eq!(backoff.next(Verdict::RetryUncompressed, None), Duration::ZERO);
        assert!(backoff.next(Verdict::Split, None) <= MAX_WINDOW);
        backoff.next(Verdict::Reject, None);
        backoff.next(Verdict::Hold, None);
        assert_eq!(backoff.window(), MAX_WINDOW);
        assert_eq!(backoff.next(Verdict::Delivered, Some(MAX_WINDOW)), Duration::ZERO);
        assert_eq!(backoff.window(), FIRST_WINDOW);
    }

    #[test]
    fn an_outage_of_a_minute_takes_few_requests_and_a_flaky_drain_is_fast() {
        let requests = (0..200).map(|seed| {
            let (mut backoff, mut waited, mut requests) = (Backoff::seeded(seed), Duration::ZERO, 1);
            while waited < Duration::from_mins(1) {
                waited += backoff.next(Verdict::Retry, None);
                requests += 1;
            }
            requests
        });
        assert!((11..=14).contains(&(requests.sum::<u32>() / 200)));
        // 30 % of the attempts fail.
        let (mut backoff, mut random, mut waited) = (Backoff::seeded(1), Rng::with_seed(2), Duration::ZERO);
        for _ in 0..1000 {
            while random.u8(0..100) < 30 {
                waited += backoff.next(Verdict::Retry, None);
            }
            backoff.next(Verdict::Delivered, None);
        }
        assert!(waited < Duration::from_secs(30), "1000 batches: {waited:?}");
    }

    #[test]
    fn held_batches_are_retried_about_once_a_minute() {
        let (low, high) = range_of_waits(1, Verdict::Hold, None);
        assert!(low >= Duration::from_secs(45) && low < Duration::from_secs(46), "{low:?}");
        assert!(high <= Duration::from_secs(75) && high > Duration::from_secs(74), "{high:?}");
    }

    #[test]
    fn retry_after_is_a_lower_bound_with_jitter() {
        for verdict in [Verdict::Retry, Verdict::Split, Verdict::RetryUncompressed, Verdict::Reject] {
            let (low, high) = range_of_waits(1, verdict, Some(Duration::from_secs(80)));
            assert!(low >= Duration::from_secs(80) && low < Duration::from_secs(81), "{low:?}");
            assert!(high <= Duration::from_secs(100) && high > Duration::from_secs(99), "{high:?}");
        }
        let (low, _) = range_of_waits(1, Verdict::Hold, Some(Duration::from_secs(1)));
        assert!(low >= Duration::from_secs(45), "{low:?}");
        // After twelve failures the window is longer than a quarter of `retry_after`.
        let (_, high) = range_of_waits(12, Verdict::Retry, Some(Duration::from_secs(10)));
        assert!(high > Duration::from_secs(69), "{high:?}");
        // Zero is no lower bound, and the jitter stays.
        let (_, high) = range_of_waits(1, Verdict::Retry, Some(Duration::ZERO));
        assert!(high <= FIRST_WINDOW, "{high:?}");
    }

    #[test]
    fn a_smaller_batch_goes_out_at_once_unless_the_drain_failed_before() {
        assert_eq!(range_of_waits(1, Verdict::Split, None), (Duration::ZERO, Duration::ZERO));
        let (low, high) = range_of_waits(2, Verdict::Split, None);
        assert!(low < SECOND_WINDOW / 50, "{low:?}");
        assert!(high <= SECOND_WINDOW && high > SECOND_WINDOW * 49 / 50, "{high:?}");
    }

    #[test]
    fn waits_differ_unless_the_seeds_are_equal() {
        let waits = |backoff: &mut Backoff| -> Vec<Duration> {
            (0..8).map(|_| backoff.next(Verdict::Retry, None)).collect()
        };
        assert_ne!(waits(&mut Backoff::new()), waits(&mut Backoff::new()));
        assert_eq!(waits(&mut Backoff::seeded(3)), waits(&mut Backoff::seeded(3)));
    }
}
