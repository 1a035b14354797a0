//! An worker: the task that serves one drain. It gathers a batch, asks the keeper to seal it, posts it until
//! there is a verdict, and goes on behind it.

use super::backoff::Backoff;
use super::http::{AttemptOutcome, BatchRequest, Client};
use super::verdict::Verdict;
use crate::ledger::SegmentLocation;
use crate::protocol::{ToShipper, ToSupervisor};
use crate::spool::{ReadError, Reader};
use bytes::BytesMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Reading the spool is tried again so often before what stands there counts as damaged.
const READS: u32 = 5;
/// The pause between two of these.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// The shortest wait between attempts while stopping.
const SHORT: Duration = Duration::from_millis(100);

/// What all workers see of the spool.
#[derive(Clone, Debug, Default)]
pub struct SpoolProgress {
    /// Segments that an worker may not know yet, ascending.
    pub segments: Vec<(u64, SegmentLocation)>,
    /// Offset behind the last booked byte.
    pub head: u64,
    /// The agent is stopping, and delivery ends here.
    pub deadline: Option<Instant>,
    /// No more frames will come.
    pub finish: bool,
}

/// The sealed batch.
#[derive(Clone, Debug)]
struct SealedBatch {
    start: u64,
    end: u64,
    frames: u64,
    id: String,
    notice: Vec<u8>,
}

/// How an worker gathers.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Bytes at which a batch closes.
    pub batch_bytes: usize,
    /// For how long it is kept open.
    pub linger: Duration,
}

/// The worker of one drain.
#[derive(Debug)]
pub struct DrainWorker {
    drain: usize,
    client: Client,
    limits: BatchLimits,
    reader: Reader,
    progress: watch::Receiver<SpoolProgress>,
    orders: mpsc::Receiver<ToShipper>,
    replies: mpsc::Sender<ToSupervisor>,
    cursor: u64,
    limit: u64,
    backoff: Backoff,
    /// Frames of `gathered`, kept for the request; the buffer is used again and again.
    body: BytesMut,
    gathered: (u64, u64),
    posted: Option<Instant>,
    seen: Arc<AtomicU64>,
}

/// The keeper is gone.
#[derive(Clone, Copy, Debug)]
pub struct SupervisorGone;

type Going<T> = Result<T, SupervisorGone>;

impl DrainWorker {
    /// An worker for drain `drain` that reads with `reader`. In `seen` it leaves up to which offset it
    /// knows where segments start.
    #[expect(clippy::too_many_arguments, reason = "all of them are ends of channels, made in one place")]
    pub fn new(
        drain: usize,
        client: Client,
        limits: BatchLimits,
        reader: Reader,
        progress: watch::Receiver<SpoolProgress>,
        orders: mpsc::Receiver<ToShipper>,
        replies: mpsc::Sender<ToSupervisor>,
        seen: Arc<AtomicU64>,
    ) -> Self {
        Self {
            drain,
            client,
            limits,
            reader,
            progress,
            orders,
            replies,
            cursor: 0,
            limit: u64::MAX,
            backoff: Backoff::new(),
            body: BytesMut::new(),
            gathered: (0, 0),
            posted: None,
            seen,
        }
    }

    /// Serves until no more frames will come and all are answered for.
    ///
    /// # Errors
    /// [`SupervisorGone`] when the keeper is gone.
    pub async fn run(mut self) -> Going<()> {
        loop {
            match self.orders.recv().await.ok_or(SupervisorGone)? {
                ToShipper::SealRange { cursor, limit, .. } => (self.cursor, self.limit) = (cursor, limit),
                ToShipper::SealedBatch { start, end, frames, id, notice, .. } => {
                    if !self.deliver(SealedBatch { start, end, frames, id, notice }).await? {
                        continue; // the keeper was asked
                    }
                }
                _ => continue,
            }
            let Some(word) = self.gather().await? else { return Ok(()) };
            self.say(word).await?;
        }
    }

    async fn say(&self, word: ToSupervisor) -> Going<()> {
        self.replies.send(word).await.map_err(|_| SupervisorGone)
    }

    /// Learns of new segments; returns the head, the deadline, and whether more will come.
    fn look(&mut self) -> (u64, Option<Instant>, bool) {
        let progress = self.progress.borrow_and_update();
        self.reader.learn(&progress.segments, self.cursor);
        self.seen.store(self.reader.last().map_or(0, |last| last + 1), Ordering::Relaxed);
        (progress.head, progress.deadline, progress.finish)
    }

    async fn changed(&mut self) -> Going<()> {
        self.progress.changed().await.map_err(|_| SupervisorGone)
    }

    /// Waits for a batch and reads it; returns what to ask the keeper, or nothing at the end.
    async fn gather(&mut self) -> Going<Option<ToSupervisor>> {
        let mut reads = 0;
        loop {
            let (head, deadline, finish) = self.look();
            let available = head.min(self.limit).saturating_sub(self.cursor);
            if available == 0 {
                if self.cursor < head {
                    // A gap is ahead: the keeper knows where it ends.
                    let (start, end) = (self.cursor, self.cursor);
                    return Ok(Some(ToSupervisor::SealRequest { drain: self.drain, start, end, frames: 0 }));
                }
                if finish {
                    return Ok(None);
                }
                self.changed().await?;
                continue;
            }
            // After a pause the first line leaves at once; then a batch closes at its size or at the linger.
            let due = self.posted.map(|posted| posted + self.limits.linger);
            if let Some(due) = due.filter(|due| *due > Instant::now())
                && deadline.is_none()
                && available < self.limits.batch_bytes as u64
            {
                if let Ok(changed) = timeout_at(due, self.changed()).await {
                    changed?;
                }
                continue;
            }
            match self.read(self.limit, self.limits.batch_bytes) {
                Ok((end, frames)) if frames > 0 => {
                    self.gathered = (self.cursor, end);
                    let start = self.cursor;
                    return Ok(Some(ToSupervisor::SealRequest { drain: self.drain, start, end, frames }));
                }
                Ok(_) => self.changed().await?,
                Err(ReadError::Io(_)) if reads < READS => {
                    reads += 1;
                    sleep(READ_AGAIN).await;
                }
                Err(ReadError::Damaged { at } | ReadError::Gone { at }) if at > self.cursor => {
                    // What is good before it goes out first.
                    self.limit = at;
                }
                Err(_) => return Ok(Some(ToSupervisor::SpoolDamaged { drain: self.drain, at: self.cursor })),
            }
        }
    }

