//! Runtime samples: the dyno's load and memory as lines of Heroku's log-runtime-metrics, which published dashboards
//! parse (Dev Center "Log Runtime Metrics"). Heroku itself samples every 20 s on Cedar, and not on Fir.

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
use probe::{Probe, Reading};
use processes::{Process, ProcessFilter, Processes};
use quota::Quota;
use std::path::Path;
use std::time::{Duration, Instant};
use text::SampleLabels;

/// What is sampled, and which lines are written.
#[derive(Clone, Debug)]
pub struct SamplerSettings {
    /// `$DYNO`.
    pub dyno: String,
    /// `HEROKU_DYNO_ID`, where it is set.
    pub dyno_id: Option<String>,
    /// The configured quota, in bytes.
    pub quota: Option<u64>,
    /// Write the third line, too.
    pub extra: bool,
    /// Write R14 and R15.
    pub alarms: bool,
}

impl SamplerSettings {
    /// The sampler's part of the settings.
    pub fn of(config: &Config) -> Self {
        Self {
            dyno: config.dyno.clone(),
            dyno_id: config.dyno_id.clone(),
            quota: config.memory_quota,
            extra: config.sample_extra,
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
    quota: Option<Quota>,
    load: Load,
    last_sample: Option<Instant>,
    extra: Option<ExtraLine>,
}

/// One sample.
#[derive(Debug, Default)]
pub struct Sample {
    /// Its lines.
    pub lines: Vec<AgentLine>,
    /// The memory of some processes was not read yet: [`Sampler::prefetch`] should be called soon.
    pub needs_prefetch: bool,
}

impl Sampler {
    /// Chooses where to read memory and quota. Takes no sample.
    pub fn new(settings: SamplerSettings) -> Self {
        Self::below(Path::new("/"), settings)
    }

    fn below(root: &Path, settings: SamplerSettings) -> Self {
        let procfs = ProcFs::below(root);
        let probe = probe::choose(&procfs);
        let task_limit = task_limit();
        Self {
            quota: Quota::find(settings.quota, &procfs, probe.limit(), task_limit),
            labels: SampleLabels {
                source: settings.dyno.clone(),
                uuid: dyno_uuid(settings.dyno_id.as_deref(), &procfs),
            },
            extra: settings.extra.then(|| ExtraLine::new(task_limit, procfs.clone())),
            processes: Processes::new(procfs),
            load: Load::default(),
            last_sample: None,
            probe,
            settings,
        }
    }

    /// The source of the memory usage (`processes`, `cgroup2`), and the quota with its source.
    pub fn describe(&self) -> String {
        let quota = self.quota.map_or_else(
            || "no quota".to_owned(),
            |quota| format!("quota {} MB by {}", quota.bytes >> 20, quota.source),
        );
        format!("{}, {quota}", self.probe.name())
    }

    /// The source of the memory usage: `processes`, `cgroup1` or `cgroup2`.
    pub fn probe(&self) -> &'static str {
        self.probe.name()
    }

    /// Reads a part of the memory usage in advance of the next sample. Returns whether it should be called again soon.
    /// Parameters as for [`Sampler::sample`].
    pub fn prefetch(&mut self, app: i32, agent: [i32; 2]) -> bool {
        self.prefetch_at(app, agent, Instant::now())
    }

    fn prefetch_at(&mut self, app: i32, agent: [i32; 2], now: Instant) -> bool {
        let all = self.processes.list(ProcessFilter { app, agent });
        let alarm_limit = self.alarm_limit();
        self.probe.prefetch(&mut self.processes, &all, now, alarm_limit)
    }

    /// Memory above this many bytes raises an alarm.
    fn alarm_limit(&self) -> Option<u64> {
        self.quota.filter(|_| self.settings.alarms).map(|quota| quota.bytes)
    }

    /// Takes a sample. `app` is the app's pid; `agent` are the pids of the agent's processes, which do not count (0 for
    /// none).
    pub fn sample(&mut self, app: i32, agent: [i32; 2]) -> Sample {
        self.sample_at(app, agent, Instant::now())
    }

    fn sample_at(&mut self, app: i32, agent: [i32; 2], now: Instant) -> Sample {
        let all = self.processes.list(ProcessFilter { app, agent });
        let runnable = self.processes.runnable(&all);
        let elapsed = self.last_sample.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.load.add(runnable, elapsed);
        let alarm_limit = self.alarm_limit();
        let needs_prefetch = self.probe.prepare(&mut self.processes, &all, now, alarm_limit);
        let mut lines = vec![AgentLine::new(AgentLineKind::Sample, text::load(&self.labels, &self.load))];
        let mut alarms = Vec::new();
        if let Some(reading) = self.probe.memory(&mut self.processes, &all, now) {
            let quota = self.quota.map(|quota| quota.bytes);
            let line = text::memory(&self.labels, &reading.memory, quota);
            lines.push(AgentLine::new(AgentLineKind::Sample, line));
            alarms = self.alarm_lines(reading, &all, now);
        }
        if let Some(extra) = &mut self.extra {
            lines.push(AgentLine::new(AgentLineKind::Sample, extra.line(&self.labels, &all, elapsed)));
        }
        lines.extend(alarms);
        Sample { lines, needs_prefetch }
    }

    /// R14 and R15. They need what is certain, because a false alarm wakes people.
    fn alarm_lines(&mut self, reading: Reading, all: &[Process], now: Instant) -> Vec<AgentLine> {
        let Some(quota) = self.alarm_limit() else { return Vec::new() };
        if Alarm::for_usage(&reading.memory, quota).is_none() {
            return Vec::new();
        }
        let memory = if reading.is_exact {
            Some(reading.memory)
        } else {
            self.probe.exact_memory(&mut self.processes, all, now)
        };
        let lines = memory.and_then(|memory| Some(Alarm::for_usage(&memory, quota)?.lines(&memory, quota)));
        lines.into_iter().flatten().map(|line| AgentLine::new(AgentLineKind::Lifecycle, line)).collect()
    }
}

/// The dyno's memory quota in bytes; `configured` is the setting.
pub fn quota(configured: Option<u64>) -> Option<u64> {
    let procfs = ProcFs::below(Path::new("/"));
    Quota::find(configured, &procfs, probe::choose(&procfs).limit(), task_limit()).map(|quota| quota.bytes)
}

/// The limit on processes and threads (`RLIMIT_NPROC`).
fn task_limit() -> Option<u64> {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC);
    limit.ok().map(|(soft, _)| soft)
}

