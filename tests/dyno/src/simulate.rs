//! Runs one simulation from start to end.

use crate::args::Args;
use crate::commands::{self, Command};
use crate::console::Console;
use crate::dyno::{Dyno, StartedDyno};
use crate::error::{SimulationError, context};
use crate::lifecycle::{self, DynoHandle, Phase, Role};
use crate::output::OutputSinks;
use crate::report::Outcome;
use crate::router::{BackendState, Router, RouterOptions};
use crate::setup::{self, Setup};
use crate::simulation::{DynoCommand, PreparedDyno, RunningDyno, Simulation};
use crate::traffic::{self, ComparedPorts, Comparison, SharedComparison};
use crate::verdict::Observations;
use crate::{fault_injection, port};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// How long the platform's own drain may take to deliver the rest.
const LOGPLEX_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of the checks whether the baseline dyno listens.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Name of the baseline dyno.
const BASELINE: &str = "web.0";

/// A web dyno that runs without the agent, to compare response times.
struct BaselineDyno {
    dyno: Dyno,
    port: u16,
    _prepared: PreparedDyno,
}

/// Runs the app until `--for` is over, all dynos have ended, or `stop` changes. Files go to `dir`.
///
/// # Errors
/// [`SimulationError`] when a part of it cannot be started.
pub async fn simulate(
    args: &Args,
    console: Console,
    mut stop: watch::Receiver<u32>,
    dir: &Path,
) -> Result<Outcome, SimulationError> {
    let started = Instant::now();
    let setup = Setup::prepare(args, console, dir).await?;
    let roles = setup::formation(args, &setup.simulation.slug)?;
    let simulation = Arc::clone(&setup.simulation);
    let router = start_router(&setup, args).await?;
    let plan = traffic::TrafficPlan::new(args, setup.is_sample_app);
    if args.formation.contains_key("web") || roles.iter().any(Role::is_web) {
        let hint = if plan.rate > 0.0 { "" } else { " (--traffic 5 sends it five requests a second)" };
        simulation.note(&format!("the app: http://{}{hint}", router.address())).await;
    }
    simulation.log("api", "Release v1 created by user simulation@localhost").await;
    let web = roles.iter().find(|role| role.is_web()).cloned();
    let dynos: Vec<DynoHandle> =
        roles.into_iter().map(|role| lifecycle::start(Arc::clone(&simulation), role)).collect();
    let baseline = match web.as_ref().filter(|_| args.compare) {
        Some(role) => {
            Some(context("cannot start the dyno to compare with", BaselineDyno::start(&simulation, role))?)
        }
        None => None,
    };
    let comparison = SharedComparison::default();
    let traffic = Traffic { router: &router, plan, comparison: &comparison };
    setup.run_until_stopped(&dynos, baseline.as_ref(), traffic, &mut stop).await;
    for dyno in &dynos {
        dyno.commands.send(DynoCommand::Stop).await.ok(); // fails when the dyno has ended
    }
    for dyno in dynos {
        let ended = dyno.task.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        context("cannot run a dyno", ended)?;
    }
    drop(baseline);
    if let Some(logplex) = &simulation.logplex {
        logplex.wait_until_idle(LOGPLEX_TIMEOUT).await;
    }
    let requests = router.requests();
    let comparison: Comparison = comparison.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let platform_messages =
        simulation.logplex.as_ref().map(|logplex| logplex.message_counts()).unwrap_or_default();
    let observations = setup.observations();
    Ok(Outcome { observations, requests, comparison, platform_messages, duration: started.elapsed() })
}

async fn start_router(setup: &Setup, args: &Args) -> Result<Router, SimulationError> {
    let simulation = &setup.simulation;
    let router = Router::start(RouterOptions {
        port: args.port,
        app_name: &simulation.app_name,
        request_timeout: args.limits.request,
        backends: setup.backends.clone(),
        console: simulation.console.clone(),
        logplex: simulation.logplex.clone(),
    });
    context("cannot start the router", router.await)
}

impl BaselineDyno {
    fn start(simulation: &Simulation, role: &Role) -> io::Result<Self> {
        let port = port::find_free()?;
        let prepared = lifecycle::prepare_baseline(simulation, BASELINE, port, &role.command)?;
        let StartedDyno { dyno, stdout, stderr } = Dyno::start(&prepared.spec, &prepared.spec_file)?;
        let sinks = OutputSinks { dyno: BASELINE.to_owned(), console: None, logplex: None };
        drop(tokio::spawn(simulation.read_output(stdout, &prepared, sinks.clone())));
        drop(tokio::spawn(simulation.read_output(stderr, &prepared, sinks)));
        Ok(Self { dyno, port, _prepared: prepared })
    }

