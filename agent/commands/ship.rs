//! `tailrace ship`: recorder, supervisor and shipper in one process, fed from standard input. It does not drop lines:
//! when the spool is full it stops reading, and whoever writes waits. While that one may have something to write the
//! pipe stays open: until its end, or until the grace after a stop signal is over.

use super::discard::{DISCARDED, discard_input};
use super::stop_signals::{self, StopSignals};
use super::{report_problems, settings};
use crate::capture::stdin::{self, InputEnd, StdinState};
use crate::config::{Config, Problem};
use crate::delivery::Coordinator;
use crate::diag;
use crate::exit_code::ExitCode;
use crate::poll;
use crate::protocol::{Connection, ToShipper};
use crate::recorder::{FrameFormat, Recorder, Wakeups};
use crate::sample;
use crate::shipper::{self, Exit};
use crate::spool::{self, Directory, Opened, Spool, SpoolOwner, TakeoverState, WhenFull};
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How often, and at most how many times, a shipper without supervisor looks whether the lock of its spool is free.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);
const MAX_LOCK_POLLS: usize = 10;
/// How long the reader may take to record the last of the input: longer only when the disk stands still.
const LAST_INPUT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Where the frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Standard input.
    Stdin,
    /// Only what was adopted.
    AdoptedSpool,
}

/// What became of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Every line was delivered.
    Complete,
    /// The input cannot be read; what was read before was delivered.
    Unreadable,
    /// Lines were not delivered, or not read.
    LinesMissing,
}

/// The shipper ended before the work was done.
#[derive(Clone, Copy, Debug)]
struct ShipperEnded;

/// Ships standard input, and returns the exit status.
pub fn run() -> u8 {
    let mut signals = StopSignals::block(); // first of all: a signal must not end the pipe of whoever writes
    let (config, problems) = settings();
    if !is_shipping(&config, &problems) {
        discard_input(signals.as_mut().ok(), config.stop_grace);
        return ExitCode::Success.into();
    }
    let code = match &mut signals {
        Ok(signals) => ship(&config, signals),
        Err(errno) => Err(io::Error::from(*errno)),
    };
    let code = code.unwrap_or_else(|error| {
        diag::event(diag::Event::CannotShip).field("error", error).field("detail", DISCARDED).emit();
        discard_input(signals.as_mut().ok(), config.stop_grace);
        ExitCode::System
    });
    code.into()
}

/// Whether the settings allow to ship; else reports why not.
fn is_shipping(config: &Config, problems: &[Problem]) -> bool {
    if !config.enabled {
        diag::event(diag::Event::ShipOff).field("detail", DISCARDED).emit();
        return false;
    }
    report_problems(config, problems, DISCARDED);
    if config.drains.is_empty() && problems.is_empty() {
        let event = diag::event(diag::Event::NoDrain).field("error", "TAILRACE_DRAIN_URL is not set");
        event.field("detail", DISCARDED).emit();
    }
    !config.drains.is_empty()
}

/// Ships standard input until it ends, and what is held for the grace after that.
///
/// # Errors
/// When something cannot be set up, or the shipper ended too early: the rest of the input was not read.
fn ship(config: &Config, signals: &mut StopSignals) -> io::Result<ExitCode> {
    let memory = spool::memory_file().ok();
    let agent = spool::agent_id()?;
    let Opened { spool, error } =
        Spool::open(&config.spool_dir, agent, SpoolOwner::of(config), try_clone(memory.as_ref())?);
    if let Some(error) = error {
        diag::event(diag::Event::SpoolInMemory).field("error", error).emit();
    }
    Ok(match deliver(config, signals, &Arc::new(spool), memory.as_ref(), Source::Stdin)? {
        Outcome::Complete => ExitCode::Success,
        Outcome::Unreadable => ExitCode::InputOutput,
        Outcome::LinesMissing => ExitCode::LinesLost,
    })
}

