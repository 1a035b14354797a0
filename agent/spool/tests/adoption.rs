//! What the next agent finds in the directory of a dead one: losses, damage, the order of directories.

use super::*;
use crate::ledger::{FrameKind, SpecialFrame, SpooledNotice};
use crate::line::Stream;

/// What the next batch of a drain announces; it is rejected if that is asked for, else delivered.
fn announced_by_next(spool: &Spool, outcome: BatchOutcome) -> Option<u64> {
    let mut ledger = spool.shared.lock();
    let SealRange { cursor, limit, .. } = ledger.seal_range(D0);
    let mut reader = Reader::new(None);
    add_segments(&mut reader, &ledger);
    let range = reader.read(cursor, limit, 8 << 20, &mut bytes::BytesMut::new()).expect("readable");
    let mut lines = None;
    let notice = |losses: &Losses| {
        lines = Some(losses.iter().map(|loss| loss.lines).sum());
        b"1 x\n".to_vec()
    };
    ledger.seal(D0, range, &IDENTITY, notice).expect("sealed");
    ledger.complete_batch(D0, outcome);
    lines
}

#[test]
fn a_loss_in_a_segment_that_no_checkpoint_tells_of_has_times() {
    let base = tempfile::tempdir().expect("a directory");
    let first = open_spool(base.path(), "00aa");
    let mut writer = first.writer(64 << 20, WhenFull::DropOldest, || false);
    for start in (0..20_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    drop(writer);
    drop(first); // killed
    let path = base.path().join("00aa");
    std::fs::write(path.join("cursors"), "").expect("emptied");
    let segments = Listing::of(&path).expect("listed").segments;
    std::fs::write(&segments[1].path, "no frame").expect("damaged");
    let adoption = adopt(base.path(), "00bb", &AppIdentity::of_test(), "").expect("listed");
    let times: Vec<TimeRange> = adoption.segments.iter().filter_map(|segment| segment.times).collect();
    let at = Timestamp::from_micros(1);
    assert_eq!(times[0], TimeRange { first: at, last: at }, "of its frames");
    assert!(Timestamp::now().since(times[1].last).as_secs() < 60, "of its last change");
    assert_eq!(times.len(), segments.len());
}

#[test]
fn a_loss_that_was_announced_to_nobody_but_a_silent_drain_outlives_its_agent() {
    let base = tempfile::tempdir().expect("a directory");
    let first = open_spool(base.path(), "00aa");
    write(&mut first.writer(4 << 20, WhenFull::DropOldest, || false), 0..1);
    assert_eq!(announced_by_next(&first, BatchOutcome::Delivered), None);
    let (since, until) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
    let loss = Loss { lines: 7, since, until, reason: DropReason::RecorderBehind };
    first.shared.lock().announce(&Losses::from_iter([loss]));
    let notice = |_: &Losses| b"1 x\n".to_vec();
    let at = first.shared.lock().log_end();
    let alone = BatchRange { start: at, end: at, frames: 0 };
    first.shared.lock().seal(D0, alone, &IDENTITY, notice).expect("a notice alone");
    end(first, End::Closed);
    let second = open_spool(base.path(), "00bb");
    let mut ledger = second.shared.lock();
    let SealRange { cursor, limit, .. } = ledger.seal_range(D0);
    let alone = BatchRange { start: cursor, end: limit, frames: 0 };
    let batch = ledger.seal(D0, alone, &IDENTITY, |_| unreachable!("it is the same notice"));
    assert_eq!(batch.expect("a notice alone").notice, b"1 x\n");
    ledger.complete_batch(D0, BatchOutcome::Delivered);
    drop(ledger);
    second.save_and_remove_consumed();
    second.close();
    assert_eq!(std::fs::read_dir(base.path()).expect("listed").count(), 0, "nothing is left");
}

/// Drains with these URLs on one host and port: their tokens are those of their positions.
fn on_one_host(urls: &[&str]) -> Vec<DrainId> {
    let id = |(position, url): (usize, &&str)| DrainId {
        url_hash: format!("hash-of-{url}"),
        ..DrainId::of_test(&format!("d.{position}"))
    };
    urls.iter().enumerate().map(id).collect()
}

/// Seals the next batch of a drain, up to `limit`, and returns its id.
fn seal_next(spool: &Spool, drain: DrainIndex, limit: Offset) -> String {
    let mut ledger = spool.shared.lock();
    let start = ledger.seal_range(drain).cursor;
    let mut reader = Reader::new(None);
    add_segments(&mut reader, &ledger);
    let range = reader.read(start, limit, 1 << 20, &mut bytes::BytesMut::new()).expect("readable");
    let identity = Identity { agent: &spool.agent, drain: spool.token(drain) };
    ledger.seal(drain, range, &identity, |_| Vec::new()).expect("sealed").id.clone()
}

/// The agent `00aa` with the drains `a` and `b`, which dies: to `a` nothing is delivered, and a batch is sealed; `b` has
/// everything. Returns the end of that batch, and the ids of the batches.
fn dead_agent_with_two_drains(base: &std::path::Path) -> (Offset, [String; 2]) {
    let owner = SpoolOwner::of_test(on_one_host(&["a", "b"]));
    let spool = Spool::open(base, "00aa".to_owned(), owner, None).spool;
    write(&mut spool.writer(1 << 30, WhenFull::DropOldest, || false), 0..10);
    let limit = Offset::new(frames(0..3).1.len);
    let ids = [seal_next(&spool, D0, limit), seal_next(&spool, D1, Offset::MAX)];
    spool.shared.lock().complete_batch(D1, BatchOutcome::Delivered);
    end(spool, End::Killed);
    (limit, ids)
}

#[test]
fn a_drain_continues_where_it_was_when_its_position_changes() {
    // Per drain of the next agent, whose it continues: of `a`, of `b`, or of none.
    for (urls, continued) in [
        (&["a", "b"][..], &["a", "b"][..]),
        (&["b", "a"], &["b", "a"]),
        (&["b"], &["b"]),
        (&["a"], &["a"]),
        (&["new", "a", "b"], &["", "a", "b"]),
        (&["b", "new"], &["b", ""]),
        // Their secrets were rotated.
        (&["a2", "b"], &["a", "b"]),
        (&["a", "b2"], &["a", "b"]),
        (&["a2", "b2"], &["a", "b"]),
        (&["b", "a2"], &["b", ""]),
        // One of them is there twice.
        (&["a", "a"], &["a", ""]),
        (&["b", "b"], &["", "b"]),
    ] {
        let base = tempfile::tempdir().expect("a directory");
        let (limit, [id_of_a, id_of_b]) = dead_agent_with_two_drains(base.path());
        let owner = SpoolOwner::of_test(on_one_host(urls));
        let spool = Spool::open(base.path(), "00bb".to_owned(), owner, None).spool;
        for (drain, continued) in DrainIndex::all(urls.len()).zip(continued) {
            let SealRange { cursor, is_one_batch, .. } = spool.shared.lock().seal_range(drain);
            assert_eq!(cursor == spool.shared.lock().log_end(), *continued == "b", "{urls:?}: {drain}");
            assert_eq!(is_one_batch, *continued == "a", "{urls:?}: {drain}");
            if *continued == "a" {
                assert_eq!(seal_next(&spool, drain, limit), id_of_a, "{urls:?}: {drain}");
            } else if continued.is_empty() {
                let ids = [seal_next(&spool, drain, limit), seal_next(&spool, drain, Offset::MAX)];
                assert!(!ids.contains(&id_of_a) && !ids.contains(&id_of_b), "{urls:?}: {drain}");
            }
        }
    }
}

#[test]
fn a_batch_keeps_its_id_when_the_position_of_its_drain_changes_again() {
    let base = tempfile::tempdir().expect("a directory");
    let (limit, [id, _]) = dead_agent_with_two_drains(base.path());
    for (agent, urls, drain) in [("00bb", ["b", "a"], D1), ("00cc", ["a", "b"], D0), ("00dd", ["b", "a"], D1)]
    {
        let owner = SpoolOwner::of_test(on_one_host(&urls));
        let spool = Spool::open(base.path(), agent.to_owned(), owner, None).spool;
        if agent == "00cc" {
            assert_eq!(seal_next(&spool, drain, limit), id);
        }
        end(spool, End::Killed);
    }
    // A secret is rotated where the drain was last.
    let owner = SpoolOwner::of_test(on_one_host(&["b", "a2"]));
    let spool = Spool::open(base.path(), "00ee".to_owned(), owner, None).spool;
    assert_eq!(seal_next(&spool, D1, limit), id);
}

#[test]
fn a_checkpoint_without_hashes_tells_drains_by_their_tokens() {
    let base = tempfile::tempdir().expect("a directory");
    let (limit, [id, _]) = dead_agent_with_two_drains(base.path());
    let path = base.path().join("00aa").join("cursors");
    let text = std::fs::read_to_string(&path).expect("read");
    let (recorded, _) = text.split_once(". ").expect("a checksum");
    let without_hash = |line: &str| match line.strip_prefix("= ") {
        Some(line) => format!("{}\n", line.splitn(3, ' ').nth(2).expect("a token")),
        None => format!("{line}\n"),
    };
    let older: String = recorded.lines().map(without_hash).collect();
    assert!(older.starts_with(&format!("d.0 0,0,0,0 - {limit} - ")) && older.contains("\nd.1 "), "{older}");
    std::fs::write(&path, format!("{older}. {}\n", hash([older.as_bytes()]))).expect("written");
    let owner = SpoolOwner::of_test(on_one_host(&["a", "b"]));
    let spool = Spool::open(base.path(), "00bb".to_owned(), owner, None).spool;
    assert_eq!(seal_next(&spool, D0, limit), id);
    assert_eq!(spool.adopted_left(D1).bytes, 0, "it has everything");
}

/// How an agent ends in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Killed,
}

