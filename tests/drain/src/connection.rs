//! One open connection: its TLS parameters, its requests and how it ends.

use crate::model::connections::ConnectionEnd;
use crate::server::Shared;
use crate::stats::Headers;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::{ProtocolVersion, ServerConnection};

/// An open connection.
pub(crate) struct Connection {
    tls: String,
    alpn: String,
    activity: Mutex<Activity>,
}

struct Activity {
    /// The drain token of the first request.
    token: Option<String>,
    /// Requests in progress.
    active_requests: u32,
    idle_since: Instant,
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// An `idle` fault closed it.
    IdleFault,
    /// HTTP ended, or another fault closed it.
    Ended,
}

impl Connection {
    pub(crate) fn new(tls: &ServerConnection) -> Self {
        let version = match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            other => format!("{other:?}"),
        };
        let alpn = tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        let activity = Activity { token: None, active_requests: 0, idle_since: Instant::now() };
        Self { tls: version, alpn: alpn.unwrap_or_else(|| "none".to_owned()), activity: Mutex::new(activity) }
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request whose headers were read.
    pub(crate) fn request_started(&self, shared: &Shared, headers: &Headers) {
        let mut activity = self.activity();
        let is_first = activity.token.is_none();
        activity.active_requests += 1;
        let token = activity.token.get_or_insert_with(|| headers.token().to_owned()).clone();
        drop(activity);
        let mut stats = shared.stats();
        let drain = stats.drain_kind(&token);
        let Some(model) = stats.model() else { return };
        let connections = model.requests.connection(&token, drain);
        if is_first {
            connections.opened(&self.tls, &self.alpn);
        }
        connections.request(&headers.auth, is_first);
    }

    /// Ends a request, with or without an answer.
    pub(crate) fn request_finished(&self) {
        let mut activity = self.activity();
        activity.active_requests -= 1;
        activity.idle_since = Instant::now();
    }

    /// Time since the last request ended; `None` during a request and before the first one.
    pub(crate) fn idle_time(&self) -> Option<Duration> {
        let activity = self.activity();
        (activity.active_requests == 0 && activity.token.is_some()).then(|| activity.idle_since.elapsed())
    }

    /// Counts the end of the connection.
    pub(crate) fn closed(&self, shared: &Shared, reason: CloseReason) {
        let idle = self.idle_time();
        let token = self.activity().token.clone();
        let Some(token) = token else { return record_failure(shared, "closed without a request") };
        let end = match (reason, idle) {
            (CloseReason::IdleFault, _) => ConnectionEnd::IdleFault,
            (CloseReason::Ended, Some(idle)) => ConnectionEnd::Idle(idle.as_secs_f64() * 1000.0),
            (CloseReason::Ended, None) => ConnectionEnd::Other,
        };
        let mut stats = shared.stats();
        let drain = stats.drain_kind(&token);
        if let Some(model) = stats.model() {
            model.requests.connection(&token, drain).closed(end);
        }
    }
}

/// Counts a connection that ended before its first request.
pub(crate) fn record_failure(shared: &Shared, reason: &str) {
    if let Some(model) = shared.stats().model() {
        model.requests.connections_without_request().failed(reason);
    }
}
