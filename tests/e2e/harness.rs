//! A drain, a place for the files, and agents that are started against them, watched, and never left behind.

use crate::procfs;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
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
use tailrace_drain::tally::Report;
use tailrace_drain::{Drain, Options};
use tempfile::TempDir;

/// How long anything may take that is not measured: a machine under load is slow, not broken.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// What must never be shown: user and password of the drain's URL (plain, and as Basic carries them), the last
/// segment of its path, its query, and the value of an extra header.
const SECRETS: [&str; 6] =
    ["s3cret-user", "s3cret-word", "czNjcmV0LXVzZXI6", "LOCAL-SECRET", "s3cret-query", "s3cret-header"];

/// Waits until there is something; panics when that takes too long.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("TAILRACE_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_tailrace").into()).into()
}

/// A drain, and the settings that lead to it.
pub(crate) struct Rig {
    pub(crate) drain: Drain,
    dir: TempDir,
    settings: BTreeMap<String, String>,
    runs: AtomicU32,
}

impl Rig {
    /// A drain that takes everything.
    pub(crate) fn new() -> Self {
        Self::on(Options::default())
    }

    /// A drain with these faults from the start.
    pub(crate) fn with_faults(faults: &str) -> Self {
        let rig = Self::new();
        rig.drain.set_faults(faults).unwrap();
        rig
    }

    /// A drain that is set up like this.
    pub(crate) fn on(options: Options) -> Self {
        // In the build directory: on a disk, where the spool may take what its setting says.
        Self::within(TempDir::with_prefix_in("path-", env!("CARGO_TARGET_TMPDIR")).unwrap(), options)
    }

    /// The same, with its files in `dir`.
    pub(crate) fn within(dir: TempDir, options: Options) -> Self {
        let drain = Drain::start(options).unwrap();
        let mut rig = Self { drain, dir, settings: BTreeMap::new(), runs: AtomicU32::new(0) };
        fs::create_dir(rig.path("tmp")).unwrap();
        for (name, value) in [
            ("PATH", std::env::var("PATH").unwrap()),
            ("TMPDIR", rig.path("tmp").display().to_string()),
            ("DYNO", "web.1".to_owned()),
            ("TAILRACE_APP", "path".to_owned()),
            ("TAILRACE_DRAIN_URL", secret_url(&rig.drain)),
            ("TAILRACE_CA_FILE", rig.drain.ca_file().display().to_string()),
            ("TAILRACE_SPOOL_DIR", rig.spool().display().to_string()),
            ("TAILRACE_HEADER_X_KEY", "s3cret-header".to_owned()),
        ] {
            rig.settings.insert(name.to_owned(), value);
        }
        rig
    }

    /// The same with a setting of its own.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// The same without that setting.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// The same with options behind the drain's URL.
    pub(crate) fn option(self, fragment: &str) -> Self {
        let url = format!("{}#{fragment}", secret_url(&self.drain));
        self.set("TAILRACE_DRAIN_URL", &url)
    }

    /// All settings.
    pub(crate) fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// A path among the files of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the spools are.
    pub(crate) fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    /// Whether no agent left anything to deliver.
    pub(crate) fn is_spool_empty(&self) -> bool {
        fs::read_dir(self.spool()).unwrap().next().is_none()
    }

