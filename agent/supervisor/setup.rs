//! Setting the stage: everything that must be there before the app starts. Whatever cannot be had is named, and
//! the app runs without us.

use super::sampler_thread::SamplerThread;
use super::shared_state::SharedState;
use crate::capture::pump::Pump;
use crate::config::Config;
use crate::line::Stream;
use crate::recorder::{BufferPool, FrameFormat, Input, RecorderThread, Wakeups, buffer_pool, input};
use crate::sample;
use crate::spool::{self, DrainId, Spool};
use crossbeam_channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::thread;

/// A pipe of this size takes what an app prints while a pump rests.
const PIPE: i32 = 1 << 20;
/// Bytes of address space that we may come to use: buffers, frames under way, the books.
const ROOM: usize = 16 << 20;
/// Bytes of stack for each of our threads: they keep nothing large there.
const STACK: usize = 256 << 10;

pub(super) type SetUp<T> = Result<T, (&'static str, io::Error)>;

fn step<T, E: Into<io::Error>>(what: &'static str, result: Result<T, E>) -> SetUp<T> {
    result.map_err(|error| (what, error.into()))
}

/// Everything that must be there before the app starts.
pub(super) struct Setup {
    /// Wakes the main loop: the recorder has news.
    pub(super) wake: Arc<EventFd>,
    /// Tells the pumps that the app is gone.
    pub(super) gone: Arc<EventFd>,
    pub(super) recorder_thread: Arc<RecorderThread>,
    /// How many pumps have nothing more to pass on.
    pub(super) finished: Arc<AtomicUsize>,
    /// To the recorder, which starts once the app runs.
    pub(super) recorder: Sender<Input>,
    /// To the sampler, which starts with the app's pid.
    pub(super) begin: Sender<i32>,
    pub(super) shared_state: Arc<SharedState>,
    /// The app's ends of its pipes.
    pub(super) ends: [OwnedFd; 2],
    pub(super) memory: Option<File>,
}

impl Setup {
    /// Sets it, with all threads; signals are blocked already. `command` is how the command is display_command.
    ///
    /// # Errors
    /// What could not be had, and why.
    pub(super) fn prepare(config: &Config, command: String) -> SetUp<Self> {
        probe()?;
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Arc::new);
        let wake = step("cannot make an event", event())?;
        let gone = step("cannot make an event", event())?;
        let memory = spool::memory_file().ok();
        let pool = BufferPool::new(buffer_pool::MAX_BUFFERS, buffer_pool::BUFFER_BYTES);
        let (recorder, inputs) = bounded(input::QUEUE_SLOTS);
        let recorder_thread = Arc::new(RecorderThread::new(Arc::clone(&wake), Arc::clone(&pool)));
        let shared = Arc::new(config.clone());
        start_recorder(Arc::clone(&shared), &recorder_thread, inputs, memory.as_ref())?;
        let finished = Arc::<AtomicUsize>::default();
        let common =
            Common { pool, recorder: recorder.clone(), gone: Arc::clone(&gone), wake: Arc::clone(&wake) };
        let ends = start_pumps(config, &common, &finished)?;
        let (begin, app) = bounded(1);
        let shared_state = Arc::new(SharedState::default());
        let watch = SamplerThread {
            config: shared,
            command,
            begin: app,
            recorder: recorder.clone(),
            recorder_thread: Arc::clone(&recorder_thread),
            shared_state: Arc::clone(&shared_state),
            permits: input::Permits::default(),
        };
        start("sampler", move || watch.run())?;
        Ok(Self { wake, gone, recorder_thread, finished, recorder, begin, shared_state, ends, memory })
    }
}

/// Starts a thread that ends by itself, or with the process.
fn start(name: &str, work: impl FnOnce() + Send + 'static) -> SetUp<()> {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work);
    step("cannot start a thread", thread).map(drop)
}

/// What both pumps share.
struct Common {
    pool: Arc<BufferPool>,
    recorder: Sender<Input>,
    gone: Arc<EventFd>,
    wake: Arc<EventFd>,
}

/// Starts both pumps; returns the ends of their pipes that are for the app.
fn start_pumps(config: &Config, common: &Common, finished: &Arc<AtomicUsize>) -> SetUp<[OwnedFd; 2]> {
    // In one place, as in most containers, lines shall not be torn more than without us.
    let write_lock = is_one_place().then(|| Arc::new(Mutex::new(())));
    let mut ends = Vec::with_capacity(2);
    for stream in Stream::ALL {
        let (from, end) = step("cannot make a pipe", nix::unistd::pipe2(OFlag::O_CLOEXEC))?;
        let size = fcntl(&from, FcntlArg::F_SETPIPE_SZ(PIPE)).unwrap_or(0);
        step("cannot prepare a pipe", fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)))?;
        let pump = Pump {
            stream,
            from,
            passthrough: config.passthrough,
            coalesces: size >= PIPE,
            pool: Arc::clone(&common.pool),
            recorder: common.recorder.clone(),
            app_exited: Arc::clone(&common.gone),
            write_lock: write_lock.clone(),
            finished: Arc::clone(finished),
            wake: Arc::clone(&common.wake),
            gap: None,
            spare: Vec::new(),
        };
        match stream {
            Stream::Out => start("pump-out", move || pump.run(io::stdout().as_fd()))?,
            Stream::Err => start("pump-err", move || pump.run(io::stderr().as_fd()))?,
        }
        ends.push(end);
    }
    ends.try_into().map_err(|_| ("cannot make a pipe", Errno::EMFILE.into()))
}

/// Whether standard output and standard error are one file, pipe or socket.
fn is_one_place() -> bool {
    let place = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let (out, err) = (place(io::stdout().as_fd()), place(io::stderr().as_fd()));
    out.is_some() && out == err
}

/// Whether there is what we shall need once the app runs, when it is too late to step aside.
fn probe() -> SetUp<()> {
    step("cannot find this program again", File::open("/proc/self/exe"))?;
    let mut room = Vec::<u8>::new();
    let enough = room.try_reserve_exact(ROOM);
    // Unseen by the compiler, which takes out memory that nobody uses.
    std::hint::black_box(&mut room);
    step("cannot get memory", enough.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory)))
}

fn start_recorder(
    config: Arc<Config>,
    recorder_thread: &Arc<RecorderThread>,
    input: Receiver<Input>,
    memory: Option<&File>,
) -> SetUp<()> {
    let agent = step("cannot make an id", spool::agent_id())?;
    let memory = step("cannot use memory", memory.map(File::try_clone).transpose())?;
    let recorder_thread = Arc::clone(recorder_thread);
    start("recorder", move || {
        let pacer = Wakeups::new(config.batch_linger);
        recorder_thread.run(&input, &FrameFormat::of(&config), pacer, || {
            (
                Spool::open(&config.spool_dir, agent, DrainId::all(&config), memory),
                config.spool_limit(sample::quota),
            )
        });
    })
}