    async fn wait_until_up(&self) {
        while !port::is_listening(self.port) {
            sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for BaselineDyno {
    fn drop(&mut self) {
        if let Some(pid) = self.dyno.pid() {
            crate::process::kill_tree(pid);
        }
    }
}

/// The requests to send, and where.
struct Traffic<'a> {
    router: &'a Router,
    plan: traffic::TrafficPlan,
    comparison: &'a SharedComparison,
}

impl Setup {
    /// Runs from the start of the dynos until they are to be stopped.
    async fn run_until_stopped(
        &self,
        dynos: &[DynoHandle],
        baseline: Option<&BaselineDyno>,
        traffic: Traffic<'_>,
        stop: &mut watch::Receiver<u32>,
    ) {
        let Traffic { router, mut plan, comparison } = traffic;
        let simulation = &self.simulation;
        let console = simulation.console.clone();
        let stopped = async {
            tokio::select! {
                _ = stop.changed() => {}
                () = console.closed() => {}
            }
        };
        tokio::pin!(stopped);
        tokio::select! {
            all_up = wait_until_up(dynos) => if !all_up { return },
            () = &mut stopped => return,
        }
        if let Some(baseline) = baseline {
            let up = timeout(simulation.args.limits.boot, baseline.wait_until_up());
            tokio::select! {
                _up_or_timed_out = up => {}
                () = &mut stopped => return,
            }
        }
        fault_injection::inject(simulation, &simulation.args.faults).await;
        let ports = || self.compared_ports(baseline?);
        // Without a web dyno, requests are sent only with --traffic.
        let has_web = !self.backends.borrow().is_empty();
        if !has_web && simulation.args.traffic.is_none() {
            plan.rate = 0.0;
        }
        let mut commands = (!simulation.args.check).then(commands::stdin_lines);
        let requests = traffic::run(router.address(), plan, ports, Arc::clone(comparison));
        let all_ended = wait_until_ended(dynos);
        let time_over = sleep(simulation.args.run_for.unwrap_or(Duration::MAX));
        tokio::pin!(requests, all_ended, time_over);
        loop {
            tokio::select! {
                () = &mut requests => {}
                () = &mut all_ended => return,
                () = &mut time_over => return,
                () = &mut stopped => return,
                line = next_line(&mut commands) => match commands::parse(&line) {
                    Ok(Some(Command::Stop)) => return,
                    Ok(Some(command)) => self.execute(command).await,
                    Ok(None) => {}
                    Err(error) => simulation.note(&error).await,
                },
            }
        }
    }

    /// The ports of a dyno that is up and of the baseline dyno.
    fn compared_ports(&self, baseline: &BaselineDyno) -> Option<ComparedPorts> {
        let backends = self.backends.borrow();
        let with_agent = backends.values().find_map(|state| match state {
            BackendState::Up(port) => Some(*port),
            _ => None,
        })?;
        Some(ComparedPorts { with_agent, without_agent: baseline.port })
    }

    /// Executes a typed command.
    async fn execute(&self, command: Command) {
        let simulation = &self.simulation;
        match command {
            Command::Fault(faults) => fault_injection::inject(simulation, &faults).await,
            Command::Heal => fault_injection::heal(simulation).await,
            Command::Restart(name) => {
                let mut dynos: Vec<RunningDyno> = simulation.running().into_values().collect();
                dynos.retain(|running| name.as_ref().is_none_or(|name| *name == running.dyno));
                if dynos.is_empty() {
                    simulation.note("restart: no such dyno is running").await;
                }
                for dyno in dynos {
                    dyno.commands.send(DynoCommand::Restart).await.ok(); // fails when the dyno has ended
                }
            }
            Command::Help | Command::Stop => simulation.note(commands::HELP).await,
        }
    }

    /// Collects what the verdict is based on.
    fn observations(self) -> Observations {
        if let Some(task) = self.logplex_task {
            task.abort();
        }
        Observations {
            runs: self.simulation.runs(),
            drain: self.drain.as_ref().map(|drain| drain.report()),
            received: self.received.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            platform_token: self.platform_token,
            rejected_faults: self.simulation.rejected_faults(),
            limits: self.simulation.args.limits,
        }
    }
}

/// The next typed line; pending forever without standard input or at its end.
async fn next_line(commands: &mut Option<mpsc::Receiver<String>>) -> String {
    if let Some(lines) = commands {
        if let Some(line) = lines.recv().await {
            return line;
        }
        *commands = None;
    }
    std::future::pending().await
}

/// Waits until every dyno has been up, or one has ended before that; returns whether all have been up.
async fn wait_until_up(dynos: &[DynoHandle]) -> bool {
    for dyno in dynos {
        let mut phase = dyno.phase.clone();
        let is_up =
            phase.wait_for(|phase| *phase != Phase::Booting).await.is_ok_and(|phase| *phase == Phase::Up);
        if !is_up {
            return false;
        }
    }
    true
}

/// Waits until every dyno has ended for good.
async fn wait_until_ended(dynos: &[DynoHandle]) {
    for dyno in dynos {
        let mut phase = dyno.phase.clone();
        drop(phase.wait_for(|phase| *phase == Phase::Ended).await); // an error too means that it has ended
    }
}
