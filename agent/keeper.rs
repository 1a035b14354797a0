//! The keeper: the dyno's main process. It starts the app, passes on what it prints, keeps the books, and exits
//! as the app did. It does no network work, and it is complete without a shipper.

mod above;
mod bulletin;
mod child;
mod clerk;
mod hands;
mod mood;
mod stage;
mod vitals;
mod warden;
mod watch;

pub use above::is_below_another;
pub use bulletin::{Bulletin, Health, NAME, SEPARATOR};
pub use child::exec;
pub use clerk::{Clerk, Heard};
pub use mood::{Mood, Moods};
pub use vitals::Vitals;

use crate::capture::pump;
use crate::config::Config;
use crate::diag;
use crate::dyno::lifecycle::Lifecycle;
use crate::exit_code::ExitCode;
use crate::frame::Own;
use crate::line::Stream;
use crate::poll::{timeout, until};
use crate::recorder::{Input, Look, Scribe, input};
use crate::signals::ancestry;
use crate::signals::forward::{Relay, Sight};
use crate::signals::pending;
use crate::signals::source::Signals;
use crate::spool::Tap;
use child::Reaped;
use crossbeam_channel::Sender;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::Stage;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use warden::Warden;

/// The app's last words are waited for so long: as long as a pump goes on, and the recorder behind it.
const LAST_WORDS: Duration = pump::LAST.saturating_add(Duration::from_millis(500));
/// An app that stops by a SIGTSTP has done so after this time.
const SUSPENDS: Duration = Duration::from_secs(1);
/// The last that is written to the disk is waited for so long.
const FILES: Duration = Duration::from_secs(1);
/// A shipper that says nothing for longer than any request may take, and this, hangs.
const SLACK: Duration = Duration::from_secs(5);

impl Config {
    /// How the frames of this dyno look.
    pub(crate) fn look(&self) -> Look {
        Look {
            host: self.frame_host.clone(),
            app: self.frame_app.clone(),
            proc_id: self.frame_proc.clone(),
            source: self.dyno.clone(),
            max_line: self.max_line,
        }
    }

    /// The drains as the spool knows them.
    pub(crate) fn taps(&self) -> Vec<Tap> {
        let tap =
            |drain: &crate::config::DrainConfig| Tap { name: drain.url.name(), token: drain.token.clone() };
        self.drains.iter().map(tap).collect()
    }
}

/// Runs the command `words` as the dyno's process and returns its exit status. What cannot be set up is said in
/// one line, and the command runs in our place.
pub fn run(config: &Config, words: &[OsString]) -> u8 {
    let inherited = child::inherited();
    child::hear_of_children();
    let steps_aside = |what: &str, error: &io::Error| {
        diag::at("not-shipping").with("error", format!("{what}: {error}")).say();
        cannot_start(words, &exec(words))
    };
    let signals = match Signals::take_all() {
        Ok(signals) => signals,
        Err(error) => return steps_aside("cannot take signals", &error.into()),
    };
    let stage = match Stage::set(config, told(words)) {
        Ok(stage) => stage,
        Err((what, error)) => {
            signals.give_back();
            return steps_aside(what, &error);
        }
    };
    let [out, err] = stage.ends;
    let app = match child::start_app(words, out, err, signals.before) {
        Ok(child) => Pid::from_raw(child.id() as i32),
        Err(error) => {
            signals.give_back();
            if child::is_of_the_start(&error) {
                return steps_aside("cannot start a process", &error);
            }
            return cannot_start(words, &error);
        }
    };
    child::let_go(inherited);
    if !config.waits_for_port() {
        stage.vitals.up(|| {});
    }
    let _room_for_both = (stage.recorder.try_send(Input::Start), stage.begin.try_send(app.as_raw()));
    let keeper = Keeper {
        config,
        signals,
        wake: stage.wake,
        gone: stage.gone,
        scribe: stage.scribe,
        pumps: stage.finished,
        warden: Warden::new(
            stage.memory,
            config.paths(),
            config.request_timeout + SLACK,
            Arc::clone(&stage.vitals),
        ),
        clerk: None,
        bulletin: None,
        since: Instant::now(),
        app,
        status: None,
        // Cedar's dyno manager does; where a container's first process is ours nobody else is signalled.
        relay: Relay::new(std::env::var_os("DYNO").is_some() && std::process::id() != 1),
        stop_at: None,
        has_taken_stock: false,
        ended: None,
        suspends: None,
        recorder: stage.recorder,
        vitals: stage.vitals,
        _sampler: stage.begin,
    };
    catch_unwind(AssertUnwindSafe(|| keeper.run())).unwrap_or_else(|_| wait_for(app))
}

