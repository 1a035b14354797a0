//! What keeper and shipper say to each other: one message per line of text, over a Unix stream socket.
//!
//! The keeper holds the truth. The shipper asks before it sends (`seal`) and tells what came of it; a new
//! shipper is told all segments, and per drain where it goes on (`window`) or what is sealed (`plan`).

use crate::ledger::SegmentLocation;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Supervisor to shipper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToShipper {
    /// A segment was opened at this offset.
    Segment {
        /// Offset of its first byte.
        start: u64,
        /// Where it is.
        place: SegmentLocation,
    },
    /// Frames are booked up to this offset.
    LogEnd(u64),
    /// The drain may seal from `cursor` up to `limit`.
    SealRange {
        /// Index of the drain.
        drain: usize,
        /// Where its next batch starts.
        cursor: u64,
        /// Where that ends at the latest.
        limit: u64,
    },
    /// The drain has this batch to deliver, and no other.
    SealedBatch {
        /// Index of the drain.
        drain: usize,
        /// Offset of the first byte.
        start: u64,
        /// Offset behind the last byte.
        end: u64,
        /// Frames in the range, without the notice.
        frames: u64,
        /// `Logplex-Frame-Id`.
        id: String,
        /// The loss notice that goes first: a whole frame, or nothing.
        notice: Vec<u8>,
    },
    /// Ship without waiting for fuller batches; delivery ends in so many ms at the latest.
    Deadline(u64),
    /// No more frames will come: go when everything is answered for.
    EndOfLog,
    /// Signals that wait for you are of no more use: forget them.
    ClearPendingSignals,
}

/// Shipper to keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToSupervisor {
    /// Nothing hangs here.
    Ping,
    /// May I send this range?
    SealRequest {
        /// Index of the drain.
        drain: usize,
        /// Offset of the first byte.
        start: u64,
        /// Offset behind the last byte.
        end: u64,
        /// Frames in it.
        frames: u64,
    },
    /// The drain took the sealed batch.
    Delivered {
        /// Index of the drain.
        drain: usize,
    },
    /// The drain refused the sealed batch for good.
    Rejected {
        /// Index of the drain.
        drain: usize,
        /// HTTP status.
        status: u16,
        /// What it said, cut short.
        detail: String,
    },
    /// An attempt that will be repeated.
    AttemptFailed {
        /// Index of the drain.
        drain: usize,
        /// HTTP status; 0 when there was none.
        status: u16,
        /// A person has to act before it can succeed.
        hold: bool,
        /// Until the next attempt, in ms.
        wait: u64,
        /// What went wrong.
        detail: String,
    },
    /// There are no frames at this offset, the drain's cursor.
    SpoolDamaged {
        /// Index of the drain.
        drain: usize,
        /// Offset in the spool.
        at: u64,
    },
}

/// A line that is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMessage(String);

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a message between keeper and shipper: {:?}", self.0)
    }
}

impl std::error::Error for BadMessage {}

/// What goes over a [`Connection`].
pub trait Message: Sized {
    /// Appends the message, with its LF.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads it back, without its LF.
    fn read(line: &[u8]) -> Option<Self>;
}

/// Text that may hold anything, on one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn word(&mut self) -> Option<&'a str> {
        let end = memchr::memchr(b' ', self.0).unwrap_or(self.0.len());
        let word = std::str::from_utf8(&self.0[..end]).ok()?;
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        Some(word)
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.word()?.parse().ok()
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }

    fn text(self) -> String {
        String::from_utf8_lossy(self.0).into_owned()
    }
}

