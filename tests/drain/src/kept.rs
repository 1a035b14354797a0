//! The lines that are kept: whole bodies with the places of their frames, so that a line costs its bytes and
//! four more, and the raw frame of each is at hand.

use std::collections::VecDeque;
use std::sync::Arc;
use tailrace::frame::{self, Frame};

/// Most bytes of bodies that are kept, whatever the number of lines.
const MAX_BYTES: usize = 256 << 20;

/// The frames of one request.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Number of the first line; they count from 0.
    pub(crate) first: u64,
    /// When it came, in µs since the Unix epoch.
    pub(crate) at: u64,
    /// The drain token.
    pub(crate) token: String,
    body: Box<[u8]>,
    offsets: Box<[u32]>,
}

impl Chunk {
    /// The number behind its last line.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.offsets.len() as u64
    }

    /// Line number `line`, and its bytes.
    pub(crate) fn get(&self, line: u64) -> Option<(Frame<'_>, &[u8])> {
        let offset = *self.offsets.get(usize::try_from(line.checked_sub(self.first)?).ok()?)? as usize;
        let frame = frame::parse(&self.body, offset).ok()?;
        Some((frame, &self.body[offset..offset + frame.total]))
    }
}

/// The last lines.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    keep: usize,
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    next: u64,
}

impl Kept {
    /// Keeps the last `keep` lines, or fewer when they are longer than 1 KiB on average.
    pub(crate) fn new(keep: usize) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Adds the frames of `body`.
    pub(crate) fn add(&mut self, at: u64, token: &str, body: &[u8], frames: &[Frame<'_>]) {
        if self.keep == 0 || frames.is_empty() {
            return;
        }
        let mut end = 0;
        let offsets = frames.iter().map(|frame| {
            let offset = end;
            end += frame.total;
            offset as u32 // a body has at most 64 MiB
        });
        let offsets: Box<[u32]> = offsets.collect();
        let chunk =
            Chunk { first: self.next, at, token: token.to_owned(), body: body[..end].into(), offsets };
        self.next = chunk.end();
        self.bytes += end;
        self.chunks.push_back(Arc::new(chunk));
        while let Some(oldest) = self.chunks.front()
            && (self.bytes > MAX_BYTES || self.next - oldest.end() >= self.keep as u64)
        {
            self.bytes -= oldest.body.len();
            self.chunks.pop_front();
        }
    }

    /// The number of the oldest line.
    pub(crate) fn first(&self) -> u64 {
        let oldest = self.chunks.front().map_or(self.next, |chunk| chunk.first);
        oldest.max(self.next.saturating_sub(self.keep as u64))
    }

    /// The number that the next line will get.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The chunks with lines from number `from` on; to be looked at without holding a lock.
    pub(crate) fn since(&self, from: u64) -> Vec<Arc<Chunk>> {
        let skip = self.chunks.partition_point(|chunk| chunk.end() <= from);
        self.chunks.range(skip..).cloned().collect()
    }
}
