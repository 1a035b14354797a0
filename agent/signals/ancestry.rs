//! Which processes belong to the app: parents, process groups and sessions, as `/proc` shows them.

use crate::procfs::ProcessStat;

/// Processes on one path to the root at most: a pid that is reused while it is read could close a cycle.
const MAX_TREE_DEPTH: usize = 1000;

/// The processes of a machine: `/proc`, or data in tests.
pub(crate) trait ProcessTable {
    /// The process with this pid; none when it is gone.
    fn stat(&self, pid: i32) -> Option<ProcessStat>;
    /// All pids; none when they cannot be listed.
    fn pids(&self) -> Option<Vec<i32>>;
}

/// The processes that `/proc` shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemProcesses;

impl ProcessTable for SystemProcesses {
    fn stat(&self, pid: i32) -> Option<ProcessStat> {
        ProcessStat::of(pid)
    }

    fn pids(&self) -> Option<Vec<i32>> {
        let entries = std::fs::read_dir("/proc").ok()?;
        Some(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }
}

/// The parent of a process.
pub(crate) fn parent_of(pid: i32, table: &impl ProcessTable) -> Option<i32> {
    table.stat(pid).map(|stat| stat.parent)
}

/// Whether a signal such as SIGTSTP stopped the process.
pub(crate) fn is_stopped(pid: i32, table: &impl ProcessTable) -> bool {
    table.stat(pid).is_some_and(|stat| stat.is_stopped())
}

/// Whether two processes are in one process group. True when one of them cannot be read.
pub(crate) fn share_group(pid: i32, other: i32, table: &impl ProcessTable) -> bool {
    table.stat(pid).zip(table.stat(other)).is_none_or(|(stat, other)| stat.group == other.group)
}

/// A process, its parent, and so on up to the root.
fn path_to_root(pid: i32, table: &impl ProcessTable) -> Vec<i32> {
    let path = std::iter::successors(Some(pid), |pid| parent_of(*pid, table));
    path.take_while(|pid| *pid > 0).take(MAX_TREE_DEPTH).collect()
}

/// The two processes that all others are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// The app's pid.
    pub(crate) app: i32,
    /// The supervisor's pid.
    pub(crate) supervisor: i32,
}

impl Family {
    /// Whether the process `pid` is the app or descends from it.
    ///
    /// A descendant whose parents ended was reparented. It counts as the app's when the supervisor is PID 1 and became
    /// its parent, or when PID 1 became its parent and it is in the supervisor's session. (A process from outside the
    /// container has no parent in it.) A process that ended before it could be read counts as the app's when no
    /// unrelated process runs here that could have started it.
    pub(crate) fn includes(self, pid: i32, table: &impl ProcessTable) -> bool {
        let path = path_to_root(pid, table);
        if path.contains(&self.app) {
            return true;
        }
        if path.contains(&self.supervisor) {
            return self.supervisor == 1 && pid != self.supervisor;
        }
        let ancestors = path_to_root(self.supervisor, table);
        match table.stat(pid) {
            Some(stat) => self.is_orphan(stat, &path, &ancestors, table),
            None => !self.has_unrelated_processes(&ancestors, table),
        }
    }

    /// Whether a process was reparented to PID 1 and is in the supervisor's session. `ancestors`: the supervisor's, which
    /// may be children of PID 1 as well.
    fn is_orphan(
        self,
        stat: ProcessStat,
        path: &[i32],
        ancestors: &[i32],
        table: &impl ProcessTable,
    ) -> bool {
        let is_below_init = matches!(path, [.., top, 1] if !ancestors.contains(top));
        is_below_init && table.stat(self.supervisor).is_some_and(|ours| ours.session == stat.session)
    }

