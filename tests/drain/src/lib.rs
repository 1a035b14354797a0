//! A log drain to test against: a real HTTPS server that takes Logplex frames, scripts faults, and reports what
//! it saw. For integration tests as a library, for people as `tailrace-drain`.

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
pub mod stats;
mod stream;

use fault::{FaultError, Kind, Plan};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use receiver::Receiver;
use server::Shared;
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

/// The path of the drain's URL: shaped as Sumo Logic's, the last segment standing for a secret.
const PATH: &str = "/receiver/v1/http/LOCAL-SECRET==";

/// Gets every line when it is recorded.
pub type Sink = Box<dyn FnMut(&[Line]) + Send>;

/// How a drain is set up.
pub struct Options {
    /// Where it listens; port 0 for any.
    pub listen: SocketAddr,
    /// Where the control endpoint listens, if it shall.
    pub control: Option<SocketAddr>,
    /// Where `ca.pem` goes; a temporary directory without it.
    pub dir: Option<PathBuf>,
    /// Who looks at the requests.
    pub receivers: Vec<Receiver>,
    /// The last so many lines are kept.
    pub keep: usize,
    /// The token of the platform's own drain, which comes here too: nothing is asked of it.
    pub platform: Option<String>,
    /// Faults from the start.
    pub faults: Plan,
    /// Gets every line when it is recorded.
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
            faults: Plan::default(),
            sink: Box::new(|_| {}),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// A running drain; dropping it stops it.
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
    /// Starts a drain in a thread of its own.
    ///
    /// # Errors
    /// When an address is taken, or a file cannot be written.
    pub fn start(options: Options) -> io::Result<Self> {
        let temporary = if options.dir.is_none() { Some(TempDir::new()?) } else { None };
        let dir = options.dir.or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()));
        let ca = dir.unwrap_or_default().join("ca.pem");
        let (good, pem) = authority().map_err(io::Error::other)?;
        let (foreign, _) = authority().map_err(io::Error::other)?;
        std::fs::write(&ca, pem)?;
        let reserved = server::reserve(options.listen)?;
        let address = reserved.local_addr()?;
        let listener = server::bind(address)?;
        let control_listener = options.control.map(server::bind).transpose()?;
        let control = control_listener.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
        let stats = Stats::new(&options.receivers, options.keep).with_platform_drain(options.platform);
        let stats = if control.is_some() { stats.with_model() } else { stats };
        let shared = Arc::new(Shared::new(stats, options.faults, options.sink, good, foreign));
        let (stop, stopped) = watch::channel(false);
        let mut threads =
            vec![thread("drain", server::serve(Arc::clone(&shared), listener, stopped.clone()))?];
        if let Some(listener) = control_listener {
            // A thread of its own: who looks does not slow down what is looked at.
            threads.push(thread("control", control::serve(Arc::clone(&shared), listener, stopped))?);
        }
        Ok(Self { shared, address, control, ca, stop, threads, _reserved: reserved, _temporary: temporary })
    }

    /// What to put into `TAILRACE_DRAIN_URL`.
    pub fn url(&self) -> String {
        format!("https://{}{PATH}", self.address)
    }

    /// The URL of the control endpoint.
    pub fn control(&self) -> Option<String> {
        self.control.map(|address| format!("http://{address}"))
    }

    /// What to put into `TAILRACE_CA_FILE`.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        self.shared.stats().report()
    }

    /// The kept lines, with those of the agent and the platform.
    pub fn frames(&self) -> Vec<Line> {
        self.shared.stats().lines(0, usize::MAX).0
    }

    /// The same as they came, byte for byte, without the LF at their end.
    pub fn raw(&self) -> Vec<String> {
        let chunks = self.shared.stats().kept().since(0);
        let frames =
            chunks.iter().flat_map(|chunk| (chunk.first..chunk.end()).filter_map(|line| chunk.raw(line)));
        frames.map(|raw| String::from_utf8_lossy(raw).trim_end_matches('\n').to_owned()).collect()
    }

    /// The messages of the kept lines of the app, in the order in which they came first.
    pub fn lines(&self) -> Vec<String> {
        self.frames().into_iter().filter(|line| line.is_app).map(|line| line.message).collect()
    }

    /// Puts other faults in force; their windows count from now. On return, connections are refused or taken as
    /// they say.
    ///
    /// # Errors
    /// [`FaultError`] when they cannot be read.
    pub fn set_faults(&self, text: &str) -> Result<(), FaultError> {
        self.shared.set_plan(Plan::parse(text)?);
        self.shared.wait_settled();
        Ok(())
    }

    /// Puts more faults in force, beside those that are; their windows count from now. On return, connections are
    /// refused or taken as they say.
    ///
    /// # Errors
    /// [`FaultError`] when they cannot be read.
    pub fn add_faults(&self, text: &str) -> Result<(), FaultError> {
        self.shared.add_plan(Plan::parse(text)?);
        self.shared.wait_settled();
        Ok(())
    }

    /// The faults that are in force now, by whomever, as they were written.
    pub fn faults_in_force(&self) -> Vec<(Kind, String)> {
        self.shared.in_force()
    }

    /// The kinds of the faults that were in force at some time until now.
    pub fn faults_so_far(&self) -> Vec<Kind> {
        self.shared.begun()
    }

    /// Waits until the report is as wanted; false when that takes longer than `patience`.
    pub fn wait_until(&self, patience: Duration, wanted: impl Fn(&Report) -> bool) -> bool {
        let start = Instant::now();
        loop {
            if wanted(&self.report()) {
                return true;
            }
            if start.elapsed() > patience {
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
            drop(thread.join());
        }
    }
}

/// Serves in a thread of its own.
fn thread(
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

/// A certificate authority of its own, and a server's identity under it; returns the authority as PEM.
fn authority() -> Result<(TlsAcceptor, String), Box<dyn std::error::Error + Send + Sync>> {
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
    Ok((TlsAcceptor::from(Arc::new(config)), ca.pem()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_fault_is_in_force_once_it_is_set() {
        let drain = Drain::start(Options::default()).unwrap();
        for _ in 0..20 {
            drain.set_faults("refuse").unwrap();
            assert!(TcpStream::connect(drain.address).is_err(), "connections are refused");
            drain.set_faults("").unwrap();
            TcpStream::connect(drain.address).unwrap();
        }
    }

    #[test]
    fn faults_are_remembered() {
        let drain = Drain::start(Options::default()).unwrap();
        drain.set_faults("swallow:@60m+1s, status=503").unwrap();
        assert_eq!(drain.faults_in_force(), [(Kind::Status(503), "status=503".to_owned())]);
        drain.set_faults("").unwrap();
        assert_eq!((drain.faults_in_force(), drain.faults_so_far()), (Vec::new(), vec![Kind::Status(503)]));
    }
}
