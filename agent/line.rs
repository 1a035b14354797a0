//! Splits a byte stream into lines. Pure and bounded; the result does not depend on how the bytes were chunked.
//!
//! One line becomes one message, or several when it is longer than the limit. Messages are clean: valid UTF-8
//! (invalid bytes become U+FFFD by maximal subparts, as `String::from_utf8_lossy` does), without NUL or CR (each
//! becomes a space; one CR before the LF is removed), and without LF.

use memchr::{memchr, memchr_iter, memchr2, memrchr};

/// The two streams of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and standard error where both are one; standard input of `tailrace ship`.
    Out = 0,
    /// Standard error.
    Err = 1,
}

impl Stream {
    /// Both streams, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Out, Self::Err];
}

/// One value for each stream, indexed by [`Stream`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerStream<T> {
    /// That of standard output.
    pub out: T,
    /// That of standard error.
    pub err: T,
}

impl<T> PerStream<T> {
    /// What `of` returns for each stream.
    pub(crate) fn from_fn(mut of: impl FnMut(Stream) -> T) -> Self {
        Self { out: of(Stream::Out), err: of(Stream::Err) }
    }

    /// Both values, in the order of [`Stream::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.out, &self.err].into_iter()
    }
}

impl<T> std::ops::Index<Stream> for PerStream<T> {
    type Output = T;

    fn index(&self, stream: Stream) -> &T {
        match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        }
    }
}

impl<T> std::ops::IndexMut<Stream> for PerStream<T> {
    fn index_mut(&mut self, stream: Stream) -> &mut T {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }
}

/// Which part of its line a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The whole line.
    Full,
    /// Not the end of its line: the line exceeds the limit, or was flushed before it ended.
    Partial,
    /// The end of a line of which a [`Fragment::Partial`] was emitted before.
    Final,
    /// The line ended with nothing left after its last [`Fragment::Partial`]: the message is empty and needs no frame.
    EmptyFinal,
}

const REPLACEMENT: &str = "\u{fffd}";

/// How much of the current line was seen and emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// No byte of it was seen.
    Empty,
    /// Bytes were seen, no message of it was emitted.
    Buffered,
    /// A [`Fragment::Partial`] of it was emitted.
    PartialEmitted,
    /// Its bytes are discarded up to the LF.
    Skipping,
}

/// Splits one stream into messages of at most `max` bytes.
#[derive(Debug)]
pub struct Splitter {
    max: usize,
    state: LineState,
    /// Clean bytes of the next message.
    message: Vec<u8>,
    /// Raw bytes whose meaning depends on the next byte: a CR, or an incomplete UTF-8 sequence.
    undecided: Vec<u8>,
}

impl Splitter {
    /// The smallest limit that settings allow: below it, headers would outweigh messages.
    pub const MIN_LINE: usize = 256;

    /// A splitter whose messages have at most `max` bytes (at least four: one character).
    pub fn new(max: usize) -> Self {
        Self { max: max.max(4), state: LineState::Empty, message: Vec::new(), undecided: Vec::new() }
    }

    /// Whether a line has begun and not ended.
    pub fn mid_line(&self) -> bool {
        self.state != LineState::Empty
    }

    /// Whether there is text of an unfinished line that no message has contained yet. Undecided bytes are none:
    /// [`Splitter::flush`] leaves them.
    pub fn holds_text(&self) -> bool {
        !self.message.is_empty()
    }

    /// Whether a [`Fragment::Partial`] of the current line was emitted.
    pub fn emitted_partial(&self) -> bool {
        self.state == LineState::PartialEmitted
    }

    /// Whether the current line is being discarded, since [`Splitter::skip_line`].
    pub fn is_skipping(&self) -> bool {
        self.state == LineState::Skipping
    }

    /// Takes the next bytes of the stream and passes every finished message to `emit`.
    pub fn push(&mut self, chunk: &[u8], emit: &mut impl FnMut(&[u8], Fragment)) {
        let Some(first) = memchr(b'\n', chunk) else {
            return self.feed(chunk, emit);
        };
        let last = memrchr(b'\n', chunk).unwrap_or(first);
        self.feed(&chunk[..first], emit);
        self.end_line(emit);
        if first < last {
            self.push_lines(&chunk[first + 1..=last], emit);
        }
        self.feed(&chunk[last + 1..], emit);
    }

    /// Takes lines that begin and end in `lines`. They are validated together, so that clean lines cost one search
    /// each and no copy.
    fn push_lines(&mut self, lines: &[u8], emit: &mut impl FnMut(&[u8], Fragment)) {
        let is_clean = memchr2(0, b'\r', lines).is_none() && simdutf8::basic::from_utf8(lines).is_ok();
        let mut start = 0;
        for end in memchr_iter(b'\n', lines) {
            let line = &lines[start..end];
            if is_clean && line.len() <= self.max {
                emit(line, Fragment::Full);
            } else {
                self.feed(line, emit);
                self.end_line(emit);
            }
            start = end + 1;
        }
    }

