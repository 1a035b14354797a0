//! The simulation as a program: with the agent's real binary, a real app, and real signals.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For what takes a moment on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent: the one under test, else the one of the same build.
fn agent() -> PathBuf {
    let beside = || Path::new(env!("CARGO_BIN_EXE_tailrace-dyno")).with_file_name("tailrace");
    let agent = std::env::var_os("TAILRACE_TEST_BINARY").map_or_else(beside, PathBuf::from);
    assert!(agent.is_file(), "{}: not there; `cargo build` makes it", agent.display());
    agent
}

/// An app's directory, and a `/tmp` for the simulation.
struct Desk {
    app: TempDir,
    tmp: TempDir,
}

impl Desk {
    fn new(procfile: &str) -> Self {
        let app = TempDir::new().expect("is made");
        fs::write(app.path().join("Procfile"), procfile).expect("is written");
        Self { app, tmp: TempDir::new().expect("is made") }
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tailrace-dyno"));
        let programs = Path::new(env!("CARGO_BIN_EXE_rust-web")).parent().expect("is in a directory");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TAILRACE") {
                command.env_remove(name);
            }
        }
        command
            .env("TMPDIR", self.tmp.path())
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
    fn run(&self, options: &[&str]) -> (i32, String, String) {
        ended(self.command(options))
    }

    /// Nothing may be left: no file, and no process that was started for it.
    fn assert_clean(&self) {
        let files: Vec<_> = fs::read_dir(self.tmp.path()).expect("is there").flatten().collect();
        assert!(files.is_empty(), "left behind: {files:?}");
        let mark = format!("TMPDIR={}/", self.tmp.path().display());
        let has_mark = |process: &fs::DirEntry| {
            let vars = fs::read(process.path().join("environ")).unwrap_or_default();
            vars.split(|byte| *byte == 0).any(|var| var.starts_with(mark.as_bytes()))
        };
        let left: Vec<_> = fs::read_dir("/proc").expect("is there").flatten().filter(has_mark).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

fn ended(mut command: Command) -> (i32, String, String) {
    let output = command.output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("is text");
    (output.status.code().expect("has a status"), text(output.stdout), text(output.stderr))
}

/// A simulation under way. Its end is waited for.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("starts");
        let stdout = child.stdout.take().expect("is a pipe");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Self { child, lines, seen: String::new() }
    }

    fn until(&mut self, part: &str) {
        let begun = Instant::now();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(part) {
                return;
            }
        }
        panic!("{part:?} did not come:\n{}", self.seen);
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("is there");
    }

    /// Status and all of standard output.
    fn end(mut self) -> (i32, String) {
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

#[test]
fn every_line_of_a_real_app_is_accounted_for() {
    let desk = Desk::new("web: rust-web\n");
    let (status, report, stream) = desk.run(&["--for", "2s", "--json"]);
    assert_eq!(status, 0, "{report}{stream}");
    let report: serde_json::Value = serde_json::from_str(&report).expect("stands alone");
    let captured = report["ledger"]["captured_lines"].as_u64().expect("is a number");
    assert!(captured >= 7, "two of the start, and one per request: {report:#}");
    assert_eq!(report["printed"]["lines"], captured, "{report:#}");
    let account = &report["ledger"]["drains"][0];
    assert_eq!(account["delivered_lines"], captured, "{report:#}");
    assert_eq!(report["exit_status"], 143, "{report:#}");
    assert!(report["requests"]["by_status"]["201"].as_u64() >= Some(1), "{report:#}");
    for personality in ["sumo", "vector", "alloy", "logplex-strict"] {
        assert_eq!(report["drain"]["conformance"][personality]["errors"], 0, "{report:#}");
    }
    for part in [
        " heroku[web.1]: Starting process with command `rust-web`\n",
        " app[web.1]: => Booting rust-web\n",
        " heroku[web.1]: State changed from starting to up\n",
        " heroku[router]: at=info method=POST path=\"/orders\" host=",
        " app[web.1]: method=POST path=/orders ",
        " heroku[web.1]: Stopping all processes with SIGTERM\n",
        " heroku[web.1]: Process exited with status 143\n",
    ] {
        assert!(stream.contains(part), "{part:?}: {stream}");
    }
    let told = stream.lines().filter_map(|line| line.split_once(" tailrace[web.1]: ").map(|(_, text)| text));
    let life: Vec<&str> =
        told.filter(|text| !text.starts_with("source=") && !text.starts_with("at=")).collect();
    assert_eq!(
        life,
        [
            "Starting process with command `rust-web`",
            "State changed from starting to up",
            "State changed from up to down",
            "Stopping all processes with SIGTERM",
            "Process exited with status 143",
        ]
    );
    assert!(!stream.contains('\x1b'), "colour is for terminals: {stream}");
    desk.assert_clean();
}

#[test]
fn a_dyno_that_outgrows_its_quota_shows_samples_and_r14() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let desk = Desk::new(
        "web: python3 -c 'own = bytearray(b\"x\" * (1 << 20)) * 70; print(\"grown\", flush=True); import http.server as h, os; h.HTTPServer((\"127.0.0.1\", int(os.environ[\"PORT\"])), h.SimpleHTTPRequestHandler).serve_forever()'\n",
    );
    let mut command = desk.command(&[]);
    command.env("TAILRACE_SAMPLE_INTERVAL", "1s").env("TAILRACE_MEMORY_QUOTA", "64MiB");
    let mut running = Running::start(command);
    running.until(" tailrace[web.1]: Error R14 (Memory quota exceeded)");
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    for part in [
        " sample#load_avg_1m=",
        " sample#memory_total=",
        " sample#memory_quota=64.00MB",
        "Process running mem=",
    ] {
        assert!(seen.contains(part), "{part:?}: {seen}");
    }
    desk.assert_clean();
}

