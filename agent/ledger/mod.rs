//! The ledger: what became of every captured line, per drain, and the conservation law that it adds up.
//!
//! `captured = delivered + held + dropped(reason) + rejected`, by lines, at every instant. The supervisor holds
//! the one ledger; recorder and shipper report to it what they did.
//!
//! The spool holds frames, most lines are one frame, and a segment knows its number of frames. Only *special* frames
//! have an entry: those of the agent itself, and the parts and ends of lines that needed several frames. So the lines
//! of any byte range are its frames less the special ones that end no line, and no ordinary line needs an entry. A
//! line counts where its last frame is. When one of its frames was dropped or rejected the line is counted there, at
//! once and whole; for that drain it is *already counted*, and its last frame does not count again.

mod account;
mod batch;
mod ledger;
mod offset;
mod report;
mod segment;
mod shared;

pub(crate) use account::{Account, Consumed, CountedLines, ResumedBatch};
pub(crate) use batch::{BatchOutcome, BatchRange, Identity, SealRange, SealedBatch};
pub(crate) use ledger::{AdoptedLeft, Ledger};
pub(crate) use offset::{DrainIndex, Offset};
pub(crate) use report::DrainReport;
pub(crate) use report::dropped_by_reason;
pub(crate) use segment::{
    AdoptedContent, Appended, FrameKind, LongLines, Origin, Segment, SegmentLocation, SegmentRecord,
    SegmentStart, SpecialFrame, SpooledNotice, TimeRange,
};
pub(crate) use shared::SharedLedger;
