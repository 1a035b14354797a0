//! The HTTPS server: TLS, HTTP and the faults.

use crate::Sink;
use crate::connection::{self, CloseReason, Connection};
use crate::duplicates::Duplicates;
use crate::fault::{Fault, FaultKind, FaultPlan, RetryAfter};
use crate::filtered_stats::FilteredStats;
use crate::model::Attempt;
use crate::stats::{Headers, LossNotices, Stats};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tailrace::frame::Timestamp;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

/// Largest accepted body, in bytes, after gzip.
const MAX_BODY: u64 = 64 << 20;
/// How often the `refuse` fault is checked.
const REFUSE_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for the listening socket to match the faults.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the `idle` fault is checked.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long `tls-stall` keeps a connection open.
const TLS_STALL: Duration = Duration::from_hours(1);

/// What all connections share.
pub(crate) struct Shared {
    stats: Mutex<Stats>,
    plan: Mutex<ActivePlan>,
    /// The kinds of faults that earlier plans have started.
    past_kinds: Mutex<Vec<FaultKind>>,
    /// The plan has changed.
    changed: Notify,
    /// Whether the listening socket is open.
    is_open: Mutex<bool>,
    is_open_changed: Condvar,
    sink: Mutex<Sink>,
    filtered_stats: Mutex<FilteredStats>,
    duplicates: Mutex<Duplicates>,
    identities: Identities,
}

/// The TLS identities of the server.
pub(crate) struct Identities {
    /// Issued by the authority of `ca.pem`.
    pub(crate) trusted: TlsAcceptor,
    /// Issued by another authority, for the `wrong-cert` fault.
    pub(crate) untrusted: TlsAcceptor,
}

/// The faults in force, and when their windows began to count.
struct ActivePlan {
    since: Instant,
    plan: FaultPlan,
}

impl ActivePlan {
    fn new(plan: FaultPlan) -> Self {
        Self { since: Instant::now(), plan }
    }
}

/// Closes the connection without an answer.
#[derive(Debug)]
struct ConnectionClosed;

impl std::fmt::Display for ConnectionClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a fault closes the connection")
    }
}

impl std::error::Error for ConnectionClosed {}

/// Ends the processing of a request early.
enum Interruption {
    /// Close the connection.
    Close,
    /// Send this answer.
    Answer(Box<Response<Full<Bytes>>>),
}

impl Interruption {
    fn answer(status: u16, text: &str, retry_after: Option<RetryAfter>) -> Self {
        Self::Answer(Box::new(respond(status, text, retry_after)))
    }
}

impl Shared {
    pub(crate) fn new(stats: Stats, plan: FaultPlan, sink: Sink, identities: Identities) -> Self {
        Self {
            stats: Mutex::new(stats),
            plan: Mutex::new(ActivePlan::new(plan)),
            past_kinds: Mutex::default(),
            changed: Notify::new(),
            is_open: Mutex::new(true),
            is_open_changed: Condvar::new(),
            sink: Mutex::new(sink),
            filtered_stats: Mutex::default(),
            duplicates: Mutex::default(),
            identities,
        }
    }

