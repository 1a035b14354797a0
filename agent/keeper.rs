//! The keeper: the dyno's main process. It starts the app, passes on what it prints, keeps the books, and exits
//! as the app did. It does no network work, and it is complete without a shipper.

mod bulletin;
mod child;
mod clerk;
mod mood;
mod pump;
mod relay;
mod scribe;
mod signal;
mod warden;

pub use bulletin::{Bulletin, Health, NAME, SEPARATOR};
pub use child::{code_of, exec};
pub use clerk::{Clerk, Heard};
pub use mood::{Mood, Moods};
pub use relay::Received;
pub(crate) use scribe::complain;
pub use signal::Signals;

use crate::config::Config;
use crate::ledger::Stream;
use crate::recorder::{Look, Pacer, Pool};
use crate::say;
use crate::spool::{self, Spool, Tap};
use crossbeam_channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pump::{Input, Pump};
use relay::{Relay, Sight};
use scribe::Scribe;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use warden::Warden;

/// A pipe of this size takes what an app prints while a pump rests.
const PIPE: i32 = 1 << 20;
/// Bytes of address space that we may come to use: buffers, frames under way, the books.
const ROOM: usize = 16 << 20;
/// Bytes of stack for each of our threads: they keep nothing large there.
const STACK: usize = 256 << 10;
/// A drain that was in trouble when the app ended by itself is waited for so long.
const TROUBLED: Duration = Duration::from_secs(5);
/// The app's last words are waited for so long: as long as a pump goes on, and the recorder behind it.
const LAST_WORDS: Duration = pump::LAST.saturating_add(Duration::from_millis(500));
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
    match Stage::set(config) {
        Ok(stage) => stage.play(config, words, inherited),
        Err((what, error)) => {
            say::at("not-shipping").with("error", format!("{what}: {error}")).say();
            let error = exec(words);
            cannot_start(words, &error)
        }
    }
}

/// Says that the command could not be started; returns the exit status that says so.
pub fn cannot_start(words: &[OsString], error: &io::Error) -> u8 {
    let name = words.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned());
    say::at("cannot-start").with("command", name).with("error", error).say();
    code_of(error)
}

