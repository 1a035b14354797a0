//! Connections: how they are made, how often they are used, how they end.

use crate::measure::{Names, Quantiles};
use serde::Serialize;

/// Connections of one drain.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Connections {
    /// Those that were made.
    pub opened: u64,
    /// Those that are there now.
    pub open: u64,
    /// Requests over them.
    pub requests: u64,
    /// Requests that were not the first of their connection.
    pub reused: u64,
    /// Requests per connection.
    pub per_connection: Option<f64>,
    /// Those that the sender closed while nothing was under way.
    pub idle_closes: u64,
    /// How long nothing had been under way then, in ms.
    pub idle: Quantiles,
    /// Those that were closed by a fault because nothing was under way.
    pub idle_faults: u64,
    /// TLS versions.
    pub tls: Names<u64, 8>,
    /// Protocols that TLS agreed on.
    pub alpn: Names<u64, 8>,
    /// How requests show who they are, by kind.
    pub auth: Names<u64, 16>,
    /// Those that came to nothing before a request.
    pub failed: u64,
    /// Why, the last time.
    pub failed_last: Option<String>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// The sender closed it while nothing was under way, after so many ms.
    Idle(f64),
    /// A fault closed it while nothing was under way.
    IdleFault,
    /// In any other way.
    Other,
}

impl Connections {
    /// The first request came over a connection.
    pub(crate) fn begin(&mut self, tls: &str, alpn: &str) {
        self.opened += 1;
        self.open += 1;
        *self.tls.of(tls) += 1;
        *self.alpn.of(alpn) += 1;
    }

    pub(crate) fn request(&mut self, auth: &str, is_first: bool) {
        self.requests += 1;
        self.reused += u64::from(!is_first);
        *self.auth.of(auth) += 1;
        self.per_connection = (self.opened > 0).then(|| self.requests as f64 / self.opened as f64);
    }

    pub(crate) fn end(&mut self, end: End) {
        self.open = self.open.saturating_sub(1);
        match end {
            End::Idle(ms) => {
                self.idle_closes += 1;
                self.idle.add(ms);
            }
            End::IdleFault => self.idle_faults += 1,
            End::Other => {}
        }
    }

    /// A connection ended without a request.
    pub(crate) fn fail(&mut self, why: &str) {
        self.failed += 1;
        self.failed_last = Some(why.chars().take(200).collect());
    }
}
