//! The coordinator: answers the shipper from the ledger, summary what it reports, and says what a person must know.

use super::disk_worker::DiskWorker;
use super::health::{Failure, HealthTracker};
use crate::config::Config;
use crate::diag;
use crate::frame::Field;
use crate::frame::LossNotices;
use crate::ledger::{Identity, Ledger};
use crate::protocol::{Connection, ToShipper, ToSupervisor};
use crate::spool::Spool;
use nix::sys::eventfd::EventFd;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a reading of the link brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handled {
    /// The shipper gave a sign of life.
    pub alive: bool,
    /// A drain took a batch.
    pub delivered: bool,
}

/// The keeper's summary, and how far the shipper knows them.
#[derive(Debug)]
pub struct Coordinator {
    spool: Arc<Spool>,
    disk_worker: DiskWorker,
    loss_notices: LossNotices,
    health: HealthTracker,
    sent_log_end: u64,
    sent_segment: Option<u64>,
    /// Orders that the shipper gets once what they say is written down.
    waiting: VecDeque<(u64, ToShipper)>,
}

impl Coordinator {
    /// A coordinator for this spool; `host` and `source` are for loss loss_notices. What is to be done on the disk is done by
    /// another thread, which writes to `wake` then; by this one without it.
    pub fn new(spool: Arc<Spool>, host: &Field, source: &str, wake: Option<Arc<EventFd>>) -> Self {
        let health = HealthTracker::new(Arc::clone(&spool));
        let thread = wake.and_then(|wake| DiskWorker::spawn(Arc::clone(&spool), wake).ok());
        let disk_worker = thread.unwrap_or_else(|| DiskWorker::inline(Arc::clone(&spool)));
        let loss_notices = LossNotices::new(host, source);
        let waiting = VecDeque::new();
        Self { spool, disk_worker, loss_notices, health, sent_log_end: 0, sent_segment: None, waiting }
    }

    /// The spool.
    pub fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Tells a new shipper where everything is and where each drain goes on.
    pub fn resync(&mut self, link: &mut Connection) {
        (self.sent_log_end, self.sent_segment) = (0, None);
        self.waiting.clear(); // it is told anew
        self.send_updates(link);
        let ledger = self.spool.shared.lock();
        for (drain, account) in ledger.accounts().iter().enumerate() {
            match account.batch() {
                Some(batch) => link.send(&ToShipper::SealedBatch {
                    drain,
                    start: batch.start,
                    end: batch.end,
                    frames: batch.frames,
                    id: batch.id.clone(),
                    notice: batch.notice.clone(),
                }),
                None => link.send(&window(&ledger, drain)),
            }
        }
    }

    /// Tells of segments and frames since the last time. A shipper that does not read is told later.
    pub fn send_updates(&mut self, link: &mut Connection) {
        let ledger = self.spool.shared.lock();
        let mut all = true;
        let known = self.sent_segment;
        let fresh = ledger.segments().rev().take_while(|s| known.is_none_or(|known| s.start > known)).count();
        let skip = ledger.segments().len() - fresh;
        for segment in ledger.segments().skip(skip) {
            if !link.has_room() && known.is_some() {
                all = false;
                break;
            }
            link.send(&ToShipper::Segment { start: segment.start, place: segment.place.clone() });
            self.sent_segment = Some(segment.start);
        }
        if all && ledger.head() > self.sent_log_end && link.has_room() {
            self.sent_log_end = ledger.head();
            link.send(&ToShipper::LogEnd(self.sent_log_end));
        }
    }

    /// Whether the shipper does not know yet all that is booked.
    pub fn has_updates(&self) -> bool {
        self.spool.shared.lock().head() > self.sent_log_end
    }

    /// Reads and answers what the shipper says.
    pub fn handle_messages(&mut self, link: &mut Connection) -> Handled {
        let mut heard = Handled::default();
        self.release(link);
        link.fill();
        while let Some(word) = link.take::<ToSupervisor>() {
            heard.alive = true;
            match word {
                ToSupervisor::Ping => {}
                ToSupervisor::SealRequest { drain, start, end, frames } => {
                    let order = self.seal(drain, start, end, frames);
                    self.send_updates(link); // it is awake anyway
                    // Written down before the shipper may send, so that whoever adopts us repeats it under its own
                    // id.
                    self.waiting.push_back((self.disk_worker.save(), order));
                    self.release(link);
                }
                ToSupervisor::Delivered { drain } => {
                    heard.delivered = true;
                    self.complete_batch(drain, true);
                    self.health.delivered(drain);
                }
                ToSupervisor::Rejected { drain, status, detail } => {
                    self.complete_batch(drain, false);
                    self.health.rejected(drain, status, &detail);
                }
                ToSupervisor::AttemptFailed { drain, status, hold, wait, detail } => {
                    if let Some(account) = self.spool.shared.lock().account_mut(drain) {
                        account.attempts += 1;
                    }
                    let failure = Failure {
                        status: (status != 0).then_some(status),
                        needs_action: hold,
                        wait: Duration::from_millis(wait),
                        detail: &detail,
                    };
                    self.health.failed(drain, &failure);
                }
                ToSupervisor::SpoolDamaged { drain, at } => {
                    let order = self.damaged(drain, at);
                    link.send(&order);
                }
            }
        }
        link.flush();
        heard
    }

