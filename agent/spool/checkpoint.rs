//! The checkpoint: how far each drain is in the spool of one agent, in a file beside its segments.

use super::directory::{Directory, SpoolError, open_regular, read_small};
use super::identity::hash;
use crate::ledger::{Account, Offset};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Name of the file.
pub(super) const FILE_NAME: &str = "cursors";
/// Bytes of the file at most: a line has a token and at most one frame.
const MAX_BYTES: u64 = 1 << 20;

/// The end and the notice of a sealed batch that starts at a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedEnd {
    /// Offset behind its last byte.
    pub end: Offset,
    /// The loss notice that precedes it: a whole frame, or nothing.
    pub notice: Vec<u8>,
}

/// How far one drain is in the spool of one agent, in that spool's own offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The drain's token.
    pub token: String,
    /// Everything before it is delivered, dropped or rejected.
    pub offset: Offset,
    /// The sealed batch that starts there.
    pub sealed: Option<SealedEnd>,
}

impl Cursor {
    /// The cursor of an account in the spool that takes the range from `shift` to `end` of ours.
    pub(crate) fn of(account: &Account, token: &str, shift: u64, end: Offset) -> Self {
        let start = Offset::new(shift);
        let sealed = account.batch().filter(|batch| (start..end).contains(&batch.range.start));
        Self {
            token: token.to_owned(),
            offset: account.cursor().clamp(start, end) - shift,
            sealed: sealed
                .map(|batch| SealedEnd { end: batch.range.end - shift, notice: batch.notice.clone() }),
        }
    }
}

/// The checkpoint file of a directory. It is overwritten in one `write` at every seal and every completion, so that
/// an agent that adopts the directory repeats at most one batch, under the same id.
///
/// One line per drain: `TOKEN OFFSET END NOTICE`, where END and NOTICE are `-` without a sealed batch. The last line
/// is `. CHECKSUM`; what is behind it remains of a longer checkpoint.
#[derive(Debug)]
pub(crate) struct Checkpoint(File);

impl Checkpoint {
    /// Opens the file in `directory`.
    ///
    /// # Errors
    /// [`SpoolError`] when it cannot be created.
    pub(crate) fn open(directory: &Directory) -> Result<Self, SpoolError> {
        let path = directory.path().join(FILE_NAME);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        Ok(Self(open_regular(&path, &mut options).map_err(SpoolError::io("cannot open", &path))?))
    }

    /// Writes all cursors. A failure costs repetition after a crash and nothing else, so it is not an error.
    pub(crate) fn save(&self, cursors: &[Cursor]) {
        let mut text = Vec::with_capacity(128);
        for cursor in cursors {
            text.extend_from_slice(format!("{} {} ", cursor.token, cursor.offset).as_bytes());
            match &cursor.sealed {
                Some(SealedEnd { end, notice }) => {
                    text.extend_from_slice(format!("{end} ").as_bytes());
                    text.extend_from_slice(notice.strip_suffix(b"\n").unwrap_or(notice));
                }
                None => text.extend_from_slice(b"- "),
            }
            text.push(b'\n');
        }
        let checksum = hash([text.as_slice()]);
        text.extend_from_slice(format!(". {checksum}\n").as_bytes());
        self.0.write_all_at(&text, 0).ok(); // costs repetition, see above
    }

    /// The cursors in the file of `directory`; none when nothing was written yet.
    ///
    /// # Errors
    /// When there is something else than a checkpoint.
    pub(super) fn read(directory: &Directory) -> io::Result<Vec<Cursor>> {
        match read_small(&directory.path().join(FILE_NAME), MAX_BYTES) {
            Ok(bytes) if bytes.is_empty() => Ok(Vec::new()),
            Ok(bytes) => parse(&bytes).ok_or_else(|| io::Error::other("its checksum does not match")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<Cursor>> {
    let mut cursors = Vec::new();
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[from..end];
        if let Some(checksum) = line.strip_prefix(b". ") {
            return (checksum == hash([&bytes[..from]]).as_bytes()).then_some(cursors);
        }
        from = end + 1;
        let mut fields = line.splitn(4, |b| *b == b' ');
        let mut text = || std::str::from_utf8(fields.next()?).ok();
        let (token, offset) = (text()?.to_owned(), text()?.parse().ok()?);
        let sealed = match text()? {
            "-" => None,
            end => {
                let end = end.parse().ok()?;
                let mut notice = fields.next()?.to_vec();
                if !notice.is_empty() {
                    notice.push(b'\n');
                }
                Some(SealedEnd { end, notice })
            }
        };
        cursors.push(Cursor { token, offset, sealed });
    }
    None
}
