use super::*;
use crate::frame::{AgentLineKind, PRI_APP, parse_all};
use crate::ledger::{BatchOutcome, DrainIndex, Identity, SegmentLocation, SegmentStart};
use crate::spool::{DrainId, Opened, Reader, SpoolOwner, WhenFull};
use proptest::prelude::*;

fn format() -> FrameFormat {
    FrameFormat {
        host: Field::coerce("host"),
        app: Field::coerce("app"),
        proc_id: Field::coerce("web.1"),
        source: "web.1".to_owned(),
        max_line: 256,
    }
}

fn spool(base: &std::path::Path) -> Spool {
    let drain = DrainId::of_test("d.1");
    let Opened { spool, error } = Spool::open(base, "aa".repeat(16), SpoolOwner::of_test(vec![drain]), None);
    assert!(error.is_none(), "{error:?}");
    spool
}

fn record<T>(spool: &Spool, act: impl FnOnce(&mut Recorder<'_>) -> T) -> T {
    record_as(&format(), spool, act)
}

fn record_as<T>(format: &FrameFormat, spool: &Spool, act: impl FnOnce(&mut Recorder<'_>) -> T) -> T {
    let writer = spool.writer(1 << 30, WhenFull::DropOldest, || false);
    act(&mut Recorder::new(spool, writer, format))
}

/// The only drain of these tests.
const D0: DrainIndex = DrainIndex::new(0);

/// So many microseconds after the epoch.
fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// The bytes of a spool that has one segment.
fn spooled(spool: &Spool) -> Vec<u8> {
    let ledger = spool.shared.lock();
    let segment = ledger.segments().next().expect("a segment");
    let SegmentLocation::File(path) = &segment.location else { panic!("a file is expected") };
    let mut bytes = std::fs::read(path).expect("readable");
    bytes.truncate(segment.len as usize);
    bytes
}

/// Messages that a drain got.
struct Delivered {
    lines: Vec<String>,
    notices: Vec<String>,
}

/// Delivers everything in the spool.
fn deliver(spool: &Spool) -> Delivered {
    let mut reader = Reader::new(None);
    for segment in spool.shared.lock().segments() {
        reader.add(SegmentStart { start: segment.start, location: segment.location.clone() });
    }
    let allowed = spool.shared.lock().seal_range(D0);
    let mut body = bytes::BytesMut::new();
    let range = reader.read(allowed.cursor, allowed.limit, usize::MAX, &mut body).expect("readable");
    if range.frames > 0 {
        let identity = Identity { agent: &spool.agent, drain: "d.1" };
        let mut ledger = spool.shared.lock();
        ledger.seal(D0, range, &identity, |_| Vec::new()).expect("sealed");
        ledger.complete_batch(D0, BatchOutcome::Delivered);
    }
    let (mut lines, mut notices) = (Vec::new(), Vec::new());
    for frame in parse_all(&body).expect("whole frames") {
        let list = if frame.pri == PRI_APP { &mut lines } else { &mut notices };
        list.push(frame.msg.to_owned());
    }
    Delivered { lines, notices }
}

/// Lines that these notices announce.
fn announced(notices: &[String]) -> u64 {
    let count = |text: &String| -> u64 {
        let number = text.split(' ').nth(5).expect("a number");
        number.parse().expect("a number")
    };
    notices.iter().map(count).sum()
}

#[test]
fn notices_of_two_streams_are_in_the_order_of_time() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.gap(Stream::Out, &Gap::of(b"lost\n", at(20)));
        recorder.gap(Stream::Err, &Gap::of(b"lost\n", at(10)));
        recorder.chunk(Stream::Err, b"line\n", at(15));
    });
    let bytes = spooled(&spool);
    let frames = parse_all(&bytes).expect("whole frames");
    let times: Vec<&str> = frames.iter().map(|frame| &frame.time[20..26]).collect();
    assert_eq!(times, ["000020", "000021", "000022"]);
}

#[test]
fn lines_of_both_streams_are_recorded_in_order_and_counted() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.chunk(Stream::Out, b"one\ntw", at(1));
        recorder.chunk(Stream::Err, b"oops\n", at(2));
        assert_eq!(spool.shared.lock().captured(), 3);
        recorder.chunk(Stream::Out, b"o\nlast", at(3));
        recorder.end(Stream::Out);
        recorder.end(Stream::Err);
    });
    let Delivered { lines, notices } = deliver(&spool);
    assert_eq!((lines, notices), (["one", "oops", "two", "last"].map(str::to_owned).to_vec(), vec![]));
    let report = spool.shared.lock().report();
    assert_eq!((report.captured, report.drains[0].delivered, report.drains[0].held), (4, 4, 0));
}

