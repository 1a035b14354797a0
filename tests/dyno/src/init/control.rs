//! Orders to a dyno while it runs, a line each on the standard input of its first process: those of the platform, and
//! the faults that strike inside.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long to wait for news, in ms: a child may end between two looks.
const LOOK: u16 = 1000;
/// What fills the disk.
const FILLER: &str = ".filler";

/// What a process is told by when its parent is gone, and when the terminal is.
pub(super) const ORPHANED: Signal = Signal::SIGHUP;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// SIGTERM, to whom the generation says.
    Stop,
    /// SIGKILL to all, at once.
    End,
    /// A fault: `full`, `free`, `grow BYTES`.
    Other(String),
}

/// Obeys until `ended` has a status, which is asked for whenever a child ends. When nobody gives orders any more, that
/// is the order to end. No thread helps: a process that is about to start another namespace cannot have one.
pub(super) fn obey(
    is_attached: bool,
    act: impl Fn(Order),
    mut ended: impl FnMut() -> io::Result<Option<u8>>,
) -> io::Result<u8> {
    let awaited: SigSet = [Signal::SIGCHLD, ORPHANED].into_iter().collect();
    awaited.thread_block()?;
    let news = SignalFd::with_flags(&awaited, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let input = io::stdin();
    let (mut text, mut buffer, mut is_open) = (Vec::new(), [0; 1024], !is_attached);
    loop {
        if let Some(status) = ended()? {
            return Ok(status);
        }
        let mut wanted = vec![PollFd::new(news.as_fd(), PollFlags::POLLIN)];
        if is_open {
            wanted.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        poll(&mut wanted, PollTimeout::from(LOOK))?;
        let has_orders = wanted.get(1).is_some_and(|input| input.any() == Some(true));
        while let Some(signal) = news.read_signal()? {
            if signal.ssi_signo == ORPHANED as u32 {
                act(Order::End);
            }
        }
        if !has_orders {
            continue;
        }
        let length = nix::unistd::read(&input, &mut buffer).unwrap_or_default();
        text.extend_from_slice(&buffer[..length]);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            act(match line.trim_ascii() {
                b"stop" => Order::Stop,
                b"end" => Order::End,
                other => Order::Other(String::from_utf8_lossy(other).into_owned()),
            });
        }
        if length == 0 {
            is_open = false;
            act(Order::End);
        }
    }
}

/// A fault inside the dyno, whose `/tmp` is `tmp` and whose init is `program`. `user` is the app's, where it is another.
pub(super) fn other(order: &str, tmp: &Path, program: &Path, user: Option<u32>) {
    match order.split_once(' ').unwrap_or((order, "")) {
        ("full", _) => fill(&tmp.join(FILLER)),
        ("free", _) => drop(fs::remove_file(tmp.join(FILLER))),
        ("grow", bytes) => {
            let mut command = Command::new(program);
            if let Some(user) = user {
                command.uid(user).gid(user);
            }
            // It is killed with the dyno; who waits for it is the dyno's end.
            drop(command.args(["--grow", bytes]).stdin(Stdio::null()).spawn());
        }
        _ => {}
    }
}

fn fill(path: &Path) {
    let Ok(mut file) = File::create(path) else { return };
    let block = vec![0; 64 << 10];
    while file.write_all(&block).is_ok() {}
    // The last bytes, which no block fits.
    while file.write_all(&block[..1]).is_ok() {}
}

/// Grows to so many bytes, and stays.
pub(super) fn grow(bytes: &Path) -> u8 {
    let bytes = bytes.to_str().and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
    let memory = vec![1_u8; bytes];
    std::thread::sleep(Duration::from_hours(24));
    memory.last().copied().unwrap_or_default()
}
