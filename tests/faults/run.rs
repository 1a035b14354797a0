//! Carries a schedule out: drains, agents one after the other on the same directory, and what happens to them.

use crate::app::{self, Written};
use crate::clock::Clock;
use crate::disk::{self, OwnDisk};
use crate::harness::{Agent, Harness, Output as Finished, wait_until};
use crate::liveness::{Liveness, Watch};
use crate::oracle::{self, Ended, Observed};
use crate::procfs;
use crate::schedule::{Disk, End, Event, Run, Schedule, Target};
use crate::suspended_threads::SuspendedThreads;
use crate::tally::Tally;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tailrace_drain::{Drain, Options};

/// Agents at the end that deliver what was left; one is enough unless it has to leave something to the next.
const LAST_RUNS: usize = 3;
/// How long a shipper whose supervisor was killed may go on before the last agents start.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// The grace of the last agents: they have to deliver everything.
const LAST_GRACE: &str = "30s";

/// A schedule that is being carried out.
struct Stage<'a> {
    schedule: &'a Schedule,
    harness: Harness,
    /// The drains behind the first, which is the harness's.
    more_drains: Vec<Drain>,
    tallies: Vec<Arc<Mutex<Tally>>>,
    own_disk: Option<OwnDisk>,
    clock: Option<Clock>,
    watch: Arc<Watch>,
    /// Agents whose supervisor was killed; their shippers may run.
    killed: Vec<Agent>,
    observed: Observed,
    /// Segments of the current agent that were damaged.
    damaged_now: u64,
    /// Threads that undo what was done for a time.
    timers: Vec<JoinHandle<()>>,
}

/// Carries a schedule out and judges it.
///
/// # Errors
/// What was expected and what was found.
pub(crate) fn run(schedule: &Schedule) -> Result<(), String> {
    let mut stage = Stage::new(schedule);
    for (number, run) in schedule.runs.iter().enumerate() {
        stage.run(number, run);
    }
    stage.finish();
    oracle::judge(&stage.observed)
}

fn options(tally: &Arc<Mutex<Tally>>) -> Options {
    let tally = Arc::clone(tally);
    let sink = move |lines: &[_]| tally.lock().unwrap_or_else(PoisonError::into_inner).add(lines);
    Options { keep: 100, sink: Box::new(sink), ..Options::default() }
}

impl<'a> Stage<'a> {
    fn new(schedule: &'a Schedule) -> Self {
        let tallies: Vec<Arc<Mutex<Tally>>> = (0..schedule.drains).map(|_| Arc::default()).collect();
        let harness = Harness::with_options(options(&tallies[0]));
        let more_drains: Vec<Drain> =
            tallies[1..].iter().map(|tally| Drain::start(options(tally)).unwrap()).collect();
        let drains = || std::iter::once(&harness.drain).chain(&more_drains);
        let option = if schedule.gzip { "#gzip=on" } else { "" };
        let urls: Vec<String> = drains().map(|drain| format!("{}{option}", drain.url())).collect();
        let ca: Vec<Vec<u8>> = drains().map(|drain| fs::read(drain.ca_file()).unwrap()).collect();
        let ca_file = harness.path("all-ca.pem");
        fs::write(&ca_file, ca.concat()).unwrap();
        let mut harness = harness
            .set("TAILRACE_DRAIN_URL", &urls.join(" "))
            .set("TAILRACE_CA_FILE", ca_file.to_str().unwrap());
        for (name, value) in &schedule.settings {
            harness = harness.set(name, value);
        }
        let clock = if schedule.has(|event| matches!(event, Event::StepClock { .. })) {
            Clock::new(&harness.path("clock"))
        } else {
            None
        };
        if let Some(clock) = &clock {
            // The loader puts the clock in front: into the agent that it loads, also where the static one is under test.
            harness.program = env!("CARGO_BIN_EXE_tailrace").into();
            for (name, value) in clock.settings() {
                harness = harness.set(name, &value);
            }
        }
        fs::create_dir(harness.spool_dir()).unwrap();
        let own_disk = match schedule.disk {
            Disk::Own(mib) => OwnDisk::mount(harness.spool_dir(), mib),
            Disk::Shared => None,
        };
        Self {
            schedule,
            watch: Arc::new(Watch::new(schedule.drains)),
            observed: Observed::new(schedule),
            damaged_now: 0,
            harness,
            more_drains,
            tallies,
            own_disk,
            clock,
            killed: Vec::new(),
            timers: Vec::new(),
        }
    }

    fn drain(&self, index: usize) -> &Drain {
        if index == 0 { &self.harness.drain } else { &self.more_drains[index - 1] }
    }

