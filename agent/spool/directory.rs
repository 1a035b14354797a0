//! The directory of one agent: its lock, whose it is, its segment files, and spare files to recycle.

use super::SEGMENT_BYTES;
use super::disk;
use super::identity::{self, AppIdentity};
use crate::frame;
use crate::ledger::Offset;
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Why a directory cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum SpoolError {
    /// A system call failed on this path.
    Io {
        /// The operation, such as "cannot open".
        operation: &'static str,
        /// What it was for.
        path: PathBuf,
        /// How it failed.
        error: io::Error,
    },
    /// Neither the disk nor memory can be written to.
    NoStorage,
    /// The path is a link, not a directory, or another user's.
    NotOurs {
        /// The path.
        path: PathBuf,
    },
}

impl SpoolError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { operation, path, error }
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStorage => f.write_str("neither the disk nor memory can be written to"),
            Self::Io { operation, path, error } => write!(f, "{operation} {}: {error}", path.display()),
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
            Self::NoStorage | Self::NotOurs { .. } => None,
        }
    }
}

/// A locked directory of this user.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Whose spool it is, to be written before the first segment.
    app: Option<AppIdentity>,
    /// Files that are named as segments and are none: they stay where they are.
    foreign: Vec<PathBuf>,
    /// Files of consumed segments, to be recycled.
    spares: Mutex<Vec<PathBuf>>,
    _lock: DirectoryLock,
}

/// The locks of a living agent: of the lock file, and of the directory itself, where the file system can lock one. Who
/// cleans by age removes a file that is never written to.
#[derive(Debug)]
struct DirectoryLock {
    _file: Flock<File>,
    _directory: Option<Flock<File>>,
}

/// A segment on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentFile {
    /// Offset of its first byte, from its name.
    pub offset: Offset,
    /// Bytes of the file.
    pub len: u64,
    /// The file.
    pub path: PathBuf,
}

impl SegmentFile {
    /// Offset behind its last byte.
    pub(super) fn end(&self) -> Offset {
        self.offset + self.len
    }

    /// A NUL ends the segment: what is behind it in the file are old frames.
    pub(super) fn cut_at_nul(&mut self) {
        if let Some(nul) = memchr::memchr(0, &self.read()) {
            self.len = nul as u64;
        }
    }

    /// Whether it starts as a segment does.
    pub(super) fn starts_with_frame(&self) -> bool {
        frame::span(&self.read(), 0).is_ok()
    }

    /// Its bytes; none when it is not readable or too long.
    fn read(&self) -> Vec<u8> {
        read_small(&self.path, SEGMENT_BYTES).unwrap_or_default()
    }
}

/// What is in a directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The files that are named as segments, ascending.
    pub(super) segments: Vec<SegmentFile>,
    /// What no agent makes.
    pub(super) foreign: Vec<PathBuf>,
}

impl Listing {
    /// Lists the directory at `path`.
    ///
    /// # Errors
    /// [`SpoolError`] when that cannot be done.
    pub(super) fn of(path: &Path) -> Result<Self, SpoolError> {
        let mut listing = Self::default();
        for entry in std::fs::read_dir(path).map_err(SpoolError::io("cannot list", path))?.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let is_name = |name: &&str| name.len() == NAME_DIGITS && name.bytes().all(|b| b.is_ascii_digit());
            let offset = name.to_str().filter(is_name).and_then(|name| name.parse().ok());
            // `metadata` of an entry does not follow links.
            let len = entry.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
            if let (Some(offset), Some(len)) = (offset, len) {
                listing.segments.push(SegmentFile { offset, len, path });
            } else if !OTHER_FILES.iter().any(|known| name == *known) {
                listing.foreign.push(path);
            }
        }
        listing.segments.sort_unstable();
        Ok(listing)
    }
}

/// Names of the spare files. There are few: they are in the page cache, which counts as the dyno's memory.
const SPARES: [&str; 2] = ["spare0", "spare1"];

/// Name of the lock file.
const LOCK: &str = "lock";

