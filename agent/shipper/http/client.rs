//! The HTTPS client of one drain: posts a batch and reports the outcome.

use super::connection::HttpConnection;
use super::connector::{DrainConnector, Phase, Progress, Tunnel};
use super::endpoint::{Endpoint, EndpointError, FRAME_ID, MSG_COUNT, host_and_port};
use super::error::AttemptError;
use super::gzip::{BodyEncoder, EncodedBody, Gzip};
use super::redact::{BodyEnd, Secrets};
use super::retry_after::retry_after;
use crate::shipper::verdict::{ContentEncoding, Verdict, judge};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use rustls::ClientConfig;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

/// For lookup, TCP, proxy and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a response's body is read. A connection with a longer body is closed.
const MAX_RESPONSE_BODY_BYTES: usize = 4096;
/// For reading a response's body. The verdict does not depend on it: the status is known by then.
const RESPONSE_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// A batch to be sent.
#[derive(Clone)]
pub struct BatchRequest {
    /// Frames, as they are in the spool. Cloned without a copy.
    pub body: Bytes,
    /// `Logplex-Msg-Count`: the number of frames.
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

/// The outcome of one attempt.
#[derive(Clone, Debug)]
pub struct AttemptOutcome {
    /// What to do with the batch; [`Verdict::Retry`] when there was no response.
    pub verdict: Verdict,
    /// The status code of the response, if there was one.
    pub status: Option<u16>,
    /// The wait that the drain asked for (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// For people: the beginning of the response's body, in at most 256 bytes of printable ASCII without a secret
    /// of the endpoint; without a response, the text of `error`.
    pub detail: String,
    /// Why there was no response.
    pub error: Option<AttemptError>,
    /// Bytes of the body as sent: after gzip.
    pub body_bytes: u64,
    /// From the call to the verdict.
    pub elapsed: Duration,
    /// The last phase that the attempt entered.
    pub phase: Phase,
    /// A kept connection failed before its response, and the batch was sent again over a new one: the drain may
    /// have received it twice, under one id.
    pub resent: bool,
}

/// Posts batches to one drain.
pub struct Client {
    connector: HttpsConnector<DrainConnector>,
    /// Scheme, host and port: what the connector connects to.
    authority: Uri,
    /// Path and query.
    uri: Uri,
    /// All headers. Those that depend on the batch are placeholders, so that the order is fixed.
    headers: HeaderMap,
    request_timeout: Duration,
    max_connection_age: Duration,
    encoder: BodyEncoder,
    secrets: Secrets,
    progress: Progress,
    /// The connection of the last request, if it can be used again.
    connection: Option<HttpConnection>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Client {
    /// Prepares everything that does not depend on a batch. Connects on the first post only.
    ///
    /// # Errors
    /// The part of the endpoint that cannot be sent.
    pub fn new(endpoint: &Endpoint, tls: Arc<ClientConfig>) -> Result<Self, EndpointError> {
        let authority = endpoint.authority()?;
        let tunnel = endpoint.proxy()?.map(|proxy| Tunnel { proxy, authority: host_and_port(&authority) });
        let progress = Progress::new();
        let connect_timeout = CONNECT_TIMEOUT.min(endpoint.request_timeout);
        let connector = DrainConnector::new(tunnel, connect_timeout, progress.clone());
        Ok(Self {
            connector: HttpsConnector::from((connector, tls)),
            headers: endpoint.headers()?,
            authority,
            uri: endpoint.path_and_query()?,
            request_timeout: endpoint.request_timeout,
            max_connection_age: endpoint.max_connection_age,
            encoder: if endpoint.gzip { BodyEncoder::Gzip(Gzip::new()) } else { BodyEncoder::Identity },
            secrets: Secrets::of(endpoint),
            progress,
            connection: None,
        })
    }

    /// Posts `batch` once and reports the outcome, within the request timeout.
    ///
    /// Cancel safe: dropping the future closes the connection in use.
    pub async fn post(&mut self, batch: &BatchRequest) -> AttemptOutcome {
        let start = Instant::now();
        let body = self.encoder.encode(&batch.body);
        let (body_bytes, encoding) = (body.bytes.len() as u64, body.encoding);
        let mut resent = false;
        let result = self.attempt(batch, body, start + self.request_timeout, &mut resent).await;
        let mut outcome = AttemptOutcome {
            verdict: Verdict::Retry,
            status: None,
            retry_after: None,
            detail: String::new(),
            error: None,
            body_bytes,
            elapsed: Duration::ZERO,
            phase: self.progress.get(),
            resent,
        };
        match result {
            Ok(response) => {
                outcome.verdict = judge(response.status, encoding);
                outcome.status = Some(response.status);
                outcome.retry_after = response.retry_after;
                outcome.detail = response.detail;
                self.encoder.observe(outcome.verdict);
            }
            Err(error) => {
                outcome.detail = error.to_string();
                outcome.error = Some(error);
            }
        }
        outcome.elapsed = start.elapsed();
        outcome
    }

    /// Connects, up to and including TLS, and sends nothing.
    ///
    /// # Errors
    /// Why there is no connection; [`Client::phase`] is the phase that failed.
    pub async fn connect_only(&mut self) -> Result<(), AttemptError> {
        self.connect().await.map(drop)
    }

    /// The last phase that the last attempt entered.
    pub fn phase(&self) -> Phase {
        self.progress.get()
    }

    /// Sends the request and reads the response. Sets `resent` when the request was sent a second time.
    async fn attempt(
        &mut self,
        batch: &BatchRequest,
        body: EncodedBody,
        deadline: Instant,
        resent: &mut bool,
    ) -> Result<DrainResponse, AttemptError> {
        let request = self.request(batch, body).ok_or(AttemptError::FrameId)?;
        match timeout_at(deadline, self.send(&request, resent)).await {
            Ok(sent) => {
                let (connection, response) = sent?;
                Ok(self.read_response(connection, response, deadline).await)
            }
            Err(_) => Err(self.timed_out(self.request_timeout)),
        }
    }

    /// `None` if the frame id is not a header value.
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

    /// Sends over the kept connection, if there is one; when it fails before its response, once more over a new
    /// connection.
    async fn send(
        &mut self,
        request: &Request<Full<Bytes>>,
        resent: &mut bool,
    ) -> Result<(HttpConnection, Response<Incoming>), AttemptError> {
        let young = self.connection.take().filter(|kept| kept.opened.elapsed() < self.max_connection_age);
        if let Some(mut connection) = young
            && connection.ready().await
        {
            self.progress.set(Phase::Request);
            match connection.send(request.clone()).await {
                Ok(response) => return Ok((connection, response)),
                Err(error) if error.is_parse() => return Err(error.into()),
                Err(_) => *resent = true,
            }
        }
        let mut connection = self.connect().await?;
        self.progress.set(Phase::Request);
        let response = connection.send(request.clone()).await?;
        Ok((connection, response))
    }

    async fn connect(&mut self) -> Result<HttpConnection, AttemptError> {
        self.progress.set(Phase::Connect);
        let limit = CONNECT_TIMEOUT.min(self.request_timeout);
        let stream = match timeout(limit, self.connector.call(self.authority.clone())).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(AttemptError::classify(error.as_ref())),
            Err(_) => return Err(self.timed_out(limit)),
        };
        Ok(HttpConnection::open(stream).await?)
    }

