use super::*;
use proptest::prelude::*;

fn encoder(pri: u8, app: &str, proc_id: &str) -> Encoder {
    Encoder::new(pri, &Field::coerce("host"), &Field::coerce(app), &Field::coerce(proc_id))
}

/// 2026-03-04T05:06:07.089012Z, the instant of the published-form samples.
const AT: Timestamp = Timestamp::from_micros(1_772_600_767_089_012);

/// `AT` and so many microseconds.
fn after(micros: u64) -> Timestamp {
    Timestamp::from_micros(AT.as_micros() + micros)
}

/// So many microseconds before `AT`.
fn before(micros: u64) -> Timestamp {
    Timestamp::from_micros(AT.as_micros() - micros)
}

#[test]
fn golden_body_of_the_https_drain() {
    let mut body = Vec::new();
    let mut app = encoder(PRI_APP, "app", "web.1");
    app.encode(&mut body, AT, b"listening on 5000");
    app.encode(&mut body, AT, "café ready".as_bytes());
    app.encode(&mut body, AT, b"");
    let mut dyno = encoder(PRI_DYNO, "heroku", "web.1");
    dyno.encode(
        &mut body,
        AT,
        b"source=web.1 dyno=heroku.12345678.1f0c0a5e-9f3f-4a3e-8a55-0d9c7a1b2c3d sample#load_avg_1m=0.25",
    );
    let golden = include_bytes!("../../tests/golden/https-drain.body");
    assert_eq!(String::from_utf8_lossy(&body), String::from_utf8_lossy(golden));
    assert_eq!(body.len(), 370);
}

#[test]
fn messages_of_any_length_are_encoded_whole_and_at_any_time() {
    let message: Vec<u8> = (0..1200).map(|at| b'a' + (at % 26) as u8).collect();
    let mut one = encoder(PRI_APP, "app", "web.1");
    // One microsecond apart, over the end of a second.
    let start = 1_772_600_766_999_400;
    for len in 0..=message.len() {
        let (time, mut body) = (Timestamp::from_micros(start + len as u64), Vec::new());
        one.encode(&mut body, time, &message[..len]);
        let frame = parse(&body, 0).expect("a frame");
        assert_eq!((frame.total, frame.msg.as_bytes()), (body.len(), &message[..len]));
        assert_eq!(Timestamp::of_frame(&body), Some(time), "{len}");
    }
}

#[test]
fn published_samples_parse() {
    // Dev Center "log drains" and heroku/logplex doc/README.http_drains.md; the LF is part of LEN.
    for sample in [
        "83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed from starting to up\n",
        "119 <40>1 2012-11-30T06:45:26+00:00 host app web.3 - Starting process with command `bundle exec rackup config.ru -p 24405`\n",
        "70 <174>1 2012-07-22T00:06:26+00:00 host erlang console - Hi from erlang\n",
    ] {
        let frame = parse(sample.as_bytes(), 0).expect(sample);
        assert_eq!(frame.total, sample.len());
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(again, sample.as_bytes());
    }
}

#[test]
fn malformed_frames_are_refused_at_their_offset() {
    use ParseErrorKind::*;
    let good = "83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed from starting to up\n";
    let of = |from: &str, to: &str| {
        let body = good[3..].replacen(from, to, 1);
        format!("{} {body}", body.len())
    };
    let cases: Vec<(String, usize, ParseErrorKind)> = vec![
        (good.replacen("83", "083", 1), 0, Length),
        (good.replacen("83", "0", 1), 0, Length),
        (good.replacen("83", "", 1), 0, Length),
        (good.replacen("83", "-1", 1), 0, Length),
        (good.replacen("83 ", "83\t", 1), 0, Length),
        (good.replacen("83", "999999", 1), 0, Length),
        (good.replacen("83", "10240", 1), 0, Long),
        (good.replacen("83", "84", 1), 86, Truncated),
        (good.replacen("83", "82", 1), 85, LineFeedMissing),
        (good[..1].to_owned(), 1, Truncated),
        (of("<40>", "<256>"), 3, Priority),
        (of("<40>", "<040>"), 3, Priority),
        (of("<40>1", "<40>2"), 3, Priority),
        (of("2012-11-30T", "2012-13-30T"), 9, Time),
        (of("+00:00", ""), 9, Time),
        (of("29+00:00", "29.1234567+00:00"), 9, Time),
        (of("2012-11-30T06:45:29+00:00", "-"), 9, Time),
        (of("host app", "host  app"), 40, Field),
        (of(" - State", " State"), 50, MessageId),
        (of("- State changed from starting to up", "-"), 50, MessageId),
        (of("changed", "chan\nged"), 62, LineFeedInside),
    ];
    for (text, offset, kind) in cases {
        assert_eq!(parse(text.as_bytes(), 0), Err(ParseError { offset, kind }), "{text:?}");
    }
    let mut bytes = good.as_bytes().to_vec();
    bytes[60] = 0xff;
    assert_eq!(parse(&bytes, 0), Err(ParseError { offset: 60, kind: Utf8 }));
}

