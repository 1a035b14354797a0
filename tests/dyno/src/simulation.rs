//! The state that all dynos of a simulation share.

use crate::args::Args;
use crate::console::{Console, Source};
use crate::environment::{self, Environment, EnvironmentInputs, Metadata, uuid};
use crate::expected_loss::ExpectedLoss;
use crate::fault::{DynoFaultKind, Fault};
use crate::init::{BindMount, InitCommand, SHARED_DIR, Spec};
use crate::isolation::Isolation;
use crate::ledger::{OutputCounts, RunRecord};
use crate::logplex::Logplex;
use crate::output::{self, OutputSinks};
use crate::platform::Generation;
use crate::router::{BackendState, Backends};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tailrace_drain::Drain;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, watch};

/// The buildpack's layers in a dyno of Fir.
const LAYERS_DIR: &str = "/layers/tailrace_agent";
/// Size of a `/tmp` that can be filled, in bytes.
const SMALL_DISK_BYTES: u64 = 16 << 20;

/// A command to the lifecycle of a dyno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynoCommand {
    /// Stop for good.
    Stop,
    /// Stop, and start again.
    Restart,
    /// Pass a command to the dyno's init process.
    Init(InitCommand),
}

/// A running dyno.
#[derive(Clone, Debug)]
pub struct RunningDyno {
    /// Its name. During a restart two running dynos have the same name.
    pub dyno: String,
    /// Its outer init process.
    pub pid: Pid,
    /// Takes commands.
    pub commands: mpsc::Sender<DynoCommand>,
    /// Whether its `/tmp` can be filled.
    pub has_small_disk: bool,
}

/// A fault that was injected into a dyno.
#[derive(Clone, Debug)]
pub struct InjectedFault {
    /// The dyno's run number.
    pub number: u32,
    /// The dyno.
    pub dyno: RunningDyno,
    /// What goes wrong.
    pub kind: DynoFaultKind,
    /// The process that got a signal.
    pub target: Option<Pid>,
    /// Whether the fault is in force.
    pub is_active: bool,
}

/// The shared state of a simulation.
#[derive(Debug)]
pub struct Simulation {
    parts: Parts,
    running: Mutex<BTreeMap<u32, RunningDyno>>,
    runs: Mutex<Vec<RunRecord>>,
    injected_faults: Mutex<Vec<InjectedFault>>,
    rejected_faults: Mutex<Vec<String>>,
    uses_small_disks: AtomicBool,
    last_number: Mutex<u32>,
    /// Printed by a dyno's shell between the app's profile and the command.
    profile_marker: String,
}

impl Deref for Simulation {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// A dyno whose directories exist, ready to be started. Dropping it removes the directories.
#[derive(Debug)]
pub struct PreparedDyno {
    /// Run number: counts all starts of dynos, from 1.
    pub number: u32,
    /// What to start, and in which surroundings.
    pub spec: Spec,
    /// Where the spec is passed to the init process.
    pub spec_file: PathBuf,
    /// The agent's ledger.
    pub ledger_file: PathBuf,
    /// The agent's configuration, as it will read it from the dyno's environment.
    pub config: tailrace::config::Config,
    dir: PathBuf,
}

impl Drop for PreparedDyno {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok(); // otherwise removed with the simulation's directory
    }
}

/// Whether a dyno has the caller's terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalMode {
    /// It has pipes.
    Detached,
    /// It has the caller's standard streams.
    Attached,
}

/// Options of a dyno.
#[derive(Clone, Debug)]
pub struct DynoOptions<'a> {
    /// Its name.
    pub dyno: &'a str,
    /// `$PORT`.
    pub port: Option<u16>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Turns the agent off.
    pub without_agent: bool,
    /// Whether it has the caller's terminal.
    pub terminal: TerminalMode,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The constant parts of the shared state.
#[derive(Debug)]
pub struct Parts {
    /// The options.
    pub args: Args,
    /// The app as it was built.
    pub slug: PathBuf,
    /// The app's name.
    pub app_name: String,
    /// The app's metadata for the environment.
    pub metadata: Metadata,
    /// The app's config vars.
    pub config_vars: Environment,
    /// How dynos are isolated.
    pub isolation: Isolation,
    /// `TAILRACE_DRAIN_URL`.
    pub drain_url: String,
    /// The local drain; `None` with `--drain`.
    pub drain: Option<Arc<Drain>>,
    /// Parent of the dynos' directories.
    pub dir: PathBuf,
    /// Prints the log stream.
    pub console: Console,
    /// The platform's own drain (Cedar).
    pub logplex: Option<Arc<Logplex>>,
    /// The states of the web dynos, for the router.
    pub backends: watch::Sender<Backends>,
}

