//! Values as people read them.

use serde_json::Value;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A number of things.
    Count,
    /// Milliseconds.
    Ms,
    /// Bytes.
    Bytes,
    /// A number with a unit of its own, or none: two decimals at most.
    Plain,
    /// Megabytes, as sample lines say them.
    Megabytes,
    /// Percent.
    Percent,
    /// Words.
    Text,
    /// The time of a frame: shown to the second.
    Time,
}

impl Unit {
    /// The value, with its unit; a dash for nothing.
    pub(crate) fn show(self, value: Option<&Value>) -> String {
        match (value, value.and_then(Value::as_f64)) {
            (None | Some(Value::Null), _) => "–".to_owned(),
            (Some(_), Some(number)) => self.number(number),
            (Some(Value::String(text)), _) if text.is_empty() => "–".to_owned(),
            (Some(Value::String(text)), _) if self == Self::Time => {
                text.get(11..19).unwrap_or(text).to_owned()
            }
            (Some(Value::String(text)), _) => text.clone(),
            (Some(Value::Array(items)), _) => {
                items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" ")
            }
            (Some(other), _) => other.to_string(),
        }
    }

    /// A number with its unit.
    pub(crate) fn number(self, number: f64) -> String {
        match self {
            Self::Count | Self::Text | Self::Time => thousands(number, 0),
            Self::Ms if number.abs() >= 10_000.0 => thousands(number / 1000.0, 1) + " s",
            Self::Ms => thousands(number, usize::from(number.abs() < 10.0 && number.fract() != 0.0)) + " ms",
            Self::Bytes => bytes(number),
            Self::Plain => thousands(number, if number.fract() == 0.0 { 0 } else { 2 }),
            Self::Megabytes => thousands(number, usize::from(number.abs() < 100.0)) + " MB",
            Self::Percent => thousands(number, 1) + " %",
        }
    }

    /// Whether it is set like a number: to the right.
    pub(crate) fn is_number(self) -> bool {
        !matches!(self, Self::Text | Self::Time)
    }

    /// A power of two: bytes in KiB, so that it stays round.
    pub(crate) fn binary(self, number: f64) -> String {
        match self {
            Self::Bytes if number >= 1024.0 => thousands(number / 1024.0, 0) + " KiB",
            _ => self.number(number),
        }
    }

    /// A number on an axis: short.
    pub(crate) fn axis(self, number: f64) -> String {
        let (scaled, suffix) = match number.abs() {
            _ if self == Self::Bytes => return bytes(number).replace(".0 ", " "),
            _ if self == Self::Count && number.fract() != 0.0 => return String::new(),
            1e4.. if self == Self::Ms => (number / 1e3, " s"),
            1e6.. => (number / 1e6, "M"),
            1e4.. => (number / 1e3, "k"),
            _ => (number, ""),
        };
        let digits =
            usize::from(scaled.fract().abs() > 1e-6) + usize::from(scaled.abs() < 1.0 && scaled != 0.0);
        thousands(scaled, digits) + suffix
    }
}

fn bytes(number: f64) -> String {
    let (scale, unit) = match number.abs() {
        1e9.. => (1e9, "GB"),
        1e6.. => (1e6, "MB"),
        1e3.. => (1e3, "kB"),
        _ => return thousands(number, 0) + " B",
    };
    thousands(number / scale, 1) + " " + unit
}

fn thousands(number: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", number.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::with_capacity(text.len() + 4);
    if number < 0.0 {
        out.push('−');
    }
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

/// The time of day, UTC, of a second since the Unix epoch.
pub(crate) fn clock(second: u64) -> String {
    let day = second % 86_400;
    format!("{:02}:{:02}:{:02}", day / 3600, day / 60 % 60, day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_scaled() {
        assert_eq!(Unit::Count.number(1_234_567.0), "1,234,567");
        assert_eq!((Unit::Ms.number(1.25), Unit::Ms.number(30_001.0)), ("1.2 ms".into(), "30.0 s".into()));
        assert_eq!(
            (Unit::Bytes.number(999.0), Unit::Bytes.number(1_500_000.0)),
            ("999 B".into(), "1.5 MB".into())
        );
        assert_eq!((Unit::Count.axis(20_000.0), Unit::Plain.axis(0.25)), ("20k".into(), "0.25".into()));
        assert_eq!(Unit::Count.show(None), "–");
        assert_eq!(clock(1_777_631_327), "10:28:47");
    }
}