/// Resources that processes use together.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceUsage {
    /// Bytes of memory (proportional set size).
    pub memory: u64,
    /// CPU time in milliseconds.
    pub cpu_millis: u64,
}

/// The resources that these processes use; pid 0 stands for none.
pub fn resource_usage(pids: [i32; 2]) -> ResourceUsage {
    let procfs = ProcFs::below(Path::new("/"));
    let mut processes = Processes::new(procfs.clone());
    let mut usage = ResourceUsage::default();
    for pid in pids.into_iter().filter(|pid| *pid > 0) {
        usage.memory += procfs.value(&format!("proc/{pid}/smaps_rollup"), "Pss:").unwrap_or(0) << 10;
        usage.cpu_millis +=
            processes.get(pid).map_or(0, |process| extra::millis(process.cpu.user + process.cpu.system));
    }
    usage
}

/// Bytes as the lines show them: `3.48MB`, of 2^20 bytes.
pub fn megabytes(bytes: u64) -> String {
    text::Mb(bytes).to_string()
}

/// The dyno's UUID: `dyno_id` (`HEROKU_DYNO_ID`) or the host name where they are UUIDs, else a random one.
fn dyno_uuid(dyno_id: Option<&str>, procfs: &ProcFs) -> String {
    let is_uuid = |text: &str| {
        let is_valid = text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        text.len() == 36 && is_valid
    };
    let hostname = || procfs.text("proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let random = || procfs.text("proc/sys/kernel/random/uuid").map(|uuid| uuid.trim().to_owned());
    dyno_id
        .map(str::to_owned)
        .filter(|id| is_uuid(id))
        .or_else(|| hostname().filter(|name| is_uuid(name)))
        .or_else(random)
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests;
