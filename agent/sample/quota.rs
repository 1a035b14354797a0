//! The dyno's memory quota.

use crate::procfs::ProcFs;

/// Larger values mean that there is no limit (heroku-buildpack-python, `vendor/WEB_CONCURRENCY.sh`).
pub(crate) const MAX_LIMIT: u64 = 1 << 40;
/// The file with the memory limit of a dyno that runs a slug; the directory contains no other file
/// (heroku-buildpack-php, `test/fixtures/cgroups`).
const LIMIT_FILE: &str = "sys/fs/cgroup/memory/memory.limit_in_bytes";
/// Process and thread limits of the dyno types, and their memory in MiB (Dev Center "Dyno Types", "Limits").
/// Performance-L and Performance-XL have the same limit; the entry is the smaller one.
const DYNO_TYPES: [(u64, u64); 6] =
    [(256, 512), (512, 1024), (16_384, 2560), (24_576, 30_720), (32_768, 14_336), (65_536, 129_024)];

/// The dyno's memory quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) bytes: u64,
    /// Where the value comes from, as `check` and `status` show it.
    pub(crate) source: &'static str,
}

impl Quota {
    /// Finds the quota. The sources are, in this order: `configured` (the setting, in bytes), the limit file, `cgroup`
    /// (the limit of the dyno's cgroup, in bytes), the dyno type with this `task_limit` (the limit on processes and
    /// threads), and the machine's memory.
    pub(crate) fn find(
        configured: Option<u64>,
        procfs: &ProcFs,
        cgroup: Option<u64>,
        task_limit: Option<u64>,
    ) -> Option<Self> {
        let limit = |bytes: Option<u64>| bytes.filter(|bytes| (1..=MAX_LIMIT).contains(bytes));
        let from = |source: &'static str| move |bytes: u64| Self { bytes, source };
        let dyno_type = || DYNO_TYPES.iter().find(|(tasks, _)| Some(*tasks) == task_limit);
        let machine = || procfs.value("proc/meminfo", "MemTotal:")?.checked_mul(1024);
        limit(configured)
            .map(from("TAILRACE_MEMORY_QUOTA"))
            .or_else(|| limit(procfs.number(LIMIT_FILE)).map(from("limit file")))
            .or_else(|| limit(cgroup).map(from("cgroup")))
            .or_else(|| dyno_type().map(|(_, mib)| mib << 20).map(from("dyno type")))
            .or_else(|| limit(machine()).map(from("machine")))
    }
}

/// Bytes of memory and swap together above which Heroku calls the quota vastly exceeded: twice the quota, 1.2 times
/// on the largest types (Dev Center "Dyno Memory Behavior").
pub(crate) fn r15_threshold(quota: u64) -> u64 {
    if quota <= 14_336 << 20 { quota.saturating_mul(2) } else { quota.saturating_add(quota / 5) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::tests::fixture;

    #[test]
    fn the_first_source_with_a_limit_is_used() {
        let slug = fixture(&[(LIMIT_FILE, "536870912\n"), ("proc/meminfo", "MemTotal:       64000 kB\n")]);
        let (mib, unlimited) = (1 << 20, u64::MAX);
        let find = |configured, procfs: &ProcFs, cgroup, task_limit| {
            Quota::find(configured, procfs, cgroup, task_limit).map(|quota| (quota.bytes, quota.source))
        };
        assert_eq!(find(Some(7), &slug.1, Some(mib), None), Some((7, "TAILRACE_MEMORY_QUOTA")));
        assert_eq!(
            find(Some(2 << 40), &slug.1, None, None),
            Some((512 << 20, "limit file")),
            "above the maximum"
        );
        assert_eq!(find(None, &slug.1, Some(mib), Some(512)), Some((512 << 20, "limit file")));
        let machine = fixture(&[("proc/meminfo", "MemTotal:       64000 kB\n")]);
        assert_eq!(find(None, &machine.1, Some(mib), Some(512)), Some((mib, "cgroup")));
        assert_eq!(find(None, &machine.1, Some(unlimited), Some(512)), Some((1 << 30, "dyno type")));
        assert_eq!(find(None, &machine.1, Some(unlimited), Some(4096)), Some((64_000 << 10, "machine")));
        assert_eq!(find(None, &fixture(&[]).1, None, None), None);
        let unlimited = fixture(&[(LIMIT_FILE, "9223372036854771712\n")]);
        assert_eq!(find(None, &unlimited.1, Some(mib), None), Some((mib, "cgroup")));
    }

    #[test]
    fn r15_is_raised_at_twice_the_quota_and_earlier_on_the_largest_types() {
        assert_eq!(r15_threshold(512 << 20), 1 << 30);
        assert_eq!(r15_threshold(30_720 << 20), 36_864 << 20);
    }
}
