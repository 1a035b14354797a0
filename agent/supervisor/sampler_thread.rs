//! The sampler's thread: tells the start, takes samples, waits for the port, and says how the agent itself is.
//! Nothing waits for it. What the recorder has no room for is not said.

use super::shared_state::SharedState;
use crate::config::Config;
use crate::diag;
use crate::dyno::{lifecycle::Lifecycle, port};
use crate::frame::{AgentLine, AgentLineKind};
use crate::recorder::RecorderThread;
use crate::recorder::input::{self, Input, Permits};
use crate::sample::{self, Sampler, SamplerSettings};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a port is looked for: at first, later, and from when on.
const PORT: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
const PORT_LATER: Duration = Duration::from_secs(15);
/// How soon one more process is looked at that is not known.
const PREFETCH_DELAY: Duration = Duration::from_millis(250);
/// How long before a sample it is looked for processes that are new: at 20 of them there is time.
const AHEAD: Duration = Duration::from_secs(5);
/// Later than any wait.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// What the thread needs.
#[derive(Debug)]
pub(super) struct SamplerThread {
    pub(super) config: Arc<Config>,
    /// The command, as it is display_command.
    pub(super) command: String,
    /// Brings the app's pid, and ends with the keeper.
    pub(super) begin: Receiver<i32>,
    pub(super) recorder: Sender<Input>,
    pub(super) recorder_thread: Arc<RecorderThread>,
    pub(super) shared_state: Arc<SharedState>,
    /// For our own lines on their way.
    pub(super) permits: Permits,
}

/// When something is to be done next.
struct Due {
    sample: Instant,
    prefetch: Instant,
    port: Instant,
    heartbeat: Instant,
}

impl Due {
    /// When processes are looked at next: soon when one `needs_prefetch` still, else in time for the next sample.
    fn next_look(&self, now: Instant, needs_prefetch: bool) -> Instant {
        let ahead = self.sample.checked_sub(AHEAD).filter(|ahead| *ahead > now);
        if needs_prefetch { now + PREFETCH_DELAY } else { ahead.unwrap_or(now + NEVER) }
    }
}

impl SamplerThread {
    /// Works until the keeper ends. A panic ends it, and is said.
    pub(super) fn run(self) {
        if catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            diag::event("sampler-fault")
                .field("detail", "a bug of ours; there will be no more samples")
                .emit();
            // The recorder waits for it; a second one is one too many, which it takes for nothing.
            let _room_is_kept_for_it = self.recorder.try_send(Input::FirstLines(Vec::new()));
        }
    }

    fn tell(&self, lines: Vec<AgentLine>) {
        if let Some(permit) = input::permit(&self.permits) {
            let _room_is_kept_for_it = self.recorder.try_send(Input::AgentLines(lines, permit));
        }
    }

    fn work(&self) {
        let Ok(app) = self.begin.recv() else { return };
        let started = Instant::now();
        let mut sampler = Sampler::new(SamplerSettings::of(&self.config));
        self.shared_state.set_probe(sampler.describe());
        let is_told_by_port = self.config.waits_for_port();
        let greeting = self.start(&sampler, is_told_by_port);
        let _room_is_kept_for_it = self.recorder.try_send(Input::FirstLines(greeting));
        let after = |time: Option<Duration>| Instant::now() + time.unwrap_or(NEVER);
        // Looking for the port is for the line that says that it is open, and for nothing else.
        let mut waits = is_told_by_port && self.config.lifecycle;
        let learns = self.config.sample_interval.is_some();
        let mut due = Due {
            sample: after(self.config.sample_interval),
            prefetch: after(learns.then_some(PREFETCH_DELAY)),
            port: after(waits.then_some(PORT[0])),
            heartbeat: after(self.config.heartbeat),
        };
        loop {
            let next = due.sample.min(due.prefetch).min(due.port).min(due.heartbeat);
            match self.begin.recv_deadline(next) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let (now, agent) = (Instant::now(), [std::process::id() as i32, self.shared_state.shipper()]);
            if due.sample <= now {
                let sample = sampler.sample(app, agent);
                self.tell(sample.lines);
                due.sample = after(self.config.sample_interval);
                due.prefetch = due.next_look(now, sample.needs_prefetch);
            } else if due.prefetch <= now {
                due.prefetch = due.next_look(now, sampler.prefetch(app, agent));
            }
            if due.port <= now {
                waits = !port::is_open(self.config.port);
                let pause = PORT[usize::from(started.elapsed() > PORT_LATER)];
                due.port = after(waits.then_some(pause));
                if !waits {
                    self.shared_state.up(|| self.tell(self.life(vec![Lifecycle::up()])));
                }
            }
            if due.heartbeat <= now {
                self.tell(self.heartbeat(agent));
                due.heartbeat = after(self.config.heartbeat);
            }
        }
    }

    /// Lines about the dyno's life, where they are wanted.
    fn life(&self, lines: Vec<AgentLine>) -> Vec<AgentLine> {
        if self.config.lifecycle { lines } else { Vec::new() }
    }

    fn start(&self, sampler: &Sampler, waits: bool) -> Vec<AgentLine> {
        let text = format!(
            "at=start version={} source={} app={} probe={}",
            env!("CARGO_PKG_VERSION"),
            self.config.dyno,
            diag::quoted(&self.config.app),
            sampler.probe()
        );
        let mut lines = vec![AgentLine::new(AgentLineKind::Agent, text)];
        lines.extend(self.life(vec![Lifecycle::starting(&self.command, self.config.port)]));
        if !waits {
            lines.extend(self.life(vec![Lifecycle::up()]));
        }
        lines
    }

    fn heartbeat(&self, agent: [i32; 2]) -> Vec<AgentLine> {
        let Some(spool) = self.recorder_thread.spool() else { return Vec::new() };
        let summary = spool.summary();
        let usage = sample::resource_usage(agent);
        let memory = sample::megabytes(usage.memory);
        let text = format!("at=heartbeat {summary} memory={memory} cpu={}ms", usage.cpu_millis);
        vec![AgentLine::new(AgentLineKind::Agent, text)]
    }
}
