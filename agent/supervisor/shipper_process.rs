//! The shipper process: starts it, exchanges messages with it, and replaces it when it ends or hangs.

use super::shared_state::SharedState;
use super::spawn::{self, ShipperStderr};
use crate::delivery::Coordinator;
use crate::diag::{self, Throttle};
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

/// The exit status of a process that made a forbidden system call (seccomp(2)).
const ENDED_BY_SIGSYS: u8 = 128 + Signal::SIGSYS as u8;
/// How often the messages of a dead shipper are read, each time up to 64 KiB: more than a socket holds.
const MAX_LAST_READS: usize = 64;
/// How long a killed shipper may take to end. Longer only in a system call that cannot be interrupted.
const KILL_TIMEOUT: Duration = Duration::from_millis(200);
/// A shipper that sends nothing for so long hangs, once delivery has a deadline. It then sends a ping every 500 ms.
const SILENCE_TIMEOUT_AT_END: Duration = Duration::from_secs(2);
/// How long starts may fail before that is alerted. An app that ends sooner has the closing report.
const START_FAILURE_ALERT_DELAY: Duration = Duration::from_secs(5);
/// Failures in a row that are not alerted.
const FAILURES_BEFORE_ALERT: u32 = 3;
/// The longest delay of a restart.
const MAX_RESTART_DELAY: Duration = Duration::from_mins(1);
/// The longest delay of a restart once delivery has a deadline.
const MAX_RESTART_DELAY_AT_END: Duration = Duration::from_secs(1);
/// A pending restart is brought forward to this when delivery gets a deadline.
const RESTART_DELAY_AT_DEADLINE: Duration = Duration::from_millis(100);

/// Delays of restarts: none, then 1 s, 2 s, 4 s and so on up to a minute. A delivery resets it.
#[derive(Clone, Copy, Debug, Default)]
struct RestartBackoff {
    /// Failures without a delivery since: the shipper ended, or could not be started.
    failures: u32,
}

impl RestartBackoff {
    /// After a failure: the delay of the next start. `has_deadline`: delivery ends soon.
    fn next_delay(&mut self, has_deadline: bool) -> Duration {
        let delay = match self.failures {
            0 => Duration::ZERO,
            more => Duration::from_secs(1 << (more - 1).min(6)).min(MAX_RESTART_DELAY),
        };
        self.failures = self.failures.saturating_add(1);
        if has_deadline { delay.min(MAX_RESTART_DELAY_AT_END) } else { delay }
    }

    fn reset(&mut self) {
        self.failures = 0;
    }

    fn is_first_start(self) -> bool {
        self.failures == 0
    }

    fn is_alert_due(self) -> bool {
        self.failures > FAILURES_BEFORE_ALERT
    }
}

/// What every shipper is told about the end.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// When delivery ends.
    deadline: Option<Instant>,
    /// When that was known first.
    known_at: Option<Instant>,
    /// No more frames will be appended.
    is_log_complete: bool,
}

impl End {
    /// Until when a shipper may send nothing after its last message.
    fn silence_end(&self, last_message: Instant, timeout: Duration) -> Instant {
        let regular = last_message + timeout;
        self.known_at
            .map_or(regular, |known_at| regular.min(last_message.max(known_at) + SILENCE_TIMEOUT_AT_END))
    }
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    link: Connection,
    last_message: Instant,
    /// Whether it was told that no more frames will be appended.
    knows_log_end: bool,
}

impl Running {
    /// Handles the messages that a dead or killed shipper sent before: a delivery that it reported is a delivery.
    fn handle_remaining_messages(&mut self, coordinator: &mut Coordinator) {
        // Bounded: a process that cannot be killed at once may go on sending.
        for _ in 0..MAX_LAST_READS {
            if self.link.is_closed() || !coordinator.handle_messages(&mut self.link).alive {
                return;
            }
        }
    }

    fn kill(&self) {
        kill(self.pid, Signal::SIGKILL).ok(); // it may have ended
    }
}

fn send_deadline(link: &mut Connection, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    link.send(&ToShipper::Deadline(left));
}

