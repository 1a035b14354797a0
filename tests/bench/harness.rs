//! The harness: a directory with the load, the sink, and the commands that start contestants.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use serde_json::Value;
use tempfile::TempDir;

use crate::cores::Cores;
use crate::full_speed::Encoding;
use crate::results::Results;
use crate::stats::Figures;
use crate::{Result, load};

/// What every measurement needs.
pub(crate) struct Harness {
    dir: TempDir,
    program: PathBuf,
    /// The `tailrace` under measurement.
    pub(crate) binary: PathBuf,
    bare_loop: PathBuf,
    /// Lines of the load.
    pub(crate) lines: u64,
    pub(crate) sink: Sink,
    pub(crate) cores: Cores,
}

impl Harness {
    /// Writes a load of `lines` lines into a new directory in `scratch`, and starts the sink.
    pub(crate) fn new(binary: PathBuf, scratch: &Path, lines: u64, cores: Cores) -> Result<Self> {
        std::fs::create_dir_all(scratch)?;
        let dir = TempDir::with_prefix_in("bench-", scratch)?;
        let program = std::env::current_exe()?;
        let bytes = load::write_file(&dir.path().join("load"), lines)?;
        eprintln!("load: {lines} lines, {:.1} bytes a line", bytes as f64 / lines as f64);
        let sink = Sink::start(&program, &dir.path().join("ca.pem"))?;
        // tests/bench/run builds it, with a profile of its own.
        let bare_loop =
            std::env::var_os("TAILRACE_BENCH_BARE_LOOP").ok_or("start it as tests/bench/run")?.into();
        Ok(Self { dir, program, binary, bare_loop, lines, sink, cores })
    }

    /// A path in the directory of the harness.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that runs this program in another role, with an empty environment.
    pub(crate) fn role(&self, role: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().arg(role).stdin(Stdio::null());
        command
    }

    /// The bare loop into the sink.
    pub(crate) fn bare_loop(&self, encoding: Encoding) -> Command {
        let level = if encoding == Encoding::Gzip { "6" } else { "0" };
        let mut command = Command::new(&self.bare_loop);
        command.env_clear().stdin(Stdio::null());
        command.arg(self.sink.port.to_string()).arg(self.path("ca.pem")).arg(level);
        command
    }

    /// The app that prints the load at full speed.
    pub(crate) fn blast(&self) -> Command {
        let mut command = self.role("blast");
        command.arg(self.path("load")).arg(self.path("app"));
        command
    }

    /// `tailrace` with the sink as its drain, an empty spool and the ledger in the file `ledger`.
    pub(crate) fn tailrace(&self, encoding: Encoding) -> Result<Command> {
        let options = if encoding == Encoding::Gzip { "gzip=on" } else { "gzip=off" };
        let spool = self.path("spool");
        if spool.exists() {
            std::fs::remove_dir_all(&spool)?;
        }
        std::fs::create_dir(&spool)?;
        for stale in ["ledger", "app"] {
            if self.path(stale).exists() {
                std::fs::remove_file(self.path(stale))?;
            }
        }
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DYNO", "web.1")
            .env("TAILRACE_APP", "bench")
            .env("TAILRACE_DRAIN_URL", format!("https://127.0.0.1:{}/logs#{options}", self.sink.port))
            .env("TAILRACE_CA_FILE", self.path("ca.pem"))
            .env("TAILRACE_SPOOL_DIR", spool)
            .env("TAILRACE_LEDGER_FILE", self.path("ledger"))
            .stdin(Stdio::null());
        Ok(command)
    }

    /// A file for the standard error of a contestant.
    pub(crate) fn stderr(&self) -> Result<File> {
        Ok(File::options().create(true).append(true).open(self.path("stderr"))?)
    }

