//! One agent of the model: its spool and its coordinator are the real ones, and all runs on one thread, step by step.

use super::super::{Coordinator, DiskWorker};
use super::drain::World;
use super::shipper::Shipper;
use crate::frame::{AgentLine, AgentLineKind, DropReason, Encoder, Field, PRI_APP, Timestamp};
use crate::ledger::{Appended, DrainIndex, FrameKind, SpecialFrame, TimeRange};
use crate::line::{Fragment, PerStream, Stream};
use crate::protocol::{Connection, ToShipper, ToSupervisor};
use crate::spool::{Opened, Spool, SpoolOwner, WhenFull, Writer};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an app or the agent writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line, or the rest of one.
    Line(Stream),
    /// A part of a line.
    Part(Stream),
    /// A line of the agent.
    Agent,
}

/// What the agents of a case have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) drains: usize,
    pub(super) spool_bytes: u64,
    pub(super) batch_bytes: usize,
}

/// The directory of all agents of a case, and which one this is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) base: &'a Path,
    pub(super) number: usize,
}

impl Place<'_> {
    /// The agent's id.
    pub(super) fn id(&self) -> String {
        format!("{:032x}", self.number)
    }

    /// Its directory.
    pub(super) fn path(&self) -> PathBuf {
        self.base.join(self.id())
    }
}

/// The shipper and the supervisor's end of its socket.
struct Link {
    connection: Connection,
    shipper: Shipper,
    knows_log_end: bool,
}

/// A running agent.
pub(super) struct Agent<'a> {
    pub(super) world: &'a mut World,
    settings: Settings,
    number: usize,
    spool: &'a Arc<Spool>,
    writer: Writer<'a>,
    coordinator: Coordinator,
    link: Option<Link>,
    is_log_complete: bool,
    /// Delivered lines per drain, at the last check.
    delivered: Vec<u64>,
    /// What did not follow the protocol.
    pub(super) violations: usize,
}

