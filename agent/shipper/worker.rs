//! The worker: the task that serves one drain. It gathers a batch, asks the supervisor to seal it, and posts it until
//! there is a verdict.

use super::backoff::Backoff;
use super::http::{AttemptOutcome, BatchRequest, Client};
use super::verdict::Verdict;
use crate::ledger::{BatchRange, DrainIndex, Offset, SealRange, SealedBatch, SegmentStart};
use crate::protocol::{FailureKind, ToShipper, ToSupervisor};
use crate::spool::{ReadError, Reader};
use bytes::BytesMut;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// How often reading the spool is retried before it counts as damaged.
const MAX_READ_RETRIES: u32 = 5;
/// The pause before each.
const READ_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The shortest and the longest wait between attempts while stopping.
const STOPPING_WAIT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(2);
/// The smallest limit of a batch, in bytes, however small a drain wants them: one frame of the largest kind, and some.
const MIN_BATCH_BYTES: usize = 16 << 10;

/// What all workers see of the spool.
#[derive(Clone, Debug, Default)]
pub(super) struct SpoolProgress {
    /// Segments that some worker does not know yet, ascending.
    pub segments: Vec<SegmentStart>,
    /// Offset behind the last booked byte.
    pub log_end: Offset,
    /// The agent is stopping, and delivery ends here.
    pub deadline: Option<Instant>,
    /// No more frames will come.
    pub is_finished: bool,
}

/// When a batch closes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimits {
    /// At this many bytes.
    pub batch_bytes: usize,
    /// Or after this time.
    pub linger: Duration,
}

/// The offset before which a worker knows all segments, for whoever keeps the list of new ones.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownSegments(Arc<AtomicU64>);

impl KnownSegments {
    fn set(&self, before: Offset) {
        self.0.store(before.get(), Ordering::Relaxed);
    }

    /// Segments that start before this offset are known.
    pub(super) fn get(&self) -> Offset {
        Offset::new(self.0.load(Ordering::Relaxed))
    }
}

/// A worker's connections to the rest of the shipper.
#[derive(Debug)]
pub(super) struct WorkerChannels {
    /// The spool as the supervisor reports it.
    pub progress: watch::Receiver<SpoolProgress>,
    /// Messages of the supervisor for this drain.
    pub from_supervisor: mpsc::Receiver<ToShipper>,
    /// Messages to the supervisor.
    pub to_supervisor: mpsc::Sender<ToSupervisor>,
    /// What the worker knows of the segments.
    pub known: KnownSegments,
}

/// The worker of one drain.
#[derive(Debug)]
pub(super) struct DrainWorker {
    drain: DrainIndex,
    client: Client,
    limits: BatchLimits,
    reader: Reader,
    channels: WorkerChannels,
    seal_range: SealRange,
    backoff: Backoff,
    /// Where the supervisor was asked how to go on, because nothing can be read there.
    stuck_at: Option<Offset>,
    /// A single line was refused as too large, and nothing was delivered since: lines are tried one by one.
    refuses_all_sizes: bool,
    /// A loss may wait for its announcement.
    may_have_notice: bool,
    /// The cursor at which the supervisor was asked for a last announcement, all frames being consumed.
    asked_at_end: Option<Offset>,
    /// The frames of `gathered`, kept for the request. The buffer is reused.
    body: BytesMut,
    gathered: BatchRange,
    /// When the last batch was completed.
    completed: Option<Instant>,
}

/// The supervisor is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct SupervisorGone;

/// What came of a sealed batch.
enum BatchEnd {
    /// It is delivered or rejected.
    Completed,
    /// It has to change first: the supervisor was asked.
    Asked,
}

impl DrainWorker {
    /// A worker for this drain that reads the spool with `reader`.
    pub(super) fn new(
        drain: DrainIndex,
        client: Client,
        limits: BatchLimits,
        reader: Reader,
        channels: WorkerChannels,
    ) -> Self {
        Self {
            drain,
            client,
            limits,
            reader,
            channels,
            seal_range: SealRange { cursor: Offset::ZERO, limit: Offset::MAX, is_one_batch: false },
            backoff: Backoff::new(),
            stuck_at: None,
            refuses_all_sizes: false,
            may_have_notice: false,
            asked_at_end: None,
            body: BytesMut::new(),
            gathered: BatchRange::default(),
            completed: None,
        }
    }

