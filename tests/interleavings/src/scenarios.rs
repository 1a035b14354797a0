//! One run each of threads that share a piece of the agent.

use crate::buffer_pool::BufferPool;
use crate::disk_worker::DiskWorker;
use crate::ledger::Ledger;
use crate::ledger::shared::SharedLedger;
use crate::spool::Spool;
use nix::sys::eventfd::EventFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(50);

/// Three threads take and return the buffers of a pool of two, another trims it: there are never more than two, and in
/// the end two can be taken again.
///
/// # Panics
/// When that is not so.
pub fn a_pool_never_has_more_buffers_than_it_may() {
    let pool = BufferPool::new(2, 8);
    let in_use = Arc::new(AtomicUsize::new(0));
    let users = [0, 1, 2].map(|user| {
        let (pool, in_use) = (Arc::clone(&pool), Arc::clone(&in_use));
        thread::spawn(move || {
            for _ in 0..2 {
                let mut buffer = pool.take_within(TIMEOUT).expect("the timeout never comes");
                assert!(in_use.fetch_add(1, Ordering::SeqCst) < 2, "more than two buffers");
                buffer.space()[0] = user;
                buffer.set_len(1);
                thread::yield_now();
                assert_eq!(buffer[..], [user], "nobody else has this buffer");
                in_use.fetch_sub(1, Ordering::SeqCst);
            }
        })
    });
    pool.trim();
    for user in users {
        user.join().expect("no panic");
    }
    let buffers = [0, 1].map(|_| pool.take_within(TIMEOUT));
    assert!(buffers.iter().all(Option::is_some), "buffers do not get lost");
}

/// A buffer comes back and is freed at once: who waits for one allocates another, also without the timeout, which never
/// comes here.
///
/// # Panics
/// When that is not so.
pub fn a_trim_wakes_who_waits_for_a_buffer() {
    let pool = BufferPool::new(1, 8);
    let buffer = pool.take_within(TIMEOUT);
    let waiter = thread::spawn({
        let pool = Arc::clone(&pool);
        move || pool.take_within(TIMEOUT).is_some()
    });
    drop(buffer);
    pool.trim();
    assert!(waiter.join().expect("no panic"), "there is room for one");
}

/// Two threads request rounds of the disk worker: when a ticket is done, what was there at the request is saved, the
/// text of the ledger is not an older one, and a close happens once.
///
/// # Panics
/// When that is not so.
pub fn a_ticket_is_done_after_what_was_requested() {
    let spool = Arc::new(Spool::default());
    let wake = Arc::new(EventFd::new().expect("an eventfd"));
    let worker = Arc::new(DiskWorker::spawn(Arc::clone(&spool), wake).expect("a thread"));
    let requests = [false, true].map(|closes| {
        let (spool, worker) = (Arc::clone(&spool), Arc::clone(&worker));
        thread::spawn(move || {
            for _ in 0..2 {
                let cursor = spool.cursor.fetch_add(1, Ordering::SeqCst) + 1;
                let ticket = worker.save();
                while !worker.is_done(ticket) {
                    thread::yield_now();
                }
                assert!(spool.saved.load(Ordering::SeqCst) >= cursor, "what was requested is not saved");
            }
            if closes {
                let ticket = worker.close();
                while !worker.is_done(ticket) {
                    thread::yield_now();
                }
                assert_eq!(spool.closed.load(Ordering::SeqCst), 1, "it is closed once");
            }
        })
    });
    for request in requests {
        request.join().expect("no panic");
    }
}

/// A writer waits for segments to be removed, which the disk worker does: no removal leaves it asleep, also without the
/// timeout, which never comes here.
///
/// # Panics
/// When that is not so.
pub fn a_removal_wakes_the_writer() {
    let shared = Arc::new(SharedLedger::new(Ledger { segments: 3 }));
    let remover = thread::spawn({
        let shared = Arc::clone(&shared);
        move || {
            for _ in 0..3 {
                shared.lock().segments -= 1;
                shared.notify();
            }
        }
    });
    let mut ledger = shared.lock();
    while ledger.segments > 0 {
        ledger = shared.wait_for_removal(ledger, TIMEOUT);
    }
    drop(ledger);
    remover.join().expect("no panic");
    assert_eq!(shared.removals(), 3);
}