impl Message for ToShipper {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Segment { start, place: SegmentLocation::Memory(slot) } => {
                out.extend_from_slice(format!("segment {start} memory {slot}").as_bytes());
            }
            Self::Segment { start, place: SegmentLocation::File(path) } => {
                out.extend_from_slice(format!("segment {start} file ").as_bytes());
                // The one byte that a path may have and a line may not.
                let path = path.as_os_str().as_bytes();
                out.extend(path.iter().map(|b| if *b == b'\n' { 0 } else { *b }));
            }
            Self::LogEnd(offset) => out.extend_from_slice(format!("log-end {offset}").as_bytes()),
            Self::SealRange { drain, cursor, limit } => {
                out.extend_from_slice(format!("seal-range {drain} {cursor} {limit}").as_bytes());
            }
            Self::SealedBatch { drain, start, end, frames, id, notice } => {
                out.extend_from_slice(
                    format!("sealed-batch {drain} {start} {end} {frames} {id} ").as_bytes(),
                );
                out.extend_from_slice(notice.strip_suffix(b"\n").unwrap_or(notice));
            }
            Self::Deadline(millis) => out.extend_from_slice(format!("deadline {millis}").as_bytes()),
            Self::EndOfLog => out.extend_from_slice(b"end-of-log"),
            Self::ClearPendingSignals => out.extend_from_slice(b"clear-pending-signals"),
        }
        out.push(b'\n');
    }

    fn read(line: &[u8]) -> Option<Self> {
        let mut words = Words(line);
        Some(match words.word()? {
            "segment" => {
                let start = words.number()?;
                let place = match words.word()? {
                    "memory" => SegmentLocation::Memory(words.number()?),
                    "file" => {
                        let path = words.rest().iter().map(|b| if *b == 0 { b'\n' } else { *b }).collect();
                        SegmentLocation::File(PathBuf::from(OsString::from_vec(path)))
                    }
                    _ => return None,
                };
                Self::Segment { start, place }
            }
            "log-end" => Self::LogEnd(words.number()?),
            "seal-range" => {
                Self::SealRange { drain: words.number()?, cursor: words.number()?, limit: words.number()? }
            }
            "sealed-batch" => {
                let (drain, start, end, frames) =
                    (words.number()?, words.number()?, words.number()?, words.number()?);
                let id = words.word()?.to_owned();
                let mut notice = words.rest().to_vec();
                if !notice.is_empty() {
                    notice.push(b'\n');
                }
                Self::SealedBatch { drain, start, end, frames, id, notice }
            }
            "deadline" => Self::Deadline(words.number()?),
            "end-of-log" => Self::EndOfLog,
            "clear-pending-signals" => Self::ClearPendingSignals,
            _ => return None,
        })
    }
}

impl Message for ToSupervisor {
    fn write(&self, out: &mut Vec<u8>) {
        let text = match self {
            Self::Ping => "ping".to_owned(),
            Self::SealRequest { drain, start, end, frames } => {
                format!("seal-request {drain} {start} {end} {frames}")
            }
            Self::Delivered { drain } => format!("delivered {drain}"),
            Self::Rejected { drain, status, detail } => {
                format!("rejected {drain} {status} {}", one_line(detail))
            }
            Self::AttemptFailed { drain, status, hold, wait, detail } => {
                format!("attempt-failed {drain} {status} {hold} {wait} {}", one_line(detail))
            }
            Self::SpoolDamaged { drain, at } => format!("spool-damaged {drain} {at}"),
        };
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }

    fn read(line: &[u8]) -> Option<Self> {
        let mut words = Words(line);
        Some(match words.word()? {
            "ping" => Self::Ping,
            "seal-request" => Self::SealRequest {
                drain: words.number()?,
                start: words.number()?,
                end: words.number()?,
                frames: words.number()?,
            },
            "delivered" => Self::Delivered { drain: words.number()? },
            "rejected" => {
                let (drain, status) = (words.number()?, words.number()?);
                Self::Rejected { drain, status, detail: words.text() }
            }
            "attempt-failed" => {
                let (drain, status) = (words.number()?, words.number()?);
                let (hold, wait) = (words.number()?, words.number()?);
                Self::AttemptFailed { drain, status, hold, wait, detail: words.text() }
            }
            "spool-damaged" => Self::SpoolDamaged { drain: words.number()?, at: words.number()? },
            _ => return None,
        })
    }
}

/// Bytes that came in, cut into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: VecDeque<u8>,
}

impl Decoder {
    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next whole message.
    pub fn take<M: Message>(&mut self) -> Option<Result<M, BadMessage>> {
        let bytes = self.bytes.make_contiguous();
        let end = memchr::memchr(b'\n', bytes)?;
        let line = &bytes[..end];
        let message = M::read(line).ok_or_else(|| BadMessage(String::from_utf8_lossy(line).into_owned()));
        self.bytes.drain(..=end);
        Some(message)
    }
}

/// The keeper's end of the socket: it never blocks, and what it holds back is bounded by who fills it.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    decoder: Decoder,
    outbox: Vec<u8>,
    closed: bool,
}

