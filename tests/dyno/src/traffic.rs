//! Light traffic: what a few visitors ask, at an even pace. With something to compare with, each visit is also made to
//! a dyno with the agent and to one without, one after the other, the first of them in turns.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Requests under way at a time.
const MOST: usize = 256;
/// A visitor's patience: longer than the router's.
const PATIENCE: Duration = Duration::from_secs(100);

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

/// Times of the same requests to a dyno with the agent and to one without, in ms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// With the agent.
    pub with: Vec<f64>,
    /// Without it.
    pub without: Vec<f64>,
}

/// The times so far.
pub type Times = Arc<Mutex<Comparison>>;

/// Asks `router`, so many times per second, until this future is dropped. `ports` are those of a dyno with the agent
/// and of one without.
pub async fn run(router: SocketAddr, rate: f64, ports: impl Fn() -> Option<(u16, u16)>, times: Times) {
    if rate <= 0.0 {
        return std::future::pending().await;
    }
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut visits = JoinSet::new();
    for number in 0_usize.. {
        pace.tick().await;
        while visits.try_join_next().is_some() {}
        if visits.len() >= MOST {
            continue;
        }
        let (method, path) = ASKED[number % ASKED.len()].clone();
        let (ports, times) = (ports(), Arc::clone(&times));
        visits.spawn(async move {
            let _visit = timeout(PATIENCE, ask(router, method.clone(), path)).await;
            if let Some((with, without)) = ports {
                compare(with, without, method, path, number.is_multiple_of(2), &times).await;
            }
        });
    }
}

/// A local address that somebody may listen on in either family.
fn addresses(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

async fn compare(with: u16, without: u16, method: Method, path: &str, is_first: bool, times: &Times) {
    let order = if is_first { [with, without] } else { [without, with] };
    for port in order {
        let begun = Instant::now();
        if matches!(timeout(PATIENCE, ask(&addresses(port)[..], method.clone(), path)).await, Ok(Ok(()))) {
            let ms = begun.elapsed().as_secs_f64() * 1000.0;
            let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
            (if port == with { &mut times.with } else { &mut times.without }).push(ms);
        }
    }
}

async fn ask(
    at: impl tokio::net::ToSocketAddrs,
    method: Method,
    path: &str,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(at).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with `sender`, or when the other side hangs up.
    drop(tokio::spawn(connection));
    let body = if method == Method::POST { "item=A-00042&quantity=2" } else { "" };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", "localhost")
        .header("User-Agent", "tailrace-dyno")
        .body(Full::new(Bytes::from_static(body.as_bytes())))?;
    sender.send_request(request).await?.into_body().collect().await?;
    Ok(())
}

/// Median and 95th percentile.
pub fn percentiles(times: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).copied();
    at(0.5).zip(at(0.95))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_what_there_is() {
        assert_eq!(percentiles(&[]), None);
        assert_eq!(percentiles(&[3.0]), Some((3.0, 3.0)));
        let times: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(percentiles(&times), Some((50.0, 95.0)));
    }
}
