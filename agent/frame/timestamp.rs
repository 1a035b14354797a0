//! The timestamps of frames: microseconds since the Unix epoch, their text, and the clock that makes them strictly
//! increase.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a timestamp as log-shuttle writes it: `2026-03-04T05:06:07.089012+00:00`.
pub const TIMESTAMP_LEN: usize = 32;

/// An instant in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The system clock's time; the epoch itself when the clock stands before it.
    pub fn now() -> Self {
        Self::of(SystemTime::now())
    }

    /// A time of the system; the epoch for one before it.
    pub(crate) fn of(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64))
    }

    /// The time that passed since `earlier`; zero when that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Reads a text in the form that [`Timestamp`]'s `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
        let days = days_since_epoch(Date { year: number(0..4)?, month: number(5..7)?, day: number(8..10)? })?;
        let seconds = days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
        Some(Self(seconds * 1_000_000 + number(20..26)?))
    }

    /// The time of the frame whose first bytes are `head`, which may end behind the time field. Only for frames of
    /// the [`Encoder`](super::Encoder)'s form.
    pub fn of_frame(head: &[u8]) -> Option<Self> {
        let at = head.iter().position(|byte| *byte == b'>')? + 3; // behind `>1 `
        Self::parse(std::str::from_utf8(head.get(at..at + TIMESTAMP_LEN)?).ok()?)
    }
}

/// `2026-03-04T05:06:07.089012+00:00`: six digits of fraction and a numeric offset, never `Z`, because Heroku's own
/// lumbermill accepts nothing else (heroku/lumbermill `drain.go`).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = TimestampText::default();
        text.set(*self);
        f.write_str(std::str::from_utf8(text.as_bytes()).unwrap_or_default())
    }
}

/// A timestamp's text, kept so that only its fraction is rewritten while the second stays the same.
#[derive(Clone, Debug)]
pub(super) struct TimestampText {
    time: Timestamp,
    second: u64,
    text: [u8; TIMESTAMP_LEN],
}

impl Default for TimestampText {
    fn default() -> Self {
        Self { time: Timestamp::default(), second: 0, text: *b"1970-01-01T00:00:00.000000+00:00" }
    }
}

impl TimestampText {
    pub(super) fn as_bytes(&self) -> &[u8; TIMESTAMP_LEN] {
        &self.text
    }

    /// Changes the text to `time`; returns whether it was another one.
    pub(super) fn set(&mut self, time: Timestamp) -> bool {
        if time == self.time {
            return false;
        }
        let follows = time.0 == self.time.0 + 1;
        self.time = time;
        // The frames of a chunk are 1 µs apart.
        if follows && self.count_up() {
            return true;
        }
        let second = time.0 / 1_000_000;
        if second != self.second {
            self.second = second;
            let Date { year, month, day } = date(second / 86_400);
            let of_day = second % 86_400;
            write_digits(&mut self.text[0..4], year.min(9999));
            write_digits(&mut self.text[5..7], month);
            write_digits(&mut self.text[8..10], day);
            write_digits(&mut self.text[11..13], of_day / 3600);
            write_digits(&mut self.text[14..16], of_day / 60 % 60);
            write_digits(&mut self.text[17..19], of_day % 60);
        }
        write_digits(&mut self.text[20..26], time.0); // its last six digits
        true
    }
}

impl TimestampText {
    /// Adds 1 µs; returns whether that did not need a new second.
    fn count_up(&mut self) -> bool {
        for digit in self.text[20..26].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return true;
            }
            *digit = b'0';
        }
        false
    }
}

/// Fills `field` with the last digits of `value`.
fn write_digits(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// A date of the proleptic Gregorian calendar.
struct Date {
    year: u64,
    month: u64,
    day: u64,
}

/// The date so many days after 1970-01-01 (`civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date
/// Algorithms", for days from 1970 on).
fn date(days: u64) -> Date {
    let shifted = days + 719_468; // from 0000-03-01
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Date { year: year_of_era + era * 400 + u64::from(month <= 2), month, day }
}

/// Days from 1970-01-01 to a date (`days_from_civil` of the same text); none for dates before.
fn days_since_epoch(Date { year, month, day }: Date) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    (era * 146_097 + year_of_era * 365 + year_of_era / 4 + day_of_year)
        .checked_sub(year_of_era / 100 + 719_468)
}

/// How the system clock moved since the last observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockStep {
    /// Forward, or back by at most [`FrameClock::MAX_STEP_BACK_MICROS`].
    Forward,
    /// Back by more; the timestamps follow it once.
    Back,
}

/// Gives every frame of a dyno its time: strictly increasing in steps of 1 µs, so that receivers that sort by time
/// keep our order (heroku/logplex issue 120).
#[derive(Clone, Debug, Default)]
pub struct FrameClock {
    last: u64,
}

impl FrameClock {
    /// How far the timestamps may run ahead of the system clock, in µs, before they stop increasing.
    pub const MAX_AHEAD_MICROS: u64 = 1_000_000;
    /// How far back, in µs, the system clock must step for the timestamps to follow.
    pub const MAX_STEP_BACK_MICROS: u64 = 5_000_000;

    /// Compares the last timestamp with the system clock. To be called once per chunk.
    pub fn observe(&mut self, now: Timestamp) -> ClockStep {
        if self.last > now.0.saturating_add(Self::MAX_STEP_BACK_MICROS) {
            self.last = now.0;
            return ClockStep::Back;
        }
        ClockStep::Forward
    }

    /// The timestamp of the next frame when the system clock says `now`.
    pub fn next(&mut self, now: Timestamp) -> Timestamp {
        if now.0 > self.last {
            self.last = now.0;
        } else if self.last < now.0.saturating_add(Self::MAX_AHEAD_MICROS) {
            self.last += 1;
        }
        Timestamp(self.last)
    }
}