    pub(crate) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts by filter.
    pub(crate) fn filtered_stats(&self) -> MutexGuard<'_, FilteredStats> {
        self.filtered_stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The search for duplicate frames.
    pub(crate) fn duplicates(&self) -> MutexGuard<'_, Duplicates> {
        self.duplicates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self) -> MutexGuard<'_, ActivePlan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Activates another plan; its windows count from now.
    pub(crate) fn set_plan(&self, plan: FaultPlan) {
        let mut current = self.plan();
        self.record_past_kinds(&current);
        *current = ActivePlan::new(plan);
        drop(current);
        self.changed.notify_one();
    }

    /// Activates another plan; a fault that is in both plans keeps its window and its hits.
    pub(crate) fn replace_plan(&self, plan: FaultPlan) {
        let mut current = self.plan();
        self.record_past_kinds(&current);
        let elapsed = current.since.elapsed();
        current.plan.replace(plan, elapsed);
        drop(current);
        self.changed.notify_one();
    }

    /// Adds faults to the plan; their windows count from now.
    pub(crate) fn add_plan(&self, plan: FaultPlan) {
        let mut current = self.plan();
        let elapsed = current.since.elapsed();
        current.plan.add(plan, elapsed);
        drop(current);
        self.changed.notify_one();
    }

    /// Records what a plan has started, before it is replaced.
    fn record_past_kinds(&self, current: &ActivePlan) {
        let mut past = self.past_kinds.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in current.plan.started(current.since.elapsed()) {
            if !past.contains(&kind) {
                past.push(kind);
            }
        }
    }

    /// The states of the faults, as JSON.
    pub(crate) fn faults(&self) -> serde_json::Value {
        let current = self.plan();
        let states: Vec<_> = current.plan.states(current.since.elapsed()).collect();
        // A list of strings and numbers: the conversion cannot fail.
        serde_json::to_value(states).unwrap_or_default()
    }

    /// The faults that may strike now, with their specifications.
    pub(crate) fn faults_in_force(&self) -> Vec<(FaultKind, String)> {
        let current = self.plan();
        let faults = current.plan.in_force(current.since.elapsed());
        faults.map(|(kind, spec)| (kind, spec.to_owned())).collect()
    }

    /// The kinds of all faults that have been in force so far.
    pub(crate) fn faults_so_far(&self) -> Vec<FaultKind> {
        let current = self.plan();
        let mut kinds = self.past_kinds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kinds.extend(current.plan.started(current.since.elapsed()));
        kinds
    }

    fn set_open(&self, is_open: bool) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = is_open;
        self.is_open_changed.notify_all();
    }

    /// Waits until the listening socket is closed if a fault refuses connections, and open if none does.
    pub(crate) fn wait_settled(&self) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unsettled = |is_open: &mut bool| *is_open == self.refuses();
        drop(self.is_open_changed.wait_timeout_while(is_open, SETTLE_TIMEOUT, is_unsettled));
    }

    /// The first fault that `matches` and strikes now; the hit is counted.
    fn strike(&self, matches: impl Fn(FaultKind) -> bool) -> Option<Fault> {
        let mut current = self.plan();
        let elapsed = current.since.elapsed();
        current.plan.strike(elapsed, matches)
    }

    /// Whether a fault of exactly this kind strikes now; the hit is counted.
    fn strikes(&self, kind: FaultKind) -> bool {
        self.strike(|other| other == kind).is_some()
    }

    fn refuses(&self) -> bool {
        let current = self.plan();
        current.plan.refuses(current.since.elapsed())
    }

    fn record(&self, headers: &Headers, body: &[u8]) {
        let lines = self.stats().record(headers, body);
        if !lines.is_empty() {
            (self.sink.lock().unwrap_or_else(PoisonError::into_inner))(&lines);
        }
    }
}

/// Binds a socket to `address` without listening: while it is open, no other process gets the port, even while
/// connections are refused. `SO_REUSEADDR` lets this process bind a listener to the same port.
pub(crate) fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Binds a listener to `address`, which may have had another one a moment ago.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    // std sets SO_REUSEADDR on Unix.
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until `stop` changes.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let mut listener = Some(TcpListener::from_std(listener)?);
    // Connections end when this sender is dropped.
    let mut connections = watch::channel(()).0;
    loop {
        if shared.refuses() {
            if listener.take().is_some() {
                connections = watch::channel(()).0;
                shared.set_open(false);
            }
            tokio::select! {
                () = sleep(REFUSE_POLL_INTERVAL) => continue,
                () = shared.changed.notified() => continue,
                _ = stop.changed() => return Ok(()),
            }
        }
        if listener.is_none() {
            let Ok(reopened) = bind(address) else {
                sleep(REFUSE_POLL_INTERVAL).await; // another process has the port for a moment
                continue;
            };
            listener = Some(TcpListener::from_std(reopened)?);
            shared.set_open(true);
        }
        let Some(open) = &listener else { continue };
        tokio::select! {
            accepted = open.accept() => if let Ok((stream, _)) = accepted {
                let (shared, mut refused) = (Arc::clone(&shared), connections.subscribe());
                drop(tokio::spawn(async move {
                    tokio::select! {
                        () = serve_connection(shared, stream) => {}
                        _ = refused.changed() => {}
                    }
                }));
            },
            () = sleep(REFUSE_POLL_INTERVAL) => {}
            () = shared.changed.notified() => {}
            _ = stop.changed() => return Ok(()),
        }
    }
}

