//! A test drain, a directory, and agents that are started against them, observed, and killed when a test fails.

use crate::procfs;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tailrace_drain::stats::Report;
use tailrace_drain::{Drain, Options};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// Upper limit of every wait that is not itself under test, generous because the machine may be under load.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_mins(2);

/// Secrets that must never be printed: user and password of the drain's URL (plain, and as in Basic authentication),
/// segments of its path, its query, and the value of an extra header.
pub(crate) const SECRETS: [&str; 9] = [
    "s3cret-user",
    "s3cret-word",
    "czNjcmV0LXVzZXI6",
    "receiver/v1/http/…",
    "s3cret-segment",
    "LOCAL-SECRET",
    "s3cret-query",
    "s3cret-tag",
    "s3cret-header",
];

/// Polls `probe` until it returns a value; panics after [`WAIT_TIMEOUT`].
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < WAIT_TIMEOUT, "timed out waiting for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Polls `condition` until it holds; panics after [`WAIT_TIMEOUT`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// As [`tailrace_drain::skip`].
pub(crate) fn skip(reason: &str) {
    tailrace_drain::skip(reason);
}

/// A port of 127.0.0.1 with a bound socket that does not listen: connections are refused, and no other process gets
/// the port. The app under test may listen on it, because both sockets have `SO_REUSEADDR` (socket(7)).
pub(crate) struct ReservedPort(TcpSocket);

impl ReservedPort {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("TAILRACE_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_tailrace").into()).into()
}

/// A path as one word of a shell script. The directory of the tests may have spaces in its name.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_str().expect("UTF-8");
    assert!(!text.contains('\''), "{text}");
    format!("'{text}'")
}

/// A test drain, and the settings of agents that deliver to it.
pub(crate) struct Harness {
    pub(crate) drain: Drain,
    dir: TempDir,
    /// The agent's.
    pub(crate) program: PathBuf,
    settings: BTreeMap<String, String>,
    runs: AtomicU32,
}

impl Harness {
    /// With a drain that accepts everything.
    pub(crate) fn new() -> Self {
        Self::with_options(Options::default())
    }

    /// With a drain that has these faults from the start.
    pub(crate) fn with_faults(faults: &str) -> Self {
        let harness = Self::new();
        harness.drain.set_faults(faults).unwrap();
        harness
    }

    /// With a drain that has these options.
    pub(crate) fn with_options(options: Options) -> Self {
        // In the build directory: a file system on disk has room for spools of the configured size, a tmpfs may not.
        Self::in_directory(TempDir::with_prefix_in("e2e-", env!("CARGO_TARGET_TMPDIR")).unwrap(), options)
    }

    /// With a drain that has these options, and all files in `dir`.
    pub(crate) fn in_directory(dir: TempDir, options: Options) -> Self {
        let drain = Drain::start(options).unwrap();
        let mut harness =
            Self { drain, dir, program: program(), settings: BTreeMap::new(), runs: AtomicU32::new(0) };
        fs::create_dir(harness.path("tmp")).unwrap();
        for (name, value) in [
            ("PATH", std::env::var("PATH").unwrap()),
            ("TMPDIR", harness.path("tmp").display().to_string()),
            ("DYNO", "web.1".to_owned()),
            ("TAILRACE_APP", "e2e".to_owned()),
            ("TAILRACE_DRAIN_URL", secret_url(&harness.drain)),
            ("TAILRACE_CA_FILE", harness.drain.ca_file().display().to_string()),
            ("TAILRACE_SPOOL_DIR", harness.spool_dir().display().to_string()),
            ("TAILRACE_HEADER_X_KEY", "s3cret-header".to_owned()),
            ("TAILRACE_TEST_CONFINEMENT", "kill".to_owned()),
        ] {
            harness.settings.insert(name.to_owned(), value);
        }
        harness
    }

    /// Sets an environment variable of the agents.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes an environment variable of the agents.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Sets options in the fragment of the drain's URL.
    pub(crate) fn drain_option(self, fragment: &str) -> Self {
        let url = format!("{}#{fragment}", secret_url(&self.drain));
        self.set("TAILRACE_DRAIN_URL", &url)
    }

    /// The environment of the agents.
    pub(crate) fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// A path in the directory of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path below the directory of this test at which nothing exists.
    pub(crate) fn absent_path(&self) -> PathBuf {
        self.path("absent/file")
    }

    /// A name that no command of this machine has.
    pub(crate) fn absent_command(&self) -> String {
        format!("absent-{}", self.dir.path().file_name().unwrap().display())
    }

