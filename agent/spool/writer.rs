//! Writing the spool: segments, the size limit, and what happens when the disk cannot be written to.

use super::directory::{Directory, SpoolError, read_small};
use super::disk;
use super::{MEMORY_SLOTS, SEGMENT_BYTES, dispose, drop_cache, note_slot_start, read_slot};
use crate::diag::Throttle;
use crate::frame::{self, DropReason, Loss, Losses, Timestamp};
use crate::ledger::{
    AdoptedContent, Appended, FrameKind, Ledger, Segment, SegmentLocation, SharedLedger, SpecialFrame,
    SpooledNotice, TimeRange,
};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

/// A segment with this many younger ones is written back and dropped from the page cache; several times, since pages
/// under write-back stay.
const UNCACHE_AT: [usize; 4] = [3, 4, 6, 9];
/// [`WhenFull::Block`]: pause while more than this many segments are undelivered, so that the shipper reads from the
/// page cache, not the disk.
const MAX_AHEAD_SEGMENTS: usize = 2;
/// But no longer than this without a delivered segment: then the spool fills up to its limit.
const AHEAD_TIMEOUT: Duration = Duration::from_millis(20);
/// How often the end of a longer wait is looked for.
const WAIT_STEP: Duration = Duration::from_millis(100);
/// How long after a failure the disk is tried again.
const DISK_RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// That nothing can be written to is reported when it has lasted this long: an app that ends sooner has its closing
/// line.
const REPORT_DELAY: Duration = Duration::from_secs(5);
/// Bytes that the spool may take on a file system in memory: they count as the dyno's memory.
const MAX_TMPFS_BYTES: u64 = 8 << 20;

/// What to do when the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Drop the oldest segment: the app must not wait.
    DropOldest,
    /// Wait until a drain consumed something: whoever writes to the standard input of `ship` may wait.
    Block,
}

/// What became of frames that were to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendOutcome {
    /// They are in the spool.
    Written,
    /// Neither disk nor memory can be written to: the lines that ended in them are booked as dropped.
    Dropped,
}

/// The segment that is being written.
#[derive(Debug)]
enum OpenSegment {
    /// A new file, which ends behind the last frame.
    NewFile(File),
    /// A recycled file, which still holds old frames behind the last one.
    RecycledFile(File),
    Memory(u8),
}

impl OpenSegment {
    /// Its file, if it has one of its own.
    fn file(&self) -> Option<&File> {
        match self {
            Self::NewFile(file) | Self::RecycledFile(file) => Some(file),
            Self::Memory(_) => None,
        }
    }

    /// The file of the segment, and where in it the segment starts.
    fn location<'a>(&'a self, memory: Option<&'a File>) -> Option<(&'a File, u64)> {
        match self {
            Self::NewFile(file) | Self::RecycledFile(file) => Some((file, 0)),
            Self::Memory(slot) => memory.map(|memory| (memory, u64::from(*slot) * SEGMENT_BYTES)),
        }
    }
}

/// Which file stood at the path of a segment when it was opened.
#[derive(Debug)]
struct SegmentIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SegmentIdentity {
    fn of(file: &File, path: &Path) -> Option<Self> {
        let meta = file.metadata().ok()?;
        Some(Self { path: path.to_owned(), device: meta.dev(), inode: meta.ino() })
    }

    /// Whether it is still there. Where that cannot be told, it is.
    fn is_in_place(&self) -> bool {
        match std::fs::symlink_metadata(&self.path) {
            Ok(meta) => (meta.dev(), meta.ino()) == (self.device, self.inode),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

/// The one writer of a spool.
pub(crate) struct Writer<'a> {
    shared: &'a SharedLedger,
    directory: Option<&'a Directory>,
    memory: Option<&'a File>,
    limit: u64,
    full: WhenFull,
    open: Option<OpenSegment>,
    /// The file of the open segment, as long as it is the one at its path.
    open_file: Option<SegmentIdentity>,
    len: u64,
    /// The number of removals at the last wait that timed out: waiting again before the next one is useless.
    timed_out_at: Option<u64>,
    disk_failed: Option<Instant>,
    /// The current failure of the disk is reported.
    disk_reported: bool,
    warning: Option<SpoolError>,
    /// Neither disk nor memory can be written to.
    no_storage: Throttle,
    give_up: Box<dyn Fn() -> bool + Send + 'a>,
    on_change: Box<dyn Fn() + Send + 'a>,
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("open", &self.open).field("len", &self.len).finish_non_exhaustive()
    }
}

impl<'a> Writer<'a> {
    /// A writer into `directory`, or into `memory` without one. `limit` is in bytes; `give_up` ends waiting.
    pub(crate) fn new(
        shared: &'a SharedLedger,
        directory: Option<&'a Directory>,
        memory: Option<&'a File>,
        limit: u64,
        full: WhenFull,
        give_up: impl Fn() -> bool + Send + 'a,
    ) -> Self {
        let limit = match directory {
            Some(directory) if directory.is_in_memory() => limit.min(MAX_TMPFS_BYTES),
            _ => limit,
        };
        Self {
            shared,
            directory,
            memory,
            limit,
            full,
            open: None,
            open_file: None,
            len: 0,
            timed_out_at: None,
            disk_failed: None,
            disk_reported: false,
            warning: None,
            no_storage: Throttle::default(),
            give_up: Box::new(give_up),
            on_change: Box::new(|| {}),
        }
    }

