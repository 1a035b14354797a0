//! Recovery: directories of dead agents in any state. Whatever is in them, adopting returns, what is delivered are whole
//! frames, and all of it ends. Where files are damaged, each line is delivered once or announced as lost.

use super::checkpoint::{Checkpoint, Cursor};
use super::directory::Directory;
use super::identity::{AppIdentity, hash};
use super::*;
use crate::frame::{self, DropReason, Encoder, Field, Loss, LossNotices, Losses, PRI_APP, Timestamp};
use crate::ledger::{
    Appended, BatchOutcome, BatchRange, Consumed, DrainIndex, Identity, Offset, SealRange, SegmentRecord,
    SegmentStart, TimeRange,
};
use crate::tests::fuzz::{Target, fuzz_test};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The first agent, which is dead. Those that follow it adopt what is left.
const DEAD: &str = "00aa";
const TOKENS: [&str; 2] = ["d.1", "d.2"];
/// Segments of the dead agent, and frames of each.
const SEGMENTS: u64 = 4;
const FRAMES: u64 = 8;
/// Frames of the last segment that are in no checkpoint, when it grew after that.
const UNRECORDED: u64 = 2;
/// The first number of the lines of the agents that follow, and of those in memory.
const OWN: u64 = 1000;
const IN_MEMORY: u64 = 500;
/// Lines that the dead agent had lost: those that a sealed batch announces, and those that none does.
const ANNOUNCED: u64 = 17;
const UNANNOUNCED: u64 = 5;
/// Stands for the number of a line that is damaged within its message: it is delivered as it is.
const UNREADABLE: u64 = u64::MAX;
/// Steps of delivery: a multiple of what is needed.
const MAX_STEPS: usize = 2000;

fn frames(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let field = Field::coerce("x");
    let mut encoder = Encoder::new(PRI_APP, &field, &field, &field);
    let mut out = Vec::new();
    for number in numbers {
        encoder.encode(&mut out, Timestamp::from_micros(1), format!("{number:0>20}").as_bytes());
    }
    out
}

fn frame_len() -> u64 {
    frames(0..1).len() as u64
}

fn segment_start(index: u64) -> Offset {
    Offset::new(index * FRAMES * frame_len())
}

fn losses(lines: u64) -> Losses {
    let (since, until) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
    Losses::from_iter([Loss { lines, since, until, reason: DropReason::SpoolFull }])
}

fn notice_of(losses: &Losses) -> Vec<u8> {
    LossNotices::new(&Field::coerce("x"), "x").frames(losses)
}

/// The cursors of the dead agent: one drain has a sealed batch, the other is further on.
fn cursors() -> [Cursor; 2] {
    let announced = losses(ANNOUNCED);
    let sealed = SealedEnd { end: Offset::new(6 * frame_len()), notice: notice_of(&announced), announced };
    [
        Cursor {
            offset: Offset::new(3 * frame_len()),
            consumed: Some(Consumed { segment: Offset::ZERO, frames: 3, lines: 3 }),
            sealed: Some(sealed),
            ..Cursor::at_start(&DrainId::of_test(TOKENS[0]))
        },
        Cursor {
            offset: segment_start(2),
            losses: losses(UNANNOUNCED),
            ..Cursor::at_start(&DrainId::of_test(TOKENS[1]))
        },
    ]
}

fn records(unrecorded: u64) -> Vec<SegmentRecord> {
    let (first, last) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
    (0..SEGMENTS)
        .map(|index| {
            let lines = if index + 1 == SEGMENTS { FRAMES - unrecorded } else { FRAMES };
            let len = lines * frame_len();
            let times = Some(TimeRange { first, last });
            SegmentRecord { len, frames: lines, lines, times, ..SegmentRecord::empty(segment_start(index)) }
        })
        .collect()
}

