//! Forwards one request to a dyno, and its response to the client.

use super::{Backend, RouterState};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time to accept a connection (H19).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An error of the router (Dev Center, "Error Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouterError {
    pub(crate) code: &'static str,
    desc: &'static str,
    level: &'static str,
    /// The side that closed the connection early: `client`, `backend`, or empty.
    sock: &'static str,
}

const fn error(code: &'static str, desc: &'static str) -> RouterError {
    RouterError { code, desc, level: "error", sock: "" }
}

pub(super) const CRASHED: RouterError = error("H10", "App crashed");
const REQUEST_TIMEOUT: RouterError = error("H12", "Request timeout");
const NO_RESPONSE: RouterError = error("H13", "Connection closed without response");
pub(super) const NO_DYNOS: RouterError = error("H14", "No web processes running");
const RESPONSE_INTERRUPTED: RouterError =
    RouterError { sock: "backend", ..error("H18", "Server Request Interrupted") };
const BACKEND_TIMEOUT: RouterError = error("H19", "Backend connection timeout");
pub(super) const BOOT_TIMEOUT: RouterError = error("H20", "App boot timeout");
const BACKEND_REFUSED: RouterError = error("H21", "Backend connection refused");
const CLIENT_GONE: RouterError =
    RouterError { level: "warning", sock: "client", ..error("H27", "Client Request Interrupted") };

/// A request and its result.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    method: Method,
    path: String,
    id: String,
    /// The dyno's name, and how long connecting took.
    dyno: Option<(String, Duration)>,
    service: Option<Duration>,
    pub(crate) status: u16,
    bytes: u64,
    pub(crate) error: Option<RouterError>,
}

