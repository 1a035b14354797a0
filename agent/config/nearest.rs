//! The nearest right form of a value that cannot be used, for "did you mean". What is proposed here is a guess: the caller
//! checks that it can be used before it is shown.

use super::value::{show_bytes, show_duration};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What is wrong with a value, and what may have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nearest {
    /// What is wrong: `no unit`.
    pub(super) reason: String,
    /// The nearest right form.
    pub(super) form: String,
}

impl Nearest {
    fn new(reason: impl Into<String>, form: impl Into<String>) -> Self {
        Self { reason: reason.into(), form: form.into() }
    }
}

/// Quotation marks, in pairs.
const QUOTES: [(char, char); 8] = [
    ('"', '"'),
    ('\'', '\''),
    ('`', '`'),
    ('\u{201c}', '\u{201d}'),
    ('\u{201e}', '\u{201c}'),
    ('\u{2018}', '\u{2019}'),
    ('\u{ab}', '\u{bb}'),
    ('\u{bb}', '\u{ab}'),
];

/// The first quotation mark around `text`, also where only one side has one.
pub(super) fn quote_around(text: &str) -> Option<char> {
    let begin = text.chars().next().filter(|first| QUOTES.iter().any(|(begin, _)| begin == first));
    begin.or_else(|| text.chars().next_back().filter(|last| QUOTES.iter().any(|(_, end)| end == last)))
}

/// A value in quotes.
pub(super) fn unquoted(text: &str) -> Option<Nearest> {
    let inner = QUOTES.iter().find_map(|(begin, end)| text.strip_prefix(*begin)?.strip_suffix(*end))?;
    Some(Nearest::new("it is in quotes", inner.trim()))
}

/// A number with or without a unit.
struct Number<'a> {
    is_negative: bool,
    has_comma: bool,
    /// Digits, with a point.
    digits: String,
    unit: &'a str,
}

impl<'a> Number<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let unsigned = text.trim_start_matches(['-', '+', '\u{2212}']);
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(unsigned.len());
        let (digits, unit) = unsigned.split_at(end);
        let digits = digits.trim_end_matches(['.', ',']);
        digits.replace(',', ".").parse::<f64>().ok()?;
        Some(Self {
            is_negative: text.starts_with(['-', '\u{2212}']),
            has_comma: digits.contains(','),
            digits: digits.replace(',', "."),
            unit: unit.trim(),
        })
    }

    fn value(&self) -> f64 {
        self.digits.parse().unwrap_or(0.0)
    }
}

/// A duration within a range.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Option<Nearest> {
    let number = Number::parse(text)?;
    let (min, max) = (show_duration(*range.start()), show_duration(*range.end()));
    if number.is_negative {
        return Some(Nearest::new(format!("less than {min}"), min));
    }
    let unit = match number.unit.trim_end_matches('.').to_lowercase().as_str() {
        "" => None,
        "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => Some(("ms", 0.001)),
        "s" | "sec" | "secs" | "second" | "seconds" => Some(("s", 1.0)),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(("m", 60.0)),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(("h", 3600.0)),
        _ => return None,
    };
    let fits = |scale: f64| {
        let duration = Duration::try_from_secs_f64(number.value() * scale);
        duration.is_ok_and(|duration| range.contains(&duration))
    };
    let limit = |scale: f64| {
        let is_less = number.value() * scale < range.start().as_secs_f64();
        let (reason, limit) = if is_less { ("less than", min.clone()) } else { ("more than", max.clone()) };
        Nearest::new(format!("{reason} {limit}"), limit)
    };
    Some(match unit {
        None => {
            let unit = [("s", 1.0), ("ms", 0.001), ("m", 60.0)].into_iter().find(|(_, scale)| fits(*scale));
            match unit {
                Some((unit, _)) => Nearest::new("no unit", format!("{}{unit}", number.digits)),
                None => Nearest { reason: "no unit".to_owned(), ..limit(1.0) },
            }
        }
        Some((_, scale)) if !fits(scale) => limit(scale),
        Some((unit, _)) => {
            let reason = if number.has_comma { "a comma in the number" } else { "not a unit that is known" };
            Nearest::new(reason, format!("{}{unit}", number.digits))
        }
    })
}

