//! What drains and proxies answer: any bytes. Each attempt has an outcome, whose text shows no secret.

use super::redact::{BodyEnd, MAX_DETAIL_BYTES, Secrets};
use super::*;
use crate::shipper::verdict::{ContentEncoding, Verdict, judge};
use crate::tests::fuzz::{Target, fuzz_test};
use bytes::Bytes;
use rustls::ClientConfig;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

const SECRET: &str = "q7Zsecretx9";
const USER: &str = "Basic dTpxN1pzZWNyZXR4OQ=="; // `u:` and the secret
/// Stands for the secret in an input.
const MARK: u8 = b'$';
/// The body of each request.
const BODY: &[u8] = b"64 <190>1 2026-03-04T05:06:07.089012+00:00 host app web.1 - a line\n";

/// The plainest answer.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn with_secret(input: &[u8]) -> Vec<u8> {
    input.split(|b| *b == MARK).collect::<Vec<_>>().join(SECRET.as_bytes())
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".to_owned(),
        port,
        path_and_query: format!("/receiver/{SECRET}?key={SECRET}"),
        authorization: Some(USER.to_owned()),
        tls: false,
        headers: vec![("X-Key".to_owned(), SECRET.to_owned())],
        token: "d.1".to_owned(),
        gzip: false,
        request_timeout: Duration::from_secs(10),
        max_connection_age: Duration::MAX,
        proxy: None,
    }
}

/// A server on loopback that answers each request with the same bytes, then closes the connection.
struct Server {
    port: u16,
    answer: Mutex<Vec<u8>>,
}

static SERVER: LazyLock<Arc<Server>> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = Arc::new(Server { port, answer: Mutex::default() });
    let shared = Arc::clone(&server);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&shared);
            std::thread::spawn(move || server.serve(&stream).ok()); // the client may be gone
        }
    });
    server
});
static TLS: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| tls::client_config(&[]).expect("the built-in roots"));

impl Server {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let (mut reader, mut writer) = (BufReader::new(stream), stream);
        let (mut line, mut body_len) = (String::new(), 0);
        while reader.read_line(&mut line)? > 2 {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                body_len = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        let mut body = vec![0; body_len];
        reader.read_exact(&mut body)?;
        let answer = self.answer.lock().expect("not poisoned").clone();
        writer.write_all(&answer)?;
        stream.shutdown(Shutdown::Write)?;
        reader.read_to_end(&mut body)?; // until the client has closed it
        Ok(())
    }
}

