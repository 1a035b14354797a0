//! Frames on their way to the spool, and what the ledger has to know of them.

use super::FrameFormat;
use crate::frame::{
    AgentLine, ClockStep, DropReason, Encoder, Field, FrameClock, Loss, LossNotices, PRI_APP, Timestamp,
};
use crate::ledger::{Appended, FrameKind, SpecialFrame, SpooledNotice, TimeRange};
use crate::line::{Fragment, Stream};
use crate::spool::{AppendOutcome, SpoolError, Writer};

/// Bytes of frames that are gathered before they are appended, at most.
const MAX_PENDING_BYTES: usize = 256 << 10;

pub(super) struct FrameWriter<'a> {
    writer: Writer<'a>,
    encoder: Encoder,
    loss_notices: LossNotices,
    host: Field,
    proc_id: Field,
    clock: FrameClock,
    /// The time of the input that is being recorded.
    now: Timestamp,
    /// Frames that are not appended yet.
    pending: Vec<u8>,
    /// What is to be booked for them.
    appended: Appended,
    /// Lines that ended and were appended since `begin`.
    ended: u64,
    outcome: AppendOutcome,
    #[cfg(test)]
    pub(super) panic_at: Option<&'static [u8]>,
}

impl<'a> FrameWriter<'a> {
    pub(super) fn new(writer: Writer<'a>, format: &FrameFormat) -> Self {
        Self {
            writer,
            encoder: Encoder::new(PRI_APP, &format.host, &format.app, &format.proc_id),
            loss_notices: LossNotices::new(&format.host, &format.source),
            host: format.host.clone(),
            proc_id: format.proc_id.clone(),
            clock: FrameClock::default(),
            now: Timestamp::default(),
            pending: Vec::new(),
            appended: Appended::default(),
            ended: 0,
            outcome: AppendOutcome::Written,
            #[cfg(test)]
            panic_at: None,
        }
    }

    /// What follows was read at `now`.
    pub(super) fn observe(&mut self, now: Timestamp) -> ClockStep {
        self.now = now;
        self.clock.observe(now)
    }

    /// The time of the input that is being recorded.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Starts counting the lines that end, for [`FrameWriter::discard`].
    pub(super) fn begin(&mut self) {
        self.ended = 0;
    }

    /// Adds a message of the app.
    pub(super) fn message(&mut self, stream: Stream, msg: &[u8], fragment: Fragment) {
        #[cfg(test)]
        assert_ne!(self.panic_at, Some(msg), "the panic that a test asked for");
        if fragment == Fragment::EmptyFinal {
            return self.close_line(stream, FrameKind::Final(stream));
        }
        if self.pending.len() + self.encoder.header_len() + msg.len() + 8 > MAX_PENDING_BYTES {
            self.append();
        }
        if let Some(kind) = FrameKind::of(fragment, stream) {
            self.add_special(kind);
        }
        let time = self.clock.next(self.now);
        self.encoder.encode(&mut self.pending, time, msg);
        self.appended.ended += u64::from(fragment != Fragment::Partial);
        self.count(time);
    }

    fn add_special(&mut self, kind: FrameKind) {
        self.appended.special.push(SpecialFrame { offset: self.pending.len() as u32, kind });
    }

    /// The line under way ended with its last part: one that is still pending, or one that was appended earlier.
    fn close_line(&mut self, stream: Stream, kind: FrameKind) {
        self.appended.ended += 1;
        let mut pending = self.appended.special.iter_mut().rev();
        match pending.find(|frame| frame.kind.stream() == Some(stream)) {
            Some(frame) => frame.kind = kind,
            None => self.appended.closed.push(kind),
        }
    }

    /// The rest of the line under way, of which a part is recorded, is dropped.
    pub(super) fn mark_incomplete(&mut self, stream: Stream, reason: DropReason) {
        self.close_line(stream, FrameKind::Incomplete(stream, reason));
    }

    /// Adds a loss notice. Its time is that of the last missing line, or later where the other stream has later
    /// frames already.
    pub(super) fn loss_notice(&mut self, loss: &Loss) {
        self.add_special(FrameKind::Agent);
        self.appended.notices.push(SpooledNotice { offset: self.pending.len() as u32, loss: *loss });
        let time = self.clock.next(loss.until);
        self.loss_notices.encode(&mut self.pending, time, loss);
        self.count(time);
    }

    /// Adds a line of the agent itself.
    pub(super) fn agent_line(&mut self, line: &AgentLine) {
        self.add_special(FrameKind::Agent);
        let time = self.clock.next(self.now);
        line.encode(&mut self.pending, time, &self.host, &self.proc_id);
        self.count(time);
    }

    fn count(&mut self, time: Timestamp) {
        self.appended.frames += 1;
        let times = TimeRange { first: time, last: time };
        self.appended.times = Some(TimeRange::extended(self.appended.times, times));
    }

    /// Appends the pending frames to the spool.
    pub(super) fn append(&mut self) {
        if self.pending.is_empty() && self.appended.closed.is_empty() {
            return;
        }
        self.appended.len = self.pending.len() as u64;
        if self.writer.append(&self.pending, &self.appended) == AppendOutcome::Dropped {
            self.outcome = AppendOutcome::Dropped;
        }
        self.ended += self.appended.ended;
        self.clear();
    }

    fn clear(&mut self) {
        self.pending.clear();
        self.appended.special.clear();
        self.appended.closed.clear();
        self.appended.notices.clear();
        (self.appended.len, self.appended.frames, self.appended.ended) = (0, 0, 0);
        self.appended.times = None;
    }

    /// Discards the pending frames. Returns the lines that ended and were appended since [`FrameWriter::begin`].
    pub(super) fn discard(&mut self) -> u64 {
        self.clear();
        self.ended
    }

    /// Whether all appends since the last call were written.
    pub(super) fn take_outcome(&mut self) -> AppendOutcome {
        std::mem::replace(&mut self.outcome, AppendOutcome::Written)
    }

    pub(super) fn take_warning(&mut self) -> Option<SpoolError> {
        self.writer.take_warning()
    }

    pub(super) fn release_memory(&mut self) {
        self.pending = Vec::new();
    }
}
