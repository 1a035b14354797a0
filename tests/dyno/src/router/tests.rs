use super::*;
use crate::console::tests::blank;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A router before these dynos, what it prints, and who tells it of them.
async fn router(backends: Backends) -> (Router, mpsc::Receiver<String>, watch::Sender<Backends>) {
    let (screen, lines) = blank(false);
    let (sender, receiver) = watch::channel(backends);
    let router =
        Router::start(0, "app", Duration::from_millis(300), receiver, screen, None).await.expect("listens");
    (router, lines, sender)
}

/// A request's or an answer's.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("is there"));
    }
    String::from_utf8(head).expect("is text")
}

/// An app that answers one connection so, and hangs up.
async fn app(answer: &'static str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let port = listener.local_addr().expect("has one").port();
    let head = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("comes");
        let head = head(&mut stream).await;
        if answer == "never" {
            std::future::pending::<()>().await;
        }
        stream.write_all(answer.as_bytes()).await.expect("is taken");
        head
    });
    (port, head)
}

async fn asked(router: &Router) -> String {
    let mut stream = TcpStream::connect(router.address()).await.expect("listens");
    let request = b"GET /x?y=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("is taken");
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await); // a cut answer may end in any way
    String::from_utf8_lossy(&answer).into_owned()
}

async fn line(lines: &mut mpsc::Receiver<String>) -> String {
    let line = timeout(Duration::from_secs(10), lines.recv()).await.expect("in time").expect("is printed");
    line[32..].trim_end().to_owned()
}

#[tokio::test]
async fn an_answer_is_told_as_the_router_tells_it() {
    let (port, head) = app("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello").await;
    let (router, mut lines, _sender) = router(Backends::from([("web.1".to_owned(), State::Up(port))])).await;
    let answer = asked(&router).await;
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    let line = line(&mut lines).await;
    let start = " heroku[router]: at=info method=GET path=\"/x?y=1\" host=app.herokuapp.com request_id=";
    assert!(line.starts_with(start) && line.contains(" fwd=\"127.0.0.1\" dyno=web.1 connect="), "{line}");
    assert!(line.ends_with(" status=201 bytes=5 protocol=http"), "{line}");
    let head = head.await.expect("ends").to_ascii_lowercase();
    assert!(head.contains("x-request-id: ") && head.contains("x-forwarded-proto: https"), "{head}");
    assert_eq!(router.requests(), Requests { sent: 1, by_status: [(201, 1)].into(), failed: [].into() });
}

#[tokio::test]
async fn what_is_no_answer_has_a_code() {
    for (answer, code) in [
        ("", "at=error code=H13 desc=\"Connection closed without response\""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "sock=backend at=error code=H18"),
        ("never", "at=error code=H12 desc=\"Request timeout\""),
    ] {
        let (port, _head) = app(answer).await;
        let (router, mut lines, _sender) =
            router(Backends::from([("web.1".to_owned(), State::Up(port))])).await;
        asked(&router).await;
        let line = line(&mut lines).await;
        assert!(line.contains(code) && line.contains(" status=503 "), "{answer}: {line}");
        assert_eq!(router.requests().failed.len(), 1);
    }
    let nobody = crate::port::free().expect("there is one");
    for (backends, code) in [
        (Backends::from([("web.1".to_owned(), State::Up(nobody))]), "H21"),
        (Backends::from([("web.1".to_owned(), State::Crashed)]), "H10"),
        (Backends::new(), "H14"),
    ] {
        let (router, mut lines, _sender) = router(backends).await;
        assert!(asked(&router).await.starts_with("HTTP/1.1 503 "));
        let line = line(&mut lines).await;
        assert!(line.contains(&format!("at=error code={code} ")), "{line}");
        if code != "H21" {
            assert!(line.ends_with(" dyno= connect= service= status=503 bytes= protocol=http"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_web_socket_goes_both_ways() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let port = listener.local_addr().expect("has one").port();
    let app = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("comes");
        let head = head(&mut stream).await.to_ascii_lowercase();
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.expect("is taken");
        let mut said = [0; 4];
        stream.read_exact(&mut said).await.expect("comes");
        stream.write_all(&[&said[..], b"pong"].concat()).await.expect("is taken");
        head
    });
    let (router, mut lines, _sender) = router(Backends::from([("web.1".to_owned(), State::Up(port))])).await;
    let mut stream = TcpStream::connect(router.address()).await.expect("listens");
    let request =
        b"GET /cable HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request).await.expect("is taken");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    stream.write_all(b"ping").await.expect("is taken");
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await.expect("comes");
    assert_eq!(&answer, b"pingpong");
    drop(stream);
    let line = line(&mut lines).await;
    assert!(
        line.contains("at=info method=GET path=\"/cable\"") && line.contains(" status=101 bytes=8 "),
        "{line}"
    );
    assert!(app.await.expect("ends").contains("upgrade: websocket"));
}

#[tokio::test]
async fn a_request_waits_for_a_dyno_that_starts() {
    let (router, mut lines, sender) = router(Backends::from([("web.1".to_owned(), State::Starting)])).await;
    let address = router.address();
    let asking = tokio::spawn(async move {
        let answer = asked(&router).await;
        (answer, router)
    });
    let (port, _head) = app("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_ne!(address.port(), port);
    sender.send_replace(Backends::from([("web.1".to_owned(), State::Up(port))]));
    let (answer, _router) = asking.await.expect("ends");
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(line(&mut lines).await.contains(" status=204 "));
}
