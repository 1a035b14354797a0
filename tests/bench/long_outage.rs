//! A long outage: the drain is down for minutes while the app goes on, all in a control group with little memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::full_speed::Encoding;
use crate::harness::Harness;
use crate::measure::{ProcessPair, observe};
use crate::results::Results;

/// Lines per second.
const RATE: u64 = 1_000;
/// Memory of the control group: app, agent, and the page cache of what they write.
const MEMORY: u64 = 128 << 20;
/// Holds 10 minutes: by default the spool takes at most a quarter of the memory.
const SPOOL_BYTES: &str = "512MiB";
/// How long the app goes on after the outage.
const AFTERWARDS: Duration = Duration::from_mins(1);
/// The slowest catch-up that is good enough, in multiples of the rate at which the lines came.
const MIN_CATCH_UP: f64 = 20.0;
/// How much more memory the agent, and the page cache of its spool, may take at the end of any minute than at that of the
/// first.
const MAX_GROWTH: u64 = 2 << 20;
const MIB: f64 = (1 << 20) as f64;

/// Runs an outage of so many minutes and prints what it cost, once a minute.
pub(crate) fn run(harness: &mut Harness, minutes: u64, results: &mut Results) -> Result<()> {
    let group = ControlGroup::create(MEMORY)?;
    let outage = Duration::from_mins(minutes);
    harness.sink.ask("reset")?;
    harness.sink.ask("answer 503")?;
    let mut child = command(harness, &group, outage + AFTERWARDS)?.spawn()?;
    let held = outage.as_secs() * RATE;
    let mut next = Duration::from_mins(1);
    let (mut up, mut first, mut caught_up) = (None, None, None);
    let mut memory = Vec::new();
    println!("minute  agent, MiB  group, MiB  of it page cache  lines at the sink");
    let cost = observe(&harness.cores, &mut child, outage + 2 * AFTERWARDS, |at, processes| {
        if at >= outage && up.is_none() {
            harness.sink.ask("answer 204")?;
            up = Some(Instant::now());
        }
        if up.is_some() && caught_up.is_none() {
            let lines = harness.sink.ask("report")?.get("lines")? as u64;
            if lines > 0 {
                first.get_or_insert_with(Instant::now);
            }
            // A linger and a second behind is as it is without an outage.
            if lines + 2 * RATE >= (at.as_secs_f64() * RATE as f64) as u64 {
                caught_up = Some(Instant::now());
            }
        }
        if at >= next {
            next += Duration::from_mins(1);
            let lines = harness.sink.ask("report")?.get("lines")? as u64;
            memory.push(report(at, &group, processes, lines));
        }
        Ok(())
    })?;
    if cost.exit != Some(0) {
        return Err(format!("ended with {:?}", cost.exit).into());
    }
    let peak = group.read("peak").ok_or("the control group does not tell its peak")?;
    let (Some(up), Some(first), Some(caught_up)) = (up, first, caught_up) else {
        return Err("it had not caught up a minute after the outage".into());
    };
    let took = (caught_up - first).as_secs_f64();
    let speed = held as f64 / RATE as f64 / took.max(1e-3);
    println!(
        "outage of {minutes} min: {held} lines held; first request {:.1} s after its end, caught up {took:.1} s later \
         ({speed:.0} times as fast as they came); at most {:.0} of {:.0} MiB used",
        (first - up).as_secs_f64(),
        peak as f64 / MIB,
        MEMORY as f64 / MIB
    );
    let sent = harness.app_report()?.get("lines")? as u64;
    harness.expect_delivered("outage", sent, results)?;
    if speed < MIN_CATCH_UP {
        return Err(format!("expected it to catch up {MIN_CATCH_UP} times as fast as the lines came").into());
    }
    for (what, grown) in growth(&memory) {
        if grown > MAX_GROWTH {
            return Err(
                format!("the {what} grew by {:.1} MiB after the first minute", grown as f64 / MIB).into()
            );
        }
    }
    Ok(())
}

/// How much more the agent and the page cache took after the first minute.
fn growth(memory: &[Memory]) -> [(&'static str, u64); 2] {
    let grown = |of: fn(&Memory) -> u64| {
        let most = memory.iter().map(of).max().unwrap_or(0);
        most - memory.first().map_or(most, of)
    };
    [("agent", grown(|memory| memory.agent)), ("page cache", grown(|memory| memory.page_cache))]
}

/// `tailrace run -- app` in the control group.
fn command(harness: &Harness, group: &ControlGroup, time: Duration) -> Result<Command> {
    let mut agent = harness.tailrace(Encoding::Identity)?;
    let app = harness.role("pace");
    agent.args(["run", "--"]).arg(app.get_program()).arg("pace");
    agent.arg(RATE.to_string()).arg(time.as_secs_f64().to_string()).arg(harness.path("app"));
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(group.path("cgroup.procs"));
    command.arg(agent.get_program()).args(agent.get_args()).env_clear();
    command.envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TAILRACE_SPOOL_BYTES", SPOOL_BYTES);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(harness.stderr()?);
    Ok(command)
}

/// Bytes at one moment.
struct Memory {
    agent: u64,
    page_cache: u64,
}

fn report(at: Duration, group: &ControlGroup, processes: &ProcessPair, lines: u64) -> Memory {
    let usage = group.read("usage").unwrap_or_default() as f64 / MIB;
    let memory = Memory { agent: processes.pss(), page_cache: group.page_cache().unwrap_or_default() };
    let (agent, cache) = (memory.agent as f64 / MIB, memory.page_cache as f64 / MIB);
    println!("{:>6}  {agent:>10.1}  {usage:>10.1}  {cache:>16.1}  {lines:>17}", at.as_secs() / 60);
    memory
}

/// A control group for memory, removed at the end.
struct ControlGroup {
    path: PathBuf,
    is_v2: bool,
}

impl ControlGroup {
    /// Creates a group below that of this process.
    fn create(memory: u64) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let prefix = if is_v2 { "0::" } else { ":memory:" };
        let own = own.lines().find_map(|line| Some(line.split_once(prefix)?.1)).ok_or("no control group")?;
        let parent = if is_v2 { root.to_owned() } else { root.join("memory") };
        let path = parent.join(own.trim_start_matches('/')).join(format!("tailrace-{}", std::process::id()));
        let create = || {
            std::fs::create_dir(&path)?;
            let limit = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
            std::fs::write(path.join(limit), memory.to_string())
        };
        create().map_err(|error| format!("{}: {error}: run it as root", path.display()))?;
        Ok(Self { path, is_v2 })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The bytes that are used now (`usage`), or that were at most (`peak`).
    fn read(&self, what: &str) -> Option<u64> {
        let name = match (what, self.is_v2) {
            ("usage", true) => "memory.current",
            ("usage", false) => "memory.usage_in_bytes",
            (_, true) => "memory.peak",
            (_, false) => "memory.max_usage_in_bytes",
        };
        std::fs::read_to_string(self.path(name)).ok()?.trim().parse().ok()
    }

    fn page_cache(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(self.path("memory.stat")).ok()?;
        let name = if self.is_v2 { "file " } else { "cache " };
        stat.lines().find_map(|line| line.strip_prefix(name))?.parse().ok()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.path) {
            eprintln!(" !     {}: {error}", self.path.display());
        }
    }
}
