//! Recovery: takes over the directories of dead agents, with how far each drain was.

use super::checkpoint::{Checkpoint, Cursor};
use super::directory::{Directory, SpoolError};
use crate::ledger::{Account, Origin, Segment, SegmentLocation};
use std::path::Path;
use std::sync::Arc;

/// Directories adopted at most by one agent; the next one takes the rest.
const DIRECTORIES: usize = 64;

/// What was adopted of one agent.
#[derive(Debug)]
pub struct Adopted {
    /// SampleLabels it was, and where it stands in our spool.
    pub origin: Arc<Origin>,
    /// Offset behind its last byte, in our spool.
    pub end: u64,
    /// Its directory, locked; none for what was in memory.
    pub directory: Option<Directory>,
    /// How far each drain was, by its own offsets.
    pub cursors: Vec<Cursor>,
}

impl Adopted {
    /// Lets an account go on where the dead agent was.
    pub fn resume(&self, account: &mut Account, token: &str) {
        let shift = self.origin.shift;
        if let Some(cursor) = self.cursors.iter().find(|cursor| cursor.token == token) {
            let offset = (shift + cursor.offset).min(self.end);
            account.skip_range(shift, offset);
            if let Some((end, notice)) = &cursor.sealed {
                account.resume(offset, shift + end, notice.clone());
            }
        }
    }
}

/// Takes over the directories of dead agents in `base`, oldest first, and lays their segments out as the
/// first ones of our spool. `own` is our directory's name.
///
/// # Errors
/// [`SpoolError`] when `base` cannot be listed. A directory that cannot be taken over is left alone.
pub fn adopt(base: &Path, own: &str) -> Result<(Vec<Adopted>, Vec<Segment>), SpoolError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(base).map_err(SpoolError::io("cannot list", base))?.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_agent = name.len() == own.len() && name != own && name.bytes().all(|b| b.is_ascii_hexdigit());
        if is_agent && let Ok(made) = entry.metadata().and_then(|meta| meta.modified()) {
            found.push((made, name, entry.path()));
        }
    }
    found.sort();
    let (mut adopted, mut segments) = (Vec::new(), Vec::<Segment>::new());
    for (_, agent, path) in found.into_iter().take(DIRECTORIES) {
        let Ok(Some(directory)) = Directory::take_over(path) else { continue };
        let mut pieces = directory.segments().unwrap_or_default();
        if pieces.is_empty() {
            directory.remove();
            continue;
        }
        // What it had removed stays a gap, so that its offsets and ours differ by one number only.
        let shift = segments.last().map_or(0, Segment::end);
        let cursors = Checkpoint::read(&directory);
        let origin = Arc::new(Origin { agent, shift });
        if let Some((_, len, path)) = pieces.last_mut() {
            // The one that was being written: a NUL may end it.
            let bytes = std::fs::read(path).unwrap_or_default();
            *len = memchr::memchr(0, &bytes).map_or(*len, |end| end as u64);
        }
        for (offset, len, path) in &pieces {
            let mut segment = Segment::new(shift + offset, SegmentLocation::File(path.clone()));
            segment.len = *len;
            segment.origin = Some(Arc::clone(&origin));
            segments.push(segment);
        }
        let end = segments.last().map_or(shift, Segment::end);
        adopted.push(Adopted { origin, end, directory: Some(directory), cursors });
    }
    Ok((adopted, segments))
}
