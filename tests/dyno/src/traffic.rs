//! Light traffic: what a few visitors ask, at an even pace. With something to compare with, each visit is also made to
//! a dyno with the agent and to one without, one after the other, the first of them in turns.

use crate::args::Args;
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

/// Requests per second, when nobody says how many.
const RATE: f64 = 5.0;
/// What is asked of a sample app, which is a shop of sorts, in turns.
const SHOP: [&str; 7] =
    ["/", "/orders?page=2", "POST /orders", "/search?q=caf%C3%A9", "/orders/1042", "HEAD /", "/missing"];

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSpec {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
}

impl RequestSpec {
    /// Reads `[METHOD ]PATH`.
    pub fn read(text: &str) -> Option<Self> {
        let (method, path) = text.split_once(' ').unwrap_or(("GET", text));
        let is_path = path.starts_with('/') && path.parse::<hyper::Uri>().is_ok();
        let method = Some(method).filter(|method| method.bytes().all(|byte| byte.is_ascii_uppercase()));
        let method = method.and_then(|method| method.parse().ok());
        method.filter(|_| is_path).map(|method| Self { method, path: path.to_owned() })
    }
}

/// How much is asked, and what.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Requests per second.
    pub rate: f64,
    visits: Vec<RequestSpec>,
}

impl Plan {
    /// Nothing is asked of anybody's app that nobody told us to ask: it may have a real database behind it.
    pub fn of(args: &Args, is_sample: bool) -> Self {
        let all = |texts: &[&str]| texts.iter().filter_map(|text| RequestSpec::read(text)).collect();
        let is_wanted = is_sample || args.compare || !args.asked.is_empty();
        Self {
            rate: args.traffic.unwrap_or(if is_wanted { RATE } else { 0.0 }),
            visits: match &args.asked[..] {
                [] if is_sample => all(&SHOP),
                [] => all(&["/"]),
                asked => asked.to_vec(),
            },
        }
    }
}

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

/// Asks `router` until this future is dropped. `ports` are those of a dyno with the agent and of one without.
pub async fn run(router: SocketAddr, plan: Plan, ports: impl Fn() -> Option<(u16, u16)>, times: Times) {
    if plan.rate <= 0.0 {
        return std::future::pending().await;
    }
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / plan.rate));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut visits = JoinSet::new();
    for number in 0_usize.. {
        pace.tick().await;
        while visits.try_join_next().is_some() {}
        if visits.len() >= MOST {
            continue;
        }
        let RequestSpec { method, path } = plan.visits[number % plan.visits.len()].clone();
        let (ports, times) = (ports(), Arc::clone(&times));
        visits.spawn(async move {
            let _visit = timeout(PATIENCE, ask(router, method.clone(), &path)).await;
            if let Some((with, without)) = ports {
                compare(with, without, method, &path, number.is_multiple_of(2), &times).await;
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
    use crate::args::{self, Request};

    #[test]
    fn visits_are_read() {
        for (text, method, path) in
            [("/", "GET", "/"), ("/a?b=c", "GET", "/a?b=c"), ("POST /orders", "POST", "/orders")]
        {
            let visit = RequestSpec::read(text).expect(text);
            assert_eq!((visit.method.as_str(), visit.path.as_str()), (method, path));
        }
        for text in ["", "orders", "/a b", "post /a", "POST", "GET http://elsewhere/"] {
            assert_eq!(RequestSpec::read(text), None, "{text}");
        }
    }

    #[test]
    fn nobodys_app_is_asked_what_nobody_said() {
        let plan = |words: &[&str], is_sample| {
            let words = words.iter().map(std::ffi::OsString::from);
            match args::parse(words, std::path::Path::new("/bin")) {
                Ok(Request::Simulate(args)) => Plan::of(&args, is_sample),
                other => panic!("{other:?}"),
            }
        };
        let only = |path| vec![RequestSpec { method: Method::GET, path: str::to_owned(path) }];
        assert!(plan(&[], false).rate <= 0.0);
        assert_eq!(plan(&["--traffic", "2"], false), Plan { rate: 2.0, visits: only("/") });
        assert_eq!(plan(&["--compare"], false), Plan { rate: RATE, visits: only("/") });
        assert_eq!(plan(&["--ask", "/a"], true), Plan { rate: RATE, visits: only("/a") });
        let shop = plan(&[], true);
        assert!(shop.rate > 0.0 && shop.visits.iter().any(|visit| visit.method == Method::POST));
        assert_eq!(shop.visits.len(), SHOP.len());
    }

    #[test]
    fn percentiles_of_what_there_is() {
        assert_eq!(percentiles(&[]), None);
        assert_eq!(percentiles(&[3.0]), Some((3.0, 3.0)));
        let times: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(percentiles(&times), Some((50.0, 95.0)));
    }
}
