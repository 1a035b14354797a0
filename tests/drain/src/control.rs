//! The control endpoint: plain HTTP on loopback, for scripts and for the simulation.

use crate::fault::Plan;
use crate::server::Shared;
use crate::tally::Line;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Lines per answer.
const PAGE: usize = 10_000;

/// What `GET /lines` answers.
#[derive(Debug, Serialize)]
struct Page {
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
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                }));
            },
            _ = stop.changed() => return Ok(()),
        }
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    Ok(match (request.method(), path.as_str()) {
        (&Method::GET, "/report") => json(&shared.tally().report()),
        (&Method::GET, "/lines") => {
            let number = |name: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<u64>().ok())
            };
            let limit = number("limit").map_or(PAGE, |limit| (limit as usize).min(PAGE));
            let (lines, next) = shared.tally().lines(number("from").unwrap_or(0), limit);
            json(&Page { next, lines })
        }
        (&Method::POST, "/reset") => {
            shared.tally().reset();
            text(StatusCode::NO_CONTENT, String::new())
        }
        (&Method::POST, "/faults") => {
            let body = Limited::new(request.into_body(), 64 << 10).collect().await;
            let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            match Plan::parse(&String::from_utf8_lossy(&bytes)) {
                Ok(plan) => {
                    shared.set_plan(plan);
                    text(StatusCode::NO_CONTENT, String::new())
                }
                Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
            }
        }
        _ => {
            let help = "GET /report, GET /lines?from=N&limit=M, POST /faults, POST /reset\n";
            text(StatusCode::NOT_FOUND, help.to_owned())
        }
    })
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(value) {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body + "\n");
            let json = hyper::header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