/// A bug of ours took the keeper away: what is left is to wait for the app, and to pass on what comes.
fn wait_for(app: Pid) -> u8 {
    diag::at("keeper-fault")
        .with("detail", "a bug of ours; the app goes on, and nothing is shipped any more")
        .say();
    let signals = Signals::take_all().ok();
    loop {
        while let Some(received) = signals.as_ref().and_then(Signals::next) {
            if received.signal != Signal::SIGCHLD {
                let _gone_already = kill(app, received.signal);
            }
        }
        while let Some(reaped) = child::reap() {
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
fn told(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    match words.as_slice() {
        [shell, flag, line, ..] if shell.ends_with("bash") && flag == "-c" => line.to_string(),
        words => words.join(" "),
    }
}

/// Says that the command could not be started; returns the exit status that says so.
pub fn cannot_start(words: &[OsString], error: &io::Error) -> u8 {
    let name = words.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned());
    diag::at("cannot-start").with("command", name).with("error", error).say();
    ExitCode::of_exec_error(error).into()
}

struct Keeper<'a> {
    config: &'a Config,
    signals: Signals,
    wake: Arc<EventFd>,
    gone: Arc<EventFd>,
    scribe: Arc<Scribe>,
    /// How many of both have nothing more to pass on.
    pumps: Arc<AtomicUsize>,
    warden: Warden,
    clerk: Option<Clerk>,
    bulletin: Option<Bulletin>,
    since: Instant,
    app: Pid,
    status: Option<u8>,
    relay: Relay,
    /// TERM + grace.
    stop_at: Option<Instant>,
    /// The books were written at that time, the app still being there: what comes now may be the kill.
    has_taken_stock: bool,
    /// When the app ended.
    ended: Option<Instant>,
    /// A SIGTSTP came: when the app stops by it until then, so do we.
    suspends: Option<Instant>,
    /// For lines of our own.
    recorder: Sender<Input>,
    vitals: Arc<Vitals>,
    /// The sampler ends when this does.
    _sampler: Sender<i32>,
}

/// What the relay sees, by `/proc`.
struct Proc {
    app: Pid,
    shipper: Option<Pid>,
}

impl Sight for Proc {
    fn canary(&self) -> Option<u64> {
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

impl Keeper<'_> {
    fn run(mut self) -> u8 {
        loop {
            self.take_signals();
            self.pass_on();
            if self.clerk.is_none()
                && let Some(spool) = self.scribe.spool()
            {
                self.bulletin = Bulletin::open(&spool.agent, self.since, Arc::clone(&self.vitals)).ok();
                let wake = Some(Arc::clone(&self.wake));
                let clerk = Clerk::new(spool, &self.config.frame_host, &self.config.dyno, wake);
                self.clerk = Some(clerk);
            }
            if let Some(clerk) = &mut self.clerk {
                if self.status.is_some() || self.stop_at.is_some() {
                    clerk.end();
                }
                self.warden.tick(clerk);
                if let Some(bulletin) = &self.bulletin {
                    bulletin.answer(self.config, clerk, Some(self.warden.health()));
                }
            }
            if let Some(status) = self.status
                && self.is_over()
            {
                self.close();
                return status;
            }
            self.take_stock();
            self.wait();
        }
    }

    /// Sleeps until something happens.
    fn wait(&self) {
        let now = Instant::now();
        let mut due = self.clerk.as_ref().and_then(|_| self.warden.due());
        let mut sooner = |at: Instant| due = Some(due.map_or(at, |due| due.min(at)));
        if let Some(due) = self.relay.due(now) {
            sooner(due);
        }
        if self.ended.is_some() {
            sooner(self.leave_at());
        } else if let Some(stop_at) = self.stop_at.filter(|_| !self.has_taken_stock) {
            sooner(stop_at);
        }
        let mut polled = vec![
            PollFd::new(self.signals.fd().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(bulletin) = &self.bulletin {
            polled.push(PollFd::new(bulletin.fd(), PollFlags::POLLIN));
        }
        if let Some(link) = self.warden.link().filter(|link| !link.is_closed()) {
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
            let sight = Proc { app: self.app, shipper: self.warden.pid() };
            let is_for_us = self.status.is_some() || self.relay.take(received, now, &sight);
            if received.signal == Signal::SIGTERM && is_for_us {
                if self.stop_at.is_none() && self.status.is_none() {
                    self.vitals.end(|was_up| {
                        let lines = self.life(|| Lifecycle::stopping(was_up));
                        self.tell(Input::Own(lines, input::Place::default()));
                    });
                }
                let stop_at = *self.stop_at.get_or_insert(now + self.config.stop_grace);
                self.warden.hurry(stop_at);
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
    fn pass_on(&mut self) {
        let sight = Proc { app: self.app, shipper: self.warden.pid() };
        for signal in self.relay.decide(Instant::now(), &sight) {
            if self.status.is_none() {
                let _gone_already = kill(self.app, signal);
            }
        }
        if self.relay.take_stale() {
            self.warden.calm();
        }
        self.suspend();
    }

    /// Stops as the app has stopped, by a SIGTSTP that we had too: an app that does something else with it goes on,
    /// and so do we.
    fn suspend(&mut self) {
        if self.suspends.is_some_and(|until| Instant::now() <= until)
            && !self.relay.is_watching()
            && ancestry::is_stopped(self.app.as_raw())
        {
            self.suspends = None;
            let _as_a_terminal_has_it = nix::sys::signal::raise(Signal::SIGSTOP);
        }
    }

    /// Reaps whoever is ours, also orphans when we are PID 1.
    fn reap(&mut self) {
        while let Some(reaped) = child::reap() {
            let (pid, status) = match reaped {
                Reaped::Ended(pid, status) => (pid, status),
                // It is looked at once all signals are taken.
                Reaped::Stopped => continue,
            };
            if pid == self.app {
                self.status = Some(status);
                self.ended = Some(Instant::now());
                let _cannot_fail = self.gone.write(1);
                let was_asked = self.stop_at.is_some();
                let life = Lifecycle::of(&self.config.dyno);
                self.vitals.end(|was_up| {
                    self.tell(Input::Farewell(self.life(|| life.ended(was_up, was_asked, status))));
                });
                let deadline = self.deadline();
                self.warden.hurry(deadline);
            } else if let Some(clerk) = &mut self.clerk {
                self.warden.reaped(pid, clerk);
            }
        }
    }

    /// Lines about the dyno's life, where they are wanted.
    fn life(&self, lines: impl FnOnce() -> Vec<Own>) -> Vec<Own> {
        if self.config.lifecycle { lines() } else { Vec::new() }
    }

    fn tell(&self, input: Input) {
        let _room_is_kept_for_it = self.recorder.try_send(input);
    }

    /// When delivery ends, the app having ended: with the grace, and before that once no drain is worth waiting for.
    fn deadline(&self) -> Instant {
        if let Some(stop_at) = self.stop_at {
            return stop_at;
        }
        let Some(ended) = self.ended else { return Instant::now() + self.config.stop_grace };
        let until = match &self.clerk {
            Some(clerk) if !self.warden.fails() => {
                let ledger = clerk.spool().shared.lock();
                let drains = || 0..self.config.drains.len();
                let waits = drains().filter(|drain| ledger.held_bytes(*drain) > 0);
                // What is left is our own when no drain holds lines.
                let is_ours = self.scribe.is_finished() && drains().all(|drain| ledger.held(drain) == 0);
                waits.map(|drain| clerk.moods().patience(drain, ended, is_ours)).max()
            }
            _ => None,
        };
        let until = until.unwrap_or(ended + mood::SILENCE);
        until.min(ended + self.config.stop_grace)
    }

    /// Whether we may go, the app having gone.
    fn is_over(&mut self) -> bool {
        if self.scribe.is_finished()
            && let Some(clerk) = &self.clerk
        {
            self.warden.finish();
            if clerk.is_done() && self.has_passed_on() {
                return true;
            }
        }
        Instant::now() >= self.leave_at()
    }

    /// Whether the dyno's own streams have taken all, or do not take anything.
    fn has_passed_on(&self) -> bool {
        self.pumps.load(Ordering::Acquire) == Stream::ALL.len()
    }

    /// When we go at the latest, the app having gone: what it left in its pipes is recorded and passed on, also when
    /// the time for delivery is over.
    fn leave_at(&self) -> Instant {
        let deadline = self.deadline();
        match self.ended {
            Some(ended) if !self.scribe.is_finished() => deadline.max(ended + LAST_WORDS),
            // Somebody reads, or the pump would have given up.
            Some(ended) if !self.has_passed_on() => {
                deadline.max(self.stop_at.unwrap_or(ended + self.config.stop_grace)).max(ended + LAST_WORDS)
            }
            _ => deadline,
        }
    }

    /// The time for delivery is over and the app is still there: the platform is about to kill us all, so what can be
    /// said is said now.
    fn take_stock(&mut self) {
        let is_late = self.stop_at.is_some_and(|stop_at| Instant::now() >= stop_at);
        if self.status.is_some() || !is_late || self.has_taken_stock {
            return;
        }
        if let Some(clerk) = &self.clerk {
            clerk.say_missing();
            clerk.write_ledger(self.config);
        }
        self.has_taken_stock = true;
    }

    /// The last words: the ledger, and what did not arrive.
    fn close(&mut self) {
        self.warden.kill(self.clerk.as_mut());
        let Some(clerk) = &self.clerk else {
            diag::at("no-spool")
                .with("detail", "the spool was not ready in time; lines may be missing")
                .say();
            return;
        };
        clerk.say_missing();
        clerk.write_ledger(self.config);
        let (last, until) = (clerk.close(), Instant::now() + FILES);
        while !clerk.has_done(last) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                diag::at("disk-stands-still")
                    .with("detail", "the last words of the books are not written")
                    .say();
                return;
            }
            let mut polled = [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
            let _or_interrupted = poll(&mut polled, timeout(left));
            let _or_nothing = self.wake.read();
        }
    }
}
