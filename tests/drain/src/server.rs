//! The receiving end: TLS, HTTP, and the faults.

use crate::Sink;
use crate::connection::{self, Life};
use crate::duplicates::Duplicates;
use crate::fault::{Kind, Plan, RetryAfter};
use crate::filtered_stats::FilteredStats;
use crate::model::Attempt;
use crate::stats::{Headers, Stats};
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

/// The largest body taken, in bytes, after gzip.
const MAX_BODY: u64 = 64 << 20;
/// How often it is looked whether connections are to be refused.
const LOOK: Duration = Duration::from_millis(20);
/// Longest wait for the listening socket to be as the faults have it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether a connection has been idle for too long.
const IDLE_LOOK: Duration = Duration::from_millis(100);
/// Longest stall.
const LONG: Duration = Duration::from_hours(1);

/// What all connections share.
pub(crate) struct Shared {
    stats: Mutex<Stats>,
    plan: Mutex<(Instant, Plan)>,
    /// What was in force before that.
    past: Mutex<Vec<Kind>>,
    /// Other faults are in force.
    changed: Notify,
    /// Whether the listening socket is open.
    is_open: Mutex<bool>,
    opened: Condvar,
    sink: Mutex<Sink>,
    lenses: Mutex<FilteredStats>,
    repeats: Mutex<Duplicates>,
    good: TlsAcceptor,
    foreign: TlsAcceptor,
}

/// The connection ends here, without a word.
#[derive(Debug)]
struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a fault closes the connection")
    }
}

impl std::error::Error for Hangup {}

impl Shared {
    pub(crate) fn new(stats: Stats, plan: Plan, sink: Sink, good: TlsAcceptor, foreign: TlsAcceptor) -> Self {
        Self {
            stats: Mutex::new(stats),
            plan: Mutex::new((Instant::now(), plan)),
            past: Mutex::default(),
            changed: Notify::new(),
            is_open: Mutex::new(true),
            opened: Condvar::new(),
            sink: Mutex::new(sink),
            lenses: Mutex::default(),
            repeats: Mutex::default(),
            good,
            foreign,
        }
    }

    pub(crate) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another plan in force; its windows count from now.
    pub(crate) fn set_plan(&self, plan: Plan) {
        let mut current = self.plan();
        self.remember(&current.1, current.0.elapsed());
        *current = (Instant::now(), plan);
        drop(current);
        self.changed.notify_one();
    }

    /// Puts another plan in force; what both plans have goes on as it is.
    pub(crate) fn change_plan(&self, plan: Plan) {
        let mut current = self.plan();
        let at = current.0.elapsed();
        self.remember(&current.1, at);
        current.1.change(plan, at);
        drop(current);
        self.changed.notify_one();
    }

    /// Notes what a plan has begun, which is about to be another one.
    fn remember(&self, plan: &Plan, at: Duration) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in plan.begun(at) {
            if !past.contains(&kind) {
                past.push(kind);
            }
        }
    }

    /// The faults, as JSON.
    pub(crate) fn faults(&self) -> serde_json::Value {
        let plan = self.plan();
        let states: Vec<_> = plan.1.states(plan.0.elapsed()).collect();
        // Strings and numbers in a list: nothing that JSON does not have.
        serde_json::to_value(states).unwrap_or_default()
    }

    /// The filters that were looked through.
    pub(crate) fn lenses(&self) -> MutexGuard<'_, FilteredStats> {
        self.lenses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults that may strike now, as they were written.
    pub(crate) fn in_force(&self) -> Vec<(Kind, String)> {
        let plan = self.plan();
        plan.1.in_force(plan.0.elapsed()).map(|(kind, spec)| (kind, spec.to_owned())).collect()
    }

    /// The kinds of those that were in force at some time.
    pub(crate) fn begun(&self) -> Vec<Kind> {
        let plan = self.plan();
        let mut kinds = self.past.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kinds.extend(plan.1.begun(plan.0.elapsed()));
        kinds
    }

    /// The frames that came before.
    pub(crate) fn repeats(&self) -> MutexGuard<'_, Duplicates> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults in force, and since when.
    fn plan(&self) -> MutexGuard<'_, (Instant, Plan)> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts more in force; its windows count from now.
    pub(crate) fn add_plan(&self, plan: Plan) {
        let mut current = self.plan();
        let at = current.0.elapsed();
        current.1.add(plan, at);
        drop(current);
        self.changed.notify_one();
    }

    fn set_open(&self, is_open: bool) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = is_open;
        self.opened.notify_all();
    }

    /// Waits until connections are refused when the faults in force say so, and taken when they do not.
    pub(crate) fn wait_settled(&self) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = self.opened.wait_timeout_while(is_open, PATIENCE, |is_open| *is_open == self.refuses());
        drop(settled);
    }

    fn strike(&self, fits: impl Fn(Kind) -> bool) -> Option<crate::fault::Fault> {
        let mut plan = self.plan();
        let at = plan.0.elapsed();
        plan.1.strike(at, fits)
    }

    fn refuses(&self) -> bool {
        let plan = self.plan();
        plan.1.refuses(plan.0.elapsed())
    }

    fn record(&self, headers: &Headers, body: &[u8]) {
        let fresh = self.stats().record(headers, body);
        if !fresh.is_empty() {
            (self.sink.lock().unwrap_or_else(PoisonError::into_inner))(&fresh);
        }
    }
}