    /// Serves the drain until no more frames will come and it has consumed all.
    ///
    /// # Errors
    /// [`SupervisorGone`].
    pub(super) async fn run(mut self) -> Result<(), SupervisorGone> {
        loop {
            match self.channels.from_supervisor.recv().await.ok_or(SupervisorGone)? {
                ToShipper::SealRange { range, .. } => {
                    if self.stuck_at.take() == Some(range.cursor) {
                        sleep(READ_RETRY_INTERVAL).await; // nothing changed: never ask in a loop without a pause
                    }
                    self.seal_range = range;
                }
                ToShipper::SealedBatch { batch, .. } => {
                    if let BatchEnd::Asked = self.deliver(batch).await? {
                        continue;
                    }
                }
                _ => continue,
            }
            let Some(request) = self.gather().await? else { return Ok(()) };
            self.send(request).await?;
        }
    }

    async fn send(&self, message: ToSupervisor) -> Result<(), SupervisorGone> {
        self.channels.to_supervisor.send(message).await.map_err(|_| SupervisorGone)
    }

    fn damaged_at(&mut self, at: Offset) -> ToSupervisor {
        self.stuck_at = Some(at);
        self.may_have_notice = true;
        ToSupervisor::SpoolDamaged { drain: self.drain, at }
    }

    fn seal_request(&self, range: BatchRange) -> ToSupervisor {
        ToSupervisor::SealRequest { drain: self.drain, range }
    }

    /// Takes in what the supervisor reported since the last call; returns the log end, the deadline, and whether the
    /// log is finished.
    fn update(&mut self) -> Progress {
        let progress = self.channels.progress.borrow_and_update();
        self.reader.update(&progress.segments, self.seal_range.cursor);
        self.channels.known.set(self.reader.last().map_or(Offset::ZERO, |last| last + 1));
        Progress { log_end: progress.log_end, deadline: progress.deadline, is_finished: progress.is_finished }
    }

    async fn progress_changed(&mut self) -> Result<(), SupervisorGone> {
        self.channels.progress.changed().await.map_err(|_| SupervisorGone)
    }

    /// Waits for a batch and reads it; returns what to ask the supervisor, or nothing at the end.
    async fn gather(&mut self) -> Result<Option<ToSupervisor>, SupervisorGone> {
        let mut retries = 0;
        loop {
            let Progress { log_end, deadline, is_finished } = self.update();
            let SealRange { cursor, limit, is_one_batch } = self.seal_range;
            let available = log_end.min(limit).bytes_since(cursor);
            if available == 0 {
                if cursor < log_end {
                    // A dropped range is ahead: the supervisor knows where it ends.
                    let empty = BatchRange { start: cursor, end: cursor, frames: 0 };
                    self.stuck_at = Some(cursor);
                    return Ok(Some(self.seal_request(empty)));
                }
                // Losses are announced in front of what follows. Where nothing follows, a batch holds the notice alone.
                if self.may_have_notice || (is_finished && self.asked_at_end != Some(cursor)) {
                    self.may_have_notice = false;
                    self.asked_at_end = is_finished.then_some(cursor);
                    return Ok(Some(self.seal_request(BatchRange { start: cursor, end: cursor, frames: 0 })));
                }
                if is_finished {
                    return Ok(None);
                }
                self.progress_changed().await?;
                continue;
            }
            // After a pause the first line leaves at once; then a batch closes at its size or at the linger.
            let linger_end = self.completed.map(|completed| completed + self.limits.linger);
            if let Some(linger_end) = linger_end.filter(|end| *end > Instant::now())
                && deadline.is_none()
                && available < self.limits.batch_bytes as u64
            {
                if let Ok(changed) = timeout_at(linger_end, self.progress_changed()).await {
                    changed?;
                }
                continue;
            }
            let max_bytes = match (is_one_batch, self.refuses_all_sizes) {
                (true, _) => usize::MAX,
                (false, true) => 1,
                (false, false) => self.limits.batch_bytes,
            };
            match self.read(limit, max_bytes) {
                Ok(range) if range.frames > 0 && is_one_batch && range.end < limit => {
                    return Ok(Some(self.damaged_at(range.end)));
                }
                Ok(range) if range.frames > 0 => {
                    self.gathered = range;
                    return Ok(Some(self.seal_request(range)));
                }
                Err(ReadError::Io(_)) if retries < MAX_READ_RETRIES => {
                    retries += 1;
                    sleep(READ_RETRY_INTERVAL).await;
                }
                Err(ReadError::Damaged { at } | ReadError::Gone { at }) if at > cursor && is_one_batch => {
                    return Ok(Some(self.damaged_at(at)));
                }
                Err(ReadError::Damaged { at } | ReadError::Gone { at }) if at > cursor => {
                    self.seal_range.limit = at; // the good frames before it go out first
                }
                // Booked bytes are readable bytes, of segments that this worker knows or that were dropped. Without a
                // frame there is a hole or damage, and nothing to wait for: the supervisor knows where to go on.
                Ok(_) | Err(_) => return Ok(Some(self.damaged_at(cursor))),
            }
        }
    }

