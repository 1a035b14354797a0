//! Prepares a simulation: all parts but the dynos.

use crate::args::Args;
use crate::config_vars;
use crate::console::{Console, Source};
use crate::environment::{self, Metadata, uuid};
use crate::error::{SimulationError, context};
use crate::isolation::{self, Detected, Isolation};
use crate::ledger::Digest;
use crate::lifecycle::Role;
use crate::logplex::{Destination, Logplex};
use crate::platform::Generation;
use crate::procfile;
use crate::router::Backends;
use crate::simulation::{Parts, Simulation, copy_dir};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tailrace_drain::{Drain, Options};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Lines that the local drain keeps for its page.
const PAGE_LINES: usize = 200_000;

/// Digests of the lines that the local drain received from the agents, by dyno.
pub(crate) type ReceivedText = Arc<Mutex<BTreeMap<String, Digest>>>;

/// A prepared simulation.
pub(crate) struct Setup {
    pub(crate) simulation: Arc<Simulation>,
    pub(crate) drain: Option<Arc<Drain>>,
    /// The token of the platform's own drain.
    pub(crate) platform_token: String,
    pub(crate) received: ReceivedText,
    /// Delivers for the platform's own drain.
    pub(crate) logplex_task: Option<JoinHandle<()>>,
    pub(crate) backends: watch::Receiver<Backends>,
    /// Whether the app is one of the sample apps.
    pub(crate) is_sample_app: bool,
}

impl Setup {
    /// Prepares a simulation. Files go to `dir`.
    pub(crate) async fn prepare(args: &Args, console: Console, dir: &Path) -> Result<Self, SimulationError> {
        let app = args.app().map_err(|source| SimulationError::NoProcfile {
            path: args.app.clone().unwrap_or_default().join("Procfile"),
            source,
        })?;
        let mut args = args.clone();
        let path: io::Result<Vec<PathBuf>> = args.path.iter().map(std::path::absolute).collect();
        args.path = context("cannot find a directory of --path", path)?;
        let slug = prepare_slug(&args, &app, dir)?;
        if args.command.is_none() {
            formation(&args, &slug)?; // reports errors before anything is started
        }
        let vars = config_vars::collect(&app, std::env::vars_os(), &args.config);
        let config_vars = context("cannot read the config vars", vars)?;
        let isolation = choose_isolation(&args, &console, dir).await?;
        let platform_token = format!("d.{}", uuid());
        let received = ReceivedText::default();
        let drain = if args.drains.is_empty() {
            let has_page = !args.check && args.command.is_none();
            let options = drain_options(dir, &platform_token, &received, &console, has_page);
            Some(Arc::new(context("cannot start the drain", Drain::start(options))?))
        } else {
            None
        };
        if let Some(control) = drain.as_ref().and_then(|drain| drain.control()) {
            console.print(format!("       the drain's page: {control}\n")).await;
        }
        let has_logplex = drain.is_some() && args.generation == Generation::Cedar;
        let logplex = has_logplex.then(Arc::<Logplex>::default);
        let logplex_task = drain.as_ref().zip(logplex.clone()).map(|(drain, logplex)| {
            let (url, token, ca_file) = (drain.url(), platform_token.clone(), drain.ca_file().into());
            tokio::spawn(logplex.deliver(Destination { url, token, ca_file }))
        });
        let (sender, backends) = watch::channel(Backends::new());
        let simulation = Simulation::new(Parts {
            slug,
            config_vars,
            isolation,
            drain_url: drain.as_ref().map_or_else(|| args.drains.join(" "), |drain| drain.url()),
            drain: drain.clone(),
            dir: dir.to_owned(),
            app_name: environment::app_name(&app),
            metadata: Metadata::now(&app),
            console,
            logplex,
            backends: sender,
            args,
        });
        let is_sample_app = crate::sample_apps_dir().canonicalize().is_ok_and(|dir| app.starts_with(dir));
        let simulation = Arc::new(simulation);
        Ok(Self { simulation, drain, platform_token, received, logplex_task, backends, is_sample_app })
    }
}

