//! The sample apps under the Heroku CLI's `heroku local`, which knows nothing of tailrace: their output comes through,
//! and a Ctrl-C ends them. Without a network but for loopback: the CLI needs none, and shall not ask for any.

use crate::harness::{Harness, PATIENCE, Running, agent};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What is said of an app that a Ctrl-C ended.
const INTERRUPTED: &str = "Exited with exit code SIGINT";
/// What node takes to start on a busy machine.
const START: Duration = Duration::from_mins(2);

/// Two visitors, once somebody listens on the port that `heroku local` gives the first process type.
const VISIT: &str = r#"
ip link set lo up || exit
if grep -q '^web:' Procfile; then
	{
		until (exec 3<>/dev/tcp/127.0.0.1/5006) 2>/dev/null; do
			kill -0 $$ || exit
			sleep 0.1
		done
		for visit in 1 2; do
			exec 3<>/dev/tcp/127.0.0.1/5006
			printf 'GET / HTTP/1.0\r\n\r\n' >&3
			cat <&3
		done
	} >/dev/null 2>&1 &
fi
exec "$@"
"#;

/// A network namespace; who is not root is root in a namespace of users for that.
fn apart(program: &str) -> Command {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", program]);
    command
}

/// The CLI: `tests/run` puts it there.
fn cli() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let ours = target.join("heroku/node_modules/.bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [ours].into_iter().chain(std::env::split_paths(&path));
    dirs.map(|dir| dir.join("heroku")).find(|program| program.is_file())
}

fn runs(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

/// An app that is started and says all of `expected`, and then a Ctrl-C, which the CLI obeys at once; whoever runs the
/// app for it may take longer. Nothing where something that is needed is missing.
fn interrupted(desk: &Harness, needs: &str, expected: &[&str]) -> Option<Running> {
    let Some(cli) = cli() else {
        eprintln!("skipped: the Heroku CLI is not there (npm install --prefix target/heroku heroku)");
        return None;
    };
    if !runs(apart("ip").args(["link", "set", "lo", "up"])) {
        eprintln!("skipped: no network namespace can be made here (unshare, ip)");
        return None;
    }
    if !runs(Command::new(needs).arg("--version")) {
        eprintln!("skipped: {needs} is not installed");
        return None;
    }
    let home = TempDir::new().expect("is made");
    let agent_dir = desk.app.path().join("bin");
    let mut dirs = vec![agent_dir];
    dirs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut command = apart("bash");
    command
        .args(["-c", VISIT, "visit"])
        .arg(cli)
        .arg("local")
        .env_clear()
        .env("PATH", std::env::join_paths(dirs).expect("are paths"))
        .env("HOME", home.path())
        .env("DESK", desk.tmp.path())
        .current_dir(desk.app.path())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = Running::start(command);
    for part in expected {
        if !running.seen.contains(part) {
            running.until_within(START, part);
        }
    }
    // As a terminal does it: to all in the foreground.
    killpg(Pid::from_raw(running.child.id() as i32), Signal::SIGINT).expect("is there");
    let begun = Instant::now();
    while running.child.try_wait().expect("can be asked").is_none() {
        assert!(begun.elapsed() < PATIENCE, "Ctrl-C did not end it: {:?}", desk.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(running)
}

/// Waits until nothing is left of it but processes whose command lines may `stay`.
fn gone(desk: &Harness, stay: fn(&str) -> bool) {
    let begun = Instant::now();
    while desk.processes().iter().any(|(_, line)| !stay(line)) {
        assert!(begun.elapsed() < PATIENCE, "left behind: {:?}", desk.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A sample app, as it stands in `tests/apps`.
fn sample(name: &str) -> Harness {
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("apps").join(name);
    let desk = Harness::new("");
    assert!(runs(Command::new("cp").arg("-r").arg(app.join(".")).arg(desk.app.path())), "{name} is copied");
    desk
}

/// The same until nothing is left; all that was said, the app's last words among it.
fn run(desk: &Harness, needs: &str, expected: &[&str], last: &str) {
    if let Some(running) = interrupted(desk, needs, expected) {
        gone(desk, |_| false);
        let (_, seen) = running.end();
        assert!(seen.contains(last), "{last:?}: {seen}");
    }
}

#[test]
fn rust() {
    let desk = sample("rust-web");
    let bin = desk.app.path().join("target/release");
    drop(fs::remove_dir_all(&bin)); // what somebody may have built there
    fs::create_dir_all(&bin).expect("is made");
    fs::copy(env!("CARGO_BIN_EXE_rust-web"), bin.join("rust-web")).expect("is copied");
    fs::copy(env!("CARGO_BIN_EXE_rust-worker"), bin.join("rust-worker")).expect("is copied");
    let said = ["|  => Booting rust-web", "|  method=GET path=/ ", "|  worker ready", "|  I job=1 "];
    run(&desk, "bash", &said, INTERRUPTED);
}

#[test]
fn python() {
    let said = ["|  [INFO] GET / → 200", "|  [INFO] worker ready", "|  [INFO] job 1 done"];
    run(&sample("python-web"), "python3", &said, "|  [INFO] got SIGINT, stopping");
}

#[test]
fn node() {
    let said = ["\"msg\":\"GET / → 200\"", "\"msg\":\"worker ready\"", "\"msg\":\"job 1 done\""];
    run(&sample("node-web"), "node", &said, "\"msg\":\"got SIGINT, stopping\"");
}

#[test]
fn preforking() {
    let said = ["] master on port 5006", "] worker with 40 MB", "\"GET / HTTP/1.0\" 200"];
    run(&sample("prefork"), "python3", &said, INTERRUPTED);
}

#[test]
fn flooding() {
    run(&sample("flood"), "seq", &["|  1", "|  4000"], INTERRUPTED);
}

#[test]
fn leaking() {
    run(&sample("leak"), "python3", &["|  GET /: 20 MB kept", "|  GET /: 40 MB kept"], INTERRUPTED);
}

#[test]
fn deaf() {
    run(&sample("deaf"), "python3", &["|  \"GET / HTTP/1.0\" 200"], INTERRUPTED);
}

#[test]
fn long_lines() {
    let said =
        ["|  dump: [{\"id\": 1042, \"name\": \"Łukasz Żak\"", "|  KeyError: 'missing'", "|  not text: "];
    run(&sample("long-lines"), "python3", &said, INTERRUPTED);
}

#[test]
fn daemonising() {
    let desk = sample("daemon");
    let said = ["|  daemon: beat 2", "|  \"GET / HTTP/1.0\" 200"];
    let Some(running) = interrupted(&desk, "python3", &said) else { return };
    // Ctrl-C is not for a session of its own, and whoever reads for the CLI reads on: that is so without us, too.
    gone(&desk, |line| line.contains("web.py") || line.contains("foreman"));
    for (process, _) in desk.processes() {
        let pid = process.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("is a number");
        let _gone_already = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    gone(&desk, |_| false);
    let (_, seen) = running.end();
    assert!(seen.contains("KeyboardInterrupt"), "the app itself heard it: {seen}");
}

#[test]
fn with_the_agent_in_the_procfile() {
    let desk = Harness::new("web: tailrace run -- rust-web\n");
    let bin = desk.app.path().join("bin");
    fs::create_dir(&bin).expect("is made");
    fs::copy(agent(), bin.join("tailrace")).expect("is copied");
    fs::copy(env!("CARGO_BIN_EXE_rust-web"), bin.join("rust-web")).expect("is copied");
    run(&desk, "bash", &["|  => Booting rust-web", "|  method=GET path=/ "], INTERRUPTED);
}
