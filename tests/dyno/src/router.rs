//! The router: listens on one port, forwards requests to the web dynos, and logs them as the platform's router does (Dev
//! Center, "HTTP Routing", "Error Codes").

mod exchange;

use crate::console::{Console, Source};
use crate::environment::{domain, uuid};
use crate::logplex::Logplex;
use exchange::{Exchange, ResponseBody, RouterError};
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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a request waits for a dyno that is starting (H20).
const BOOT_TIMEOUT: Duration = Duration::from_secs(75);
/// Delay after a failed `accept`.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The state of a web dyno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// It does not listen yet.
    Starting,
    /// It listens on this port.
    Up(u16),
    /// It crashed.
    Crashed,
}

/// The web dynos by name.
pub type Backends = BTreeMap<String, BackendState>;

/// A web dyno that is up.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) dyno: String,
    pub(crate) port: u16,
}

/// Counts of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Requests received.
    pub sent: u64,
    /// Complete responses of the app, by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests without a complete response, by the router's error code.
    pub failed: BTreeMap<String, u64>,
}

/// Options of a router.
#[derive(Debug)]
pub struct RouterOptions<'a> {
    /// The port on the loopback address; 0 for any.
    pub port: u16,
    /// The app's name.
    pub app_name: &'a str,
    /// Time to respond to a request (H12).
    pub request_timeout: Duration,
    /// The web dynos.
    pub backends: watch::Receiver<Backends>,
    /// Prints the router's lines.
    pub console: Console,
    /// Delivers the router's lines.
    pub logplex: Option<Arc<Logplex>>,
}

/// State that all connections share.
#[derive(Debug)]
pub(crate) struct RouterState {
    host: String,
    backends: watch::Receiver<Backends>,
    request_timeout: Duration,
    console: Console,
    logplex: Option<Arc<Logplex>>,
    requests: Mutex<Requests>,
}

impl RouterState {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs and counts a request that has ended.
    fn record(&self, exchange: &Exchange) {
        let line = exchange.log_line(&self.host);
        self.console.try_print_log_line(Source::platform("router"), &line);
        if let Some(logplex) = &self.logplex {
            logplex.add_platform_line("router", &line);
        }
        let mut requests = self.requests();
        match exchange.error {
            Some(error) => *requests.failed.entry(error.code.to_owned()).or_default() += 1,
            None => *requests.by_status.entry(exchange.status).or_default() += 1,
        }
    }

    /// Chooses a web dyno that is up, at random as the platform does. Waits while dynos are starting and none is up.
    async fn choose_backend(&self) -> Result<Backend, RouterError> {
        let mut backends = self.backends.clone();
        let ready = backends.wait_for(|all| {
            random_backend(all).is_some() || !all.values().any(|state| *state == BackendState::Starting)
        });
        match timeout(BOOT_TIMEOUT, ready).await {
            Ok(Ok(all)) if all.is_empty() => Err(exchange::NO_DYNOS),
            Ok(Ok(all)) => random_backend(&all).ok_or(exchange::CRASHED),
            Ok(Err(_)) => Err(exchange::NO_DYNOS),
            Err(_) => Err(exchange::BOOT_TIMEOUT),
        }
    }

    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        self.requests().sent += 1;
        let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let exchange = Exchange::new(&request, id.unwrap_or_else(uuid));
        let backend = self.choose_backend().await;
        Ok(exchange.forward(request, backend, self).await)
    }
}

/// A random dyno among those that are up.
fn random_backend(all: &Backends) -> Option<Backend> {
    let up: Vec<Backend> = all
        .iter()
        .filter_map(|(name, state)| match state {
            BackendState::Up(port) => Some(Backend { dyno: name.clone(), port: *port }),
            _ => None,
        })
        .collect();
    (!up.is_empty()).then(|| up[fastrand::usize(..up.len())].clone())
}

/// A listening router. Dropping it stops it.
#[derive(Debug)]
pub struct Router {
    state: Arc<RouterState>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Router {
    /// Starts a router.
    ///
    /// # Errors
    /// When the port is in use.
    pub async fn start(options: RouterOptions<'_>) -> io::Result<Self> {
        let RouterOptions { port, app_name, request_timeout, backends, console, logplex } = options;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let host = domain(app_name);
        let requests = Mutex::default();
        let state = Arc::new(RouterState { host, backends, request_timeout, console, logplex, requests });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await; // too many open files
                    continue;
                };
                drop(tokio::spawn(serve(stream, Arc::clone(&shared))));
            }
        });
        Ok(Self { state, address, task })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The counts so far.
    pub fn requests(&self) -> Requests {
        self.state.requests().clone()
    }
}

/// Serves one client connection to its end.
async fn serve(stream: TcpStream, state: Arc<RouterState>) {
    let service = service_fn(|request| Arc::clone(&state).respond(request));
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
        .ok(); // fails when the client closes the connection early
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
