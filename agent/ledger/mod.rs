//! The ledger: what became of every captured line, per drain, and the law that it adds up.
//!
//! `captured = delivered + held + dropped(reason) + rejected`, by lines, at every instant. The keeper holds
//! the one ledger; recorder and shipper tell it what they did.
//!
//! The spool holds frames, a line is mostly one frame, and a segment knows how many frames it has. What is not
//! a line in one frame carries a *kind*: a frame of our own, a part of a long line, its end. So the lines of
//! any byte range are its frames less those kinds, and no line needs an entry of its own. A line counts where
//! its last frame is; one of which a frame was dropped or rejected counts there at once, whole, and is
//! *already_counted* for that drain: its last frame, when it comes by, counts no more.

mod account;
mod ledger;
mod report;
mod segment;
mod shared;

pub use account::{Account, Identity, SealRange, SealedBatch};
pub use ledger::Ledger;
pub(crate) use report::dropped_by_reason;
pub use report::{DrainReport, Report};
pub use segment::{Appended, FrameKind, Origin, Segment, SegmentLocation};
pub use shared::SharedLedger;
