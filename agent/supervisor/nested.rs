//! Whether another supervisor ships this process's output already: `tailrace run` in a command that runs under
//! tailrace.

use crate::signals::ancestry::{SystemProcesses, parent_of};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Ancestors that are examined: more than any chain of wrappers has.
const MAX_ANCESTORS: usize = 64;

/// Whether standard output is the pipe of a supervisor among the ancestors. A second supervisor would ship every line
/// twice. False without `/proc`, and below another user's supervisor, which cannot be examined.
pub(crate) fn is_nested() -> bool {
    let Ok(out) = fs::read_link("/proc/self/fd/1") else { return false };
    if !out.as_os_str().as_bytes().starts_with(b"pipe:") {
        return false;
    }
    let parent = |pid: i32| parent_of(pid, &SystemProcesses);
    let ancestors = std::iter::successors(parent(std::process::id() as i32), |pid| parent(*pid));
    let mut ancestors = ancestors.take_while(|pid| *pid > 0).take(MAX_ANCESTORS);
    ancestors.any(|pid| is_supervisor(pid) && reads(pid, &out))
}

/// Whether a process was started as `tailrace run`, by whatever path.
fn is_supervisor(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = line.split(|byte| *byte == 0).map(OsStr::from_bytes);
    let name = arguments.next().and_then(|path| Path::new(path).file_name());
    name.is_some_and(|name| name == "tailrace") && arguments.next().is_some_and(|command| command == "run")
}

/// Whether a process has this pipe open, other than as one of its standard streams.
fn reads(pid: i32, pipe: &Path) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut fds =
        entries.flatten().filter(|entry| !["0", "1", "2"].iter().any(|fd| entry.file_name() == *fd));
    fds.any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == pipe))
}
