//! Peak values of a contestant: memory, threads, page cache of its spool.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::measure::ProcessPair;

/// The interval between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(25);
/// The page cache is read at every fourth sample, because that starts a process.
const SAMPLES_PER_CACHE_READ: u64 = 4;

/// The largest values so far.
#[derive(Default)]
pub(crate) struct Peak {
    next: Duration,
    samples: u64,
    spool: Option<PathBuf>,
    /// Summed PSS of both processes, in bytes.
    pub(crate) pss: u64,
    pub(crate) threads: u64,
    /// Bytes of the spool's files in the page cache; `None` if unknown.
    pub(crate) cache: Option<u64>,
}

impl Peak {
    /// Includes the page cache of the files in `spool`.
    pub(crate) fn with_spool(spool: PathBuf) -> Self {
        Self { spool: Some(spool), ..Self::default() }
    }

    /// Takes a sample, `at` after the start, unless the last one is too recent.
    pub(crate) fn sample(&mut self, at: Duration, processes: &ProcessPair) {
        if at < self.next {
            return;
        }
        self.next = at + SAMPLE_INTERVAL;
        self.pss = self.pss.max(processes.pss());
        self.threads = self.threads.max(processes.threads());
        if self.samples.is_multiple_of(SAMPLES_PER_CACHE_READ) {
            self.cache = self.cache.max(self.spool.as_deref().and_then(page_cache));
        }
        self.samples += 1;
    }
}

/// Bytes in the page cache of all files of the agents under `spool`, by util-linux's `fincore`.
fn page_cache(spool: &Path) -> Option<u64> {
    let agents = std::fs::read_dir(spool).ok()?.flatten();
    let files = agents.filter_map(|agent| std::fs::read_dir(agent.path()).ok()).flatten().flatten();
    let files: Vec<PathBuf> = files.map(|file| file.path()).collect();
    if files.is_empty() {
        return None;
    }
    // Segments are deleted meanwhile; fincore leaves them out of its output.
    let fincore = Command::new("fincore")
        .args(["--bytes", "--noheadings", "--raw", "--output", "RES", "--"])
        .args(files)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    Some(
        String::from_utf8_lossy(&fincore.stdout)
            .lines()
            .filter_map(|line| line.trim().parse::<u64>().ok())
            .sum(),
    )
}