type SetUp<T> = Result<T, (&'static str, io::Error)>;

fn step<T, E: Into<io::Error>>(what: &'static str, result: Result<T, E>) -> SetUp<T> {
    result.map_err(|error| (what, error.into()))
}

/// Everything that must be there before the app starts.
struct Stage {
    signals: Signals,
    /// Wakes the main loop: the recorder has news.
    wake: Arc<EventFd>,
    /// Tells the pumps that the app is gone.
    gone: Arc<EventFd>,
    scribe: Arc<Scribe>,
    /// Starts the recorder once the app runs.
    go: Sender<Input>,
    pumps: Vec<thread::JoinHandle<()>>,
    ends: [OwnedFd; 2],
    memory: Option<std::fs::File>,
}

impl Stage {
    fn set(config: &Config) -> SetUp<Self> {
        let signals = step("cannot take signals", Signals::take_all())?;
        match Self::set_up(config, &signals) {
            Ok((wake, gone, scribe, go, pumps, ends, memory)) => {
                Ok(Self { signals, wake, gone, scribe, go, pumps, ends, memory })
            }
            Err(failure) => {
                signals.give_back();
                Err(failure)
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "the parts of a Stage, taken apart in one place")]
    fn set_up(
        config: &Config,
        _blocked: &Signals,
    ) -> SetUp<(
        Arc<EventFd>,
        Arc<EventFd>,
        Arc<Scribe>,
        Sender<Input>,
        Vec<thread::JoinHandle<()>>,
        [OwnedFd; 2],
        Option<std::fs::File>,
    )> {
        probe()?;
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Arc::new);
        let wake = step("cannot make an event", event())?;
        let gone = step("cannot make an event", event())?;
        let memory = spool::memory_file().ok();
        let pool = Pool::new(pump::BUFFERS, pump::BUFFER);
        // Room for every buffer, the two ends, and the start.
        let (go, input) = bounded(pump::BUFFERS + 3);
        let scribe = Arc::new(Scribe::new(Arc::clone(&wake), Arc::clone(&pool)));
        start_recorder(config, &scribe, input, memory.as_ref())?;
        // In one place, as in most containers, lines shall not be torn more than without us.
        let turn = is_one_place().then(|| Arc::new(Mutex::new(())));
        let mut pumps = Vec::with_capacity(2);
        let mut ends = Vec::with_capacity(2);
        for stream in Stream::ALL {
            let (from, end) = step("cannot make a pipe", nix::unistd::pipe2(OFlag::O_CLOEXEC))?;
            let size = fcntl(&from, FcntlArg::F_SETPIPE_SZ(PIPE)).unwrap_or(0);
            step("cannot prepare a pipe", fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)))?;
            let pump = Pump {
                stream,
                from,
                passthrough: config.passthrough,
                gathers: size >= PIPE,
                pool: Arc::clone(&pool),
                recorder: go.clone(),
                gone: Arc::clone(&gone),
                turn: turn.clone(),
            };
            let name = if stream == Stream::Out { "pump-out" } else { "pump-err" };
            let thread =
                thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || match stream {
                    Stream::Out => pump.run(io::stdout().as_fd()),
                    Stream::Err => pump.run(io::stderr().as_fd()),
                });
            pumps.push(step("cannot start a thread", thread)?);
            ends.push(end);
        }
        let ends: [OwnedFd; 2] = ends.try_into().map_err(|_| ("cannot make a pipe", Errno::EMFILE.into()))?;
        Ok((wake, gone, scribe, go, pumps, ends, memory))
    }

    fn play(self, config: &Config, words: &[OsString], inherited: Vec<RawFd>) -> u8 {
        let [out, err] = self.ends;
        let app = match child::start_app(words, out, err, self.signals.before) {
            Ok(child) => Pid::from_raw(child.id() as i32),
            Err(error) => {
                self.signals.give_back();
                if child::is_of_the_start(&error) {
                    let error = format!("cannot start a process: {error}");
                    say::at("not-shipping").with("error", error).say();
                }
                return cannot_start(words, &exec(words));
            }
        };
        child::let_go(inherited);
        drop(self.go.try_send(Input::Start));
        drop(self.go);
        let keeper = Keeper {
            config,
            signals: self.signals,
            wake: self.wake,
            gone: self.gone,
            scribe: self.scribe,
            warden: Warden::new(self.memory, config.request_timeout + SLACK),
            clerk: None,
            bulletin: None,
            since: Instant::now(),
            app,
            status: None,
            // Cedar's dyno manager does; where a container's first process is ours nobody else is signalled.
            relay: Relay::new(std::env::var_os("DYNO").is_some() && std::process::id() != 1),
            stop_at: None,
            ended: None,
            stopping: false,
        };
        drop(self.pumps); // they end by themselves, or with the process
        keeper.run()
    }
}

/// Whether standard output and standard error are one file, pipe or socket.
fn is_one_place() -> bool {
    let place = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let (out, err) = (place(io::stdout().as_fd()), place(io::stderr().as_fd()));
    out.is_some() && out == err
}

/// Whether there is what we shall need once the app runs, when it is too late to step aside.
fn probe() -> SetUp<()> {
    step("cannot find this program again", std::fs::File::open("/proc/self/exe"))?;
    let mut room = Vec::<u8>::new();
    let enough = room.try_reserve_exact(ROOM);
    // Unseen by the compiler, which takes out memory that nobody uses.
    std::hint::black_box(&mut room);
    step("cannot get memory", enough.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory)))
}

fn start_recorder(
    config: &Config,
    scribe: &Arc<Scribe>,
    input: Receiver<Input>,
    memory: Option<&std::fs::File>,
) -> SetUp<()> {
    let agent = step("cannot make an id", spool::agent_id())?;
    let memory = step("cannot use memory", memory.map(std::fs::File::try_clone).transpose())?;
    let (base, taps, look, limit) =
        (config.spool_dir.clone(), config.taps(), config.look(), config.spool_bytes);
    let (scribe, pacer) = (Arc::clone(scribe), Pacer::new(config.batch_linger));
    let thread = thread::Builder::new().name("recorder".to_owned()).stack_size(STACK).spawn(move || {
        scribe.run(&input, &look, limit, pacer, || Spool::open(&base, agent, taps, memory));
    });
    step("cannot start a thread", thread).map(drop)
}

struct Keeper<'a> {
    config: &'a Config,
    signals: Signals,
    wake: Arc<EventFd>,
    gone: Arc<EventFd>,
    scribe: Arc<Scribe>,
    warden: Warden,
    clerk: Option<Clerk>,
    bulletin: Option<Bulletin>,
    since: Instant,
    app: Pid,
    status: Option<u8>,
    relay: Relay,
    /// TERM + grace.
    stop_at: Option<Instant>,
    /// When the app ended.
    ended: Option<Instant>,
    /// A SIGTSTP came: we stop once it is passed on.
    stopping: bool,
}

