//! The load of a dyno by Heroku's published formula: not the host's load average, but an exponentially weighted
//! mean of the dyno's own runnable tasks (Dev Center "Log Runtime Metrics", "Understanding load averages").

use std::time::Duration;

/// Over how long each of the three averages looks back, in seconds.
const PERIODS: [f64; 3] = [60.0, 300.0, 900.0];

/// The three averages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    averages: [f64; 3],
    samples: usize,
}

impl Load {
    /// Takes a count of runnable tasks, `since` the last one. The first is the averages' start.
    pub(crate) fn add(&mut self, runnable: u32, since: Duration) {
        for (average, period) in self.averages.iter_mut().zip(PERIODS) {
            let weight = if self.samples == 0 { 0.0 } else { (-since.as_secs_f64() / period).exp() };
            *average = weight * *average + (1.0 - weight) * f64::from(runnable);
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// The averages in hundredths, over 1, 5 and 15 minutes. A young dyno knows the first one after one sample, the
    /// second after two, the third after three, as lines of young dynos on the platform show them.
    pub(crate) fn hundredths(&self) -> impl Iterator<Item = u64> {
        self.averages.into_iter().take(self.samples).map(|average| (average * 100.0).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(load: &Load) -> Vec<u64> {
        load.hundredths().collect()
    }

    #[test]
    fn it_follows_the_published_weights() {
        let tick = Duration::from_secs(20);
        let mut load = Load::default();
        assert_eq!(shown(&load), [0_u64; 0]);
        load.add(0, Duration::ZERO);
        assert_eq!(shown(&load), [0]);
        load.add(10, tick);
        // 10 (1 - e^(-20/60)), 10 (1 - e^(-20/300)): the weights 0.716531 and 0.935507.
        assert_eq!(shown(&load), [283, 64]);
        load.add(10, tick);
        assert_eq!(shown(&load), [487, 125, 43]);
    }

    #[test]
    fn a_steady_load_is_its_own_average() {
        let mut load = Load::default();
        for _ in 0..1000 {
            load.add(3, Duration::from_secs(1));
        }
        assert_eq!(shown(&load), [300, 300, 300]);
        // What it forgets in a quarter of an hour: e^-15, e^-3, e^-1.
        for _ in 0..900 {
            load.add(0, Duration::from_secs(1));
        }
        assert_eq!(shown(&load), [0, 15, 110]);
    }

    #[test]
    fn the_most_tasks_there_can_be_are_a_number() {
        let mut load = Load::default();
        for _ in 0..3 {
            load.add(u32::MAX, Duration::MAX);
        }
        assert_eq!(shown(&load), [429_496_729_500; 3]);
    }
}
