//! One agent's spool as a whole: ledger, directory, memory file, and what was adopted.

use super::{Adopted, Cursor, Cursors, Directory, Estate, Full, SEGMENT, SpoolError, Writer, adopt, dispose};
use crate::config::{Config, DrainConfig};
use crate::frame::{StampText, now_micros};
use crate::ledger::{Ledger, Place, Segment, Shared};
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A drain as the spool knows it.
#[derive(Clone, Debug)]
pub struct Tap {
    /// How it is shown: never with a secret.
    pub name: String,
    /// Its token.
    pub token: String,
}

impl Tap {
    /// The drains of the settings, in their order.
    pub fn all(config: &Config) -> Vec<Self> {
        let tap = |drain: &DrainConfig| Self { name: drain.url.name(), token: drain.token.clone() };
        config.drains.iter().map(tap).collect()
    }
}

#[derive(Debug)]
struct Guest {
    adopted: Adopted,
    cursors: Option<Cursors>,
}

/// One agent's spool.
#[derive(Debug)]
pub struct Spool {
    /// Our id: 128 random bits in hex.
    pub agent: String,
    /// The ledger.
    pub shared: Shared,
    taps: Vec<Tap>,
    directory: Option<Directory>,
    cursors: Option<Cursors>,
    memory: Option<File>,
    guests: Mutex<Vec<Guest>>,
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
        taps: Vec<Tap>,
        memory: Option<File>,
    ) -> (Self, Option<SpoolError>) {
        Self::open_after(base, agent, taps, memory, &Estate::default())
    }

    /// The same for the shipper of a dead agent, which left this in the memory file.
    pub fn open_after(
        base: &Path,
        agent: String,
        taps: Vec<Tap>,
        memory: Option<File>,
        estate: &Estate,
    ) -> (Self, Option<SpoolError>) {
        let mut trouble = None;
        let directory = Directory::create(base, &agent).map_err(|error| trouble = Some(error)).ok();
        let (mut adopted, mut segments) = match &directory {
            Some(_) => adopt(base, &agent).unwrap_or_default(),
            None => (Vec::new(), Vec::new()),
        };
        adopted.extend(memory.as_ref().and_then(|memory| estate.lay_out(memory, &mut segments)));
        let mut ledger = Ledger::new(taps.iter().map(|tap| tap.name.clone()), segments);
        for (drain, tap) in taps.iter().enumerate() {
            if let Some(account) = ledger.account_mut(drain) {
                for guest in &adopted {
                    guest.resume(account, &tap.token);
                }
            }
        }
        let guests = adopted.into_iter().map(|adopted| {
            let cursors = adopted.directory.as_ref().and_then(|directory| Cursors::open(directory).ok());
            Guest { adopted, cursors }
        });
        let spool = Self {
            agent,
            shared: Shared::new(ledger),
            taps,
            cursors: directory.as_ref().and_then(|directory| Cursors::open(directory).ok()),
            directory,
            memory,
            guests: Mutex::new(guests.collect()),
        };
        (spool, trouble)
    }

    /// The drains.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// The token of a drain.
    pub fn token(&self, drain: usize) -> &str {
        self.taps.get(drain).map_or("", |tap| &tap.token)
    }

    /// The one writer. `limit` is in bytes; `give_up` ends waiting.
    pub fn writer<'a>(
        &'a self,
        limit: u64,
        full: Full,
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
        let read = self.head_at(&place, at).and_then(|head| StampText::of_frame(&head));
        let time = read.filter(|time| first.is_none_or(|first| first <= *time)).or(first).unwrap_or(now);
        Duration::from_micros(now.saturating_sub(time))
    }

    /// The first bytes of the frame that stands at `at` in a segment.
    fn head_at(&self, place: &Place, at: u64) -> Option<[u8; 64]> {
        let mut head = [0; 64];
        match place {
            Place::File(path) => File::open(path).ok()?.read_at(&mut head, at).ok()?,
            Place::Memory(slot) => {
                self.memory.as_ref()?.read_at(&mut head, u64::from(*slot) * SEGMENT + at).ok()?
            }
        };
        Some(head)
    }

    /// The books as our own frames tell them.
    pub fn books(&self) -> String {
        let report = self.shared.lock().report();
        report.books(|drain| self.oldest(drain))
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
    pub fn save_cursors(&self) {
        let places = |ledger: &Ledger, shift: u64, end: u64| -> Vec<Cursor> {
            let accounts = ledger.accounts().iter().zip(&self.taps);
            accounts.map(|(account, tap)| Cursor::of(account, &tap.token, shift, end)).collect()
        };
        let own = self.cursors.as_ref().map(|cursors| {
            let ledger = self.shared.lock();
            (cursors, places(&ledger, 0, u64::MAX))
        });
        if let Some((cursors, places)) = own {
            cursors.save(&places);
        }
        for guest in self.guests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(cursors) = &guest.cursors {
                let place = places(&self.shared.lock(), guest.adopted.origin.shift, guest.adopted.end);
                cursors.save(&place);
            }
        }
    }

    /// Removes the segments that every drain is past, and the adopted directories of which none is left.
    pub fn remove_passed(&self) {
        let passed: Vec<Segment> = {
            let mut ledger = self.shared.lock();
            std::iter::from_fn(|| ledger.pop_passed()).collect()
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
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let (gone, kept) = std::mem::take(&mut *guests).into_iter().partition(|g| is_passed(g.adopted.end));
        *guests = kept;
        for Guest { adopted, .. } in gone {
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
        self.save_cursors();
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
