//! The HTTPS drain: one request at a time over one connection, HTTP/1.1 as Logplex speaks it.
//!
//! Header names and values are those of Logplex (`logplex_http_drain.erl`, `request_to_iolist`). A connection is
//! kept after an answer of 2xx, and closed after any other: the next attempt then may meet another backend.

mod dial;
mod live;
mod words;

pub use dial::Stage;

use crate::drain::gzip::Gzip;
use crate::drain::verdict::{Verdict, judge, retry_after};
use bytes::Bytes;
use dial::{Dialer, Progress, Tunnel};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use live::Live;
use rustls::ClientConfig;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::timeout;
use tower_service::Service;
use words::Secrets;

/// The whole of connecting: name, TCP, proxy, TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// How much of an answer's body is read, in bytes; a connection with more to come is closed.
const MAX_ANSWER: usize = 4096;
/// How long an answer's body may take: the verdict stands with its head.
const ANSWER_BODY: Duration = Duration::from_secs(2);

const MSG_COUNT: HeaderName = HeaderName::from_static("logplex-msg-count");
const FRAME_ID: HeaderName = HeaderName::from_static("logplex-frame-id");
const DRAIN_TOKEN: HeaderName = HeaderName::from_static("logplex-drain-token");

/// Where and how to post.
#[derive(Clone)]
pub struct Target {
    /// Name or address, an IPv6 address with or without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query, sent byte for byte; begins with `/`. The last segment and the query are secrets.
    pub path_and_query: String,
    /// The value of `Authorization`, as `Basic dTpw`. A secret.
    pub authorization: Option<String>,
    /// `https`; else `http`, which is for loopback or by the owner's leave.
    pub tls: bool,
    /// Extra headers, name and value, in this order. The values are secrets.
    pub headers: Vec<(String, String)>,
    /// `Logplex-Drain-Token`.
    pub token: String,
    /// Send bodies with gzip, until the drain is found not to take it.
    pub gzip: bool,
    /// Bounds one attempt, from the look-up of the name to the last byte of the answer that is read.
    pub request_timeout: Duration,
    /// A CONNECT proxy: host and port.
    pub proxy: Option<(String, u16)>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why a target cannot be posted to. It never shows a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// The host is no name and no address.
    Host,
    /// The path or query has a byte that no request line may have, or does not begin with `/`.
    Path,
    /// The `Authorization` value has a byte that no header may have.
    Authorization,
    /// The drain token has a byte that no header may have.
    Token,
    /// An extra header's name or value is not one.
    Header(String),
    /// An extra header that the agent sets itself.
    Reserved(String),
    /// The proxy's host is no name and no address.
    Proxy,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the drain's host is neither a name nor an address"),
            Self::Path => f.write_str(
                "the drain's path or query has a byte that a URL may not have: percent-encode blanks, control \
                 characters and any of <>`#",
            ),
            Self::Authorization => f.write_str("the drain's user or password has a byte that no header may have"),
            Self::Token => f.write_str("the drain token has a byte that no header may have"),
            Self::Header(name) => write!(f, "the extra header {name} has a name or value that no header may have"),
            Self::Reserved(name) => write!(f, "the extra header {name} is set by tailrace itself"),
            Self::Proxy => f.write_str("the proxy's host is neither a name nor an address"),
        }
    }
}

impl std::error::Error for TargetError {}

/// A batch on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Frames, as they are in the spool. Cloned without a copy.
    pub body: Bytes,
    /// `Logplex-Msg-Count`: how many frames.
    pub frames: u64,
    /// `Logplex-Frame-Id`: 32 upper-case hex digits, the same on every attempt.
    pub id: String,
}

/// What came of one attempt.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What becomes of the batch; transport errors are [`Verdict::Retry`].
    pub verdict: Verdict,
    /// The status code, when the drain answered.
    pub status: Option<u16>,
    /// The wait that the drain asked for.
    pub retry_after: Option<Duration>,
    /// The beginning of the answer's body, or what went wrong, in at most 256 bytes of printable ASCII without
    /// a secret of the target.
    pub detail: String,
    /// Bytes of the body as sent: after gzip.
    pub body_bytes: u64,
    /// From the call to the verdict.
    pub elapsed: Duration,
    /// How far the attempt came.
    pub stage: Stage,
    /// A kept connection turned out dead before a byte of the answer, and the request went out a second time,
    /// on a fresh one.
    pub resent: bool,
}

