//! Whether a keeper above us ships what we would print: `tailrace run` in a line that runs under tailrace already.

use crate::signals::ancestry::{SystemProcesses, parent_of};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Processes above us that are looked at: deeper than any tree of wrappers.
const DEEPEST: usize = 64;

/// Whether our standard output is the pipe of a keeper above us. Then there is nothing left to do for us: with two
/// keepers every line would be shipped twice. Without `/proc`, and below another user's keeper, there is no telling.
pub fn is_below_another() -> bool {
    let Ok(out) = fs::read_link("/proc/self/fd/1") else { return false };
    if !out.as_os_str().as_bytes().starts_with(b"pipe:") {
        return false;
    }
    let parent = |pid: i32| parent_of(pid, &SystemProcesses);
    let above = std::iter::successors(parent(std::process::id() as i32), |pid| parent(*pid));
    above.take_while(|pid| *pid > 0).take(DEEPEST).any(|pid| is_keeper(pid) && reads(pid, &out))
}

/// Whether a process was started as `tailrace run`, by whatever path.
fn is_keeper(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).map(OsStr::from_bytes);
    let name = words.next().and_then(|word| Path::new(word).file_name());
    name.is_some_and(|name| name == "tailrace") && words.next().is_some_and(|word| word == "run")
}

/// Whether a process holds this pipe, and not as an output of its own.
fn reads(pid: i32, pipe: &Path) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let others = entries.flatten().filter(|entry| !["0", "1", "2"].iter().any(|fd| entry.file_name() == *fd));
    others.into_iter().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == pipe))
}
