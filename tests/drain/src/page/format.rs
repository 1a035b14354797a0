//! Formatting of values.

use serde_json::Value;

/// The unit of a value, which decides its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A number of things.
    Count,
    /// A number of things per minute.
    Rate,
    /// Milliseconds.
    Ms,
    /// Bytes.
    Bytes,
    /// A number without a unit: at most two decimals.
    Plain,
    /// Megabytes, as in sample lines.
    Megabytes,
    /// Percent.
    Percent,
    /// Text.
    Text,
    /// The timestamp of a frame, shown as time of day in s.
    Time,
}

impl Unit {
    /// The value with its unit; a dash if there is none.
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
            (Some(Value::Object(counts)), _) if counts.is_empty() => "–".to_owned(),
            (Some(Value::Object(counts)), _) => {
                counts.iter().map(|(key, count)| format!("{key} × {count}")).collect::<Vec<_>>().join(", ")
            }
            (Some(other), _) => other.to_string(),
        }
    }

    /// A number with its unit.
    pub(crate) fn number(self, number: f64) -> String {
        match self {
            Self::Count | Self::Text | Self::Time => thousands(number, 0),
            Self::Rate => thousands(number, usize::from(number.abs() < 10.0 && number.fract() != 0.0)),
            Self::Ms => milliseconds(number),
            Self::Bytes => bytes(number),
            Self::Plain => thousands(number, if number.fract() == 0.0 { 0 } else { 2 }),
            Self::Megabytes => thousands(number, usize::from(number.abs() < 100.0)) + " MB",
            Self::Percent => thousands(number, 1) + " %",
        }
    }

    /// Whether it is right-aligned.
    pub(crate) fn is_number(self) -> bool {
        !matches!(self, Self::Text | Self::Time)
    }

    /// An upper bound: powers of two in KiB, so that they are round.
    pub(crate) fn bound(self, number: f64) -> String {
        match self {
            Self::Bytes if number >= 1e15 => "more".to_owned(),
            Self::Bytes if number >= 1024.0 && number.log2().fract() == 0.0 => {
                thousands(number / 1024.0, 0) + " KiB"
            }
            Self::Bytes => thousands(number, 0) + " B",
            _ => self.number(number),
        }
    }

    /// A short form for the labels of an axis.
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

fn milliseconds(ms: f64) -> String {
    let (scale, unit) = match ms.abs() {
        172_800_000.0.. => (86_400_000.0, "d"),
        7_200_000.0.. => (3_600_000.0, "h"),
        600_000.0.. => (60_000.0, "min"),
        10_000.0.. => (1000.0, "s"),
        _ => return thousands(ms, usize::from(ms.abs() < 10.0 && ms.fract() != 0.0)) + " ms",
    };
    thousands(ms / scale, 1) + " " + unit
}

fn bytes(number: f64) -> String {
    let (scale, unit) = match number.abs() {
        1e12.. => (1e12, "TB"),
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

/// The time of day (UTC) of a time in s since the Unix epoch.
pub(crate) fn time_of_day(second: u64) -> String {
    let day = second % 86_400;
    format!("{:02}:{:02}:{:02}", day / 3600, day / 60 % 60, day % 60)
}

/// A duration in s as text, in the largest unit that divides it.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        s if s.is_multiple_of(3600) && s > 0 => format!("{} h", s / 3600),
        s if s.is_multiple_of(60) && s > 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_thousands_separators_and_scaled_units() {
        assert_eq!(Unit::Count.number(1_234_567.0), "1,234,567");
        let ms = [1.25, 30_001.0, 900_000.0, 12_345_678.0, 1e10].map(|ms| Unit::Ms.number(ms));
        assert_eq!(ms, ["1.2 ms", "30.0 s", "15.0 min", "3.4 h", "115.7 d"]);
        assert_eq!(
            (Unit::Bytes.number(999.0), Unit::Bytes.number(1_500_000.0)),
            ("999 B".into(), "1.5 MB".into())
        );
        assert_eq!((Unit::Count.axis(20_000.0), Unit::Plain.axis(0.25)), ("20k".into(), "0.25".into()));
        let bounds = [512.0, 8192.0, 10_000.0, 10_240.0, 2f64.powi(64)].map(|bound| Unit::Bytes.bound(bound));
        assert_eq!(bounds, ["512 B", "8 KiB", "10,000 B", "10,240 B", "more"]);
        assert_eq!(Unit::Count.show(None), "–");
        assert_eq!(
            (time_of_day(1_777_631_327), duration(64), duration(120)),
            ("10:28:47".into(), "64 s".into(), "2 min".into())
        );
    }
}
