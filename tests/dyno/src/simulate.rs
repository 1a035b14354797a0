//! One simulation from its start to its end.

use crate::args::Args;
use crate::commands::{self, Command};
use crate::console::{Console, Source};
use crate::dyno::Dyno;
use crate::environment::{self, Metadata, uuid};
use crate::error::{SimulationError, step};
use crate::ledger::Digest;
use crate::lifecycle::{self, Phase, Role};
use crate::logplex::Logplex;
use crate::output::OutputSinks;
use crate::platform::Generation;
use crate::report::Outcome;
use crate::router::{Backends, Router, State};
use crate::simulation::{Control, Parts, PreparedDyno, RunningDyno, Simulation};
use crate::traffic::{self, Comparison, Times};
use crate::verdict::Observations;
use crate::{config_vars, fault_injection, isolation, port, procfile};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tailrace_drain::{Drain, Options};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What the platform's drain is left for its last batches.
const LAST: Duration = Duration::from_secs(5);
/// How often it is looked whether an app listens.
const LOOK: Duration = Duration::from_millis(50);
/// Lines that the local drain keeps for its page.
const KEPT: usize = 200_000;

/// A dyno of the formation, and how it is told.
struct DynoHandle {
    control: mpsc::Sender<Control>,
    phase: watch::Receiver<Phase>,
    task: JoinHandle<io::Result<()>>,
}

/// A web dyno that runs without the agent.
struct BaselineDyno {
    dyno: Dyno,
    port: u16,
    _place: PreparedDyno,
}

/// All that a simulation has beside its dynos.
pub(crate) struct Setup {
    pub(crate) world: Arc<Simulation>,
    drain: Option<Arc<Drain>>,
    platform: String,
    arrived: Arc<Mutex<BTreeMap<String, Digest>>>,
    deliver: Option<JoinHandle<()>>,
    backends: watch::Receiver<Backends>,
    /// The app is one of ours.
    is_sample: bool,
}

/// Runs the app until its time is up, it ends by itself, or `stop` says so. Files go to `dir`.
///
/// # Errors
/// [`SimulationError`] when it cannot begin.
pub async fn simulate(
    args: &Args,
    screen: Console,
    mut stop: watch::Receiver<u32>,
    dir: &Path,
) -> Result<Outcome, SimulationError> {
    let begun = Instant::now();
    let stage = Setup::prepare(args, screen, dir).await?;
    let roles = roles(args, &stage.world.slug)?;
    let world = Arc::clone(&stage.world);
    let logplex = world.logplex.clone();
    let router = Router::start(
        args.port,
        &world.app_name,
        args.limits.answer,
        stage.backends.clone(),
        world.screen.clone(),
        logplex.clone(),
    );
    let router = step("cannot start the router", router.await)?;
    let plan = traffic::Plan::of(args, stage.is_sample);
    if args.formation.contains_key("web") || roles.iter().any(Role::is_web) {
        let hint = if plan.rate > 0.0 { "" } else { " (--traffic 5 asks it five times a second)" };
        world.note(&format!("the app: http://{}{hint}", router.address())).await;
    }
    world.say("api", "Release v1 created by user simulation@localhost").await;
    let web = roles.iter().find(|role| role.is_web()).cloned();
    let mut members: Vec<DynoHandle> = roles
        .into_iter()
        .map(|role| {
            let (control, phase, task) = lifecycle::start(Arc::clone(&world), role);
            DynoHandle { control, phase, task }
        })
        .collect();
    let bare = match web.as_ref().filter(|_| args.compare) {
        Some(role) => Some(step("cannot start the dyno to compare with", BaselineDyno::start(&world, role))?),
        None => None,
    };
    let times = Times::default();
    stage.play(&mut members, bare.as_ref(), &router, (plan, &times), &mut stop).await;
    for member in &members {
        drop(member.control.send(Control::Stop).await); // one that is over needs no word
    }
    for member in members {
        let ended = member.task.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        step("cannot run a dyno", ended)?;
    }
    drop(bare);
    if let Some(logplex) = &logplex {
        logplex.rest(LAST).await;
    }
    let requests = router.requests();
    let comparison: Comparison = times.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let taken = logplex.map(|logplex| logplex.taken()).unwrap_or_default();
    Ok(Outcome { evidence: stage.evidence(), requests, comparison, taken, took: begun.elapsed() })
}

