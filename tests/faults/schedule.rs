//! Schedules: what happens in one test, and when. The seed alone determines a schedule.

use fastrand::Rng;
use std::fmt;

/// An output of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Output {
    Out,
    Err,
}

impl Output {
    pub(crate) const ALL: [Self; 2] = [Self::Out, Self::Err];

    pub(crate) fn letter(self) -> &'static str {
        if self == Self::Out { "o" } else { "e" }
    }
}

/// What is stopped by SIGSTOP, and continued later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Shipper,
    Supervisor,
    Group,
}

/// What happens to a file of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Emptied,
    Cut,
    Removed,
    Flipped,
    Zeroed,
}

/// What happens at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The app prints `count` lines of `len` bytes, `burst` in one write, with a pause in µs after each write.
    Print {
        output: Output,
        count: u64,
        len: u64,
        burst: u64,
        pause: u64,
    },
    /// The faults of a drain from now on; none: it answers well.
    Drain {
        index: usize,
        faults: String,
    },
    /// SIGKILL to the shipper.
    KillShipper,
    /// SIGSTOP, and SIGCONT after some ms.
    Stop {
        target: Target,
        ms: u64,
    },
    /// The recorder does not proceed for some ms, as with a disk that does not answer.
    SlowDisk {
        ms: u64,
    },
    /// A segment is damaged: the one at this index, modulo the number of segments.
    Damage {
        damage: Damage,
        index: usize,
    },
    /// The checkpoint is damaged.
    DamageCheckpoint {
        damage: Damage,
        index: usize,
    },
    /// A file of somebody else appears among the agent's.
    ForeignFile {
        kind: usize,
    },
    /// The disk is full, until `FreeDisk`.
    FillDisk,
    FreeDisk,
    /// The clock of the agent goes by this many ms from now on, in addition.
    StepClock {
        ms: i64,
    },
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The app exits.
    Exit,
    /// SIGTERM this often to the supervisor, or to its group.
    Term { times: u64, to_group: bool },
    /// SIGKILL to the app.
    KillApp,
    /// SIGKILL to the supervisor: the shipper delivers the rest.
    KillSupervisor,
    /// SIGKILL to supervisor, shipper and app.
    KillGroup,
}

impl End {
    /// Whether the supervisor is killed, and so cannot say what became of its lines.
    pub(crate) fn is_kill(self) -> bool {
        matches!(self, Self::KillSupervisor | Self::KillGroup)
    }
}

/// One agent: its events with their times in ms, and its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) events: Vec<(u64, Event)>,
    pub(crate) end_at: u64,
    pub(crate) end: End,
    /// The spool's directory is read-only.
    pub(crate) read_only: bool,
}

/// Where the spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// On the disk of the build directory.
    Shared,
    /// On a file system of its own, of this many MiB: it can be full, and read-only.
    Own(u64),
}

/// A whole schedule. After its runs the drains answer well, and further agents deliver what is left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) drains: usize,
    pub(crate) gzip: bool,
    pub(crate) disk: Disk,
    pub(crate) settings: Vec<(&'static str, &'static str)>,
    pub(crate) runs: Vec<Run>,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} drains, gzip {}, disk {:?}", self.seed, self.drains, self.gzip, self.disk)?;
        for (name, value) in &self.settings {
            writeln!(f, "  {name}={value}")?;
        }
        for (number, run) in self.runs.iter().enumerate() {
            writeln!(f, "run {number}{}", if run.read_only { ", read-only" } else { "" })?;
            for (at, event) in &run.events {
                writeln!(f, "  {at:>5} ms {event:?}")?;
            }
            writeln!(f, "  {:>5} ms {:?}", run.end_at, run.end)?;
        }
        Ok(())
    }
}

impl Schedule {
    /// The schedule of this seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let drains = pick(rng, &[1, 1, 1, 2, 3]);
        let disk = if rng.u64(0..4) == 0 { Disk::Own(rng.u64(6..=14)) } else { Disk::Shared };
        let max_line = pick(rng, &["10000", "10000", "1000", "300"]);
        let settings = vec![
            ("TAILRACE_SPOOL_BYTES", pick(rng, &["4MiB", "4MiB", "6MiB", "64MiB"])),
            ("TAILRACE_BATCH_LINGER", pick(rng, &["10ms", "100ms", "300ms"])),
            ("TAILRACE_BATCH_BYTES", pick(rng, &["16KiB", "64KiB", "512KiB"])),
            ("TAILRACE_REQUEST_TIMEOUT", pick(rng, &["1s", "5s"])),
            ("TAILRACE_STOP_GRACE", pick(rng, &["1s", "2s"])),
            ("TAILRACE_SAMPLE_INTERVAL", pick(rng, &["0", "1s"])),
            ("TAILRACE_HEARTBEAT", pick(rng, &["off", "1s"])),
            ("TAILRACE_MAX_LINE", max_line),
        ];
        let gzip = rng.u64(0..4) == 0;
        let count = rng.usize(1..=4);
        let context = Context { drains, disk, max_line: max_line.parse().unwrap() };
        let runs = (0..count).map(|_| context.run(rng, 2500 / count as u64)).collect();
        Self { seed, drains, gzip, disk, settings, runs }
    }

    /// All schedules with one thing less, for a search of the shortest one that fails.
    pub(crate) fn shorter(&self) -> Vec<Self> {
        let mut shorter = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut copy = self.clone();
            change(&mut copy);
            if copy != *self {
                shorter.push(copy);
            }
        };
        for run in (0..self.runs.len()).filter(|_| self.runs.len() > 1) {
            add(&|copy| drop(copy.runs.remove(run)));
        }
        add(&|copy| copy.drains = 1);
        for (run, events) in self.runs.iter().map(|run| run.events.len()).enumerate() {
            for event in 0..events {
                add(&|copy| drop(copy.runs[run].events.remove(event)));
            }
        }
        add(&|copy| copy.gzip = false);
        add(&|copy| copy.disk = Disk::Shared);
        shorter
    }

    /// Bytes of a message at most.
    pub(crate) fn max_line(&self) -> u64 {
        let setting = self.settings.iter().find(|(name, _)| *name == "TAILRACE_MAX_LINE");
        setting.map_or(10_000, |(_, value)| value.parse().unwrap())
    }

    /// Whether an event of this kind is part of it.
    pub(crate) fn has(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.runs.iter().flat_map(|run| &run.events).any(|(_, event)| is_it(event))
    }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

