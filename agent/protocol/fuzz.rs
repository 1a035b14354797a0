//! Messages: any bytes in any chunks; what is a message survives the round trip.

use super::*;
use crate::tests::fuzz::{Target, fuzz_test};

/// What the decoder makes of `bytes` in chunks.
fn decode<M: Message>(bytes: &[u8], chunk: usize) -> Vec<Result<M, BadMessage>> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for chunk in bytes.chunks(chunk) {
        decoder.push(chunk);
        messages.extend(std::iter::from_fn(|| decoder.take::<M>()));
    }
    let rest = bytes.len() - memchr::memrchr(b'\n', bytes).map_or(0, |last| last + 1);
    assert_eq!(decoder.len(), rest, "what has no end yet");
    messages
}

fn check<M: Message + fmt::Debug + PartialEq>(bytes: &[u8]) {
    let messages = decode::<M>(bytes, bytes.len().max(1));
    assert_eq!(messages.len(), memchr::memchr_iter(b'\n', bytes).count(), "one for each line");
    assert_eq!(decode::<M>(bytes, 7), messages);
    for message in messages {
        match message {
            Ok(message) => {
                let mut written = Vec::new();
                message.write(&mut written);
                assert_eq!(memchr::memchr(b'\n', &written), Some(written.len() - 1), "{message:?}");
                assert_eq!(M::read(&written[..written.len() - 1]), Some(message));
            }
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
}

fn messages(bytes: &[u8]) {
    check::<ToShipper>(bytes);
    check::<ToSupervisor>(bytes);
}

fuzz_test!(
    any_bytes_are_messages_or_errors,
    Target {
        seeds: [
            &b"segment 0 file /tmp/tailrace/00aa/00000000000000000000\nsegment 1048392 memory 3\nlog-end 1048392\n"[..],
            b"seal-range 0 0 18446744073709551615 false\nsealed-batch 1 0 900 9 0A0B 83 <172>1 x\ndeadline 28000\n",
            b"end-of-log\nclear-pending-signals\nsealed-batch 1 0 900 9 0A0B \nsegment 7 file /tmp/a\0b c\n",
            b"ping\nconfined seccomp (landlock: no)\nseal-request 0 0 900 9\ndelivered 0\ntoo-large 0\n",
            b"rejected 0 400 bad  request\nattempt-failed 0 503 retry 250 busy\nattempt-failed 0 0 hold 1 \xc3\xa9\n",
            b"spool-damaged 0 1048392\n",
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
        tokens: &[b"\n", b" ", b"0", b"-1", b"+1", b"18446744073709551615", b"18446744073709551616", b"\xff", b"\0", b"true"],
        factor: 12.0,
        run: messages,
    }
);
