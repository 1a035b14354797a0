//! Reads the kernel's text files (proc(5), sysfs). They are below a root directory: `/`, or a fixture in tests.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Read at most this many bytes of a file: the largest ones are tables of mounts and sockets.
const MAX_FILE_BYTES: u64 = 256 << 10;

/// A root directory that contains `proc` and `sys`.
#[derive(Clone, Debug)]
pub(crate) struct ProcFs {
    root: PathBuf,
}

impl ProcFs {
    /// The files below `root`.
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The path of the file `name`, which is relative to the root.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The contents of a file; none when it cannot be read. Invalid UTF-8 is replaced.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let mut text = Vec::new();
        File::open(self.path(name)).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// The value of a file that contains one number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.trim().parse().ok()
    }

    /// The number that follows `key` at the start of a line of a file.
    pub(crate) fn value(&self, name: &str, key: &str) -> Option<u64> {
        value_of(&self.text(name)?, key)
    }
}

/// The number that follows `key` at the start of a line.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.split_whitespace().next());
    values.next()?.parse().ok()
}

/// One process or thread, from a line of `/proc/PID/stat` (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// Field 1.
    pub(crate) pid: i32,
    /// Field 3: `R` runnable, `T` stopped, `Z` zombie.
    pub(crate) state: u8,
    /// Field 4.
    pub(crate) parent: i32,
    /// Field 5.
    pub(crate) group: i32,
    /// Field 6.
    pub(crate) session: i32,
    /// Fields 14 and 15: user and system time, in clock ticks.
    pub(crate) cpu: CpuTicks,
    /// Fields 16 and 17: user and system time of its children that were waited for.
    pub(crate) children_cpu: CpuTicks,
    /// Field 20.
    pub(crate) threads: u32,
    /// Field 22: start time in clock ticks since boot. Distinguishes processes that had the same pid.
    pub(crate) start: u64,
    /// Field 24: resident pages.
    pub(crate) resident_pages: u64,
}

/// CPU time in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTicks {
    pub(crate) user: u64,
    pub(crate) system: u64,
}

impl ProcessStat {
    /// Parses a line of `/proc/PID/stat`; none when fields are missing or invalid.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let pid = text.split(' ').next()?.parse().ok()?;
        // Field 2, the command, is in parentheses and may contain any character.
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        let state = *fields.next()?.as_bytes().first()?;
        let mut next_id = || fields.next()?.parse::<i32>().ok();
        let (parent, group, session) = (next_id()?, next_id()?, next_id()?);
        // Skips fields and parses the next one.
        let mut after = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let cpu = CpuTicks { user: after(7)?, system: after(0)? };
        let children_cpu = CpuTicks { user: after(0)?, system: after(0)? };
        let (threads, start) = (after(2)? as u32, after(1)?);
        let resident_pages = after(1)?;
        Some(Self { pid, state, parent, group, session, cpu, children_cpu, threads, start, resident_pages })
    }

    /// Parses only the state (field 3), of a process or thread.
    pub(crate) fn parse_state(text: &str) -> Option<u8> {
        text.rsplit_once(") ")?.1.bytes().next()
    }

    /// Reads the process `pid` from `/proc`; none when it does not exist or `/proc` is not mounted.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether it runs or waits for a CPU.
    pub(crate) fn is_runnable(&self) -> bool {
        self.state == b'R'
    }

    /// Whether a signal stopped it.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state == b'T'
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A root directory with these files. It exists as long as the first value.
    pub(crate) fn fixture(files: &[(&str, &str)]) -> (TempDir, ProcFs) {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let procfs = ProcFs::below(dir.path());
        (dir, procfs)
    }

    #[test]
    fn a_stat_line_is_parsed_whatever_the_command_contains() {
        let line = "42 (a) (b R) ) S 7 8 9 0 -1 4194560 1 2 3 4 11 12 13 14 20 0 5 0 777 9 33 18446744073709551615 1";
        let stat = ProcessStat::parse(line).unwrap();
        assert_eq!((stat.pid, stat.state, stat.parent, stat.group, stat.session), (42, b'S', 7, 8, 9));
        assert_eq!(
            (stat.cpu, stat.children_cpu),
            (CpuTicks { user: 11, system: 12 }, CpuTicks { user: 13, system: 14 })
        );
        assert_eq!((stat.threads, stat.start, stat.resident_pages), (5, 777, 33));
        assert_eq!(ProcessStat::parse("42 (a) S 7"), None);
        let ours = ProcessStat::of(std::process::id() as i32).unwrap();
        assert!(ours.parent > 0 && ours.threads > 0);
    }

    #[test]
    fn a_number_is_the_whole_file_or_follows_a_key() {
        let (_dir, procfs) = fixture(&[("a", "12\n"), ("b", "x 1\nanon 7\nanon_thp 8\n"), ("c", "max\n")]);
        assert_eq!((procfs.number("a"), procfs.number("c"), procfs.number("d")), (Some(12), None, None));
        assert_eq!((procfs.value("b", "anon "), procfs.value("b", "none ")), (Some(7), None));
    }
}