/// What the events of a schedule depend on.
struct Context {
    drains: usize,
    disk: Disk,
    max_line: u64,
}

impl Context {
    fn run(&self, rng: &mut Rng, length: u64) -> Run {
        let end_at = rng.u64(length / 3..=length);
        let mut events = Vec::new();
        for _ in 0..rng.u64(1..=4) {
            events.push((rng.u64(0..=end_at * 3 / 4), self.print(rng)));
        }
        for _ in 0..rng.u64(0..=2) {
            self.outage(rng, end_at, &mut events);
        }
        for _ in 0..rng.u64(0..=2) {
            self.trouble(rng, end_at, &mut events);
        }
        events.sort_by_key(|(at, _)| *at);
        let end = match rng.u64(0..10) {
            0..=2 => End::Exit,
            3..=4 => End::Term { times: rng.u64(1..=4), to_group: rng.bool() },
            5 => End::KillApp,
            6..=7 => End::KillSupervisor,
            _ => End::KillGroup,
        };
        let read_only = self.disk != Disk::Shared && rng.u64(0..5) == 0;
        Run { events, end_at, end, read_only }
    }

    fn print(&self, rng: &mut Rng) -> Event {
        let output = pick(rng, &[Output::Out, Output::Out, Output::Err]);
        // Few lines; a stream of them; or more than the spool may hold.
        let (count, len, burst, pause) = match rng.u64(0..6) {
            0 => (rng.u64(1..=5), rng.u64(40..=400), 1, 0),
            1 | 2 => (rng.u64(50..=500), rng.u64(40..=400), rng.u64(1..=3), rng.u64(0..=3000)),
            3 => (rng.u64(1000..=4000), rng.u64(60..=300), 50, rng.u64(0..=2000)),
            4 => (rng.u64(5..=100), rng.u64(1000..=25_000), 2, rng.u64(0..=3000)),
            _ => (rng.u64(4000..=9000), rng.u64(900..=1500), 20, 0),
        };
        // The last frame of a long line needs room for the line's name.
        let rest = len % self.max_line;
        let len = if len > self.max_line && rest < 100 { len + 100 - rest } else { len };
        Event::Print { output, count, len, burst, pause }
    }

    /// A drain that does not answer well, for some time or to the end of the run.
    fn outage(&self, rng: &mut Rng, end_at: u64, events: &mut Vec<(u64, Event)>) {
        const FAULTS: [&str; 18] = [
            "refuse",
            "refuse",
            "status=503",
            "status=503:50%",
            "status=429:retry-after=1",
            "status=401",
            "status=400",
            "status=413:30%",
            "too-large=20KiB",
            "reset-before",
            "reset-after",
            "reset-after:30%",
            "stall=2s",
            "slow-read=100KiB/s",
            "latency=150ms",
            "close-after-answer",
            "tls-stall:50%",
            "wrong-cert",
        ];
        let index = rng.usize(..self.drains);
        let from = rng.u64(0..end_at);
        events.push((from, Event::Drain { index, faults: pick(rng, &FAULTS).to_owned() }));
        if rng.u64(0..3) > 0 {
            events.push((rng.u64(from..=end_at), Event::Drain { index, faults: String::new() }));
        }
    }

    /// Something happens to a process, or to the disk.
    fn trouble(&self, rng: &mut Rng, end_at: u64, events: &mut Vec<(u64, Event)>) {
        const DAMAGE: [Damage; 5] =
            [Damage::Emptied, Damage::Cut, Damage::Removed, Damage::Flipped, Damage::Zeroed];
        let at = rng.u64(50..=end_at.max(51));
        let ms = rng.u64(50..=1200);
        let event = match rng.u64(0..12) {
            3 => Event::Stop { target: Target::Shipper, ms },
            4 => Event::Stop { target: Target::Supervisor, ms },
            5 => Event::Stop { target: Target::Group, ms },
            6 => Event::SlowDisk { ms },
            7 | 8 => Event::Damage { damage: pick(rng, &DAMAGE), index: rng.usize(0..8) },
            9 if self.disk != Disk::Shared => {
                events.push((rng.u64(at..=end_at.max(at)), Event::FreeDisk));
                Event::FillDisk
            }
            9 => Event::StepClock { ms: rng.i64(-20_000..=20_000) },
            10 => Event::DamageCheckpoint { damage: pick(rng, &DAMAGE), index: rng.usize(0..8) },
            11 => Event::ForeignFile { kind: rng.usize(0..4) },
            _ => Event::KillShipper,
        };
        events.push((at, event));
    }
}
