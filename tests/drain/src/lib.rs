//! A log drain for tests: an HTTPS server that receives Logplex frames, injects scripted faults and reports what it
//! received. A library for integration tests, and the program `tailrace-drain`.

mod ansi;
mod connection;
mod control;
mod duplicates;
pub mod fault;
mod filter;
mod filtered_stats;
mod history;
pub mod measure;
pub mod model;
mod page;
mod parsers;
pub mod receiver;
mod server;
mod skip;
pub mod stats;
mod stream;

use fault::{FaultError, FaultKind, FaultPlan};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use receiver::Receiver;
use server::{Identities, Shared};
pub use skip::skip;
use stats::{Line, Report, Stats};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The path of the drain's URL, in the form of Sumo Logic's: the last segment is the secret.
const PATH: &str = "/receiver/v1/http/LOCAL-SECRET==";

/// Is called with the lines of each recorded request.
pub type Sink = Box<dyn FnMut(&[Line]) + Send>;

/// The configuration of a drain.
pub struct Options {
    /// Address of the drain; port 0 for any free port.
    pub listen: SocketAddr,
    /// Address of the control endpoint; `None` for no control endpoint and no page.
    pub control: Option<SocketAddr>,
    /// Directory for `ca.pem`; `None` for a temporary directory.
    pub dir: Option<PathBuf>,
    /// The receivers whose rules are checked.
    pub receivers: Vec<Receiver>,
    /// Number of lines in the history. With 0 the sink is not called.
    pub keep: usize,
    /// The token of the platform's own drain, if it delivers here too. Its requests are not checked, and its frames are
    /// not part of the totals.
    pub platform: Option<String>,
    /// Initial faults.
    pub faults: FaultPlan,
    /// Is called with the lines of each recorded request.
    pub sink: Sink,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            control: None,
            dir: None,
            receivers: Receiver::ALL.to_vec(),
            keep: 200_000,
            platform: None,
            faults: FaultPlan::default(),
            sink: Box::new(|_| {}),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// A running drain. Dropping it stops the server.
pub struct Drain {
    shared: Arc<Shared>,
    address: SocketAddr,
    control: Option<SocketAddr>,
    ca: PathBuf,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    _reserved: TcpSocket,
    _temporary: Option<TempDir>,
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Drain {
    /// Starts a drain on its own threads.
    ///
    /// # Errors
    /// When an address is in use, or a file cannot be written.
    pub fn start(options: Options) -> io::Result<Self> {
        let temporary = if options.dir.is_none() { Some(TempDir::new()?) } else { None };
        let dir = options.dir.or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()));
        let ca = dir.unwrap_or_default().join("ca.pem");
        let Identity { acceptor: trusted, ca_pem } = identity().map_err(io::Error::other)?;
        let untrusted = identity().map_err(io::Error::other)?.acceptor;
        std::fs::write(&ca, ca_pem)?;
        let reserved = server::reserve(options.listen)?;
        let address = reserved.local_addr()?;
        let listener = server::bind(address)?;
        let control_listener = options.control.map(server::bind).transpose()?;
        let control = control_listener.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
        let stats = Stats::new(&options.receivers, options.keep).with_platform_drain(options.platform);
        let stats = if control.is_some() { stats.with_model() } else { stats };
        let shared =
            Arc::new(Shared::new(stats, options.faults, options.sink, Identities { trusted, untrusted }));
        let (stop, stopped) = watch::channel(false);
        let mut threads =
            vec![spawn_server("drain", server::serve(Arc::clone(&shared), listener, stopped.clone()))?];
        if let Some(listener) = control_listener {
            // A separate thread, so that requests to the page do not delay the drain.
            threads.push(spawn_server("control", control::serve(Arc::clone(&shared), listener, stopped))?);
        }
        Ok(Self { shared, address, control, ca, stop, threads, _reserved: reserved, _temporary: temporary })
    }

    /// The value for `TAILRACE_DRAIN_URL`.
    pub fn url(&self) -> String {
        format!("https://{}{PATH}", self.address)
    }

