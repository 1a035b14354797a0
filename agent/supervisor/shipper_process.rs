//! The shipper: starts the shipper, watches it, and replaces it when it dies or hangs.

use super::shared_state::SharedState;
use super::spawn;
use crate::delivery::Coordinator;
use crate::diag;
use crate::protocol::{Connection, ToShipper};
use crate::status::{Elapsed, ShipperStatus};
use nix::poll::poll;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A killed process is gone after a moment, unless it stands in a call that cannot be interrupted.
const PARTING: Duration = Duration::from_millis(200);
/// A start that fails for so long is said: an app that ends sooner has the closing line.
const UNSAID: Duration = Duration::from_secs(5);
/// How often trouble that goes on is said again.
const AGAIN: Duration = Duration::from_mins(10);
/// Restarts without a delivery that are weather.
const PATIENT: u32 = 3;
/// The longest wait before a restart.
const LONGEST: Duration = Duration::from_mins(1);

/// What the shipper is to do when it is new.
#[derive(Clone, Copy, Debug, Default)]
struct Ending {
    /// When delivery ends at the latest.
    deadline: Option<Instant>,
    finish: bool,
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    link: Connection,
    heard: Instant,
    /// It was display_command that no more frames will come.
    finishing: bool,
}

/// What a person was display_command of the shipper: trouble, again every 10 minutes, and when it is over.
#[derive(Clone, Copy, Debug, Default)]
struct Throttle {
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Throttle {
    /// Whether it is to be said now.
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        self.since.get_or_insert(now);
        let is_due = self.said.is_none_or(|said| said.elapsed() >= AGAIN);
        if is_due {
            self.said = Some(now);
        }
        is_due
    }

    /// It is over; how long it lasted, when a person was display_command of it.
    fn over(&mut self) -> Option<Duration> {
        std::mem::take(self).since.map(|since| since.elapsed())
    }
}

/// The shipper as the keeper sees it.
#[derive(Debug)]
pub(super) struct ShipperProcess {
    memory: Option<File>,
    paths: Vec<(&'static str, PathBuf)>,
    silence: Duration,
    running: Option<Running>,
    next_start: Option<Instant>,
    restarts: u32,
    starts: u32,
    ending: Ending,
    /// Since when no shipper can be started.
    unstartable: Option<Instant>,
    trouble: Throttle,
    shared_state: Arc<SharedState>,
}

impl ShipperProcess {
    /// `paths` are settings for the shipper. `silence` is how long it may say nothing before it is taken for hung.
    pub(super) fn new(
        memory: Option<File>,
        paths: Vec<(&'static str, PathBuf)>,
        silence: Duration,
        shared_state: Arc<SharedState>,
    ) -> Self {
        Self {
            memory,
            paths,
            silence,
            running: None,
            next_start: Some(Instant::now()),
            restarts: 0,
            starts: 0,
            ending: Ending::default(),
            unstartable: None,
            trouble: Throttle::default(),
            shared_state,
        }
    }

    /// The link to the running shipper.
    pub(super) fn link(&self) -> Option<&Connection> {
        self.running.as_ref().map(|running| &running.link)
    }

    /// The running shipper.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// Whether none can be started.
    pub(super) fn fails(&self) -> bool {
        self.unstartable.is_some()
    }

    /// How it is.
    pub(super) fn health(&self) -> ShipperStatus {
        let running = self.running.as_ref();
        ShipperStatus {
            pid: running.map(|running| running.pid.as_raw()),
            silent: Elapsed(running.map_or(Duration::ZERO, |running| running.heard.elapsed())),
            starts: self.starts,
        }
    }

    /// Starts, tells, hears and kills, as is due. To be called whenever something happened.
    pub(super) fn tick(&mut self, coordinator: &mut Coordinator) {
        let now = Instant::now();
        if self.running.is_none() && self.next_start.is_some_and(|at| at <= now) {
            self.start(coordinator);
        }
        let Some(running) = &mut self.running else { return };
        let heard = coordinator.handle_messages(&mut running.link);
        if heard.alive {
            running.heard = now;
        }
        if heard.delivered {
            self.restarts = 0;
            if let Some(down) = self.trouble.over() {
                diag::event("shipper-ok").field("down", diag::seconds(down)).emit();
            }
        }
        if coordinator.has_updates() {
            coordinator.send_updates(&mut running.link);
        }
        if self.ending.finish && !running.finishing && !coordinator.has_updates() {
            running.finishing = true;
            running.link.send(&ToShipper::EndOfLog);
        }
        running.link.flush();
        let hangs = running.heard + self.silence <= now;
        if hangs || running.link.is_closed() {
            if hangs && self.trouble.is_due() {
                diag::event("shipper-hangs").field("silent", diag::seconds(self.silence)).emit();
            }
            let _gone_already = kill(running.pid, Signal::SIGKILL);
        }
    }

    /// When [`ShipperProcess::tick`] has something to do by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        self.running.as_ref().map_or(self.next_start, |running| Some(running.heard + self.silence))
    }

