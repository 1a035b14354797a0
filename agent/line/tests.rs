use super::*;
use proptest::prelude::*;

type Out = Vec<(String, Fragment)>;

fn split(max: usize, chunks: &[&[u8]]) -> Out {
    let mut out = Out::new();
    let mut splitter = Splitter::new(max);
    let mut emit =
        |message: &[u8], fragment| out.push((String::from_utf8(message.to_vec()).expect("clean"), fragment));
    for chunk in chunks {
        splitter.push(chunk, &mut emit);
    }
    splitter.finish(&mut emit);
    assert!(!splitter.mid_line());
    out
}

fn full_lines(texts: &[&str]) -> Out {
    texts.iter().map(|t| ((*t).to_owned(), Fragment::Full)).collect()
}

#[test]
fn only_the_line_end_is_removed_from_clean_lines() {
    assert_eq!(split(100, &[b"a\n\nb \n"]), full_lines(&["a", "", "b "]));
    assert_eq!(split(100, &[b"a\r\nb\r\r\nc\rd\n"]), full_lines(&["a", "b ", "c d"]));
    assert_eq!(split(100, &[b"x\0y\n"]), full_lines(&["x y"]));
    assert_eq!(split(100, &[b"no end"]), full_lines(&["no end"]), "a last line without LF");
    assert_eq!(split(100, &[b""]), full_lines(&[]));
    assert_eq!(split(100, &[b"cr at the end\r"]), full_lines(&["cr at the end"]));
}

#[test]
fn bytes_that_are_not_utf8_become_replacement_characters() {
    for raw in [
        &b"a\xffb"[..],
        b"\xe2\x82",
        b"\xe2\x82x",
        b"\xf0\x9f\x92",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xe2\x28\xa1",
    ] {
        let mut line = raw.to_vec();
        line.push(b'\n');
        let expected = String::from_utf8_lossy(raw).into_owned();
        assert_eq!(split(100, &[&line]), full_lines(&[&expected]));
        let bytes: Vec<&[u8]> = line.chunks(1).collect();
        assert_eq!(split(100, &bytes), full_lines(&[&expected]), "byte by byte");
    }
}

#[test]
fn long_lines_are_cut_between_characters_and_no_byte_is_lost() {
    // The boundary case of heroku/log-shuttle's tests: a line of exactly the limit is one message.
    assert_eq!(split(10, &[b"0123456789\n"]), full_lines(&["0123456789"]));
    assert_eq!(
        split(10, &[b"0123456789x\n"]),
        vec![("0123456789".to_owned(), Fragment::Partial), ("x".to_owned(), Fragment::Final)]
    );
    assert_eq!(
        split(10, &["123456789é123456789\n".as_bytes()]),
        vec![
            ("123456789".to_owned(), Fragment::Partial),
            ("é12345678".to_owned(), Fragment::Partial),
            ("9".to_owned(), Fragment::Final)
        ]
    );
    let flood = vec![b'x'; 1_000_003];
    let out = split(10_000, &[&flood]);
    assert_eq!(out.len(), 101);
    assert_eq!(out.iter().map(|(text, _)| text.len()).sum::<usize>(), flood.len());
}

#[test]
fn a_flushed_line_continues_in_the_next_message() {
    let mut out = Out::new();
    let mut emit =
        |message: &[u8], fragment| out.push((String::from_utf8_lossy(message).into_owned(), fragment));
    let mut splitter = Splitter::new(100);
    splitter.push(b"Password: ", &mut emit);
    splitter.flush(&mut emit);
    splitter.flush(&mut emit);
    assert!(splitter.mid_line() && !splitter.holds_text());
    splitter.push(b"\nprompt> ", &mut emit);
    splitter.flush(&mut emit);
    splitter.push(b"ok\n", &mut emit);
    splitter.push(b"caf\xc3", &mut emit);
    splitter.flush(&mut emit);
    splitter.push(b"\xa9\n", &mut emit);
    assert_eq!(
        out,
        [
            ("Password: ", Fragment::Partial),
            ("", Fragment::EmptyFinal),
            ("prompt> ", Fragment::Partial),
            ("ok", Fragment::Final),
            ("caf", Fragment::Partial),
            ("é", Fragment::Final)
        ]
        .map(|(text, fragment)| (text.to_owned(), fragment))
    );
}