    /// Reads from the cursor on, also beyond what the supervisor has reported: it checks when it seals.
    fn read(&mut self, limit: Offset, max: usize) -> Result<BatchRange, ReadError> {
        self.reader.read(self.seal_range.cursor, limit, max, &mut self.body)
    }

    /// Reads the frames of a sealed batch, up to where they are damaged.
    async fn read_sealed(&mut self, range: BatchRange) -> BatchRange {
        let mut retries = 0;
        loop {
            match self.read(range.end, usize::MAX) {
                Ok(read) => return read,
                Err(ReadError::Io(_)) if retries < MAX_READ_RETRIES => {
                    retries += 1;
                    sleep(READ_RETRY_INTERVAL).await;
                }
                Err(_) => return BatchRange { end: range.start, frames: 0, ..range },
            }
        }
    }

    /// Posts a sealed batch until there is a verdict.
    async fn deliver(&mut self, batch: SealedBatch) -> Result<BatchEnd, SupervisorGone> {
        let SealedBatch { range, notice, id } = batch;
        self.seal_range.cursor = range.start;
        self.update();
        let is_gathered = self.gathered == range && !self.body.is_empty();
        let read = if is_gathered { range } else { self.read_sealed(range).await };
        if read != range {
            let ask = if read.frames > 0 { self.seal_request(read) } else { self.damaged_at(range.start) };
            self.send(ask).await?;
            return Ok(BatchEnd::Asked);
        }
        self.gathered = BatchRange::default();
        let mut body = std::mem::take(&mut self.body);
        if !notice.is_empty() {
            let frames = std::mem::replace(&mut body, BytesMut::from(&notice[..]));
            body.extend_from_slice(&frames);
        }
        let frames = range.frames + memchr::memchr_iter(b'\n', &notice).count() as u64;
        let request = BatchRequest { body: body.freeze(), frames, id };
        let smaller = self.post(range, &request).await?;
        // The buffer comes back when the client holds it no longer.
        self.body = request.body.try_into_mut().unwrap_or_default();
        if let Some(smaller) = smaller {
            self.body.clear();
            self.send(self.seal_request(smaller)).await?;
            return Ok(BatchEnd::Asked);
        }
        self.seal_range = SealRange { cursor: range.end, limit: Offset::MAX, is_one_batch: false };
        self.completed = Some(Instant::now());
        Ok(BatchEnd::Completed)
    }

