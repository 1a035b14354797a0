//! Starts processes: the app and the shipper. The only module with `unsafe`: code that runs between fork and exec, and
//! before `main` for what that code restores; and one system call that has no safe wrapper.

use super::script;
use crate::diag;
use crate::exit_code::ExitCode;
use nix::libc;
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use rustix::process::WaitOptions;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether an error of [`start_app`] means that no process could be made (fork(2)). It says nothing about the command,
/// which may still be executed in place of this process.
pub(super) fn is_fork_error(error: &io::Error) -> bool {
    use libc::{EAGAIN, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM};
    error.raw_os_error().is_some_and(|code| [EAGAIN, ENOMEM, EPERM, ENOSYS, EMFILE, ENFILE].contains(&code))
}

/// Signals whose disposition is changed here, and whether they were ignored when this process started. Rust's runtime
/// ignores SIGPIPE before `main`, and resets it to the default in children (`library/std/src/sys/pal/unix/mod.rs`);
/// SIGCHLD must not be ignored, because wait(2) would report no child. Both are recorded before `main`, and restored for
/// the app.
static IGNORED_AT_START: [(libc::c_int, AtomicBool); 2] =
    [(libc::SIGPIPE, AtomicBool::new(false)), (libc::SIGCHLD, AtomicBool::new(false))];
/// Standard streams that were closed when this process started. Rust's runtime opens `/dev/null` in their place.
static CLOSED_AT_START: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

extern "C" fn record_inherited_state() {
    for (signal, ignored) in &IGNORED_AT_START {
        let mut old = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        #[expect(unsafe_code, reason = "no safe wrapper reads a disposition without changing it")]
        // SAFETY: with a null new action sigaction(2) only writes the old one, to `old`, which outlives the call. `old`
        // is zeroed, which is a valid `sigaction`, and is read only when the call succeeded.
        let was_ignored = unsafe {
            libc::sigaction(*signal, std::ptr::null(), old.as_mut_ptr()) == 0
                && old.assume_init().sa_sigaction == libc::SIG_IGN
        };
        ignored.store(was_ignored, Ordering::Relaxed);
    }
    for (fd, closed) in (0..).zip(&CLOSED_AT_START) {
        #[expect(unsafe_code, reason = "safe wrappers take open descriptors only")]
        // SAFETY: F_GETFD takes no argument and changes nothing; for a closed descriptor it is an error (fcntl(2)).
        let failed = unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1;
        // A seccomp filter that refuses the call is another error.
        let is_closed = failed && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF);
        closed.store(is_closed, Ordering::Relaxed);
    }
}

/// Called by the C runtime before `main`.
#[expect(unsafe_code, reason = "Rust's runtime changes the state before main")]
// SAFETY: the section holds pointers to functions that the C runtime calls (System V ABI, gABI chapter 5). The function
// uses neither its arguments nor Rust's runtime, which is not initialised yet: it makes system calls and stores flags.
#[used]
#[unsafe(link_section = ".init_array")]
static RECORD_INHERITED_STATE: extern "C" fn() = record_inherited_state;

/// Resets SIGCHLD to the default, in case that it was ignored: the end of children is reported from now on.
pub(super) fn reset_sigchld() {
    #[expect(unsafe_code, reason = "no safe wrapper changes a disposition")]
    // SAFETY: SIG_DFL installs no handler that could run, and nothing else in this process has a handler for SIGCHLD.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Whether two descriptors of this process are one open file description, and so have one position in their file.
/// False also where kcmp(2) is not permitted.
pub(super) fn is_same_description(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    const KCMP_FILE: libc::c_int = 0; // linux/kcmp.h
    let pid = Pid::this().as_raw();
    #[expect(unsafe_code, reason = "no safe wrapper for kcmp(2)")]
    // SAFETY: with KCMP_FILE the call takes descriptor numbers, writes nothing, and changes nothing.
    let order =
        unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd()) };
    order == 0
}

fn command(arguments: &[OsString]) -> Command {
    let program = arguments.first().map_or(OsStr::new(""), OsString::as_os_str);
    let mut command = Command::new(program);
    command.args(arguments.get(1..).unwrap_or_default());
    command
}

/// Has the child restore, before exec, what it would have inherited without tailrace: the signal mask, ignored signals
/// and closed standard streams. `streams`: those that the child inherits from this process.
fn restore_in_child(command: &mut Command, mask: Option<SigSet>, streams: std::ops::Range<libc::c_int>) {
    let restore = move || {
        for (signal, ignored) in &IGNORED_AT_START {
            let action = if ignored.load(Ordering::Relaxed) { libc::SIG_IGN } else { libc::SIG_DFL };
            #[expect(
                unsafe_code,
                reason = "no safe wrapper changes a disposition; Rust resets it in the child"
            )]
            // SAFETY: signal(2) is async-signal-safe (signal-safety(7)), and neither action is a handler.
            unsafe {
                libc::signal(*signal, action);
            }
        }
        for fd in streams.clone().filter(|fd| CLOSED_AT_START[*fd as usize].load(Ordering::Relaxed)) {
            #[expect(unsafe_code, reason = "no Rust value owns the standard streams")]
            // SAFETY: close(2) is async-signal-safe (signal-safety(7)). It closes the `/dev/null` that the runtime
            // opened, in a process that only executes the command after that.
            unsafe {
                libc::close(fd);
            }
        }
        mask.map_or(Ok(()), |mask| mask.thread_set_mask().map_err(io::Error::from))
    };
    #[expect(unsafe_code, reason = "inherited state can only be restored between fork and exec")]
    // SAFETY: `restore` runs between fork and exec. It calls signal(2), close(2) and pthread_sigmask(3), which are
    // async-signal-safe (signal-safety(7)), with copies of plain values; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(restore);
    }
}