#[test]
fn a_slug_runs_as_it_stands() {
    let desk = Desk::new("web: .tailrace/bin/tailrace run --type web\nworker: none\n");
    let slug = desk.app.path();
    let (bin, types, profile) =
        (slug.join(".tailrace/bin"), slug.join(".tailrace/types"), slug.join(".profile.d"));
    for dir in [&bin, &types, &profile] {
        fs::create_dir_all(dir).expect("is made");
    }
    symlink(agent(), bin.join("tailrace")).expect("is made");
    fs::write(types.join("web"), "echo \"$GREETING\" && rust-web\n").expect("is written");
    fs::write(profile.join("greeting.sh"), "export GREETING=hello\n").expect("is written");
    let mut command = desk.command(&["--slug", "--for", "1s"]);
    command.arg("--agent").arg("/nowhere/tailrace");
    let (status, out, err) = ended(command);
    assert_eq!(status, 0, "{out}{err}");
    for part in [
        " heroku[web.1]: Starting process with command `.tailrace/bin/tailrace run --type web`\n",
        " app[web.1]: hello\n",
        "lines arrived, and no receiver objected.\n",
    ] {
        assert!(out.contains(part), "{part:?}: {out}{err}");
    }
    desk.assert_clean();
}

#[test]
fn ctrl_c_stops_the_dyno_and_all_its_processes() {
    // The first process leaves the family, the app's shell stays above it.
    let desk = Desk::new("web: (setsid sleep 300 &); echo \"port $PORT, home $HOME\"; rust-web; echo done\n");
    let mut running = Running::start(desk.command(&[]));
    running.until("State changed from starting to up");
    running.until("heroku[router]: at=info");
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    let home = format!(", home {}\n", desk.app.path().display());
    for part in [&home, "lines arrived, and no receiver objected.\n", "Process exited with status 143\n"] {
        assert!(seen.contains(part), "{part:?}: {seen}");
    }
    desk.assert_clean();
}

#[test]
fn a_second_ctrl_c_ends_everything_at_once() {
    let desk = Desk::new("web: trap '' TERM; sleep 300 & echo deaf; while true; do sleep 1; done\n");
    let mut running = Running::start(desk.command(&["--for", "1s"]));
    running.until("app[web.1]: deaf");
    running.interrupt();
    running.until("Stopping all processes with SIGTERM");
    let begun = Instant::now();
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 130, "{seen}");
    assert!(begun.elapsed() < PATIENCE, "at once, not after the 30 s of the platform");
    desk.assert_clean();
}

#[test]
fn a_stream_that_nobody_reads_stops_the_dyno() {
    let desk = Desk::new("web: rust-web\n");
    let mut command = desk.command(&[]);
    let mut child = command.spawn().expect("starts");
    let mut first = [0];
    child.stdout.take().expect("is a pipe").read_exact(&mut first).expect("is printed");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    desk.assert_clean();
}

#[test]
fn an_app_that_dies_early_fails_the_simulation() {
    for (procfile, status, also) in [
        ("web: echo bye; exit 7\n", 7, "app[web.1]: bye\n"),
        ("web: no-such-program -x\n", 127, "no-such-program"),
    ] {
        let desk = Desk::new(procfile);
        let (code, out, err) = desk.run(&["--for", "1s"]);
        assert_eq!(code, 1, "{out}{err}");
        let problem = format!(" !     the app ended with status {status} before it listened on $PORT\n");
        for part in [problem.as_str(), also, "State changed from starting to crashed\n"] {
            assert!(out.contains(part), "{part:?}: {out}{err}");
        }
        desk.assert_clean();
    }
}

#[test]
fn a_missing_ledger_fails_the_simulation() {
    let desk = Desk::new("web: rust-web\n");
    let mut command = desk.command(&["--for", "300ms"]);
    command.env("TAILRACE", "off");
    let (code, out, err) = ended(command);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains(" !     no ledger: "), "{out}{err}");
    desk.assert_clean();
}

#[test]
fn what_is_missing_is_named() {
    let desk = Desk::new("worker: sleep 1\n");
    let none = TempDir::new().expect("is made");
    let elsewhere = none.path().to_str().expect("is text");
    for (options, status, part) in [
        (&[][..], 64, "Procfile: no web entry"),
        (&["--app", elsewhere], 64, "--app expects a directory with a Procfile"),
        (&["--wat"], 64, "--wat"),
    ] {
        let (code, out, err) = desk.run(options);
        assert_eq!((code, out.as_str()), (status, ""), "{err}");
        assert!(err.contains(part), "{part:?}: {err}");
    }
    let desk = Desk::new("web: sleep 1\n");
    let (code, _, err) = desk.run(&["--agent", "/nowhere/tailrace"]);
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("/nowhere/tailrace: not there"), "{err}");
    desk.assert_clean();
}
