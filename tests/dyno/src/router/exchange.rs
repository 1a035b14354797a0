//! One request on its way through the router.

use super::Shared;
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

/// What a dyno may take to accept a connection (H19).
const CONNECT: Duration = Duration::from_secs(5);

/// A router's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    desc: &'static str,
    level: &'static str,
    /// The side that hung up.
    sock: &'static str,
}

const fn failure(code: &'static str, desc: &'static str) -> Failure {
    Failure { code, desc, level: "error", sock: "" }
}

pub(super) const CRASHED: Failure = failure("H10", "App crashed");
const TIMEOUT: Failure = failure("H12", "Request timeout");
const NO_RESPONSE: Failure = failure("H13", "Connection closed without response");
pub(super) const NO_DYNOS: Failure = failure("H14", "No web processes running");
const INTERRUPTED: Failure = Failure { sock: "backend", ..failure("H18", "Server Request Interrupted") };
const CONNECT_TIMEOUT: Failure = failure("H19", "Backend connection timeout");
pub(super) const BOOT_TIMEOUT: Failure = failure("H20", "App boot timeout");
const REFUSED: Failure = failure("H21", "Backend connection refused");
const CLIENT_GONE: Failure =
    Failure { level: "warning", sock: "client", ..failure("H27", "Client Request Interrupted") };

/// A request, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    method: Method,
    path: String,
    id: String,
    /// The dyno, with the time that it took to connect.
    dyno: Option<(String, Duration)>,
    service: Option<Duration>,
    pub(crate) status: u16,
    bytes: u64,
    pub(crate) failure: Option<Failure>,
}

impl Exchange {
    pub(super) fn of(request: &Request<Incoming>, id: String) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            id,
            dyno: None,
            service: None,
            status: 503,
            bytes: 0,
            failure: None,
        }
    }

    /// The router's line.
    pub(super) fn line(&self, host: &str) -> String {
        let (method, path, id) = (&self.method, &self.path, &self.id);
        let start = match self.failure {
            None => "at=info".to_owned(),
            Some(Failure { code, desc, level, sock }) => {
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

    /// Asks the dyno; the line is printed when the answer is through.
    pub(super) async fn make(
        mut self,
        mut request: Request<Incoming>,
        chosen: Result<(String, u16), Failure>,
        shared: Arc<Shared>,
    ) -> Response<ResponseBody> {
        let begun = Instant::now();
        let client = hyper::upgrade::on(&mut request);
        let asked = match chosen {
            Err(failure) => Err(failure),
            Ok((dyno, port)) => match connect(port).await {
                Err(failure) => {
                    self.dyno = Some((dyno, begun.elapsed()));
                    Err(failure)
                }
                Ok(stream) => {
                    self.dyno = Some((dyno, begun.elapsed()));
                    let request = self.request(request);
                    timeout(shared.patience, ask(stream, request)).await.unwrap_or(Err(TIMEOUT))
                }
            },
        };
        match asked {
            Ok(mut response) => {
                self.status = response.status().as_u16();
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    drop(tokio::spawn(self.tunnel(client, hyper::upgrade::on(&mut response), begun, shared)));
                    return response.map(|_nothing| ResponseBody::Ours(Full::default()));
                }
                response.map(|body| {
                    ResponseBody::App(Box::new(CountedBody { body, begun, end: Some((self, shared)) }))
                })
            }
            Err(failure) => {
                self.failure = Some(failure);
                self.service = self.dyno.is_some().then(|| begun.elapsed());
                shared.done(&self);
                let text = format!("{} {}\n", failure.code, failure.desc);
                let mut response = Response::new(ResponseBody::Ours(Full::new(text.into())));
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            }
        }
    }

    /// A connection that speaks something else from now on, such as a web socket. The line is printed at its end.
    async fn tunnel(mut self, client: OnUpgrade, app: OnUpgrade, begun: Instant, shared: Arc<Shared>) {
        if let (Ok(client), Ok(app)) = tokio::join!(client, app) {
            let (mut client, mut app) = (TokioIo::new(client), TokioIo::new(app));
            // Either may hang up as it likes; how much there was is known only when both end well.
            if let Ok((_, bytes)) = tokio::io::copy_bidirectional(&mut client, &mut app).await {
                self.bytes = bytes;
            }
        }
        self.service = Some(begun.elapsed());
        shared.done(&self);
    }

    /// With the headers that the platform's router adds.
    fn request(&self, mut request: Request<Incoming>) -> Request<Incoming> {
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

/// A dyno may listen on either family.
async fn connect(port: u16) -> Result<TcpStream, Failure> {
    let any = async {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Ok(stream) => Ok(stream),
            Err(_) => TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.map_err(|_| REFUSED),
        }
    };
    timeout(CONNECT, any).await.unwrap_or(Err(CONNECT_TIMEOUT))
}

async fn ask(stream: TcpStream, request: Request<Incoming>) -> Result<Response<Incoming>, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| NO_RESPONSE)?;
    // Ends with the answer's body, or when the app hangs up.
    drop(tokio::spawn(connection.with_upgrades()));
    sender.send_request(request).await.map_err(|_| NO_RESPONSE)
}

/// The body of an answer.
pub(crate) enum ResponseBody {
    /// From the app.
    App(Box<CountedBody>),
    /// From the router.
    Ours(Full<Bytes>),
}

/// The app's body, counted on its way.
pub(crate) struct CountedBody {
    body: Incoming,
    begun: Instant,
    end: Option<(Exchange, Arc<Shared>)>,
}

impl CountedBody {
    fn end(&mut self, failure: Option<Failure>) {
        if let Some((mut exchange, shared)) = self.end.take() {
            exchange.failure = failure;
            if failure == Some(CLIENT_GONE) {
                exchange.status = 499;
            } else if failure.is_some() {
                exchange.status = 503;
            }
            exchange.service = Some(self.begun.elapsed());
            shared.done(&exchange);
        }
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        let failure = if self.body.is_end_stream() { None } else { Some(CLIENT_GONE) };
        self.end(failure);
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
            Self::Ours(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::App(watched) => {
                let polled = Pin::new(&mut watched.body).poll_frame(context);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                        if let Some((exchange, _)) = &mut watched.end {
                            exchange.bytes += bytes;
                        }
                    }
                    Poll::Ready(Some(Err(_))) => watched.end(Some(INTERRUPTED)),
                    Poll::Ready(None) => watched.end(None),
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ours(body) => body.is_end_stream(),
            Self::App(watched) => watched.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ours(body) => body.size_hint(),
            Self::App(watched) => watched.body.size_hint(),
        }
    }
}
