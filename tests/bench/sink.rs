//! The sink: a TLS drain that reads, counts and answers 204.
//!
//! It is a separate process, so that its CPU time is not attributed to a contestant, with a thread per connection. The
//! bench controls it through standard input and output: a command in, a line of `key=value` out.

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
use crate::stats::{Percentiles, quantile};

/// The number of latencies that are kept; later lines are only counted.
const MAX_LATENCIES: usize = 4_000_000;
const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 64 * 1024 * 1024;

/// What was received since the last `reset`.
#[derive(Default)]
struct Counts {
    requests: u64,
    lines: u64,
    agent_frames: u64,
    wire: u64,
    bytes: u64,
    bad: u64,
    latencies: Vec<f64>,
    /// The latest time of writing of a line, in µs.
    latest: u64,
    /// How much later than a line the latest one before it was written, in ms; 0 where the order was kept.
    disorders: Vec<f64>,
}

/// What the connections share: the counts, and the status to answer with.
struct Shared {
    counts: Mutex<Counts>,
    status: AtomicU16,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until EOF on standard input. Writes the certificate of its authority to `ca`.
pub(crate) fn serve(ca: &Path) -> Result<()> {
    let config = Arc::new(identity(ca)?);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let shared = Arc::new(Shared { counts: Mutex::default(), status: AtomicU16::new(204) });
    let for_connections = Arc::clone(&shared);
    std::thread::spawn(move || accept(&listener, &config, &for_connections));
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "port={port}")?;
    for command in std::io::stdin().lines() {
        let answer = execute(&shared, command?.trim())?;
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

/// Executes a command: `reset` clears the counts, `mark` clears latencies and disorder, `report` returns the counts, `answer
/// STATUS` sets the status of the answers.
fn execute(shared: &Shared, command: &str) -> Result<String> {
    let mut answer = String::new();
    match command.split_once(' ').unwrap_or((command, "")) {
        ("reset", _) => *shared.counts() = Counts::default(),
        ("mark", _) => {
            let mut counts = shared.counts();
            counts.latencies.clear();
            counts.disorders.clear();
        }
        ("answer", status) => shared.status.store(status.parse()?, Ordering::Relaxed),
        ("report", _) => {
            let mut counts = shared.counts();
            let Counts { requests, lines, agent_frames, wire, bytes, bad, .. } = *counts;
            write!(
                answer,
                "requests={requests} lines={lines} agent_frames={agent_frames} wire={wire} bytes={bytes} bad={bad} "
            )?;
            counts.disorders.sort_unstable_by(f64::total_cmp);
            let [p99, max] = [0.99, 1.0].map(|share| quantile(&counts.disorders, share));
            write!(answer, "disorder_p99={p99} disorder_max={max} ")?;
            write!(answer, "{}", Percentiles::of(&mut counts.latencies))?;
            answer = answer.replace('\n', " ");
        }
        _ => return Err(format!("unknown command of the sink: {command}").into()),
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
            // A contestant may close its connection at any time; undelivered lines show in the counts.
            if let Err(error) = serve_connection(socket, config, &shared) {
                eprintln!("sink: {error}");
            }
        });
    }
}

/// A socket with a read buffer, because rustls reads 4 KiB at a time.
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

/// Serves the requests of one connection.
fn serve_connection(socket: TcpStream, config: Arc<ServerConfig>, shared: &Shared) -> Result<()> {
    socket.set_nodelay(true)?;
    let socket = Socket(BufReader::with_capacity(256 * 1024, socket));
    let tls = StreamOwned::new(ServerConnection::new(config)?, socket);
    let mut stream = BufReader::with_capacity(64 * 1024, tls);
    let (mut wire, mut decompressed) = (Vec::new(), Vec::new());
    while let Some(head) = Head::read(&mut stream)? {
        wire.resize(head.length, 0);
        stream.read_exact(&mut wire)?;
        let status = shared.status.load(Ordering::Relaxed);
        let arrived = monotonic_micros()?;
        // The answer is sent before the body is counted, so that the client does not wait; the lock delays a report.
        let mut counts = shared.counts();
        let answer = format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n");
        let answer = if status == 204 { "HTTP/1.1 204 No Content\r\n\r\n" } else { answer.as_str() };
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
        if status >= 300 {
            continue;
        }
        let body = if head.gzip {
            decompressed.clear();
            GzDecoder::new(wire.as_slice()).read_to_end(&mut decompressed)?;
            &decompressed
        } else {
            &wire
        };
        counts.add_body(body, wire.len(), &head, arrived)?;
    }
    Ok(())
}

/// The relevant headers of a request.
struct Head {
    length: usize,
    msgs: u64,
    gzip: bool,
}

impl Head {
    /// Reads a head; `None` if the connection was closed instead.
    fn read(stream: &mut impl BufRead) -> Result<Option<Self>> {
        let mut head = Self { length: 0, msgs: 0, gzip: false };
        let mut total = 0;
        let mut line = String::new();
        loop {
            line.clear();
            let read = match stream.read_line(&mut line) {
                Ok(read) => read,
                // Many clients close the socket without a TLS close_notify.
                Err(_) if total == 0 => 0,
                Err(error) => return Err(error.into()),
            };
            total += read;
            if read == 0 {
                return if total == 0 { Ok(None) } else { Err("the head of a request was truncated".into()) };
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

impl Counts {
    /// Counts the frames of `body` by their LEN, and adds the latencies of those with `t=MICROS`.
    fn add_body(&mut self, body: &[u8], wire: usize, head: &Head, arrived: u64) -> Result<()> {
        let mut rest = body;
        let mut frames = 0;
        while let Some(sp) = memchr::memchr(b' ', rest) {
            let len: usize = std::str::from_utf8(&rest[..sp])?.parse()?;
            let frame = rest.get(sp + 1..sp + 1 + len).ok_or("LEN exceeds the body")?;
            rest = &rest[sp + 1 + len..];
            frames += 1;
            // `<PRI>1 TIME host app proc - MSG`
            let mut spaces = memchr::memchr_iter(b' ', frame).skip(2);
            let (Some(host), Some(app), Some(message)) = (spaces.next(), spaces.next(), spaces.nth(1)) else {
                return Err("a frame without six fields".into());
            };
            if &frame[host + 1..app] != b"app" {
                self.agent_frames += 1;
                continue;
            }
            self.lines += 1;
            if let Some(digits) = frame[message + 1..].strip_prefix(b"t=")
                && self.latencies.len() < MAX_LATENCIES
                && let Some(digits) = digits.get(..16)
            {
                let sent: u64 = std::str::from_utf8(digits)?.parse()?;
                self.latencies.push(arrived.saturating_sub(sent) as f64 / 1e3);
                self.disorders.push(self.latest.saturating_sub(sent) as f64 / 1e3);
                self.latest = self.latest.max(sent);
            }
        }
        self.requests += 1;
        self.wire += wire as u64;
        self.bytes += body.len() as u64;
        self.bad += u64::from(!rest.is_empty()) + u64::from(frames != head.msgs);
        Ok(())
    }
}
