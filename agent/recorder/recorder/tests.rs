use super::*;
use crate::frame::{PRI_APP, parse_all};
use crate::ledger::Identity;
use crate::spool::{DrainId, Reader, WhenFull};
use proptest::prelude::*;

fn look() -> FrameFormat {
    FrameFormat {
        host: Field::coerce("host"),
        app: Field::coerce("app"),
        proc_id: Field::coerce("web.1"),
        source: "web.1".to_owned(),
        max_line: 256,
    }
}

fn spool(base: &std::path::Path) -> Spool {
    let drain = DrainId { name: "drain".to_owned(), token: "d.1".to_owned() };
    let (spool, trouble) = Spool::open(base, "aa".repeat(16), vec![drain], None);
    assert!(trouble.is_none(), "{trouble:?}");
    spool
}

fn record<T>(spool: &Spool, act: impl FnOnce(&mut Recorder<'_>) -> T) -> T {
    let writer = spool.writer(1 << 30, WhenFull::DropOldest, || false);
    act(&mut Recorder::new(spool, writer, &look()))
}

/// Delivers all that there is; returns the messages of the app and the notices.
fn deliver(spool: &Spool) -> (Vec<String>, Vec<String>) {
    let mut reader = Reader::new(None);
    for segment in spool.shared.lock().segments() {
        reader.add(segment.start, segment.place.clone());
    }
    let window = spool.shared.lock().window(0);
    let mut body = bytes::BytesMut::new();
    let (end, frames) = reader.read(window.cursor, window.limit, usize::MAX, &mut body).expect("readable");
    if frames > 0 {
        let identity = Identity { agent: &spool.agent, drain: "d.1" };
        let mut ledger = spool.shared.lock();
        ledger.seal(0, (window.cursor, end), frames, &identity, |_| Vec::new()).expect("sealed");
        ledger.delivered(0);
    }
    let (mut lines, mut notices) = (Vec::new(), Vec::new());
    for frame in parse_all(&body).expect("whole frames") {
        let list = if frame.pri == PRI_APP { &mut lines } else { &mut notices };
        list.push(frame.msg.to_owned());
    }
    (lines, notices)
}

fn announced(notices: &[String]) -> u64 {
    let count = |text: &String| -> u64 {
        let words: Vec<&str> = text.split(' ').collect();
        words[5].parse().expect("a number")
    };
    notices.iter().map(count).sum()
}

#[test]
fn the_notices_of_two_streams_keep_the_order_of_time() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.gap(Stream::Out, &Gap::of(b"lost\n", 20));
        recorder.gap(Stream::Err, &Gap::of(b"lost\n", 10));
        recorder.chunk(Stream::Err, b"line\n", 15);
    });
    let place = spool.shared.lock().segments().next().expect("a segment").place.clone();
    let crate::ledger::SegmentLocation::File(path) = place else { panic!("a file is expected") };
    let bytes = std::fs::read(path).expect("readable");
    let frames = parse_all(&bytes).expect("whole frames");
    let times: Vec<&str> = frames.iter().map(|frame| &frame.time[20..26]).collect();
    assert_eq!(times, ["000020", "000021", "000022"]);
}

#[test]
fn lines_of_both_streams_are_recorded_in_order_and_counted() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.chunk(Stream::Out, b"one\ntw", 1);
        recorder.chunk(Stream::Err, b"oops\n", 2);
        assert_eq!(spool.shared.lock().captured(), 3);
        recorder.chunk(Stream::Out, b"o\nlast", 3);
        recorder.end(Stream::Out);
        recorder.end(Stream::Err);
    });
    let (lines, notices) = deliver(&spool);
    assert_eq!((lines, notices), (["one", "oops", "two", "last"].map(str::to_owned).to_vec(), vec![]));
    let report = spool.shared.lock().report();
    assert_eq!((report.captured, report.drains[0].delivered, report.drains[0].held), (4, 4, 0));
}

#[test]
fn a_line_that_stands_still_goes_out_and_counts_once() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.chunk(Stream::Out, b"name? ", 1);
        assert!(recorder.silence().is_some());
        recorder.streams[0].last -= SILENCE;
        recorder.flush(2);
        assert_eq!(recorder.silence(), None);
        assert_eq!(deliver(&spool).0, ["name? "]);
        assert_eq!(spool.shared.lock().imbalance(0), 0);
        recorder.chunk(Stream::Out, b"\n", 3);
    });
    let report = spool.shared.lock().report();
    assert_eq!((report.captured, report.drains[0].delivered, report.drains[0].held), (1, 1, 0));
}

#[test]
fn a_panic_costs_the_lines_of_its_chunk_and_no_other() {
    let base = tempfile::tempdir().expect("a directory");
    let spool = spool(base.path());
    record(&spool, |recorder| {
        recorder.panic_at(b"bad");
        recorder.chunk(Stream::Out, b"good\nto", 1);
        recorder.chunk(Stream::Out, b"rn\nbad\nlost\nha", 2);
        recorder.chunk(Stream::Out, b"lf\nfine\n", 3);
        recorder.end(Stream::Out);
        assert!(matches!(recorder.take_warnings()[..], [RecorderWarning::Fault(3)]));
    });
    let (lines, notices) = deliver(&spool);
    assert_eq!(lines, ["good", "fine"]);
    assert_eq!(announced(&notices), 4);
    let report = spool.shared.lock().report();
    assert_eq!(report.captured, 6);
    assert_eq!(report.drains[0].dropped, [(DropReason::RecorderFault, 4)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

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
        let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
        record(&spool, |recorder| {
            while at < text.len() {
                let (len, lost, quiet) = cuts.next().expect("cycles");
                let chunk = &text[at..(at + len).min(text.len())];
                if lost {
                    recorder.gap(Stream::Out, &Gap::of(chunk, at as u64 + 1));
                    let line = |at: usize| memchr::memchr_iter(b'\n', &text[..at]).count();
                    touched[line(at)..=line(at + chunk.len() - 1)].fill(true);
                } else {
                    recorder.chunk(Stream::Out, chunk, at as u64 + 1);
                }
                if quiet {
                    recorder.streams[0].last -= SILENCE;
                    recorder.flush(at as u64 + 1);
                }
                at += chunk.len();
                assert_eq!(spool.shared.lock().imbalance(0), 0);
            }
            recorder.end(Stream::Out);
        });
        let (messages, notices) = deliver(&spool);
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
