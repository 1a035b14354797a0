//! The sample apps under `heroku local` of the Heroku CLI, which runs a Procfile without the buildpack: their output is
//! passed through, and Ctrl-C ends them. Only the loopback network exists: the CLI must not contact any server.

use crate::harness::{Harness, Running, TIMEOUT, agent};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tailrace_drain::skip;
use tempfile::TempDir;

/// What the CLI prints about an app that SIGINT ended.
const INTERRUPTED: &str = "Exited with exit code SIGINT";
/// Limit for the start of node on a busy machine.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// Runs the CLI, and sends two requests as soon as the app listens on the port that `heroku local` gives the first
/// process type.
const REQUEST_SCRIPT: &str = r#"
ip link set lo up || exit
if grep -q '^web:' Procfile; then
	{
		until (exec 3<>/dev/tcp/127.0.0.1/5006) 2>/dev/null; do
			kill -0 $$ || exit
			sleep 0.1
		done
		for request in 1 2; do
			exec 3<>/dev/tcp/127.0.0.1/5006
			printf 'GET / HTTP/1.0\r\n\r\n' >&3
			cat <&3
		done
	} >/dev/null 2>&1 &
fi
exec "$@"
"#;

/// A program in a network namespace. Without root it runs in a user namespace, as creating one needs privileges there.
fn in_network_namespace(program: &str) -> Command {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", program]);
    command
}

/// The CLI, where `tests/run` installs it, or in PATH.
fn cli() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let installed = target.join("heroku/node_modules/.bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [installed].into_iter().chain(std::env::split_paths(&path));
    dirs.map(|dir| dir.join("heroku")).find(|program| program.is_file())
}

