//! The lines of a sample: exact field order, decimals and units (Dev Center "Log Runtime Metrics"; captures of 2013
//! to 2025), because published dashboards parse them by regex. Numbers are integers here: nothing but digits and
//! one dot can come out.

use super::load::Load;
use super::probe::Memory;
use std::fmt::{self, Write as _};

/// Hundredths as a number with two decimals.
struct Hundredths(u64);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Bytes as what Heroku calls MB (2^20 bytes), with two decimals.
pub(crate) struct Mb(pub(crate) u64);

impl fmt::Display for Mb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (u128::from(self.0) * 100 + (1 << 19)) >> 20;
        write!(f, "{}MB", Hundredths(hundredths as u64))
    }
}

/// SampleLabels sample it is: the first fields of each line.
#[derive(Clone, Debug)]
pub(crate) struct SampleLabels {
    /// `$DYNO`.
    pub(crate) source: String,
    /// A UUID, new at every start.
    pub(crate) uuid: String,
}

impl fmt::Display for SampleLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The platform has the app's number where we have 0: it is not known in a dyno.
        write!(f, "source={} dyno=heroku.0.{}", self.source, self.uuid)
    }
}

/// The line of loads: those that are known.
pub(crate) fn load(labels: &SampleLabels, load: &Load) -> String {
    let mut line = labels.to_string();
    for (name, value) in ["1m", "5m", "15m"].into_iter().zip(load.hundredths()) {
        let _infallible = write!(line, " sample#load_avg_{name}={}", Hundredths(value));
    }
    line
}

/// The line of memory. Where there is no quota it says 0.
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

/// What comes before R14 and R15: whole MB, and percent of the quota with one decimal.
pub(crate) fn running(total: u64, quota: u64) -> String {
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
    fn lines_are_those_of_the_platform() {
        let seen = Memory { rss: 188_796_109, cache: 398_459, swap: 0, pgpgin: 84_329, pgpgout: 38_140 };
        assert_eq!(
            memory(&labels(), &seen, Some(512 << 20)),
            "source=web.1 dyno=heroku.0.63c5abfd-838b-4e2d-bce1-ce46de280675 sample#memory_total=180.43MB \
             sample#memory_rss=180.05MB sample#memory_cache=0.38MB sample#memory_swap=0.00MB \
             sample#memory_pgpgin=84329pages sample#memory_pgpgout=38140pages sample#memory_quota=512.00MB"
        );
        let mut known = Load::default();
        for (count, text) in
            [" sample#load_avg_1m=0.00", " sample#load_avg_5m=0.00", " sample#load_avg_15m=0.01"]
                .into_iter()
                .enumerate()
        {
            known.add(u32::from(count == 2), Duration::from_secs(if count == 2 { 9 } else { 0 }));
            assert!(count == 2 || load(&labels(), &known).ends_with(text));
        }
        assert_eq!(
            load(&labels(), &known),
            "source=web.1 dyno=heroku.0.63c5abfd-838b-4e2d-bce1-ce46de280675 sample#load_avg_1m=0.14 \
             sample#load_avg_5m=0.03 sample#load_avg_15m=0.01"
        );
        assert_eq!(running(912_680_550, 512 << 20), "Process running mem=870M(169.9%)");
    }

    /// What a published parser gets: the text of its group `value`.
    fn parsed(parser: &str, line: &str) -> String {
        let parser = fancy_regex::Regex::new(parser).unwrap();
        let captures = parser.captures(line).unwrap().unwrap_or_else(|| panic!("{parser}: {line}"));
        captures.name("value").unwrap().as_str().to_owned()
    }

    fn shown(bytes: u64) -> String {
        let hundredths = (u128::from(bytes) * 100 + (1 << 19)) >> 20;
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }

    proptest! {
        #[test]
        fn no_value_is_misread(rss: u64, cache: u64, swap: u64, pgpgin: u64, pgpgout: u64, quota: Option<u64>) {
            let seen = Memory { rss, cache, swap, pgpgin, pgpgout };
            let line = memory(&labels(), &seen, quota);
            // The parsers of Sumo Logic's app for Heroku.
            for (key, unit, value) in [
                ("total", "MB ", shown(seen.total())),
                ("rss", "MB ", shown(rss)),
                ("cache", "MB ", shown(cache)),
                ("swap", "MB ", shown(swap)),
                ("pgpgin", "pages ", pgpgin.to_string()),
                ("pgpgout", "pages ", pgpgout.to_string()),
                ("quota", "MB", shown(quota.unwrap_or(0))),
            ] {
                let parser = format!("dyno=(?<dyno>.*?(?= )).*memory_{key}=(?<value>.*?(?={unit}))");
                prop_assert_eq!(parsed(&parser, &line), value);
            }
            prop_assert!(line.is_ascii() && line.matches(" sample#").count() == 7);
        }

        #[test]
        fn no_load_is_misread(counts in proptest::collection::vec(any::<u32>(), 3..9), secs in 0_u64..5000) {
            let mut known = Load::default();
            for count in counts {
                known.add(count, Duration::from_secs(secs));
            }
            let line = load(&labels(), &known);
            let tail = |from: &str| format!("dyno=(?<dyno>.*?(?= )).*load_avg_{from}");
            for (parser, at) in [
                (tail("1m=(?<value>.*?(?= )).*load_avg_5m=.*?(?= ).*load_avg_15m=.*?(?=$)"), 0),
                (tail("5m=(?<value>.*?(?= ))"), 1),
                (tail("15m=(?<value>.*?(?=$))"), 2),
            ] {
                let value = known.hundredths().nth(at).unwrap();
                prop_assert_eq!(parsed(&parser, &line), format!("{}.{:02}", value / 100, value % 100));
            }
        }
    }

    #[test]
    fn the_largest_numbers_are_numbers() {
        let most = u64::MAX;
        let seen = Memory { rss: most, cache: most, swap: most, pgpgin: most, pgpgout: most };
        let line = memory(&labels(), &seen, Some(most));
        assert!(line.contains(" sample#memory_rss=17592186044416.00MB "), "{line}");
        assert!(running(most, 0).ends_with("%)"));
    }
}
