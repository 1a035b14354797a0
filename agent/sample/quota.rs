//! How much memory the dyno has.

use crate::procfs::ProcFs;

/// Values above say that there is no limit (heroku-buildpack-python, `vendor/WEB_CONCURRENCY.sh`).
pub(crate) const NONE: u64 = 1 << 40;
/// The file by which a dyno that runs a slug tells its limit; there is nothing else in that tree
/// (heroku-buildpack-php, `test/fixtures/cgroups`).
const LIMIT_FILE: &str = "sys/fs/cgroup/memory/memory.limit_in_bytes";
/// Process and thread caps of the dyno types, and their memory in MiB (Dev Center "Dyno Types", "Limits").
/// Performance-L and Performance-XL share a cap, and the smaller of them is meant.
const TYPES: [(u64, u64); 6] =
    [(256, 512), (512, 1024), (16_384, 2560), (24_576, 30_720), (32_768, 14_336), (65_536, 129_024)];

/// The dyno's memory in bytes, and how that is known. `set` is the setting's value, `cgroup` that of the dyno's own
/// cgroup, `tasks` the cap on processes and threads.
pub(crate) fn quota(
    set: Option<u64>,
    files: &ProcFs,
    cgroup: Option<u64>,
    tasks: Option<u64>,
) -> Option<(u64, &'static str)> {
    let limit = |bytes: Option<u64>| bytes.filter(|bytes| (1..=NONE).contains(bytes));
    let of_type = || TYPES.iter().find(|(cap, _)| Some(*cap) == tasks).map(|(_, mib)| mib << 20);
    limit(set)
        .map(|bytes| (bytes, "TAILRACE_MEMORY_QUOTA"))
        .or_else(|| Some((limit(files.number(LIMIT_FILE))?, "limit file")))
        .or_else(|| Some((limit(cgroup)?, "cgroup")))
        .or_else(|| Some((of_type()?, "dyno type")))
        .or_else(|| Some((limit(files.key("proc/meminfo", "MemTotal:")?.checked_mul(1024))?, "machine")))
}

/// Bytes of memory and swap together from which Heroku calls it vastly exceeded: twice the quota, 1.2 times on the
/// largest types (Dev Center "Dyno Memory Behavior").
pub(crate) fn vastly(quota: u64) -> u64 {
    if quota <= 14_336 << 20 { quota.saturating_mul(2) } else { quota.saturating_add(quota / 5) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::tests::layout;

    #[test]
    fn the_first_that_knows_is_asked() {
        let slug = layout(&[(LIMIT_FILE, "536870912\n"), ("proc/meminfo", "MemTotal:       64000 kB\n")]);
        let (mib, none) = (1 << 20, u64::MAX);
        let of = |set, files: &ProcFs, cgroup, tasks| quota(set, files, cgroup, tasks);
        assert_eq!(of(Some(7), &slug.1, Some(mib), None), Some((7, "TAILRACE_MEMORY_QUOTA")));
        assert_eq!(of(Some(2 << 40), &slug.1, None, None), Some((512 << 20, "limit file")), "that is none");
        assert_eq!(of(None, &slug.1, Some(mib), Some(512)), Some((512 << 20, "limit file")));
        let bare = layout(&[("proc/meminfo", "MemTotal:       64000 kB\n")]);
        assert_eq!(of(None, &bare.1, Some(mib), Some(512)), Some((mib, "cgroup")));
        assert_eq!(of(None, &bare.1, Some(none), Some(512)), Some((1 << 30, "dyno type")));
        assert_eq!(of(None, &bare.1, Some(none), Some(4096)), Some((64_000 << 10, "machine")));
        assert_eq!(of(None, &layout(&[]).1, None, None), None);
        let unlimited = layout(&[(LIMIT_FILE, "9223372036854771712\n")]);
        assert_eq!(of(None, &unlimited.1, Some(mib), None), Some((mib, "cgroup")));
    }

    #[test]
    fn vastly_is_twice_and_less_on_the_largest() {
        assert_eq!(vastly(512 << 20), 1 << 30);
        assert_eq!(vastly(30_720 << 20), 36_864 << 20);
    }
}
