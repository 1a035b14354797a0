//! End-to-end tests: the real binary against the real test drain. Every run is audited: each line is accounted for,
//! the ledger and the drain agree, the drain reports no protocol error, and no secret is printed.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "e2e/feed.rs"]
mod feed;
#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/launch.rs"]
mod launch;
#[path = "e2e/procfs.rs"]
mod procfs;
#[path = "e2e/published_parsers.rs"]
mod published_parsers;
#[path = "e2e/scripted_receiver.rs"]
mod scripted_receiver;
#[path = "e2e/suspended_threads.rs"]
mod suspended_threads;
#[path = "threads.rs"]
mod threads;

#[path = "e2e/confinement.rs"]
mod confinement;
#[path = "e2e/contract.rs"]
mod contract;
#[path = "e2e/damage.rs"]
mod damage;
#[path = "e2e/direct_signals.rs"]
mod direct_signals;
#[path = "e2e/exit_edge_cases.rs"]
mod exit_edge_cases;
#[path = "e2e/fail_open_resources.rs"]
mod fail_open_resources;
#[path = "e2e/fail_open_settings.rs"]
mod fail_open_settings;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/happy_path.rs"]
mod happy_path;
#[path = "e2e/inheritance.rs"]
mod inheritance;
#[path = "e2e/lines.rs"]
mod lines;
#[path = "e2e/namespace.rs"]
mod namespace;
#[path = "e2e/outage.rs"]
mod outage;
#[path = "e2e/process_patterns.rs"]
mod process_patterns;
#[path = "e2e/recovery.rs"]
mod recovery;
#[path = "e2e/retries.rs"]
mod retries;
#[path = "e2e/samples.rs"]
mod samples;
#[path = "e2e/secrets.rs"]
mod secrets;
#[path = "e2e/ship.rs"]
mod ship;
#[path = "e2e/shutdown.rs"]
mod shutdown;
#[path = "e2e/signals.rs"]
mod signals;
#[path = "e2e/spool.rs"]
mod spool;
#[path = "e2e/stalled_recorder.rs"]
mod stalled_recorder;
#[path = "e2e/status.rs"]
mod status;
#[path = "e2e/stdout.rs"]
mod stdout;
#[path = "e2e/wrapper.rs"]
mod wrapper;
