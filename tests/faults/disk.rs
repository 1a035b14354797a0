//! What happens to the disk, and to the files of the spool.

use crate::app::LineName;
use crate::schedule::Damage;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Gives this process mounts of its own, before it has threads. Without it schedules run on the disk of the build
/// directory, which is never full.
pub(crate) fn isolate_mounts() -> bool {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok()
        && mount(None::<&str>, "/", None::<&str>, private, None::<&str>).is_ok()
}

/// A small file system in memory, mounted on the spool's directory.
pub(crate) struct OwnDisk(PathBuf);

impl OwnDisk {
    /// Mounts it; `None` where that is refused.
    pub(crate) fn mount(path: PathBuf, mib: u64) -> Option<Self> {
        let size = format!("size={mib}m,mode=0700");
        if mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).is_ok() {
            return Some(Self(path));
        }
        crate::harness::skip("full and read-only disks: cannot mount a tmpfs");
        None
    }

    /// Only while no agent has a file open for writing.
    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        let flags = if is_read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        let none = None::<&str>;
        mount(none, &self.0, none, MsFlags::MS_REMOUNT | flags, none).ok(); // a shipper may still hold a lock file
    }

    /// Uses the rest of the space.
    pub(crate) fn fill(&self) {
        let Ok(mut file) = File::create(self.0.join("ballast")) else { return }; // it is full already
        let mut size = 1 << 20;
        while size > 0 {
            if file.write_all(&vec![1; size]).is_err() {
                size /= 2;
            }
        }
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.0.join("ballast")).ok(); // it may not be full
    }
}

impl Drop for OwnDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok(); // goes with the process
    }
}

/// The directories of agents below the spool's directory.
pub(crate) fn agent_directories(spool: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(spool).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

fn files(spool: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in agent_directories(spool) {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        found.extend(
            entries.filter(|file| file.file_name().to_str().is_some_and(&is_wanted)).map(|f| f.path()),
        );
    }
    found.sort();
    found
}

/// Whether a directory holds nothing but, perhaps, a lock file.
pub(crate) fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == "lock"))
}

/// All segments, also spare ones.
pub(crate) fn segments(spool: &Path) -> Vec<PathBuf> {
    files(spool, |name| name.len() == 20)
}

/// The highest numbers of a run's lines that are recorded, by output: on disk, and in the memory file of the agent with
/// this supervisor, as long as that lives.
pub(crate) fn recorded(spool: &Path, supervisor: i32, run: usize) -> [u64; 2] {
    let mut highest = [0; 2];
    let mut look = |segment: &[u8]| {
        // Behind a NUL are old frames.
        let frames = &segment[..memchr::memchr(0, segment).unwrap_or(segment.len())];
        for frame in frames.split(|byte| *byte == b'\n') {
            let name = LineName::find(&String::from_utf8_lossy(frame)).filter(|name| name.run == run);
            if let Some(LineName { output, number, .. }) = name {
                let highest: &mut u64 = &mut highest[output as usize];
                *highest = number.max(*highest);
            }
        }
    };
    for path in segments(spool).into_iter().filter(|path| path.is_file()) {
        look(&fs::read(path).unwrap_or_default()); // it may have been removed
    }
    let files = fs::read_dir(format!("/proc/{supervisor}/fd")).into_iter().flatten().flatten();
    for file in files.map(|file| file.path()) {
        if fs::read_link(&file).is_ok_and(|to| to.to_string_lossy().contains("memfd:tailrace-spool")) {
            fs::read(&file).unwrap_or_default().chunks(1 << 20).for_each(&mut look); // its slots
            break;
        }
    }
    highest
}

/// All checkpoints.
pub(crate) fn checkpoints(spool: &Path) -> Vec<PathBuf> {
    files(spool, |name| name == "cursors")
}

/// Damages a file. It may be gone already.
pub(crate) fn damage(damage: Damage, path: &Path) {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return };
    let len = file.metadata().map_or(0, |meta| meta.len());
    match damage {
        Damage::Emptied => file.set_len(0),
        Damage::Cut => file.set_len(len / 2 + len.min(7)),
        Damage::Removed => fs::remove_file(path),
        Damage::Flipped => flip(&file, len),
        // Not beyond its end: that would make it longer than it was.
        Damage::Zeroed => file.write_all_at(&vec![0; len.min(4096) as usize], 0),
    }
    .ok(); // as above
}

/// Damages the first digit of a LEN in the middle: the spool has no checksums, so a flipped byte within a message is
/// not found.
fn flip(file: &File, len: u64) -> std::io::Result<()> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let middle = bytes.len() / 2;
    let frame = bytes[..middle].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if bytes.get(frame).is_some_and(u8::is_ascii_digit) {
        file.write_all_at(b"x", frame as u64)
    } else {
        Ok(())
    }
}

/// Adds something that is none of the agent's files to one of its directories.
pub(crate) fn add_foreign(spool: &Path, kind: usize) {
    let Some(dir) = agent_directories(spool).pop() else { return };
    match kind {
        0 => fs::write(dir.join("notes.txt"), "not a segment"),
        1 => fs::create_dir(dir.join("00000000000000000000.d")),
        2 => fs::write(dir.join("99999999999999999999"), "not a segment either"),
        _ => nix::unistd::mkfifo(&dir.join("00000000000099999999"), nix::sys::stat::Mode::S_IRWXU)
            .map_err(std::io::Error::from),
    }
    .ok(); // the directory may be gone, or the file there already
}
