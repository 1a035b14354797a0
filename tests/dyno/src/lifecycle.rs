//! The lifecycle of a dyno as the platform manages it: started, monitored, stopped, restarted.

mod run;

use crate::dyno::{self, ShellProfile};
use crate::ledger::{Ledger, RunEnd};
use crate::platform::Generation;
use crate::port;
use crate::router::BackendState;
use crate::simulation::{DynoCommand, DynoOptions, PreparedDyno, Simulation, TerminalMode};
use run::DynoRun;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Interval of the checks whether the app listens.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Interval of the samples of the agent's memory.
const MEMORY_SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
/// Delay before the second restart after a crash, and its multiple before later ones; the first restart is immediate
/// (Dev Center, "Dyno crash restart policy").
const RESTART_BACKOFF: Duration = Duration::from_secs(10);

/// A dyno of the formation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The process type.
    pub process_type: String,
    /// Its number among the dynos of this type, from 1.
    pub number: u32,
    /// The command of the Procfile.
    pub command: String,
}

impl Role {
    /// Whether the router sends requests to it.
    pub fn is_web(&self) -> bool {
        self.process_type == "web"
    }
}

/// Where a dyno is in its lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not yet up for the first time.
    Booting,
    /// It has been up at least once.
    Up,
    /// It has ended for good.
    Ended,
}

/// A dyno that was started, with all its restarts.
#[derive(Debug)]
pub struct DynoHandle {
    /// Takes commands.
    pub commands: mpsc::Sender<DynoCommand>,
    /// The current phase.
    pub phase: watch::Receiver<Phase>,
    /// Ends when the dyno has ended for good.
    pub task: JoinHandle<io::Result<()>>,
}

/// Why monitoring a run ended.
enum StopReason {
    /// A stop was requested.
    Stop,
    /// A restart was requested.
    Restart,
    /// The run ended, or has to, without a request.
    Crashed { end: RunEnd, was_up: bool },
}

struct Lifecycle {
    simulation: Arc<Simulation>,
    role: Role,
    commands: mpsc::Receiver<DynoCommand>,
    sender: mpsc::Sender<DynoCommand>,
    phase: watch::Sender<Phase>,
}

/// Starts a dyno, whose lifecycle runs in a task of its own.
pub fn start(simulation: Arc<Simulation>, role: Role) -> DynoHandle {
    let (sender, commands) = mpsc::channel(16);
    let (phase, phase_receiver) = watch::channel(Phase::Booting);
    let mut lifecycle = Lifecycle { simulation, role, commands, sender: sender.clone(), phase };
    let task = tokio::spawn(async move {
        let mut stopping = Vec::new();
        let result = lifecycle.run(&mut stopping).await;
        lifecycle.phase.send_replace(Phase::Ended);
        for replaced in stopping {
            replaced.await.ok(); // a panic in the task has been printed
        }
        result
    });
    DynoHandle { commands: sender, phase: phase_receiver, task }
}

impl Lifecycle {
    /// Runs the dyno, restarts included. Replaced runs stop in tasks of their own, which are added to `stopping`.
    async fn run(&mut self, stopping: &mut Vec<JoinHandle<()>>) -> io::Result<()> {
        let mut crashes = 0;
        let mut replaced: Option<DynoRun> = None;
        loop {
            let name = self.simulation.args.generation.dyno_name(&self.role.process_type, self.role.number);
            self.set_backend(&name, Some(BackendState::Starting));
            let started = DynoRun::start(&self.simulation, &self.role, name, &self.sender).await;
            // The platform starts the new run before it stops the old one (observed in 2026): for a while both log
            // under one name.
            if let Some(old) = replaced.take() {
                if started.as_ref().is_ok_and(|new| new.name != old.name) {
                    self.set_backend(&old.name, None);
                }
                stopping.push(tokio::spawn(old.stop_replaced()));
            }
            let mut run = started?;
            match self.monitor(&mut run).await {
                StopReason::Stop => {
                    self.set_backend(&run.name, None);
                    run.stop().await;
                    return Ok(());
                }
                StopReason::Restart => {
                    run.log("Restarting").await;
                    run.log("State changed from up to starting").await;
                    replaced = Some(run);
                }
                StopReason::Crashed { end, was_up } => {
                    let name = run.name.clone();
                    self.set_backend(&name, Some(BackendState::Crashed));
                    run.finish_crashed(end, was_up).await;
                    // An app that never came up is not restarted here: it would fail again.
                    if !was_up || !self.wait_before_restart(crashes).await {
                        return Ok(());
                    }
                    crashes += 1;
                    self.simulation.log(&name, "State changed from crashed to starting").await;
                    self.set_backend(&name, None);
                }
            }
        }
    }

