//! A shipper without network and timers: it asks what `shipper::worker` asks, one message at a time.

use super::drain::{Answer, Drain};
use crate::ledger::{BatchRange, DrainIndex, Offset, SealRange, SealedBatch, SegmentStart};
use crate::protocol::{Decoder, FailureKind, Message, ToShipper, ToSupervisor};
use crate::spool::{ReadError, Reader};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What a worker does next.
#[derive(Debug, Default)]
enum State {
    /// It waits for an answer of the supervisor.
    #[default]
    Waiting,
    Gathering,
    Posting(SealedBatch),
    /// It asks for a smaller batch.
    Splitting(BatchRange),
}

#[derive(Debug)]
struct Worker {
    drain: DrainIndex,
    batch_bytes: usize,
    reader: Reader,
    inbox: VecDeque<ToShipper>,
    state: State,
    seal_range: SealRange,
    may_have_notice: bool,
    asked_at_end: Option<Offset>,
}

/// What the supervisor told.
#[derive(Debug, Default)]
struct Progress {
    segments: Vec<SegmentStart>,
    log_end: Offset,
    is_finished: bool,
}

/// A shipper.
#[derive(Debug)]
pub(super) struct Shipper {
    socket: UnixStream,
    decoder: Decoder,
    progress: Progress,
    workers: Vec<Worker>,
}

impl Shipper {
    pub(super) fn new(socket: UnixStream, drains: usize, batch_bytes: usize) -> Self {
        socket.set_nonblocking(true).expect("non-blocking");
        let worker = |drain| Worker {
            drain,
            batch_bytes,
            reader: Reader::new(None),
            inbox: VecDeque::new(),
            state: State::Waiting,
            seal_range: SealRange { cursor: Offset::ZERO, limit: Offset::MAX, is_one_batch: false },
            may_have_notice: false,
            asked_at_end: None,
        };
        let workers = DrainIndex::all(drains).map(worker).collect();
        Self { socket, decoder: Decoder::default(), progress: Progress::default(), workers }
    }

    /// Sends a message; a supervisor that closed the connection gets nothing.
    pub(super) fn send(&mut self, message: &ToSupervisor) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.socket.write_all(&bytes).ok(); // closed, see above
    }

    /// Takes in what the supervisor sent. Returns the number of messages.
    pub(super) fn receive(&mut self) -> usize {
        let mut bytes = [0; 4096];
        while let Ok(more @ 1..) = self.socket.read(&mut bytes) {
            self.decoder.push(&bytes[..more]);
        }
        let mut count = 0;
        while let Some(message) = self.decoder.take::<ToShipper>() {
            count += 1;
            match message.expect("a message") {
                ToShipper::Segment(segment) => self.progress.segments.push(segment),
                ToShipper::LogEnd(log_end) => self.progress.log_end = log_end,
                ToShipper::EndOfLog => self.progress.is_finished = true,
                message @ (ToShipper::SealRange { drain, .. } | ToShipper::SealedBatch { drain, .. }) => {
                    self.workers[drain.get()].inbox.push_back(message);
                }
                ToShipper::Deadline(_) | ToShipper::ClearPendingSignals => {}
            }
        }
        count
    }

    /// The next message of a drain's worker, if it has one.
    pub(super) fn step(&mut self, drain: usize, server: &mut Drain) -> Option<ToSupervisor> {
        self.workers[drain].step(&self.progress, server)
    }
}

impl Worker {
    fn step(&mut self, progress: &Progress, server: &mut Drain) -> Option<ToSupervisor> {
        self.reader.update(&progress.segments, self.seal_range.cursor);
        if let State::Waiting = self.state {
            self.state = match self.inbox.pop_front()? {
                ToShipper::SealedBatch { batch, .. } => State::Posting(batch),
                ToShipper::SealRange { range, .. } => {
                    self.seal_range = range;
                    State::Gathering
                }
                other => panic!("{other:?}"),
            };
        }
        match std::mem::take(&mut self.state) {
            State::Waiting => None,
            State::Gathering => {
                let question = self.gather(progress);
                if question.is_none() {
                    self.state = State::Gathering;
                }
                question
            }
            State::Posting(batch) => Some(self.post(batch, server)),
            State::Splitting(range) => Some(ToSupervisor::SealRequest { drain: self.drain, range }),
        }
    }