/// The supervisor of this process, its shipper, was killed: delivers within the grace what it had recorded, and reports
/// what is left. `takeover` tells what is in `memory`, the memory file.
///
/// # Errors
/// When something cannot be set up.
pub(super) fn deliver_after_supervisor(
    config: &Config,
    memory: Option<&File>,
    takeover: &TakeoverState,
) -> io::Result<()> {
    let mut signals = StopSignals::block()?;
    // The kernel may release the lock of a dead process later than its socket.
    for _ in 0..MAX_LOCK_POLLS {
        thread::sleep(LOCK_POLL_INTERVAL);
        if !Directory::is_held(&config.spool_dir, &takeover.agent) {
            break;
        }
    }
    let (agent, memory_of_spool) = (spool::agent_id()?, try_clone(memory)?);
    let owner = SpoolOwner::of(config);
    let Opened { spool, .. } = Spool::open_after(&config.spool_dir, agent, owner, memory_of_spool, takeover);
    let bytes = spool.adopted_bytes();
    if bytes == 0 {
        spool.close();
        return Ok(());
    }
    diag::event(diag::Event::SupervisorGone)
        .field("held_bytes", bytes)
        .field("grace", diag::seconds(config.stop_grace))
        .emit();
    let spool = Arc::new(spool);
    let delivered = deliver(config, &mut signals, &spool, memory, Source::AdoptedSpool);
    if delivered.is_err() {
        spool.close(); // leaves what is not delivered to the next agent, and nothing else
    }
    delivered.map(drop)
}

/// Delivers what is in the spool, and what comes from `source`.
fn deliver(
    config: &Config,
    signals: &mut StopSignals,
    spool: &Arc<Spool>,
    memory: Option<&File>,
    source: Source,
) -> io::Result<Outcome> {
    let (ours, theirs) = UnixStream::pair()?;
    let stdin = Arc::new(StdinState::new()?);
    let coordinator = Coordinator::new(Arc::clone(spool), &config.frame_host, &config.dyno, None);
    let connection = Connection::new(ours)?;
    let main_loop = MainLoop { config, stdin: &stdin, signals, coordinator, connection };
    thread::scope(|scope| {
        let shipper = thread::Builder::new().name("shipper".to_owned());
        let shipper =
            shipper.spawn_scoped(scope, || shipper::serve(config, theirs, memory, &spool.agent, None))?;
        match source {
            Source::Stdin => spawn_reader(config, spool, &stdin)?,
            Source::AdoptedSpool => stdin.finish(InputEnd::EndOfFile),
        }
        main_loop.run(source).map_err(|ShipperEnded| cause(shipper.join()))
    })
}

/// Why the shipper's thread ended.
fn cause(ended: thread::Result<io::Result<Exit>>) -> io::Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(_)) | Err(_) => io::Error::other("the shipper ended"),
    }
}

/// Starts the thread that reads standard input. Nobody waits for its end: a read may not return, where another process
/// reads the same pipe.
fn spawn_reader(config: &Config, spool: &Arc<Spool>, stdin: &Arc<StdinState>) -> io::Result<()> {
    let (spool, stdin) = (Arc::clone(spool), Arc::clone(stdin));
    let (format, wakeups) = (FrameFormat::of(config), Wakeups::of(config));
    let limit = config.spool_limit(sample::quota);
    let reader = thread::Builder::new().name("recorder".to_owned());
    reader.spawn(move || {
        let writer = spool.writer(limit, WhenFull::Block, || stdin.is_stopping());
        let recorder = Recorder::new(&spool, writer, &format);
        stdin.finish(stdin::read(recorder, wakeups, &stdin));
    })?;
    Ok(())
}

fn try_clone(file: Option<&File>) -> io::Result<Option<File>> {
    file.map(File::try_clone).transpose()
}

/// The supervisor's part: answers the shipper, and knows when the work is done.
struct MainLoop<'a> {
    config: &'a Config,
    stdin: &'a StdinState,
    signals: &'a mut StopSignals,
    coordinator: Coordinator,
    connection: Connection,
}

