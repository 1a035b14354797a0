use super::checkpoint::{Checkpoint, Cursor};
use super::directory::Listing;
use super::identity::{AppIdentity, hash};
use super::recovery::{Adoption, adopt};
use super::*;
use crate::frame::Timestamp;
use crate::frame::{DropReason, Encoder, Field, Loss, Losses, PRI_APP};
use crate::ledger::{
    Appended, BatchOutcome, BatchRange, Consumed, DrainIndex, Identity, Ledger, LongLines, Offset, SealRange,
    SegmentRecord, SegmentStart, SharedLedger, TimeRange,
};

const IDENTITY: Identity<'_> = Identity { agent: "00aa", drain: "d.1" };
/// The first and the second drain.
const D0: DrainIndex = DrainIndex::new(0);
const D1: DrainIndex = DrainIndex::new(1);

/// Frames with numbered messages, and what the ledger has to book for them.
fn frames(numbers: std::ops::Range<u64>) -> (Vec<u8>, Appended) {
    let field = Field::coerce("x");
    let mut encoder = Encoder::new(PRI_APP, &field, &field, &field);
    let mut out = Vec::new();
    let count = numbers.end - numbers.start;
    for number in numbers {
        encoder.encode(&mut out, Timestamp::from_micros(1), format!("{number:0>100}").as_bytes());
    }
    let len = out.len() as u64;
    let (first, last) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
    let times = Some(TimeRange { first, last });
    (out, Appended { len, frames: count, ended: count, times, ..Appended::default() })
}

fn shared(drains: usize) -> SharedLedger {
    SharedLedger::new(Ledger::new((0..drains).map(|d| format!("d{d}")), Vec::new()))
}

fn write(writer: &mut Writer<'_>, numbers: std::ops::Range<u64>) {
    let (bytes, appended) = frames(numbers);
    writer.append(&bytes, &appended);
}

fn reader_of(shared: &SharedLedger, memory: Option<File>) -> Reader {
    let mut reader = Reader::new(memory);
    add_segments(&mut reader, &shared.lock());
    reader
}

fn add_segments(reader: &mut Reader, ledger: &Ledger) {
    for segment in ledger.segments() {
        reader.add(SegmentStart { start: segment.start, location: segment.location.clone() });
    }
}

fn numbers(body: &[u8]) -> Vec<u64> {
    let frames = crate::frame::parse_all(body).expect("whole frames");
    frames.iter().map(|frame| frame.msg.parse().expect("a number")).collect()
}

fn read_all(reader: &mut Reader, from: Offset, limit: Offset, max: usize) -> Vec<u64> {
    let (mut at, mut all) = (from, Vec::new());
    loop {
        let mut body = bytes::BytesMut::new();
        let range = reader.read(at, limit, max, &mut body).expect("readable");
        if range.frames == 0 {
            return all;
        }
        assert_eq!(numbers(&body).len() as u64, range.frames);
        all.extend(numbers(&body));
        at = range.end;
    }
}

