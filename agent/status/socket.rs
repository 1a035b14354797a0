//! The status socket: a Unix socket of the abstract namespace (unix(7)). Its name is listed in `/proc/net/unix`, so a
//! second shell finds it without a setting. The supervisor answers, also while the shipper hangs or does not run.

use super::snapshot::StatusSnapshot;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// The name of an agent's socket is this, followed by the agent's id.
pub(crate) const NAME: &str = "tailrace.";
/// Separates the text for people from the JSON in an answer.
pub(crate) const SEPARATOR: u8 = 0;
/// Connections answered in one round of the event loop; further ones wait for the next.
const MAX_ANSWERS_PER_ROUND: usize = 8;

/// A listening status socket.
#[derive(Debug)]
pub(crate) struct StatusSocket(UnixListener);

impl StatusSocket {
    /// Opens the socket of the agent with this id.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn open(agent: &str) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("{NAME}{agent}"))?;
        let listener = UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The descriptor to poll.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Answers the connections that wait.
    pub(crate) fn answer(&self, snapshot: impl Fn() -> StatusSnapshot) {
        for _ in 0..MAX_ANSWERS_PER_ROUND {
            let Ok((stream, _)) = self.0.accept() else { return };
            // There are no secrets in it, but only this user and root are answered.
            let user = getsockopt(&stream, PeerCredentials).map(|peer| peer.uid());
            if user.is_ok_and(|user| user == nix::unistd::geteuid().as_raw() || user == 0) {
                send(stream, &snapshot()).ok(); // the client is gone, or does not read
            }
        }
    }
}

/// Sends an answer: the text, the separator, the JSON. It fits a socket's buffer; a client that does not read is not
/// waited for.
fn send(mut stream: UnixStream, snapshot: &StatusSnapshot) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.write_all(snapshot.to_string().as_bytes())?;
    stream.write_all(&[SEPARATOR])?;
    stream.write_all(&serde_json::to_vec(snapshot)?)
}
