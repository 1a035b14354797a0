//! The directory of one agent.

use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why a directory cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpoolError {
    /// A call failed on this path.
    Io {
        /// What was being done.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        error: io::Error,
    },
    /// Neither the disk nor memory takes anything.
    Nowhere,
    /// The path is a link, not a directory, or another user's.
    NotOurs {
        /// The path.
        path: PathBuf,
    },
}

impl SpoolError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { doing, path, error }
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("neither the disk nor memory can be written to"),
            Self::Io { doing, path, error } => write!(f, "{doing} {}: {error}", path.display()),
            Self::NotOurs { path } => {
                write!(
                    f,
                    "{} is not a directory of this user's: set TAILRACE_SPOOL_DIR to one",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Nowhere | Self::NotOurs { .. } => None,
        }
    }
}

/// A locked directory of our own.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// ProcFs of segments that are done with, to be used again.
    spares: Mutex<Vec<PathBuf>>,
    _lock: Flock<File>,
}

/// Spares at most: they are in the page cache, and that counts as the dyno's memory.
const SPARES: usize = 2;

/// Name of the lock file.
const LOCK: &str = "lock";

impl Directory {
    /// Makes `base` when it is missing, and `base/agent` in it, locked.
    ///
    /// # Errors
    /// [`SpoolError`] when that cannot be done without following somebody's link.
    pub fn create(base: &Path, agent: &str) -> Result<Self, SpoolError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(base).map_err(SpoolError::io("cannot make", base))?;
        check_ours(base)?;
        let path = base.join(agent);
        builder.recursive(false).create(&path).map_err(SpoolError::io("cannot make", &path))?;
        match Self::lock(&path)? {
            Some(lock) => Ok(Self { path, spares: Mutex::default(), _lock: lock }),
            None => Err(SpoolError::NotOurs { path }),
        }
    }

    /// Locks a directory that is there; nothing when a living agent holds it.
    ///
    /// # Errors
    /// [`SpoolError`] when it is not ours or cannot be opened.
    pub fn take_over(path: PathBuf) -> Result<Option<Self>, SpoolError> {
        check_ours(&path)?;
        Ok(Self::lock(&path)?.map(|lock| Self { path, spares: Mutex::default(), _lock: lock }))
    }

    /// Whether a living agent of this name holds its directory in `base`.
    pub fn is_held(base: &Path, agent: &str) -> bool {
        let is_name = !agent.is_empty() && agent.bytes().all(|b| b.is_ascii_hexdigit());
        is_name && matches!(Self::take_over(base.join(agent)), Ok(None))
    }

    fn lock(path: &Path) -> Result<Option<Flock<File>>, SpoolError> {
        let lock = path.join(LOCK);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&lock)
            .map_err(SpoolError::io("cannot open", &lock))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(SpoolError::Io { doing: "cannot lock", path: lock, error: errno.into() }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the segment that starts at `offset`.
    pub fn segment(&self, offset: u64) -> PathBuf {
        self.path.join(format!("{offset:020}"))
    }

    /// Takes the file of a segment that is done with, to be used again; removes it when there are enough. A file
    /// that is written over costs a third of one that is made and removed.
    pub(super) fn retire(&self, path: &Path) {
        let mut spares = self.spares();
        if spares.len() < SPARES && path.parent() == Some(&self.path) {
            spares.push(path.to_owned());
        } else {
            // Somebody who cleaned the directory has done it for us.
            drop(std::fs::remove_file(path));
        }
    }

    /// Gives a spare file the name of the segment at `offset`, and opens it.
    pub(super) fn reuse(&self, offset: u64) -> Option<File> {
        let spare = self.spares().pop()?;
        let file = OpenOptions::new().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&spare).ok()?;
        // Before it has its new name: what is in it belongs to the old one.
        file.write_all_at(&[0], 0).ok()?;
        std::fs::rename(&spare, self.segment(offset)).ok()?;
        Some(file)
    }

    /// Removes the spare files.
    pub fn trim(&self) {
        for path in self.spares().drain(..) {
            drop(std::fs::remove_file(path));
        }
    }

    fn spares(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments in it, as (offset, bytes, path), ascending.
    ///
    /// # Errors
    /// [`SpoolError`] when it cannot be listed.
    pub fn segments(&self) -> Result<Vec<(u64, u64, PathBuf)>, SpoolError> {
        let mut found = Vec::new();
        let entries = std::fs::read_dir(&self.path).map_err(SpoolError::io("cannot list", &self.path))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let offset = name.to_str().filter(|n| n.len() == 20).and_then(|n| n.parse().ok());
            // `metadata` of an entry does not follow links.
            let len = entry.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
            if let (Some(offset), Some(len)) = (offset, len) {
                found.push((offset, len, entry.path()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Whether it is on a file system that lives in memory.
    pub fn in_memory(&self) -> bool {
        nix::sys::statfs::statfs(&self.path)
            .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
    }

    /// Removes it.
    pub fn remove(self) {
        self.clear();
    }

    /// Removes it, with what the agent put there and nothing else; the lock stays held.
    pub fn clear(&self) {
        for (_, _, path) in self.segments().unwrap_or_default() {
            drop(std::fs::remove_file(path));
        }
        for name in [super::checkpoint::CURSORS, LOCK] {
            drop(std::fs::remove_file(self.path.join(name)));
        }
        drop(std::fs::remove_dir(&self.path));
    }
}

fn check_ours(path: &Path) -> Result<(), SpoolError> {
    let meta = std::fs::symlink_metadata(path).map_err(SpoolError::io("cannot look at", path))?;
    if meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() {
        Ok(())
    } else {
        Err(SpoolError::NotOurs { path: path.to_owned() })
    }
}
