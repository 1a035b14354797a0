//! The router: real requests to the app, and the lines that the platform's router would print about them.

use crate::environment::{DYNO, uuid};
use crate::screen::{Screen, Source};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(200);
/// Requests under way at a time.
const MOST: usize = 16;
/// What a dyno may take to accept a connection (H19; Dev Center, "HTTP routing").
const CONNECT: Duration = Duration::from_secs(5);
/// What a dyno may take to answer (H12).
const ANSWER: Duration = Duration::from_secs(30);
/// What is left to requests under way once the dyno is gone.
const REST: Duration = Duration::from_secs(1);

/// What is asked, in turns.
const ASKED: [(Method, &str); 7] = [
    (Method::GET, "/"),
    (Method::GET, "/orders?page=2"),
    (Method::POST, "/orders"),
    (Method::GET, "/search?q=caf%C3%A9"),
    (Method::GET, "/orders/1042"),
    (Method::HEAD, "/"),
    (Method::GET, "/missing"),
];

/// What came of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Requests begun.
    pub sent: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests without a whole answer, by the router's error code.
    pub failed: BTreeMap<&'static str, u64>,
}

/// Code and words of a router's error (Dev Center, "Error codes").
type Failure = (&'static str, &'static str);

const REQUEST_TIMEOUT: Failure = ("H12", "Request timeout");
const NO_RESPONSE: Failure = ("H13", "Connection closed without response");
const INTERRUPTED: Failure = ("H18", "Server Request Interrupted");
const CONNECT_TIMEOUT: Failure = ("H19", "Backend connection timeout");
const CONNECT_REFUSED: Failure = ("H21", "Backend connection refused");

/// Sends requests to the dyno.
#[derive(Debug)]
pub struct Router {
    port: u16,
    host: String,
    screen: Screen,
    requests: Requests,
    under_way: JoinSet<Exchange>,
}

impl Router {
    /// A router for the app of this name, which listens on this port.
    pub fn new(port: u16, app: &str, screen: Screen) -> Self {
        let host = format!("{app}.herokuapp.com");
        Self { port, host, screen, requests: Requests::default(), under_way: JoinSet::new() }
    }

