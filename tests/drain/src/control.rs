//! The control endpoint: HTTP without TLS on a loopback address, for the page, for scripts and for the simulation.

use crate::fault::FaultPlan;
use crate::page::{self, Body};
use crate::server::Shared;
use crate::stats::Line;
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

/// Most lines per response of `GET /lines`.
const MAX_LINES: usize = 10_000;

/// Headers of every response: only same-origin files, no framing, no caching.
const HEADERS: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
];

/// The response of `GET /lines`.
#[derive(Debug, Serialize)]
struct LinesResponse {
    next: u64,
    lines: Vec<Line>,
}

/// Serves until `stop` changes.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let shared = Arc::clone(&shared);
                drop(tokio::spawn(async move {
                    let service = service_fn(|request| answer(&shared, request));
                    let http = hyper::server::conn::http1::Builder::new();
                    http.serve_connection(TokioIo::new(stream), service).await.ok(); // the client went away
                }));
            } else {
                sleep(Duration::from_millis(20)).await; // no file descriptor is free: one may be closed soon
            },
            _ = stop.changed() => return Ok(()),
        }
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut response = match refusal(request.method(), request.headers()) {
        Some(reason) => text(StatusCode::FORBIDDEN, reason),
        None => route(shared, request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Why a request is refused: pages of other sites must not read anything by a name that resolves to this host (DNS
/// rebinding), nor change anything by cross-site requests.
fn refusal(method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = value("host").unwrap_or("");
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_start_matches('[').trim_end_matches(']');
    if name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
        return Some("Host: expected localhost or an address of loopback\n");
    }
    let is_same_origin = value("origin").is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    (*method != Method::GET && !is_same_origin).then_some("Origin: expected the page's own\n")
}

async fn route(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/report") => json(&shared.stats().report()),
        (&Method::GET, "/lines") => {
            let number = |name: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<u64>().ok())
            };
            let limit = number("limit").map_or(MAX_LINES, |limit| (limit as usize).min(MAX_LINES));
            let (lines, next) = shared.stats().lines(number("from").unwrap_or(0), limit);
            json(&LinesResponse { next, lines })
        }
        (&Method::GET, _) => {
            let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
            let (shared, last) = (Arc::clone(shared), last.map(str::to_owned));
            // A new filter counts the whole history: on another thread, so that event streams are not delayed.
            let answer =
                tokio::task::spawn_blocking(move || page::get(&shared, &path, &query, last.as_deref()));
            answer.await.ok().flatten().unwrap_or_else(help)
        }
        (&Method::POST, "/reset") => {
            shared.stats().reset();
            text(StatusCode::NO_CONTENT, "")
        }
        (&Method::POST, "/faults") => {
            let body = Limited::new(request.into_body(), 64 << 10).collect().await;
            let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            match FaultPlan::parse(&String::from_utf8_lossy(&bytes)) {
                Ok(plan) => {
                    shared.replace_plan(plan);
                    text(StatusCode::NO_CONTENT, "")
                }
                Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
            }
        }
        _ => help(),
    }
}

fn help() -> Response<Body> {
    let help = "GET / (the page), /report, /model.json, /lines?from=N&limit=M; POST /faults, /reset\n";
    text(StatusCode::NOT_FOUND, help)
}

pub(crate) fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string_pretty(value) {
        Ok(body) => typed("application/json", body + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// A response with status 200 and this content type.
pub(crate) fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        let refused = |method: &Method, host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().expect("a header"));
            if let Some(origin) = origin {
                headers.insert("origin", origin.parse().expect("a header"));
            }
            refusal(method, &headers).is_some()
        };
        for host in ["127.0.0.1:8080", "localhost:1", "localhost", "[::1]:80", "127.8.8.8"] {
            assert!(!refused(&Method::GET, host, None), "{host}");
        }
        for host in ["example.com", "127.0.0.1.example.com:80", "localhost.example.com", "", "10.0.0.1"] {
            assert!(refused(&Method::GET, host, None), "{host}");
        }
        assert!(!refused(&Method::POST, "localhost:9", Some("http://localhost:9")));
        for origin in ["http://localhost:8", "http://evil.example", "null", "https://localhost:9"] {
            assert!(refused(&Method::POST, "localhost:9", Some(origin)), "{origin}");
        }
    }
}
