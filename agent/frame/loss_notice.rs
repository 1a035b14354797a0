//! Loss notices: a frame in the stream that says how many lines are missing, since when, until when and why.

use super::{Encoder, Field, PRI_NOTICE, Timestamp};
use std::collections::BTreeMap;

/// How the message of a loss notice starts.
const NOTICE_START: &str = "Error L10 (output buffer overflow): ";

/// Why lines were dropped, in loss notices and in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The spool was at its size limit: the oldest segment was removed.
    SpoolFull,
    /// The spool could not be written, neither on disk nor in memory.
    SpoolUnwritable,
    /// All buffers were in use: the recorder did not keep up, for instance because the disk stalled.
    RecorderBehind,
    /// The recorder panicked on these lines: a bug of the agent.
    RecorderFault,
    /// The spool no longer held frames there: somebody else wrote to it.
    SpoolDamaged,
}

impl DropReason {
    /// All reasons, in the order of the enum.
    pub const ALL: [Self; 5] = [
        Self::SpoolFull,
        Self::SpoolUnwritable,
        Self::RecorderBehind,
        Self::RecorderFault,
        Self::SpoolDamaged,
    ];

    /// The stable name in notices, the ledger and events on stderr.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpoolFull => "spool-full",
            Self::SpoolUnwritable => "spool-unwritable",
            Self::RecorderBehind => "recorder-behind",
            Self::RecorderFault => "recorder-fault",
            Self::SpoolDamaged => "spool-damaged",
        }
    }
}

/// Dropped lines that the drain has not been told of yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Number of lines.
    pub lines: u64,
    /// Time of the first of them.
    pub since: Timestamp,
    /// Time of the last of them.
    pub until: Timestamp,
    /// Why they were dropped.
    pub reason: DropReason,
}

impl Loss {
    /// What a notice of [`LossNotices`] announces; none for another message, such as the platform's own L10.
    pub(crate) fn of_notice(msg: &str) -> Option<Self> {
        let (lines, rest) = msg.strip_prefix(NOTICE_START)?.split_once(" messages dropped since ")?;
        let (since, rest) = rest.split_once(". tailrace source=")?;
        let (until, reason) = rest.split_once(" until=")?.1.split_once(" reason=")?;
        let reason = DropReason::ALL.into_iter().find(|known| known.as_str() == reason)?;
        let lines = lines.parse().ok()?;
        Some(Self { lines, since: Timestamp::parse(since)?, until: Timestamp::parse(until)?, reason })
    }
}

/// Dropped lines that the drain has not been told of yet: one loss for each reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(BTreeMap<DropReason, Loss>);

impl Losses {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The losses, in the order in which they ended.
    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        let mut losses: Vec<&Loss> = self.0.values().collect();
        losses.sort_by_key(|loss| loss.until);
        losses.into_iter()
    }
}

impl Extend<Loss> for Losses {
    /// Adds losses to those of the same reason.
    fn extend<T: IntoIterator<Item = Loss>>(&mut self, losses: T) {
        for loss in losses {
            let sum = self.0.entry(loss.reason);
            sum.and_modify(|sum| {
                sum.lines += loss.lines;
                sum.since = sum.since.min(loss.since);
                sum.until = sum.until.max(loss.until);
            })
            .or_insert(loss);
        }
    }
}

impl FromIterator<Loss> for Losses {
    fn from_iter<T: IntoIterator<Item = Loss>>(losses: T) -> Self {
        let mut sum = Self::default();
        sum.extend(losses);
        sum
    }
}

impl IntoIterator for Losses {
    type Item = Loss;
    type IntoIter = std::collections::btree_map::IntoValues<DropReason, Loss>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_values()
    }
}

/// Whole frames as a part of a line of text.
pub(crate) fn frames_to_line(frames: &[u8]) -> impl Iterator<Item = u8> {
    frames.iter().map(|byte| if *byte == b'\n' { 0 } else { *byte }) // no frame holds a NUL
}

/// The inverse of [`frames_to_line`].
pub(crate) fn frames_from_line(line: &[u8]) -> Vec<u8> {
    line.iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).collect()
}

