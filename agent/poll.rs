//! Timeouts of poll(2) from durations and deadlines.

use nix::poll::PollTimeout;
use std::time::{Duration, Instant};

/// The timeout for a duration; durations beyond poll(2)'s range become its longest timeout.
pub(crate) fn timeout(duration: Duration) -> PollTimeout {
    PollTimeout::try_from(duration).unwrap_or(PollTimeout::MAX)
}

/// The timeout until `deadline`, rounded up to the next millisecond so that `poll` does not return early and spin.
/// Without a deadline it waits forever.
pub(crate) fn until(deadline: Option<Instant>) -> PollTimeout {
    deadline.map_or(PollTimeout::NONE, |deadline| {
        timeout(deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_rounded_up_to_milliseconds_and_saturate() {
        assert_eq!(until(None), PollTimeout::NONE);
        assert_eq!(until(Some(Instant::now())), PollTimeout::ZERO);
        let soon = until(Some(Instant::now() + Duration::from_millis(500))).as_millis();
        assert!(soon.is_some_and(|millis| (1..=501).contains(&millis)), "{soon:?}");
        assert_eq!(timeout(Duration::MAX), PollTimeout::MAX);
    }
}
