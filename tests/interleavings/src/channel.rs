//! `crossbeam_channel`, as far as the agent's sources need it.

use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::collections::VecDeque;
use std::fmt;

/// What both ends share.
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    changed: Condvar,
}

struct Queue<T> {
    messages: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receivers: usize,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending end.
pub struct Sender<T>(Arc<Shared<T>>);

/// The receiving end.
pub struct Receiver<T>(Arc<Shared<T>>);

/// Nothing came, or nobody takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

/// A channel of so many messages.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue { messages: VecDeque::new(), capacity, senders: 1, receivers: 1 };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Sends a message if there is room and somebody to take it.
    ///
    /// # Errors
    /// `Failed`.
    pub fn try_send(&self, message: T) -> Result<(), Failed> {
        let mut queue = self.0.lock();
        if queue.messages.len() >= queue.capacity || queue.receivers == 0 {
            return Err(Failed);
        }
        queue.messages.push_back(message);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// A message if there is one.
    ///
    /// # Errors
    /// `Failed`.
    pub fn try_recv(&self) -> Result<T, Failed> {
        self.0.lock().messages.pop_front().ok_or(Failed)
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// `Failed` when no sender is left.
    pub fn recv(&self) -> Result<T, Failed> {
        let mut queue = self.0.lock();
        loop {
            if let Some(message) = queue.messages.pop_front() {
                return Ok(message);
            }
            if queue.senders == 0 {
                return Err(Failed);
            }
            queue = self.0.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.changed.notify_all();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.lock().receivers -= 1;
    }
}
