//! The apps under measurement.
//!
//! They write log lines to standard output, and their own measurements (CPU time, latency of their writes) to a report
//! file, as `key=value` lines.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_timerslack;
use nix::sys::resource::{UsageWho, getrusage};

use crate::Result;
use crate::load::Lines;
use crate::measure::{cpu_of, monotonic_micros};
use crate::stats::Percentiles;

/// Bytes of one write of [`blast`]: the capacity of a pipe.
const CHUNK: usize = 64 * 1024;
/// Bytes of one burst, such as many stack traces at once.
const BURST_BYTES: usize = 290 * 1024;

/// Copies `source` to standard output at full speed.
pub(crate) fn blast(source: &Path, report: &Path) -> Result<()> {
    let mut file = File::open(source)?;
    let mut stdout = std::io::stdout().lock();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        stdout.write_all(&chunk[..read])?;
    }
    stdout.flush()?;
    save(report, String::new())
}

/// Writes `rate` lines per second for `time`, one write each, each line prefixed with the time of the write as
/// `t=MICROS `; reports the durations of the writes.
pub(crate) fn pace(rate: u64, time: Duration, report: &Path) -> Result<()> {
    pace_to(&mut [unbuffered()?], rate, time, report)
}

/// As [`pace`], alternately to standard output and to standard error.
pub(crate) fn alternate(rate: u64, time: Duration, report: &Path) -> Result<()> {
    let stderr = File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
    pace_to(&mut [unbuffered()?, stderr], rate, time, report)
}

/// Writes to each of `outputs` in turn.
fn pace_to(outputs: &mut [File], rate: u64, time: Duration, report: &Path) -> Result<()> {
    set_timerslack(1)?;
    let mut lines = Lines::new();
    let mut line = Vec::with_capacity(1024);
    let count = (time.as_secs_f64() * rate as f64) as u64;
    let mut durations = Vec::with_capacity(count as usize);
    let start = Instant::now();
    for number in 0..count {
        let due = Duration::from_secs_f64(number as f64 / rate as f64);
        if let Some(rest) = due.checked_sub(start.elapsed()) {
            std::thread::sleep(rest);
        }
        line.clear();
        write!(line, "t={:016} ", monotonic_micros()?)?;
        line.extend_from_slice(lines.next_line());
        let output = number as usize % outputs.len();
        let before = Instant::now();
        outputs[output].write_all(&line)?;
        durations.push(before.elapsed().as_nanos() as f64 / 1e3);
    }
    save(report, format!("lines={count}\n{}", Percentiles::of(&mut durations)))
}

/// Writes `count` bursts of 290 KB, 50 ms apart, one write each; reports the durations of the writes.
pub(crate) fn burst(count: u64, report: &Path) -> Result<()> {
    let mut lines = Lines::new();
    let mut stdout = unbuffered()?;
    let (mut text, mut written) = (Vec::with_capacity(BURST_BYTES + 1024), 0);
    let mut durations = Vec::with_capacity(count as usize);
    for _ in 0..count {
        text.clear();
        while text.len() < BURST_BYTES {
            text.extend_from_slice(lines.next_line());
            written += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
        let before = Instant::now();
        stdout.write_all(&text)?;
        durations.push(before.elapsed().as_nanos() as f64 / 1e3);
    }
    save(report, format!("lines={written}\n{}", Percentiles::of(&mut durations)))
}

/// Prints one line, then sleeps.
pub(crate) fn idle(time: Duration, report: &Path) -> Result<()> {
    println!("up");
    std::thread::sleep(time);
    save(report, "lines=1\n".to_owned())
}

/// Reports when it was started.
pub(crate) fn stamp(report: &Path) -> Result<()> {
    let at = monotonic_micros()?;
    save(report, format!("at={at}\n"))
}

/// Prints a hundred lines and reports when it finished.
pub(crate) fn last(report: &Path) -> Result<()> {
    let mut lines = Lines::new();
    let mut stdout = unbuffered()?;
    for _ in 0..100 {
        stdout.write_all(lines.next_line())?;
    }
    let at = monotonic_micros()?;
    save(report, format!("lines=100\nat={at}\n"))
}

/// Standard output without the line buffer of [`std::io::Stdout`]: each `write_all` is one write.
fn unbuffered() -> Result<File> {
    Ok(File::from(std::io::stdout().as_fd().try_clone_to_owned()?))
}

/// Writes the report, with the CPU time of this process.
fn save(report: &Path, mut text: String) -> Result<()> {
    let cpu = cpu_of(&getrusage(UsageWho::RUSAGE_SELF)?);
    writeln!(text, "cpu={}", cpu.as_secs_f64())?;
    std::fs::write(report, text)?;
    Ok(())
}
