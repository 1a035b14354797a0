//! Sends requests at a constant rate. With `--compare`, each request is also sent to a dyno with the agent and to one
//! without, one after the other, in alternating order, to compare response times.

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

/// Most requests that are in flight at a time.
const MAX_IN_FLIGHT: usize = 256;
/// How long a client waits for a response: longer than the router.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(100);

/// Default rate, in requests per second.
const DEFAULT_RATE: f64 = 5.0;
/// The requests to a sample app, which plays a shop.
const SAMPLE_APP_REQUESTS: [&str; 7] =
    ["/", "/orders?page=2", "POST /orders", "/search?q=caf%C3%A9", "/orders/1042", "HEAD /", "/missing"];

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSpec {
    /// The method.
    pub method: Method,
    /// The path, with a query if there is one.
    pub path: String,
}

impl RequestSpec {
    /// Parses `[METHOD ]PATH`.
    pub fn parse(text: &str) -> Option<Self> {
        let (method, path) = text.split_once(' ').unwrap_or(("GET", text));
        let is_path = path.starts_with('/') && path.parse::<hyper::Uri>().is_ok();
        let method = Some(method).filter(|method| method.bytes().all(|byte| byte.is_ascii_uppercase()));
        let method = method.and_then(|method| method.parse().ok());
        method.filter(|_| is_path).map(|method| Self { method, path: path.to_owned() })
    }
}

/// Which requests are sent, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficPlan {
    /// Requests per second.
    pub rate: f64,
    /// The requests, sent in turn.
    requests: Vec<RequestSpec>,
}

impl TrafficPlan {
    /// The plan for these options. An app of the user gets only requests that the options ask for: there may be a real
    /// database behind it.
    pub fn new(args: &Args, is_sample_app: bool) -> Self {
        let parse_all = |texts: &[&str]| texts.iter().filter_map(|text| RequestSpec::parse(text)).collect();
        let has_traffic = is_sample_app || args.compare || !args.requests.is_empty();
        Self {
            rate: args.traffic.unwrap_or(if has_traffic { DEFAULT_RATE } else { 0.0 }),
            requests: match &args.requests[..] {
                [] if is_sample_app => parse_all(&SAMPLE_APP_REQUESTS),
                [] => parse_all(&["/"]),
                requests => requests.to_vec(),
            },
        }
    }
}

/// Response times of the same requests to a dyno with the agent and to one without, in ms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// With the agent.
    pub with_agent: Vec<f64>,
    /// Without the agent.
    pub without_agent: Vec<f64>,
}

/// A comparison to which requests in flight add their times.
pub type SharedComparison = Arc<Mutex<Comparison>>;

/// The ports of the two dynos to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparedPorts {
    /// Port of a dyno with the agent.
    pub with_agent: u16,
    /// Port of a dyno without the agent.
    pub without_agent: u16,
}

/// Sends requests to `router` until this future is dropped, and compares dynos when `ports` returns some.
pub async fn run(
    router: SocketAddr,
    plan: TrafficPlan,
    ports: impl Fn() -> Option<ComparedPorts>,
    comparison: SharedComparison,
) {
    if plan.rate <= 0.0 {
        return std::future::pending().await;
    }
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / plan.rate));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut in_flight = JoinSet::new();
    for number in 0_usize.. {
        pace.tick().await;
        while in_flight.try_join_next().is_some() {}
        if in_flight.len() >= MAX_IN_FLIGHT {
            continue;
        }
        let request = plan.requests[number % plan.requests.len()].clone();
        let (ports, comparison) = (ports(), Arc::clone(&comparison));
        in_flight.spawn(async move {
            timeout(CLIENT_TIMEOUT, send(router, &request)).await.ok(); // the router logs the result
            if let Some(ports) = ports {
                let (with, without) =
                    (Variant::WithAgent(ports.with_agent), Variant::WithoutAgent(ports.without_agent));
                let order = if number.is_multiple_of(2) { [with, without] } else { [without, with] };
                compare(order, &request, &comparison).await;
            }
        });
    }
}