#[test]
fn an_idle_line_is_sent_as_far_as_it_came_and_counts_once() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.chunk(Stream::Out, b"name? ", at(1));
        assert!(recorder.idle_deadline().is_some());
        recorder.streams.out.last -= IDLE_LINE_TIMEOUT;
        recorder.flush(at(2));
        assert_eq!(recorder.idle_deadline(), None);
        assert_eq!(deliver(&spool).lines, ["name? "]);
        assert_eq!(spool.shared.lock().imbalance(D0), 0);
        recorder.chunk(Stream::Out, b"\n", at(3));
    });
    let report = spool.shared.lock().report();
    assert_eq!((report.captured, report.drains[0].delivered, report.drains[0].held), (1, 1, 0));
}

#[test]
fn a_line_that_trickles_is_sent_before_it_pauses() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.chunk(Stream::Out, b".", at(1));
        let first = recorder.streams.out.oldest;
        recorder.chunk(Stream::Out, b".", at(2));
        assert_eq!(recorder.streams.out.oldest, first, "the age is that of the first byte");
        recorder.streams.out.oldest -= MAX_UNSENT_AGE;
        assert!(recorder.idle_deadline().is_some_and(|deadline| deadline <= Instant::now()));
        recorder.flush(at(3));
        assert_eq!((recorder.idle_deadline(), deliver(&spool).lines), (None, vec!["..".to_owned()]));
        recorder.chunk(Stream::Out, b".\n. ", at(4));
        assert!(recorder.streams.out.oldest > first, "what is left came with the last chunk");
    });
    let report = spool.shared.lock().report();
    assert_eq!((report.captured, report.drains[0].delivered, report.drains[0].held), (2, 0, 2));
}

#[test]
fn a_stream_that_never_pauses_does_not_delay_the_unfinished_line_of_the_other() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.chunk(Stream::Out, b"name? ", at(1));
        recorder.streams.out.oldest -= MAX_UNSENT_AGE;
        recorder.chunk(Stream::Err, b"busy\n", at(2));
        assert_eq!(recorder.idle_deadline(), None);
    });
    assert_eq!(deliver(&spool).lines, ["busy", "name? "]);
}

#[test]
fn a_return_at_the_end_of_a_line_that_was_sent_causes_no_wake_up() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.chunk(Stream::Out, b"50 %\r", at(1));
        recorder.streams.out.last -= IDLE_LINE_TIMEOUT;
        recorder.flush(at(2));
        assert_eq!(recorder.idle_deadline(), None);
    });
    assert_eq!(deliver(&spool).lines, ["50 %"]);
}

#[test]
fn a_part_that_was_flushed_and_not_written_drops_its_own_line() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    std::fs::remove_dir_all(base.path()).expect("removed");
    record(&spool, |recorder| {
        recorder.chunk(Stream::Out, b"half", at(1));
        recorder.streams.out.last -= IDLE_LINE_TIMEOUT;
        recorder.flush(at(2));
        recorder.chunk(Stream::Err, b"line\n", at(3));
        assert_eq!(recorder.streams.out.line(), LineState::Skipped { counted: false });
        recorder.chunk(Stream::Out, b" whole\n", at(4));
        assert_eq!(spool.shared.lock().imbalance(D0), 0);
    });
    assert_eq!(spool.shared.lock().report().drains[0].dropped, [(DropReason::SpoolUnwritable, 2)]);
}

#[test]
fn a_panic_drops_the_lines_of_its_chunk_and_no_others() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.panic_at(b"bad");
        recorder.chunk(Stream::Out, b"good\nto", at(1));
        recorder.chunk(Stream::Out, b"rn\nbad\nlost\nha", at(2));
        recorder.chunk(Stream::Out, b"lf\nfine\n", at(3));
        recorder.end(Stream::Out);
        assert!(matches!(recorder.take_warnings()[..], [RecorderWarning::Fault(3)]));
    });
    let Delivered { lines, notices } = deliver(&spool);
    assert_eq!(lines, ["good", "fine"]);
    assert_eq!(announced(&notices), 4);
    let report = spool.shared.lock().report();
    assert_eq!(report.captured, 6);
    assert_eq!(report.drains[0].dropped, [(DropReason::RecorderFault, 4)]);
}

