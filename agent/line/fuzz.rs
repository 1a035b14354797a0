//! The splitter against a model that is slow and simple.

use super::*;
use crate::tests::fuzz::{Target, fuzz_test};
use fastrand::Rng;

type Out = Vec<(String, Fragment)>;

/// What is done to the splitter, besides pushing bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Flush,
    SkipLine,
    StartNewLine,
}

/// Bytes, and what is done after so many of them.
struct Input<'a> {
    max: usize,
    bytes: &'a [u8],
    /// Ascending.
    actions: Vec<(usize, Action)>,
    rng: Rng,
}

impl<'a> Input<'a> {
    /// One byte for the limit, one for the actions, then the stream.
    fn parse(input: &'a [u8]) -> Self {
        let [max, seed, bytes @ ..] = input else { return Self::parse(&[0, 0]) };
        let max = if *max < 200 { usize::from(*max % 50) } else { usize::from(*max) << 4 };
        let mut rng = Rng::with_seed(u64::from(*seed));
        let count = usize::from(*seed % 8);
        let mut actions: Vec<_> = (0..count)
            .map(|_| {
                let action = match rng.u8(0..8) {
                    0 => Action::SkipLine,
                    1 => Action::StartNewLine,
                    _ => Action::Flush,
                };
                (rng.usize(0..=bytes.len()), action)
            })
            .collect();
        actions.sort_by_key(|(at, _)| *at);
        Self { max, bytes, actions, rng }
    }

    /// Pushes the bytes in chunks of at most `chunk` bytes.
    fn split(&self, mut chunk: impl FnMut() -> usize) -> Out {
        let mut out = Out::new();
        let mut splitter = Splitter::new(self.max);
        let mut emit = |message: &[u8], fragment| {
            out.push((String::from_utf8(message.to_vec()).expect("UTF-8"), fragment));
        };
        let mut actions = self.actions.iter().peekable();
        let mut at = 0;
        loop {
            while let Some((_, action)) = actions.next_if(|(place, _)| *place == at) {
                match action {
                    Action::Flush => splitter.flush(&mut emit),
                    Action::SkipLine => splitter.skip_line(),
                    Action::StartNewLine => splitter.start_new_line(),
                }
            }
            if at == self.bytes.len() {
                break;
            }
            let limit = actions.peek().map_or(self.bytes.len(), |(place, _)| *place);
            let end = limit.min(at + chunk().max(1));
            splitter.push(&self.bytes[at..end], &mut emit);
            at = end;
        }
        splitter.finish(&mut emit);
        assert!(!splitter.mid_line() && !splitter.holds_text() && !splitter.is_skipping());
        out
    }
}

/// Clean text of bytes of a line.
fn clean(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).replace(['\0', '\r'], " ")
}

/// How many of the bytes are decided: all but a CR, or an incomplete UTF-8 sequence, at their end.
fn decided(raw: &[u8]) -> usize {
    if raw.ends_with(b"\r") {
        return raw.len() - 1;
    }
    let last = raw.utf8_chunks().last();
    let invalid = last.map_or(&[][..], |chunk| chunk.invalid());
    let is_incomplete = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
    if is_incomplete { raw.len() - invalid.len() } else { raw.len() }
}

/// The model of one line: the whole of it is there, and is cut.
#[derive(Default)]
struct Line {
    raw: Vec<u8>,
    /// Bytes of `raw` whose text was emitted by a flush.
    flushed: usize,
    pieces: Vec<String>,
    is_skipped: bool,
}

impl Line {
    fn cut(raw: &[u8], max: usize) -> Vec<String> {
        let mut pieces = vec![String::new()];
        for c in clean(raw).chars() {
            if pieces.last().is_some_and(|piece| piece.len() + c.len_utf8() > max) {
                pieces.push(String::new());
            }
            pieces.last_mut().expect("one").push(c);
        }
        pieces
    }

    fn flush(&mut self, max: usize) {
        let end = decided(&self.raw);
        if !self.is_skipped && end > self.flushed {
            let pieces = Self::cut(&self.raw[self.flushed..end], max);
            self.pieces.extend(pieces);
            self.flushed = end;
        }
    }

    /// The parts that were emitted before the rest is discarded: all but the last one, which was not full.
    fn discard(&mut self, max: usize) -> Vec<String> {
        if !self.is_skipped {
            let end = decided(&self.raw).max(self.flushed);
            let mut pieces = Self::cut(&self.raw[self.flushed..end], max);
            pieces.pop();
            self.pieces.extend(pieces);
        }
        std::mem::take(self).pieces
    }

    fn end(mut self, max: usize, out: &mut Out) {
        if self.is_skipped {
            return;
        }
        let rest = &self.raw[self.flushed..];
        let pieces = Self::cut(rest.strip_suffix(b"\r").unwrap_or(rest), max);
        self.pieces.extend(pieces);
        let last = self.pieces.pop().expect("one");
        let fragment = match (self.pieces.is_empty(), last.is_empty()) {
            (true, _) => Fragment::Full,
            (false, true) => Fragment::EmptyFinal,
            (false, false) => Fragment::Final,
        };
        out.extend(self.pieces.into_iter().map(|piece| (piece, Fragment::Partial)));
        out.push((last, fragment));
    }
}

fn model(Input { max, bytes, actions, .. }: &Input<'_>) -> Out {
    let max = (*max).max(4);
    let mut out = Out::new();
    let mut line: Option<Line> = None;
    let mut actions = actions.iter().peekable();
    for at in 0..=bytes.len() {
        while let Some((_, action)) = actions.next_if(|(place, _)| *place == at) {
            match action {
                Action::Flush => line.iter_mut().for_each(|line| line.flush(max)),
                Action::SkipLine | Action::StartNewLine => {
                    let parts = line.take().map(|mut line| line.discard(max)).unwrap_or_default();
                    out.extend(parts.into_iter().map(|part| (part, Fragment::Partial)));
                    if *action == Action::SkipLine {
                        line = Some(Line { is_skipped: true, ..Line::default() });
                    }
                }
            }
        }
        match bytes.get(at) {
            Some(b'\n') => line.take().unwrap_or_default().end(max, &mut out),
            Some(byte) => line.get_or_insert_default().raw.push(*byte),
            None => line.take().into_iter().for_each(|line| line.end(max, &mut out)),
        }
    }
    out
}

fn splitter(input: &[u8]) {
    let input = Input::parse(input);
    let expected = model(&input);
    for (text, _) in &expected {
        assert!(text.len() <= input.max.max(4) && !text.contains(['\0', '\r', '\n']));
    }
    assert_eq!(input.split(|| input.bytes.len()), expected, "at once");
    assert_eq!(input.split(|| 1), expected, "byte by byte");
    let mut rng = input.rng.clone();
    assert_eq!(input.split(|| rng.usize(1..40)), expected, "in chunks");
}

fuzz_test!(
    lines_are_those_of_the_model,
    Target {
        seeds: [
            &b"\x0a\x00one\ntwo\r\n\nno end"[..],
            "\u{10}\u{3}caf\u{e9} \u{20ac}\u{1f600} and much more of a line\r\nnext\r".as_bytes(),
            b"\x14\x0fa\xffb\xe2\x82\n\xf0\x9f\x92x\r\r\n\0\n\xed\xa0\x80",
            b"\xc8\x15a long line of words, and of words, and of words\n",
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
        tokens: &[b"\n", b"\r\n", b"\r", b"\0", b"\xe2\x82", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xff"],
        factor: 30.0,
        run: splitter,
    }
);
