//! Drains that stall, hang up, lie about who they are, or are not there.

use crate::harness::{
    Act, Authority, OK, PATIENCE, Server, batch, delivered, failed, large, proxy, reply, target,
};
use rcgen::date_time_ymd;
use std::io::{Read, Write};
use std::time::Duration;
use tailrace::drain::https::{Client, Stage};
use tailrace::drain::tls::client_config;
use tailrace::drain::verdict::Verdict;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

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
    for patience in [Duration::from_millis(700), PATIENCE] {
        let stall = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nwait for it";
        let server = authority.serve([Act::Stall(stall.to_owned())]).await;
        let mut target = target(server.port);
        target.request_timeout = patience;
        let mut client = authority.client(&target);
        let answer = client.post(&batch("x")).await;
        delivered(&answer);
        // What could be the beginning of a secret (`logs`) is left out.
        assert_eq!(answer.detail, "wait for");
        assert!(answer.elapsed < PATIENCE / 2, "{answer:?}");
        delivered(&client.post(&batch("x")).await);
        assert_eq!(server.seen()[1].connection, 2);
    }
}

#[tokio::test]
async fn a_drain_that_does_not_read_holds_no_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(listener.local_addr().unwrap().port());
    target.tls = false;
    target.request_timeout = Duration::from_millis(300);
    let mut client = Client::new(&target, client_config(&[]).unwrap()).unwrap();
    let batch = batch(vec![b'x'; 16 << 20]);
    failed(&client.post(&batch).await, Stage::Request, "timed out after 300 ms while waiting for the answer");
    let unique = async {
        while !batch.body.is_unique() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, unique).await.unwrap();
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
    failed(&answer, Stage::Request, "the answer is not proper HTTP/1.1: invalid HTTP version parsed");
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
        } else {
            failed(&answer, Stage::Request, "the answer is not proper HTTP/1.1: message head is too large");
        }
        server.until_ended(round).await;
    }
    delivered(&client.post(&batch("x")).await);
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
