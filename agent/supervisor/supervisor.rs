//! The event loop of the supervisor: signals, children, the shipper, status, and the end.

use super::shared_state::SharedState;
use super::shipper_process::ShipperProcess;
use super::shutdown::{self, AppState, Facts};
use super::spawn::{self, ChildEvent};
use crate::config::Config;
use crate::delivery::{Coordinator, Remaining};
use crate::diag;
use crate::dyno::lifecycle::{ExitCause, Lifecycle};
use crate::frame::AgentLine;
use crate::poll::{timeout, until};
use crate::recorder::{Input, RecorderThread, input};
use crate::signals::ancestry::{self, Family, SystemProcesses};
use crate::signals::forward::{ProcessView, SignalForwarder};
use crate::signals::pending;
use crate::signals::source::Signals;
use crate::status::{StatusSnapshot, StatusSocket, StatusSources};
use crossbeam_channel::Sender;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long after SIGTSTP the app may take to stop; later stops have another cause.
const SUSPEND_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the last writes to the disk are waited for.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often is looked for signals and ended children, also when nothing tells of them.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What may have happened.
#[derive(Clone, Copy, Debug)]
struct Woken {
    /// A signal came, or a deadline is over.
    by_signal: bool,
    /// Somebody asks for the status.
    by_status: bool,
}

/// The supervisor, once the app runs.
pub(super) struct Supervisor<'a> {
    pub(super) config: &'a Config,
    pub(super) signals: Signals,
    pub(super) wake: Arc<EventFd>,
    pub(super) gone: Arc<EventFd>,
    pub(super) recorder_thread: Arc<RecorderThread>,
    /// Pumps that have nothing more to copy.
    pub(super) unfinished_pumps: Arc<AtomicUsize>,
    pub(super) shipper: ShipperProcess,
    /// None until the spool is open.
    pub(super) coordinator: Option<Coordinator>,
    pub(super) status_socket: Option<StatusSocket>,
    pub(super) started: Instant,
    pub(super) app: Pid,
    pub(super) state: AppState,
    pub(super) forwarder: SignalForwarder,
    /// SIGTSTP was received: if the app stops until then, the supervisor stops too.
    pub(super) suspend_until: Option<Instant>,
    /// The recorder's queue, for agent lines.
    pub(super) recorder: Sender<Input>,
    pub(super) shared_state: Arc<SharedState>,
    /// Dropped with the supervisor, which ends the sampler.
    pub(super) _sampler: Sender<i32>,
}

/// What the forwarder asks, answered from `/proc`.
struct ProcView {
    app: Pid,
    shipper: Option<Pid>,
}

impl ProcView {
    fn family(&self) -> Family {
        Family { app: self.app.as_raw(), supervisor: std::process::id() as i32 }
    }
}

impl ProcessView for ProcView {
    fn pending_in_shipper(&self) -> Option<u64> {
        self.shipper.and_then(|shipper| pending::pending_signals(shipper.as_raw()))
    }

    fn belongs_to_app(&self, pid: i32) -> bool {
        self.family().includes(pid, &SystemProcesses)
    }

    fn app_is_in_our_group(&self) -> bool {
        let Family { app, supervisor } = self.family();
        ancestry::share_group(app, supervisor, &SystemProcesses)
    }

    fn app_missed_term(&self) -> bool {
        pending::missed_term(self.app.as_raw())
    }
}

