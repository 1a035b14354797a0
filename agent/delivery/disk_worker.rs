//! What the summary want done on the disk, by a thread of its own: a disk that stands still holds up delivery, and
//! neither signals nor deadlines.

use crate::diag;
use crate::spool::Spool;
use crossbeam_channel::{Receiver, Sender, bounded};
use nix::sys::eventfd::EventFd;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Bytes of stack: it keeps nothing large there.
const STACK: usize = 128 << 10;

/// What is to be done beside keeping the cursors.
#[derive(Debug, Default)]
struct PendingJobs {
    /// The ledger's file, and its text.
    ledger: Option<(PathBuf, String)>,
    /// The agent ends.
    close: bool,
}

#[derive(Debug, Default)]
struct JobState {
    pending: Mutex<PendingJobs>,
    asked: AtomicU64,
    done: AtomicU64,
}

impl JobState {
    /// Does all that was asked for until now.
    fn round(&self, spool: &Spool) {
        let asked = self.asked.load(Ordering::Acquire);
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        spool.save_checkpoint();
        spool.remove_consumed();
        if let Some((path, text)) = pending.ledger
            && let Err(error) = std::fs::write(path, text)
        {
            diag::event("no-ledger").field("setting", "TAILRACE_LEDGER_FILE").field("error", error).emit();
        }
        if pending.close {
            spool.close();
        }
        self.done.store(asked, Ordering::Release);
    }
}

/// See above.
#[derive(Debug)]
pub(super) struct DiskWorker {
    spool: Arc<Spool>,
    work: Arc<JobState>,
    /// Wakes the thread; without one everything is done at once.
    bell: Option<Sender<()>>,
}

impl DiskWorker {
    /// Whoever has nothing better to do meanwhile works by itself.
    pub(super) fn own(spool: Arc<Spool>) -> Self {
        Self { spool, work: Arc::default(), bell: None }
    }

    /// A thread that works, and writes to `wake` when it has.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn others(spool: Arc<Spool>, wake: Arc<EventFd>) -> io::Result<Self> {
        let (bell, rings): (_, Receiver<()>) = bounded(1);
        let work = Arc::<JobState>::default();
        let (of_work, of_spool) = (Arc::clone(&work), Arc::clone(&spool));
        let run = move || {
            while rings.recv().is_ok() {
                of_work.round(&of_spool);
                let _or_full = wake.write(1);
            }
        };
        thread::Builder::new().name("files".to_owned()).stack_size(STACK).spawn(run)?;
        Ok(Self { spool, work, bell: Some(bell) })
    }

    fn ask(&self) -> u64 {
        let ticket = self.work.asked.fetch_add(1, Ordering::AcqRel) + 1;
        match &self.bell {
            // One that rings already will find this too.
            Some(bell) => drop(bell.try_send(())),
            None => self.work.round(&self.spool),
        }
        ticket
    }

    /// Writes down how far each drain is, and removes what all are past; answers with a ticket.
    pub(super) fn keep(&self) -> u64 {
        self.ask()
    }

    /// The same, and writes the ledger to a file.
    pub(super) fn write(&self, path: PathBuf, text: String) -> u64 {
        self.work.pending.lock().unwrap_or_else(PoisonError::into_inner).ledger = Some((path, text));
        self.ask()
    }

    /// The same as [`DiskWorker::keep`], for the last time: what is not needed any more goes.
    pub(super) fn close(&self) -> u64 {
        self.work.pending.lock().unwrap_or_else(PoisonError::into_inner).close = true;
        self.ask()
    }

    /// Whether that was done.
    pub(super) fn is_done(&self, ticket: u64) -> bool {
        self.work.done.load(Ordering::Acquire) >= ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::agent_id;
    use nix::sys::eventfd::EfdFlags;

    #[test]
    fn what_was_asked_for_is_done_before_its_ticket_is() {
        let dir = tempfile::TempDir::new().unwrap();
        let crate::spool::Opened { spool, error } =
            Spool::open(&dir.path().join("spool"), agent_id().unwrap(), Vec::new(), None);
        assert!(error.is_none());
        let spool = Arc::new(spool);
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap());
        for disk_worker in [
            DiskWorker::own(Arc::clone(&spool)),
            DiskWorker::others(Arc::clone(&spool), Arc::clone(&wake)).unwrap(),
        ] {
            let path = dir.path().join("ledger");
            let ticket = disk_worker.write(path.clone(), "text".to_owned());
            while !disk_worker.is_done(ticket) {
                wake.read().unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
            std::fs::remove_file(path).unwrap();
            let tickets: Vec<u64> = (0..100).map(|_| disk_worker.keep()).collect();
            while !disk_worker.is_done(tickets[99]) {
                wake.read().unwrap();
            }
        }
    }
}
