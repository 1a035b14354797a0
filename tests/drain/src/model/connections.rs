//! Connections: how they are opened, reused and closed.

use crate::measure::{BoundedMap, Quantiles};
use serde::Serialize;

/// Connections of one drain.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Connections {
    /// Connections with at least one request.
    pub opened: u64,
    /// Of those, the ones that are open now.
    pub open: u64,
    /// Requests.
    pub requests: u64,
    /// Requests that were not the first of their connection.
    pub reused: u64,
    /// Requests per connection.
    pub per_connection: Option<f64>,
    /// Connections that the sender closed while they were idle.
    pub idle_closes: u64,
    /// How long they had been idle, in ms.
    pub idle: Quantiles,
    /// Connections that an `idle` fault closed.
    pub idle_faults: u64,
    /// TLS versions.
    pub tls: BoundedMap<u64, 8>,
    /// Protocols negotiated by ALPN.
    pub alpn: BoundedMap<u64, 8>,
    /// How requests authenticate, by kind.
    pub auth: BoundedMap<u64, 16>,
    /// Connections that ended before the first request.
    pub failed: u64,
    /// The reason of the last one.
    pub failed_last: Option<String>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ConnectionEnd {
    /// The sender closed it after it had been idle for this time, in ms.
    Idle(f64),
    /// An `idle` fault closed it.
    IdleFault,
    /// It ended during a request.
    Other,
}

impl Connections {
    /// Counts a connection with its first request.
    pub(crate) fn opened(&mut self, tls: &str, alpn: &str) {
        self.opened += 1;
        self.open += 1;
        *self.tls.entry(tls) += 1;
        *self.alpn.entry(alpn) += 1;
    }

    pub(crate) fn request(&mut self, auth: &str, is_first: bool) {
        self.requests += 1;
        self.reused += u64::from(!is_first);
        *self.auth.entry(auth) += 1;
        self.per_connection = (self.opened > 0).then(|| self.requests as f64 / self.opened as f64);
    }

    pub(crate) fn closed(&mut self, end: ConnectionEnd) {
        self.open = self.open.saturating_sub(1);
        match end {
            ConnectionEnd::Idle(ms) => {
                self.idle_closes += 1;
                self.idle.add(ms);
            }
            ConnectionEnd::IdleFault => self.idle_faults += 1,
            ConnectionEnd::Other => {}
        }
    }

    /// Counts a connection that ended before its first request.
    pub(crate) fn failed(&mut self, reason: &str) {
        self.failed += 1;
        self.failed_last = Some(reason.chars().take(200).collect());
    }
}
