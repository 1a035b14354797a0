//! The platform's own drain, as log-shuttle and Logplex deliver it: a buffer of 1,024 messages that drops the oldest,
//! lines cut at 10,000 bytes, batches of 100 KiB, three attempts, and an L10 notice for dropped messages. All constants
//! are those of heroku/logplex (`src/logplex.app.src`, `src/logplex_http_drain.erl`) and heroku/log-shuttle
//! (`logplex_formatter.go`).

mod connection;

use connection::Connection;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tailrace::frame::Timestamp;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Capacity of Logplex's buffer, in messages.
const BUFFER_MESSAGES: usize = 1024;
/// Lines that log-shuttle, which carries the apps' lines to Logplex, sends at once (`config.go`).
const SHUTTLE_BATCH: usize = 500;
/// Lines that log-shuttle holds: 50 batches.
const SHUTTLE_LINES: usize = 50 * SHUTTLE_BATCH;
/// Interval between two batches of log-shuttle.
const SHUTTLE_INTERVAL: Duration = Duration::from_millis(5);
/// Largest batch in bytes.
const MAX_BATCH_BYTES: usize = 102_400;
/// Longest line in bytes, its LF included.
const MAX_LINE_BYTES: usize = 10_000;
/// Attempts per batch.
const MAX_ATTEMPTS: u32 = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Facility and severity of the router's lines, of the dyno manager's and of the apps' (observed in 2025).
const PRI_ROUTER: u8 = 158;
const PRI_DYNO: u8 = 134;
const PRI_APP: u8 = 190;

/// Splits a dyno's output into messages as log-shuttle does: raw bytes, long lines cut without regard to characters.
#[derive(Debug, Default)]
pub struct LineCutter(Vec<u8>);

impl LineCutter {
    /// Adds bytes, and passes each complete line to `emit`.
    pub fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = MAX_LINE_BYTES - self.0.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n').map(|at| at + 1);
            let (head, rest) = bytes.split_at(end.unwrap_or(room.min(bytes.len())));
            self.0.extend_from_slice(head);
            bytes = rest;
            if end.is_some() || self.0.len() == MAX_LINE_BYTES {
                emit(&self.0);
                self.0.clear();
            }
        }
    }

    /// Passes the last line to `emit` if it has no LF.
    pub fn finish(&mut self, mut emit: impl FnMut(&[u8])) {
        if !self.0.is_empty() {
            emit(&self.0);
            self.0.clear();
        }
    }
}

/// Dropped messages that are not yet announced.
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

    /// The L10 notice, which is the first frame of the next request. It has no LF.
    fn frame(&self) -> Vec<u8> {
        let now = Timestamp::from_micros(Timestamp::now().as_micros());
        let message = format!(
            "<172>1 {now} host heroku logplex - Error L10 (output buffer overflow): {} messages dropped since {}.",
            self.messages, self.since
        );
        format!("{} {message}", message.len()).into_bytes()
    }
}

#[derive(Debug, Default)]
struct Buffer {
    /// Frames in log-shuttle.
    shuttle: VecDeque<Vec<u8>>,
    /// Frames in Logplex.
    frames: VecDeque<Vec<u8>>,
    loss: Loss,
    /// Messages that were accepted, by dyno or part of the platform.
    counts: BTreeMap<String, MessageCounts>,
}

/// Messages of one source that were accepted for delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// Messages of the app.
    pub app: u64,
    /// Messages of the platform.
    pub platform: u64,
}

/// A batch to deliver.
struct Batch {
    body: Vec<u8>,
    /// Number of frames, the notice included.
    count: u64,
    /// The loss that its notice announces.
    loss: Loss,
    since: String,
}

/// Where batches are delivered.
#[derive(Clone, Debug)]
pub struct Destination {
    /// URL of the drain.
    pub url: String,
    /// Drain token.
    pub token: String,
    /// CA certificates, PEM.
    pub ca_file: Box<Path>,
}

/// The platform's own drain.
#[derive(Debug, Default)]
pub struct Logplex {
    buffer: Mutex<Buffer>,
    /// Lines were added to log-shuttle.
    shuttle_ready: Notify,
    /// Lines were added to Logplex's buffer.
    frames_ready: Notify,
}

