//! The clerk: answers the shipper from the ledger, books what it reports, and says what a person must know.

use super::disk_worker::Hands;
use super::health::Moods;
use crate::config::Config;
use crate::diag;
use crate::frame::Field;
use crate::frame::Notices;
use crate::ledger::{Identity, Ledger};
use crate::protocol::{Link, Order, Word};
use crate::spool::Spool;
use nix::sys::eventfd::EventFd;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a reading of the link brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// The shipper gave a sign of life.
    pub alive: bool,
    /// A drain took a batch.
    pub delivered: bool,
}

/// The keeper's books, and how far the shipper knows them.
#[derive(Debug)]
pub struct Clerk {
    spool: Arc<Spool>,
    hands: Hands,
    notices: Notices,
    moods: Moods,
    told_head: u64,
    told_segment: Option<u64>,
    /// Orders that the shipper gets once what they say is written down.
    waiting: VecDeque<(u64, Order)>,
}

impl Clerk {
    /// A clerk for this spool; `host` and `source` are for loss notices. What is to be done on the disk is done by
    /// another thread, which writes to `wake` then; by this one without it.
    pub fn new(spool: Arc<Spool>, host: &Field, source: &str, wake: Option<Arc<EventFd>>) -> Self {
        let moods = Moods::new(Arc::clone(&spool));
        let others = wake.and_then(|wake| Hands::others(Arc::clone(&spool), wake).ok());
        let hands = others.unwrap_or_else(|| Hands::own(Arc::clone(&spool)));
        let notices = Notices::new(host, source);
        let waiting = VecDeque::new();
        Self { spool, hands, notices, moods, told_head: 0, told_segment: None, waiting }
    }

    /// The spool.
    pub fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Tells a new shipper where everything is and where each drain goes on.
    pub fn greet(&mut self, link: &mut Link) {
        (self.told_head, self.told_segment) = (0, None);
        self.waiting.clear(); // it is told anew
        self.news(link);
        let ledger = self.spool.shared.lock();
        for (drain, account) in ledger.accounts().iter().enumerate() {
            match account.plan() {
                Some(plan) => link.send(&Order::Plan {
                    drain,
                    start: plan.start,
                    end: plan.end,
                    frames: plan.frames,
                    id: plan.id.clone(),
                    notice: plan.notice.clone(),
                }),
                None => link.send(&window(&ledger, drain)),
            }
        }
    }

    /// Tells of segments and frames since the last time. A shipper that does not read is told later.
    pub fn news(&mut self, link: &mut Link) {
        let ledger = self.spool.shared.lock();
        let mut all = true;
        let known = self.told_segment;
        let fresh = ledger.segments().rev().take_while(|s| known.is_none_or(|known| s.start > known)).count();
        let skip = ledger.segments().len() - fresh;
        for segment in ledger.segments().skip(skip) {
            if !link.has_room() && known.is_some() {
                all = false;
                break;
            }
            link.send(&Order::Segment { start: segment.start, place: segment.place.clone() });
            self.told_segment = Some(segment.start);
        }
        if all && ledger.head() > self.told_head && link.has_room() {
            self.told_head = ledger.head();
            link.send(&Order::Head(self.told_head));
        }
    }

    /// Whether the shipper does not know yet all that is booked.
    pub fn has_news(&self) -> bool {
        self.spool.shared.lock().head() > self.told_head
    }

    /// Reads and answers what the shipper says.
    pub fn hear(&mut self, link: &mut Link) -> Heard {
        let mut heard = Heard::default();
        self.release(link);
        link.fill();
        while let Some(word) = link.take::<Word>() {
            heard.alive = true;
            match word {
                Word::Alive => {}
                Word::Seal { drain, start, end, frames } => {
                    let order = self.seal(drain, start, end, frames);
                    self.news(link); // it is awake anyway
                    // Written down before the shipper may send, so that whoever adopts us repeats it under its own
                    // id.
                    self.waiting.push_back((self.hands.keep(), order));
                    self.release(link);
                }
                Word::Done { drain } => {
                    heard.delivered = true;
                    self.settle(drain, true);
                    self.moods.delivered(drain);
                }
                Word::Rejected { drain, status, detail } => {
                    self.settle(drain, false);
                    self.moods.rejected(drain, status, &detail);
                }
                Word::Tried { drain, status, hold, wait, detail } => {
                    if let Some(account) = self.spool.shared.lock().account_mut(drain) {
                        account.attempts += 1;
                    }
                    self.moods.failed(drain, status, hold, Duration::from_millis(wait), &detail);
                }
                Word::Damaged { drain, at } => {
                    let order = self.damaged(drain, at);
                    link.send(&order);
                }
            }
        }
        link.flush();
        heard
    }

