//! The coordinator: answers the shipper from the ledger, books what it reports, and reports what a person must know.

use super::answers::{self, ShipperView};
use super::disk_worker::DiskWorker;
use super::health::{Failure, HealthTracker};
use crate::config::Config;
use crate::diag;
use crate::frame::{Field, LossNotices};
use crate::ledger::{BatchOutcome, BatchRange, DrainIndex, Identity};
use crate::ledger::{Offset, SealRange};
use crate::protocol::{Connection, FailureKind, ToShipper, ToSupervisor};
use crate::spool::Spool;
use nix::sys::eventfd::EventFd;
use std::collections::VecDeque;
use std::sync::Arc;

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
}

impl Coordinator {
    /// For this spool; `host` and `source` are for loss notices. Work on the disk is done by another thread, which
    /// writes to `wake` then, or without `wake` by the calling one.
    pub(crate) fn new(spool: Arc<Spool>, host: &Field, source: &str, wake: Option<Arc<EventFd>>) -> Self {
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
        }
    }

    /// The spool.
    pub(crate) fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Tells a new shipper all segments, and per drain where it continues.
    pub(crate) fn resync(&mut self, connection: &mut Connection) {
        self.view = ShipperView::default();
        self.waiting.clear(); // the new shipper asks anew
        self.confined.clear();
        self.send_updates(connection);
        let ledger = self.spool.shared.lock();
        for drain in ledger.drains() {
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
            match message {
                ToSupervisor::Ping => {}
                ToSupervisor::Confined { how } => self.confined = how,
                ToSupervisor::SealRequest { drain, range } => {
                    let answer = self.seal(drain, range);
                    self.send_updates(connection); // it is awake anyway
                    // The batch is in the checkpoint before the shipper may send it, so that an agent that adopts the
                    // spool repeats it under its own id.
                    let ticket = self.disk_worker.save();
                    self.waiting.push_back(WaitingAnswer { ticket, answer });
                    self.release_answers(connection);
                }
                ToSupervisor::Delivered { drain } => {
                    handled.delivered = true;
                    self.complete_batch(drain, BatchOutcome::Delivered);
                    self.health.delivered(drain);
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
                        wait,
                        detail: &detail,
                    };
                    self.health.failed(drain, &failure);
                }
                ToSupervisor::SpoolDamaged { drain, at } => {
                    let answer = self.skip_damage(drain, at);
                    connection.send(&answer);
                }
            }
        }
        connection.flush();
        handled
    }

    fn count_attempt(&self, drain: DrainIndex) {
        if let Some(account) = self.spool.shared.lock().account_mut(drain) {
            account.attempts += 1;
        }
    }

    fn seal(&mut self, drain: DrainIndex, range: BatchRange) -> ToShipper {
        let Some(id) = self.spool.drains().get(drain.get()) else {
            let nowhere = SealRange { cursor: Offset::MAX, limit: Offset::MAX };
            return ToShipper::SealRange { drain, range: nowhere };
        };
        let identity = Identity { agent: &self.spool.agent, drain: &id.token };
        self.health.begin_attempt(drain);
        let loss_notices = &mut self.loss_notices;
        let mut ledger = self.spool.shared.lock();
        answers::seal(&mut ledger, drain, range, &identity, |loss| loss_notices.frame(loss))
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
