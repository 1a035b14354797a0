//! Values with units. An error is what was expected; the caller adds the setting's name and the value.

use std::time::Duration;

/// Parses `on` or `off` and their common synonyms.
///
/// # Errors
/// What was expected.
pub fn switch(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("on or off"),
    }
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then_some((number, text[end..].trim()))
}

/// Parses a duration: a number with `ms`, `s`, `m` or `h`. 0 needs no unit.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "a duration such as 250ms, 20s or 5m";
    let (number, unit) = number_and_unit(text).ok_or(EXPECTED)?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "" if number == 0.0 => 0.0,
        _ => return Err(EXPECTED),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| EXPECTED)
}

/// Parses a size in bytes: a number with `B`, `KB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB` or `TiB`, or
/// without a unit for bytes.
///
/// # Errors
/// What was expected.
pub fn bytes(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "a size such as 512KiB, 64MiB or 1GB";
    let (number, unit) = number_and_unit(text).ok_or(EXPECTED)?;
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "kib" | "k" => 1 << 10,
        "mb" => 1_000_000,
        "mib" | "m" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" | "g" => 1 << 30,
        "tb" => 1_000_000_000_000,
        "tib" | "t" => 1 << 40,
        _ => return Err(EXPECTED),
    };
    Ok((number * scale as f64).round() as u64)
}

/// A size in bytes as text: with the largest binary unit that divides it.
pub fn show_bytes(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A duration as text: with the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, scale) in [("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if millis.is_multiple_of(scale) && (millis > 0 || unit == "s") {
            return format!("{}{unit}", millis / scale);
        }
    }
    format!("{millis}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_with_their_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("1s", 1000),
            ("1.5 s", 1500),
            ("2m", 120_000),
            ("3 min", 180_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "5", "5 parsecs", "-1s", "1e99h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for (millis, text) in [
            (0, "0s"),
            (250, "250ms"),
            (1500, "1500ms"),
            (20_000, "20s"),
            (600_000, "10m"),
            (86_400_000, "24h"),
        ] {
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn sizes_are_parsed_with_decimal_and_binary_units() {
        for (text, size) in [
            ("0", 0),
            ("512", 512),
            ("2b", 2),
            ("1KB", 1000),
            ("1KiB", 1024),
            ("1.5MiB", 3 << 19),
            ("2 MB", 2_000_000),
            ("3GB", 3_000_000_000),
            ("2g", 2 << 30),
            ("4TB", 4_000_000_000_000),
            ("5TiB", 5 << 40),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "MiB", "1XB", "-1", "1 2"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        for (size, text) in [
            (0, "0"),
            (1000, "1000"),
            (512 << 10, "512KiB"),
            (1 << 20, "1MiB"),
            (3 << 29, "1536MiB"),
            (2 << 30, "2GiB"),
        ] {
            assert_eq!(show_bytes(size), text);
        }
    }
}
