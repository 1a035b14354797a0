//! A simulation as a program: with the agent's real binary, a real app, and real signals.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For what takes a moment on a quiet machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The agent: the one under test, else the one of the same build.
pub(crate) fn agent() -> PathBuf {
    let beside = || Path::new(env!("CARGO_BIN_EXE_tailrace-dyno")).with_file_name("tailrace");
    let agent = std::env::var_os("TAILRACE_TEST_BINARY").map_or_else(beside, PathBuf::from);
    assert!(agent.is_file(), "{}: not there; `cargo build` makes it", agent.display());
    agent
}

/// An app's directory, and a `/tmp` for the simulation.
pub(crate) struct Harness {
    pub(crate) app: TempDir,
    pub(crate) tmp: TempDir,
}

impl Harness {
    pub(crate) fn new(procfile: &str) -> Self {
        let app = TempDir::new().expect("is made");
        fs::write(app.path().join("Procfile"), procfile).expect("is written");
        Self { app, tmp: TempDir::new().expect("is made") }
    }

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
            .arg(format!("DESK={}", self.tmp.path().display()))
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

    /// Runs it to its end: status, standard output, standard error.
    pub(crate) fn run(&self, options: &[&str]) -> (i32, String, String) {
        ended(self.command(options))
    }

    /// A file of the app.
    pub(crate) fn with(self, name: &str, text: &str) -> Self {
        let path = self.app.path().join(name);
        fs::create_dir_all(path.parent().expect("is in a directory")).expect("is made");
        fs::write(path, text).expect("is written");
        self
    }

    /// The report of a run to its end, and its status.
    pub(crate) fn report(&self, options: &[&str]) -> (i32, serde_json::Value, String) {
        let (status, out, err) = self.run(&[&["--json", "--check"], options].concat());
        let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        (status, report, err)
    }

    /// What is left of it: files, and processes that were started for it.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let mut left: Vec<PathBuf> =
            fs::read_dir(self.tmp.path()).expect("is there").flatten().map(|entry| entry.path()).collect();
        left.extend(self.processes().into_iter().map(|(process, line)| process.join(line)));
        left
    }

    /// Processes that were started for it, with their command lines.
    pub(crate) fn processes(&self) -> Vec<(PathBuf, String)> {
        let mark = self.tmp.path().to_str().expect("is text").as_bytes();
        let has_mark = |process: &PathBuf| {
            let vars = fs::read(process.join("environ")).unwrap_or_default();
            vars.windows(mark.len()).any(|part| part == mark)
        };
        let processes = fs::read_dir("/proc").expect("is there").flatten().map(|entry| entry.path());
        let named = |process: PathBuf| {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            (process, String::from_utf8_lossy(&line).replace('\0', " "))
        };
        processes.filter(has_mark).map(named).collect()
    }

    /// The shippers of its agents, once there are some which are not `old`.
    pub(crate) fn shippers(&self, old: &[PathBuf]) -> Vec<PathBuf> {
        let begun = Instant::now();
        loop {
            let all = self.processes().into_iter().filter(|(_, line)| line.starts_with("tailrace shipper "));
            let found: Vec<PathBuf> =
                all.map(|(process, _)| process).filter(|process| !old.contains(process)).collect();
            if !found.is_empty() {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "no shipper but {old:?}: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Nothing may be left.
    pub(crate) fn assert_clean(&self) {
        let left = self.left();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

pub(crate) fn ended(mut command: Command) -> (i32, String, String) {
    let output = command.output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("is text");
    (output.status.code().expect("has a status"), text(output.stdout), text(output.stderr))
}

/// A simulation under way. Its end is waited for.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: mpsc::Receiver<String>,
    stdin: Option<ChildStdin>,
    pub(crate) seen: String,
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
        Self { child, lines, stdin, seen: String::new() }
    }

    pub(crate) fn until(&mut self, part: &str) {
        self.until_within(PATIENCE, part);
    }

    pub(crate) fn until_within(&mut self, patience: Duration, part: &str) {
        let begun = Instant::now();
        while let Ok(line) = self.lines.recv_timeout(patience.saturating_sub(begun.elapsed())) {
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(part) {
                return;
            }
        }
        panic!("{part:?} did not come:\n{}", self.seen);
    }

    /// Types a line; the command's input must be a pipe.
    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("is a pipe");
        writeln!(stdin, "{line}").expect("is read");
    }

    pub(crate) fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("is there");
    }

    /// Status and all of standard output.
    pub(crate) fn end(mut self) -> (i32, String) {
        let status = self.child.wait().expect("ends").code().expect("has a status");
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().expect("is a pipe");
        stderr.read_to_string(&mut errors).expect("is text");
        (status, self.seen + &errors)
    }
}
