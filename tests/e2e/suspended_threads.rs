//! Stops threads of the supervisor, as a disk that does not answer would block them.

use crate::harness::{skip, wait_for};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Threads that are stopped by ptrace(2) until this is dropped. Drop it in the thread that created it: ptrace requests
/// come from the tracing thread.
pub(crate) struct SuspendedThreads(Vec<Pid>);

impl SuspendedThreads {
    /// Stops the threads with these names; `None` where tracing is refused.
    pub(crate) fn of(pid: i32, names: &[&str]) -> Option<Self> {
        let mut threads = Vec::new();
        for name in names {
            let has_name = |task: &PathBuf| {
                fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == *name)
            };
            let task = wait_for(name, || {
                let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
                tasks.map(|task| task.path()).find(has_name)
            });
            let thread = Pid::from_raw(task.file_name()?.to_str()?.parse().ok()?);
            match ptrace::seize(thread, ptrace::Options::empty()) {
                Err(Errno::EPERM | Errno::ENOSYS) => {
                    skip("ptrace is refused here");
                    return None;
                }
                other => other.unwrap(),
            }
            ptrace::interrupt(thread).unwrap();
            waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
            threads.push(thread);
        }
        Some(Self(threads))
    }
}

impl Drop for SuspendedThreads {
    fn drop(&mut self) {
        // If the process has exited, the tracer must reap each thread before the parent can reap the process, in
        // whatever order the kernel makes them available.
        self.0.retain(|thread| ptrace::detach(*thread, None).is_err());
        let flags = Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG);
        while !self.0.is_empty() {
            self.0.retain(|thread| matches!(waitpid(*thread, flags), Ok(WaitStatus::StillAlive)));
            thread::sleep(Duration::from_millis(1));
        }
    }
}
