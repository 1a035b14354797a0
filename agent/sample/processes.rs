//! The dyno's processes, from `/proc` (proc(5), procfs(5)).

use crate::procfs::{CpuTicks, ProcFs, ProcessStat, value_of};
use nix::time::ClockId;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

/// At most this many threads have their state read one by one in a sample. Beyond, a process counts by its main thread.
const MAX_THREADS_READ: u32 = 1000;
/// The memory of a process is read at most once in this time, because the kernel holds a lock meanwhile that the process
/// may need.
const MIN_READ_INTERVAL: Duration = Duration::from_mins(1);
/// And at most once in this many times the CPU time that the last reading took. Time spent waiting for a CPU does not
/// count: it burdens no process.
const READ_COST_FACTOR: u32 = 1000;
/// The pid namespace of a machine, which has this fixed number (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const HOST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Bytes of a page, the unit of the kernel's numbers.
fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().map_or(4096, |size| size as u64)
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from)
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    parent: i32,
    is_runnable: bool,
    pub(crate) threads: u32,
    /// Resident memory in bytes; shared pages count in full.
    resident: u64,
    /// Its CPU time.
    pub(crate) cpu: CpuTicks,
    /// The CPU time of its children that ended.
    pub(crate) children_cpu: CpuTicks,
    /// Start time in clock ticks: distinguishes processes that had the same pid.
    start: u64,
}

impl Process {
    /// Parses a line of `/proc/<pid>/stat`.
    fn parse(text: &str, page_bytes: u64) -> Option<Self> {
        let stat = ProcessStat::parse(text)?;
        Some(Self {
            pid: stat.pid,
            parent: stat.parent,
            is_runnable: stat.is_runnable(),
            threads: stat.threads,
            resident: stat.resident_pages.saturating_mul(page_bytes),
            cpu: stat.cpu,
            children_cpu: stat.children_cpu,
            start: stat.start,
        })
    }
}

/// Which of the processes in `/proc` are the dyno's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// All: `/proc` shows a container.
    All,
    /// The app and its descendants: `/proc` shows a machine.
    AppOnly,
}

/// Which processes are listed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessFilter {
    /// Pid of the app. On a machine, it and its descendants are listed.
    pub(crate) app: i32,
    /// Pids of the agent's processes, which are never listed; 0 for none.
    pub(crate) agent: [i32; 2],
}

/// The last reading of a process's memory.
#[derive(Clone, Copy, Debug)]
struct MemoryRecord {
    /// Start time of the process that was read.
    start: u64,
    /// Proportional set size in bytes: unshared pages, and its part of shared ones.
    proportional: u64,
    swapped: u64,
    /// Resident memory at the time of the reading.
    resident: u64,
    /// Whether `proportional` could be read; else it is all resident memory.
    is_measured: bool,
    read_at: Instant,
    next_read: Instant,
}

impl MemoryRecord {
    /// Estimates the memory at present from what is resident now: bytes resident and bytes swapped out.
    fn estimate(&self, process: &Process) -> (u64, u64) {
        ((self.proportional + process.resident).saturating_sub(self.resident), self.swapped)
    }
}

/// Memory of several processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Resident, in bytes.
    pub(crate) resident: u64,
    /// Swapped out, in bytes.
    pub(crate) swapped: u64,
    /// Whether every part was measured at this moment.
    pub(crate) is_exact: bool,
}

/// The dyno's processes and what is known of their memory.
#[derive(Debug)]
pub(crate) struct Processes {
    procfs: ProcFs,
    scope: Scope,
    page_bytes: u64,
    /// By pid.
    records: HashMap<i32, MemoryRecord>,
    /// Contents of the file that was read last.
    text: String,
}

impl Processes {
    /// The processes in `/proc`.
    pub(crate) fn new(procfs: ProcFs) -> Self {
        let namespace = std::fs::read_link(procfs.path("proc/self/ns/pid"));
        let is_machine = namespace.is_ok_and(|name| name.as_os_str() == HOST_PID_NAMESPACE);
        let scope = if is_machine { Scope::AppOnly } else { Scope::All };
        Self { procfs, scope, page_bytes: page_bytes(), records: HashMap::new(), text: String::new() }
    }

    fn read(&mut self, name: &str) -> Option<&str> {
        self.text.clear();
        File::open(self.procfs.path(name)).ok()?.read_to_string(&mut self.text).ok()?;
        Some(&self.text)
    }

    /// One process; none when it does not exist.
    pub(crate) fn get(&mut self, pid: i32) -> Option<Process> {
        let page_bytes = self.page_bytes;
        self.read(&format!("proc/{pid}/stat")).and_then(|text| Process::parse(text, page_bytes))
    }

    /// All processes of the dyno but the agent's.
    pub(crate) fn list(&mut self, filter: ProcessFilter) -> Vec<Process> {
        let Ok(entries) = std::fs::read_dir(self.procfs.path("proc")) else { return Vec::new() };
        let pids: Vec<i32> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let mut all: Vec<Process> = pids.into_iter().filter_map(|pid| self.get(pid)).collect();
        if self.scope == Scope::AppOnly {
            keep_descendants(&mut all, filter.app);
        }
        all.retain(|process| !filter.agent.contains(&process.pid));
        all
    }

    /// How many threads of these processes run or wait for a CPU.
    pub(crate) fn runnable(&mut self, all: &[Process]) -> u32 {
        let (mut left, mut count) = (MAX_THREADS_READ, 0);
        for process in all {
            if process.threads <= 1 || process.threads > left {
                count += u32::from(process.is_runnable);
                continue;
            }
            left -= process.threads;
            let dir = format!("proc/{}/task", process.pid);
            let Ok(entries) = std::fs::read_dir(self.procfs.path(&dir)) else { continue };
            for entry in entries.flatten() {
                let name = format!("{dir}/{}/stat", entry.file_name().to_string_lossy());
                let state = self.read(&name).and_then(ProcessStat::parse_state);
                count += u32::from(state == Some(b'R'));
            }
        }
        count
    }

