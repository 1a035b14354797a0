//! What all dynos of a simulation share, and what is to be known of them from outside.

use crate::args::Args;
use crate::console::{Console, Source};
use crate::environment::{self, Environment, EnvironmentInputs, Metadata, uuid};
use crate::expected_loss::ExpectedLoss;
use crate::fault::{DynoFaultKind, Fault};
use crate::init::{Isolation, SHARED_DIR, Spec};
use crate::ledger::{OutputCounts, RunRecord};
use crate::logplex::Logplex;
use crate::output::{self, OutputSinks};
use crate::platform::Generation;
use crate::router::{Backends, State};
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
const LAYERS: &str = "/layers/tailrace_agent";
/// A `/tmp` that can be full, in bytes.
const SMALL_DISK: u64 = 16 << 20;

/// What a dyno is told from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// EndReason, for good.
    Stop,
    /// EndReason, and up again.
    Restart,
    /// An order to its first process.
    Order(String),
}

/// A dyno that runs.
#[derive(Clone, Debug)]
pub struct RunningDyno {
    /// Its name, which another may have, too, while it makes room.
    pub dyno: String,
    /// Its first process.
    pub pid: Pid,
    /// Where it is told.
    pub control: mpsc::Sender<Control>,
    /// It has a `/tmp` that can be filled.
    pub has_small_disk: bool,
}

/// A fault that struck a dyno.
#[derive(Clone, Debug)]
pub struct InjectedFault {
    /// The dyno, by the number of its start.
    pub number: u32,
    /// The same.
    pub live: RunningDyno,
    /// What.
    pub what: DynoFaultKind,
    /// The process that it concerns.
    pub target: Option<Pid>,
    /// It is not over yet.
    pub lasts: bool,
}

/// What all dynos share, and which of them there are.
#[derive(Debug)]
pub struct Simulation {
    parts: Parts,
    live: Mutex<BTreeMap<u32, RunningDyno>>,
    boots: Mutex<Vec<RunRecord>>,
    struck: Mutex<Vec<InjectedFault>>,
    refused: Mutex<Vec<String>>,
    has_small_disks: AtomicBool,
    number: Mutex<u32>,
    /// What a dyno's shell prints before the command.
    mark: String,
}

impl Deref for Simulation {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// Where a dyno is, and what it is started with.
#[derive(Debug)]
pub struct PreparedDyno {
    /// Which start of a dyno this is; they count from 1.
    pub number: u32,
    /// What surrounds it.
    pub spec: Spec,
    /// Where the spec is written.
    pub spec_file: PathBuf,
    /// The agent's ledger.
    pub ledger_file: PathBuf,
    /// `TAILRACE_MAX_LINE` and the like, as the agent will read them.
    pub config: tailrace::config::Config,
    dir: PathBuf,
}

impl Drop for PreparedDyno {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir)); // or with the simulation
    }
}

/// How a dyno is to be made.
#[derive(Clone, Debug)]
pub struct DynoOptions<'a> {
    /// Its name.
    pub dyno: &'a str,
    /// Where it shall listen.
    pub port: Option<u16>,
    /// The words of its command.
    pub command: Vec<OsString>,
    /// The agent is off in it.
    pub is_bare: bool,
    /// It has the caller's terminal.
    pub is_attached: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all dynos share.
#[derive(Debug)]
pub struct Parts {
    /// The options.
    pub args: Args,
    /// The app as it is built.
    pub slug: PathBuf,
    /// The app's name.
    pub app_name: String,
    /// What dynos are told of it.
    pub metadata: Metadata,
    /// Its config vars.
    pub config_vars: Environment,
    /// What a dyno can be surrounded by here.
    pub walls: Isolation,
    /// `TAILRACE_DRAIN_URL`.
    pub drain_url: String,
    /// The local drain.
    pub drain: Option<Arc<Drain>>,
    /// Directories of dynos.
    pub dir: PathBuf,
    /// People.
    pub screen: Console,
    /// The platform's own drain.
    pub logplex: Option<Arc<Logplex>>,
    /// Web dynos, for the router.
    pub backends: watch::Sender<Backends>,
}

