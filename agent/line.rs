//! Bytes to lines: a pure splitter, bounded, and blind to how the bytes were chunked.
//!
//! One line becomes one frame, or several when it is longer than the limit. Messages leave this room clean:
//! UTF-8 (what is not becomes U+FFFD, by maximal subparts as `String::from_utf8_lossy` does), without NUL or
//! CR (each becomes a blank; one CR before the LF goes), and without LF.

use memchr::{memchr, memchr_iter, memchr2, memrchr};

/// The two streams of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and what `ship` reads.
    Out = 0,
    /// Standard error.
    Err = 1,
}

impl Stream {
    /// Both.
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

/// What a message is to the line that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The whole line.
    Full,
    /// Not the end of its line: more follows, or the line stood still.
    Partial,
    /// The end of a line of which a [`Fragment::Partial`] went before.
    Final,
    /// The line ended with nothing left after its last [`Fragment::Partial`]: the message is empty, no frame is due.
    EmptyFinal,
}

const REPLACEMENT: &str = "\u{fffd}";

/// Splits one stream into messages of at most `max` bytes.
#[derive(Debug)]
pub struct Splitter {
    max: usize,
    /// Clean bytes of the piece under way.
    held: Vec<u8>,
    /// Raw bytes that the next byte decides: a CR, or the start of a UTF-8 sequence.
    open: Vec<u8>,
    /// A byte of the current line was seen.
    started: bool,
    /// A part of the current line was emitted.
    emitted_partial: bool,
    /// The current line is thrown away up to its LF.
    skipping: bool,
}

impl Splitter {
    /// The smallest limit: below it, headers would outweigh messages.
    pub const MIN_LINE: usize = 256;

    /// A splitter with a limit of `max` bytes of clean message per frame (at least four: one character).
    pub fn new(max: usize) -> Self {
        Self {
            max: max.max(4),
            held: Vec::new(),
            open: Vec::new(),
            started: false,
            emitted_partial: false,
            skipping: false,
        }
    }

    /// A line has begun and has not ended.
    pub fn mid_line(&self) -> bool {
        self.started
    }

    /// There are bytes of an unfinished line that no piece has carried yet.
    pub fn holds_text(&self) -> bool {
        !self.held.is_empty() || !self.open.is_empty()
    }

    /// A [`Fragment::Partial`] of the current line was emitted.
    pub fn emitted_partial(&self) -> bool {
        self.emitted_partial
    }

    /// The current line is being thrown away, since [`Splitter::discard_line`].
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Takes the next bytes of the stream and hands every finished message to `emit`.
    pub fn push(&mut self, chunk: &[u8], emit: &mut impl FnMut(&[u8], Fragment)) {
        let Some(first) = memchr(b'\n', chunk) else {
            return self.feed(chunk, emit);
        };
        let last = memrchr(b'\n', chunk).unwrap_or(first);
        self.feed(&chunk[..first], emit);
        self.end_line(emit);
        if first < last {
            self.whole_lines(&chunk[first + 1..=last], emit);
        }
        self.feed(&chunk[last + 1..], emit);
    }

    /// Lines that both begin and end in `lines`. One look over all of them decides whether they are clean, so
    /// that the common case costs one search per line and no copy.
    fn whole_lines(&mut self, lines: &[u8], emit: &mut impl FnMut(&[u8], Fragment)) {
        let clean = memchr2(0, b'\r', lines).is_none() && std::str::from_utf8(lines).is_ok();
        let mut from = 0;
        for end in memchr_iter(b'\n', lines) {
            let line = &lines[from..end];
            if clean && line.len() <= self.max {
                emit(line, Fragment::Full);
            } else {
                self.feed(line, emit);
                self.end_line(emit);
            }
            from = end + 1;
        }
    }

    /// The stream ended: what is left is a line without its LF.
    pub fn finish(&mut self, emit: &mut impl FnMut(&[u8], Fragment)) {
        if self.started {
            self.end_line(emit);
        }
    }

