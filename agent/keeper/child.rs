//! Starting processes: the app, and the shipper. The one room with `unsafe`: what must happen between fork
//! and exec.

use nix::sys::signal::SigSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Exit status for a command that was not found (POSIX, XCU 2.8.2).
pub(super) const NOT_FOUND: u8 = 127;
/// Exit status for a command that cannot be executed (POSIX, XCU 2.8.2).
pub(super) const NOT_EXECUTABLE: u8 = 126;

/// The exit status that a shell would give for a command that could not be started.
pub fn code_of(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(words.first().map_or(std::ffi::OsStr::new(""), OsString::as_os_str));
    command.args(words.get(1..).unwrap_or_default());
    command
}

/// Becomes the command. Returns only when that fails.
pub fn exec(words: &[OsString]) -> io::Error {
    command(words).exec()
}

/// Starts the app with these ends of pipes, and with the signal mask that it would have had.
///
/// # Errors
/// When it cannot be started; [`code_of`] says how a shell would report it.
pub(super) fn start_app(words: &[OsString], out: OwnedFd, err: OwnedFd, mask: SigSet) -> io::Result<Child> {
    let mut command = command(words);
    command.stdout(out).stderr(err);
    let restore = move || mask.thread_set_mask().map_err(io::Error::from);
    #[expect(
        unsafe_code,
        reason = "the app must not inherit our blocked signals, and only the child can undo that"
    )]
    // SAFETY: `restore` makes one call, pthread_sigmask, which is async-signal-safe (signal-safety(7)), on a copy
    // of a plain bit set; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(restore);
    }
    command.spawn()
}

/// Starts the shipper: this very program, with its end of the control socket as standard input and the memory
/// file as standard output. It inherits our blocked signals and our process group, on purpose.
///
/// # Errors
/// When it cannot be started.
pub(super) fn start_shipper(control: UnixStream, memory: Option<&File>) -> io::Result<Child> {
    let memory = memory.map(File::try_clone).transpose()?;
    Command::new("/proc/self/exe")
        .arg0("tailrace")
        .arg("shipper")
        .stdin(OwnedFd::from(control))
        .stdout(memory.map_or_else(Stdio::null, Stdio::from))
        .current_dir("/")
        .spawn()
}
