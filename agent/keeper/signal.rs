//! Signals as events.

use super::relay::Received;
use crate::canary::{PASSED_ON, bit, set_of};
use crate::procfs::ProcessStat;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that the keeper takes as events. They stay blocked in every thread and in the shipper.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    /// What was blocked before: the app's mask.
    pub before: SigSet,
}

impl Signals {
    /// Takes what the keeper needs to pass on.
    ///
    /// # Errors
    /// As [`Signals::take`].
    pub(super) fn take_all() -> nix::Result<Self> {
        // Who writes to a terminal from the background is not stopped for it: TTOU and TTIN are ours too.
        let others = [Signal::SIGCHLD, Signal::SIGTTIN, Signal::SIGTTOU];
        Self::take(PASSED_ON.into_iter().chain(others))
    }

    /// Blocks them and opens the event source. To be called before any thread starts.
    ///
    /// # Errors
    /// When the kernel refuses either.
    pub fn take(signals: impl IntoIterator<Item = Signal>) -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for signal in signals {
            set.add(signal);
        }
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        match SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) {
            Ok(fd) => Ok(Self { fd, before }),
            Err(errno) => {
                before.thread_set_mask()?;
                Err(errno)
            }
        }
    }

    /// To poll.
    pub fn fd(&self) -> &SignalFd {
        &self.fd
    }

    /// The next signal.
    pub fn next(&self) -> Option<Received> {
        let info = self.fd.read_signal().ok()??;
        Some(Received {
            signal: Signal::try_from(info.ssi_signo as i32).ok()?,
            sender: info.ssi_pid as i32,
            from_kernel: info.ssi_code == nix::libc::SI_KERNEL,
        })
    }

    /// Gives the signals back, before the app is exec'ed in our place.
    pub fn give_back(&self) {
        let _best_effort = self.before.thread_set_mask();
    }
}

/// The signals that wait for a process (proc(5), `ShdPnd`).
pub(super) fn waiting(pid: i32) -> Option<u64> {
    set_of(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "ShdPnd")
}

/// Whether a process cannot have had a SIGTERM: it neither catches nor ignores it, and none waits (proc(5)).
pub(super) fn is_untouched(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let sets = ["SigCgt", "SigIgn", "SigBlk", "ShdPnd", "SigPnd"].map(|field| set_of(&status, field));
    let is_zombie = status.lines().any(|line| line.starts_with("State:\tZ"));
    !is_zombie && sets.iter().all(|set| set.is_some_and(|set| set & bit(Signal::SIGTERM) == 0))
}

/// The parent of a process, as far as `/proc` knows.
pub(super) fn parent_of(pid: i32) -> Option<i32> {
    ProcessStat::of(pid).map(|kin| kin.parent)
}

/// Whether a process is stopped, as by SIGTSTP.
pub(super) fn is_stopped(pid: i32) -> bool {
    ProcessStat::of(pid).is_some_and(|kin| kin.is_stopped())
}

/// Whether two processes are in one process group.
pub(super) fn are_grouped(pid: i32, other: i32) -> bool {
    ProcessStat::of(pid).zip(ProcessStat::of(other)).is_none_or(|(pid, other)| pid.group == other.group)
}

/// A process and all above it, as far as `/proc` knows: deeper than any tree, for pids that are used again meanwhile.
fn line_of(pid: i32) -> impl Iterator<Item = i32> {
    std::iter::successors(Some(pid), |pid| parent_of(*pid)).take_while(|pid| *pid > 0).take(1000)
}

/// Whether the process `pid` is the app, or comes from it. `own` is our pid.
///
/// One whose parents are gone is the app's when it is in our session, or when we are the first process, which such
/// children come to: who comes from outside of a container has no parent in it. One that is gone itself before it
/// could be looked at is the app's when nobody else is there who could have started it.
pub(super) fn is_of_the_app(pid: i32, app: i32, own: i32) -> bool {
    let line: Vec<i32> = line_of(pid).collect();
    if line.contains(&app) {
        return true;
    }
    if line.contains(&own) {
        return own == 1 && pid != own;
    }
    let above: Vec<i32> = line_of(own).collect();
    match ProcessStat::of(pid) {
        Some(kin) => is_orphan(&line, &above) && is_of_our_session(kin, own),
        None => !has_strangers(app, own, &above),
    }
}

/// Whether this line of processes ends with a child of the first process that is not above us.
fn is_orphan(line: &[i32], above: &[i32]) -> bool {
    matches!(line, [.., top, 1] if !above.contains(top))
}

fn is_of_our_session(kin: ProcessStat, own: i32) -> bool {
    ProcessStat::of(own).is_some_and(|ours| ours.session == kin.session)
}

/// Whether there are processes that are neither ours, nor the app's, nor above us.
fn has_strangers(app: i32, own: i32, above: &[i32]) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return true };
    let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.any(|pid| {
        let line: Vec<i32> = line_of(pid).collect();
        let Some(kin) = ProcessStat::of(pid) else { return false };
        let is_ours = line.iter().any(|pid| *pid == app || *pid == own);
        let is_left_over = is_orphan(&line, above) && is_of_our_session(kin, own);
        !(is_ours || is_left_over || above.contains(&pid))
    })
}
