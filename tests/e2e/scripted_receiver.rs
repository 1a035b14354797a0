//! A receiver on loopback, without TLS, whose answers a test writes byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// One request, whose body was read.
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let length =
            lines.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length?];
        reader.read_exact(&mut body).ok()?;
        let line = lines.remove(0);
        Some(Self { line, headers: lines })
    }
}

/// A response with this status line and body, and with these further header lines.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Starts a receiver that answers each request with what `answer` makes of it; returns its port. It ends with the
/// process.
pub(crate) fn start(answer: impl Fn(&Request) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Some(request) = Request::read(&stream) {
                (&stream).write_all(answer(&request).as_bytes()).ok(); // the agent may have been killed
            }
        }
    });
    port
}
