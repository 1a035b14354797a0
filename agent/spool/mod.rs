//! The spool: every frame passes through it on its way from the recorder to the drains.
//!
//! # Invariants
//!
//! 1. A segment holds whole frames, exactly as they are sent. `cat` shows the logs; a batch is a byte range.
//! 2. Offsets only grow. A segment is named by the offset of its first byte, and the next one starts where it ends.
//!    No frame is ever changed: one writer appends to a segment, then the segment is removed whole.
//! 3. What the ledger has booked is in the segment. Bytes behind that (of a write that failed half-way) are no frames
//!    yet, and nobody seals them. Frames contain no NUL: a NUL ends a segment. (The file of a consumed segment may be
//!    recycled; then old frames follow that NUL.)
//! 4. A segment is removed when every drain has consumed it, or, at the size limit, oldest first: its lines are
//!    counted before its bytes go. A sealed batch is pinned.
//! 5. The writer never waits for a reader, except in `tailrace ship`, which stops reading its input on purpose.
//!
//! # On disk
//!
//! ```text
//! DIR/                       $TMPDIR/tailrace, 0700, this user's, not a link
//!   5f2c…/                   one per agent, 128 random bits in hex, 0700
//!     lock                   locked by the supervisor (flock(2)) as long as it lives, as is the directory itself
//!     app                    whose spool it is (see `identity`)
//!     cursors                the checkpoint: cursor and sealed batch of each drain, lines of each segment (see `checkpoint`)
//!     00000000000000000000   a segment: at most 1 MiB, named by its offset in 20 decimal digits
//!     00000000000001048392
//!     spare0                 the file of a segment that is no longer needed, to be recycled
//! ```
//!
//! A directory whose lock nobody holds belonged to an agent that is dead: the next agent of the same app adopts it
//! (`recovery`). Agents of other apps leave it alone, until it has not changed for 24 hours: then it is removed.
//!
//! No fsync: what `write` accepted survives the agent, and a dyno's disk dies with the dyno. The page cache counts as
//! the dyno's memory, so a segment that stays is written back and dropped from the cache. On `POSIX_FADV_DONTNEED`
//! Linux starts the write-back of dirty pages and drops the clean ones (`mm/fadvise.c`), so it is called repeatedly,
//! some segments apart.
//!
//! # In memory
//!
//! When no directory can be used, or the disk is full, segments are slots of one memory file (`memfd_create`) that the
//! shipper inherits: they survive the shipper, and go with the supervisor.

mod checkpoint;
mod directory;
mod disk;
mod identity;
mod open;
mod reader;
mod recovery;
mod takeover;
mod writer;

pub(crate) use checkpoint::SealedEnd;
pub(crate) use directory::{Directory, SpoolError};
#[cfg(test)]
pub(crate) use disk::crash;
#[cfg(test)]
pub(crate) use open::DrainId;
pub(crate) use open::{Opened, Spool, SpoolOwner, agent_id};
pub(crate) use reader::{ReadError, Reader};
pub(crate) use recovery::OtherSpool;
pub(crate) use takeover::TakeoverState;
pub(crate) use writer::{AppendOutcome, WhenFull, Writer};

use crate::ledger::{Offset, Segment, SegmentLocation};
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// Longest segment, in bytes.
pub(crate) const SEGMENT_BYTES: u64 = 1 << 20;
/// Slots of the memory file, of [`SEGMENT_BYTES`] each.
pub(crate) const MEMORY_SLOTS: u8 = 4;

/// An empty memory file. It takes no memory until it is written to.
///
/// # Errors
/// When the kernel has no `memfd_create`, or refuses it.
pub(crate) fn memory_file() -> nix::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    Ok(memfd_create("tailrace-spool", MFdFlags::MFD_CLOEXEC)?.into())
}

/// The bytes of a slot of the memory file.
///
/// # Errors
/// When it cannot be read.
fn read_slot(memory: &File, slot: u8) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SEGMENT_BYTES as usize];
    let got = memory.read_at(&mut bytes, u64::from(slot) * SEGMENT_BYTES)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Where the memory file tells the start of the segment in a slot: behind the slots.
const fn start_position(slot: u8) -> u64 {
    MEMORY_SLOTS as u64 * SEGMENT_BYTES + slot as u64 * 8
}

/// Notes where the segment starts that is about to be written to a slot of the memory file, for who takes over.
///
/// # Errors
/// When it cannot be written.
fn note_slot_start(memory: &File, slot: u8, start: Offset) -> io::Result<()> {
    memory.write_all_at(&start.get().to_le_bytes(), start_position(slot))
}

/// The start of the segment that was written to a slot last.
fn slot_start(memory: &File, slot: u8) -> Option<Offset> {
    let mut start = [0; 8];
    memory.read_exact_at(&mut start, start_position(slot)).ok()?;
    Some(Offset::new(u64::from_le_bytes(start)))
}

/// Removes the bytes of a segment that is no longer in the ledger; `directory` may recycle its file.
fn dispose(segment: &Segment, directory: Option<&Directory>, memory: Option<&File>) {
    match &segment.location {
        SegmentLocation::File(path) => match directory {
            Some(directory) => directory.retire(path),
            None => {
                disk::remove_file(path).ok(); // somebody may have cleaned the directory
            }
        },
        SegmentLocation::Memory(slot) => {
            if let Some(memory) = memory {
                let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                let at = i64::from(*slot) * SEGMENT_BYTES as i64;
                fallocate(memory, hole, at, SEGMENT_BYTES as i64).ok(); // else the slot keeps its memory
            }
        }
    }
}

/// Starts the write-back of a segment's dirty pages and drops its clean ones from the page cache.
fn drop_cache(location: &SegmentLocation) {
    if let SegmentLocation::File(path) = location
        && let Ok(file) = directory::open_regular(path, OpenOptions::new().read(true))
    {
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok(); // only advice
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
