//! One agent's spool as a whole: ledger, directory, memory file, and what was adopted.

use super::checkpoint::{Checkpoint, Cursor};
use super::directory::{Directory, SpoolError};
use super::identity::{AppIdentity, url_hash};
use super::recovery::{AdoptedSpool, OtherSpool, adopt};
use super::takeover::TakeoverState;
use super::writer::{WhenFull, Writer};
use super::{SEGMENT_BYTES, dispose};
use crate::config::{Config, DrainSettings};
use crate::frame::Timestamp;
use crate::ledger::{
    Account, AdoptedLeft, DrainIndex, Ledger, Offset, Origin, Segment, SegmentLocation, SegmentRecord,
    SharedLedger,
};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes that hold the header of any frame up to its time.
const FRAME_HEAD_BYTES: usize = 64;

/// A drain as the spool knows it.
#[derive(Clone, Debug)]
pub(crate) struct DrainId {
    /// How it is shown: never with a secret.
    pub name: String,
    /// Its token.
    pub token: String,
    /// The hash of its URL.
    pub url_hash: String,
}

#[cfg(test)]
impl DrainId {
    /// A drain for tests, whose URL does not change.
    pub(crate) fn of_test(token: &str) -> Self {
        Self { name: token.to_owned(), token: token.to_owned(), url_hash: format!("hash-of-{token}") }
    }
}

/// Whose lines a spool holds, and where they go.
#[derive(Clone, Debug)]
pub(crate) struct SpoolOwner {
    /// The app.
    pub app: AppIdentity,
    /// Its drains, in the order of the setting.
    pub drains: Vec<DrainId>,
}

impl SpoolOwner {
    /// App and drains of the settings.
    pub(crate) fn of(config: &Config) -> Self {
        let id = |DrainSettings { url, token, .. }: &DrainSettings| DrainId {
            name: url.name(),
            token: token.clone(),
            url_hash: url_hash(url),
        };
        Self { app: AppIdentity::of(config), drains: config.drains.iter().map(id).collect() }
    }
}

#[cfg(test)]
impl SpoolOwner {
    /// An app for tests.
    pub(crate) fn of_test(drains: Vec<DrainId>) -> Self {
        Self { app: AppIdentity::of_test(), drains }
    }
}

/// One agent's spool.
#[derive(Debug)]
pub(crate) struct Spool {
    /// Our id: 128 random bits in hex.
    pub agent: String,
    /// The ledger.
    pub shared: SharedLedger,
    drains: Vec<DrainId>,
    directory: Option<Directory>,
    checkpoint: Option<Checkpoint>,
    /// Up to where the checkpoint tells of our segments.
    recorded_end: AtomicU64,
    memory: Option<File>,
    /// Where our own segments start, behind those that were adopted.
    start: Offset,
    adopted: Mutex<Vec<AdoptedSpool>>,
    others: Vec<OtherSpool>,
}

/// A new agent id: 128 random bits in hex.
///
/// # Errors
/// When the system has no random numbers.
pub(crate) fn agent_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// An open spool, and why it has no directory when it has none.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The spool.
    pub spool: Spool,
    /// What went wrong with the directory: segments are in memory.
    pub error: Option<SpoolError>,
}

impl Spool {
    /// Creates our directory in `base` and adopts what dead agents of the same app left there. Without a usable
    /// directory segments go to the memory file.
    pub(crate) fn open(base: &Path, agent: String, owner: SpoolOwner, memory: Option<File>) -> Opened {
        Self::open_after(base, agent, owner, memory, &TakeoverState::default())
    }

    /// As [`Spool::open`], for the shipper of a dead supervisor: adopts also what `takeover` tells of the memory file.
    pub(crate) fn open_after(
        base: &Path,
        agent: String,
        owner: SpoolOwner,
        memory: Option<File>,
        takeover: &TakeoverState,
    ) -> Opened {
        let SpoolOwner { app, drains } = owner;
        let mut error = None;
        let directory = Directory::create(base, &agent).map_err(|failure| error = Some(failure)).ok();
        let directory = directory.map(|directory| directory.of_app(app.clone()));
        // A shipper without a supervisor needs no directory of its own. An agent does: there is no room in memory for
        // its lines while it delivers another's.
        let may_adopt = directory.is_some() || takeover.is_supervisor_gone();
        let found = may_adopt.then(|| adopt(base, &agent, &app, &takeover.agent).ok()).flatten();
        let mut adoption = found.unwrap_or_default();
        if let Some(memory) = &memory {
            takeover.adopt_into(&mut adoption, memory);
        }
        let mut ledger = Ledger::new(drains.iter().map(|drain| drain.name.clone()), adoption.segments);
        for adopted in &adoption.spools {
            adopted.resume(&mut ledger, &drains);
            adopted.report_gone(&ledger, &drains);
        }
        let spool = Self {
            agent,
            start: ledger.log_end(),
            shared: SharedLedger::new(ledger),
            drains,
            checkpoint: directory.as_ref().and_then(|directory| Checkpoint::open(directory).ok()),
            directory,
            recorded_end: AtomicU64::new(0),
            memory,
            adopted: Mutex::new(adoption.spools),
            others: adoption.others,
        };
        Opened { spool, error }
    }

