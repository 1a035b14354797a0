//! Lines that the agent itself puts between the app's: runtime samples, lifecycle lines, and lines about the agent.

use super::{Field, MAX_FRAME, PRI_DYNO, Timestamp};

/// Longest text, in bytes: with its header it fits into the frames that receivers accept.
const MAX_TEXT_BYTES: usize = MAX_FRAME - 512;

/// What a line is about; decides APP-NAME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentLineKind {
    /// A runtime sample, as the platform's log-runtime-metrics.
    Sample,
    /// The dyno's lifecycle, as the platform's dyno manager.
    Lifecycle,
    /// The agent itself.
    Agent,
}

/// One such line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentLine {
    /// What it is about.
    pub kind: AgentLineKind,
    /// The message.
    pub text: String,
}

impl AgentLine {
    /// A line. Control characters become blanks, and the text is cut at the limit.
    pub fn new(kind: AgentLineKind, text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        if text.contains(char::is_control) {
            text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        }
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        Self { kind, text }
    }

    /// Appends its frame to `out`, with timestamp `time` and PROCID `proc_id`.
    pub fn encode(&self, out: &mut Vec<u8>, time: Timestamp, host: &Field, proc_id: &Field) {
        let app = match self.kind {
            AgentLineKind::Sample | AgentLineKind::Lifecycle => "heroku",
            AgentLineKind::Agent => "tailrace",
        };
        let frame = format!("<{PRI_DYNO}>1 {time} {host} {app} {proc_id} - {}\n", self.text);
        out.extend_from_slice(format!("{} ", frame.len()).as_bytes());
        out.extend_from_slice(frame.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(line: &AgentLine) -> String {
        let mut out = Vec::new();
        let time = Timestamp::from_micros(1_777_631_327_153_192);
        line.encode(&mut out, time, &Field::coerce("host"), &Field::coerce("web.1"));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn frames_have_the_headers_of_the_platform() {
        let state = AgentLine::new(AgentLineKind::Lifecycle, "State changed from starting to up");
        assert_eq!(
            encoded(&state),
            "94 <134>1 2026-05-01T10:28:47.153192+00:00 host heroku web.1 - State changed from starting to up\n"
        );
        let sample = encoded(&AgentLine::new(AgentLineKind::Sample, "source=web.1"));
        assert!(sample.starts_with("73 <134>1 ") && sample.ends_with(" host heroku web.1 - source=web.1\n"));
        assert!(encoded(&AgentLine::new(AgentLineKind::Agent, "at=start")).contains("<134>1 "));
    }

    #[test]
    fn any_text_becomes_one_frame() {
        let text = format!("a\nb\0c\r{}", "\u{e9}".repeat(20_000));
        let frame = encoded(&AgentLine::new(AgentLineKind::Lifecycle, text));
        let frames = super::super::parse_all(frame.as_bytes()).unwrap();
        assert!(frames.len() == 1 && frame.len() <= MAX_FRAME && frames[0].msg.starts_with("a b c \u{e9}"));
    }
}