#[test]
fn l10_of_logplex_glued_to_the_next_frame_is_refused_where_it_ends() {
    // github.com/heroku/logplex/issues/105: Logplex's own notice has no LF.
    let l10 = "142 <172>1 2015-06-08T21:50:22+00:00 host heroku logplex - Error L10 (output buffer overflow): 3 messages dropped since 2015-06-08T21:47:22+00:00.";
    let body = format!("{l10}{}", "83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - x\n");
    assert_eq!(
        parse(body.as_bytes(), 0),
        Err(ParseError { offset: l10.len(), kind: ParseErrorKind::LineFeedMissing })
    );
    assert_eq!(span(body.as_bytes(), 0), Ok((4, l10.len())), "a hop by LEN still finds the next frame");
}

#[test]
fn timestamps_of_known_instants() {
    for (seconds, text) in [
        (0u64, "1970-01-01T00:00:00.000000+00:00"),
        (951_782_400, "2000-02-29T00:00:00.000000+00:00"),
        (1_078_012_799, "2004-02-28T23:59:59.000000+00:00"),
        (4_107_542_400, "2100-03-01T00:00:00.000000+00:00"),
        (1_772_600_767, "2026-03-04T05:06:07.000000+00:00"),
    ] {
        let time = Timestamp::from_micros(seconds * 1_000_000);
        assert_eq!(time.to_string(), text);
        assert_eq!(Timestamp::parse(text), Some(time));
    }
}

#[test]
fn the_time_of_a_frame_is_read_back_and_other_text_is_refused() {
    let mut encoder = encoder(PRI_APP, "app", "web.1");
    let mut bytes = Vec::new();
    encoder.encode(&mut bytes, AT, b"some line");
    assert_eq!(Timestamp::of_frame(&bytes), Some(AT));
    for len in 0..bytes.len() {
        assert!(Timestamp::of_frame(&bytes[..len]).is_none_or(|time| time == AT), "{len}");
    }
    for text in ["", "0000-00-00T00:00:00.000000+00:00", "2026-03-04", "x".repeat(40).as_str()] {
        assert_eq!(Timestamp::parse(text), None, "{text}");
    }
}

#[test]
fn timestamps_strictly_increase_until_they_are_a_second_ahead() {
    let mut clock = FrameClock::default();
    assert_eq!(clock.observe(AT), ClockStep::Forward);
    assert_eq!([clock.next(AT), clock.next(AT), clock.next(AT)], [AT, after(1), after(2)]);
    for _ in 0..FrameClock::MAX_AHEAD_MICROS {
        clock.next(AT);
    }
    assert_eq!(clock.next(AT), after(FrameClock::MAX_AHEAD_MICROS), "stops a second ahead");
    assert_eq!(clock.next(after(10)), after(FrameClock::MAX_AHEAD_MICROS + 1), "and goes on with the clock");
}

#[test]
fn a_clock_that_steps_back_is_followed_once() {
    let mut clock = FrameClock::default();
    clock.next(AT);
    assert_eq!(
        clock.observe(before(FrameClock::MAX_STEP_BACK_MICROS)),
        ClockStep::Forward,
        "a step of 5 s is not followed"
    );
    assert_eq!(
        clock.next(before(FrameClock::MAX_STEP_BACK_MICROS)),
        AT,
        "the timestamps neither go back nor on"
    );
    assert_eq!(clock.observe(before(FrameClock::MAX_STEP_BACK_MICROS + 1)), ClockStep::Back);
    assert_eq!(
        clock.next(before(FrameClock::MAX_STEP_BACK_MICROS + 1)),
        before(FrameClock::MAX_STEP_BACK_MICROS)
    );
    assert_eq!(clock.observe(before(FrameClock::MAX_STEP_BACK_MICROS)), ClockStep::Forward);
}

proptest! {
    #![proptest_config(crate::tests::property_config())]

    #[test]
    fn parse_is_the_inverse_of_encode(
        msg in "[^\n\r\0]{0,300}", micros in 0u64..4_000_000_000_000_000, proc_id in "[!-~]{1,40}", pri in 100u8..=191,
    ) {
        let mut body = Vec::new();
        let mut encoder = encoder(pri, "app", &proc_id);
        encoder.encode(&mut body, Timestamp::from_micros(micros), msg.as_bytes());
        let frame = parse(&body, 0).expect("our own frame");
        prop_assert_eq!(frame.msg, msg.as_str());
        prop_assert_eq!(frame.pri, pri);
        prop_assert_eq!(frame.proc_id, proc_id.as_str());
        prop_assert_eq!(frame.total, body.len());
        let mut again = Vec::new();
        frame.encode(&mut again);
        prop_assert_eq!(again, body);
    }

    #[test]
    fn whatever_parses_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = parse(&bytes, 0) {
            let mut again = Vec::new();
            frame.encode(&mut again);
            prop_assert_eq!(&again[..], &bytes[..frame.total]);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_parses_to_what_it_says(at in 0usize..86, byte in any::<u8>()) {
        let mut bytes =
            b"83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed from starting to up\n".to_vec();
        bytes[at] = byte;
        if let Ok(frame) = parse(&bytes, 0) {
            let mut again = Vec::new();
            frame.encode(&mut again);
            prop_assert_eq!(&again[..], &bytes[..frame.total]);
        }
    }
}
