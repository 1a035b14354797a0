//! The processes of the dyno, as `/proc` shows them (proc(5), procfs(5)).

use crate::procfs::{ProcFs, ProcessStat, key_of};
use nix::time::ClockId;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

/// Threads labels state is looked up one by one, in one sample at most. Beyond, a process counts by its main thread.
const THREADS: u32 = 1000;
/// A process's share of memory is read again after this time at the earliest, because reading it takes a lock that
/// the process may be waiting for.
const AGAIN: Duration = Duration::from_mins(1);
/// And after so many times the CPU time that reading it took; what it took to come to a core is nobody's burden.
const SPARING: u32 = 1000;
/// The pid namespace of a machine, which has this fixed number (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const MACHINE: &str = "pid:[4026531836]";

/// Bytes of a page: 4 KiB where Heroku counts in pages; the kernel counts in its own.
fn page() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().map_or(4096, |size| size as u64)
}

/// What this thread has used of a core.
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
    /// Resident, in bytes; what is shared counts in full.
    resident: u64,
    /// User and system time of it and of its children that ended, in clock ticks.
    pub(crate) cpu: [u64; 2],
    /// The same of it alone, together.
    pub(crate) own_cpu: u64,
    /// When it started, in clock ticks: tells two processes with one pid apart.
    start: u64,
}

impl Process {
    /// Reads a line of `/proc/<pid>/stat`.
    fn parse(text: &str, page: u64) -> Option<Self> {
        let stat = ProcessStat::parse(text)?;
        Some(Self {
            pid: stat.pid,
            parent: stat.parent,
            is_runnable: stat.is_runnable(),
            threads: stat.threads,
            resident: stat.resident_pages.saturating_mul(page),
            cpu: [stat.cpu.user + stat.children_cpu.user, stat.cpu.system + stat.children_cpu.system],
            own_cpu: stat.cpu.user + stat.cpu.system,
            start: stat.start,
        })
    }
}

/// Which of the processes that `/proc` shows are the dyno's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// All: it shows a container.
    All,
    /// Those that come from the app: it shows a machine.
    OfTheApp,
}

/// SampleLabels processes are not counted, and labels are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessFilter {
    /// The app.
    pub(crate) app: i32,
    /// The agent's own processes; 0 for none.
    pub(crate) agent: [i32; 2],
}

/// What is known of a process's share of memory.
#[derive(Clone, Copy, Debug)]
struct Share {
    start: u64,
    /// Its part of what it shares, and all that it does not share, in bytes.
    proportional: u64,
    swapped: u64,
    /// What was resident then.
    resident: u64,
    /// It could be read; else all that is resident stands for it.
    is_sure: bool,
    read: Instant,
    again: Duration,
}

impl Share {
    /// Bytes of the process that are resident and swapped out, by what is resident now.
    fn forward(&self, process: &Process) -> (u64, u64) {
        ((self.proportional + process.resident).saturating_sub(self.resident), self.swapped)
    }
}

/// A sum over processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Resident, in bytes.
    pub(crate) resident: u64,
    /// Swapped out, in bytes.
    pub(crate) swapped: u64,
    /// Every part of it was read at this moment.
    pub(crate) is_exact: bool,
}

/// The dyno's processes.
#[derive(Debug)]
pub(crate) struct Processes {
    files: ProcFs,
    scope: Scope,
    page: u64,
    shares: HashMap<i32, Share>,
    text: String,
}

impl Processes {
    /// Those that `/proc` below this root shows.
    pub(crate) fn new(files: ProcFs) -> Self {
        let namespace = std::fs::read_link(files.path("proc/self/ns/pid"));
        let is_machine = namespace.is_ok_and(|name| name.as_os_str() == MACHINE);
        let scope = if is_machine { Scope::OfTheApp } else { Scope::All };
        Self { files, scope, page: page(), shares: HashMap::new(), text: String::new() }
    }

    fn read(&mut self, name: &str) -> Option<&str> {
        self.text.clear();
        File::open(self.files.path(name)).ok()?.read_to_string(&mut self.text).ok()?;
        Some(&self.text)
    }

    /// One process.
    pub(crate) fn one(&mut self, pid: i32) -> Option<Process> {
        let page = self.page;
        self.read(&format!("proc/{pid}/stat")).and_then(|text| Process::parse(text, page))
    }

    /// All processes of the dyno but the agent's.
    pub(crate) fn list(&mut self, who: ProcessFilter) -> Vec<Process> {
        let Ok(entries) = std::fs::read_dir(self.files.path("proc")) else { return Vec::new() };
        let pids: Vec<i32> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        // One that ended meanwhile is none.
        let mut all: Vec<Process> = pids.into_iter().filter_map(|pid| self.one(pid)).collect();
        if self.scope == Scope::OfTheApp {
            keep_descendants(&mut all, who.app);
        }
        all.retain(|process| !who.agent.contains(&process.pid));
        all
    }

