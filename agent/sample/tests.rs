use super::*;
use crate::procfs::tests::fixture;
use std::process::{Command, Stdio};
use std::thread;
use tempfile::TempDir;

fn settings() -> SamplerSettings {
    SamplerSettings { dyno: "web.1".into(), dyno_id: None, quota: None, extra: false, alarms: true }
}

/// The lines of a sample in a container with version 2 of cgroups that uses `anon` bytes.
fn sample_lines(anon: u64, quota: u64) -> Vec<AgentLine> {
    let (anon, quota) = (format!("anon {anon}\nfile 0\n"), format!("{quota}\n"));
    let (dir, _) = fixture(&[
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", "41 30 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
        ("sys/fs/cgroup/memory.current", "9\n"),
        ("sys/fs/cgroup/memory.stat", &anon),
        ("sys/fs/cgroup/memory.max", &quota),
        ("proc/sys/kernel/hostname", "5d0a2b7e-97b6-4486-a9f7-d9486f7d9009\n"),
    ]);
    Sampler::below(dir.path(), settings()).sample(1, [0, 0]).lines
}

fn texts(lines: &[AgentLine]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line.text.split_once("9009 ").map_or(line.text.as_str(), |(_labels, text)| text))
        .collect()
}

#[test]
fn the_lines_are_load_memory_and_alarms_in_this_order() {
    let mb = 1 << 20;
    assert_eq!(
        texts(&sample_lines(100 * mb, 512 * mb)),
        [
            "sample#load_avg_1m=0.00",
            "sample#memory_total=100.00MB sample#memory_rss=100.00MB sample#memory_cache=0.00MB \
             sample#memory_swap=0.00MB sample#memory_pgpgin=0pages sample#memory_pgpgout=0pages \
             sample#memory_quota=512.00MB"
        ]
    );
    let lines = sample_lines(870 * mb, 512 * mb);
    assert_eq!(texts(&lines)[2..], ["Process running mem=870M(169.9%)", "Error R14 (Memory quota exceeded)"]);
    assert_eq!((lines[1].kind, lines[2].kind), (AgentLineKind::Sample, AgentLineKind::Lifecycle));
    assert_eq!(texts(&sample_lines(1025 * mb, 512 * mb))[3], "Error R15 (Memory quota vastly exceeded)");
}

/// The processes of a dyno that runs a slug, sampled like the sampler thread does: every 20 s, with prefetches 5 s
/// before.
struct SlugDyno {
    dir: TempDir,
    sampler: Sampler,
    start: Instant,
}

impl SlugDyno {
    fn new() -> Self {
        let (dir, _) = fixture(&[("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n")]);
        let sampler = Sampler::below(dir.path(), settings());
        Self { dir, sampler, start: Instant::now() }
    }

    /// Writes the files of a process that started at `start` and has `resident` MB, of which `proportional` MB are its
    /// part.
    fn process(&self, pid: i32, start: u64, resident: u64, proportional: u64) {
        let dir = self.dir.path().join(format!("proc/{pid}"));
        std::fs::create_dir_all(&dir).unwrap();
        let pages = resident << 8;
        let text = format!("{pid} (a) S 1 1 1 0 -1 0 1 2 3 4 7 5 20 10 20 0 1 0 {start} 9 {pages} 1 2\n");
        std::fs::write(dir.join("stat"), text).unwrap();
        std::fs::write(dir.join("smaps_rollup"), format!("Pss: {} kB\n", proportional << 10)).unwrap();
    }

    /// Takes samples every 20 s from one second to another. Returns the seconds of those with an R14.
    fn alarms(&mut self, seconds: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        let mut raised = Vec::new();
        for second in seconds.step_by(20) {
            let now = self.start + Duration::from_secs(second);
            let before = self.start + Duration::from_secs(second.saturating_sub(5));
            while second > 0 && self.sampler.prefetch_at(2, [0, 0], before) {}
            let sample = self.sampler.sample_at(2, [0, 0], now);
            if texts(&sample.lines).iter().any(|text| text.starts_with("Error R14")) {
                raised.push(second);
            }
        }
        raised
    }
}