/// Determines how dynos are isolated, and prints what that restricts.
async fn choose_isolation(args: &Args, console: &Console, dir: &Path) -> Result<Isolation, SimulationError> {
    let Detected { isolation, reasons } = if args.no_namespaces {
        Detected { isolation: Isolation::None, reasons: vec!["--no-namespaces".to_owned()] }
    } else {
        context("cannot make a dyno", isolation::detect(dir).await)?
    };
    if !isolation.has_root() {
        let reasons = reasons.join("; ");
        console
            .print(format!("       dynos are process groups of this system, not namespaces: {reasons}\n"))
            .await;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let inaccessible = isolation::inaccessible_dirs(&path);
    if isolation == Isolation::Root && !inaccessible.is_empty() {
        let dirs: Vec<String> = inaccessible.iter().map(|dir| dir.display().to_string()).collect();
        let dirs = dirs.join(", ");
        console.print(format!("       not accessible to the dynos' users, who are not root: {dirs}\n")).await;
    }
    Ok(isolation)
}

/// The dynos of the formation.
pub(crate) fn formation(args: &Args, slug: &Path) -> Result<Vec<Role>, SimulationError> {
    let path = slug.join("Procfile");
    let text = std::fs::read_to_string(&path)
        .map_err(|source| SimulationError::NoProcfile { path: path.clone(), source })?;
    let mut entries: BTreeMap<&str, &str> = BTreeMap::new();
    entries.extend(procfile::parse(&text));
    if entries.is_empty() {
        return Err(SimulationError::EmptyProcfile(path));
    }
    if let Some(name) = args.formation.keys().find(|name| !entries.contains_key(name.as_str())) {
        let known: Vec<&str> = entries.keys().copied().collect();
        return Err(SimulationError::UnknownProcessType { name: name.clone(), known: known.join(", ") });
    }
    let mut roles = Vec::new();
    for (name, command) in entries {
        let default = u32::from(args.formation.is_empty() && name != "release");
        let count = args.formation.get(name).copied().unwrap_or(default);
        roles.extend((1..=count).map(|number| Role {
            process_type: name.to_owned(),
            number,
            command: command.to_owned(),
        }));
    }
    if roles.is_empty() { Err(SimulationError::EmptyFormation) } else { Ok(roles) }
}

/// The app as the dynos run it. Without a slug from the buildpack, the app is copied and the agent is added where a
/// slug has it.
fn prepare_slug(args: &Args, app: &Path, dir: &Path) -> Result<PathBuf, SimulationError> {
    if let Some(slug) = &args.slug {
        return context("cannot find the slug", std::path::absolute(slug));
    }
    if !args.agent.is_file() {
        return Err(SimulationError::MissingProgram(args.agent.clone()));
    }
    let path = app.join("Procfile");
    if !path.is_file() {
        return Err(SimulationError::NoProcfile { path, source: io::ErrorKind::NotFound.into() });
    }
    let slug = dir.join("slug");
    let bin = slug.join(".tailrace/bin");
    context("cannot copy the app", copy_dir(app, &slug))?;
    context("cannot copy the agent", std::fs::create_dir_all(&bin))?;
    context("cannot copy the agent", std::fs::copy(&args.agent, bin.join("tailrace")))?;
    Ok(slug)
}

/// Options of the local drain. Its sink collects the digests of the app's lines, and prints the agent's lines.
fn drain_options(
    dir: &Path,
    platform_token: &str,
    received: &ReceivedText,
    console: &Console,
    has_page: bool,
) -> Options {
    let (received, console, token) = (Arc::clone(received), console.clone(), platform_token.to_owned());
    Options {
        dir: Some(dir.to_owned()),
        control: has_page.then(|| ([127, 0, 0, 1], 0).into()),
        keep: if has_page { PAGE_LINES } else { 1 }, // the sink is not called when no lines are kept
        platform: Some(platform_token.to_owned()),
        sink: Box::new(move |lines| {
            let from_agents = || lines.iter().filter(|line| line.token != token);
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            for line in from_agents().filter(|line| line.is_app) {
                received.entry(line.proc_id.clone()).or_default().add(&line.message);
            }
            drop(received);
            for line in from_agents().filter(|line| !line.is_app) {
                let source = Source { app: "tailrace", proc_id: &line.proc_id };
                console.try_print_log_line(source, &line.message);
            }
        }),
        ..Options::default()
    }
}
