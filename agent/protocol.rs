//! Messages between supervisor and shipper: one per line of text, over a Unix stream socket.
//!
//! The supervisor holds the truth. It tells a new shipper all segments, and per drain where it may seal (`seal-range`)
//! or what is sealed (`sealed-batch`). The shipper asks before it sends (`seal-request`) and reports what came of it.
//!
//! ```text
//! supervisor                                shipper
//!   segment START LOCATION  ───────────────▶   reads the spool
//!   log-end OFFSET          ───────────────▶   frames are there: gathers a batch
//!                           ◀───────────────   seal-request DRAIN START END FRAMES
//!   sealed-batch DRAIN …    ───────────────▶   (or seal-range: ask again) POST
//!                           ◀───────────────   delivered | rejected | attempt-failed, and again
//! ```

use crate::frame::{frames_from_line, frames_to_line};
use crate::ledger::{BatchRange, DrainIndex, Offset, SealRange, SealedBatch, SegmentLocation, SegmentStart};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Supervisor to shipper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToShipper {
    /// A segment was opened.
    Segment(SegmentStart),
    /// Frames are booked up to this offset.
    LogEnd(Offset),
    /// The drain may seal its next batch in this range.
    SealRange {
        /// The drain.
        drain: DrainIndex,
        /// Where it may seal; without a limit up to the end of the log, which moves.
        range: SealRange,
    },
    /// The drain has this batch to deliver, and no other.
    SealedBatch {
        /// The drain.
        drain: DrainIndex,
        /// The batch.
        batch: SealedBatch,
    },
    /// Ship without waiting for fuller batches; delivery ends after this time at the latest. In ms on the wire.
    Deadline(Duration),
    /// No more frames will come: end when every drain has consumed all.
    EndOfLog,
    /// Discard the pending signals: they are decided.
    ClearPendingSignals,
}

/// What a failed attempt needs to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Time.
    Retry,
    /// A person has to act.
    Hold,
}

/// Shipper to supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToSupervisor {
    /// The shipper is alive.
    Ping,
    /// How the shipper is confined.
    Confined {
        /// For people.
        how: String,
    },
    /// A CA bundle, or a part of one, cannot be used.
    CaProblem {
        /// For people.
        detail: String,
    },
    /// Asks to seal a batch.
    SealRequest {
        /// The drain.
        drain: DrainIndex,
        /// The batch.
        range: BatchRange,
    },
    /// The drain has the sealed batch.
    Delivered {
        /// The drain.
        drain: DrainIndex,
    },
    /// The drain refused the sealed batch for good.
    Rejected {
        /// The drain.
        drain: DrainIndex,
        /// HTTP status.
        status: u16,
        /// The beginning of its answer, without secrets.
        detail: String,
    },
    /// The drain refused the sealed batch as too large: a smaller one is asked for.
    TooLarge {
        /// The drain.
        drain: DrainIndex,
    },
    /// An attempt failed that will be repeated.
    AttemptFailed {
        /// The drain.
        drain: DrainIndex,
        /// HTTP status; 0 when there was no answer.
        status: u16,
        /// What it needs to succeed.
        kind: FailureKind,
        /// Until the next attempt. In ms on the wire.
        wait: Duration,
        /// What went wrong, without secrets.
        detail: String,
    },
    /// There are no frames at the drain's cursor.
    SpoolDamaged {
        /// The drain.
        drain: DrainIndex,
        /// The cursor.
        at: Offset,
    },
}

/// A line that is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadMessage(String);

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a message between supervisor and shipper: {:?}", self.0)
    }
}

impl std::error::Error for BadMessage {}

/// A message of a [`Connection`].
pub(crate) trait Message: Sized {
    /// Appends the message and an LF.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads a message from a line without its LF.
    fn read(line: &[u8]) -> Option<Self>;
}

/// The longest text in a message, in characters.
const MAX_TEXT_CHARS: usize = 1024;

