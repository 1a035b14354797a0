//! The third sample line (`TAILRACE_SAMPLE_MORE`): CPU, processes, threads, open files and traffic, in the platform's
//! syntax but in a line of its own, so that published parsers of the other two lines are not affected. Traffic comes
//! from sysinfo, whose numbers are the dyno's: a dyno has network interfaces of its own.

use super::processes::Process;
use super::text::SampleLabels;
use crate::procfs::{CpuTicks, ProcFs};
use std::fmt::Write as _;
use std::time::Duration;
use sysinfo::Networks;

/// A higher limit on processes and threads is that of a machine, not of a dyno.
const MAX_TASK_LIMIT: u64 = 1 << 20;

/// Clock ticks, the unit of time in `/proc`, as milliseconds.
pub(crate) fn millis(ticks: u64) -> u64 {
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks * 1000 / per_second.ok().flatten().map_or(100, |ticks| ticks.max(1) as u64)
}

/// Writes the third line, and keeps what the next one is compared with.
#[derive(Debug)]
pub(crate) struct ExtraLine {
    task_limit: Option<u64>,
    /// CPU time of all processes at the last sample.
    last_cpu: Option<CpuTicks>,
    procfs: ProcFs,
    networks: Networks,
}

/// The process with the most open files.
struct OpenFiles {
    count: u64,
    limit: Option<u64>,
}

/// Bytes received and sent since the last sample.
struct Traffic {
    received: u64,
    sent: u64,
}

impl ExtraLine {
    /// `task_limit` is the limit on processes and threads.
    pub(crate) fn new(task_limit: Option<u64>, procfs: ProcFs) -> Self {
        Self {
            task_limit: task_limit.filter(|tasks| *tasks <= MAX_TASK_LIMIT),
            last_cpu: None,
            procfs,
            networks: Networks::new_with_refreshed_list(),
        }
    }

    /// The line about these processes, `elapsed` after the last one.
    pub(crate) fn line(&mut self, labels: &SampleLabels, all: &[Process], elapsed: Duration) -> String {
        let threads: u64 = all.iter().map(|process| u64::from(process.threads)).sum();
        let sum = |ticks: fn(&CpuTicks) -> u64| {
            all.iter().map(|process| ticks(&process.cpu) + ticks(&process.children_cpu)).sum::<u64>()
        };
        let cpu = CpuTicks { user: sum(|ticks| ticks.user), system: sum(|ticks| ticks.system) };
        // The sum may shrink: the time of a process is lost when a process outside of the list reaps it.
        let last = self.last_cpu.replace(cpu).unwrap_or(cpu);
        let user = millis(cpu.user.saturating_sub(last.user));
        let system = millis(cpu.system.saturating_sub(last.system));
        let percent_hundredths = (user + system) * 10_000_000 / (elapsed.as_micros() as u64).max(1);
        let open_files = self.open_files(all);
        let traffic = self.traffic();
        let mut line = format!(
            "{labels} sample#cpu_user={user}ms sample#cpu_system={system}ms sample#cpu={}.{:02}% sample#processes={} \
             sample#threads={threads}",
            percent_hundredths / 100,
            percent_hundredths % 100,
            all.len(),
        );
        if let Some(limit) = self.task_limit {
            write!(line, " sample#threads_max={limit}").ok(); // writing to a String cannot fail, here and below
        }
        write!(line, " sample#open_files={}", open_files.count).ok();
        if let Some(limit) = open_files.limit {
            write!(line, " sample#open_files_max={limit}").ok();
        }
        write!(line, " sample#received={}B sample#sent={}B", traffic.received, traffic.sent).ok();
        line
    }

    fn open_files(&self, all: &[Process]) -> OpenFiles {
        let count = |process: &Process| {
            let dir = self.procfs.path(&format!("proc/{}/fd", process.pid));
            Some((std::fs::read_dir(dir).ok()?.count() as u64, process.pid))
        };
        let Some((count, pid)) = all.iter().filter_map(count).max() else {
            return OpenFiles { count: 0, limit: None };
        };
        let limit = self.procfs.value(&format!("proc/{pid}/limits"), "Max open files");
        OpenFiles { count, limit }
    }

    /// The traffic over all interfaces but the loopback.
    fn traffic(&mut self) -> Traffic {
        self.networks.refresh(true);
        let mut traffic = Traffic { received: 0, sent: 0 };
        for (_, data) in self.networks.iter().filter(|(name, _)| *name != "lo") {
            traffic.received += data.received();
            traffic.sent += data.transmitted();
        }
        traffic
    }
}
