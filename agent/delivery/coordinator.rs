//! The coordinator: answers the shipper from the ledger, books what it reports, and reports what a person must know.

use super::answers::{self, ShipperView};
use super::disk_worker::DiskWorker;
use super::health::{Failure, HealthTracker};
use crate::config::Config;
use crate::diag;
use crate::frame::{Field, LossNotices};
use crate::ledger::{AdoptedLeft, BatchOutcome, BatchRange, DrainIndex, Identity};
use crate::ledger::{Offset, SealRange};
use crate::protocol::{Connection, FailureKind, ToShipper, ToSupervisor};
use crate::spool::Spool;
use nix::sys::eventfd::EventFd;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the checkpoint may lack lines that are in memory: what came later is lost uncounted when both processes are
/// killed.
const MEMORY_SAVE_INTERVAL: Duration = Duration::from_millis(100);
/// How often the checkpoint is written although nothing happens: who cleans by age removes files that are not.
const REFRESH_INTERVAL: Duration = Duration::from_mins(1);
/// The longest wait of a shipper that is believed.
const MAX_WAIT: Duration = Duration::from_hours(24);
/// Problems with CA bundles that are reported at most: there are two bundles.
const MAX_CA_PROBLEMS: usize = 4;

/// What the messages of the shipper brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handled {
    /// There were any: the shipper is alive.
    pub alive: bool,
    /// A drain took a batch.
    pub delivered: bool,
}

/// An answer that is sent once the checkpoint that precedes it is written.
#[derive(Debug)]
struct WaitingAnswer {
    drain: DrainIndex,
    ticket: u64,
    answer: ToShipper,
}

/// The supervisor's side of delivery.
#[derive(Debug)]
pub(crate) struct Coordinator {
    spool: Arc<Spool>,
    disk_worker: DiskWorker,
    loss_notices: LossNotices,
    health: HealthTracker,
    view: ShipperView,
    waiting: VecDeque<WaitingAnswer>,
    /// How the shipper is confined, in its own words.
    confined: String,
    /// The problems with CA bundles that were reported.
    ca_problems: Vec<String>,
    /// Whether the shipper is a process of its own.
    is_other_process: bool,
    /// Where a shipper's number of frames was not believed last, by the number of the drain.
    doubts: BTreeMap<usize, Offset>,
    /// When the checkpoint is to be written because of lines in memory.
    memory_save_due: Option<Instant>,
    /// When the checkpoint is to be written in any case; not worth a wake-up.
    refresh_due: Instant,
}

impl Coordinator {
    /// For this spool; `host` and `source` are for loss notices. Work on the disk is done by another thread, which
    /// writes to `wake` then, or without `wake` by the calling one.
    pub(crate) fn new(spool: Arc<Spool>, host: &Field, source: &str, wake: Option<Arc<EventFd>>) -> Self {
        let is_other_process = wake.is_some();
        let health = HealthTracker::new(Arc::clone(&spool));
        let thread = wake.and_then(|wake| DiskWorker::spawn(Arc::clone(&spool), wake).ok());
        let disk_worker = thread.unwrap_or_else(|| DiskWorker::inline(Arc::clone(&spool)));
        let loss_notices = LossNotices::new(host, source);
        let view = ShipperView::default();
        Self {
            spool,
            disk_worker,
            loss_notices,
            health,
            view,
            waiting: VecDeque::new(),
            confined: String::new(),
            ca_problems: Vec::new(),
            is_other_process,
            doubts: BTreeMap::new(),
            memory_save_due: None,
            refresh_due: Instant::now() + REFRESH_INTERVAL,
        }
    }

    /// The spool.
    pub(crate) fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Tells a new shipper all segments, and per drain where it continues. A batch that is not in the checkpoint yet
    /// waits for that.
    pub(crate) fn resync(&mut self, connection: &mut Connection) {
        self.view = ShipperView::default();
        self.confined.clear();
        self.send_updates(connection);
        let ledger = self.spool.shared.lock();
        for waiting in &mut self.waiting {
            waiting.answer = answers::position(&ledger, waiting.drain);
        }
        let waits = |drain: &DrainIndex| self.waiting.iter().any(|waiting| waiting.drain == *drain);
        for drain in ledger.drains().filter(|drain| !waits(drain)) {
            connection.send(&answers::position(&ledger, drain));
        }
    }

    /// Sends the segments and frames that are new since the last call. A shipper that does not read gets them later.
    pub(crate) fn send_updates(&mut self, connection: &mut Connection) {
        let ledger = self.spool.shared.lock();
        self.view.update(&ledger, connection);
    }

