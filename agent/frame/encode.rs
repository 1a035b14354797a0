//! The encoder: a message and its time to one frame.

use super::timestamp::TimestampText;
use super::{Field, MAX_FRAME, TIMESTAMP_LEN, Timestamp};

/// Bytes reserved for LEN and its space in front of the header: 2^64 has 20 digits.
const LEN_ROOM: usize = 21;
/// Digits of LEN in a frame of [`MAX_FRAME`] bytes.
const LEN_DIGITS: usize = 5;
/// Where the timestamp starts: behind `<190>1 `. PRI has three digits in all our frames.
const TIMESTAMP_AT: usize = LEN_ROOM + 7;
/// Headers up to this size are copied as an array of this size: a copy whose length is known at compile time takes a
/// few instructions.
const HEADER_COPY_BYTES: usize = 96;
/// Messages up to this size are copied in pieces.
const MAX_PIECES_BYTES: usize = 1024;

/// Appends `bytes` in pieces whose length is known at compile time; the last one overlaps the one before. musl's copy of
/// a length that is not known takes several times as long for a line.
fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        0..8 => bytes.iter().for_each(|byte| out.push(*byte)),
        8..32 => append_pieces::<8>(out, bytes),
        32..MAX_PIECES_BYTES => append_pieces::<32>(out, bytes),
        _ => out.extend_from_slice(bytes),
    }
}

/// Appends at least `N` bytes.
fn append_pieces<const N: usize>(out: &mut Vec<u8>, bytes: &[u8]) {
    let end = out.len() + bytes.len();
    let (pieces, rest) = bytes.as_chunks::<N>();
    for piece in pieces {
        out.extend_from_slice(piece);
    }
    if let (false, Some(last)) = (rest.is_empty(), bytes.last_chunk::<N>()) {
        out.truncate(end - N);
        out.extend_from_slice(last);
    }
}

/// Encodes the frames of one source. Everything but LEN, time and message is prepared once.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// LEN right-aligned in its room, the header, and padding so that [`HEADER_COPY_BYTES`] bytes can be copied from
    /// any start of LEN.
    prefix: Vec<u8>,
    header_len: usize,
    timestamp: TimestampText,
}

impl Encoder {
    /// An encoder for `host app proc` with a three-digit PRI (100 to 191).
    ///
    /// # Panics
    /// When `pri` does not have three digits. Callers pass the constants of this module.
    pub fn new(pri: u8, host: &Field, app: &Field, proc_id: &Field) -> Self {
        assert!((100..=191).contains(&pri), "PRI of our own frames has three digits");
        let timestamp = TimestampText::default();
        let epoch = Timestamp::default();
        let mut prefix = vec![b' '; LEN_ROOM];
        prefix.extend_from_slice(format!("<{pri}>1 {epoch} {host} {app} {proc_id} - ").as_bytes());
        let header_len = prefix.len() - LEN_ROOM;
        prefix.resize(prefix.len().max(LEN_ROOM + HEADER_COPY_BYTES), 0);
        Self { prefix, header_len, timestamp }
    }

    /// Bytes of the header: from `<` to the space before MSG.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Bytes of the longest message whose frame, with this header, is within [`MAX_FRAME`].
    pub fn max_message_len(&self) -> usize {
        MAX_FRAME - LEN_DIGITS - 1 - self.header_len - 1
    }

    /// Appends one frame to `out`. `msg` is what the splitter of `line` emits: UTF-8 without LF, CR
    /// or NUL.
    pub fn encode(&mut self, out: &mut Vec<u8>, time: Timestamp, msg: &[u8]) {
        if self.timestamp.set(time) {
            self.prefix[TIMESTAMP_AT..TIMESTAMP_AT + TIMESTAMP_LEN]
                .copy_from_slice(self.timestamp.as_bytes());
        }
        let from = self.write_len(self.header_len + msg.len() + 1);
        let prefix_len = LEN_ROOM - from + self.header_len;
        out.reserve(HEADER_COPY_BYTES.max(prefix_len) + msg.len() + 1);
        match self.prefix[from..].first_chunk::<HEADER_COPY_BYTES>() {
            Some(array) if prefix_len <= HEADER_COPY_BYTES => {
                let end = out.len() + prefix_len;
                out.extend_from_slice(array);
                out.truncate(end);
            }
            _ => out.extend_from_slice(&self.prefix[from..from + prefix_len]),
        }
        append(out, msg);
        out.push(b'\n');
    }

    /// Writes `len` in decimal, right-aligned in front of the header and its space; returns where it starts.
    fn write_len(&mut self, mut len: usize) -> usize {
        let mut at = LEN_ROOM - 1;
        loop {
            at -= 1;
            self.prefix[at] = b'0' + (len % 10) as u8;
            len /= 10;
            if len == 0 {
                return at;
            }
        }
    }
}
