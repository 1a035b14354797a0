//! Sources of the dyno's memory usage: its cgroup where it has one that it can read, else its processes. The source is
//! chosen once.

use super::processes::{Process, Processes};
use super::quota::MAX_LIMIT;
use crate::procfs::{ProcFs, value_of};
use std::fmt;
use std::time::{Duration, Instant};

/// Time limit for reading the memory of all processes at once, when an alarm depends on it: enough for some 20 GB of
/// memory. A process is blocked at most while its own memory is read.
const EXACT_READ_TIMEOUT: Duration = Duration::from_millis(500);

/// A dyno's memory: bytes, and events in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) cache: u64,
    pub(crate) swap: u64,
    /// Pages charged; 0 with version 2 of cgroups and with `/proc`, which do not count them.
    pub(crate) pgpgin: u64,
    /// Pages uncharged; 0 in the same cases.
    pub(crate) pgpgout: u64,
}

impl Memory {
    /// All of it, in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.rss.saturating_add(self.cache).saturating_add(self.swap)
    }
}

/// A reading of the dyno's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) memory: Memory,
    /// All parts of it were read at the time of the sample; else some are estimates. Only an exact reading may raise
    /// an alarm.
    pub(crate) is_exact: bool,
}

/// A source of the dyno's memory usage. `alarm_limit` is the number of bytes above which memory raises an alarm.
pub(crate) trait Probe: fmt::Debug + Send {
    /// Its name in logs and reports.
    fn name(&self) -> &'static str;

    /// Between two samples: reads one part in advance when reading takes time. Returns whether it should be called
    /// again soon.
    fn prefetch(
        &mut self,
        _processes: &mut Processes,
        _all: &[Process],
        _now: Instant,
        _alarm_limit: Option<u64>,
    ) -> bool {
        false
    }

    /// Immediately before [`Probe::memory`]: reads what is missing. Returns whether [`Probe::prefetch`] should be
    /// called soon.
    fn prepare(
        &mut self,
        _processes: &mut Processes,
        _all: &[Process],
        _now: Instant,
        _alarm_limit: Option<u64>,
    ) -> bool {
        false
    }

    /// The memory at present; none when it cannot be read.
    fn memory(&mut self, processes: &mut Processes, all: &[Process], now: Instant) -> Option<Reading>;

    /// The memory limit that is configured there, in bytes.
    fn limit(&self) -> Option<u64> {
        None
    }

    /// Replaces a reading that was not exact and would raise an alarm: by what is certain; none when that is not known
    /// now.
    fn exact_memory(
        &mut self,
        _processes: &mut Processes,
        _all: &[Process],
        _now: Instant,
    ) -> Option<Memory> {
        None
    }
}

/// Version 2 of cgroups (<https://docs.kernel.org/admin-guide/cgroup-v2.html>).
#[derive(Debug)]
struct Cgroup2 {
    procfs: ProcFs,
    dir: String,
}

impl Probe for Cgroup2 {
    fn name(&self) -> &'static str {
        "cgroup2"
    }

    fn memory(&mut self, _: &mut Processes, _: &[Process], _: Instant) -> Option<Reading> {
        let dir = &self.dir;
        let stat = self.procfs.text(&format!("{dir}/memory.stat"))?;
        let swap = self.procfs.number(&format!("{dir}/memory.swap.current")).unwrap_or(0);
        let (rss, cache) = (value_of(&stat, "anon ")?, value_of(&stat, "file ")?);
        Some(Reading { memory: Memory { rss, cache, swap, ..Memory::default() }, is_exact: true })
    }

    fn limit(&self) -> Option<u64> {
        let number = |name| self.procfs.number(&format!("{}/{name}", self.dir));
        number("memory.high").or_else(|| number("memory.max"))
    }
}

/// Version 1 of cgroups (<https://www.kernel.org/doc/Documentation/cgroup-v1/memory.txt>).
#[derive(Debug)]
struct Cgroup1 {
    procfs: ProcFs,
    dir: String,
}

