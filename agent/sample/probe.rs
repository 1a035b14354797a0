//! Where the dyno's memory is read: its own cgroup where it has one and may see it, else its processes. The choice
//! is made once.

use super::processes::{Process, Processes};
use super::quota::NONE;
use crate::procfs::ProcFs;
use std::fmt;
use std::time::{Duration, Instant};

/// How long reading the shares of all processes may take, when an alarm depends on it: some 20 GB of memory. No
/// process waits for it longer than for the reading of its own.
const SURE: Duration = Duration::from_millis(500);

/// A dyno's memory: bytes, and events in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) cache: u64,
    pub(crate) swap: u64,
    /// Pages charged and uncharged; version 2 of cgroups and `/proc` count none.
    pub(crate) pgpgin: u64,
    pub(crate) pgpgout: u64,
}

impl Memory {
    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        self.rss.saturating_add(self.cache).saturating_add(self.swap)
    }
}

/// A place where memory is read.
pub(crate) trait Probe: fmt::Debug + Send {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Between two samples, reads ahead what takes time, a little of it. True when it should be done again soon.
    /// Memory above `alarm` bytes will have to be sure.
    fn prefetch(&mut self, _: &mut Processes, _: &[Process], _now: Instant, _alarm: Option<u64>) -> bool {
        false
    }

    /// The same for a sample that is taken at once.
    fn prepare(
        &mut self,
        _processes: &mut Processes,
        _all: &[Process],
        _now: Instant,
        _alarm: Option<u64>,
    ) -> bool {
        false
    }

    /// What it shows now, and whether nobody can doubt it.
    fn memory(&mut self, processes: &mut Processes, all: &[Process], now: Instant) -> Option<(Memory, bool)>;

    /// The limit that is set there, in bytes.
    fn limit(&self) -> Option<u64> {
        None
    }

    /// Makes sure of a figure that somebody would be woken by.
    fn make_sure(&mut self, _processes: &mut Processes, _all: &[Process], _now: Instant) -> Option<Memory> {
        None
    }
}

/// Version 2 of cgroups (<https://docs.kernel.org/admin-guide/cgroup-v2.html>).
#[derive(Debug)]
struct V2 {
    files: ProcFs,
    dir: String,
}

impl Probe for V2 {
    fn name(&self) -> &'static str {
        "cgroup2"
    }

    fn memory(&mut self, _: &mut Processes, _: &[Process], _: Instant) -> Option<(Memory, bool)> {
        let dir = &self.dir;
        let stat = self.files.text(&format!("{dir}/memory.stat"))?;
        let key = |key| crate::procfs::key_of(&stat, key);
        let swap = self.files.number(&format!("{dir}/memory.swap.current")).unwrap_or(0);
        Some((Memory { rss: key("anon ")?, cache: key("file ")?, swap, ..Memory::default() }, true))
    }

    fn limit(&self) -> Option<u64> {
        let number = |name| self.files.number(&format!("{}/{name}", self.dir));
        number("memory.high").or_else(|| number("memory.max"))
    }
}

/// Version 1 (<https://www.kernel.org/doc/Documentation/cgroup-v1/memory.txt>).
#[derive(Debug)]
struct V1 {
    files: ProcFs,
    dir: String,
}

impl Probe for V1 {
    fn name(&self) -> &'static str {
        "cgroup1"
    }

    fn memory(&mut self, _: &mut Processes, _: &[Process], _: Instant) -> Option<(Memory, bool)> {
        let stat = self.files.text(&format!("{}/memory.stat", self.dir))?;
        let key = |key| crate::procfs::key_of(&stat, key);
        let (rss, cache) = (key("total_rss ")?, key("total_cache ")?);
        let or_none = |name| key(name).unwrap_or(0);
        let memory = Memory {
            rss,
            cache,
            swap: or_none("total_swap "),
            pgpgin: or_none("total_pgpgin "),
            pgpgout: or_none("total_pgpgout "),
        };
        Some((memory, true))
    }

    fn limit(&self) -> Option<u64> {
        self.files.number(&format!("{}/memory.limit_in_bytes", self.dir))
    }
}

/// What a dyno that runs a slug has: its processes.
#[derive(Debug)]
struct OfProcesses;

impl Probe for OfProcesses {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn prefetch(
        &mut self,
        processes: &mut Processes,
        all: &[Process],
        now: Instant,
        alarm: Option<u64>,
    ) -> bool {
        let waits = alarm.is_some_and(|alarm| processes.wait_for_each_other(all, now, alarm));
        !waits && processes.refresh(all, now)
    }

    fn prepare(
        &mut self,
        processes: &mut Processes,
        all: &[Process],
        now: Instant,
        alarm: Option<u64>,
    ) -> bool {
        if alarm.is_some_and(|alarm| processes.wait_for_each_other(all, now, alarm)) {
            processes.refresh_all(all, now, SURE);
            return false;
        }
        processes.refresh(all, now)
    }

    fn memory(&mut self, processes: &mut Processes, all: &[Process], now: Instant) -> Option<(Memory, bool)> {
        let sum = processes.sum(all, now);
        Some((Memory { rss: sum.resident, swap: sum.swapped, ..Memory::default() }, sum.is_exact))
    }

    fn make_sure(&mut self, processes: &mut Processes, all: &[Process], now: Instant) -> Option<Memory> {
        processes.refresh_all(all, now, SURE);
        self.memory(processes, all, now).and_then(|(memory, is_exact)| is_exact.then_some(memory))
    }
}

/// Chooses the probe. A cgroup counts when it is the container's own, that is, the root of what is mounted: on a
/// machine it would be that of a session or a service, and other programs in it.
pub(crate) fn choose(files: &ProcFs) -> Box<dyn Probe> {
    let mounts = files.text("proc/self/mountinfo").unwrap_or_default();
    let own = files.text("proc/self/cgroup").unwrap_or_default();
    let has = |dir: &str, name: &str| files.text(&format!("{dir}/{name}")).is_some();
    if let Some(dir) = own_mount(&mounts, &own, "cgroup2", "")
        // Not in the root of a machine's, labels figures would be the machine's.
        && has(&dir, "memory.current")
        && has(&dir, "memory.stat")
    {
        return Box::new(V2 { files: files.clone(), dir });
    }
    if let Some(dir) = own_mount(&mounts, &own, "cgroup", "memory")
        && has(&dir, "memory.stat")
        // The root of a machine's has no limit.
        && files.number(&format!("{dir}/memory.limit_in_bytes")).is_some_and(|limit| limit <= NONE)
    {
        return Box::new(V1 { files: files.clone(), dir });
    }
    Box::new(OfProcesses)
}

/// The directory, without its first slash, where our cgroup is mounted by itself: the mount's root (field 4 of
/// mountinfo, proc(5)) is our path (field 3 of `/proc/self/cgroup`, cgroups(7)), and no other's.
fn own_mount(mounts: &str, own: &str, kind: &str, controller: &str) -> Option<String> {
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let (mut place, mut what) = (place.split(' ').skip(3), what.split(' '));
        let (root, dir) = (place.next()?, place.next()?);
        let is_kind = what.next()? == kind;
        let options = what.nth(1).unwrap_or_default();
        let is_controller = controller.is_empty() || options.split(',').any(|name| name == controller);
        (is_kind && is_controller && root == path).then(|| dir.trim_start_matches('/').to_owned())
    })
}

#[cfg(test)]
mod tests;
