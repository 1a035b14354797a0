//! The HTTPS drain against real sockets: a TLS server that shows the raw bytes of each request and answers,
//! stalls or hangs up as told.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tailrace::drain::https::{Answer, Client, Outgoing, Stage, Target, TargetError};
use tailrace::drain::tls::{TlsError, client_config};
use tailrace::drain::verdict::Verdict;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const PATIENCE: Duration = Duration::from_secs(20);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What the server does with one request.
#[derive(Clone, Debug)]
enum Act {
    /// Read it whole and send this.
    Reply(String),
    /// The same, then close.
    ReplyAndClose(String),
    /// Read it whole and close without a word.
    Close,
    /// Read the head, then reset.
    Reset,
    /// Read the head, send this, and reset because of the unread body.
    ReplyEarly(String),
    /// Read it whole, send this, and nothing more.
    Stall(String),
}

fn reply(text: &str) -> Act {
    Act::Reply(text.to_owned())
}

fn status(status: u16) -> Act {
    Act::Reply(format!("HTTP/1.1 {status} Because\r\nContent-Length: 0\r\n\r\n"))
}

/// A request as it came.
#[derive(Clone, Debug)]
struct Seen {
    /// Which connection, from 1.
    connection: usize,
    head: String,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[derive(Default)]
struct Shared {
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Seen>>,
}

struct Server {
    port: u16,
    shared: Arc<Shared>,
    /// Connections that ended.
    ended: watch::Receiver<usize>,
}

impl Server {
    /// After the acts that are told, everything is answered 200.
    async fn start(tls: Option<TlsAcceptor>, acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { acts: Mutex::new(acts.into_iter().collect()), ..Shared::default() });
        let (ending, ended) = watch::channel(0);
        let theirs = Arc::clone(&shared);
        tokio::spawn(async move {
            for connection in 1.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                // A reset throws away what Nagle holds back.
                stream.set_nodelay(true).unwrap();
                let (tls, shared, ending) = (tls.clone(), Arc::clone(&theirs), ending.clone());
                tokio::spawn(async move {
                    // How a conversation ends is the test's to see.
                    if let Some(tls) = tls {
                        if let Ok(stream) = tls.accept(stream).await {
                            drop(converse(stream, connection, &shared, |stream| stream.into_inner().0).await);
                        }
                    } else {
                        drop(converse(stream, connection, &shared, |stream| stream).await);
                    }
                    ending.send_modify(|count| *count += 1);
                });
            }
        });
        Self { port, shared, ended }
    }

    fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    async fn until_ended(&mut self, count: usize) {
        timeout(PATIENCE, self.ended.wait_for(|ended| *ended >= count)).await.unwrap().unwrap();
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    shared: &Shared,
    bare: impl FnOnce(S) -> TcpStream,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return stream.shutdown().await;
            }
        };
        let mut seen = Seen {
            connection,
            head: String::from_utf8(bytes.drain(..head).collect()).unwrap(),
            body: Vec::new(),
        };
        let act = shared.acts.lock().unwrap().pop_front().unwrap_or_else(|| reply(OK));
        let length = seen.header("Content-Length").unwrap().parse::<usize>().unwrap();
        let early = matches!(act, Act::Reset | Act::ReplyEarly(_));
        while !early && bytes.len() < length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if !early {
            seen.body = bytes.drain(..length).collect();
        }
        shared.seen.lock().unwrap().push(seen);
        match act {
            Act::Reply(text) => stream.write_all(text.as_bytes()).await?,
            Act::ReplyAndClose(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Act::Close => return stream.shutdown().await,
            Act::Reset => {
                return bare(stream).set_zero_linger();
            }
            Act::ReplyEarly(text) => {
                stream.write_all(text.as_bytes()).await?;
                stream.flush().await?;
                return Ok(());
            }
            Act::Stall(text) => {
                stream.write_all(text.as_bytes()).await?;
                stream.flush().await?;
                // Until the client hangs up.
                while stream.read(&mut [0; 512]).await? > 0 {}
                return Ok(());
            }
        }
        stream.flush().await?;
    }
}

