//! A connection while it lives: what it is, what comes over it, and how it ends.

use crate::model::connections::End;
use crate::server::Shared;
use crate::stats::Headers;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::{ProtocolVersion, ServerConnection};

/// A connection.
pub(crate) struct Life {
    tls: String,
    alpn: String,
    state: Mutex<State>,
}

struct State {
    /// The drain token of its first request.
    token: Option<String>,
    /// Requests under way.
    busy: u32,
    idle_since: Instant,
}

impl Life {
    pub(crate) fn new(tls: &ServerConnection) -> Self {
        let version = match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            other => format!("{other:?}"),
        };
        let alpn = tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        let state = State { token: None, busy: 0, idle_since: Instant::now() };
        Self { tls: version, alpn: alpn.unwrap_or_else(|| "none".to_owned()), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request came.
    pub(crate) fn begin(&self, shared: &Shared, headers: &Headers) {
        let mut state = self.state();
        let is_first = state.token.is_none();
        state.busy += 1;
        let token = state.token.get_or_insert_with(|| headers.token().to_owned()).clone();
        drop(state);
        let mut stats = shared.stats();
        let is_platform = stats.is_platform(&token);
        let Some(model) = stats.model() else { return };
        let connections = model.requests.connection(Some(&token), is_platform);
        if is_first {
            connections.begin(&self.tls, &self.alpn);
        }
        connections.request(&headers.auth, is_first);
    }

    /// It was answered.
    pub(crate) fn done(&self) {
        let mut state = self.state();
        state.busy -= 1;
        state.idle_since = Instant::now();
    }

    /// For how long nothing was under way; nothing while something is, or before the first request.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let state = self.state();
        (state.busy == 0 && state.token.is_some()).then(|| state.idle_since.elapsed())
    }

    /// It ended.
    pub(crate) fn end(&self, shared: &Shared, is_idle_fault: bool) {
        let idle = self.idle();
        let token = self.state().token.clone();
        let Some(token) = token else { return fail(shared, "closed without a request") };
        let end = match idle {
            _ if is_idle_fault => End::IdleFault,
            Some(idle) => End::Idle(idle.as_secs_f64() * 1000.0),
            None => End::Other,
        };
        let mut stats = shared.stats();
        let is_platform = stats.is_platform(&token);
        if let Some(model) = stats.model() {
            model.requests.connection(Some(&token), is_platform).end(end);
        }
    }
}

/// A connection came to nothing.
pub(crate) fn fail(shared: &Shared, why: &str) {
    if let Some(model) = shared.stats().model() {
        model.requests.connection(None, false).fail(why);
    }
}