impl Exchange {
    pub(super) fn new(request: &Request<Incoming>, id: String) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            id,
            dyno: None,
            service: None,
            status: 503,
            bytes: 0,
            error: None,
        }
    }

    /// The line that the router logs.
    pub(super) fn log_line(&self, host: &str) -> String {
        let (method, path, id) = (&self.method, &self.path, &self.id);
        let start = match self.error {
            None => "at=info".to_owned(),
            Some(RouterError { code, desc, level, sock }) => {
                let sock = if sock.is_empty() { String::new() } else { format!("sock={sock} ") };
                format!("{sock}at={level} code={code} desc=\"{desc}\"")
            }
        };
        let ms =
            |time: Option<Duration>| time.map_or(String::new(), |time| format!("{}ms", time.as_millis()));
        let (dyno, connect) = match &self.dyno {
            Some((dyno, connect)) => (dyno.as_str(), ms(Some(*connect))),
            None => ("", String::new()),
        };
        let bytes = if self.dyno.is_some() { self.bytes.to_string() } else { String::new() };
        format!(
            "{start} method={method} path=\"{path}\" host={host} request_id={id} fwd=\"127.0.0.1\" dyno={dyno} \
             connect={connect} service={} status={} bytes={bytes} protocol=http",
            ms(self.service),
            self.status,
        )
    }

    /// Forwards the request to the dyno. The request is logged when its response has been forwarded.
    pub(super) async fn forward(
        mut self,
        mut request: Request<Incoming>,
        backend: Result<Backend, RouterError>,
        state: Arc<RouterState>,
    ) -> Response<ResponseBody> {
        let started = Instant::now();
        let client = hyper::upgrade::on(&mut request);
        let forwarded = match backend {
            Err(error) => Err(error),
            Ok(Backend { dyno, port }) => match connect(port).await {
                Err(error) => {
                    self.dyno = Some((dyno, started.elapsed()));
                    Err(error)
                }
                Ok(stream) => {
                    self.dyno = Some((dyno, started.elapsed()));
                    let request = self.add_headers(request);
                    timeout(state.request_timeout, send(stream, request))
                        .await
                        .unwrap_or(Err(REQUEST_TIMEOUT))
                }
            },
        };
        match forwarded {
            Ok(mut response) => {
                self.status = response.status().as_u16();
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    drop(tokio::spawn(self.tunnel(
                        client,
                        hyper::upgrade::on(&mut response),
                        started,
                        state,
                    )));
                    return response.map(|_empty| ResponseBody::Router(Full::default()));
                }
                response.map(|body| {
                    ResponseBody::App(Box::new(CountedBody { body, started, pending: Some((self, state)) }))
                })
            }
            Err(error) => {
                self.error = Some(error);
                self.service = self.dyno.is_some().then(|| started.elapsed());
                state.record(&self);
                let text = format!("{} {}\n", error.code, error.desc);
                let mut response = Response::new(ResponseBody::Router(Full::new(text.into())));
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            }
        }
    }

    /// Copies bytes both ways after a protocol upgrade, such as to a web socket. The request is logged at its end.
    async fn tunnel(mut self, client: OnUpgrade, app: OnUpgrade, started: Instant, state: Arc<RouterState>) {
        if let (Ok(client), Ok(app)) = tokio::join!(client, app) {
            let (mut client, mut app) = (TokioIo::new(client), TokioIo::new(app));
            // The byte count is known only when both sides end without an error.
            if let Ok((_, bytes)) = tokio::io::copy_bidirectional(&mut client, &mut app).await {
                self.bytes = bytes;
            }
        }
        self.service = Some(started.elapsed());
        state.record(&self);
    }

    /// Adds the headers that the platform's router adds.
    fn add_headers(&self, mut request: Request<Incoming>) -> Request<Incoming> {
        *request.uri_mut() = self.path.parse().unwrap_or(Uri::from_static("/"));
        let headers = request.headers_mut();
        headers.entry(HOST).or_insert(HeaderValue::from_static("localhost"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for (name, value) in [
            ("x-request-id", self.id.clone()),
            ("x-forwarded-for", "127.0.0.1".to_owned()),
            ("x-forwarded-port", "443".to_owned()),
            ("x-forwarded-proto", "https".to_owned()),
            ("x-request-start", now.as_millis().to_string()),
            ("via", "1.1 vegur".to_owned()),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        request
    }
}

/// Connects to a dyno, which may listen on IPv4 or IPv6.
async fn connect(port: u16) -> Result<TcpStream, RouterError> {
    let either_family = async {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Ok(stream) => Ok(stream),
            Err(_) => TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.map_err(|_| BACKEND_REFUSED),
        }
    };
    timeout(CONNECT_TIMEOUT, either_family).await.unwrap_or(Err(BACKEND_TIMEOUT))
}

/// Sends the request; returns the head of the response.
async fn send(stream: TcpStream, request: Request<Incoming>) -> Result<Response<Incoming>, RouterError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| NO_RESPONSE)?;
    // The task ends with the response's body, or when the app closes the connection.
    drop(tokio::spawn(connection.with_upgrades()));
    sender.send_request(request).await.map_err(|_| NO_RESPONSE)
}

/// The body of a response.
pub(crate) enum ResponseBody {
    /// The app's response.
    App(Box<CountedBody>),
    /// The router's error page.
    Router(Full<Bytes>),
}

/// The body of an app's response, which counts its bytes and logs the request at its end.
pub(crate) struct CountedBody {
    body: Incoming,
    started: Instant,
    /// What is logged; `None` once it was.
    pending: Option<(Exchange, Arc<RouterState>)>,
}

impl CountedBody {
    fn finish(&mut self, error: Option<RouterError>) {
        if let Some((mut exchange, state)) = self.pending.take() {
            exchange.error = error;
            if error == Some(CLIENT_GONE) {
                exchange.status = 499;
            } else if error.is_some() {
                exchange.status = 503;
            }
            exchange.service = Some(self.started.elapsed());
            state.record(&exchange);
        }
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        let error = if self.body.is_end_stream() { None } else { Some(CLIENT_GONE) };
        self.finish(error);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Router(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::App(counted) => {
                let polled = Pin::new(&mut counted.body).poll_frame(context);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                        if let Some((exchange, _)) = &mut counted.pending {
                            exchange.bytes += bytes;
                        }
                    }
                    Poll::Ready(Some(Err(_))) => counted.finish(Some(RESPONSE_INTERRUPTED)),
                    Poll::Ready(None) => counted.finish(None),
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Router(body) => body.is_end_stream(),
            Self::App(counted) => counted.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Router(body) => body.size_hint(),
            Self::App(counted) => counted.body.size_hint(),
        }
    }
}