/// A certificate authority, in a file, and a server's certificate for some name.
struct Authority {
    directory: tempfile::TempDir,
    acceptor: TlsAcceptor,
}

impl Authority {
    fn new() -> Self {
        Self::signing("localhost", |_| {})
    }

    fn signing(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new([]).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new([name.to_owned()]).unwrap();
        edit(&mut leaf);
        let leaf = leaf.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), root_pem).unwrap();
        Self { directory, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    async fn serve(&self, acts: impl IntoIterator<Item = Act>) -> Server {
        Server::start(Some(self.acceptor.clone()), acts).await
    }

    fn client(&self, target: &Target) -> Client {
        Client::new(target, client_config(&[self.file()]).unwrap()).unwrap()
    }
}

fn target(port: u16) -> Target {
    Target {
        host: "localhost".to_owned(),
        port,
        path_and_query: "/logs".to_owned(),
        authorization: None,
        tls: true,
        headers: Vec::new(),
        token: "d.00000000-0000-4000-8000-000000000001".to_owned(),
        gzip: false,
        request_timeout: PATIENCE,
        proxy: None,
    }
}

fn batch(body: impl Into<Bytes>) -> Outgoing {
    Outgoing { body: body.into(), frames: 4, id: "09C557EAFCFB6CF2740EE62F62971098".to_owned() }
}

fn large() -> Outgoing {
    batch((0..512 * 1024_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>())
}

fn delivered(answer: &Answer) {
    assert_eq!(answer.verdict, Verdict::Delivered, "{answer:?}");
    assert_eq!((answer.stage, answer.status), (Stage::Answer, Some(200)), "{answer:?}");
}

fn failed(answer: &Answer, stage: Stage, detail: &str) {
    assert_eq!((answer.verdict, answer.status), (Verdict::Retry, None), "{answer:?}");
    assert_eq!((answer.stage, answer.detail.as_str()), (stage, detail), "{answer:?}");
}

#[tokio::test]
async fn the_request_is_exact() {
    let authority = Authority::new();
    let server = authority.serve([]).await;
    let mut target = target(server.port);
    target.path_and_query = "/a//%7e;b/{c}|é?x=1&&y=%zz&z".to_owned();
    target.authorization = Some("Basic dXNlcjpwYXNz".to_owned());
    target.headers = vec![("X-Sumo-Category".to_owned(), "heroku/web".to_owned())];
    let body = "78 <190>1 2026-03-04T05:06:07.089012+00:00 host app web.1 - listening on 5000\n";
    let answer = authority.client(&target).post(&batch(body)).await;
    delivered(&answer);
    assert_eq!((answer.body_bytes, answer.resent), (body.len() as u64, false));
    assert_eq!(answer.detail, "");
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        seen[0].head,
        format!(
            "POST /a//%7e;b/{{c}}|é?x=1&&y=%zz&z HTTP/1.1\r\n\
             Host: localhost:{}\r\n\
             Authorization: Basic dXNlcjpwYXNz\r\n\
             Content-Type: application/logplex-1\r\n\
             Logplex-Msg-Count: 4\r\n\
             Logplex-Frame-Id: 09C557EAFCFB6CF2740EE62F62971098\r\n\
             Logplex-Drain-Token: d.00000000-0000-4000-8000-000000000001\r\n\
             User-Agent: tailrace/{}\r\n\
             X-Sumo-Category: heroku/web\r\n\
             Content-Length: {}\r\n\r\n",
            server.port,
            env!("CARGO_PKG_VERSION"),
            body.len()
        )
    );
    assert_eq!(seen[0].body, body.as_bytes());
}

#[tokio::test]
async fn large_bodies_share_one_connection() {
    let authority = Authority::new();
    let server = authority.serve([]).await;
    let mut client = authority.client(&target(server.port));
    for _ in 0..20 {
        delivered(&client.post(&large()).await);
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|seen| seen.connection == 1 && seen.body == large().body));
}