/// The spool of an agent with one drain.
pub(super) fn open_spool(base: &std::path::Path, agent: &str) -> Spool {
    let drain = DrainId::of_test("d.1");
    Spool::open(base, agent.to_owned(), SpoolOwner::of_test(vec![drain]), None).spool
}

/// The spool's agent ends.
pub(super) fn end(spool: Spool, end: End) {
    spool.save_checkpoint();
    if end == End::Closed {
        spool.close();
    }
    drop(spool);
}

#[test]
fn losses_outlive_their_agent_and_are_announced_once() {
    for ends in [[End::Closed; 2], [End::Killed; 2], [End::Closed, End::Killed], [End::Killed, End::Closed]] {
        let base = tempfile::tempdir().expect("a directory");
        let open = |agent: &str| open_spool(base.path(), agent);
        let first = open("00aa");
        let mut writer = first.writer(4 << 20, WhenFull::DropOldest, || false);
        for start in (0..60_000).step_by(1000) {
            write(&mut writer, start..start + 1000);
        }
        drop(writer);
        let dropped = first.shared.lock().accounts()[0].dropped();
        assert_eq!(announced_by_next(&first, BatchOutcome::Rejected), Some(dropped), "the drain refuses it");
        end(first, ends[0]);
        end(open("00bb"), ends[1]);
        let third = open("00cc");
        let mut writer = third.writer(8 << 20, WhenFull::DropOldest, || false);
        write(&mut writer, 0..1);
        drop(writer);
        assert_eq!(announced_by_next(&third, BatchOutcome::Delivered), Some(dropped), "{ends:?}");
        end(third, End::Closed);
        assert_eq!(std::fs::read_dir(base.path()).expect("listed").count(), 0, "nothing is left: {ends:?}");
    }
}

