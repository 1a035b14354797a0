//! Load averages by Heroku's published formula: not the host's load average, but exponentially weighted means of the
//! dyno's runnable tasks (Dev Center "Log Runtime Metrics", "Understanding load averages").

use std::time::Duration;

/// The time constants of the three averages, in seconds.
const PERIODS_SECONDS: [f64; 3] = [60.0, 300.0, 900.0];

/// The load averages over 1, 5 and 15 minutes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    averages: [f64; 3],
    samples: usize,
}

impl Load {
    /// Adds a count of runnable tasks, `elapsed` after the last one. The first count is the initial value.
    pub(crate) fn add(&mut self, runnable: u32, elapsed: Duration) {
        for (average, period) in self.averages.iter_mut().zip(PERIODS_SECONDS) {
            let weight = if self.samples == 0 { 0.0 } else { (-elapsed.as_secs_f64() / period).exp() };
            *average = weight * *average + (1.0 - weight) * f64::from(runnable);
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// The averages in hundredths, over 1, 5 and 15 minutes. The first is available after one sample, the second after
    /// two, the third after three, as in the platform's lines of dynos that have just started.
    pub(crate) fn hundredths(&self) -> impl Iterator<Item = u64> {
        self.averages.into_iter().take(self.samples).map(|average| (average * 100.0).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn averages(load: &Load) -> Vec<u64> {
        load.hundredths().collect()
    }

    #[test]
    fn averages_use_the_published_weights() {
        let interval = Duration::from_secs(20);
        let mut load = Load::default();
        assert_eq!(averages(&load), [0_u64; 0]);
        load.add(0, Duration::ZERO);
        assert_eq!(averages(&load), [0]);
        load.add(10, interval);
        // 10 (1 - e^(-20/60)), 10 (1 - e^(-20/300)): the weights 0.716531 and 0.935507.
        assert_eq!(averages(&load), [283, 64]);
        load.add(10, interval);
        assert_eq!(averages(&load), [487, 125, 43]);
    }

    #[test]
    fn the_averages_of_a_constant_load_are_that_load() {
        let mut load = Load::default();
        for _ in 0..1000 {
            load.add(3, Duration::from_secs(1));
        }
        assert_eq!(averages(&load), [300, 300, 300]);
        // After a quarter of an hour without load: e^-15, e^-3, e^-1 of it remain.
        for _ in 0..900 {
            load.add(0, Duration::from_secs(1));
        }
        assert_eq!(averages(&load), [0, 15, 110]);
    }

    #[test]
    fn the_largest_task_count_does_not_overflow() {
        let mut load = Load::default();
        for _ in 0..3 {
            load.add(u32::MAX, Duration::MAX);
        }
        assert_eq!(averages(&load), [429_496_729_500; 3]);
    }
}
