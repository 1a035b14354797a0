//! From a host name to a connected socket: lookup, TCP, and the proxy's CONNECT when there is one.

use super::error::AttemptError;
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use std::error::Error;
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

/// The largest head of a response to CONNECT.
const MAX_PROXY_RESPONSE_BYTES: usize = 4096;

/// The step of an attempt that is running, or that failed or was interrupted by a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The lookup of the host name.
    Lookup = 0,
    /// The TCP connection to the drain or its proxy.
    Connect = 1,
    /// CONNECT to the proxy.
    Proxy = 2,
    /// The TLS handshake.
    Tls = 3,
    /// Sending the request and waiting for the head of the response.
    Request = 4,
    /// The drain responded.
    Response = 5,
}

/// The current phase, shared between the client and its connector.
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

type Lookup = JoinHandle<io::Result<vec::IntoIter<SocketAddr>>>;

/// `getaddrinfo` on a blocking thread. It cannot be cancelled, so a client never has more than one running: an
/// attempt that reaches its deadline leaves the lookup to the next attempt.
#[derive(Clone)]
pub(super) struct Resolver {
    running: Arc<Mutex<Option<Lookup>>>,
    progress: Progress,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = AttemptError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, AttemptError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttemptError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { running, progress } = self.clone();
        Box::pin(async move {
            progress.set(Phase::Lookup);
            let mut running = running.lock().await;
            let lookup = running.get_or_insert_with(|| {
                tokio::task::spawn_blocking(move || (name.as_str(), 0).to_socket_addrs())
            });
            let result = lookup.await;
            *running = None;
            let addresses =
                result.map_err(io::Error::other).flatten().map_err(|error| AttemptError::lookup(&error))?;
            progress.set(Phase::Connect);
            if addresses.as_slice().is_empty() {
                return Err(AttemptError::Lookup("it has no address".to_owned()));
            }
            Ok(addresses)
        })
    }
}

/// A tunnel through a CONNECT proxy (RFC 9110 §9.3.6).
#[derive(Clone)]
pub(super) struct Tunnel {
    /// Scheme, host and port of the proxy.
    pub(super) proxy: Uri,
    /// The drain's `host:port`.
    pub(super) authority: String,
}

/// The connector below TLS; hyper-rustls wraps it.
#[derive(Clone)]
pub(super) struct DrainConnector {
    tcp: HttpConnector<Resolver>,
    tunnel: Option<Arc<Tunnel>>,
    progress: Progress,
}

impl DrainConnector {
    /// `connect_timeout` is for TCP to all addresses of the name together.
    pub(super) fn new(tunnel: Option<Tunnel>, connect_timeout: Duration, progress: Progress) -> Self {
        let resolver = Resolver { running: Arc::default(), progress: progress.clone() };
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
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
                open_tunnel(&stream, &tunnel.authority).await?;
            }
            progress.set(Phase::Tls);
            Ok(Socket { stream: TokioIo::new(stream), write_failed: false })
        })
    }
}

/// Asks the proxy for a tunnel to `authority`. The drain never speaks first, so nothing of the drain can follow the
/// head of the proxy's response.
async fn open_tunnel(stream: &TcpStream, authority: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    write_all(stream, request.as_bytes()).await?;
    let mut head = [0; MAX_PROXY_RESPONSE_BYTES];
    let mut filled = 0;
    while !head[..filled].ends_with(b"\r\n\r\n") {
        if filled == head.len() {
            return Err(AttemptError::ProxyResponse.into());
        }
        match read(stream, &mut head[filled..]).await? {
            0 => return Err(AttemptError::ProxyResponse.into()),
            n => filled += n,
        }
    }
    match connect_status(&head[..filled]) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(AttemptError::ProxyRefused(status).into()),
        None => Err(AttemptError::ProxyResponse.into()),
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Zero at the end of the stream.
async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// The status code in the head of a response of HTTP/1.0 or 1.1.
fn connect_status(head: &[u8]) -> Option<u16> {
    match head.strip_prefix(b"HTTP/1.")? {
        [b'0' | b'1', b' ', status @ ..] if status.len() > 3 => {
            status[..3].iter().try_fold(0, |sum: u16, digit| {
                digit.is_ascii_digit().then(|| sum * 10 + u16::from(digit - b'0'))
            })
        }
        _ => None,
    }
}

/// A TCP stream that stays readable when the peer closed it while we write.
///
/// A server may respond (401, 413) before it has read the body, and close. The kernel then fails our writes while
/// the response waits in the receive buffer. So a failed write is not reported: that write and all later ones
/// are discarded, and the next read returns the response, the end of the stream, or the reset.
pub(super) struct Socket {
    stream: TokioIo<TcpStream>,
    write_failed: bool,
}

impl Socket {
    /// Replaces the error of a closed peer by success for all `offered` bytes.
    fn discard_if_closed(
        &mut self,
        written: Poll<io::Result<usize>>,
        offered: usize,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                self.write_failed = true;
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
        if self.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.discard_if_closed(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = slices.iter().map(|slice| slice.len()).sum();
        if self.write_failed {
            return Poll::Ready(Ok(offered));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.discard_if_closed(written, offered)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}
