//! Files over HTTP on loopback: the stand-in for rustup's server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A server that is stopped when it is dropped.
pub(crate) struct FileServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl FileServer {
    /// Serves these files, by path.
    pub(crate) fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                match answer(&mut stream.unwrap(), &files) {
                    Some(path) if path == STOP => return,
                    Some(path) => log.lock().unwrap().push(path),
                    None => {} // no request
                }
            }
        });
        Self { address, requests, thread: Some(thread) }
    }

    /// Its address, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The paths that were requested so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

const STOP: &str = "/stop";

/// Answers one request; returns its path.
fn answer(stream: &mut TcpStream, files: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
    let (status, body) = files.get(&path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", body));
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).ok(); // the client may be gone
    Some(path)
}

impl Drop for FileServer {
    fn drop(&mut self) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {STOP} HTTP/1.1\r\n\r\n").unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}
