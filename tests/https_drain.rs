//! The HTTPS drain against real sockets: a TLS server that shows the raw bytes of each request and answers,
//! stalls or hangs up as told.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "https_drain/failures.rs"]
mod failures;
#[path = "https_drain/harness.rs"]
mod harness;

use harness::{Authority, Server, batch, delivered, large, proxy, reply, status, target};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tailrace::drain::https::{Client, Target, TargetError};
use tailrace::drain::tls::{TlsError, client_config};
use tailrace::drain::verdict::Verdict;

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
async fn both_versions_of_tls() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let authority = Authority::speaking(&[version], "localhost", |_| {});
        let server = authority.serve([]).await;
        delivered(&authority.client(&target(server.port)).post(&large()).await);
        assert_eq!(server.seen()[0].body, large().body);
    }
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
    // Nothing is sent twice, and only a delivery keeps the connection.
    let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
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
