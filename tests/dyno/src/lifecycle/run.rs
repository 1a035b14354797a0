//! A dyno while it runs, from its start to the books at its end.

use super::{Role, command_words, read_ledger};
use crate::dyno::Dyno;
use crate::expected_loss::ExpectedLoss;
use crate::ledger::{OutputCounts, RunEnd, RunRecord};
use crate::simulation::{Control, DynoOptions, PreparedDyno, RunningDyno, Simulation};
use crate::{port, process};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What the pipes of a dyno without processes may take to end.
const REST: Duration = Duration::from_secs(5);
/// Between two SIGTERMs, when more than one is asked for.
const AGAIN: Duration = Duration::from_millis(100);

/// A dyno that runs; dropping it ends all of it.
pub(super) struct Run {
    pub(super) name: String,
    pub(super) port: Option<u16>,
    world: Arc<Simulation>,
    dyno: Dyno,
    outputs: [JoinHandle<OutputCounts>; 2],
    place: PreparedDyno,
    begun: Instant,
    has_agent: bool,
    memory: u64,
    excuse: ExpectedLoss,
    made_room: bool,
}

impl Run {
    /// Starts one of this role; `control` is where it is told.
    pub(super) async fn start(
        world: &Arc<Simulation>,
        role: &Role,
        name: String,
        control: &mpsc::Sender<Control>,
    ) -> io::Result<Self> {
        let begun = Instant::now();
        let port = if role.is_web() { Some(port::free()?) } else { None };
        let command = command_words(world, &role.command);
        let wish = DynoOptions { dyno: &name, port, command, is_bare: false, is_attached: false };
        let place = world.place(wish)?;
        let shown = role.command.replace("$PORT", &port.map_or(String::new(), |port| port.to_string()));
        world.say(&name, &format!("Starting process with command `{shown}`")).await;
        let (dyno, out, err) = Dyno::start(&place.spec, &place.spec_file)?;
        if let Some(pid) = dyno.pid() {
            let has_small_disk = place.spec.disk.is_some();
            let live = RunningDyno { dyno: name.clone(), pid, control: control.clone(), has_small_disk };
            world.set_live(place.number, Some(live));
        }
        let outputs = [
            tokio::spawn(world.read(out, &place, world.readers(&name))),
            tokio::spawn(world.read(err, &place, world.readers(&name))),
        ];
        let has_agent = role.command.contains("tailrace run") || world.args.slug.is_none();
        Ok(Self {
            name,
            port,
            world: Arc::clone(world),
            dyno,
            outputs,
            place,
            begun,
            has_agent,
            memory: 0,
            excuse: ExpectedLoss::default(),
            made_room: false,
        })
    }

    pub(super) async fn exited(&mut self) -> u8 {
        self.dyno.exited().await
    }

    pub(super) async fn order(&mut self, order: &str) {
        self.dyno.order(order).await;
    }

    pub(super) fn weigh(&mut self) {
        if let Some(pid) = self.dyno.pid() {
            self.memory = self.memory.max(process::agent_memory(pid));
        }
    }

    /// The platform says something about it.
    pub(super) async fn say(&self, message: &str) {
        self.world.say(&self.name, message).await;
    }

    /// It came down by itself in this state: all of it goes.
    pub(super) async fn crash(mut self, ending: RunEnd, was_up: bool) {
        self.excuse = self.world.excuse(self.place.number);
        self.end().await;
        self.say(&format!("Process exited with status {}", ending.status())).await;
        let state = if was_up { "up" } else { "starting" };
        self.say(&format!("State changed from {state} to crashed")).await;
        self.book(ending).await;
    }

    /// Stops it, another being there in its place.
    pub(super) async fn make_room(mut self) {
        self.made_room = true;
        self.stop().await;
    }

    /// Stops it as the platform does.
    pub(super) async fn stop(mut self) {
        let limits = self.world.args.limits;
        self.say("Stopping all processes with SIGTERM").await;
        let sigterms = self.world.args.sigterms;
        let dyno = &mut self.dyno;
        let terminate = async {
            for number in 0..sigterms {
                if number > 0 {
                    sleep(AGAIN).await;
                }
                dyno.order("stop").await;
            }
            dyno.exited().await
        };
        let ended = timeout(limits.exit, terminate).await;
        self.excuse = self.world.excuse(self.place.number);
        let ending = if let Ok(status) = ended {
            RunEnd::Stopped(status)
        } else {
            let seconds = limits.exit.as_secs_f64();
            self.say(&format!(
                "Error R12 (Exit timeout) -> At least one process failed to exit within {seconds} seconds of SIGTERM"
            ))
            .await;
            self.say("Stopping remaining processes with SIGKILL").await;
            RunEnd::ExitTimeout
        };
        self.end().await;
        self.say(&format!("Process exited with status {}", ending.status())).await;
        self.book(ending).await;
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

    /// What is to be told of it at the end.
    async fn book(self, ending: RunEnd) {
        let mut printed = Some(OutputCounts::default());
        for output in self.outputs {
            output.abort(); // no-op when it has ended
            let one = output.await.ok();
            printed = printed.zip(one).map(|(all, one)| all.and(one));
        }
        self.world.set_live(self.place.number, None);
        self.world.add_boot(RunRecord {
            dyno: self.name,
            ending,
            ledger: self.has_agent.then(|| read_ledger(&self.place.ledger_file)),
            printed: printed.filter(|_| self.place.config.passthrough),
            took: self.begun.elapsed(),
            memory: self.memory,
            excuse: self.excuse,
            made_room: self.made_room,
        });
    }
}
