//! The bare loop: the cost of sending lines without any guarantee. Budgets are expressed in its unit.
//!
//! `bare-loop PORT CA_FILE LEVEL`: one thread reads standard input in pieces of 64 KiB, puts the same Logplex header
//! before each line and POSTs bodies of 256 KiB over one TLS connection to 127.0.0.1, waiting for each answer; LEVEL is
//! that of gzip, 0 without. It has no timers, retries, spool or limits, does not inspect the lines, and does not look at
//! the clock. It is built for speed alone (profile `bare-loop`), with the C library of the machine.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Bytes of a body.
const BODY_BYTES: usize = 256 * 1024;
/// Bytes of a read, and of a line at most.
const READ_BYTES: usize = 64 * 1024;
/// What precedes each line, behind its length.
const HEADER: &[u8] = b"<190>1 2026-01-01T00:00:00.000000+00:00 host app web.1 - ";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [port, ca, level] => run(port, Path::new(ca), level),
        _ => Err("usage: bare-loop PORT CA_FILE LEVEL".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare-loop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(port: &str, ca: &Path, level: &str) -> Result<()> {
    let body = Vec::with_capacity(BODY_BYTES + READ_BYTES);
    let mut drain = Drain { stream: connect(port.parse()?, ca)?, level: level.parse()?, lines: 0, body };
    // Not through the buffer of `Stdin`: it would copy.
    let mut stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut input = vec![0; 2 * READ_BYTES];
    let mut filled = 0;
    loop {
        let read = stdin.read(&mut input[filled..filled + READ_BYTES])?;
        if read == 0 {
            break;
        }
        filled += read;
        let used = drain.frame_lines(&input[..filled])?;
        input.copy_within(used..filled, 0);
        filled -= used;
        if filled > READ_BYTES {
            return Err("a line does not fit into the buffer".into());
        }
    }
    drain.post()
}

/// The connection to the sink, and the body under construction.
struct Drain {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// Of gzip; 0 without.
    level: u32,
    lines: u64,
    body: Vec<u8>,
}

impl Drain {
    /// Frames the complete lines of `bytes`; returns their length.
    fn frame_lines(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut from = 0;
        for lf in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[from..=lf];
            self.append_len(HEADER.len() + line.len());
            self.body.extend_from_slice(HEADER);
            self.body.extend_from_slice(line);
            self.lines += 1;
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
        let (body, header) = if self.level > 0 {
            let packed = Vec::with_capacity(BODY_BYTES / 4);
            let mut encoder = GzEncoder::new(packed, Compression::new(self.level));
            encoder.write_all(&self.body)?;
            compressed = encoder.finish()?;
            (compressed.as_slice(), "Content-Encoding: gzip\r\n")
        } else {
            (self.body.as_slice(), "")
        };
        let head = format!(
            "POST /bare HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/logplex-1\r\n\
             Logplex-Msg-Count: {}\r\n{header}Content-Length: {}\r\n\r\n",
            self.lines,
            body.len()
        );
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)?;
        self.stream.flush()?;
        self.read_answer()?;
        self.body.clear();
        self.lines = 0;
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
