//! The checkpoint: how far each drain is in the spool of one agent, in a file beside its segments.

use super::directory::{Directory, SpoolError, open_regular, read_small};
use super::disk;
use super::identity::hash;
use super::open::DrainId;
use crate::frame::{DropReason, Loss, Losses, Timestamp, frames_from_line, frames_to_line};
use crate::ledger::{
    Account, Consumed, CountedLines, Ledger, LongLines, Offset, Origin, ResumedBatch, SegmentRecord,
    SpooledNotice, TimeRange,
};
use crate::line::PerStream;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Name of the file.
pub(super) const FILE_NAME: &str = "cursors";
/// Bytes of the file at most: a line has a token and at most one frame.
const MAX_BYTES: u64 = 1 << 20;
/// Room is reserved in steps of so many bytes. The first is enough for a few hundred segments.
const RESERVED_BYTES: u64 = 32 << 10;
/// Bytes of the last line.
const CHECKSUM_LINE_BYTES: usize = 35;
/// Bytes of the line about segments that are not listed, at most.
const MAX_UNLISTED_LINE_BYTES: usize = 23;
/// No count of lines or frames is larger, so that sums of them fit.
const MAX_COUNT: u64 = 1 << 48;

/// The end and the notice of a sealed batch that starts at a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedEnd {
    /// Offset behind its last byte.
    pub end: Offset,
    /// The loss notices that precede it: whole frames, or nothing.
    pub notice: Vec<u8>,
    /// The losses that they announce, for the next batch when the drain refuses this one.
    pub announced: Losses,
}

impl SealedEnd {
    /// For who does not know what the notices announce.
    pub(crate) fn without_losses(end: Offset, notice: Vec<u8>) -> Self {
        Self { end, notice, announced: Losses::default() }
    }
}

/// How far one drain is in the spool of one agent, in that spool's own offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The hash of the drain's URL. None in the checkpoint of an agent that did not record it.
    pub url_hash: Option<String>,
    /// The drain's token.
    pub token: String,
    /// The token that the ids of its batches of this spool are made with: that of its first agent.
    pub id_token: String,
    /// Everything before it is delivered, dropped or rejected.
    pub offset: Offset,
    /// What of the segment there is before it.
    pub consumed: Option<Consumed>,
    /// Where lines go on that are already counted as dropped.
    pub counted: Vec<CountedLines>,
    /// Lines that were dropped, for the next notice. In the checkpoint of the agent that is to announce them.
    pub losses: Losses,
    /// The sealed batch that starts there.
    pub sealed: Option<SealedEnd>,
}

impl Cursor {
    /// The cursor of a drain that has consumed nothing.
    pub(super) fn at_start(drain: &DrainId) -> Self {
        Self {
            url_hash: Some(drain.url_hash.clone()),
            token: drain.token.clone(),
            id_token: drain.token.clone(),
            offset: Offset::ZERO,
            consumed: None,
            counted: Vec::new(),
            losses: Losses::default(),
            sealed: None,
        }
    }

    /// The cursor of an account in the spool that takes `range` of ours: that of a dead agent, or our own. Without the
    /// losses.
    pub(super) fn of(
        ledger: &Ledger,
        account: &Account,
        drain: &DrainId,
        range: &Range<Offset>,
        origin: Option<&Origin>,
    ) -> Self {
        let shift = origin.map_or(0, |origin| origin.shift);
        let sealed = account.sealed_in(range).map(|ResumedBatch { end, notice, announced, .. }| SealedEnd {
            end: end - shift,
            notice,
            announced,
        });
        let at = account.cursor_in(range);
        let consumed =
            ledger.consumed_before(account, at).filter(|consumed| range.contains(&consumed.segment));
        let consumed = consumed.map(|consumed| Consumed { segment: consumed.segment - shift, ..consumed });
        let counted = ledger.counted_in(account, range, origin).into_iter();
        let counted = counted.map(|counted| CountedLines { at: counted.at - shift, ..counted }).collect();
        let mut cursor = Self { offset: at - shift, consumed, counted, sealed, ..Self::at_start(drain) };
        if let Some(token) = origin.and_then(|origin| account.id_token(origin)) {
            token.clone_into(&mut cursor.id_token);
        }
        cursor
    }

