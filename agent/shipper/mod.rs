//! The shipper: everything that talks to the world. It reads the spool, asks the keeper before it sends, and
//! may die at any time.

pub mod backoff;
mod control_stream;
pub mod http;
mod shipper;
pub mod verdict;
pub mod worker;

pub(crate) use shipper::client;
pub use shipper::{Exit, report_failure, serve};