/// What the relay sees, by `/proc`.
struct Proc {
    app: Pid,
    shipper: Option<Pid>,
}

impl Sight for Proc {
    fn canary(&self) -> Option<u64> {
        self.shipper.and_then(|shipper| signal::waiting(shipper.as_raw()))
    }

    fn is_of_the_app(&self, pid: i32) -> bool {
        signal::descends(pid, self.app.as_raw())
    }

    fn is_untouched(&self) -> bool {
        signal::is_untouched(self.app.as_raw())
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
                self.bulletin = Bulletin::open(&spool.agent, self.since).ok();
                let clerk = Clerk::new(spool, &self.config.frame_host, &self.config.dyno);
                self.clerk = Some(clerk);
            }
            if let Some(clerk) = &mut self.clerk {
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
        }
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            // Up to the next ms: a poll that ends too early would turn in circles.
            let left = due.saturating_duration_since(now) + Duration::from_micros(999);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
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
        let _or_interrupted = poll(&mut polled, timeout);
        if polled[1].any().unwrap_or(false) {
            let _or_nothing = self.wake.read();
        }
    }

    fn take_signals(&mut self) {
        while let Some(received) = self.signals.next() {
            let now = Instant::now();
            if received.signal == Signal::SIGTERM {
                let stop_at = *self.stop_at.get_or_insert(now + self.config.stop_grace);
                self.warden.hurry(stop_at);
            }
            if self.status.is_none() {
                self.relay.take(received, now, &Proc { app: self.app, shipper: self.warden.pid() });
            }
            if received.signal == Signal::SIGTSTP {
                self.stopping = true;
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
            if std::mem::take(&mut self.stopping) {
                let _as_a_terminal_has_it = nix::sys::signal::raise(Signal::SIGSTOP);
            }
        }
    }

    /// Reaps whoever is ours, also orphans when we are PID 1.
    fn reap(&mut self) {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code as u8),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as u8),
                Ok(WaitStatus::StillAlive) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            if pid == self.app {
                self.status = Some(status);
                self.ended = Some(Instant::now());
                let _cannot_fail = self.gone.write(1);
                let deadline = self.deadline();
                self.warden.hurry(deadline);
            } else if let Some(clerk) = &mut self.clerk {
                self.warden.reaped(pid, clerk);
            }
        }
    }

    /// When delivery ends, the app having ended.
    fn deadline(&self) -> Instant {
        if let Some(stop_at) = self.stop_at {
            return stop_at;
        }
        let Some(ended) = self.ended else { return Instant::now() + self.config.stop_grace };
        let waits = |clerk: &Clerk| {
            let ledger = clerk.spool().shared.lock();
            let is_worth_it = |drain: usize| clerk.is_good(drain) && ledger.held_bytes(drain) > 0;
            (0..self.config.drains.len()).any(is_worth_it)
        };
        let good = !self.warden.fails() && self.clerk.as_ref().is_none_or(waits);
        ended + if good { self.config.stop_grace } else { TROUBLED.min(self.config.stop_grace) }
    }

    /// Whether we may go, the app having gone.
    fn is_over(&mut self) -> bool {
        if self.scribe.is_finished()
            && let Some(clerk) = &self.clerk
        {
            self.warden.finish();
            if clerk.is_done() {
                return true;
            }
        }
        Instant::now() >= self.leave_at()
    }

    /// When we go at the latest, the app having ended: what it left in its pipes is passed on and recorded, also
    /// when the time for delivery is over.
    fn leave_at(&self) -> Instant {
        let deadline = self.deadline();
        match self.ended {
            Some(ended) if !self.scribe.is_finished() => deadline.max(ended + LAST_WORDS),
            _ => deadline,
        }
    }

    /// The last words: the ledger, and what did not arrive.
    fn close(&mut self) {
        self.warden.kill(self.clerk.as_mut());
        let Some(clerk) = &self.clerk else {
            say::at("no-spool").with("detail", "the spool was not ready in time; lines may be missing").say();
            return;
        };
        clerk.say_missing();
        write_ledger(self.config, clerk.spool());
        clerk.spool().close();
    }
}

/// Writes `TAILRACE_LEDGER_FILE`.
pub(crate) fn write_ledger(config: &Config, spool: &Spool) {
    let Some(path) = &config.ledger_file else { return };
    let report = spool.shared.lock().report();
    if let Err(error) = std::fs::write(path, report.json(&spool.agent)) {
        say::at("no-ledger").with("setting", "TAILRACE_LEDGER_FILE").with("error", error).say();
    }
}
