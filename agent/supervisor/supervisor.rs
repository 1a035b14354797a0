//! The event loop of the supervisor: signals, children, the shipper, and the end.

use super::setup::Setup;
use super::shared_state::SharedState;
use super::shipper_process::ShipperProcess;
use super::spawn::{self, Reaped, cannot_start, exec};
use crate::config::Config;
use crate::delivery::Coordinator;
use crate::diag;
use crate::dyno::lifecycle::{ExitCause, Lifecycle, Readiness};
use crate::frame::AgentLine;
use crate::poll::until;
use crate::recorder::{Input, RecorderThread, input};
use crate::signals::ancestry;
use crate::signals::forward::{ProcessView, SignalForwarder};
use crate::signals::pending;
use crate::signals::source::Signals;
use crate::status::StatusSocket;
use crossbeam_channel::Sender;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

/// An app that stops by a SIGTSTP has done so after this time.
const SUSPENDS: Duration = Duration::from_secs(1);
/// A shipper that says nothing for longer than any request may take, and this, hangs.
const SLACK: Duration = Duration::from_secs(5);

/// Runs the command `words` as the dyno's process and returns its exit status. What cannot be set up is said in
/// one line, and the command runs in our place.
pub fn run(config: &Config, words: &[OsString]) -> u8 {
    let inherited = spawn::inherited();
    spawn::hear_of_children();
    let steps_aside = |what: &str, error: &io::Error| {
        diag::event("not-shipping").field("error", format!("{what}: {error}")).emit();
        cannot_start(words, &exec(words))
    };
    let signals = match Signals::block_forwarded() {
        Ok(signals) => signals,
        Err(error) => return steps_aside("cannot take signals", &error.into()),
    };
    let setup = match Setup::prepare(config, display_command(words)) {
        Ok(setup) => setup,
        Err((what, error)) => {
            signals.restore_mask();
            return steps_aside(what, &error);
        }
    };
    let [out, err] = setup.ends;
    let app = match spawn::start_app(words, out, err, signals.before) {
        Ok(child) => Pid::from_raw(child.id() as i32),
        Err(error) => {
            signals.restore_mask();
            if spawn::is_of_the_start(&error) {
                return steps_aside("cannot start a process", &error);
            }
            return cannot_start(words, &error);
        }
    };
    spawn::let_go(inherited);
    if !config.waits_for_port() {
        setup.shared_state.up(|| {});
    }
    let _room_for_both = (setup.recorder.try_send(Input::Start), setup.begin.try_send(app.as_raw()));
    let keeper = Supervisor {
        config,
        signals,
        wake: setup.wake,
        gone: setup.gone,
        recorder_thread: setup.recorder_thread,
        pumps: setup.finished,
        shipper: ShipperProcess::new(
            setup.memory,
            config.paths(),
            config.request_timeout + SLACK,
            Arc::clone(&setup.shared_state),
        ),
        coordinator: None,
        status_socket: None,
        since: Instant::now(),
        app,
        status: None,
        // Cedar's dyno manager does; where a container's first process is ours nobody else is signalled.
        forwarder: SignalForwarder::new(std::env::var_os("DYNO").is_some() && std::process::id() != 1),
        stop_at: None,
        has_reported: false,
        ended: None,
        suspends: None,
        recorder: setup.recorder,
        shared_state: setup.shared_state,
        _sampler: setup.begin,
    };
    catch_unwind(AssertUnwindSafe(|| keeper.run())).unwrap_or_else(|_| run_fallback(app))
}

/// A bug of ours took the keeper away: what is left is to wait for the app, and to pass on what comes.
fn run_fallback(app: Pid) -> u8 {
    diag::event("keeper-fault")
        .field("detail", "a bug of ours; the app goes on, and nothing is shipped any more")
        .emit();
    let signals = Signals::block_forwarded().ok();
    loop {
        while let Some(received) = signals.as_ref().and_then(Signals::next) {
            if received.signal != Signal::SIGCHLD {
                let _gone_already = kill(app, received.signal);
            }
        }
        while let Some(reaped) = spawn::reap() {
            if let Reaped::Ended(pid, status) = reaped
                && pid == app
            {
                return status;
            }
        }
        let mut polled: Vec<PollFd<'_>> =
            signals.iter().map(|signals| PollFd::new(signals.fd().as_fd(), PollFlags::POLLIN)).collect();
        let _or_interrupted = poll(&mut polled, PollTimeout::from(1000_u16));
    }
}