    fn seal(&mut self, drain: usize, start: u64, end: u64, frames: u64) -> Order {
        let Some(token) = self.spool.taps().get(drain).map(|tap| tap.token.as_str()) else {
            return Order::Window { drain, cursor: u64::MAX, limit: u64::MAX };
        };
        let identity = Identity { agent: &self.spool.agent, drain: token };
        self.moods.begins(drain);
        let notices = &mut self.notices;
        let mut ledger = self.spool.shared.lock();
        let sealed = ledger.seal(drain, (start, end), frames, &identity, |loss| notices.frame(loss));
        match sealed {
            Ok(plan) => Order::Plan {
                drain,
                start: plan.start,
                end: plan.end,
                frames: plan.frames,
                id: plan.id.clone(),
                notice: plan.notice.clone(),
            },
            Err(_) => window(&ledger, drain),
        }
    }

    /// Sends the orders that are written down by now.
    fn release(&mut self, link: &mut Link) {
        while let Some((_, order)) = self.waiting.pop_front_if(|(ticket, _)| self.hands.is_done(*ticket)) {
            link.send(&order);
        }
    }

    fn settle(&mut self, drain: usize, delivered: bool) {
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
            self.hands.keep();
        }
    }

    fn damaged(&mut self, drain: usize, at: u64) -> Order {
        let (order, skipped) = {
            let mut ledger = self.spool.shared.lock();
            let is_there = ledger.accounts().get(drain).is_some_and(|account| account.cursor() == at);
            let skipped = if is_there && at < ledger.head() { ledger.skip_damaged(drain) } else { 0 };
            (window(&ledger, drain), skipped)
        };
        if skipped > 0 {
            let line =
                diag::at("spool-damaged").with("drain", self.spool.token(drain)).with("bytes", skipped);
            line.with("detail", "what stood in the spool was not frames; its lines are counted as dropped")
                .say();
            self.hands.keep();
        }
        order
    }

    /// The end is near.
    pub fn end(&mut self) {
        self.moods.end();
    }

    /// Writes `TAILRACE_LEDGER_FILE`, where that is wanted; answers with a ticket.
    pub fn write_ledger(&self, config: &Config) -> u64 {
        let Some(path) = &config.ledger_file else { return 0 };
        let text = self.spool.shared.lock().report().json(&self.spool.agent);
        self.hands.write(path.clone(), text)
    }

    /// The agent ends: what is not needed any more is removed; answers with a ticket.
    pub fn close(&self) -> u64 {
        self.hands.close()
    }

    /// Whether what the ticket stands for is done.
    pub fn has_done(&self, ticket: u64) -> bool {
        self.hands.is_done(ticket)
    }

    /// What the drains' last answers were.
    pub fn moods(&self) -> &Moods {
        &self.moods
    }

    /// Everything is answered for, by every drain.
    pub fn is_done(&self) -> bool {
        let ledger = self.spool.shared.lock();
        ledger.accounts().iter().all(|account| account.cursor() >= ledger.head())
    }

    /// Says which lines did not arrive; true when there were any.
    pub fn say_missing(&self) -> bool {
        let report = self.spool.shared.lock().report();
        let mut any = false;
        for (drain, account) in report.drains.iter().enumerate().filter(|(_, account)| account.missing() > 0)
        {
            any = true;
            let mut line = diag::at("lines-not-delivered")
                .with("drain", self.spool.token(drain))
                .with("captured", report.captured)
                .with("delivered", account.delivered)
                .with("held", account.held)
                .with("dropped", account.dropped_lines())
                .with("rejected", account.rejected);
            for (reason, lines) in &account.dropped {
                line = line.with(reason.as_str(), lines);
            }
            if let Some(error) = self.moods.failure(drain) {
                line = line.with("error", error);
            }
            line.say();
        }
        any
    }
}

/// Where a drain goes on. Up to the head means without a limit: the head moves.
fn window(ledger: &Ledger, drain: usize) -> Order {
    let window = ledger.window(drain);
    let limit = if window.limit == ledger.head() { u64::MAX } else { window.limit };
    Order::Window { drain, cursor: window.cursor, limit }
}
