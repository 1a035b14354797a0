//! Sources of the agent, compiled against a `std` and a `crossbeam_channel` whose locks, atomics, channels and threads
//! belong to the scheduler of `shuttle`. Each scenario is one run; `tests/interleavings.rs` runs it under many orders.

extern crate std as real_std;

// The paths `std::…` and `crossbeam_channel::…` in this crate and in the agent's sources lead here.
extern crate self as crossbeam_channel;
extern crate self as std;

mod channel;
mod ledger;
pub mod scenarios;
/// The agent's modules that the sources below refer to.
mod stubs;

pub use channel::{Receiver, Sender, bounded};
pub use real_std::{any, borrow, cell, cmp, collections, error, fmt, fs, io, mem, ops, path, time};
pub use shuttle::thread;
pub use stubs::{diag, spool};

/// `std::sync`.
pub mod sync {
    pub use shuttle::sync::*;
}

#[allow(dead_code)] // the agent uses more of it than the scenarios
#[path = "../../../agent/recorder/buffer_pool.rs"]
mod buffer_pool;
#[allow(dead_code)] // as above
#[path = "../../../agent/delivery/disk_worker.rs"]
mod disk_worker;