/// The shipper process, and when it is started again.
#[derive(Debug)]
pub(super) struct ShipperProcess {
    memory: Option<File>,
    paths: Vec<(&'static str, PathBuf)>,
    silence_timeout: Duration,
    running: Option<Running>,
    next_start: Option<Instant>,
    backoff: RestartBackoff,
    /// Shippers started so far.
    starts: u32,
    end: End,
    /// Since when none can be started.
    start_fails_since: Option<Instant>,
    alert: Throttle,
    shared_state: Arc<SharedState>,
}

impl ShipperProcess {
    /// `memory`: the memory file of the spool. `paths`: settings with absolute paths, for the shipper's environment.
    /// `silence_timeout`: a shipper that sends nothing for so long hangs.
    pub(super) fn new(
        memory: Option<File>,
        paths: Vec<(&'static str, PathBuf)>,
        silence_timeout: Duration,
        shared_state: Arc<SharedState>,
    ) -> Self {
        Self {
            memory,
            paths,
            silence_timeout,
            running: None,
            next_start: Some(Instant::now()),
            backoff: RestartBackoff::default(),
            starts: 0,
            end: End::default(),
            start_fails_since: None,
            alert: Throttle::default(),
            shared_state,
        }
    }

    /// The connection to the running shipper.
    pub(super) fn link(&self) -> Option<&Connection> {
        self.running.as_ref().map(|running| &running.link)
    }

    /// The pid of the running shipper.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// Whether the last attempt to start one failed.
    pub(super) fn cannot_start(&self) -> bool {
        self.start_fails_since.is_some()
    }

    /// For `tailrace status`.
    pub(super) fn status(&self) -> ShipperStatus {
        let silent = self.running.as_ref().map_or(Duration::ZERO, |running| running.last_message.elapsed());
        ShipperStatus { pid: self.pid().map(Pid::as_raw), silent: Elapsed(silent), starts: self.starts }
    }

    /// Starts a shipper that is due, exchanges messages, and kills one that hangs. To be called on every wake-up.
    pub(super) fn tick(&mut self, coordinator: &mut Coordinator) {
        let now = Instant::now();
        if self.running.is_none() && self.next_start.is_some_and(|at| at <= now) {
            self.start(coordinator);
        }
        let Some(running) = &mut self.running else { return };
        let handled = coordinator.handle_messages(&mut running.link);
        if handled.alive {
            running.last_message = now;
        }
        if handled.delivered {
            self.backoff.reset();
            if let Some(down) = self.alert.resolve(now) {
                diag::event(diag::Event::ShipperOk).field("down", diag::seconds(down)).emit();
            }
        }
        if coordinator.has_updates() {
            coordinator.send_updates(&mut running.link);
        }
        if self.end.is_log_complete && !running.knows_log_end && !coordinator.has_updates() {
            running.knows_log_end = true;
            running.link.send(&ToShipper::EndOfLog);
        }
        running.link.flush();
        let hangs = self.end.silence_end(running.last_message, self.silence_timeout) <= now;
        if hangs && self.alert.permit(now) {
            diag::event(diag::Event::ShipperHangs)
                .field("silent", diag::seconds(now.saturating_duration_since(running.last_message)))
                .emit();
        }
        let violation = running.link.take_violation();
        if hangs || running.link.is_closed() {
            running.kill();
        }
        if let Some(violation) = violation {
            self.report_violation(violation);
        }
    }

    /// When [`ShipperProcess::tick`] is to be called next, whatever happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let running = self.running.as_ref();
        let silence_end =
            |running: &Running| self.end.silence_end(running.last_message, self.silence_timeout);
        running.map_or(self.next_start, |running| Some(silence_end(running)))
    }

    fn start(&mut self, coordinator: &mut Coordinator) {
        self.next_start = None;
        let started = UnixStream::pair().and_then(|(ours, theirs)| {
            let (memory, agent) = (self.memory.as_ref(), coordinator.spool().agent.as_str());
            // What a failing shipper prints is shown once, not at every restart.
            let first = self.backoff.is_first_start();
            let stderr = if first { ShipperStderr::Inherit } else { ShipperStderr::Discard };
            let child = spawn::start_shipper(theirs, memory, &self.paths, agent, stderr)?;
            Ok((child.id(), Connection::new(ours)?))
        });
        let now = Instant::now();
        match started {
            Ok((pid, mut link)) => {
                coordinator.resync(&mut link);
                if let Some(deadline) = self.end.deadline {
                    send_deadline(&mut link, deadline);
                }
                link.flush();
                let pid = Pid::from_raw(pid as i32);
                self.starts += 1;
                self.shared_state.set_shipper(pid.as_raw());
                self.start_fails_since = None;
                self.running =
                    Some(Running { pid, link, last_message: Instant::now(), knows_log_end: false });
            }
            Err(error) => {
                let since = *self.start_fails_since.get_or_insert(now);
                let lasts = now.saturating_duration_since(since) >= START_FAILURE_ALERT_DELAY;
                if lasts && self.alert.permit(now) {
                    let line = diag::event(diag::Event::NoShipper).field("error", error);
                    line.field("detail", "lines are kept and it is tried again").emit();
                }
                self.schedule_start();
            }
        }
    }

