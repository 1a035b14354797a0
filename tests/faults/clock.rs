//! A clock of the agent that can be moved: a library that the dynamic loader puts before the system's.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// The library, once it is built; `None` without a C compiler.
static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();

/// The clock of the agents of one schedule.
pub(crate) struct Clock {
    file: File,
    path: PathBuf,
    nanos: AtomicI64,
}

impl Clock {
    /// A clock that is right, with its offset in `path`; `None` where it cannot be moved.
    pub(crate) fn new(path: &Path) -> Option<Self> {
        LIBRARY.get_or_init(build).as_ref()?;
        let file = File::create(path).unwrap();
        file.write_all_at(&[0; 8], 0).unwrap();
        Some(Self { file, path: path.to_owned(), nanos: AtomicI64::new(0) })
    }

    /// The environment of the agents.
    pub(crate) fn settings(&self) -> [(&'static str, String); 2] {
        let library = LIBRARY.get().and_then(Option::as_ref).map(|path| path.display().to_string());
        [("LD_PRELOAD", library.unwrap_or_default()), ("CLOCK_STEP_FILE", self.path.display().to_string())]
    }

    /// Moves it by some ms.
    pub(crate) fn step(&self, ms: i64) {
        let nanos = self.nanos.fetch_add(ms * 1_000_000, Ordering::Relaxed) + ms * 1_000_000;
        self.file.write_all_at(&nanos.to_ne_bytes(), 0).unwrap();
    }
}

/// Removes the library, if it was built.
pub(crate) fn remove_library() {
    if let Some(Some(library)) = LIBRARY.get() {
        std::fs::remove_file(library).ok(); // somebody may have cleaned the directory
    }
}

fn build() -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/clock_step.c");
    // LD_PRELOAD cannot name a path with a blank, as the build directory's may be.
    let library = std::env::temp_dir().join(format!("tailrace-clock-step-{}.so", std::process::id()));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    if built.is_ok_and(|status| status.success()) {
        Some(library)
    } else {
        crate::harness::skip("steps of the clock: no C compiler");
        None
    }
}
