//! The cost of a runtime sample in a dyno of 50 processes, which is a PID namespace without others.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::time::TimeValLike;
use nix::time::ClockId;
use tailrace::sample::{Sampler, SamplerSettings};

use crate::Result;
use crate::harness::Harness;
use crate::results::Results;
use crate::stats::Figures;

const PROCESSES: usize = 50;
/// Reads of the memory before samples are measured, so that every process is known.
const WARM_UP_READS: usize = PROCESSES;
/// Bytes of the process whose proportional share is measured separately.
const LARGE_PROCESS_BYTES: u64 = 100 << 20;
/// How often that share is read.
const READS: usize = 20;
const SAMPLES: usize = 200;

/// The processes of the dyno; all exit with their parent.
struct Dyno(Child);

impl Dyno {
    fn start() -> Result<Self> {
        // Each reads from a pipe to which nothing is written.
        let script = format!("for i in $(seq {}); do cat <&3 & done 3<&0; exec cat", PROCESSES - 1);
        let mut command = Command::new("sh");
        Ok(Self(command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?))
    }
}

impl Drop for Dyno {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// The CPU time of this thread, in ms.
fn thread_cpu() -> Result<f64> {
    Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now()?.num_microseconds() as f64 / 1e3)
}

fn processes() -> Result<usize> {
    let names = std::fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    Ok(names.filter(|name| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok())).count())
}

/// The CPU time of reading the share of a process that holds [`LARGE_PROCESS_BYTES`] bytes, in ms. `tail` buffers input without a line end.
fn large_share() -> Result<f64> {
    let script =
        format!("{{ head -c {LARGE_PROCESS_BYTES} /dev/zero; cat <&3; }} 3<&0 | exec tail >/dev/null");
    let mut shell = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn()?;
    let start = Instant::now();
    let rollup = loop {
        let found = std::fs::read_dir("/proc")?.flatten().map(|entry| entry.path()).find(|path| {
            let is_tail = std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "tail\n");
            let pages = std::fs::read_to_string(path.join("statm")).unwrap_or_default();
            let pages: Option<u64> = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
            is_tail && pages.is_some_and(|pages| pages * 4096 >= LARGE_PROCESS_BYTES)
        });
        if let Some(path) = found {
            break path.join("smaps_rollup");
        }
        if start.elapsed() > Duration::from_secs(30) {
            return Err("the large process does not grow".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let before = thread_cpu()?;
    for _ in 0..READS {
        std::fs::read(&rollup)?;
    }
    let cost = (thread_cpu()? - before) / READS as f64;
    drop(shell.stdin.take());
    shell.wait()?;
    Ok(cost)
}

/// Runs in the namespace: prints the cost of a sample, without and with the extra line.
pub(crate) fn measure() -> Result<()> {
    let dyno = Dyno::start()?;
    let start = Instant::now();
    while processes()? <= PROCESSES {
        if start.elapsed() > Duration::from_secs(30) {
            return Err("the processes do not start".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (app, agent) = (dyno.0.id() as i32, [std::process::id() as i32, 0]);
    for (key, extra) in [("plain", false), ("more", true)] {
        let settings =
            SamplerSettings { dyno: "web.1".to_owned(), dyno_id: None, quota: None, extra, alarms: true };
        let mut sampler = Sampler::new(settings);
        let before = thread_cpu()?;
        for _ in 0..WARM_UP_READS {
            sampler.prefetch(app, agent); // each reads all processes, and the share of one
        }
        if !extra {
            println!("share={}", (thread_cpu()? - before) / WARM_UP_READS as f64);
        }
        let before = thread_cpu()?;
        let mut lines = 0;
        for _ in 0..SAMPLES {
            lines += sampler.sample(app, agent).lines.len();
        }
        if lines < 2 * SAMPLES {
            return Err(format!("{lines} lines in {SAMPLES} samples").into());
        }
        println!("{key}={}", (thread_cpu()? - before) / SAMPLES as f64);
    }
    drop(dyno);
    println!("large={}", large_share()?);
    Ok(())
}

/// Creates the namespace and measures in it.
pub(crate) fn run(harness: &mut Harness, results: &mut Results) -> Result<()> {
    let role = harness.role("sample");
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(role.get_program());
    let output = command.args(role.get_args()).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("no namespace: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let figures = Figures::parse(&String::from_utf8_lossy(&output.stdout))?;
    results.add("sample.cpu", figures.get("plain")?);
    results.add("sample.more.cpu", figures.get("more")?);
    results.add("sample.share.cpu", figures.get("share")?);
    results.add("sample.large.cpu", figures.get("large")?);
    Ok(())
}
