//! Recovery: an agent adopts what dead agents of its app left in the same directory, from where each drain was. (A
//! shipper that outlives its supervisor: `takeover`.)

use super::checkpoint::{Checkpoint, Cursor, Recorded, SealedEnd, matching};
use super::directory::{Directory, Listing, SegmentFile, SpoolError, check_ours, last_change};
use super::identity::AppIdentity;
use super::open::DrainId;
use super::writer::{bytes_of, content_of};
use super::{SEGMENT_BYTES, disk};
use crate::diag;
use crate::frame::{self, Timestamp};
use crate::ledger::{
    Account, AdoptedContent, Consumed, CountedLines, DrainIndex, Ledger, Offset, Origin, ResumedBatch,
    Segment, SegmentLocation, SegmentRecord, TimeRange,
};
use crate::line::PerStream;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Directories that one agent adopts at most; the next one takes the rest.
const MAX_DIRECTORIES: usize = 64;
/// No spool grows so long: a file that claims to start behind it is no segment.
const MAX_OFFSET: u64 = 1 << 62;

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
    /// Lets the accounts of `drains` continue where the dead agent was.
    pub(super) fn resume(&self, ledger: &mut Ledger, drains: &[DrainId]) {
        let found = drains.iter().zip(matching(&self.cursors, drains));
        for (index, (drain, cursor)) in DrainIndex::all(drains.len()).zip(found) {
            if let Some(account) = ledger.account_mut(index) {
                self.resume_drain(account, drain, cursor);
            }
        }
    }

    fn resume_drain(&self, account: &mut Account, drain: &DrainId, cursor: Option<&Cursor>) {
        let shift = self.origin.shift;
        let is_taken = || self.cursors.iter().any(|cursor| cursor.id_token == drain.token);
        match cursor {
            Some(cursor) => account.set_id_token(&self.origin, &cursor.id_token),
            // The ids of the drain that had its token must not be repeated with another's batches.
            None if is_taken() => account.set_id_token(&self.origin, &drain.url_hash),
            None => {}
        }
        if let Some(cursor) = cursor {
            let offset = (cursor.offset + shift).min(self.end);
            let is_there = offset == cursor.offset + shift;
            let consumed = cursor.consumed.filter(|_| is_there);
            let consumed =
                consumed.map(|consumed| Consumed { segment: consumed.segment + shift, ..consumed });
            account.skip_range(Offset::new(shift), offset, consumed);
            for counted in cursor.counted.iter().filter(|counted| counted.at <= self.end - shift) {
                let at = counted.at + shift;
                account.resume_counted(&self.origin, CountedLines { at, ..*counted });
            }
            if let Some(SealedEnd { end, notice, announced }) = cursor.sealed.clone() {
                let end = end + shift;
                if is_there && end <= self.end {
                    account.resume(ResumedBatch { start: offset, end, notice, announced });
                } else {
                    account.inherit_losses(announced); // its frames are gone, or it had none
                }
            }
            account.inherit_losses(cursor.losses.clone());
        }
    }

    /// Reports what it holds for drains that are not among `drains`: nobody delivers it there.
    pub(super) fn report_gone(&self, ledger: &Ledger, drains: &[DrainId]) {
        let known: Vec<&Cursor> = matching(&self.cursors, drains).into_iter().flatten().collect();
        let is_gone = |cursor: &&Cursor| !known.iter().any(|known| std::ptr::eq(*known, *cursor));
        for cursor in self.cursors.iter().filter(is_gone) {
            let from = cursor.offset + self.origin.shift;
            let bytes = self.end.bytes_since(from);
            let ours = ledger.segments().filter(|segment| segment.origin.as_ref() == Some(&self.origin));
            let lines: u64 = ours.map(|segment| segment.recorded_lines_from(from, cursor.consumed)).sum();
            if bytes > 0 {
                let event = diag::event(diag::Event::DrainGone).field("drain", &cursor.token);
                let event = event.field("lines", lines).field("bytes", bytes);
                event.field("detail", "held for a drain that this agent does not have").emit();
            }
        }
    }

    /// Its supervisor's shipper knows these positions of the drains, which may be newer than the checkpoint's.
    pub(super) fn advance(&mut self, known: &[Cursor]) {
        for newer in known {
            match self.cursors.iter_mut().find(|cursor| cursor.is_same_drain(newer)) {
                Some(cursor) if cursor.offset < newer.offset => {
                    let losses = std::mem::take(&mut cursor.losses);
                    *cursor = Cursor { losses, ..newer.clone() };
                }
                Some(_) => {}
                None => self.cursors.push(newer.clone()),
            }
        }
    }

    /// Its range in our spool.
    pub(super) fn range(&self) -> Range<Offset> {
        Offset::new(self.origin.shift)..self.end
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

/// Adopts the directories of dead agents of this app in `base`, in the order of their starts but that of agent `last`
/// behind all others, and looks at those of other apps. `own_id` is the id of our agent, whose directory is left out.
///
/// # Errors
/// [`SpoolError`] when `base` cannot be listed. A directory that cannot be adopted is left alone.
pub(crate) fn adopt(
    base: &Path,
    own_id: &str,
    app: &AppIdentity,
    last: &str,
) -> Result<Adoption, SpoolError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(base).map_err(SpoolError::io("cannot list", base))?.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_agent =
            name.len() == own_id.len() && name != own_id && name.bytes().all(|b| b.is_ascii_hexdigit());
        if is_agent {
            found.push((name == last, AppIdentity::recorded_at(&entry.path()), name, entry.path()));
        }
    }
    found.sort();
    let mut adoption = Adoption::default();
    for (_, _, agent, path) in found {
        let owner = AppIdentity::read(&path);
        // Somebody may have removed the file that says whose it is; a shipper knows that of its own supervisor.
        let is_ours = agent == last || owner.as_ref().is_some_and(|owner| owner.is_same_app(app));
        if !is_ours {
            adoption.others.extend(OtherSpool::look(path, owner));
        } else if adoption.spools.len() < MAX_DIRECTORIES {
            match Directory::adopt(path) {
                Ok(Some(directory)) => adoption.add(agent, directory),
                Ok(None) => {} // its agent is alive
                Err(error) => report_foreign(&base.join(agent), 1, &format!("not adopted: {error}")),
            }
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
    /// How long one is left that has no segments and is nobody's. Its agent was killed while it made or removed it,
    /// or is about to lock it.
    const EMPTY_KEEP_TIME: Duration = Duration::from_mins(1);

    /// Looks at the directory at `path`, which is not changed, unless it was kept for long enough: then it is removed,
    /// because nobody can deliver it any more. None for a directory of a living agent, and for one without segments.
    fn look(path: PathBuf, owner: Option<AppIdentity>) -> Option<Self> {
        check_ours(&path).ok()?;
        let changed = last_change(&path)?;
        let segments = Listing::of(&path).ok()?.segments;
        let bytes = segments.iter().fold(0, |bytes: u64, file| bytes.saturating_add(file.len));
        if Directory::is_locked(&path) {
            return None;
        }
        let keep_time = if owner.is_none() && bytes == 0 { Self::EMPTY_KEEP_TIME } else { Self::KEEP_TIME };
        let app = owner.map(|owner| owner.name).unwrap_or_default();
        let other = Self { directory: path, app, bytes, changed };
        if other.unchanged() >= keep_time
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
    /// Adds the spool of one dead agent. One without segments is removed, unless losses are to be announced.
    fn add(&mut self, agent: String, mut directory: Directory) {
        // What it had removed stays a gap, so that its offsets and ours differ by one constant.
        let shift = self.segments.last().map_or(Offset::ZERO, Segment::end).get();
        let mut files = segments_of(&mut directory, shift);
        let Recorded { cursors, segments: records, listed_from } = Checkpoint::read(&directory)
            .unwrap_or_else(|error| {
                let event = diag::event(diag::Event::CheckpointDamaged)
                    .field("directory", directory.path().display());
                event.field("error", error).emit();
                Recorded::default()
            });
        remove_dropped(&mut files, &records, listed_from);
        restore_missing(&mut files, &records, &directory, shift);
        if files.is_empty() && !cursors.iter().any(Cursor::has_to_announce) {
            return directory.remove();
        }
        let checkpoint = Checkpoint::open(&directory).ok();
        let origin = Arc::new(Origin { agent, shift });
        // Our first segment would start where an empty one does: one start, two files.
        for SegmentFile { offset, len, path } in files.into_iter().filter(|file| file.len > 0) {
            let mut segment = Segment::new(offset + shift, SegmentLocation::File(path));
            segment.len = len;
            segment.origin = Some(Arc::clone(&origin));
            let record = records.iter().find(|record| record.start == offset && record.len <= len);
            if let Some(record) = record {
                set_counts(&mut segment, None, record.clone());
            } else {
                let content = content_of(&segment, None);
                segment.times = times_of(&segment, &content);
                segment.recorded_lines = content.lines.len() as u64;
                segment.notices = content.notices;
            }
            self.segments.push(segment);
        }
        let end = self.segments.last().map_or(Offset::new(shift), Segment::end);
        self.spools.push(AdoptedSpool { origin, end, directory: Some(directory), cursors, checkpoint });
    }
}

/// Removes the files that the checkpoint does not list although it lists later ones: what was in them is dropped and
/// announced, or delivered, and their agent was killed before it removed them.
fn remove_dropped(files: &mut Vec<SegmentFile>, records: &[SegmentRecord], listed_from: Offset) {
    let Some(last) = records.last() else { return };
    for file in files.extract_if(.., |file| {
        let is_listed = (listed_from..last.start).contains(&file.offset);
        is_listed && !records.iter().any(|record| record.start == file.offset)
    }) {
        disk::remove_file(&file.path).ok(); // then the next agent tries
    }
}

/// Adds the segments whose files are missing, and those of which a part is missing as long as they were: what is not
/// there is found when it is read, and counted.
fn restore_missing(
    files: &mut Vec<SegmentFile>,
    records: &[SegmentRecord],
    directory: &Directory,
    shift: u64,
) {
    for &SegmentRecord { start, len, .. } in records {
        let index = files.partition_point(|file| file.offset < start);
        let end = files.get(index).filter(|file| file.offset > start).or(files.get(index + 1));
        let limit = end.map_or(MAX_OFFSET - shift.min(MAX_OFFSET), |next| next.offset.get());
        let is_behind = index.checked_sub(1).is_none_or(|before| files[before].end() <= start);
        if len > SEGMENT_BYTES || !is_behind || start.get().saturating_add(len) > limit {
            continue; // the files are right
        }
        match files.get_mut(index).filter(|file| file.offset == start) {
            Some(file) => file.len = file.len.max(len),
            None => files.insert(index, SegmentFile { offset: start, len, path: directory.segment(start) }),
        }
    }
}

/// The segments of a dead agent, ascending, each behind the end of the one before. Files that cannot be its segments
/// are ignored, and reported with what else no agent makes. `shift` is where its spool starts in ours.
fn segments_of(directory: &mut Directory, shift: u64) -> Vec<SegmentFile> {
    let Listing { segments, mut foreign } = Listing::of(directory.path()).unwrap_or_default();
    let mut found: Vec<SegmentFile> = Vec::with_capacity(segments.len());
    for file in segments {
        let is_in_range = file.offset.get() <= MAX_OFFSET.saturating_sub(shift);
        if file.len > SEGMENT_BYTES || !is_in_range {
            foreign.push(file.path);
            continue;
        }
        if let Some(before) = found.last_mut().filter(|before| before.end() > file.offset) {
            before.cut_at_nul();
            if before.end() > file.offset {
                let is_before_foreign = !before.starts_with_frame() && file.starts_with_frame();
                foreign.push(if is_before_foreign {
                    std::mem::replace(before, file).path
                } else {
                    file.path
                });
                continue;
            }
        }
        found.push(file);
    }
    if let Some(last) = found.last_mut() {
        last.cut_at_nul(); // it was being written
    }
    foreign.sort_unstable();
    if let Some(path) = foreign.first() {
        let name = path.file_name().unwrap_or_default().display();
        let detail = match foreign.len() {
            1 => format!("ignored: {name}"),
            _ => format!("ignored: {name} and others"),
        };
        report_foreign(directory.path(), foreign.len(), &detail);
    }
    directory.ignore(foreign);
    found
}

/// Sets what `record` says of the segment's first bytes, and counts what is behind them.
pub(super) fn set_counts(segment: &mut Segment, memory: Option<&File>, record: SegmentRecord) {
    let (recorded, times) = (record.len, record.times);
    segment.set_record(record);
    if recorded < segment.len {
        segment.recorded_long_lines = PerStream::default(); // each of the frames that follow counts as a line
        let (more_frames, more_lines) = tail_of(segment, memory, recorded);
        segment.frames += more_frames;
        segment.recorded_lines += more_lines;
        let content = content_of(segment, memory);
        segment.times = times_of(segment, &content).or(times);
        segment.notices = content.notices;
    }
}

/// When a segment was written whose end no record tells: the times of its lines, as far as they can be read, or else
/// the last change of its file. For the notice of its loss.
fn times_of(segment: &Segment, content: &AdoptedContent) -> Option<TimeRange> {
    content.times.or_else(|| {
        let SegmentLocation::File(path) = &segment.location else { return None };
        let changed = Timestamp::of(std::fs::metadata(path).ok()?.modified().ok()?);
        Some(TimeRange { first: changed, last: changed })
    })
}

/// Frames and lines of the app that a segment has behind its first `recorded` bytes.
fn tail_of(segment: &Segment, memory: Option<&File>, recorded: u64) -> (u64, u64) {
    let bytes = bytes_of(segment, memory);
    let (mut frames, mut lines, mut at) = (0, 0, recorded as usize);
    while let Ok(frame) = frame::parse(&bytes, at) {
        frames += 1;
        lines += u64::from(frame.is_app_line());
        at += frame.total;
    }
    (frames, lines)
}

fn report_foreign(directory: &Path, files: usize, detail: &str) {
    let event = diag::event(diag::Event::SpoolForeign).field("directory", directory.display());
    event.field("files", files).field("detail", detail).emit();
}