    /// Calls `on_change` when a segment was opened, and when segments were dropped, before their bytes are removed.
    pub(super) fn on_change(self, on_change: impl Fn() + Send + 'a) -> Self {
        Self { on_change: Box::new(on_change), ..self }
    }

    /// Writes whole frames and books them. There may be none, when only lines that closed are to be booked.
    pub(crate) fn append(&mut self, frames: &[u8], appended: &Appended) -> AppendOutcome {
        if frames.is_empty() {
            self.shared.lock().append(appended);
            return AppendOutcome::Written;
        }
        self.make_room(frames.len() as u64);
        // Where somebody cleaned or moved the directory, no reader would find what is written from now on.
        if self.open_file.as_ref().is_some_and(|file| !file.is_in_place()) {
            (self.open, self.open_file) = (None, None);
        }
        let fits = self.open.is_some() && self.len + frames.len() as u64 <= SEGMENT_BYTES;
        if fits && self.write(frames) {
            self.shared.lock().append(appended);
            self.len += frames.len() as u64;
            return AppendOutcome::Written;
        }
        if self.write_to_new_segment(frames, appended) {
            self.no_storage = Throttle::default();
            return AppendOutcome::Written;
        }
        self.note_no_storage();
        // Lines that closed have their last frame in the spool already: they are not among the dropped.
        let closed = appended.closed.len() as u64;
        let kept = Appended { closed: appended.closed.clone(), ended: closed, ..Appended::default() };
        let mut ledger = self.shared.lock();
        ledger.append(&kept);
        let lines = appended.ended - closed;
        ledger.drop_unrecorded(lines, DropReason::SpoolUnwritable);
        ledger.announce(&unannounced(appended, lines));
        AppendOutcome::Dropped
    }

    fn note_no_storage(&mut self) {
        (self.warning, self.disk_reported) = (None, false);
        if self.no_storage.permit_after(REPORT_DELAY, Instant::now()) {
            self.warning = Some(SpoolError::NoStorage);
        }
    }

    /// What went wrong since the last call, to be reported once.
    pub(crate) fn take_warning(&mut self) -> Option<SpoolError> {
        self.warning.take()
    }

    /// Files are removed without the ledger's lock: a stalled disk delays nobody else.
    fn make_room(&mut self, len: u64) {
        let dropped = self.drop_for(len);
        if !dropped.is_empty() {
            (self.on_change)();
        }
        for segment in dropped {
            dispose(&segment, self.directory, self.memory);
        }
    }

    /// Takes segments out of the ledger until `len` more bytes are within the limit, or waits for that.
    fn drop_for(&mut self, len: u64) -> Vec<Segment> {
        let mut dropped = Vec::new();
        let mut ledger = self.shared.lock();
        if self.full == WhenFull::Block && ledger.segments().len() > MAX_AHEAD_SEGMENTS {
            let removals = self.shared.removals();
            if self.timed_out_at != Some(removals) {
                ledger = self.shared.wait_for_removal(ledger, AHEAD_TIMEOUT);
                let timed_out = self.shared.removals() == removals;
                self.timed_out_at = timed_out.then_some(removals);
            }
        }
        while ledger.bytes() + len > self.limit {
            if self.full == WhenFull::Block {
                // A limit below what is pinned would wait forever.
                if ledger.segments().len() < 2 || (self.give_up)() {
                    break;
                }
                ledger = self.shared.wait_for_removal(ledger, WAIT_STEP);
                continue;
            }
            let segment;
            (ledger, segment) = self.drop_oldest(ledger);
            let Some(segment) = segment else { break };
            dropped.push(segment);
        }
        dropped
    }