    fn report_violation(&mut self, error: &str) {
        if self.alert.permit(Instant::now()) {
            let line = diag::event(diag::Event::ShipperViolation).field("error", error);
            line.field("detail", "it is started again; lines are kept").emit();
        }
    }

    /// Schedules the next start; returns its delay.
    fn schedule_start(&mut self) -> Duration {
        let delay = self.backoff.next_delay(self.end.deadline.is_some());
        self.next_start = Some(Instant::now() + delay);
        delay
    }

    /// The process `pid` was reaped, with this exit status. When it was the shipper, the next start is scheduled.
    pub(super) fn reaped(&mut self, pid: Pid, status: u8, coordinator: &mut Coordinator) {
        let Some(mut running) = self.running.take_if(|running| running.pid == pid) else { return };
        running.handle_remaining_messages(coordinator);
        if status == ENDED_BY_SIGSYS {
            self.report_violation("a system call that it must not make");
        }
        let delay = self.schedule_start();
        if self.backoff.is_alert_due() && self.alert.permit(Instant::now()) {
            let line = diag::event(diag::Event::ShipperFails).field("starts", self.starts);
            let line = line.field("retry", diag::seconds(delay));
            line.field("detail", "lines are kept and it is tried again").emit();
        }
    }

    /// Delivery ends at `deadline`: from now on the shipper does not wait for fuller batches.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.end.deadline = Some(deadline);
        self.end.known_at.get_or_insert_with(Instant::now);
        if let Some(running) = &mut self.running {
            send_deadline(&mut running.link, deadline);
            running.link.flush();
        } else if let Some(at) = &mut self.next_start {
            *at = (*at).min(Instant::now() + RESTART_DELAY_AT_DEADLINE);
        }
    }

    /// Has the shipper clear its pending signals, so that the next one shows.
    pub(super) fn clear_pending_signals(&mut self) {
        if let Some(running) = &mut self.running {
            running.link.send(&ToShipper::ClearPendingSignals);
            running.link.flush();
        }
    }

    /// No more frames will be appended.
    pub(super) fn set_log_complete(&mut self) {
        self.end.is_log_complete = true;
    }

    /// Kills the shipper for good and reaps it, so that its resource usage is counted for the dyno. Then handles what
    /// it reported before.
    pub(super) fn kill(&mut self, coordinator: Option<&mut Coordinator>) {
        self.next_start = None;
        let Some(mut running) = self.running.take() else { return };
        running.kill();
        let until = Instant::now() + KILL_TIMEOUT;
        while matches!(waitpid(running.pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
            && Instant::now() < until
        {
            // Instead of thread::sleep(), which would loop where a filter refuses clock_nanosleep(2).
            poll(&mut [], 1_u8).ok(); // interrupted: checked again sooner
        }
        if let Some(coordinator) = coordinator {
            running.handle_remaining_messages(coordinator);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn restart_delays_double_up_to_a_minute_and_a_delivery_resets_them() {
        let mut backoff = RestartBackoff::default();
        assert!(backoff.is_first_start());
        for (failure, seconds) in (1..).zip([0, 1, 2, 4, 8, 16, 32, 60, 60, 60]) {
            assert_eq!(backoff.next_delay(false), S(seconds), "failure {failure}");
            assert_eq!(backoff.is_alert_due(), failure > 3, "failure {failure}");
            assert!(!backoff.is_first_start());
        }
        assert_eq!(backoff.next_delay(true), S(1), "with a deadline");
        backoff.failures = u32::MAX;
        assert_eq!(backoff.next_delay(false), S(60));
        backoff.reset();
        assert!(backoff.is_first_start() && !backoff.is_alert_due());
        assert_eq!(backoff.next_delay(true), S(0));
        assert_eq!(backoff.next_delay(true), S(1));
        assert_eq!(backoff.next_delay(true), S(1));
    }
}
