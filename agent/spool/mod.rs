//! The spool: every frame passes through it on its way from the recorder to the drains.
//!
//! # Invariants
//!
//! 1. A segment holds whole frames, exactly as they go out. `cat` shows the logs; a batch is a byte range.
//! 2. Offsets only grow. A segment is named by the offset of its first byte, and the next one starts where it
//!    ends. No frame is ever changed: a segment is appended to by one writer, then removed whole.
//! 3. What the ledger has booked is in the segment; bytes behind that (a write that failed half-way) are not
//!    frames yet, and nobody seals them. Frames hold no NUL: where one stands, the segment ends so far. (The
//!    file of a segment that is done with may serve again; then older frames stand behind that NUL.)
//! 4. A segment is removed when every drain is past it, or, at the size limit, oldest first: its lines are
//!    counted before its bytes go. A sealed batch is pinned.
//! 5. The writer never waits for a reader. (`tailrace ship` does, on purpose: it stops reading its input.)
//!
//! # On disk
//!
//! ```text
//! DIR/                       $TMPDIR/tailrace, 0700, ours, no link
//!   5f2c…/                   one per agent, 128 random bits in hex, 0700
//!     lock                   flock(2)ed by the keeper as long as it lives
//!     cursors                per drain: how far it is, and the batch that is sealed (see `checkpoint`)
//!     00000000000000000000   a segment: at most 1 MiB, named by its offset in 20 decimal digits
//!     00000000000001048392
//! ```
//!
//! A directory whose lock nobody holds belonged to an agent that is dead: the next agent adopts it (`recovery`).
//!
//! No fsync: what `write` took survives the agent, and a dyno's disk dies with the dyno. The page cache counts as
//! the dyno's memory, so a segment that stays is written back and dropped from the cache. Linux starts the
//! write-back of dirty pages on `POSIX_FADV_DONTNEED` and drops the clean ones (`mm/fadvise.c`), so one call
//! does it, made twice, some segments apart.
//!
//! # In memory
//!
//! When no directory can be used, or the disk is full, segments are slots of one memory file (`memfd_create`)
//! that the shipper inherits: what is in them survives the shipper, and goes with the keeper.

mod checkpoint;
mod directory;
mod open;
mod reader;
mod recovery;
mod takeover;
mod writer;

pub use checkpoint::{Checkpoint, Cursor};
pub use directory::{Directory, SpoolError};
pub use open::{DrainId, Spool, agent_id};
pub use reader::{ReadError, Reader};
pub use recovery::{Adopted, adopt};
pub use takeover::TakeoverState;
pub use writer::{WhenFull, Writer};

use crate::ledger::{Segment, SegmentLocation};
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use std::fs::File;

/// Bytes of a segment at most.
pub const SEGMENT: u64 = 1 << 20;
/// Slots of the memory file; with [`SEGMENT`] its size.
pub const SLOTS: u8 = 4;

/// The memory file, empty: it takes no memory until it is written to.
///
/// # Errors
/// When the kernel has no `memfd_create`, or refuses it.
pub fn memory_file() -> nix::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    Ok(memfd_create("tailrace-spool", MFdFlags::MFD_CLOEXEC)?.into())
}

/// Removes the bytes of a segment that is no longer in the ledger, or has `directory` use its file again.
fn dispose(segment: &Segment, directory: Option<&Directory>, memory: Option<&File>) {
    match &segment.place {
        SegmentLocation::File(path) => match directory {
            Some(directory) => directory.retire(path),
            // Somebody who cleaned the directory has done it for us.
            None => drop(std::fs::remove_file(path)),
        },
        SegmentLocation::Memory(slot) => {
            if let Some(memory) = memory {
                let range = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                let at = i64::from(*slot) * SEGMENT as i64;
                let _best_effort = fallocate(memory, range, at, SEGMENT as i64);
            }
        }
    }
}

/// Starts the write-back of a segment's dirty pages and drops its clean ones from the page cache.
fn drop_cache(place: &SegmentLocation) {
    if let SegmentLocation::File(path) = place
        && let Ok(file) = File::open(path)
    {
        let _best_effort = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

#[cfg(test)]
mod tests;
