//! The encoder: a message and its time to one frame.

use super::{Field, TIMESTAMP_LEN, TimestampText};

/// Room for LEN and its space before the header: 2^64 has 20 digits.
const LEN_ROOM: usize = 21;
const STAMP_AT: usize = LEN_ROOM + 7; // after `<190>1 `; PRI has three digits in all our frames
/// Headers up to this size are copied in one piece of this size: with a length that is known when this is built,
/// a copy is a few instructions.
const HEAD: usize = 96;

/// Writes frames of one source: everything but LEN, time and message is laid out once.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Room for LEN, the header, and padding up to a copy of [`HEAD`] bytes from anywhere in that room.
    layout: Vec<u8>,
    /// Bytes of the header.
    header: usize,
    stamp: TimestampText,
}

impl Encoder {
    /// An encoder for `host app proc` with a three-digit PRI (100 to 191).
    ///
    /// # Panics
    /// When `pri` does not have three digits: the callers pass the constants of this module.
    pub fn new(pri: u8, host: &Field, app: &Field, proc_id: &Field) -> Self {
        assert!((100..=191).contains(&pri), "PRI of our own frames has three digits");
        let stamp = TimestampText::default();
        let mut layout = vec![b' '; LEN_ROOM];
        layout.extend_from_slice(format!("<{pri}>1 {stamp} {host} {app} {proc_id} - ").as_bytes());
        let header = layout.len() - LEN_ROOM;
        layout.resize(layout.len().max(LEN_ROOM + HEAD), 0);
        Self { layout, header, stamp }
    }

    /// Bytes of the header: from `<` to the space before MSG.
    pub fn header_len(&self) -> usize {
        self.header
    }

    /// Appends one frame to `out`. `micros` is the time in µs since the Unix epoch; `msg` is clean:
    /// UTF-8 without LF, CR or NUL.
    pub fn encode(&mut self, out: &mut Vec<u8>, micros: u64, msg: &[u8]) {
        if self.stamp.set(micros) {
            self.layout[STAMP_AT..STAMP_AT + TIMESTAMP_LEN].copy_from_slice(self.stamp.as_bytes());
        }
        let from = self.put_len(self.header + msg.len() + 1);
        let head = LEN_ROOM - from + self.header;
        out.reserve(HEAD.max(head) + msg.len() + 1);
        match self.layout[from..].first_chunk::<HEAD>() {
            Some(piece) if head <= HEAD => {
                let end = out.len() + head;
                out.extend_from_slice(piece);
                out.truncate(end);
            }
            _ => out.extend_from_slice(&self.layout[from..from + head]),
        }
        out.extend_from_slice(msg);
        out.push(b'\n');
    }

    /// Writes `len` in decimal before the header, with a space between; returns where it starts.
    fn put_len(&mut self, mut len: usize) -> usize {
        let mut at = LEN_ROOM - 1;
        loop {
            at -= 1;
            self.layout[at] = b'0' + (len % 10) as u8;
            len /= 10;
            if len == 0 {
                return at;
            }
        }
    }
}