    /// Makes the agents keep their spool in memory: the configured directory is below a regular file, so it cannot be
    /// created.
    pub(crate) fn without_spool_directory(self) -> Self {
        let file = self.path("regular-file");
        fs::write(&file, "").unwrap();
        self.set("TAILRACE_SPOOL_DIR", file.join("spool").to_str().unwrap())
    }

    /// The directory of the spools.
    pub(crate) fn spool_dir(&self) -> PathBuf {
        self.path("spool")
    }

    /// Whether no agent left undelivered data behind.
    pub(crate) fn is_spool_empty(&self) -> bool {
        fs::read_dir(self.spool_dir()).unwrap().next().is_none()
    }

    /// Starts `tailrace run -- COMMAND`.
    pub(crate) fn run(&self, command: &[&str]) -> Agent {
        self.start(&[&["run", "--"], command].concat())
    }

    /// Starts `tailrace run -- sh -c SCRIPT`.
    pub(crate) fn sh(&self, script: &str) -> Agent {
        self.run(&["sh", "-c", script])
    }

    /// Starts `tailrace ARGUMENTS` with a pipe as its standard input.
    pub(crate) fn start(&self, arguments: &[&str]) -> Agent {
        self.start_with(|command| {
            command.args(arguments);
        })
    }

    /// Starts `PREFIX tailrace ARGUMENTS`; the prefix is a command that executes its last arguments.
    pub(crate) fn start_via(&self, prefix: &[&str], arguments: &[&str]) -> Agent {
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).arg(&self.program).args(arguments);
        self.launch(command, |_| {})
    }

    /// Starts `COMMAND ARGUMENTS`; the command ends with the program or a copy of it.
    pub(crate) fn start_command(&self, command: &[&str], arguments: &[&str]) -> Agent {
        let mut process = Command::new(command[0]);
        process.args(&command[1..]).args(arguments);
        self.launch(process, |_| {})
    }

    /// Starts `tailrace` as `prepare` sets it up.
    pub(crate) fn start_with(&self, prepare: impl FnOnce(&mut Command)) -> Agent {
        self.launch(Command::new(&self.program), prepare)
    }

    fn launch(&self, mut command: Command, prepare: impl FnOnce(&mut Command)) -> Agent {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.path(&format!("{number}.{kind}"));
        let (stdout_file, stderr_file, ledger_file) = (file("stdout"), file("stderr"), file("ledger"));
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "LLVM_PROFILE_FILE")) // tests/coverage
            .envs(&self.settings)
            .env("TAILRACE_LEDGER_FILE", &ledger_file)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(File::create(&stdout_file).unwrap())
            .stderr(File::create(&stderr_file).unwrap());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        Agent { child, stdin, stdout_file, stderr_file, ledger_file }
    }

    /// The report of the drain, which must not contain a protocol error.
    pub(crate) fn report(&self) -> Report {
        let report = self.drain.report();
        assert_conforms(&report);
        report
    }

    /// Waits until the drain has received `lines` lines.
    pub(crate) fn wait_for_lines(&self, lines: u64) {
        let arrived = self.drain.wait_until(WAIT_TIMEOUT, |report| report.lines >= lines);
        assert!(arrived, "{lines} lines did not arrive: {:?}", self.drain.report());
    }

    /// The ledger's account of the only drain, after checking that ledger and drain agree on the delivered lines.
    pub(crate) fn reconcile(&self, output: &Output) -> DrainAccount {
        let account = output.ledger().drains[0].clone();
        let report = self.report();
        assert_eq!(account.delivered, report.lines, "ledger and drain disagree: {account:?}, {report:?}");
        account
    }

    /// Checks that `lines` lines were captured, that each was delivered once, and that the spool is gone.
    pub(crate) fn assert_all_delivered(&self, output: &Output, lines: u64) {
        let account = self.reconcile(output);
        assert_eq!((output.ledger().captured, account.delivered), (lines, lines), "{account:?}");
        assert!(self.is_spool_empty(), "a spool was left although everything was delivered");
    }
}

/// The drain's URL with every kind of secret that a URL can contain.
fn secret_url(drain: &Drain) -> String {
    format!("{}?key=s3cret-query", drain.url().replacen("//", "//s3cret-user:s3cret-word@", 1))
}

