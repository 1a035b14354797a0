//! The sampler thread: sends the start lines, then runtime samples, heartbeats and the lifecycle line for an open
//! port. Nothing waits for it. Lines for which the recorder's queue has no room are dropped.

use super::shared_state::SharedState;
use crate::config::Config;
use crate::diag;
use crate::dyno::{lifecycle::Lifecycle, port};
use crate::frame::{AgentLine, AgentLineKind};
use crate::recorder::RecorderThread;
use crate::recorder::input::{self, Input, Permits};
use crate::sample::{self, Sampler, SamplerSettings};
use crate::version::VERSION;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the port is checked while the app starts.
const PORT_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is checked when the app has not opened it for a while.
const SLOW_PORT_INTERVAL: Duration = Duration::from_secs(1);
/// After this time the port is checked less often.
const SLOW_PORT_AFTER: Duration = Duration::from_secs(15);
/// Pause between two prefetches while a process is not known yet. Each reads one more.
const PREFETCH_INTERVAL: Duration = Duration::from_millis(250);
/// How long before a sample new processes are looked for: time to prefetch 20 of them.
const PREFETCH_LEAD: Duration = Duration::from_secs(5);

/// The sampler thread, and what it needs.
#[derive(Debug)]
pub(super) struct SamplerThread {
    pub(super) config: Arc<Config>,
    /// The app's command, for display.
    pub(super) command: String,
    /// Receives the app's pid, once. Disconnected when the supervisor ends.
    pub(super) begin: Receiver<i32>,
    pub(super) recorder: Sender<Input>,
    pub(super) recorder_thread: Arc<RecorderThread>,
    pub(super) shared_state: Arc<SharedState>,
    /// Permits for agent lines in the recorder's queue.
    pub(super) permits: Permits,
}

/// What the thread does again and again. Of several jobs that are due the first in this order is done first: a sample
/// prefetches itself, and so postpones the next prefetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Sample,
    Prefetch,
    CheckPort,
    Heartbeat,
}

impl Job {
    const ALL: [Self; 4] = [Self::Sample, Self::Prefetch, Self::CheckPort, Self::Heartbeat];
}

/// When each job is due; none when it is not wanted.
#[derive(Clone, Copy, Debug, Default)]
struct Schedule([Option<Instant>; Job::ALL.len()]);

impl Schedule {
    fn set(&mut self, job: Job, due: Option<Instant>) {
        self.0[job as usize] = due;
    }

    /// When the next job is due.
    fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// A job that is due. It stays due until it is set anew.
    fn due_job(&self, now: Instant) -> Option<Job> {
        Job::ALL.into_iter().find(|job| self.0[*job as usize].is_some_and(|due| due <= now))
    }

    /// After a look at the processes: schedules the next prefetch, soon when one `needs_prefetch` still, else in time
    /// before the next sample.
    fn schedule_prefetch(&mut self, now: Instant, needs_prefetch: bool) {
        let before_sample =
            || self.0[Job::Sample as usize]?.checked_sub(PREFETCH_LEAD).filter(|at| *at > now);
        let due = if needs_prefetch { Some(now + PREFETCH_INTERVAL) } else { before_sample() };
        self.set(Job::Prefetch, due);
    }
}

/// The pause before the port is checked again, so long after the start.
fn port_interval(since_start: Duration) -> Duration {
    if since_start > SLOW_PORT_AFTER { SLOW_PORT_INTERVAL } else { PORT_INTERVAL }
}

