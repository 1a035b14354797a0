//! A dyno's life, as the platform has it: started, watched, stopped, restarted.

use crate::account::{Boot, Ending, Ledger, Printed};
use crate::dyno::{self, Dyno};
use crate::platform::Generation;
use crate::process;
use crate::router::State;
use crate::world::{Control, Live, Place, Wish, World};
use crate::{output, port};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How often it is looked whether the app listens.
const LOOK: Duration = Duration::from_millis(50);
/// How often the agent's memory is looked at.
const WEIGH: Duration = Duration::from_millis(500);
/// What the pipes of a dyno without processes may take to end.
const REST: Duration = Duration::from_secs(5);
/// Between two SIGTERMs, when more than one is asked for.
const AGAIN: Duration = Duration::from_millis(100);
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

/// Why a dyno came down.
enum Down {
    /// It was told to.
    Told(Control, Ending),
    /// By itself, having been up or not.
    Crashed(Ending, bool),
}

struct Life {
    world: Arc<World>,
    role: Role,
    controls: mpsc::Receiver<Control>,
    sender: mpsc::Sender<Control>,
    phase: watch::Sender<Phase>,
}

/// Lives a dyno's life in a task of its own. Returns where it is told, and how it is doing.
pub fn start(
    world: Arc<World>,
    role: Role,
) -> (mpsc::Sender<Control>, watch::Receiver<Phase>, JoinHandle<io::Result<()>>) {
    let (sender, controls) = mpsc::channel(16);
    let (phase, watched) = watch::channel(Phase::Booting);
    let life = Life { world, role, controls, sender: sender.clone(), phase };
    (sender, watched, tokio::spawn(life.live()))
}