/// The first byte says who answers.
fn answers(input: &[u8]) {
    let [is_proxy, answer @ ..] = input else { return };
    let answer = with_secret(answer);
    SERVER.answer.lock().expect("not poisoned").clone_from(&answer);
    let mut endpoint = endpoint(SERVER.port);
    if is_proxy % 2 == 1 {
        (endpoint.host, endpoint.proxy) =
            ("drain.invalid".to_owned(), Some(("127.0.0.1".to_owned(), SERVER.port)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = Client::new(&endpoint, Arc::clone(&TLS)).expect("a client");
        // The second one may meet a connection that was kept.
        for _ in 0..2 {
            let batch = BatchRequest { body: Bytes::from_static(BODY), frames: 1, id: "0A".repeat(16) };
            let outcome = client.post(&batch).await;
            check(&outcome, &answer);
            if endpoint.proxy.is_none() && answer.starts_with(OK) {
                assert_eq!((outcome.verdict, outcome.status), (Verdict::Delivered, Some(200)), "{outcome:?}");
            }
        }
    });
}

fn check(outcome: &AttemptOutcome, answer: &[u8]) {
    assert!(outcome.elapsed < Duration::from_secs(9), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains(SECRET), "{outcome:?}");
    assert!(outcome.detail.bytes().all(|b| (b' '..=b'~').contains(&b)), "{outcome:?}");
    assert!(outcome.retry_after.is_none_or(|wait| wait <= MAX_RETRY_AFTER));
    match (outcome.status, &outcome.error) {
        (Some(status), None) => {
            assert!((100..1000).contains(&status));
            assert_eq!(outcome.verdict, judge(status, ContentEncoding::Identity));
            assert!(outcome.detail.len() <= MAX_DETAIL_BYTES && outcome.phase == Phase::Response);
            let is_http = memchr::memmem::find(answer, b"HTTP/1.").is_some();
            assert!(is_http, "{status}, but it is no answer: {}", answer.escape_ascii());
        }
        (None, Some(error)) => {
            assert_eq!((outcome.verdict, outcome.retry_after), (Verdict::Retry, None));
            assert_eq!(outcome.detail, error.to_string());
        }
        _ => panic!("neither an answer nor an error, or both: {outcome:?}"),
    }
}

fuzz_test!(
    every_answer_has_an_outcome,
    Target {
        seeds: [
            "\0HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "\0HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
            "\0HTTP/1.1 503 Service Unavailable\r\nRetry-After: 120\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbusy \r\n\
             c;x=y\r\n/receiver/$ \r\n0\r\nX: y\r\n\r\n",
            "\0HTTP/1.1 429 Slow\r\nRetry-After: Sat, 06 Nov 2094 08:49:37 GMT\r\nContent-Length: 20\r\n\r\nnot for $",
            "\0HTTP/1.0 401 No\r\nWWW-Authenticate: Basic\r\n\r\nu:$ dTpxN1pzZWNyZXR4OQ==",
            "\0HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
            "\0HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            "\0SSH-2.0-OpenSSH_9.6\r\n",
            "\u{1}HTTP/1.1 200 Connection established\r\n\r\n",
            "\u{1}HTTP/1.0 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\n$no",
        ]
        .map(|answer| answer.as_bytes().to_vec())
        .to_vec(),
        tokens: &[
            b"\r\n", b"\r\n\r\n", b"HTTP/1.1 ", b" 204 ", b" 304 ", b"999", b"Content-Length: ", b"18446744073709551616", b"-1",
            b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\n", b"Retry-After: ", b"$", b"\0", b"\xff", b"\x1b[2J",
        ],
        factor: 4.0,
        run: answers,
    }
);

/// A value of `Retry-After`, a line feed, and the beginning of a body.
fn texts(input: &[u8]) {
    let at = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
    let (value, body) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    for seconds in [0, 784_111_777, 1_767_225_600, 253_402_300_799] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let wait = retry_after(&String::from_utf8_lossy(value), now);
        assert!(wait.is_none_or(|wait| wait <= MAX_RETRY_AFTER));
    }
    let secrets = Secrets::of(&endpoint(443));
    let whole = with_secret(body);
    // A drain may also stop in the middle of the secret.
    for end in [whole.len(), whole.len().saturating_sub(1), whole.len().saturating_sub(SECRET.len() / 2)] {
        let shown = secrets.redact(&whole[..end], BodyEnd::Truncated);
        assert!(
            shown.len() <= MAX_DETAIL_BYTES && shown.bytes().all(|b| (b' '..=b'~').contains(&b)),
            "{shown}"
        );
        let beginning = (SECRET.len() / 2..=SECRET.len()).find(|len| shown.contains(&SECRET[..*len]));
        let is_in_body = beginning.is_some_and(|len| {
            let body = String::from_utf8_lossy(body);
            body.contains(&SECRET[..len])
        });
        assert!(beginning.is_none() || is_in_body, "{shown}");
    }
    assert!(!secrets.redact(&whole, BodyEnd::Complete).contains(SECRET));
}

fuzz_test!(
    no_text_of_an_answer_shows_a_secret,
    Target {
        seeds: [
            "120\nthe key $ is not known",
            "Sun, 06 Nov 1994 08:49:37 GMT\n<html>$$</html> ",
            "Sunday, 06-Nov-94 08:49:37 GMT\nu:$ dTpxN1pzZWNyZXR4OQ==",
            "Sun Nov  6 08:49:37 1994\n\r\n\r\n\t /receiver/$?key=$\0\u{e9}",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec(),
        tokens: &[
            b"$",
            b"\n",
            b"q7Zsecret",
            b" GMT",
            b"31",
            b"Feb",
            b"9999",
            b"99999999999999999999",
            b"-",
            b":60",
            b"\xff"
        ],
        factor: 10.0,
        run: texts,
    }
);
