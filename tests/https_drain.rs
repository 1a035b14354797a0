//! The HTTPS client against real sockets: a TLS server that records the bytes of each request and answers, stalls or
//! closes the connection.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "https_drain/failures.rs"]
mod failures;
#[path = "https_drain/harness.rs"]
mod harness;

use harness::{
    Authority, Server, assert_delivered, batch, endpoint, large_batch, reply, reply_status, start_proxy,
};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tailrace::shipper::http::tls::{TlsError, Trust, client_config};
use tailrace::shipper::http::{Client, Endpoint, EndpointError};
use tailrace::shipper::verdict::Verdict;

#[tokio::test]
async fn the_request_has_exactly_these_bytes() {
    let authority = Authority::new();
    let server = authority.serve([]).await;
    let mut endpoint = endpoint(server.port);
    endpoint.path_and_query = "/a//%7e;b/{c}|é?x=1&&y=%zz&z".to_owned();
    endpoint.authorization = Some("Basic dXNlcjpwYXNz".to_owned());
    endpoint.headers = vec![("X-Sumo-Category".to_owned(), "heroku/web".to_owned())];
    let body = "78 <190>1 2026-03-04T05:06:07.089012+00:00 host app web.1 - listening on 5000\n";
    let outcome = authority.client(&endpoint).post(&batch(body)).await;
    assert_delivered(&outcome);
    assert_eq!((outcome.body_bytes, outcome.resent), (body.len() as u64, false));
    assert_eq!(outcome.detail, "");
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].head,
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
    assert_eq!(requests[0].body, body.as_bytes());
}

#[tokio::test]
async fn large_bodies_share_one_connection() {
    let authority = Authority::new();
    let server = authority.serve([]).await;
    let mut client = authority.client(&endpoint(server.port));
    for _ in 0..20 {
        assert_delivered(&client.post(&large_batch()).await);
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 20);
    assert!(requests.iter().all(|request| request.connection == 1 && request.body == large_batch().body));
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_replaced() {
    let authority = Authority::new();
    let server = authority.serve([]).await;
    let mut endpoint = endpoint(server.port);
    endpoint.max_connection_age = Duration::ZERO;
    let mut client = authority.client(&endpoint);
    for _ in 0..3 {
        let outcome = client.post(&batch("x")).await;
        assert_delivered(&outcome);
        assert!(!outcome.resent, "a new connection is no repetition");
    }
    let connections: Vec<_> = server.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [1, 2, 3]);
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_supported() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let authority = Authority::with_versions(&[version], "localhost", |_| {});
        let server = authority.serve([]).await;
        assert_delivered(&authority.client(&endpoint(server.port)).post(&large_batch()).await);
        assert_eq!(server.requests()[0].body, large_batch().body);
    }
}

#[tokio::test]
async fn plain_http_is_supported() {
    let server = Server::start(None, []).await;
    let mut endpoint = endpoint(server.port);
    endpoint.tls = false;
    endpoint.host = "127.0.0.1".to_owned();
    let mut client = Client::new(&endpoint, client_config(&[]).unwrap()).unwrap();
    assert_delivered(&client.post(&large_batch()).await);
    assert_delivered(&client.post(&batch("x")).await);
    let requests = server.requests();
    assert_eq!(requests[0].body, large_batch().body);
    assert_eq!(
        (requests[1].connection, requests[1].header("Host").unwrap()),
        (1, &*format!("127.0.0.1:{}", server.port))
    );
}

