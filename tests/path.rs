//! The whole path: the real binary against the real test drain. Every run is audited: each line is accounted for,
//! what the ledger says is what the drain saw, the drain has nothing to complain about, and no secret is shown.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "path/feed.rs"]
mod feed;
#[path = "path/proc.rs"]
mod proc;
#[path = "path/rig.rs"]
mod rig;

#[path = "path/contract.rs"]
mod contract;
#[path = "path/faults.rs"]
mod faults;
#[path = "path/lines.rs"]
mod lines;
#[path = "path/open.rs"]
mod open;
#[path = "path/outage.rs"]
mod outage;
#[path = "path/signals.rs"]
mod signals;
#[path = "path/spool.rs"]
mod spool;
#[path = "path/whole.rs"]
mod whole;