async fn serve_connection(shared: Arc<Shared>, stream: TcpStream) {
    if shared.strikes(FaultKind::TlsStall) {
        sleep(TLS_STALL).await;
        return;
    }
    let Identities { trusted, untrusted } = &shared.identities;
    let acceptor = if shared.strikes(FaultKind::WrongCert) { untrusted } else { trusted };
    stream.set_nodelay(true).ok(); // only latency depends on it
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return connection::record_failure(&shared, &format!("TLS: {error}")),
    };
    let connection = Connection::new(stream.get_ref().1);
    let service = service_fn(|request| answer(&shared, &connection, request));
    let mut http = hyper::server::conn::http1::Builder::new();
    let reason = tokio::select! {
        // The result is an error whenever a fault closes the connection.
        _ = http.max_buf_size(256 << 10).serve_connection(TokioIo::new(stream), service) => CloseReason::Ended,
        () = wait_for_idle_fault(&shared, &connection) => CloseReason::IdleFault,
    };
    connection.closed(&shared, reason);
}

/// Returns when an `idle` fault closes the connection.
async fn wait_for_idle_fault(shared: &Shared, connection: &Connection) {
    loop {
        sleep(IDLE_POLL_INTERVAL).await;
        if let Some(idle) = connection.idle_time()
            && shared.strike(|kind| matches!(kind, FaultKind::Idle(limit) if idle >= limit)).is_some()
        {
            return;
        }
    }
}

