//! Starting processes: the app, and the shipper. The one room with `unsafe`: what must happen between fork
//! and exec, and the one look before `main` that it depends on.

use crate::diag;
use crate::exit_code::ExitCode;
use nix::libc;
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use rustix::process::WaitOptions;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether no process could be made (fork(2)), which says nothing about the command: it may still run in our place.
pub(super) fn is_of_the_start(error: &io::Error) -> bool {
    use libc::{EAGAIN, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM};
    error.raw_os_error().is_some_and(|code| [EAGAIN, ENOMEM, EPERM, ENOSYS, EMFILE, ENFILE].contains(&code))
}

/// Signals of which we change the disposition, and whether they were ignored when we started. Rust's runtime ignores
/// SIGPIPE before `main`, and has children start with the default (`library/std/src/sys/pal/unix/mod.rs`); a process
/// that ignores SIGCHLD is display_command of no child's end (wait(2)). So both are looked at before `main`, and given back.
static IGNORED: [(libc::c_int, AtomicBool); 2] =
    [(libc::SIGPIPE, AtomicBool::new(false)), (libc::SIGCHLD, AtomicBool::new(false))];
/// The standard streams that were closed when we started: Rust's runtime opens `/dev/null` in their places.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

extern "C" fn look_around() {
    for (signal, ignored) in &IGNORED {
        let mut old = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        #[expect(unsafe_code, reason = "a disposition can be asked for in no other way")]
        // SAFETY: with no new action, sigaction(2) only writes the old one, to memory that is ours; it is initialised
        // when the call succeeds, and by zeroes before.
        let was_ignored = unsafe {
            libc::sigaction(*signal, std::ptr::null(), old.as_mut_ptr()) == 0
                && old.assume_init().sa_sigaction == libc::SIG_IGN
        };
        ignored.store(was_ignored, Ordering::Relaxed);
    }
    for (fd, closed) in (0..).zip(&CLOSED) {
        #[expect(unsafe_code, reason = "safe wrappers take descriptors that are open")]
        // SAFETY: F_GETFD takes no argument and changes nothing; of a closed descriptor it is an error (fcntl(2)).
        let failed = unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1;
        // And not because a filter refuses the call.
        let is_closed = failed && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF);
        closed.store(is_closed, Ordering::Relaxed);
    }
}

/// Called by the C runtime before `main`.
#[expect(unsafe_code, reason = "there is no other moment before Rust's runtime")]
// SAFETY: the section holds pointers to functions without arguments or results (System V ABI, gABI chapter 5), and
// the one that this points to needs nothing of Rust's runtime: it makes system calls and stores bits.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_AROUND: extern "C" fn() = look_around;

/// From now on we are display_command of our children's end, whoever started us.
pub(super) fn hear_of_children() {
    #[expect(unsafe_code, reason = "a disposition can be changed in no other way")]
    // SAFETY: SIG_DFL is no function of ours, and nothing else in this process has or wants a handler for SIGCHLD.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(words.first().map_or(std::ffi::OsStr::new(""), OsString::as_os_str));
    command.args(words.get(1..).unwrap_or_default());
    command
}

/// Before the app runs: the signal mask, the ignored signals and the closed streams that it would have had without us.
/// `streams` are those that are as they came to us.
fn restore(command: &mut Command, mask: Option<SigSet>, streams: std::ops::Range<libc::c_int>) {
    let restore = move || {
        for (signal, ignored) in &IGNORED {
            let action = if ignored.load(Ordering::Relaxed) { libc::SIG_IGN } else { libc::SIG_DFL };
            #[expect(unsafe_code, reason = "only the child can do this, after Rust has set the default")]
            // SAFETY: signal(2) is async-signal-safe (signal-safety(7)), and neither is a function of ours.
            unsafe {
                libc::signal(*signal, action);
            }
        }
        for fd in streams.clone().filter(|fd| CLOSED[*fd as usize].load(Ordering::Relaxed)) {
            #[expect(unsafe_code, reason = "nothing of Rust's owns the standard streams")]
            // SAFETY: close(2) is async-signal-safe (signal-safety(7)); what is closed is the `/dev/null` that the
            // runtime opened, in a process that does nothing more but exec.
            unsafe {
                libc::close(fd);
            }
        }
        mask.map_or(Ok(()), |mask| mask.thread_set_mask().map_err(io::Error::from))
    };
    #[expect(unsafe_code, reason = "what is inherited can only be undone between fork and exec")]
    // SAFETY: `restore` makes calls of signal(2), close(2) and pthread_sigmask(3), which are async-signal-safe
    // (signal-safety(7)), on copies of plain values; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(restore);
    }
}