impl Connection {
    /// What may wait for a peer that does not read before news are held back, in bytes.
    pub const OUTBOX: usize = 16 << 10;

    /// Makes the socket non-blocking.
    ///
    /// # Errors
    /// When the socket cannot be made so.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, decoder: Decoder::default(), outbox: Vec::new(), closed: false })
    }

    /// The socket, to poll it.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// The peer is gone, or talks nonsense.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes wait for the peer.
    pub fn is_pending(&self) -> bool {
        !self.outbox.is_empty() && !self.closed
    }

    /// Whether news may be added.
    pub fn has_room(&self) -> bool {
        self.outbox.len() < Self::OUTBOX && !self.closed
    }

    /// Adds a message; [`Connection::flush`] sends it.
    pub fn send(&mut self, message: &impl Message) {
        if !self.closed {
            message.write(&mut self.outbox);
        }
    }

    /// Writes what the peer takes.
    pub fn flush(&mut self) {
        while self.is_pending() {
            match self.socket.write(&self.outbox) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.closed = true,
            }
        }
    }

    /// Reads what there is, some KiB at most per call.
    pub fn fill(&mut self) {
        let mut bytes = [0; 4096];
        for _ in 0..16 {
            match self.socket.read(&mut bytes) {
                Ok(0) => self.closed = true,
                Ok(more) => self.decoder.push(&bytes[..more]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.closed = true,
            }
            if self.closed {
                return;
            }
        }
    }

    /// The next message that came in. One that cannot be read closes the link.
    pub fn take<M: Message>(&mut self) -> Option<M> {
        if let Ok(message) = self.decoder.take()? {
            return Some(message);
        }
        self.closed = true;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back<M: Message + fmt::Debug + PartialEq>(message: &M) {
        let mut decoder = Decoder::default();
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        for byte in &bytes[..bytes.len() - 1] {
            decoder.push(&[*byte]);
            assert_eq!(decoder.take::<M>(), None, "a message without its end is not there yet");
        }
        decoder.push(b"\n");
        assert_eq!(decoder.take::<M>().expect("a whole message").expect("a good one"), *message);
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        back(&ToShipper::Segment { start: 7, place: SegmentLocation::Memory(3) });
        back(&ToShipper::Segment { start: 7, place: SegmentLocation::File(PathBuf::from("/tmp/a b\nc")) });
        back(&ToShipper::LogEnd(u64::MAX));
        back(&ToShipper::SealRange { drain: 1, cursor: 2, limit: 3 });
        let (id, notice) = ("0A".repeat(16), b"9 <172>1 x\n".to_vec());
        back(&ToShipper::SealedBatch { drain: 1, start: 2, end: 3, frames: 4, id: id.clone(), notice });
        back(&ToShipper::SealedBatch { drain: 1, start: 2, end: 3, frames: 4, id, notice: Vec::new() });
        back(&ToShipper::Deadline(28_000));
        back(&ToShipper::EndOfLog);
        back(&ToShipper::ClearPendingSignals);
        back(&ToSupervisor::Ping);
        back(&ToSupervisor::SealRequest { drain: 0, start: 1, end: 2, frames: 3 });
        back(&ToSupervisor::Delivered { drain: 4 });
        back(&ToSupervisor::Rejected { drain: 0, status: 400, detail: "bad  request".to_owned() });
        back(&ToSupervisor::AttemptFailed {
            drain: 0,
            status: 0,
            hold: true,
            wait: 5,
            detail: String::new(),
        });
        back(&ToSupervisor::SpoolDamaged { drain: 0, at: 9 });
    }

    #[test]
    fn a_detail_with_line_ends_stays_one_message() {
        let mut bytes = Vec::new();
        ToSupervisor::Rejected { drain: 0, status: 400, detail: "a\nb\r\nc".to_owned() }.write(&mut bytes);
        assert_eq!(bytes, b"rejected 0 400 a b  c\n");
    }

    #[test]
    fn nonsense_closes_the_link() {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let mut link = Connection::new(ours).expect("a link");
        theirs.write_all(b"delivered 1\nGET / HTTP/1.1\n").expect("a write");
        link.fill();
        assert_eq!(link.take(), Some(ToSupervisor::Delivered { drain: 1 }));
        assert_eq!(link.take::<ToSupervisor>(), None);
        assert!(link.is_closed());
    }
}
