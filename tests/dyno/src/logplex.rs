//! The platform's own drain, as Logplex plays it: 1,024 messages of buffer of which the oldest goes first, lines cut at
//! 10,000 bytes, batches of 100 KiB, three attempts, and an L10 notice for what was lost. All constants are those of
//! heroku/logplex (`src/logplex.app.src`, `src/logplex_http_drain.erl`) and heroku/log-shuttle (`logplex_formatter.go`).

mod connection;

use connection::Connection;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tailrace::frame::{StampText, now_micros};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Messages in the buffer.
const BUFFER: usize = 1024;
/// What log-shuttle, which brings the apps' lines, sends at once, and what it holds (`config.go`): batches of 500.
const SHUTTLE: usize = 500;
const SHUTTLES: usize = 50 * SHUTTLE;
/// Between two of its batches.
const PACE: Duration = Duration::from_millis(5);
/// Bytes of a batch.
const BATCH: usize = 102_400;
/// Bytes of a line with its LF.
const LINE: usize = 10_000;
/// Attempts per batch.
const ATTEMPTS: u32 = 3;
/// What a connection may take, and a request.
const CONNECT: Duration = Duration::from_secs(3);
const REQUEST: Duration = Duration::from_secs(5);
/// Lines of the router, and of the dyno manager (facility and severity as seen in 2025).
const PRI_ROUTER: u8 = 158;
const PRI_DYNO: u8 = 134;
const PRI_APP: u8 = 190;

/// Lines of a dyno's output as log-shuttle makes messages of them: raw bytes, cut without regard for characters.
#[derive(Debug, Default)]
pub struct LineCutter(Vec<u8>);

impl LineCutter {
    /// Takes bytes; `is_end` when none will follow.
    pub fn push(&mut self, mut bytes: &[u8], is_end: bool, mut take: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LINE - self.0.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n').map(|at| at + 1);
            let (now, rest) = bytes.split_at(end.unwrap_or(room.min(bytes.len())));
            self.0.extend_from_slice(now);
            bytes = rest;
            if end.is_some() || self.0.len() == LINE {
                take(&self.0);
                self.0.clear();
            }
        }
        if is_end && !self.0.is_empty() {
            take(&self.0);
            self.0.clear();
        }
    }
}

/// What was lost, and since when.
#[derive(Clone, Debug, Default)]
struct Loss {
    messages: u64,
    since: String,
}

impl Loss {
    fn add(&mut self, messages: u64, since: &str) {
        if self.messages == 0 {
            since.clone_into(&mut self.since);
        }
        self.messages += messages;
    }

    /// The notice, the first frame of the next request. It has no LF.
    fn frame(&self) -> Vec<u8> {
        let now = StampText::of(now_micros());
        let message = format!(
            "<172>1 {now} host heroku logplex - Error L10 (output buffer overflow): {} messages dropped since {}.",
            self.messages, self.since
        );
        format!("{} {message}", message.len()).into_bytes()
    }
}

#[derive(Debug, Default)]
struct Buffer {
    /// On the way to the buffer.
    shuttle: VecDeque<Vec<u8>>,
    frames: VecDeque<Vec<u8>>,
    loss: Loss,
    /// What was taken, by dyno or part of the platform.
    taken: BTreeMap<String, MessageCounts>,
}

/// Messages that were taken from one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// Of the app.
    pub app: u64,
    /// Of the platform.
    pub platform: u64,
}

/// A batch on its way.
struct Batch {
    body: Vec<u8>,
    count: u64,
    loss: Loss,
    since: String,
}

/// The platform's drain.
#[derive(Debug, Default)]
pub struct Logplex {
    buffer: Mutex<Buffer>,
    /// Lines came.
    news: Notify,
    /// Lines came into the buffer.
    fresh: Notify,
}

impl Logplex {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of an app, with its LF when it has one.
    pub fn app(&self, dyno: &str, line: &[u8]) {
        self.buffer().taken.entry(dyno.to_owned()).or_default().app += 1;
        self.message(PRI_APP, "app", dyno, line);
    }

    /// A line of the platform.
    pub fn platform(&self, proc_id: &str, line: &str) {
        let pri = if proc_id == "router" { PRI_ROUTER } else { PRI_DYNO };
        let app = if proc_id == "api" { "app" } else { "heroku" };
        self.buffer().taken.entry(proc_id.to_owned()).or_default().platform += 1;
        self.message(pri, app, proc_id, format!("{line}\n").as_bytes());
    }

    fn message(&self, pri: u8, app: &str, proc_id: &str, text: &[u8]) {
        let stamp = StampText::of(now_micros());
        let header = format!("<{pri}>1 {stamp} host {app} {proc_id} - ");
        let mut frame = format!("{} {header}", header.len() + text.len()).into_bytes();
        frame.extend_from_slice(text);
        let mut buffer = self.buffer();
        if buffer.shuttle.len() == SHUTTLES {
            buffer.loss.add(1, &stamp.to_string());
        } else {
            buffer.shuttle.push_back(frame);
        }
        drop(buffer);
        self.news.notify_one();
    }

    /// One batch of log-shuttle arrives.
    fn arrive(&self) {
        let mut buffer = self.buffer();
        for _ in 0..SHUTTLE {
            let Some(frame) = buffer.shuttle.pop_front() else { break };
            if buffer.frames.len() == BUFFER {
                buffer.frames.pop_front();
                buffer.loss.add(1, &stamp());
            }
            buffer.frames.push_back(frame);
        }
    }