impl Logplex {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a line of an app, including its LF if it has one.
    pub fn add_app_line(&self, dyno: &str, line: &[u8]) {
        self.buffer().counts.entry(dyno.to_owned()).or_default().app += 1;
        self.add_message(PRI_APP, "app", dyno, line);
    }

    /// Accepts a line of the platform, without LF.
    pub fn add_platform_line(&self, proc_id: &str, line: &str) {
        let pri = if proc_id == "router" { PRI_ROUTER } else { PRI_DYNO };
        let app = if proc_id == "api" { "app" } else { "heroku" };
        self.buffer().counts.entry(proc_id.to_owned()).or_default().platform += 1;
        self.add_message(pri, app, proc_id, format!("{line}\n").as_bytes());
    }

    fn add_message(&self, pri: u8, app: &str, proc_id: &str, text: &[u8]) {
        let time = now();
        let header = format!("<{pri}>1 {time} host {app} {proc_id} - ");
        let mut frame = format!("{} {header}", header.len() + text.len()).into_bytes();
        frame.extend_from_slice(text);
        let mut buffer = self.buffer();
        if buffer.shuttle.len() == SHUTTLE_LINES {
            buffer.loss.add(1, &time);
        } else {
            buffer.shuttle.push_back(frame);
        }
        drop(buffer);
        self.shuttle_ready.notify_one();
    }

    /// Moves one batch from log-shuttle to Logplex's buffer, which drops its oldest messages when it is full.
    fn transfer_shuttle_batch(&self) {
        let mut buffer = self.buffer();
        for _ in 0..SHUTTLE_BATCH {
            let Some(frame) = buffer.shuttle.pop_front() else { break };
            if buffer.frames.len() == BUFFER_MESSAGES {
                buffer.frames.pop_front();
                buffer.loss.add(1, &now());
            }
            buffer.frames.push_back(frame);
        }
    }

    /// Runs log-shuttle until this future is dropped. It does not slow down when Logplex's buffer is full.
    async fn run_shuttle(&self) {
        loop {
            self.transfer_shuttle_batch();
            self.frames_ready.notify_one();
            let is_empty = self.buffer().shuttle.is_empty();
            if is_empty {
                self.shuttle_ready.notified().await;
            } else {
                sleep(SHUTTLE_INTERVAL).await;
            }
        }
    }

    /// The accepted messages by source.
    pub fn message_counts(&self) -> BTreeMap<String, MessageCounts> {
        self.buffer().counts.clone()
    }

    /// Takes the next batch out of the buffer.
    fn next_batch(&self) -> Option<Batch> {
        let mut buffer = self.buffer();
        if buffer.frames.is_empty() {
            return None;
        }
        let loss = std::mem::take(&mut buffer.loss);
        let mut batch = Batch { body: Vec::new(), count: 0, loss, since: now() };
        if batch.loss.messages > 0 {
            batch.body = batch.loss.frame();
            batch.count = 1;
        }
        while let Some(frame) = buffer.frames.front() {
            if !batch.body.is_empty() && batch.body.len() + frame.len() > MAX_BATCH_BYTES {
                break;
            }
            batch.body.extend_from_slice(frame);
            batch.count += 1;
            buffer.frames.pop_front();
        }
        Some(batch)
    }

    /// Counts a batch that could not be delivered as dropped; the next batch announces it.
    fn record_loss(&self, batch: &Batch) {
        let notices = u64::from(batch.loss.messages > 0);
        let since = if notices > 0 { &batch.loss.since } else { &batch.since };
        let mut buffer = self.buffer();
        buffer.loss.add(batch.loss.messages + batch.count - notices, since);
    }

    /// Delivers until this future is dropped. Requests are sent one after the other.
    pub async fn deliver(self: Arc<Self>, destination: Destination) {
        let send_batches = async {
            let mut connection = None;
            loop {
                let Some(batch) = self.next_batch() else {
                    self.frames_ready.notified().await;
                    continue;
                };
                if !send_with_retries(&batch, &mut connection, &destination).await {
                    self.record_loss(&batch);
                }
            }
        };
        tokio::select! {
            () = self.run_shuttle() => {}
            () = send_batches => {}
        }
    }

