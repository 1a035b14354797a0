//! A dyno's life, as the platform has it: started, watched, stopped, restarted.

mod run;

use crate::dyno;
use crate::ledger::{Ledger, RunEnd};
use crate::platform::Generation;
use crate::port;
use crate::router::State;
use crate::simulation::{Control, DynoOptions, PreparedDyno, Simulation};
use run::Run;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How often it is looked whether the app listens.
const LOOK: Duration = Duration::from_millis(50);
/// How often the agent's memory is looked at.
const WEIGH: Duration = Duration::from_millis(500);
/// Before the second restart after a crash; the first is at once (Dev Center, "Dyno crash restart policy").
const COOL: Duration = Duration::from_secs(10);

/// Which dyno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its process type.
    pub process_type: String,
    /// Its number among those of its type.
    pub number: u32,
    /// The Procfile's line.
    pub command: String,
}

impl Role {
    /// Whether requests are for it.
    pub fn is_web(&self) -> bool {
        self.process_type == "web"
    }
}

/// How a dyno is doing, for who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not up for the first time yet.
    Booting,
    /// It has been up.
    Up,
    /// Its life is over.
    Over,
}

/// Why a dyno is not watched any more.
enum EndReason {
    /// It is to stop.
    Stop,
    /// It is to make room for another.
    Restart,
    /// By itself, having been up or not.
    Crashed(RunEnd, bool),
}

struct Lifecycle {
    world: Arc<Simulation>,
    role: Role,
    controls: mpsc::Receiver<Control>,
    sender: mpsc::Sender<Control>,
    phase: watch::Sender<Phase>,
}

/// Lives a dyno's life in a task of its own. Returns where it is told, and how it is doing.
pub fn start(
    world: Arc<Simulation>,
    role: Role,
) -> (mpsc::Sender<Control>, watch::Receiver<Phase>, JoinHandle<io::Result<()>>) {
    let (sender, controls) = mpsc::channel(16);
    let (phase, watched) = watch::channel(Phase::Booting);
    let life = Lifecycle { world, role, controls, sender: sender.clone(), phase };
    let task = tokio::spawn(async move {
        let mut life = life;
        let mut leaving = Vec::new();
        let lived = life.live(&mut leaving).await;
        life.phase.send_replace(Phase::Over);
        for old in leaving {
            let _gone_one_way_or_another: Result<(), _> = old.await;
        }
        lived
    });
    (sender, watched, task)
}

impl Lifecycle {
    /// All its boots. Those that make room stop in tasks of their own, which go to `leaving`.
    async fn live(&mut self, leaving: &mut Vec<JoinHandle<()>>) -> io::Result<()> {
        let mut crashes = 0;
        let mut old: Option<Run> = None;
        loop {
            let name = self.world.args.generation.dyno_name(&self.role.process_type, self.role.number);
            self.set_backend(&name, Some(State::Starting));
            let started = Run::start(&self.world, &self.role, name, &self.sender).await;
            // The new one starts before the old one is told (seen in 2026): for a while both log under one name.
            if let Some(old) = old.take() {
                if started.as_ref().is_ok_and(|new| new.name != old.name) {
                    self.set_backend(&old.name, None);
                }
                leaving.push(tokio::spawn(old.make_room()));
            }
            let mut run = started?;
            match self.watch(&mut run).await {
                EndReason::Stop => {
                    self.set_backend(&run.name, None);
                    run.stop().await;
                    return Ok(());
                }
                EndReason::Restart => {
                    run.say("Restarting").await;
                    run.say("State changed from up to starting").await;
                    old = Some(run);
                }
                EndReason::Crashed(ending, was_up) => {
                    let name = run.name.clone();
                    self.set_backend(&name, Some(State::Crashed));
                    run.crash(ending, was_up).await;
                    // It would not be up the next time either.
                    if !was_up || !self.cool(crashes).await {
                        return Ok(());
                    }
                    crashes += 1;
                    self.world.say(&name, "State changed from crashed to starting").await;
                    self.set_backend(&name, None);
                }
            }
        }
    }

    /// Waits before a restart; false when the dyno is to stop.
    async fn cool(&mut self, crashes: u32) -> bool {
        let until = sleep(COOL * crashes);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return true,
                control = self.controls.recv() => match control {
                    Some(Control::Restart) => return true,
                    Some(Control::Order(_)) => {}
                    Some(Control::Stop) | None => return false,
                },
            }
        }
    }

    fn set_backend(&self, name: &str, state: Option<State>) {
        if self.role.is_web() {
            self.world.set_backend(name, state);
        }
    }

    /// From the start of its processes to the moment when it comes down or is to.
    async fn watch(&mut self, run: &mut Run) -> EndReason {
        let limits = self.world.args.limits;
        let up = listening(run.port);
        tokio::pin!(up);
        let patience = sleep(limits.boot);
        tokio::pin!(patience);
        let mut is_up = false;
        let mut weigh = tokio::time::interval(WEIGH);
        loop {
            tokio::select! {
                status = run.exited() => {
                    let ending = if is_up { RunEnd::Exited(status) } else { RunEnd::Died(status) };
                    return EndReason::Crashed(ending, is_up);
                }
                () = &mut up, if !is_up => {
                    is_up = true;
                    run.say("State changed from starting to up").await;
                    if let Some(port) = run.port {
                        self.set_backend(&run.name, Some(State::Up(port)));
                    }
                    self.phase.send_replace(Phase::Up);
                }
                () = &mut patience, if !is_up => {
                    let seconds = limits.boot.as_secs_f64();
                    run.say(&format!(
                        "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within {seconds} seconds of launch"
                    )).await;
                    run.say("Stopping process with SIGKILL").await;
                    return EndReason::Crashed(RunEnd::BootTimeout, false);
                }
                _ = weigh.tick() => run.weigh(),
                control = self.controls.recv() => match control {
                    Some(Control::Order(order)) => run.order(&order).await,
                    Some(Control::Restart) => return EndReason::Restart,
                    Some(Control::Stop) | None => return EndReason::Stop,
                },
            }
        }
    }
}

/// How a line of the Procfile is started. An app that no buildpack has prepared runs under the agent's own shell.
pub fn command_words(world: &Simulation, line: &str) -> Vec<OsString> {
    if world.args.slug.is_none() {
        return [".tailrace/bin/tailrace", "run", "--shell", line].map(OsString::from).to_vec();
    }
    dyno::words(line.as_ref(), world.args.generation == Generation::Cedar, world.mark())
}

fn read_ledger(path: &Path) -> Result<Ledger, String> {
    let text = fs::read_to_string(path).map_err(|_| "the agent wrote none".to_owned())?;
    serde_json::from_str(&text).map_err(|error| format!("what the agent wrote is none: {error}"))
}

/// Waits until somebody listens; a dyno without a port is up at once.
async fn listening(port: Option<u16>) {
    while port.is_some_and(|port| !port::is_taken(port)) {
        sleep(LOOK).await;
    }
}

/// A place for a dyno that is not one of the formation.
///
/// # Errors
/// As [`Simulation::place`].
pub fn aside(world: &Simulation, name: &str, port: Option<u16>, line: &str) -> io::Result<PreparedDyno> {
    let command = command_words(world, line);
    world.place(DynoOptions { dyno: name, port, command, is_bare: true, is_attached: false })
}