/// Whether the command can be started and exits with 0.
fn succeeds(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

/// Starts an app, waits until it has printed all of `expected`, and sends SIGINT as Ctrl-C does. Returns when the CLI
/// has ended, which may be before the app's processes have. `None` when a program that is needed is missing.
fn run_and_interrupt(harness: &Harness, needs: &str, expected: &[&str]) -> Option<Running> {
    let Some(cli) = cli() else {
        skip("the Heroku CLI is not installed (npm install --prefix target/heroku heroku)");
        return None;
    };
    if !succeeds(in_network_namespace("ip").args(["link", "set", "lo", "up"])) {
        skip("a network namespace cannot be created (unshare, ip)");
        return None;
    }
    if !succeeds(Command::new(needs).arg("--version")) {
        skip(&format!("{needs} is not installed"));
        return None;
    }
    let home = TempDir::new().expect("is created");
    let agent_dir = harness.app.path().join("bin");
    let mut dirs = vec![agent_dir];
    dirs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut command = in_network_namespace("bash");
    command
        .args(["-c", REQUEST_SCRIPT, "requests"])
        .arg(cli)
        .arg("local")
        .env_clear()
        .env("PATH", std::env::join_paths(dirs).expect("are paths"))
        .env("HOME", home.path())
        .env("TEST_MARKER", harness.tmp.path())
        .current_dir(harness.app.path())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = Running::start(command);
    for part in expected {
        if !running.output.contains(part) {
            running.wait_for_within(START_TIMEOUT, part);
        }
    }
    // A terminal sends the signal to the foreground process group.
    killpg(Pid::from_raw(running.child.id() as i32), Signal::SIGINT).expect("exists");
    let started = Instant::now();
    while running.child.try_wait().expect("can be asked").is_none() {
        assert!(started.elapsed() < TIMEOUT, "Ctrl-C did not end it: {:?}", harness.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(running)
}

/// Waits until no processes are left, except those with command lines that `may_stay`.
fn wait_until_gone(harness: &Harness, may_stay: fn(&str) -> bool) {
    let started = Instant::now();
    while harness.processes().iter().any(|(_, line)| !may_stay(line)) {
        assert!(started.elapsed() < TIMEOUT, "left behind: {:?}", harness.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A copy of a sample app of `tests/apps`.
fn sample_app(name: &str) -> Harness {
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("apps").join(name);
    let harness = Harness::new("");
    assert!(
        succeeds(Command::new("cp").arg("-r").arg(app.join(".")).arg(harness.app.path())),
        "{name} is copied"
    );
    harness
}

/// Runs and interrupts an app, waits until all its processes have ended, and asserts that it printed `last` too.
fn run(harness: &Harness, needs: &str, expected: &[&str], last: &str) {
    if let Some(running) = run_and_interrupt(harness, needs, expected) {
        wait_until_gone(harness, |_| false);
        let (_, output) = running.end();
        assert!(output.contains(last), "{last:?}: {output}");
    }
}

#[test]
fn a_rust_app() {
    let harness = sample_app("rust-web");
    let bin = harness.app.path().join("target/release");
    fs::remove_dir_all(&bin).ok(); // programs of an earlier build
    fs::create_dir_all(&bin).expect("is created");
    fs::copy(env!("CARGO_BIN_EXE_rust-web"), bin.join("rust-web")).expect("is copied");
    fs::copy(env!("CARGO_BIN_EXE_rust-worker"), bin.join("rust-worker")).expect("is copied");
    let expected = ["|  => Booting rust-web", "|  method=GET path=/ ", "|  worker ready", "|  I job=1 "];
    run(&harness, "bash", &expected, INTERRUPTED);
}

#[test]
fn a_python_app() {
    let expected = ["|  [INFO] GET / → 200", "|  [INFO] worker ready", "|  [INFO] job 1 done"];
    run(&sample_app("python-web"), "python3", &expected, "|  [INFO] got SIGINT, stopping");
}

#[test]
fn a_node_app() {
    let expected = ["\"msg\":\"GET / → 200\"", "\"msg\":\"worker ready\"", "\"msg\":\"job 1 done\""];
    run(&sample_app("node-web"), "node", &expected, "\"msg\":\"got SIGINT, stopping\"");
}

#[test]
fn a_preforking_app() {
    let expected = ["] master on port 5006", "] worker with 40 MB", "\"GET / HTTP/1.0\" 200"];
    run(&sample_app("prefork"), "python3", &expected, INTERRUPTED);
}

#[test]
fn an_app_that_floods_its_output() {
    run(&sample_app("flood"), "seq", &["|  1", "|  4000"], INTERRUPTED);
}

#[test]
fn an_app_that_leaks_memory() {
    run(&sample_app("leak"), "python3", &["|  GET /: 20 MB kept", "|  GET /: 40 MB kept"], INTERRUPTED);
}

#[test]
fn an_app_that_ignores_sigterm() {
    run(&sample_app("deaf"), "python3", &["|  \"GET / HTTP/1.0\" 200"], INTERRUPTED);
}

#[test]
fn an_app_with_long_lines() {
    let expected =
        ["|  dump: [{\"id\": 1042, \"name\": \"Łukasz Żak\"", "|  KeyError: 'missing'", "|  not text: "];
    run(&sample_app("long-lines"), "python3", &expected, INTERRUPTED);
}

#[test]
fn an_app_with_a_daemon() {
    let harness = sample_app("daemon");
    let expected = ["|  daemon: beat 2", "|  \"GET / HTTP/1.0\" 200"];
    let Some(running) = run_and_interrupt(&harness, "python3", &expected) else { return };
    // The signal does not reach the daemon, which is in a session of its own, and the CLI's reader stays with it. That
    // is so without tailrace too.
    wait_until_gone(&harness, |line| line.contains("web.py") || line.contains("foreman"));
    for (process, _) in harness.processes() {
        let pid = process.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("is a number");
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok(); // fails when it has ended
    }
    wait_until_gone(&harness, |_| false);
    let (_, output) = running.end();
    assert!(output.contains("KeyboardInterrupt"), "the app got the signal: {output}");
}

#[test]
fn an_app_with_the_agent_in_its_procfile() {
    let harness = Harness::new("web: tailrace run -- rust-web\n");
    let bin = harness.app.path().join("bin");
    fs::create_dir(&bin).expect("is created");
    fs::copy(agent(), bin.join("tailrace")).expect("is copied");
    fs::copy(env!("CARGO_BIN_EXE_rust-web"), bin.join("rust-web")).expect("is copied");
    run(&harness, "bash", &["|  => Booting rust-web", "|  method=GET path=/ "], INTERRUPTED);
}