    fn seal(&mut self, drain: usize, start: u64, end: u64, frames: u64) -> ToShipper {
        let Some(token) = self.spool.drains().get(drain).map(|drain| drain.token.as_str()) else {
            return ToShipper::SealRange { drain, cursor: u64::MAX, limit: u64::MAX };
        };
        let identity = Identity { agent: &self.spool.agent, drain: token };
        self.health.begin_attempt(drain);
        let loss_notices = &mut self.loss_notices;
        let mut ledger = self.spool.shared.lock();
        let sealed = ledger.seal(drain, (start, end), frames, &identity, |loss| loss_notices.frame(loss));
        match sealed {
            Ok(batch) => ToShipper::SealedBatch {
                drain,
                start: batch.start,
                end: batch.end,
                frames: batch.frames,
                id: batch.id.clone(),
                notice: batch.notice.clone(),
            },
            Err(_) => window(&ledger, drain),
        }
    }

    /// Sends the orders that are written down by now.
    fn release(&mut self, link: &mut Connection) {
        while let Some((_, order)) =
            self.waiting.pop_front_if(|(ticket, _)| self.disk_worker.is_done(*ticket))
        {
            link.send(&order);
        }
    }

    fn complete_batch(&mut self, drain: usize, delivered: bool) {
        let is_last = {
            let mut ledger = self.spool.shared.lock();
            if let Some(account) = ledger.account_mut(drain) {
                account.attempts += 1;
            }
            if delivered {
                ledger.delivered(drain);
            } else {
                ledger.rejected(drain);
            }
            ledger.window(drain).cursor >= ledger.head()
        };
        // Else the next batch is sealed at once, and that is written down.
        if is_last {
            self.disk_worker.save();
        }
    }

    fn damaged(&mut self, drain: usize, at: u64) -> ToShipper {
        let (order, skipped) = {
            let mut ledger = self.spool.shared.lock();
            let is_there = ledger.accounts().get(drain).is_some_and(|account| account.cursor() == at);
            let skipped = if is_there && at < ledger.head() { ledger.skip_damaged(drain) } else { 0 };
            (window(&ledger, drain), skipped)
        };
        if skipped > 0 {
            let line =
                diag::event("spool-damaged").field("drain", self.spool.token(drain)).field("bytes", skipped);
            line.field("detail", "what stood in the spool was not frames; its lines are counted as dropped")
                .emit();
            self.disk_worker.save();
        }
        order
    }

    /// The end is near.
    pub fn end(&mut self) {
        self.health.end();
    }

    /// Writes `TAILRACE_LEDGER_FILE`, where that is wanted; answers with a ticket.
    pub fn write_ledger(&self, config: &Config) -> u64 {
        let Some(path) = &config.ledger_file else { return 0 };
        let text = self.spool.shared.lock().report().json(&self.spool.agent);
        self.disk_worker.write_ledger(path.clone(), text)
    }

    /// The agent ends: what is not needed any more is removed; answers with a ticket.
    pub fn close(&self) -> u64 {
        self.disk_worker.close()
    }

    /// Whether what the ticket stands for is done.
    pub fn has_done(&self, ticket: u64) -> bool {
        self.disk_worker.is_done(ticket)
    }

    /// What the drains' last answers were.
    pub fn health(&self) -> &HealthTracker {
        &self.health
    }

    /// Everything is answered for, by every drain.
    pub fn is_done(&self) -> bool {
        let ledger = self.spool.shared.lock();
        ledger.accounts().iter().all(|account| account.cursor() >= ledger.head())
    }

    /// Says which lines did not arrive; true when there were any.
    pub fn report_missing(&self) -> bool {
        let report = self.spool.shared.lock().report();
        let mut any = false;
        for (drain, account) in report.drains.iter().enumerate().filter(|(_, account)| account.missing() > 0)
        {
            any = true;
            let mut line = diag::event("lines-not-delivered")
                .field("drain", self.spool.token(drain))
                .field("captured", report.captured)
                .field("delivered", account.delivered)
                .field("held", account.held)
                .field("dropped", account.dropped_lines())
                .field("rejected", account.rejected);
            for (reason, lines) in &account.dropped {
                line = line.field(reason.as_str(), lines);
            }
            if let Some(error) = self.health.failure(drain) {
                line = line.field("error", error);
            }
            line.emit();
        }
        any
    }
}

/// Where a drain goes on. Up to the head means without a limit: the head moves.
fn window(ledger: &Ledger, drain: usize) -> ToShipper {
    let window = ledger.window(drain);
    let limit = if window.limit == ledger.head() { u64::MAX } else { window.limit };
    ToShipper::SealRange { drain, cursor: window.cursor, limit }
}
