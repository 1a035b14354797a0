//! Drains that stall, close connections, present wrong certificates, or cannot be reached.

use crate::harness::{
    Action, Authority, OK, RefusingPort, Server, WAIT_TIMEOUT, assert_delivered, assert_failed, batch,
    endpoint, large_batch, reply, start_proxy,
};
use rcgen::date_time_ymd;
use std::io::{Read, Write};
use std::time::Duration;
use tailrace::shipper::http::tls::client_config;
use tailrace::shipper::http::{Client, Phase};
use tailrace::shipper::verdict::Verdict;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn a_stalled_drain_ends_with_the_request_timeout() {
    let authority = Authority::new();
    let mut server = authority.serve([Action::Stall(String::new())]).await;
    let mut endpoint = endpoint(server.port);
    endpoint.request_timeout = Duration::from_millis(1500);
    let mut client = authority.client(&endpoint);
    let outcome = client.post(&batch("x")).await;
    assert_failed(&outcome, Phase::Request, "timed out after 1500 ms while waiting for the answer");
    assert!(outcome.elapsed >= Duration::from_millis(1500) && outcome.elapsed < WAIT_TIMEOUT, "{outcome:?}");
    server.wait_for_closed(1).await;
    assert_delivered(&client.post(&batch("x")).await);
    assert_eq!(server.requests()[1].connection, 2);
}

#[tokio::test]
async fn the_status_decides_when_the_body_of_the_answer_stalls() {
    let authority = Authority::new();
    for request_timeout in [Duration::from_millis(1500), WAIT_TIMEOUT] {
        let stall = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nwait for it";
        let server = authority.serve([Action::Stall(stall.to_owned())]).await;
        let mut endpoint = endpoint(server.port);
        endpoint.request_timeout = request_timeout;
        let mut client = authority.client(&endpoint);
        let outcome = client.post(&batch("x")).await;
        assert_delivered(&outcome);
        // The last word could be the beginning of a secret (`logs`), so it is left out.
        assert_eq!(outcome.detail, "wait for");
        assert!(outcome.elapsed < WAIT_TIMEOUT / 2, "{outcome:?}");
        assert_delivered(&client.post(&batch("x")).await);
        assert_eq!(server.requests()[1].connection, 2);
    }
}

#[tokio::test]
async fn a_batch_is_freed_after_the_timeout_of_a_drain_that_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut endpoint = endpoint(listener.local_addr().unwrap().port());
    endpoint.tls = false;
    endpoint.request_timeout = Duration::from_secs(1);
    let mut client = Client::new(&endpoint, client_config(&[]).unwrap()).unwrap();
    let batch = batch(vec![b'x'; 16 << 20]);
    assert_failed(
        &client.post(&batch).await,
        Phase::Request,
        "timed out after 1 s while waiting for the answer",
    );
    let unique = async {
        while !batch.body.is_unique() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WAIT_TIMEOUT, unique).await.unwrap();
}

#[tokio::test]
async fn a_missing_tls_handshake_ends_with_the_request_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut endpoint = endpoint(listener.local_addr().unwrap().port());
    endpoint.request_timeout = Duration::from_secs(1);
    let outcome = Authority::new().client(&endpoint).post(&batch("x")).await;
    assert_failed(&outcome, Phase::Tls, "timed out after 1 s while agreeing on TLS");
}