/// Makes the directory of the dead agent as it leaves it.
fn make_dead(base: &Path, unrecorded: u64) -> PathBuf {
    let directory = Directory::create(base, DEAD).expect("ours").of_app(AppIdentity::of_test());
    for index in 0..SEGMENTS {
        let bytes = frames(index * FRAMES..(index + 1) * FRAMES);
        std::fs::write(directory.segment(segment_start(index)), bytes).expect("written");
    }
    Checkpoint::open(&directory).expect("opened").save(&cursors(), &records(unrecorded)).expect("saved");
    directory.path().to_owned()
}

/// What happens to the directory, and to the agents that adopt it.
struct Input<'a> {
    /// Only the segments are damaged, and so that it shows: then lines are counted exactly.
    is_exact: bool,
    /// The spool of the next agent has no room for what it adopts.
    is_full: bool,
    /// A shipper without supervisor takes over.
    is_takeover: bool,
    /// Frames of the last segment that were appended after the last checkpoint.
    unrecorded: u64,
    /// After how many steps the first agent that adopts is killed; none: it is not.
    killed_after: Option<usize>,
    changes: &'a [u8],
}

impl<'a> Input<'a> {
    const CHANGE_BYTES: usize = 6;
    const MAX_CHANGES: usize = 40;

    fn parse(input: &'a [u8]) -> Self {
        let [flags, killed_after, changes @ ..] = input else { return Self::parse(&[0, 0]) };
        let is_takeover = flags & 4 != 0;
        let killed_after = (!is_takeover && *killed_after > 0).then_some(usize::from(*killed_after % 32));
        let unrecorded = if flags & 8 != 0 { UNRECORDED } else { 0 };
        Self {
            is_exact: flags & 1 == 0,
            is_full: flags & 2 != 0,
            is_takeover,
            unrecorded,
            killed_after,
            changes,
        }
    }

    fn apply(&self, directory: &Path) {
        for change in self.changes.chunks_exact(Self::CHANGE_BYTES).take(Self::MAX_CHANGES) {
            let [kind, file, at0, at1, value, len] = *change else { unreachable!() };
            let change = Change { file, at: u16::from_be_bytes([at0, at1]).into(), value, len: len.into() };
            if self.is_exact {
                change.damage(kind % 5, directory);
            } else {
                change.disturb(kind % 16, directory);
            }
        }
    }
}

struct Change {
    file: u8,
    at: usize,
    value: u8,
    len: usize,
}

/// What numbers in names and in checkpoints may claim.
const NUMBERS: [u64; 12] =
    [0, 1, 7, 100, 550, 2199, 1 << 20, (1 << 20) + 1, 1 << 62, (1 << 62) + 1, u64::MAX - 1, u64::MAX];

impl Change {
    fn segment(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{:020}", segment_start(u64::from(self.file) % SEGMENTS).get()))
    }

    /// Any file of the directory, or the name of a segment that is none.
    fn any_file(&self, directory: &Path) -> PathBuf {
        match self.file % 16 {
            0..6 => self.segment(directory),
            6..9 => directory.join("cursors"),
            9 => directory.join("app"),
            10 => directory.join("lock"),
            11 => directory.join("spare0"),
            12 => directory.join("something"),
            _ => directory.join(format!("{:020}", self.number())),
        }
    }

    fn number(&self) -> u64 {
        NUMBERS[usize::from(self.value) % NUMBERS.len()]
    }

