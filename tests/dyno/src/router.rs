//! The router: one port in front of the web dynos, and the lines that the platform's router prints about requests (Dev
//! Center, "HTTP Routing", "Error Codes").

mod exchange;

use crate::console::{Console, Source};
use crate::environment::{domain, uuid};
use crate::logplex::Logplex;
use exchange::{Exchange, Failure, ResponseBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What a dyno may take to boot while a request waits (H20).
const BOOT: Duration = Duration::from_secs(75);
/// Between two attempts to accept when that fails.
const PAUSE: Duration = Duration::from_millis(100);

/// How a web dyno is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not listen yet.
    Starting,
    /// It listens on this port.
    Up(u16),
    /// It went down by itself.
    Crashed,
}

/// The web dynos by name.
pub type Backends = BTreeMap<String, State>;

/// What came of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Requests begun.
    pub sent: u64,
    /// Answers of the app by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests without a whole answer, by the router's error code.
    pub failed: BTreeMap<String, u64>,
}

/// What the connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    host: String,
    backends: watch::Receiver<Backends>,
    patience: Duration,
    screen: Console,
    logplex: Option<Arc<Logplex>>,
    requests: Mutex<Requests>,
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request came to its end.
    fn done(&self, exchange: &Exchange) {
        let line = exchange.line(&self.host);
        self.screen.try_line(Source::platform("router"), &line);
        if let Some(logplex) = &self.logplex {
            logplex.platform("router", &line);
        }
        let mut requests = self.requests();
        match exchange.failure {
            Some(failure) => *requests.failed.entry(failure.code.to_owned()).or_default() += 1,
            None => *requests.by_status.entry(exchange.status).or_default() += 1,
        }
    }

    /// A web dyno that is up, at random as the platform does it.
    async fn choose(&self) -> Result<(String, u16), Failure> {
        let mut backends = self.backends.clone();
        let any_up = |all: &Backends| {
            let up: Vec<_> = all
                .iter()
                .filter_map(|(name, state)| match state {
                    State::Up(port) => Some((name.clone(), *port)),
                    _ => None,
                })
                .collect();
            (!up.is_empty()).then(|| up[fastrand::usize(..up.len())].clone())
        };
        let wait = backends
            .wait_for(|all| any_up(all).is_some() || !all.values().any(|state| *state == State::Starting));
        match timeout(BOOT, wait).await {
            Ok(Ok(all)) if all.is_empty() => Err(exchange::NO_DYNOS),
            Ok(Ok(all)) => any_up(&all).ok_or(exchange::CRASHED),
            Ok(Err(_)) => Err(exchange::NO_DYNOS),
            Err(_) => Err(exchange::BOOT_TIMEOUT),
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        self.requests().sent += 1;
        let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let exchange = Exchange::of(&request, id.unwrap_or_else(uuid));
        let chosen = self.choose().await;
        Ok(exchange.make(request, chosen, self).await)
    }
}

/// A router that listens. Dropping it ends it.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Router {
    /// Listens on a port of loopback. `patience` is what a dyno may take to answer (H12).
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(
        port: u16,
        app: &str,
        patience: Duration,
        backends: watch::Receiver<Backends>,
        screen: Console,
        logplex: Option<Arc<Logplex>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let host = domain(app);
        let requests = Mutex::default();
        let shared = Arc::new(Shared { host, backends, patience, screen, logplex, requests });
        let for_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(PAUSE).await; // too many files are open
                    continue;
                };
                let shared = Arc::clone(&for_task);
                drop(tokio::spawn(async move {
                    let service = service_fn(|request| Arc::clone(&shared).answer(request));
                    // Clients may go as they like.
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .with_upgrades()
                            .await,
                    );
                }));
            }
        });
        Ok(Self { shared, address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came of all requests so far.
    pub fn requests(&self) -> Requests {
        self.shared.requests().clone()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
