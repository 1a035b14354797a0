//! R14 and R15: when the dyno takes more memory than it has (Dev Center "Heroku Error Codes").

use super::probe::Memory;
use super::quota::vastly;
use super::text::running;

/// What was said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// All is well.
    #[default]
    Well,
    /// ExtraLine than the quota.
    Exceeded,
    /// Vastly more.
    Vastly,
}

/// What this much memory means. R14 goes by all of it, cache included, R15 by what is no cache (captures of 2013:
/// 429.68 MB of rss, 160.12 MB of swap and a quota of 512 MB gave R14).
pub(crate) fn of(memory: &Memory, quota: u64) -> Alarm {
    match memory.rss.saturating_add(memory.swap) > vastly(quota) {
        true => Alarm::Vastly,
        false if memory.total() > quota => Alarm::Exceeded,
        false => Alarm::Well,
    }
}

impl Alarm {
    /// Its lines: the figure, then the code.
    pub(crate) fn lines(self, memory: &Memory, quota: u64) -> Vec<String> {
        let code = match self {
            Self::Well => return Vec::new(),
            Self::Exceeded => "Error R14 (Memory quota exceeded)",
            Self::Vastly => "Error R15 (Memory quota vastly exceeded)",
        };
        vec![running(memory.total(), quota), code.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_of_the_platform_comes_out_the_same() {
        let mb = |mb: f64| (mb * 1_048_576.0) as u64;
        let memory = Memory { rss: mb(429.68), swap: mb(160.12), cache: mb(0.5), ..Memory::default() };
        assert_eq!(
            of(&memory, 512 << 20).lines(&memory, 512 << 20),
            ["Process running mem=590M(115.2%)", "Error R14 (Memory quota exceeded)"]
        );
    }

    #[test]
    fn cache_alone_is_never_vast_and_the_quota_itself_is_well() {
        let quota = 512 << 20;
        let of_cache = Memory { cache: 10 * quota, rss: 1, ..Memory::default() };
        assert_eq!(of(&of_cache, quota), Alarm::Exceeded);
        let full = Memory { rss: quota, ..Memory::default() };
        assert_eq!((of(&full, quota), Alarm::Well.lines(&full, quota).len()), (Alarm::Well, 0));
        let vast = Memory { rss: quota, swap: quota + 1, ..Memory::default() };
        assert_eq!(of(&vast, quota).lines(&vast, quota)[1], "Error R15 (Memory quota vastly exceeded)");
    }
}
