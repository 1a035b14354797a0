use super::*;
use proptest::prelude::*;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
fn times_are_those_of_rfc_5424_and_others_are_refused() {
    let parsed = |time: &str| {
        let body = format!("<40>1 {time} host app web.3 - x\n");
        let frame = format!("{} {body}", body.len());
        parse(frame.as_bytes(), 0).map(|frame| frame.time.to_owned()).map_err(|error| error.kind)
    };
    for time in [
        "2026-01-01T00:00:00Z",
        "2026-12-31T23:59:59Z",
        "2026-03-04T05:06:07+00:00",
        "2026-03-04T05:06:07.1Z",
        "2026-03-04T05:06:07.123456-23:59",
        "2026-03-04T05:06:07.123456+09:30",
    ] {
        assert_eq!(parsed(time).as_deref(), Ok(time));
    }
    for time in [
        "2026-00-04T05:06:07Z",
        "2026-13-04T05:06:07Z",
        "2026-20-04T05:06:07Z",
        "2026-03-00T05:06:07Z",
        "2026-03-32T05:06:07Z",
        "2026-03-04T24:06:07Z",
        "2026-03-04T05:60:07Z",
        "2026-03-04T05:06:60Z",
        "2026-03-04t05:06:07Z",
        "2026-03-04T05:06:07z",
        "2026-03-04T05:06:0",
        "2026-03-04T05:06:07.Z",
        "2026-03-04T05:06:07.1234567Z",
        "2026-03-04T05:06:07ZZ",
        "2026-03-04T05:06:07+24:00",
        "2026-03-04T05:06:07+00:60",
        "2026-03-04T05:06:07+00:000",
        "2026-03-04T05:06:07+0000",
        "2026-03-04T05:06:07*00:00",
        "2026-03-04T05:06:07",
    ] {
        assert_eq!(parsed(time), Err(ParseErrorKind::Time), "{time}");
    }
}

#[test]
fn priorities_are_numbers_up_to_255() {
    let parsed = |priority: &str| {
        let body = format!("{priority}1 2026-03-04T05:06:07Z host app web.3 - x\n");
        let frame = format!("{} {body}", body.len());
        parse(frame.as_bytes(), 0).map(|frame| frame.pri).map_err(|error| error.kind)
    };
    for (text, pri) in [("<0>", 0), ("<7>", 7), ("<190>", 190), ("<255>", 255)] {
        assert_eq!(parsed(text), Ok(pri), "{text}");
    }
    for text in ["<>", "<00>", "<01>", "<256>", "<+1>", "<1a>", "190>", "190"] {
        assert_eq!(parsed(text), Err(ParseErrorKind::Priority), "{text}");
    }
}

#[test]
fn a_frame_may_be_as_long_as_receivers_take_and_no_longer() {
    let frame_of = |total: usize| {
        let mut frame = format!("{} <40>1 2026-03-04T05:06:07Z host app web.3 - ", total - 6);
        frame.extend(std::iter::repeat_n('x', total - frame.len() - 1));
        frame.push('\n');
        frame
    };
    let frame = frame_of(MAX_FRAME);
    assert_eq!(frame.len(), MAX_FRAME);
    assert_eq!(span(frame.as_bytes(), 0), Ok((6, MAX_FRAME)));
    assert_eq!(parse(frame.as_bytes(), 0).map(|frame| frame.total), Ok(MAX_FRAME));
    let two = format!("{frame}{frame}");
    assert_eq!(
        span(two.as_bytes(), MAX_FRAME),
        Ok((MAX_FRAME + 6, 2 * MAX_FRAME)),
        "the limit is that of a frame"
    );
    let too_long = ParseError { offset: 0, kind: ParseErrorKind::Long };
    assert_eq!(parse(frame_of(MAX_FRAME + 1).as_bytes(), 0), Err(too_long));
}

#[test]
fn an_error_says_where_and_what() {
    let error = ParseError { offset: 3, kind: ParseErrorKind::Priority };
    assert_eq!(error.to_string(), "byte 3: expected `<PRI>1 ` with PRI from 0 to 255");
}