#[test]
fn what_a_sealed_batch_announces_is_not_lost_with_the_batch() {
    let base = tempfile::tempdir().expect("a directory");
    let open = |agent: &str| open_spool(base.path(), agent);
    let first = open("00aa");
    let mut writer = first.writer(4 << 20, WhenFull::DropOldest, || false);
    for start in (0..60_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    drop(writer);
    let sealed = {
        let mut ledger = first.shared.lock();
        let start = ledger.seal_range(D0).cursor;
        let (one, _) = frames(0..1);
        let range = BatchRange { start, end: start + one.len() as u64, frames: 1 };
        ledger.seal(D0, range, &IDENTITY, |_| b"1 x\n".to_vec()).expect("sealed");
        range
    };
    let dropped = first.shared.lock().accounts()[0].dropped();
    end(first, End::Killed);
    end(open("00bb"), End::Killed);
    // The batch turns out to be damaged before it is sealed again.
    let third = open("00cc");
    assert_eq!(
        third.shared.lock().seal_range(D0),
        SealRange { cursor: sealed.start, limit: sealed.end, is_one_batch: true }
    );
    third.shared.lock().skip_damaged(D0);
    let more = third.shared.lock().accounts()[0].adopted_dropped();
    assert!(more > 1000);
    assert_eq!(announced_by_next(&third, BatchOutcome::Delivered), Some(dropped + more));
}

#[test]
fn a_shipper_without_supervisor_adopts_also_without_a_directory_of_its_own() {
    let base = tempfile::tempdir().expect("a directory");
    let owner = || {
        let drain = DrainId::of_test("d.1");
        SpoolOwner::of_test(vec![drain])
    };
    let first = Spool::open(base.path(), "00aa".to_owned(), owner(), None).spool;
    let mut writer = first.writer(4 << 20, WhenFull::DropOldest, || false);
    for start in (0..60_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    drop(writer);
    let dropped = first.shared.lock().accounts()[0].dropped();
    end(first, End::Killed);
    std::fs::write(base.path().join("00bb"), "in the way of the directory").expect("written");
    let takeover = TakeoverState::new("00aa", &[]);
    let Opened { spool: second, error } =
        Spool::open_after(base.path(), "00bb".to_owned(), owner(), None, &takeover);
    assert!(error.is_some());
    assert!(second.adopted_bytes() > 1 << 20);
    end(second, End::Killed);
    let third = Spool::open(base.path(), "00cc".to_owned(), owner(), None).spool;
    assert!(third.adopted_bytes() > 1 << 20, "what was not delivered stays");
    assert_eq!(announced_by_next(&third, BatchOutcome::Delivered), Some(dropped));
}

#[test]
fn lines_in_the_memory_of_a_killed_agent_are_known_to_the_next_as_lost() {
    let base = tempfile::tempdir().expect("a directory");
    let first = open_spool(base.path(), "00aa");
    write(&mut first.writer(4 << 20, WhenFull::DropOldest, || false), 0..100);
    let mut ledger = first.shared.lock();
    ledger.open_segment(SegmentLocation::Memory(0));
    ledger.append(&frames(100..150).1);
    drop(ledger);
    first.save_checkpoint();
    end(first, End::Killed);
    let adoption = adopt(base.path(), "00bb", &AppIdentity::of_test(), "").expect("listed");
    let lines: Vec<u64> = adoption.segments.iter().map(|segment| segment.recorded_lines).collect();
    assert_eq!(lines, [100, 50]);
    let SegmentLocation::File(path) = &adoption.segments[1].location else { panic!("in memory") };
    assert!(!path.exists(), "where it is read, it is missing");
}

#[test]
fn what_a_missing_notice_announced_is_announced_by_the_next_agent() {
    let (since, until) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
    let notices: Vec<SpooledNotice> = (0..20)
        .map(|n| SpooledNotice {
            offset: n * 30,
            loss: Loss { lines: 7, since, until, reason: DropReason::RecorderBehind },
        })
        .collect();
    let base = tempfile::tempdir().expect("a directory");
    let first = open_spool(base.path(), "00aa");
    let mut ledger = first.shared.lock();
    ledger.open_segment(SegmentLocation::Memory(0));
    ledger.append(&Appended { notices, ..frames(0..50).1 });
    drop(ledger);
    first.save_checkpoint();
    end(first, End::Killed);
    let second = open_spool(base.path(), "00bb");
    let mut ledger = second.shared.lock();
    ledger.skip_damaged(D0);
    let announced: Vec<u64> = ledger.accounts()[0].unannounced().iter().map(|loss| loss.lines).collect();
    assert_eq!(announced.iter().sum::<u64>(), 50 + 20 * 7, "{announced:?}");
}

/// The lines that a shipper without supervisor finds, in their order.
fn taken_over(base: &std::path::Path, memory: &File) -> Vec<u64> {
    let drain = DrainId::of_test("d.1");
    let takeover = TakeoverState::new("00aa", &[DrainId::of_test("d.1")]);
    let copy = || memory.try_clone().expect("a clone");
    let owner = SpoolOwner::of_test(vec![drain]);
    let spool = Spool::open_after(base, "00bb".to_owned(), owner, Some(copy()), &takeover).spool;
    let shared = &spool.shared;
    let mut reader = reader_of(shared, Some(copy()));
    let ledger = shared.lock();
    ledger
        .segments()
        .flat_map(|segment| read_all(&mut reader, segment.start, segment.end(), 1 << 20))
        .collect()
}

#[test]
fn a_shipper_without_supervisor_keeps_the_order_of_disk_and_memory() {
    let base = tempfile::tempdir().expect("a directory");
    let memory = memory_file().expect("memfd");
    let directory = Directory::create(base.path(), "00aa").expect("ours").of_app(AppIdentity::of_test());
    let (mut start, mut starts) = (Offset::ZERO, vec![Offset::ZERO]);
    // The disk was full meanwhile.
    for (index, slot) in [(0, None), (1, Some(0)), (2, Some(1)), (3, None), (4, Some(2))] {
        let (bytes, _) = frames(index * 100..(index + 1) * 100);
        match slot {
            None => std::fs::write(directory.segment(start), &bytes).expect("written"),
            Some(slot) => {
                memory.write_all_at(&bytes, u64::from(slot) * SEGMENT_BYTES).expect("written");
                note_slot_start(&memory, slot, start).expect("written");
            }
        }
        start += bytes.len() as u64;
        starts.push(start);
    }
    // As its checkpoint tells of those in memory.
    let records: Vec<SegmentRecord> = starts
        .windows(2)
        .map(|start| {
            let (start, len) = (start[0], start[1] - start[0]);
            SegmentRecord { len, frames: 100, lines: 100, ..SegmentRecord::empty(start) }
        })
        .collect();
    Checkpoint::open(&directory).expect("opened").save(&[], &records).expect("saved");
    drop(directory);
    // An agent that started later died as well.
    let later = Directory::create(base.path(), "00cc").expect("ours").of_app(AppIdentity::of_test());
    std::fs::write(later.segment(Offset::ZERO), frames(1000..1100).0).expect("written");
    drop(later);
    let expected: Vec<u64> = (1000..1100).chain(0..500).collect();
    assert_eq!(taken_over(base.path(), &memory), expected);
}

#[test]
fn lines_in_memory_that_a_shipper_without_supervisor_did_not_deliver_are_known_to_the_next() {
    let base = tempfile::tempdir().expect("a directory");
    let memory = memory_file().expect("memfd");
    let first = open_spool(base.path(), "00aa");
    write(&mut first.writer(4 << 20, WhenFull::DropOldest, || false), 0..100);
    for (slot, numbers) in [(0, 100..150), (1, 150..170)] {
        let (bytes, appended) = frames(numbers);
        let mut ledger = first.shared.lock();
        note_slot_start(&memory, slot, ledger.log_end()).expect("written");
        memory.write_all_at(&bytes, u64::from(slot) * SEGMENT_BYTES).expect("written");
        ledger.open_segment(SegmentLocation::Memory(slot));
        ledger.append(&appended);
        drop(ledger);
        if slot == 0 {
            first.save_checkpoint(); // it does not tell of the second one
        }
    }
    end(first, End::Killed);
    let owner = SpoolOwner::of_test(vec![DrainId::of_test("d.1")]);
    let takeover = TakeoverState::new("00aa", &owner.drains);
    let second = Spool::open_after(base.path(), "00bb".to_owned(), owner, Some(memory), &takeover).spool;
    end(second, End::Closed);
    let adoption = adopt(base.path(), "00cc", &AppIdentity::of_test(), "").expect("listed");
    let lines: Vec<u64> = adoption.segments.iter().map(|segment| segment.recorded_lines).collect();
    assert_eq!(lines, [100, 50, 20]);
    assert!(adoption.segments.iter().all(|segment| segment.times.is_some()));
}

#[test]
fn a_shipper_without_supervisor_knows_a_slot_of_memory_that_was_used_again() {
    let base = tempfile::tempdir().expect("a directory");
    let memory = memory_file().expect("memfd");
    let shared = shared(1);
    let mut writer = Writer::new(&shared, None, Some(&memory), 1 << 30, WhenFull::DropOldest, || false);
    for start in (0..50_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    let dropped = shared.lock().accounts()[0].dropped();
    assert!(taken_over(base.path(), &memory).into_iter().eq(dropped..50_000), "nobody told it of one");
}

#[test]
fn spools_are_adopted_in_the_order_in_which_their_agents_started() {
    let base = tempfile::tempdir().expect("a directory");
    let start = std::time::SystemTime::now() - std::time::Duration::from_mins(10);
    // The directory of the first was changed last: the second had adopted it, and removed a segment.
    for (agent, started, changed) in [("00bb", 0, 9), ("00aa", 1, 2)] {
        let directory = Directory::create(base.path(), agent).expect("ours").of_app(AppIdentity::of_test());
        std::fs::write(directory.segment(Offset::ZERO), frames(0..1).0).expect("written");
        let at = |minutes| start + std::time::Duration::from_mins(minutes);
        let set =
            |path: &std::path::Path, time| File::open(path).expect("open").set_modified(time).expect("set");
        set(&directory.path().join("app"), at(started));
        set(directory.path(), at(changed));
    }
    let adoption = adopt(base.path(), "00cc", &AppIdentity::of_test(), "").expect("listed");
    let agents: Vec<&str> = adoption.spools.iter().map(|spool| spool.origin.agent.as_str()).collect();
    assert_eq!(agents, ["00bb", "00aa"]);
}

#[test]
fn a_directory_that_an_agent_was_killed_over_is_removed_when_it_is_old() {
    let base = tempfile::tempdir().expect("a directory");
    let now = std::time::SystemTime::now();
    for (agent, age) in [("00aa", 90), ("00bb", 30)] {
        let directory = Directory::create(base.path(), agent).expect("ours");
        let path = directory.path().to_owned();
        drop(directory);
        for changed in [path.join("lock"), path] {
            let time = now - std::time::Duration::from_secs(age);
            File::open(changed).expect("open").set_modified(time).expect("set");
        }
    }
    let adoption = adopt(base.path(), "00cc", &AppIdentity::of_test(), "").expect("listed");
    assert!(adoption.spools.is_empty() && adoption.others.is_empty());
    let exists = |agent: &str| base.path().join(agent).exists();
    assert!(!exists("00aa") && exists("00bb"), "an agent may be about to lock the younger one");
}

/// The directory of a dead agent with two segments of ten frames, both in its checkpoint.
fn dead_agent(base: &std::path::Path) -> Directory {
    let directory = Directory::create(base, "00aa").expect("ours").of_app(AppIdentity::of_test());
    let mut records = Vec::new();
    let mut start = Offset::ZERO;
    for number in [0, 10] {
        let (bytes, appended) = frames(number..number + 10);
        std::fs::write(directory.segment(start), &bytes).expect("written");
        let (len, lines) = (appended.len, appended.frames);
        records.push(SegmentRecord {
            len,
            frames: lines,
            lines,
            times: appended.times,
            ..SegmentRecord::empty(start)
        });
        start += len;
    }
    let cursor = Cursor::at_start(&DrainId::of_test("d.1"));
    Checkpoint::open(&directory).expect("opened").save(&[cursor], &records).expect("saved");
    directory
}

#[test]
fn what_replaced_the_file_of_a_segment_is_not_waited_for() {
    let base = tempfile::tempdir().expect("a directory");
    let directory = dead_agent(base.path());
    let path = directory.segment(Offset::ZERO);
    drop(directory);
    std::fs::remove_file(&path).expect("removed");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let spool = open_spool(base.path(), "00bb");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = reader_of(&spool.shared, None);
        let result = reader.read(Offset::ZERO, Offset::MAX, 1 << 20, &mut bytes::BytesMut::new());
        drop_cache(&SegmentLocation::File(path));
        sender.send(result).expect("the test waits");
    });
    let wait = std::time::Duration::from_secs(20);
    let result = receiver.recv_timeout(wait).expect("nobody waits for the other end of the FIFO");
    assert!(matches!(result, Err(ReadError::Gone { at: Offset::ZERO })), "{result:?}");
}

#[test]
fn lines_behind_damage_are_counted_when_their_segment_is_dropped() {
    for damaged_frames in [0, 4] {
        let base = tempfile::tempdir().expect("a directory");
        let directory = dead_agent(base.path());
        let path = directory.segment(Offset::ZERO);
        drop(directory);
        let mut bytes = std::fs::read(&path).expect("read");
        let at = bytes.len() / 10 * damaged_frames;
        bytes[at] = b'x';
        std::fs::write(&path, bytes).expect("written");
        let spool = open_spool(base.path(), "00bb");
        let mut writer = spool.writer(1, WhenFull::DropOldest, || false);
        write(&mut writer, 100..101);
        write(&mut writer, 101..102);
        drop(writer);
        assert_eq!(spool.shared.lock().accounts()[0].adopted_dropped(), 20, "damaged at {damaged_frames}");
    }
}

/// Lines that are announced when the first segment of `dead_agent` is damaged at frame `at`, and others that follow.
#[test]
fn damage_behind_a_cursor_within_a_segment_counts_only_what_is_behind_it() {
    let base = tempfile::tempdir().expect("a directory");
    let directory = dead_agent(base.path());
    let path = directory.segment(Offset::ZERO);
    let len = std::fs::metadata(&path).expect("there").len();
    let records: Vec<SegmentRecord> = [0, len]
        .map(|start| SegmentRecord { len, frames: 10, lines: 10, ..SegmentRecord::empty(Offset::new(start)) })
        .to_vec();
    // Three frames were delivered.
    let cursor = Cursor {
        offset: Offset::new(len / 10 * 3),
        consumed: Some(Consumed { segment: Offset::ZERO, frames: 3, lines: 3 }),
        ..Cursor::at_start(&DrainId::of_test("d.1"))
    };
    Checkpoint::open(&directory).expect("opened").save(&[cursor], &records).expect("saved");
    drop(directory);
    std::fs::remove_file(path).expect("removed");
    let spool = open_spool(base.path(), "00bb");
    spool.shared.lock().skip_damaged(D0);
    assert_eq!(spool.shared.lock().accounts()[0].adopted_dropped(), 7);
}

#[test]
fn damage_in_a_segment_that_grew_after_the_checkpoint_is_counted() {
    let base = tempfile::tempdir().expect("a directory");
    let directory = dead_agent(base.path());
    let len = std::fs::metadata(directory.segment(Offset::ZERO)).expect("there").len();
    let path = directory.segment(Offset::new(len));
    drop(directory);
    // Two frames more than the checkpoint says; then the first is damaged.
    let mut bytes = [std::fs::read(&path).expect("read"), frames(20..22).0].concat();
    bytes[0] = b'x';
    std::fs::write(&path, bytes).expect("written");
    let spool = open_spool(base.path(), "00bb");
    let first = BatchRange { start: Offset::ZERO, end: Offset::new(len), frames: 10 };
    let mut ledger = spool.shared.lock();
    ledger.seal(D0, first, &IDENTITY, |_| Vec::new()).expect("sealed");
    ledger.complete_batch(D0, BatchOutcome::Delivered);
    ledger.skip_damaged(D0);
    let dropped = ledger.accounts()[0].adopted_dropped();
    assert!((10..=12).contains(&dropped), "{dropped}");
}

#[test]
fn a_line_that_an_agent_dropped_and_that_goes_on_is_not_counted_again_by_the_next() {
    // Dropped at the cursor, and behind a sealed batch, which stays.
    for is_ahead in [false, true] {
        let base = tempfile::tempdir().expect("a directory");
        let first = open_spool(base.path(), "00aa");
        let mut writer = first.writer(64 << 20, WhenFull::DropOldest, || false);
        if is_ahead {
            write(&mut writer, 0..5000);
            seal_next(&first, D0, Offset::new(frames(0..10).1.len));
        }
        let special = |offset, kind| vec![SpecialFrame { offset, kind }];
        // The last frame of one segment is the start of a line, the first one of the next its end.
        let (bytes, mut appended) = frames(0..5000);
        appended.ended -= 1;
        appended.special = special(frames(0..4999).1.len as u32, FrameKind::Partial(Stream::Out));
        writer.append(&bytes, &appended);
        let (bytes, appended) = frames(5000..9000);
        writer.append(&bytes, &Appended { special: special(0, FrameKind::Final(Stream::Out)), ..appended });
        write(&mut writer, 9000..10_000);
        drop(writer);
        let drop_oldest = |spool: &Spool| {
            let dropped = spool.shared.lock().drop_oldest(DropReason::SpoolFull).expect("a segment");
            let SegmentLocation::File(path) = &dropped.location else { panic!("in memory") };
            std::fs::remove_file(path).expect("removed");
        };
        let lost = |spool: &Spool| {
            let unannounced = spool.shared.lock().accounts()[0].unannounced();
            unannounced.iter().map(|loss| loss.lines).sum::<u64>()
        };
        drop_oldest(&first);
        assert_eq!(lost(&first), 5000);
        end(first, End::Killed);
        // Nor by the one behind that.
        let second = open_spool(base.path(), "00bb");
        end(second, End::Killed);
        let third = open_spool(base.path(), "00cc");
        write(&mut third.writer(64 << 20, WhenFull::DropOldest, || false), 0..1);
        let next = third.shared.lock().next_to_drop().cloned().expect("a segment");
        third.shared.lock().count_adopted(next.start, writer::content_of(&next, None));
        drop_oldest(&third);
        assert_eq!(lost(&third), 9_999, "its other lines are 3,999 and 1,000");
    }
}
