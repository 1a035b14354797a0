//! A bounded pool of buffers, allocated when they are first needed.

use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of a buffer.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;
/// Buffers at most: 4 MiB.
pub(crate) const MAX_BUFFERS: usize = 16;

/// The pool.
#[derive(Debug)]
pub(crate) struct BufferPool {
    state: Mutex<State>,
    /// A buffer came back, or more may be allocated.
    changed: Condvar,
    most: usize,
    /// Bytes of a buffer.
    size: usize,
}

#[derive(Debug, Default)]
struct State {
    /// The one that was used last is taken first: it is the likeliest to be in the processor's cache.
    free: Vec<Vec<u8>>,
    /// Buffers that exist.
    made: usize,
    /// The last wait for a buffer timed out: no other waits until one comes back.
    is_stalled: bool,
}

impl BufferPool {
    /// A pool of at most `most` buffers of `size` bytes.
    pub(crate) fn new(most: usize, size: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), most, size })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer, if one is free, may be allocated, or comes back within `timeout`. After a wait that timed out nobody
    /// waits until a buffer has come back. The pages of a new one take no memory until they are written to.
    pub(crate) fn take_within(self: &Arc<Self>, timeout: Duration) -> Option<Buffer> {
        let is_none_left = |state: &mut State| state.free.is_empty() && state.made >= self.most;
        let mut state = self.lock();
        if !state.is_stalled {
            state = self
                .changed
                .wait_timeout_while(state, timeout, is_none_left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let bytes = state.free.pop().or_else(|| {
            (state.made < self.most).then(|| {
                state.made += 1;
                vec![0; self.size]
            })
        });
        state.is_stalled = bytes.is_none();
        Some(Buffer { bytes: bytes?, len: 0, pool: Arc::clone(self) })
    }

    /// Frees the buffers that are not in use.
    pub(crate) fn trim(&self) {
        let mut state = self.lock();
        state.made -= state.free.len();
        state.free = Vec::new();
        state.is_stalled = false;
        self.changed.notify_all();
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
        let mut state = self.pool.lock();
        state.free.push(std::mem::take(&mut self.bytes));
        state.is_stalled = false;
        self.pool.changed.notify_one();
    }
}