    /// Whether there are frames that the shipper does not know of.
    pub(crate) fn has_updates(&self) -> bool {
        self.view.is_behind(&self.spool.shared.lock())
    }

    /// Reads and answers the shipper's messages.
    pub(crate) fn handle_messages(&mut self, connection: &mut Connection) -> Handled {
        let mut handled = Handled::default();
        self.release_answers(connection);
        connection.fill();
        while let Some(message) = connection.take::<ToSupervisor>() {
            handled.alive = true;
            match self.handle(message, connection) {
                Ok(delivered) => handled.delivered |= delivered,
                Err(violation) => {
                    connection.fail(violation);
                    break;
                }
            }
        }
        connection.flush();
        handled
    }

    /// Handles a message. Returns whether it reports a delivery.
    ///
    /// # Errors
    /// What contradicts the ledger or the protocol: the message has no effect.
    fn handle(&mut self, message: ToSupervisor, connection: &mut Connection) -> Result<bool, &'static str> {
        self.check(&message, connection)?;
        match message {
            ToSupervisor::Ping => {}
            ToSupervisor::Confined { how } => self.confined = how,
            ToSupervisor::CaProblem { detail } => self.report_ca_problem(detail),
            ToSupervisor::SealRequest { drain, range } => {
                let answer = self.seal(drain, range)?;
                self.send_updates(connection); // it is awake anyway
                // The batch is in the checkpoint before the shipper may send it, so that an agent that adopts the
                // spool repeats it under its own id.
                let ticket = self.disk_worker.save();
                self.waiting.push_back(WaitingAnswer { drain, ticket, answer });
                self.release_answers(connection);
            }
            ToSupervisor::Delivered { drain } => {
                self.complete_batch(drain, BatchOutcome::Delivered);
                self.health.delivered(drain);
                return Ok(true);
            }
            ToSupervisor::Rejected { drain, status, detail } => {
                self.complete_batch(drain, BatchOutcome::Rejected);
                self.health.rejected(drain, status, &detail);
            }
            ToSupervisor::TooLarge { drain } => self.count_attempt(drain),
            ToSupervisor::AttemptFailed { drain, status, kind, wait, detail } => {
                self.count_attempt(drain);
                let failure = Failure {
                    status: (status != 0).then_some(status),
                    needs_action: kind == FailureKind::Hold,
                    wait: wait.min(MAX_WAIT),
                    detail: &detail,
                };
                self.health.failed(drain, &failure);
            }
            ToSupervisor::SpoolDamaged { drain, at } => {
                let answer = self.skip_damage(drain, at);
                connection.send(&answer);
            }
        }
        Ok(false)
    }

    /// Checks that a shipper can have sent this message in its state: drains exist, outcomes are of a batch that it was
    /// given, and a drain has one question at a time.
    fn check(&self, message: &ToSupervisor, connection: &Connection) -> Result<(), &'static str> {
        let (drain, is_outcome, is_question) = match message {
            ToSupervisor::Ping | ToSupervisor::Confined { .. } | ToSupervisor::CaProblem { .. } => {
                return Ok(());
            }
            ToSupervisor::AttemptFailed { drain, .. } => (drain, false, false),
            ToSupervisor::SealRequest { drain, .. } | ToSupervisor::SpoolDamaged { drain, .. } => {
                (drain, false, true)
            }
            ToSupervisor::Delivered { drain }
            | ToSupervisor::Rejected { drain, .. }
            | ToSupervisor::TooLarge { drain } => (drain, true, false),
        };
        let ledger = self.spool.shared.lock();
        let Some(account) = ledger.account(*drain) else {
            return Err("a message about a drain that does not exist");
        };
        let waits = self.waiting.iter().any(|waiting| waiting.drain == *drain);
        if is_outcome && (waits || account.batch().is_none()) {
            return Err("the outcome of a batch that it was not given");
        }
        if is_question && (waits || connection.is_overfull()) {
            return Err("a question before the answer to another");
        }
        Ok(())
    }

    fn count_attempt(&self, drain: DrainIndex) {
        if let Some(account) = self.spool.shared.lock().account_mut(drain) {
            account.attempts += 1;
        }
    }

    fn seal(&mut self, drain: DrainIndex, range: BatchRange) -> Result<ToShipper, &'static str> {
        if !self.spool.shared.lock().is_possible(drain, range) {
            // A process that errs or lies is replaced. When the next one counts wrongly there too, the spool is damaged;
            // a thread of this process has no reason to lie.
            let before = self.doubts.insert(drain.get(), range.start);
            if self.is_other_process && before != Some(range.start) {
                return Err("a number of frames that contradicts the ledger");
            }
            return Ok(self.skip_damage(drain, range.start));
        }
        let Some(id) = self.spool.drains().get(drain.get()) else {
            let nowhere = SealRange { cursor: Offset::MAX, limit: Offset::MAX, is_one_batch: false };
            return Ok(ToShipper::SealRange { drain, range: nowhere });
        };
        let identity = Identity { agent: &self.spool.agent, drain: &id.token };
        self.health.begin_attempt(drain);
        let loss_notices = &mut self.loss_notices;
        let mut ledger = self.spool.shared.lock();
        Ok(answers::seal(&mut ledger, drain, range, &identity, |losses| loss_notices.frames(losses)))
    }

    /// Sends the answers whose checkpoint is written.
    fn release_answers(&mut self, connection: &mut Connection) {
        let disk_worker = &self.disk_worker;
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| disk_worker.is_done(waiting.ticket)) {
            connection.send(&waiting.answer);
        }
    }

    fn complete_batch(&mut self, drain: DrainIndex, outcome: BatchOutcome) {
        let is_last = {
            let mut ledger = self.spool.shared.lock();
            if let Some(account) = ledger.account_mut(drain) {
                account.attempts += 1;
            }
            ledger.complete_batch(drain, outcome);
            ledger.seal_range(drain).cursor >= ledger.log_end()
        };
        // Otherwise the next batch is sealed at once, and that writes the checkpoint.
        if is_last {
            self.disk_worker.save();
        }
    }

    fn skip_damage(&mut self, drain: DrainIndex, at: Offset) -> ToShipper {
        let (answer, skipped) = answers::skip_damage(&mut self.spool.shared.lock(), drain, at);
        if skipped > 0 {
            let event = diag::event(diag::Event::SpoolDamaged)
                .field("drain", self.spool.token(drain))
                .field("bytes", skipped);
            event
                .field("detail", "what stood in the spool was not frames; its lines are counted as dropped")
                .emit();
            self.disk_worker.save();
        }
        answer
    }

    /// Has the checkpoint tell of lines that are in memory, soon, and refreshes what is on disk. To be called when there
    /// may be new frames.
    pub(crate) fn maintain_checkpoint(&mut self, now: Instant) {
        if self.refresh_due <= now {
            self.refresh_due = now + REFRESH_INTERVAL;
            self.disk_worker.save();
        }
        if !self.spool.has_unrecorded_memory() {
            self.memory_save_due = None;
        } else if self.memory_save_due.is_some_and(|due| due <= now) {
            self.memory_save_due = None;
            self.disk_worker.save();
        } else {
            self.memory_save_due.get_or_insert(now + MEMORY_SAVE_INTERVAL);
        }
    }

    /// When [`Coordinator::maintain_checkpoint`] is to be called again.
    pub(crate) fn memory_save_due(&self) -> Option<Instant> {
        self.memory_save_due
    }

    /// The agent is stopping.
    pub(crate) fn end(&mut self) {
        self.health.end();
    }

    /// Writes `TAILRACE_LEDGER_FILE`, where that is set. Returns a ticket for [`Coordinator::has_done`].
    pub(crate) fn write_ledger(&self, config: &Config) -> u64 {
        let Some(path) = &config.ledger_file else { return 0 };
        let text = self.spool.shared.lock().report().json(&self.spool.agent);
        self.disk_worker.write_ledger(path.clone(), text)
    }

    /// The agent ends: removes what is not needed any more. Returns a ticket for [`Coordinator::has_done`].
    pub(crate) fn close(&self) -> u64 {
        self.disk_worker.close()
    }

    /// Whether the work of this ticket is done.
    pub(crate) fn has_done(&self, ticket: u64) -> bool {
        self.disk_worker.is_done(ticket)
    }

    /// Reports a problem with a CA bundle, which every new shipper finds again, once.
    fn report_ca_problem(&mut self, detail: String) {
        if self.ca_problems.len() >= MAX_CA_PROBLEMS || self.ca_problems.contains(&detail) {
            return;
        }
        let event = diag::event(diag::Event::CaFile).field("error", &detail);
        event.field("detail", "what can be read of it is trusted").field("try", "tailrace check").emit();
        self.ca_problems.push(detail);
    }

    /// How the shipper is confined; empty until it said so.
    pub(crate) fn confined(&self) -> &str {
        &self.confined
    }

    /// The state of the drains.
    pub(crate) fn health(&self) -> &HealthTracker {
        &self.health
    }

    /// Whether every drain has consumed everything, and knows of every loss.
    pub(crate) fn is_done(&self) -> bool {
        let ledger = self.spool.shared.lock();
        ledger.drains().all(|drain| ledger.is_consumed(drain))
    }

    /// Reports what dead agents left and was not delivered; `error` is why; without it, what the drain answered last.
    /// True when there is any.
    pub(crate) fn report_adopted_left(&self, error: Option<&str>) -> bool {
        let mut any = false;
        for drain in DrainIndex::all(self.spool.drains().len()) {
            let AdoptedLeft { lines, bytes } = self.spool.adopted_left(drain);
            if lines == 0 {
                continue;
            }
            any = true;
            let mut event = diag::event(diag::Event::BytesNotDelivered)
                .field("drain", self.spool.token(drain))
                .field("lines", lines)
                .field("bytes", bytes);
            if let Some(error) = error.or(self.health.failure(drain)) {
                event = event.field("error", error);
            }
            event.emit();
        }
        any
    }

    /// Reports which lines were not delivered; true when there are any.
    pub(crate) fn report_missing(&self) -> bool {
        let report = self.spool.shared.lock().report();
        let mut any = false;
        for (drain, account) in DrainIndex::all(report.drains.len()).zip(&report.drains) {
            if account.missing() == 0 {
                continue;
            }
            any = true;
            let mut event = diag::event(diag::Event::LinesNotDelivered)
                .field("drain", self.spool.token(drain))
                .field("captured", report.captured)
                .field("delivered", account.delivered)
                .field("held", account.held)
                .field("dropped", account.dropped_lines())
                .field("rejected", account.rejected);
            for (reason, lines) in &account.dropped {
                event = event.field(reason.as_str(), lines);
            }
            if let Some(error) = self.health.failure(drain) {
                event = event.field("error", error);
            }
            event.emit();
        }
        any
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    mod agent;
    mod crashes;
    mod drain;
    mod protocol;
    mod shipper;

    use super::*;
    use crate::ledger::{Appended, SegmentLocation};
    use crate::spool::{DrainId, Opened, SpoolOwner, agent_id};
    use nix::sys::eventfd::EfdFlags;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    /// A coordinator with a segment of 9 frames of 10 bytes and one of 3, and the shipper's end of its socket.
    fn coordinator() -> (Coordinator, Connection, UnixStream, tempfile::TempDir) {
        let dir = tempfile::TempDir::new().unwrap();
        let drains = vec![DrainId::of_test("d.1")];
        let Opened { spool, .. } =
            Spool::open(&dir.path().join("spool"), agent_id().unwrap(), SpoolOwner::of_test(drains), None);
        for (slot, frames) in [(0, 9), (1, 3)] {
            let mut ledger = spool.shared.lock();
            ledger.open_segment(SegmentLocation::Memory(slot));
            ledger.append(&Appended { len: frames * 10, frames, ended: frames, ..Appended::default() });
        }
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap());
        let host = Field::coerce("host");
        let mut coordinator = Coordinator::new(Arc::new(spool), &host, "web.1", Some(wake));
        // The answers need no disk here.
        coordinator.disk_worker = DiskWorker::inline(Arc::clone(&coordinator.spool));
        let (ours, theirs) = UnixStream::pair().unwrap();
        (coordinator, Connection::new(ours).unwrap(), theirs, dir)
    }

    fn assert_untouched(coordinator: &Coordinator) {
        let drain = DrainIndex::new(0);
        let ledger = coordinator.spool.shared.lock();
        let account = ledger.account(drain).unwrap();
        assert_eq!((account.delivered(), account.rejected(), ledger.held(drain)), (0, 0, 12));
        assert_eq!(ledger.imbalance(drain), 0);
    }

    #[test]
    fn lies_of_a_shipper_close_the_connection_and_change_nothing() {
        for lie in [
            "delivered 0",
            "rejected 0 400 no",
            "too-large 0",
            "delivered 1",
            "delivered 18446744073709551615",
            "seal-request 7 0 10 1",
            "attempt-failed 9 0 retry 1 x",
            "spool-damaged 3 0",
            "seal-request 0 0 90 8",
            "seal-request 0 0 90 10",
            "seal-request 0 0 90 18446744073709551615",
            "seal-request 0 0 20 9",
            "seal-request 0 0 120 13",
            "seal-request 0 0 90 0",
            "delivered",
            "GET / HTTP/1.1",
            "\u{1}\u{2}",
        ] {
            let (mut coordinator, mut connection, mut shipper, _dir) = coordinator();
            shipper.write_all(format!("ping\n{lie}\nping\n").as_bytes()).unwrap();
            assert!(!coordinator.handle_messages(&mut connection).delivered, "{lie}");
            assert!(connection.is_closed() && connection.take_violation().is_some(), "{lie}");
            assert_untouched(&coordinator);
        }
    }

    #[test]
    fn requests_that_are_only_late_keep_the_connection() {
        for late in [
            "seal-request 0 10 90 8",
            "seal-request 0 0 121 12",
            "seal-request 0 18446744073709551614 18446744073709551615 1",
            "spool-damaged 0 18446744073709551615",
            "attempt-failed 0 0 retry 18446744073709551615 x",
        ] {
            let (mut coordinator, mut connection, mut shipper, _dir) = coordinator();
            shipper.write_all(format!("{late}\n").as_bytes()).unwrap();
            coordinator.handle_messages(&mut connection);
            assert!(!connection.is_closed(), "{late}");
            assert_untouched(&coordinator);
        }
    }

    #[test]
    fn lines_in_memory_are_soon_in_the_checkpoint() {
        let (mut coordinator, _connection, _shipper, dir) = coordinator();
        let now = Instant::now();
        let dues = [0, 1, 2].map(|intervals| {
            coordinator.maintain_checkpoint(now + MEMORY_SAVE_INTERVAL * intervals);
            coordinator.memory_save_due()
        });
        assert_eq!(dues, [Some(now + MEMORY_SAVE_INTERVAL), None, None]);
        drop(coordinator); // both processes are killed
        let adopted = || {
            let owner = SpoolOwner::of_test(vec![DrainId::of_test("d.1")]);
            Spool::open(&dir.path().join("spool"), agent_id().unwrap(), owner, None).spool.adopted_bytes()
        };
        // Its thread may hold the lock a little longer.
        let found = (0..500).map(|_| adopted()).find(|bytes| {
            std::thread::sleep(Duration::from_millis(if *bytes > 0 { 0 } else { 10 }));
            *bytes > 0
        });
        assert_eq!(found, Some(120), "of which none is there: all are announced");
    }

    #[test]
    fn a_true_batch_is_delivered_once() {
        let (mut coordinator, mut connection, mut shipper, _dir) = coordinator();
        shipper.write_all(b"seal-request 0 0 120 12\ndelivered 0\ndelivered 0\n").unwrap();
        assert!(coordinator.handle_messages(&mut connection).delivered);
        assert_eq!(connection.take_violation(), Some("the outcome of a batch that it was not given"));
        let ledger = coordinator.spool.shared.lock();
        assert_eq!(ledger.accounts()[0].delivered(), 12);
    }

    #[test]
    fn a_batch_waits_for_its_checkpoint_also_when_the_shipper_is_replaced() {
        let (mut coordinator, mut connection, mut shipper, _dir) = coordinator();
        coordinator.disk_worker = DiskWorker::stalled(Arc::clone(&coordinator.spool));
        shipper.write_all(b"seal-request 0 0 120 12\n").unwrap();
        coordinator.handle_messages(&mut connection);
        let (ours, mut shipper) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours).unwrap();
        coordinator.resync(&mut connection);
        let mut told = |coordinator: &mut Coordinator| {
            coordinator.handle_messages(&mut connection);
            let mut bytes = [0; 4096];
            let len = shipper.read(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        let first = told(&mut coordinator);
        assert!(first.contains("log-end 120") && !first.contains("sealed-batch"), "{first}");
        coordinator.disk_worker.run_round();
        let then = told(&mut coordinator);
        assert!(then.starts_with("sealed-batch 0 0 120 12 "), "{then}");
    }

    #[test]
    fn a_wrong_number_of_the_next_shipper_too_is_a_damaged_spool() {
        let (mut coordinator, mut connection, mut shipper, _dir) = coordinator();
        shipper.write_all(b"seal-request 0 0 90 8\n").unwrap();
        coordinator.handle_messages(&mut connection);
        assert!(connection.is_closed());
        let (ours, mut shipper) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours).unwrap();
        coordinator.resync(&mut connection);
        shipper.write_all(b"seal-request 0 0 90 8\n").unwrap();
        coordinator.handle_messages(&mut connection);
        assert!(!connection.is_closed());
        let ledger = coordinator.spool.shared.lock();
        assert_eq!((ledger.accounts()[0].dropped(), ledger.held(DrainIndex::new(0))), (9, 3));
    }
}
