//! The HTTPS drain: one request at a time over one connection, HTTP/1.1 as Logplex speaks it.
//!
//! Header names and values are those of Logplex (`logplex_http_drain.erl`, `request_to_iolist`). A connection is
//! kept after an answer of 2xx, and closed after any other: the next attempt then may meet another backend.

mod client;
mod connection;
mod connector;
mod encoding;
mod endpoint;
mod error;
mod redact;
mod retry_after;
pub mod tls;

pub use client::{AttemptOutcome, BatchRequest, Client};
pub use connector::Phase;
pub use encoding::Gzip;
pub use endpoint::{Endpoint, EndpointError};
pub use retry_after::{MAX_RETRY_AFTER, retry_after};