    /// Brings lines to the buffer until this future is dropped, whatever becomes of those that are there.
    async fn bring(&self) {
        loop {
            self.arrive();
            self.fresh.notify_one();
            let is_empty = self.buffer().shuttle.is_empty();
            if is_empty {
                self.news.notified().await;
            } else {
                sleep(PACE).await;
            }
        }
    }

    /// What was taken, by source.
    pub fn taken(&self) -> BTreeMap<String, MessageCounts> {
        self.buffer().taken.clone()
    }

    fn take(&self) -> Option<Batch> {
        let mut buffer = self.buffer();
        if buffer.frames.is_empty() {
            return None;
        }
        let loss = std::mem::take(&mut buffer.loss);
        let mut batch = Batch { body: Vec::new(), count: 0, loss, since: stamp() };
        if batch.loss.messages > 0 {
            batch.body = batch.loss.frame();
            batch.count = 1;
        }
        while let Some(frame) = buffer.frames.front() {
            if !batch.body.is_empty() && batch.body.len() + frame.len() > BATCH {
                break;
            }
            batch.body.extend_from_slice(frame);
            batch.count += 1;
            buffer.frames.pop_front();
        }
        Some(batch)
    }

    /// What could not be delivered is announced with the next batch.
    fn lost(&self, batch: &Batch) {
        let notice = u64::from(batch.loss.messages > 0);
        let since = if notice > 0 { &batch.loss.since } else { &batch.since };
        let mut buffer = self.buffer();
        buffer.loss.add(batch.loss.messages + batch.count - notice, since);
    }

    /// Delivers until this future is dropped. Only one request is under way at a time.
    pub async fn deliver(self: Arc<Self>, url: String, token: String, ca_file: Box<Path>) {
        let post = async {
            let mut connection = None;
            loop {
                let Some(batch) = self.take() else {
                    self.fresh.notified().await;
                    continue;
                };
                if !attempts(&batch, &mut connection, &url, &token, &ca_file).await {
                    self.lost(&batch);
                }
            }
        };
        tokio::select! {
            () = self.bring() => {}
            () = post => {}
        }
    }

    /// Waits until nothing waits any more, or `patience` is over. Logplex outlives the dynos.
    pub async fn rest(&self, patience: Duration) {
        let empty = async {
            let waits = || {
                let buffer = self.buffer();
                !buffer.frames.is_empty() || !buffer.shuttle.is_empty()
            };
            while waits() {
                sleep(Duration::from_millis(20)).await;
            }
            sleep(Duration::from_millis(100)).await; // the last batch is on its way
        };
        let _or_never = timeout(patience, empty).await;
    }
}

fn stamp() -> String {
    StampText::of(now_micros()).to_string()
}

/// Up to three attempts; whether one of them was answered for good.
async fn attempts(
    batch: &Batch,
    connection: &mut Option<Connection>,
    url: &str,
    token: &str,
    ca_file: &Path,
) -> bool {
    let id = format!("{:032X}", fastrand::u128(..));
    for attempt in 0..ATTEMPTS {
        if connection.is_none() {
            if attempt > 0 {
                sleep(slot(attempt)).await;
            }
            *connection = timeout(CONNECT, Connection::open(url, ca_file)).await.ok().and_then(Result::ok);
        }
        let Some(open) = connection else { continue };
        match timeout(REQUEST, open.post(&batch.body, batch.count, &id, token)).await {
            Ok(Ok(200..=299)) => return true,
            Ok(Ok(status @ 400..=499)) if status != 429 => return false,
            _ => *connection = None,
        }
    }
    false
}

/// Before an attempt: `10 ms × trunc((2^k − 1)/2)`, k uniform in 1..=n.
fn slot(attempt: u32) -> Duration {
    let k = fastrand::u32(1..=attempt.min(10));
    Duration::from_millis(10 * (((1 << k) - 1) / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(parts: &[&[u8]]) -> Vec<usize> {
        let (mut cutter, mut lengths) = (LineCutter::default(), Vec::new());
        for part in parts {
            cutter.push(part, false, |line| lengths.push(line.len()));
        }
        cutter.push(&[], true, |line| lengths.push(line.len()));
        lengths
    }

    #[test]
    fn lines_are_cut_as_log_shuttle_cuts_them() {
        let line = |length: usize| [&vec![b'x'; length][..], b"\n"].concat();
        assert_eq!(cut(&[&line(9_999)]), [10_000]);
        assert_eq!(cut(&[&line(10_000)]), [10_000, 1]);
        assert_eq!(cut(&[&line(29_800)]), [10_000, 10_000, 9_801]);
        assert_eq!(cut(&[b"a\nb", b"c\n\nlast"]), [2, 3, 1, 4]);
    }

    #[test]
    fn the_oldest_go_first_and_are_announced() {
        let logplex = Logplex::default();
        for number in 0..BUFFER + 5 {
            logplex.app("web.1", format!("{number}\n").as_bytes());
        }
        for _ in 0..=BUFFER / SHUTTLE {
            logplex.arrive();
        }
        let batch = logplex.take().expect("there is one");
        let text = String::from_utf8(batch.body.clone()).expect("is text");
        assert!(text.contains("Error L10 (output buffer overflow): 5 messages dropped since "), "{text}");
        assert!(!text.contains(" - 4\n") && text.contains(" - 5\n"));
        assert_eq!(batch.count, BUFFER as u64 + 1);
        logplex.lost(&batch);
        assert_eq!(logplex.buffer().loss.messages, BUFFER as u64 + 5);
        logplex.platform("web.1", "State changed from up to down");
        assert_eq!(logplex.taken()["web.1"], MessageCounts { app: BUFFER as u64 + 5, platform: 1 });
    }
}