#[tokio::test]
async fn plain_http() {
    let server = Server::start(None, []).await;
    let mut target = target(server.port);
    target.tls = false;
    target.host = "127.0.0.1".to_owned();
    let mut client = Client::new(&target, client_config(&[]).unwrap()).unwrap();
    delivered(&client.post(&large()).await);
    delivered(&client.post(&batch("x")).await);
    let seen = server.seen();
    assert_eq!(seen[0].body, large().body);
    assert_eq!(
        (seen[1].connection, seen[1].header("Host").unwrap()),
        (1, &*format!("127.0.0.1:{}", server.port))
    );
}

#[tokio::test]
async fn every_kind_of_answer() {
    let cases = [
        (200, Verdict::Delivered),
        (204, Verdict::Delivered),
        (301, Verdict::Retry),
        (400, Verdict::Reject),
        (401, Verdict::Hold),
        (404, Verdict::Hold),
        (413, Verdict::Halve),
        (429, Verdict::Retry),
        (500, Verdict::Retry),
        (503, Verdict::Retry),
    ];
    let authority = Authority::new();
    let server = authority.serve(cases.map(|(code, _)| status(code))).await;
    let mut client = authority.client(&target(server.port));
    for (code, verdict) in cases {
        let answer = client.post(&batch("x")).await;
        assert_eq!((answer.status, answer.verdict), (Some(code), verdict), "{answer:?}");
    }
    assert_eq!(server.seen().len(), cases.len(), "nothing is sent twice");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let authority = Authority::new();
    let elsewhere = authority.serve([]).await;
    let location = format!("https://localhost:{}/", elsewhere.port);
    let acts = [301, 302, 307, 308].map(|code| {
        reply(&format!("HTTP/1.1 {code} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
    });
    let server = authority.serve(acts).await;
    let mut client = authority.client(&target(server.port));
    for _ in 0..4 {
        assert_eq!(client.post(&batch("x")).await.verdict, Verdict::Retry);
    }
    assert_eq!((server.seen().len(), elsewhere.seen().len()), (4, 0));
}

#[tokio::test]
async fn retry_after_in_both_forms() {
    let authority = Authority::new();
    let answer = |value: &str| {
        reply(&format!("HTTP/1.1 429 Slow\r\nRetry-After: {value}\r\nContent-Length: 5\r\n\r\nslow\n"))
    };
    let soon = SystemTime::now() + Duration::from_mins(5);
    let soon = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let server = authority.serve([answer("17"), answer(&imf_fixdate(soon)), answer("soon")]).await;
    let mut client = authority.client(&target(server.port));
    let first = client.post(&batch("x")).await;
    assert_eq!((first.verdict, first.retry_after), (Verdict::Retry, Some(Duration::from_secs(17))));
    assert_eq!(first.detail, "slow");
    let wait = client.post(&batch("x")).await.retry_after.unwrap();
    assert!(wait <= Duration::from_mins(5) && wait > Duration::from_secs(280), "{wait:?}");
    assert_eq!(client.post(&batch("x")).await.retry_after, None);
}

/// The other way round than the agent's, by counting days.
fn imf_fixdate(seconds: u64) -> String {
    let (mut day, clock) = (seconds / 86400, seconds % 86400);
    let week = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(day % 7) as usize];
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month];
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{week}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

#[tokio::test]
async fn a_stalled_drain_costs_the_request_timeout() {
    let authority = Authority::new();
    let mut server = authority.serve([Act::Stall(String::new())]).await;
    let mut target = target(server.port);
    target.request_timeout = Duration::from_millis(700);
    let mut client = authority.client(&target);
    let answer = client.post(&batch("x")).await;
    failed(&answer, Stage::Request, "timed out after 700 ms while waiting for the answer");
    assert!(answer.elapsed >= Duration::from_millis(700) && answer.elapsed < PATIENCE, "{answer:?}");
    server.until_ended(1).await;
    delivered(&client.post(&batch("x")).await);
    assert_eq!(server.seen()[1].connection, 2);
}

#[tokio::test]
async fn the_verdict_stands_when_the_answers_body_stalls() {
    let authority = Authority::new();
    let server = authority
        .serve([Act::Stall("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nwait for it".to_owned())])
        .await;
    let mut client = authority.client(&target(server.port));
    let answer = client.post(&batch("x")).await;
    delivered(&answer);
    // What could be the beginning of a secret (`logs`) is left out.
    assert_eq!(answer.detail, "wait for");
    assert!(answer.elapsed < PATIENCE / 2, "{answer:?}");
    delivered(&client.post(&batch("x")).await);
    assert_eq!(server.seen()[1].connection, 2);
}

#[tokio::test]
async fn a_drain_that_is_silent_in_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(listener.local_addr().unwrap().port());
    target.request_timeout = Duration::from_millis(300);
    let answer = Authority::new().client(&target).post(&batch("x")).await;
    failed(&answer, Stage::Tls, "timed out after 300 ms while agreeing on TLS");
}

