//! Decides which signals are forwarded to the app: those that were sent to the supervisor alone. Of a signal that went
//! to the whole dyno, to the process group or from a terminal, the app has received its own, and must not get a second.
//!
//! A signal does not tell to whom else it was sent. The shipper answers that: it has all of these signals blocked and
//! is in the supervisor's process group, so a signal that is pending there too was sent to both (a broadcast). Cedar
//! signals one process after the other, so for SIGTERM the shipper's pending signals are read for a while. Without a
//! shipper or `/proc` the sender decides.
//!
//! Signals are forwarded in the order in which they came, at the distance in time that they came in: pending together, they
//! would reach the app in the order of their numbers.
//!
//! Pure: time and the state of other processes are passed in.

use super::pending::{FORWARDED, bit};
use super::source::ReceivedSignal;
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long after SIGTERM it may take until the shipper has its own, when the platform signals every process.
const TERM_PROBE_TIMEOUT: Duration = Duration::from_millis(200);
/// The same for other signals: kill(2) reaches a whole process group in one call.
const GROUP_PROBE_TIMEOUT: Duration = Duration::from_millis(5);
/// How often the shipper's pending signals are read until then.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);
/// How often it is checked, every 20 ms, whether the shipper has cleared its stale signals. A stopped shipper does not,
/// and is not waited for.
const MAX_STALE_RECHECKS: u32 = 50;
/// After a broadcast SIGTERM: when it is verified that the app received its own.
const TERM_VERIFY_DELAY: Duration = Duration::from_secs(5);

/// A received signal that may have to be forwarded.
#[derive(Clone, Copy, Debug)]
struct PendingSignal {
    signal: Signal,
    sender: i32,
    received: Instant,
    state: PendingState,
}

/// How far a received signal is.
#[derive(Clone, Copy, Debug)]
enum PendingState {
    /// At this time it counts as sent to the supervisor alone, unless it became pending in the shipper by then.
    Undecided { until: Instant },
    /// It is to be forwarded, behind those that came before it.
    Waiting,
}

/// A signal that was forwarded.
#[derive(Clone, Copy, Debug)]
struct Forwarded {
    received: Instant,
    at: Instant,
}

/// The SIGTERM of this stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TermState {
    /// None was received.
    NotReceived,
    /// It was forwarded, it is being decided on, or nothing is to be done about it. Further ones are ignored: repeats
    /// within one stop do not multiply.
    Handled,
    /// It was a broadcast: the app should have its own, which is verified at this time.
    Broadcast { verify_at: Instant },
}

/// What is decided about one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Sent to the supervisor alone: the app gets it from us.
    Forward,
    /// Sent to the app as well.
    Broadcast,
    /// It may still become pending in the shipper.
    Undecided,
}

/// How the platform sends a stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlatformSignals {
    /// To every process of the dyno, one after the other, as on Cedar.
    ToEveryProcess,
    /// To the main process, as container runtimes do.
    ToMainProcess,
}

/// What the forwarder asks about other processes when it decides.
pub(crate) trait ProcessView {
    /// The signals that are pending in the shipper, as a signal set of proc(5); none without a shipper or `/proc`.
    fn pending_in_shipper(&self) -> Option<u64>;
    /// Whether the process is the app or descends from it.
    fn belongs_to_app(&self, pid: i32) -> bool;
    /// Whether the app is in the supervisor's process group, and so receives what is sent to that.
    fn app_is_in_our_group(&self) -> bool;
    /// Whether the app cannot have received a SIGTERM: it would have ended.
    fn app_missed_term(&self) -> bool;
}

/// Decides which signals are forwarded to one app.
#[derive(Debug)]
pub(crate) struct SignalForwarder {
    platform: PlatformSignals,
    /// In the order in which they came, each signal once.
    pending: VecDeque<PendingSignal>,
    /// The last signal that was forwarded.
    last: Option<Forwarded>,
    term: TermState,
    /// Whether the shipper is to be told to clear its pending signals.
    clear_is_due: bool,
    /// Signals that may still be pending in the shipper from an earlier decision. Until it clears them, their pending
    /// bit says nothing about a new signal.
    stale_mask: u64,
    rechecks_left: u32,
}

impl SignalForwarder {
    /// A forwarder that has received nothing yet.
    pub(crate) fn new(platform: PlatformSignals) -> Self {
        Self {
            platform,
            pending: VecDeque::new(),
            last: None,
            term: TermState::NotReceived,
            clear_is_due: false,
            stale_mask: 0,
            rechecks_left: 0,
        }
    }

    /// Takes a signal; [`SignalForwarder::decide`] returns it when it is to be forwarded. False when the app itself sent
    /// it, so that it says nothing about the dyno.
    pub(crate) fn receive(
        &mut self,
        received: ReceivedSignal,
        now: Instant,
        view: &impl ProcessView,
    ) -> bool {
        let ReceivedSignal { signal, sender, .. } = received;
        let is_term = signal == Signal::SIGTERM;
        if !FORWARDED.contains(&signal) {
            return true;
        }
        // From the app or a descendant. Sent to us alone it is not for the app; sent to a group the app has its own.
        if sender > 0 && view.belongs_to_app(sender) {
            self.mark_stale(signal);
            return false;
        }
        // Undecided or waiting: signals that are not yet handled do not queue (signal(7)).
        if self.pending.iter().any(|pending| pending.signal == signal) {
            return true;
        }
        // NotReceived -> Handled; a repeated SIGTERM stays what it is: Handled, and no longer verified.
        if is_term && std::mem::replace(&mut self.term, TermState::Handled) != TermState::NotReceived {
            return true;
        }
        // From the kernel: nothing to decide.
        if received.is_kernel_notice() {
            self.mark_stale(signal);
            return true;
        }
        let until = now + if is_term { TERM_PROBE_TIMEOUT } else { GROUP_PROBE_TIMEOUT };
        let state = PendingState::Undecided { until };
        self.pending.push_back(PendingSignal { signal, sender, received: now, state });
        true
    }