impl Simulation {
    /// Without dynos.
    pub fn new(parts: Parts) -> Self {
        let has_small_disks = AtomicBool::new(parts.args.faults.iter().any(Fault::fills_the_disk));
        Self {
            parts,
            live: Mutex::default(),
            boots: Mutex::default(),
            struck: Mutex::default(),
            refused: Mutex::default(),
            has_small_disks,
            number: Mutex::default(),
            mark: format!("tailrace-dyno {}\n", uuid()),
        }
    }

    /// What a dyno's shell prints between the app's profile and the command; nothing where there is no profile.
    pub fn mark(&self) -> Option<&str> {
        let has_profile = self.args.slug.is_some() && self.args.generation == Generation::Cedar;
        has_profile.then_some(self.mark.as_str())
    }

    /// Reads one stream of a dyno to its end.
    pub fn read<P: AsyncRead + Unpin>(
        &self,
        pipe: P,
        place: &PreparedDyno,
        readers: OutputSinks,
    ) -> impl Future<Output = OutputCounts> + use<P> {
        let (mark, max_line) = (self.mark().map(str::to_owned), place.config.max_line);
        async move { output::read(pipe, max_line, mark.as_deref(), readers).await }
    }

    /// Whether dynos that start now have a `/tmp` that can be filled.
    pub fn has_small_disks(&self) -> bool {
        self.has_small_disks.load(Ordering::Relaxed)
    }

    /// From now on they have.
    pub fn make_small_disks(&self) {
        self.has_small_disks.store(true, Ordering::Relaxed);
    }

    /// The platform says something about a dyno.
    pub async fn say(&self, dyno: &str, message: &str) {
        if let Some(logplex) = &self.logplex {
            logplex.platform(dyno, message);
        }
        self.screen.line(Source::platform(dyno), message).await;
    }

    /// The simulation says something.
    pub async fn note(&self, message: &str) {
        self.screen.text(format!("       {message}\n")).await;
    }

    /// Who reads what a dyno prints.
    pub fn readers(&self, dyno: &str) -> OutputSinks {
        OutputSinks {
            dyno: dyno.to_owned(),
            screen: Some(self.screen.clone()),
            logplex: self.logplex.clone(),
        }
    }

    /// A web dyno's state, for the router; nothing when it is gone.
    pub fn set_backend(&self, dyno: &str, state: Option<State>) {
        self.backends.send_modify(|all| match state {
            Some(state) => drop(all.insert(dyno.to_owned(), state)),
            None => drop(all.remove(dyno)),
        });
    }

    /// The dynos that run, by the number of their start.
    pub fn live(&self) -> BTreeMap<u32, RunningDyno> {
        lock(&self.live).clone()
    }

    /// A dyno runs, or runs no more.
    pub fn set_live(&self, number: u32, live: Option<RunningDyno>) {
        let mut all = lock(&self.live);
        match live {
            Some(live) => drop(all.insert(number, live)),
            None => drop(all.remove(&number)),
        }
    }

