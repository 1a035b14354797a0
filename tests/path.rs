//! The whole path: the real binary against the real test drain. Every run is audited: each line is accounted for,
//! what the ledger says is what the drain saw, the drain has nothing to complain about, and no secret is shown.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "path/feed.rs"]
mod feed;
#[path = "path/proc.rs"]
mod proc;
#[path = "path/rig.rs"]
mod rig;

#[path = "path/aimed.rs"]
mod aimed;
#[path = "path/contract.rs"]
mod contract;
#[path = "path/ends.rs"]
mod ends;
#[path = "path/faults.rs"]
mod faults;
#[path = "path/habits.rs"]
mod habits;
#[path = "path/inherit.rs"]
mod inherit;
#[path = "path/limits.rs"]
mod limits;
#[path = "path/lines.rs"]
mod lines;
#[path = "path/modes.rs"]
mod modes;
#[path = "path/namespace.rs"]
mod namespace;
#[path = "path/open.rs"]
mod open;
#[path = "path/outage.rs"]
mod outage;
#[path = "path/samples.rs"]
mod samples;
#[path = "path/shutdown.rs"]
mod shutdown;
#[path = "path/signals.rs"]
mod signals;
#[path = "path/spool.rs"]
mod spool;
#[path = "path/stalled.rs"]
mod stalled;
#[path = "path/status.rs"]
mod status;
#[path = "path/stdout.rs"]
mod stdout;
#[path = "path/whole.rs"]
mod whole;
#[path = "path/wrapper.rs"]
mod wrapper;