    /// Changes the bytes of a file, if it is one.
    fn edit(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let is_file =
            std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() < 1 << 21);
        if let Some(mut bytes) = is_file.then(|| std::fs::read(path).ok()).flatten() {
            edit(&mut bytes);
            std::fs::write(path, bytes).expect("written");
        }
    }

    /// Damages a segment so that the damage shows where it begins.
    fn damage(&self, kind: u8, directory: &Path) {
        let path = self.segment(directory);
        match kind {
            0 => Self::edit(&path, |bytes| bytes.truncate(self.at % (bytes.len() + 1))),
            1 => Self::edit(&path, Vec::clear),
            2 => drop(std::fs::remove_file(&path)),
            3 | 4 => Self::edit(&path, |bytes| {
                let at = self.at % (bytes.len() + 1);
                let end = bytes.len().min(at + self.len);
                bytes[at..end].fill(if kind == 3 { b'x' } else { 0 });
            }),
            _ => {}
        }
    }

    /// Does anything to any file.
    fn disturb(&self, kind: u8, directory: &Path) {
        let path = self.any_file(directory);
        match kind {
            0..5 => self.damage(kind, directory),
            5 => Self::edit(&path, |bytes| {
                if let Some(byte) = bytes.get_mut(self.at) {
                    *byte = self.value;
                }
            }),
            6 => Self::edit(&path, |bytes| bytes.truncate(self.at)),
            7 => Self::edit(&path, |bytes| bytes.extend(frames(0..u64::from(self.value % 16)))),
            8 => Self::edit(&path, |bytes| {
                let copied: Vec<u8> = bytes.iter().copied().skip(self.at).take(self.len).collect();
                bytes.extend(copied);
            }),
            9 => drop(std::fs::remove_file(&path)),
            10 => Self::edit(&self.segment(directory), |bytes| {
                let copy = directory.join(format!("{:020}", self.number()));
                let file = File::options().write(true).create_new(true).open(copy);
                drop(file.and_then(|file| file.write_all_at(bytes, 0))); // there may be something
            }),
            11 => {
                std::fs::remove_file(&path).ok(); // it may not be there
                let mode = nix::sys::stat::Mode::S_IRWXU;
                nix::unistd::mkfifo(&path, mode).ok(); // there may be a directory
            }
            12 => drop(std::fs::create_dir(&path)),
            13 => drop(symlink("/dev/zero", &path)),
            14 => {
                let file = File::options().write(true).create_new(true).open(&path);
                drop(file.and_then(|file| file.set_len(3 << 30)));
            }
            _ => Self::edit(&directory.join("cursors"), |bytes| self.forge(bytes)),
        }
    }

    /// Replaces a field of the checkpoint, whose checksum is right again.
    fn forge(&self, bytes: &mut Vec<u8>) {
        let Some(end) = memchr::memmem::rfind(bytes, b". ") else { return };
        let mut fields: Vec<Vec<u8>> =
            bytes[..end].split(|b| b" ,\n".contains(b)).map(<[u8]>::to_vec).collect();
        let count = fields.len();
        fields[self.at % count] = match self.len % 16 {
            0 => b"-".to_vec(),
            1 => b"x".to_vec(),
            _ => self.number().to_string().into_bytes(),
        };
        let mut separators = bytes[..end].iter().filter(|b| b" ,\n".contains(b));
        let mut text = Vec::new();
        for field in fields {
            text.extend(field);
            text.extend(separators.next());
        }
        text.extend_from_slice(format!(". {}\n", hash([text.as_slice()])).as_bytes());
        *bytes = text;
    }
}

/// What one drain got, and what it was told.
#[derive(Default)]
struct Drain {
    /// Bodies by their id.
    bodies: BTreeMap<String, Vec<u8>>,
    /// Numbers of the lines, and how often they were delivered in different batches.
    lines: BTreeMap<u64, u64>,
    announced: u64,
}

impl Drain {
    fn receive(&mut self, id: &str, notice: &[u8], body: &[u8], count: u64) {
        let whole = [notice, body].concat();
        if let Some(before) = self.bodies.get(id) {
            assert_eq!(
                before.escape_ascii().to_string(),
                whole.escape_ascii().to_string(),
                "one id, two bodies"
            );
            return;
        }
        let (mut at, mut frames) = (0, 0);
        while at < body.len() {
            let (_, end) = frame::span(body, at).expect("whole frames");
            assert_eq!(body[end - 1], b'\n', "each ends in LF");
            let number = frame::parse(body, at).ok().and_then(|frame| frame.msg.parse().ok());
            *self.lines.entry(number.unwrap_or(UNREADABLE)).or_default() += 1;
            (at, frames) = (end, frames + 1);
        }
        assert_eq!(frames, count, "the number that is announced");
        self.bodies.insert(id.to_owned(), whole);
    }
}

/// An agent or shipper that has adopted the directories.
struct Adopter {
    spool: Spool,
    readers: Vec<Reader>,
}