/// Encodes the loss notices of one dyno.
#[derive(Clone, Debug)]
pub struct LossNotices {
    encoder: Encoder,
    source: String,
}

impl LossNotices {
    /// For the dyno `source`; `host` is the HOSTNAME of the frames.
    pub fn new(host: &Field, source: &str) -> Self {
        let (app, proc_id) = (Field::coerce("heroku"), Field::coerce("logplex"));
        Self { encoder: Encoder::new(PRI_NOTICE, host, &app, &proc_id), source: source.to_owned() }
    }

    /// Appends one frame with timestamp `time` to `out`. It starts as Logplex's own notice does (Dev Center "Heroku
    /// Error Codes", L10; heroku/logplex `src/logplex_utils.erl`), so that published queries count it; the rest tells
    /// ours apart.
    pub fn encode(&mut self, out: &mut Vec<u8>, time: Timestamp, loss: &Loss) {
        let (since, until) = (loss.since, loss.until);
        let text = format!(
            "{NOTICE_START}{} messages dropped since {since}. tailrace source={} until={until} reason={}",
            loss.lines,
            self.source,
            loss.reason.as_str()
        );
        self.encoder.encode(out, time, text.as_bytes());
    }

    /// One frame for each loss, with the timestamp of the last missing line.
    pub fn frames(&mut self, losses: &Losses) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        for loss in losses.iter() {
            self.encode(&mut out, loss.until, loss);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_has_the_form_of_logplex_l10_and_names_its_reason() {
        let mut notices = LossNotices::new(&Field::coerce("host"), "web.1");
        let since = Timestamp::from_micros(1_772_600_767_000_000);
        let until = Timestamp::from_micros(1_772_600_770_500_000);
        let loss = Loss { lines: 13, since, until, reason: DropReason::SpoolFull };
        let text = String::from_utf8(notices.frames(&Losses::from_iter([loss]))).expect("text");
        assert_eq!(
            text,
            "237 <172>1 2026-03-04T05:06:10.500000+00:00 host heroku logplex - Error L10 (output buffer \
             overflow): 13 messages dropped since 2026-03-04T05:06:07.000000+00:00. tailrace source=web.1 \
             until=2026-03-04T05:06:10.500000+00:00 reason=spool-full\n"
        );
        let msg = |text: &'static str| crate::frame::parse(text.as_bytes(), 0).expect("a frame").msg;
        assert_eq!(Loss::of_notice(msg(text.leak())), Some(loss));
        let platform =
            "Error L10 (output buffer overflow): 3 messages dropped since 2026-03-04T05:06:07+00:00.";
        assert_eq!(Loss::of_notice(platform), None);
    }

    #[test]
    fn losses_of_one_reason_are_one_and_those_of_several_stay_apart() {
        let at = Timestamp::from_micros;
        let loss = |lines, since, until, reason| Loss { lines, since: at(since), until: at(until), reason };
        let (full, behind) = (DropReason::SpoolFull, DropReason::RecorderBehind);
        let losses = Losses::from_iter([
            loss(1, 5, 9, full),
            loss(2, 1, 3, behind),
            loss(4, 4, 6, full),
            loss(8, 2, 2, behind),
        ]);
        let all: Vec<Loss> = losses.iter().copied().collect();
        assert_eq!(all, [loss(10, 1, 3, behind), loss(5, 4, 9, full)], "in the order of their ends");
        assert_eq!((losses.len(), losses.is_empty(), Losses::default().is_empty()), (2, false, true));
        assert_eq!(losses.clone().into_iter().collect::<Losses>(), losses);
        let mut notices = LossNotices::new(&Field::coerce("host"), "web.1");
        let frames = notices.frames(&losses);
        let found: Vec<_> = crate::frame::parse_all(&frames)
            .expect("frames")
            .iter()
            .map(|f| Loss::of_notice(f.msg))
            .collect();
        assert_eq!(found, [Some(all[0]), Some(all[1])]);
        let line: Vec<u8> = frames_to_line(&frames).collect();
        assert!(!line.contains(&b'\n'));
        assert_eq!(frames_from_line(&line), frames);
    }
}
