//! What processes cost: CPU, memory, threads and wake-ups, from the kernel's own accounts.
//!
//! The CPU of a contestant is exact: `getrusage(RUSAGE_CHILDREN)` around the one `wait` that reaps it, so
//! with everything that it has reaped itself. The keeper's own part is its process clock, read while it is a
//! zombie; the app reports its part; what remains is the shipper's.

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

/// How often a contestant is looked at.
const TICK: Duration = Duration::from_millis(5);

/// Microseconds of the monotonic clock, the same in all processes.
pub(crate) fn monotonic_micros() -> Result<u64> {
    Ok(ClockId::CLOCK_MONOTONIC.now()?.num_microseconds() as u64)
}

/// User and system time of `usage`.
pub(crate) fn cpu_of(usage: &Usage) -> Duration {
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros as u64)
}

/// The CPU time of a process, of all its threads also those that ended; `None` when it is gone.
fn process_cpu(pid: Pid) -> Option<Duration> {
    let time = clock_getcpuclockid(pid).and_then(ClockId::now).ok()?;
    Some(Duration::from_nanos(time.num_nanoseconds() as u64))
}

/// One look at a contestant: the keeper (or the only process) and, when there is one, the shipper.
#[derive(Clone, Copy)]
pub(crate) struct Tree {
    pub(crate) keeper: Pid,
    pub(crate) shipper: Option<Pid>,
}

/// What a tree had used at one instant.
#[derive(Clone, Copy)]
pub(crate) struct Usages {
    at: Instant,
    keeper: Duration,
    shipper: Duration,
    switches: u64,
}

/// What a tree used between two instants, as shares of one core, and how often it woke up in a second.
pub(crate) struct Rates {
    pub(crate) keeper: f64,
    pub(crate) shipper: f64,
    pub(crate) wakeups: f64,
}

impl Tree {
    fn new(keeper: Pid) -> Self {
        Self { keeper, shipper: None }
    }

    /// Finds the shipper: the child of the keeper whose first argument says so.
    fn look(&mut self) {
        if self.shipper.is_some_and(|pid| !is_shipper(pid)) {
            self.shipper = None;
        }
        if self.shipper.is_none() {
            self.shipper = children(self.keeper).into_iter().find(|pid| is_shipper(*pid));
        }
    }

    fn pids(&self) -> impl Iterator<Item = Pid> {
        [Some(self.keeper), self.shipper].into_iter().flatten()
    }

    /// What both have used so far.
    pub(crate) fn usages(&self) -> Usages {
        Usages {
            at: Instant::now(),
            keeper: process_cpu(self.keeper).unwrap_or_default(),
            shipper: self.shipper.and_then(process_cpu).unwrap_or_default(),
            switches: self.pids().map(switches).sum(),
        }
    }

    /// Summed proportional set size in bytes: a page that both map counts once.
    pub(crate) fn pss(&self) -> u64 {
        self.pids().map(|pid| 1024 * field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum()
    }

    /// Threads of both.
    pub(crate) fn threads(&self) -> u64 {
        self.pids().map(|pid| field(&format!("/proc/{pid}/status"), "Threads:")).sum()
    }
}

impl Usages {
    /// What was used from `earlier` to here.
    pub(crate) fn since(&self, earlier: &Self) -> Rates {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64().max(1e-9);
        Rates {
            keeper: self.keeper.saturating_sub(earlier.keeper).as_secs_f64() / seconds,
            shipper: self.shipper.saturating_sub(earlier.shipper).as_secs_f64() / seconds,
            wakeups: self.switches.saturating_sub(earlier.switches) as f64 / seconds,
        }
    }
}

/// What a finished contestant had cost.
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// Of it and all that it reaped, the app too.
    pub(crate) all: Duration,
    /// Of the process itself.
    pub(crate) keeper: Duration,
    /// As last seen; only a floor, when it went without being reaped by the keeper.
    pub(crate) shipper_seen: Duration,
    pub(crate) exit: Option<i32>,
}

/// Waits for `child`, at most `limit`; calls `look` with the time since the call about 200 times a second.
///
/// # Errors
/// When the child outlives the limit: it is killed then, and so is its shipper.
pub(crate) fn watch(
    cores: &Cores,
    child: &mut Child,
    limit: Duration,
    mut look: impl FnMut(Duration, &Tree) -> Result<()>,
) -> Result<Cost> {
    let start = Instant::now();
    let pid = Pid::from_raw(child.id() as i32);
    let mut tree = Tree::new(pid);
    let mut shipper_seen = Duration::ZERO;
    let mut outcome = Ok(());
    cores.leave()?;
    loop {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        if waitid(Id::Pid(pid), flags)? != WaitStatus::StillAlive {
            break;
        }
        tree.look();
        if let Some(cpu) = tree.shipper.and_then(process_cpu) {
            shipper_seen = cpu;
        }
        outcome = look(start.elapsed(), &tree);
        if start.elapsed() > limit {
            outcome = Err(format!("still running after {limit:?}").into());
        }
        if outcome.is_err() {
            // Both are ours: one was spawned here, the other is its child.
            for pid in tree.pids() {
                if kill(pid, Signal::SIGKILL).is_err() {
                    eprintln!("       {pid} was gone already");
                }
            }
            break;
        }
        std::thread::sleep(TICK);
    }
    cores.enter()?;
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    let wall = start.elapsed();
    let keeper = process_cpu(pid).unwrap_or_default();
    let before = cpu_of(&getrusage(UsageWho::RUSAGE_CHILDREN)?);
    let status = child.wait()?;
    let all = cpu_of(&getrusage(UsageWho::RUSAGE_CHILDREN)?).saturating_sub(before);
    outcome?;
    Ok(Cost { wall, all, keeper, shipper_seen, exit: status.code() })
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

/// How often the threads of `pid` went to sleep: each is a wake-up later.
fn switches(pid: Pid) -> u64 {
    tasks(pid).map(|task| field(&task.join("status").to_string_lossy(), "voluntary_ctxt_switches:")).sum()
}

fn tasks(pid: Pid) -> impl Iterator<Item = std::path::PathBuf> {
    std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The number behind `name` in a file of `/proc`; 0 when the process is gone.
fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|value| value.parse().ok()).unwrap_or(0)
}
