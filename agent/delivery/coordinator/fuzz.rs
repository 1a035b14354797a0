//! The coordinator and a shipper that says anything. The ledger's law holds after each message, what is answered is
//! well-formed and bounded, and an honest shipper that follows can deliver the rest.

use super::*;
use crate::frame::DropReason;
use crate::ledger::{Appended, SealedBatch, SegmentLocation};
use crate::protocol::Decoder;
use crate::spool::{DrainId, Spool, SpoolOwner};
use crate::tests::fuzz::{Target, fuzz_test};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// Bytes of every frame here.
const FRAME: u64 = 10;
const DRAINS: usize = 2;
/// Lines of an input that are looked at.
const MAX_LINES: usize = 100;
/// Messages of the honest shipper: a multiple of what it needs.
const MAX_HONEST_STEPS: usize = 2000;

/// The supervisor's side, and the shipper's end of the socket.
struct Supervisor {
    coordinator: Coordinator,
    connection: Connection,
    shipper: UnixStream,
    decoder: Decoder,
    /// Answers that the shipper has not acted on.
    answers: VecDeque<ToShipper>,
    /// Segments that were opened.
    segments: u8,
    _dir: tempfile::TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let dir = tempfile::TempDir::new().expect("a directory");
        let owner = SpoolOwner::of_test(["d.1", "d.2"].map(DrainId::of_test).to_vec());
        let spool = Spool::open(&dir.path().join("spool"), "00aa".to_owned(), owner, None).spool;
        let mut coordinator = Coordinator::new(Arc::new(spool), &Field::coerce("host"), "web.1", None);
        coordinator.is_other_process = true;
        let (ours, shipper) = pair();
        let mut supervisor = Self {
            coordinator,
            connection: ours,
            shipper,
            decoder: Decoder::default(),
            answers: VecDeque::new(),
            segments: 0,
            _dir: dir,
        };
        for frames in [9, 3] {
            supervisor.open_segment();
            supervisor.append(frames);
        }
        supervisor.start_shipper();
        supervisor
    }

    fn open_segment(&mut self) {
        self.coordinator.spool.shared.lock().open_segment(SegmentLocation::Memory(self.segments));
        self.segments = self.segments.wrapping_add(1);
    }

    fn append(&mut self, frames: u64) {
        let appended = Appended { len: frames * FRAME, frames, ended: frames, ..Appended::default() };
        self.coordinator.spool.shared.lock().append(&appended);
    }

    fn start_shipper(&mut self) {
        (self.connection, self.shipper) = pair();
        self.decoder = Decoder::default();
        self.answers.clear();
        self.coordinator.resync(&mut self.connection);
        self.connection.flush();
    }

    /// The shipper sends bytes, and reads what is answered.
    fn exchange(&mut self, bytes: &[u8]) {
        self.shipper.write_all(bytes).ok(); // the connection may be closed
        self.coordinator.handle_messages(&mut self.connection);
        let mut received = [0; 4096];
        while let Ok(len @ 1..) = self.shipper.read(&mut received) {
            self.decoder.push(&received[..len]);
            self.connection.flush();
        }
        while let Some(answer) = self.decoder.take() {
            self.answers.push_back(answer.expect("the supervisor sends messages"));
        }
        self.check();
        let is_closed = self.connection.is_closed();
        assert_eq!(self.connection.take_violation().is_some(), is_closed, "a reason for each end");
        if is_closed {
            self.start_shipper();
        }
    }

    fn check(&self) {
        let ledger = self.coordinator.spool.shared.lock();
        for (drain, account) in ledger.drains().zip(ledger.accounts()) {
            assert_eq!(ledger.imbalance(drain), 0, "{drain}");
            let known = [account.delivered(), account.rejected(), account.dropped(), ledger.held(drain)];
            assert!(known.iter().all(|lines| *lines <= ledger.captured()), "{drain}: {known:?}");
            assert!(account.cursor() <= ledger.log_end());
        }
        assert!(self.coordinator.confined().len() <= 4096 && !self.coordinator.confined().contains('\n'));
        assert!(self.coordinator.waiting.len() <= DRAINS && self.coordinator.doubts.len() <= DRAINS);
    }

    /// What happens beside the shipper.
    fn event(&mut self, event: &[u8]) {
        match event {
            b"append" => self.append(2),
            b"segment" => {
                self.open_segment();
                self.append(1);
            }
            b"drop" => drop(self.coordinator.spool.shared.lock().drop_oldest(DropReason::SpoolFull)),
            b"update" => self.coordinator.send_updates(&mut self.connection),
            b"restart" => self.start_shipper(),
            _ => {}
        }
        self.check();
    }

    /// A shipper that knows no better than what is in the spool: frames of 10 bytes.
    fn deliver_honestly(&mut self) {
        self.start_shipper();
        self.exchange(b"ping\n");
        for _ in 0..MAX_HONEST_STEPS {
            if self.coordinator.is_done() {
                return;
            }
            let mut messages = String::new();
            while let Some(answer) = self.answers.pop_front() {
                messages.extend(self.honest_reply(&answer));
            }
            if messages.is_empty() {
                // The end of the log: losses that nothing follows are asked for.
                for drain in DrainIndex::all(DRAINS) {
                    let cursor = self.coordinator.spool.shared.lock().seal_range(drain).cursor;
                    messages.extend([format!("seal-request {drain} {cursor} {cursor} 0\n")]);
                }
            }
            self.exchange(messages.as_bytes());
        }
        panic!("an honest shipper cannot deliver the rest");
    }

    fn honest_reply(&self, answer: &ToShipper) -> Option<String> {
        let log_end = self.coordinator.spool.shared.lock().log_end();
        match answer {
            ToShipper::SealRange { drain, range: SealRange { cursor, limit, .. } } => {
                let bytes = (*limit).min(log_end).bytes_since(*cursor);
                let frames = bytes / FRAME;
                if !cursor.get().is_multiple_of(FRAME) || (frames == 0 && *cursor < log_end && bytes > 0) {
                    return Some(format!("spool-damaged {drain} {cursor}\n"));
                }
                let end = *cursor + frames * FRAME;
                let is_over = *cursor >= log_end;
                (!is_over).then(|| format!("seal-request {drain} {cursor} {end} {frames}\n"))
            }
            ToShipper::SealedBatch { drain, batch: SealedBatch { range, .. } } => {
                let start = range.start;
                let is_true = start.get().is_multiple_of(FRAME) && range.end - start == range.frames * FRAME;
                let frames = range.end.bytes_since(start) / FRAME;
                Some(match (is_true, frames) {
                    (true, _) => format!("delivered {drain}\n"),
                    (false, 0) => format!("spool-damaged {drain} {start}\n"),
                    (false, _) if !start.get().is_multiple_of(FRAME) => {
                        format!("spool-damaged {drain} {start}\n")
                    }
                    (false, _) => {
                        format!("seal-request {drain} {start} {} {frames}\n", start + frames * FRAME)
                    }
                })
            }
            _ => None,
        }
    }
}