#[tokio::test]
async fn invalid_certificates_are_refused() {
    let authority = Authority::new();
    let server = authority.serve([]).await;
    let mut client = Client::new(&endpoint(server.port), client_config(&[]).unwrap()).unwrap();
    let outcome = client.post(&batch("x")).await;
    assert_failed(&outcome, Phase::Tls, "certificate: unknown issuer (set TAILRACE_CA_FILE)");

    let other = Authority::for_name("drain.example", |_| {});
    let server = other.serve([]).await;
    let outcome = other.client(&endpoint(server.port)).post(&batch("x")).await;
    assert_failed(
        &outcome,
        Phase::Tls,
        "certificate: not valid for the drain's host name, but for drain.example",
    );

    let old = Authority::for_name("localhost", |leaf| leaf.not_after = date_time_ymd(2001, 1, 1));
    let server = old.serve([]).await;
    let outcome = old.client(&endpoint(server.port)).post(&batch("x")).await;
    assert_eq!((outcome.verdict, outcome.phase), (Verdict::Retry, Phase::Tls), "{outcome:?}");
    let days =
        outcome.detail.strip_prefix("certificate: expired ").and_then(|rest| rest.strip_suffix(" days ago"));
    assert!(days.is_some_and(|days| days.parse::<u64>().unwrap() > 9000), "{outcome:?}");

    let early = Authority::for_name("localhost", |leaf| leaf.not_before = date_time_ymd(3001, 1, 1));
    let server = early.serve([]).await;
    let outcome = early.client(&endpoint(server.port)).post(&batch("x")).await;
    assert_failed(&outcome, Phase::Tls, "certificate: not valid yet (is this machine's clock right?)");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_certificate_of_an_authority_is_accepted_from_a_server_when_exactly_it_is_trusted() {
    let authority = Authority::self_signed("localhost", |_| {});
    let server = authority.serve([]).await;
    assert_delivered(&authority.client(&endpoint(server.port)).post(&batch("x")).await);

    let how = "certificate: it is that of an authority, made by `openssl req -x509` for example (set TAILRACE_CA_FILE \
               to exactly this certificate)";
    // Nothing, or another one of the same subject.
    let other = Authority::self_signed("localhost", |_| {});
    for trusted in [vec![], vec![other.ca_file()]] {
        let mut client = Client::new(&endpoint(server.port), client_config(&trusted).unwrap()).unwrap();
        assert_failed(&client.post(&batch("x")).await, Phase::Tls, how);
    }
    assert_eq!(server.requests().len(), 1);

    let elsewhere = Authority::self_signed("drain.example", |_| {});
    let server = elsewhere.serve([]).await;
    let outcome = elsewhere.client(&endpoint(server.port)).post(&batch("x")).await;
    assert_failed(
        &outcome,
        Phase::Tls,
        "certificate: not valid for the drain's host name, but for drain.example",
    );
    let old = Authority::self_signed("localhost", |params| params.not_after = date_time_ymd(2001, 1, 1));
    let server = old.serve([]).await;
    let outcome = old.client(&endpoint(server.port)).post(&batch("x")).await;
    assert!(outcome.detail.starts_with("certificate: expired "), "{outcome:?}");
    assert!(server.requests().is_empty());
}

/// Answers the first bytes of a connection with these, and closes it.
async fn serve_bytes(answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(&answer).await.unwrap();
        stream.shutdown().await.unwrap();
        while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
    });
    port
}