impl MainLoop<'_> {
    /// Runs until everything is delivered or the grace is over; then reports what is missing, writes the ledger and
    /// removes what is not needed.
    fn run(mut self, source: Source) -> Result<Outcome, ShipperEnded> {
        let worked = self.work();
        self.stop_reading();
        let end = self.wait_for_reader();
        let mut is_missing = self.coordinator.report_missing();
        let error = worked.is_err().then_some("the shipper ended");
        is_missing |= self.coordinator.report_adopted_left(error);
        if source == Source::Stdin {
            self.coordinator.write_ledger(self.config);
        }
        self.coordinator.close();
        worked?;
        is_missing |= report_not_recorded(end);
        Ok(match end {
            _ if is_missing => Outcome::LinesMissing,
            Some(InputEnd::Unreadable) => Outcome::Unreadable,
            _ => Outcome::Complete,
        })
    }

    /// Passes messages between ledger and shipper until everything is delivered or the grace is over.
    fn work(&mut self) -> Result<(), ShipperEnded> {
        self.coordinator.resync(&mut self.connection);
        let mut sent_end = false;
        let mut deadline: Option<Instant> = None;
        loop {
            let now = Instant::now();
            self.coordinator.handle_messages(&mut self.connection);
            let is_finished = self.stdin.end().is_some();
            if self.coordinator.has_updates() {
                self.coordinator.send_updates(&mut self.connection);
            }
            self.coordinator.maintain_checkpoint(now);
            let stop_deadline = self.signals.deadline(self.config.stop_grace);
            if stop_deadline.is_some() && stop_signals::ends_input() {
                self.stop_reading();
            }
            if (is_finished || stop_deadline.is_some()) && deadline.is_none() {
                deadline = stop_deadline.or(Some(now + self.config.stop_grace));
                self.connection.send(&ToShipper::Deadline(self.config.stop_grace));
            }
            if is_finished && !sent_end && !self.coordinator.has_updates() {
                sent_end = true;
                self.connection.send(&ToShipper::EndOfLog);
            }
            self.connection.flush();
            let is_done = is_finished && self.coordinator.is_done();
            if is_done || deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(());
            }
            if self.connection.is_closed() {
                return Err(ShipperEnded);
            }
            self.wait(deadline.into_iter().chain(self.coordinator.memory_save_due()).min());
        }
    }

    /// Makes the reader stop, also where it waits for room in the spool.
    fn stop_reading(&self) {
        self.stdin.stop();
        self.coordinator.spool().shared.notify();
    }

    /// Waits until what was read is in the spool. None: the disk does not take it.
    fn wait_for_reader(&self) -> Option<InputEnd> {
        let deadline = Instant::now() + LAST_INPUT_TIMEOUT;
        while self.stdin.end().is_none() && Instant::now() < deadline {
            let mut polled = [PollFd::new(self.stdin.wake_event(), PollFlags::POLLIN)];
            poll(&mut polled, poll::until(Some(deadline))).ok(); // interrupted: the loop looks again
            self.stdin.clear_wake();
        }
        self.stdin.end()
    }

    fn wait(&self, deadline: Option<Instant>) {
        let out = if self.connection.is_pending() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let mut polled = [
            PollFd::new(self.signals.fd(), PollFlags::POLLIN),
            PollFd::new(self.stdin.wake_event(), PollFlags::POLLIN),
            PollFd::new(self.connection.socket().as_fd(), PollFlags::POLLIN | out),
        ];
        poll(&mut polled, poll::until(deadline)).ok(); // interrupted: the loop looks again
        if polled[1].any().unwrap_or(false) {
            self.stdin.clear_wake();
        }
    }
}

/// Reports what is missing in the spool, by how the reader ended; true when there is any.
fn report_not_recorded(end: Option<InputEnd>) -> bool {
    if end.is_none() {
        let event = diag::event(diag::Event::DiskStandsStill);
        event.field("detail", "the last lines that were read may not be recorded").emit();
    }
    let is_ended = matches!(end, Some(InputEnd::EndOfFile | InputEnd::Unreadable));
    let unread = if is_ended { 0 } else { stdin::unread_bytes() };
    if unread > 0 {
        let event = diag::event(diag::Event::InputNotRead).field("bytes", unread);
        event.field("detail", "the time to stop is over").emit();
    }
    end.is_none() || unread > 0
}
