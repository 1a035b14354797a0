//! The HTTPS drain: one request at a time over one connection, HTTP/1.1 as Logplex sends it.
//!
//! Header names and values are those of Logplex (`logplex_http_drain.erl`, `request_to_iolist`). A connection is kept
//! after a response of 2xx and closed after any other, so that the next attempt may reach another backend.

mod client;
mod connection;
mod connector;
mod endpoint;
mod error;
mod gzip;
mod redact;
mod retry_after;
pub mod tls;

pub use client::{AttemptOutcome, BatchRequest, Client};
pub use connector::Phase;
pub use endpoint::{Endpoint, EndpointError};
pub use error::AttemptError;
pub use gzip::Gzip;
pub use retry_after::{MAX_RETRY_AFTER, retry_after};

#[cfg(test)]
mod fuzz;
