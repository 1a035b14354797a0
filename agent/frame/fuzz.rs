//! The parser: total, and the exact inverse of the encoder.

use super::*;
use crate::tests::fuzz::{Target, fuzz_test};

/// The frames of some bytes, and the error that ends them.
fn parser(bytes: &[u8]) {
    let mut at = 0;
    let mut frames = Vec::new();
    let error = loop {
        match parse(bytes, at) {
            Ok(frame) => {
                check(&frame, &bytes[at..]);
                at += frame.total;
                frames.push(frame);
            }
            Err(error) => break error,
        }
    };
    assert!((at..=bytes.len()).contains(&error.offset), "{error}");
    assert!(!error.to_string().is_empty());
    if at == bytes.len() {
        assert_eq!(error.kind, ParseErrorKind::Truncated, "nothing is left");
        assert_eq!(parse_all(bytes), Ok(frames));
    } else {
        assert_eq!(parse_all(bytes), Err(error));
    }
    // From any other byte on, too.
    for at in 0..bytes.len().min(300) {
        if let Ok((start, end)) = span(bytes, at) {
            assert!(at < start && start <= end && end <= bytes.len() && end - at <= MAX_FRAME);
        }
        parse(bytes, at).ok(); // only that it returns
        Timestamp::of_frame(&bytes[at..]); // as above
    }
}

fn check(frame: &Frame<'_>, bytes: &[u8]) {
    let own = &bytes[..frame.total];
    assert!(frame.total <= MAX_FRAME && own.ends_with(b"\n") && !frame.msg.contains('\n'));
    let mut again = Vec::new();
    frame.encode(&mut again);
    assert_eq!(again.escape_ascii().to_string(), own.escape_ascii().to_string());
    assert_eq!(span(bytes, 0).map(|(_, end)| end), Ok(frame.total), "the hop and the parser agree");
    // Of a frame that is cut short, more is to come: it is not damaged.
    for len in [0, 1, frame.total / 2, frame.total - 1] {
        assert_eq!(parse(&own[..len], 0).map_err(|error| error.kind), Err(ParseErrorKind::Truncated));
    }
    // The parser takes the 31st of any month.
    let is_canonical = frame.time.len() == TIMESTAMP_LEN && frame.time.ends_with("+00:00");
    if is_canonical && &frame.time[8..10] < "29" && &frame.time[..4] >= "1970" {
        let time = Timestamp::of_frame(own).map(|time| time.to_string());
        assert_eq!(time.as_deref(), Some(frame.time));
    }
}

/// Frames of each kind.
fn seeds() -> Vec<Vec<u8>> {
    let field = Field::coerce("host");
    let time = Timestamp::from_micros(1_767_225_599_123_456);
    let mut app = Vec::new();
    let mut encoder = Encoder::new(PRI_APP, &field, &Field::coerce("app"), &Field::coerce("web.1"));
    for message in ["", "hello", "caf\u{e9}", "a - b - c", &"x".repeat(300)] {
        encoder.encode(&mut app, time, message.as_bytes());
    }
    let loss = Loss { lines: 17, since: time, until: time, reason: DropReason::SpoolFull };
    let notice = LossNotices::new(&field, "web.1").frames(&Losses::from_iter([loss]));
    let captured = b"83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed from starting to up\n\
                     119 <40>1 2012-11-30T06:45:26Z host app web.3 - Starting process with command `bundle exec \
                     rackup config.ru -p 24405`\n";
    vec![app, notice, captured.to_vec()]
}

fuzz_test!(
    the_parser_is_the_inverse_of_the_encoder,
    Target {
        seeds: seeds(),
        tokens: &[
            b"\n",
            b" ",
            b"<190>1 ",
            b" - ",
            b"0",
            b"9",
            b"10237 ",
            b"99999 ",
            b"Z",
            b"+00:00",
            b"-23:59",
            b".1",
            b"\xe2\x82"
        ],
        factor: 6.0,
        run: parser,
    }
);