impl Adopter {
    fn open(base: &Path, agent: &str, memory: Option<File>, takeover: &TakeoverState) -> Self {
        let owner = SpoolOwner::of_test(TOKENS.map(DrainId::of_test).to_vec());
        let copy = memory.as_ref().and_then(|memory| memory.try_clone().ok());
        let spool = Spool::open_after(base, agent.to_owned(), owner, memory, takeover).spool;
        let readers =
            TOKENS.iter().map(|_| Reader::new(copy.as_ref().and_then(|copy| copy.try_clone().ok())));
        Self { readers: readers.collect(), spool }
    }

    /// Records lines of its own.
    fn write(&self, numbers: std::ops::Range<u64>, is_full: bool) {
        let limit = if is_full { 1 } else { 1 << 30 };
        let mut writer = self.spool.writer(limit, WhenFull::DropOldest, || false);
        for number in numbers {
            let bytes = frames(number..number + 1);
            let time = Timestamp::from_micros(3);
            let times = Some(TimeRange { first: time, last: time });
            let appended =
                Appended { len: bytes.len() as u64, frames: 1, ended: 1, times, ..Appended::default() };
            writer.append(&bytes, &appended);
        }
    }

    fn check(&self) {
        let ledger = self.spool.shared.lock();
        for drain in ledger.drains() {
            assert_eq!(ledger.imbalance(drain), 0);
            assert!(ledger.seal_range(drain).cursor <= ledger.log_end());
        }
    }

    /// What the worker asks and the coordinator answers, until this drain has consumed all: one step. False at the end.
    fn step(&mut self, index: DrainIndex, drain: &mut Drain) -> bool {
        let segments: Vec<_> = {
            let ledger = self.spool.shared.lock();
            if ledger.is_consumed(index) {
                return false;
            }
            let start = |s: &Segment| SegmentStart { start: s.start, location: s.location.clone() };
            ledger.segments().map(start).collect()
        };
        let (SealRange { cursor, mut limit, is_one_batch }, log_end) = {
            let ledger = self.spool.shared.lock();
            (ledger.seal_range(index), ledger.log_end())
        };
        let reader = &mut self.readers[index.get()];
        reader.update(&segments, cursor);
        limit = limit.min(log_end);
        let mut body = BytesMut::new();
        let max = if is_one_batch { usize::MAX } else { 300 };
        let mut read = reader.read(cursor, limit, max, &mut body);
        if let Err(ReadError::Damaged { at } | ReadError::Gone { at }) = read
            && at > cursor
            && !is_one_batch
        {
            read = reader.read(cursor, at, max, &mut body);
        }
        match read {
            Ok(range) if range.frames > 0 && is_one_batch && range.end < limit => {
                self.spool.shared.lock().cancel_resumed(index, range.end);
            }
            Ok(range) if range.frames > 0 => self.deliver(index, range, &body, drain),
            Err(ReadError::Damaged { at } | ReadError::Gone { at }) if at > cursor && is_one_batch => {
                self.spool.shared.lock().cancel_resumed(index, at);
            }
            _ if cursor < log_end => drop(self.spool.shared.lock().skip_damaged(index)),
            _ => self.deliver(index, BatchRange { start: cursor, end: cursor, frames: 0 }, &[], drain),
        }
        self.check();
        true
    }

    fn deliver(&mut self, index: DrainIndex, range: BatchRange, body: &[u8], drain: &mut Drain) {
        let identity = Identity { agent: &self.spool.agent, drain: TOKENS[index.get()] };
        let mut told = None;
        let notice = |losses: &Losses| {
            told = Some(losses.iter().map(|loss| loss.lines).sum());
            notice_of(losses)
        };
        let batch = match self.spool.shared.lock().seal(index, range, &identity, notice) {
            Ok(batch) => batch.clone(),
            Err(allowed) => panic!("{range:?} is not allowed, but {allowed:?}"),
        };
        self.spool.save_checkpoint();
        if !drain.bodies.contains_key(&batch.id) {
            let resumed = notice_of(&losses(ANNOUNCED)) == batch.notice && told.is_none();
            drain.announced += told.unwrap_or(if resumed { ANNOUNCED } else { 0 });
        }
        drain.receive(&batch.id, &batch.notice, body, batch.range.frames);
        self.spool.shared.lock().complete_batch(index, BatchOutcome::Delivered);
        self.spool.save_and_remove_consumed();
    }