    /// The stream stood still: what is held goes out as a part of its line. Undecided bytes stay.
    pub fn flush(&mut self, emit: &mut impl FnMut(&[u8], Fragment)) {
        if !self.held.is_empty() {
            self.part(emit);
        }
    }

    /// Bytes were lost here: forgets the current line, and throws away what follows up to the next LF when
    /// `resume` is false.
    pub fn discard_line(&mut self, resume: bool) {
        self.reset();
        self.skipping = !resume;
        self.started = !resume;
    }

    fn reset(&mut self) {
        self.held.clear();
        self.open.clear();
        self.started = false;
        self.emitted_partial = false;
        self.skipping = false;
    }

    /// Bytes of the current line; none of them is an LF.
    fn feed(&mut self, mut raw: &[u8], emit: &mut impl FnMut(&[u8], Fragment)) {
        if raw.is_empty() {
            return;
        }
        self.started = true;
        if self.skipping {
            return;
        }
        while !self.open.is_empty() && !raw.is_empty() {
            if self.open == b"\r" {
                self.open.clear();
                self.put(" ", emit);
                break;
            }
            self.open.push(raw[0]);
            let decided = match std::str::from_utf8(&self.open) {
                Ok(_) => true,
                Err(error) if error.error_len().is_none() => {
                    raw = &raw[1..];
                    continue;
                }
                Err(_) => false,
            };
            let open = std::mem::take(&mut self.open);
            if decided {
                raw = &raw[1..];
                self.put(std::str::from_utf8(&open).unwrap_or_default(), emit);
            } else {
                self.put(REPLACEMENT, emit); // the byte that broke the sequence is looked at again
            }
        }
        let mut at = 0;
        for chunk in raw.utf8_chunks() {
            at += chunk.valid().len() + chunk.invalid().len();
            let is_last = at == raw.len();
            self.put_text(chunk.valid(), is_last && chunk.invalid().is_empty(), emit);
            let invalid = chunk.invalid();
            if is_last && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none()) {
                self.open.extend_from_slice(invalid);
            } else if !invalid.is_empty() {
                self.put(REPLACEMENT, emit);
            }
        }
    }

    /// Valid text with NUL and CR mapped away; a CR at the very end waits for the byte behind it.
    fn put_text(&mut self, mut text: &str, is_last: bool, emit: &mut impl FnMut(&[u8], Fragment)) {
        while let Some(at) = memchr2(0, b'\r', text.as_bytes()) {
            self.put(&text[..at], emit);
            if is_last && at + 1 == text.len() && text.as_bytes()[at] == b'\r' {
                self.open.push(b'\r');
            } else {
                self.put(" ", emit);
            }
            text = &text[at + 1..];
        }
        self.put(text, emit);
    }

    fn put(&mut self, mut text: &str, emit: &mut impl FnMut(&[u8], Fragment)) {
        loop {
            let room = self.max - self.held.len();
            if text.len() <= room {
                self.held.extend_from_slice(text.as_bytes());
                return;
            }
            let cut = text.floor_char_boundary(room);
            self.held.extend_from_slice(&text.as_bytes()[..cut]);
            self.part(emit);
            text = &text[cut..];
        }
    }

    fn part(&mut self, emit: &mut impl FnMut(&[u8], Fragment)) {
        emit(&self.held, Fragment::Partial);
        self.held.clear();
        self.emitted_partial = true;
    }

    fn end_line(&mut self, emit: &mut impl FnMut(&[u8], Fragment)) {
        if !self.skipping {
            if !self.open.is_empty() && self.open != b"\r" {
                self.open.clear();
                self.put(REPLACEMENT, emit);
            }
            match (self.emitted_partial, self.held.is_empty()) {
                (false, _) => emit(&self.held, Fragment::Full),
                (true, false) => emit(&self.held, Fragment::Final),
                (true, true) => emit(&[], Fragment::EmptyFinal),
            }
        }
        self.reset();
    }
}

#[cfg(test)]
mod tests;
