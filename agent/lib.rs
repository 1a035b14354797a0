//! tailrace: an embedded log agent for Heroku dynos. Captures what the dyno's process prints, frames it as Logplex
//! does, and delivers it to log drains: buffered, retried, and counted to the line.
//!
//! This page is the map. Each module opens with what it is for.
//!
//! # Two processes, and a spool between them
//!
//! ```text
//!            supervisor: the process that the platform starts            shipper: the same binary, restartable
//!  app ─pipe─▶ capture::pump ──▶ recorder: line ▶ frame ▶ append ──▶ spool (files) ──▶ worker: seal ▶ POST ▶ verdict ──▶ drain
//!                   │                 ▲                                                  │ (one task per drain)
//!                   ▼                 │ sample, dyno::lifecycle                          │
//!       the dyno's own stdout, stderr │                                                  │
//!                                  delivery::coordinator ◀──── protocol, one socket ─────┘
//!                                     └─▶ ledger, checkpoint, status
//! ```
//!
//! The supervisor never touches the network, uses no async code, and is complete without a shipper. The shipper does
//! everything that talks to the world and may die at any time: the supervisor holds the truth, and restarts it.
//! `tailrace ship` runs both parts in one process, fed by standard input.
//!
//! # The way of one batch
//!
//! ```text
//! app          pump            recorder             supervisor (main loop)            shipper (worker)          drain
//!  │ write ───▶ │ read           │                         │                              │                      │
//!  │            │ chunk ───────▶ │ lines, frames           │                              │                      │
//!  │            │ copy to stdout │ append to segment       │                              │                      │
//!  │            │                │ book in the ledger      │                              │                      │
//!  │            │                │ wake ─────────────────▶ │ segment, log-end ──────────▶ │ read from the cursor │
//!  │            │                │                         │ ◀───────────── seal-request  │                      │
//!  │            │                │                         │ fix range, count, notice, id │                      │
//!  │            │                │                         │ write the checkpoint         │                      │
//!  │            │                │                         │ sealed-batch ──────────────▶ │ POST ──────────────▶ │
//!  │            │                │                         │ ◀── attempt-failed (waits)   │ ◀── 503, no answer   │
//!  │            │                │                         │                              │ POST, same id ─────▶ │
//!  │            │                │                         │ ◀──── delivered | rejected   │ ◀── 2xx | final 4xx  │
//!  │            │                │                         │ ◀── seal-request (smaller)   │ ◀── 413              │
//!  │            │                │                         │ count lines, move the cursor │                      │
//!  │            │                │                         │ remove consumed segments     │                      │
//! ```
//!
//! # Invariants
//!
//! 1. **Conservation**, per drain, in lines, at every instant: `captured = delivered + held + dropped(reason) +
//!    rejected`. Every dropped line is announced once, in the stream, with its reason (`ledger`).
//! 2. **The app never waits for the network, and never for the disk longer than a full pipe would make it wait.** When
//!    nothing can be recorded its output still passes through, and the lines are counted (`capture`).
//! 3. **The spool is the wire format.** Segments hold whole frames; a batch is a byte range; offsets only grow
//!    (`spool`).
//! 4. **Sealed before the first attempt.** Range, count, notice and id of a batch are fixed in the ledger and the
//!    checkpoint before it is sent, and are the same on every attempt and after every restart (`delivery`).
//! 5. **One writer, one reader process.** The recorder alone appends; segments are removed by the supervisor only.
//! 6. **Fail open.** What cannot be set up before the app runs leads to a plain `exec` of the app; after that, to
//!    pass-through (`supervisor`). `ship` then reads and discards (`commands::discard`).
//! 7. **Each signal reaches the app once**, and the exit status is the app's own. `signals` decides whether to forward,
//!    `supervisor::shutdown` the deadlines after SIGTERM, and the supervisor's loop acts on both. `tailrace ship` has no
//!    app: its signals are in `commands::stop_signals`.
//! 8. **No secret is printed**: of a drain URL nothing behind the host, no header value ([`config`], [`shipper`]).
//! 9. **The shipper is confined** before it touches the network, as far as the kernel can; and the supervisor believes
//!    nothing that contradicts its ledger (`confinement`, `delivery`).
//!
//! # Who may import whom
//!
//! A module imports only what stands above it in this list; `tests/architecture.rs` checks it.
//!
//! ```text
//! line, frame, procfs, poll, diag, exit_code, version    pure, or thin over the system; line and frame import nothing
//! dyno        ◀ frame                            config   ◀ dyno::name, frame: reads no file
//! sample      ◀ config, frame, procfs            signals  ◀ procfs
//! confinement ◀ config
//! ledger      ◀ frame, line                      protocol ◀ frame, ledger
//! spool       ◀ config, diag, frame, ledger, line
//! recorder    ◀ config, diag, frame, ledger, line, spool
//! capture     ◀ diag, frame, line, poll, recorder (never the spool)
//! shipper     ◀ config, confinement, ledger, protocol, signals::pending, spool, version (never recorder, delivery,
//!               supervisor)
//! delivery    ◀ config, diag, frame, ledger, protocol, spool
//! status      ◀ config, delivery, frame, ledger, spool, version
//! supervisor  ◀ all of these but shipper
//! cli         ◀ config, dyno
//! commands    ◀ everything
//! ```
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | line | the raw bytes of one stream up to an LF; captured at its first byte |
//! | frame | one octet-counted syslog message; a long line needs several |
//! | pump | the thread that copies one stream of the app |
//! | gap | bytes of the app that were passed through and not recorded |
//! | spool, segment | the on-disk log of frames of one agent; a file or memory slot of it, at most 1 MiB |
//! | offset | a position in the spool, in bytes |
//! | log end | the offset behind the last booked frame |
//! | ledger, account | the counts of all lines; those of one drain |
//! | coordinator | the supervisor's end of the protocol between the two processes |
//! | batch | the frames of one POST; sealed when its range, count, notice and id are fixed |
//! | cursor | the offset up to which a drain has consumed everything: delivered, dropped or rejected |
//! | checkpoint | the cursors and sealed batches of all drains, in a file beside the segments |
//! | adopted | from the spool of a dead agent of the same app, which became the first part of ours (`spool::recovery`) |
//! | takeover | a shipper whose supervisor is dead delivers the rest, also what is in memory only (`spool::takeover`) |
//! | drain | a destination; `DrainIndex` is its number, the token its public name |
//! | worker | the task of the shipper that serves one drain |
//! | attempt, verdict | one request; what its outcome means for the batch |
//! | held | lines in the spool that a drain has not consumed |
//! | loss notice | a frame (Logplex's L10) that announces dropped lines |
//! | sample, probe | a measurement of the dyno's memory and load; the place where memory is read |
//! | Cedar, Fir | the two generations of the platform |
//! | event | a line of the agent on stderr: `tailrace at=… key=value …` |

mod capture;
pub mod cli;
pub mod commands;
pub mod config;
mod confinement;
mod delivery;
mod diag;
mod dyno;
pub mod exit_code;
pub mod frame;
mod ledger;
pub mod line;
mod poll;
mod procfs;
mod protocol;
mod recorder;
pub mod sample;
pub mod shipper;
mod signals;
mod spool;
mod status;
mod supervisor;
#[cfg(test)]
mod tests;
pub mod version;
