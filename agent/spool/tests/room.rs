//! A checkpoint for which the disk has no room.

use super::adoption::{End, end, open_spool};
use super::*;
use crate::spool::checkpoint::{parse, write_zeros};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::unix::fs::MetadataExt as _;

/// A file of so many bytes that cannot grow, as on a full disk.
fn file_on_full_disk(len: u64) -> File {
    let file = File::from(memfd_create("full", MFdFlags::MFD_ALLOW_SEALING).expect("memfd"));
    file.set_len(len).expect("long enough");
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).expect("sealed");
    file
}

fn record(number: u64) -> SegmentRecord {
    SegmentRecord { len: 100, frames: 10, lines: 9, ..SegmentRecord::empty(Offset::new(number * 100)) }
}

#[test]
fn without_room_the_newest_segments_are_listed() {
    let checkpoint = Checkpoint::of(file_on_full_disk(600));
    let records: Vec<_> = (0..100).map(record).collect();
    let cursors = [Cursor::at_start(&DrainId::of_test("d.1"))];
    checkpoint.save(&cursors, &records).expect("there is room for some");
    let recorded = parse(&checkpoint.bytes()).expect("good");
    assert_eq!(recorded.cursors, cursors);
    let listed = recorded.segments.len();
    assert!((10..30).contains(&listed), "{listed} listed");
    assert_eq!(recorded.segments, records[100 - listed..]);
    assert_eq!(recorded.listed_from, recorded.segments[0].start);
    // Of the cursors nothing can be left out: the one before stays.
    let many: Vec<_> =
        (0..20).map(|drain| Cursor::at_start(&DrainId::of_test(&format!("d.{drain}")))).collect();
    checkpoint.save(&many, &records).expect_err("no room");
    assert_eq!(parse(&checkpoint.bytes()).expect("good").cursors, cursors);
}

#[test]
fn files_that_a_checkpoint_without_room_does_not_list_are_adopted() {
    let base = tempfile::tempdir().expect("a directory");
    let first = open_spool(base.path(), "00aa");
    let mut writer = first.writer(64 << 20, WhenFull::DropOldest, || false);
    for start in (0..30_000).step_by(1000) {
        write(&mut writer, start..start + 1000);
    }
    drop(writer);
    end(first, End::Killed);
    let count = || adopt(base.path(), "00bb", &AppIdentity::of_test(), "").expect("listed").segments.len();
    let all = count();
    assert!(all > 2);
    let directory = Directory::adopt(base.path().join("00aa")).expect("ours").expect("not held");
    let recorded = Checkpoint::read(&directory).expect("good");
    let cursors = &recorded.cursors;
    let full = Checkpoint::of(file_on_full_disk(220));
    full.save(cursors, &recorded.segments).expect("room for the newest");
    assert!(parse(&full.bytes()).is_some_and(|less| (1..all).contains(&less.segments.len())));
    std::fs::write(directory.path().join("cursors"), full.bytes()).expect("written");
    drop(directory);
    assert_eq!(count(), all, "what is not listed is not taken for dropped");
}

#[test]
fn zeros_take_the_room_where_none_can_be_reserved() {
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(b"text", 0).expect("written");
    write_zeros(&file, 10_000).expect("room");
    let mut text = [1; 8];
    file.read_exact_at(&mut text, 0).expect("read");
    assert_eq!((&text, file.metadata().expect("there").len()), (b"text\0\0\0\0", 10_000));
    assert!(file.metadata().expect("there").blocks() * 512 >= 10_000);
}

#[test]
fn what_a_dead_agent_had_sealed_is_recorded_also_without_room_for_our_own_checkpoint() {
    let base = tempfile::tempdir().expect("a directory");
    let first = open_spool(base.path(), "00aa");
    write(&mut first.writer(4 << 20, WhenFull::DropOldest, || false), 0..100);
    end(first, End::Killed);
    let (since, until) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
    let loss = Loss { lines: 7, since, until, reason: DropReason::SpoolFull };
    let sealed = |spool: &Spool| spool.shared.lock().seal_range(D0);
    let second = open_spool(base.path(), "00bb").with_checkpoint(Checkpoint::of(file_on_full_disk(0)));
    let half =
        BatchRange { start: sealed(&second).cursor, end: Offset::new(frames(0..50).1.len), frames: 50 };
    second.shared.lock().seal(D0, half, &IDENTITY, |_| Vec::new()).expect("sealed");
    second.shared.lock().announce(&Losses::from_iter([loss]));
    second.save_checkpoint();
    end(second, End::Killed);
    let third = open_spool(base.path(), "00cc");
    let SealRange { limit, is_one_batch, .. } = sealed(&third);
    assert_eq!((limit, is_one_batch), (half.end, true), "the same batch again");
    let unannounced: Vec<_> = third.shared.lock().accounts()[0].unannounced().iter().copied().collect();
    assert_eq!(unannounced, [loss]);
}

#[test]
fn a_checkpoint_and_an_identity_that_somebody_removed_are_written_again() {
    let base = tempfile::tempdir().expect("a directory");
    let first = open_spool(base.path(), "00aa");
    write(&mut first.writer(4 << 20, WhenFull::DropOldest, || false), 0..100);
    first.save_and_remove_consumed();
    let directory = base.path().join("00aa");
    for name in ["app", "cursors"] {
        std::fs::remove_file(directory.join(name)).expect("there");
    }
    first.save_and_remove_consumed();
    end(first, End::Killed);
    let segments = adopt(base.path(), "00bb", &AppIdentity::of_test(), "").expect("listed").segments;
    assert_eq!(segments.iter().map(|segment| segment.recorded_lines).collect::<Vec<_>>(), [100]);
    // Removed behind the last moment at which it could be: the shipper of that agent knows whose it is.
    std::fs::remove_file(directory.join("app")).expect("there");
    let found =
        |last| adopt(base.path(), "00bb", &AppIdentity::of_test(), last).expect("listed").segments.len();
    assert_eq!((found(""), found("00aa")), (0, 1));
}