#[tokio::test]
async fn old_versions_of_tls_are_named() {
    const OLD: &str = "TLS: the drain speaks TLS 1.1 or older only, which is not secure; it needs 1.2 or 1.3";
    // A fatal alert protocol_version (RFC 8446 section 6), in a record of TLS 1.0.
    let alert = vec![21, 3, 1, 0, 2, 2, 70];
    // A ServerHello of TLS 1.0 (RFC 2246 section 7.4.1.3) that chooses TLS_RSA_WITH_AES_128_CBC_SHA.
    let hello = [&[22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1][..], &[7; 32], &[0, 0, 47, 0]].concat();
    // A fatal alert handshake_failure.
    let no_cipher = vec![21, 3, 3, 0, 2, 2, 40];
    let authority = Authority::new();
    for (answer, expected) in [
        (alert, OLD),
        (hello, OLD),
        (
            no_cipher,
            "TLS: no cipher in common with the drain; it needs one of TLS 1.2 (ECDHE with AES-GCM) or 1.3",
        ),
    ] {
        let outcome = authority.client(&endpoint(serve_bytes(answer).await)).post(&batch("x")).await;
        assert_failed(&outcome, Phase::Tls, expected);
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_close_notify_is_closed_by_the_drain() {
    let authority = Authority::new();
    let server = authority.serve([Action::CloseAbruptly]).await;
    let outcome = authority.client(&endpoint(server.port)).post(&batch("x")).await;
    assert_failed(&outcome, Phase::Request, "connection closed by the drain");
}

#[tokio::test]
async fn a_redirect_shows_where_to_without_a_secret() {
    let authority = Authority::new();
    for (location, expected) in [
        ("https://new.example:8443/receiver/SECRET", "it redirects to https://new.example:8443/..."),
        ("https://new.example/logs", "it redirects to https://new.example/..."),
        ("/login", "it redirects to another path of the same host"),
    ] {
        let answer = format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 6\r\n\r\n<html>");
        let server = authority.serve([reply(&answer)]).await;
        let outcome = authority.client(&endpoint(server.port)).post(&batch("x")).await;
        assert_eq!((outcome.verdict, outcome.status), (Verdict::Retry, Some(301)), "{outcome:?}");
        assert_eq!(outcome.detail, expected);
    }
}

#[tokio::test]
async fn addresses_without_a_drain_are_retried() {
    let authority = Authority::new();
    let refusing = RefusingPort::new();
    let outcome = authority.client(&endpoint(refusing.number())).post(&batch("x")).await;
    assert_failed(&outcome, Phase::Connect, "connection refused");

    // A label of more than 63 bytes is invalid, so no resolver looks it up (RFC 1035 section 2.3.4).
    let mut unresolvable = endpoint(refusing.number());
    unresolvable.host = format!("{}.invalid", "x".repeat(64));
    unresolvable.tls = false;
    let outcome = authority.client(&unresolvable).post(&batch("x")).await;
    assert_eq!(outcome.phase, Phase::Lookup);
    assert!(outcome.detail.starts_with("name not found: "), "{outcome:?}");

    let plain = Server::start(None, []).await;
    let outcome = authority.client(&endpoint(plain.port)).post(&batch("x")).await;
    assert_eq!((outcome.verdict, outcome.phase), (Verdict::Retry, Phase::Tls), "{outcome:?}");

    let server = authority.serve([reply("SSH-2.0-OpenSSH_9.6\r\n\r\n")]).await;
    let outcome = authority.client(&endpoint(server.port)).post(&batch("x")).await;
    assert_failed(&outcome, Phase::Request, "the answer is not proper HTTP/1.1: invalid HTTP version parsed");
}

#[tokio::test]
async fn a_batch_is_retried_later_when_the_drain_closes_a_new_connection() {
    let authority = Authority::new();
    for action in [Action::Close, Action::Reset] {
        let server = authority.serve([action.clone()]).await;
        let outcome = authority.client(&endpoint(server.port)).post(&large_batch()).await;
        assert_eq!(
            (outcome.verdict, outcome.status, outcome.resent),
            (Verdict::Retry, None, false),
            "{outcome:?}"
        );
        assert!(outcome.detail.starts_with("connection "), "{action:?}: {outcome:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_closed_keep_alive_connection_is_replaced_once() {
    let authority = Authority::new();
    for action in [Action::Close, Action::Reset] {
        let server = authority.serve([reply(OK), action.clone(), reply(OK), action.clone(), action]).await;
        let mut client = authority.client(&endpoint(server.port));
        assert_delivered(&client.post(&batch("x")).await);
        let outcome = client.post(&large_batch()).await;
        assert_delivered(&outcome);
        assert!(outcome.resent);
        let outcome = client.post(&large_batch()).await;
        assert_eq!(
            (outcome.verdict, outcome.status, outcome.resent),
            (Verdict::Retry, None, true),
            "{outcome:?}"
        );
        assert_eq!(server.connections(), [1, 1, 2, 2, 3]);
        let requests = server.requests();
        assert!(requests.iter().all(|request| request.header("Logplex-Frame-Id") == Some(&batch("").id)));
        assert_eq!(requests[2].body, large_batch().body);
    }
}

#[tokio::test]
async fn a_connection_that_the_drain_closes_after_its_answer_is_replaced() {
    let authority = Authority::new();
    let mut server = authority
        .serve([
            Action::ReplyAndClose(OK.to_owned()),
            Action::ReplyAndClose(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
            ),
        ])
        .await;
    let mut client = authority.client(&endpoint(server.port));
    for round in 1..=3 {
        assert_delivered(&client.post(&batch("x")).await);
        if round < 3 {
            server.wait_for_closed(round).await;
        }
    }
    assert_eq!(server.connections(), [1, 2, 3]);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_is_read() {
    let authority = Authority::new();
    let refusal = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 9\r\n\r\ntoo large";
    let server = authority.serve((0..5).map(|_| Action::ReplyEarly(refusal.to_owned()))).await;
    let mut client = authority.client(&endpoint(server.port));
    // More than the socket buffers hold, so that the request cannot be written completely.
    let body = batch(vec![b'x'; 16 << 20]);
    for _ in 0..5 {
        let outcome = client.post(&body).await;
        assert_eq!((outcome.verdict, outcome.detail.as_str()), (Verdict::Split, "too large"), "{outcome:?}");
    }

    // A server in another thread resets the connection while the client writes.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut endpoint = endpoint(listener.local_addr().unwrap().port());
    endpoint.tls = false;
    let server = std::thread::spawn(move || {
        for _ in 0..50 {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(refusal.as_bytes()).unwrap();
        }
    });
    let mut client = authority.client(&endpoint);
    for _ in 0..50 {
        let outcome = client.post(&body).await;
        assert_eq!((outcome.verdict, outcome.detail.as_str()), (Verdict::Split, "too large"), "{outcome:?}");
    }
    server.join().unwrap();
}

/// Lets every task become idle, then advances the clock.
async fn advance_clock(time: Duration) {
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
    let mut client = authority.client(&endpoint(server.port));
    assert_delivered(&client.post(&batch("x")).await);
    advance_clock(Duration::from_secs(19)).await;
    assert_delivered(&client.post(&batch("x")).await);
    assert_eq!(*server.closed.borrow(), 0);
    advance_clock(Duration::from_millis(20_100)).await;
    server.wait_for_closed(1).await;
    let outcome = client.post(&batch("x")).await;
    assert_delivered(&outcome);
    assert!(!outcome.resent, "the closed connection was used");
    assert_eq!(server.connections(), [1, 1, 2]);
}

#[tokio::test]
async fn a_cancelled_request_closes_its_connection() {
    let authority = Authority::new();
    let mut server = authority.serve([reply(OK), Action::Stall(String::new())]).await;
    let mut client = authority.client(&endpoint(server.port));
    assert_delivered(&client.post(&batch("x")).await);
    let cancelled = batch("x");
    tokio::select! {
        outcome = client.post(&cancelled) => panic!("the request must be pending: {outcome:?}"),
        () = server.wait_for_requests(2) => {}
    }
    server.wait_for_closed(1).await;
    assert_delivered(&client.post(&batch("x")).await);
    assert_eq!(server.requests()[2].connection, 2);
}

#[tokio::test]
async fn long_answers_are_truncated() {
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
    let mut client = authority.client(&endpoint(server.port));
    for (round, expected) in [(1, Some(200)), (2, Some(503)), (3, None)] {
        let outcome = client.post(&batch("x")).await;
        assert_eq!(outcome.status, expected, "{outcome:?}");
        if expected.is_some() {
            assert!(outcome.detail.starts_with("no such thing. no such") && outcome.detail.len() <= 256);
        } else {
            assert_failed(
                &outcome,
                Phase::Request,
                "the answer is not proper HTTP/1.1: message head is too large",
            );
        }
        server.wait_for_closed(round).await;
    }
    assert_delivered(&client.post(&batch("x")).await);
}

#[tokio::test]
async fn refusals_of_a_proxy_are_reported() {
    let garbled = "the proxy's answer to CONNECT is not HTTP (is TAILRACE_PROXY a proxy?)";
    let cases = [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy answered 407 to CONNECT"),
        ("HTTP/1.0 503\r\n\r\n", "the proxy answered 503 to CONNECT"),
        ("220 mail.example ESMTP\r\n\r\n", garbled),
        ("HTTP/1.1 2x0 no\r\n\r\n", garbled),
        ("HTTP/1.1 200", garbled),
    ];
    let authority = Authority::new();
    for (answer, detail) in cases {
        let mut endpoint = endpoint(1);
        endpoint.proxy = Some(("127.0.0.1".to_owned(), start_proxy(answer).await.port));
        assert_failed(&authority.client(&endpoint).post(&batch("x")).await, Phase::Proxy, detail);
    }
}
