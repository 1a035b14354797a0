//! Which signals are passed on to the app: those that were meant for us alone. It has its own of those that went
//! to the whole dyno, to our process group, or out of a terminal, and must not get them twice.
//!
//! Nothing in a signal says to whom it went. So the shipper, which has them all blocked and is in our process
//! group, is the canary: when a signal of ours waits there too, it went to all. Cedar signals one process after
//! the other, so for SIGTERM it is looked at for a while. Without a canary the sender decides.

use crate::canary::PASSED_ON;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// How long the canary may take to show that a SIGTERM went to all.
const TERM_WATCH: Duration = Duration::from_millis(200);
/// The same for others, which reach a group in one call.
const WATCH: Duration = Duration::from_millis(5);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);
/// When a SIGTERM was kept: how long after it is made sure that the app had one.
const ASSURANCE: Duration = Duration::from_secs(5);

/// A signal that we got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which one.
    pub signal: Signal,
    /// Who sent it; 0 for the kernel and for whoever is outside of our pid namespace.
    pub sender: i32,
    /// The kernel itself did: for a terminal, to the foreground group.
    pub from_kernel: bool,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
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

/// What the relay has to know of the app and of the canary when it decides.
pub(super) trait Sight {
    /// The signals that wait for the canary, as the bits of proc(5); none without a canary.
    fn canary(&self) -> Option<u64>;
    /// Whether the process is the app, or was started by it, or by something that was.
    fn is_of_the_app(&self, pid: i32) -> bool;
    /// Whether the app cannot have had a SIGTERM: it would have died of it, and none waits for it.
    fn is_untouched(&self) -> bool;
}

/// Decides, for one app.
#[derive(Debug)]
pub(super) struct Relay {
    /// The platform signals every process, as on Cedar: so without a canary one from outside went to all.
    to_all: bool,
    watches: Vec<Watch>,
    term: Term,
    /// Something other than SIGTERM may wait for the canary.
    stale: bool,
}

impl Relay {
    /// `to_all`: the platform signals every process of a dyno.
    pub(super) fn new(to_all: bool) -> Self {
        Self { to_all, watches: Vec::new(), term: Term::None, stale: false }
    }

    /// Takes a signal; what is to be passed on is said by [`Relay::decide`].
    pub(super) fn take(&mut self, received: Received, now: Instant, sight: &impl Sight) {
        let Received { signal, sender, from_kernel } = received;
        let is_term = signal == Signal::SIGTERM;
        if !PASSED_ON.contains(&signal) || self.watches.iter().any(|watch| watch.signal == signal) {
            return;
        }
        if is_term && std::mem::replace(&mut self.term, Term::Settled) != Term::None {
            return; // repeats within one stop do not multiply
        }
        self.stale |= !is_term;
        // What the app itself, or a child of its, sent to us is not for it.
        if from_kernel || (sender > 0 && sight.is_of_the_app(sender)) {
            return;
        }
        let until = now + if is_term { TERM_WATCH } else { WATCH };
        self.watches.push(Watch { signal, sender, until });
    }

    /// What is to be passed on now.
    pub(super) fn decide(&mut self, now: Instant, sight: &impl Sight) -> Vec<Signal> {
        let mut passed = Vec::new();
        if !self.watches.is_empty() {
            let canary = sight.canary();
            for watch in std::mem::take(&mut self.watches) {
                let went_to_all = match canary {
                    Some(waiting) => waiting & bit(watch.signal) != 0,
                    None => self.to_all && matches!(watch.sender, 0 | 1),
                };
                if went_to_all {
                    if watch.signal == Signal::SIGTERM {
                        self.term = Term::Kept(now + ASSURANCE);
                    }
                } else if canary.is_some() && now < watch.until {
                    self.watches.push(watch);
                } else {
                    passed.push(watch.signal);
                }
            }
        }
        if let Term::Kept(at) = self.term
            && at <= now
        {
            self.term = Term::Settled;
            if sight.is_untouched() {
                passed.push(Signal::SIGTERM);
            }
        }
        passed
    }

    /// When there is something to decide.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if let Some(first) = self.watches.iter().map(|watch| watch.until).min() {
            return Some(first.min(now + LOOK));
        }
        match self.term {
            Term::Kept(at) => Some(at),
            _ => None,
        }
    }

    /// Whether something is being decided.
    pub(super) fn is_watching(&self) -> bool {
        !self.watches.is_empty()
    }

    /// Whether what waits for the canary is of no more use: it shall forget it, so that the next is news.
    pub(super) fn take_stale(&mut self) -> bool {
        !self.is_watching() && std::mem::take(&mut self.stale)
    }
}

/// The bit of a signal in the sets of proc(5).
pub(super) fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

#[cfg(test)]
mod tests;