    /// Whether both are of the same drain of the same agent.
    pub(super) fn is_same_drain(&self, other: &Self) -> bool {
        (&self.url_hash, &self.token) == (&other.url_hash, &other.token)
    }

    /// Whether a loss is still to be announced: by the sealed batch or by the next one.
    pub(super) fn has_to_announce(&self) -> bool {
        !self.losses.is_empty() || self.sealed.as_ref().is_some_and(|sealed| !sealed.announced.is_empty())
    }
}

/// The checkpoint file of a directory. It is overwritten in one `write` at every seal and every completion, so that
/// an agent that adopts the directory repeats at most one batch, under the same id.
///
/// One line per drain: `= URL_HASH ID_TOKEN TOKEN OFFSET LOSSES END ANNOUNCED NOTICES`. Older agents wrote it from TOKEN
/// on. OFFSET is followed by `+COUNTED@AT` for each place from there on where a line is under way that is already counted
/// as dropped (1: on standard output, 2: on standard error), and by `,SEGMENT,FRAMES,LINES`, which tell how much of the segment there is before it,
/// where that is known. Without a sealed batch END and what follows are `-`. Losses are `LINES,SINCE,UNTIL,REASON;…` with times in
/// microseconds, or `-`. Then one line per segment: `+ START BYTES FRAMES LINES FIRST LAST LONG NOTICES`, with the
/// times of its first and last frame, what it has of lines of several frames ([`LongLines::to_bits`]), and the loss
/// notices in it: `AT,LOSS;…` with their places in bytes from START, or `-`. Older agents wrote it up to LAST. Where there is no room for all
/// segments the newest are listed, behind a line `< START` with the start of the first of them. The last line is
/// `. CHECKSUM`; what is behind it remains of a longer checkpoint, or is a reserve of zeros.
///
/// The hash of its URL tells which drain it is: its derived token is another one when drains on the same host and port
/// change places. The token tells it when the URL is another one, as with a rotated secret ([`matching`]).
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// Where the file is; none for a file of a test, which has no name.
    path: Option<PathBuf>,
    file: Mutex<ReservedFile>,
}

/// The open file, and for how many bytes the disk has room, also when it gets full.
#[derive(Debug)]
struct ReservedFile {
    file: File,
    reserved: u64,
}

impl ReservedFile {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        Ok(Self::of(open_regular(path, &mut options)?))
    }

    fn of(file: File) -> Self {
        let reserved = file.metadata().map_or(0, |meta| meta.len());
        let mut file = Self { file, reserved };
        file.reserve(RESERVED_BYTES);
        file
    }

    /// Reserves room for `len` bytes, so that also on a disk that gets full it can be written: what the segments took
    /// would be delivered twice, and a checkpoint that is cut off is none. Returns how many bytes there is room for.
    fn reserve(&mut self, len: u64) -> usize {
        let wanted = len.next_multiple_of(RESERVED_BYTES).min(MAX_BYTES);
        if wanted > self.reserved && allocate(&self.file, wanted).is_ok() {
            self.reserved = wanted;
        }
        self.reserved.min(MAX_BYTES) as usize
    }

    /// Whether somebody removed the file.
    fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }
}

impl Checkpoint {
    /// Opens the file in `directory`.
    ///
    /// # Errors
    /// [`SpoolError`] when it cannot be created.
    pub(crate) fn open(directory: &Directory) -> Result<Self, SpoolError> {
        let path = directory.path().join(FILE_NAME);
        let file = ReservedFile::open(&path).map_err(SpoolError::io("cannot open", &path))?;
        Ok(Self { path: Some(path), file: Mutex::new(file) })
    }

    /// In this file.
    #[cfg(test)]
    pub(super) fn of(file: File) -> Self {
        Self { path: None, file: Mutex::new(ReservedFile::of(file)) }
    }