    fn tally(&self, index: usize) -> Tally {
        self.tallies[index].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn notes_of(&self, number: usize) -> PathBuf {
        self.harness.path(&format!("{number}.notes"))
    }

    /// Starts an agent. SIGTERM ends the app unless the agent is to get several.
    fn start(&self, number: usize, run: &Run) -> Agent {
        let notes = self.notes_of(number);
        let program = std::env::current_exe().unwrap();
        let number = number.to_string();
        let app = [program.to_str().unwrap(), "app", &number, notes.to_str().unwrap()];
        match run.end {
            End::Term { times: 2.., .. } => {
                let ignoring = ["sh", "-c", "trap '' TERM; exec \"$0\" \"$@\""];
                self.harness.run(&[&ignoring[..], &app].concat())
            }
            _ => self.harness.run(&app),
        }
    }

    fn run(&mut self, number: usize, run: &Run) {
        if let Some(disk) = self.own_disk.as_ref().filter(|_| run.read_only) {
            self.observed.is_in_memory = true;
            disk.set_read_only(true);
        }
        let before = disk::agent_directories(&self.harness.spool_dir());
        let start = Instant::now();
        let mut agent = self.start(number, run);
        let liveness = self.watch_over(&agent);
        for (at, event) in &run.events {
            let at = start + Duration::from_millis(*at);
            thread::sleep(at.saturating_duration_since(Instant::now()));
            self.strike(event, &mut agent, &before);
        }
        let at = start + Duration::from_millis(run.end_at);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let recorded = if run.end.is_kill() { self.recorded(number, &agent) } else { [0; 2] };
        let finished = self.end(run.end, agent);
        self.observed.dead.extend(liveness.finish().map(|text| format!("run {number}: {text}")));
        if let Some(disk) = self.own_disk.as_ref().filter(|_| run.read_only) {
            disk.set_read_only(false);
        }
        self.note(number, recorded, finished);
    }

    fn watch_over(&self, agent: &Agent) -> Liveness {
        Liveness::start(agent.pid(), Arc::clone(&self.watch))
    }

    fn strike(&mut self, event: &Event, agent: &mut Agent, before: &[PathBuf]) {
        match event {
            Event::Print { output, count, len, burst, pause } => {
                let command = format!("{} {count} {len} {burst} {pause}\n", output.letter());
                if let Some(input) = &mut agent.stdin {
                    input.write_all(command.as_bytes()).ok(); // the app may be gone
                }
            }
            Event::Drain { index, faults } => {
                if let Some(index) = (*index < self.schedule.drains).then_some(*index) {
                    self.watch.set_well(index, faults.is_empty());
                    self.drain(index).set_faults(faults).unwrap();
                }
            }
            Event::KillShipper => {
                if let Some(shipper) = procfs::shipper_of(agent.pid()) {
                    kill(Pid::from_raw(shipper), Signal::SIGKILL).ok(); // it may have ended
                }
            }
            Event::Stop { target, ms } => self.stop(*target, agent.pid(), Duration::from_millis(*ms)),
            Event::SlowDisk { ms } => self.slow_disk(agent.pid(), Duration::from_millis(*ms)),
            Event::Damage { damage, index } => {
                let segments = disk::segments(&self.harness.spool_dir());
                if !segments.is_empty() {
                    let path = &segments[index % segments.len()];
                    disk::damage(*damage, path);
                    let is_adopted = path.parent().is_some_and(|dir| before.iter().any(|old| old == dir));
                    if is_adopted {
                        self.observed.adopted_damaged += 1;
                    } else {
                        self.damaged_now += 1;
                    }
                }
            }
            Event::DamageCheckpoint { damage, index } => {
                let checkpoints = disk::checkpoints(&self.harness.spool_dir());
                if !checkpoints.is_empty() {
                    disk::damage(*damage, &checkpoints[index % checkpoints.len()]);
                }
            }
            Event::ForeignFile { kind } => disk::add_foreign(&self.harness.spool_dir(), *kind),
            Event::FillDisk => {
                if let Some(disk) = &self.own_disk {
                    self.observed.is_in_memory = true;
                    disk.fill();
                }
            }
            Event::FreeDisk => self.own_disk.iter().for_each(OwnDisk::free),
            Event::StepClock { ms } => self.clock.iter().for_each(|clock| clock.step(*ms)),
        }
    }

    fn stop(&mut self, target: Target, supervisor: i32, time: Duration) {
        let watch = Arc::clone(&self.watch);
        let pid = match target {
            Target::Shipper => procfs::shipper_of(supervisor),
            Target::Supervisor | Target::Group => Some(supervisor),
        };
        let Some(pid) = pid.map(Pid::from_raw) else { return };
        let send = move |signal| match target {
            Target::Group => killpg(pid, signal),
            Target::Shipper | Target::Supervisor => kill(pid, signal),
        };
        watch.freeze();
        send(Signal::SIGSTOP).ok(); // it may have ended
        self.timers.push(thread::spawn(move || {
            thread::sleep(time);
            send(Signal::SIGCONT).ok(); // as above
            watch.thaw();
        }));
    }

    fn slow_disk(&mut self, supervisor: i32, time: Duration) {
        let watch = Arc::clone(&self.watch);
        self.timers.push(thread::spawn(move || {
            if !has_thread(supervisor, "recorder") {
                return; // it ended meanwhile, or has not started
            }
            watch.freeze();
            // A thread that ends while it is being stopped is not there to be stopped.
            let stopped = std::panic::catch_unwind(|| {
                let threads = SuspendedThreads::of(supervisor, &["recorder"]);
                thread::sleep(time);
                drop(threads);
            });
            drop(stopped);
            watch.thaw();
        }));
    }

    /// The highest numbers of its lines that an agent has recorded that is about to be killed. Its supervisor is stopped
    /// before, so that nothing is removed meanwhile.
    fn recorded(&self, number: usize, agent: &Agent) -> [u64; 2] {
        self.watch.freeze();
        agent.signal(Signal::SIGSTOP);
        let recorded = disk::recorded(&self.harness.spool_dir(), agent.pid(), number);
        self.watch.thaw();
        recorded
    }

    /// Ends the run; returns the output of an agent that was not killed.
    fn end(&mut self, end: End, mut agent: Agent) -> Option<Finished> {
        match end {
            End::Exit => {}
            End::Term { times, to_group } => {
                for _ in 0..times {
                    if to_group {
                        agent.signal_group(Signal::SIGTERM);
                    } else {
                        agent.signal(Signal::SIGTERM);
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            }
            End::KillApp => {
                let children = procfs::children(agent.pid());
                let shipper = procfs::shipper_of(agent.pid());
                for app in children.into_iter().filter(|child| Some(*child) != shipper) {
                    kill(Pid::from_raw(app), Signal::SIGKILL).ok(); // it may have ended
                }
            }
            End::KillSupervisor => agent.signal(Signal::SIGKILL),
            End::KillGroup => agent.signal_group(Signal::SIGKILL),
        }
        if end.is_kill() {
            drop(agent.stdin.take());
            let pid = agent.pid();
            // All its threads: the last one to end releases its locks.
            let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            wait_until("the end of the supervisor", || !procfs::is_alive(pid) && threads() <= 1);
            self.killed.push(agent);
            self.settle();
            return None;
        }
        let output = agent.finish();
        self.settle();
        Some(output)
    }

    /// Waits for the timers: what was stopped runs again.
    fn settle(&mut self) {
        for timer in self.timers.drain(..) {
            timer.join().unwrap();
        }
    }

    fn note(&mut self, number: usize, recorded: [u64; 2], finished: Option<Finished>) {
        let tallies: Vec<Tally> = (0..self.schedule.drains).map(|index| self.tally(index)).collect();
        let written = app::read_notes(&self.notes_of(number));
        let damaged = std::mem::take(&mut self.damaged_now);
        let ledger = finished.as_ref().filter(|finished| finished.has_ledger()).map(Finished::ledger);
        if ledger.is_none_or(|ledger| ledger.drains.iter().any(|drain| drain.held > 0)) {
            self.observed.adopted_damaged += damaged;
        }
        self.observed.runs.push(Ended {
            number,
            written,
            whole_at_end: tallies.iter().map(|tally| tally.whole(number, &written)).collect(),
            read_only: self.own_disk.is_some() && self.schedule.runs[number].read_only,
            recorded,
            finished,
        });
    }

    /// Lets everything be delivered, and notes what the drains have.
    fn finish(&mut self) {
        for index in 0..self.schedule.drains {
            self.drain(index).set_faults("").unwrap();
            self.watch.set_well(index, true);
        }
        self.own_disk.iter().for_each(OwnDisk::free);
        let start = Instant::now();
        for agent in std::mem::take(&mut self.killed) {
            while procfs::is_group_alive(agent.pid()) && start.elapsed() < TAKEOVER_TIMEOUT {
                thread::sleep(Duration::from_millis(20));
            }
            drop(agent); // kills what is left
        }
        let settings: Vec<(String, String)> =
            self.harness.settings().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        for _ in 0..LAST_RUNS {
            let mut agent = self.harness.start_with(|command| {
                command.envs(settings.iter().cloned()).env("TAILRACE_STOP_GRACE", LAST_GRACE);
                command.args(["run", "--", "cat"]);
            });
            let liveness = self.watch_over(&agent);
            drop(agent.stdin.take());
            let finished = agent.finish();
            self.observed.dead.extend(liveness.finish().map(|text| format!("last run: {text}")));
            self.observed.last.push(finished);
            if disk::agent_directories(&self.harness.spool_dir()).is_empty() {
                break;
            }
        }
        // One that its agent was killed over before it had its name in it, or no longer, is removed when it is old.
        let is_kept = |path: &PathBuf| path.join("app").exists() || !disk::is_empty(path);
        self.observed.left = disk::agent_directories(&self.harness.spool_dir());
        self.observed.left.retain(is_kept);
        self.observed.tallies = (0..self.schedule.drains).map(|index| self.tally(index)).collect();
        self.observed.reports = (0..self.schedule.drains).map(|index| self.drain(index).report()).collect();
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.settle();
        self.killed.clear();
        drop(self.own_disk.take());
    }
}

/// The notes of a run, summed up.
pub(crate) fn sum(written: &[Written; 2]) -> Written {
    let [out, err] = written;
    Written { done: out.done + err.done, begun: out.begun + err.begun }
}

/// Whether a process has a thread with this name.
fn has_thread(pid: i32, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default())
        .any(|comm| comm.trim_end() == name)
}