/// Checks that the drain saw no protocol error, whatever kind of receiver it imitates.
pub(crate) fn assert_conforms(report: &Report) {
    let text = format!("{report:?}");
    assert_eq!(report.conformance.len(), 4, "{text}");
    assert!(report.conformance.values().all(|complaints| complaints.errors == 0), "{text}");
    let faults = (report.malformed, report.changed_bodies, report.count_mismatches, report.out_of_order);
    assert_eq!(faults, (0, 0, 0, 0), "{text}");
}

/// Checks that the lines `1` to `last` arrived once, in order.
pub(crate) fn assert_in_order(report: &Report, last: u64) {
    let sequence = &report.sequence["web.1"];
    assert_eq!((sequence.first, sequence.last, sequence.count), (Some(1), Some(last), last), "{sequence:?}");
    assert_eq!((sequence.backward, sequence.missing), (0, 0), "{sequence:?}");
}

/// A running `tailrace`, in its own process group. Dropping it kills that group.
pub(crate) struct Agent {
    child: Child,
    /// Standard input of the agent, until it is closed.
    pub(crate) stdin: Option<ChildStdin>,
    stdout_file: PathBuf,
    stderr_file: PathBuf,
    ledger_file: PathBuf,
}

impl Agent {
    /// The process that was started: the supervisor, unless a prefix starts it as a child.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until the shipper runs; returns its process.
    pub(crate) fn wait_for_shipper(&self) -> i32 {
        wait_for("a shipper", || procfs::shipper_of(self.pid()))
    }

    /// Writes to standard input.
    pub(crate) fn feed(&mut self, text: impl AsRef<[u8]>) {
        self.stdin.as_mut().unwrap().write_all(text.as_ref()).unwrap();
    }

    /// Sends a signal to the process that was started.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Sends a signal to the process group: supervisor, shipper and app.
    pub(crate) fn signal_group(&self, signal: Signal) {
        killpg(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// The current text of the ledger file, once one was written completely.
    pub(crate) fn ledger_text(&self) -> Option<String> {
        fs::read_to_string(&self.ledger_file).ok().filter(|text| text.ends_with("}\n"))
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> Vec<u8> {
        fs::read(&self.stdout_file).unwrap()
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr_file).unwrap()).into_owned()
    }

    /// Waits until standard output contains `text`.
    pub(crate) fn wait_for_stdout(&self, text: &str) {
        wait_until(&format!("{text:?} on standard output"), || {
            String::from_utf8_lossy(&self.stdout()).contains(text)
        });
    }

    /// Waits until standard error has a complete line that contains all of `parts`; returns that line.
    pub(crate) fn wait_for_message(&self, parts: &[&str]) -> String {
        wait_for(&format!("{parts:?} on standard error"), || {
            let stderr = self.stderr();
            let mut complete = stderr.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            complete.find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }

    /// Closes standard input, waits until the agent exits, and checks that it printed no secret.
    pub(crate) fn finish(mut self) -> Output {
        drop(self.stdin.take());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < WAIT_TIMEOUT, "the agent does not exit: {}", self.stderr());
            thread::sleep(Duration::from_millis(5));
        };
        // Under a file size limit of 0 the file exists and is empty.
        let ledger = fs::read_to_string(&self.ledger_file).ok().filter(|text| !text.is_empty());
        let (stdout, stderr) = (self.stdout(), self.stderr());
        assert!(!stderr.contains("at=shipper-violation"), "{stderr}");
        for text in [&String::from_utf8_lossy(&stdout), stderr.as_str(), ledger.as_deref().unwrap_or("")] {
            for secret in SECRETS {
                assert!(!text.contains(secret), "{secret} was printed: {text}");
            }
        }
        Output {
            status: status.code().unwrap_or_else(|| -status.signal().unwrap()),
            stdout,
            stderr,
            ledger: ledger.map(|text| Ledger::parse(&text)),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Kills what is left of the group, such as an orphaned app or a stopped shipper.
        killpg(Pid::from_raw(self.pid()), Signal::SIGKILL).ok(); // usually the group is gone
        drop(self.child.wait());
    }
}

/// The exit status and the output of an agent that exited.
pub(crate) struct Output {
    /// Exit status; the negative signal number if a signal killed the agent.
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    ledger: Option<Ledger>,
}

impl Output {
    /// Standard output as text.
    pub(crate) fn stdout_text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Checks exit status, standard output and standard error.
    #[track_caller]
    pub(crate) fn assert_exit(&self, status: i32, stdout: &str, stderr: &str) {
        let stdout_text = self.stdout_text();
        assert_eq!((self.status, stdout_text.as_str(), self.stderr.as_str()), (status, stdout, stderr));
    }

    /// The lines on standard error that the agent wrote itself.
    pub(crate) fn messages(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("tailrace")).collect()
    }

    /// The final ledger.
    pub(crate) fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().unwrap_or_else(|| panic!("no ledger; standard error: {}", self.stderr))
    }