/// The command as the platform would tell it: the line that a shell runs, or its words.
fn display_command(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    match words.as_slice() {
        [shell, flag, line, ..] if shell.ends_with("bash") && flag == "-c" => line.to_string(),
        words => words.join(" "),
    }
}

/// The lifecycle's name for a flag of the shared state.
fn readiness(is_up: bool) -> Readiness {
    if is_up { Readiness::Up } else { Readiness::Starting }
}

pub(super) struct Supervisor<'a> {
    pub(super) config: &'a Config,
    pub(super) signals: Signals,
    pub(super) wake: Arc<EventFd>,
    pub(super) gone: Arc<EventFd>,
    pub(super) recorder_thread: Arc<RecorderThread>,
    /// How many of both have nothing more to pass on.
    pub(super) pumps: Arc<AtomicUsize>,
    pub(super) shipper: ShipperProcess,
    pub(super) coordinator: Option<Coordinator>,
    pub(super) status_socket: Option<StatusSocket>,
    pub(super) since: Instant,
    pub(super) app: Pid,
    pub(super) status: Option<u8>,
    pub(super) forwarder: SignalForwarder,
    /// TERM + grace.
    pub(super) stop_at: Option<Instant>,
    /// The books were written at that time, the app still being there: what comes now may be the kill.
    pub(super) has_reported: bool,
    /// When the app ended.
    pub(super) ended: Option<Instant>,
    /// A SIGTSTP came: when the app stops by it until then, so do we.
    pub(super) suspends: Option<Instant>,
    /// For lines of our own.
    pub(super) recorder: Sender<Input>,
    pub(super) shared_state: Arc<SharedState>,
    /// The sampler ends when this does.
    pub(super) _sampler: Sender<i32>,
}

/// What the forwarder sees, by `/proc`.
struct Proc {
    app: Pid,
    shipper: Option<Pid>,
}

impl ProcessView for Proc {
    fn pending_in_shipper(&self) -> Option<u64> {
        self.shipper.and_then(|shipper| pending::waiting(shipper.as_raw()))
    }

    fn is_of_the_app(&self, pid: i32) -> bool {
        ancestry::is_of_the_app(pid, self.app.as_raw(), std::process::id() as i32)
    }

    fn is_in_our_group(&self) -> bool {
        ancestry::are_grouped(self.app.as_raw(), std::process::id() as i32)
    }

    fn is_untouched(&self) -> bool {
        pending::is_untouched(self.app.as_raw())
    }
}

