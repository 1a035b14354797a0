//! Loss notices: the stream itself says how many lines are missing, since when, until when and why.

use super::{Encoder, Field, PRI_NOTICE, TimestampText};

/// Why lines were dropped: the reasons of the loss notice and of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The spool was at its limit: the oldest segment went.
    SpoolFull,
    /// The spool could not be written, neither on disk nor in memory.
    SpoolUnwritable,
    /// All buffers were full: the recorder did not keep up (a disk that stands still).
    RecorderBehind,
    /// The recorder met a bug of ours on these lines.
    RecorderFault,
    /// What stood in the spool was not frames any more: somebody else wrote there.
    SpoolDamaged,
}

impl DropReason {
    /// All, in the order of the enum.
    pub const ALL: [Self; 5] = [
        Self::SpoolFull,
        Self::SpoolUnwritable,
        Self::RecorderBehind,
        Self::RecorderFault,
        Self::SpoolDamaged,
    ];

    /// The stable word in notices, ledger and stderr lines.
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

/// Lines that are gone and not yet announced to the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// How many.
    pub lines: u64,
    /// Time of the first of them, in µs since the Unix epoch.
    pub since: u64,
    /// Time of the last of them, in µs since the Unix epoch.
    pub until: u64,
    /// Why.
    pub reason: DropReason,
}

impl Loss {
    pub(crate) fn join(mine: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (mine, other) {
            (Some(a), Some(b)) => Some(Self {
                lines: a.lines + b.lines,
                since: a.since.min(b.since),
                until: a.until.max(b.until),
                reason: b.reason,
            }),
            (one, other) => one.or(other),
        }
    }
}

/// Writes loss notices of one dyno.
#[derive(Clone, Debug)]
pub struct LossNotices {
    encoder: Encoder,
    source: String,
}

impl LossNotices {
    /// LossNotices of dyno `source`, with this HOSTNAME in their header.
    pub fn new(host: &Field, source: &str) -> Self {
        let (app, proc_id) = (Field::coerce("heroku"), Field::coerce("logplex"));
        Self { encoder: Encoder::new(PRI_NOTICE, host, &app, &proc_id), source: source.to_owned() }
    }

    /// Appends one frame to `out`. It starts as Logplex's own notice does (Dev Center "Heroku Error Codes",
    /// L10; heroku/logplex `src/logplex_utils.erl`), so that published queries count it, and goes on with
    /// what tells ours apart. `time` is that of the frame, in µs since the Unix epoch.
    pub fn encode(&mut self, out: &mut Vec<u8>, time: u64, loss: &Loss) {
        let (since, until) = (TimestampText::of(loss.since), TimestampText::of(loss.until));
        let text = format!(
            "Error L10 (output buffer overflow): {} messages dropped since {since}. tailrace source={} \
             until={until} reason={}",
            loss.lines,
            self.source,
            loss.reason.as_str()
        );
        self.encoder.encode(out, time, text.as_bytes());
    }

    /// The frame by itself. Its time is that of the last line that is missing.
    pub fn frame(&mut self, loss: &Loss) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.encode(&mut out, loss.until, loss);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_as_logplex_writes_it_and_tells_ours_apart() {
        let mut notices = LossNotices::new(&Field::coerce("host"), "web.1");
        let (since, until) = (1_772_600_767_000_000, 1_772_600_770_500_000);
        let frame = notices.frame(&Loss { lines: 13, since, until, reason: DropReason::SpoolFull });
        let text = String::from_utf8(frame).expect("text");
        assert_eq!(
            text,
            "237 <172>1 2026-03-04T05:06:10.500000+00:00 host heroku logplex - Error L10 (output buffer \
             overflow): 13 messages dropped since 2026-03-04T05:06:07.000000+00:00. tailrace source=web.1 \
             until=2026-03-04T05:06:10.500000+00:00 reason=spool-full\n"
        );
    }
}