    /// What is in its file.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Vec<u8> {
        let file = &self.lock().file;
        let mut bytes = vec![0; file.metadata().expect("a file").len() as usize];
        file.read_exact_at(&mut bytes, 0).expect("readable");
        bytes
    }

    fn lock(&self) -> MutexGuard<'_, ReservedFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all cursors, and what the segments hold.
    ///
    /// # Errors
    /// When that fails. It costs repetition after a crash, and losses that are not announced.
    pub(crate) fn save(&self, cursors: &[Cursor], segments: &[SegmentRecord]) -> io::Result<()> {
        let mut text = Vec::with_capacity(128);
        for cursor in cursors {
            let losses = losses_text(&cursor.losses);
            if let Some(url_hash) = &cursor.url_hash {
                text.extend_from_slice(format!("= {url_hash} {} ", cursor.id_token).as_bytes());
            }
            text.extend_from_slice(format!("{} {}", cursor.token, cursor.offset).as_bytes());
            for CountedLines { at, streams: PerStream { out, err } } in &cursor.counted {
                text.extend_from_slice(format!("+{}@{at}", u8::from(*out) | u8::from(*err) << 1).as_bytes());
            }
            if let Some(Consumed { segment, frames, lines }) = cursor.consumed {
                text.extend_from_slice(format!(",{segment},{frames},{lines}").as_bytes());
            }
            text.extend_from_slice(format!(" {losses} ").as_bytes());
            match &cursor.sealed {
                Some(SealedEnd { end, notice, announced }) => {
                    let announced = losses_text(announced);
                    text.extend_from_slice(format!("{end} {announced} ").as_bytes());
                    text.extend(frames_to_line(notice));
                }
                None => text.extend_from_slice(b"- - -"),
            }
            text.push(b'\n');
        }
        let listed: Vec<String> = segments.iter().map(segment_line).collect();
        let wanted = listed.iter().fold(text.len() + CHECKSUM_LINE_BYTES, |sum, line| sum + line.len());
        let mut open = self.lock();
        if let Some(path) = self.path.as_ref().filter(|_| open.is_removed()) {
            *open = ReservedFile::open(path)?;
        }
        let room = open.reserve(wanted as u64);
        if wanted <= room {
            text.extend(listed.iter().flat_map(String::as_bytes));
        } else {
            let mut left = room.saturating_sub(text.len() + CHECKSUM_LINE_BYTES + MAX_UNLISTED_LINE_BYTES);
            let fits = |line: &&String| left.checked_sub(line.len()).map(|rest| left = rest).is_some();
            let newest = listed.iter().rev().take_while(fits).count();
            let newest = listed.len() - newest;
            let first = segments.get(newest).map_or(Offset::MAX, |segment| segment.start);
            text.extend_from_slice(format!("< {first}\n").as_bytes());
            text.extend(listed[newest..].iter().flat_map(String::as_bytes));
        }
        let checksum = hash([text.as_slice()]);
        text.extend_from_slice(format!(". {checksum}\n").as_bytes());
        if text.len() > room {
            return Err(io::ErrorKind::StorageFull.into()); // half a checkpoint would replace a good one
        }
        disk::write_all_at(&open.file, &text, 0)
    }

    /// What is in the file of `directory`; nothing when nothing was written yet.
    ///
    /// # Errors
    /// When there is something else than a checkpoint.
    pub(super) fn read(directory: &Directory) -> io::Result<Recorded> {
        match read_small(&directory.path().join(FILE_NAME), MAX_BYTES) {
            Ok(bytes) if bytes.is_empty() => Ok(Recorded::default()),
            Ok(bytes) => parse(&bytes).ok_or_else(|| io::Error::other("its checksum does not match")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Recorded::default()),
            Err(error) => Err(error),
        }
    }
}

/// Reserves blocks for the first `len` bytes of `file`.
///
/// # Errors
/// When there is no room.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len as i64) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => write_zeros(file, len),
        other => Ok(other?),
    }
}