#[tokio::test]
async fn certificates_that_are_not_good() {
    let authority = Authority::new();
    let server = authority.serve([]).await;
    let mut stranger = Client::new(&target(server.port), client_config(&[]).unwrap()).unwrap();
    let answer = stranger.post(&batch("x")).await;
    failed(&answer, Stage::Tls, "certificate: unknown issuer (set TAILRACE_CA_FILE)");

    let other = Authority::signing("drain.example", |_| {});
    let server = other.serve([]).await;
    let answer = other.client(&target(server.port)).post(&batch("x")).await;
    failed(&answer, Stage::Tls, "certificate: not valid for the drain's host name");

    let old = Authority::signing("localhost", |leaf| leaf.not_after = date_time_ymd(2001, 1, 1));
    let server = old.serve([]).await;
    let answer = old.client(&target(server.port)).post(&batch("x")).await;
    failed(&answer, Stage::Tls, "certificate: expired");

    let early = Authority::signing("localhost", |leaf| leaf.not_before = date_time_ymd(3001, 1, 1));
    let server = early.serve([]).await;
    let answer = early.client(&target(server.port)).post(&batch("x")).await;
    failed(&answer, Stage::Tls, "certificate: not valid yet (is this machine's clock right?)");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_address_that_is_no_drain() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap().port();
    drop(listener);
    let answer = authority.client(&target(free)).post(&batch("x")).await;
    failed(&answer, Stage::Connect, "connection refused");

    // A label of more than 63 bytes is looked up nowhere (RFC 1035 §2.3.4).
    let mut nowhere = target(free);
    nowhere.host = format!("{}.invalid", "x".repeat(64));
    nowhere.tls = false;
    let answer = authority.client(&nowhere).post(&batch("x")).await;
    assert_eq!(answer.stage, Stage::Name);
    assert!(answer.detail.starts_with("name not found: "), "{answer:?}");

    let plain = Server::start(None, []).await;
    let answer = authority.client(&target(plain.port)).post(&batch("x")).await;
    assert_eq!((answer.verdict, answer.stage), (Verdict::Retry, Stage::Tls), "{answer:?}");

    let server = authority.serve([reply("SSH-2.0-OpenSSH_9.6\r\n\r\n")]).await;
    let answer = authority.client(&target(server.port)).post(&batch("x")).await;
    failed(&answer, Stage::Request, "the answer is not HTTP/1.1 (is this the drain's port?)");
}

