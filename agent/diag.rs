//! Diagnostics for people: single lines on standard error in stable logfmt, because people alert on them. They contain
//! no secret. A line that standard error does not accept at once is discarded, so that the agent never waits for it.

mod event;

pub(crate) use event::Event;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Bytes of a line at most: a pipe accepts as many at once (`PIPE_BUF`, pipe(7)).
const MAX_LINE_BYTES: usize = 4096;

/// How often trouble that continues is reported.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_mins(10);

/// A line that is being built: `tailrace at=… key=value …`.
#[derive(Debug)]
pub(crate) struct EventLine {
    event: Event,
    text: String,
}

/// Starts the line about an event.
pub(crate) fn event(event: Event) -> EventLine {
    EventLine { event, text: format!("tailrace at={}", event.name()) }
}

impl EventLine {
    /// Adds `key=value`, quoted where needed. The key must be one of the event's documented fields.
    #[must_use]
    pub(crate) fn field(mut self, key: &str, value: impl fmt::Display) -> Self {
        debug_assert!(self.event.has_field(key), "{} has no field {key}", self.event.name());
        write!(self.text, " {key}={}", quoted(&value.to_string())).ok(); // writing to a String cannot fail
        self
    }

    /// The text, without its LF.
    #[cfg(test)]
    fn text(&self) -> &str {
        &self.text
    }

    /// Writes the line to standard error.
    pub(crate) fn emit(mut self) {
        let end = self.text.floor_char_boundary(MAX_LINE_BYTES - 1);
        self.text.truncate(end);
        self.text.push('\n');
        let stderr = std::io::stderr();
        let is_writable = {
            let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
            poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        };
        if is_writable {
            stderr.lock().write_all(self.text.as_bytes()).ok(); // there is nowhere else to report to
        }
    }
}

/// A logfmt value, in quotes where it needs them. Control characters become spaces.
pub(crate) fn quoted(value: &str) -> Cow<'_, str> {
    let is_bare = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && !b"\"=\\".contains(&b));
    if is_bare {
        return value.into();
    }
    let printable: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", printable.replace('\\', "\\\\").replace('"', "\\\"")).into()
}

/// A duration in whole seconds: `12s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64().round())
}

/// Limits how often trouble of one kind is reported: when it begins, then once per [`REPORT_INTERVAL`] while it
/// continues, and when it is over. Pure: the caller passes the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Throttle {
    /// When the trouble began.
    since: Option<Instant>,
    /// When it was reported last.
    reported: Option<Instant>,
}

impl Throttle {
    /// Notes that there is trouble at `now`, without a report.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// When the trouble began; none when there is none.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Notes that there is trouble at `now`. Returns whether to report it; the caller does so.
    pub(crate) fn permit(&mut self, now: Instant) -> bool {
        self.permit_after(Duration::ZERO, now)
    }

    /// As [`Throttle::permit`], but trouble is reported only once it has lasted for `delay`.
    pub(crate) fn permit_after(&mut self, delay: Duration, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_old_enough = now.saturating_duration_since(since) >= delay;
        let is_due =
            self.reported.is_none_or(|reported| now.saturating_duration_since(reported) >= REPORT_INTERVAL);
        if is_old_enough && is_due {
            self.reported = Some(now);
        }
        is_old_enough && is_due
    }

    /// Notes that the trouble is over. Returns how long it lasted if it was reported: then its end is to be reported.
    pub(crate) fn resolve(&mut self, now: Instant) -> Option<Duration> {
        let Self { since, reported } = std::mem::take(self);
        reported.and(since).map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_needed() {
        let line =
            event(Event::DrainRefused).field("status", 401).field("error", "a \"b\" c\nd").field("try", "");
        assert_eq!(line.text(), r#"tailrace at=drain-refused status=401 error="a \"b\" c d" try="""#);
    }

    #[test]
    fn trouble_is_reported_at_once_every_ten_minutes_and_when_it_is_over() {
        enum Step {
            Begin,
            Permit(bool),
            PermitAfter(u64, bool),
            Resolve(Option<u64>),
        }
        use Step::{Begin, Permit, PermitAfter, Resolve};
        let cases: [&[(u64, Step)]; 5] = [
            &[
                (0, Permit(true)),
                (1, Permit(false)),
                (599, Permit(false)),
                (600, Permit(true)),
                (601, Permit(false)),
            ],
            &[(0, Permit(true)), (9, Resolve(Some(9))), (10, Permit(true)), (12, Resolve(Some(2)))],
            &[(0, Begin), (9, Resolve(None)), (10, Begin), (40, Permit(true)), (50, Resolve(Some(40)))],
            &[
                (0, PermitAfter(5, false)),
                (4, PermitAfter(5, false)),
                (5, PermitAfter(5, true)),
                (7, Permit(false)),
            ],
            &[(0, Resolve(None)), (0, PermitAfter(5, false)), (3, Resolve(None)), (6, PermitAfter(5, false))],
        ];
        let start = Instant::now();
        for (case, steps) in cases.iter().enumerate() {
            let mut throttle = Throttle::default();
            for (second, step) in *steps {
                let now = start + Duration::from_secs(*second);
                match step {
                    Begin => throttle.begin(now),
                    Permit(expected) => {
                        assert_eq!(throttle.permit(now), *expected, "case {case}, {second} s");
                    }
                    PermitAfter(delay, expected) => {
                        let permitted = throttle.permit_after(Duration::from_secs(*delay), now);
                        assert_eq!(permitted, *expected, "case {case}, {second} s");
                    }
                    Resolve(expected) => {
                        let lasted = throttle.resolve(now).map(|duration| duration.as_secs());
                        assert_eq!(lasted, *expected, "case {case}, {second} s");
                        assert_eq!(throttle.since(), None);
                    }
                }
            }
        }
    }
}
