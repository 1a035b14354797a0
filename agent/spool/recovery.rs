//! Recovery: an agent adopts what dead agents left in the same directory, from where each drain was. (A shipper that
//! outlives its supervisor: `takeover`.)

use super::checkpoint::{Checkpoint, Cursor, SealedEnd};
use super::directory::{Directory, SegmentFile, SpoolError};
use crate::ledger::{Account, Offset, Origin, Segment, SegmentLocation};
use std::path::Path;
use std::sync::Arc;

/// Directories that one agent adopts at most; the next one takes the rest.
const MAX_DIRECTORIES: usize = 64;

/// The spool of a dead agent, as a part of ours.
#[derive(Debug)]
pub(crate) struct AdoptedSpool {
    /// The dead agent, and where its spool is in ours.
    pub origin: Arc<Origin>,
    /// Offset behind its last byte, in our spool.
    pub end: Offset,
    /// Its directory, locked; none for what was in memory.
    pub directory: Option<Directory>,
    /// How far each drain was, by its own offsets.
    pub cursors: Vec<Cursor>,
    /// Its checkpoint, to be kept up to date.
    pub checkpoint: Option<Checkpoint>,
}

impl AdoptedSpool {
    /// Lets an account continue where the dead agent was with the drain of this token.
    pub(crate) fn resume(&self, account: &mut Account, token: &str) {
        let shift = self.origin.shift;
        if let Some(cursor) = self.cursors.iter().find(|cursor| cursor.token == token) {
            let offset = (cursor.offset + shift).min(self.end);
            account.skip_range(Offset::new(shift), offset);
            if let Some(SealedEnd { end, notice }) = &cursor.sealed {
                account.resume(offset, *end + shift, notice.clone());
            }
        }
    }
}

/// What was adopted: the spools, and their segments as the first ones of ours.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    /// The spools, in the order of their segments.
    pub spools: Vec<AdoptedSpool>,
    /// The segments, ascending.
    pub segments: Vec<Segment>,
}

/// Adopts the directories of dead agents in `base`, oldest first. `own_id` is the id of our agent, whose
/// directory is left out.
///
/// # Errors
/// [`SpoolError`] when `base` cannot be listed. A directory that cannot be adopted is left alone.
pub(crate) fn adopt(base: &Path, own_id: &str) -> Result<Adoption, SpoolError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(base).map_err(SpoolError::io("cannot list", base))?.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_agent =
            name.len() == own_id.len() && name != own_id && name.bytes().all(|b| b.is_ascii_hexdigit());
        if is_agent && let Ok(modified) = entry.metadata().and_then(|meta| meta.modified()) {
            found.push((modified, name, entry.path()));
        }
    }
    found.sort();
    let mut adoption = Adoption::default();
    for (_, agent, path) in found.into_iter().take(MAX_DIRECTORIES) {
        if let Ok(Some(directory)) = Directory::adopt(path) {
            adoption.add(agent, directory);
        }
    }
    Ok(adoption)
}

impl Adoption {
    /// Adds the spool of one dead agent; an empty one is removed.
    fn add(&mut self, agent: String, directory: Directory) {
        let mut files = directory.segments().unwrap_or_default();
        if let Some(last) = files.last_mut() {
            // It was being written: a NUL may end it.
            let bytes = std::fs::read(&last.path).unwrap_or_default();
            last.len = memchr::memchr(0, &bytes).map_or(last.len, |end| end as u64);
        } else {
            return directory.remove();
        }
        // What it had removed stays a gap, so that its offsets and ours differ by one constant.
        let shift = self.segments.last().map_or(Offset::ZERO, Segment::end).get();
        let cursors = Checkpoint::read(&directory);
        let checkpoint = Checkpoint::open(&directory).ok();
        let origin = Arc::new(Origin { agent, shift });
        // Our first segment would start where an empty one does: one start, two files.
        for SegmentFile { offset, len, path } in files.into_iter().filter(|file| file.len > 0) {
            let mut segment = Segment::new(offset + shift, SegmentLocation::File(path));
            segment.len = len;
            segment.origin = Some(Arc::clone(&origin));
            self.segments.push(segment);
        }
        let end = self.segments.last().map_or(Offset::new(shift), Segment::end);
        self.spools.push(AdoptedSpool { origin, end, directory: Some(directory), cursors, checkpoint });
    }
}