    /// The faults that struck dynos, for who takes note of them or ends them.
    pub fn struck(&self) -> MutexGuard<'_, Vec<InjectedFault>> {
        lock(&self.struck)
    }

    /// A fault was not put in force.
    pub async fn refuse(&self, why: String) {
        self.note(&format!("fault: {why}")).await;
        lock(&self.refused).push(why);
    }

    /// The faults that were not put in force, and why.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.refused).clone()
    }

    /// What may be missing of a dyno that is at its end.
    pub fn excuse(&self, number: u32) -> ExpectedLoss {
        let mut excuse = ExpectedLoss::default();
        if let Some(drain) = &self.drain {
            excuse.receiver(drain.faults_in_force(), &drain.faults_so_far());
        }
        for struck in self.struck().iter().filter(|struck| struck.number == number) {
            excuse.strike(struck.what, struck.lasts);
        }
        excuse
    }

    /// A dyno has come to its end.
    pub fn add_boot(&self, boot: RunRecord) {
        lock(&self.boots).push(boot);
    }

    /// All that have.
    pub fn boots(&self) -> Vec<RunRecord> {
        lock(&self.boots).clone()
    }

    /// Makes the directories of a dyno.
    ///
    /// # Errors
    /// When the app cannot be copied, or a directory cannot be made.
    pub fn place(&self, wish: DynoOptions<'_>) -> io::Result<PreparedDyno> {
        let number = {
            let mut number = lock(&self.number);
            *number += 1;
            *number
        };
        let dir = self.dir.join(format!("{}.boot-{number}", wish.dyno));
        for name in ["root", "tmp", "out"] {
            fs::create_dir_all(dir.join(name))?;
        }
        fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        copy(&self.slug, &dir.join("app"))?;
        if let Some(drain) = &self.drain {
            fs::copy(drain.ca_file(), dir.join("out/ca.pem"))?;
        }
        let user = 20_000 + (std::process::id() % 30_000) + number % 1_000;
        if self.walls == Isolation::Root {
            own(&dir.join("app"), user)?;
            chown(dir.join("out"), Some(user), Some(user))?;
        }
        let has_root = self.walls.has_root();
        let seen = |inside: &str, part: &str| if has_root { PathBuf::from(inside) } else { dir.join(part) };
        let app_at = self.args.generation.app_dir();
        let (binds, path) = self.more_directories(has_root);
        let id = uuid();
        let caller_path = std::env::var_os("PATH");
        let site = EnvironmentInputs {
            generation: self.args.generation,
            dyno: wish.dyno,
            dyno_id: &id,
            app_name: &self.app_name,
            app: &seen(app_at, "app"),
            tmp: &seen("/tmp", "tmp"),
            port: wish.port,
            path: &path,
            caller_path: caller_path.as_deref(),
            exchange: &seen(SHARED_DIR, "out"),
            drain_url: &self.drain_url,
            is_local: self.drain.is_some(),
            quota: (!has_root || self.args.generation == Generation::Fir).then_some(self.args.size.memory()),
            grace: self.args.limits.grace(),
            metadata: self.args.metadata.then_some(&self.metadata),
        };
        let mut vars = environment::environment(&site, &self.config_vars);
        if wish.is_bare {
            vars.insert("TAILRACE".into(), "off".into());
        }
        let (config, _for_the_agent_to_tell) = tailrace::config::Config::from_env(vars.clone());
        let spec = Spec {
            walls: self.walls,
            is_first: self.args.generation == Generation::Fir,
            app_at: app_at.into(),
            binds,
            user,
            processes: self.args.size.processes,
            limit_file: (self.args.generation == Generation::Cedar).then_some(self.args.size.memory()),
            disk: self.has_small_disks().then_some(SMALL_DISK),
            host: id,
            environment: vars.into_iter().collect(),
            command: wish.command,
            is_attached: wish.is_attached,
            dir: dir.clone(),
        };
        let (spec_file, ledger_file) = (dir.join("spec.json"), dir.join("out/ledger.json"));
        Ok(PreparedDyno { number, spec, spec_file, ledger_file, config, dir })
    }

    /// Directories that a dyno has beside the app, here and there, and those of them that go in front of PATH.
    fn more_directories(&self, has_root: bool) -> (Vec<(PathBuf, PathBuf)>, Vec<PathBuf>) {
        let (mut binds, mut path) = (Vec::new(), Vec::new());
        for (index, dir) in self.args.path.iter().enumerate() {
            let there = Path::new(SHARED_DIR).join(format!("path-{index}"));
            path.push(if has_root { there.clone() } else { dir.clone() });
            binds.push((dir.clone(), there));
        }
        if let Some(layers) = &self.args.layers {
            path.push(if has_root { Path::new(LAYERS).join("agent/bin") } else { layers.join("agent/bin") });
            binds.push((layers.clone(), LAYERS.into()));
        }
        (binds, path)
    }
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
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

/// Gives a directory to a user, with all that is in it.
fn own(path: &Path, user: u32) -> io::Result<()> {
    lchown(path, Some(user), Some(user))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            own(&entry.path(), user)?;
        } else {
            lchown(entry.path(), Some(user), Some(user))?;
        }
    }
    Ok(())
}