/// Names of the files that are no segments, in the order in which they are removed: who is killed meanwhile leaves a
/// directory that the next agent of the app knows as its own, and removes.
const OTHER_FILES: [&str; 5] =
    [SPARES[0], SPARES[1], super::checkpoint::FILE_NAME, LOCK, identity::FILE_NAME];

/// Digits of a segment's name.
const NAME_DIGITS: usize = 20;

impl Directory {
    /// Creates `base` when it is missing, and `base/agent` in it, locked.
    ///
    /// # Errors
    /// [`SpoolError`] when that cannot be done without following somebody's link.
    pub(crate) fn create(base: &Path, agent: &str) -> Result<Self, SpoolError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(base).map_err(SpoolError::io("cannot make", base))?;
        check_ours(base)?;
        let path = base.join(agent);
        disk::before_change();
        builder.recursive(false).create(&path).map_err(SpoolError::io("cannot make", &path))?;
        match Self::lock(&path)? {
            Some(lock) => Ok(Self::new(path, lock)),
            None => Err(SpoolError::NotOurs { path }),
        }
    }

    fn new(path: PathBuf, lock: DirectoryLock) -> Self {
        Self { path, app: None, foreign: Vec::new(), spares: Mutex::default(), _lock: lock }
    }

    /// Makes it the spool of this app. When the disk is full that is recorded later, before the first segment.
    pub(super) fn of_app(self, app: AppIdentity) -> Self {
        let directory = Self { app: Some(app), ..self };
        directory.write_identity().ok(); // tried again, see above
        directory
    }

    /// Records whose spool it is, unless it is recorded. Who cleans by age removes the file, which is written once.
    ///
    /// # Errors
    /// When that cannot be done: no agent would adopt a segment here.
    pub(super) fn write_identity(&self) -> io::Result<()> {
        match &self.app {
            Some(app) if !app.is_recorded_in(&self.path) => app.write(&self.path),
            _ => Ok(()),
        }
    }

    /// Locks an existing directory; none when a living agent holds it.
    ///
    /// # Errors
    /// [`SpoolError`] when it is not this user's or cannot be opened.
    pub(crate) fn adopt(path: PathBuf) -> Result<Option<Self>, SpoolError> {
        check_ours(&path)?;
        Ok(Self::lock(&path)?.map(|lock| Self::new(path, lock)))
    }

    /// Whether a living agent with this id holds its directory in `base`.
    pub(crate) fn is_held(base: &Path, agent: &str) -> bool {
        let is_id = !agent.is_empty() && agent.bytes().all(|b| b.is_ascii_hexdigit());
        is_id && Self::is_locked(&base.join(agent))
    }

    /// Whether a living agent holds the directory at `path`, which is not changed.
    pub(super) fn is_locked(path: &Path) -> bool {
        if check_ours(path).is_err() {
            return false;
        }
        let files = [open_directory(path), open_regular(&path.join(LOCK), OpenOptions::new().read(true))];
        files.into_iter().flatten().any(|file| {
            let locked = Flock::lock(file, FlockArg::LockSharedNonblock);
            matches!(locked, Err((_, nix::errno::Errno::EWOULDBLOCK)))
        })
    }

    fn lock(path: &Path) -> Result<Option<DirectoryLock>, SpoolError> {
        let directory =
            match open_directory(path).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
                Ok(Ok(lock)) => Some(lock),
                Ok(Err((_, nix::errno::Errno::EWOULDBLOCK))) => return Ok(None),
                Ok(Err(_)) | Err(_) => None, // the lock file serves
            };
        let lock = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        disk::before_change();
        let file = open_regular(&lock, &mut options).map_err(SpoolError::io("cannot open", &lock))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(DirectoryLock { _file: lock, _directory: directory })),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(SpoolError::io("cannot lock", &lock)(errno.into())),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the segment that starts at `offset`.
    pub(crate) fn segment(&self, offset: Offset) -> PathBuf {
        self.path.join(format!("{:0NAME_DIGITS$}", offset.get()))
    }

    /// Keeps the file of a segment that is no longer needed as a spare, or removes it when there are enough. Overwriting
    /// a file costs a third of creating and removing one. A spare has a name of its own: under that of its segment, an
    /// agent that adopts the directory would deliver it.
    pub(super) fn retire(&self, path: &Path) {
        let mut spares = self.spares();
        let free = SPARES.map(|name| self.path.join(name)).into_iter().find(|spare| !spares.contains(spare));
        match free {
            Some(spare) if path.parent() == Some(&self.path) && disk::rename(path, &spare).is_ok() => {
                spares.push(spare);
            }
            _ => drop(disk::remove_file(path)), // somebody may have cleaned the directory
        }
    }

    /// Renames a spare file to the segment at `offset`, and opens it. None also while another thread retires a segment:
    /// until the rename nobody may take the name of the spare for another file.
    pub(super) fn recycle(&self, offset: Offset) -> Option<File> {
        let mut spares = self.spares.try_lock().ok()?;
        let spare = spares.pop()?;
        let file = OpenOptions::new().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&spare).ok()?;
        // The terminating NUL goes in before the rename: what the file holds belongs to its old name.
        disk::write_all_at(&file, &[0], 0).ok()?;
        disk::rename(&spare, &self.segment(offset)).ok()?;
        Some(file)
    }

    /// Removes the spare files.
    pub(crate) fn trim(&self) {
        for path in self.spares().drain(..) {
            disk::remove_file(&path).ok(); // somebody may have cleaned the directory
        }
    }

    fn spares(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments in it, ascending.
    ///
    /// # Errors
    /// [`SpoolError`] when it cannot be listed.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentFile>, SpoolError> {
        let mut segments = Listing::of(&self.path)?.segments;
        segments.retain(|file| !self.foreign.contains(&file.path));
        Ok(segments)
    }

    /// These files are no segments: they are not removed.
    pub(super) fn ignore(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        self.foreign.extend(files);
    }

    /// Whether it is on a file system that lives in memory.
    pub(crate) fn is_in_memory(&self) -> bool {
        nix::sys::statfs::statfs(&self.path)
            .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
    }

    /// Removes it, and unlocks it.
    pub(crate) fn remove(self) {
        self.clear();
    }

    /// Removes the segments and the spare files.
    pub(super) fn clear_segments(&self) {
        for file in self.segments().unwrap_or_default() {
            disk::remove_file(&file.path).ok(); // what cannot be removed stays for the next agent
        }
        self.trim();
    }

    /// Removes it with the files that agents put there, and nothing else; the lock stays held.
    pub(crate) fn clear(&self) {
        self.clear_segments();
        for name in OTHER_FILES {
            disk::remove_file(&self.path.join(name)).ok(); // as above
        }
        disk::remove_dir(&self.path).ok(); // as above
    }
}

/// When the directory at `path`, or something in it, was changed last.
pub(super) fn last_change(path: &Path) -> Option<SystemTime> {
    let modified = |path: &Path| std::fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok();
    let entries = std::fs::read_dir(path).ok()?.flatten();
    entries.filter_map(|entry| modified(&entry.path())).chain(modified(path)).max()
}

/// Opens a regular file, without following a link and without waiting for the other end of a FIFO.
///
/// # Errors
/// When that is not one, or cannot be opened.
pub(super) fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = options.custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Opens a directory, to lock it.
fn open_directory(path: &Path) -> io::Result<File> {
    let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Reads a regular file of at most `max_bytes`.
///
/// # Errors
/// When it is none, is longer, or cannot be read.
pub(super) fn read_small(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path, OpenOptions::new().read(true))?.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

pub(super) fn check_ours(path: &Path) -> Result<(), SpoolError> {
    let meta = std::fs::symlink_metadata(path).map_err(SpoolError::io("cannot look at", path))?;
    if meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() {
        Ok(())
    } else {
        Err(SpoolError::NotOurs { path: path.to_owned() })
    }
}
