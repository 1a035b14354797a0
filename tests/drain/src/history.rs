//! The history of received lines. It stores whole bodies with the offsets of their frames: a line costs its bytes plus
//! four, and its raw frame stays available.

use crate::stats::LossNotices;
use std::collections::VecDeque;
use std::sync::Arc;
use tailrace::frame::{self, Frame};

/// Most bytes of bodies in the history, whatever the number of lines.
pub(crate) const MAX_BYTES: usize = 256 << 20;

/// A body and the offsets of its frames.
#[derive(Debug, Default)]
pub(crate) struct FrameBytes {
    pub(crate) body: Box<[u8]>,
    pub(crate) offsets: Box<[u32]>,
}

impl FrameBytes {
    /// Splits `body` into consecutive frames of these lengths.
    pub(crate) fn new(body: &[u8], lengths: impl Iterator<Item = usize>) -> Self {
        let mut end = 0;
        let offsets = lengths.map(|length| {
            let offset = end;
            end += length;
            offset as u32 // a body has at most 64 MiB
        });
        let offsets: Box<[u32]> = offsets.collect();
        Self { body: body[..end].into(), offsets }
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let start = *self.offsets.get(index)? as usize;
        let end = self.offsets.get(index + 1).map_or(self.body.len(), |next| *next as usize);
        self.body.get(start..end)
    }
}

/// The frames of one request.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Number of the first line. Numbers count from 0 and are not reused.
    pub(crate) first: u64,
    /// Time of arrival, in µs since the Unix epoch.
    pub(crate) at: u64,
    /// The drain token.
    pub(crate) token: String,
    /// Whether its loss notices are counted.
    pub(crate) loss_notices: LossNotices,
    frames: FrameBytes,
    /// The frames as received, where normalization changed them.
    raw: Option<FrameBytes>,
}

impl Chunk {
    /// The number after its last line.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.frames.offsets.len() as u64
    }

    /// The frame of line number `line`, and its bytes.
    pub(crate) fn get(&self, line: u64) -> Option<(Frame<'_>, &[u8])> {
        let bytes = self.bytes_of(line)?;
        Some((frame::parse(bytes, 0).ok()?, bytes))
    }

    /// The bytes of the frame of line number `line`.
    pub(crate) fn bytes_of(&self, line: u64) -> Option<&[u8]> {
        self.frames.get(self.index(line)?)
    }

    /// The bytes of line number `line` as they were received.
    pub(crate) fn raw(&self, line: u64) -> Option<&[u8]> {
        self.raw.as_ref().unwrap_or(&self.frames).get(self.index(line)?)
    }

    fn index(&self, line: u64) -> Option<usize> {
        usize::try_from(line.checked_sub(self.first)?).ok()
    }

    fn bytes(&self) -> usize {
        self.frames.body.len() + self.raw.as_ref().map_or(0, |raw| raw.body.len())
    }
}

/// What the history stores of a request.
#[derive(Debug)]
pub(crate) struct NewRequest<'a> {
    pub(crate) at: u64,
    pub(crate) token: &'a str,
    pub(crate) loss_notices: LossNotices,
    pub(crate) body: &'a [u8],
    pub(crate) frames: &'a [Frame<'a>],
    pub(crate) raw: Option<FrameBytes>,
}

/// The last lines that were received.
#[derive(Debug, Default)]
pub(crate) struct History {
    max_lines: usize,
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    next: u64,
}

impl History {
    /// Holds the last `max_lines` lines, or fewer when their bodies exceed [`MAX_BYTES`].
    pub(crate) fn new(max_lines: usize) -> Self {
        Self { max_lines, ..Self::default() }
    }

    /// Adds the frames of a request.
    pub(crate) fn add(&mut self, NewRequest { at, token, loss_notices, body, frames, raw }: NewRequest<'_>) {
        if self.max_lines == 0 || frames.is_empty() {
            return;
        }
        let frames = FrameBytes::new(body, frames.iter().map(|frame| frame.total));
        let chunk = Chunk { first: self.next, at, token: token.to_owned(), loss_notices, frames, raw };
        self.next = chunk.end();
        self.bytes += chunk.bytes();
        self.chunks.push_back(Arc::new(chunk));
        while let Some(oldest) = self.chunks.front()
            && (self.bytes > MAX_BYTES || self.next - oldest.end() >= self.max_lines as u64)
        {
            self.bytes -= oldest.bytes();
            self.chunks.pop_front();
        }
    }

    /// The number of the oldest line.
    pub(crate) fn first(&self) -> u64 {
        let oldest = self.chunks.front().map_or(self.next, |chunk| chunk.first);
        oldest.max(self.next.saturating_sub(self.max_lines as u64))
    }

    /// The number that the next line will get.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes of the bodies in the history.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most lines that it holds.
    pub(crate) fn max_lines(&self) -> usize {
        self.max_lines
    }

    /// The chunks with lines from number `from` on. The caller can read them after it has released the lock.
    pub(crate) fn since(&self, from: u64) -> Vec<Arc<Chunk>> {
        let skip = self.chunks.partition_point(|chunk| chunk.end() <= from);
        self.chunks.range(skip..).cloned().collect()
    }
}
