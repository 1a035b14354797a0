//! A server that performs a given action per request and records what it received; certificates, proxies, ports.

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tailrace::shipper::http::tls::client_config;
use tailrace::shipper::http::{AttemptOutcome, BatchRequest, Client, Endpoint, Phase};
use tailrace::shipper::verdict::Verdict;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Upper limit of every wait that is not itself under test.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(20);
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Reads the request and sends this.
    Reply(String),
    /// Reads the request, sends this, and closes the connection.
    ReplyAndClose(String),
    /// Reads the request and closes the connection without an answer.
    Close,
    /// Reads the request and closes the connection without the end of TLS (`close_notify`).
    CloseAbruptly,
    /// Reads the head and resets the connection.
    Reset,
    /// Reads the head and sends this; closing with an unread body resets the connection.
    ReplyEarly(String),
    /// Reads the request, sends this, and nothing more.
    Stall(String),
}

pub(crate) fn reply(text: &str) -> Action {
    Action::Reply(text.to_owned())
}

pub(crate) fn reply_status(status: u16) -> Action {
    Action::Reply(format!("HTTP/1.1 {status} Because\r\nContent-Length: 0\r\n\r\n"))
}

/// A request as the server received it.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    /// The number of the connection, from 1.
    pub(crate) connection: usize,
    pub(crate) head: String,
    /// Empty if the action does not read the body.
    pub(crate) body: Vec<u8>,
}

impl ReceivedRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// What the connections of a server share.
#[derive(Default)]
struct ServerState {
    actions: Mutex<VecDeque<Action>>,
    requests: Mutex<Vec<ReceivedRequest>>,
}

/// A server that performs one action per request; further requests are answered 200.
pub(crate) struct Server {
    pub(crate) port: u16,
    state: Arc<ServerState>,
    /// The number of connections that were closed.
    pub(crate) closed: watch::Receiver<usize>,
}

impl Server {
    pub(crate) async fn start(tls: Option<TlsAcceptor>, actions: impl IntoIterator<Item = Action>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let actions = Mutex::new(actions.into_iter().collect());
        let state = Arc::new(ServerState { actions, ..ServerState::default() });
        let (closed_sender, closed) = watch::channel(0);
        tokio::spawn(accept_connections(listener, tls, Arc::clone(&state), closed_sender));
        Self { port, state, closed }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The number of the connection of each request.
    pub(crate) fn connections(&self) -> Vec<usize> {
        self.requests().iter().map(|request| request.connection).collect()
    }

    /// Waits until `count` requests were received.
    pub(crate) async fn wait_for_requests(&self, count: usize) {
        let received = async {
            while self.requests().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(WAIT_TIMEOUT, received).await.unwrap();
    }

    /// Waits until `count` connections were closed.
    pub(crate) async fn wait_for_closed(&mut self, count: usize) {
        timeout(WAIT_TIMEOUT, self.closed.wait_for(|closed| *closed >= count)).await.unwrap().unwrap();
    }
}

async fn accept_connections(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<ServerState>,
    closed: watch::Sender<usize>,
) {
    for connection in 1.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        // A reset discards what Nagle's algorithm has held back.
        stream.set_nodelay(true).unwrap();
        let (tls, state, closed) = (tls.clone(), Arc::clone(&state), closed.clone());
        tokio::spawn(async move {
            // Errors are what the tests cause; they show in what the client reports.
            if let Some(tls) = tls {
                if let Ok(stream) = tls.accept(stream).await {
                    serve_connection(stream, connection, &state, |stream| stream.into_inner().0).await.ok();
                }
            } else {
                serve_connection(stream, connection, &state, |stream| stream).await.ok();
            }
            closed.send_modify(|count| *count += 1);
        });
    }
}

/// Serves requests until the connection is closed; `socket_of` returns the TCP socket of a stream.
async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    state: &ServerState,
    socket_of: impl FnOnce(S) -> TcpStream,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let Some(head) = read_head(&mut stream, &mut bytes).await? else { return stream.shutdown().await };
        let mut request = ReceivedRequest { connection, head, body: Vec::new() };
        let action = state.actions.lock().unwrap().pop_front().unwrap_or_else(|| reply(OK));
        let length = request.header("Content-Length").unwrap().parse::<usize>().unwrap();
        if !matches!(action, Action::Reset | Action::ReplyEarly(_)) {
            while bytes.len() < length {
                if stream.read_buf(&mut bytes).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            request.body = bytes.drain(..length).collect();
        }
        state.requests.lock().unwrap().push(request);
        match action {
            Action::Reply(text) => stream.write_all(text.as_bytes()).await?,
            Action::ReplyAndClose(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Action::Close => return stream.shutdown().await,
            Action::CloseAbruptly => return Ok(()),
            Action::Reset => return socket_of(stream).set_zero_linger(),
            Action::ReplyEarly(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.flush().await;
            }
            Action::Stall(text) => {
                stream.write_all(text.as_bytes()).await?;
                stream.flush().await?;
                // Until the client closes the connection.
                while stream.read(&mut [0; 512]).await? > 0 {}
                return Ok(());
            }
        }
        stream.flush().await?;
    }
}

/// Reads the head of a request; `None` when the client closed the connection instead. `bytes` holds what was read
/// beyond the head.
async fn read_head(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Some(String::from_utf8(bytes.drain(..end + 4).collect()).unwrap()));
        }
        if stream.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// A certificate authority, in a file, and a server certificate that it signed.
