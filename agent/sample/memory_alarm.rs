//! The alarms R14 and R15: the dyno uses more memory than its quota (Dev Center "Heroku Error Codes").

use super::probe::Memory;
use super::quota::r15_threshold;
use super::text::memory_usage;

/// An alarm about the dyno's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// R14: more than the quota.
    QuotaExceeded,
    /// R15: vastly more.
    QuotaVastlyExceeded,
}

impl Alarm {
    /// The alarm that this memory usage raises. R14 counts all memory with the cache, R15 all but the cache (captures
    /// of 2013: 429.68 MB of rss, 160.12 MB of swap and a quota of 512 MB gave R14).
    pub(crate) fn for_usage(memory: &Memory, quota: u64) -> Option<Self> {
        if memory.rss.saturating_add(memory.swap) > r15_threshold(quota) {
            Some(Self::QuotaVastlyExceeded)
        } else {
            (memory.total() > quota).then_some(Self::QuotaExceeded)
        }
    }

    /// Its lines: the memory usage, then the error code.
    pub(crate) fn lines(self, memory: &Memory, quota: u64) -> [String; 2] {
        let code = match self {
            Self::QuotaExceeded => "Error R14 (Memory quota exceeded)",
            Self::QuotaVastlyExceeded => "Error R15 (Memory quota vastly exceeded)",
        };
        [memory_usage(memory.total(), quota), code.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarm_lines_are_those_of_a_capture() {
        let mb = |mb: f64| (mb * 1_048_576.0) as u64;
        let memory = Memory { rss: mb(429.68), swap: mb(160.12), cache: mb(0.5), ..Memory::default() };
        assert_eq!(
            Alarm::for_usage(&memory, 512 << 20).map(|alarm| alarm.lines(&memory, 512 << 20)).unwrap(),
            ["Process running mem=590M(115.2%)", "Error R14 (Memory quota exceeded)"]
        );
    }

    #[test]
    fn cache_alone_never_raises_r15_and_the_quota_itself_raises_nothing() {
        let quota = 512 << 20;
        let mostly_cache = Memory { cache: 10 * quota, rss: 1, ..Memory::default() };
        assert_eq!(Alarm::for_usage(&mostly_cache, quota), Some(Alarm::QuotaExceeded));
        let full = Memory { rss: quota, ..Memory::default() };
        assert_eq!(Alarm::for_usage(&full, quota), None);
        let vastly_more = Memory { rss: quota, swap: quota + 1, ..Memory::default() };
        let alarm = Alarm::for_usage(&vastly_more, quota).unwrap();
        assert_eq!(alarm.lines(&vastly_more, quota)[1], "Error R15 (Memory quota vastly exceeded)");
    }
}