    /// Whether a process runs that is neither the supervisor's nor the app's, nor an ancestor of the supervisor.
    fn has_unrelated_processes(self, ancestors: &[i32], table: &impl ProcessTable) -> bool {
        let Some(pids) = table.pids() else { return true };
        pids.into_iter().any(|pid| {
            let path = path_to_root(pid, table);
            let Some(stat) = table.stat(pid) else { return false };
            let is_related = path.iter().any(|pid| *pid == self.app || *pid == self.supervisor);
            !(is_related || self.is_orphan(stat, &path, ancestors, table) || ancestors.contains(&pid))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// pid, parent, process group, session.
    type Row = (i32, i32, i32, i32);

    struct Rows(Vec<Row>);

    impl ProcessTable for Rows {
        fn stat(&self, pid: i32) -> Option<ProcessStat> {
            let (pid, parent, group, session) = self.0.iter().find(|row| row.0 == pid)?;
            let rest = "0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0";
            ProcessStat::parse(&format!("{pid} (x) S {parent} {group} {session} {rest}"))
        }

        fn pids(&self) -> Option<Vec<i32>> {
            Some(self.0.iter().map(|row| row.0).collect())
        }
    }

    /// Checks cases: what `pid` is, the processes beside `base`, `pid`, and whether the family includes it.
    fn check(family: Family, base: &[Row], cases: &[(&str, &[Row], i32, bool)]) {
        for (name, others, pid, expected) in cases {
            assert_eq!(family.includes(*pid, &Rows([base, *others].concat())), *expected, "{name}");
        }
    }

    #[test]
    fn descendants_and_orphans_of_the_app_belong_to_it() {
        // PID 1 is an init, 10 a shell, 20 the supervisor, 21 the shipper, 30 the app.
        let base = [(1, 0, 1, 1), (10, 1, 10, 10), (20, 10, 20, 10), (21, 20, 20, 10), (30, 20, 20, 10)];
        let cases: [(&str, &[Row], i32, bool); 16] = [
            ("the app", &[], 30, true),
            ("its child", &[(31, 30, 31, 31)], 31, true),
            ("its grandchild", &[(31, 30, 31, 31), (32, 31, 31, 31)], 32, true),
            ("the supervisor", &[], 20, false),
            ("the shipper", &[], 21, false),
            ("an ancestor of the supervisor", &[], 10, false),
            ("init", &[], 1, false),
            ("an orphan in the session", &[(40, 1, 40, 10)], 40, true),
            ("a child of an orphan", &[(40, 1, 40, 10), (41, 40, 40, 10)], 41, true),
            ("a daemon in a session of its own", &[(40, 1, 40, 40)], 40, false),
            ("a sibling of the supervisor", &[(11, 10, 11, 10)], 11, false),
            ("a process that entered the container", &[(50, 0, 50, 10)], 50, false),
            ("one that is gone", &[], 99, true),
            ("one that is gone, beside an orphan", &[(40, 1, 40, 10)], 99, true),
            ("one that is gone, beside a daemon", &[(40, 1, 40, 40)], 99, false),
            ("one that is gone, beside a sibling", &[(11, 10, 11, 10)], 99, false),
        ];
        check(Family { app: 30, supervisor: 20 }, &base, &cases);
    }

    #[test]
    fn orphans_belong_to_the_app_when_the_supervisor_is_pid_1() {
        // 2 is the shipper, 3 the app. (A shipper is a child of PID 1, as an orphan is; it sends no signals.)
        let base = [(1, 0, 1, 1), (2, 1, 1, 1), (3, 1, 1, 1)];
        let cases: [(&str, &[Row], i32, bool); 6] = [
            ("the app", &[], 3, true),
            ("the supervisor", &[], 1, false),
            ("an orphan", &[(4, 1, 4, 4)], 4, true),
            ("a process that entered the container", &[(50, 0, 50, 50)], 50, false),
            ("one that is gone", &[], 99, true),
            ("one that is gone, beside one that entered", &[(50, 0, 50, 50)], 99, false),
        ];
        check(Family { app: 3, supervisor: 1 }, &base, &cases);
    }

    #[test]
    fn a_gone_process_is_unrelated_when_pids_cannot_be_listed() {
        struct Unlistable;
        impl ProcessTable for Unlistable {
            fn stat(&self, _: i32) -> Option<ProcessStat> {
                None
            }
            fn pids(&self) -> Option<Vec<i32>> {
                None
            }
        }
        assert!(!Family { app: 30, supervisor: 20 }.includes(99, &Unlistable));
        assert!(share_group(20, 30, &Unlistable), "unknown groups count as one");
    }

    #[test]
    fn a_cycle_of_reused_pids_ends() {
        let cycle = Rows(vec![(40, 41, 40, 40), (41, 40, 40, 40), (20, 1, 20, 20)]);
        assert!(!Family { app: 30, supervisor: 20 }.includes(40, &cycle));
    }

    #[test]
    fn process_groups_are_compared() {
        let rows = Rows(vec![(1, 0, 1, 1), (2, 1, 1, 1), (3, 1, 3, 1)]);
        assert!(share_group(1, 2, &rows) && !share_group(1, 3, &rows));
    }
}
