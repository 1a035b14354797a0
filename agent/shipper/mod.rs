//! The shipper: the process that talks to the network. It reads the spool and has the supervisor seal each batch
//! before it sends it; it may die at any time without a loss.

mod backoff;
mod control_stream;
pub mod http;
mod shipper;
pub mod verdict;
mod worker;

pub(crate) use shipper::client;
pub(crate) use shipper::{DrainTls, Exit, report_failure, serve};
