//! Runtime samples: the dyno's load and memory, in the lines of Heroku's log-runtime-metrics, which published
//! dashboards parse (Dev Center "Log Runtime Metrics"). Heroku itself samples every 20 s on Cedar, and not on Fir.

mod extra;
mod load;
mod memory_alarm;
mod probe;
mod processes;
mod quota;
mod text;

use crate::config::Config;
use crate::frame::{AgentLine, AgentLineKind};
use crate::procfs::ProcFs;
use extra::ExtraLine;
use load::Load;
use memory_alarm::Alarm;
use probe::Probe;
use processes::{Process, ProcessFilter, Processes};
use std::path::Path;
use std::time::{Duration, Instant};
use text::SampleLabels;

/// What is sampled, and how it is told.
#[derive(Clone, Debug)]
pub struct SamplerSettings {
    /// `$DYNO`.
    pub dyno: String,
    /// `HEROKU_DYNO_ID`, where there is one.
    pub dyno_id: Option<String>,
    /// The quota that somebody set, in bytes.
    pub quota: Option<u64>,
    /// A third line.
    pub more: bool,
    /// R14 and R15.
    pub alarms: bool,
}

impl SamplerSettings {
    /// What these settings ask for.
    pub fn of(config: &Config) -> Self {
        Self {
            dyno: config.dyno.clone(),
            dyno_id: config.dyno_id.clone(),
            quota: config.memory_quota,
            more: config.sample_more,
            alarms: config.lifecycle,
        }
    }
}

/// Takes samples of this dyno.
#[derive(Debug)]
pub struct Sampler {
    settings: SamplerSettings,
    labels: SampleLabels,
    processes: Processes,
    probe: Box<dyn Probe>,
    quota: Option<(u64, &'static str)>,
    load: Load,
    last: Option<Instant>,
    more: Option<ExtraLine>,
}

/// What one look brought.
#[derive(Debug, Default)]
pub struct Sample {
    /// Its lines.
    pub lines: Vec<AgentLine>,
    /// Something is not known yet: another look at the memory soon makes the next sample better.
    pub needs_prefetch: bool,
}

impl Sampler {
    /// Looks at what there is, once. Nothing is sampled yet.
    pub fn new(settings: SamplerSettings) -> Self {
        Self::below(Path::new("/"), settings)
    }

    fn below(root: &Path, settings: SamplerSettings) -> Self {
        let files = ProcFs::below(root);
        let probe = probe::choose(&files);
        let tasks = tasks();
        Self {
            quota: quota::quota(settings.quota, &files, probe.limit(), tasks),
            labels: SampleLabels {
                source: settings.dyno.clone(),
                uuid: uuid(settings.dyno_id.as_deref(), &files),
            },
            more: settings.more.then(|| ExtraLine::new(tasks, files.clone())),
            processes: Processes::new(files),
            load: Load::default(),
            last: None,
            probe,
            settings,
        }
    }

    /// What is sampled and how: `processes`, `cgroup2`; and the quota.
    pub fn describe(&self) -> String {
        let quota = self.quota.map_or_else(
            || "no quota".to_owned(),
            |(bytes, from)| format!("quota {} MB by {from}", bytes >> 20),
        );
        format!("{}, {quota}", self.probe.name())
    }

    /// What is sampled, in one word.
    pub fn probe(&self) -> &'static str {
        self.probe.name()
    }

    /// Looks at the memory only, so that the next sample knows more of it. True when it should be done again soon.
    pub fn prefetch(&mut self, app: i32, agent: [i32; 2]) -> bool {
        self.prefetch_at(app, agent, Instant::now())
    }

    fn prefetch_at(&mut self, app: i32, agent: [i32; 2], now: Instant) -> bool {
        let all = self.processes.list(ProcessFilter { app, agent });
        let alarm = self.alarm_above();
        self.probe.prefetch(&mut self.processes, &all, now, alarm)
    }

    /// Memory above this many bytes is an alarm.
    fn alarm_above(&self) -> Option<u64> {
        self.quota.filter(|_| self.settings.alarms).map(|(bytes, _)| bytes)
    }

