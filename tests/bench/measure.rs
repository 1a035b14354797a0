//! The cost of processes: CPU time, memory, threads and wake-ups, as the kernel accounts them.
//!
//! The CPU time of a contestant is exact: the difference of `getrusage(RUSAGE_CHILDREN)` around the `wait` that reaps it,
//! which includes the processes that it has reaped. The supervisor's share is its process clock, read while it is a
//! zombie; the app reports its share; the rest is the shipper's.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::Result;
use crate::cores::Cores;

/// The interval between two samples of a contestant.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(5);

/// The monotonic clock in µs; it is the same for all processes.
pub(crate) fn monotonic_micros() -> Result<u64> {
    Ok(ClockId::CLOCK_MONOTONIC.now()?.num_microseconds() as u64)
}

/// User and system time of `usage`.
pub(crate) fn cpu_of(usage: &Usage) -> Duration {
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros as u64)
}

/// The CPU time of a process with all its threads, past ones included; `None` if it is gone.
fn process_cpu(pid: Pid) -> Option<Duration> {
    let time = clock_getcpuclockid(pid).and_then(ClockId::now).ok()?;
    Some(Duration::from_nanos(time.num_nanoseconds() as u64))
}

/// The processes of a contestant: the supervisor (or the only process) and, while it runs, the shipper.
#[derive(Clone, Copy)]
pub(crate) struct ProcessPair {
    pub(crate) supervisor: Pid,
    pub(crate) shipper: Option<Pid>,
}

/// What both processes had used at one instant.
#[derive(Clone, Copy)]
pub(crate) struct UsageSnapshot {
    at: Instant,
    supervisor: Duration,
    shipper: Duration,
    switches: u64,
}

/// What both processes used between two instants: CPU as shares of one core, and wake-ups per second.
pub(crate) struct Rates {
    pub(crate) supervisor: f64,
    pub(crate) shipper: f64,
    pub(crate) wakeups: f64,
}

impl ProcessPair {
    fn new(supervisor: Pid) -> Self {
        Self { supervisor, shipper: None }
    }

    /// Finds the shipper: the child of the supervisor whose first argument is `shipper`.
    fn find_shipper(&mut self) {
        if self.shipper.is_some_and(|pid| !is_shipper(pid)) {
            self.shipper = None;
        }
        if self.shipper.is_none() {
            self.shipper = children(self.supervisor).into_iter().find(|pid| is_shipper(*pid));
        }
    }

    fn pids(&self) -> impl Iterator<Item = Pid> {
        [Some(self.supervisor), self.shipper].into_iter().flatten()
    }

    /// What both have used so far.
    pub(crate) fn usage(&self) -> UsageSnapshot {
        UsageSnapshot {
            at: Instant::now(),
            supervisor: process_cpu(self.supervisor).unwrap_or_default(),
            shipper: self.shipper.and_then(process_cpu).unwrap_or_default(),
            switches: self.pids().map(switches).sum(),
        }
    }

    /// The sum of the proportional set sizes in bytes: a page that both map counts once.
    pub(crate) fn pss(&self) -> u64 {
        self.pids().map(|pid| 1024 * field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum()
    }

    /// The number of threads of both.
    pub(crate) fn threads(&self) -> u64 {
        self.pids().map(|pid| field(&format!("/proc/{pid}/status"), "Threads:")).sum()
    }
}

impl UsageSnapshot {
    /// What was used since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Rates {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64().max(1e-9);
        Rates {
            supervisor: self.supervisor.saturating_sub(earlier.supervisor).as_secs_f64() / seconds,
            shipper: self.shipper.saturating_sub(earlier.shipper).as_secs_f64() / seconds,
            wakeups: self.switches.saturating_sub(earlier.switches) as f64 / seconds,
        }
    }
}

/// The cost of a contestant that exited.
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// CPU time of the process and of all that it reaped, including the app.
    pub(crate) all: Duration,
    /// CPU time of the process itself.
    pub(crate) supervisor: Duration,
    /// CPU time of the shipper at the last sample: a lower bound, for a shipper that the supervisor did not reap.
    pub(crate) shipper_seen: Duration,
    pub(crate) exit: Option<i32>,
}

/// Waits until `child` exits and calls `on_sample` about 200 times per second with the time since the start.
///
/// # Errors
/// If the child runs longer than `limit` or `on_sample` fails: child and shipper are killed then.
pub(crate) fn observe(
    cores: &Cores,
    child: &mut Child,
    limit: Duration,
    mut on_sample: impl FnMut(Duration, &ProcessPair) -> Result<()>,
) -> Result<Cost> {
    let start = Instant::now();
    let pid = Pid::from_raw(child.id() as i32);
    let mut processes = ProcessPair::new(pid);
    let mut shipper_seen = Duration::ZERO;
    let mut outcome = Ok(());
    cores.leave()?;
    loop {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        if waitid(Id::Pid(pid), flags)? != WaitStatus::StillAlive {
            break;
        }
        processes.find_shipper();
        if let Some(cpu) = processes.shipper.and_then(process_cpu) {
            shipper_seen = cpu;
        }
        outcome = on_sample(start.elapsed(), &processes);
        if start.elapsed() > limit {
            outcome = Err(format!("still running after {limit:?}").into());
        }
        if outcome.is_err() {
            // Both belong to this process: one was spawned here, the other is its child.
            for pid in processes.pids() {
                if kill(pid, Signal::SIGKILL).is_err() {
                    eprintln!("       {pid} had exited already");
                }
            }
            break;
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    cores.enter()?;
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    let wall = start.elapsed();
    let supervisor = process_cpu(pid).unwrap_or_default();
    let before = cpu_of(&getrusage(UsageWho::RUSAGE_CHILDREN)?);
    let status = child.wait()?;
    let all = cpu_of(&getrusage(UsageWho::RUSAGE_CHILDREN)?).saturating_sub(before);
    outcome?;
    Ok(Cost { wall, all, supervisor, shipper_seen, exit: status.code() })
}

fn is_shipper(pid: Pid) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"shipper")
}

/// The children of all threads of `pid`.
fn children(pid: Pid) -> Vec<Pid> {
    let lists = tasks(pid).map(|task| std::fs::read_to_string(task.join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .map(Pid::from_raw)
        .collect()
}

/// The voluntary context switches of the threads of `pid`: each is followed by a wake-up.
fn switches(pid: Pid) -> u64 {
    tasks(pid).map(|task| field(&task.join("status").to_string_lossy(), "voluntary_ctxt_switches:")).sum()
}

fn tasks(pid: Pid) -> impl Iterator<Item = std::path::PathBuf> {
    std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The number after `name` in a file of `/proc`; 0 if the process is gone.
fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|value| value.parse().ok()).unwrap_or(0)
}
