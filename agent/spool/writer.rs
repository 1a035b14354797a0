//! Writing the spool: segments, the size limit, and what to do when the disk does not take it.

use super::{Directory, SEGMENT, SLOTS, SpoolError, dispose, drop_cache};
use crate::frame::DropReason;
use crate::ledger::{Appended, Ledger, Segment, SegmentLocation, SharedLedger};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// A segment that is still there when so many younger ones exist is written back, then dropped from the page
/// cache; later again, since pages that are being written stay.
const CACHED: [usize; 4] = [3, 4, 6, 9];
/// ProcessFilter may wait does so when so many segments are not delivered yet: what the drains take from the page cache
/// costs no disk.
const AHEAD: usize = 2;
/// But not for longer than this without a segment delivered: then the spool fills up to its limit.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long is waited at a time, when it has to be.
const MOMENT: Duration = Duration::from_millis(100);
/// How long after a failure the disk is tried again.
const DISK_AGAIN: Duration = Duration::from_secs(30);
/// Nothing that can be written to is said after this time, and again after that.
const UNSAID: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_mins(10);
/// How much of a file system in memory we may fill, in bytes: it counts as the dyno's memory.
const MEMORY_FS: u64 = 8 << 20;

/// What to do when the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Drop the oldest segment: the app must not wait.
    DropOldest,
    /// Wait until a drain took something: the reader of standard input may.
    Block,
}

/// The segment that is being written.
#[derive(Debug)]
enum OpenSegment {
    /// A new file: what is behind its frames is the end of the file.
    Fresh(File),
    /// A file that held another segment: older frames are behind those of this one.
    Reused(File),
    Memory(u8),
}

impl OpenSegment {
    /// Where in which file the segment starts.
    fn place<'a>(&'a self, memory: Option<&'a File>) -> Option<(&'a File, u64)> {
        match self {
            Self::Fresh(file) | Self::Reused(file) => Some((file, 0)),
            Self::Memory(slot) => memory.map(|memory| (memory, u64::from(*slot) * SEGMENT)),
        }
    }
}

/// The one writer of a spool.
pub struct Writer<'a> {
    shared: &'a SharedLedger,
    directory: Option<&'a Directory>,
    memory: Option<&'a File>,
    limit: u64,
    full: WhenFull,
    open: Option<OpenSegment>,
    len: u64,
    /// Waiting for a removal was in vain when there had been so many of them.
    in_vain: Option<u64>,
    disk_failed: Option<Instant>,
    said: bool,
    warning: Option<SpoolError>,
    /// Since when nothing can be written anywhere, and when that was said.
    nowhere: Option<(Instant, Option<Instant>)>,
    give_up: Box<dyn Fn() -> bool + Send + 'a>,
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("open", &self.open).field("len", &self.len).finish_non_exhaustive()
    }
}

impl<'a> Writer<'a> {
    /// A writer into `directory`, or into `memory` without one. `limit` is in bytes; `give_up` ends waiting.
    pub fn new(
        shared: &'a SharedLedger,
        directory: Option<&'a Directory>,
        memory: Option<&'a File>,
        limit: u64,
        full: WhenFull,
        give_up: impl Fn() -> bool + Send + 'a,
    ) -> Self {
        let limit = match directory {
            Some(directory) if directory.in_memory() => limit.min(MEMORY_FS),
            _ => limit,
        };
        Self {
            shared,
            directory,
            memory,
            limit,
            full,
            open: None,
            len: 0,
            in_vain: None,
            disk_failed: None,
            said: false,
            warning: None,
            nowhere: None,
            give_up: Box::new(give_up),
        }
    }

    /// Writes whole frames and summary them; they may be empty, when only lines that closed are to be booked.
    /// What can be written nowhere is booked as dropped, the lines that ended in it: then the answer is false.
    pub fn append(&mut self, frames: &[u8], appended: &Appended) -> bool {
        if frames.is_empty() {
            self.shared.lock().append(appended);
            return true;
        }
        self.make_room(frames.len() as u64);
        let fits = self.open.is_some() && self.len + frames.len() as u64 <= SEGMENT;
        if fits && self.write(frames) {
            self.shared.lock().append(appended);
            self.len += frames.len() as u64;
            return true;
        }
        if self.write_to_new_segment(frames, appended) {
            self.nowhere = None;
            return true;
        }
        self.nothing_serves();
        // Lines that closed have their last frame in the spool already: they are not among the dropped.
        let closed = appended.closed.len() as u64;
        let kept = Appended { closed: appended.closed.clone(), ended: closed, ..Appended::default() };
        let mut ledger = self.shared.lock();
        ledger.append(&kept);
        ledger.drop_unrecorded(appended.ended - closed, DropReason::SpoolUnwritable);
        false
    }

    /// Memory does not serve in the disk's place. That is said a moment later, and again while it lasts: an app that
    /// ends sooner has the closing line.
    fn nothing_serves(&mut self) {
        (self.warning, self.said) = (None, false);
        let (since, said) = self.nowhere.get_or_insert_with(|| (Instant::now(), None));
        if since.elapsed() >= UNSAID && said.is_none_or(|said| said.elapsed() >= AGAIN) {
            *said = Some(Instant::now());
            self.warning = Some(SpoolError::Nowhere);
        }
    }

    /// What went wrong since the last time, to be said once.
    pub fn take_warning(&mut self) -> Option<SpoolError> {
        self.warning.take()
    }

    /// Bytes go without the ledger's lock: a disk that stands still holds up nobody else.
    fn make_room(&mut self, len: u64) {
        for segment in self.drop_for(len) {
            dispose(&segment, self.directory, self.memory);
        }
    }

