//! Setup: everything that must exist before the app starts. When a part cannot be had, the command is executed in
//! place of the supervisor.

use super::sampler_thread::SamplerThread;
use super::shared_state::SharedState;
use super::spawn;
use crate::capture::pump::Pump;
use crate::config::Config;
use crate::line::Stream;
use crate::recorder::{BufferPool, FrameFormat, Input, RecorderThread, Wakeups, buffer_pool, input};
use crate::sample;
use crate::spool::{self, Spool, SpoolOwner};
use crossbeam_channel::{Receiver, Sender, bounded};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::{SFlag, fstat};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread;

/// Capacity of the app's pipes: takes what an app prints while a pump coalesces small writes.
const PIPE_CAPACITY_BYTES: i32 = 1 << 20;
/// Address space that the supervisor may come to use: buffers, frames being written, the ledger.
const ADDRESS_SPACE_BYTES: usize = 16 << 20;
/// Stack of each thread: they keep nothing large there.
const STACK_BYTES: usize = 256 << 10;

/// Why the supervisor cannot be set up.
#[derive(Debug)]
pub(super) struct SetupError {
    /// What was tried: `cannot make a pipe`.
    step: &'static str,
    source: io::Error,
}

impl SetupError {
    /// `step`: what was tried, as `cannot make a pipe`.
    pub(super) fn new(step: &'static str, source: impl Into<io::Error>) -> Self {
        Self { step, source: source.into() }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.source)
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Names the step in the error of a result.
trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, SetupError> {
        self.map_err(|error| SetupError::new(step, error))
    }
}

/// What must exist before the app starts.
pub(super) struct Setup {
    /// Wakes the main loop: recorder, pumps or disk worker have changed something.
    pub(super) wake: Arc<EventFd>,
    /// Tells the pumps that the app has ended.
    pub(super) gone: Arc<EventFd>,
    pub(super) recorder_thread: Arc<RecorderThread>,
    /// Pumps that may have something to copy.
    pub(super) unfinished_pumps: Arc<AtomicUsize>,
    /// The recorder's queue. The recorder starts with [`Input::Start`].
    pub(super) recorder: Sender<Input>,
    /// The sampler starts when it gets the app's pid, and ends when this is dropped.
    pub(super) begin: Sender<i32>,
    pub(super) shared_state: Arc<SharedState>,
    /// The app's standard output and standard error; one pipe where they are one.
    pub(super) app_pipes: AppPipes,
    /// Memory segments of the spool, inherited by the shipper.
    pub(super) memory: Option<File>,
}

/// The app's ends of its pipes.
pub(super) struct AppPipes {
    pub(super) out: OwnedFd,
    pub(super) err: OwnedFd,
}

impl Setup {
    /// Makes pipes and queues and starts all threads. Signals must be blocked already. `command`: for display.
    ///
    /// # Errors
    /// The step that failed.
    pub(super) fn prepare(config: &Config, command: String) -> Result<Self, SetupError> {
        check_resources()?;
        let wake = event()?;
        let gone = event()?;
        let memory = spool::memory_file().ok();
        let pool = BufferPool::new(buffer_pool::MAX_BUFFERS, buffer_pool::BUFFER_BYTES);
        let (recorder, inputs) = bounded(input::QUEUE_SLOTS);
        let streams = streams_to_capture();
        let recorder_thread =
            Arc::new(RecorderThread::new(Arc::clone(&wake), Arc::clone(&pool), streams.len()));
        let shared_config = Arc::new(config.clone());
        start_recorder(Arc::clone(&shared_config), &recorder_thread, inputs, memory.as_ref())?;
        let pumps = Pumps {
            passthrough: config.passthrough,
            pool,
            recorder: recorder.clone(),
            gone: Arc::clone(&gone),
            wake: Arc::clone(&wake),
            unfinished: Arc::new(AtomicUsize::new(streams.len())),
            unrecorded: Arc::clone(recorder_thread.unrecorded()),
            write_lock: is_same_file().then(Arc::default),
            order: Arc::default(),
        };
        let app_pipes = pumps.start_all(streams)?;
        let (begin, app) = bounded(1);
        let shared_state = Arc::new(SharedState::default());
        let sampler = SamplerThread {
            config: shared_config,
            command,
            begin: app,
            recorder: recorder.clone(),
            recorder_thread: Arc::clone(&recorder_thread),
            shared_state: Arc::clone(&shared_state),
            permits: input::Permits::default(),
        };
        start_thread("sampler", move || sampler.run())?;
        let unfinished_pumps = pumps.unfinished;
        Ok(Self {
            wake,
            gone,
            recorder_thread,
            unfinished_pumps,
            recorder,
            begin,
            shared_state,
            app_pipes,
            memory,
        })
    }
}

/// Checks for resources that are needed once the app runs, when the command can no longer be executed in place.
fn check_resources() -> Result<(), SetupError> {
    File::open("/proc/self/exe").step("cannot find this program again")?; // the shipper is started from it
    let mut space = Vec::<u8>::new();
    let reserved = space.try_reserve_exact(ADDRESS_SPACE_BYTES);
    // Keeps the compiler from removing an allocation that is not used.
    std::hint::black_box(&mut space);
    reserved.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory)).step("cannot get memory")
}

fn event() -> Result<Arc<EventFd>, SetupError> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    EventFd::from_flags(flags).map(Arc::new).step("cannot make an event")
}