    /// Attempts until there is a verdict; returns a smaller range when the batch has to be split.
    async fn post(
        &mut self,
        range: BatchRange,
        request: &BatchRequest,
    ) -> Result<Option<BatchRange>, SupervisorGone> {
        loop {
            let outcome = self.client.post(request).await;
            match outcome.verdict {
                Verdict::Delivered => {
                    self.backoff.next(outcome.verdict, None); // resets it
                    self.refuses_all_sizes = false;
                    self.send(ToSupervisor::Delivered { drain: self.drain }).await?;
                    return Ok(None);
                }
                Verdict::Split if range.frames > 1 => {
                    // Of the frames alone: a notice that is longer than they are would leave all of them in one half.
                    let half = range.end.bytes_since(range.start) as usize / 2;
                    // What was too large once will be so again.
                    self.limits.batch_bytes = self.limits.batch_bytes.min(half.max(MIN_BATCH_BYTES));
                    if let Ok(smaller) = self.read(range.end, half)
                        && smaller.end < range.end
                    {
                        let until = Instant::now() + self.backoff.next(Verdict::Split, outcome.retry_after);
                        self.send(ToSupervisor::TooLarge { drain: self.drain }).await?;
                        self.wait_until(until, outcome.retry_after).await?;
                        return Ok(Some(smaller));
                    }
                    self.reject(outcome).await?;
                    return Ok(None);
                }
                Verdict::Split | Verdict::Reject => {
                    self.refuses_all_sizes = outcome.verdict == Verdict::Split;
                    self.reject(outcome).await?;
                    return Ok(None);
                }
                Verdict::Retry | Verdict::Hold | Verdict::RetryUncompressed => self.wait(&outcome).await?,
            }
        }
    }

    /// The batch is refused for good. The next one waits: a drain that refuses everything is in trouble.
    async fn reject(&mut self, outcome: AttemptOutcome) -> Result<(), SupervisorGone> {
        let until = Instant::now() + self.backoff.next(Verdict::Reject, outcome.retry_after);
        let (status, detail) = (outcome.status.unwrap_or(0), outcome.detail);
        self.send(ToSupervisor::Rejected { drain: self.drain, status, detail }).await?;
        self.wait_until(until, outcome.retry_after).await
    }

    /// Waits until the next attempt; while stopping, no longer than the deadline allows.
    async fn wait(&mut self, outcome: &AttemptOutcome) -> Result<(), SupervisorGone> {
        let now = Instant::now();
        let until = now + self.backoff.next(outcome.verdict, outcome.retry_after);
        let deadline = self.channels.progress.borrow().deadline;
        self.send(ToSupervisor::AttemptFailed {
            drain: self.drain,
            status: outcome.status.unwrap_or(0),
            kind: if outcome.verdict == Verdict::Hold { FailureKind::Hold } else { FailureKind::Retry },
            wait: shortened(now, until, deadline, outcome.retry_after).saturating_duration_since(now),
            detail: outcome.detail.clone(),
        })
        .await?;
        self.wait_until(until, outcome.retry_after).await
    }

    /// Waits; while stopping, no longer than the deadline allows.
    async fn wait_until(
        &mut self,
        until: Instant,
        retry_after: Option<Duration>,
    ) -> Result<(), SupervisorGone> {
        loop {
            let deadline = self.update().deadline;
            let until = shortened(Instant::now(), until, deadline, retry_after);
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                changed = self.channels.progress.changed() => changed.map_err(|_| SupervisorGone)?,
            }
            if deadline.is_some() {
                // It is shortened already: only the first deadline changes the wait.
                sleep_until(until).await;
                return Ok(());
            }
        }
    }
}

/// What a worker acts on of [`SpoolProgress`].
struct Progress {
    log_end: Offset,
    deadline: Option<Instant>,
    is_finished: bool,
}

/// The end of a wait that takes at most half of the time until the deadline; and at most 2 s, unless the drain said
/// itself when to come back.
fn shortened(
    now: Instant,
    until: Instant,
    deadline: Option<Instant>,
    retry_after: Option<Duration>,
) -> Instant {
    let Some(deadline) = deadline else { return until };
    let half = (deadline.saturating_duration_since(now) / 2).max(*STOPPING_WAIT.start());
    let longest = if retry_after.is_some() { half } else { half.min(*STOPPING_WAIT.end()) };
    until.min(now + longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_short_while_stopping() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let wait = |wait: u32, deadline: Option<u32>, retry_after| {
            let at = |seconds: u32| now + second * seconds;
            shortened(now, at(wait), deadline.map(at), retry_after) - now
        };
        assert_eq!(wait(60, None, None), second * 60, "not stopping");
        assert_eq!(wait(60, Some(28), None), second * 2);
        assert_eq!(wait(1, Some(28), None), second);
        assert_eq!(wait(60, Some(3), None), second * 3 / 2, "half of what is left");
        assert_eq!(wait(60, Some(28), Some(second * 60)), second * 14, "the drain said when");
        assert_eq!(wait(60, Some(0), None), Duration::from_millis(100), "no loop without a pause");
    }
}