    /// Whether a ledger was written.
    pub(crate) fn has_ledger(&self) -> bool {
        self.ledger.is_some()
    }
}

/// The final ledger. Reading it checks the conservation law for every drain.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) captured: u64,
    /// Frames of the agent itself: samples, lifecycle lines, its own events.
    pub(crate) agent_frames: u64,
    pub(crate) drains: Vec<DrainAccount>,
    /// The whole document.
    pub(crate) value: Value,
}

/// The account of one drain, in lines unless the name says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct DrainAccount {
    pub(crate) delivered: u64,
    pub(crate) held: u64,
    pub(crate) dropped: u64,
    /// Dropped lines by reason.
    pub(crate) reasons: BTreeMap<String, u64>,
    pub(crate) rejected: u64,
    pub(crate) batches: u64,
    pub(crate) attempts: u64,
    pub(crate) adopted_frames: u64,
}

impl Ledger {
    fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap();
        let number =
            |value: &Value, key: &str| value[key].as_u64().unwrap_or_else(|| panic!("{key}: {text}"));
        let reasons = |drain: &Value| {
            let reasons = drain["dropped"].as_object().unwrap();
            reasons.iter().map(|(reason, lines)| (reason.clone(), lines.as_u64().unwrap())).collect()
        };
        let account = |drain: &Value| DrainAccount {
            delivered: number(drain, "delivered_lines"),
            held: number(drain, "held_lines"),
            dropped: number(drain, "dropped_lines"),
            reasons: reasons(drain),
            rejected: number(drain, "rejected_lines"),
            batches: number(drain, "batches"),
            attempts: number(drain, "attempts"),
            adopted_frames: number(drain, "adopted_frames"),
        };
        let drains: Vec<DrainAccount> = value["drains"].as_array().unwrap().iter().map(account).collect();
        let captured = number(&value, "captured_lines");
        for drain in &drains {
            let known = drain.delivered + drain.held + drain.dropped + drain.rejected;
            assert_eq!(captured, known, "the conservation law is violated: {text}");
            assert_eq!(
                drain.dropped,
                drain.reasons.values().sum::<u64>(),
                "the reasons do not add up to the dropped lines: {text}"
            );
            assert!(drain.batches <= drain.attempts, "{text}");
        }
        Self { captured, agent_frames: number(&value, "own_frames"), drains, value }
    }
}

/// The numbers of `range`, one per line.
pub(crate) fn numbers(range: RangeInclusive<u64>) -> String {
    range.fold(String::new(), |mut text, number| {
        writeln!(text, "{number}").unwrap();
        text
    })
}

/// The paths of all keys of a JSON object, such as `drains[].held_lines`; of arrays the first element's.
pub(crate) fn key_paths(value: &Value) -> BTreeSet<String> {
    fn add(value: &Value, prefix: &str, paths: &mut BTreeSet<String>) {
        if let Some(first) = value.as_array().and_then(|list| list.first()) {
            add(first, &format!("{prefix}[]"), paths);
        }
        for (key, inner) in value.as_object().into_iter().flatten() {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            add(inner, &path, paths);
            paths.insert(path);
        }
    }
    let mut paths = BTreeSet::new();
    add(value, "", &mut paths);
    paths
}

/// The keys in the tables of the JSON part of `buildpack/docs/events.md`: those of the ledger file, and those that
/// `status --json` has in addition.
pub(crate) fn documented_keys() -> [BTreeSet<String>; 2] {
    let (_, json) = include_str!("../../buildpack/docs/events.md").split_once("\n## JSON\n").unwrap();
    let tables: Vec<&str> = json.split("|---|---|\n").skip(1).collect();
    let [ledger, status] = tables[..] else { panic!("two tables of keys, not {}", tables.len()) };
    [ledger, status].map(|table| {
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let keys = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
        keys.map(str::to_owned).collect()
    })
}

/// The bytes of all files below `dir`, concatenated; empty if the directory does not exist.
pub(crate) fn contents(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        all.extend(if path.is_dir() { contents(&path) } else { fs::read(&path).unwrap_or_default() });
    }
    all
}
