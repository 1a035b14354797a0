//! Counts by drain token and PROCID. All totals are made from them.

use super::{Losses, Report, Sequence};
use crate::measure::{Merge, OTHER, Quantiles};
use crate::model::{DrainKind, ReceivedFrame};
use crate::stream::{Counter, Lag};
use memchr::memmem::Finder;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use tailrace::frame::Frame;

/// Streams that are tracked. The frames of further streams are counted together, without a check of their order.
const MAX_STREAMS: usize = 500;

/// Precedes the number of a line whose message is not only the number.
static SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("seq="));

/// All streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    by_token: BTreeMap<String, BTreeMap<String, Counter>>,
    /// Number of streams, at most [`MAX_STREAMS`].
    tracked: usize,
    /// Frames of further streams.
    untracked: u64,
    /// Numbered messages, by PROCID.
    sequences: BTreeMap<String, Sequence>,
    /// APP-NAMEs, at most [`MAX_STREAMS`].
    apps: BTreeSet<String>,
}

/// Where the frames of a stream are counted.
struct Slot<'a> {
    counter: &'a mut Counter,
    /// Whether the counter is for this stream only.
    is_tracked: bool,
}

impl Streams {
    /// Counts a frame that was received at `now`, in µs since the Unix epoch. `lost` is the number of lines that it
    /// announces as lost. Sequence numbers are checked for all drains but the platform's.
    pub(crate) fn add(
        &mut self,
        token: &str,
        received: &ReceivedFrame<'_>,
        now: u64,
        lost: Option<u64>,
        drain: DrainKind,
    ) {
        let frame = &received.frame;
        if !self.apps.contains(frame.app) && self.apps.len() < MAX_STREAMS {
            self.apps.insert(frame.app.to_owned());
        }
        if let Some(counter) = self.by_token.get_mut(token).and_then(|procs| procs.get_mut(frame.proc_id)) {
            counter.add(received, now, lost);
            counter.check_order(frame);
        } else {
            let Slot { counter, is_tracked } = self.new_stream(token, frame.proc_id);
            counter.add(received, now, lost);
            if !is_tracked {
                self.untracked += 1;
                return;
            }
            counter.check_order(frame);
        }
        if drain == DrainKind::Agent && frame.is_app_line() {
            self.check_sequence(frame);
        }
    }

    /// Counts a frame of a batch that had already been received.
    pub(crate) fn count_repeat(&mut self, token: &str, proc: &str) {
        let counter = match self.by_token.get_mut(token).and_then(|procs| procs.get_mut(proc)) {
            Some(counter) => counter,
            None => self.new_stream(token, proc).counter,
        };
        counter.stream.repeats += 1;
    }

    fn new_stream(&mut self, token: &str, proc: &str) -> Slot<'_> {
        let is_tracked = self.tracked < MAX_STREAMS;
        self.tracked += usize::from(is_tracked);
        let token = if is_tracked || self.by_token.contains_key(token) { token } else { OTHER };
        let proc = if is_tracked { proc } else { OTHER };
        let streams = self.by_token.entry(token.to_owned()).or_default();
        Slot { counter: streams.entry(proc.to_owned()).or_default(), is_tracked }
    }

    fn check_sequence(&mut self, frame: &Frame<'_>) {
        let start = SEQ.find(frame.msg.as_bytes()).map(|at| at + SEQ.needle().len());
        let text = start.map_or(frame.msg, |start| &frame.msg[start..]);
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        if end < text.len() && text.len() == frame.msg.len() {
            return; // the message is not a number
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

    /// Frames by all drains.
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

    /// The lag of all frames of a drain token.
    pub(crate) fn lag(&self, token: &str) -> Quantiles {
        let mut lag = Quantiles::default();
        for counter in self.by_token.get(token).into_iter().flat_map(BTreeMap::values) {
            lag.merge(counter.lag.clone());
        }
        lag
    }

    /// Writes the streams and their totals into a report. The platform's drain is not part of the totals.
    pub(crate) fn fill(&self, report: &mut Report, platform: Option<&str>) {
        report.untracked = self.untracked;
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
                    report.system_frames += stream.system_frames;
                    report.out_of_order += stream.out_of_order;
                    report.skewed += stream.skewed;
                    report.ahead_ms = report.ahead_ms.max(stream.ahead_ms);
                    let Losses { notices, lines } = stream.losses;
                    report.losses.notices += notices;
                    report.losses.lines += lines;
                    lag.merge(counter.lag.clone());
                }
                report.lines += lines;
                report.by_token.insert(token.clone(), lines);
            }
            report.streams.insert(token.clone(), streams);
        }
        report.lag_ms = Lag::from(&lag);
    }
}
