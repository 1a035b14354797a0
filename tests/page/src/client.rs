//! A test client: sends Logplex frames over TLS, one request after another on one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tailrace::frame::Timestamp;
use tailrace_drain::Drain;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A connection to a drain.
pub struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    path: String,
    requests: u64,
    /// From the local port, so that the ids of two clients differ.
    id_prefix: u128,
}

impl Client {
    /// Connects over TLS, with the drain's own CA.
    #[must_use]
    pub fn connect(drain: &Drain) -> Self {
        let url = drain.url();
        let rest = url.strip_prefix("https://").expect("https");
        let (address, path) = rest.split_once('/').expect("a path");
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(drain.ca_file()).expect("a certificate"))
            .expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("TLS");
        let tcp = TcpStream::connect(address).expect("the drain listens");
        tcp.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let id_prefix = u128::from(tcp.local_addr().expect("a port").port()) << 48;
        tcp.set_nodelay(true).expect("TCP_NODELAY");
        Self {
            stream: BufReader::new(StreamOwned::new(tls, tcp)),
            path: format!("/{path}"),
            requests: 0,
            id_prefix,
        }
    }

    /// Sends frames as one request until it is accepted, at most 100 times.
    pub fn deliver(&mut self, token: &str, frames: &[String]) {
        let id = self.next_id();
        let is_accepted = (0..100).any(|attempt: u64| {
            std::thread::sleep(Duration::from_millis(20 * attempt));
            self.send_with_id(&id, token, frames) == 204
        });
        assert!(is_accepted, "the drain accepts no request");
    }

    fn next_id(&mut self) -> String {
        self.requests += 1;
        format!(
            "{:032X}",
            u128::from(self.requests) + (u128::from(std::process::id()) << 64) + self.id_prefix
        )
    }

    /// Sends frames as one request with a new id; returns the status.
    pub fn send(&mut self, token: &str, frames: &[String]) -> u16 {
        let id = self.next_id();
        self.send_with_id(&id, token, frames)
    }

    /// Sends frames as one request with the given id; returns the status.
    pub fn send_with_id(&mut self, id: &str, token: &str, frames: &[String]) -> u16 {
        self.post(id, token, frames.len(), frames.concat().as_bytes())
    }

    /// Sends a request with this body; returns the status.
    pub fn post(&mut self, id: &str, token: &str, count: usize, body: &[u8]) -> u16 {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/logplex-1\r\nUser-Agent: test\r\n\
             Logplex-Msg-Count: {count}\r\nLogplex-Frame-Id: {id}\r\nLogplex-Drain-Token: {token}\r\n\
             Content-Length: {}\r\n\r\n",
            self.path,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body))
            .expect("the request is written");
        stream.flush().expect("the request is written");
        let (mut line, mut status, mut length) = (String::new(), 0, 0);
        while line != "\r\n" {
            line.clear();
            assert!(self.stream.read_line(&mut line).expect("an answer") > 0, "the connection ended");
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().expect("a status");
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        self.stream.read_exact(&mut vec![0; length]).expect("a body");
        status
    }
}

/// A frame. `at` is in µs since the Unix epoch, `from` is `APP-NAME PROCID`.
pub fn frame(at: u64, pri: u8, from: &str, message: &str) -> String {
    let stamp = Timestamp::from_micros(at);
    let time = stamp.to_string();
    let rest = format!("<{pri}>1 {time} host {from} - {message}\n");
    format!("{} {rest}", rest.len())
}