impl Supervisor<'_> {
    /// Runs until the app has ended and its output is delivered, or a deadline is over. Returns the app's exit status.
    pub(super) fn run(mut self) -> u8 {
        let mut woken = Woken { by_signal: true, by_status: true };
        let mut looked = Instant::now();
        loop {
            // New frames wake this loop most of the time: then there is nothing else to look for, but now and then.
            if woken.by_signal || looked.elapsed() >= LOOK_INTERVAL {
                looked = Instant::now();
                self.receive_signals();
                self.reap();
            }
            self.forward_signals();
            self.suspend();
            self.open_coordinator();
            self.tick_shipper();
            if woken.by_status {
                self.answer_status();
            }
            if let AppState::Exited { at, status, stop_deadline } = self.state
                && self.may_exit(at, stop_deadline)
            {
                self.close();
                return status;
            }
            self.report_before_kill();
            woken = self.wait();
        }
    }

    /// Once the recorder has opened the spool: delivery begins, and the status socket listens.
    fn open_coordinator(&mut self) {
        if self.coordinator.is_none()
            && let Some(spool) = self.recorder_thread.spool()
        {
            self.status_socket = StatusSocket::open(&spool.agent).ok();
            let wake = Some(Arc::clone(&self.wake));
            let coordinator = Coordinator::new(spool, &self.config.frame_host, &self.config.dyno, wake);
            self.coordinator = Some(coordinator);
        }
    }

    fn tick_shipper(&mut self) {
        let Some(coordinator) = &mut self.coordinator else { return };
        if self.state != AppState::Running {
            coordinator.end();
        }
        coordinator.maintain_checkpoint(Instant::now());
        self.shipper.tick(coordinator);
    }

    fn answer_status(&self) {
        let (Some(coordinator), Some(status_socket)) = (&self.coordinator, &self.status_socket) else {
            return;
        };
        status_socket.answer(|| {
            StatusSnapshot::take(&StatusSources {
                config: self.config,
                coordinator,
                shipper: self.shipper.status(),
                probe: self.shared_state.probe(),
                started: self.started,
            })
        });
    }

    /// When the loop has something to do, whatever happens.
    fn next_deadline(&self) -> Option<Instant> {
        let shipper = self.coordinator.as_ref().and_then(|_| self.shipper.due());
        let exit = match self.state {
            AppState::Exited { at, stop_deadline, .. } => {
                Some(shutdown::exit_deadline(&self.facts(at, stop_deadline)))
            }
            AppState::Running | AppState::Stopping { .. } => self.state.kill_report_due(),
        };
        let memory = self.coordinator.as_ref().and_then(Coordinator::memory_save_due);
        [shipper, memory, self.forwarder.due(Instant::now()), exit].into_iter().flatten().min()
    }

    /// Sleeps until something happens; returns what may have.
    fn wait(&self) -> Woken {
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
        let is_over = poll(&mut polled, until(self.next_deadline())).map_or(true, |ready| ready == 0);
        let is_ready = |polled: &PollFd<'_>| polled.any().unwrap_or(true);
        if is_ready(&polled[1]) {
            self.wake.read().ok(); // resets it; nothing to read is fine
        }
        let by_status = self.status_socket.is_some() && is_ready(&polled[2]);
        Woken { by_signal: is_over || is_ready(&polled[0]), by_status }
    }

    fn proc_view(&self) -> ProcView {
        ProcView { app: self.app, shipper: self.shipper.pid() }
    }

    fn receive_signals(&mut self) {
        while let Some(received) = self.signals.next() {
            let now = Instant::now();
            // First of all: the sender may end soon, and could not be examined then.
            let is_for_dyno =
                self.state.has_exited() || self.forwarder.receive(received, now, &self.proc_view());
            match received.signal {
                Signal::SIGTERM if is_for_dyno => self.stop(now),
                Signal::SIGTSTP => self.suspend_until = Some(now + SUSPEND_TIMEOUT),
                Signal::SIGCONT => self.suspend_until = None,
                _ => {}
            }
        }
    }

    /// The dyno is asked to stop. The first request sets the deadline.
    fn stop(&mut self, now: Instant) {
        if self.state == AppState::Running {
            self.shared_state.set_ending(|from| {
                let lines = self.lifecycle_lines(|| Lifecycle::stopping(from));
                self.send(Input::AgentLines(lines, input::Permits::default()));
            });
        }
        let deadline = self.state.request_stop(now + self.config.stop_grace);
        self.shipper.set_deadline(deadline);
    }

    /// Forwards the signals that were sent to the supervisor alone.
    fn forward_signals(&mut self) {
        let view = self.proc_view();
        for signal in self.forwarder.decide(Instant::now(), &view) {
            if !self.state.has_exited() {
                kill(self.app, signal).ok(); // it may have ended
            }
        }
        if self.forwarder.take_clear_request() {
            self.shipper.clear_pending_signals();
        }
    }

    /// Stops this process when a SIGTSTP stopped the app, as a shell expects of a job. An app that handles SIGTSTP runs
    /// on, and so does the supervisor.
    fn suspend(&mut self) {
        if self.suspend_until.is_some_and(|until| Instant::now() <= until)
            && !self.forwarder.is_deciding()
            && ancestry::is_stopped(self.app.as_raw(), &SystemProcesses)
        {
            self.suspend_until = None;
            raise(Signal::SIGSTOP).ok(); // cannot fail for a valid signal
        }
    }

    /// Collects children that ended: the app, shippers, and orphans when the supervisor is PID 1.
    fn reap(&mut self) {
        while let Some(event) = spawn::next_child_event() {
            match event {
                ChildEvent::Ended { pid, status } if pid == self.app => self.app_exited(status),
                ChildEvent::Ended { pid, status } => {
                    if let Some(coordinator) = &mut self.coordinator {
                        self.shipper.reaped(pid, status, coordinator);
                    }
                }
                // `suspend` checks the app's state.
                ChildEvent::Stopped => {}
            }
        }
    }

    fn app_exited(&mut self, status: u8) {
        let now = Instant::now();
        let cause =
            if self.state.is_stop_requested() { ExitCause::StopRequested } else { ExitCause::Unrequested };
        self.state.set_exited(now, status);
        self.gone.write(1).ok(); // fails only when the counter is full: the pumps know then
        let lifecycle = Lifecycle::for_dyno(&self.config.dyno);
        self.shared_state.set_ending(|from| {
            let lines = self.lifecycle_lines(|| lifecycle.ended(from, cause, status));
            self.send(Input::LastLines(lines));
        });
        if let AppState::Exited { at, stop_deadline, .. } = self.state {
            let deadline = shutdown::delivery_deadline(&self.facts(at, stop_deadline));
            self.shipper.set_deadline(deadline);
        }
    }

    /// Lifecycle lines, where they are wanted.
    fn lifecycle_lines(&self, lines: impl FnOnce() -> Vec<AgentLine>) -> Vec<AgentLine> {
        if self.config.lifecycle { lines() } else { Vec::new() }
    }

    fn send(&self, input: Input) {
        self.recorder.try_send(input).ok(); // the queue has a slot for each line of the supervisor
    }

    /// What the deadlines depend on, the app having ended.
    fn facts(&self, exited_at: Instant, stop_deadline: Option<Instant>) -> Facts {
        Facts {
            exited_at,
            stop_deadline,
            grace: self.config.stop_grace,
            // Without effect once there is a stop deadline: spares the walk through the ledger.
            drain_patience: if stop_deadline.is_none() { self.drain_patience(exited_at) } else { None },
            is_recorded: self.recorder_thread.is_finished(),
            is_copied: self.has_copied_all(),
        }
    }

    /// Until when a drain is worth waiting for that still has bytes to get, the latest of all.
    fn drain_patience(&self, exited_at: Instant) -> Option<Instant> {
        let coordinator = self.coordinator.as_ref().filter(|_| !self.shipper.cannot_start())?;
        let ledger = coordinator.spool().shared.lock();
        let drains = || ledger.drains();
        let concerns_app = |drain| {
            ledger.held(drain) > 0 || ledger.has_to_announce(drain) || ledger.adopted_left(drain).lines > 0
        };
        let has_app_lines = !self.recorder_thread.is_finished() || drains().any(concerns_app);
        let remaining = if has_app_lines { Remaining::AppLines } else { Remaining::AgentLines };
        let waiting = drains().filter(|drain| !ledger.is_consumed(*drain));
        let health = waiting.filter_map(|drain| coordinator.health().get(drain));
        health.map(|health| health.patience_end(exited_at, remaining)).max()
    }

    /// Whether the dyno's own streams have taken everything, or take nothing more.
    fn has_copied_all(&self) -> bool {
        self.unfinished_pumps.load(Ordering::Acquire) == 0
    }

    /// Whether the supervisor may exit, the app having ended: everything is delivered and copied, or the deadline is
    /// over.
    fn may_exit(&mut self, exited_at: Instant, stop_deadline: Option<Instant>) -> bool {
        if self.recorder_thread.is_finished()
            && let Some(coordinator) = &self.coordinator
        {
            self.shipper.set_log_complete();
            if coordinator.is_done() && self.has_copied_all() {
                return true;
            }
        }
        Instant::now() >= shutdown::exit_deadline(&self.facts(exited_at, stop_deadline))
    }

    /// At the stop deadline, with the app still running: the platform is about to kill the whole dyno, so what was not
    /// delivered is reported and the ledger is written now.
    fn report_before_kill(&mut self) {
        if self.state.kill_report_due().is_none_or(|due| Instant::now() < due) {
            return;
        }
        if let Some(coordinator) = &self.coordinator {
            coordinator.report_missing();
            coordinator.report_adopted_left(None);
            coordinator.write_ledger(self.config);
        }
        self.state.set_kill_report_written();
    }

    /// The closing report: what was not delivered, and the ledger. Waits a moment until the disk has it.
    fn close(&mut self) {
        self.shipper.kill(self.coordinator.as_mut());
        let Some(coordinator) = &self.coordinator else {
            diag::event(diag::Event::NoSpool)
                .field("detail", "the spool was not ready in time; lines may be missing")
                .emit();
            return;
        };
        coordinator.report_missing();
        coordinator.report_adopted_left(None);
        if !self.recorder_thread.is_finished() {
            diag::event(diag::Event::OutputNotRecorded)
                .field("bytes", self.recorder_thread.unrecorded().load(Ordering::Relaxed))
                .field("detail", "the recorder did not keep up to the end; they are in no count of lines")
                .emit();
        }
        coordinator.write_ledger(self.config);
        let (last, deadline) = (coordinator.close(), Instant::now() + LAST_WRITE_TIMEOUT);
        while !coordinator.has_done(last) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                diag::event(diag::Event::DiskStandsStill)
                    .field("detail", "the checkpoint and the ledger file may be out of date")
                    .emit();
                return;
            }
            let mut polled = [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, timeout(left)).ok(); // interrupted: checked again
            self.wake.read().ok(); // resets it; nothing to read is fine
        }
    }
}
