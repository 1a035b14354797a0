//! The timestamps of frames: their text, and the clock that makes them strictly increase.

use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a timestamp as log-shuttle writes it: `2026-03-04T05:06:07.089012+00:00`.
pub const TIMESTAMP_LEN: usize = 32;

/// Microseconds since the Unix epoch by the system clock; 0 when the clock stands before it.
pub fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

/// A timestamp's text, kept so that lines of one second rewrite their fraction only.
#[derive(Clone, Debug)]
pub struct TimestampText {
    micros: u64,
    second: u64,
    text: [u8; TIMESTAMP_LEN],
}

impl Default for TimestampText {
    fn default() -> Self {
        Self { micros: 0, second: 0, text: *b"1970-01-01T00:00:00.000000+00:00" }
    }
}

impl TimestampText {
    /// The text of one instant, in µs since the Unix epoch.
    pub fn of(micros: u64) -> Self {
        let mut text = Self::default();
        text.set(micros);
        text
    }

    /// The text: six digits of fraction and a numeric offset, never `Z`, because Heroku's own lumbermill
    /// takes nothing else (`drain.go`).
    pub fn as_bytes(&self) -> &[u8; TIMESTAMP_LEN] {
        &self.text
    }

    /// The instant of a text as ours, `2026-03-04T05:06:07.089012+00:00`, in µs since the Unix epoch.
    pub fn read(text: &str) -> Option<u64> {
        let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let days = days(year, month, day)?;
        let seconds = days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
        Some(seconds * 1_000_000 + number(20..26)?)
    }

    /// The instant of the frame of ours that these bytes begin with, in µs since the Unix epoch; they may end
    /// behind its time.
    pub fn of_frame(head: &[u8]) -> Option<u64> {
        let at = head.iter().position(|byte| *byte == b'>')? + 3; // behind `>1 `
        Self::read(std::str::from_utf8(head.get(at..at + TIMESTAMP_LEN)?).ok()?)
    }

    /// Moves to another instant; false when it is the same one.
    pub fn set(&mut self, micros: u64) -> bool {
        if micros == self.micros {
            return false;
        }
        self.micros = micros;
        let second = micros / 1_000_000;
        if second != self.second {
            self.second = second;
            let (year, month, day) = civil(second / 86_400);
            let of_day = second % 86_400;
            put(&mut self.text[0..4], year.min(9999));
            put(&mut self.text[5..7], month);
            put(&mut self.text[8..10], day);
            put(&mut self.text[11..13], of_day / 3600);
            put(&mut self.text[14..16], of_day / 60 % 60);
            put(&mut self.text[17..19], of_day % 60);
        }
        put(&mut self.text[20..26], micros % 1_000_000);
        true
    }
}

impl std::fmt::Display for TimestampText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.text).unwrap_or_default())
    }
}

fn put(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since 1970-01-01 to year, month and day of the proleptic Gregorian calendar (the `civil_from_days`
/// algorithm of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms", for days from 1970 on).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // from 0000-03-01
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date from then on: `days_from_civil` of the same text.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    (era * 146_097 + year_of_era * 365 + year_of_era / 4 + day_of_year)
        .checked_sub(year_of_era / 100 + 719_468)
}

/// What the clock of the frames did when it was asked for the next stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockStep {
    /// The ordinary case.
    Forward,
    /// The system clock had stepped back by more than [`FrameClock::BACK`]; the stamps follow it, once.
    Back,
}

/// Gives every frame of a dyno its time: strictly increasing in steps of 1 µs, so that consumers that sort
/// by time keep our order (heroku/logplex issue 120).
#[derive(Clone, Debug, Default)]
pub struct FrameClock {
    last: u64,
}

impl FrameClock {
    /// How far the stamps may run ahead of the clock, in µs, before they stand still.
    pub const AHEAD: u64 = 1_000_000;
    /// How far back, in µs, the clock must step to be followed.
    pub const BACK: u64 = 5_000_000;

    /// Tells the stamper what the system clock says (µs since the epoch), once per chunk.
    pub fn observe(&mut self, now: u64) -> ClockStep {
        if self.last > now.saturating_add(Self::BACK) {
            self.last = now;
            return ClockStep::Back;
        }
        ClockStep::Forward
    }

    /// The stamp of the next frame at clock time `now` (µs since the epoch).
    pub fn next(&mut self, now: u64) -> u64 {
        if now > self.last {
            self.last = now;
        } else if self.last < now.saturating_add(Self::AHEAD) {
            self.last += 1;
        }
        self.last
    }
}
