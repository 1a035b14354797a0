//! Process trees, read from proc(5). All processes of a dyno are descendants of its outer init process: that adopts
//! orphans, as the platform's init does ([`become_subreaper`]).

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};
use std::time::{Duration, Instant};

/// How long processes may take to end after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of the checks whether they have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: Pid,
    parent: Pid,
    /// Whether it has ended and was not reaped.
    is_zombie: bool,
}

/// Makes this process the parent of orphans (prctl(2), `PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// When the kernel refuses.
pub fn become_subreaper() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Reaps children that have ended, except `child`, which the caller waits for. Returns the number of living
/// descendants.
pub fn reap(child: Option<Pid>) -> usize {
    let mut living = 0;
    for process in all_descendants() {
        if !process.is_zombie {
            living += 1;
        } else if process.parent == getpid() && Some(process.pid) != child {
            waitpid(process.pid, Some(WaitPidFlag::WNOHANG)).ok(); // otherwise reaped by the next call
        }
    }
    living
}

/// Sends a signal to every living descendant.
pub fn signal_all(signal: Signal) {
    for process in all_descendants().into_iter().filter(|process| !process.is_zombie) {
        kill(process.pid, signal).ok(); // fails when it has ended
    }
}

/// Kills all descendants, including those that are started meanwhile, and reaps them. Returns false when some are left
/// after 5 s: a process in an uninterruptible wait does not end.
pub fn kill_all(child: Option<Pid>) -> bool {
    let started = Instant::now();
    while started.elapsed() < KILL_TIMEOUT {
        signal_all(Signal::SIGKILL);
        if reap(child) == 0 {
            return true;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    false
}

/// Sends SIGKILL to a process and all its living descendants.
pub fn kill_tree(root: Pid) {
    for process in descendants_of(root).into_iter().filter(|process| !process.is_zombie) {
        kill(process.pid, Signal::SIGKILL).ok(); // fails when it has ended
    }
    kill(root, Signal::SIGKILL).ok(); // fails when it has ended
}

/// All descendants of this process, zombies included.
fn all_descendants() -> Vec<Process> {
    descendants_of(getpid())
}

/// Finds the agent's shipper among the descendants of `root`.
pub fn find_shipper(root: Pid) -> Option<Pid> {
    agents_of(root)
        .into_iter()
        .find(|(_, command_line)| command_line.starts_with(b"tailrace\0shipper\0"))
        .map(|(pid, _)| pid)
}

/// Finds the app's process: the first child of the agent's supervisor that is not the shipper.
pub fn find_app(root: Pid) -> Option<Pid> {
    let descendants = descendants_of(root);
    let agents = agents_of(root);
    let is_agent = |pid: Pid| agents.iter().any(|(agent, _)| *agent == pid);
    descendants
        .iter()
        .find(|process| is_agent(process.parent) && !is_agent(process.pid))
        .map(|process| process.pid)
}

/// Memory of the agent's processes under `root`, in KiB: private pages, and their share of shared ones (proc(5), Pss).
pub fn agent_memory_kib(root: Pid) -> u64 {
    let pss = |pid: Pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    agents_of(root).into_iter().filter_map(|(pid, _)| pss(pid)).sum()
}

/// Memory that is available on this machine, in bytes (proc(5), `MemAvailable`).
pub fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

/// The agent's processes under `root`, with their command lines.
fn agents_of(root: Pid) -> Vec<(Pid, Vec<u8>)> {
    let agent = |process: Process| {
        let command_line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
        let name = command_line.split(|byte| *byte == 0).next()?;
        let is_agent =
            name == b"tailrace" || name.ends_with(b"/tailrace") || name.ends_with(b"/tailrace-agent");
        is_agent.then_some((process.pid, command_line))
    };
    descendants_of(root).into_iter().filter_map(agent).collect()
}

/// All descendants of a process, zombies included.
fn descendants_of(root: Pid) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // Fails for a process that has ended in the meantime.
    let stat = |pid| parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    descendants(&pids.filter_map(stat).collect::<Vec<_>>(), root)
}

fn descendants(all: &[Process], root: Pid) -> Vec<Process> {
    let mut found: Vec<Process> = all.iter().filter(|process| process.parent == root).copied().collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        found.extend(all.iter().filter(|process| process.parent == parent && process.pid != parent));
        next += 1;
    }
    found
}

/// `/proc/PID/stat`: `PID (NAME) STATE PARENT …`; a name may contain anything.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Process {
        pid: Pid::from_raw(pid.parse().ok()?),
        parent: Pid::from_raw(parent),
        is_zombie: matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid: Pid::from_raw(pid), parent: Pid::from_raw(parent), is_zombie: false }
    }

    #[test]
    fn process_names_may_contain_anything() {
        assert_eq!(parse_stat("12 (sh) S 3 12 12 0"), Some(process(12, 3)));
        assert_eq!(parse_stat("12 (a) Z 9 (b) R 3 12"), Some(process(12, 3)));
        assert_eq!(parse_stat("12 (sh) Z 3 12").map(|process| process.is_zombie), Some(true));
        assert_eq!(parse_stat("12 (sh"), None);
    }

    #[test]
    fn descendants_include_all_generations() {
        let all = [process(7, 5), process(5, 2), process(2, 1), process(3, 1), process(4, 3), process(6, 2)];
        let mut pids: Vec<i32> =
            descendants(&all, Pid::from_raw(2)).iter().map(|process| process.pid.as_raw()).collect();
        pids.sort_unstable();
        assert_eq!(pids, [5, 6, 7]);
    }
}
