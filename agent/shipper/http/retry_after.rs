//! The `Retry-After` header (RFC 9110 section 10.2.3).

use std::time::{Duration, SystemTime};

/// The longest `Retry-After` that is obeyed; a drain that names a longer one is asked again after this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

/// The wait that a `Retry-After` value asks for at `now`, at most [`MAX_RETRY_AFTER`]; a date in the past is
/// zero, what is in neither form of RFC 9110 §10.2.3 is `None`. The two obsolete date forms of §5.6.7 are read
/// as `None` too.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are a very long wait, and the limit cuts it.
        value.parse().unwrap_or(u64::MAX)
    } else {
        let then = imf_fixdate(value)?;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        then.saturating_sub(now)
    };
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7); a year before 1970 is zero.
fn imf_fixdate(text: &str) -> Option<u64> {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

    if text.len() != 29 || !text.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = &text[from..to];
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let fixed = [(3, ", "), (7, " "), (11, " "), (16, " "), (19, ":"), (22, ":"), (25, " GMT")];
    if !DAYS.contains(&&text[..3]) || fixed.iter().any(|&(at, mark)| !text[at..].starts_with(mark)) {
        return None;
    }
    let month = MONTHS.iter().position(|&name| name == &text[8..11])?;
    let (day, year) = (number(5, 7)?, number(12, 16)?);
    let (hour, minute, second) = (number(17, 19)?, number(20, 22)?, number(23, 25)?);

    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    // 60 is a leap second.
    if !(1..=lengths[month]).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if year < 1970 {
        return Some(0);
    }
    // Leap days in the years before this one, less those before 1970.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let days = days + lengths[..month].iter().sum::<u64>() + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn seconds() {
        let wait = |value| retry_after(value, at(0)).map(|wait| wait.as_secs());
        assert_eq!(wait("0"), Some(0));
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait(" 007\t"), Some(7));
        assert_eq!(wait("600"), Some(600));
        assert_eq!(wait("601"), Some(600));
        assert_eq!(wait("99999999999999999999999999"), Some(600));
        for other in ["", " ", "-1", "+1", "1.5", "1s", "1 2", "soon", "\u{661}"] {
            assert_eq!(wait(other), None, "{other:?}");
        }
    }

    #[test]
    fn dates() {
        // The example of RFC 9110 §5.6.7; `date -ud '1994-11-06 08:49:37' +%s` says 784111777.
        assert_eq!(imf_fixdate("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(imf_fixdate("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(imf_fixdate("Tue, 29 Feb 2000 23:59:59 GMT"), Some(951_868_799));
        assert_eq!(imf_fixdate("Sat, 31 Dec 2016 23:59:60 GMT"), Some(1_483_228_800));
        assert_eq!(imf_fixdate("Fri, 31 Dec 9999 23:59:59 GMT"), Some(253_402_300_799));
        assert_eq!(imf_fixdate("Wed, 31 Dec 1969 23:59:59 GMT"), Some(0));

        let wait = |value, now| retry_after(value, at(now)).map(|wait| wait.as_secs());
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_700), Some(77));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777), Some(0));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", 984_111_777), Some(0));
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT", 784_111_777), Some(600));
    }

    #[test]
    fn dates_that_are_none() {
        for text in [
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Son, 06 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Tue, 29 Feb 1900 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49:+7 GMT",
            "Sun, 06 Nov 1994 08:49:3\u{e9} GMT",
        ] {
            assert_eq!(imf_fixdate(text), None, "{text}");
        }
    }
}