    /// What the contestants wrote to standard error since the last call.
    pub(crate) fn take_stderr(&self) -> Result<String> {
        let text = std::fs::read(self.path("stderr")).unwrap_or_default();
        self.stderr()?.set_len(0)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The report of the app.
    pub(crate) fn app_report(&self) -> Result<Figures> {
        let text = std::fs::read_to_string(self.path("app"))
            .map_err(|error| format!("the app left no report: {error}"))?;
        Figures::parse(&text)
    }

    /// The final ledger of the last `tailrace`.
    fn ledger(&self) -> Result<Ledger> {
        let text = std::fs::read_to_string(self.path("ledger"))
            .map_err(|error| format!("tailrace left no ledger: {error}"))?;
        Ledger::parse(&serde_json::from_str(&text)?)
            .ok_or_else(|| format!("a key is missing in {text}").into())
    }

    /// Checks that the final ledger accounts for every line that the app wrote, delivered or not.
    pub(crate) fn balance(&self, key: &str, sent: u64, results: &mut Results) -> Result<Ledger> {
        let ledger = self.ledger()?;
        let Ledger { captured, delivered, held, dropped, rejected } = ledger;
        results.expect(key, "lines captured", sent, captured);
        results.expect(key, "lines in the balance", captured, delivered + held + dropped + rejected);
        Ok(ledger)
    }

    /// Checks that every line that the app wrote was delivered.
    pub(crate) fn expect_delivered(&self, key: &str, sent: u64, results: &mut Results) -> Result<()> {
        let ledger = self.balance(key, sent, results)?;
        results.expect_delivered(key, sent, ledger.delivered);
        Ok(())
    }
}

/// The capacity of a pipe between two processes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipeCapacity {
    /// That of the system.
    Default,
    /// 1 MiB, so that the processes seldom wait for each other.
    Large,
}

/// Starts `first | second`.
pub(crate) fn pipe(
    first: &mut Command,
    second: &mut Command,
    capacity: PipeCapacity,
) -> Result<(Child, Child)> {
    let mut first = first.stdout(Stdio::piped()).spawn()?;
    let output: ChildStdout = first.stdout.take().ok_or("the first command has no pipe")?;
    if capacity == PipeCapacity::Large {
        fcntl(&output, FcntlArg::F_SETPIPE_SZ(1 << 20))?;
    }
    let reader = second.stdin(output).stdout(Stdio::null()).spawn();
    second.stdin(Stdio::null()); // closes this process's read end, so that `first` notices when the reader exits
    Ok((first, reader?))
}

/// The counts of the one drain of a final ledger.
#[derive(Clone, Copy)]
pub(crate) struct Ledger {
    pub(crate) captured: u64,
    pub(crate) delivered: u64,
    pub(crate) held: u64,
    pub(crate) dropped: u64,
    pub(crate) rejected: u64,
}

impl Ledger {
    fn parse(value: &Value) -> Option<Self> {
        let drain = value.get("drains")?.get(0)?;
        let count = |key: &str| drain.get(key)?.as_u64();
        Some(Self {
            captured: value.get("captured_lines")?.as_u64()?,
            delivered: count("delivered_lines")?,
            held: count("held_lines")?,
            dropped: count("dropped_lines")?,
            rejected: count("rejected_lines")?,
        })
    }
}

/// The process of the sink.
pub(crate) struct Sink {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub(crate) port: u16,
}

impl Sink {
    fn start(program: &Path, ca: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .env_clear()
            .arg("sink")
            .arg(ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("the sink has no output")?);
        let mut sink = Self { child, input, output, port: 0 };
        sink.port = sink.read_answer()?.get("port")? as u16;
        Ok(sink)
    }

    /// Sends `command` and returns the answer.
    pub(crate) fn ask(&mut self, command: &str) -> Result<Figures> {
        let input = self.input.as_mut().ok_or("the sink was closed")?;
        writeln!(input, "{command}")?;
        self.read_answer()
    }

    fn read_answer(&mut self) -> Result<Figures> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the sink has ended".into());
        }
        Figures::parse(&line)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.input.take()); // the sink exits at EOF
        drop(self.child.wait());
    }
}
