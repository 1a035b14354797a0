//! The init process of a dyno: prepares what the platform prepares around the app's command. A program of its own, so
//! that nothing of a dyno outlives it. As far as the machine allows, the dyno gets PID and mount namespaces with a root
//! directory of its own, made by root or inside a user namespace; otherwise it is a process tree of this system.
//!
//! The outer init process (`run_outer`) stays outside of the PID namespace. It takes commands on standard input, one
//! per line, and kills the dyno when that closes, which covers the death of the simulation.

mod control;
mod root;

pub use control::InitCommand;
pub(crate) use root::SHARED_DIR;

use crate::isolation::Isolation;
use crate::process;
use control::FaultTarget;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, getgid, getuid, setgid, setgroups, setuid};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit status when the dyno cannot be set up; any other status is the app's.
pub const FAILED: u8 = 125;
/// The path of this program in the root directory of a dyno.
const INIT_PATH: &str = "/.init";

/// Whether SIGTERM was requested. From then on the dyno ends with its last process, before that with its main process.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// A directory of this machine that is mounted into a dyno.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BindMount {
    /// The directory on this machine.
    pub source: PathBuf,
    /// The mount point in the dyno.
    pub target: PathBuf,
}

/// What to start, and in which surroundings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// How the dyno is isolated.
    pub isolation: Isolation,
    /// Whether the app is PID 1, as on Fir.
    pub app_is_pid1: bool,
    /// The dyno's directory on this machine, with `root`, `app`, `tmp` and `out`.
    pub dir: PathBuf,
    /// The app's directory in the dyno.
    pub app_dir: PathBuf,
    /// Further directories to mount.
    pub mounts: Vec<BindMount>,
    /// The app's user and group.
    pub user: u32,
    /// Limit of processes and threads together; 0 for no limit.
    pub process_limit: u64,
    /// Content of the memory limit file of a slug dyno, in bytes; without it there is no such file.
    pub memory_limit: Option<u64>,
    /// Size of `/tmp` in bytes; without it, `/tmp` is a directory of this machine.
    pub tmp_size: Option<u64>,
    /// Host name.
    pub hostname: String,
    /// The complete environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Whether standard input belongs to the app, and does not carry commands.
    pub is_attached: bool,
}

impl Spec {
    /// The app's directory as the app sees it.
    fn visible_app_dir(&self) -> PathBuf {
        if self.isolation.has_root() { self.app_dir.clone() } else { self.dir.join("app") }
    }

    /// `/tmp` as the app sees it.
    fn visible_tmp_dir(&self) -> PathBuf {
        if self.isolation.has_root() { PathBuf::from("/tmp") } else { self.dir.join("tmp") }
    }

    /// The app's command, under the app's user where that is another one.
    fn app_command(&self) -> io::Result<Command> {
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| io::Error::other("no command to run"))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.visible_app_dir());
        if self.isolation == Isolation::Root {
            command.uid(self.user).gid(self.user);
        }
        if !self.is_attached {
            command.stdin(Stdio::null());
        }
        Ok(command)
    }

    fn apply_process_limit(&self) -> io::Result<()> {
        if self.process_limit > 0 && self.isolation.has_root() {
            setrlimit(Resource::RLIMIT_NPROC, self.process_limit, self.process_limit)?;
        }
        Ok(())
    }
}

/// Runs one of the modes of this program (`--init SPEC`, `--init-first SPEC`, `--grow BYTES`); returns its exit status.
pub fn main(mode: &str, argument: &Path) -> u8 {
    let result = match mode {
        "--init" => read_spec(argument).and_then(|spec| run_outer(&spec, argument)),
        "--init-first" => read_spec(argument).and_then(|spec| run_pid1(&spec)),
        _ => Ok(control::allocate(argument)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tailrace-dyno: cannot make a dyno: {error}");
        FAILED
    })
}

fn read_spec(path: &Path) -> io::Result<Spec> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// The outer init process, outside of the PID namespace.
fn run_outer(spec: &Spec, spec_file: &Path) -> io::Result<u8> {
    set_pdeathsig(control::PARENT_DEATH_SIGNAL)?;
    block_terminal_signals()?;
    match spec.isolation {
        Isolation::None => return run_unisolated(spec),
        Isolation::User => {
            let (user, group) = (getuid(), getgid());
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
            map_user(0, user.as_raw(), group.as_raw())?;
        }
        Isolation::Root => unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?,
    }
    unshare(CloneFlags::CLONE_NEWPID)?;
    nix::unistd::sethostname(&spec.hostname)?;
    let inner_spec_file = root::build(spec, spec_file)?;
    let mut command = Command::new(INIT_PATH);
    command.arg("--init-first").arg(inner_spec_file);
    if !spec.is_attached {
        command.stdin(if spec.app_is_pid1 { Stdio::null() } else { Stdio::piped() });
    }
    let mut child = spawn(&mut command)?;
    // The platform's init reads stop commands from a pipe, so that one sent before it is ready is not lost. An app that
    // is PID 1 itself gets the signal, and may miss it, as in any container.
    let inner_init = RefCell::new(child.stdin.take());
    let pid = Pid::from_raw(child.id() as i32);
    let tmp = spec.visible_tmp_dir();
    let user = (spec.isolation == Isolation::Root).then_some(spec.user);
    let faults = FaultTarget { tmp: &tmp, program: Path::new(INIT_PATH), user };
    let execute = |command| match command {
        // `pid` cannot be reused here: it is reaped only below, and then this process ends.
        InitCommand::Stop => match inner_init.borrow_mut().as_mut() {
            Some(init) => drop(init.write_all(b"stop\n")),
            None => drop(kill(pid, Signal::SIGTERM)),
        },
        InitCommand::Kill => drop(kill(pid, Signal::SIGKILL)),
        InitCommand::FillDisk => faults.fill_disk(),
        InitCommand::FreeDisk => faults.free_disk(),
        InitCommand::GrowMemory(bytes) => faults.grow_memory(bytes),
    };
    // Reaps every child, not only the first process: that of `grow_memory` too is in the PID namespace, whose first
    // process cannot end before all others are reaped.
    control::serve(spec.is_attached, execute, || {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(ended, code) if ended == pid => return Ok(Some(code as u8)),
                WaitStatus::Signaled(ended, signal, _) if ended == pid => {
                    return Ok(Some(128 + signal as u8));
                }
                WaitStatus::StillAlive => return Ok(None),
                _ => {}
            }
        }
    })
}

