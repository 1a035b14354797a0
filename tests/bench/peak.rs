//! The most that a contestant had at a time: memory, threads, page cache of its spool.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::measure::Tree;

const LOOK: Duration = Duration::from_millis(25);
/// How many looks pass between two looks at the page cache, which start a process.
const CACHE_LOOKS: u64 = 4;

/// The largest values seen.
#[derive(Default)]
pub(crate) struct Peak {
    next: Duration,
    looks: u64,
    spool: Option<PathBuf>,
    /// Summed PSS of both processes, in bytes.
    pub(crate) pss: u64,
    pub(crate) threads: u64,
    /// Bytes of the spool's files in the page cache; `None` where nobody can tell.
    pub(crate) cache: Option<u64>,
}

impl Peak {
    /// Looks at the files in `spool` too.
    pub(crate) fn with_spool(spool: PathBuf) -> Self {
        Self { spool: Some(spool), ..Self::default() }
    }

    /// One look, `at` after the start; most calls do nothing.
    pub(crate) fn look(&mut self, at: Duration, tree: &Tree) {
        if at < self.next {
            return;
        }
        self.next = at + LOOK;
        self.pss = self.pss.max(tree.pss());
        self.threads = self.threads.max(tree.threads());
        if self.looks.is_multiple_of(CACHE_LOOKS) {
            self.cache = self.cache.max(self.spool.as_deref().and_then(page_cache));
        }
        self.looks += 1;
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
    // Segments come and go: what is gone is left out of its answer.
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
