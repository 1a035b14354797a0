use super::*;
use crate::console::tests::captured;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A router under test.
struct Fixture {
    router: Router,
    /// What it prints.
    lines: mpsc::Receiver<String>,
    /// Sets the states of the dynos.
    backends: watch::Sender<Backends>,
}

async fn start(backends: Backends) -> Fixture {
    let (console, lines) = captured();
    let (sender, receiver) = watch::channel(backends);
    let router = Router::start(RouterOptions {
        port: 0,
        app_name: "app",
        request_timeout: Duration::from_millis(300),
        backends: receiver,
        console,
        logplex: None,
    });
    Fixture { router: router.await.expect("listens"), lines, backends: sender }
}

/// Reads the head of a request or a response.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("is complete"));
    }
    String::from_utf8(head).expect("is text")
}

/// An app that sends this response to one request, and closes the connection. Returns its port and the request's head.
async fn app(response: &'static str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let port = listener.local_addr().expect("is bound").port();
    let head = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("arrives");
        let head = read_head(&mut stream).await;
        if response == "never" {
            std::future::pending::<()>().await;
        }
        stream.write_all(response.as_bytes()).await.expect("is read");
        head
    });
    (port, head)
}

/// Sends a request to the router, and reads the response.
async fn request(router: &Router) -> String {
    let mut stream = TcpStream::connect(router.address()).await.expect("listens");
    let request = b"GET /x?y=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("is read");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.ok(); // fails when the response is cut off
    String::from_utf8_lossy(&response).into_owned()
}

async fn next_line(lines: &mut mpsc::Receiver<String>) -> String {
    let line = timeout(Duration::from_secs(10), lines.recv()).await.expect("in time").expect("is printed");
    line[32..].trim_end().to_owned()
}

#[tokio::test]
async fn a_response_is_logged_as_the_platform_logs_it() {
    let (port, head) = app("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello").await;
    let Fixture { router, mut lines, backends: _backends } =
        start(Backends::from([("web.1".to_owned(), BackendState::Up(port))])).await;
    let response = request(&router).await;
    assert!(response.starts_with("HTTP/1.1 201 ") && response.ends_with("\r\n\r\nhello"), "{response}");
    let line = next_line(&mut lines).await;
    let start = " heroku[router]: at=info method=GET path=\"/x?y=1\" host=app.herokuapp.com request_id=";
    assert!(line.starts_with(start) && line.contains(" fwd=\"127.0.0.1\" dyno=web.1 connect="), "{line}");
    assert!(line.ends_with(" status=201 bytes=5 protocol=http"), "{line}");
    let head = head.await.expect("ends").to_ascii_lowercase();
    assert!(head.contains("x-request-id: ") && head.contains("x-forwarded-proto: https"), "{head}");
    assert_eq!(router.requests(), Requests { sent: 1, by_status: [(201, 1)].into(), failed: [].into() });
}

#[tokio::test]
async fn a_request_without_a_complete_response_has_an_error_code() {
    for (response, code) in [
        ("", "at=error code=H13 desc=\"Connection closed without response\""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "sock=backend at=error code=H18"),
        ("never", "at=error code=H12 desc=\"Request timeout\""),
    ] {
        let (port, _head) = app(response).await;
        let Fixture { router, mut lines, backends: _backends } =
            start(Backends::from([("web.1".to_owned(), BackendState::Up(port))])).await;
        request(&router).await;
        let line = next_line(&mut lines).await;
        assert!(line.contains(code) && line.contains(" status=503 "), "{response}: {line}");
        assert_eq!(router.requests().failed.len(), 1);
    }
    let unused = crate::port::find_free().expect("a port is free");
    for (backends, code) in [
        (Backends::from([("web.1".to_owned(), BackendState::Up(unused))]), "H21"),
        (Backends::from([("web.1".to_owned(), BackendState::Crashed)]), "H10"),
        (Backends::new(), "H14"),
    ] {
        let Fixture { router, mut lines, backends: _backends } = start(backends).await;
        assert!(request(&router).await.starts_with("HTTP/1.1 503 "));
        let line = next_line(&mut lines).await;
        assert!(line.contains(&format!("at=error code={code} ")), "{line}");
        if code != "H21" {
            assert!(line.ends_with(" dyno= connect= service= status=503 bytes= protocol=http"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_web_socket_is_tunneled_both_ways() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let port = listener.local_addr().expect("is bound").port();
    let app = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("arrives");
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        let response =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(response.as_bytes()).await.expect("is read");
        let mut received = [0; 4];
        stream.read_exact(&mut received).await.expect("arrives");
        stream.write_all(&[&received[..], b"pong"].concat()).await.expect("is read");
        head
    });
    let Fixture { router, mut lines, backends: _backends } =
        start(Backends::from([("web.1".to_owned(), BackendState::Up(port))])).await;
    let mut stream = TcpStream::connect(router.address()).await.expect("listens");
    let request =
        b"GET /cable HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request).await.expect("is read");
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    stream.write_all(b"ping").await.expect("is read");
    let mut response = [0; 8];
    stream.read_exact(&mut response).await.expect("arrives");
    assert_eq!(&response, b"pingpong");
    drop(stream);
    let line = next_line(&mut lines).await;
    assert!(
        line.contains("at=info method=GET path=\"/cable\"") && line.contains(" status=101 bytes=8 "),
        "{line}"
    );
    assert!(app.await.expect("ends").contains("upgrade: websocket"));
}

#[tokio::test]
async fn a_request_waits_for_a_dyno_that_is_starting() {
    let Fixture { router, mut lines, backends } =
        start(Backends::from([("web.1".to_owned(), BackendState::Starting)])).await;
    let address = router.address();
    let client = tokio::spawn(async move {
        let response = request(&router).await;
        (response, router)
    });
    let (port, _head) = app("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_ne!(address.port(), port);
    backends.send_replace(Backends::from([("web.1".to_owned(), BackendState::Up(port))]));
    let (response, _router) = client.await.expect("ends");
    assert!(response.starts_with("HTTP/1.1 204 "), "{response}");
    assert!(next_line(&mut lines).await.contains(" status=204 "));
}