/// Without namespaces: the dyno is the tree of descendants of this process.
fn run_unisolated(spec: &Spec) -> io::Result<u8> {
    process::become_subreaper()?;
    let mut child = spawn(&mut spec.app_command()?)?;
    let pid = Pid::from_raw(child.id() as i32);
    let (tmp, program) = (spec.visible_tmp_dir(), std::env::current_exe()?);
    let faults = FaultTarget { tmp: &tmp, program: &program, user: None };
    let execute = |command| match command {
        InitCommand::Stop => {
            STOPPING.store(true, Ordering::Relaxed);
            if spec.app_is_pid1 {
                kill(pid, Signal::SIGTERM).ok(); // fails when it has ended
            } else {
                process::signal_all(Signal::SIGTERM);
            }
        }
        InitCommand::Kill => drop(process::kill_all(Some(pid))),
        InitCommand::FillDisk => faults.fill_disk(),
        InitCommand::FreeDisk => faults.free_disk(),
        InitCommand::GrowMemory(bytes) => faults.grow_memory(bytes),
    };
    let mut status = None;
    let exit_status = || {
        status = status.or(child.try_wait()?.map(exit_code));
        let all_ended =
            !STOPPING.load(Ordering::Relaxed) || spec.app_is_pid1 || process::reap(Some(pid)) == 0;
        Ok(status.filter(|_| all_ended))
    };
    let status = control::serve(spec.is_attached, execute, exit_status)?;
    process::kill_all(None);
    Ok(status)
}

/// PID 1 of the dyno.
fn run_pid1(spec: &Spec) -> io::Result<u8> {
    block_terminal_signals()?;
    root::mount_proc()?;
    spec.apply_process_limit()?;
    match spec.isolation {
        // A nested user namespace: the app gets the uid of a dyno's user, and no rights over the mounts.
        Isolation::User => {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            map_user(spec.user, 0, 0)?;
        }
        Isolation::Root => drop_privileges(spec.user)?,
        Isolation::None => {}
    }
    set_pdeathsig(Signal::SIGKILL)?; // after the change of users, which clears it (prctl(2))
    let mut command = spec.app_command()?;
    if spec.app_is_pid1 {
        SigSet::empty().thread_set_mask()?;
        return Err(command.exec());
    }
    let main = Pid::from_raw(spawn(&mut command)?.id() as i32);
    if !spec.is_attached {
        std::thread::spawn(|| {
            for _stop in io::stdin().lock().lines().map_while(Result::ok) {
                STOPPING.store(true, Ordering::Relaxed);
                // All processes of the PID namespace but this one (kill(2)).
                kill(Pid::from_raw(-1), Signal::SIGTERM).ok(); // fails when there is none
            }
        });
    }
    let mut status = 0;
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => status = code as u8,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => status = 128 + signal as u8,
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return Ok(status), // no process is left
        }
        if !STOPPING.load(Ordering::Relaxed) {
            return Ok(status); // the kernel kills the other processes with PID 1
        }
    }
}

/// Changes to the app's user. Processes stay dumpable, so that they may read each other's memory figures in proc(5), as
/// in a dyno.
fn drop_privileges(user: u32) -> io::Result<()> {
    setgroups(&[])?;
    setgid(Gid::from_raw(user))?;
    setuid(Uid::from_raw(user))?;
    set_dumpable(true)?;
    Ok(())
}

/// Signals from the terminal are for the app of an attached dyno, not for its init processes.
fn block_terminal_signals() -> nix::Result<()> {
    let signals = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, control::PARENT_DEATH_SIGNAL];
    signals.into_iter().collect::<SigSet>().thread_block()
}

/// Starts a process with an empty signal mask: it would inherit the mask of this process.
fn spawn(command: &mut Command) -> io::Result<Child> {
    let blocked = SigSet::thread_get_mask()?;
    SigSet::empty().thread_set_mask()?;
    let child = command.spawn();
    blocked.thread_set_mask()?;
    child
}

/// Maps the only user and the only group of a user namespace to those outside (`user_namespaces(7)`).
fn map_user(inside: u32, user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{inside} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{inside} {group} 1"))
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or_default() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
    }
}