    fn timed_out(&self, after: Duration) -> AttemptError {
        AttemptError::Timeout { phase: self.progress.get(), after }
    }

    /// Reads the response. Keeps the connection after a complete response of 2xx.
    async fn read_response(
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
        let location = redirect_target(status, response.headers().get(header::LOCATION));
        let mut body = response.into_body();
        let mut text = Vec::new();
        let deadline = deadline.min(Instant::now() + RESPONSE_BODY_TIMEOUT);
        let end = timeout_at(deadline, read_body(&mut body, &mut text)).await.unwrap_or(BodyEnd::Truncated);
        if end == BodyEnd::Complete && status.is_success() {
            connection.mark_idle();
            self.connection = Some(connection);
        }
        // Of a redirect the text says nothing more.
        let detail = match location {
            Some(location) => self.secrets.redact(location.as_bytes(), BodyEnd::Complete),
            None => self.secrets.redact(&text, end),
        };
        DrainResponse { status: status.as_u16(), retry_after, detail }
    }
}

/// Where a response redirects to, without what may be a secret: scheme, host and port.
fn redirect_target(status: StatusCode, location: Option<&HeaderValue>) -> Option<String> {
    let location = location.filter(|_| status.is_redirection())?.to_str().ok()?.trim();
    let Ok(uri) = location.parse::<Uri>() else { return Some("it redirects".to_owned()) };
    let (Some(scheme), Some(host)) = (uri.scheme_str().or(Some("https")), uri.host()) else {
        return Some("it redirects to another path of the same host".to_owned());
    };
    let port = uri.port().map_or_else(String::new, |port| format!(":{port}"));
    let path = if ["", "/"].contains(&uri.path()) && uri.query().is_none() { "/" } else { "/..." };
    Some(format!("it redirects to {scheme}://{host}{port}{path}"))
}

/// The drain's response.
struct DrainResponse {
    status: u16,
    retry_after: Option<Duration>,
    /// The beginning of the body, redacted.
    detail: String,
}

/// Reads at most [`MAX_RESPONSE_BODY_BYTES`] of a body into `text`.
async fn read_body(body: &mut Incoming, text: &mut Vec<u8>) -> BodyEnd {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return BodyEnd::Truncated };
        let Some(data) = frame.data_ref() else { continue };
        let room = MAX_RESPONSE_BODY_BYTES - text.len();
        text.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return BodyEnd::Truncated;
        }
    }
    BodyEnd::Complete
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_shows_where_to_without_a_secret() {
        let target = |status: u16, location: &str| {
            let location = HeaderValue::from_str(location).expect("a header value");
            redirect_target(StatusCode::from_u16(status).expect("a status"), Some(&location))
        };
        for (location, expected) in [
            ("https://new.example/receiver/SECRET?k=SECRET", "it redirects to https://new.example/..."),
            ("http://u:SECRET@new.example:8080/", "it redirects to http://new.example:8080/"),
            ("https://new.example", "it redirects to https://new.example/"),
            ("/login/SECRET", "it redirects to another path of the same host"),
            ("not a URL SECRET", "it redirects"),
        ] {
            assert_eq!(target(301, location).as_deref(), Some(expected), "{location}");
        }
        assert_eq!(target(200, "https://new.example/"), None);
        assert_eq!(redirect_target(StatusCode::MOVED_PERMANENTLY, None), None);
    }
}
