//! A server that is told what to do with each request and shows what it got, and what surrounds it.

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
use tailrace::drain::https::{Answer, Client, Outgoing, Stage, Target};
use tailrace::drain::tls::client_config;
use tailrace::drain::verdict::Verdict;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Read it whole and send this.
    Reply(String),
    /// The same, then close.
    ReplyAndClose(String),
    /// Read it whole and close without a word.
    Close,
    /// Read the head, then reset.
    Reset,
    /// Read the head, send this, and reset because of the unread body.
    ReplyEarly(String),
    /// Read it whole, send this, and nothing more.
    Stall(String),
}

pub(crate) fn reply(text: &str) -> Act {
    Act::Reply(text.to_owned())
}

pub(crate) fn status(status: u16) -> Act {
    Act::Reply(format!("HTTP/1.1 {status} Because\r\nContent-Length: 0\r\n\r\n"))
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which connection, from 1.
    pub(crate) connection: usize,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[derive(Default)]
pub(crate) struct Shared {
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Seen>>,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    /// Connections that ended.
    pub(crate) ended: watch::Receiver<usize>,
}

impl Server {
    /// After the acts that are told, everything is answered 200.
    pub(crate) async fn start(tls: Option<TlsAcceptor>, acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { acts: Mutex::new(acts.into_iter().collect()), ..Shared::default() });
        let (ending, ended) = watch::channel(0);
        let theirs = Arc::clone(&shared);
        tokio::spawn(async move {
            for connection in 1.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                // A reset throws away what Nagle holds back.
                stream.set_nodelay(true).unwrap();
                let (tls, shared, ending) = (tls.clone(), Arc::clone(&theirs), ending.clone());
                tokio::spawn(async move {
                    // How a conversation ends is the test's to see.
                    if let Some(tls) = tls {
                        if let Ok(stream) = tls.accept(stream).await {
                            drop(converse(stream, connection, &shared, |stream| stream.into_inner().0).await);
                        }
                    } else {
                        drop(converse(stream, connection, &shared, |stream| stream).await);
                    }
                    ending.send_modify(|count| *count += 1);
                });
            }
        });
        Self { port, shared, ended }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) async fn until_ended(&mut self, count: usize) {
        timeout(PATIENCE, self.ended.wait_for(|ended| *ended >= count)).await.unwrap().unwrap();
    }
}

pub(crate) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    shared: &Shared,
    bare: impl FnOnce(S) -> TcpStream,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return stream.shutdown().await;
            }
        };
        let mut seen = Seen {
            connection,
            head: String::from_utf8(bytes.drain(..head).collect()).unwrap(),
            body: Vec::new(),
        };
        let act = shared.acts.lock().unwrap().pop_front().unwrap_or_else(|| reply(OK));
        let length = seen.header("Content-Length").unwrap().parse::<usize>().unwrap();
        let early = matches!(act, Act::Reset | Act::ReplyEarly(_));
        while !early && bytes.len() < length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if !early {
            seen.body = bytes.drain(..length).collect();
        }
        shared.seen.lock().unwrap().push(seen);
        match act {
            Act::Reply(text) => stream.write_all(text.as_bytes()).await?,
            Act::ReplyAndClose(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Act::Close => return stream.shutdown().await,
            Act::Reset => {
                return bare(stream).set_zero_linger();
            }
            Act::ReplyEarly(text) => {
                stream.write_all(text.as_bytes()).await?;
                stream.flush().await?;
                return Ok(());
            }
            Act::Stall(text) => {
                stream.write_all(text.as_bytes()).await?;
                stream.flush().await?;
                // Until the client hangs up.
                while stream.read(&mut [0; 512]).await? > 0 {}
                return Ok(());
            }
        }
        stream.flush().await?;
    }
}

/// A certificate authority, in a file, and a server's certificate for some name.
pub(crate) struct Authority {
    pub(crate) directory: tempfile::TempDir,
    acceptor: TlsAcceptor,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::signing("localhost", |_| {})
    }

    pub(crate) fn signing(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::speaking(rustls::ALL_VERSIONS, name, edit)
    }

    pub(crate) fn speaking(
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

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(crate) async fn serve(&self, acts: impl IntoIterator<Item = Act>) -> Server {
        Server::start(Some(self.acceptor.clone()), acts).await
    }

    pub(crate) fn client(&self, target: &Target) -> Client {
        Client::new(target, client_config(&[self.file()]).unwrap()).unwrap()
    }
}

pub(crate) fn target(port: u16) -> Target {
    Target {
        host: "localhost".to_owned(),
        port,
        path_and_query: "/logs".to_owned(),
        authorization: None,
        tls: true,
        headers: Vec::new(),
        token: "d.00000000-0000-4000-8000-000000000001".to_owned(),
        gzip: false,
        request_timeout: PATIENCE,
        proxy: None,
    }
}

pub(crate) fn batch(body: impl Into<Bytes>) -> Outgoing {
    Outgoing { body: body.into(), frames: 4, id: "09C557EAFCFB6CF2740EE62F62971098".to_owned() }
}

pub(crate) fn large() -> Outgoing {
    batch((0..512 * 1024_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>())
}

pub(crate) fn delivered(answer: &Answer) {
    assert_eq!(answer.verdict, Verdict::Delivered, "{answer:?}");
    assert_eq!((answer.stage, answer.status), (Stage::Answer, Some(200)), "{answer:?}");
}

pub(crate) fn failed(answer: &Answer, stage: Stage, detail: &str) {
    assert_eq!((answer.verdict, answer.status), (Verdict::Retry, None), "{answer:?}");
    assert_eq!((answer.stage, answer.detail.as_str()), (stage, detail), "{answer:?}");
}

/// A proxy that answers CONNECT with `answer`, and tunnels when that is 200. Gives its port and what it was asked.
pub(crate) async fn proxy(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let asked = Arc::clone(&theirs);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let drain = head.split(' ').nth(1).unwrap().to_owned();
                asked.lock().unwrap().push(head);
                // In pieces: an answer may come so.
                for piece in answer.as_bytes().chunks(7) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                if answer.contains(" 200 ") {
                    let mut drain = TcpStream::connect(drain).await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut client, &mut drain).await);
                }
            });
        }
    });
    (port, asked)
}
