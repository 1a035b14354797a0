//! `tailrace ship`: recorder, supervisor and shipper in one process, fed from standard input. It does not drop lines:
//! when the spool is full it stops reading, and whoever writes waits.

use super::{report_problems, settings};
use crate::capture::stdin::{self, StdinState};
use crate::config::Config;
use crate::delivery::Coordinator;
use crate::diag;
use crate::exit_code::ExitCode;
use crate::ledger::DrainIndex;
use crate::poll;
use crate::protocol::{Connection, ToShipper};
use crate::recorder::{FrameFormat, Recorder, Wakeups};
use crate::sample;
use crate::shipper;
use crate::signals::source::Signals;
use crate::spool::{self, Directory, Opened, Spool, SpoolOwner, TakeoverState, WhenFull};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Signals that end the reading.
const STOP_SIGNALS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
/// How often, and at most how many times, a shipper without supervisor looks whether the lock of its spool is free.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);
const MAX_LOCK_POLLS: usize = 10;

/// Where the frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Standard input.
    Stdin,
    /// Only what was adopted.
    AdoptedSpool,
}

/// Whether every line was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Complete,
    LinesMissing,
}

/// Ships standard input, and returns the exit status.
pub fn run() -> u8 {
    let (config, problems) = settings();
    if report_problems(&problems, "nothing was read") {
        return ExitCode::Usage.into();
    }
    if config.drains.is_empty() {
        let event = diag::event(diag::Event::NoDrain).field("error", "TAILRACE_DRAIN_URL is not set");
        event.field("detail", "nothing was read").emit();
        return ExitCode::Usage.into();
    }
    let code = ship(&config).unwrap_or_else(|error| {
        diag::event(diag::Event::CannotShip).field("error", error).emit();
        ExitCode::System
    });
    code.into()
}

/// Ships standard input until it ends, and what is held for the grace after that.
///
/// # Errors
/// When something cannot be set up: nothing was read yet.
fn ship(config: &Config) -> io::Result<ExitCode> {
    let signals = Signals::block(STOP_SIGNALS)?;
    let memory = spool::memory_file().ok();
    let agent = spool::agent_id()?;
    let Opened { spool, error } =
        Spool::open(&config.spool_dir, agent, SpoolOwner::of(config), try_clone(memory.as_ref())?);
    if let Some(error) = error {
        diag::event(diag::Event::SpoolInMemory).field("error", error).emit();
    }
    Ok(match deliver(config, &signals, &Arc::new(spool), memory.as_ref(), Source::Stdin)? {
        Delivery::Complete => ExitCode::Success,
        Delivery::LinesMissing => ExitCode::LinesLost,
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
    let signals = Signals::block(STOP_SIGNALS)?;
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
    let delivered = deliver(config, &signals, &spool, memory, Source::AdoptedSpool);
    if delivered.is_err() {
        spool.close(); // leaves what is not delivered to the next agent, and nothing else
    }
    for drain in DrainIndex::all(config.drains.len()) {
        let left = spool.adopted_left(drain);
        if left > 0 {
            let mut event = diag::event(diag::Event::BytesNotDelivered)
                .field("drain", spool.token(drain))
                .field("bytes", left);
            if let Err(error) = &delivered {
                event = event.field("error", error);
            }
            event.emit();
        }
    }
    delivered.map(drop)
}

/// Delivers what is in the spool, and what comes from `source`.
fn deliver(
    config: &Config,
    signals: &Signals,
    spool: &Arc<Spool>,
    memory: Option<&File>,
    source: Source,
) -> io::Result<Delivery> {
    let (ours, theirs) = UnixStream::pair()?;
    let stdin = StdinState::new()?;
    let coordinator = Coordinator::new(Arc::clone(spool), &config.frame_host, &config.dyno, None);
    let connection = Connection::new(ours)?;
    let main_loop = MainLoop { config, stdin: &stdin, signals, coordinator, connection };
    thread::scope(|scope| {
        let shipper = thread::Builder::new().name("shipper".to_owned());
        shipper.spawn_scoped(scope, || shipper::serve(config, theirs, memory, &spool.agent))?;
        match source {
            Source::Stdin => {
                let reader = thread::Builder::new().name("recorder".to_owned());
                reader.spawn_scoped(scope, || {
                    let give_up = || stdin.is_stopping();
                    let writer = spool.writer(config.spool_limit(sample::quota), WhenFull::Block, give_up);
                    let recorder = Recorder::new(spool, writer, &FrameFormat::of(config));
                    stdin::read(recorder, Wakeups::new(config.batch_linger), &stdin);
                    stdin.finish();
                })?;
            }
            Source::AdoptedSpool => stdin.finish(),
        }
        Ok(main_loop.run(source))
    })
}

fn try_clone(file: Option<&File>) -> io::Result<Option<File>> {
    file.map(File::try_clone).transpose()
}

/// The supervisor's part: answers the shipper, and knows when the work is done.
struct MainLoop<'a> {
    config: &'a Config,
    stdin: &'a StdinState,
    signals: &'a Signals,
    coordinator: Coordinator,
    connection: Connection,
}

impl MainLoop<'_> {
    /// Runs until everything is delivered or the grace is over, then writes the ledger and removes what is not needed.
    fn run(mut self, source: Source) -> Delivery {
        self.coordinator.resync(&mut self.connection);
        let mut sent_end = false;
        let mut deadline: Option<Instant> = None;
        loop {
            let now = Instant::now();
            self.coordinator.handle_messages(&mut self.connection);
            let is_finished = self.stdin.is_finished();
            if self.coordinator.has_updates() {
                self.coordinator.send_updates(&mut self.connection);
            }
            let was_asked = self.take_signals();
            if (is_finished || was_asked) && deadline.is_none() {
                deadline = Some(now + self.config.stop_grace);
                self.connection.send(&ToShipper::Deadline(self.config.stop_grace));
            }
            if is_finished && !sent_end && !self.coordinator.has_updates() {
                sent_end = true;
                self.connection.send(&ToShipper::EndOfLog);
            }
            self.connection.flush();
            let is_late = deadline.is_some_and(|deadline| deadline <= now);
            if is_late {
                self.stop_reading();
            }
            if (is_finished && self.coordinator.is_done()) || is_late || self.connection.is_closed() {
                break;
            }
            self.wait(deadline);
        }
        self.stop_reading();
        let missing = self.coordinator.report_missing();
        if source == Source::Stdin {
            self.coordinator.write_ledger(self.config);
        }
        self.coordinator.close();
        if missing { Delivery::LinesMissing } else { Delivery::Complete }
    }

    /// Takes the signals that came; returns whether one of them asks to stop.
    fn take_signals(&self) -> bool {
        let mut stop = false;
        while let Some(received) = self.signals.next() {
            stop |= STOP_SIGNALS.contains(&received.signal);
        }
        if stop {
            self.stop_reading();
        }
        stop
    }

    /// Makes the reader stop, also where it waits for room in the spool.
    fn stop_reading(&self) {
        self.stdin.stop();
        self.coordinator.spool().shared.notify();
    }

    fn wait(&self, deadline: Option<Instant>) {
        let out = if self.connection.is_pending() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let mut polled = [
            PollFd::new(self.signals.fd().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stdin.wake_event(), PollFlags::POLLIN),
            PollFd::new(self.connection.socket().as_fd(), PollFlags::POLLIN | out),
        ];
        poll(&mut polled, poll::until(deadline)).ok(); // interrupted: the loop looks again
        if polled[1].any().unwrap_or(false) {
            self.stdin.clear_wake();
        }
    }
}
