//! Recovery: an agent adopts what dead agents of its app left in the same directory, from where each drain was. (A
//! shipper that outlives its supervisor: `takeover`.)

use super::checkpoint::{Checkpoint, Cursor, SealedEnd};
use super::directory::{Directory, SegmentFile, SpoolError, check_ours, last_change};
use super::identity::AppIdentity;
use crate::diag;
use crate::ledger::{Account, Offset, Origin, Segment, SegmentLocation};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
    /// The spools that are not our app's.
    pub others: Vec<OtherSpool>,
}

/// Adopts the directories of dead agents of this app in `base`, oldest first, and looks at those of other apps.
/// `own_id` is the id of our agent, whose directory is left out.
///
/// # Errors
/// [`SpoolError`] when `base` cannot be listed. A directory that cannot be adopted is left alone.
pub(crate) fn adopt(base: &Path, own_id: &str, app: &AppIdentity) -> Result<Adoption, SpoolError> {
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
    for (_, agent, path) in found {
        let owner = AppIdentity::read(&path);
        if !owner.as_ref().is_some_and(|owner| owner.is_same_app(app)) {
            adoption.others.extend(OtherSpool::look(path, owner));
        } else if adoption.spools.len() < MAX_DIRECTORIES
            && let Ok(Some(directory)) = Directory::adopt(path)
        {
            adoption.add(agent, directory);
        }
    }
    Ok(adoption)
}

/// The spool of a dead agent of another app, or of none that is known: its drains are not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherSpool {
    /// Its directory.
    pub directory: PathBuf,
    /// The name of the app; empty when it is not known.
    pub app: String,
    /// Bytes of its segments.
    pub bytes: u64,
    /// When it was changed last.
    pub changed: SystemTime,
}

impl OtherSpool {
    /// How long it is left for an agent of its own app, from its last change on.
    pub(crate) const KEEP_TIME: Duration = Duration::from_hours(24);

    /// Looks at the directory at `path`, which is not changed, unless it was kept for long enough: then it is removed,
    /// because nobody can deliver it any more. None for a directory of a living agent, and for one without segments.
    fn look(path: PathBuf, owner: Option<AppIdentity>) -> Option<Self> {
        check_ours(&path).ok()?;
        let changed = last_change(&path)?;
        let bytes = Directory::segments_in(&path).ok()?.iter().map(|file| file.len).sum();
        if Directory::is_locked(&path) {
            return None;
        }
        let app = owner.map(|owner| owner.name).unwrap_or_default();
        let other = Self { directory: path, app, bytes, changed };
        if other.unchanged() >= Self::KEEP_TIME
            && let Ok(Some(directory)) = Directory::adopt(other.directory.clone())
        {
            directory.remove();
            if bytes > 0 {
                let event = diag::event(diag::Event::SpoolExpired).field("app", other.app);
                event.field("directory", other.directory.display()).field("bytes", bytes).emit();
            }
            return None;
        }
        (bytes > 0).then_some(other)
    }

    /// Time since its last change.
    pub(crate) fn unchanged(&self) -> Duration {
        self.changed.elapsed().unwrap_or_default() // the clock may have been set back
    }
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
        for SegmentFile { offset, len, path } in files {
            let mut segment = Segment::new(offset + shift, SegmentLocation::File(path));
            segment.len = len;
            segment.origin = Some(Arc::clone(&origin));
            self.segments.push(segment);
        }
        let end = self.segments.last().map_or(Offset::new(shift), Segment::end);
        self.spools.push(AdoptedSpool { origin, end, directory: Some(directory), cursors, checkpoint });
    }
}
