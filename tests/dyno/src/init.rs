//! A dyno from inside: what the platform prepares around the app's command, as a program of its own, so that nothing
//! of it is left when it ends. It runs where the machine lets it: in namespaces of processes and mounts with the root
//! of a dyno, as root or in a namespace of users, else in this system as it is.
//!
//! The first process (`outer`) stays outside of the namespace of processes. It takes orders on standard input, a line
//! each, and ends the dyno when that closes, so also when the simulation was killed.

mod control;
mod root;

pub(crate) use root::SHARED_DIR;

use crate::process;
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

/// Exit status when there is no dyno: the app's own come through as they are.
pub const FAILED: u8 = 125;
/// This program, in the root of a dyno.
const SELF: &str = "/.init";

/// SIGTERM was asked for: the dyno ends with its last process, not with its main one.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// What surrounds a dyno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Namespaces that root makes: the app has a user of its own.
    Root,
    /// Namespaces inside a namespace of users: the app has the caller's rights under another number.
    User,
    /// None: the dyno is all that descends from its first process.
    None,
}

impl Isolation {
    /// From the best to the least.
    pub const ALL: [Self; 3] = [Self::Root, Self::User, Self::None];

    /// Whether the app sees a dyno's own root.
    pub fn has_root(self) -> bool {
        self != Self::None
    }
}

/// What is to be started, and in what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// What surrounds it.
    pub walls: Isolation,
    /// Whether the app is PID 1, as on Fir.
    pub is_first: bool,
    /// The dyno's own directory on this machine, with `root`, `app`, `tmp`, `out`.
    pub dir: PathBuf,
    /// Where the app is in the dyno.
    pub app_at: PathBuf,
    /// More directories for the dyno: here, and there.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// The app's user and group.
    pub user: u32,
    /// Processes and threads together; 0 for as many as the machine has.
    pub processes: u64,
    /// What the limit file of a slug dyno says, in bytes; without it there is none.
    pub limit_file: Option<u64>,
    /// `/tmp` holds so many bytes; without it, as many as the disk.
    pub disk: Option<u64>,
    /// Host name.
    pub host: String,
    /// The environment, all of it.
    pub environment: Vec<(OsString, OsString)>,
    /// The command's words.
    pub command: Vec<OsString>,
    /// Standard input is the app's, not for orders.
    pub is_attached: bool,
}

impl Spec {
    /// The app's directory as the app sees it.
    fn app(&self) -> PathBuf {
        if self.walls.has_root() { self.app_at.clone() } else { self.dir.join("app") }
    }

    /// `/tmp` as the app sees it.
    fn tmp(&self) -> PathBuf {
        if self.walls.has_root() { PathBuf::from("/tmp") } else { self.dir.join("tmp") }
    }

    /// The app's command, as the app's user where that is another.
    fn starter(&self) -> io::Result<Command> {
        let (program, words) =
            self.command.split_first().ok_or_else(|| io::Error::other("no command to run"))?;
        let mut command = Command::new(program);
        command.args(words).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.app());
        if self.walls == Isolation::Root {
            command.uid(self.user).gid(self.user);
        }
        if !self.is_attached {
            command.stdin(Stdio::null());
        }
        Ok(command)
    }

    fn limit(&self) -> io::Result<()> {
        if self.processes > 0 && self.walls.has_root() {
            setrlimit(Resource::RLIMIT_NPROC, self.processes, self.processes)?;
        }
        Ok(())
    }
}

/// Runs the part of a dyno that `part` names (`--init`, `--init-first`, `--grow`); returns its exit status.
pub fn main(part: &str, argument: &Path) -> u8 {
    let done = match part {
        "--init" => read(argument).and_then(|spec| outer(&spec, argument)),
        "--init-first" => read(argument).and_then(|spec| first(&spec)),
        _ => Ok(control::grow(argument)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("tailrace-dyno: cannot make a dyno: {error}");
        FAILED
    })
}

fn read(spec: &Path) -> io::Result<Spec> {
    Ok(serde_json::from_slice(&fs::read(spec)?)?)
}