/// Becomes the command. Returns only when that fails.
pub fn exec(words: &[OsString]) -> io::Error {
    let mut command = command(words);
    restore(&mut command, None, 0..3);
    command.exec()
}

/// Says that the command could not be started; returns the exit status that says so.
pub fn cannot_start(words: &[OsString], error: &io::Error) -> u8 {
    let name = words.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned());
    diag::event("cannot-start").field("command", name).field("error", error).emit();
    ExitCode::of_exec_error(error).into()
}

/// Starts the app with these ends of pipes, and with the signal mask that it would have had.
///
/// # Errors
/// When it cannot be started; [`ExitCode::of_exec_error`](crate::exit_code::ExitCode::of_exec_error) says how a shell would report it.
pub(super) fn start_app(words: &[OsString], out: OwnedFd, err: OwnedFd, mask: SigSet) -> io::Result<Child> {
    let mut command = command(words);
    command.stdout(out).stderr(err);
    restore(&mut command, Some(mask), 0..1);
    command.spawn()
}

/// What a look at our children found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    /// This one ended, with the exit status that a shell would tell.
    Ended(Pid, u8),
    /// One stopped.
    Stopped,
}

/// Takes note of one child, of which something happened.
pub(super) fn reap() -> Option<Reaped> {
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
            return Some(Reaped::Ended(pid, code as u8));
        }
        if status.stopped() {
            return Some(Reaped::Stopped);
        }
    }
}

/// The descriptors above 2 that we were started with: they are the app's. None without `/proc`.
pub(super) fn inherited() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let fds = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut fds: Vec<RawFd> = fds.filter(|fd| *fd > 2).collect();
    // The one by which they were listed is closed by now.
    fds.retain(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok());
    fds
}

/// Lets go of what only the app shall hold: whoever waits for it to close them must not wait for us, and the directory
/// that it was started in may go.
pub(super) fn let_go(inherited: Vec<RawFd>) {
    let _or_stay = std::env::set_current_dir("/");
    for fd in inherited {
        let _was_closed_already = nix::unistd::close(fd);
    }
    if let Ok(null) = File::open("/dev/null") {
        let _kept_open = nix::unistd::dup2_stdin(null);
    }
}

/// Starts the shipper: this very program, with its end of the control socket as standard input and the memory
/// file as standard output. It inherits our blocked signals and our process group, on purpose. What it says when it
/// fails is heard when it `speaks`: once in a row of failures is enough. `paths` are settings, since we are not in the
/// directory any more that they were meant for.
///
/// # Errors
/// When it cannot be started.
pub(super) fn start_shipper(
    control: UnixStream,
    memory: Option<&File>,
    paths: &[(&str, PathBuf)],
    agent: &str,
    speaks: bool,
) -> io::Result<Child> {
    let memory = memory.map(File::try_clone).transpose()?;
    Command::new("/proc/self/exe")
        .arg0("tailrace")
        .args(["shipper", agent])
        .envs(paths.iter().map(|(name, path)| (name, path)))
        .stdin(OwnedFd::from(control))
        .stdout(memory.map_or_else(Stdio::null, Stdio::from))
        .stderr(if speaks { Stdio::inherit() } else { Stdio::null() })
        .spawn()
}