fn pair() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    theirs.set_nonblocking(true).expect("set");
    (Connection::new(ours).expect("a connection"), theirs)
}

/// Lines of a shipper; those that begin with `!` happen beside it.
fn lying_shipper(input: &[u8]) {
    let mut supervisor = Supervisor::new();
    for line in input.split_inclusive(|b| *b == b'\n').take(MAX_LINES) {
        match line {
            [b'!', event @ ..] => supervisor.event(event.strip_suffix(b"\n").unwrap_or(event)),
            line => supervisor.exchange(line),
        }
    }
    supervisor.deliver_honestly();
    let ledger = supervisor.coordinator.spool.shared.lock();
    assert!(ledger.drains().all(|drain| ledger.held(drain) == 0));
}

fuzz_test!(
    a_shipper_can_say_anything,
    Target {
        seeds: [
            "ping\nconfined seccomp\nseal-request 0 0 90 9\ndelivered 0\nseal-request 0 90 120 3\ndelivered 0\n",
            "seal-request 0 0 120 12\nattempt-failed 0 503 retry 250 busy\ntoo-large 0\nseal-request 0 0 50 5\n\
             rejected 0 400 bad\nseal-request 1 0 10 1\nattempt-failed 1 0 hold 60000 refused\ndelivered 1\n",
            "!append\n!segment\n!drop\nseal-request 0 0 0 0\nspool-damaged 0 90\nspool-damaged 1 0\n!update\n",
            "seal-request 0 0 90 8\nseal-request 0 0 90 8\n!restart\nseal-request 0 0 20 1\ndelivered 0\n!segment\n",
            "seal-request 1 0 15 1\n!segment\n!drop\n!drop\ndelivered 1\nseal-request 1 15 18446744073709551615 9\n",
        ]
        .map(|lines| lines.as_bytes().to_vec())
        .to_vec(),
        tokens: &[
            b"\n", b" ", b"0", b"1", b"7", b"10", b"90", b"120", b"18446744073709551615", b"!append\n", b"!segment\n", b"!drop\n",
            b"!restart\n", b"!update\n", b"seal-request 0 ", b"seal-request 1 ", b"delivered 0\n", b"delivered 1\n",
            b"rejected 0 400 x\n", b"too-large 1\n", b"spool-damaged 0 ", b"\xff",
        ],
        factor: 3.0,
        run: lying_shipper,
    }
);
