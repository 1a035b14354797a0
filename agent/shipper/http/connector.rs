//! From a name to a connected socket: look-up, TCP, and the proxy's CONNECT when there is one.

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tower_service::Service;

/// The largest answer to CONNECT, in bytes.
const MAX_PROXY_ANSWER: usize = 4096;

/// How far an attempt came. It says what a deadline cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The host's name was being looked up.
    Lookup = 0,
    /// TCP was being connected, to the drain or its proxy.
    Connect = 1,
    /// The proxy was being asked for a tunnel.
    Proxy = 2,
    /// TLS was being agreed on.
    Tls = 3,
    /// The request was being sent, or its answer waited for.
    Request = 4,
    /// The drain answered.
    Response = 5,
}

/// The phase, shared between the client and what connects for it.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Phase::Connect as u8)))
    }

    pub(super) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Lookup,
            1 => Phase::Connect,
            2 => Phase::Proxy,
            3 => Phase::Tls,
            4 => Phase::Request,
            _ => Phase::Response,
        }
    }
}

/// What goes wrong below TLS and is not plain TCP.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The look-up failed.
    Name(io::Error),
    /// The look-up found no address.
    NoAddress,
    /// The proxy answered CONNECT with this status.
    Refused(u16),
    /// The proxy's answer to CONNECT is not HTTP, too long, or cut short.
    Garbled,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The standard library puts "failed to lookup address information: " before the resolver's replies.
            Self::Name(error) => {
                let text = error.to_string();
                write!(f, "name not found: {}", text.rsplit(": ").next().unwrap_or_default())
            }
            Self::NoAddress => f.write_str("name not found: it has no address"),
            Self::Refused(status) => write!(f, "the proxy answered {status} to CONNECT"),
            Self::Garbled => {
                f.write_str("the proxy's answer to CONNECT is not HTTP (is TAILRACE_PROXY a proxy?)")
            }
        }
    }
}

impl Error for ConnectError {}

type Lookup = JoinHandle<io::Result<vec::IntoIter<SocketAddr>>>;

/// `getaddrinfo` off the runtime's thread. It cannot be interrupted, so there is never more than one under way
/// for a client: an attempt whose deadline passed leaves it to the next one.
#[derive(Clone)]
pub(super) struct Resolver {
    under_way: Arc<Mutex<Option<Lookup>>>,
    progress: Progress,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { under_way, progress } = self.clone();
        Box::pin(async move {
            progress.set(Phase::Lookup);
            let mut under_way = under_way.lock().await;
            let lookup = under_way.get_or_insert_with(|| {
                tokio::task::spawn_blocking(move || (name.as_str(), 0).to_socket_addrs())
            });
            let found = lookup.await;
            *under_way = None;
            let addresses = found.map_err(io::Error::other).flatten().map_err(ConnectError::Name)?;
            progress.set(Phase::Connect);
            if addresses.as_slice().is_empty() { Err(ConnectError::NoAddress) } else { Ok(addresses) }
        })
    }
}

/// A way through a CONNECT proxy (RFC 9110 §9.3.6).
#[derive(Clone)]
pub(super) struct Tunnel {
    /// Where the proxy is.
    pub(super) proxy: Uri,
    /// The drain's `host:port`.
    pub(super) authority: String,
}

/// The innermost connector, which hyper-rustls wraps.
#[derive(Clone)]
pub(super) struct DrainConnector {
    tcp: HttpConnector<Resolver>,
    tunnel: Option<Arc<Tunnel>>,
    progress: Progress,
}

impl DrainConnector {
    /// `patience` is for all addresses of the name together.
    pub(super) fn new(tunnel: Option<Tunnel>, patience: Duration, progress: Progress) -> Self {
        let resolver = Resolver { under_way: Arc::default(), progress: progress.clone() };
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(patience));
        Self { tcp, tunnel: tunnel.map(Arc::new), progress }
    }
}

impl Service<Uri> for DrainConnector {
    type Response = Socket;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Socket, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, drain: Uri) -> Self::Future {
        let Self { tcp, tunnel, progress } = self;
        let (tunnel, progress) = (tunnel.clone(), progress.clone());
        progress.set(Phase::Connect);
        let connecting = tcp.call(tunnel.as_ref().map_or(drain, |tunnel| tunnel.proxy.clone()));
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            if let Some(tunnel) = tunnel {
                progress.set(Phase::Proxy);
                connect(&stream, &tunnel.authority).await?;
            }
            progress.set(Phase::Tls);
            Ok(Socket { stream: TokioIo::new(stream), deaf: false })
        })
    }
}

/// Asks the proxy for a tunnel. The drain never speaks first, so whatever follows the head is not of it.
async fn connect(stream: &TcpStream, authority: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let mut left = request.as_bytes();
    while !left.is_empty() {
        stream.writable().await?;
        match stream.try_write(left) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(n) => left = &left[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut head = [0; MAX_PROXY_ANSWER];
    let mut filled = 0;
    while !head[..filled].ends_with(b"\r\n\r\n") {
        if filled == head.len() {
            return Err(ConnectError::Garbled.into());
        }
        stream.readable().await?;
        match stream.try_read(&mut head[filled..]) {
            Ok(0) => return Err(ConnectError::Garbled.into()),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    match head[..filled].strip_prefix(b"HTTP/1.") {
        Some([b'0' | b'1', b' ', status @ ..]) if status.len() > 3 => {
            let status = status[..3].iter().try_fold(0, |sum: u16, digit| {
                digit.is_ascii_digit().then(|| sum * 10 + u16::from(digit - b'0'))
            });
            match status {
                Some(200..=299) => Ok(()),
                Some(status) => Err(ConnectError::Refused(status).into()),
                None => Err(ConnectError::Garbled.into()),
            }
        }
        _ => Err(ConnectError::Garbled.into()),
    }
}

/// A TCP stream that goes deaf when the peer hangs up on what we send.
///
/// A server may answer (401, 413) before it has read the body, and close. The kernel then fails our writes,
/// while the answer waits in the receive buffer. So a failed write is no end: what is written after it is
/// thrown away, and the next read tells what happened: the answer, the end, or a reset.
pub(super) struct Socket {
    stream: TokioIo<TcpStream>,
    deaf: bool,
}

impl Socket {
    fn hear(&mut self, written: Poll<io::Result<usize>>, offered: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                self.deaf = true;
                Poll::Ready(Ok(offered))
            }
            other => other,
        }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.hear(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = slices.iter().map(|slice| slice.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(offered));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.hear(written, offered)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}