/// Takes `address` without listening there: while it is held, nobody else gets it, also when connections are refused.
/// A listener of our own can be bound beside it.
pub(crate) fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Binds to `address`, also right after a listener there was closed.
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
    // While true, connections live; a refusal ends them all.
    let (alive, _) = watch::channel(true);
    let mut alive = alive;
    loop {
        if shared.refuses() {
            if listener.take().is_some() {
                alive = watch::channel(true).0; // dropping the sender ends the connections
                shared.set_open(false);
            }
            tokio::select! {
                () = sleep(LOOK) => continue,
                () = shared.changed.notified() => continue,
                _ = stop.changed() => return Ok(()),
            }
        }
        if listener.is_none() {
            let Ok(again) = bind(address) else {
                sleep(LOOK).await; // somebody took the port for a moment
                continue;
            };
            listener = Some(TcpListener::from_std(again)?);
            shared.set_open(true);
        }
        let Some(open) = &listener else { continue };
        tokio::select! {
            accepted = open.accept() => if let Ok((stream, _)) = accepted {
                let (shared, mut life) = (Arc::clone(&shared), alive.subscribe());
                drop(tokio::spawn(async move {
                    tokio::select! {
                        () = connection(shared, stream) => {}
                        _ = life.changed() => {}
                    }
                }));
            },
            () = sleep(LOOK) => {}
            () = shared.changed.notified() => {}
            _ = stop.changed() => return Ok(()),
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    if shared.strike(|kind| kind == Kind::TlsStall).is_some() {
        sleep(LONG).await;
        return;
    }
    let foreign = shared.strike(|kind| kind == Kind::WrongCert).is_some();
    let acceptor = if foreign { &shared.foreign } else { &shared.good };
    drop(stream.set_nodelay(true));
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return connection::fail(&shared, &format!("TLS: {error}")),
    };
    let life = Life::new(stream.get_ref().1);
    let service = service_fn(|request| answer(&shared, &life, request));
    let mut http = hyper::server::conn::http1::Builder::new();
    let is_idle_fault = tokio::select! {
        // Faults end connections with errors on purpose.
        _ended = http.max_buf_size(256 << 10).serve_connection(TokioIo::new(stream), service) => false,
        () = idle_fault(&shared, &life) => true,
    };
    life.end(&shared, is_idle_fault);
}

/// Comes to its end when a fault closes the connection because nothing is under way.
async fn idle_fault(shared: &Shared, life: &Life) {
    loop {
        sleep(IDLE_LOOK).await;
        if let Some(idle) = life.idle()
            && shared.strike(|kind| matches!(kind, Kind::Idle(most) if idle >= most)).is_some()
        {
            return;
        }
    }
}