impl SamplerThread {
    /// Runs until the supervisor ends. A panic ends the thread and is reported.
    pub(super) fn run(self) {
        if catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            diag::event(diag::Event::SamplerFault)
                .field("detail", "a bug in tailrace; there will be no more samples")
                .emit();
            // The recorder waits for the first lines. If they were sent already, it ignores these.
            self.send_first_lines(Vec::new());
        }
    }

    fn send_first_lines(&self, lines: Vec<AgentLine>) {
        self.recorder.try_send(Input::FirstLines(lines)).ok(); // a slot of the queue is reserved for them
    }

    fn send(&self, lines: Vec<AgentLine>) {
        if let Some(permit) = input::permit(&self.permits) {
            self.recorder.try_send(Input::AgentLines(lines, permit)).ok(); // the permit is a slot of the queue
        }
    }

    fn work(&self) {
        let Ok(app) = self.begin.recv() else { return };
        let started = Instant::now();
        let mut sampler = Sampler::new(SamplerSettings::of(&self.config));
        self.shared_state.set_probe(sampler.describe());
        self.send_first_lines(self.first_lines(&sampler));
        let mut schedule = self.first_schedule(Instant::now());
        while !self.ends_before(schedule.next()) {
            if let Some(job) = schedule.due_job(Instant::now()) {
                let processes = Processes { app, agent: self.agent_pids() };
                self.run_job(job, &mut sampler, &processes, &mut schedule, started);
            }
        }
    }

    /// Waits until `next`, or for good without it. Whether the supervisor ended meanwhile.
    fn ends_before(&self, next: Option<Instant>) -> bool {
        let Some(next) = next else {
            self.begin.recv().ok(); // nothing more is sent: it returns when the supervisor ends
            return true;
        };
        self.begin.recv_deadline(next) != Err(RecvTimeoutError::Timeout)
    }

    fn first_schedule(&self, now: Instant) -> Schedule {
        let mut schedule = Schedule::default();
        let after = |interval: Option<Duration>| interval.map(|interval| now + interval);
        let interval = self.config.sample_interval;
        schedule.set(Job::Sample, after(interval));
        schedule.set(Job::Prefetch, after(interval.map(|_| PREFETCH_INTERVAL)));
        // The port is of interest for the lifecycle line only.
        let checks_port = self.config.waits_for_port() && self.config.lifecycle;
        schedule.set(Job::CheckPort, after(checks_port.then_some(PORT_INTERVAL)));
        schedule.set(Job::Heartbeat, after(self.config.heartbeat));
        schedule
    }

    /// Does a job that is due, and schedules it anew.
    fn run_job(
        &self,
        job: Job,
        sampler: &mut Sampler,
        processes: &Processes,
        schedule: &mut Schedule,
        started: Instant,
    ) {
        let now = Instant::now();
        let after = |interval: Option<Duration>| interval.map(|interval| Instant::now() + interval);
        match job {
            Job::Sample => {
                let sample = sampler.sample(processes.app, processes.agent);
                self.send(sample.lines);
                schedule.set(job, after(self.config.sample_interval));
                schedule.schedule_prefetch(now, sample.needs_prefetch);
            }
            Job::Prefetch => {
                let needs_prefetch = sampler.prefetch(processes.app, processes.agent);
                schedule.schedule_prefetch(now, needs_prefetch);
            }
            Job::CheckPort => {
                let is_open = port::is_open(self.config.port);
                schedule.set(job, after((!is_open).then(|| port_interval(started.elapsed()))));
                if is_open {
                    self.shared_state.set_up(|| self.send(vec![Lifecycle::up()]));
                }
            }
            Job::Heartbeat => {
                self.send(self.heartbeat(processes.agent));
                schedule.set(job, after(self.config.heartbeat));
            }
        }
    }

    /// The supervisor's pid, and the shipper's or 0.
    fn agent_pids(&self) -> [i32; 2] {
        [std::process::id() as i32, self.shared_state.shipper()]
    }

    /// The start line, and the first lifecycle lines where they are wanted.
    fn first_lines(&self, sampler: &Sampler) -> Vec<AgentLine> {
        let text = format!(
            "at=start version={} source={} app={} probe={}",
            VERSION,
            self.config.dyno,
            diag::quoted(&self.config.app),
            sampler.probe()
        );
        let mut lines = vec![AgentLine::new(AgentLineKind::Agent, text)];
        if self.config.lifecycle {
            lines.push(Lifecycle::starting(&self.command, self.config.port));
            if !self.config.waits_for_port() {
                lines.push(Lifecycle::up());
            }
        }
        lines
    }

    fn heartbeat(&self, agent: [i32; 2]) -> Vec<AgentLine> {
        let Some(spool) = self.recorder_thread.spool() else { return Vec::new() };
        let summary = spool.summary("held");
        let usage = sample::resource_usage(agent);
        let memory = sample::megabytes(usage.memory);
        let text = format!("at=heartbeat {summary} memory={memory} cpu={}ms", usage.cpu_millis);
        vec![AgentLine::new(AgentLineKind::Agent, text)]
    }
}

/// The processes that a sample tells apart.
struct Processes {
    app: i32,
    /// The supervisor and the shipper.
    agent: [i32; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn jobs_run_when_due_and_a_sample_before_a_prefetch() {
        let (start, mut schedule) = (Instant::now(), Schedule::default());
        assert_eq!((schedule.next(), schedule.due_job(start)), (None, None));
        schedule.set(Job::Prefetch, Some(start + S(1)));
        schedule.set(Job::Heartbeat, Some(start + S(2)));
        schedule.set(Job::Sample, Some(start + S(3)));
        assert_eq!((schedule.next(), schedule.due_job(start)), (Some(start + S(1)), None));
        assert_eq!(schedule.due_job(start + S(1)), Some(Job::Prefetch));
        assert_eq!(schedule.due_job(start + S(3)), Some(Job::Sample));
        schedule.set(Job::Sample, None);
        schedule.set(Job::Prefetch, None);
        assert_eq!(schedule.due_job(start + S(3)), Some(Job::Heartbeat));
    }

    #[test]
    fn prefetches_follow_each_other_or_precede_the_next_sample() {
        let now = Instant::now();
        for (sample, needs_prefetch, expected) in [
            (Some(S(20)), true, Some(PREFETCH_INTERVAL)),
            (Some(S(20)), false, Some(S(15))),
            (Some(S(5)), false, None),
            (None, false, None),
        ] {
            let mut schedule = Schedule::default();
            schedule.set(Job::Sample, sample.map(|after| now + after));
            schedule.schedule_prefetch(now, needs_prefetch);
            let due = schedule.0[Job::Prefetch as usize].map(|at| at - now);
            assert_eq!(due, expected, "{sample:?}, {needs_prefetch}");
        }
    }

    #[test]
    fn the_port_is_checked_less_often_after_a_while() {
        assert_eq!(port_interval(S(15)), PORT_INTERVAL);
        assert_eq!(port_interval(S(16)), SLOW_PORT_INTERVAL);
    }
}