    /// Asks, and asks again, until this future is dropped.
    pub async fn run(&mut self) {
        loop {
            while let Some(Ok(exchange)) = self.under_way.try_join_next() {
                self.requests.take(&exchange);
            }
            if self.under_way.len() < MOST {
                let (method, path) = ASKED[self.requests.sent as usize % ASKED.len()].clone();
                self.requests.sent += 1;
                let (port, host, screen) = (self.port, self.host.clone(), self.screen.clone());
                self.under_way.spawn(async move {
                    let exchange = Exchange::make(port, host, method, path).await;
                    screen.line(Source::Router, &exchange.line()).await;
                    exchange
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What came of all requests, the dyno being gone.
    pub async fn finish(mut self) -> Requests {
        let rest = async {
            while let Some(done) = self.under_way.join_next().await {
                if let Ok(exchange) = done {
                    self.requests.take(&exchange);
                }
            }
        };
        let _or_never = timeout(REST, rest).await;
        self.requests
    }
}

impl Requests {
    fn take(&mut self, exchange: &Exchange) {
        match &exchange.result {
            Ok(answer) => *self.by_status.entry(answer.status).or_default() += 1,
            Err((code, _)) => *self.failed.entry(code).or_default() += 1,
        }
    }
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    bytes: u64,
}

/// A request, and what came of it.
#[derive(Debug)]
struct Exchange {
    method: Method,
    path: &'static str,
    host: String,
    id: String,
    connect: Duration,
    service: Duration,
    result: Result<Answer, Failure>,
}

impl Exchange {
    async fn make(port: u16, host: String, method: Method, path: &'static str) -> Self {
        let (connect, service) = (Duration::ZERO, Duration::ZERO);
        let mut exchange =
            Self { method, path, host, id: uuid(), connect, service, result: Err(REQUEST_TIMEOUT) };
        let begun = Instant::now();
        exchange.result = match timeout(CONNECT, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await {
            Err(_) => Err(CONNECT_TIMEOUT),
            Ok(Err(_)) => Err(CONNECT_REFUSED),
            Ok(Ok(stream)) => {
                exchange.connect = begun.elapsed();
                timeout(ANSWER, exchange.ask(stream)).await.unwrap_or(Err(REQUEST_TIMEOUT))
            }
        };
        exchange.service = begun.elapsed().saturating_sub(exchange.connect);
        exchange
    }

    async fn ask(&self, stream: TcpStream) -> Result<Answer, Failure> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| NO_RESPONSE)?;
        // Ends with `sender`, or when the app hangs up.
        drop(tokio::spawn(connection));
        let response = sender.send_request(self.request()?).await.map_err(|_| NO_RESPONSE)?;
        let status = response.status().as_u16();
        let (mut body, mut bytes) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| INTERRUPTED)?;
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(Answer { status, bytes })
    }

    /// With the headers that the platform's router adds (Dev Center, "HTTP routing").
    fn request(&self) -> Result<Request<Full<Bytes>>, Failure> {
        let body = if self.method == Method::POST { "item=A-00042&quantity=2" } else { "" };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let request = Request::builder()
            .method(&self.method)
            .uri(self.path)
            .header("Host", &self.host)
            .header("User-Agent", "tailrace-dyno")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Via", "1.1 heroku-router")
            .header("X-Forwarded-For", "127.0.0.1")
            .header("X-Forwarded-Port", "443")
            .header("X-Forwarded-Proto", "https")
            .header("X-Request-Id", &self.id)
            .header("X-Request-Start", now.as_millis().to_string())
            .header("Connection", "close");
        // Every part is ours, and valid.
        request.body(Full::new(Bytes::from_static(body.as_bytes()))).map_err(|_| NO_RESPONSE)
    }

    /// As the platform's router says it.
    fn line(&self) -> String {
        let Self { method, path, host, id, .. } = self;
        let (connect, service) = (self.connect.as_millis(), self.service.as_millis());
        let (at, answer) = match self.result {
            Ok(answer) => ("at=info".to_owned(), answer),
            Err((code, desc)) => {
                (format!("at=error code={code} desc=\"{desc}\""), Answer { status: 503, bytes: 0 })
            }
        };
        format!(
            "{at} method={method} path=\"{path}\" host={host} request_id={id} fwd=\"127.0.0.1\" dyno={DYNO} \
             connect={connect}ms service={service}ms status={} bytes={} protocol=https",
            answer.status, answer.bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Answers one request so; returns what came of it, and the request.
    async fn answered(with: &'static str) -> (Exchange, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let port = listener.local_addr().expect("has one").port();
        let app = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("comes");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("is there"));
            }
            stream.write_all(with.as_bytes()).await.expect("is taken");
            String::from_utf8(head).expect("is text")
        });
        let exchange = Exchange::make(port, "app.herokuapp.com".to_owned(), Method::GET, "/x").await;
        (exchange, app.await.expect("ends"))
    }

    #[tokio::test]
    async fn an_answer_is_told_as_the_router_tells_it() {
        let (exchange, head) = answered("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!(exchange.result, Ok(Answer { status: 201, bytes: 5 }));
        let line = exchange.line();
        let id = &exchange.id;
        let start = format!(
            "at=info method=GET path=\"/x\" host=app.herokuapp.com request_id={id} fwd=\"127.0.0.1\" dyno=web.1 connect="
        );
        assert!(line.starts_with(&start) && line.ends_with(" status=201 bytes=5 protocol=https"), "{line}");
        assert!(head.to_ascii_lowercase().contains(&format!("x-request-id: {id}\r\n")), "{head}");
    }

    #[tokio::test]
    async fn what_is_no_answer_has_a_code() {
        for (with, code) in [("", "H13"), ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "H18")] {
            let (exchange, _) = answered(with).await;
            assert_eq!(exchange.result.map_err(|(code, _)| code), Err(code), "{with:?}");
            assert!(exchange.line().starts_with(&format!("at=error code={code} desc=\"")));
        }
        let port = crate::port::free().expect("there is one");
        let exchange = Exchange::make(port, "app.herokuapp.com".to_owned(), Method::GET, "/").await;
        assert_eq!(exchange.result, Err(CONNECT_REFUSED));
    }
}
