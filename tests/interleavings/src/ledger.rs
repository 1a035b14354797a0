//! `ledger`, as far as its lock is concerned.

#[path = "../../../agent/ledger/shared.rs"]
pub(crate) mod shared;

/// The ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Segments that are in the spool.
    pub(crate) segments: u64,
}
