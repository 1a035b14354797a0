//! One run of a dyno, from its start to the record of its end.

use super::{Role, read_ledger, start_command};
use crate::dyno::{Dyno, StartedDyno};
use crate::expected_loss::ExpectedLoss;
use crate::init::InitCommand;
use crate::ledger::{OutputCounts, RunEnd, RunRecord};
use crate::simulation::{DynoCommand, DynoOptions, PreparedDyno, RunningDyno, Simulation, TerminalMode};
use crate::{port, process};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long output may take to reach its end after all processes of the dyno have ended.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of repeated SIGTERMs (`--sigterms`).
const SIGTERM_INTERVAL: Duration = Duration::from_millis(100);

/// A run of a dyno. Dropping it kills all its processes.
pub(super) struct DynoRun {
    pub(super) name: String,
    pub(super) port: Option<u16>,
    simulation: Arc<Simulation>,
    dyno: Dyno,
    outputs: [JoinHandle<OutputCounts>; 2],
    prepared: PreparedDyno,
    started: Instant,
    has_agent: bool,
    agent_memory_kib: u64,
    expected_loss: ExpectedLoss,
    was_replaced: bool,
}

impl DynoRun {
    /// Starts a run; `commands` reaches its lifecycle.
    pub(super) async fn start(
        simulation: &Arc<Simulation>,
        role: &Role,
        name: String,
        commands: &mpsc::Sender<DynoCommand>,
    ) -> io::Result<Self> {
        let started = Instant::now();
        let port = if role.is_web() { Some(port::find_free()?) } else { None };
        let prepared = simulation.prepare_dyno(DynoOptions {
            dyno: &name,
            port,
            command: start_command(simulation, &role.command),
            without_agent: false,
            terminal: TerminalMode::Detached,
        })?;
        let shown = role.command.replace("$PORT", &port.map_or(String::new(), |port| port.to_string()));
        simulation.log(&name, &format!("Starting process with command `{shown}`")).await;
        let StartedDyno { dyno, stdout, stderr } = Dyno::start(&prepared.spec, &prepared.spec_file)?;
        if let Some(pid) = dyno.pid() {
            let has_small_disk = prepared.spec.tmp_size.is_some();
            let running = RunningDyno { dyno: name.clone(), pid, commands: commands.clone(), has_small_disk };
            simulation.set_running(prepared.number, Some(running));
        }
        let outputs = [
            tokio::spawn(simulation.read_output(stdout, &prepared, simulation.output_sinks(&name))),
            tokio::spawn(simulation.read_output(stderr, &prepared, simulation.output_sinks(&name))),
        ];
        let has_agent = role.command.contains("tailrace run") || simulation.args.slug.is_none();
        Ok(Self {
            name,
            port,
            simulation: Arc::clone(simulation),
            dyno,
            outputs,
            prepared,
            started,
            has_agent,
            agent_memory_kib: 0,
            expected_loss: ExpectedLoss::default(),
            was_replaced: false,
        })
    }

    /// Waits until the dyno has ended; returns the app's exit status.
    pub(super) async fn wait(&mut self) -> u8 {
        self.dyno.wait().await
    }

    /// Sends a command to the dyno's init process.
    pub(super) async fn send(&mut self, command: InitCommand) {
        self.dyno.send(command).await;
    }

    /// Samples the memory of the agent's processes.
    pub(super) fn sample_memory(&mut self) {
        if let Some(pid) = self.dyno.pid() {
            self.agent_memory_kib = self.agent_memory_kib.max(process::agent_memory_kib(pid));
        }
    }

    /// Prints a line of the platform about the dyno.
    pub(super) async fn log(&self, message: &str) {
        self.simulation.log(&self.name, message).await;
    }

    /// Ends a run that crashed or could not boot.
    pub(super) async fn finish_crashed(mut self, end: RunEnd, was_up: bool) {
        self.expected_loss = self.simulation.expected_loss(self.prepared.number);
        self.kill().await;
        self.log(&format!("Process exited with status {}", end.status())).await;
        let state = if was_up { "up" } else { "starting" };
        self.log(&format!("State changed from {state} to crashed")).await;
        self.record(end).await;
    }

    /// Stops a run whose replacement is running.
    pub(super) async fn stop_replaced(mut self) {
        self.was_replaced = true;
        self.stop().await;
    }

    /// Stops the run as the platform does: SIGTERM, then SIGKILL after the exit timeout.
    pub(super) async fn stop(mut self) {
        let limits = self.simulation.args.limits;
        self.log("Stopping all processes with SIGTERM").await;
        let sigterms = self.simulation.args.sigterms;
        let dyno = &mut self.dyno;
        let terminate = async {
            for number in 0..sigterms {
                if number > 0 {
                    sleep(SIGTERM_INTERVAL).await;
                }
                dyno.send(InitCommand::Stop).await;
            }
            dyno.wait().await
        };
        let exited = timeout(limits.exit, terminate).await;
        self.expected_loss = self.simulation.expected_loss(self.prepared.number);
        let end = if let Ok(status) = exited {
            RunEnd::Stopped(status)
        } else {
            let seconds = limits.exit.as_secs_f64();
            self.log(&format!(
                "Error R12 (Exit timeout) -> At least one process failed to exit within {seconds} seconds of SIGTERM"
            ))
            .await;
            self.log("Stopping remaining processes with SIGKILL").await;
            RunEnd::ExitTimeout
        };
        self.kill().await;
        self.log(&format!("Process exited with status {}", end.status())).await;
        self.record(end).await;
    }

    /// Kills the remaining processes, and waits until all output has been read.
    async fn kill(&mut self) {
        self.dyno.send(InitCommand::Kill).await;
        if timeout(OUTPUT_TIMEOUT, self.dyno.wait()).await.is_err()
            && let Some(pid) = self.dyno.pid()
        {
            process::kill_tree(pid);
        }
        let killed = Instant::now();
        while killed.elapsed() < OUTPUT_TIMEOUT && !self.outputs.iter().all(JoinHandle::is_finished) {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Records the run for the report.
    async fn record(self, end: RunEnd) {
        let mut printed = Some(OutputCounts::default());
        for output in self.outputs {
            output.abort(); // no effect when it has ended
            let counts = output.await.ok();
            printed = printed.zip(counts).map(|(sum, counts)| sum.merge(counts));
        }
        self.simulation.set_running(self.prepared.number, None);
        self.simulation.add_run(RunRecord {
            dyno: self.name,
            end,
            ledger: self.has_agent.then(|| read_ledger(&self.prepared.ledger_file)),
            printed: printed.filter(|_| self.prepared.config.passthrough),
            duration: self.started.elapsed(),
            agent_memory_kib: self.agent_memory_kib,
            expected_loss: self.expected_loss,
            was_replaced: self.was_replaced,
        });
    }
}