    fn start(&mut self, coordinator: &mut Coordinator) {
        self.next_start = None;
        let started = UnixStream::pair().and_then(|(ours, theirs)| {
            let (memory, agent) = (self.memory.as_ref(), coordinator.spool().agent.as_str());
            let child = spawn::start_shipper(theirs, memory, &self.paths, agent, self.restarts == 0)?;
            Ok((child.id(), Connection::new(ours)?))
        });
        match started {
            Ok((pid, mut link)) => {
                coordinator.resync(&mut link);
                self.tell_ending(&mut link);
                link.flush();
                let pid = Pid::from_raw(pid as i32);
                self.starts += 1;
                self.shared_state.set_shipper(pid.as_raw());
                self.unstartable = None;
                self.running = Some(Running { pid, link, heard: Instant::now(), finishing: false });
            }
            Err(error) => {
                if self.unstartable.get_or_insert_with(Instant::now).elapsed() >= UNSAID
                    && self.trouble.is_due()
                {
                    let line = diag::event("no-shipper").field("error", error);
                    line.field("detail", "lines are kept and it is tried again").emit();
                }
                self.schedule();
            }
        }
    }

    fn tell_ending(&self, link: &mut Connection) {
        if let Some(deadline) = self.ending.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            link.send(&ToShipper::Deadline(left.as_millis() as u64));
        }
    }

    /// At once, then after 1 s, 2 s, 4 s and so on; a delivery starts the row anew.
    fn schedule(&mut self) -> Duration {
        let wait = match self.restarts {
            0 => Duration::ZERO,
            more => Duration::from_secs(1 << (more - 1).min(6)).min(LONGEST),
        };
        let wait = if self.ending.deadline.is_some() { wait.min(Duration::from_secs(1)) } else { wait };
        self.restarts += 1;
        self.next_start = Some(Instant::now() + wait);
        wait
    }

    /// The process `pid` was reaped; true when it was the shipper.
    pub(super) fn reaped(&mut self, pid: Pid, coordinator: &mut Coordinator) -> bool {
        if self.running.as_ref().is_none_or(|running| running.pid != pid) {
            return false;
        }
        if let Some(mut running) = self.running.take() {
            hear_out(&mut running, coordinator);
        }
        let wait = self.schedule();
        if self.restarts > PATIENT && self.trouble.is_due() {
            let line =
                diag::event("shipper-fails").field("starts", self.starts).field("retry", diag::seconds(wait));
            line.field("detail", "lines are kept and it is tried again").emit();
        }
        true
    }

    /// From now on it is shipped without waiting for fuller batches, and delivery ends at `deadline`.
    pub(super) fn hurry(&mut self, deadline: Instant) {
        self.ending.deadline = Some(deadline);
        self.pass_on_ending();
    }

    /// Signals that wait for it are of no more use.
    pub(super) fn calm(&mut self) {
        if let Some(running) = &mut self.running {
            running.link.send(&ToShipper::ClearPendingSignals);
            running.link.flush();
        }
    }

    /// No more frames will come.
    pub(super) fn finish(&mut self) {
        self.ending.finish = true;
    }

    fn pass_on_ending(&mut self) {
        if let Some(mut running) = self.running.take() {
            self.tell_ending(&mut running.link);
            running.link.flush();
            self.running = Some(running);
        } else if let Some(at) = &mut self.next_start {
            *at = (*at).min(Instant::now() + Duration::from_millis(100));
        }
    }

    /// The end: it goes, also when it hangs, and is reaped, so that what it used is counted for the dyno; what it
    /// said before is heard.
    pub(super) fn kill(&mut self, coordinator: Option<&mut Coordinator>) {
        self.next_start = None;
        let Some(mut running) = self.running.take() else { return };
        let _gone_already = kill(running.pid, Signal::SIGKILL);
        let until = Instant::now() + PARTING;
        while matches!(waitpid(running.pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
            && Instant::now() < until
        {
            // Not sleep(), which has no answer to a filter that refuses clock_nanosleep(2).
            let _or_interrupted = poll(&mut [], 1_u8);
        }
        if let Some(coordinator) = coordinator {
            hear_out(&mut running, coordinator);
        }
    }
}

/// Its last words count: what it says was delivered was delivered.
fn hear_out(running: &mut Running, coordinator: &mut Coordinator) {
    while !running.link.is_closed() && coordinator.handle_messages(&mut running.link).alive {}
}