    /// Steps for all drains in turn, `limit` of them at most. True when nothing is left.
    fn run(&mut self, drains: &mut [Drain], limit: usize) -> bool {
        let mut is_over = [false; TOKENS.len()];
        for step in 0..limit {
            let index = DrainIndex::new(step % TOKENS.len());
            is_over[index.get()] = !self.step(index, &mut drains[index.get()]);
            if is_over == [true; TOKENS.len()] {
                return true;
            }
        }
        false
    }
}

fn take_over() -> (TakeoverState, File) {
    let memory = memory_file().expect("a memory file");
    let takeover = TakeoverState::new("00ab", &TOKENS.map(DrainId::of_test));
    for slot in 0..2_u8 {
        let first = IN_MEMORY + u64::from(slot) * FRAMES;
        let at = u64::from(slot) * SEGMENT_BYTES;
        memory.write_all_at(&frames(first..first + FRAMES), at).expect("written");
        note_slot_start(&memory, slot, segment_start(slot.into())).expect("written");
    }
    (takeover, memory)
}

fn recovery(input: &[u8]) {
    let input = Input::parse(input);
    let base = tempfile::tempdir().expect("a directory");
    let directory = make_dead(base.path(), input.unrecorded);
    input.apply(&directory);
    let mut drains = TOKENS.map(|_| Drain::default());
    let mut own = 0;
    if let Some(steps) = input.killed_after {
        let mut adopter = Adopter::open(base.path(), "00bb", None, &TakeoverState::default());
        own = 3;
        adopter.write(OWN..OWN + own, input.is_full);
        adopter.check();
        adopter.run(&mut drains, steps);
    }
    let (takeover, memory) = if input.is_takeover {
        let (takeover, memory) = take_over();
        (takeover, Some(memory))
    } else {
        (TakeoverState::default(), None)
    };
    let mut adopter = Adopter::open(base.path(), "00cc", memory, &takeover);
    let is_own = input.killed_after.is_none() && !input.is_takeover;
    if is_own {
        own = 3;
        adopter.write(OWN..OWN + own, input.is_full);
    }
    adopter.check();
    assert!(adopter.run(&mut drains, MAX_STEPS), "delivery ends");
    adopter.spool.close();
    drop(adopter);
    if input.is_exact {
        assert!(!directory.exists(), "nothing is left behind");
        check_lines(&input, &drains, own);
    }
}

/// Each line was delivered once, or announced as lost.
fn check_lines(input: &Input<'_>, drains: &[Drain], own: u64) {
    for (token, (drain, first)) in TOKENS.iter().zip(drains.iter().zip([3, 2 * FRAMES])) {
        let lost_before = if first == 3 { ANNOUNCED } else { UNANNOUNCED };
        let in_memory = if input.is_takeover { 2 * FRAMES } else { 0 };
        let expected = SEGMENTS * FRAMES - first + own + in_memory + lost_before;
        let is_repeated = |(number, count): (&u64, &u64)| *number != UNREADABLE && *count > 1;
        assert!(!drain.lines.iter().any(is_repeated), "{token}: a line came twice: {:?}", drain.lines);
        let delivered: u64 = drain.lines.values().sum();
        let known = delivered + drain.announced;
        let context = format!("{token}: {delivered} delivered, {} announced", drain.announced);
        // Of what a segment got after the last checkpoint nothing is known that cannot be read.
        let least = expected - input.unrecorded;
        assert!(known >= least, "lost in silence: {context}, expected {least} to {expected}");
        assert!(known <= expected, "too many: {context}, expected {least} to {expected}");
    }
}

