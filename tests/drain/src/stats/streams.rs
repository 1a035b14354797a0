//! What came, by drain token and PROCID: the only count of frames, from which all totals are made.

use super::{Losses, Report, Sequence, is_app};
use crate::measure::{Merge, OTHER, Quantiles};
use crate::model::Fragment;
use crate::stream::{Counter, Lag};
use memchr::memmem::Finder;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use tailrace::frame::Frame;

/// Streams that are told apart; what comes from others is counted together, and its order is not looked at.
const MOST: usize = 500;

/// What stands before a line's number, where the number is not all of it.
static SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("seq="));

/// All streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    by_token: BTreeMap<String, BTreeMap<String, Counter>>,
    known: usize,
    /// Frames whose order and numbers nobody looked at.
    unfollowed: u64,
    /// Numbered messages, by PROCID.
    sequences: BTreeMap<String, Sequence>,
    /// APP-NAMEs, the first so many.
    apps: BTreeSet<String>,
}

impl Streams {
    /// Counts a frame that came at `now`, in µs since the Unix epoch; `dropped` is what it announces. Numbers are
    /// looked at where `is_numbered`.
    pub(crate) fn add(
        &mut self,
        token: &str,
        piece: &Fragment<'_>,
        now: u64,
        dropped: Option<u64>,
        is_numbered: bool,
    ) {
        let frame = &piece.frame;
        if !self.apps.contains(frame.app) && self.apps.len() < MOST {
            self.apps.insert(frame.app.to_owned());
        }
        if let Some(counter) = self.by_token.get_mut(token).and_then(|procs| procs.get_mut(frame.proc_id)) {
            counter.add(piece, now, dropped);
            counter.follow(frame);
        } else {
            let (counter, is_alone) = self.seat(token, frame.proc_id);
            counter.add(piece, now, dropped);
            if !is_alone {
                self.unfollowed += 1;
                return;
            }
            counter.follow(frame);
        }
        if is_numbered && is_app(frame) {
            self.number(frame);
        }
    }

    /// Counts a frame that came again with its batch.
    pub(crate) fn repeat(&mut self, token: &str, proc: &str) {
        let counter = match self.by_token.get_mut(token).and_then(|procs| procs.get_mut(proc)) {
            Some(counter) => counter,
            None => self.seat(token, proc).0,
        };
        counter.stream.repeats += 1;
    }

    /// Where a new stream is counted, and whether it is alone there.
    fn seat(&mut self, token: &str, proc: &str) -> (&mut Counter, bool) {
        let is_alone = self.known < MOST;
        self.known += usize::from(is_alone);
        let token = if is_alone || self.by_token.contains_key(token) { token } else { OTHER };
        let proc = if is_alone { proc } else { OTHER };
        (self.by_token.entry(token.to_owned()).or_default().entry(proc.to_owned()).or_default(), is_alone)
    }

    fn number(&mut self, frame: &Frame<'_>) {
        let behind = SEQ.find(frame.msg.as_bytes()).map(|at| at + SEQ.needle().len());
        let text = behind.map_or(frame.msg, |behind| &frame.msg[behind..]);
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        if end < text.len() && text.len() == frame.msg.len() {
            return; // not a plain number
        }
        let Ok(number) = text[..end].parse::<u64>() else { return };
        let sequence = match self.sequences.get_mut(frame.proc_id) {
            Some(sequence) => sequence,
            None => self.sequences.entry(frame.proc_id.to_owned()).or_default(),
        };
        sequence.count += 1;
        sequence.first.get_or_insert(number);
        match sequence.last {
            Some(last) if number <= last => sequence.backward += 1,
            Some(last) => sequence.missing += number - last - 1,
            None => {}
        }
        sequence.last = Some(sequence.last.map_or(number, |last| last.max(number)));
    }

    /// Frames that came, by whatever drain.
    pub(crate) fn frames(&self) -> u64 {
        self.by_token.values().flat_map(BTreeMap::values).map(|counter| counter.stream.frames()).sum()
    }

    /// Drain tokens.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.by_token.keys().map(String::as_str)
    }

    /// PROCIDs.
    pub(crate) fn procs(&self) -> BTreeSet<&str> {
        self.by_token.values().flat_map(BTreeMap::keys).map(String::as_str).collect()
    }

    /// APP-NAMEs.
    pub(crate) fn apps(&self) -> &BTreeSet<String> {
        &self.apps
    }

    /// The lag of all that came by a drain.
    pub(crate) fn lag(&self, token: &str) -> Quantiles {
        let mut lag = Quantiles::default();
        for counter in self.by_token.get(token).into_iter().flat_map(BTreeMap::values) {
            lag.absorb(counter.lag.clone());
        }
        lag
    }

    /// Writes them into a report; what came by the platform's drain is no part of the totals.
    pub(crate) fn fill(&self, report: &mut Report, platform: Option<&str>) {
        report.unfollowed = self.unfollowed;
        report.sequence.clone_from(&self.sequences);
        let mut lag = Quantiles::default();
        for (token, procs) in &self.by_token {
            let streams: BTreeMap<_, _> =
                procs.iter().map(|(name, counter)| (name.clone(), counter.report())).collect();
            if Some(token.as_str()) != platform {
                let mut lines = 0;
                for (stream, counter) in streams.values().zip(procs.values()) {
                    lines += stream.lines;
                    report.frames += stream.frames();
                    report.own_frames += stream.own_frames;
                    report.out_of_order += stream.out_of_order;
                    report.skewed += stream.skewed;
                    report.ahead_ms = report.ahead_ms.max(stream.ahead_ms);
                    let Losses { notices, lines } = stream.losses;
                    report.losses.notices += notices;
                    report.losses.lines += lines;
                    lag.absorb(counter.lag.clone());
                }
                report.lines += lines;
                report.by_token.insert(token.clone(), lines);
            }
            report.streams.insert(token.clone(), streams);
        }
        report.lag_ms = Lag::from(&lag);
    }
}