    /// Reads from the cursor on, also beyond what the keeper has told us of: it checks when it seals.
    fn read(&mut self, limit: u64, max: usize) -> Result<(u64, u64), ReadError> {
        self.reader.read(self.cursor, limit, max, &mut self.body)
    }

    /// Posts a sealed batch until it is answered for; false when the keeper was asked instead.
    async fn deliver(&mut self, plan: SealedBatch) -> Going<bool> {
        self.cursor = plan.start;
        self.look();
        if self.gathered != (plan.start, plan.end) || self.body.is_empty() {
            let mut reads = 0;
            loop {
                match self.read(plan.end, usize::MAX) {
                    Ok(read) if read == (plan.end, plan.frames) => break,
                    Err(ReadError::Io(_)) if reads < READS => {
                        reads += 1;
                        sleep(READ_AGAIN).await;
                    }
                    _ => {
                        self.say(ToSupervisor::SpoolDamaged { drain: self.drain, at: plan.start }).await?;
                        return Ok(false);
                    }
                }
            }
        }
        self.gathered = (0, 0);
        let mut frames = std::mem::take(&mut self.body);
        if !plan.notice.is_empty() {
            let alone = std::mem::replace(&mut frames, BytesMut::from(&plan.notice[..]));
            frames.extend_from_slice(&alone);
        }
        let count = plan.frames + u64::from(!plan.notice.is_empty());
        let batch = BatchRequest { body: frames.freeze(), frames: count, id: plan.id.clone() };
        let asked = self.post(&plan, &batch).await?;
        // The buffer comes back when nobody else holds it any more.
        self.body = batch.body.try_into_mut().unwrap_or_default();
        if let Some(word) = asked {
            self.body.clear();
            self.say(word).await?;
            return Ok(false);
        }
        (self.cursor, self.limit) = (plan.end, u64::MAX);
        self.posted = Some(Instant::now());
        Ok(true)
    }

    /// Attempts until there is a verdict; what to ask the keeper when the batch has to be smaller.
    async fn post(&mut self, plan: &SealedBatch, batch: &BatchRequest) -> Going<Option<ToSupervisor>> {
        loop {
            let answer = self.client.post(batch).await;
            match answer.verdict {
                Verdict::Delivered => {
                    self.backoff.next(answer.verdict, None); // forgets the failures before
                    self.say(ToSupervisor::Delivered { drain: self.drain }).await?;
                    return Ok(None);
                }
                Verdict::Split if plan.frames > 1 => {
                    let half = batch.body.len() / 2;
                    // What was too much once will be so again.
                    self.limits.batch_bytes = self.limits.batch_bytes.min(half.max(LEAST));
                    if let Ok((end, frames)) = self.read(plan.end, half)
                        && end < plan.end
                    {
                        let word =
                            ToSupervisor::SealRequest { drain: self.drain, start: plan.start, end, frames };
                        return Ok(Some(word));
                    }
                    self.refused(&answer).await?;
                    return Ok(None);
                }
                Verdict::Split | Verdict::Reject => {
                    self.refused(&answer).await?;
                    return Ok(None);
                }
                _ => self.wait(&answer).await?,
            }
        }
    }

    async fn refused(&self, answer: &AttemptOutcome) -> Going<()> {
        let (status, detail) = (answer.status.unwrap_or(0), answer.detail.clone());
        self.say(ToSupervisor::Rejected { drain: self.drain, status, detail }).await
    }

    /// Waits until the next attempt; while stopping, no longer than the grace allows.
    async fn wait(&mut self, answer: &AttemptOutcome) -> Going<()> {
        let wait = self.backoff.next(answer.verdict, answer.retry_after);
        let until = Instant::now() + wait;
        let deadline = self.progress.borrow().deadline;
        self.say(ToSupervisor::AttemptFailed {
            drain: self.drain,
            status: answer.status.unwrap_or(0),
            hold: answer.verdict == Verdict::Hold,
            wait: cut(until, deadline).saturating_duration_since(Instant::now()).as_millis() as u64,
            detail: answer.detail.clone(),
        })
        .await?;
        loop {
            let (_, deadline, _) = self.look();
            let until = cut(until, deadline);
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                changed = self.progress.changed() => changed.map_err(|_| SupervisorGone)?,
            }
            if deadline.is_some() {
                // It was cut already; only the deadline's first coming is news.
                sleep_until(until).await;
                return Ok(());
            }
        }
    }
}

/// What a batch may hold, in bytes, however small a drain wants them: one frame of the largest kind, and some.
const LEAST: usize = 16 << 10;

/// At most half of what is left until the deadline.
fn cut(until: Instant, deadline: Option<Instant>) -> Instant {
    let Some(deadline) = deadline else { return until };
    let now = Instant::now();
    until.min(now + (deadline.saturating_duration_since(now) / 2).max(SHORT))
}