/// A size in bytes within a range.
pub(super) fn bytes(text: &str, range: &RangeInclusive<u64>) -> Option<Nearest> {
    const UNITS: [(&str, u64); 9] = [
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    let number = Number::parse(text)?;
    let (min, max) = (show_bytes(*range.start()), show_bytes(*range.end()));
    if number.is_negative {
        return Some(Nearest::new(format!("less than {min}"), min));
    }
    let unit = match number.unit.trim_end_matches('.').to_lowercase().as_str() {
        "" => None,
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "ki" | "kib" | "kibibyte" | "kibibytes" => Some("KiB"),
        "m" | "mi" | "mib" | "mebibyte" | "mebibytes" => Some("MiB"),
        "g" | "gi" | "gib" | "gibibyte" | "gibibytes" => Some("GiB"),
        "t" | "ti" | "tib" | "tebibyte" | "tebibytes" => Some("TiB"),
        "kb" | "kilobyte" | "kilobytes" => Some("KB"),
        "mb" | "megabyte" | "megabytes" => Some("MB"),
        "gb" | "gigabyte" | "gigabytes" => Some("GB"),
        "tb" | "terabyte" | "terabytes" => Some("TB"),
        _ => return None,
    };
    let scale_of = |unit: &str| UNITS.iter().find(|(name, _)| *name == unit).map_or(1, |(_, scale)| *scale);
    let fits = |unit: &str| range.contains(&((number.value() * scale_of(unit) as f64).round() as u64));
    let limit = |unit: &str| {
        let is_less = number.value() * (scale_of(unit) as f64) < *range.start() as f64;
        let (reason, limit) = if is_less { ("less than", min.clone()) } else { ("more than", max.clone()) };
        Nearest::new(format!("{reason} {limit}"), limit)
    };
    Some(match unit {
        // Bytes, which may have been meant as another unit.
        None if !number.has_comma => {
            let unit = ["KiB", "MiB"].into_iter().find(|unit| fits(unit));
            let limit = limit("B");
            let form = unit.filter(|_| limit.form == min).map(|unit| format!("{}{unit}", number.digits));
            Nearest { form: form.unwrap_or_else(|| limit.form.clone()), ..limit }
        }
        unit if !fits(unit.unwrap_or("B")) => limit(unit.unwrap_or("B")),
        unit => {
            let reason = if number.has_comma { "a comma in the number" } else { "not a unit that is known" };
            Nearest::new(reason, format!("{}{}", number.digits, unit.unwrap_or_default()))
        }
    })
}

/// `on` or `off`.
pub(super) fn switch(text: &str) -> Option<Nearest> {
    let form = match text.to_lowercase().as_str() {
        "enable" | "enabled" | "y" | "t" | "active" | "always" => "on",
        "disable" | "disabled" | "n" | "f" | "none" | "never" | "inactive" => "off",
        _ => return choice(text, &["on", "off"]),
    };
    Some(Nearest::new("not a value that is known", form))
}

/// One of several words.
pub(super) fn choice(text: &str, words: &[&str]) -> Option<Nearest> {
    let text = text.to_lowercase();
    let begins = |word: &&&str| text.len() > 1 && (text.starts_with(**word) || word.starts_with(&text));
    let is_typo = |word: &&&str| strsim::levenshtein(word, &text) <= word.len() / 2 && text.len() > 1;
    let same = words.iter().find(|word| ***word == text);
    let word = same.or_else(|| words.iter().find(begins)).or_else(|| words.iter().find(is_typo))?;
    Some(Nearest::new("not a value that is known", *word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// The reason and the form.
    fn shown(nearest: Option<Nearest>) -> Option<String> {
        nearest.map(|Nearest { reason, form }| format!("{reason}: {form}"))
    }

    #[test]
    fn durations_get_their_unit_or_the_limit() {
        for (text, expected) in [
            ("20", "no unit: 20s"),
            ("2.5", "no unit: 2.5s"),
            ("250", "no unit: 250ms"),
            ("999999", "no unit: 1m"),
            ("20 seconds", "not a unit that is known: 20s"),
            ("20S", "not a unit that is known: 20s"),
            ("20sec.", "not a unit that is known: 20s"),
            ("1,5s", "a comma in the number: 1.5s"),
            ("1 minute", "not a unit that is known: 1m"),
            ("2m", "more than 1m: 1m"),
            ("2 hours", "more than 1m: 1m"),
            ("5ms", "less than 10ms: 10ms"),
            ("-1s", "less than 10ms: 10ms"),
        ] {
            let nearest = duration(text, &(Duration::from_millis(10)..=MINUTE));
            assert_eq!(shown(nearest).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "soon", "s", ".", "5 parsecs"] {
            assert_eq!(duration(text, &(Duration::ZERO..=MINUTE)), None, "{text}");
        }
    }

    #[test]
    fn sizes_get_their_unit_or_the_limit() {
        for (text, expected) in [
            ("64", "less than 4MiB: 64MiB"),
            ("1", "less than 4MiB: 4MiB"),
            ("99999999999999", "more than 64GiB: 64GiB"),
            ("64 Mi", "not a unit that is known: 64MiB"),
            ("64 megabytes", "not a unit that is known: 64MB"),
            ("1,5GiB", "a comma in the number: 1.5GiB"),
            ("3MiB", "less than 4MiB: 4MiB"),
            ("1TiB", "more than 64GiB: 64GiB"),
            ("-5", "less than 4MiB: 4MiB"),
        ] {
            let nearest = bytes(text, &((4 << 20)..=(64 << 30)));
            assert_eq!(shown(nearest).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "lots", "MiB", "5 apples"] {
            assert_eq!(bytes(text, &(0..=1)), None, "{text}");
        }
    }

    #[test]
    fn words_are_found_by_case_beginning_and_typos() {
        for (text, words, expected) in [
            ("Exec", &["exec", "wrap"][..], Some("exec")),
            ("automatic", &["auto", "on", "off"], Some("auto")),
            ("wrp", &["exec", "wrap"], Some("wrap")),
            ("x", &["exec", "wrap"], None),
            ("nonsense", &["exec", "wrap"], None),
        ] {
            assert_eq!(choice(text, words).map(|nearest| nearest.form).as_deref(), expected, "{text}");
        }
        for (text, expected) in
            [("enabled", Some("on")), ("Never", Some("off")), ("offf", Some("off")), ("2", None)]
        {
            assert_eq!(switch(text).map(|nearest| nearest.form).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn quotes_are_found_around_a_value() {
        for (text, inner) in
            [("\"20s\"", Some("20s")), ("'20s'", Some("20s")), ("\u{201c}on\u{201d}", Some("on"))]
        {
            assert_eq!(unquoted(text).map(|nearest| nearest.form).as_deref(), inner, "{text}");
        }
        for (text, quote) in [
            ("\"https://h", Some('"')),
            ("https://h'", Some('\'')),
            ("\u{ab}x\u{bb}", Some('\u{ab}')),
            ("https://h", None),
        ] {
            assert_eq!(quote_around(text), quote, "{text}");
        }
        assert_eq!(unquoted("\""), None);
    }
}