#[test]
fn frames_are_read_back_in_order_across_segments() {
    let base = tempfile::tempdir().expect("a directory");
    let directory = Directory::create(&base.path().join("spool"), "00aa").expect("ours");
    let shared = shared(1);
    let mut writer = Writer::new(&shared, Some(&directory), None, 1 << 30, WhenFull::DropOldest, || false);
    for start in (0..20_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    assert!(shared.lock().segments().len() > 2);
    let log_end = shared.lock().log_end();
    for max in [1, 200, 10_000, 512 << 10, 8 << 20] {
        let all = read_all(&mut reader_of(&shared, None), Offset::ZERO, log_end, max);
        assert!(all.iter().copied().eq(0..20_000), "{max}");
    }
    let files = directory.segments().expect("listed");
    assert_eq!(files.iter().map(|file| file.len).sum::<u64>(), log_end.get());
    assert!(files.iter().all(|file| file.len <= SEGMENT_BYTES));
}

#[test]
fn at_the_limit_the_oldest_segments_are_dropped_and_counted() {
    let base = tempfile::tempdir().expect("a directory");
    let directory = Directory::create(base.path(), "00aa").expect("ours");
    let shared = shared(2);
    let mut writer = Writer::new(&shared, Some(&directory), None, 4 << 20, WhenFull::DropOldest, || false);
    for start in (0..60_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    let ledger = shared.lock();
    assert!(ledger.bytes() <= 4 << 20);
    let dropped = ledger.accounts()[0].dropped();
    assert!(dropped > 0);
    assert_eq!((ledger.captured(), ledger.held(D0)), (60_000, 60_000 - dropped));
    let range = ledger.seal_range(D1);
    drop(ledger);
    let rest = read_all(&mut reader_of(&shared, None), range.cursor, range.limit, 1 << 20);
    assert!(rest.iter().copied().eq(dropped..60_000), "the youngest lines are left, without a gap");
}

#[test]
fn without_a_directory_segments_are_in_memory() {
    let memory = memory_file().expect("memfd");
    let shared = shared(1);
    let mut writer = Writer::new(&shared, None, Some(&memory), 1 << 30, WhenFull::DropOldest, || false);
    for start in (0..50_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    let ledger = shared.lock();
    assert!(ledger.bytes() <= u64::from(MEMORY_SLOTS) * SEGMENT_BYTES);
    let (dropped, range) = (ledger.accounts()[0].dropped(), ledger.seal_range(D0));
    assert_eq!(ledger.imbalance(D0), 0);
    drop(ledger);
    let memory = memory.try_clone().expect("a clone");
    let rest = read_all(&mut reader_of(&shared, Some(memory)), range.cursor, range.limit, 1 << 20);
    assert!(rest.iter().copied().eq(dropped..50_000));
}

#[test]
fn a_failing_disk_is_replaced_by_memory_and_reported_once() {
    let base = tempfile::tempdir().expect("a directory");
    let directory = Directory::create(base.path(), "00aa").expect("ours");
    let memory = memory_file().expect("memfd");
    let shared = shared(1);
    let mut writer =
        Writer::new(&shared, Some(&directory), Some(&memory), 1 << 30, WhenFull::DropOldest, || false);
    write(&mut writer, 0..5000);
    std::fs::remove_dir_all(directory.path()).expect("removed");
    write(&mut writer, 5000..9000);
    write(&mut writer, 9000..12_000);
    assert!(writer.take_warning().is_some_and(|e| e.to_string().starts_with("cannot write to")));
    assert!(writer.take_warning().is_none());
    let ledger = shared.lock();
    assert_eq!(ledger.captured(), 12_000);
    assert_eq!(ledger.imbalance(D0), 0);
    assert!(ledger.segments().any(|s| matches!(s.location, SegmentLocation::Memory(_))));
}

#[test]
fn a_file_that_nobody_finds_any_more_gets_no_more_frames() {
    type Strike = fn(&Directory, &std::path::Path);
    let strikes: [(&str, Strike); 4] = [
        ("removed", |_, file| std::fs::remove_file(file).expect("removed")),
        ("replaced", |_, file| {
            std::fs::remove_file(file).expect("removed");
            std::fs::write(file, "").expect("written");
        }),
        ("the directory removed", |directory, _| std::fs::remove_dir_all(directory.path()).expect("removed")),
        ("the directory moved", |directory, _| {
            std::fs::rename(directory.path(), directory.path().with_extension("moved")).expect("moved");
        }),
    ];
    for (name, strike) in strikes {
        let base = tempfile::tempdir().expect("a directory");
        let directory = Directory::create(base.path(), "00aa").expect("ours");
        let memory = memory_file().expect("memfd");
        let shared = shared(1);
        let mut writer =
            Writer::new(&shared, Some(&directory), Some(&memory), 1 << 30, WhenFull::DropOldest, || false);
        write(&mut writer, 0..100);
        let behind = shared.lock().log_end();
        strike(&directory, &directory.segment(Offset::ZERO));
        write(&mut writer, 100..200);
        write(&mut writer, 200..300);
        let mut reader = reader_of(&shared, Some(memory.try_clone().expect("a clone")));
        let log_end = shared.lock().log_end();
        assert!(read_all(&mut reader, behind, log_end, 1 << 20).into_iter().eq(100..300), "{name}");
        assert_eq!(shared.lock().segments().len(), 2, "{name}: both are in one segment");
    }
}

#[test]
fn without_disk_and_memory_the_lines_are_counted_as_dropped() {
    let shared = shared(1);
    let mut writer = Writer::new(&shared, None, None, 1 << 30, WhenFull::DropOldest, || false);
    write(&mut writer, 0..10);
    let ledger = shared.lock();
    assert_eq!((ledger.captured(), ledger.accounts()[0].dropped(), ledger.imbalance(D0)), (10, 10, 0));
}

#[test]
fn damage_is_found_at_its_offset() {
    let base = tempfile::tempdir().expect("a directory");
    let directory = Directory::create(base.path(), "00aa").expect("ours");
    let shared = shared(1);
    let mut writer = Writer::new(&shared, Some(&directory), None, 1 << 30, WhenFull::DropOldest, || false);
    write(&mut writer, 0..10);
    let path = directory.segment(Offset::ZERO);
    let mut bytes = std::fs::read(&path).expect("the segment");
    let at = bytes.len() / 10 * 4;
    bytes[at] = b'x';
    std::fs::write(&path, &bytes).expect("damaged");
    let mut reader = reader_of(&shared, None);
    let mut body = bytes::BytesMut::new();
    let good = reader.read(Offset::ZERO, Offset::MAX, 1 << 20, &mut body).expect("the good ones first");
    assert_eq!((good.end.get(), good.frames, numbers(&body)), (at as u64, 4, vec![0, 1, 2, 3]));
    let error = reader.read(good.end, Offset::MAX, 1 << 20, &mut body).expect_err("damaged");
    assert!(matches!(error, ReadError::Damaged { at: found } if found == good.end), "{error}");
    assert!(body.is_empty());
    assert_eq!(
        shared.lock().skip_damaged(D0),
        bytes.len() as u64,
        "nothing was sealed yet: the whole segment"
    );
    assert_eq!(shared.lock().imbalance(D0), 0);
}

#[test]
fn a_directory_is_private_and_links_are_not_followed() {
    use std::os::unix::fs::PermissionsExt;
    let base = tempfile::tempdir().expect("a directory");
    let real = base.path().join("real");
    let directory = Directory::create(&real, "00aa").expect("ours");
    let mode = std::fs::metadata(directory.path()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let link = base.path().join("link");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    let error = Directory::create(&link, "00bb").expect_err("a link");
    assert!(error.to_string().contains("TAILRACE_SPOOL_DIR"), "{error}");
    assert!(Directory::adopt(directory.path().to_owned()).expect("ours").is_none(), "it is locked");
    std::fs::remove_file(directory.path().join("lock")).expect("removed"); // as who cleans /tmp by age
    assert!(Directory::adopt(directory.path().to_owned()).expect("ours").is_none(), "it is still locked");
    assert!(Directory::is_held(&real, "00aa"));
}

#[test]
fn a_dead_agents_directory_is_adopted_from_each_drains_cursor() {
    let base = tempfile::tempdir().expect("a directory");
    let (sealed, total) = {
        let directory = Directory::create(base.path(), "00aa").expect("ours").of_app(AppIdentity::of_test());
        let shared = shared(1);
        let mut writer =
            Writer::new(&shared, Some(&directory), None, 1 << 30, WhenFull::DropOldest, || false);
        for start in (0..20_000).step_by(1000) {
            write(&mut writer, start..start + 1000);
        }
        let mut reader = reader_of(&shared, None);
        let mut body = bytes::BytesMut::new();
        let first = reader.read(Offset::ZERO, Offset::MAX, 1 << 20, &mut body).expect("read");
        let mut ledger = shared.lock();
        ledger.seal(D0, first, &IDENTITY, |_| Vec::new()).expect("sealed");
        ledger.complete_batch(D0, BatchOutcome::Delivered);
        let second = reader.read(first.end, Offset::MAX, 1 << 18, &mut body).expect("read");
        let batch = ledger.seal(D0, second, &IDENTITY, |_| Vec::new()).expect("sealed").clone();
        let cursor = Cursor::of(
            &ledger,
            &ledger.accounts()[0],
            &DrainId::of_test("d.1"),
            &(Offset::ZERO..Offset::MAX),
            None,
        );
        Checkpoint::open(&directory).expect("a file").save(&[cursor], &[]).expect("saved");
        (batch, ledger.log_end())
    };
    std::fs::create_dir(base.path().join("not an agent")).expect("made");
    let Adoption { spools, segments, .. } =
        adopt(base.path(), "00bb", &AppIdentity::of_test(), "").expect("listed");
    assert_eq!(spools.len(), 1);
    assert_eq!(spools[0].end, total);
    assert!(
        adopt(base.path(), "00cc", &AppIdentity::of_test(), "").expect("listed").spools.is_empty(),
        "it is locked"
    );
    let mut ledger = Ledger::new(["d0".to_owned(), "d1".to_owned()], segments);
    spools[0].resume(&mut ledger, &["d.1", "d.2"].map(DrainId::of_test));
    assert_eq!((ledger.captured(), ledger.held(D0), ledger.imbalance(D0)), (0, 0, 0), "no lines of ours");
    assert_eq!(ledger.seal_range(D1).cursor, Offset::ZERO, "a drain that is new gets all of it");
    let range = ledger.seal_range(D0);
    assert_eq!((range.cursor, range.limit), (sealed.range.start, sealed.range.end), "the sealed batch first");
    let ours = Identity { agent: "00bb", drain: "d.1" };
    let again = ledger.seal(D0, sealed.range, &ours, |_| Vec::new()).expect("sealed");
    assert_eq!(again.id, sealed.id, "the same batch under the same id: hashed from the dead agent's");
    ledger.complete_batch(D0, BatchOutcome::Delivered);
    assert_eq!(ledger.accounts()[0].adopted_frames(), sealed.range.frames);
    for spool in spools {
        spool.directory.unwrap().remove();
    }
    assert!(!base.path().join("00aa").exists());
}

#[test]
fn an_adopted_segment_without_frames_shares_its_start_with_no_other() {
    let base = tempfile::tempdir().expect("a directory");
    for agent in ["00aa", "00bb"] {
        let directory = Directory::create(base.path(), agent).expect("ours").of_app(AppIdentity::of_test());
        std::fs::write(directory.segment(Offset::ZERO), frames(0..9).0).expect("written");
        // Its agent was killed after it took a used file for it, and before the first append.
        std::fs::write(directory.segment(Offset::new(4000)), [&[0], &frames(0..9).0[1..]].concat())
            .expect("written");
    }
    let segments = adopt(base.path(), "00cc", &AppIdentity::of_test(), "").expect("listed").segments;
    assert_eq!(segments.len(), 2);
    // Also the next one, which is ours, starts behind the last.
    assert!(segments.iter().all(|segment| segment.len > 0));
    assert!(segments.is_sorted_by(|one, other| one.start < other.start));
}

/// Writes several segments, delivers them all, and removes what is consumed; returns the end of the log.
fn fill_and_consume(spool: &Spool, writer: &mut Writer<'_>) -> Offset {
    for start in (0..20_000).step_by(1000) {
        write(writer, start..start + 1000);
    }
    let mut ledger = spool.shared.lock();
    let end = ledger.log_end();
    let all = BatchRange { start: Offset::ZERO, end, frames: 20_000 };
    ledger.seal(D0, all, &IDENTITY, |_| Vec::new()).expect("sealed");
    ledger.complete_batch(D0, BatchOutcome::Delivered);
    drop(ledger);
    spool.save_and_remove_consumed();
    end
}

#[test]
fn a_recycled_file_shows_no_old_frames() {
    let base = tempfile::tempdir().expect("a directory");
    let drain = DrainId::of_test("d.1");
    let Opened { spool, error } =
        Spool::open(base.path(), "00aa".to_owned(), SpoolOwner::of_test(vec![drain]), None);
    assert!(error.is_none(), "{error:?}");
    let files = || {
        let mut paths: Vec<_> =
            std::fs::read_dir(base.path().join("00aa")).expect("listed").flatten().collect();
        paths.retain(|entry| {
            entry.file_name().len() == 20 || entry.file_name().display().to_string().starts_with("spare")
        });
        paths.len()
    };
    let mut writer = spool.writer(1 << 30, WhenFull::DropOldest, || false);
    let log_end = fill_and_consume(&spool, &mut writer);
    assert_eq!(files(), 3, "the last segment and two spares");
    // Fills the last segment and continues in a spare.
    for start in (20_000..27_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    let ledger = spool.shared.lock();
    let last = ledger.segments().next_back().expect("a segment").clone();
    drop(ledger);
    let SegmentLocation::File(path) = &last.location else { panic!("{:?}", last.location) };
    let bytes = std::fs::read(path).expect("the segment");
    assert!(bytes.len() as u64 > last.len, "older frames are behind");
    assert_eq!(bytes[last.len as usize], 0);
    let mut reader = reader_of(&spool.shared, None);
    let all = read_all(&mut reader, log_end, Offset::MAX, 1 << 20);
    assert!(all.iter().copied().eq(20_000..27_000), "no more than that, without a limit");
    // As if the agent had died now.
    drop(writer);
    std::fs::create_dir(base.path().join("00ee")).expect("made");
    for entry in std::fs::read_dir(base.path().join("00aa")).expect("listed").flatten() {
        std::fs::copy(entry.path(), base.path().join("00ee").join(entry.file_name())).expect("copied");
    }
    let Adoption { spools, segments, .. } =
        adopt(base.path(), "00bb", &AppIdentity::of_test(), "").expect("listed");
    assert_eq!(spools[0].end, last.end());
    let ends: Vec<Offset> = segments.iter().map(Segment::end).collect();
    assert!(segments.iter().skip(1).zip(&ends).all(|(segment, end)| segment.start >= *end), "{segments:?}");
}

#[test]
fn a_checkpoint_has_room_on_a_disk_that_gets_full() {
    use std::os::unix::fs::MetadataExt as _;
    let base = tempfile::tempdir().expect("a directory");
    let directory = Directory::create(base.path(), "00aa").expect("ours");
    let checkpoint = Checkpoint::open(&directory).expect("opened");
    let reserved = directory.path().join("cursors").metadata().expect("there");
    assert!(reserved.blocks() * 512 >= 32 << 10, "{} blocks", reserved.blocks());
    let times = None;
    let record = |n: u64| SegmentRecord {
        start: Offset::new(n << 20),
        len: 1 << 20,
        frames: 9999,
        lines: 9999,
        long_lines: LongLines::from_bits(15),
        times,
        notices: Vec::new(),
    };
    checkpoint.save(&[], &(0..256).map(record).collect::<Vec<_>>()).expect("saved");
    let used = directory.path().join("cursors").metadata().expect("there");
    assert_eq!(used.blocks(), reserved.blocks(), "{} bytes", used.len());
}

#[test]
fn a_file_that_is_recycled_is_not_replaced_by_one_that_is_retired() {
    use std::os::unix::fs::MetadataExt as _;
    let base = tempfile::tempdir().expect("a directory");
    let directory = Directory::create(base.path(), "00aa").expect("ours");
    let consumed = |number: u64| Offset::new(number + (1 << 32));
    std::thread::scope(|scope| {
        let retiring = scope.spawn(|| {
            for number in 0..1000 {
                let path = directory.segment(consumed(number));
                std::fs::write(&path, "old").expect("written");
                directory.retire(&path);
            }
        });
        for number in (0..).take_while(|_| !retiring.is_finished()) {
            if let Some(file) = directory.recycle(Offset::new(number)) {
                let path = directory.segment(Offset::new(number));
                let (written, read) = (file.metadata().expect("open"), path.metadata().expect("there"));
                assert_eq!(written.ino(), read.ino(), "what is written is what is read");
            }
        }
    });
}

#[test]
fn an_interrupted_append_to_a_recycled_file_is_not_seen() {
    let base = tempfile::tempdir().expect("a directory");
    let path = base.path().join("segment");
    let (old, _) = frames(0..100);
    std::fs::write(&path, &old).expect("written");
    let file = File::options().write(true).read(true).open(&path).expect("opened");
    let (new, _) = frames(500..510);
    writer::overwrite(&file, &new, 0, SEGMENT_BYTES).expect("written");
    let (more, _) = frames(510..520);
    // As if the agent died before the last step.
    let at = new.len() as u64;
    FileExt::write_all_at(&file, &[0], at + more.len() as u64).expect("the NUL");
    FileExt::write_all_at(&file, &more[1..], at + 1).expect("all but the first byte");
    let mut reader = Reader::new(None);
    reader.add(SegmentStart { start: Offset::ZERO, location: SegmentLocation::File(path) });
    assert!(read_all(&mut reader, Offset::ZERO, Offset::MAX, 1 << 20).into_iter().eq(500..510));
    writer::overwrite(&file, &more, at, SEGMENT_BYTES).expect("written");
    assert!(read_all(&mut reader, Offset::ZERO, Offset::MAX, 1 << 20).into_iter().eq(500..520));
}

#[test]
fn spare_files_are_removed_when_nothing_is_written() {
    let base = tempfile::tempdir().expect("a directory");
    let drain = DrainId::of_test("d.1");
    let Opened { spool, .. } =
        Spool::open(base.path(), "00aa".to_owned(), SpoolOwner::of_test(vec![drain]), None);
    let mut writer = spool.writer(1 << 30, WhenFull::DropOldest, || false);
    fill_and_consume(&spool, &mut writer);
    spool.trim();
    let left: Vec<_> = std::fs::read_dir(base.path().join("00aa")).expect("listed").flatten().collect();
    assert_eq!(left.iter().filter(|entry| entry.file_name().len() == 20).count(), 1, "{left:?}");
    assert_eq!(left.len(), 4, "the segment, lock, checkpoint and identity: {left:?}");
    drop(writer);
    spool.close();
    assert!(!base.path().join("00aa").exists(), "nothing is left behind");
}

/// Puts files into the directory of a dead agent and returns the segments that are adopted, as offset and length.
fn adopted_of(files: &[(u64, &[u8])]) -> Vec<(u64, u64)> {
    let base = tempfile::tempdir().expect("a directory");
    let directory = Directory::create(base.path(), "00aa").expect("ours").of_app(AppIdentity::of_test());
    for (offset, bytes) in files {
        std::fs::write(directory.segment(Offset::new(*offset)), bytes).expect("written");
    }
    drop(directory);
    let adoption = adopt(base.path(), "00bb", &AppIdentity::of_test(), "").expect("listed");
    adoption.segments.iter().map(|segment| (segment.start.get(), segment.len)).collect()
}

#[test]
fn only_what_can_be_a_segment_is_adopted() {
    let (bytes, _) = frames(0..10);
    let (own, len) = (bytes.as_slice(), bytes.len() as u64);
    assert_eq!(adopted_of(&[(0, own), (len, own)]), [(0, len), (len, len)]);
    assert_eq!(adopted_of(&[(0, own), (7, b"foreign"), (len, own)]), [(0, len), (len, len)]);
    assert_eq!(adopted_of(&[(1, &[b'x'; 5000]), (len, own)]), [(len, len)], "the segment that is ours stays");
    assert_eq!(adopted_of(&[(0, own), (u64::MAX, own), (u64::MAX - 7, b"")]), [(0, len)]);
    let too_long = vec![b'x'; SEGMENT_BYTES as usize + 1];
    assert_eq!(adopted_of(&[(0, own), (len, &too_long)]), [(0, len)]);
    // Cutting a recycled file to its length failed.
    let recycled = [own, b"\0", own].concat();
    assert_eq!(adopted_of(&[(0, &recycled), (len, &recycled)]), [(0, len), (len, len)]);
}

#[test]
fn spare_files_do_not_come_back_as_segments() {
    let base = tempfile::tempdir().expect("a directory");
    let drain = DrainId::of_test("d.1");
    let owner = SpoolOwner::of_test(vec![drain]);
    let Opened { spool, .. } = Spool::open(base.path(), "00aa".to_owned(), owner, None);
    let mut writer = spool.writer(4 << 20, WhenFull::DropOldest, || false);
    write(&mut writer, 0..1);
    let first = BatchRange { start: Offset::ZERO, end: spool.shared.lock().log_end(), frames: 1 };
    spool.shared.lock().seal(D0, first, &IDENTITY, |_| Vec::new()).expect("sealed: it is pinned");
    for start in (1..60_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    drop(writer);
    let starts: Vec<u64> = spool.shared.lock().segments().map(|segment| segment.start.get()).collect();
    assert!(spool.shared.lock().accounts()[0].dropped() > 0);
    drop(spool); // as if its agent had been killed
    let adoption = adopt(base.path(), "00bb", &AppIdentity::of_test(), "").expect("listed");
    let adopted: Vec<u64> = adoption.segments.iter().map(|segment| segment.start.get()).collect();
    assert_eq!(adopted, starts, "what was dropped is counted already");
    for adopted in adoption.spools {
        adopted.directory.expect("on disk").remove();
    }
    assert!(!base.path().join("00aa").exists(), "nothing is left behind");
}

mod adoption;
mod room;