    /// Drops the oldest segment. What a dead agent left is counted first, without the ledger's lock.
    fn drop_oldest<'l>(&self, mut ledger: MutexGuard<'l, Ledger>) -> (MutexGuard<'l, Ledger>, Option<Segment>)
    where
        'a: 'l,
    {
        while let Some(uncounted) = ledger.next_to_drop().filter(|segment| segment.is_uncounted()).cloned() {
            drop(ledger);
            let content = content_of(&uncounted, self.memory);
            ledger = self.shared.lock();
            ledger.count_adopted(uncounted.start, content);
        }
        let segment = ledger.drop_oldest(DropReason::SpoolFull);
        (ledger, segment)
    }

    /// Writes to the open segment; false when that failed, and then none is open.
    fn write(&mut self, frames: &[u8]) -> bool {
        let Some(open) = &self.open else { return false };
        let Some((file, start)) = open.location(self.memory) else { return false };
        let at = start + self.len;
        let written = match open {
            OpenSegment::NewFile(_) => disk::write_all_at(file, frames, at),
            OpenSegment::RecycledFile(_) | OpenSegment::Memory(_) => {
                overwrite(file, frames, at, start + SEGMENT_BYTES)
            }
        };
        let Err(error) = written else { return true };
        if !matches!(open, OpenSegment::Memory(_)) {
            // An agent that adopts the directory must not find frames that are not booked.
            disk::set_len(file, self.len).ok(); // the disk failed: nothing more can be done
            self.disk_failed(error);
        }
        self.open = None;
        false
    }

    fn disk_failed(&mut self, error: io::Error) {
        if let Some(directory) = self.directory {
            if !std::mem::replace(&mut self.disk_reported, true) {
                self.warning = Some(SpoolError::io("cannot write to", directory.path())(error));
            }
            self.disk_failed = Some(Instant::now());
        }
    }

    fn write_to_new_segment(&mut self, frames: &[u8], appended: &Appended) -> bool {
        for _ in 0..2 {
            let Some(location) = self.rotate() else { return false };
            if self.write(frames) {
                let mut ledger = self.shared.lock();
                ledger.open_segment(location);
                ledger.append(appended);
                self.len = frames.len() as u64;
                let old = to_uncache(&ledger);
                drop(ledger);
                (self.on_change)(); // the segment before is complete
                old.iter().for_each(drop_cache);
                return true;
            }
            if let SegmentLocation::File(path) = &location {
                disk::remove_file(path).ok(); // the disk failed: nothing more can be done
            }
        }
        false
    }

    /// Opens the next segment: in a file, else in a slot of memory, else in what dropping the oldest frees.
    fn rotate(&mut self) -> Option<SegmentLocation> {
        if let Some(OpenSegment::RecycledFile(file)) = &self.open {
            disk::set_len(file, self.len).ok(); // what is behind are old frames, and a NUL precedes them
        }
        (self.open, self.open_file) = (None, None);
        self.len = 0;
        loop {
            if let Some(location) = self.next_file().or_else(|| self.next_slot()) {
                return Some(location);
            }
            let mut ledger = self.shared.lock();
            if self.full == WhenFull::Block {
                if (self.give_up)() {
                    return None;
                }
                drop(self.shared.wait_for_removal(ledger, WAIT_STEP));
                continue;
            }
            let segment;
            (ledger, segment) = self.drop_oldest(ledger);
            drop(ledger);
            let segment = segment?;
            (self.on_change)();
            dispose(&segment, None, self.memory);
            if matches!(segment.location, SegmentLocation::File(_)) {
                self.disk_failed = None; // there is room again
            }
        }
    }

    fn next_file(&mut self) -> Option<SegmentLocation> {
        let may_try = self.disk_failed.is_none_or(|failed| failed.elapsed() >= DISK_RETRY_INTERVAL);
        let directory = self.directory.filter(|_| may_try)?;
        let start = self.shared.lock().log_end();
        let path = directory.segment(start);
        let opened = match directory.write_identity().map(|()| directory.recycle(start)) {
            Ok(Some(file)) => Ok(OpenSegment::RecycledFile(file)),
            Ok(None) => disk::create_new(&path).map(OpenSegment::NewFile),
            Err(error) => Err(error),
        };
        match opened {
            Ok(open) => {
                self.disk_failed = None;
                self.open_file = open.file().and_then(|file| SegmentIdentity::of(file, &path));
                self.open = Some(open);
                Some(SegmentLocation::File(path))
            }
            Err(error) => {
                self.disk_failed(error);
                None
            }
        }
    }

    fn next_slot(&mut self) -> Option<SegmentLocation> {
        let memory = self.memory?;
        let ledger = self.shared.lock();
        let is_free = |slot: &u8| !ledger.segments().any(|s| s.location == SegmentLocation::Memory(*slot));
        let slot = (0..MEMORY_SLOTS).find(is_free)?;
        let start = ledger.log_end();
        drop(ledger);
        note_slot_start(memory, slot, start).ok()?;
        self.open = Some(OpenSegment::Memory(slot));
        Some(SegmentLocation::Memory(slot))
    }
}

/// What is to be announced when `appended` could not be written, `lines` of which are dropped by that: those lines, and
/// what the notices among the frames would have announced.
fn unannounced(appended: &Appended, lines: u64) -> Losses {
    // A line whose rest was dropped earlier is in one of those notices.
    let is_announced = |frame: &&SpecialFrame| matches!(frame.kind, FrameKind::Incomplete(..));
    let lines = lines.saturating_sub(appended.special.iter().filter(is_announced).count() as u64);
    let reason = DropReason::SpoolUnwritable;
    let times = appended.times.filter(|_| lines > 0);
    let loss = times.map(|times| Loss { lines, since: times.first, until: times.last, reason });
    appended.notices.iter().map(|notice| notice.loss).chain(loss).collect()
}

/// The segments to write back and drop from the page cache now, which counts as the dyno's memory.
fn to_uncache(ledger: &Ledger) -> Vec<SegmentLocation> {
    let count = ledger.segments().len();
    let older = UNCACHE_AT.into_iter().filter_map(|younger| count.checked_sub(younger + 1));
    older.filter_map(|index| ledger.segments().nth(index)).map(|segment| segment.location.clone()).collect()
}

/// The bytes of a segment, as far as they can be read.
pub(super) fn bytes_of(segment: &Segment, memory: Option<&File>) -> Vec<u8> {
    let mut bytes = match &segment.location {
        SegmentLocation::File(path) => read_small(path, SEGMENT_BYTES).unwrap_or_default(), // somebody removed it
        SegmentLocation::Memory(slot) => {
            memory.and_then(|memory| read_slot(memory, *slot).ok()).unwrap_or_default()
        }
    };
    bytes.truncate(segment.len as usize);
    bytes
}

/// What is in a segment of a dead agent. The frames of the agent itself are no lines. A line of several frames cannot be
/// told from several lines. Of a damaged segment the lines that cannot be read are those that the checkpoint knows of
/// besides; they count at its end, behind every cursor.
pub(super) fn content_of(segment: &Segment, memory: Option<&File>) -> AdoptedContent {
    let bytes = bytes_of(segment, memory);
    let (mut content, mut at) = (AdoptedContent::default(), 0);
    while let Ok(frame) = frame::parse(&bytes, at) {
        if frame.is_app_line() {
            content.lines.push(at as u32);
            if let Some(time) = Timestamp::of_frame(&bytes[at..]) {
                let times = TimeRange { first: time, last: time };
                content.times = Some(TimeRange::extended(content.times, times));
            }
        } else if let Some(loss) = Loss::of_notice(frame.msg) {
            content.notices.push(SpooledNotice { offset: at as u32, loss });
        }
        at += frame.total;
    }
    if (at as u64) < segment.len {
        let missing = segment.recorded_lines_and_parts().saturating_sub(content.lines.len() as u64);
        content.lines.resize(content.lines.len() + missing as usize, segment.len as u32 - 1);
        content.times = content.times.or(segment.times);
        content.notices.extend_from_slice(segment.notices_from(at as u64));
    }
    content
}

/// Appends to a recycled file, which still holds old frames behind the write position. Writes the terminating NUL
/// first, then all bytes but the first, then the first (over the previous NUL). At any crash point a reader sees whole
/// frames followed by NUL. `end` is where the segment ends at the latest.
pub(super) fn overwrite(file: &File, frames: &[u8], at: u64, end: u64) -> io::Result<()> {
    let (first, rest) = frames.split_at(frames.len().min(1));
    let behind = at + frames.len() as u64;
    if behind < end {
        disk::write_all_at(file, &[0], behind)?;
    }
    disk::write_all_at(file, rest, at + 1)?;
    disk::write_all_at(file, first, at)
}
