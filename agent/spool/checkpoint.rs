//! The checkpoint: how far each drain is in the spool of one agent, in a file beside its segments.

use super::directory::{Directory, SpoolError};
use crate::ledger::{Account, SealedBatch};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Name of the file with the cursors.
pub(super) const CURSORS: &str = "cursors";
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
        let inside = |batch: &&SealedBatch| (shift..end).contains(&batch.start);
        Self {
            token: token.to_owned(),
            offset: account.cursor().clamp(shift, end) - shift,
            sealed: account.batch().filter(inside).map(|batch| (batch.end - shift, batch.notice.clone())),
        }
    }
}

/// The file in a directory that says how far each drain is. It is written over in one `write` at every seal
/// and every answer, so that whoever adopts the directory repeats one batch at most, under the same id.
///
/// One line per drain: `TOKEN OFFSET END NOTICE`, END and NOTICE being `-` without a sealed batch; the last line
/// is `.`, so that a file that was cut short is known as such.
#[derive(Debug)]
pub struct Checkpoint(File);

impl Checkpoint {
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

    pub(super) fn read(directory: &Directory) -> Vec<Cursor> {
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