    /// Starts `tailrace run -- WORDS`.
    pub(crate) fn run(&self, words: &[&str]) -> Agent {
        self.start(&[&["run", "--"], words].concat())
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

    /// Starts `tailrace ARGUMENTS` through another program, whose words come first.
    pub(crate) fn through(&self, words: &[&str], arguments: &[&str]) -> Agent {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(program()).args(arguments);
        self.launch(command, |_| {})
    }

    /// Starts these words, which end with the program or a copy of it, and the arguments.
    pub(crate) fn plain(&self, words: &[&str], arguments: &[&str]) -> Agent {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(arguments);
        self.launch(command, |_| {})
    }

    /// The same, prepared by the caller.
    pub(crate) fn start_with(&self, prepare: impl FnOnce(&mut Command)) -> Agent {
        self.launch(Command::new(program()), prepare)
    }

    fn launch(&self, mut command: Command, prepare: impl FnOnce(&mut Command)) -> Agent {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let files = |what: &str| self.path(&format!("{number}.{what}"));
        let (out, err, ledger) = (files("out"), files("err"), files("ledger"));
        command
            .env_clear()
            .envs(&self.settings)
            .env("TAILRACE_LEDGER_FILE", &ledger)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        Agent { child, input, out, err, ledger }
    }

    /// What the drain saw, which must be without fault.
    pub(crate) fn report(&self) -> Report {
        let report = self.drain.report();
        conforms(&report);
        report
    }

    /// Waits until the drain has `lines` lines.
    pub(crate) fn wait_lines(&self, lines: u64) {
        let arrived = self.drain.wait_until(PATIENCE, |report| report.lines >= lines);
        assert!(arrived, "{lines} lines did not come: {:?}", self.drain.report());
    }

    /// The account of the one drain, after the ledger and the drain were found to agree on the lines.
    pub(crate) fn agree(&self, end: &End) -> Account {
        let account = end.ledger().drains[0].clone();
        let report = self.report();
        assert_eq!(account.delivered, report.lines, "ledger and drain: {account:?}, {report:?}");
        account
    }

    /// Of `lines` lines, all were delivered, once.
    pub(crate) fn all_delivered(&self, end: &End, lines: u64) {
        let account = self.agree(end);
        assert_eq!((end.ledger().captured, account.delivered), (lines, lines), "{account:?}");
        assert!(self.is_spool_empty(), "nothing is left to deliver, so nothing is left");
    }
}

/// The drain's URL with all the secrets that a URL can have.
fn secret_url(drain: &Drain) -> String {
    format!("{}?key=s3cret-query", drain.url().replacen("//", "//s3cret-user:s3cret-word@", 1))
}

/// The drain has nothing to complain about, in any of its personalities.
pub(crate) fn conforms(report: &Report) {
    let told = format!("{report:?}");
    assert_eq!(report.conformance.len(), 4, "{told}");
    assert!(report.conformance.values().all(|complaints| complaints.errors == 0), "{told}");
    let faults = (report.malformed, report.changed_bodies, report.count_mismatches, report.out_of_order);
    assert_eq!(faults, (0, 0, 0, 0), "{told}");
}

/// Numbered lines from 1 to `last` came once, in order.
pub(crate) fn in_order(report: &Report, last: u64) {
    let sequence = &report.sequence["web.1"];
    assert_eq!((sequence.first, sequence.last, sequence.count), (Some(1), Some(last), last), "{sequence:?}");
    assert_eq!((sequence.backward, sequence.missing), (0, 0), "{sequence:?}");
}

/// A running `tailrace`, in a process group of its own.
pub(crate) struct Agent {
    child: Child,
    /// Its standard input, until it is closed.
    pub(crate) input: Option<ChildStdin>,
    out: PathBuf,
    err: PathBuf,
    ledger: PathBuf,
}

impl Agent {
    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The process of its shipper, once there is one.
    pub(crate) fn shipper(&self) -> i32 {
        wait_for("a shipper", || procfs::shipper_of(self.pid()))
    }