    /// With this checkpoint of its own.
    #[cfg(test)]
    pub(super) fn with_checkpoint(self, checkpoint: Checkpoint) -> Self {
        Self { checkpoint: Some(checkpoint), ..self }
    }

    /// The drains.
    pub(crate) fn drains(&self) -> &[DrainId] {
        &self.drains
    }

    /// The token of a drain; empty for one that is not there.
    pub(crate) fn token(&self, drain: DrainIndex) -> &str {
        self.drains.get(drain.get()).map_or("", |drain| &drain.token)
    }

    /// The one writer. `limit` is in bytes; `give_up` ends waiting.
    pub(crate) fn writer<'a>(
        &'a self,
        limit: u64,
        full: WhenFull,
        give_up: impl Fn() -> bool + Send + 'a,
    ) -> Writer<'a> {
        let (directory, memory) = (self.directory.as_ref(), self.memory.as_ref());
        // What is dropped is in the checkpoint before its bytes go, so that it is announced if we are killed.
        Writer::new(&self.shared, directory, memory, limit, full, give_up)
            .on_change(|| self.save_checkpoint())
    }

    /// How long the oldest line has been held that a drain has not consumed; zero when it holds none.
    pub(crate) fn oldest(&self, drain: DrainIndex) -> Duration {
        let (location, at, first) = {
            let ledger = self.shared.lock();
            let Some((segment, at)) = ledger.oldest(drain).filter(|_| ledger.held(drain) > 0) else {
                return Duration::ZERO;
            };
            (segment.location.clone(), at, segment.times.map(|times| times.first))
        };
        // The file may be gone by now, or recycled: then the time of its segment's first frame is near enough.
        let now = Timestamp::now();
        let read = self.frame_head(&location, at).and_then(|head| Timestamp::of_frame(&head));
        let time = read.filter(|time| first.is_none_or(|first| first <= *time)).or(first).unwrap_or(now);
        now.since(time)
    }

    /// The first bytes of the frame that is `at` bytes from the start of a segment.
    fn frame_head(&self, location: &SegmentLocation, at: u64) -> Option<[u8; FRAME_HEAD_BYTES]> {
        let mut head = [0; FRAME_HEAD_BYTES];
        match location {
            SegmentLocation::File(path) => File::open(path).ok()?.read_at(&mut head, at).ok()?,
            SegmentLocation::Memory(slot) => {
                self.memory.as_ref()?.read_at(&mut head, u64::from(*slot) * SEGMENT_BYTES + at).ok()?
            }
        };
        Some(head)
    }

    /// The ledger's numbers as the agent's own lines state them: those of the drain that got least. `held`: what the
    /// lines are called that wait for it.
    pub(crate) fn summary(&self, held: &str) -> String {
        let report = self.shared.lock().report();
        report.summary(held, |drain| self.oldest(drain))
    }

    /// The spools of dead agents of other apps that were found at the start and are still there.
    pub(crate) fn others(&self) -> impl Iterator<Item = &OtherSpool> {
        self.others.iter().filter(|other| std::fs::symlink_metadata(&other.directory).is_ok())
    }

    /// Bytes of dead agents that are in the spool.
    pub(crate) fn adopted_bytes(&self) -> u64 {
        let ledger = self.shared.lock();
        ledger.segments().filter(|segment| segment.origin.is_some()).map(|segment| segment.len).sum()
    }

    /// What dead agents left that this drain has not consumed.
    pub(crate) fn adopted_left(&self, drain: DrainIndex) -> AdoptedLeft {
        self.shared.lock().adopted_left(drain)
    }

    /// Writes the checkpoints, for an agent that adopts our directory. Losses that dead agents did not announce are in
    /// ours before they are taken out of theirs.
    pub(crate) fn save_checkpoint(&self) {
        // Held while writing: an older checkpoint must not replace a newer one.
        let adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, theirs) = self.cursors(&adopted, self.checkpoint.is_some());
        let save_ours = |cursors: &[Cursor]| {
            let Some(checkpoint) = &self.checkpoint else { return true };
            let records = self.records(&(self.start..Offset::MAX), 0);
            let is_saved = checkpoint.save(cursors, &records).is_ok();
            if let (true, Some(last)) = (is_saved, records.last()) {
                self.recorded_end.store((last.start + last.len).get(), Ordering::Relaxed);
            }
            is_saved
        };
        // A loss moves from theirs to ours when a segment is dropped, and from ours to theirs when a batch is sealed.
        // Killed in between, it is in both: announced twice, not never.
        let both = with_sealed_losses(&ours, &theirs);
        let is_ours_saved = save_ours(both.as_deref().unwrap_or(&ours));
        // On a full disk there may be no room for ours, and there is for theirs.
        let theirs = if is_ours_saved { theirs } else { self.cursors(&adopted, false).1 };
        for (spool, cursors) in adopted.iter().zip(&theirs) {
            if let Some(checkpoint) = &spool.checkpoint {
                let segments = self.records(&spool.range(), spool.origin.shift);
                checkpoint.save(cursors, &segments).ok(); // costs repetition
            }
        }
        if both.is_some() && is_ours_saved {
            save_ours(&ours);
        }
    }

    /// Whether there are lines in memory that the checkpoint does not tell of. If we are killed now, the next agent cannot
    /// count them, as it can those in files.
    pub(crate) fn has_unrecorded_memory(&self) -> bool {
        let ledger = self.shared.lock();
        let is_in_memory = |last: &Segment| matches!(last.location, SegmentLocation::Memory(_));
        self.checkpoint.is_some()
            && ledger.segments().last().is_some_and(is_in_memory)
            && ledger.log_end().get() > self.recorded_end.load(Ordering::Relaxed)
    }

    /// What the segments in `range` of our spool hold; their offsets are smaller by `shift`. Also those in memory: they
    /// end with us, and the next agent announces what was in them.
    fn records(&self, range: &Range<Offset>, shift: u64) -> Vec<SegmentRecord> {
        let ledger = self.shared.lock();
        let records = ledger.segments().map(Segment::record).filter(|record| range.contains(&record.start));
        let known = records.filter(|record| record.frames > 0);
        known.map(|record| SegmentRecord { start: record.start - shift, ..record }).collect()
    }

    /// The cursors of all drains at one instant: in our own part of the spool, and in each adopted one. The losses are
    /// with ours, or where that cannot be saved (`has_ours`) with the first of the others.
    fn cursors(&self, adopted: &[AdoptedSpool], has_ours: bool) -> (Vec<Cursor>, Vec<Vec<Cursor>>) {
        let ledger = self.shared.lock();
        let cursors = |range: &Range<Offset>, origin: Option<&Origin>| -> Vec<Cursor> {
            let accounts = ledger.accounts().iter().zip(&self.drains);
            accounts.map(|(account, drain)| Cursor::of(&ledger, account, drain, range, origin)).collect()
        };
        let mut ours = cursors(&(self.start..Offset::MAX), None);
        let mut theirs: Vec<_> =
            adopted.iter().map(|spool| cursors(&spool.range(), Some(&spool.origin))).collect();
        let keeper = if has_ours { Some(&mut ours) } else { theirs.first_mut() };
        for (cursor, account) in keeper.into_iter().flatten().zip(ledger.accounts()) {
            cursor.losses = account.unannounced();
        }
        (ours, theirs)
    }

    /// Writes the checkpoint, then removes the segments that every drain has consumed, and the adopted directories of
    /// which none is left. A segment that is missing is behind all cursors of the checkpoint.
    pub(crate) fn save_and_remove_consumed(&self) {
        let consumed: Vec<Segment> = {
            let mut ledger = self.shared.lock();
            std::iter::from_fn(|| ledger.pop_consumed()).collect()
        };
        if let Some(directory) = &self.directory {
            directory.write_identity().ok(); // tried again with the next segment
        }
        self.save_checkpoint();
        if consumed.is_empty() {
            return;
        }
        for segment in &consumed {
            dispose(segment, self.directory.as_ref(), self.memory.as_ref());
        }
        self.shared.notify();
        self.remove_adopted(|end| consumed.iter().any(|segment| segment.end() >= end));
    }

    fn remove_adopted(&self, is_consumed: impl Fn(Offset) -> bool) {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let (consumed, kept) =
            std::mem::take(&mut *adopted).into_iter().partition(|spool| is_consumed(spool.end));
        *adopted = kept;
        for AdoptedSpool { directory, .. } in consumed {
            if let Some(directory) = directory {
                directory.remove();
            }
        }
    }

    /// Removes spare files after a while without writing: the page cache counts as the dyno's memory.
    pub(crate) fn trim(&self) {
        if let Some(directory) = &self.directory {
            directory.trim();
        }
    }

    /// The agent ends: removes directories of which every drain has consumed everything. The others stay for an agent
    /// that starts later on the same disk, as does the checkpoint when there are losses that no drain was told of.
    pub(crate) fn close(&self) {
        self.save_checkpoint();
        let (cursor, log_end, has_losses) = {
            let ledger = self.shared.lock();
            let cursor = ledger.accounts().iter().map(Account::cursor).min();
            let has_losses = ledger.accounts().iter().any(Account::has_to_announce);
            (cursor.unwrap_or(ledger.log_end()), ledger.log_end(), has_losses)
        };
        self.remove_adopted(|end| cursor >= end);
        if cursor >= log_end
            && let Some(directory) = &self.directory
        {
            if has_losses { directory.clear_segments() } else { directory.clear() }
        }
    }
}

/// Our cursors with the losses that batches in adopted spools announce; none when there are no such batches.
fn with_sealed_losses(ours: &[Cursor], theirs: &[Vec<Cursor>]) -> Option<Vec<Cursor>> {
    let mut both = ours.to_vec();
    for (index, cursor) in both.iter_mut().enumerate() {
        let sealed = theirs.iter().filter_map(|cursors| cursors.get(index)?.sealed.as_ref());
        cursor.losses.extend(sealed.flat_map(|sealed| sealed.announced.iter().copied()).collect::<Vec<_>>());
    }
    (both != ours).then_some(both)
}