#[test]
fn an_alarm_is_raised_whatever_the_times_of_the_last_readings() {
    for pids in [&[2][..], &[2, 3], &[2, 3, 4, 5]] {
        let mut slug = SlugDyno::new();
        let part = 600 / pids.len() as u64;
        let set = |slug: &SlugDyno, resident, proportional| {
            for pid in pids {
                slug.process(*pid, 9, resident, proportional);
            }
        };
        // Most memory is shared.
        set(&slug, 300, part / 3);
        assert_eq!(slug.alarms(0..=240), [0; 0], "{pids:?}");
        set(&slug, 300 + part * 2 / 3, part);
        let raised = slug.alarms(260..=500);
        assert!(raised.len() >= 3 && raised[0] <= 340, "within a minute and a sample, and again: {raised:?}");
    }
}

#[test]
fn an_alarm_is_raised_when_a_child_is_replaced_before_every_sample() {
    let mut slug = SlugDyno::new();
    let mut raised = Vec::new();
    for second in (0..=300).step_by(20) {
        slug.process(2, 9, 300, 290);
        slug.process(3, 10 + second, 300, 290);
        raised.extend(slug.alarms(second..=second));
    }
    assert!(raised.len() >= 3 && raised[0] <= 80, "{raised:?}");
}

#[test]
fn the_uuid_is_the_dyno_id_or_the_host_name_or_random() {
    let id = "63c5abfd-838b-4e2d-bce1-ce46de280675";
    let random = fixture(&[
        ("proc/sys/kernel/hostname", "ip-10-0-0-1\n"),
        ("proc/sys/kernel/random/uuid", "random\n"),
    ]);
    let hostname = fixture(&[("proc/sys/kernel/hostname", &format!("{id}\n"))]);
    assert_eq!(dyno_uuid(Some(id), &random.1), id);
    assert_eq!(dyno_uuid(Some("../../etc/passwd sample#x=1"), &random.1), "random");
    assert_eq!(dyno_uuid(None, &hostname.1), id);
    assert_eq!(dyno_uuid(None, &fixture(&[]).1), "unknown");
}

/// A process with known memory and CPU usage, in Python; it takes a step for every line of input.
const CHILD: &str = "
import os, sys
def step(): return sys.stdin.readline()
print('ready', flush=True)
step(); block = bytearray(os.urandom(1024)) * 65536; print('grown', flush=True)
step()
pids = []
for worker in range(4):
    pid = os.fork()
    if pid == 0:
        os.read(0, 0); import time; time.sleep(60); os._exit(0)
    pids.append(pid)
print('shared', flush=True)
step()
for pid in pids: os.kill(pid, 9)
for pid in pids: os.waitpid(pid, 0)
del block
print('freed', flush=True)
while True: pass
";

#[test]
fn memory_and_load_of_real_processes_are_measured() {
    use std::io::{BufRead, BufReader, Write};
    let Ok(mut child) =
        Command::new("python3").args(["-c", CHILD]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    else {
        eprintln!("skipped: python3 is not installed");
        return;
    };
    let (mut input, mut output) =
        (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let mut step = |state: &str| {
        if state != "ready" {
            input.write_all(b"\n").unwrap();
        }
        assert_eq!(output.next().unwrap().unwrap(), state);
    };
    let pid = child.id() as i32;
    let mut processes = Processes::new(ProcFs::below(Path::new("/")));
    // The child and its descendants, on a machine and in a container alike.
    let descendants = |processes: &mut Processes| {
        let mut all = processes.list(ProcessFilter { app: pid, agent: [0, 0] });
        processes::keep_descendants(&mut all, pid);
        all
    };
    let resident_mb = |all: &[Process]| {
        let mut processes = Processes::new(ProcFs::below(Path::new("/")));
        let now = Instant::now();
        processes.refresh_all(all, now, Duration::from_mins(1));
        let sum = processes.sum(all, now);
        assert!(sum.is_exact);
        sum.resident >> 20
    };
    step("ready");
    let before = resident_mb(&descendants(&mut processes));
    step("grown");
    let grown = resident_mb(&descendants(&mut processes));
    assert!((60..80).contains(&(grown - before)), "64 MB more: {before} MB, {grown} MB");
    step("shared");
    let all = descendants(&mut processes);
    let shared = resident_mb(&all);
    assert!(all.len() == 5 && shared < grown + 30, "four copies share it: {grown} MB, {shared} MB");
    step("freed");
    let freed = resident_mb(&descendants(&mut processes));
    assert!(freed + 40 < shared, "{shared} MB, {freed} MB");
    let start = Instant::now();
    loop {
        let all = descendants(&mut processes);
        if processes.runnable(&all) == 1 {
            break;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "a process that uses CPU is runnable");
        thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