impl Simulation {
    /// A simulation without dynos.
    pub fn new(parts: Parts) -> Self {
        let uses_small_disks = AtomicBool::new(parts.args.faults.iter().any(Fault::fills_disk));
        Self {
            parts,
            running: Mutex::default(),
            runs: Mutex::default(),
            injected_faults: Mutex::default(),
            rejected_faults: Mutex::default(),
            uses_small_disks,
            last_number: Mutex::default(),
            profile_marker: format!("tailrace-dyno {}\n", uuid()),
        }
    }

    /// What a dyno's shell prints between the app's profile and the command; `None` where there is no profile.
    pub fn profile_marker(&self) -> Option<&str> {
        let has_profile = self.args.slug.is_some() && self.args.generation == Generation::Cedar;
        has_profile.then_some(self.profile_marker.as_str())
    }

    /// Reads one output stream of a dyno to its end.
    pub fn read_output<P: AsyncRead + Unpin>(
        &self,
        pipe: P,
        dyno: &PreparedDyno,
        sinks: OutputSinks,
    ) -> impl Future<Output = OutputCounts> + use<P> {
        let (marker, max_line) = (self.profile_marker().map(str::to_owned), dyno.config.max_line);
        async move { output::read(pipe, max_line, marker.as_deref(), sinks).await }
    }

    /// Whether dynos that start now have a `/tmp` that can be filled.
    pub fn uses_small_disks(&self) -> bool {
        self.uses_small_disks.load(Ordering::Relaxed)
    }

    /// Gives dynos that start from now on a `/tmp` that can be filled.
    pub fn use_small_disks(&self) {
        self.uses_small_disks.store(true, Ordering::Relaxed);
    }

    /// Prints a line of the platform about a dyno; it goes to the platform's own drain too.
    pub async fn log(&self, dyno: &str, message: &str) {
        if let Some(logplex) = &self.logplex {
            logplex.add_platform_line(dyno, message);
        }
        self.console.print_log_line(Source::platform(dyno), message).await;
    }

    /// Prints a message of the simulation itself.
    pub async fn note(&self, message: &str) {
        self.console.print(format!("       {message}\n")).await;
    }

    /// Where the output of a dyno of the formation goes.
    pub fn output_sinks(&self, dyno: &str) -> OutputSinks {
        OutputSinks {
            dyno: dyno.to_owned(),
            console: Some(self.console.clone()),
            logplex: self.logplex.clone(),
        }
    }

    /// Sets the state of a web dyno for the router; `None` removes it.
    pub fn set_backend(&self, dyno: &str, state: Option<BackendState>) {
        self.backends.send_modify(|all| match state {
            Some(state) => drop(all.insert(dyno.to_owned(), state)),
            None => drop(all.remove(dyno)),
        });
    }

    /// The running dynos, by run number.
    pub fn running(&self) -> BTreeMap<u32, RunningDyno> {
        lock(&self.running).clone()
    }

    /// Adds a running dyno; `None` removes it.
    pub fn set_running(&self, number: u32, dyno: Option<RunningDyno>) {
        let mut all = lock(&self.running);
        match dyno {
            Some(dyno) => drop(all.insert(number, dyno)),
            None => drop(all.remove(&number)),
        }
    }

