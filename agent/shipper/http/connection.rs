//! One HTTP/1.1 connection that serves several requests.

use super::connector::Socket;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::rt::Write;
use hyper::{Request, Response};
use hyper_rustls::MaybeHttpsStream;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// A connection without a request is closed after this: Sumo Logic's load balancers close theirs at 30 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// For flushing and shutting down a connection that is closed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// For a kept connection to become ready. It usually is at once; not if the drain responded early and has not read
/// the last body to its end.
const READY_TIMEOUT: Duration = Duration::from_millis(100);
/// Size limit of the read buffer, and so of a response's head.
const MAX_READ_BUFFER_BYTES: usize = 16 * 1024;

type Stream = MaybeHttpsStream<Socket>;

/// The sending half of a connection. A task reads and writes the socket; it ends when this is dropped, when the
/// drain closes the connection, or after [`IDLE_TIMEOUT`] without a request.
pub(super) struct HttpConnection {
    /// When it was opened.
    pub opened: Instant,
    sender: SendRequest<Full<Bytes>>,
    in_use: watch::Sender<bool>,
}

impl HttpConnection {
    pub(super) async fn open(stream: Stream) -> hyper::Result<Self> {
        let (sender, connection) = Builder::new()
            .title_case_headers(true)
            .max_buf_size(MAX_READ_BUFFER_BYTES)
            .handshake(stream)
            .await?;
        let (in_use, watched) = watch::channel(true);
        drop(tokio::spawn(run_connection(connection, watched))); // detached: it ends when `in_use` is dropped
        Ok(Self { opened: Instant::now(), sender, in_use })
    }

    /// Marks the connection as in use and waits until it can take a request. False if it cannot.
    pub(super) async fn ready(&mut self) -> bool {
        self.in_use.send_replace(true);
        matches!(timeout(READY_TIMEOUT, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Sends a request and waits for the head of the response.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// Starts the idle timeout: the response was read, and the next request may come.
    pub(super) fn mark_idle(&self) {
        self.in_use.send_replace(false);
    }
}

async fn run_connection(mut connection: Connection<Stream, Full<Bytes>>, mut in_use: watch::Receiver<bool>) {
    loop {
        let idle = !*in_use.borrow_and_update();
        select! {
            // The sender returns the error of the connection as well.
            _ = &mut connection => return,
            changed = in_use.changed() => if changed.is_err() { break },
            () = sleep(IDLE_TIMEOUT), if idle => break,
        }
    }
    let mut stream = connection.into_parts().io;
    let shutdown = poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx));
    drop(timeout(SHUTDOWN_TIMEOUT, shutdown).await); // the connection is closed either way
}