async fn answer(
    shared: &Shared,
    life: &Life,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Hangup> {
    let start = Instant::now();
    let headers = read_headers(&request);
    life.begin(shared, &headers);
    shared.stats().request(&headers);
    let (id, token) = (headers.id.clone(), headers.token().to_owned());
    let answer = take(shared, request, headers).await;
    let status = answer.as_ref().ok().map(|response| response.status().as_u16());
    let attempt = Attempt {
        now: Timestamp::now().as_micros(),
        token: &token,
        id: id.as_deref(),
        status,
        took: start.elapsed(),
    };
    shared.stats().attempt(&attempt);
    life.done();
    answer
}

async fn take(
    shared: &Shared,
    request: Request<Incoming>,
    mut headers: Headers,
) -> Result<Response<Full<Bytes>>, Hangup> {
    if shared.strike(|kind| kind == Kind::ResetBefore).is_some() {
        return Err(Hangup);
    }
    let slow = shared.strike(|kind| matches!(kind, Kind::SlowRead(_)));
    let mut body = Vec::new();
    let mut incoming = request.into_body();
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { return Err(Hangup) };
        let Some(data) = frame.data_ref() else { continue };
        if let Some(Kind::SlowRead(speed)) = slow.as_ref().map(|fault| fault.kind) {
            sleep(Duration::from_secs_f64(data.len() as f64 / speed as f64)).await;
        }
        body.extend_from_slice(data);
        if body.len() as u64 > MAX_BODY {
            return Ok(respond(413, "", None));
        }
    }
    headers.wire_bytes = body.len() as u64;
    if headers.gzip {
        let mut plain = Vec::new();
        if GzDecoder::new(&body[..]).take(MAX_BODY).read_to_end(&mut plain).is_err() {
            return Ok(respond(400, "not gzip", None));
        }
        body = plain;
    }
    if let Some(Kind::Latency(time)) = shared.strike(|kind| matches!(kind, Kind::Latency(_))).map(|f| f.kind)
    {
        sleep(time).await;
    }
    if let Some(fault) = shared.strike(|kind| matches!(kind, Kind::Status(_)))
        && let Kind::Status(status) = fault.kind
    {
        return Ok(respond(status, "a fault", fault.retry_after));
    }
    let size = body.len() as u64;
    if shared.strike(|kind| matches!(kind, Kind::TooLarge(most) if size > most)).is_some() {
        return Ok(respond(413, "too large", None));
    }
    if shared.strike(|kind| kind == Kind::JsonProblem).is_some() {
        let problem = r#"{"status":200,"code":"header:invalid","message":"Error parsing header"}"#;
        return Ok(respond(200, problem, None));
    }
    if shared.strike(|kind| kind == Kind::Swallow).is_none() {
        let ignores_losses = shared.strike(|kind| kind == Kind::Deaf).is_some();
        shared.stats().set_ignores_losses(ignores_losses);
        shared.record(&headers, &body);
    }
    if let Some(Kind::Stall(time)) = shared.strike(|kind| matches!(kind, Kind::Stall(_))).map(|f| f.kind) {
        sleep(time).await;
    }
    if shared.strike(|kind| kind == Kind::ResetAfter).is_some() {
        return Err(Hangup);
    }
    let mut response = respond(204, "", None);
    if shared.strike(|kind| kind == Kind::CloseAfterAnswer).is_some() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
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
    // ASCII, so it is a header's value.
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
        auth: auth(text("authorization").as_deref(), request.uri()),
        gzip: text("content-encoding").is_some_and(|coding| coding == "gzip"),
        wire_bytes: 0,
    }
}

/// How a request shows who sends it: the scheme, never the secret.
fn auth(authorization: Option<&str>, uri: &Uri) -> String {
    let scheme = authorization.and_then(|value| value.split_once(' ')).map(|(scheme, _)| scheme);
    let is_word = |word: &&str| word.len() <= 20 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let query = uri.query().filter(|query| !query.is_empty()).map(|_| "query");
    let path = uri.path().rsplit('/').next().filter(|last| !last.is_empty()).map(|_| "path");
    let kinds: Vec<_> = [scheme.filter(is_word), query, path].into_iter().flatten().collect();
    if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(" + ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_their_kind_only() {
        for (authorization, uri, kind) in [
            (None, "/receiver/v1/http/SECRET", "path"),
            (Some("Basic c2VjcmV0"), "/?key=SECRET", "Basic + query"),
            (Some("Bearer SECRET"), "/", "Bearer"),
            (Some("SECRET"), "/", "nothing"),
            (Some("<b>SECRET</b> x"), "/", "nothing"),
        ] {
            assert_eq!(auth(authorization, &uri.parse().expect("a URI")), kind);
        }
    }
}
