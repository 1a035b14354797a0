//! Frames of our own between the app's: samples, what happens to the dyno, and what the agent says of itself.

use super::{Field, MAX_FRAME, TimestampText};
use std::fmt::Write as _;

/// Bytes of text at most: with its header it fits the frames that receivers accept.
const MOST: usize = MAX_FRAME - 512;

/// ProcessFilter speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentLineKind {
    /// A runtime sample, as the platform's log-runtime-metrics.
    Sample,
    /// The dyno's life, as the platform's dyno manager.
    Lifecycle,
    /// The agent.
    Agent,
}

/// One line of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentLine {
    /// ProcessFilter speaks.
    pub voice: AgentLineKind,
    /// What is said.
    pub text: String,
}

impl AgentLine {
    /// A line; what a frame cannot hold becomes a blank.
    pub fn new(voice: AgentLineKind, text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        if text.contains(char::is_control) {
            text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        }
        text.truncate(text.floor_char_boundary(MOST));
        Self { voice, text }
    }

    /// Appends its frame to `out`: dyno `proc_id`, at `micros` since the Unix epoch.
    pub fn encode(&self, out: &mut Vec<u8>, micros: u64, host: &Field, proc_id: &Field) {
        let (pri, app) = match self.voice {
            // The dyno manager's lines carry the same as its samples (captures of 2025; 45 in those up to 2016).
            AgentLineKind::Sample | AgentLineKind::Lifecycle => (crate::frame::PRI_DYNO, "heroku"),
            AgentLineKind::Agent => (crate::frame::PRI_APP, "tailrace"),
        };
        let mut frame = String::with_capacity(self.text.len() + 96);
        let stamp = TimestampText::of(micros);
        let _infallible = writeln!(frame, "<{pri}>1 {stamp} {host} {app} {proc_id} - {}", self.text);
        out.extend_from_slice(format!("{} ", frame.len()).as_bytes());
        out.extend_from_slice(frame.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(own: &AgentLine) -> String {
        let mut out = Vec::new();
        own.encode(&mut out, 1_777_631_327_153_192, &Field::coerce("host"), &Field::coerce("web.1"));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn frames_are_those_of_the_platform() {
        let state = AgentLine::new(AgentLineKind::Lifecycle, "State changed from starting to up");
        assert_eq!(
            encoded(&state),
            "94 <134>1 2026-05-01T10:28:47.153192+00:00 host heroku web.1 - State changed from starting to up\n"
        );
        let sample = encoded(&AgentLine::new(AgentLineKind::Sample, "source=web.1"));
        assert!(sample.starts_with("73 <134>1 ") && sample.ends_with(" host heroku web.1 - source=web.1\n"));
        assert!(encoded(&AgentLine::new(AgentLineKind::Agent, "at=start")).contains("<190>1 "));
    }

    #[test]
    fn any_text_is_one_frame() {
        let frame = encoded(&AgentLine::new(
            AgentLineKind::Lifecycle,
            format!("a\nb\0c\r{}", "\u{e9}".repeat(20_000)),
        ));
        let (frames, rest) = (crate::frame::parse_all(frame.as_bytes()).unwrap(), frame.len());
        assert!(frames.len() == 1 && rest <= MAX_FRAME && frames[0].msg.starts_with("a b c \u{e9}"));
    }
}