    /// Waits before a restart; false when a stop was requested.
    async fn wait_before_restart(&mut self, crashes: u32) -> bool {
        let backoff = sleep(RESTART_BACKOFF * crashes);
        tokio::pin!(backoff);
        loop {
            tokio::select! {
                () = &mut backoff => return true,
                command = self.commands.recv() => match command {
                    Some(DynoCommand::Restart) => return true,
                    Some(DynoCommand::Init(_)) => {}
                    Some(DynoCommand::Stop) | None => return false,
                },
            }
        }
    }

    fn set_backend(&self, name: &str, state: Option<BackendState>) {
        if self.role.is_web() {
            self.simulation.set_backend(name, state);
        }
    }

    /// Monitors a run from the start of its processes until it ends, or has to be stopped.
    async fn monitor(&mut self, run: &mut DynoRun) -> StopReason {
        let limits = self.simulation.args.limits;
        let up = wait_for_listener(run.port);
        let boot_timeout = sleep(limits.boot);
        tokio::pin!(up, boot_timeout);
        let mut is_up = false;
        let mut memory_samples = tokio::time::interval(MEMORY_SAMPLE_INTERVAL);
        loop {
            tokio::select! {
                status = run.wait() => {
                    let end = if is_up { RunEnd::Exited(status) } else { RunEnd::ExitedBeforeUp(status) };
                    return StopReason::Crashed { end, was_up: is_up };
                }
                () = &mut up, if !is_up => {
                    is_up = true;
                    run.log("State changed from starting to up").await;
                    if let Some(port) = run.port {
                        self.set_backend(&run.name, Some(BackendState::Up(port)));
                    }
                    self.phase.send_replace(Phase::Up);
                }
                () = &mut boot_timeout, if !is_up => {
                    let seconds = limits.boot.as_secs_f64();
                    run.log(&format!(
                        "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within {seconds} seconds of launch"
                    )).await;
                    run.log("Stopping process with SIGKILL").await;
                    return StopReason::Crashed { end: RunEnd::BootTimeout, was_up: false };
                }
                _ = memory_samples.tick() => run.sample_memory(),
                command = self.commands.recv() => match command {
                    Some(DynoCommand::Init(command)) => run.send(command).await,
                    Some(DynoCommand::Restart) => return StopReason::Restart,
                    Some(DynoCommand::Stop) | None => return StopReason::Stop,
                },
            }
        }
    }
}

/// The arguments that start a command of the Procfile. An app that no buildpack has prepared runs under the agent's
/// `--shell`.
pub fn start_command(simulation: &Simulation, line: &str) -> Vec<OsString> {
    if simulation.args.slug.is_none() {
        return [".tailrace/bin/tailrace", "run", "--shell", line].map(OsString::from).to_vec();
    }
    let profile = match simulation.args.generation {
        Generation::Cedar => ShellProfile::Sourced { marker: simulation.profile_marker() },
        Generation::Fir => ShellProfile::Skipped,
    };
    dyno::shell_command(line.as_ref(), profile)
}

fn read_ledger(path: &Path) -> Result<Ledger, String> {
    let text = fs::read_to_string(path).map_err(|_| "the agent did not write one".to_owned())?;
    serde_json::from_str(&text).map_err(|error| format!("the agent's file cannot be parsed: {error}"))
}

/// Waits until a process listens on the port; a dyno without a port is up at once.
async fn wait_for_listener(port: Option<u16>) {
    while port.is_some_and(|port| !port::is_listening(port)) {
        sleep(POLL_INTERVAL).await;
    }
}

/// Prepares a dyno that runs without the agent and is not part of the formation.
///
/// # Errors
/// As [`Simulation::prepare_dyno`].
pub fn prepare_baseline(
    simulation: &Simulation,
    name: &str,
    port: u16,
    line: &str,
) -> io::Result<PreparedDyno> {
    simulation.prepare_dyno(DynoOptions {
        dyno: name,
        port: Some(port),
        command: start_command(simulation, line),
        without_agent: true,
        terminal: TerminalMode::Detached,
    })
}