impl Probe for Cgroup1 {
    fn name(&self) -> &'static str {
        "cgroup1"
    }

    fn memory(&mut self, _: &mut Processes, _: &[Process], _: Instant) -> Option<Reading> {
        let stat = self.procfs.text(&format!("{}/memory.stat", self.dir))?;
        let or_zero = |key| value_of(&stat, key).unwrap_or(0);
        let memory = Memory {
            rss: value_of(&stat, "total_rss ")?,
            cache: value_of(&stat, "total_cache ")?,
            swap: or_zero("total_swap "),
            pgpgin: or_zero("total_pgpgin "),
            pgpgout: or_zero("total_pgpgout "),
        };
        Some(Reading { memory, is_exact: true })
    }

    fn limit(&self) -> Option<u64> {
        self.procfs.number(&format!("{}/memory.limit_in_bytes", self.dir))
    }
}

/// The sum over the dyno's processes: the only source of a dyno that runs a slug.
#[derive(Debug)]
struct ProcessSum;

impl Probe for ProcessSum {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn prefetch(
        &mut self,
        processes: &mut Processes,
        all: &[Process],
        now: Instant,
        alarm_limit: Option<u64>,
    ) -> bool {
        let defers = alarm_limit.is_some_and(|limit| processes.needs_exact_read(all, now, limit));
        !defers && processes.refresh(all, now)
    }

    fn prepare(
        &mut self,
        processes: &mut Processes,
        all: &[Process],
        now: Instant,
        alarm_limit: Option<u64>,
    ) -> bool {
        if alarm_limit.is_some_and(|limit| processes.needs_exact_read(all, now, limit)) {
            processes.refresh_all(all, now, EXACT_READ_TIMEOUT);
            return false;
        }
        processes.refresh(all, now)
    }

    fn memory(&mut self, processes: &mut Processes, all: &[Process], now: Instant) -> Option<Reading> {
        let sum = processes.sum(all, now);
        let memory = Memory { rss: sum.resident, swap: sum.swapped, ..Memory::default() };
        Some(Reading { memory, is_exact: sum.is_exact })
    }

    fn exact_memory(&mut self, processes: &mut Processes, all: &[Process], now: Instant) -> Option<Memory> {
        processes.refresh_all(all, now, EXACT_READ_TIMEOUT);
        let sum = processes.measured_sum(all, now);
        Some(Memory { rss: sum.resident, swap: sum.swapped, ..Memory::default() })
    }
}

/// Chooses the source. A cgroup counts when it is the container's, that is, the root of its mount: on a machine it
/// would be that of a session or service, with other programs in it.
pub(crate) fn choose(procfs: &ProcFs) -> Box<dyn Probe> {
    let mounts = procfs.text("proc/self/mountinfo").unwrap_or_default();
    let cgroups = procfs.text("proc/self/cgroup").unwrap_or_default();
    let has = |dir: &str, name: &str| procfs.text(&format!("{dir}/{name}")).is_some();
    if let Some(dir) = container_mount(&mounts, &cgroups, "cgroup2", "")
        // The root cgroup of a machine, whose values are the machine's, does not have this file.
        && has(&dir, "memory.current")
        && has(&dir, "memory.stat")
    {
        return Box::new(Cgroup2 { procfs: procfs.clone(), dir });
    }
    if let Some(dir) = container_mount(&mounts, &cgroups, "cgroup", "memory")
        && has(&dir, "memory.stat")
        // The root cgroup of a machine has no limit.
        && procfs.number(&format!("{dir}/memory.limit_in_bytes")).is_some_and(|limit| limit <= MAX_LIMIT)
    {
        return Box::new(Cgroup1 { procfs: procfs.clone(), dir });
    }
    Box::new(ProcessSum)
}

/// The directory, without its first slash, where our cgroup is the root of a mount: the mount's root (field 4 of
/// mountinfo, proc(5)) equals our path (field 3 of `/proc/self/cgroup`, cgroups(7)).
fn container_mount(mounts: &str, cgroups: &str, fs_type: &str, controller: &str) -> Option<String> {
    let path = cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let (mut mount, mut filesystem) = (mount.split(' ').skip(3), filesystem.split(' '));
        let (root, dir) = (mount.next()?, mount.next()?);
        let is_type = filesystem.next()? == fs_type;
        let options = filesystem.nth(1).unwrap_or_default();
        let has_controller = controller.is_empty() || options.split(',').any(|name| name == controller);
        (is_type && has_controller && root == path).then(|| dir.trim_start_matches('/').to_owned())
    })
}

#[cfg(test)]
mod tests;