/// Starts a thread, which ends by itself or with the process.
fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), SetupError> {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run);
    thread.step("cannot start a thread").map(drop)
}

/// What both pumps share.
struct Pumps {
    passthrough: bool,
    pool: Arc<BufferPool>,
    recorder: Sender<Input>,
    gone: Arc<EventFd>,
    wake: Arc<EventFd>,
    unfinished: Arc<AtomicUsize>,
    unrecorded: Arc<AtomicU64>,
    /// Where both streams go to one file, as in most containers: keeps a pump from writing into the other's line.
    write_lock: Option<Arc<Mutex<()>>>,
    /// Makes both record in the order in which they read.
    order: Arc<Mutex<()>>,
}

/// A pipe that the app writes to.
struct AppPipe {
    from: Arc<OwnedFd>,
    app_end: OwnedFd,
    /// Whether it is large enough for writes to gather in it.
    is_large: bool,
}

impl AppPipe {
    fn new() -> Result<Self, SetupError> {
        let (from, app_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC).step("cannot make a pipe")?;
        let capacity = fcntl(&from, FcntlArg::F_SETPIPE_SZ(PIPE_CAPACITY_BYTES)).unwrap_or(0);
        fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).step("cannot prepare a pipe")?;
        Ok(Self { from: Arc::new(from), app_end, is_large: capacity >= PIPE_CAPACITY_BYTES })
    }
}

impl Pumps {
    /// Starts the pumps of these streams. Where that is standard output alone, its pipe is the app's standard error too.
    fn start_all(&self, streams: &[Stream]) -> Result<AppPipes, SetupError> {
        let out = AppPipe::new()?;
        let err = if streams.contains(&Stream::Err) {
            let err = AppPipe::new()?;
            self.start(Stream::Out, &out, Some(&err))?;
            self.start(Stream::Err, &err, Some(&out))?;
            err.app_end
        } else {
            self.start(Stream::Out, &out, None)?;
            out.app_end.try_clone().step("cannot make a pipe")?
        };
        Ok(AppPipes { out: out.app_end, err })
    }

    /// Starts the pump of a stream. `peer`: the other stream's pipe.
    fn start(&self, stream: Stream, pipe: &AppPipe, peer: Option<&AppPipe>) -> Result<(), SetupError> {
        let pump = Pump {
            stream,
            from: Arc::clone(&pipe.from),
            peer: peer.map(|peer| Arc::clone(&peer.from)),
            order: peer.map(|_| Arc::clone(&self.order)),
            passthrough: self.passthrough,
            coalesces: pipe.is_large,
            pool: Arc::clone(&self.pool),
            recorder: self.recorder.clone(),
            app_exited: Arc::clone(&self.gone),
            write_lock: self.write_lock.clone(),
            unfinished: Arc::clone(&self.unfinished),
            wake: Arc::clone(&self.wake),
            unrecorded: Arc::clone(&self.unrecorded),
            gap: None,
            spare: Vec::new(),
        };
        match stream {
            Stream::Out => start_thread("pump-out", move || pump.run(io::stdout().as_fd())),
            Stream::Err => start_thread("pump-err", move || pump.run(io::stderr().as_fd())),
        }
    }
}

/// Whether standard output and standard error are one file, pipe or socket.
fn is_same_file() -> bool {
    let id = |fd: BorrowedFd<'_>| fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let (out, err) = (id(io::stdout().as_fd()), id(io::stderr().as_fd()));
    out.is_some() && out == err
}

/// The streams that get a pipe of their own: standard output alone where both streams go to one place, in which the
/// order of all writes is kept. The app gets one pipe for both then, because two would lose that order.
fn streams_to_capture() -> &'static [Stream] {
    let shares = is_same_file() && has_one_end(io::stdout().as_fd(), io::stderr().as_fd());
    if shares { &[Stream::Out] } else { &Stream::ALL }
}

/// Whether what is written to one of these descriptors, which are of one file, is put behind what was written to the
/// other. A regular file that was opened twice has two positions, unless it is appended to.
fn has_one_end(out: BorrowedFd<'_>, err: BorrowedFd<'_>) -> bool {
    let is_regular =
        |fd| fstat(fd).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits());
    let appends = |fd| fcntl(fd, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_APPEND.bits() != 0);
    !is_regular(out) || appends(out) && appends(err) || spawn::is_same_description(out, err)
}

fn start_recorder(
    config: Arc<Config>,
    recorder_thread: &Arc<RecorderThread>,
    inputs: Receiver<Input>,
    memory: Option<&File>,
) -> Result<(), SetupError> {
    let agent = spool::agent_id().step("cannot make an id")?;
    let memory = memory.map(File::try_clone).transpose().step("cannot use memory")?;
    let recorder_thread = Arc::clone(recorder_thread);
    start_thread("recorder", move || {
        let wakeups = Wakeups::of(&config);
        recorder_thread.run(&inputs, &FrameFormat::of(&config), wakeups, || {
            (
                Spool::open(&config.spool_dir, agent, SpoolOwner::of(&config), memory),
                config.spool_limit(sample::quota),
            )
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn setup_errors_name_the_step_and_the_cause() {
        let failed: Result<(), Errno> = Err(Errno::EMFILE);
        let error = failed.step("cannot make a pipe").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot make a pipe: {}", io::Error::from(Errno::EMFILE)));
        assert!(std::error::Error::source(&error).is_some());
    }
}