/// The dynos of the formation.
fn roles(args: &Args, slug: &Path) -> Result<Vec<Role>, SimulationError> {
    let path = slug.join("Procfile");
    let text =
        std::fs::read_to_string(&path).map_err(|error| SimulationError::NoProcfile(path.clone(), error))?;
    let mut entries: BTreeMap<&str, &str> = BTreeMap::new();
    entries.extend(procfile::parse(&text));
    if entries.is_empty() {
        return Err(SimulationError::NoEntry(path));
    }
    if let Some(name) = args.formation.keys().find(|name| !entries.contains_key(name.as_str())) {
        let known: Vec<&str> = entries.keys().copied().collect();
        return Err(SimulationError::NoType(name.clone(), known.join(", ")));
    }
    let mut roles = Vec::new();
    for (name, command) in entries {
        let one = u32::from(args.formation.is_empty() && name != "release");
        let count = args.formation.get(name).copied().unwrap_or(one);
        roles.extend((1..=count).map(|number| Role {
            process_type: name.to_owned(),
            number,
            command: command.to_owned(),
        }));
    }
    if roles.is_empty() { Err(SimulationError::NoDyno) } else { Ok(roles) }
}

impl BaselineDyno {
    fn start(world: &Simulation, role: &Role) -> io::Result<Self> {
        let port = port::free()?;
        let place = lifecycle::aside(world, "web.0", Some(port), &role.command)?;
        let (dyno, out, err) = Dyno::start(&place.spec, &place.spec_file)?;
        let readers = OutputSinks { dyno: "web.0".to_owned(), screen: None, logplex: None };
        drop(tokio::spawn(world.read(out, &place, readers.clone())));
        drop(tokio::spawn(world.read(err, &place, readers)));
        Ok(Self { dyno, port, _place: place })
    }

    async fn up(&self) {
        while !port::is_taken(self.port) {
            sleep(LOOK).await;
        }
    }
}

impl Drop for BaselineDyno {
    fn drop(&mut self) {
        if let Some(pid) = self.dyno.pid() {
            crate::process::kill_family(pid);
        }
    }
}