    /// How many threads of these processes run or could.
    pub(crate) fn runnable(&mut self, all: &[Process]) -> u32 {
        let (mut left, mut count) = (THREADS, 0);
        for process in all {
            if process.threads <= 1 || process.threads > left {
                count += u32::from(process.is_runnable);
                continue;
            }
            left -= process.threads;
            let dir = format!("proc/{}/task", process.pid);
            let Ok(entries) = std::fs::read_dir(self.files.path(&dir)) else { continue };
            for entry in entries.flatten() {
                let name = format!("{dir}/{}/stat", entry.file_name().to_string_lossy());
                let state = self.read(&name).and_then(ProcessStat::state_in);
                count += u32::from(state == Some(b'R'));
            }
        }
        count
    }

    /// Reads the share of one process: of one that was never read, else of the one that waited longest. Says
    /// whether another one was never read.
    pub(crate) fn refresh(&mut self, all: &[Process], now: Instant) -> bool {
        let pids: HashSet<i32> = all.iter().map(|process| process.pid).collect();
        self.shares.retain(|pid, _| pids.contains(pid));
        let mut unknown = all.iter().filter(|process| self.share(process).is_none());
        if let Some(process) = unknown.next() {
            let more = unknown.next().is_some();
            self.refresh_one(process, now);
            return more;
        }
        let due = |process: &&Process| self.due(process).is_some_and(|due| due <= now);
        let oldest = all.iter().filter(due).min_by_key(|process| self.due(process)).copied();
        if let Some(process) = oldest {
            self.refresh_one(&process, now);
        }
        false
    }

    fn due(&self, process: &Process) -> Option<Instant> {
        self.shares.get(&process.pid).map(|share| share.read + share.again)
    }

    fn refresh_one(&mut self, process: &Process, now: Instant) {
        let start = cpu_time();
        let dir = format!("proc/{}", process.pid);
        let bytes = |text: &str, key: &str| key_of(text, key).map(|kib| kib << 10);
        let rollup = self.read(&format!("{dir}/smaps_rollup")).and_then(|text| bytes(text, "Pss:"));
        let status = self.read(&format!("{dir}/status"));
        let swapped = status.and_then(|text| bytes(text, "VmSwap:")).unwrap_or(0);
        let share = Share {
            start: process.start,
            // Not ours to read: all that is resident.
            proportional: rollup.unwrap_or(process.resident),
            swapped,
            resident: process.resident,
            is_sure: rollup.is_some(),
            read: now,
            again: AGAIN.max(cpu_time().saturating_sub(start).saturating_mul(SPARING)),
        };
        self.shares.insert(process.pid, share);
    }

    /// What they take together: by the shares that are known, carried forward by what is resident now.
    pub(crate) fn sum(&self, all: &[Process], now: Instant) -> Sum {
        let mut sum = Sum { is_exact: true, ..Sum::default() };
        for process in all {
            let share = self.share(process);
            let (resident, swapped) = share.map_or((process.resident, 0), |share| share.forward(process));
            sum.resident += resident;
            sum.swapped += swapped;
            sum.is_exact &= share.is_some_and(|share| share.read == now && share.is_sure);
        }
        sum
    }

    /// Whether shares are to be read together, in one sample, or not at all: read one by one at different times, they
    /// could never make a sum that nobody can doubt. So it is when what is known is more than `alarm` bytes, or may
    /// be, and all may be read now.
    pub(crate) fn wait_for_each_other(&self, all: &[Process], now: Instant, alarm: u64) -> bool {
        let (mut known, mut at_most, mut are_due) = (0, 0, true);
        for process in all {
            let share = self.share(process);
            let bytes =
                share.map(|share| share.forward(process)).map(|(resident, swapped)| resident + swapped);
            known += bytes.unwrap_or(0);
            at_most += bytes.unwrap_or(process.resident);
            are_due &= share.is_none_or(|share| share.read + share.again <= now);
        }
        known > alarm || (at_most > alarm && are_due)
    }

    fn share(&self, process: &Process) -> Option<&Share> {
        self.shares.get(&process.pid).filter(|share| share.start == process.start)
    }

    /// Reads the shares of all, for a sum that nobody can doubt; not when one of them was read a moment ago. Ends
    /// after `most`, with those that waited longest.
    pub(crate) fn refresh_all(&mut self, all: &[Process], now: Instant, most: Duration) {
        let start = Instant::now();
        let due = |process: &Process| self.share(process).map(|share| share.read + share.again);
        let is_fresh = |process: &Process| self.share(process).is_some_and(|share| share.read == now);
        let mut left: Vec<_> = all.iter().filter(|process| !is_fresh(process)).map(|p| (due(p), p)).collect();
        if left.iter().any(|(due, _)| due.is_some_and(|due| due > now)) {
            return;
        }
        left.sort_unstable_by_key(|(due, _)| *due);
        for (_, process) in left {
            if start.elapsed() > most {
                return;
            }
            self.refresh_one(process, now);
        }
    }
}

/// Keeps a process and all that come from it.
pub(crate) fn keep_descendants(all: &mut Vec<Process>, ancestor: i32) {
    let mut kept = HashSet::from([ancestor]);
    // A child stands behind its parent mostly, so one or two rounds find all.
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
