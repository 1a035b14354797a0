//! Facts about processes, from `/proc` (proc(5)).

use std::fs;

/// The shipper among the children of a supervisor.
pub(crate) fn shipper_of(supervisor: i32) -> Option<i32> {
    // The command line of a process that exited is empty.
    let is_shipper = |child: &i32| {
        parent(*child) == Some(supervisor)
            && fs::read(format!("/proc/{child}/cmdline"))
                .is_ok_and(|line| line.starts_with(b"tailrace\0shipper\0"))
    };
    all_pids().find(is_shipper)
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: i32) -> Option<i32> {
    stat_field(pid, 1)
}

/// A number in `/proc/PID/stat`; index 0 is the state.
fn stat_field(pid: i32, index: usize) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in parentheses and may itself contain parentheses.
    stat.rsplit_once(')')?.1.split_whitespace().nth(index)?.parse().ok()
}

/// The state of a process as in `/proc/PID/stat`: `R`, `S`, `T`, `Z` and so on.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process is running, that is, neither gone nor a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// Whether a process of this group is running.
pub(crate) fn is_group_alive(group: i32) -> bool {
    all_pids().any(|pid| stat_field(pid, 2) == Some(group) && is_alive(pid))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Proportional set size: shared pages are divided among the processes that map them.
    pub(crate) resident: u64,
    /// Pages that this process alone has, and has written to.
    pub(crate) private: u64,
}

impl Memory {
    /// Memory of a process; `None` if it is gone.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let bytes = |key: &str| -> Option<u64> {
            let kib = rollup.lines().find_map(|line| line.strip_prefix(key))?;
            Some(kib.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
        };
        Some(Self { resident: bytes("Pss:")?, private: bytes("Private_Dirty:")? })
    }

    /// The sum of two processes.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { resident: self.resident + other.resident, private: self.private + other.private }
    }

    /// The larger value of each field.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { resident: self.resident.max(other.resident), private: self.private.max(other.private) }
    }
}

/// The children of a process.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    all_pids().filter(|child| parent(*child) == Some(pid)).collect()
}

/// The children of a process, their children, and so on.
pub(crate) fn descendants(pid: i32) -> Vec<i32> {
    let mut all = children(pid);
    let mut index = 0;
    while let Some(next) = all.get(index) {
        all.extend(children(*next));
        index += 1;
    }
    all
}

/// Whether a signal is pending for a process: for its main thread or for the process as a whole.
pub(crate) fn is_pending(pid: i32, signal: nix::sys::signal::Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut sets =
        status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    sets.any(|set| u64::from_str_radix(set.trim(), 16).unwrap() >> (signal as i32 - 1) & 1 == 1)
}