impl Life {
    async fn live(mut self) -> io::Result<()> {
        let mut crashes = 0;
        loop {
            let name = self.world.args.generation.dyno_name(&self.role.process_type, self.role.number);
            let down = self.boot(&name).await;
            self.world.set_live(&name, None);
            let is_over = match &down {
                Ok(Down::Told(Control::Restart, _)) => false,
                Ok(Down::Crashed(_, was_up)) => !was_up, // it would not be up the next time either
                Ok(Down::Told(..)) | Err(_) => true,
            };
            if is_over {
                self.world
                    .set_backend(&name, matches!(down, Ok(Down::Crashed(..))).then_some(State::Crashed));
                self.phase.send_replace(Phase::Over);
                return down.map(drop);
            }
            if let Ok(Down::Crashed(..)) = down {
                self.set_backend(&name, Some(State::Crashed));
                if !self.cool(crashes).await {
                    self.phase.send_replace(Phase::Over);
                    return Ok(());
                }
                crashes += 1;
                self.world.say(&name, "State changed from crashed to starting").await;
            }
            self.set_backend(&name, None);
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

    fn is_web(&self) -> bool {
        self.role.process_type == "web"
    }

    fn set_backend(&self, name: &str, state: Option<State>) {
        if self.is_web() {
            self.world.set_backend(name, state);
        }
    }

    async fn say(&self, name: &str, message: &str) {
        self.world.say(name, message).await;
    }

    /// Once from its start to its end.
    async fn boot(&mut self, name: &str) -> io::Result<Down> {
        let begun = Instant::now();
        let port = if self.is_web() { Some(port::free()?) } else { None };
        self.set_backend(name, Some(State::Starting));
        let words = command_words(&self.world, &self.role.command);
        let wish = Wish { dyno: name, port, command: words, is_bare: false, is_attached: false };
        let place = self.world.place(wish)?;
        let shown = self.role.command.replace("$PORT", &port.map_or(String::new(), |port| port.to_string()));
        self.say(name, &format!("Starting process with command `{shown}`")).await;
        let (dyno, out, err) = Dyno::start(&place.spec, &place.spec_file)?;
        if let Some(pid) = dyno.pid() {
            self.world.set_live(name, Some(Live { pid, control: self.sender.clone() }));
        }
        let outputs = [
            tokio::spawn(output::read(out, place.config.max_line, self.world.readers(name))),
            tokio::spawn(output::read(err, place.config.max_line, self.world.readers(name))),
        ];
        let mut run = Run { dyno, outputs, memory: 0 };
        let down = self.run(name, port, &mut run).await;
        let has_agent = self.role.command.contains("tailrace run") || self.world.args.slug.is_none();
        let ending = match &down {
            Down::Told(_, ending) | Down::Crashed(ending, _) => *ending,
        };
        let memory = run.memory;
        let printed = run.printed().await.filter(|_| place.config.passthrough);
        let took = begun.elapsed();
        let ledger = has_agent.then(|| read_ledger(&place.ledger_file));
        self.world.add_boot(Boot { dyno: name.to_owned(), ending, ledger, printed, took, memory });
        drop(place);
        Ok(down)
    }

    /// From the start of its processes to their end.
    async fn run(&mut self, name: &str, port: Option<u16>, run: &mut Run) -> Down {
        let limits = self.world.args.limits;
        let up = listening(port);
        tokio::pin!(up);
        let patience = sleep(limits.boot);
        tokio::pin!(patience);
        let mut is_up = false;
        let mut weigh = tokio::time::interval(WEIGH);
        loop {
            tokio::select! {
                status = run.dyno.exited() => {
                    let ending = if is_up { Ending::Exited(status) } else { Ending::Died(status) };
                    return self.crashed(name, run, ending, is_up).await;
                }
                () = &mut up, if !is_up => {
                    is_up = true;
                    self.say(name, "State changed from starting to up").await;
                    if let Some(port) = port {
                        self.set_backend(name, Some(State::Up(port)));
                    }
                    self.phase.send_replace(Phase::Up);
                }
                () = &mut patience, if !is_up => {
                    self.say(
                        name,
                        "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 60 seconds of launch",
                    ).await;
                    self.say(name, "Stopping process with SIGKILL").await;
                    return self.crashed(name, run, Ending::BootTimeout, false).await;
                }
                _ = weigh.tick() => run.weigh(),
                control = self.controls.recv() => match control {
                    Some(Control::Order(order)) => run.dyno.order(&order).await,
                    Some(Control::Restart) => {
                        self.say(name, "Restarting").await;
                        self.say(name, "State changed from up to starting").await;
                        return Down::Told(Control::Restart, self.stop(name, run).await);
                    }
                    Some(Control::Stop) | None => {
                        return Down::Told(Control::Stop, self.stop(name, run).await);
                    }
                },
            }
        }
    }

    /// It went down in this state: all of it goes.
    async fn crashed(&self, name: &str, run: &mut Run, ending: Ending, was_up: bool) -> Down {
        self.set_backend(name, Some(State::Crashed));
        run.end().await;
        self.say(name, &format!("Process exited with status {}", ending.status())).await;
        let state = if was_up { "up" } else { "starting" };
        self.say(name, &format!("State changed from {state} to crashed")).await;
        Down::Crashed(ending, was_up)
    }

    /// Stops it as the platform does.
    async fn stop(&self, name: &str, run: &mut Run) -> Ending {
        self.set_backend(name, None);
        self.say(name, "Stopping all processes with SIGTERM").await;
        let terminate = async {
            for number in 0..self.world.args.sigterms {
                if number > 0 {
                    sleep(AGAIN).await;
                }
                run.dyno.order("stop").await;
            }
            run.dyno.exited().await
        };
        let ending = if let Ok(status) = timeout(self.world.args.limits.exit, terminate).await {
            Ending::Stopped(status)
        } else {
            self.say(
                name,
                "Error R12 (Exit timeout) -> At least one process failed to exit within 30 seconds of SIGTERM",
            )
            .await;
            self.say(name, "Stopping remaining processes with SIGKILL").await;
            Ending::ExitTimeout
        };
        run.end().await;
        self.say(name, &format!("Process exited with status {}", ending.status())).await;
        ending
    }
}

/// A dyno while it runs.
struct Run {
    dyno: Dyno,
    outputs: [JoinHandle<Printed>; 2],
    memory: u64,
}

impl Run {
    fn weigh(&mut self) {
        if let Some(pid) = self.dyno.pid() {
            self.memory = self.memory.max(process::agent_memory(pid));
        }
    }

    /// Ends what is left, and waits until what was printed last is on the screen.
    async fn end(&mut self) {
        self.dyno.order("end").await;
        if timeout(REST, self.dyno.exited()).await.is_err()
            && let Some(pid) = self.dyno.pid()
        {
            process::kill_family(pid);
        }
        let begun = Instant::now();
        while begun.elapsed() < REST && !self.outputs.iter().all(JoinHandle::is_finished) {
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn printed(self) -> Option<Printed> {
        let mut printed = Some(Printed::default());
        for output in self.outputs {
            output.abort(); // no-op when it has ended
            let one = output.await.ok();
            printed = printed.zip(one).map(|(all, one)| all.and(one));
        }
        printed
    }
}

/// How a line of the Procfile is started. An app that no buildpack has prepared runs under the agent's own shell.
pub fn command_words(world: &World, line: &str) -> Vec<OsString> {
    if world.args.slug.is_none() {
        return [".tailrace/bin/tailrace", "run", "--shell", line].map(OsString::from).to_vec();
    }
    dyno::words(line.as_ref(), world.args.generation == Generation::Cedar)
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
/// As [`World::place`].
pub fn aside(world: &World, name: &str, port: Option<u16>, line: &str) -> io::Result<Place> {
    let command = command_words(world, line);
    world.place(Wish { dyno: name, port, command, is_bare: true, is_attached: false })
}