    /// Reads the memory of one process: one that was never read, else the one whose next reading is longest due.
    /// Returns whether there is another process that was never read.
    pub(crate) fn refresh(&mut self, all: &[Process], now: Instant) -> bool {
        let pids: HashSet<i32> = all.iter().map(|process| process.pid).collect();
        self.records.retain(|pid, _| pids.contains(pid));
        let mut unread = all.iter().filter(|process| self.record(process).is_none());
        if let Some(process) = unread.next() {
            let has_more = unread.next().is_some();
            self.refresh_one(process, now);
            return has_more;
        }
        let is_due = |process: &&Process| self.next_read(process).is_some_and(|due| due <= now);
        let longest_due = all.iter().filter(is_due).min_by_key(|process| self.next_read(process)).copied();
        if let Some(process) = longest_due {
            self.refresh_one(&process, now);
        }
        false
    }

    fn record(&self, process: &Process) -> Option<&MemoryRecord> {
        self.records.get(&process.pid).filter(|record| record.start == process.start)
    }

    fn next_read(&self, process: &Process) -> Option<Instant> {
        self.record(process).map(|record| record.next_read)
    }

    fn refresh_one(&mut self, process: &Process, now: Instant) {
        let start = cpu_time();
        let dir = format!("proc/{}", process.pid);
        let bytes = |text: &str, key: &str| value_of(text, key).map(|kib| kib << 10);
        let proportional = self.read(&format!("{dir}/smaps_rollup")).and_then(|text| bytes(text, "Pss:"));
        let status = self.read(&format!("{dir}/status"));
        let swapped = status.and_then(|text| bytes(text, "VmSwap:")).unwrap_or(0);
        let cost = cpu_time().saturating_sub(start);
        let record = MemoryRecord {
            start: process.start,
            // Not readable by us (another user's process): all resident memory stands for it.
            proportional: proportional.unwrap_or(process.resident),
            swapped,
            resident: process.resident,
            is_measured: proportional.is_some(),
            read_at: now,
            next_read: now + MIN_READ_INTERVAL.max(cost.saturating_mul(READ_COST_FACTOR)),
        };
        self.records.insert(process.pid, record);
    }

    /// The memory of all these processes, from the last readings and what is resident now.
    pub(crate) fn sum(&self, all: &[Process], now: Instant) -> Sum {
        let mut sum = Sum { is_exact: true, ..Sum::default() };
        for process in all {
            let record = self.record(process);
            let (resident, swapped) = record.map_or((process.resident, 0), |record| record.estimate(process));
            sum.resident += resident;
            sum.swapped += swapped;
            sum.is_exact &= record.is_some_and(|record| record.read_at == now && record.is_measured);
        }
        sum
    }

    /// The memory of those that were measured at this moment: the dyno has at least that, also where a process of another
    /// user cannot be read.
    pub(crate) fn measured_sum(&self, all: &[Process], now: Instant) -> Sum {
        let is_measured = |process: &&Process| {
            self.record(process).is_some_and(|record| record.read_at == now && record.is_measured)
        };
        let measured: Vec<Process> = all.iter().filter(is_measured).copied().collect();
        self.sum(&measured, now)
    }

    /// Whether all processes have to be read at the same time, in a sample, because readings at different times never
    /// make an exact sum. True when the sum by the last readings exceeds `alarm_limit`; also when it may exceed it (some
    /// processes were never read) and all may be read now.
    pub(crate) fn needs_exact_read(&self, all: &[Process], now: Instant, alarm_limit: u64) -> bool {
        let (mut known, mut upper_bound, mut are_all_due) = (0, 0, true);
        for process in all {
            let record = self.record(process);
            let estimate = record.map(|record| record.estimate(process));
            let bytes = estimate.map(|(resident, swapped)| resident + swapped);
            known += bytes.unwrap_or(0);
            upper_bound += bytes.unwrap_or(process.resident);
            are_all_due &= record.is_none_or(|record| record.next_read <= now);
        }
        known > alarm_limit || (upper_bound > alarm_limit && are_all_due)
    }

    /// Reads the memory of all processes, for an exact sum; reads nothing when one of them was read too recently. Stops
    /// after `timeout`; the longest due are read first.
    pub(crate) fn refresh_all(&mut self, all: &[Process], now: Instant, timeout: Duration) {
        let start = Instant::now();
        let is_current = |process: &Process| self.record(process).is_some_and(|record| record.read_at == now);
        let mut outdated: Vec<_> = all
            .iter()
            .filter(|process| !is_current(process))
            .map(|process| (self.next_read(process), process))
            .collect();
        if outdated.iter().any(|(due, _)| due.is_some_and(|due| due > now)) {
            return;
        }
        outdated.sort_unstable_by_key(|(due, _)| *due);
        for (_, process) in outdated {
            if start.elapsed() > timeout {
                return;
            }
            self.refresh_one(process, now);
        }
    }
}

/// Keeps the process `ancestor` and its descendants.
pub(crate) fn keep_descendants(all: &mut Vec<Process>, ancestor: i32) {
    let mut kept = HashSet::from([ancestor]);
    // Children mostly follow their parents in the list, so one or two passes find all.
    loop {
        let before = kept.len();
        kept.extend(
            all.iter()
                .filter(|process| kept.contains(&process.parent))
                .map(|process| process.pid)
                .collect::<Vec<_>>(),
        );
        if kept.len() == before {
            break;
        }
    }
    all.retain(|process| kept.contains(&process.pid));
}

#[cfg(test)]
mod tests;