pub(crate) struct Authority {
    pub(crate) directory: tempfile::TempDir,
    acceptor: TlsAcceptor,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::for_name("localhost", |_| {})
    }

    pub(crate) fn for_name(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::with_versions(rustls::ALL_VERSIONS, name, edit)
    }

    pub(crate) fn with_versions(
        versions: &[&'static SupportedProtocolVersion],
        name: &str,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new([]).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new([name.to_owned()]).unwrap();
        edit(&mut leaf);
        let leaf = leaf.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), root_pem).unwrap();
        Self { directory, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// A server that uses the certificate of an authority, self-signed, as `openssl req -x509` makes it. The CA file has
    /// exactly this certificate.
    pub(crate) fn self_signed(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        edit(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { directory, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(crate) async fn serve(&self, actions: impl IntoIterator<Item = Action>) -> Server {
        Server::start(Some(self.acceptor.clone()), actions).await
    }

    pub(crate) fn client(&self, endpoint: &Endpoint) -> Client {
        Client::new(endpoint, client_config(&[self.ca_file()]).unwrap()).unwrap()
    }
}

pub(crate) fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "localhost".to_owned(),
        port,
        path_and_query: "/logs".to_owned(),
        authorization: None,
        tls: true,
        headers: Vec::new(),
        token: "d.00000000-0000-4000-8000-000000000001".to_owned(),
        gzip: false,
        request_timeout: WAIT_TIMEOUT,
        max_connection_age: Duration::MAX,
        proxy: None,
    }
}

pub(crate) fn batch(body: impl Into<Bytes>) -> BatchRequest {
    BatchRequest { body: body.into(), frames: 4, id: "09C557EAFCFB6CF2740EE62F62971098".to_owned() }
}

pub(crate) fn large_batch() -> BatchRequest {
    batch((0..512 * 1024_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>())
}

pub(crate) fn assert_delivered(outcome: &AttemptOutcome) {
    assert_eq!(outcome.verdict, Verdict::Delivered, "{outcome:?}");
    assert_eq!((outcome.phase, outcome.status), (Phase::Response, Some(200)), "{outcome:?}");
}

pub(crate) fn assert_failed(outcome: &AttemptOutcome, phase: Phase, detail: &str) {
    assert_eq!((outcome.verdict, outcome.status), (Verdict::Retry, None), "{outcome:?}");
    assert_eq!((outcome.phase, outcome.detail.as_str()), (phase, detail), "{outcome:?}");
}

/// A port of 127.0.0.1 that refuses connections: its socket is bound, so no other process gets the port, and does not
/// listen.
pub(crate) struct RefusingPort(TcpSocket);

impl RefusingPort {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

/// A proxy, and the heads of the CONNECT requests that it received.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

/// Starts a proxy that answers CONNECT with `answer`, and opens the tunnel if that is 200.
pub(crate) async fn start_proxy(answer: &'static str) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let recorded = Arc::clone(&recorded);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let drain = head.split(' ').nth(1).unwrap().to_owned();
                recorded.lock().unwrap().push(head);
                // In small segments, as an answer may arrive.
                for segment in answer.as_bytes().chunks(7) {
                    client.write_all(segment).await.unwrap();
                    tokio::task::yield_now().await;
                }
                if answer.contains(" 200 ") {
                    let mut drain = TcpStream::connect(drain).await.unwrap();
                    tokio::io::copy_bidirectional(&mut client, &mut drain).await.ok(); // ends with the connection
                }
            });
        }
    });
    Proxy { port, requests }
}
