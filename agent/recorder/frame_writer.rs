//! Frames on their way to the spool, with the kinds that the ledger needs.

use super::FrameFormat;
use crate::frame::AgentLine;
use crate::frame::LossNotices;
use crate::frame::{ClockStep, Encoder, Field, FrameClock, PRI_APP};
use crate::frame::{DropReason, Loss};
use crate::ledger::{Appended, FrameKind};
use crate::line::{Fragment, Stream};
use crate::spool::{SpoolError, Writer};

/// Bytes of frames that are gathered at most before they are appended.
const MOST: usize = 256 << 10;

pub(super) struct FrameWriter<'a> {
    writer: Writer<'a>,
    encoder: Encoder,
    notices: LossNotices,
    host: Field,
    proc_id: Field,
    stamper: FrameClock,
    now: u64,
    out: Vec<u8>,
    appended: Appended,
    /// Lines that ended and were appended since `begin`.
    ended: u64,
    lost: bool,
    #[cfg(test)]
    pub(super) panic_at: Option<&'static [u8]>,
}

impl<'a> FrameWriter<'a> {
    pub(super) fn new(writer: Writer<'a>, look: &FrameFormat) -> Self {
        Self {
            writer,
            encoder: Encoder::new(PRI_APP, &look.host, &look.app, &look.proc_id),
            notices: LossNotices::new(&look.host, &look.source),
            host: look.host.clone(),
            proc_id: look.proc_id.clone(),
            stamper: FrameClock::default(),
            now: 0,
            out: Vec::new(),
            appended: Appended::default(),
            ended: 0,
            lost: false,
            #[cfg(test)]
            panic_at: None,
        }
    }

    pub(super) fn observe(&mut self, now: u64) -> ClockStep {
        self.now = now;
        self.stamper.observe(now)
    }

    pub(super) fn begin(&mut self) {
        self.ended = 0;
    }

    pub(super) fn frame(&mut self, stream: Stream, msg: &[u8], piece: Fragment) {
        #[cfg(test)]
        assert_ne!(self.panic_at, Some(msg), "the fault that a test asked for");
        if piece == Fragment::EmptyFinal {
            return self.close(stream, FrameKind::Final(stream));
        }
        if self.out.len() + self.encoder.header_len() + msg.len() + 8 > MOST {
            self.append();
        }
        if let Some(kind) = FrameKind::of(piece, stream) {
            self.appended.kinds.push((self.out.len() as u32, kind));
        }
        let stamp = self.stamper.next(self.now);
        self.encoder.encode(&mut self.out, stamp, msg);
        self.appended.ended += u64::from(piece != Fragment::Partial);
        self.count(stamp);
    }

    /// The line under way ended with the part that went before; here or in what was appended earlier.
    fn close(&mut self, stream: Stream, how: FrameKind) {
        self.appended.ended += 1;
        let of_stream = |kind: &FrameKind| matches!(kind, FrameKind::Partial(s) | FrameKind::Final(s) | FrameKind::Incomplete(s, _) if *s == stream);
        match self.appended.kinds.iter_mut().rev().find(|(_, kind)| of_stream(kind)) {
            Some((_, kind)) => *kind = how,
            None => self.appended.closed.push(how),
        }
    }

    /// The line under way, of which a part went out, will not be whole.
    pub(super) fn mark_incomplete(&mut self, stream: Stream, reason: DropReason) {
        self.close(stream, FrameKind::Incomplete(stream, reason));
    }

    pub(super) fn notice(&mut self, loss: &Loss) {
        self.appended.kinds.push((self.out.len() as u32, FrameKind::Agent));
        // The last line that is missing may be older than what the other stream has here already.
        let stamp = self.stamper.next(loss.until);
        self.notices.encode(&mut self.out, stamp, loss);
        self.count(stamp);
    }

    /// A frame of our own.
    pub(super) fn agent_line(&mut self, line: &AgentLine) {
        self.appended.kinds.push((self.out.len() as u32, FrameKind::Agent));
        let stamp = self.stamper.next(self.now);
        line.encode(&mut self.out, stamp, &self.host, &self.proc_id);
        self.count(stamp);
    }

    fn count(&mut self, stamp: u64) {
        self.appended.frames += 1;
        let first = self.appended.times.map_or(stamp, |(first, _)| first);
        self.appended.times = Some((first, stamp));
    }

    /// Appends what was gathered.
    pub(super) fn append(&mut self) {
        if self.out.is_empty() && self.appended.closed.is_empty() {
            return;
        }
        self.appended.len = self.out.len() as u64;
        let written = self.writer.append(&self.out, &self.appended);
        self.lost |= !written;
        self.ended += self.appended.ended;
        self.clear();
    }

    fn clear(&mut self) {
        self.out.clear();
        self.appended.kinds.clear();
        self.appended.closed.clear();
        (self.appended.len, self.appended.frames, self.appended.ended) = (0, 0, 0);
        self.appended.times = None;
    }

    /// Forgets what was gathered and not appended; says how many lines ended and were, since `begin`.
    pub(super) fn discard(&mut self) -> u64 {
        self.clear();
        self.ended
    }

    /// Whether something could be written nowhere, since the last time.
    pub(super) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    pub(super) fn take_warning(&mut self) -> Option<SpoolError> {
        self.writer.take_warning()
    }

    pub(super) fn release_memory(&mut self) {
        self.out = Vec::new();
    }
}