/// Where the file system cannot reserve blocks, zeros behind what is there take them.
pub(super) fn write_zeros(file: &File, len: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut at = file.metadata()?.len();
    while at < len {
        let piece = (len - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..piece as usize], at)?;
        at += piece;
    }
    Ok(())
}

/// The cursor that each drain continues from; no two drains have one in common. A drain is known by its URL. By its
/// token it is known only where neither its URL has a cursor, nor the URL of the cursor a drain.
pub(super) fn matching<'a>(cursors: &'a [Cursor], drains: &[DrainId]) -> Vec<Option<&'a Cursor>> {
    let has_url = |cursor: &Cursor, drain: &DrainId| cursor.url_hash.as_ref() == Some(&drain.url_hash);
    let is_known = |cursor: &Cursor| drains.iter().any(|drain| has_url(cursor, drain));
    let has_cursor = |drain: &DrainId| cursors.iter().any(|cursor| has_url(cursor, drain));
    // The token decides between cursors of one URL: it may be there twice.
    let rank = |cursor: &Cursor, drain: &DrainId| match (has_url(cursor, drain), cursor.token == drain.token)
    {
        (true, true) => Some(0),
        (true, false) => Some(1),
        (false, true) if !is_known(cursor) && !has_cursor(drain) => Some(2),
        (false, _) => None,
    };
    let mut left: Vec<&Cursor> = cursors.iter().collect();
    let mut found = vec![None; drains.len()];
    for wanted in 0..3 {
        for (found, drain) in found.iter_mut().zip(drains).filter(|(found, _)| found.is_none()) {
            let index = left.iter().position(|cursor| rank(cursor, drain) == Some(wanted));
            *found = index.map(|index| left.remove(index));
        }
    }
    found
}

/// What a checkpoint says.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// How far each drain was.
    pub(super) cursors: Vec<Cursor>,
    /// The segments that were in files, ascending. The last one may have grown since.
    pub(super) segments: Vec<SegmentRecord>,
    /// There may be segments before this that are not listed.
    pub(super) listed_from: Offset,
}

pub(super) fn parse(bytes: &[u8]) -> Option<Recorded> {
    let mut recorded = Recorded::default();
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[from..end];
        if let Some(checksum) = line.strip_prefix(b". ") {
            return (checksum == hash([&bytes[..from]]).as_bytes()).then_some(recorded);
        }
        from = end + 1;
        if let Some(segment) = line.strip_prefix(b"+ ") {
            recorded.segments.push(parse_segment(segment)?);
        } else if let Some(start) = line.strip_prefix(b"< ") {
            recorded.listed_from = std::str::from_utf8(start).ok()?.parse().ok()?;
        } else {
            recorded.cursors.push(parse_cursor(line)?);
        }
    }
    None
}

fn segment_line(segment: &SegmentRecord) -> String {
    let SegmentRecord { start, len, frames, lines, long_lines, times, notices } = segment;
    let times = times.map_or((0, 0), |times| (times.first.as_micros(), times.last.as_micros()));
    let (notices, long_lines) = (notices_text(notices), LongLines::to_bits(*long_lines));
    format!("+ {start} {len} {frames} {lines} {} {} {long_lines} {notices}\n", times.0, times.1)
}

fn parse_segment(line: &[u8]) -> Option<SegmentRecord> {
    let mut fields = std::str::from_utf8(line).ok()?.split(' ');
    let start = fields.next()?.parse().ok()?;
    let mut number = || fields.next()?.parse().ok();
    let (len, frames, lines) = (number()?, number()?, number()?);
    let (first, last) = (Timestamp::from_micros(number()?), Timestamp::from_micros(number()?));
    let times = (last > Timestamp::default()).then_some(TimeRange { first, last });
    let long_lines = LongLines::from_bits(number().unwrap_or(0) as u8);
    let notices = parse_notices(fields.next().unwrap_or("-"))?;
    let is_possible = [frames, lines].into_iter().all(|count| count <= MAX_COUNT);
    is_possible.then_some(SegmentRecord { start, len, frames, lines, long_lines, times, notices })
}

