//! The third line: more than Heroku gives, in its convention, so that no published parser sees anything new in the
//! other two. Traffic is read by sysinfo, labels numbers are the dyno's here: a dyno has interfaces of its own.

use super::processes::Process;
use super::text::SampleLabels;
use crate::procfs::ProcFs;
use std::fmt::Write as _;
use std::time::Duration;
use sysinfo::Networks;

/// Clock ticks, in which `/proc` counts time, as ms.
pub(crate) fn millis(ticks: u64) -> u64 {
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks * 1000 / per_second.ok().flatten().map_or(100, |ticks| ticks.max(1) as u64)
}

/// What is compared from one sample to the next.
#[derive(Debug)]
pub(crate) struct ExtraLine {
    tasks: Option<u64>,
    cpu: Option<[u64; 2]>,
    files: ProcFs,
    networks: Networks,
}

impl ExtraLine {
    /// `tasks` is the cap on processes and threads.
    pub(crate) fn new(tasks: Option<u64>, files: ProcFs) -> Self {
        Self {
            // A cap of a machine is none.
            tasks: tasks.filter(|tasks| *tasks <= 1 << 20),
            cpu: None,
            files,
            networks: Networks::new_with_refreshed_list(),
        }
    }

    /// The line about these processes, `since` the last one.
    pub(crate) fn line(&mut self, labels: &SampleLabels, all: &[Process], since: Duration) -> String {
        let threads: u64 = all.iter().map(|process| u64::from(process.threads)).sum();
        let sum = |which: usize| all.iter().map(|process| process.cpu[which]).sum::<u64>();
        let cpu = [sum(0), sum(1)];
        // What an unknown parent reaped is missing: less than before is nothing.
        let before = self.cpu.replace(cpu).unwrap_or(cpu);
        let spent = [0, 1].map(|which| millis(cpu[which].saturating_sub(before[which])));
        let percent = (spent[0] + spent[1]) * 10_000_000 / (since.as_micros() as u64).max(1);
        let (files, files_max) = self.files(all);
        let (input, output) = self.traffic();
        let mut line = format!(
            "{labels} sample#cpu_user={}ms sample#cpu_system={}ms sample#cpu={}.{:02}% sample#processes={} \
             sample#threads={threads}",
            spent[0],
            spent[1],
            percent / 100,
            percent % 100,
            all.len(),
        );
        if let Some(most) = self.tasks {
            let _infallible = write!(line, " sample#threads_max={most}");
        }
        let _infallible = write!(line, " sample#open_files={files}");
        if let Some(most) = files_max {
            let _infallible = write!(line, " sample#open_files_max={most}");
        }
        let _infallible = write!(line, " sample#received={input}B sample#sent={output}B");
        line
    }

    /// Of the process that has most files open: how many, and its limit.
    fn files(&self, all: &[Process]) -> (u64, Option<u64>) {
        let open = |process: &Process| {
            let dir = self.files.path(&format!("proc/{}/fd", process.pid));
            Some((std::fs::read_dir(dir).ok()?.count() as u64, process.pid))
        };
        let Some((count, pid)) = all.iter().filter_map(open).max() else { return (0, None) };
        (count, self.files.key(&format!("proc/{pid}/limits"), "Max open files"))
    }

    /// Bytes since the last time, over all interfaces but the loopback.
    fn traffic(&mut self) -> (u64, u64) {
        self.networks.refresh(true);
        let outside = self.networks.iter().filter(|(name, _)| *name != "lo");
        outside
            .fold((0, 0), |(input, output), (_, data)| (input + data.received(), output + data.transmitted()))
    }
}