    /// Ends the stream: an unfinished line is emitted as if its LF had come.
    pub fn finish(&mut self, emit: &mut impl FnMut(&[u8], Fragment)) {
        if self.mid_line() {
            self.end_line(emit);
        }
    }

    /// Emits the buffered bytes of an unfinished line as a [`Fragment::Partial`]. Undecided bytes stay.
    pub fn flush(&mut self, emit: &mut impl FnMut(&[u8], Fragment)) {
        if !self.message.is_empty() {
            self.emit_partial(emit);
        }
    }

    /// Discards the current line: what is buffered, and everything up to the next LF. For bytes lost within a line.
    pub fn skip_line(&mut self) {
        self.reset();
        self.state = LineState::Skipping;
    }

    /// Discards what is buffered; the next byte starts a new line. For lost bytes that ended with an LF.
    pub fn start_new_line(&mut self) {
        self.reset();
    }

    fn reset(&mut self) {
        self.message.clear();
        self.undecided.clear();
        self.state = LineState::Empty;
    }

    /// Takes bytes of the current line; none of them is an LF.
    fn feed(&mut self, mut raw: &[u8], emit: &mut impl FnMut(&[u8], Fragment)) {
        if raw.is_empty() || self.state == LineState::Skipping {
            return;
        }
        if self.state == LineState::Empty {
            self.state = LineState::Buffered;
        }
        while !self.undecided.is_empty() && !raw.is_empty() {
            if self.undecided == b"\r" {
                self.undecided.clear();
                self.append(" ", emit);
                break;
            }
            self.undecided.push(raw[0]);
            let is_valid = match std::str::from_utf8(&self.undecided) {
                Ok(_) => true,
                Err(error) if error.error_len().is_none() => {
                    raw = &raw[1..];
                    continue;
                }
                Err(_) => false,
            };
            let sequence = std::mem::take(&mut self.undecided);
            if is_valid {
                raw = &raw[1..];
                self.append(std::str::from_utf8(&sequence).unwrap_or_default(), emit);
            } else {
                self.append(REPLACEMENT, emit); // the byte that ended the sequence is decoded again, on its own
            }
        }
        let mut end = 0;
        for chunk in raw.utf8_chunks() {
            let invalid = chunk.invalid();
            end += chunk.valid().len() + invalid.len();
            let is_last = end == raw.len();
            self.append_text(chunk.valid(), is_last && invalid.is_empty(), emit);
            if is_last && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none()) {
                self.undecided.extend_from_slice(invalid);
            } else if !invalid.is_empty() {
                self.append(REPLACEMENT, emit);
            }
        }
    }

    /// Appends valid text, NUL and CR replaced. A CR at the end of the last text stays undecided until the next byte.
    fn append_text(&mut self, mut text: &str, is_last: bool, emit: &mut impl FnMut(&[u8], Fragment)) {
        while let Some(at) = memchr2(0, b'\r', text.as_bytes()) {
            self.append(&text[..at], emit);
            if is_last && at + 1 == text.len() && text.as_bytes()[at] == b'\r' {
                self.undecided.push(b'\r');
            } else {
                self.append(" ", emit);
            }
            text = &text[at + 1..];
        }
        self.append(text, emit);
    }

    /// Appends clean text to the message, and emits a partial message whenever it is full.
    fn append(&mut self, mut text: &str, emit: &mut impl FnMut(&[u8], Fragment)) {
        loop {
            let room = self.max - self.message.len();
            if text.len() <= room {
                self.message.extend_from_slice(text.as_bytes());
                return;
            }
            let cut = text.floor_char_boundary(room);
            self.message.extend_from_slice(&text.as_bytes()[..cut]);
            self.emit_partial(emit);
            text = &text[cut..];
        }
    }

    fn emit_partial(&mut self, emit: &mut impl FnMut(&[u8], Fragment)) {
        emit(&self.message, Fragment::Partial);
        self.message.clear();
        self.state = LineState::PartialEmitted;
    }

    fn end_line(&mut self, emit: &mut impl FnMut(&[u8], Fragment)) {
        if self.state != LineState::Skipping && !self.undecided.is_empty() && self.undecided != b"\r" {
            self.undecided.clear();
            self.append(REPLACEMENT, emit);
        }
        match self.state {
            LineState::Empty | LineState::Buffered => emit(&self.message, Fragment::Full),
            LineState::PartialEmitted if self.message.is_empty() => emit(&[], Fragment::EmptyFinal),
            LineState::PartialEmitted => emit(&self.message, Fragment::Final),
            LineState::Skipping => {}
        }
        self.reset();
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