/// Any text on one line, cut where it is too long.
fn one_line(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The fields of a line, separated by single blanks.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let end = memchr::memchr(b' ', self.0).unwrap_or(self.0.len());
        let field = std::str::from_utf8(&self.0[..end]).ok()?;
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        Some(field)
    }

    fn parse<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.next()?.parse().ok()
    }

    fn millis(&mut self) -> Option<Duration> {
        self.parse().map(Duration::from_millis)
    }

    fn batch_range(&mut self) -> Option<BatchRange> {
        Some(BatchRange { start: self.parse()?, end: self.parse()?, frames: self.parse()? })
    }

    /// Everything behind the fields read so far.
    fn rest(self) -> &'a [u8] {
        self.0
    }

    fn text(self) -> String {
        one_line(&String::from_utf8_lossy(self.0))
    }
}

/// A path may contain an LF and no NUL; a line the other way round.
fn path_to_line(path: &[u8]) -> impl Iterator<Item = u8> {
    path.iter().map(|b| if *b == b'\n' { 0 } else { *b })
}

fn path_from_line(line: &[u8]) -> PathBuf {
    let path = line.iter().map(|b| if *b == 0 { b'\n' } else { *b }).collect();
    PathBuf::from(OsString::from_vec(path))
}

impl Message for ToShipper {
    fn write(&self, out: &mut Vec<u8>) {
        let mut text = |text: String| out.extend_from_slice(text.as_bytes());
        match self {
            Self::Segment(SegmentStart { start, location: SegmentLocation::Memory(slot) }) => {
                text(format!("segment {start} memory {slot}"));
            }
            Self::Segment(SegmentStart { start, location: SegmentLocation::File(path) }) => {
                text(format!("segment {start} file "));
                out.extend(path_to_line(path.as_os_str().as_bytes()));
            }
            Self::LogEnd(offset) => text(format!("log-end {offset}")),
            Self::SealRange { drain, range: SealRange { cursor, limit, is_one_batch } } => {
                text(format!("seal-range {drain} {cursor} {limit} {is_one_batch}"));
            }
            Self::SealedBatch { drain, batch: SealedBatch { range, notice, id } } => {
                let BatchRange { start, end, frames } = range;
                text(format!("sealed-batch {drain} {start} {end} {frames} {id} "));
                out.extend(frames_to_line(notice));
            }
            Self::Deadline(left) => text(format!("deadline {}", left.as_millis())),
            Self::EndOfLog => text("end-of-log".to_owned()),
            Self::ClearPendingSignals => text("clear-pending-signals".to_owned()),
        }
        out.push(b'\n');
    }

    fn read(line: &[u8]) -> Option<Self> {
        let mut fields = Fields(line);
        Some(match fields.next()? {
            "segment" => {
                let start = fields.parse()?;
                let location = match fields.next()? {
                    "memory" => SegmentLocation::Memory(fields.parse()?),
                    "file" => SegmentLocation::File(path_from_line(fields.rest())),
                    _ => return None,
                };
                Self::Segment(SegmentStart { start, location })
            }
            "log-end" => Self::LogEnd(fields.parse()?),
            "seal-range" => {
                let drain = fields.parse()?;
                let range = SealRange {
                    cursor: fields.parse()?,
                    limit: fields.parse()?,
                    is_one_batch: fields.parse()?,
                };
                Self::SealRange { drain, range }
            }
            "sealed-batch" => {
                let (drain, range) = (fields.parse()?, fields.batch_range()?);
                let id = fields.next()?.to_owned();
                let notice = frames_from_line(fields.rest());
                Self::SealedBatch { drain, batch: SealedBatch { range, notice, id } }
            }
            "deadline" => Self::Deadline(fields.millis()?),
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
            Self::Confined { how } => format!("confined {}", one_line(how)),
            Self::CaProblem { detail } => format!("ca-problem {}", one_line(detail)),
            Self::SealRequest { drain, range: BatchRange { start, end, frames } } => {
                format!("seal-request {drain} {start} {end} {frames}")
            }
            Self::Delivered { drain } => format!("delivered {drain}"),
            Self::TooLarge { drain } => format!("too-large {drain}"),
            Self::Rejected { drain, status, detail } => {
                format!("rejected {drain} {status} {}", one_line(detail))
            }
            Self::AttemptFailed { drain, status, kind, wait, detail } => {
                let kind = match kind {
                    FailureKind::Retry => "retry",
                    FailureKind::Hold => "hold",
                };
                format!("attempt-failed {drain} {status} {kind} {} {}", wait.as_millis(), one_line(detail))
            }
            Self::SpoolDamaged { drain, at } => format!("spool-damaged {drain} {at}"),
        };
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }

    fn read(line: &[u8]) -> Option<Self> {
        let mut fields = Fields(line);
        Some(match fields.next()? {
            "ping" => Self::Ping,
            "confined" => Self::Confined { how: fields.text() },
            "ca-problem" => Self::CaProblem { detail: fields.text() },
            "seal-request" => Self::SealRequest { drain: fields.parse()?, range: fields.batch_range()? },
            "delivered" => Self::Delivered { drain: fields.parse()? },
            "too-large" => Self::TooLarge { drain: fields.parse()? },
            "rejected" => {
                let (drain, status) = (fields.parse()?, fields.parse()?);
                Self::Rejected { drain, status, detail: fields.text() }
            }
            "attempt-failed" => {
                let (drain, status) = (fields.parse()?, fields.parse()?);
                let kind = match fields.next()? {
                    "retry" => FailureKind::Retry,
                    "hold" => FailureKind::Hold,
                    _ => return None,
                };
                Self::AttemptFailed { drain, status, kind, wait: fields.millis()?, detail: fields.text() }
            }
            "spool-damaged" => Self::SpoolDamaged { drain: fields.parse()?, at: fields.parse()? },
            _ => return None,
        })
    }
}

/// Splits received bytes into messages.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: VecDeque<u8>,
}

