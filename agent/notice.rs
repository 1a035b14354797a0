//! Loss notices: the stream itself says how many lines are missing, since when, until when and why.

use crate::frame::{Encoder, Field, PRI_NOTICE, StampText};
use crate::ledger::Loss;

/// Writes loss notices of one dyno.
#[derive(Clone, Debug)]
pub struct Notices {
    encoder: Encoder,
    source: String,
}

impl Notices {
    /// Notices of dyno `source`, with this HOSTNAME in their header.
    pub fn new(host: &Field, source: &str) -> Self {
        let (app, proc_id) = (Field::coerce("heroku"), Field::coerce("logplex"));
        Self { encoder: Encoder::new(PRI_NOTICE, host, &app, &proc_id), source: source.to_owned() }
    }

    /// Appends one frame to `out`. It starts as Logplex's own notice does (Dev Center "Heroku Error Codes",
    /// L10; heroku/logplex `src/logplex_utils.erl`), so that published queries count it, and goes on with
    /// what tells ours apart. `time` is that of the frame, in µs since the Unix epoch.
    pub fn encode(&mut self, out: &mut Vec<u8>, time: u64, loss: &Loss) {
        let (since, until) = (StampText::of(loss.since), StampText::of(loss.until));
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
    use crate::ledger::Reason;

    #[test]
    fn a_notice_reads_as_logplex_writes_it_and_tells_ours_apart() {
        let mut notices = Notices::new(&Field::coerce("host"), "web.1");
        let (since, until) = (1_772_600_767_000_000, 1_772_600_770_500_000);
        let frame = notices.frame(&Loss { lines: 13, since, until, reason: Reason::SpoolFull });
        let text = String::from_utf8(frame).expect("text");
        assert_eq!(
            text,
            "237 <172>1 2026-03-04T05:06:10.500000+00:00 host heroku logplex - Error L10 (output buffer \
             overflow): 13 messages dropped since 2026-03-04T05:06:07.000000+00:00. tailrace source=web.1 \
             until=2026-03-04T05:06:10.500000+00:00 reason=spool-full\n"
        );
    }
}
