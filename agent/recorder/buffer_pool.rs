//! A bounded pool of buffers, allocated when they are first needed.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes of a buffer.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;
/// Buffers at most: 4 MiB.
pub(crate) const MAX_BUFFERS: usize = 16;
/// The pool.
#[derive(Debug)]
pub(crate) struct BufferPool {
    returned: Sender<Vec<u8>>,
    free: Receiver<Vec<u8>>,
    /// Buffers that exist.
    made: AtomicUsize,
    most: usize,
    /// Bytes of a buffer.
    size: usize,
    /// The last wait for a buffer timed out: no other waits until one comes back.
    stalled: AtomicBool,
}

impl BufferPool {
    /// A pool of at most `most` buffers of `size` bytes.
    pub(crate) fn new(most: usize, size: usize) -> Arc<Self> {
        let (returned, free) = bounded(most);
        Arc::new(Self {
            returned,
            free,
            made: AtomicUsize::new(0),
            most,
            size,
            stalled: AtomicBool::new(false),
        })
    }

    /// A buffer, if one is free or may be allocated. The pages of a new one take no memory until they are written to.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Buffer> {
        let bytes = self.free.try_recv().ok().or_else(|| {
            let made = self.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |made| {
                (made < self.most).then_some(made + 1)
            });
            made.ok().map(|_| vec![0; self.size])
        })?;
        Some(Buffer { bytes, len: 0, pool: Arc::clone(self) })
    }

    /// A buffer, if one is free, may be allocated, or comes back within `timeout`. After a wait that timed out nobody
    /// waits until a buffer has come back.
    pub(crate) fn take_within(self: &Arc<Self>, timeout: Duration) -> Option<Buffer> {
        if let Some(buffer) = self.take() {
            return Some(buffer);
        }
        if self.stalled.load(Ordering::Relaxed) {
            return None;
        }
        if let Ok(bytes) = self.free.recv_timeout(timeout) {
            return Some(Buffer { bytes, len: 0, pool: Arc::clone(self) });
        }
        self.stalled.store(true, Ordering::Relaxed);
        None
    }

    /// Frees the buffers that are not in use.
    pub(crate) fn trim(&self) {
        while self.free.try_recv().is_ok() {
            self.made.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A buffer of a pool. Returns to the pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    pool: Arc<BufferPool>,
}

impl Buffer {
    /// All of its space, to read into.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Declares the first `len` bytes as its content.
    pub(crate) fn set_len(&mut self, len: usize) {
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
        // Never full: it has room for as many buffers as may exist.
        if self.pool.returned.try_send(std::mem::take(&mut self.bytes)).is_err() {
            self.pool.made.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