impl Decoder {
    /// Adds received bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Takes the next complete message.
    pub(crate) fn take<M: Message>(&mut self) -> Option<Result<M, BadMessage>> {
        let bytes = self.bytes.make_contiguous();
        let end = memchr::memchr(b'\n', bytes)?;
        let line = &bytes[..end];
        let message = M::read(line).ok_or_else(|| BadMessage(String::from_utf8_lossy(line).into_owned()));
        self.bytes.drain(..=end);
        Some(message)
    }

    /// Received bytes that were not taken.
    fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The supervisor's end of the socket. It never blocks; what the peer does not read waits in the outbox, which
/// [`Connection::has_room`] bounds.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    decoder: Decoder,
    outbox: Vec<u8>,
    closed: bool,
    violation: Option<&'static str>,
}

impl Connection {
    /// Bytes in the outbox from which on updates are held back.
    pub(crate) const OUTBOX_BYTES: usize = 16 << 10;
    /// The longest message of a shipper, in bytes: its text in UTF-8, and some.
    const MAX_MESSAGE_BYTES: usize = 8 << 10;
    /// Bytes in the outbox with which no shipper asks for more: it has not read its earlier answers.
    const MAX_UNREAD_BYTES: usize = 1 << 20;

    /// A connection over `socket`, which becomes non-blocking.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, decoder: Decoder::default(), outbox: Vec::new(), closed: false, violation: None })
    }

    /// The socket, to poll it.
    pub(crate) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Whether the peer is gone, or sent something that is no message.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Closes the connection: the peer did what no shipper does.
    pub(crate) fn fail(&mut self, violation: &'static str) {
        self.closed = true;
        self.violation = Some(violation);
    }

    /// What the peer did that no shipper does; reported once.
    pub(crate) fn take_violation(&mut self) -> Option<&'static str> {
        self.violation.take()
    }

    /// Whether the peer has read so little that it cannot have a further question.
    pub(crate) fn is_overfull(&self) -> bool {
        self.outbox.len() > Self::MAX_UNREAD_BYTES
    }

    /// Whether bytes wait for the peer.
    pub(crate) fn is_pending(&self) -> bool {
        !self.outbox.is_empty() && !self.closed
    }

    /// Whether updates may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.len() < Self::OUTBOX_BYTES && !self.closed
    }

    /// Adds a message to the outbox; [`Connection::flush`] sends it.
    pub(crate) fn send(&mut self, message: &impl Message) {
        if !self.closed {
            message.write(&mut self.outbox);
        }
    }

    /// Writes as much of the outbox as the peer accepts.
    pub(crate) fn flush(&mut self) {
        while self.is_pending() {
            match self.socket.write(&self.outbox) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.closed = true,
            }
        }
    }

    /// Reads what is there, at most 64 KiB.
    pub(crate) fn fill(&mut self) {
        const READS: usize = 16;
        let mut bytes = [0; 4096];
        for _ in 0..READS {
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

    /// Takes the next received message. A line that is no message closes the connection.
    pub(crate) fn take<M: Message>(&mut self) -> Option<M> {
        match self.decoder.take() {
            Some(Ok(message)) => return Some(message),
            Some(Err(_)) => self.fail("a line that is no message"),
            None if self.decoder.len() > Self::MAX_MESSAGE_BYTES => self.fail("a message without an end"),
            None => {}
        }
        None
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<M: Message + fmt::Debug + PartialEq>(message: &M) {
        let mut decoder = Decoder::default();
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        for byte in &bytes[..bytes.len() - 1] {
            decoder.push(&[*byte]);
            assert_eq!(decoder.take::<M>(), None, "a message without its end is incomplete");
        }
        decoder.push(b"\n");
        assert_eq!(decoder.take::<M>().expect("a complete message").expect("a valid one"), *message);
    }

    #[test]
    fn every_message_survives_the_round_trip() {
        let drain = DrainIndex::new(1);
        let start = Offset::new(7);
        let in_memory = SegmentLocation::Memory(3);
        round_trip(&ToShipper::Segment(SegmentStart { start, location: in_memory }));
        let in_file = SegmentLocation::File(PathBuf::from("/tmp/a b\nc"));
        round_trip(&ToShipper::Segment(SegmentStart { start, location: in_file }));
        round_trip(&ToShipper::LogEnd(Offset::MAX));
        let range = SealRange { cursor: Offset::new(2), limit: Offset::new(3), is_one_batch: true };
        round_trip(&ToShipper::SealRange { drain, range });
        let range = BatchRange { start, end: Offset::new(9), frames: 4 };
        for notice in [b"9 <172>1 x\n9 <172>1 y\n".to_vec(), Vec::new()] {
            let batch = SealedBatch { range, notice, id: "0A".repeat(16) };
            round_trip(&ToShipper::SealedBatch { drain, batch });
        }
        round_trip(&ToShipper::Deadline(Duration::from_secs(28)));
        round_trip(&ToShipper::EndOfLog);
        round_trip(&ToShipper::ClearPendingSignals);
        round_trip(&ToSupervisor::Ping);
        round_trip(&ToSupervisor::Confined { how: "seccomp (landlock: no)".to_owned() });
        round_trip(&ToSupervisor::CaProblem { detail: "SSL_CERT_FILE: damaged".to_owned() });
        round_trip(&ToSupervisor::SealRequest { drain, range });
        round_trip(&ToSupervisor::Delivered { drain });
        round_trip(&ToSupervisor::TooLarge { drain });
        round_trip(&ToSupervisor::Rejected { drain, status: 400, detail: "bad  request".to_owned() });
        for kind in [FailureKind::Retry, FailureKind::Hold] {
            let (wait, detail) = (Duration::from_millis(5), String::new());
            round_trip(&ToSupervisor::AttemptFailed { drain, status: 0, kind, wait, detail });
        }
        round_trip(&ToSupervisor::SpoolDamaged { drain, at: start });
    }

    #[test]
    fn a_detail_with_line_ends_stays_one_message() {
        let mut bytes = Vec::new();
        let drain = DrainIndex::new(0);
        ToSupervisor::Rejected { drain, status: 400, detail: "a\nb\r\nc".to_owned() }.write(&mut bytes);
        assert_eq!(bytes, b"rejected 0 400 a b  c\n");
    }

    #[test]
    fn a_message_without_an_end_closes_the_connection_and_is_not_kept() {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let mut connection = Connection::new(ours).expect("a connection");
        for bytes in [8 << 10, 1] {
            assert!(!connection.is_closed());
            theirs.write_all(&vec![b'x'; bytes]).expect("a write");
            connection.fill();
            assert_eq!(connection.take::<ToSupervisor>(), None);
        }
        assert!(connection.is_closed());
        assert_eq!(connection.take_violation(), Some("a message without an end"));
    }

    #[test]
    fn a_line_that_is_no_message_closes_the_connection() {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let mut connection = Connection::new(ours).expect("a connection");
        theirs.write_all(b"delivered 1\nGET / HTTP/1.1\n").expect("a write");
        connection.fill();
        assert_eq!(connection.take(), Some(ToSupervisor::Delivered { drain: DrainIndex::new(1) }));
        assert_eq!(connection.take::<ToSupervisor>(), None);
        assert!(connection.is_closed());
    }
}
