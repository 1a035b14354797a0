//! A bounded pool of buffers, made when they are first needed.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes of a buffer.
pub const BUFFER: usize = 256 << 10;
/// Buffers at most: 4 MiB.
pub const BUFFERS: usize = 16;
/// The pool.
#[derive(Debug)]
pub struct BufferPool {
    give: Sender<Vec<u8>>,
    take: Receiver<Vec<u8>>,
    made: AtomicUsize,
    most: usize,
    size: usize,
    /// Nobody gave a buffer back within the last wait: the next one does not wait.
    stalled: AtomicBool,
}

impl BufferPool {
    /// A pool of at most `most` buffers of `size` bytes.
    pub fn new(most: usize, size: usize) -> Arc<Self> {
        let (give, take) = bounded(most);
        Arc::new(Self { give, take, made: AtomicUsize::new(0), most, size, stalled: AtomicBool::new(false) })
    }

    /// A buffer, if one is free or may be made. The pages of a new one cost nothing until they are written to.
    pub fn take(self: &Arc<Self>) -> Option<Buffer> {
        let bytes = self.take.try_recv().ok().or_else(|| {
            let made = self.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |made| {
                (made < self.most).then_some(made + 1)
            });
            made.ok().map(|_| vec![0; self.size])
        })?;
        Some(Buffer { bytes, len: 0, pool: Arc::clone(self) })
    }

    /// A buffer, if one is free, may be made, or comes back within `patience`. Once that was in vain nobody waits
    /// until a buffer came back.
    pub fn take_within(self: &Arc<Self>, patience: Duration) -> Option<Buffer> {
        if let Some(buffer) = self.take() {
            return Some(buffer);
        }
        if self.stalled.load(Ordering::Relaxed) {
            return None;
        }
        if let Ok(bytes) = self.take.recv_timeout(patience) {
            return Some(Buffer { bytes, len: 0, pool: Arc::clone(self) });
        }
        self.stalled.store(true, Ordering::Relaxed);
        None
    }

    /// Gives the memory of the free buffers back to the system.
    pub fn trim(&self) {
        while self.take.try_recv().is_ok() {
            self.made.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A buffer of a pool, which gets it back when this is dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    pool: Arc<BufferPool>,
}

impl Buffer {
    /// All of it, to read into.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `len` bytes are what it holds.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.bytes.len());
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.stalled.store(false, Ordering::Relaxed);
        // The channel has room for as many as were ever made.
        if self.pool.give.try_send(std::mem::take(&mut self.bytes)).is_err() {
            self.pool.made.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