    /// Writes to its standard input.
    pub(crate) fn feed(&mut self, text: impl AsRef<[u8]>) {
        self.input.as_mut().unwrap().write_all(text.as_ref()).unwrap();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Sends a signal to it, its shipper and its app alike.
    pub(crate) fn signal_all(&self, signal: Signal) {
        killpg(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// The ledger as it is by now, once there is one.
    pub(crate) fn ledger_text(&self) -> Option<String> {
        fs::read_to_string(&self.ledger).ok().filter(|text| text.ends_with("}\n"))
    }

    /// What stands on its standard output by now.
    pub(crate) fn out(&self) -> Vec<u8> {
        fs::read(&self.out).unwrap()
    }

    /// What stands on its standard error by now.
    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap()).into_owned()
    }

    /// Waits until that holds `text`.
    pub(crate) fn wait_out(&self, text: &str) {
        wait_for(&format!("{text:?} on standard output"), || {
            String::from_utf8_lossy(&self.out()).contains(text).then_some(())
        });
    }

    /// Waits until it says a line with all of `words`, and returns that.
    pub(crate) fn wait_said(&self, words: &[&str]) -> String {
        wait_for(&format!("{words:?} on standard error"), || {
            let err = self.err();
            let mut whole = err.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            whole.find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        })
    }

    /// Closes its standard input, waits for its end, and looks for secrets in everything that it left.
    pub(crate) fn end(mut self) -> End {
        drop(self.input.take());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {}", self.err());
            thread::sleep(Duration::from_millis(5));
        };
        // Where files may not have a byte, it is there and empty.
        let ledger = fs::read_to_string(&self.ledger).ok().filter(|text| !text.is_empty());
        let (out, err) = (self.out(), self.err());
        for text in [&String::from_utf8_lossy(&out), err.as_str(), ledger.as_deref().unwrap_or("")] {
            for secret in SECRETS {
                assert!(!text.contains(secret), "{secret} is shown: {text}");
            }
        }
        End {
            status: status.code().unwrap_or_else(|| -status.signal().unwrap()),
            out,
            err,
            ledger: ledger.map(|text| Ledger::parse(&text)),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Whatever is left in its group: an app that was orphaned, a shipper that was stopped.
        let _nobody_left = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        drop(self.child.wait());
    }
}

/// What is left of an agent that ended.
pub(crate) struct End {
    /// Exit status; the negative number of the signal that killed it.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) out: Vec<u8>,
    /// Standard error.
    pub(crate) err: String,
    ledger: Option<Ledger>,
}

impl End {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    /// The lines that the agent itself said.
    pub(crate) fn said(&self) -> Vec<&str> {
        self.err.lines().filter(|line| line.starts_with("tailrace")).collect()
    }

    /// The final ledger, which balances.
    pub(crate) fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().unwrap_or_else(|| panic!("no ledger; standard error: {}", self.err))
    }

    /// Whether there is a ledger.
    pub(crate) fn has_ledger(&self) -> bool {
        self.ledger.is_some()
    }
}

/// The final ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) captured: u64,
    pub(crate) own_frames: u64,
    pub(crate) drains: Vec<Account>,
    pub(crate) value: Value,
}

/// What it says of one drain.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) delivered: u64,
    pub(crate) held: u64,
    pub(crate) dropped: u64,
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
        let account = |drain: &Value| Account {
            delivered: number(drain, "delivered_lines"),
            held: number(drain, "held_lines"),
            dropped: number(drain, "dropped_lines"),
            reasons: reasons(drain),
            rejected: number(drain, "rejected_lines"),
            batches: number(drain, "batches"),
            attempts: number(drain, "attempts"),
            adopted_frames: number(drain, "adopted_frames"),
        };
        let drains: Vec<Account> = value["drains"].as_array().unwrap().iter().map(account).collect();
        let captured = number(&value, "captured_lines");
        for drain in &drains {
            let known = drain.delivered + drain.held + drain.dropped + drain.rejected;
            assert_eq!(captured, known, "the law of conservation: {text}");
            assert_eq!(
                drain.dropped,
                drain.reasons.values().sum::<u64>(),
                "each drop has its reason: {text}"
            );
            assert!(drain.batches <= drain.attempts, "{text}");
        }
        Self { captured, own_frames: number(&value, "own_frames"), drains, value }
    }
}

/// The lines `1` up to `last`, or another stretch of the same.
pub(crate) fn numbers(range: RangeInclusive<u64>) -> String {
    range.fold(String::new(), |mut text, number| {
        writeln!(text, "{number}").unwrap();
        text
    })
}

/// Bytes of the files below `dir`, joined; nothing while there is none.
pub(crate) fn contents(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        all.extend(if path.is_dir() { contents(&path) } else { fs::read(&path).unwrap_or_default() });
    }
    all
}
