use super::*;
use crate::procfs::tests::fixture;

/// What the probe that is chosen for these files reads from them.
#[derive(Debug, PartialEq)]
struct Probed {
    name: &'static str,
    reading: Option<Reading>,
    limit: Option<u64>,
}

fn probe(files: &[(&str, &str)]) -> Probed {
    let (_dir, procfs) = fixture(files);
    let mut probe = choose(&procfs);
    let reading = probe.memory(&mut Processes::new(procfs), &[], Instant::now());
    Probed { name: probe.name(), reading, limit: probe.limit() }
}

fn exact(memory: Memory) -> Reading {
    Reading { memory, is_exact: true }
}

const V1_STAT: &str = "cache 1\nrss 2\ntotal_cache 400000\ntotal_rss 188000000\ntotal_swap 4096\ntotal_pgpgin 84329\ntotal_pgpgout 38140\n";

#[test]
fn version_1_of_a_container_is_read_with_its_descendants() {
    let v1 = [
        ("proc/self/cgroup", "5:cpu:/docker/abc\n4:hugetlb,memory:/docker/abc\n"),
        (
            "proc/self/mountinfo",
            "40 30 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
             41 30 0:30 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,hugetlb,memory\n",
        ),
        ("sys/fs/cgroup/memory/memory.stat", V1_STAT),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
    ];
    let memory = Memory { rss: 188_000_000, cache: 400_000, swap: 4096, pgpgin: 84_329, pgpgout: 38_140 };
    assert_eq!(
        probe(&v1),
        Probed { name: "cgroup1", reading: Some(exact(memory)), limit: Some(536_870_912) }
    );
    assert_eq!(memory.total(), 188_404_096);
}

#[test]
fn version_2_of_a_container_has_no_page_events() {
    let v2 = [
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", "41 30 0:30 / /sys/fs/cgroup ro,nosuid shared:9 - cgroup2 cgroup2 rw\n"),
        ("sys/fs/cgroup/memory.current", "9\n"),
        ("sys/fs/cgroup/memory.stat", "anon 1048576\nfile 4096\nkernel 7\nanon_thp 0\n"),
        ("sys/fs/cgroup/memory.swap.current", "8192\n"),
        ("sys/fs/cgroup/memory.high", "max\n"),
        ("sys/fs/cgroup/memory.max", "1073741824\n"),
    ];
    let memory = Memory { rss: 1 << 20, cache: 4096, swap: 8192, ..Memory::default() };
    assert_eq!(probe(&v2), Probed { name: "cgroup2", reading: Some(exact(memory)), limit: Some(1 << 30) });
    // On a machine the same path is the root cgroup, whose values are not a dyno's.
    assert_eq!(probe(&[v2[0], v2[1], v2[3]]).name, "processes");
}

#[test]
fn the_cgroup_of_a_session_is_not_used() {
    let v2 = [
        ("proc/self/cgroup", "0::/user.slice/session-2.scope\n"),
        ("proc/self/mountinfo", "41 30 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
        ("sys/fs/cgroup/memory.current", "9\n"),
        ("sys/fs/cgroup/memory.stat", "anon 1048576\nfile 4096\n"),
    ];
    assert_eq!(probe(&v2).name, "processes");
    let v1 = [
        ("proc/self/cgroup", "4:memory:/\n"),
        ("proc/self/mountinfo", "41 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
        ("sys/fs/cgroup/memory/memory.stat", V1_STAT),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
    ];
    assert_eq!(probe(&v1).name, "processes");
}

#[test]
fn a_dyno_that_runs_a_slug_uses_its_processes() {
    // As in heroku-buildpack-php, test/fixtures/cgroups/heroku-cr-slugs: a path, no mount, a regular file.
    let slug = [
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", "600 500 259:1 /app /app rw - ext4 /dev/nvme0n1 rw\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
    ];
    assert_eq!(
        probe(&slug),
        Probed { name: "processes", reading: Some(exact(Memory::default())), limit: None }
    );
    assert_eq!(probe(&[]).name, "processes");
}

#[test]
fn malformed_files_give_no_reading() {
    let v2 = |stat| {
        [
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", "41 30 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/memory.current", "9\n"),
            ("sys/fs/cgroup/memory.stat", stat),
        ]
    };
    for stat in ["", "anon\nfile 1\n", "anon -1\nfile 1\n", "anon 99999999999999999999999\nfile 1\n"] {
        assert_eq!(probe(&v2(stat)).reading, None, "{stat:?}");
    }
}
