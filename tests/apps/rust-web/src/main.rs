//! A sample web app: listens on `$PORT`, logs one line per request to standard output in the style of lograge, warnings
//! to standard error, text that is not ASCII, and sometimes a line that is longer than a frame may be.
//!
//! It does not handle signals, so that SIGTERM ends it with status 143, as it does many apps.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Limit for reading a request, and for writing a response.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of a request's head, and of its body.
const HEAD: u64 = 16 << 10;
const BODY: u64 = 64 << 10;
/// Connections that are served at a time; others wait in the listener's queue.
const THREADS: usize = 8;

const CUSTOMERS: [&str; 5] = ["Ann Lee", "Zoë Ångström", "Łukasz Żak", "山田 太郎", "Μαρία Παππά"];

/// The parts of a request that are logged.
struct Request {
    method: String,
    path: String,
    id: String,
}

fn main() -> ExitCode {
    let Some(port) = std::env::var("PORT").ok().and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("PORT: expected the number of a port to listen on");
        return ExitCode::FAILURE;
    };
    let listener = match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => Arc::new(listener),
        Err(error) => {
            eprintln!("cannot listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("=> Booting rust-web");
    println!("* Listening on http://0.0.0.0:{port} with {THREADS} threads");
    let served = Arc::new(AtomicUsize::new(0));
    let workers = (0..THREADS).map(|_| {
        let (listener, served) = (Arc::clone(&listener), Arc::clone(&served));
        thread::spawn(move || work(&listener, &served))
    });
    for worker in workers.collect::<Vec<_>>() {
        if worker.join().is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Accepts and serves connections.
fn work(listener: &TcpListener, served: &AtomicUsize) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let number = served.fetch_add(1, Ordering::Relaxed) + 1;
                if let Err(error) = serve(&stream, number) {
                    eprintln!("W client went away: {error}");
                }
            }
            Err(error) => {
                eprintln!("E accept: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Reads one request, responds, and logs it.
fn serve(stream: &TcpStream, number: usize) -> io::Result<()> {
    let begun = Instant::now();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(request) = read(stream)? else { return Ok(()) };
    let (status, reason, body) = answer(&request);
    let mut out = stream;
    write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    )?;
    if request.method != "HEAD" {
        out.write_all(body.as_bytes())?;
    }
    log(&request, status, number, begun.elapsed());
    Ok(())
}

/// Reads a request, and discards its body; `None` when the client sent nothing.
fn read(stream: &TcpStream) -> io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream.take(HEAD + BODY));
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut parts = line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (parts.next(), parts.next()) else { return Ok(None) };
    let (mut id, mut length) = (String::from("-"), 0);
    loop {
        let mut header = String::new();
        if lines.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "x-request-id" => value.trim().clone_into(&mut id),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    io::copy(&mut lines.take(length), &mut io::sink())?;
    Ok(Some(Request { method, path, id }))
}

fn answer(request: &Request) -> (u16, &'static str, String) {
    let path = request.path.split('?').next().unwrap_or_default();
    match (request.method.as_str(), path) {
        ("POST", "/orders") => (201, "Created", "created\n".to_owned()),
        (_, "/") => (200, "OK", "hello from rust-web\n".to_owned()),
        (_, path) if path.starts_with("/orders") || path == "/search" => {
            (200, "OK", "one order, two lines, 59.90 €\n".repeat(20))
        }
        _ => (404, "Not Found", "nothing here\n".to_owned()),
    }
}

/// Logs a request. Each line is written at once, so that lines of several threads do not mix.
fn log(request: &Request, status: u16, number: usize, took: Duration) {
    let took = took.as_secs_f64() * 1e3;
    let customer = CUSTOMERS[number % CUSTOMERS.len()];
    println!(
        "method={} path={} format=html controller=OrdersController action=show status={status} duration={took:.2} \
         view={:.2} db={:.2} customer=\"{customer}\" request_id={}",
        request.method,
        request.path,
        took * 0.3,
        took * 0.6,
        request.id
    );
    if status == 404 {
        eprintln!("W no route matches [{}] {:?}", request.method, request.path);
    }
    if number.is_multiple_of(7) {
        println!(
            "D SELECT \"orders\".* FROM \"orders\" WHERE \"orders\".\"customer\" = $1 LIMIT $2  [[\"customer\", \
             \"{customer}\"], [\"LIMIT\", 11]]"
        );
    }
    if number.is_multiple_of(25) {
        println!("{}", dump(number));
    }
}

/// A JSON line of about 15,000 bytes, which is longer than a frame may be.
fn dump(number: usize) -> String {
    let mut line = format!("{{\"event\":\"cart\",\"number\":{number},\"items\":[");
    for item in 0..250 {
        let comma = if item == 0 { "" } else { "," };
        let customer = CUSTOMERS[item % CUSTOMERS.len()];
        // Writing to a String cannot fail.
        write!(line, "{comma}{{\"sku\":\"A-{item:05}\",\"for\":\"{customer}\",\"price\":\"59.90 €\"}}").ok();
    }
    line.push_str("]}");
    line
}
