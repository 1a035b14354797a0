use super::*;
use crate::procfs::tests::layout;
use std::process::{Command, Stdio};
use std::thread;
use tempfile::TempDir;

fn settings() -> SamplerSettings {
    SamplerSettings { dyno: "web.1".into(), dyno_id: None, quota: None, more: false, alarms: true }
}

/// A container with version 2 of cgroups that takes this much.
fn of(anon: u64, quota: u64) -> Vec<AgentLine> {
    let (anon, quota) = (format!("anon {anon}\nfile 0\n"), format!("{quota}\n"));
    let (dir, _) = layout(&[
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
    lines.iter().map(|own| own.text.split_once("9009 ").map_or(own.text.as_str(), |(_, text)| text)).collect()
}

#[test]
fn load_comes_first_then_memory_then_alarms() {
    let mb = 1 << 20;
    assert_eq!(
        texts(&of(100 * mb, 512 * mb)),
        [
            "sample#load_avg_1m=0.00",
            "sample#memory_total=100.00MB sample#memory_rss=100.00MB sample#memory_cache=0.00MB \
             sample#memory_swap=0.00MB sample#memory_pgpgin=0pages sample#memory_pgpgout=0pages \
             sample#memory_quota=512.00MB"
        ]
    );
    let lines = of(870 * mb, 512 * mb);
    assert_eq!(texts(&lines)[2..], ["Process running mem=870M(169.9%)", "Error R14 (Memory quota exceeded)"]);
    assert_eq!((lines[1].kind, lines[2].kind), (AgentLineKind::Sample, AgentLineKind::Lifecycle));
    assert_eq!(texts(&of(1025 * mb, 512 * mb))[3], "Error R15 (Memory quota vastly exceeded)");
}

/// A slug dyno's processes, which are looked at as the watch does it: every 20 s, and 5 s before.
struct Slug {
    dir: TempDir,
    sampler: Sampler,
    start: Instant,
}

impl Slug {
    fn new() -> Self {
        let (dir, _) = layout(&[("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n")]);
        let sampler = Sampler::below(dir.path(), settings());
        Self { dir, sampler, start: Instant::now() }
    }

    /// A process of `all` MB, of which `own` are its share; each time of another `life`, it is another one.
    fn process(&self, pid: i32, life: u64, all: u64, own: u64) {
        let dir = self.dir.path().join(format!("proc/{pid}"));
        std::fs::create_dir_all(&dir).unwrap();
        let pages = all << 8;
        let stat = format!("{pid} (a) S 1 1 1 0 -1 0 1 2 3 4 7 5 20 10 20 0 1 0 {life} 9 {pages} 1 2\n");
        std::fs::write(dir.join("stat"), stat).unwrap();
        std::fs::write(dir.join("smaps_rollup"), format!("Pss: {} kB\n", own << 10)).unwrap();
    }

    /// Samples from one second to another; those with an R14.
    fn alarms(&mut self, seconds: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        let mut seen = Vec::new();
        for second in seconds.step_by(20) {
            let now = self.start + Duration::from_secs(second);
            let ahead = self.start + Duration::from_secs(second.saturating_sub(5));
            while second > 0 && self.sampler.prefetch_at(2, [0, 0], ahead) {}
            let sample = self.sampler.sample_at(2, [0, 0], now);
            if texts(&sample.lines).iter().any(|text| text.starts_with("Error R14")) {
                seen.push(second);
            }
        }
        seen
    }
}

#[test]
fn an_alarm_comes_whenever_each_process_was_read_last() {
    for pids in [&[2][..], &[2, 3], &[2, 3, 4, 5]] {
        let mut slug = Slug::new();
        let own = 600 / pids.len() as u64;
        let set = |slug: &Slug, all, own| pids.iter().for_each(|pid| slug.process(*pid, 9, all, own));
        // They share what they have.
        set(&slug, 300, own / 3);
        assert_eq!(slug.alarms(0..=240), [0; 0], "{pids:?}");
        set(&slug, 300 + own * 2 / 3, own);
        let seen = slug.alarms(260..=500);
        assert!(seen.len() >= 3 && seen[0] <= 340, "within a minute and a sample, and again: {seen:?}");
    }
}

#[test]
fn an_alarm_comes_when_a_child_never_lives_for_long() {
    let mut slug = Slug::new();
    let mut seen = Vec::new();
    for second in (0..=300).step_by(20) {
        slug.process(2, 9, 300, 290);
        slug.process(3, 10 + second, 300, 290);
        seen.extend(slug.alarms(second..=second));
    }
    assert!(seen.len() >= 3 && seen[0] <= 80, "{seen:?}");
}

#[test]
fn the_dynos_own_id_is_taken_where_there_is_one() {
    let id = "63c5abfd-838b-4e2d-bce1-ce46de280675";
    let none =
        layout(&[("proc/sys/kernel/hostname", "ip-10-0-0-1\n"), ("proc/sys/kernel/random/uuid", "made\n")]);
    let host = layout(&[("proc/sys/kernel/hostname", &format!("{id}\n"))]);
    assert_eq!(uuid(Some(id), &none.1), id);
    assert_eq!(uuid(Some("../../etc/passwd sample#x=1"), &none.1), "made");
    assert_eq!(uuid(None, &host.1), id);
    assert_eq!(uuid(None, &layout(&[]).1), "unknown");
}

/// A child in Python labels memory and CPU are its own; it does a step for every line it gets.
const CHILD: &str = "
import os, sys
def step(): return sys.stdin.readline()
print('ready', flush=True)
step(); own = bytearray(os.urandom(1024)) * 65536; print('grown', flush=True)
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
del own
print('freed', flush=True)
while True: pass
";

#[test]
fn memory_and_load_of_real_processes_are_seen() {
    use std::io::{BufRead, BufReader, Write};
    let Ok(mut child) =
        Command::new("python3").args(["-c", CHILD]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    else {
        eprintln!("skipped: python3 is not installed");
        return;
    };
    let (mut input, mut output) =
        (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let mut step = |word: &str| {
        if word != "ready" {
            input.write_all(b"\n").unwrap();
        }
        assert_eq!(output.next().unwrap().unwrap(), word);
    };
    let pid = child.id() as i32;
    let mut processes = Processes::new(ProcFs::below(Path::new("/")));
    // On a machine and in a container alike: what comes from the child.
    let mut look = |exact: bool| {
        let mut all = processes.list(ProcessFilter { app: pid, agent: [0, 0] });
        processes::keep_descendants(&mut all, pid);
        if exact {
            let mut fresh = Processes::new(ProcFs::below(Path::new("/")));
            let now = Instant::now();
            fresh.refresh_all(&all, now, Duration::from_mins(1));
            let sum = fresh.sum(&all, now);
            assert!(sum.is_exact);
            return (sum.resident >> 20, all.len(), 0);
        }
        (0, all.len(), processes.runnable(&all))
    };
    step("ready");
    let (before, ..) = look(true);
    step("grown");
    let (grown, ..) = look(true);
    assert!((60..80).contains(&(grown - before)), "64 MB more: {before} MB, {grown} MB");
    step("shared");
    let (shared, count, _) = look(true);
    assert!(count == 5 && shared < grown + 30, "four copies share it: {grown} MB, {shared} MB");
    step("freed");
    let (freed, ..) = look(true);
    assert!(freed + 40 < shared, "{shared} MB, {freed} MB");
    let start = Instant::now();
    while look(false).2 != 1 {
        assert!(start.elapsed() < Duration::from_mins(1), "what burns CPU is runnable");
        thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