/// Opens the spool of an agent, does its work, and drops everything as if it had been killed.
pub(super) fn live(
    world: &mut World,
    settings: Settings,
    place: Place<'_>,
    work: impl FnOnce(&mut Agent<'_>),
) {
    let owner = SpoolOwner::of_test(world.drain_ids());
    world.open = [None; 2];
    let Opened { spool, error } = Spool::open(place.base, place.id(), owner, None);
    assert!(error.is_none(), "{error:?}");
    let spool = Arc::new(spool);
    let mut coordinator = Coordinator::new(Arc::clone(&spool), &Field::coerce("host"), "web.1", None);
    coordinator.disk_worker = DiskWorker::stalled(Arc::clone(&spool));
    coordinator.is_other_process = true;
    coordinator.end(); // fewer alerts
    let writer = spool.writer(settings.spool_bytes, WhenFull::DropOldest, || false);
    let delivered = vec![0; settings.drains];
    work(&mut Agent {
        world,
        settings,
        number: place.number,
        spool: &spool,
        writer,
        coordinator,
        link: None,
        is_log_complete: false,
        delivered,
        violations: 0,
    });
}

impl Agent<'_> {
    /// Appends frames with messages of this many bytes, at least.
    pub(super) fn append(&mut self, pieces: &[Piece], bytes: usize) {
        let field = Field::coerce("app");
        let mut encoder = Encoder::new(PRI_APP, &field, &field, &field);
        let mut out = Vec::new();
        let mut appended = Appended::default();
        for piece in pieces {
            let (stream, is_last) = match *piece {
                Piece::Line(stream) => (Some(stream), true),
                Piece::Part(stream) => (Some(stream), false),
                Piece::Agent => (None, true),
            };
            let continues = stream.is_some_and(|stream| self.world.open[stream as usize].is_some());
            let number = self.world.add_frame(stream, self.number, is_last);
            let kind = stream.map_or(Some(FrameKind::Agent), |stream| {
                let fragment = match (is_last, continues) {
                    (true, true) => Fragment::Final,
                    (true, false) => Fragment::Full,
                    (false, _) => Fragment::Partial,
                };
                FrameKind::of(fragment, stream)
            });
            appended.special.extend(kind.map(|kind| SpecialFrame { offset: out.len() as u32, kind }));
            appended.ended += u64::from(stream.is_some() && is_last);
            let (time, text) = (Timestamp::from_micros(number + 1), format!("{number} {:x<bytes$}", ""));
            match stream {
                Some(_) => encoder.encode(&mut out, time, text.as_bytes()),
                None => AgentLine::new(AgentLineKind::Agent, text).encode(&mut out, time, &field, &field),
            }
            let times = TimeRange { first: time, last: time };
            appended.times = Some(TimeRange::extended(appended.times, times));
        }
        (appended.len, appended.frames) = (out.len() as u64, pieces.len() as u64);
        self.write(&out, &appended);
    }

    fn write(&mut self, frames: &[u8], appended: &Appended) {
        self.writer.append(frames, appended);
        assert!(self.writer.take_warning().is_none(), "the disk works");
        self.world.book(appended.frames as usize);
        let [out, err] = self.world.open.map(|open| open.is_some());
        self.spool.shared.lock().set_unfinished(PerStream { out, err });
    }

    /// The line under way of a stream turns out to have ended.
    pub(super) fn close_line(&mut self, stream: Stream) {
        if let Some(line) = self.world.open[stream as usize].take() {
            self.world.lines[line].is_ended = true;
            let closed = vec![FrameKind::Final(stream)];
            self.write(&[], &Appended { closed, ended: 1, ..Appended::default() });
        }
    }

    /// Starts a shipper where none runs.
    pub(super) fn start_shipper(&mut self) {
        if self.link.is_none() {
            let (ours, theirs) = UnixStream::pair().expect("a socket pair");
            let mut connection = Connection::new(ours).expect("a connection");
            self.coordinator.resync(&mut connection);
            connection.flush();
            let shipper = Shipper::new(theirs, self.settings.drains, self.settings.batch_bytes);
            self.link = Some(Link { connection, shipper, knows_log_end: false });
        }
    }

    /// The shipper dies. What it sent before counts.
    pub(super) fn kill_shipper(&mut self) {
        if let Some(Link { mut connection, shipper, .. }) = self.link.take() {
            drop(shipper);
            while !connection.is_closed() && self.coordinator.handle_messages(&mut connection).alive {}
        }
    }

    /// The supervisor handles what the shipper sent, and sends what is new.
    pub(super) fn tick(&mut self) {
        let Some(link) = &mut self.link else { return };
        self.coordinator.handle_messages(&mut link.connection);
        if self.coordinator.has_updates() {
            self.coordinator.send_updates(&mut link.connection);
        }
        if self.is_log_complete && !link.knows_log_end && !self.coordinator.has_updates() {
            link.knows_log_end = true;
            link.connection.send(&ToShipper::EndOfLog);
        }
        link.connection.flush();
        if link.connection.is_closed() {
            self.violations += 1;
            self.link = None;
        }
    }

    /// The disk worker does what was requested.
    pub(super) fn work_on_disk(&mut self) {
        self.coordinator.disk_worker.run_round();
    }

    /// The spare files go.
    pub(super) fn trim(&mut self) {
        self.spool.trim();
    }

    /// The next message of the shipper for this drain, which is not sent yet. Returns also how many it received.
    pub(super) fn next_message(&mut self, drain: usize) -> (usize, Option<ToSupervisor>) {
        let Some(Link { shipper, .. }) = &mut self.link else { return (0, None) };
        (shipper.receive(), shipper.step(drain, &mut self.world.drains[drain]))
    }

    pub(super) fn send(&mut self, message: &ToSupervisor) {
        if let Some(Link { shipper, .. }) = &mut self.link {
            shipper.send(message);
        }
    }

    /// One message of the shipper for this drain, and the answer to it. Returns how many messages were exchanged.
    pub(super) fn exchange(&mut self, drain: usize) -> usize {
        let (received, message) = self.next_message(drain);
        let sent = message.iter().inspect(|message| self.send(message)).count();
        self.tick();
        received + sent
    }

    /// The law of the ledger, and that nothing counts as delivered that the drain has not got.
    pub(super) fn check(&mut self) {
        self.check_law();
        for drain in 0..self.settings.drains {
            let ledger = self.spool.shared.lock();
            let account = ledger.account(DrainIndex::new(drain)).expect("an account");
            let server = &self.world.drains[drain];
            let own = self.world.lines_of(self.number);
            let got = own.filter(|line| line.is_ended && server.has_all(&line.frames)).count() as u64;
            assert!(account.delivered() <= got, "drain {drain}: it has {got} lines, {account:?}");
            let damaged = account.dropped_by().find(|(reason, _)| *reason == DropReason::SpoolDamaged);
            assert_eq!(damaged, None, "drain {drain}: nothing is damaged");
        }
    }

    /// The law of the ledger, whatever a shipper says.
    pub(super) fn check_law(&mut self) {
        let ledger = self.spool.shared.lock();
        assert_eq!(ledger.captured(), self.world.lines_of(self.number).count() as u64);
        for (drain, before) in ledger.drains().zip(&mut self.delivered) {
            assert_eq!(ledger.imbalance(drain), 0, "drain {drain}: {:?}", ledger.report());
            let delivered = ledger.accounts()[drain.get()].delivered();
            assert!(delivered >= *before, "drain {drain}: a delivery is not taken back");
            *before = delivered;
        }
    }

    /// The ledger's side of one drain, for checks.
    pub(super) fn ledger(&self) -> std::sync::MutexGuard<'_, crate::ledger::Ledger> {
        self.spool.shared.lock()
    }

    /// The app has ended, and the drains take everything: it is delivered, without a pause in which nobody says
    /// anything. Then the agent ends.
    pub(super) fn finish(&mut self) {
        for stream in Stream::ALL {
            self.close_line(stream);
        }
        self.is_log_complete = true;
        self.start_shipper();
        self.tick();
        let (mut rounds, mut silent) = (0, 0);
        while !self.coordinator.is_done() {
            self.work_on_disk();
            self.start_shipper(); // where one was not believed, because of what an earlier one had said
            let messages: usize = (0..self.settings.drains).map(|drain| self.exchange(drain)).sum();
            let ledger = format!("{:?}", self.ledger().accounts());
            // A round without messages is one in which the disk worked.
            silent = if messages > 0 { 0 } else { silent + 1 };
            assert!(silent < 2, "lines are held, and nobody says anything: {ledger}");
            rounds += 1;
            assert!(rounds < 4000, "delivery does not come to an end: {ledger}");
        }
        self.kill_shipper();
        self.coordinator.close();
        self.work_on_disk();
    }
}