/// The first process of all, still outside.
fn outer(spec: &Spec, path: &Path) -> io::Result<u8> {
    set_pdeathsig(control::ORPHANED)?;
    ignore_the_terminal()?;
    match spec.walls {
        Isolation::None => return plain(spec),
        Isolation::User => {
            let (user, group) = (getuid(), getgid());
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
            map_user(0, user.as_raw(), group.as_raw())?;
        }
        Isolation::Root => unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?,
    }
    unshare(CloneFlags::CLONE_NEWPID)?;
    nix::unistd::sethostname(&spec.host)?;
    let spec_at = root::build(spec, path)?;
    let mut command = Command::new(SELF);
    command.arg("--init-first").arg(spec_at);
    if !spec.is_attached {
        command.stdin(if spec.is_first { Stdio::null() } else { Stdio::piped() });
    }
    let mut child = spawn(&mut command)?;
    // The platform's init reads what it is told, so that nothing is lost that comes before it is ready. An app that is
    // the first process itself gets the signal, and may miss it as in any container.
    let init = RefCell::new(child.stdin.take());
    let pid = Pid::from_raw(child.id() as i32);
    let (tmp, user) = (spec.tmp(), (spec.walls == Isolation::Root).then_some(spec.user));
    let act = |order| match order {
        // The process behind this number is there as long as nobody has waited for it, which ends us too.
        control::Order::Stop => match init.borrow_mut().as_mut() {
            Some(init) => drop(init.write_all(b"stop\n")),
            None => drop(kill(pid, Signal::SIGTERM)),
        },
        control::Order::End => drop(kill(pid, Signal::SIGKILL)),
        control::Order::Other(order) => control::other(&order, &tmp, Path::new(SELF), user),
    };
    // Also what was put into the dyno from here: its first process cannot end before that is taken note of.
    control::obey(spec.is_attached, act, || {
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

/// In this system as it is: the dyno is all that descends from here.
fn plain(spec: &Spec) -> io::Result<u8> {
    process::adopt()?;
    let mut child = spawn(&mut spec.starter()?)?;
    let pid = Pid::from_raw(child.id() as i32);
    let (tmp, program) = (spec.tmp(), std::env::current_exe()?);
    let act = |order| match order {
        control::Order::Stop => {
            STOPPING.store(true, Ordering::Relaxed);
            if spec.is_first {
                let _gone_already = kill(pid, Signal::SIGTERM);
            } else {
                process::signal_all(Signal::SIGTERM);
            }
        }
        control::Order::End => {
            process::kill_all(Some(pid));
        }
        control::Order::Other(order) => control::other(&order, &tmp, &program, None),
    };
    let mut ended = None;
    let done = || {
        ended = ended.or(child.try_wait()?.map(status));
        let is_over = !STOPPING.load(Ordering::Relaxed) || spec.is_first || process::reap(Some(pid)) == 0;
        Ok(ended.filter(|_| is_over))
    };
    let status = control::obey(spec.is_attached, act, done)?;
    process::kill_all(None);
    Ok(status)
}

/// PID 1 of the dyno.
fn first(spec: &Spec) -> io::Result<u8> {
    ignore_the_terminal()?;
    root::mount_proc()?;
    spec.limit()?;
    match spec.walls {
        // As the number that a dyno's user has, and without rights over the mounts.
        Isolation::User => {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            map_user(spec.user, 0, 0)?;
        }
        Isolation::Root => become_user(spec.user)?,
        Isolation::None => {}
    }
    set_pdeathsig(Signal::SIGKILL)?; // behind the change of users, which clears it (prctl(2))
    let mut starter = spec.starter()?;
    if spec.is_first {
        SigSet::empty().thread_set_mask()?;
        return Err(starter.exec());
    }
    let main = Pid::from_raw(spawn(&mut starter)?.id() as i32);
    if !spec.is_attached {
        std::thread::spawn(|| {
            for _stop in io::stdin().lock().lines().map_while(Result::ok) {
                STOPPING.store(true, Ordering::Relaxed);
                // Every process of the dyno but this one (kill(2)).
                let _nobody_there = kill(Pid::from_raw(-1), Signal::SIGTERM);
            }
        });
    }
    let mut ended = 0;
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => ended = code as u8,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => ended = 128 + signal as u8,
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return Ok(ended), // nobody is left
        }
        if !STOPPING.load(Ordering::Relaxed) {
            return Ok(ended); // the kernel ends the others
        }
    }
}

/// Nobody is root in a dyno, and each of its processes may look at the others: at what memory they take, too.
fn become_user(user: u32) -> io::Result<()> {
    setgroups(&[])?;
    setgid(Gid::from_raw(user))?;
    setuid(Uid::from_raw(user))?;
    set_dumpable(true)?;
    Ok(())
}

/// Ctrl-C is for the app of an attached dyno, and not for what surrounds it.
fn ignore_the_terminal() -> nix::Result<()> {
    block(&[Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, control::ORPHANED])
}

fn block(signals: &[Signal]) -> nix::Result<()> {
    signals.iter().copied().collect::<SigSet>().thread_block()
}

/// Starts a process that has no signal blocked: it would inherit what is blocked here.
fn spawn(command: &mut Command) -> io::Result<Child> {
    let blocked = SigSet::thread_get_mask()?;
    SigSet::empty().thread_set_mask()?;
    let child = command.spawn();
    blocked.thread_set_mask()?;
    child
}

/// One user and one group are all that a namespace of users has.
fn map_user(inside: u32, user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{inside} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{inside} {group} 1"))
}

fn status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or_default() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(status(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(status(ExitStatus::from_raw(15)), 143);
    }
}