#[tokio::test]
async fn a_drain_that_hangs_up_on_a_fresh_connection() {
    let authority = Authority::new();
    for act in [Act::Close, Act::Reset] {
        let server = authority.serve([act.clone()]).await;
        let answer = authority.client(&target(server.port)).post(&large()).await;
        assert_eq!(
            (answer.verdict, answer.status, answer.resent),
            (Verdict::Retry, None, false),
            "{answer:?}"
        );
        assert!(answer.detail.starts_with("connection "), "{act:?}: {answer:?}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once() {
    let authority = Authority::new();
    for act in [Act::Close, Act::Reset] {
        let server = authority.serve([reply(OK), act.clone(), reply(OK), act.clone(), act]).await;
        let mut client = authority.client(&target(server.port));
        delivered(&client.post(&batch("x")).await);
        let answer = client.post(&large()).await;
        delivered(&answer);
        assert!(answer.resent);
        let answer = client.post(&large()).await;
        assert_eq!(
            (answer.verdict, answer.status, answer.resent),
            (Verdict::Retry, None, true),
            "{answer:?}"
        );
        let seen = server.seen();
        let connections: Vec<_> = seen.iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [1, 1, 2, 2, 3]);
        assert!(seen.iter().all(|seen| seen.header("Logplex-Frame-Id") == Some(&batch("").id)));
        assert_eq!(seen[2].body, large().body);
    }
}

#[tokio::test]
async fn a_connection_that_the_drain_closes_after_its_answer() {
    let authority = Authority::new();
    let mut server = authority
        .serve([
            Act::ReplyAndClose(OK.to_owned()),
            Act::ReplyAndClose(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
            ),
        ])
        .await;
    let mut client = authority.client(&target(server.port));
    for round in 1..=3 {
        delivered(&client.post(&batch("x")).await);
        if round < 3 {
            server.until_ended(round).await;
        }
    }
    assert_eq!(server.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_is_heard() {
    let authority = Authority::new();
    let refusal = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 9\r\n\r\ntoo large";
    let server = authority.serve((0..5).map(|_| Act::ReplyEarly(refusal.to_owned()))).await;
    let mut client = authority.client(&target(server.port));
    // More than the kernel's buffers take, so that writing is cut short.
    let body = batch(vec![b'x'; 16 << 20]);
    for _ in 0..5 {
        let answer = client.post(&body).await;
        assert_eq!((answer.verdict, answer.detail.as_str()), (Verdict::Halve, "too large"), "{answer:?}");
    }

    // A server of another thread resets in the middle of our writing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut target = target(listener.local_addr().unwrap().port());
    target.tls = false;
    let server = std::thread::spawn(move || {
        for _ in 0..50 {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(refusal.as_bytes()).unwrap();
        }
    });
    let mut client = authority.client(&target);
    for _ in 0..50 {
        let answer = client.post(&body).await;
        assert_eq!((answer.verdict, answer.detail.as_str()), (Verdict::Halve, "too large"), "{answer:?}");
    }
    server.join().unwrap();
}

/// Lets every task come to rest, and the clock jump.
async fn pass(time: Duration) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let authority = Authority::new();
    let mut server = authority.serve([]).await;
    let mut client = authority.client(&target(server.port));
    delivered(&client.post(&batch("x")).await);
    pass(Duration::from_secs(19)).await;
    delivered(&client.post(&batch("x")).await);
    assert_eq!(*server.ended.borrow(), 0);
    pass(Duration::from_millis(20_100)).await;
    server.until_ended(1).await;
    let answer = client.post(&batch("x")).await;
    delivered(&answer);
    assert!(!answer.resent, "its end was noticed");
    assert_eq!(server.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [1, 1, 2]);
}

#[tokio::test]
async fn a_post_that_is_dropped_closes_its_connection() {
    let authority = Authority::new();
    let mut server = authority.serve([reply(OK), Act::Stall(String::new())]).await;
    let mut client = authority.client(&target(server.port));
    delivered(&client.post(&batch("x")).await);
    assert!(timeout(Duration::from_millis(200), client.post(&batch("x"))).await.is_err());
    server.until_ended(1).await;
    delivered(&client.post(&batch("x")).await);
    assert_eq!(server.seen()[2].connection, 2);
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    flate2::Decompress::new_gzip(15)
        .decompress_vec(bytes, &mut out, flate2::FlushDecompress::Finish)
        .unwrap();
    out
}

#[tokio::test]
async fn gzip_is_given_up_when_the_drain_takes_only_plain() {
    let authority = Authority::new();
    for code in [400, 415] {
        // A delivery; refused, and refused plain as well: it was the batch. Refused, late, taken plain: it was gzip.
        let acts = [status(200), status(code), status(code), status(200), status(code), status(503)];
        let server = authority.serve(acts).await;
        let mut target = target(server.port);
        target.gzip = true;
        let mut client = authority.client(&target);
        let mut verdicts = Vec::new();
        for _ in 0..8 {
            let answer = client.post(&large()).await;
            let seen = server.seen().pop().unwrap();
            assert_eq!(answer.body_bytes, seen.body.len() as u64);
            let gzipped = seen.header("Content-Encoding") == Some("gzip");
            assert_eq!(if gzipped { gunzip(&seen.body) } else { seen.body }, large().body);
            verdicts.push((answer.verdict, gzipped));
        }
        assert_eq!(
            verdicts,
            [
                (Verdict::Delivered, true),
                (Verdict::Plain, true),
                (Verdict::Reject, false),
                (Verdict::Delivered, true),
                (Verdict::Plain, true),
                (Verdict::Retry, false),
                (Verdict::Delivered, false),
                (Verdict::Delivered, false),
            ]
        );
    }
}

#[tokio::test]
async fn only_the_beginning_of_an_answer_is_read() {
    let authority = Authority::new();
    let text = "no such thing. ".repeat(100_000);
    let chunks = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
    let mut server = authority
        .serve([
            reply(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())),
            reply(&format!("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")),
            reply(&format!("HTTP/1.1 200 OK\r\nX-Long: {text}\r\n\r\n")),
        ])
        .await;
    let mut client = authority.client(&target(server.port));
    for (round, expected) in [(1, Some(200)), (2, Some(503)), (3, None)] {
        let answer = client.post(&batch("x")).await;
        assert_eq!(answer.status, expected, "{answer:?}");
        if expected.is_some() {
            assert!(answer.detail.starts_with("no such thing. no such") && answer.detail.len() <= 256);
        }
        server.until_ended(round).await;
    }
    delivered(&client.post(&batch("x")).await);
}

#[tokio::test]
async fn no_secret_in_what_is_told() {
    let authority = Authority::new();
    let said = "no collector Zm9v%2Bb (Zm9v+b), key=q1u2e3r4y, Basic dXNlcjpwYTU1d29yZA==, user:pa55word, tag-secret\u{202e}\x1b[31m";
    let server = authority
        .serve([reply(&format!("HTTP/1.1 401 No\r\nContent-Length: {}\r\n\r\n{said}", said.len()))])
        .await;
    let mut target = target(server.port);
    target.path_and_query = "/receiver/v1/http/Zm9v%2Bb?key=q1u2e3r4y".to_owned();
    target.authorization = Some("Basic dXNlcjpwYTU1d29yZA==".to_owned());
    target.headers = vec![("X-Key".to_owned(), "tag-secret".to_owned())];
    let mut client = authority.client(&target);
    let answer = client.post(&batch("x")).await;
    assert_eq!(
        answer.detail,
        "no collector [secret] ([secret]), [secret], [secret], [secret]:[secret], [secret]??? [31m"
    );
    let told = format!("{answer:?} {target:?} {client:?}");
    for secret in ["Zm9v", "q1u2", "dXNl", "pa55", "tag-secret", "receiver"] {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
}

#[test]
fn targets_that_cannot_be_sent() {
    let tls = client_config(&[]).unwrap();
    let check = |edit: &dyn Fn(&mut Target)| {
        let mut target = target(443);
        edit(&mut target);
        Client::new(&target, Arc::clone(&tls)).err()
    };
    assert_eq!(check(&|_| {}), None);
    for host in ["", "a b", "a/b", "user@host", "[::1", "a:1"] {
        assert_eq!(check(&|target| target.host = host.to_owned()), Some(TargetError::Host), "{host}");
    }
    for host in ["::1", "[::1]", "10.0.0.1"] {
        assert_eq!(check(&|target| target.host = host.to_owned()), None, "{host}");
    }
    for path in ["", "logs", "?a", "/a b", "/a#b", "/a\r\nX: y", "*"] {
        assert_eq!(
            check(&|target| target.path_and_query = path.to_owned()),
            Some(TargetError::Path),
            "{path}"
        );
    }
    assert_eq!(
        check(&|target| target.authorization = Some("Basic \n".to_owned())),
        Some(TargetError::Authorization)
    );
    assert_eq!(check(&|target| target.token = "\r\n".to_owned()), Some(TargetError::Token));
    assert_eq!(check(&|target| target.proxy = Some((String::new(), 1))), Some(TargetError::Proxy));
    for (name, value) in [("a b", "x"), ("", "x"), ("X-A", "\n")] {
        let expected = Some(TargetError::Header(name.to_owned()));
        assert_eq!(check(&|target| target.headers = vec![(name.to_owned(), value.to_owned())]), expected);
    }
    for name in ["Content-Length", "transfer-encoding", "LOGPLEX-FRAME-ID", "Host"] {
        let expected = Some(TargetError::Reserved(name.to_owned()));
        assert_eq!(check(&|target| target.headers = vec![(name.to_owned(), "1".to_owned())]), expected);
    }
}

/// A proxy that answers CONNECT with `answer`, and tunnels when that is 200. Gives its port and what it was asked.
async fn proxy(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let asked = Arc::clone(&theirs);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let drain = head.split(' ').nth(1).unwrap().to_owned();
                asked.lock().unwrap().push(head);
                // In pieces: an answer may come so.
                for piece in answer.as_bytes().chunks(7) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                if answer.contains(" 200 ") {
                    let mut drain = TcpStream::connect(drain).await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut client, &mut drain).await);
                }
            });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn through_a_proxy() {
    let authority = Authority::new();
    let server = authority.serve([]).await;
    let (port, asked) = proxy("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await;
    let mut target = target(server.port);
    target.proxy = Some(("127.0.0.1".to_owned(), port));
    let mut client = authority.client(&target);
    delivered(&client.post(&large()).await);
    delivered(&client.post(&large()).await);
    let drain = format!("localhost:{}", server.port);
    assert_eq!(*asked.lock().unwrap(), [format!("CONNECT {drain} HTTP/1.1\r\nHost: {drain}\r\n\r\n")]);
    assert!(
        server.seen().iter().all(|seen| seen.body == large().body && seen.header("Host") == Some(&drain))
    );
}

#[tokio::test]
async fn proxies_that_refuse() {
    let garbled = "the proxy's answer to CONNECT is not HTTP (is TAILRACE_PROXY a proxy?)";
    let cases = [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy answered 407 to CONNECT"),
        ("HTTP/1.0 503\r\n\r\n", "the proxy answered 503 to CONNECT"),
        ("220 mail.example ESMTP\r\n\r\n", garbled),
        ("HTTP/1.1 2x0 no\r\n\r\n", garbled),
        ("HTTP/1.1 200", garbled),
    ];
    let authority = Authority::new();
    for (said, detail) in cases {
        let mut target = target(1);
        target.proxy = Some(("127.0.0.1".to_owned(), proxy(said).await.0));
        failed(&authority.client(&target).post(&batch("x")).await, Stage::Proxy, detail);
    }
}

#[test]
fn bundles_that_cannot_be_trusted() {
    let authority = Authority::new();
    let good = fs::read_to_string(authority.file()).unwrap();
    let problem = |text: &str| {
        let file = authority.directory.path().join("other.pem");
        fs::write(&file, text).unwrap();
        let error = client_config(&[authority.file(), file.clone()]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(file.to_str().unwrap()), "{text}");
        (error, text)
    };
    assert!(matches!(problem("").0, TlsError::Empty { .. }));
    assert!(matches!(problem("# comments only\n").0, TlsError::Empty { .. }));
    assert!(matches!(problem(&"\n".repeat(4 << 20 | 1)).0, TlsError::TooLarge { .. }));
    let (error, text) = problem(&format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n"));
    assert!(matches!(error, TlsError::Damaged { entry: 2, byte, .. } if byte > good.len()), "{text}");
    assert!(text.ends_with("expected the line `-----END CERTIFICATE-----`"), "{text}");
    let (error, text) = problem(&good.replacen("MII", "M!I", 1));
    assert!(matches!(error, TlsError::Damaged { entry: 1, .. }), "{text}");
    assert!(text.contains("expected base64"), "{text}");
    let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (error, text) = problem(&format!("{good}{none}{good}"));
    let end = good.len() + none.len();
    assert!(matches!(error, TlsError::Unusable { entry: 2, byte, .. } if byte == end), "{text}");
    let missing = authority.directory.path().join("missing.pem");
    let error = client_config(std::slice::from_ref(&missing)).unwrap_err();
    assert!(matches!(&error, TlsError::Unreadable { file, .. } if *file == missing), "{error}");
}