    fn damaged_at(&mut self, at: Offset) -> ToSupervisor {
        self.may_have_notice = true;
        ToSupervisor::SpoolDamaged { drain: self.drain, at }
    }

    fn gather(&mut self, progress: &Progress) -> Option<ToSupervisor> {
        let drain = self.drain;
        let SealRange { cursor, limit, is_one_batch } = self.seal_range;
        let nothing =
            ToSupervisor::SealRequest { drain, range: BatchRange { start: cursor, end: cursor, frames: 0 } };
        if progress.log_end.min(limit).bytes_since(cursor) == 0 {
            if cursor < progress.log_end {
                return Some(nothing);
            }
            if self.may_have_notice || (progress.is_finished && self.asked_at_end != Some(cursor)) {
                self.may_have_notice = false;
                self.asked_at_end = progress.is_finished.then_some(cursor);
                return Some(nothing);
            }
            return None;
        }
        let max = if is_one_batch { usize::MAX } else { self.batch_bytes };
        Some(match self.reader.read(cursor, limit, max, &mut BytesMut::new()) {
            Ok(range) if range.frames > 0 && is_one_batch && range.end < limit => self.damaged_at(range.end),
            Ok(range) if range.frames > 0 => ToSupervisor::SealRequest { drain, range },
            Err(ReadError::Damaged { at } | ReadError::Gone { at }) if at > cursor && is_one_batch => {
                self.damaged_at(at)
            }
            Err(ReadError::Damaged { at } | ReadError::Gone { at }) if at > cursor => {
                self.seal_range.limit = at;
                return self.gather(progress);
            }
            Ok(_) | Err(_) => self.damaged_at(cursor),
        })
    }

    fn post(&mut self, batch: SealedBatch, server: &mut Drain) -> ToSupervisor {
        let (drain, range) = (self.drain, batch.range);
        self.seal_range.cursor = range.start;
        let mut frames = BytesMut::new();
        let read = self.reader.read(range.start, range.end, usize::MAX, &mut frames);
        let read = read.unwrap_or(BatchRange { end: range.start, frames: 0, ..range });
        if read != range {
            let smaller = ToSupervisor::SealRequest { drain, range: read };
            return if read.frames > 0 { smaller } else { self.damaged_at(range.start) };
        }
        let body = [&batch.notice, &frames[..]].concat();
        let count = range.frames + memchr::memchr_iter(b'\n', &batch.notice).count() as u64;
        let answer = server.post(&batch.id, &body, count);
        let half = self.reader.read(range.start, range.end, body.len() / 2, &mut BytesMut::new());
        let half = half.ok().filter(|half| range.frames > 1 && half.end < range.end);
        if let Answer::Fail | Answer::AcceptUnheard = answer {
            self.state = State::Posting(batch);
            let (status, kind, wait) = (503, FailureKind::Retry, Duration::ZERO);
            return ToSupervisor::AttemptFailed { drain, status, kind, wait, detail: String::new() };
        }
        if let (Answer::TooLarge, Some(half)) = (answer, half) {
            self.state = State::Splitting(half);
            return ToSupervisor::TooLarge { drain };
        }
        self.state = State::Gathering;
        self.seal_range = SealRange { cursor: range.end, limit: Offset::MAX, is_one_batch: false };
        if answer == Answer::Accept {
            return ToSupervisor::Delivered { drain };
        }
        server.refuse(&frames);
        ToSupervisor::Rejected { drain, status: 400, detail: String::new() }
    }
}