#[test]
fn lines_of_the_app_are_told_from_those_about_it_whatever_their_names() {
    let mut bytes = Vec::new();
    for (app, proc_id) in [("app", "web.1"), ("tailrace", "web.1"), ("heroku", "logplex")] {
        encoder(PRI_APP, app, proc_id).encode(&mut bytes, AT, b"a line of the app");
    }
    encoder(PRI_NOTICE, "heroku", "logplex").encode(&mut bytes, AT, b"a notice");
    for kind in [AgentLineKind::Sample, AgentLineKind::Lifecycle, AgentLineKind::Agent] {
        AgentLine::new(kind, "a line of the agent").encode(
            &mut bytes,
            AT,
            &Field::coerce("host"),
            &Field::coerce("web.1"),
        );
    }
    let frames = parse_all(&bytes).expect("frames");
    let expected = [true, true, true, false, false, false, false];
    assert_eq!(frames.iter().map(Frame::is_app_line).collect::<Vec<_>>(), expected);
}

#[test]
fn headers_of_any_length_are_written_whole() {
    for len in 1..=Field::MAX {
        let proc_id = "p".repeat(len);
        let mut encoder = encoder(PRI_APP, "app", &proc_id);
        for msg in ["", "m", &"m".repeat(1000)] {
            let mut bytes = b"before".to_vec();
            encoder.encode(&mut bytes, AT, msg.as_bytes());
            let body = format!("<190>1 {AT} host app {proc_id} - {msg}\n");
            let frame = format!("before{} {body}", body.len());
            assert_eq!(bytes.escape_ascii().to_string(), frame.escape_default().to_string());
            assert_eq!(encoder.header_len(), body.len() - msg.len() - 1);
        }
    }
}

#[test]
fn fields_are_printable_and_at_most_128_bytes_long() {
    let longest = "x".repeat(Field::MAX);
    for text in ["~", "!", "web.1", &longest] {
        assert_eq!(Field::new(text).map(|field| field.as_str().to_owned()).as_deref(), Ok(text));
        assert_eq!(Field::coerce(text).as_str(), text);
    }
    for (text, coerced, error) in [
        ("", "-", "it is empty"),
        ("web 1", "web_1", "byte 3 is not a printable ASCII character"),
        ("\u{e9}", "_", "byte 0 is not a printable ASCII character"),
        (&format!("{longest}y"), &longest, "129 bytes, at most 128 are allowed"),
    ] {
        assert_eq!(Field::new(text).map_err(|error| error.to_string()), Err(error.to_owned()));
        assert_eq!(Field::coerce(text).to_string(), coerced);
    }
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
fn dates_are_those_of_the_gregorian_calendar() {
    let mut days = 0;
    for year in 1970..=2401 {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if is_leap { 29 } else { 28 };
        for (month, len) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            for day in [1, len] {
                let time = Timestamp::from_micros((days + day - 1) * 86_400_000_000);
                let text = format!("{year}-{month:02}-{day:02}T00:00:00.000000+00:00");
                assert_eq!(time.to_string(), text);
                assert_eq!(Timestamp::parse(&text), Some(time), "{text}");
            }
            days += len;
        }
    }
}

#[test]
fn instants_are_those_of_the_system_clock() {
    let system = |micros| UNIX_EPOCH + Duration::from_micros(micros);
    assert_eq!(Timestamp::of(system(AT.as_micros())), AT);
    assert_eq!(
        Timestamp::of(UNIX_EPOCH - Duration::from_secs(1)),
        Timestamp::default(),
        "none before the epoch"
    );
    let earlier = SystemTime::now();
    let now = system(Timestamp::now().as_micros());
    assert!(earlier < now + Duration::from_micros(1) && now <= SystemTime::now());
    assert_eq!((AT.since(before(7)), AT.since(after(7))), (Duration::from_micros(7), Duration::ZERO));
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
