//! Which processes belong to the app: parents, groups and sessions, as `/proc` shows them.

use crate::procfs::ProcessStat;

/// The parent of a process, as far as `/proc` knows.
pub fn parent_of(pid: i32) -> Option<i32> {
    ProcessStat::of(pid).map(|kin| kin.parent)
}

/// Whether a process is stopped, as by SIGTSTP.
pub fn is_stopped(pid: i32) -> bool {
    ProcessStat::of(pid).is_some_and(|kin| kin.is_stopped())
}

/// Whether two processes are in one process group.
pub fn are_grouped(pid: i32, other: i32) -> bool {
    ProcessStat::of(pid).zip(ProcessStat::of(other)).is_none_or(|(pid, other)| pid.group == other.group)
}

/// A process and all above it, as far as `/proc` knows: deeper than any tree, for pids that are used again meanwhile.
fn line_of(pid: i32) -> impl Iterator<Item = i32> {
    std::iter::successors(Some(pid), |pid| parent_of(*pid)).take_while(|pid| *pid > 0).take(1000)
}

/// Whether the process `pid` is the app, or comes from it. `own` is our pid.
///
/// One whose parents are gone is the app's when it is in our session, or when we are the first process, which such
/// children come to: who comes from outside of a container has no parent in it. One that is gone itself before it
/// could be looked at is the app's when nobody else is there who could have started it.
pub fn is_of_the_app(pid: i32, app: i32, own: i32) -> bool {
    let line: Vec<i32> = line_of(pid).collect();
    if line.contains(&app) {
        return true;
    }
    if line.contains(&own) {
        return own == 1 && pid != own;
    }
    let above: Vec<i32> = line_of(own).collect();
    match ProcessStat::of(pid) {
        Some(kin) => is_orphan(&line, &above) && is_of_our_session(kin, own),
        None => !has_strangers(app, own, &above),
    }
}

/// Whether this line of processes ends with a child of the first process that is not above us.
fn is_orphan(line: &[i32], above: &[i32]) -> bool {
    matches!(line, [.., top, 1] if !above.contains(top))
}

fn is_of_our_session(kin: ProcessStat, own: i32) -> bool {
    ProcessStat::of(own).is_some_and(|ours| ours.session == kin.session)
}

/// Whether there are processes that are neither ours, nor the app's, nor above us.
fn has_strangers(app: i32, own: i32, above: &[i32]) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return true };
    let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.any(|pid| {
        let line: Vec<i32> = line_of(pid).collect();
        let Some(kin) = ProcessStat::of(pid) else { return false };
        let is_ours = line.iter().any(|pid| *pid == app || *pid == own);
        let is_left_over = is_orphan(&line, above) && is_of_our_session(kin, own);
        !(is_ours || is_left_over || above.contains(&pid))
    })
}