/// A dyno to compare, with its port.
#[derive(Clone, Copy)]
enum Variant {
    WithAgent(u16),
    WithoutAgent(u16),
}

/// Sends the request to both dynos in this order, and adds the response times.
async fn compare(order: [Variant; 2], request: &RequestSpec, comparison: &SharedComparison) {
    for variant in order {
        let (Variant::WithAgent(port) | Variant::WithoutAgent(port)) = variant;
        let started = Instant::now();
        if matches!(timeout(CLIENT_TIMEOUT, send(&addresses(port)[..], request)).await, Ok(Ok(()))) {
            let ms = started.elapsed().as_secs_f64() * 1000.0;
            let mut comparison = comparison.lock().unwrap_or_else(PoisonError::into_inner);
            match variant {
                Variant::WithAgent(_) => comparison.with_agent.push(ms),
                Variant::WithoutAgent(_) => comparison.without_agent.push(ms),
            }
        }
    }
}

/// The loopback addresses of a port: an app may listen on IPv4 or IPv6.
fn addresses(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

/// Sends a request on a connection of its own, and reads the response.
async fn send(
    address: impl tokio::net::ToSocketAddrs,
    request: &RequestSpec,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The task ends when `sender` is dropped, or the other side closes the connection.
    drop(tokio::spawn(connection));
    let body = if request.method == Method::POST { "item=A-00042&quantity=2" } else { "" };
    let request = Request::builder()
        .method(request.method.clone())
        .uri(&request.path)
        .header("Host", "localhost")
        .header("User-Agent", "tailrace-dyno")
        .body(Full::new(Bytes::from_static(body.as_bytes())))?;
    sender.send_request(request).await?.into_body().collect().await?;
    Ok(())
}

/// Percentiles of response times, in ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
}

/// The percentiles of these times; `None` when there are none.
pub fn percentiles(times: &[f64]) -> Option<Percentiles> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).copied();
    Some(Percentiles { p50: at(0.5)?, p95: at(0.95)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    #[test]
    fn request_specs_are_parsed() {
        for (text, method, path) in
            [("/", "GET", "/"), ("/a?b=c", "GET", "/a?b=c"), ("POST /orders", "POST", "/orders")]
        {
            let request = RequestSpec::parse(text).expect(text);
            assert_eq!((request.method.as_str(), request.path.as_str()), (method, path));
        }
        for text in ["", "orders", "/a b", "post /a", "POST", "GET http://elsewhere/"] {
            assert_eq!(RequestSpec::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_app_of_the_user_gets_only_requested_traffic() {
        let plan = |arguments: &[&str], is_sample_app| {
            let arguments = arguments.iter().map(std::ffi::OsString::from);
            match args::parse(arguments, std::path::Path::new("/bin")) {
                Ok(args::Request::Simulate(args)) => TrafficPlan::new(&args, is_sample_app),
                other => panic!("{other:?}"),
            }
        };
        let only = |path| vec![RequestSpec { method: Method::GET, path: str::to_owned(path) }];
        assert!(plan(&[], false).rate <= 0.0);
        assert_eq!(plan(&["--traffic", "2"], false), TrafficPlan { rate: 2.0, requests: only("/") });
        assert_eq!(plan(&["--compare"], false), TrafficPlan { rate: DEFAULT_RATE, requests: only("/") });
        assert_eq!(plan(&["--ask", "/a"], true), TrafficPlan { rate: DEFAULT_RATE, requests: only("/a") });
        let sample = plan(&[], true);
        assert!(sample.rate > 0.0);
        assert!(sample.requests.iter().any(|request| request.method == Method::POST));
        assert_eq!(sample.requests.len(), SAMPLE_APP_REQUESTS.len());
    }

    #[test]
    fn percentiles_of_few_and_many_times() {
        assert_eq!(percentiles(&[]), None);
        assert_eq!(percentiles(&[3.0]), Some(Percentiles { p50: 3.0, p95: 3.0 }));
        let times: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(percentiles(&times), Some(Percentiles { p50: 50.0, p95: 95.0 }));
    }
}
