//! Commands to a running dyno, one per line on the standard input of its outer init process: those of the platform, and
//! the faults inside the dyno.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Upper bound of one wait, in ms. A child may exit after it was checked and before SIGCHLD is awaited.
const POLL_TIMEOUT_MS: u16 = 1000;
/// The file that fills `/tmp`.
const FILLER: &str = ".filler";

/// The signal that the outer init process gets when its parent dies (prctl(2), `PR_SET_PDEATHSIG`) or the terminal
/// closes.
pub(super) const PARENT_DEATH_SIGNAL: Signal = Signal::SIGHUP;

/// A command to the outer init process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitCommand {
    /// Send SIGTERM as the generation does.
    Stop,
    /// Send SIGKILL to all processes.
    Kill,
    /// Fill `/tmp`.
    FillDisk,
    /// Undo [`InitCommand::FillDisk`].
    FreeDisk,
    /// Start a process that allocates this many bytes.
    GrowMemory(u64),
}

impl fmt::Display for InitCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop => f.write_str("stop"),
            Self::Kill => f.write_str("kill"),
            Self::FillDisk => f.write_str("fill-disk"),
            Self::FreeDisk => f.write_str("free-disk"),
            Self::GrowMemory(bytes) => write!(f, "grow-memory {bytes}"),
        }
    }
}

impl InitCommand {
    /// Parses a line as [`fmt::Display`] writes it.
    fn parse(line: &str) -> Option<Self> {
        match line {
            "stop" => Some(Self::Stop),
            "kill" => Some(Self::Kill),
            "fill-disk" => Some(Self::FillDisk),
            "free-disk" => Some(Self::FreeDisk),
            _ => Some(Self::GrowMemory(line.strip_prefix("grow-memory ")?.parse().ok()?)),
        }
    }
}

/// Executes commands until `exit_status`, which is checked whenever a child exits, returns a status. When standard
/// input closes or the parent dies, the dyno is killed. A thread would not do: a process with threads cannot create a
/// user namespace (unshare(2)).
pub(super) fn serve(
    is_attached: bool,
    execute: impl Fn(InitCommand),
    mut exit_status: impl FnMut() -> io::Result<Option<u8>>,
) -> io::Result<u8> {
    let awaited: SigSet = [Signal::SIGCHLD, PARENT_DEATH_SIGNAL].into_iter().collect();
    awaited.thread_block()?;
    let signals = SignalFd::with_flags(&awaited, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let input = io::stdin();
    let (mut text, mut buffer, mut is_open) = (Vec::new(), [0; 1024], !is_attached);
    loop {
        if let Some(status) = exit_status()? {
            return Ok(status);
        }
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if is_open {
            fds.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        poll(&mut fds, PollTimeout::from(POLL_TIMEOUT_MS))?;
        let has_input = fds.get(1).is_some_and(|input| input.any() == Some(true));
        while let Some(signal) = signals.read_signal()? {
            if signal.ssi_signo == PARENT_DEATH_SIGNAL as u32 {
                execute(InitCommand::Kill);
            }
        }
        if !has_input {
            continue;
        }
        let length = nix::unistd::read(&input, &mut buffer).unwrap_or_default();
        text.extend_from_slice(&buffer[..length]);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            if let Some(command) = InitCommand::parse(String::from_utf8_lossy(line.trim_ascii()).as_ref()) {
                execute(command);
            }
        }
        if length == 0 {
            is_open = false;
            execute(InitCommand::Kill);
        }
    }
}

/// Where faults inside a dyno take place.
pub(super) struct FaultTarget<'a> {
    /// The dyno's `/tmp`.
    pub(super) tmp: &'a Path,
    /// The program of the dyno's init process, which also allocates memory.
    pub(super) program: &'a Path,
    /// The app's user and group, where it has one of its own.
    pub(super) user: Option<u32>,
}

impl FaultTarget<'_> {
    /// Fills `/tmp`.
    pub(super) fn fill_disk(&self) {
        let Ok(mut file) = File::create(self.tmp.join(FILLER)) else { return };
        let block = vec![0; 64 << 10];
        while file.write_all(&block).is_ok() {}
        // The remaining bytes, fewer than a block.
        while file.write_all(&block[..1]).is_ok() {}
    }

    /// Frees `/tmp`.
    pub(super) fn free_disk(&self) {
        fs::remove_file(self.tmp.join(FILLER)).ok(); // fails when the disk was not filled
    }

    /// Starts a process that allocates memory. It is killed and reaped at the end of the dyno.
    pub(super) fn grow_memory(&self, bytes: u64) {
        let mut command = Command::new(self.program);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        drop(command.arg("--grow").arg(bytes.to_string()).stdin(Stdio::null()).spawn());
    }
}

/// Allocates this many bytes, and sleeps.
pub(super) fn allocate(bytes: &Path) -> u8 {
    let bytes = bytes.to_str().and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
    let memory = vec![1_u8; bytes];
    std::thread::sleep(Duration::from_hours(24));
    memory.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_their_text_form() {
        for command in [
            InitCommand::Stop,
            InitCommand::Kill,
            InitCommand::FillDisk,
            InitCommand::FreeDisk,
            InitCommand::GrowMemory(1 << 40),
        ] {
            assert_eq!(InitCommand::parse(&command.to_string()), Some(command));
        }
        for line in ["", "grow-memory", "grow-memory x"] {
            assert_eq!(InitCommand::parse(line), None, "{line}");
        }
    }
}