#[tokio::test]
async fn each_status_has_its_verdict() {
    let cases = [
        (200, Verdict::Delivered),
        (204, Verdict::Delivered),
        (301, Verdict::Retry),
        (400, Verdict::Reject),
        (401, Verdict::Hold),
        (404, Verdict::Hold),
        (413, Verdict::Split),
        (429, Verdict::Retry),
        (500, Verdict::Retry),
        (503, Verdict::Retry),
    ];
    let authority = Authority::new();
    let server = authority.serve(cases.map(|(code, _)| reply_status(code))).await;
    let mut client = authority.client(&endpoint(server.port));
    for (code, verdict) in cases {
        let outcome = client.post(&batch("x")).await;
        assert_eq!((outcome.status, outcome.verdict), (Some(code), verdict), "{outcome:?}");
    }
    // Each batch is sent once, and only a delivery keeps the connection open.
    assert_eq!(server.connections(), [1, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let authority = Authority::new();
    let other = authority.serve([]).await;
    let location = format!("https://localhost:{}/", other.port);
    let actions = [301, 302, 307, 308].map(|code| {
        reply(&format!("HTTP/1.1 {code} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
    });
    let server = authority.serve(actions).await;
    let mut client = authority.client(&endpoint(server.port));
    for _ in 0..4 {
        assert_eq!(client.post(&batch("x")).await.verdict, Verdict::Retry);
    }
    assert_eq!((server.requests().len(), other.requests().len()), (4, 0));
}

#[tokio::test]
async fn retry_after_is_read_in_both_forms() {
    let authority = Authority::new();
    let answer = |value: &str| {
        reply(&format!("HTTP/1.1 429 Slow\r\nRetry-After: {value}\r\nContent-Length: 5\r\n\r\nslow\n"))
    };
    let soon = SystemTime::now() + Duration::from_mins(5);
    let soon = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let server = authority.serve([answer("17"), answer(&imf_fixdate(soon)), answer("soon")]).await;
    let mut client = authority.client(&endpoint(server.port));
    let first = client.post(&batch("x")).await;
    assert_eq!((first.verdict, first.retry_after), (Verdict::Retry, Some(Duration::from_secs(17))));
    assert_eq!(first.detail, "slow");
    let wait = client.post(&batch("x")).await.retry_after.unwrap();
    assert!(wait <= Duration::from_mins(5) && wait > Duration::from_secs(280), "{wait:?}");
    assert_eq!(client.post(&batch("x")).await.retry_after, None);
}

/// Formats a date (RFC 9110 section 5.6.7) by counting days, independently of the parser under test.
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
async fn gzip_is_turned_off_when_only_the_uncompressed_batch_is_accepted() {
    let authority = Authority::new();
    for code in [400, 415] {
        // Delivered. Then rejected compressed and uncompressed: the batch is at fault. Then rejected compressed, failed
        // uncompressed, and delivered uncompressed: compression is at fault.
        let actions = [200, code, code, 200, code, 503].map(reply_status);
        let server = authority.serve(actions).await;
        let mut endpoint = endpoint(server.port);
        endpoint.gzip = true;
        let mut client = authority.client(&endpoint);
        let mut verdicts = Vec::new();
        for _ in 0..8 {
            let outcome = client.post(&large_batch()).await;
            let request = server.requests().pop().unwrap();
            assert_eq!(outcome.body_bytes, request.body.len() as u64);
            let is_compressed = request.header("Content-Encoding") == Some("gzip");
            assert_eq!(if is_compressed { gunzip(&request.body) } else { request.body }, large_batch().body);
            verdicts.push((outcome.verdict, is_compressed));
        }
        assert_eq!(
            verdicts,
            [
                (Verdict::Delivered, true),
                (Verdict::RetryUncompressed, true),
                (Verdict::Reject, false),
                (Verdict::Delivered, true),
                (Verdict::RetryUncompressed, true),
                (Verdict::Retry, false),
                (Verdict::Delivered, false),
                (Verdict::Delivered, false),
            ]
        );
    }
}

#[tokio::test]
async fn secrets_are_redacted() {
    let authority = Authority::new();
    let text = "no collector Zm9v%2Bb (Zm9v+b), key=q1u2e3r4y, Basic dXNlcjpwYTU1d29yZA==, user:pa55word, tag-secret\u{202e}\x1b[31m";
    let server = authority
        .serve([reply(&format!("HTTP/1.1 401 No\r\nContent-Length: {}\r\n\r\n{text}", text.len()))])
        .await;
    let mut endpoint = endpoint(server.port);
    endpoint.path_and_query = "/receiver/v1/http/Zm9v%2Bb?key=q1u2e3r4y".to_owned();
    endpoint.authorization = Some("Basic dXNlcjpwYTU1d29yZA==".to_owned());
    endpoint.headers = vec![("X-Key".to_owned(), "tag-secret".to_owned())];
    let mut client = authority.client(&endpoint);
    let outcome = client.post(&batch("x")).await;
    assert_eq!(
        outcome.detail,
        "no collector [secret] ([secret]), [secret], [secret], [secret]:[secret], [secret]??? [31m"
    );
    let debug = format!("{outcome:?} {endpoint:?} {client:?}");
    for secret in ["Zm9v", "q1u2", "dXNl", "pa55", "tag-secret", "receiver"] {
        assert!(!debug.contains(secret), "{secret}: {debug}");
    }
}

#[test]
fn invalid_endpoints_are_refused() {
    let tls = client_config(&[]).unwrap();
    let check = |edit: &dyn Fn(&mut Endpoint)| {
        let mut endpoint = endpoint(443);
        edit(&mut endpoint);
        Client::new(&endpoint, Arc::clone(&tls)).err()
    };
    assert_eq!(check(&|_| {}), None);
    for host in ["", "a b", "a/b", "user@host", "[::1", "a:1"] {
        assert_eq!(check(&|endpoint| endpoint.host = host.to_owned()), Some(EndpointError::Host), "{host}");
    }
    for host in ["::1", "[::1]", "10.0.0.1"] {
        assert_eq!(check(&|endpoint| endpoint.host = host.to_owned()), None, "{host}");
    }
    for path in ["", "logs", "?a", "/a b", "/a#b", "/a\r\nX: y", "*"] {
        assert_eq!(
            check(&|endpoint| endpoint.path_and_query = path.to_owned()),
            Some(EndpointError::Path),
            "{path}"
        );
    }
    assert_eq!(
        check(&|endpoint| endpoint.authorization = Some("Basic \n".to_owned())),
        Some(EndpointError::Authorization)
    );
    assert_eq!(check(&|endpoint| endpoint.token = "\r\n".to_owned()), Some(EndpointError::Token));
    assert_eq!(check(&|endpoint| endpoint.proxy = Some((String::new(), 1))), Some(EndpointError::Proxy));
    for (name, value) in [("a b", "x"), ("", "x"), ("X-A", "\n")] {
        let expected = Some(EndpointError::Header(name.to_owned()));
        assert_eq!(check(&|endpoint| endpoint.headers = vec![(name.to_owned(), value.to_owned())]), expected);
    }
    for name in ["Content-Length", "transfer-encoding", "LOGPLEX-FRAME-ID", "Host"] {
        let expected = Some(EndpointError::Reserved(name.to_owned()));
        assert_eq!(check(&|endpoint| endpoint.headers = vec![(name.to_owned(), "1".to_owned())]), expected);
    }
}

#[tokio::test]
async fn requests_go_through_a_proxy() {
    let authority = Authority::new();
    let server = authority.serve([]).await;
    let proxy = start_proxy("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await;
    let mut endpoint = endpoint(server.port);
    endpoint.proxy = Some(("127.0.0.1".to_owned(), proxy.port));
    let mut client = authority.client(&endpoint);
    assert_delivered(&client.post(&large_batch()).await);
    assert_delivered(&client.post(&large_batch()).await);
    let drain = format!("localhost:{}", server.port);
    assert_eq!(
        *proxy.requests.lock().unwrap(),
        [format!("CONNECT {drain} HTTP/1.1\r\nHost: {drain}\r\n\r\n")]
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.body == large_batch().body && request.header("Host") == Some(&drain))
    );
}

#[tokio::test]
async fn what_can_be_read_of_a_ca_file_is_trusted() {
    let authority = Authority::new();
    let good = fs::read_to_string(authority.ca_file()).unwrap();
    let unusable = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let garbled = "-----BEGIN CERTIFICATE-----\nM!I\n-----END CERTIFICATE-----\n";
    let unfinished = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let server = authority.serve([]).await;
    for (text, problems) in [
        (format!("{unusable}{good}"), 1),
        (format!("{good}{unusable}"), 1),
        (format!("{garbled}{unusable}{good}"), 2),
        (format!("{good}{unfinished}"), 1),
        (format!("text\n{good}"), 0),
    ] {
        let file = authority.directory.path().join("mixed.pem");
        fs::write(&file, &text).unwrap();
        let mut trust = Trust::built_in();
        let found = trust.add_bundle(&file);
        assert_eq!(found.len(), problems, "{found:?}: {text}");
        let mut client = Client::new(&endpoint(server.port), trust.client_config().unwrap()).unwrap();
        assert_delivered(&client.post(&batch("x")).await);
    }
}

#[test]
fn invalid_ca_files_are_refused() {
    let authority = Authority::new();
    let good = fs::read_to_string(authority.ca_file()).unwrap();
    let problem = |text: &str| {
        let file = authority.directory.path().join("other.pem");
        fs::write(&file, text).unwrap();
        let error = client_config(&[authority.ca_file(), file.clone()]).unwrap_err();
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
    let unusable = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (error, text) = problem(&format!("{good}{unusable}{good}"));
    let end = good.len() + unusable.len();
    assert!(matches!(error, TlsError::Unusable { entry: 2, byte, .. } if byte == end), "{text}");
    let missing = authority.directory.path().join("missing.pem");
    let error = client_config(std::slice::from_ref(&missing)).unwrap_err();
    assert!(matches!(&error, TlsError::Unreadable { file, .. } if *file == missing), "{error}");
}