#[test]
fn a_skipped_line_is_discarded_up_to_its_line_feed() {
    let mut out = Out::new();
    let mut emit =
        |message: &[u8], fragment| out.push((String::from_utf8_lossy(message).into_owned(), fragment));
    let mut splitter = Splitter::new(100);
    splitter.push(b"one\ntw", &mut emit);
    splitter.skip_line();
    assert!(splitter.mid_line());
    splitter.push(b"o\nthree\nfo", &mut emit);
    splitter.start_new_line();
    splitter.push(b"five\n", &mut emit);
    assert_eq!(out, full_lines(&["one", "three", "five"]));
}

#[test]
fn the_state_of_the_current_line_is_known() {
    let mut emit = |_: &[u8], _| {};
    let mut splitter = Splitter::new(100);
    let state = |splitter: &Splitter| {
        [splitter.mid_line(), splitter.holds_text(), splitter.emitted_partial(), splitter.is_skipping()]
    };
    assert_eq!(state(&splitter), [false; 4]);
    splitter.push(b"\r", &mut emit);
    assert_eq!(state(&splitter), [true, false, false, false], "whether it is text is undecided");
    splitter.push(b"a", &mut emit);
    assert_eq!(state(&splitter), [true, true, false, false]);
    splitter.flush(&mut emit);
    assert_eq!(state(&splitter), [true, false, true, false]);
    splitter.push(b"b", &mut emit);
    assert_eq!(state(&splitter), [true, true, true, false]);
    splitter.skip_line();
    assert_eq!(state(&splitter), [true, false, false, true]);
    splitter.push(b"c\n", &mut emit);
    assert_eq!(state(&splitter), [false; 4]);
}

#[test]
fn values_of_streams_are_in_the_order_of_their_numbers() {
    let mut values = PerStream { out: 1, err: 2 };
    values[Stream::Err] += 1;
    assert_eq!(values.iter().copied().collect::<Vec<_>>(), Stream::ALL.map(|stream| values[stream]));
    assert_eq!((values[Stream::Out], values[Stream::Err]), (1, 3));
}

proptest! {
    #![proptest_config(crate::tests::property_config())]

    #[test]
    fn lines_do_not_depend_on_the_chunking(
        bytes in proptest::collection::vec(
            prop_oneof![4 => Just(b'\n'), 3 => Just(b'\r'), 1 => Just(0u8), 12 => any::<u8>(), 3 => Just(0xe2u8), 3 => Just(0x82u8), 20 => 0x20u8..0x7f],
            0..400,
        ),
        cuts in proptest::collection::vec(0usize..400, 0..20),
        max in 4usize..60,
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        let once = split(max, &[&bytes]);
        prop_assert_eq!(&split(max, &chunks), &once);
        prop_assert_eq!(&split(max, &bytes.chunks(1).collect::<Vec<_>>()), &once);
        // The reference: split on LF and clean with the standard library; then compare with the joined fragments.
        let mut expected: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
        if expected.last().is_some_and(|l| l.is_empty()) {
            expected.pop();
        }
        let mut joined: Vec<String> = vec![String::new()];
        for (text, fragment) in &once {
            prop_assert!(text.len() <= max);
            joined.last_mut().expect("one").push_str(text);
            if *fragment != Fragment::Partial {
                joined.push(String::new());
            }
        }
        joined.pop();
        let expected: Vec<String> = expected
            .into_iter()
            .map(|l| String::from_utf8_lossy(l.strip_suffix(b"\r").unwrap_or(l)).replace(['\0', '\r'], " "))
            .collect();
        prop_assert_eq!(joined, expected);
    }
}
