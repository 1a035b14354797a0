//! Processes, as proc(5) tells of them. Those of a dyno are all descendants of its first one. As the platform's init does, this process adopts orphans
//! ([`adopt`]), so that nobody leaves the family.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};
use std::time::{Duration, Instant};

/// How long SIGKILL may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// A process, as proc(5) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: Pid,
    parent: Pid,
    /// It has ended and nobody took note.
    is_zombie: bool,
}

/// Makes this process the parent of orphans (prctl(2), `PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// When the kernel refuses.
pub fn adopt() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Takes note of orphans that have ended, but not of `child`, who is waited for by others. Returns how many
/// descendants live.
pub fn reap(child: Option<Pid>) -> usize {
    let mut living = 0;
    for process in family() {
        if !process.is_zombie {
            living += 1;
        } else if process.parent == getpid() && Some(process.pid) != child {
            // Gone already, or for the next look.
            let _ended = waitpid(process.pid, Some(WaitPidFlag::WNOHANG));
        }
    }
    living
}

/// Sends a signal to every living descendant. Those that are gone by then need none.
pub fn signal_all(signal: Signal) {
    for process in family().into_iter().filter(|process| !process.is_zombie) {
        let _gone_already: Result<(), Errno> = kill(process.pid, signal);
    }
}

/// Ends every descendant with SIGKILL, also those that start others meanwhile, and takes note of their end. False
/// when some are left: the kernel does not let go of them.
pub fn kill_all(child: Option<Pid>) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        signal_all(Signal::SIGKILL);
        if reap(child) == 0 {
            return true;
        }
        std::thread::sleep(LOOK);
    }
    false
}

/// Sends SIGKILL to a process and all its living descendants.
pub fn kill_family(root: Pid) {
    for process in family_of(root).into_iter().filter(|process| !process.is_zombie) {
        let _gone_already: Result<(), Errno> = kill(process.pid, Signal::SIGKILL);
    }
    let _gone_already: Result<(), Errno> = kill(root, Signal::SIGKILL);
}

/// All descendants of this process, zombies too.
fn family() -> Vec<Process> {
    family_of(getpid())
}

/// The agent's shipper among the descendants of `root`.
pub fn shipper_of(root: Pid) -> Option<Pid> {
    agents_of(root)
        .into_iter()
        .find(|(_, words)| words.starts_with(b"tailrace\0shipper\0"))
        .map(|(pid, _)| pid)
}

/// The app's own process: the first child of the agent's keeper that is not the shipper.
pub fn app_of(root: Pid) -> Option<Pid> {
    let family = family_of(root);
    let agents = agents_of(root);
    let is_agent = |pid: Pid| agents.iter().any(|(agent, _)| *agent == pid);
    family
        .iter()
        .find(|process| is_agent(process.parent) && !is_agent(process.pid))
        .map(|process| process.pid)
}

/// Memory of the agent's processes under `root`, in KiB: what is their own and their share of the rest (proc(5), Pss).
pub fn agent_memory(root: Pid) -> u64 {
    let pss = |pid: Pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    agents_of(root).into_iter().filter_map(|(pid, _)| pss(pid)).sum()
}

/// Bytes that this machine can still give (proc(5), `MemAvailable`).
pub fn free_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

/// The agent's processes under `root`, with their command lines.
fn agents_of(root: Pid) -> Vec<(Pid, Vec<u8>)> {
    let line = |process: Process| {
        let words = std::fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
        let name = words.split(|byte| *byte == 0).next()?;
        let is_agent =
            name == b"tailrace" || name.ends_with(b"/tailrace") || name.ends_with(b"/tailrace-agent");
        is_agent.then_some((process.pid, words))
    };
    family_of(root).into_iter().filter_map(line).collect()
}

/// All descendants of a process, zombies too.
fn family_of(root: Pid) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // What ends while we look is no longer there.
    let stat = |pid| parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
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
fn parse(stat: &str) -> Option<Process> {
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
    fn names_do_not_confuse() {
        assert_eq!(parse("12 (sh) S 3 12 12 0"), Some(process(12, 3)));
        assert_eq!(parse("12 (a) Z 9 (b) R 3 12"), Some(process(12, 3)));
        assert_eq!(parse("12 (sh) Z 3 12").map(|process| process.is_zombie), Some(true));
        assert_eq!(parse("12 (sh"), None);
    }

    #[test]
    fn the_family_is_all_that_come_from_one() {
        let all = [process(7, 5), process(5, 2), process(2, 1), process(3, 1), process(4, 3), process(6, 2)];
        let mut pids: Vec<i32> =
            descendants(&all, Pid::from_raw(2)).iter().map(|process| process.pid.as_raw()).collect();
        pids.sort_unstable();
        assert_eq!(pids, [5, 6, 7]);
    }
}
