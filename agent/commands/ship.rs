//! `tailrace ship`: the same stages in one process, fed from standard input. It does not drop: when the spool is
//! full it stops reading, and whoever writes waits.

use super::{report_problems, settings};
use crate::capture::stdin::{self, StdinState};
use crate::config::Config;
use crate::delivery::Coordinator;
use crate::diag;
use crate::exit_code::ExitCode;
use crate::poll;
use crate::protocol::{Connection, ToShipper};
use crate::recorder::{FrameFormat, Recorder, Wakeups};
use crate::sample;
use crate::shipper;
use crate::signals::source::Signals;
use crate::spool::{self, Directory, DrainId, Spool, TakeoverState, WhenFull};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What ends the reading.
const STOP: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
/// Ships standard input, and returns the exit status.
pub fn run() -> u8 {
    let (config, problems) = settings();
    if report_problems(&problems, "nothing was read") {
        return ExitCode::Usage.into();
    }
    if config.drains.is_empty() {
        let line = diag::event("no-drain").field("error", "TAILRACE_DRAIN_URL is not set");
        line.field("detail", "nothing was read").emit();
        return ExitCode::Usage.into();
    }
    ship(&config)
        .unwrap_or_else(|error| {
            diag::event("cannot-ship").field("error", error).emit();
            ExitCode::System
        })
        .into()
}

/// Ships standard input until it ends, and what is held for the grace after that.
///
/// # Errors
/// When something cannot be set up: nothing was read yet.
fn ship(config: &Config) -> io::Result<ExitCode> {
    let signals = Signals::take(STOP)?;
    let memory = spool::memory_file().ok();
    let agent = spool::agent_id()?;
    let (spool, trouble) =
        Spool::open(&config.spool_dir, agent, DrainId::all(config), clone(memory.as_ref())?);
    if let Some(error) = trouble {
        diag::event("spool-in-memory").field("error", error).emit();
    }
    let lost = deliver(config, &signals, &Arc::new(spool), memory, true)?;
    Ok(if lost { ExitCode::LinesLost } else { ExitCode::Success })
}

/// The keeper was killed, and we were its shipper: what it had recorded is delivered within the grace, and what is not
/// is said. `takeover` is what is in `memory`, the memory file.
///
/// # Errors
/// When something cannot be set up.
pub fn inherit(config: &Config, memory: Option<File>, takeover: &TakeoverState) -> io::Result<()> {
    let signals = Signals::take(STOP)?;
    // The kernel lets go of what the dead held in an order of its own: its lock may be the last.
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(20));
        if !Directory::is_held(&config.spool_dir, &takeover.agent) {
            break;
        }
    }
    let (agent, of_us) = (spool::agent_id()?, clone(memory.as_ref())?);
    let (spool, _) = Spool::open_after(&config.spool_dir, agent, DrainId::all(config), of_us, takeover);
    let bytes = spool.adopted_bytes();
    if bytes == 0 {
        spool.close();
        return Ok(());
    }
    diag::event("keeper-gone")
        .field("held_bytes", bytes)
        .field("grace", diag::seconds(config.stop_grace))
        .emit();
    let spool = Arc::new(spool);
    deliver(config, &signals, &spool, memory, false)?;
    for drain in 0..config.drains.len() {
        let left = spool.adopted_left(drain);
        if left > 0 {
            diag::event("bytes-not-delivered").field("drain", spool.token(drain)).field("bytes", left).emit();
        }
    }
    Ok(())
}

/// Delivers what is in the spool, and what `reads` from standard input; true when lines were lost.
fn deliver(
    config: &Config,
    signals: &Signals,
    spool: &Arc<Spool>,
    memory: Option<File>,
    reads: bool,
) -> io::Result<bool> {
    let (ours, theirs) = UnixStream::pair()?;
    let shared = StdinState {
        wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        halt: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        stop: AtomicBool::new(false),
        finished: AtomicBool::new(!reads),
    };
    let coordinator = Coordinator::new(Arc::clone(spool), &config.frame_host, &config.dyno, None);
    let books = Books { config, shared: &shared, signals, coordinator, link: Connection::new(ours)? };
    thread::scope(|scope| {
        let outlets = thread::Builder::new().name("shipper".to_owned());
        outlets.spawn_scoped(scope, || shipper::serve(config, theirs, memory, &spool.agent))?;
        if reads {
            let reader = thread::Builder::new().name("recorder".to_owned());
            reader.spawn_scoped(scope, || {
                let give_up = || shared.stop.load(Ordering::Relaxed);
                let writer = spool.writer(config.spool_limit(sample::quota), WhenFull::Block, give_up);
                let recorder = Recorder::new(spool, writer, &FrameFormat::of(config));
                stdin::read(recorder, Wakeups::new(config.batch_linger), &shared);
                shared.finished.store(true, Ordering::Release);
                shared.notify();
            })?;
        }
        Ok(books.keep(reads))
    })
}

fn clone(file: Option<&File>) -> io::Result<Option<File>> {
    file.map(File::try_clone).transpose()
}

/// The keeper's part: answers the outlets, and knows when it is over.
struct Books<'a> {
    config: &'a Config,
    shared: &'a StdinState,
    signals: &'a Signals,
    coordinator: Coordinator,
    link: Connection,
}

impl Books<'_> {
    /// Keeps the books until everything is delivered or the grace is over, and closes them, with a ledger where that
    /// is wanted; true when lines were lost.
    fn keep(mut self, has_ledger: bool) -> bool {
        self.coordinator.resync(&mut self.link);
        let mut finishing = false;
        let mut deadline: Option<Instant> = None;
        loop {
            let now = Instant::now();
            self.coordinator.handle_messages(&mut self.link);
            let over = self.shared.finished.load(Ordering::Acquire);
            if self.coordinator.has_updates() {
                self.coordinator.send_updates(&mut self.link);
            }
            let stopped = self.take_signals();
            if (over || stopped) && deadline.is_none() {
                deadline = Some(now + self.config.stop_grace);
                self.link.send(&ToShipper::Deadline(self.config.stop_grace.as_millis() as u64));
            }
            if over && !finishing && !self.coordinator.has_updates() {
                finishing = true;
                self.link.send(&ToShipper::EndOfLog);
            }
            self.link.flush();
            let late = deadline.is_some_and(|deadline| deadline <= now);
            if late {
                self.halt();
            }
            if (over && self.coordinator.is_done()) || late || self.link.is_closed() {
                break;
            }
            self.wait(deadline);
        }
        self.halt();
        let any = self.coordinator.report_missing();
        if has_ledger {
            self.coordinator.write_ledger(self.config);
        }
        self.coordinator.close();
        any
    }

    /// Takes what came; true when it says stop.
    fn take_signals(&self) -> bool {
        let mut stop = false;
        while let Some(received) = self.signals.next() {
            stop |= STOP.contains(&received.signal);
        }
        if stop {
            self.halt();
        }
        stop
    }

    /// Ends the reading.
    fn halt(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _or_full = self.shared.halt.write(1);
        self.coordinator.spool().shared.notify();
    }

    fn wait(&self, deadline: Option<Instant>) {
        let out = if self.link.is_pending() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let mut polled = [
            PollFd::new(self.signals.fd().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.link.socket().as_fd(), PollFlags::POLLIN | out),
        ];
        let _or_interrupted = poll(&mut polled, poll::until(deadline));
        if polled[1].any().unwrap_or(false) {
            let _or_nothing = self.shared.wake.read();
        }
    }
}