    /// The URL of the control endpoint.
    pub fn control(&self) -> Option<String> {
        self.control.map(|address| format!("http://{address}"))
    }

    /// The value for `TAILRACE_CA_FILE`.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// The report so far.
    pub fn report(&self) -> Report {
        self.shared.stats().report()
    }

    /// The lines in the history, including those of the agent and the platform.
    pub fn frames(&self) -> Vec<Line> {
        self.shared.stats().lines(0, usize::MAX).0
    }

    /// The frames in the history as they were received, without the final LF.
    pub fn raw(&self) -> Vec<String> {
        let chunks = self.shared.stats().history().since(0);
        let frames =
            chunks.iter().flat_map(|chunk| (chunk.first..chunk.end()).filter_map(|line| chunk.raw(line)));
        frames.map(|raw| String::from_utf8_lossy(raw).trim_end_matches('\n').to_owned()).collect()
    }

    /// The messages of the app's lines in the history, in the order of arrival.
    pub fn lines(&self) -> Vec<String> {
        self.frames().into_iter().filter(|line| line.is_app).map(|line| line.message).collect()
    }

    /// Replaces the faults; their windows count from now. Returns when the listening socket is closed or open as the
    /// faults require.
    ///
    /// # Errors
    /// [`FaultError`] when the text cannot be parsed.
    pub fn set_faults(&self, text: &str) -> Result<(), FaultError> {
        self.shared.set_plan(FaultPlan::parse(text)?);
        self.shared.wait_settled();
        Ok(())
    }

    /// Adds faults; their windows count from now. Returns when the listening socket is closed or open as the faults
    /// require.
    ///
    /// # Errors
    /// [`FaultError`] when the text cannot be parsed.
    pub fn add_faults(&self, text: &str) -> Result<(), FaultError> {
        self.shared.add_plan(FaultPlan::parse(text)?);
        self.shared.wait_settled();
        Ok(())
    }

    /// The faults in force now, from any source, with their specifications.
    pub fn faults_in_force(&self) -> Vec<(FaultKind, String)> {
        self.shared.faults_in_force()
    }

    /// The kinds of all faults that have been in force so far.
    pub fn faults_so_far(&self) -> Vec<FaultKind> {
        self.shared.faults_so_far()
    }

    /// Waits until the report meets `condition`; false after `timeout`.
    pub fn wait_until(&self, timeout: Duration, condition: impl Fn(&Report) -> bool) -> bool {
        let start = Instant::now();
        loop {
            if condition(&self.report()) {
                return true;
            }
            if start.elapsed() > timeout {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            thread.join().ok(); // a panic was already printed
        }
    }
}

/// Runs a server on its own thread.
fn spawn_server(
    name: &str,
    serve: impl Future<Output = io::Result<()>> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(serve) {
            eprintln!("tailrace-drain: {error}");
        }
        runtime.shutdown_background();
    })
}

/// A server's TLS identity.
struct Identity {
    acceptor: TlsAcceptor,
    /// The certificate of its authority.
    ca_pem: String,
}

/// Creates a certificate authority and a server certificate that it issued.
fn identity() -> Result<Identity, Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "tailrace test drain");
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?;
    let issuer = Issuer::new(params, ca_key);
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem: ca.pem() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn faults_are_in_force_when_set_faults_returns() {
        let drain = Drain::start(Options::default()).unwrap();
        for _ in 0..20 {
            drain.set_faults("refuse").unwrap();
            assert!(TcpStream::connect(drain.address).is_err(), "connections are refused");
            drain.set_faults("").unwrap();
            TcpStream::connect(drain.address).unwrap();
        }
    }

    #[test]
    fn past_faults_are_listed() {
        let drain = Drain::start(Options::default()).unwrap();
        drain.set_faults("swallow:@60m+1s, status=503").unwrap();
        assert_eq!(drain.faults_in_force(), [(FaultKind::Status(503), "status=503".to_owned())]);
        drain.set_faults("").unwrap();
        assert_eq!(
            (drain.faults_in_force(), drain.faults_so_far()),
            (Vec::new(), vec![FaultKind::Status(503)])
        );
    }
}
