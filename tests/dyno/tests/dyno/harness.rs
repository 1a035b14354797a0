//! Runs a simulation as a program, with the agent's real binary, a real app and real signals.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Limit for steps that take a moment on an idle machine, and half a minute on one where other work keeps all cores busy.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// The agent's binary: `TAILRACE_TEST_BINARY`, or the one of the same build.
pub(crate) fn agent() -> PathBuf {
    let same_build = || Path::new(env!("CARGO_BIN_EXE_tailrace-dyno")).with_file_name("tailrace");
    let agent = std::env::var_os("TAILRACE_TEST_BINARY").map_or_else(same_build, PathBuf::from);
    assert!(agent.is_file(), "{}: not found; `cargo build` builds it", agent.display());
    agent
}

/// An app's directory, and a temporary directory for the simulation.
pub(crate) struct Harness {
    pub(crate) app: TempDir,
    pub(crate) tmp: TempDir,
}

impl Harness {
    pub(crate) fn new(procfile: &str) -> Self {
        let app = TempDir::new().expect("is created");
        fs::write(app.path().join("Procfile"), procfile).expect("is written");
        Self { app, tmp: TempDir::new().expect("is created") }
    }

    /// The command of a simulation of the app. Its processes have the path of `tmp` in their environment, by which
    /// [`Self::processes`] finds them.
    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tailrace-dyno"));
        let programs = Path::new(env!("CARGO_BIN_EXE_rust-web")).parent().expect("is in a directory");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TAILRACE") {
                command.env_remove(name);
            }
        }
        command
            .env("TMPDIR", self.tmp.path())
            .arg("--config")
            .arg(format!("TEST_MARKER={}", self.tmp.path().display()))
            .arg("--app")
            .arg(self.app.path())
            .arg("--agent")
            .arg(agent())
            .arg("--path")
            .arg(programs)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a simulation to its end.
    pub(crate) fn run(&self, options: &[&str]) -> (i32, String, String) {
        run_to_end(self.command(options))
    }

    /// Adds a file to the app.
    pub(crate) fn with(self, name: &str, text: &str) -> Self {
        let path = self.app.path().join(name);
        fs::create_dir_all(path.parent().expect("is in a directory")).expect("is created");
        fs::write(path, text).expect("is written");
        self
    }

    /// Runs a simulation to its end with `--json --check`.
    pub(crate) fn report(&self, options: &[&str]) -> (i32, serde_json::Value, String) {
        let (status, out, err) = self.run(&[&["--json", "--check"], options].concat());
        let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        (status, report, err)
    }

    /// Files and processes of the simulation that still exist.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let mut leftovers: Vec<PathBuf> =
            fs::read_dir(self.tmp.path()).expect("exists").flatten().map(|entry| entry.path()).collect();
        leftovers.extend(self.processes().into_iter().map(|(process, line)| process.join(line)));
        leftovers
    }

    /// The simulation's processes (directories in `/proc`) with their command lines.
    pub(crate) fn processes(&self) -> Vec<(PathBuf, String)> {
        let marker = self.tmp.path().to_str().expect("is text").as_bytes();
        let has_marker = |process: &PathBuf| {
            let vars = fs::read(process.join("environ")).unwrap_or_default();
            vars.windows(marker.len()).any(|part| part == marker)
        };
        let processes = fs::read_dir("/proc").expect("exists").flatten().map(|entry| entry.path());
        let with_command_line = |process: PathBuf| {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            (process, String::from_utf8_lossy(&line).replace('\0', " "))
        };
        processes.filter(has_marker).map(with_command_line).collect()
    }

    /// Waits until there are shippers other than `old`, and returns them.
    pub(crate) fn shippers(&self, old: &[PathBuf]) -> Vec<PathBuf> {
        let started = Instant::now();
        loop {
            let all = self.processes().into_iter().filter(|(_, line)| line.starts_with("tailrace shipper "));
            let found: Vec<PathBuf> =
                all.map(|(process, _)| process).filter(|process| !old.contains(process)).collect();
            if !found.is_empty() {
                return found;
            }
            assert!(started.elapsed() < TIMEOUT, "no shipper but {old:?}: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asserts that no files and no processes are left.
    pub(crate) fn assert_clean(&self) {
        let leftovers = self.leftovers();
        assert!(leftovers.is_empty(), "left behind: {leftovers:?}");
    }
}

/// Runs a command to its end: exit status, standard output, standard error.
pub(crate) fn run_to_end(mut command: Command) -> (i32, String, String) {
    let output = command.output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("is text");
    (output.status.code().expect("has a status"), text(output.stdout), text(output.stderr))
}

/// A running simulation.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: mpsc::Receiver<String>,
    stdin: Option<ChildStdin>,
    pub(crate) output: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("is a pipe");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Self { child, lines, stdin, output: String::new() }
    }

    /// Reads standard output until a line contains `part`.
    pub(crate) fn wait_for(&mut self, part: &str) {
        self.wait_for_within(TIMEOUT, part);
    }

    pub(crate) fn wait_for_within(&mut self, limit: Duration, part: &str) {
        let started = Instant::now();
        while let Ok(line) = self.lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
            self.output.push_str(&line);
            self.output.push('\n');
            if line.contains(part) {
                return;
            }
        }
        panic!("{part:?} was not printed:\n{}", self.output);
    }

    /// Writes a line to standard input, which must be a pipe.
    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("is a pipe");
        writeln!(stdin, "{line}").expect("is read");
    }

    pub(crate) fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("exists");
    }

    /// Waits for the end; returns the exit status, and standard output followed by standard error.
    pub(crate) fn end(mut self) -> (i32, String) {
        let status = self.child.wait().expect("ends").code().expect("has a status");
        while let Ok(line) = self.lines.recv_timeout(TIMEOUT) {
            self.output.push_str(&line);
            self.output.push('\n');
        }
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().expect("is a pipe");
        stderr.read_to_string(&mut errors).expect("is text");
        (status, self.output + &errors)
    }
}