    /// Waits until all messages have been sent, for at most `limit`. Logplex outlives the dynos.
    pub async fn wait_until_idle(&self, limit: Duration) {
        let idle = async {
            let has_messages = || {
                let buffer = self.buffer();
                !buffer.frames.is_empty() || !buffer.shuttle.is_empty()
            };
            while has_messages() {
                sleep(Duration::from_millis(20)).await;
            }
            sleep(Duration::from_millis(100)).await; // for the request with the last batch
        };
        timeout(limit, idle).await.ok(); // what is left then counts as missing
    }
}

/// The current time as in RFC 5424 headers.
fn now() -> String {
    Timestamp::from_micros(Timestamp::now().as_micros()).to_string()
}

/// Sends a batch in up to three attempts; returns whether it was accepted.
async fn send_with_retries(
    batch: &Batch,
    connection: &mut Option<Connection>,
    destination: &Destination,
) -> bool {
    let id = format!("{:032X}", fastrand::u128(..));
    for attempt in 0..MAX_ATTEMPTS {
        if connection.is_none() {
            if attempt > 0 {
                sleep(retry_delay(attempt)).await;
            }
            let opened = timeout(CONNECT_TIMEOUT, Connection::open(destination)).await;
            *connection = opened.ok().and_then(Result::ok);
        }
        let Some(open) = connection else { continue };
        let posted = timeout(REQUEST_TIMEOUT, open.post(&batch.body, batch.count, &id, &destination.token));
        match posted.await {
            Ok(Ok(200..=299)) => return true,
            Ok(Ok(status @ 400..=499)) if status != 429 => return false,
            _ => *connection = None,
        }
    }
    false
}

/// The delay before attempt n: `10 ms × trunc((2^k − 1)/2)`, k uniform in 1..=n.
fn retry_delay(attempt: u32) -> Duration {
    let k = fastrand::u32(1..=attempt.min(10));
    Duration::from_millis(10 * (((1 << k) - 1) / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_lengths(parts: &[&[u8]]) -> Vec<usize> {
        let (mut cutter, mut lengths) = (LineCutter::default(), Vec::new());
        for part in parts {
            cutter.push(part, |line| lengths.push(line.len()));
        }
        cutter.finish(|line| lengths.push(line.len()));
        lengths
    }

    #[test]
    fn lines_are_cut_as_log_shuttle_cuts_them() {
        let line = |length: usize| [&vec![b'x'; length][..], b"\n"].concat();
        assert_eq!(cut_lengths(&[&line(9_999)]), [10_000]);
        assert_eq!(cut_lengths(&[&line(10_000)]), [10_000, 1]);
        assert_eq!(cut_lengths(&[&line(29_800)]), [10_000, 10_000, 9_801]);
        assert_eq!(cut_lengths(&[b"a\nb", b"c\n\nlast"]), [2, 3, 1, 4]);
    }

    #[test]
    fn a_full_buffer_drops_the_oldest_messages_and_announces_them() {
        let logplex = Logplex::default();
        for number in 0..BUFFER_MESSAGES + 5 {
            logplex.add_app_line("web.1", format!("{number}\n").as_bytes());
        }
        for _ in 0..=BUFFER_MESSAGES / SHUTTLE_BATCH {
            logplex.transfer_shuttle_batch();
        }
        let batch = logplex.next_batch().expect("is not empty");
        let text = String::from_utf8(batch.body.clone()).expect("is text");
        assert!(text.contains("Error L10 (output buffer overflow): 5 messages dropped since "), "{text}");
        assert!(!text.contains(" - 4\n") && text.contains(" - 5\n"));
        assert_eq!(batch.count, BUFFER_MESSAGES as u64 + 1);
        logplex.record_loss(&batch);
        assert_eq!(logplex.buffer().loss.messages, BUFFER_MESSAGES as u64 + 5);
        logplex.add_platform_line("web.1", "State changed from up to down");
        assert_eq!(
            logplex.message_counts()["web.1"],
            MessageCounts { app: BUFFER_MESSAGES as u64 + 5, platform: 1 }
        );
    }
}