    /// The faults that were injected into dynos.
    pub fn injected_faults(&self) -> MutexGuard<'_, Vec<InjectedFault>> {
        lock(&self.injected_faults)
    }

    /// Records and prints why a fault was not injected.
    pub async fn reject_fault(&self, reason: String) {
        self.note(&format!("fault: {reason}")).await;
        lock(&self.rejected_faults).push(reason);
    }

    /// The faults that were not injected, and why.
    pub fn rejected_faults(&self) -> Vec<String> {
        lock(&self.rejected_faults).clone()
    }

    /// The losses that injected faults explain for a run that ends now.
    pub fn expected_loss(&self, number: u32) -> ExpectedLoss {
        let mut expected = ExpectedLoss::default();
        if let Some(drain) = &self.drain {
            expected.add_receiver_faults(drain.faults_in_force(), &drain.faults_so_far());
        }
        for fault in self.injected_faults().iter().filter(|fault| fault.number == number) {
            if fault.is_active {
                expected.add_active_fault(fault.kind);
            } else {
                expected.add_ended_fault(fault.kind);
            }
        }
        expected
    }

    /// Adds a run that has ended.
    pub fn add_run(&self, run: RunRecord) {
        lock(&self.runs).push(run);
    }

    /// The runs that have ended.
    pub fn runs(&self) -> Vec<RunRecord> {
        lock(&self.runs).clone()
    }

    /// Creates the directories of a dyno, and determines its environment.
    ///
    /// # Errors
    /// When the app cannot be copied, or a directory cannot be created.
    pub fn prepare_dyno(&self, options: DynoOptions<'_>) -> io::Result<PreparedDyno> {
        let number = {
            let mut number = lock(&self.last_number);
            *number += 1;
            *number
        };
        let dir = self.dir.join(format!("{}.run-{number}", options.dyno));
        let user = 20_000 + (std::process::id() % 30_000) + number % 1_000;
        self.create_dirs(&dir, user)?;
        let id = uuid();
        let (mounts, path) = self.extra_mounts();
        let vars = self.dyno_environment(&options, &id, &dir, &path);
        let (config, _warnings) = tailrace::config::Config::from_env(vars.clone()); // the agent prints the warnings
        let spec = Spec {
            isolation: self.isolation,
            app_is_pid1: self.args.generation == Generation::Fir,
            app_dir: self.args.generation.app_dir().into(),
            mounts,
            user,
            process_limit: self.args.size.processes,
            memory_limit: (self.args.generation == Generation::Cedar).then_some(self.args.size.memory()),
            tmp_size: self.uses_small_disks().then_some(SMALL_DISK_BYTES),
            hostname: id,
            environment: vars.into_iter().collect(),
            command: options.command,
            is_attached: options.terminal == TerminalMode::Attached,
            dir: dir.clone(),
        };
        let (spec_file, ledger_file) = (dir.join("spec.json"), dir.join("out/ledger.json"));
        Ok(PreparedDyno { number, spec, spec_file, ledger_file, config, dir })
    }

    /// Creates the directories of a dyno, with a copy of the app.
    fn create_dirs(&self, dir: &Path, user: u32) -> io::Result<()> {
        for name in ["root", "tmp", "out"] {
            fs::create_dir_all(dir.join(name))?;
        }
        fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        copy_dir(&self.slug, &dir.join("app"))?;
        if let Some(drain) = &self.drain {
            fs::copy(drain.ca_file(), dir.join("out/ca.pem"))?;
        }
        if self.isolation == Isolation::Root {
            chown_recursive(&dir.join("app"), user)?;
            chown(dir.join("out"), Some(user), Some(user))?;
        }
        Ok(())
    }

    fn dyno_environment(
        &self,
        options: &DynoOptions<'_>,
        id: &str,
        dir: &Path,
        path: &[PathBuf],
    ) -> Environment {
        let has_root = self.isolation.has_root();
        let visible =
            |inside: &str, part: &str| if has_root { PathBuf::from(inside) } else { dir.join(part) };
        let caller_path = std::env::var_os("PATH");
        let needs_quota = !has_root || self.args.generation == Generation::Fir;
        let inputs = EnvironmentInputs {
            generation: self.args.generation,
            dyno: options.dyno,
            dyno_id: id,
            app_name: &self.app_name,
            app: &visible(self.args.generation.app_dir(), "app"),
            tmp: &visible("/tmp", "tmp"),
            port: options.port,
            path,
            caller_path: caller_path.as_deref(),
            shared_dir: &visible(SHARED_DIR, "out"),
            drain_url: &self.drain_url,
            is_local_drain: self.drain.is_some(),
            memory_quota: needs_quota.then_some(self.args.size.memory()),
            stop_grace: self.args.limits.stop_grace(),
            metadata: self.args.metadata.then_some(&self.metadata),
        };
        let mut vars = environment::environment(&inputs, &self.config_vars);
        if options.without_agent {
            vars.insert("TAILRACE".into(), "off".into());
        }
        vars
    }

    /// Directories that are mounted beside the app, and those of them that go in front of PATH.
    fn extra_mounts(&self) -> (Vec<BindMount>, Vec<PathBuf>) {
        let has_root = self.isolation.has_root();
        let (mut mounts, mut path) = (Vec::new(), Vec::new());
        for (index, dir) in self.args.path.iter().enumerate() {
            let target = Path::new(SHARED_DIR).join(format!("path-{index}"));
            path.push(if has_root { target.clone() } else { dir.clone() });
            mounts.push(BindMount { source: dir.clone(), target });
        }
        if let Some(layers) = &self.args.layers {
            let visible = if has_root { Path::new(LAYERS_DIR) } else { layers };
            path.push(visible.join("agent/bin"));
            mounts.push(BindMount { source: layers.clone(), target: LAYERS_DIR.into() });
        }
        (mounts, path)
    }
}

/// Copies a directory with its content and permissions.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    let output = Command::new("cp")
        .args(["-a", "--reflink=auto", "--"])
        .arg(from)
        .arg(to)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()))
}

/// Changes the owner of a directory and its content.
fn chown_recursive(path: &Path, user: u32) -> io::Result<()> {
    lchown(path, Some(user), Some(user))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            chown_recursive(&entry.path(), user)?;
        } else {
            lchown(entry.path(), Some(user), Some(user))?;
        }
    }
    Ok(())
}