    /// A sample of the app with this pid and what came of it, without the processes of the agent.
    pub fn sample(&mut self, app: i32, agent: [i32; 2]) -> Sample {
        self.sample_at(app, agent, Instant::now())
    }

    fn sample_at(&mut self, app: i32, agent: [i32; 2], now: Instant) -> Sample {
        let all = self.processes.list(ProcessFilter { app, agent });
        let runnable = self.processes.runnable(&all);
        let since = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.load.add(runnable, since);
        let alarm = self.alarm_above();
        let needs_prefetch = self.probe.prepare(&mut self.processes, &all, now, alarm);
        let mut lines = vec![AgentLine::new(AgentLineKind::Sample, text::load(&self.labels, &self.load))];
        if let Some((memory, is_sure)) = self.probe.memory(&mut self.processes, &all, now) {
            let quota = self.quota.map(|(bytes, _)| bytes);
            lines.push(AgentLine::new(AgentLineKind::Sample, text::memory(&self.labels, &memory, quota)));
            lines.extend(self.alarm(&memory, is_sure, &all, now));
        }
        if let Some(more) = &mut self.more {
            lines.insert(
                2.min(lines.len()),
                AgentLine::new(AgentLineKind::Sample, more.line(&self.labels, &all, since)),
            );
        }
        Sample { lines, needs_prefetch }
    }

    /// R14 and R15, of a figure that nobody can doubt: a false alarm wakes people.
    fn alarm(
        &mut self,
        seen: &probe::Memory,
        is_sure: bool,
        all: &[Process],
        now: Instant,
    ) -> Vec<AgentLine> {
        let Some(quota) = self.alarm_above() else { return Vec::new() };
        if memory_alarm::of(seen, quota) == Alarm::Well {
            return Vec::new();
        }
        let sure = if is_sure { Some(*seen) } else { self.probe.make_sure(&mut self.processes, all, now) };
        let Some(memory) = sure else { return Vec::new() };
        let lines = memory_alarm::of(&memory, quota).lines(&memory, quota);
        lines.into_iter().map(|line| AgentLine::new(AgentLineKind::Lifecycle, line)).collect()
    }
}

/// The dyno's memory in bytes; `set` is what somebody set.
pub fn quota(set: Option<u64>) -> Option<u64> {
    let files = ProcFs::below(Path::new("/"));
    quota::quota(set, &files, probe::choose(&files).limit(), tasks()).map(|(bytes, _)| bytes)
}

/// The cap on processes and threads.
fn tasks() -> Option<u64> {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC);
    limit.ok().map(|(soft, _)| soft)
}

/// What these processes cost together: bytes of memory, what is shared in proportion, and ms of CPU.
pub fn cost(pids: [i32; 2]) -> (u64, u64) {
    let files = ProcFs::below(Path::new("/"));
    let mut processes = Processes::new(files.clone());
    let mut cost = (0, 0);
    for pid in pids.into_iter().filter(|pid| *pid > 0) {
        cost.0 += files.key(&format!("proc/{pid}/smaps_rollup"), "Pss:").unwrap_or(0) << 10;
        cost.1 += processes.one(pid).map_or(0, |process| extra::millis(process.own_cpu));
    }
    cost
}

/// Bytes as the lines show them: `3.48MB`, of 2^20 bytes.
pub fn megabytes(bytes: u64) -> String {
    text::Mb(bytes).to_string()
}

/// The dyno's UUID: its own where it can be known, else one that is made now.
fn uuid(given: Option<&str>, files: &ProcFs) -> String {
    let is_uuid = |text: &str| {
        let is_plain = text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        text.len() == 36 && is_plain
    };
    let host = || files.text("proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let made = || files.text("proc/sys/kernel/random/uuid").map(|uuid| uuid.trim().to_owned());
    let known = given.map(str::to_owned).filter(|id| is_uuid(id));
    known
        .or_else(|| host().filter(|name| is_uuid(name)))
        .or_else(made)
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests;