/// Executes the command in place of this process. Returns only when that fails.
pub(crate) fn exec(arguments: &[OsString]) -> io::Error {
    let execute = |arguments: &[OsString]| {
        let mut command = command(arguments);
        restore_in_child(&mut command, None, 0..3);
        command.exec()
    };
    let error = execute(arguments);
    match script::through_shell(arguments).filter(|_| is_no_program(&error)) {
        Some(arguments) => execute(&arguments),
        None => error,
    }
}

/// Whether the kernel does not know how to run the file.
fn is_no_program(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOEXEC)
}

/// Reports that the command could not be started; returns the exit status for that.
pub(crate) fn cannot_start(arguments: &[OsString], error: &io::Error) -> u8 {
    let name = arguments.first().map_or_else(String::new, |program| program.to_string_lossy().into_owned());
    diag::event(diag::Event::CannotStart).field("command", name).field("error", error).emit();
    ExitCode::of_exec_error(error).into()
}

/// Starts the app with these pipes as standard output and standard error, and with this signal mask.
///
/// # Errors
/// When it cannot be started: [`is_fork_error`] and [`ExitCode::of_exec_error`] tell the cases apart.
pub(super) fn start_app(
    arguments: &[OsString],
    out: OwnedFd,
    err: OwnedFd,
    mask: SigSet,
) -> io::Result<Child> {
    let start = |arguments: &[OsString], [out, err]: [OwnedFd; 2]| {
        let mut command = command(arguments);
        command.stdout(out).stderr(err);
        restore_in_child(&mut command, Some(mask), 0..1);
        command.spawn()
    };
    let Some(script) = script::through_shell(arguments) else { return start(arguments, [out, err]) };
    let pipes = [out.try_clone()?, err.try_clone()?];
    match start(arguments, pipes) {
        Err(error) if is_no_program(&error) => start(&script, [out, err]),
        started => started,
    }
}

/// A change of state of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildEvent {
    /// It ended, with this exit status as a shell would show it.
    Ended { pid: Pid, status: u8 },
    /// A signal stopped it.
    Stopped,
}

/// Collects the next child that ended or stopped; none when there is no other.
pub(super) fn next_child_event() -> Option<ChildEvent> {
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
    loop {
        let (pid, status) = match rustix::process::wait(options) {
            Ok(found) => found?,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
        };
        let pid = Pid::from_raw(pid.as_raw_nonzero().get());
        let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
        if let Some(code) = code {
            return Some(ChildEvent::Ended { pid, status: code as u8 });
        }
        if status.stopped() {
            return Some(ChildEvent::Stopped);
        }
    }
}

/// The descriptors above 2 that this process was started with: they are meant for the app. Empty without `/proc`.
pub(super) fn inherited_fds() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let fds = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut fds: Vec<RawFd> = fds.filter(|fd| *fd > 2).collect();
    // The descriptor of the directory listing itself is closed by now.
    fds.retain(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok());
    fds
}

/// Releases what only the app is to hold: inherited descriptors, whose other ends may wait for the app to close them, the
/// working directory, and standard input.
pub(super) fn release_inherited(fds: Vec<RawFd>) {
    std::env::set_current_dir("/").ok(); // stays in the directory: nothing depends on it
    for fd in fds {
        nix::unistd::close(fd).ok(); // not open any more
    }
    if let Ok(null) = File::open("/dev/null") {
        nix::unistd::dup2_stdin(null).ok(); // standard input stays open: nothing reads it
    }
}

/// What becomes of the shipper's standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShipperStderr {
    /// It goes to the dyno's standard error.
    Inherit,
    /// It is discarded.
    Discard,
}

/// Starts the shipper: this program, with its end of the control socket as standard input and the memory file as
/// standard output. It must inherit the blocked signals and the process group: it is the pending-signal probe. `paths`:
/// settings with absolute paths, because the working directory is not the one that they refer to.
///
/// # Errors
/// When it cannot be started.
pub(super) fn start_shipper(
    control: UnixStream,
    memory: Option<&File>,
    paths: &[(&str, PathBuf)],
    agent: &str,
    stderr: ShipperStderr,
) -> io::Result<Child> {
    let memory = memory.map(File::try_clone).transpose()?;
    Command::new("/proc/self/exe")
        .arg0("tailrace")
        .args(["shipper", agent])
        .envs(paths.iter().map(|(name, path)| (name, path)))
        .stdin(OwnedFd::from(control))
        .stdout(memory.map_or_else(Stdio::null, Stdio::from))
        .stderr(match stderr {
            ShipperStderr::Inherit => Stdio::inherit(),
            ShipperStderr::Discard => Stdio::null(),
        })
        .spawn()
}