impl Supervisor<'_> {
    fn run(mut self) -> u8 {
        loop {
            self.take_signals();
            self.forward_signals();
            if self.coordinator.is_none()
                && let Some(spool) = self.recorder_thread.spool()
            {
                self.status_socket = StatusSocket::open(&spool.agent, self.since).ok();
                let wake = Some(Arc::clone(&self.wake));
                let coordinator = Coordinator::new(spool, &self.config.frame_host, &self.config.dyno, wake);
                self.coordinator = Some(coordinator);
            }
            if let Some(coordinator) = &mut self.coordinator {
                if self.status.is_some() || self.stop_at.is_some() {
                    coordinator.end();
                }
                self.shipper.tick(coordinator);
                if let Some(status_socket) = &self.status_socket {
                    status_socket.answer(
                        self.config,
                        coordinator,
                        Some(self.shipper.health()),
                        self.shared_state.probe(),
                    );
                }
            }
            if let Some(status) = self.status
                && self.may_exit()
            {
                self.close();
                return status;
            }
            self.report_before_kill();
            self.wait();
        }
    }

    /// Sleeps until something happens.
    fn wait(&self) {
        let now = Instant::now();
        let mut due = self.coordinator.as_ref().and_then(|_| self.shipper.due());
        let mut sooner = |at: Instant| due = Some(due.map_or(at, |due| due.min(at)));
        if let Some(due) = self.forwarder.due(now) {
            sooner(due);
        }
        if self.ended.is_some() {
            sooner(self.exit_deadline());
        } else if let Some(stop_at) = self.stop_at.filter(|_| !self.has_reported) {
            sooner(stop_at);
        }
        let mut polled = vec![
            PollFd::new(self.signals.fd().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(status_socket) = &self.status_socket {
            polled.push(PollFd::new(status_socket.fd(), PollFlags::POLLIN));
        }
        if let Some(link) = self.shipper.link().filter(|link| !link.is_closed()) {
            let out = if link.is_pending() { PollFlags::POLLOUT } else { PollFlags::empty() };
            polled.push(PollFd::new(link.socket().as_fd(), PollFlags::POLLIN | out));
        }
        let _or_interrupted = poll(&mut polled, until(due));
        if polled[1].any().unwrap_or(false) {
            let _or_nothing = self.wake.read();
        }
    }

    fn take_signals(&mut self) {
        while let Some(received) = self.signals.next() {
            let now = Instant::now();
            // Before anything else: whoever sent it may be gone in a moment.
            let view = Proc { app: self.app, shipper: self.shipper.pid() };
            let is_for_us = self.status.is_some() || self.forwarder.take(received, now, &view);
            if received.signal == Signal::SIGTERM && is_for_us {
                if self.stop_at.is_none() && self.status.is_none() {
                    self.shared_state.end(|was_up| {
                        let lines = self.life(|| Lifecycle::stopping(readiness(was_up)));
                        self.tell(Input::AgentLines(lines, input::Permits::default()));
                    });
                }
                let stop_at = *self.stop_at.get_or_insert(now + self.config.stop_grace);
                self.shipper.hurry(stop_at);
            }
            match received.signal {
                Signal::SIGTSTP => self.suspends = Some(now + SUSPENDS),
                Signal::SIGCONT => self.suspends = None,
                _ => {}
            }
        }
        self.reap();
    }

    /// Passes on what was meant for the app, and stops when that was to stop.
    fn forward_signals(&mut self) {
        let view = Proc { app: self.app, shipper: self.shipper.pid() };
        for signal in self.forwarder.decide(Instant::now(), &view) {
            if self.status.is_none() {
                let _gone_already = kill(self.app, signal);
            }
        }
        if self.forwarder.take_stale() {
            self.shipper.calm();
        }
        self.suspend();
    }

    /// Stops as the app has stopped, by a SIGTSTP that we had too: an app that does something else with it goes on,
    /// and so do we.
    fn suspend(&mut self) {
        if self.suspends.is_some_and(|until| Instant::now() <= until)
            && !self.forwarder.is_deciding()
            && ancestry::is_stopped(self.app.as_raw())
        {
            self.suspends = None;
            let _as_a_terminal_has_it = nix::sys::signal::raise(Signal::SIGSTOP);
        }
    }

    /// Reaps whoever is ours, also orphans when we are PID 1.
    fn reap(&mut self) {
        while let Some(reaped) = spawn::reap() {
            let (pid, status) = match reaped {
                Reaped::Ended(pid, status) => (pid, status),
                // It is looked at once all signals are taken.
                Reaped::Stopped => continue,
            };
            if pid == self.app {
                self.status = Some(status);
                self.ended = Some(Instant::now());
                let _cannot_fail = self.gone.write(1);
                let cause =
                    if self.stop_at.is_some() { ExitCause::StopRequested } else { ExitCause::Unrequested };
                let life = Lifecycle::for_dyno(&self.config.dyno);
                self.shared_state.end(|was_up| {
                    self.tell(Input::LastLines(self.life(|| life.ended(readiness(was_up), cause, status))));
                });
                let deadline = self.deadline();
                self.shipper.hurry(deadline);
            } else if let Some(coordinator) = &mut self.coordinator {
                self.shipper.reaped(pid, coordinator);
            }
        }
    }

    /// Lines about the dyno's life, where they are wanted.
    fn life(&self, lines: impl FnOnce() -> Vec<AgentLine>) -> Vec<AgentLine> {
        if self.config.lifecycle { lines() } else { Vec::new() }
    }

    fn tell(&self, input: Input) {
        let _room_is_kept_for_it = self.recorder.try_send(input);
    }
}
