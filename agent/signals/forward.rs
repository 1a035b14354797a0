//! Which signals are passed on to the app: those that were meant for us alone. It has its own of those that went
//! to the whole dyno, to our process group, or out of a terminal, and must not get them twice.
//!
//! Nothing in a signal says to whom it went. So the shipper, which has them all blocked and is in our process
//! group, is the pending_in_shipper: when a signal of ours waits there too, it went to all. Cedar signals one process after
//! the other, so for SIGTERM it is looked at for a while. Without a pending_in_shipper the sender decides.

use super::pending::{FORWARDED, bit};
use super::source::ReceivedSignal;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// How long the pending_in_shipper may take to show that a SIGTERM went to all.
const TERM_WATCH: Duration = Duration::from_millis(200);
/// The same for others, which reach a group in one call.
const WATCH: Duration = Duration::from_millis(5);
/// How often it is looked at meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How often it is looked whether the pending_in_shipper has forgotten what it was told to forget. A shipper that stands still
/// has not, and is asked no more.
const RECHECKS: u32 = 50;
/// When a SIGTERM was kept: how long after it is made sure that the app had one.
const ASSURANCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct PendingDecision {
    signal: Signal,
    sender: i32,
    until: Instant,
}

/// What became of the SIGTERM of this stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    /// None came.
    None,
    /// Nothing more is to be done about it, whatever comes.
    Settled,
    /// The app should have its own; at this time it is made sure.
    Kept(Instant),
}

/// What the forwarder has to know of the app and of the pending_in_shipper when it decides.
pub trait ProcessView {
    /// The signals that wait for the pending_in_shipper, as the bits of proc(5); none without a pending_in_shipper.
    fn pending_in_shipper(&self) -> Option<u64>;
    /// Whether the process is the app, or was started by it, or by something that was.
    fn is_of_the_app(&self, pid: i32) -> bool;
    /// Whether the app is in our process group, so that it has what went to that.
    fn is_in_our_group(&self) -> bool;
    /// Whether the app cannot have had a SIGTERM: it would have died of it, and none waits for it.
    fn is_untouched(&self) -> bool;
}

/// Decides, for one app.
#[derive(Debug)]
pub struct SignalForwarder {
    /// The platform signals every process, as on Cedar: so without a pending_in_shipper one from outside went to all.
    to_all: bool,
    pending: Vec<PendingDecision>,
    term: Term,
    /// Something may wait for the pending_in_shipper that was decided on.
    stale: bool,
    /// What it is: of these the pending_in_shipper says nothing until it has forgotten them.
    stale_mask: u64,
    rechecks_left: u32,
}

impl SignalForwarder {
    /// `to_all`: the platform signals every process of a dyno.
    pub fn new(to_all: bool) -> Self {
        Self { to_all, pending: Vec::new(), term: Term::None, stale: false, stale_mask: 0, rechecks_left: 0 }
    }

    /// Takes a signal; what is to be passed on is said by [`SignalForwarder::decide`]. False when it comes from the app itself,
    /// and means nothing to the dyno.
    pub fn take(&mut self, received: ReceivedSignal, now: Instant, view: &impl ProcessView) -> bool {
        let ReceivedSignal { signal, sender, .. } = received;
        let is_term = signal == Signal::SIGTERM;
        if !FORWARDED.contains(&signal) {
            return true;
        }
        // What the app itself, or a child of its, sent to us is not for it; to a group it has its own.
        if sender > 0 && view.is_of_the_app(sender) {
            self.mark_stale(signal);
            return false;
        }
        if self.pending.iter().any(|watch| watch.signal == signal) {
            return true;
        }
        if is_term && std::mem::replace(&mut self.term, Term::Settled) != Term::None {
            return true; // repeats within one stop do not multiply
        }
        if received.is_of_the_kernel() {
            self.mark_stale(signal);
            return true;
        }
        let until = now + if is_term { TERM_WATCH } else { WATCH };
        self.pending.push(PendingDecision { signal, sender, until });
        true
    }

    fn mark_stale(&mut self, signal: Signal) {
        self.stale = true;
        self.stale_mask |= bit(signal);
        self.rechecks_left = RECHECKS;
    }

    /// What is to be passed on now.
    pub fn decide(&mut self, now: Instant, view: &impl ProcessView) -> Vec<Signal> {
        let mut passed = Vec::new();
        if !self.pending.is_empty() || self.stale_mask != 0 {
            let pending_in_shipper = view.pending_in_shipper();
            self.stale_mask &= pending_in_shipper.unwrap_or(0);
            self.rechecks_left = self.rechecks_left.saturating_sub(1);
            for watch in std::mem::take(&mut self.pending) {
                let bit = bit(watch.signal);
                let waits = pending_in_shipper.map(|waiting| waiting & bit != 0);
                let is_for_all = match waits {
                    Some(true) if self.stale_mask & bit == 0 => {
                        // ProcessFilter signals a group does not reach an app that has left it.
                        watch.sender <= 1 || view.is_in_our_group()
                    }
                    // It waits from before: as if there were no pending_in_shipper.
                    Some(true) | None => self.to_all && matches!(watch.sender, 0 | 1),
                    Some(false) if now < watch.until => {
                        self.pending.push(watch);
                        continue;
                    }
                    Some(false) => false,
                };
                if watch.signal != Signal::SIGTERM || !is_for_all {
                    self.mark_stale(watch.signal);
                }
                if !is_for_all {
                    passed.push(watch.signal);
                } else if watch.signal == Signal::SIGTERM {
                    self.term = Term::Kept(now + ASSURANCE);
                }
            }
        }
        if let Term::Kept(at) = self.term
            && at <= now
        {
            self.term = Term::Settled;
            if view.is_untouched() {
                passed.push(Signal::SIGTERM);
            }
        }
        passed
    }

    /// When there is something to decide.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let watched = self.pending.iter().map(|watch| watch.until.min(now + POLL_INTERVAL)).min();
        let forgotten = (self.stale_mask != 0 && self.rechecks_left > 0).then(|| now + 2 * POLL_INTERVAL);
        let kept = if let Term::Kept(at) = self.term { Some(at) } else { None };
        watched.into_iter().chain(forgotten).chain(kept).min()
    }

    /// Whether something is being decided.
    pub fn is_deciding(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether what waits for the pending_in_shipper is of no more use: it shall forget it, so that the next is news.
    pub fn take_stale(&mut self) -> bool {
        !self.is_deciding() && std::mem::take(&mut self.stale)
    }
}

#[cfg(test)]
mod tests;
