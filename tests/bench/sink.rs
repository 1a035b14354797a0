//! The sink: a TLS drain that reads, counts, answers 204 and does nothing else.
//!
//! It runs as a process of its own, so that its CPU is nobody's, with a thread for each connection. The bench
//! talks to it through its standard input and output: a word in, a line of `key=value` out.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::bufread::GzDecoder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Result;
use crate::measure::monotonic_micros;
use crate::stats::Percentiles;

/// Latencies kept; the lines after that are counted only.
const MAX_LATENCIES: usize = 4_000_000;
const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 64 * 1024 * 1024;

#[derive(Default)]
struct Seen {
    requests: u64,
    lines: u64,
    own: u64,
    wire: u64,
    bytes: u64,
    bad: u64,
    latencies: Vec<f64>,
}

/// What the connections share: what was seen, and the status to answer with.
struct Shared {
    seen: Mutex<Seen>,
    status: AtomicU16,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until standard input ends. Leaves the certificate of its authority in `ca`.
pub(crate) fn serve(ca: &Path) -> Result<()> {
    let config = Arc::new(identity(ca)?);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let shared = Arc::new(Shared { seen: Mutex::default(), status: AtomicU16::new(204) });
    let for_connections = Arc::clone(&shared);
    std::thread::spawn(move || accept(&listener, &config, &for_connections));
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "port={port}")?;
    for command in std::io::stdin().lines() {
        let answer = obey(&shared, command?.trim())?;
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

/// `reset`: forget everything; `mark`: forget the latencies; `report`; `answer STATUS`.
fn obey(shared: &Shared, command: &str) -> Result<String> {
    let mut answer = String::new();
    match command.split_once(' ').unwrap_or((command, "")) {
        ("reset", _) => *shared.seen() = Seen::default(),
        ("mark", _) => shared.seen().latencies.clear(),
        ("answer", status) => shared.status.store(status.parse()?, Ordering::Relaxed),
        ("report", _) => {
            let mut seen = shared.seen();
            let Seen { requests, lines, own, wire, bytes, bad, .. } = *seen;
            write!(
                answer,
                "requests={requests} lines={lines} own={own} wire={wire} bytes={bytes} bad={bad} "
            )?;
            write!(answer, "{}", Percentiles::of(&mut seen.latencies))?;
            answer = answer.replace('\n', " ");
        }
        _ => return Err(format!("the sink does not know {command}").into()),
    }
    Ok(answer)
}

fn identity(ca: &Path) -> Result<ServerConfig> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "tailrace bench authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    std::fs::write(ca, issuer.pem())?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "tailrace bench sink");
    let leaf = params.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    Ok(ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key)?)
}

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>, shared: &Arc<Shared>) {
    for socket in listener.incoming().flatten() {
        let (config, shared) = (Arc::clone(config), Arc::clone(shared));
        std::thread::spawn(move || {
            // A contestant that goes away is no event here; what it failed to deliver shows in the counts.
            if let Err(error) = connection(socket, config, &shared) {
                eprintln!("sink: {error}");
            }
        });
    }
}

/// A socket with a read buffer: rustls asks for 4 KiB at a time.
struct Socket(BufReader<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.get_mut().write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.get_mut().flush()
    }
}

fn connection(socket: TcpStream, config: Arc<ServerConfig>, shared: &Shared) -> Result<()> {
    socket.set_nodelay(true)?;
    let socket = Socket(BufReader::with_capacity(256 * 1024, socket));
    let tls = StreamOwned::new(ServerConnection::new(config)?, socket);
    let mut stream = BufReader::with_capacity(64 * 1024, tls);
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    while let Some(head) = Head::read(&mut stream)? {
        wire.resize(head.length, 0);
        stream.read_exact(&mut wire)?;
        let status = shared.status.load(Ordering::Relaxed);
        let arrived = monotonic_micros()?;
        // The answer goes first, so that nobody waits for the counting; a report waits for the lock.
        let mut seen = shared.seen();
        let answer = format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n");
        let answer = if status == 204 { "HTTP/1.1 204 No Content\r\n\r\n" } else { answer.as_str() };
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
        if status >= 300 {
            continue;
        }
        let body = if head.gzip {
            plain.clear();
            GzDecoder::new(wire.as_slice()).read_to_end(&mut plain)?;
            &plain
        } else {
            &wire
        };
        seen.count(body, wire.len(), &head, arrived)?;
    }
    Ok(())
}

/// The part of a request's head that matters here.
struct Head {
    length: usize,
    msgs: u64,
    gzip: bool,
}

impl Head {
    /// Reads a head; `None` when the connection ended before one.
    fn read(stream: &mut impl BufRead) -> Result<Option<Self>> {
        let mut head = Self { length: 0, msgs: 0, gzip: false };
        let mut total = 0;
        let mut line = String::new();
        loop {
            line.clear();
            let read = match stream.read_line(&mut line) {
                Ok(read) => read,
                // Many clients close the socket without the TLS goodbye.
                Err(_) if total == 0 => 0,
                Err(error) => return Err(error.into()),
            };
            total += read;
            if read == 0 {
                return if total == 0 { Ok(None) } else { Err("the head of a request was cut".into()) };
            }
            if total > MAX_HEAD {
                return Err("the head of a request is too long".into());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse()?,
                "logplex-msg-count" => head.msgs = value.parse()?,
                "content-encoding" => head.gzip = value.eq_ignore_ascii_case("gzip"),
                "transfer-encoding" => return Err("a chunked body: Logplex takes none".into()),
                _ => {}
            }
        }
        if head.length > MAX_BODY { Err("a body that is too long".into()) } else { Ok(Some(head)) }
    }
}

impl Seen {
    /// Counts the frames of `body` by their LEN, and takes the age of those that carry `t=MICROS`.
    fn count(&mut self, body: &[u8], wire: usize, head: &Head, arrived: u64) -> Result<()> {
        let mut rest = body;
        let mut frames = 0;
        while let Some(sp) = memchr::memchr(b' ', rest) {
            let len: usize = std::str::from_utf8(&rest[..sp])?.parse()?;
            let frame = rest.get(sp + 1..sp + 1 + len).ok_or("LEN reaches beyond the body")?;
            rest = &rest[sp + 1 + len..];
            frames += 1;
            // `<PRI>1 TIME host app proc - MSG`
            let mut spaces = memchr::memchr_iter(b' ', frame).skip(2);
            let (Some(host), Some(app), Some(message)) = (spaces.next(), spaces.next(), spaces.nth(1)) else {
                return Err("a frame without six fields".into());
            };
            if &frame[host + 1..app] != b"app" {
                self.own += 1;
                continue;
            }
            self.lines += 1;
            if let Some(digits) = frame[message + 1..].strip_prefix(b"t=")
                && self.latencies.len() < MAX_LATENCIES
                && let Some(digits) = digits.get(..16)
            {
                let sent: u64 = std::str::from_utf8(digits)?.parse()?;
                self.latencies.push(arrived.saturating_sub(sent) as f64 / 1e3);
            }
        }
        self.requests += 1;
        self.wire += wire as u64;
        self.bytes += body.len() as u64;
        self.bad += u64::from(!rest.is_empty()) + u64::from(frames != head.msgs);
        Ok(())
    }
}
