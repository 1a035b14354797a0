//! What `/proc` tells of processes (proc(5)).

use std::fs;

/// The shipper among the children of the keeper `pid`.
pub(crate) fn shipper_of(pid: i32) -> Option<i32> {
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // The command line of a process that ended is empty.
    let is_shipper = |child: &i32| {
        parent(*child) == Some(pid)
            && fs::read(format!("/proc/{child}/cmdline"))
                .is_ok_and(|line| line.starts_with(b"tailrace\0shipper\0"))
    };
    pids.into_iter().find(is_shipper)
}

fn parent(pid: i32) -> Option<i32> {
    field(pid, 1)
}

/// A number in `/proc/PID/stat`, counted from the state, which is 0.
fn field(pid: i32, number: usize) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command stands in parentheses and may hold any.
    stat.rsplit_once(')')?.1.split_whitespace().nth(number)?.parse().ok()
}

/// Whether a process of this group still runs.
pub(crate) fn is_group_alive(group: i32) -> bool {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.any(|pid| field(pid, 2) == Some(group) && is_alive(pid))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident, what is shared with others in proportion: the less the more copies of the program run.
    pub(crate) resident: u64,
    /// What only this process has, and has written to.
    pub(crate) own: u64,
}

impl Memory {
    /// That of a process that runs.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let bytes = |key: &str| -> Option<u64> {
            let kib = rollup.lines().find_map(|line| line.strip_prefix(key))?;
            Some(kib.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
        };
        Some(Self { resident: bytes("Pss:")?, own: bytes("Private_Dirty:")? })
    }

    /// This and another process's.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { resident: self.resident + other.resident, own: self.own + other.own }
    }

    /// The larger of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { resident: self.resident.max(other.resident), own: self.own.max(other.own) }
    }
}

/// The children of a process.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}

/// The children of a process, and theirs.
pub(crate) fn descendants(pid: i32) -> Vec<i32> {
    let mut all = children(pid);
    let mut at = 0;
    while let Some(next) = all.get(at) {
        all.extend(children(*next));
        at += 1;
    }
    all
}

/// Whether a process runs, that is, is more than an entry to be reaped.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
