//! The HTTPS client of one drain: posts a batch and says what came of it.

use super::connection::HttpConnection;
use super::connector::{DrainConnector, Phase, Progress, Tunnel};
use super::encoding::{BodyEncoder, EncodedBody, Gzip};
use super::endpoint::{Endpoint, EndpointError, FRAME_ID, MSG_COUNT, host_and_port};
use super::error as error_text;
use super::redact::{BodyEnd, Secrets};
use super::retry_after::retry_after;
use crate::shipper::verdict::{ContentEncoding, Verdict, judge};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use rustls::ClientConfig;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

/// The whole of connecting: name, TCP, proxy, TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// How much of an answer's body is read, in bytes; a connection with more to come is closed.
const MAX_ANSWER: usize = 4096;
/// How long an answer's body may take: the verdict stands with its head.
const ANSWER_BODY: Duration = Duration::from_secs(2);

/// A batch on its way out.
#[derive(Clone)]
pub struct BatchRequest {
    /// Frames, as they are in the spool. Cloned without a copy.
    pub body: Bytes,
    /// `Logplex-Msg-Count`: how many frames.
    pub frames: u64,
    /// `Logplex-Frame-Id`: 32 upper-case hex digits, the same on every attempt.
    pub id: String,
}

impl fmt::Debug for BatchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchRequest")
            .field("id", &self.id)
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

/// What came of one attempt.
#[derive(Clone, Debug)]
pub struct AttemptOutcome {
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
    pub phase: Phase,
    /// A kept connection turned out dead before its answer, and the batch was tried once more on a fresh one:
    /// the drain may have seen it twice, under one id.
    pub resent: bool,
}

/// Posts batches to one drain.
pub struct Client {
    connector: HttpsConnector<DrainConnector>,
    /// Where the connector goes.
    authority: Uri,
    /// Path and query.
    uri: Uri,
    /// Every header but those that depend on the batch, which have their place here.
    headers: HeaderMap,
    request_timeout: Duration,
    encoder: BodyEncoder,
    secrets: Secrets,
    progress: Progress,
    connection: Option<HttpConnection>,
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
    pub fn new(target: &Endpoint, tls: Arc<ClientConfig>) -> Result<Self, EndpointError> {
        let authority = target.authority()?;
        let tunnel = target.proxy()?.map(|proxy| Tunnel { proxy, authority: host_and_port(&authority) });
        let progress = Progress::new();
        let dialer = DrainConnector::new(tunnel, CONNECT.min(target.request_timeout), progress.clone());
        Ok(Self {
            connector: HttpsConnector::from((dialer, tls)),
            headers: target.headers()?,
            authority,
            uri: target.path_and_query()?,
            request_timeout: target.request_timeout,
            encoder: if target.gzip { BodyEncoder::Gzip(Gzip::new()) } else { BodyEncoder::Identity },
            secrets: Secrets::of(target),
            progress,
            connection: None,
        })
    }

    /// Posts `batch` once and says what came of it, within the request timeout.
    ///
    /// May be dropped at any time: the connection under way is closed then.
    pub async fn post(&mut self, batch: &BatchRequest) -> AttemptOutcome {
        let start = Instant::now();
        let deadline = start + self.request_timeout;
        let body = self.encoder.encode(&batch.body);
        let (body_bytes, encoding) = (body.bytes.len() as u64, body.encoding);
        let mut resent = false;
        let attempt = match self.request(batch, body) {
            Some(request) => match timeout_at(deadline, self.exchange(&request, &mut resent)).await {
                Ok(Ok((connection, response))) => Ok(self.listen(connection, response, deadline).await),
                Ok(Err(detail)) => Err(detail),
                Err(_) => Err(error_text::timed_out(self.request_timeout, self.progress.get())),
            },
            None => Err("the frame id has a byte that no header may have".to_owned()),
        };
        let mut answer = AttemptOutcome {
            verdict: Verdict::Retry,
            status: None,
            retry_after: None,
            detail: String::new(),
            body_bytes,
            elapsed: Duration::ZERO,
            phase: self.progress.get(),
            resent,
        };
        match attempt {
            Ok(response_text) => {
                answer.verdict = judge(response_text.status, encoding);
                answer.status = Some(response_text.status);
                answer.retry_after = response_text.retry_after;
                answer.detail = response_text.detail;
                self.encoder.observe(answer.verdict);
            }
            Err(detail) => answer.detail = detail,
        }
        answer.elapsed = start.elapsed();
        answer
    }

    fn request(&self, batch: &BatchRequest, body: EncodedBody) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::new(body.bytes));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        headers.insert(MSG_COUNT, HeaderValue::from(batch.frames));
        headers.insert(FRAME_ID, HeaderValue::from_str(&batch.id).ok()?);
        if body.encoding == ContentEncoding::Gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Some(request)
    }

    /// Sends over the kept connection, or a fresh one; a kept one that turns out dead is replaced once.
    async fn exchange(
        &mut self,
        request: &Request<Full<Bytes>>,
        resent: &mut bool,
    ) -> Result<(HttpConnection, Response<Incoming>), String> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await
        {
            self.progress.set(Phase::Request);
            match connection.send(request.clone()).await {
                Ok(response) => return Ok((connection, response)),
                Err(error) if error.is_parse() => return Err(error_text::transport(&error)),
                Err(_) => *resent = true,
            }
        }
        let mut connection = self.connect().await?;
        self.progress.set(Phase::Request);
        match connection.send(request.clone()).await {
            Ok(response) => Ok((connection, response)),
            Err(error) => Err(error_text::transport(&error)),
        }
    }

    /// Looks up, connects and agrees on TLS, and posts nothing.
    ///
    /// # Errors
    /// What went wrong, in plain replies; [`Client::phase`] says where.
    pub async fn connect_only(&mut self) -> Result<(), String> {
        self.connect().await.map(drop)
    }

    /// How far the last attempt came.
    pub fn phase(&self) -> Phase {
        self.progress.get()
    }

    async fn connect(&mut self) -> Result<HttpConnection, String> {
        self.progress.set(Phase::Connect);
        let patience = CONNECT.min(self.request_timeout);
        let stream = match timeout(patience, self.connector.call(self.authority.clone())).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(error_text::transport(error.as_ref())),
            Err(_) => return Err(error_text::timed_out(patience, self.progress.get())),
        };
        HttpConnection::over(stream).await.map_err(|error| error_text::transport(&error))
    }

    /// Reads the answer, and keeps the connection when nothing speaks against it.
    async fn listen(
        &mut self,
        connection: HttpConnection,
        response: Response<Incoming>,
        deadline: Instant,
    ) -> DrainResponse {
        self.progress.set(Phase::Response);
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        let mut body = response.into_body();
        let mut text = Vec::new();
        let deadline = deadline.min(Instant::now() + ANSWER_BODY);
        let whole = matches!(timeout_at(deadline, read(&mut body, &mut text)).await, Ok(true));
        if whole && status.is_success() {
            connection.rest();
            self.connection = Some(connection);
        }
        let end = if whole { BodyEnd::Complete } else { BodyEnd::Truncated };
        DrainResponse { status: status.as_u16(), retry_after, detail: self.secrets.redact(&text, end) }
    }
}

/// What the drain response_text.
struct DrainResponse {
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
