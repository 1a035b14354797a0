//! What `/proc` tells of processes (proc(5)).

use std::fs;

/// The shipper among the children of the keeper `pid`.
pub(crate) fn shipper_of(pid: i32) -> Option<i32> {
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // The command line of a process that ended is empty.
    let is_shipper = |child: &i32| {
        parent(*child) == Some(pid)
            && fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line == b"tailrace\0shipper\0")
    };
    pids.into_iter().find(is_shipper)
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command stands in parentheses and may hold any.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Proportional resident memory of a process, in bytes.
pub(crate) fn pss(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(kib.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}
