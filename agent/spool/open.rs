//! One agent's spool as a whole: ledger, directory, memory file, and what was adopted.

use super::{
    Adopted, Checkpoint, Cursor, Directory, SEGMENT, SpoolError, TakeoverState, WhenFull, Writer, adopt,
    dispose,
};
use crate::config::{Config, DrainSettings};
use crate::frame::{TimestampText, now_micros};
use crate::ledger::{Ledger, Segment, SegmentLocation, SharedLedger};
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A drain as the spool knows it.
#[derive(Clone, Debug)]
pub struct DrainId {
    /// How it is shown: never with a secret.
    pub name: String,
    /// Its token.
    pub token: String,
}

impl DrainId {
    /// The drains of the settings, in their order.
    pub fn all(config: &Config) -> Vec<Self> {
        let drain = |drain: &DrainSettings| Self { name: drain.url.name(), token: drain.token.clone() };
        config.drains.iter().map(drain).collect()
    }
}

#[derive(Debug)]
struct AdoptedSpool {
    adopted: Adopted,
    cursors: Option<Checkpoint>,
}

/// One agent's spool.
#[derive(Debug)]
pub struct Spool {
    /// Our id: 128 random bits in hex.
    pub agent: String,
    /// The ledger.
    pub shared: SharedLedger,
    drains: Vec<DrainId>,
    directory: Option<Directory>,
    cursors: Option<Checkpoint>,
    memory: Option<File>,
    adopted: Mutex<Vec<AdoptedSpool>>,
}

/// 128 random bits in hex.
///
/// # Errors
/// When the system has no random numbers.
pub fn agent_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(bytes.iter().fold(String::with_capacity(32), |mut id, byte| {
        let _infallible = write!(id, "{byte:02x}");
        id
    }))
}

impl Spool {
    /// Makes our directory in `base` and adopts what dead agents left there. Without a directory that can be
    /// used the memory file serves; the second value says why.
    pub fn open(
        base: &Path,
        agent: String,
        drains: Vec<DrainId>,
        memory: Option<File>,
    ) -> (Self, Option<SpoolError>) {
        Self::open_after(base, agent, drains, memory, &TakeoverState::default())
    }

    /// The same for the shipper of a dead agent, which left this in the memory file.
    pub fn open_after(
        base: &Path,
        agent: String,
        drains: Vec<DrainId>,
        memory: Option<File>,
        takeover: &TakeoverState,
    ) -> (Self, Option<SpoolError>) {
        let mut trouble = None;
        let directory = Directory::create(base, &agent).map_err(|error| trouble = Some(error)).ok();
        let (mut adopted, mut segments) = match &directory {
            Some(_) => adopt(base, &agent).unwrap_or_default(),
            None => (Vec::new(), Vec::new()),
        };
        adopted.extend(memory.as_ref().and_then(|memory| takeover.lay_out(memory, &mut segments)));
        let mut ledger = Ledger::new(drains.iter().map(|drain| drain.name.clone()), segments);
        for (index, drain) in drains.iter().enumerate() {
            if let Some(account) = ledger.account_mut(index) {
                for adopted in &adopted {
                    adopted.resume(account, &drain.token);
                }
            }
        }
        let adopted = adopted.into_iter().map(|adopted| {
            let cursors = adopted.directory.as_ref().and_then(|directory| Checkpoint::open(directory).ok());
            AdoptedSpool { adopted, cursors }
        });
        let spool = Self {
            agent,
            shared: SharedLedger::new(ledger),
            drains,
            cursors: directory.as_ref().and_then(|directory| Checkpoint::open(directory).ok()),
            directory,
            memory,
            adopted: Mutex::new(adopted.collect()),
        };
        (spool, trouble)
    }

    /// The drains.
    pub fn drains(&self) -> &[DrainId] {
        &self.drains
    }

    /// The token of a drain.
    pub fn token(&self, drain: usize) -> &str {
        self.drains.get(drain).map_or("", |drain| &drain.token)
    }

