//! What dead agents left: their directories, and how far each drain was.

use super::{Directory, SEGMENT, SpoolError};
use crate::ledger::{Account, Origin, Place, Plan, Segment};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Name of the file with the cursors.
pub(super) const CURSORS: &str = "cursors";
/// Directories adopted at most by one agent; the next one takes the rest.
const DIRECTORIES: usize = 64;

/// One drain's place in the spool of one agent, in that spool's own offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The drain's token.
    pub token: String,
    /// Everything before it is answered for.
    pub offset: u64,
    /// End and notice of the sealed batch that starts there.
    pub sealed: Option<(u64, Vec<u8>)>,
}

impl Cursor {
    /// The place of an account in the spool that stands in ours from `shift` up to `end`.
    pub fn of(account: &Account, token: &str, shift: u64, end: u64) -> Self {
        let inside = |plan: &&Plan| (shift..end).contains(&plan.start);
        Self {
            token: token.to_owned(),
            offset: account.cursor().clamp(shift, end) - shift,
            sealed: account.plan().filter(inside).map(|plan| (plan.end - shift, plan.notice.clone())),
        }
    }
}

/// The file in a directory that says how far each drain is. It is written over in one `write` at every seal
/// and every answer, so that whoever adopts the directory repeats one batch at most, under the same id.
///
/// One line per drain: `TOKEN OFFSET END NOTICE`, END and NOTICE being `-` without a sealed batch; the last line
/// is `.`, so that a file that was cut short is known as such.
#[derive(Debug)]
pub struct Cursors(File);

impl Cursors {
    /// Opens the file in `directory`.
    ///
    /// # Errors
    /// [`SpoolError`] when it cannot be made.
    pub fn open(directory: &Directory) -> Result<Self, SpoolError> {
        let path = directory.path().join(CURSORS);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        Ok(Self(options.open(&path).map_err(SpoolError::io("cannot open", &path))?))
    }

    /// Writes all cursors. Failing costs repetition after a crash and nothing else, so it is not an error.
    pub fn save(&self, cursors: &[Cursor]) {
        let mut text = Vec::with_capacity(128);
        for cursor in cursors {
            text.extend_from_slice(format!("{} {} ", cursor.token, cursor.offset).as_bytes());
            match &cursor.sealed {
                Some((end, notice)) => {
                    text.extend_from_slice(format!("{end} ").as_bytes());
                    text.extend_from_slice(notice.strip_suffix(b"\n").unwrap_or(notice));
                }
                None => text.extend_from_slice(b"- "),
            }
            text.push(b'\n');
        }
        text.extend_from_slice(b".\n");
        drop(self.0.write_all_at(&text, 0));
    }

    fn read(directory: &Directory) -> Vec<Cursor> {
        let bytes = std::fs::read(directory.path().join(CURSORS)).unwrap_or_default();
        parse(&bytes).unwrap_or_default()
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<Cursor>> {
    let mut cursors = Vec::new();
    for line in bytes.split(|b| *b == b'\n') {
        if line == b"." {
            return Some(cursors);
        }
        let mut words = line.splitn(4, |b| *b == b' ');
        let mut text = || std::str::from_utf8(words.next()?).ok();
        let (token, offset, end) = (text()?.to_owned(), text()?.parse().ok()?, text()?);
        let sealed = match end {
            "-" => None,
            end => {
                let mut notice = words.next()?.to_vec();
                if !notice.is_empty() {
                    notice.push(b'\n');
                }
                Some((end.parse().ok()?, notice))
            }
        };
        cursors.push(Cursor { token, offset, sealed });
    }
    None
}

/// What a shipper knows of its keeper's spool when that is gone: the segments in memory are in no directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estate {
    /// Whose it was.
    pub agent: String,
    /// Offset and slot of each segment in memory, ascending.
    segments: Vec<(u64, u8)>,
    /// How far each drain was.
    pub cursors: Vec<Cursor>,
}

impl Estate {
    /// That of this agent, with drains of these tokens.
    pub fn of(agent: &str, tokens: impl Iterator<Item = String>) -> Self {
        let cursors = tokens.map(|token| Cursor { token, offset: 0, sealed: None }).collect();
        Self { agent: agent.to_owned(), cursors, ..Self::default() }
    }

    /// A segment was opened in this slot of memory, which is another one's no more.
    pub fn open(&mut self, start: u64, slot: u8) {
        self.segments.retain(|(_, other)| *other != slot);
        self.segments.push((start, slot));
    }

    /// A drain's place.
    pub fn set_cursor(&mut self, drain: usize, offset: u64, sealed: Option<(u64, Vec<u8>)>) {
        if let Some(cursor) = self.cursors.get_mut(drain) {
            (cursor.offset, cursor.sealed) = (offset, sealed);
        }
    }

    /// Lays the segments that are in `memory` out behind the others.
    pub(super) fn lay_out(&self, memory: &File, segments: &mut Vec<Segment>) -> Option<Adopted> {
        let shift = segments.last().map_or(0, Segment::end);
        let origin = Arc::new(Origin { agent: self.agent.clone(), shift });
        let ends = self.segments.iter().skip(1).map(|(start, _)| *start).chain([u64::MAX]);
        let before = segments.len();
        for ((start, slot), end) in self.segments.iter().zip(ends) {
            // The last one may have more than was told of; a NUL ends it, as on disk.
            let mut bytes = vec![0; SEGMENT as usize];
            memory.read_at(&mut bytes, u64::from(*slot) * SEGMENT).ok()?;
            let len = memchr::memchr(0, &bytes).unwrap_or(bytes.len()) as u64;
            let mut segment = Segment::new(shift + start, Place::Memory(*slot));
            segment.len = len.min(end - start);
            segment.origin = Some(Arc::clone(&origin));
            if segment.len > 0 {
                segments.push(segment);
            }
        }
        let end = segments.last().filter(|_| segments.len() > before)?.end();
        Some(Adopted { origin, end, directory: None, cursors: self.cursors.clone() })
    }
}

/// What was adopted of one agent.
#[derive(Debug)]
pub struct Adopted {
    /// Whose it was, and where it stands in our spool.
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
            account.pass_over(shift, offset);
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
        let cursors = Cursors::read(&directory);
        let origin = Arc::new(Origin { agent, shift });
        if let Some((_, len, path)) = pieces.last_mut() {
            // The one that was being written: a NUL may end it.
            let bytes = std::fs::read(path).unwrap_or_default();
            *len = memchr::memchr(0, &bytes).map_or(*len, |end| end as u64);
        }
        for (offset, len, path) in &pieces {
            let mut segment = Segment::new(shift + offset, Place::File(path.clone()));
            segment.len = *len;
            segment.origin = Some(Arc::clone(&origin));
            segments.push(segment);
        }
        let end = segments.last().map_or(shift, Segment::end);
        adopted.push(Adopted { origin, end, directory: Some(directory), cursors });
    }
    Ok((adopted, segments))
}