proptest! {
    #![proptest_config(crate::tests::property_config_with(0.25))]

    /// Whatever the header fields and the longest message are set to, the parser accepts every frame of the agent.
    #[test]
    fn frames_of_any_settings_are_accepted_by_the_parser(
        fields in [1usize..=Field::MAX, 1usize..=Field::MAX, 1usize..=Field::MAX, 1usize..=2 * Field::MAX],
        max_line in 256usize..=10_000,
        is_longest in any::<[bool; 5]>(),
        lines in prop::collection::vec(0usize..25_000, 1..4),
    ) {
        let names = ["TAILRACE_FRAME_HOST", "TAILRACE_FRAME_APP", "TAILRACE_FRAME_PROC", "DYNO"];
        let fields = names.into_iter().zip(fields).zip(is_longest);
        let fields = fields.map(|((name, len), is_longest)| (name, "x".repeat(if is_longest { Field::MAX } else { len })));
        let max_line = if is_longest[4] { 10_000 } else { max_line }.to_string();
        let vars = fields.chain([("TAILRACE_MAX_LINE", max_line)]);
        let (config, problems) = Config::from_env(vars.map(|(name, value)| (name.into(), value.into())));
        prop_assert_eq!(problems, []);
        let base = tempfile::tempdir().expect("a directory");
        let spool = spool(base.path());
        let lines: Vec<String> = lines.into_iter().map(|len| "x".repeat(len)).collect();
        let kinds = [AgentLineKind::Sample, AgentLineKind::Lifecycle, AgentLineKind::Agent];
        record_as(&FrameFormat::of(&config), &spool, |recorder| {
            recorder.agent_lines(&kinds.map(|kind| AgentLine::new(kind, "x".repeat(20_000))), at(u64::MAX));
            recorder.gap(Stream::Out, &Gap { newlines: u64::MAX >> 1, ..Gap::of(b"lost\n", at(1)) });
            for line in &lines {
                recorder.chunk(Stream::Out, format!("{line}\n").as_bytes(), at(2));
            }
        });
        let bytes = spooled(&spool);
        let frames = parse_all(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let app: String = frames.iter().filter(|frame| frame.is_app_line()).map(|frame| frame.msg).collect();
        prop_assert_eq!(app.len(), lines.concat().len());
        prop_assert_eq!(frames.iter().filter(|frame| !frame.is_app_line()).count(), kinds.len() + 1);
    }

    /// Whatever is lost: a line of which any byte was lost is dropped whole and announced, every other one
    /// arrives, and the law holds after every step.
    #[test]
    fn gaps_are_exact(
        lines in prop::collection::vec(0usize..600, 1..40),
        cuts in prop::collection::vec((1usize..400, any::<bool>(), any::<bool>()), 1..200),
        ends in any::<bool>(),
    ) {
        let mut text = Vec::new();
        for (number, len) in lines.iter().enumerate() {
            text.extend(format!("<{number}>").bytes().chain(std::iter::repeat_n(b'x', *len)));
            text.push(b'\n');
        }
        if !ends {
            text.pop();
        }
        let base = tempfile::tempdir().expect("a directory");
        let spool = spool(base.path());
        let mut touched = vec![false; lines.len()];
        let (mut position, mut cuts) = (0, cuts.into_iter().cycle());
        record(&spool, |recorder| {
            while position < text.len() {
                let (len, lost, quiet) = cuts.next().expect("cycles");
                let chunk = &text[position..(position + len).min(text.len())];
                if lost {
                    recorder.gap(Stream::Out, &Gap::of(chunk, at(position as u64 + 1)));
                    let line = |before: usize| memchr::memchr_iter(b'\n', &text[..before]).count();
                    touched[line(position)..=line(position + chunk.len() - 1)].fill(true);
                } else {
                    recorder.chunk(Stream::Out, chunk, at(position as u64 + 1));
                }
                if quiet {
                    recorder.streams.out.last -= IDLE_LINE_TIMEOUT;
                    recorder.flush(at(position as u64 + 1));
                }
                position += chunk.len();
                assert_eq!(spool.shared.lock().imbalance(D0), 0);
            }
            recorder.end(Stream::Out);
        });
        let Delivered { lines: messages, notices } = deliver(&spool);
        let report = spool.shared.lock().report();
        let dropped = touched.iter().filter(|touched| **touched).count() as u64;
        prop_assert_eq!(report.captured, lines.len() as u64);
        prop_assert_eq!(report.drains[0].dropped_lines(), dropped);
        prop_assert_eq!(announced(&notices), dropped);
        prop_assert_eq!(report.drains[0].delivered, lines.len() as u64 - dropped);
        let joined = messages.concat();
        for (number, touched) in touched.iter().enumerate() {
            let whole = format!("<{number}>{}", "x".repeat(lines[number]));
            prop_assert!(*touched || joined.contains(&whole), "line {number} is not whole");
        }
    }
}