    /// The one writer. `limit` is in bytes; `give_up` ends waiting.
    pub fn writer<'a>(
        &'a self,
        limit: u64,
        full: WhenFull,
        give_up: impl Fn() -> bool + Send + 'a,
    ) -> Writer<'a> {
        let (directory, memory) = (self.directory.as_ref(), self.memory.as_ref());
        Writer::new(&self.shared, directory, memory, limit, full, give_up)
    }

    /// For how long the oldest line has waited that a drain has not answered for.
    pub fn oldest(&self, drain: usize) -> Duration {
        let (place, at, first) = {
            let ledger = self.shared.lock();
            let Some((segment, at)) = ledger.oldest(drain).filter(|_| ledger.held(drain) > 0) else {
                return Duration::ZERO;
            };
            (segment.place.clone(), at, segment.times.map(|(first, _)| first))
        };
        // The file may be gone by now, or serve again: then its segment's own time is near enough.
        let now = now_micros();
        let read = self.head_at(&place, at).and_then(|head| TimestampText::of_frame(&head));
        let time = read.filter(|time| first.is_none_or(|first| first <= *time)).or(first).unwrap_or(now);
        Duration::from_micros(now.saturating_sub(time))
    }

    /// The first bytes of the frame that stands at `at` in a segment.
    fn head_at(&self, place: &SegmentLocation, at: u64) -> Option<[u8; 64]> {
        let mut head = [0; 64];
        match place {
            SegmentLocation::File(path) => File::open(path).ok()?.read_at(&mut head, at).ok()?,
            SegmentLocation::Memory(slot) => {
                self.memory.as_ref()?.read_at(&mut head, u64::from(*slot) * SEGMENT + at).ok()?
            }
        };
        Some(head)
    }

    /// The summary as our own frames tell them.
    pub fn summary(&self) -> String {
        let report = self.shared.lock().report();
        report.summary(|drain| self.oldest(drain))
    }

    /// Bytes that dead agents left and that a drain has still to get.
    pub fn adopted_bytes(&self) -> u64 {
        let ledger = self.shared.lock();
        ledger.segments().filter(|segment| segment.origin.is_some()).map(|segment| segment.len).sum()
    }

    /// Bytes that dead agents left and that this drain has still to get.
    pub fn adopted_left(&self, drain: usize) -> u64 {
        self.shared.lock().adopted_bytes(drain)
    }

    /// Writes down how far each drain is, for whoever adopts us.
    pub fn save_checkpoint(&self) {
        let places = |ledger: &Ledger, shift: u64, end: u64| -> Vec<Cursor> {
            let accounts = ledger.accounts().iter().zip(&self.drains);
            accounts.map(|(account, drain)| Cursor::of(account, &drain.token, shift, end)).collect()
        };
        let own = self.cursors.as_ref().map(|cursors| {
            let ledger = self.shared.lock();
            (cursors, places(&ledger, 0, u64::MAX))
        });
        if let Some((cursors, places)) = own {
            cursors.save(&places);
        }
        for adopted in self.adopted.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(cursors) = &adopted.cursors {
                let place = places(&self.shared.lock(), adopted.adopted.origin.shift, adopted.adopted.end);
                cursors.save(&place);
            }
        }
    }

    /// Removes the segments that every drain is past, and the adopted directories of which none is left.
    pub fn remove_consumed(&self) {
        let passed: Vec<Segment> = {
            let mut ledger = self.shared.lock();
            std::iter::from_fn(|| ledger.pop_consumed()).collect()
        };
        if passed.is_empty() {
            return;
        }
        for segment in &passed {
            dispose(segment, self.directory.as_ref(), self.memory.as_ref());
        }
        self.shared.notify();
        self.remove_guests(|end| passed.iter().any(|segment| segment.end() >= end));
    }

    fn remove_guests(&self, is_passed: impl Fn(u64) -> bool) {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let (gone, kept) = std::mem::take(&mut *adopted).into_iter().partition(|g| is_passed(g.adopted.end));
        *adopted = kept;
        for AdoptedSpool { adopted, .. } in gone {
            if let Some(directory) = adopted.directory {
                directory.remove();
            }
        }
    }

    /// Nothing was written for a while: spare files go, the page cache counts as the dyno's memory.
    pub fn trim(&self) {
        if let Some(directory) = &self.directory {
            directory.trim();
        }
    }

    /// The agent ends: directories in which no drain has anything to get are removed. The others stay, for
    /// an agent that starts later on the same disk.
    pub fn close(&self) {
        self.save_checkpoint();
        let (cursor, head) = {
            let ledger = self.shared.lock();
            let cursor = ledger.accounts().iter().map(crate::ledger::Account::cursor).min();
            (cursor.unwrap_or(ledger.head()), ledger.head())
        };
        self.remove_guests(|end| cursor >= end);
        if cursor >= head
            && let Some(directory) = &self.directory
        {
            directory.clear();
        }
    }
}
