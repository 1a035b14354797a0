//! The lines that are kept: whole bodies with the places of their frames, so that a line costs its bytes and
//! four more, and the raw frame of each is at hand.

use std::collections::VecDeque;
use std::sync::Arc;
use tailrace::frame::{self, Frame};

/// Most bytes of bodies that are kept, whatever the number of lines.
pub(crate) const MAX_BYTES: usize = 256 << 20;

/// Bytes, and where the frames in them start.
#[derive(Debug, Default)]
pub(crate) struct FrameBytes {
    pub(crate) body: Box<[u8]>,
    pub(crate) offsets: Box<[u32]>,
}

impl FrameBytes {
    /// `body`, of which frame after frame has so many bytes.
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
    /// Number of the first line; they count from 0.
    pub(crate) first: u64,
    /// When it came, in µs since the Unix epoch.
    pub(crate) at: u64,
    /// The drain token.
    pub(crate) token: String,
    /// No note was taken of its loss notices.
    pub(crate) ignores_losses: bool,
    frames: FrameBytes,
    /// As they came, where that was something else: the platform's frames may lack their end.
    raw: Option<FrameBytes>,
}

impl Chunk {
    /// The number behind its last line.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.frames.offsets.len() as u64
    }

    /// Line number `line`, and the bytes that it was read from.
    pub(crate) fn get(&self, line: u64) -> Option<(Frame<'_>, &[u8])> {
        let bytes = self.bytes_of(line)?;
        Some((frame::parse(bytes, 0).ok()?, bytes))
    }

    /// The bytes of line number `line`.
    pub(crate) fn bytes_of(&self, line: u64) -> Option<&[u8]> {
        self.frames.get(self.index(line)?)
    }

    /// The bytes of line number `line`, as they came.
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

/// What is to be kept of a request.
#[derive(Debug)]
pub(crate) struct NewRequest<'a> {
    pub(crate) at: u64,
    pub(crate) token: &'a str,
    pub(crate) ignores_losses: bool,
    pub(crate) body: &'a [u8],
    pub(crate) frames: &'a [Frame<'a>],
    pub(crate) raw: Option<FrameBytes>,
}

/// The last lines.
#[derive(Debug, Default)]
pub(crate) struct History {
    keep: usize,
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    next: u64,
}

impl History {
    /// Keeps the last `keep` lines, or fewer when they are longer than 1 KiB on average.
    pub(crate) fn new(keep: usize) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Adds the frames of a request.
    pub(crate) fn add(
        &mut self,
        NewRequest { at, token, ignores_losses, body, frames, raw }: NewRequest<'_>,
    ) {
        if self.keep == 0 || frames.is_empty() {
            return;
        }
        let frames = FrameBytes::new(body, frames.iter().map(|frame| frame.total));
        let chunk = Chunk { first: self.next, at, token: token.to_owned(), ignores_losses, frames, raw };
        self.next = chunk.end();
        self.bytes += chunk.bytes();
        self.chunks.push_back(Arc::new(chunk));
        while let Some(oldest) = self.chunks.front()
            && (self.bytes > MAX_BYTES || self.next - oldest.end() >= self.keep as u64)
        {
            self.bytes -= oldest.bytes();
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

    /// How many lines are kept at most.
    pub(crate) fn most(&self) -> usize {
        self.keep
    }

    /// The chunks with lines from number `from` on; to be looked at without holding a lock.
    pub(crate) fn since(&self, from: u64) -> Vec<Arc<Chunk>> {
        let skip = self.chunks.partition_point(|chunk| chunk.end() <= from);
        self.chunks.range(skip..).cloned().collect()
    }
}