/// Posts batches to one drain.
pub struct Client {
    connector: HttpsConnector<Dialer>,
    /// Where the connector goes.
    authority: Uri,
    /// Path and query.
    uri: Uri,
    /// Every header but those that depend on the batch, which have their place here.
    headers: HeaderMap,
    request_timeout: Duration,
    coding: Coding,
    secrets: Secrets,
    progress: Progress,
    live: Option<Live>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Client {
    /// Prepares everything that does not depend on a batch. Nothing is connected before the first post.
    ///
    /// # Errors
    /// What of the target cannot be sent.
    pub fn new(target: &Target, tls: Arc<ClientConfig>) -> Result<Self, TargetError> {
        let scheme = if target.tls { "https" } else { "http" };
        let authority = uri(scheme, &target.host, target.port).ok_or(TargetError::Host)?;
        let proxy =
            target.proxy.as_ref().map(|(host, port)| uri("http", host, *port).ok_or(TargetError::Proxy));
        let tunnel = proxy.transpose()?.map(|proxy| Tunnel { proxy, authority: host_and_port(&authority) });
        let progress = Progress::new();
        let dialer = Dialer::new(tunnel, CONNECT.min(target.request_timeout), progress.clone());
        Ok(Self {
            connector: HttpsConnector::from((dialer, tls)),
            headers: headers(target, &authority)?,
            authority,
            uri: path_and_query(&target.path_and_query)?,
            request_timeout: target.request_timeout,
            coding: if target.gzip { Coding::Gzip(Gzip::new()) } else { Coding::Plain },
            secrets: Secrets::of(target),
            progress,
            live: None,
        })
    }

    /// Posts `batch` once and says what came of it, within the request timeout.
    ///
    /// May be dropped at any time: the connection under way is closed then.
    pub async fn post(&mut self, batch: &Outgoing) -> Answer {
        let start = Instant::now();
        let (body, gzipped) = self.coding.encode(&batch.body);
        let body_bytes = body.len() as u64;
        let mut resent = false;
        let attempt = match self.request(batch, body, gzipped) {
            Some(request) => {
                let patience = self.request_timeout;
                let exchange = self.exchange(&request, &mut resent);
                match timeout(patience, exchange).await {
                    Ok(result) => result,
                    Err(_) => Err(words::timed_out(patience, self.progress.get())),
                }
            }
            None => Err("the frame id has a byte that no header may have".to_owned()),
        };
        let mut answer = Answer {
            verdict: Verdict::Retry,
            status: None,
            retry_after: None,
            detail: String::new(),
            body_bytes,
            elapsed: Duration::ZERO,
            stage: self.progress.get(),
            resent,
        };
        match attempt {
            Ok(said) => {
                answer.verdict = judge(said.status, gzipped);
                answer.status = Some(said.status);
                answer.retry_after = said.retry_after;
                answer.detail = said.detail;
                self.coding.learn(answer.verdict);
            }
            Err(detail) => answer.detail = detail,
        }
        answer.elapsed = start.elapsed();
        answer
    }

    fn request(&self, batch: &Outgoing, body: Bytes, gzipped: bool) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        headers.insert(MSG_COUNT, HeaderValue::from(batch.frames));
        headers.insert(FRAME_ID, HeaderValue::from_str(&batch.id).ok()?);
        if gzipped {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Some(request)
    }

    /// Sends over the kept connection, or a fresh one; a kept one that turns out dead is replaced once.
    async fn exchange(&mut self, request: &Request<Full<Bytes>>, resent: &mut bool) -> Result<Said, String> {
        if let Some(mut live) = self.live.take()
            && live.ready().await
        {
            self.progress.set(Stage::Request);
            match live.send(request.clone()).await {
                Ok(response) => return Ok(self.listen(live, response).await),
                Err(error) if error.is_parse() => return Err(words::transport(&error)),
                Err(_) => *resent = true,
            }
        }
        let mut live = self.connect().await?;
        self.progress.set(Stage::Request);
        match live.send(request.clone()).await {
            Ok(response) => Ok(self.listen(live, response).await),
            Err(error) => Err(words::transport(&error)),
        }
    }

    /// Looks up, connects and agrees on TLS, and posts nothing.
    ///
    /// # Errors
    /// What went wrong, in plain words; [`Client::stage`] says where.
    pub async fn connect_only(&mut self) -> Result<(), String> {
        self.connect().await.map(drop)
    }

    /// How far the last attempt came.
    pub fn stage(&self) -> Stage {
        self.progress.get()
    }

    async fn connect(&mut self) -> Result<Live, String> {
        self.progress.set(Stage::Connect);
        let patience = CONNECT.min(self.request_timeout);
        let stream = match timeout(patience, self.connector.call(self.authority.clone())).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(words::transport(error.as_ref())),
            Err(_) => return Err(words::timed_out(patience, self.progress.get())),
        };
        Live::over(stream).await.map_err(|error| words::transport(&error))
    }