fn parse_cursor(line: &[u8]) -> Option<Cursor> {
    let has_url_hash = line.starts_with(b"= ");
    let mut fields = line.splitn(if has_url_hash { 9 } else { 6 }, |b| *b == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let mut known = None;
    if has_url_hash {
        text()?; // the sign
        known = Some((text()?.to_owned(), text()?.to_owned()));
    }
    let (token, offset, losses) = (text()?.to_owned(), text()?, parse_losses(text()?)?);
    let (offset, counted, consumed) = parse_offset(offset)?;
    let (end, announced) = (text()?, parse_losses(text()?)?);
    let notice = frames_from_line(fields.next()?);
    let sealed = match end {
        "-" => None,
        end => Some(SealedEnd { end: end.parse().ok()?, notice, announced }),
    };
    let (url_hash, id_token) = known.unzip();
    let id_token = id_token.unwrap_or_else(|| token.clone());
    Some(Cursor { url_hash, token, id_token, offset, consumed, counted, losses, sealed })
}

/// `OFFSET`, any `+COUNTED@AT`, and `,SEGMENT,FRAMES,LINES` if known.
fn parse_offset(text: &str) -> Option<(Offset, Vec<CountedLines>, Option<Consumed>)> {
    let (place, consumed) = text.split_once(',').map_or((text, None), |(place, rest)| (place, Some(rest)));
    let mut parts = place.split('+');
    let offset = parts.next()?.parse().ok()?;
    let counted = parts.map(parse_counted).collect::<Option<_>>()?;
    let Some(consumed) = consumed else { return Some((offset, counted, None)) };
    let (segment, rest) = consumed.split_once(',')?;
    let (frames, lines) = rest.split_once(',')?;
    let (segment, frames, lines) = (segment.parse().ok()?, frames.parse().ok()?, lines.parse().ok()?);
    let is_possible = frames <= MAX_COUNT && lines <= MAX_COUNT && segment <= offset;
    is_possible.then_some((offset, counted, Some(Consumed { segment, frames, lines })))
}

fn parse_counted(text: &str) -> Option<CountedLines> {
    let (bits, at) = text.split_once('@')?;
    let (bits, at) = (bits.parse::<u8>().ok()?, at.parse().ok()?);
    Some(CountedLines { at, streams: PerStream { out: bits & 1 != 0, err: bits & 2 != 0 } })
}

fn loss_text(Loss { lines, since, until, reason }: &Loss) -> String {
    format!("{lines},{},{},{}", since.as_micros(), until.as_micros(), reason.as_str())
}

/// The texts with `;` between them, or `-`.
fn list(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(";") }
}

fn losses_text(losses: &Losses) -> String {
    list(losses.iter().map(loss_text))
}

fn notices_text(notices: &[SpooledNotice]) -> String {
    list(notices.iter().map(|SpooledNotice { offset, loss }| format!("{offset},{}", loss_text(loss))))
}

fn parse_notices(text: &str) -> Option<Vec<SpooledNotice>> {
    let parse = |text: &str| {
        let (offset, loss) = text.split_once(',')?;
        Some(SpooledNotice { offset: offset.parse().ok()?, loss: parse_loss(loss)? })
    };
    let notices: Vec<_> = if text == "-" { Some(Vec::new()) } else { text.split(';').map(parse).collect() }?;
    notices.is_sorted_by_key(|notice| notice.offset).then_some(notices)
}

/// Losses; `-` without one.
fn parse_losses(text: &str) -> Option<Losses> {
    if text == "-" { Some(Losses::default()) } else { text.split(';').map(parse_loss).collect() }
}

fn parse_loss(text: &str) -> Option<Loss> {
    let mut fields = text.split(',');
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (lines, since, until) = (number()?, number()?, number()?);
    let (since, until) = (Timestamp::from_micros(since), Timestamp::from_micros(until));
    let reason = fields.next()?;
    let reason = DropReason::ALL.into_iter().find(|known| known.as_str() == reason)?;
    (lines <= MAX_COUNT).then_some(Loss { lines, since, until, reason })
}
