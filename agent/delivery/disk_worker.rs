//! Disk worker: checkpoints, deletion of consumed segments and the ledger file, on a thread of its own. A stalled disk
//! may delay delivery, never signals or deadlines.

use crate::diag;
use crate::spool::Spool;
use crossbeam_channel::{Receiver, Sender, bounded};
use nix::sys::eventfd::EventFd;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The thread keeps nothing large on its stack.
const STACK_BYTES: usize = 128 << 10;

/// What the next round does beside writing the checkpoint.
#[derive(Debug, Default)]
struct PendingJobs {
    /// The ledger file to write, and its text.
    ledger: Option<(PathBuf, String)>,
    /// Whether the spool is to be closed.
    close: bool,
}

/// Jobs by ticket: each request takes the next number, and a round completes all requests that came before it.
#[derive(Debug, Default)]
struct JobQueue {
    pending: Mutex<PendingJobs>,
    requested: AtomicU64,
    completed: AtomicU64,
}

impl JobQueue {
    /// Does all that was requested until now.
    fn run_round(&self, spool: &Spool) {
        let requested = self.requested.load(Ordering::Acquire);
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        spool.save_and_remove_consumed();
        if let Some((path, text)) = pending.ledger
            && let Err(error) = std::fs::write(path, text)
        {
            diag::event(diag::Event::NoLedger)
                .field("setting", "TAILRACE_LEDGER_FILE")
                .field("error", error)
                .emit();
        }
        if pending.close {
            spool.close();
        }
        self.completed.store(requested, Ordering::Release);
    }
}

/// Handle to the disk worker, or a worker in the calling thread.
#[derive(Debug)]
pub(super) struct DiskWorker {
    spool: Arc<Spool>,
    queue: Arc<JobQueue>,
    /// Wakes the thread. None: every request is done at once, by the caller.
    waker: Option<Sender<()>>,
}

impl DiskWorker {
    /// A worker without a thread: every request is done by the caller, before it returns.
    pub(super) fn inline(spool: Arc<Spool>) -> Self {
        Self { spool, queue: Arc::default(), waker: None }
    }

    /// Starts a thread, which writes to `wake` after every round.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn spawn(spool: Arc<Spool>, wake: Arc<EventFd>) -> io::Result<Self> {
        let (waker, wakeups): (_, Receiver<()>) = bounded(1);
        let queue = Arc::<JobQueue>::default();
        let (thread_queue, thread_spool) = (Arc::clone(&queue), Arc::clone(&spool));
        let run = move || {
            while wakeups.recv().is_ok() {
                thread_queue.run_round(&thread_spool);
                wake.write(1).ok(); // fails only when the counter is full: the main loop is woken then
            }
        };
        thread::Builder::new().name("disk-worker".to_owned()).stack_size(STACK_BYTES).spawn(run)?;
        Ok(Self { spool, queue, waker: Some(waker) })
    }

    /// A worker that works when a test calls [`DiskWorker::run_round`].
    #[cfg(test)]
    pub(super) fn stalled(spool: Arc<Spool>) -> Self {
        Self { spool, queue: Arc::default(), waker: Some(bounded(1).0) }
    }

    /// Does all that was requested until now.
    #[cfg(test)]
    pub(super) fn run_round(&self) {
        self.queue.run_round(&self.spool);
    }

    /// Requests a round; returns its ticket.
    fn request(&self) -> u64 {
        let ticket = self.queue.requested.fetch_add(1, Ordering::AcqRel) + 1;
        match &self.waker {
            // Full: the round that is due does this too.
            Some(waker) => drop(waker.try_send(())),
            None => self.queue.run_round(&self.spool),
        }
        ticket
    }

    fn pending(&self) -> MutexGuard<'_, PendingJobs> {
        self.queue.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the checkpoint and removes consumed segments; returns a ticket.
    pub(super) fn save(&self) -> u64 {
        self.request()
    }

    /// As [`DiskWorker::save`], and writes `text` to the ledger file.
    pub(super) fn write_ledger(&self, path: PathBuf, text: String) -> u64 {
        self.pending().ledger = Some((path, text));
        self.request()
    }

    /// As [`DiskWorker::save`], for the last time: closes the spool.
    pub(super) fn close(&self) -> u64 {
        self.pending().close = true;
        self.request()
    }

    /// Whether the request with this ticket is done.
    pub(super) fn is_done(&self, ticket: u64) -> bool {
        self.queue.completed.load(Ordering::Acquire) >= ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{SpoolOwner, agent_id};
    use nix::sys::eventfd::EfdFlags;

    #[test]
    fn a_ticket_is_done_after_its_jobs() {
        let dir = tempfile::TempDir::new().unwrap();
        let crate::spool::Opened { spool, error } = Spool::open(
            &dir.path().join("spool"),
            agent_id().unwrap(),
            SpoolOwner::of_test(Vec::new()),
            None,
        );
        assert!(error.is_none());
        let spool = Arc::new(spool);
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap());
        for disk_worker in [
            DiskWorker::inline(Arc::clone(&spool)),
            DiskWorker::spawn(Arc::clone(&spool), Arc::clone(&wake)).unwrap(),
        ] {
            let path = dir.path().join("ledger");
            let ticket = disk_worker.write_ledger(path.clone(), "text".to_owned());
            while !disk_worker.is_done(ticket) {
                wake.read().unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
            std::fs::remove_file(path).unwrap();
            let tickets: Vec<u64> = (0..100).map(|_| disk_worker.save()).collect();
            while !disk_worker.is_done(tickets[99]) {
                wake.read().unwrap();
            }
        }
    }
}
