//! The bare loop: the cost of sending lines without any guarantee. Budgets are expressed in its unit.
//!
//! One thread reads standard input, puts a Logplex header before each line and POSTs bodies of 256 KiB over
//! one TLS connection. It has no timers, retries, spool or limits, and does not inspect the lines.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tailrace::frame::Timestamp;

use crate::Result;
use crate::full_speed::Encoding;

/// Bytes of a body.
const BODY_BYTES: usize = 256 * 1024;

/// Sends standard input to the sink on `port`.
pub(crate) fn run(port: u16, ca: &Path, encoding: Encoding) -> Result<()> {
    let mut drain = Drain {
        stream: connect(port, ca)?,
        encoding,
        msgs: 0,
        body: Vec::with_capacity(BODY_BYTES + 64 * 1024),
    };
    let mut stdin = std::io::stdin().lock();
    let mut input = vec![0; BODY_BYTES];
    let mut filled = 0;
    loop {
        let read = stdin.read(&mut input[filled..])?;
        if read == 0 {
            break;
        }
        filled += read;
        let used = drain.frame_lines(&input[..filled])?;
        if used == 0 && filled == input.len() {
            return Err("a line does not fit into the buffer".into());
        }
        input.copy_within(used..filled, 0);
        filled -= used;
    }
    drain.post()
}

/// The connection to the sink, and the body under construction.
struct Drain {
    stream: StreamOwned<ClientConnection, TcpStream>,
    encoding: Encoding,
    msgs: u64,
    body: Vec<u8>,
}

impl Drain {
    /// Frames the complete lines of `bytes`; returns their length.
    fn frame_lines(&mut self, bytes: &[u8]) -> Result<usize> {
        let header = format!("<190>1 {} host app web.1 - ", Timestamp::now());
        let mut from = 0;
        for lf in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[from..=lf];
            self.append_len(header.len() + line.len());
            self.body.extend_from_slice(header.as_bytes());
            self.body.extend_from_slice(line);
            self.msgs += 1;
            from = lf + 1;
            if self.body.len() >= BODY_BYTES {
                self.post()?;
            }
        }
        Ok(from)
    }

    /// Appends LEN and its space; `write!` would take a tenth of the whole loop.
    fn append_len(&mut self, len: usize) {
        let mut text = *b"       ";
        let mut index = text.len() - 1;
        let mut rest = len;
        while rest > 0 && index > 0 {
            index -= 1;
            text[index] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.body.extend_from_slice(&text[index..]);
    }

    fn post(&mut self) -> Result<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        let compressed;
        let (body, header) = if self.encoding == Encoding::Gzip {
            let mut encoder = GzEncoder::new(Vec::with_capacity(BODY_BYTES / 4), Compression::new(6));
            encoder.write_all(&self.body)?;
            compressed = encoder.finish()?;
            (compressed.as_slice(), "Content-Encoding: gzip\r\n")
        } else {
            (self.body.as_slice(), "")
        };
        let head = format!(
            "POST /bare HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/logplex-1\r\n\
             Logplex-Msg-Count: {}\r\n{header}Content-Length: {}\r\n\r\n",
            self.msgs,
            body.len()
        );
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)?;
        self.stream.flush()?;
        self.read_answer()?;
        self.body.clear();
        self.msgs = 0;
        Ok(())
    }

    /// Reads one answer without a body.
    fn read_answer(&mut self) -> Result<()> {
        let mut text = [0; 1024];
        let mut filled = 0;
        while !text[..filled].ends_with(b"\r\n\r\n") {
            let read = self.stream.read(&mut text[filled..])?;
            if read == 0 {
                return Err("the sink closed the connection".into());
            }
            filled += read;
        }
        if text.starts_with(b"HTTP/1.1 204") { Ok(()) } else { Err("the sink did not answer 204".into()) }
    }
}

fn connect(port: u16, ca: &Path) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1")?;
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, socket))
}