    fn mark_stale(&mut self, signal: Signal) {
        self.clear_is_due = true;
        self.stale_mask |= bit(signal);
        self.rechecks_left = MAX_STALE_RECHECKS;
    }

    /// The signals that are to be forwarded now.
    pub(crate) fn decide(&mut self, now: Instant, view: &impl ProcessView) -> Vec<Signal> {
        let mut forwarded = Vec::new();
        if !self.pending.is_empty() || self.stale_mask != 0 {
            let in_shipper = view.pending_in_shipper();
            self.stale_mask &= in_shipper.unwrap_or(0);
            self.rechecks_left = self.rechecks_left.saturating_sub(1);
            for mut pending in std::mem::take(&mut self.pending) {
                let is_term = pending.signal == Signal::SIGTERM;
                match self.judge(&pending, in_shipper, now, view) {
                    // Stays as it is.
                    Decision::Undecided => self.pending.push_back(pending),
                    // Undecided -> Waiting, or Waiting still.
                    Decision::Forward => {
                        pending.state = PendingState::Waiting;
                        self.pending.push_back(pending);
                    }
                    // Handled -> Broadcast. The shipper keeps its SIGTERM: no other of this stop is decided on.
                    Decision::Broadcast if is_term => {
                        self.term = TermState::Broadcast { verify_at: now + TERM_VERIFY_DELAY };
                    }
                    // Undecided -> dropped. The shipper is to clear its own, so that the next one shows.
                    Decision::Broadcast => self.mark_stale(pending.signal),
                }
            }
        }
        // Waiting -> forwarded. The shipper may get its own later: stale then.
        while let Some(first) = self.pending.front().copied()
            && self.forward_time(&first).is_some_and(|time| time <= now)
        {
            self.pending.pop_front();
            self.last = Some(Forwarded { received: first.received, at: now });
            self.mark_stale(first.signal);
            forwarded.push(first.signal);
        }
        match self.term {
            // Broadcast -> Handled, forwarded after all when the app cannot have received its own.
            TermState::Broadcast { verify_at } if verify_at <= now => {
                self.term = TermState::Handled;
                if view.app_missed_term() {
                    forwarded.push(Signal::SIGTERM);
                }
            }
            TermState::NotReceived | TermState::Handled | TermState::Broadcast { .. } => {}
        }
        forwarded
    }

    /// When the first of the pending signals is to be forwarded; none while it is undecided. One that waited for another
    /// follows it at the distance at which it came.
    fn forward_time(&self, first: &PendingSignal) -> Option<Instant> {
        match (first.state, self.last) {
            (PendingState::Undecided { .. }, _) => None,
            (PendingState::Waiting, Some(last)) if first.received < last.at => {
                Some(last.at + first.received.saturating_duration_since(last.received))
            }
            (PendingState::Waiting, _) => Some(first.received),
        }
    }

    /// Decides on one signal. `in_shipper`: the signals that are pending in the shipper, where that is known.
    fn judge(
        &self,
        pending: &PendingSignal,
        in_shipper: Option<u64>,
        now: Instant,
        view: &impl ProcessView,
    ) -> Decision {
        let PendingState::Undecided { until } = pending.state else { return Decision::Forward };
        let bit = bit(pending.signal);
        let is_broadcast = match in_shipper.map(|set| set & bit != 0) {
            // Pending in the shipper since this signal: a broadcast. But kill(2) to our process group, by an ordinary
            // process, does not reach an app that left the group.
            Some(true) if self.stale_mask & bit == 0 => pending.sender <= 1 || view.app_is_in_our_group(),
            // Pending since an earlier signal, or not known: what the platform sends to every process is a broadcast.
            Some(true) | None => {
                self.platform == PlatformSignals::ToEveryProcess && matches!(pending.sender, 0 | 1)
            }
            // Not pending in the shipper: it may be signalled after us.
            Some(false) if now < until => return Decision::Undecided,
            // Not pending in the shipper in time: for the supervisor alone.
            Some(false) => false,
        };
        if is_broadcast { Decision::Broadcast } else { Decision::Forward }
    }

    /// When [`SignalForwarder::decide`] is to be called next.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let probe = self.undecided().map(|until| until.min(now + PROBE_INTERVAL)).min();
        let forward = self.pending.front().and_then(|first| self.forward_time(first));
        let recheck = (self.stale_mask != 0 && self.rechecks_left > 0).then(|| now + 2 * PROBE_INTERVAL);
        let verify = match self.term {
            TermState::Broadcast { verify_at } => Some(verify_at),
            TermState::NotReceived | TermState::Handled => None,
        };
        probe.into_iter().chain(forward).chain(recheck).chain(verify).min()
    }

    /// Whether a signal may still be forwarded.
    pub(crate) fn is_deciding(&self) -> bool {
        !self.pending.is_empty()
    }

    /// When each of the undecided signals counts as sent to the supervisor alone.
    fn undecided(&self) -> impl Iterator<Item = Instant> {
        self.pending.iter().filter_map(|pending| match pending.state {
            PendingState::Undecided { until } => Some(until),
            PendingState::Waiting => None,
        })
    }

    /// Whether the shipper is to be told, now and once, to clear its pending signals. Not while a decision needs them.
    pub(crate) fn take_clear_request(&mut self) -> bool {
        self.undecided().next().is_none() && std::mem::take(&mut self.clear_is_due)
    }
}

#[cfg(test)]
mod tests;
