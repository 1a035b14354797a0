//! Liveness: a drain that answers well, and lines held, mean a request within 2 s.

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::Value;
use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the agent is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// A look that comes later than this does not count: the machine had no time for us, nor for the agent.
const LATE: Duration = Duration::from_millis(130);
/// Looks in a row that found lines, and no request: 2 s, and a linger and the length of a look beside.
const MAX_LOOKS: u32 = 25;

/// What the schedule does to drains and processes at the moment.
pub(crate) struct Watch {
    is_well: Vec<AtomicBool>,
    /// How many things keep the agent from running.
    frozen: AtomicU32,
}

impl Watch {
    pub(crate) fn new(drains: usize) -> Self {
        Self { is_well: (0..drains).map(|_| AtomicBool::new(true)).collect(), frozen: AtomicU32::new(0) }
    }

    pub(crate) fn set_well(&self, drain: usize, is_well: bool) {
        self.is_well[drain].store(is_well, Ordering::SeqCst);
    }

    pub(crate) fn is_well(&self, drain: usize) -> bool {
        self.is_well[drain].load(Ordering::SeqCst)
    }

    pub(crate) fn freeze(&self) {
        self.frozen.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn thaw(&self) {
        self.frozen.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Watches one agent in a thread.
pub(crate) struct Liveness {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Option<String>>,
}

impl Liveness {
    pub(crate) fn start(supervisor: i32, watch: Arc<Watch>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut idle: Vec<Idle> = watch.is_well.iter().map(|_| Idle::default()).collect();
            let (mut socket, mut last) = (None, Instant::now());
            while !until.load(Ordering::SeqCst) {
                thread::sleep(INTERVAL);
                let is_late = last.elapsed() > LATE;
                last = Instant::now();
                if watch.frozen.load(Ordering::SeqCst) > 0 {
                    for idle in &mut idle {
                        idle.looks = 0;
                    }
                    continue;
                }
                socket = socket.or_else(|| find_socket(supervisor));
                let Some(status) = socket.as_ref().and_then(|name| ask(name, supervisor)) else { continue };
                for (index, idle) in idle.iter_mut().enumerate() {
                    let is_well = watch.is_well(index);
                    if let Some(text) = idle.look(&status, index, is_well, is_late) {
                        return Some(text);
                    }
                }
            }
            None
        });
        Self { ended, thread }
    }

    /// Ends it; returns what it found, if anything.
    pub(crate) fn finish(self) -> Option<String> {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// How long one drain has been idle.
#[derive(Default)]
struct Idle {
    looks: u32,
    /// Requests so far that had an outcome.
    requests: u64,
}

impl Idle {
    fn look(&mut self, status: &Value, index: usize, is_well: bool, is_late: bool) -> Option<String> {
        let drain = &status["drains"][index];
        let requests = drain["attempts"].as_u64().unwrap_or(0);
        let holds = ["held_lines", "adopted_held_lines"].iter().any(|key| drain[*key].as_u64() > Some(0));
        // After a failure the agent waits, and nobody tells it that the drain is well again.
        let waits = drain["failures"].as_u64() != Some(0)
            && drain["next_attempt_seconds"].as_u64().is_some_and(|wait| wait > 0);
        // A shipper that was killed several times is restarted after a while.
        let runs = status["shipper"]["pid"].is_number();
        if requests != self.requests || !holds || !is_well || waits || !runs {
            *self = Self { looks: 0, requests };
        } else if !is_late {
            self.looks += 1;
        }
        (self.looks > MAX_LOOKS).then(|| format!("no request to drain {index}, which answers well: {status}"))
    }
}

/// The name of the status socket of a supervisor.
fn find_socket(supervisor: i32) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/unix").ok()?;
    let names = table.lines().filter_map(|line| line.split_ascii_whitespace().nth(7)?.strip_prefix('@'));
    names
        .filter(|name| name.starts_with("tailrace."))
        .find(|name| connect(name, supervisor).is_some())
        .map(str::to_owned)
}

fn connect(name: &str, supervisor: i32) -> Option<UnixStream> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).ok()?).ok()?;
    let peer = getsockopt(&stream, PeerCredentials).ok()?;
    (peer.pid() == supervisor).then_some(stream)
}

fn ask(name: &str, supervisor: i32) -> Option<Value> {
    let mut stream = connect(name, supervisor)?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let json = answer.iter().position(|byte| *byte == 0)? + 1;
    serde_json::from_slice(&answer[json..]).ok()
}
