//! The `Retry-After` header (RFC 9110 section 10.2.3).

use std::time::{Duration, SystemTime};

/// Upper limit of the wait: a drain that asks for a longer one is tried again after this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

/// The wait that a `Retry-After` value asks for at `now`, at most [`MAX_RETRY_AFTER`]: a number of seconds, or a date in
/// one of the three forms of RFC 9110 §5.6.7. Zero for a date in the past, `None` for anything else.
///
/// `None` also for the dates that the parser does not support: before 1970, in a leap second, or with the wrong day of
/// the week.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit is longer than the limit.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn seconds_are_a_wait_up_to_the_limit() {
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
    fn dates_are_a_wait_up_to_the_limit() {
        let wait = |value, now| retry_after(value, at(now)).map(|wait| wait.as_secs());
        // The example of RFC 9110 §5.6.7, in its three forms; `date -ud '1994-11-06 08:49:37' +%s` prints 784111777.
        for date in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(wait(date, 784_111_700), Some(77), "{date}");
            assert_eq!(wait(date, 784_111_777), Some(0), "{date}");
            assert_eq!(wait(date, 984_111_777), Some(0), "{date}");
            assert_eq!(wait(date, 784_000_000), Some(600), "{date}");
        }
        // One second before each date.
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:01 GMT", 1),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Sat, 31 Dec 2016 23:59:59 GMT", 1_483_228_799),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ] {
            assert_eq!(wait(date, seconds - 1), Some(1), "{date}");
        }
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT", 0), Some(0));
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT", 784_111_777), Some(600));
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
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
            "Sunday, 06-Nov-94 08:49:37 UTC",
            "Sunday, 31-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov 31 08:49:37 1994",
        ] {
            assert_eq!(retry_after(text, at(0)), None, "{text}");
        }
    }

    #[test]
    fn dates_that_the_parser_does_not_support_are_none() {
        for text in [
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sat, 31 Dec 2016 23:59:60 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(retry_after(text, at(0)), None, "{text}");
        }
    }
}