async fn answer(
    shared: &Shared,
    connection: &Connection,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, ConnectionClosed> {
    let start = Instant::now();
    let headers = read_headers(&request);
    connection.request_started(shared, &headers);
    shared.stats().request(&headers);
    let (id, token) = (headers.id.clone(), headers.token().to_owned());
    let answer = match process(shared, request, headers).await {
        Ok(response) => Ok(response),
        Err(Interruption::Answer(response)) => Ok(*response),
        Err(Interruption::Close) => Err(ConnectionClosed),
    };
    let status = answer.as_ref().ok().map(|response| response.status().as_u16());
    let attempt = Attempt {
        ended_at: Timestamp::now().as_micros(),
        token: &token,
        id: id.as_deref(),
        status,
        duration: start.elapsed(),
    };
    shared.stats().attempt(&attempt);
    connection.request_finished();
    answer
}

/// Reads and records a request, unless a fault strikes.
async fn process(
    shared: &Shared,
    request: Request<Incoming>,
    mut headers: Headers,
) -> Result<Response<Full<Bytes>>, Interruption> {
    if shared.strikes(FaultKind::ResetBefore) {
        return Err(Interruption::Close);
    }
    let mut body = read_body(shared, request.into_body()).await?;
    headers.wire_bytes = body.len() as u64;
    if headers.gzip {
        body = decompress(&body)?;
    }
    inject_faults_before_recording(shared, body.len() as u64).await?;
    if !shared.strikes(FaultKind::Swallow) {
        let is_ignored = shared.strikes(FaultKind::IgnoreLossNotices);
        let loss_notices = if is_ignored { LossNotices::Ignored } else { LossNotices::Counted };
        shared.stats().set_loss_notices(loss_notices);
        shared.record(&headers, &body);
    }
    if let Some(Fault { kind: FaultKind::Stall(time), .. }) =
        shared.strike(|kind| matches!(kind, FaultKind::Stall(_)))
    {
        sleep(time).await;
    }
    if shared.strikes(FaultKind::ResetAfter) {
        return Err(Interruption::Close);
    }
    let mut response = respond(204, "", None);
    if shared.strikes(FaultKind::CloseAfterAnswer) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn read_body(shared: &Shared, mut incoming: Incoming) -> Result<Vec<u8>, Interruption> {
    let slow = shared.strike(|kind| matches!(kind, FaultKind::SlowRead(_)));
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { return Err(Interruption::Close) };
        let Some(data) = frame.data_ref() else { continue };
        if let Some(FaultKind::SlowRead(speed)) = slow.as_ref().map(|fault| fault.kind) {
            sleep(Duration::from_secs_f64(data.len() as f64 / speed as f64)).await;
        }
        body.extend_from_slice(data);
        if body.len() as u64 > MAX_BODY {
            return Err(Interruption::answer(413, "", None));
        }
    }
    Ok(body)
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, Interruption> {
    let mut plain = Vec::new();
    match GzDecoder::new(body).take(MAX_BODY).read_to_end(&mut plain) {
        Ok(_) => Ok(plain),
        Err(_) => Err(Interruption::answer(400, "not gzip", None)),
    }
}

/// The faults between reading and recording a body of `size` bytes.
async fn inject_faults_before_recording(shared: &Shared, size: u64) -> Result<(), Interruption> {
    if let Some(Fault { kind: FaultKind::Latency(time), .. }) =
        shared.strike(|kind| matches!(kind, FaultKind::Latency(_)))
    {
        sleep(time).await;
    }
    if let Some(Fault { kind: FaultKind::Status(status), retry_after, .. }) =
        shared.strike(|kind| matches!(kind, FaultKind::Status(_)))
    {
        return Err(Interruption::answer(status, "a fault", retry_after));
    }
    if shared.strike(|kind| matches!(kind, FaultKind::TooLarge(limit) if size > limit)).is_some() {
        return Err(Interruption::answer(413, "too large", None));
    }
    if shared.strikes(FaultKind::JsonProblem) {
        let problem = r#"{"status":200,"code":"header:invalid","message":"Error parsing header"}"#;
        return Err(Interruption::answer(200, problem, None));
    }
    Ok(())
}

fn respond(status: u16, text: &str, retry_after: Option<RetryAfter>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    let value = match retry_after {
        None => return response,
        Some(RetryAfter::Seconds(seconds)) => seconds.into(),
        Some(RetryAfter::Date(seconds)) => date(SystemTime::now() + Duration::from_secs(seconds)),
    };
    response.headers_mut().insert(header::RETRY_AFTER, value);
    response
}

fn date(time: SystemTime) -> HeaderValue {
    // The date is ASCII: the conversion cannot fail.
    HeaderValue::from_str(&httpdate::fmt_http_date(time)).unwrap_or(HeaderValue::from_static(""))
}

fn read_headers(request: &Request<Incoming>) -> Headers {
    let map = request.headers();
    let text = |name: &str| map.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Headers {
        content_type: text("content-type"),
        count: text("logplex-msg-count").and_then(|count| count.parse().ok()),
        id: text("logplex-frame-id"),
        token: text("logplex-drain-token"),
        user_agent: text("user-agent"),
        auth: auth_kind(text("authorization").as_deref(), request.uri()),
        gzip: text("content-encoding").is_some_and(|coding| coding == "gzip"),
        wire_bytes: 0,
    }
}

/// How a request authenticates: where the credentials are, never the credentials.
fn auth_kind(authorization: Option<&str>, uri: &Uri) -> String {
    let scheme = authorization.and_then(|value| value.split_once(' ')).map(|(scheme, _)| scheme);
    let is_scheme = |text: &&str| text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let query = uri.query().filter(|query| !query.is_empty()).map(|_| "query");
    let path = uri.path().rsplit('/').next().filter(|last| !last.is_empty()).map(|_| "path");
    let kinds: Vec<_> = [scheme.filter(is_scheme), query, path].into_iter().flatten().collect();
    if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(" + ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_reported_by_kind_only() {
        for (authorization, uri, kind) in [
            (None, "/receiver/v1/http/SECRET", "path"),
            (Some("Basic c2VjcmV0"), "/?key=SECRET", "Basic + query"),
            (Some("Bearer SECRET"), "/", "Bearer"),
            (Some("SECRET"), "/", "nothing"),
            (Some("<b>SECRET</b> x"), "/", "nothing"),
        ] {
            assert_eq!(auth_kind(authorization, &uri.parse().expect("a URI")), kind);
        }
    }
}