fuzz_test!(
    any_directory_is_adopted,
    Target {
        seeds: vec![
            vec![0, 0],
            vec![0, 5],
            vec![2, 0],
            vec![2, 9],
            vec![4, 0],
            vec![8, 3],
            [&[0, 0][..], b"\x00\x01\x01\x00\x00\x00", b"\x02\x02\x00\x00\x00\x00"].concat(),
            [&[0, 7][..], b"\x03\x00\x00\xf0\x00\x05", b"\x04\x03\x00\x09\x00\x80"].concat(),
            [&[1, 7][..], b"\x0f\x00\x00\x01\x02\x02", b"\x0a\x02\x00\x00\x02\x00"].concat(),
            [&[1, 0][..], b"\x0b\x06\x00\x00\x00\x00", b"\x0e\x0d\x00\x00\x04\x00"].concat(),
            [&[5, 0][..], b"\x0f\x00\x00\x15\x08\x02", b"\x05\x07\x00\x09\x30\x00"].concat(),
        ],
        tokens: &[
            b"\x00\x01\x00\x50\x00\x00",
            b"\x02\x03\x00\x00\x00\x00",
            b"\x03\x02\x01\x00\x00\x03",
            b"\x0f\x00\x00\x04\x08\x02",
            b"\x0a\x01\x00\x00\x03\x00",
        ],
        factor: 5.0,
        run: recovery,
    }
);

/// The file after its first byte, which says what is done about the checksum.
fn checkpoint(input: &[u8]) {
    let [is_signed, text @ ..] = input else { return };
    let base = tempfile::tempdir().expect("a directory");
    let directory = Directory::create(base.path(), DEAD).expect("ours");
    let path = directory.path().join("cursors");
    let mut bytes = text.to_vec();
    if is_signed % 2 == 1 {
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(format!(". {}\n", hash([bytes.as_slice()])).as_bytes());
    }
    std::fs::write(&path, &bytes).expect("written");
    let Ok(recorded) = Checkpoint::read(&directory) else { return };
    let is_empty = recorded.cursors.is_empty() && recorded.segments.is_empty();
    // It is believed when nothing in front of its checksum was changed.
    let sum = [0].into_iter().chain(memchr::memchr_iter(b'\n', &bytes).map(|at| at + 1)).find(|at| {
        let line = bytes[*at..].split(|b| *b == b'\n').next().unwrap_or_default();
        line.strip_prefix(b". ") == Some(hash([&bytes[..*at]]).as_bytes())
    });
    assert!(sum.is_some() || (bytes.is_empty() && is_empty), "{}", bytes.escape_ascii());
    // What is saved is read again, over a longer one.
    Checkpoint::open(&directory).expect("opened").save(&recorded.cursors, &recorded.segments).expect("saved");
    let again = Checkpoint::read(&directory).expect("a checkpoint");
    assert_eq!((again.cursors, again.segments), (recorded.cursors, recorded.segments));
}

/// A checkpoint as an agent writes it, without the line of its checksum.
fn checkpoint_text() -> Vec<u8> {
    let base = tempfile::tempdir().expect("a directory");
    let directory = make_dead(base.path(), UNRECORDED);
    let mut bytes = std::fs::read(directory.join("cursors")).expect("read");
    bytes.truncate(memchr::memmem::rfind(&bytes, b". ").expect("a checksum"));
    bytes
}

fuzz_test!(
    a_checkpoint_is_believed_only_with_its_checksum,
    Target {
        seeds: {
            let text = checkpoint_text();
            let whole = [text.as_slice(), format!(". {}\n", hash([text.as_slice()])).as_bytes()].concat();
            vec![[&[1][..], &text].concat(), [&[0][..], &whole].concat(), vec![0], vec![1]]
        },
        tokens: &[
            b"\n",
            b" ",
            b"-",
            b"+ ",
            b". ",
            b",",
            b"0",
            b"18446744073709551615",
            b"\xff",
            b"d.1 ",
            b"= hash-of-d.1 ",
            b"spool-full"
        ],
        factor: 10.0,
        run: checkpoint,
    }
);