    /// Takes segments out of the ledger until `len` more bytes are within the limit, or waits for that.
    fn drop_for(&mut self, len: u64) -> Vec<Segment> {
        let mut drop_oldest = Vec::new();
        let mut ledger = self.shared.lock();
        if self.full == WhenFull::Block && ledger.segments().len() > AHEAD {
            let removals = self.shared.removals();
            if self.in_vain != Some(removals) {
                ledger = self.shared.wait_for_removal(ledger, PATIENCE);
                let is_stuck = self.shared.removals() == removals;
                self.in_vain = is_stuck.then_some(removals);
            }
        }
        while ledger.bytes() + len > self.limit {
            if self.full == WhenFull::Block {
                // A limit below what is pinned would wait for ever.
                if ledger.segments().len() < 2 || (self.give_up)() {
                    break;
                }
                ledger = self.shared.wait_for_removal(ledger, MOMENT);
                continue;
            }
            let Some(segment) = ledger.drop_oldest(DropReason::SpoolFull) else { break };
            drop_oldest.push(segment);
        }
        drop_oldest
    }

    fn write(&mut self, frames: &[u8]) -> bool {
        let Some(open) = &self.open else { return false };
        let Some((file, start)) = open.place(self.memory) else { return false };
        let at = start + self.len;
        let written = match open {
            OpenSegment::Fresh(_) => file.write_all_at(frames, at),
            OpenSegment::Reused(_) | OpenSegment::Memory(_) => write_over(file, frames, at, start + SEGMENT),
        };
        let Err(error) = written else { return true };
        if !matches!(open, OpenSegment::Memory(_)) {
            // Frames that are not booked would only confuse whoever adopts the directory.
            drop(file.set_len(self.len));
            self.disk_warning(error);
        }
        self.open = None;
        false
    }

    fn disk_warning(&mut self, error: io::Error) {
        if let Some(directory) = self.directory {
            if !std::mem::replace(&mut self.said, true) {
                self.warning = Some(SpoolError::io("cannot write to", directory.path())(error));
            }
            self.disk_failed = Some(Instant::now());
        }
    }

    fn write_to_new_segment(&mut self, frames: &[u8], appended: &Appended) -> bool {
        for _ in 0..2 {
            let Some(place) = self.rotate() else { return false };
            if self.write(frames) {
                let mut ledger = self.shared.lock();
                ledger.open_segment(place);
                ledger.append(appended);
                self.len = frames.len() as u64;
                let old = Self::uncached(&ledger);
                drop(ledger);
                old.iter().for_each(drop_cache);
                return true;
            }
            if let SegmentLocation::File(path) = &place {
                drop(std::fs::remove_file(path));
            }
        }
        false
    }

    /// Opens the next segment's place: a file, else a slot of memory, else what becomes free by dropping.
    fn rotate(&mut self) -> Option<SegmentLocation> {
        if let Some(OpenSegment::Reused(file)) = &self.open {
            drop(file.set_len(self.len)); // the rest is older frames
        }
        self.open = None;
        self.len = 0;
        loop {
            if let Some(place) = self.next_file().or_else(|| self.next_slot()) {
                return Some(place);
            }
            let ledger = self.shared.lock();
            if self.full == WhenFull::Block {
                if (self.give_up)() {
                    return None;
                }
                drop(self.shared.wait_for_removal(ledger, MOMENT));
                continue;
            }
            let mut ledger = ledger;
            let segment = ledger.drop_oldest(DropReason::SpoolFull)?;
            drop(ledger);
            dispose(&segment, None, self.memory);
            if matches!(segment.place, SegmentLocation::File(_)) {
                self.disk_failed = None; // there is room again
            }
        }
    }

    fn next_file(&mut self) -> Option<SegmentLocation> {
        let may_try = self.disk_failed.is_none_or(|failed| failed.elapsed() >= DISK_AGAIN);
        let directory = self.directory.filter(|_| may_try)?;
        let head = self.shared.lock().head();
        let path = directory.segment(head);
        let opened = match directory.reuse(head) {
            Some(file) => Ok(OpenSegment::Reused(file)),
            None => create(&path).map(OpenSegment::Fresh),
        };
        match opened {
            Ok(open) => {
                self.disk_failed = None;
                self.open = Some(open);
                Some(SegmentLocation::File(path))
            }
            Err(error) => {
                self.disk_warning(error);
                None
            }
        }
    }

    fn next_slot(&mut self) -> Option<SegmentLocation> {
        self.memory?;
        let ledger = self.shared.lock();
        let is_free = |slot: &u8| !ledger.segments().any(|s| s.place == SegmentLocation::Memory(*slot));
        let slot = (0..SLOTS).find(is_free)?;
        self.open = Some(OpenSegment::Memory(slot));
        Some(SegmentLocation::Memory(slot))
    }

    /// What is to be written back and forgotten now: the page cache counts as the dyno's memory.
    fn uncached(ledger: &Ledger) -> Vec<SegmentLocation> {
        let count = ledger.segments().len();
        let older = CACHED.into_iter().filter_map(|younger| count.checked_sub(younger + 1));
        older.filter_map(|index| ledger.segments().nth(index)).map(|segment| segment.place.clone()).collect()
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes where other bytes may be behind: a NUL goes there first, and the first of the new bytes last, over the
/// NUL of the time before. So who reads finds whole frames and then a NUL, at every instant, also when we die.
pub(super) fn write_over(file: &File, frames: &[u8], at: u64, end: u64) -> io::Result<()> {
    let (first, rest) = frames.split_at(frames.len().min(1));
    let behind = at + frames.len() as u64;
    if behind < end {
        file.write_all_at(&[0], behind)?;
    }
    file.write_all_at(rest, at + 1)?;
    file.write_all_at(first, at)
}
