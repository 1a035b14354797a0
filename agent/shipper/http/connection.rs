//! One connection that lives across requests.

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
use tokio::time::{sleep, timeout};

/// A connection without a request is closed after this: Sumo Logic's load balancers close theirs at 30 s.
const IDLE: Duration = Duration::from_secs(20);
/// How long a connection that is closed may take to flush and say so.
const PARTING: Duration = Duration::from_secs(1);
/// How long a kept connection may take to be ready: it is at once, unless the drain answered early and has
/// not read the last body to its end.
const READY: Duration = Duration::from_millis(100);
/// The read buffer's limit, in bytes, and so the limit of an answer's head.
const READ_BUFFER: usize = 16 * 1024;

type Stream = MaybeHttpsStream<Socket>;

/// The near end of a connection. Its far end is driven by a task of its own, which ends when this is dropped,
/// when the drain closes, or when there was no request for 20 s.
pub(super) struct HttpConnection {
    sender: SendRequest<Full<Bytes>>,
    busy: watch::Sender<bool>,
}

impl HttpConnection {
    pub(super) async fn over(stream: Stream) -> hyper::Result<Self> {
        let (sender, connection) =
            Builder::new().title_case_headers(true).max_buf_size(READ_BUFFER).handshake(stream).await?;
        let (busy, watched) = watch::channel(true);
        // Not awaited: it ends by itself, as response_text above.
        drop(tokio::spawn(drive(connection, watched)));
        Ok(Self { sender, busy })
    }

    /// Whether a request can be sent now.
    pub(super) async fn ready(&mut self) -> bool {
        self.busy.send_replace(true);
        matches!(timeout(READY, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Sends and waits for the head of the answer.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// The connection is kept for the next request.
    pub(super) fn rest(&self) {
        self.busy.send_replace(false);
    }
}

async fn drive(mut connection: Connection<Stream, Full<Bytes>>, mut busy: watch::Receiver<bool>) {
    loop {
        let idle = !*busy.borrow_and_update();
        select! {
            // Its errors are the sender's too, and told there.
            _ = &mut connection => return,
            changed = busy.changed() => if changed.is_err() { break },
            () = sleep(IDLE), if idle => break,
        }
    }
    let mut stream = connection.into_parts().io;
    // A peer that is not there any more need not hear it.
    drop(timeout(PARTING, poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx))).await);
}