impl Setup {
    /// Prepares all but the dynos.
    pub(crate) async fn prepare(args: &Args, screen: Console, dir: &Path) -> Result<Self, SimulationError> {
        let app = args.app().map_err(|error| {
            SimulationError::NoProcfile(args.app.clone().unwrap_or_default().join("Procfile"), error)
        })?;
        let mut args = args.clone();
        let path: io::Result<Vec<PathBuf>> = args.path.iter().map(std::path::absolute).collect();
        args.path = step("cannot find a directory of --path", path)?;
        let slug = slug(&args, &app, dir)?;
        if args.command.is_none() {
            roles(&args, &slug)?; // before anything is said
        }
        let vars = config_vars::gather(&app, std::env::vars_os(), &args.config);
        let vars = step("cannot read the config vars", vars)?;
        let (walls, reasons) = if args.open {
            (crate::init::Isolation::None, vec!["--no-namespaces".to_owned()])
        } else {
            step("cannot make a dyno", isolation::find(dir).await)?
        };
        if !walls.has_root() {
            screen
                .text(format!(
                    "       dynos are process groups of this system, not namespaces: {}\n",
                    reasons.join("; ")
                ))
                .await;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        if walls == crate::init::Isolation::Root
            && let private = isolation::private(&path)
            && !private.is_empty()
        {
            let private: Vec<String> = private.iter().map(|dir| dir.display().to_string()).collect();
            let list = private.join(", ");
            screen.text(format!("       not for a dyno's user, who is not root: {list}\n")).await;
        }
        let platform = format!("d.{}", uuid());
        let arrived = Arc::default();
        let drain = args
            .drains
            .is_empty()
            .then(|| start_drain(dir, &platform, &arrived, &screen, !args.check && args.command.is_none()))
            .transpose();
        let drain = step("cannot start the drain", drain)?.map(Arc::new);
        if let Some(control) = drain.as_ref().and_then(|drain| drain.control()) {
            screen.text(format!("       the drain's page: {control}\n")).await;
        }
        let logplex = (drain.is_some() && args.generation == Generation::Cedar).then(Arc::<Logplex>::default);
        let deliver = drain.as_ref().zip(logplex.clone()).map(|(drain, logplex)| {
            tokio::spawn(logplex.deliver(drain.url(), platform.clone(), drain.ca_file().into()))
        });
        let (sender, backends) = watch::channel(Backends::new());
        let world = Simulation::new(Parts {
            slug,
            config_vars: vars,
            walls,
            drain_url: drain.as_ref().map_or_else(|| args.drains.join(" "), |drain| drain.url()),
            drain: drain.clone(),
            dir: dir.to_owned(),
            app_name: environment::app_name(&app),
            metadata: Metadata::now(&app),
            screen,
            logplex,
            backends: sender,
            args,
        });
        let is_sample = crate::samples().canonicalize().is_ok_and(|samples| app.starts_with(samples));
        Ok(Self { world: Arc::new(world), drain, platform, arrived, deliver, backends, is_sample })
    }

    /// From the start of the dynos to the moment when they are to stop.
    async fn play(
        &self,
        members: &mut [DynoHandle],
        bare: Option<&BaselineDyno>,
        router: &Router,
        (mut plan, times): (traffic::Plan, &Times),
        stop: &mut watch::Receiver<u32>,
    ) {
        let world = &self.world;
        let screen = world.screen.clone();
        let stopped = async {
            tokio::select! {
                _ = stop.changed() => {}
                () = screen.gone() => {}
            }
        };
        tokio::pin!(stopped);
        tokio::select! {
            all_up = booted(members) => if !all_up { return },
            () = &mut stopped => return,
        }
        if let Some(bare) = bare {
            let up = timeout(world.args.limits.boot, bare.up());
            tokio::select! {
                _up_or_late = up => {}
                () = &mut stopped => return,
            }
        }
        fault_injection::apply(world, &world.args.faults).await;
        let ports = || {
            let backends = self.backends.borrow();
            let with = backends.values().find_map(|state| match state {
                State::Up(port) => Some(*port),
                _ => None,
            });
            with.zip(bare.map(|bare| bare.port))
        };
        // Without a web dyno only who says how much is asked means it.
        let has_web = !self.backends.borrow().is_empty();
        if !has_web && world.args.traffic.is_none() {
            plan.rate = 0.0;
        }
        let mut typed = (!world.args.check).then(commands::typed);
        let traffic = traffic::run(router.address(), plan, ports, Arc::clone(times));
        let over = over(members);
        let late = sleep(world.args.run_for.unwrap_or(Duration::MAX));
        tokio::pin!(traffic, over, late);
        loop {
            tokio::select! {
                () = &mut traffic => {}
                () = &mut over => return,
                () = &mut late => return,
                () = &mut stopped => return,
                line = next(&mut typed) => match commands::parse(&line) {
                    Ok(Some(Command::Stop)) => return,
                    Ok(Some(command)) => self.obey(command).await,
                    Ok(None) => {}
                    Err(error) => world.note(&error).await,
                },
            }
        }
    }

    /// Does what was typed.
    async fn obey(&self, command: Command) {
        let world = &self.world;
        match command {
            Command::Fault(faults) => fault_injection::apply(world, &faults).await,
            Command::Heal => fault_injection::heal(world).await,
            Command::Restart(name) => {
                let mut chosen: Vec<RunningDyno> = world.live().into_values().collect();
                chosen.retain(|live| name.as_ref().is_none_or(|name| *name == live.dyno));
                if chosen.is_empty() {
                    world.note("restart: no such dyno runs").await;
                }
                for live in chosen {
                    drop(live.control.send(Control::Restart).await);
                }
            }
            Command::Help | Command::Stop => world.note(commands::HELP).await,
        }
    }

    /// Collects the evidence.
    fn evidence(self) -> Observations {
        if let Some(deliver) = self.deliver {
            deliver.abort();
        }
        Observations {
            boots: self.world.boots(),
            drain: self.drain.as_ref().map(|drain| drain.report()),
            arrived: self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            platform: self.platform,
            refused: self.world.refused(),
            limits: self.world.args.limits,
        }
    }
}

/// The next line that is typed; never, when nobody types.
async fn next(typed: &mut Option<mpsc::Receiver<String>>) -> String {
    if let Some(lines) = typed {
        if let Some(line) = lines.recv().await {
            return line;
        }
        *typed = None;
    }
    std::future::pending().await
}

/// Waits until every dyno is up, or one is over before that: whether all are.
async fn booted(members: &[DynoHandle]) -> bool {
    for member in members {
        let mut phase = member.phase.clone();
        let is_up =
            phase.wait_for(|phase| *phase != Phase::Booting).await.is_ok_and(|phase| *phase == Phase::Up);
        if !is_up {
            return false;
        }
    }
    true
}

/// Waits until no dyno lives any more.
async fn over(members: &[DynoHandle]) {
    for member in members {
        let mut phase = member.phase.clone();
        let _gone_is_over_too = phase.wait_for(|phase| *phase == Phase::Over).await.is_ok();
    }
}

/// The app as it is to run. One that no buildpack has prepared gets the agent where a slug has it.
fn slug(args: &Args, app: &Path, dir: &Path) -> Result<PathBuf, SimulationError> {
    if let Some(slug) = &args.slug {
        return step("cannot find the slug", std::path::absolute(slug));
    }
    if !args.agent.is_file() {
        return Err(SimulationError::NoProgram(args.agent.clone()));
    }
    let path = app.join("Procfile");
    if !path.is_file() {
        return Err(SimulationError::NoProcfile(path, io::ErrorKind::NotFound.into()));
    }
    let slug = dir.join("slug");
    let bin = slug.join(".tailrace/bin");
    step("cannot copy the app", crate::simulation::copy(app, &slug))?;
    step("cannot copy the agent", std::fs::create_dir_all(&bin))?;
    step("cannot copy the agent", std::fs::copy(&args.agent, bin.join("tailrace")))?;
    Ok(slug)
}

fn start_drain(
    dir: &Path,
    platform: &str,
    arrived: &Arc<Mutex<BTreeMap<String, Digest>>>,
    screen: &Console,
    has_page: bool,
) -> io::Result<Drain> {
    let (arrived, screen, token) = (Arc::clone(arrived), screen.clone(), platform.to_owned());
    Drain::start(Options {
        dir: Some(dir.to_owned()),
        control: has_page.then(|| ([127, 0, 0, 1], 0).into()),
        keep: if has_page { KEPT } else { 1 }, // `sink` gets nothing when nothing is kept
        platform: Some(platform.to_owned()),
        sink: Box::new(move |lines| {
            let ours = || lines.iter().filter(|line| line.token != token);
            let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
            for line in ours().filter(|line| line.is_app) {
                arrived.entry(line.proc_id.clone()).or_default().add(&line.message);
            }
            drop(arrived);
            for line in ours().filter(|line| !line.is_app) {
                screen.try_line(Source { app: "tailrace", proc_id: &line.proc_id }, &line.message);
            }
        }),
        ..Options::default()
    })
}