    /// Reads the answer, and keeps the connection when nothing speaks against it.
    async fn listen(&mut self, live: Live, response: Response<Incoming>) -> Said {
        self.progress.set(Stage::Answer);
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        let mut body = response.into_body();
        let mut text = Vec::new();
        let whole = matches!(timeout(ANSWER_BODY, read(&mut body, &mut text)).await, Ok(true));
        if whole && status.is_success() {
            live.rest();
            self.live = Some(live);
        }
        Said { status: status.as_u16(), retry_after, detail: self.secrets.mask(&text, !whole) }
    }
}

/// What the drain said.
struct Said {
    status: u16,
    retry_after: Option<Duration>,
    detail: String,
}

/// Reads a body's first 4 KiB into `text`; whether that was all.
async fn read(body: &mut Incoming, text: &mut Vec<u8>) -> bool {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let Some(data) = frame.data_ref() else { continue };
        let room = MAX_ANSWER - text.len();
        text.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return false;
        }
    }
    true
}

/// Whether bodies go out with gzip, and what the drain made of it.
#[derive(Debug)]
enum Coding {
    Plain,
    Gzip(Gzip),
    /// A gzipped body was answered 400 or 415: until the next delivery or refusal it is not known why.
    Doubted(Gzip),
}

impl Coding {
    /// The body to send, and whether it is gzip.
    fn encode(&mut self, body: &Bytes) -> (Bytes, bool) {
        match self {
            Self::Plain | Self::Doubted(_) => (body.clone(), false),
            Self::Gzip(gzip) => (gzip.compress(body).into(), true),
        }
    }

    /// A drain that takes plain what it refused with gzip does not take gzip. One that refuses both means the
    /// batch.
    fn learn(&mut self, verdict: Verdict) {
        *self = match (std::mem::replace(self, Self::Plain), verdict) {
            (Self::Gzip(gzip), Verdict::Plain) => Self::Doubted(gzip),
            (Self::Doubted(_), Verdict::Delivered) => Self::Plain,
            (Self::Doubted(gzip), Verdict::Reject) => Self::Gzip(gzip),
            (same, _) => same,
        };
    }
}

fn headers(target: &Target, authority: &Uri) -> Result<HeaderMap, TargetError> {
    let placeholder = HeaderValue::from_static("");
    let mut headers = HeaderMap::new();
    let default = if target.tls { 443 } else { 80 };
    let host = if target.port == default {
        authority.host().unwrap_or_default().to_owned()
    } else {
        host_and_port(authority)
    };
    headers.insert(header::HOST, value(&host).ok_or(TargetError::Host)?);
    if let Some(authorization) = &target.authorization {
        headers.insert(header::AUTHORIZATION, value(authorization).ok_or(TargetError::Authorization)?);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/logplex-1"));
    headers.insert(MSG_COUNT, placeholder.clone());
    headers.insert(FRAME_ID, placeholder);
    headers.insert(DRAIN_TOKEN, value(&target.token).ok_or(TargetError::Token)?);
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("tailrace/", env!("CARGO_PKG_VERSION"))),
    );
    for (name, text) in &target.headers {
        let wrong = || TargetError::Header(name.clone());
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        if is_reserved(&parsed) {
            return Err(TargetError::Reserved(name.clone()));
        }
        headers.insert(parsed, value(text).ok_or_else(wrong)?);
    }
    Ok(headers)
}

/// Headers that say what the body is and how it is framed. `Authorization` and `User-Agent` may be replaced.
fn is_reserved(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        MSG_COUNT,
        FRAME_ID,
        DRAIN_TOKEN,
    ]
    .contains(name)
}

/// A value that may be a secret.
fn value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn path_and_query(text: &str) -> Result<Uri, TargetError> {
    let uri: Uri = text.parse().map_err(|_| TargetError::Path)?;
    // What the parser dropped (a fragment) or did not take for a path would not go out as it came.
    let same = text.starts_with('/') && uri.path_and_query().is_some_and(|parsed| parsed.as_str() == text);
    if same { Ok(uri) } else { Err(TargetError::Path) }
}

fn uri(scheme: &str, host: &str, port: u16) -> Option<Uri> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let authority = match inner.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) if host.is_empty() || host.contains([':', '@', '[', ']']) => return None,
        Err(_) => format!("{host}:{port}"),
    };
    Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build().ok()
}

fn host_and_port(uri: &Uri) -> String {
    uri.authority().map_or_else(String::new, ToString::to_string)
}
