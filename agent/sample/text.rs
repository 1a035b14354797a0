//! The text of sample lines: exact field order, decimals and units (Dev Center "Log Runtime Metrics"; captures of 2013
//! to 2025), because published dashboards parse them by regex. All arithmetic is on integers, so that a value is always
//! digits with at most one dot.

use super::load::Load;
use super::probe::Memory;
use std::fmt::{self, Write as _};

/// A number of hundredths, displayed with two decimals.
struct Hundredths(u64);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// A number of bytes, displayed in Heroku's MB (2^20 bytes) with two decimals.
pub(crate) struct Mb(pub(crate) u64);

impl fmt::Display for Mb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (u128::from(self.0) * 100 + (1 << 19)) >> 20;
        write!(f, "{}MB", Hundredths(hundredths as u64))
    }
}

/// The first fields of each sample line: whose sample it is.
#[derive(Clone, Debug)]
pub(crate) struct SampleLabels {
    /// `$DYNO`.
    pub(crate) source: String,
    /// The dyno's UUID.
    pub(crate) uuid: String,
}

impl fmt::Display for SampleLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The platform has the app's number in the place of 0; it is not known in a dyno.
        write!(f, "source={} dyno=heroku.0.{}", self.source, self.uuid)
    }
}

/// The line of load averages: those that are available.
pub(crate) fn load(labels: &SampleLabels, load: &Load) -> String {
    let mut line = labels.to_string();
    for (name, value) in ["1m", "5m", "15m"].into_iter().zip(load.hundredths()) {
        write!(line, " sample#load_avg_{name}={}", Hundredths(value)).ok(); // writing to a String cannot fail
    }
    line
}

/// The line of memory. Without a quota its field is 0.
pub(crate) fn memory(labels: &SampleLabels, memory: &Memory, quota: Option<u64>) -> String {
    format!(
        "{labels} sample#memory_total={} sample#memory_rss={} sample#memory_cache={} sample#memory_swap={} \
         sample#memory_pgpgin={}pages sample#memory_pgpgout={}pages sample#memory_quota={}",
        Mb(memory.total()),
        Mb(memory.rss),
        Mb(memory.cache),
        Mb(memory.swap),
        memory.pgpgin,
        memory.pgpgout,
        Mb(quota.unwrap_or(0)),
    )
}

/// The line before R14 and R15: whole MB, and percent of the quota with one decimal.
pub(crate) fn memory_usage(total: u64, quota: u64) -> String {
    let tenths = u128::from(total) * 1000 / u128::from(quota.max(1));
    format!("Process running mem={}M({}.{}%)", total >> 20, tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn labels() -> SampleLabels {
        SampleLabels { source: "web.1".into(), uuid: "63c5abfd-838b-4e2d-bce1-ce46de280675".into() }
    }

    #[test]
    fn lines_are_formatted_as_on_the_platform() {
        let usage = Memory { rss: 188_796_109, cache: 398_459, swap: 0, pgpgin: 84_329, pgpgout: 38_140 };
        assert_eq!(
            memory(&labels(), &usage, Some(512 << 20)),
            "source=web.1 dyno=heroku.0.63c5abfd-838b-4e2d-bce1-ce46de280675 sample#memory_total=180.43MB \
             sample#memory_rss=180.05MB sample#memory_cache=0.38MB sample#memory_swap=0.00MB \
             sample#memory_pgpgin=84329pages sample#memory_pgpgout=38140pages sample#memory_quota=512.00MB"
        );
        let mut load_averages = Load::default();
        for (count, text) in
            [" sample#load_avg_1m=0.00", " sample#load_avg_5m=0.00", " sample#load_avg_15m=0.01"]
                .into_iter()
                .enumerate()
        {
            load_averages.add(u32::from(count == 2), Duration::from_secs(if count == 2 { 9 } else { 0 }));
            assert!(count == 2 || load(&labels(), &load_averages).ends_with(text));
        }
        assert_eq!(
            load(&labels(), &load_averages),
            "source=web.1 dyno=heroku.0.63c5abfd-838b-4e2d-bce1-ce46de280675 sample#load_avg_1m=0.14 \
             sample#load_avg_5m=0.03 sample#load_avg_15m=0.01"
        );
        assert_eq!(memory_usage(912_680_550, 512 << 20), "Process running mem=870M(169.9%)");
    }

    /// The text of the group `value` of a published parser's regex.
    fn parsed(parser: &str, line: &str) -> String {
        let parser = fancy_regex::Regex::new(parser).unwrap();
        let captures = parser.captures(line).unwrap().unwrap_or_else(|| panic!("{parser}: {line}"));
        captures.name("value").unwrap().as_str().to_owned()
    }

    fn megabytes(bytes: u64) -> String {
        let hundredths = (u128::from(bytes) * 100 + (1 << 19)) >> 20;
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }

    proptest! {
        #![proptest_config(crate::tests::property_config())]

        #[test]
        fn published_parsers_read_every_memory_value(rss: u64, cache: u64, swap: u64, pgpgin: u64, pgpgout: u64, quota: Option<u64>) {
            let usage = Memory { rss, cache, swap, pgpgin, pgpgout };
            let line = memory(&labels(), &usage, quota);
            // The parsers of Sumo Logic's app for Heroku.
            for (key, unit, value) in [
                ("total", "MB ", megabytes(usage.total())),
                ("rss", "MB ", megabytes(rss)),
                ("cache", "MB ", megabytes(cache)),
                ("swap", "MB ", megabytes(swap)),
                ("pgpgin", "pages ", pgpgin.to_string()),
                ("pgpgout", "pages ", pgpgout.to_string()),
                ("quota", "MB", megabytes(quota.unwrap_or(0))),
            ] {
                let parser = format!("dyno=(?<dyno>.*?(?= )).*memory_{key}=(?<value>.*?(?={unit}))");
                prop_assert_eq!(parsed(&parser, &line), value);
            }
            prop_assert!(line.is_ascii() && line.matches(" sample#").count() == 7);
        }

        #[test]
        fn published_parsers_read_every_load_average(counts in proptest::collection::vec(any::<u32>(), 3..9), secs in 0_u64..5000) {
            let mut load_averages = Load::default();
            for count in counts {
                load_averages.add(count, Duration::from_secs(secs));
            }
            let line = load(&labels(), &load_averages);
            let tail = |from: &str| format!("dyno=(?<dyno>.*?(?= )).*load_avg_{from}");
            for (parser, at) in [
                (tail("1m=(?<value>.*?(?= )).*load_avg_5m=.*?(?= ).*load_avg_15m=.*?(?=$)"), 0),
                (tail("5m=(?<value>.*?(?= ))"), 1),
                (tail("15m=(?<value>.*?(?=$))"), 2),
            ] {
                let value = load_averages.hundredths().nth(at).unwrap();
                prop_assert_eq!(parsed(&parser, &line), format!("{}.{:02}", value / 100, value % 100));
            }
        }
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let max = u64::MAX;
        let usage = Memory { rss: max, cache: max, swap: max, pgpgin: max, pgpgout: max };
        let line = memory(&labels(), &usage, Some(max));
        assert!(line.contains(" sample#memory_rss=17592186044416.00MB "), "{line}");
        assert!(memory_usage(max, 0).ends_with("%)"));
    }
}
