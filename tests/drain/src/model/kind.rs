//! Classifies lines by header and message.

use serde::Serialize;
use tailrace::frame::Frame;

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// A line of the app.
    App,
    /// The router's line about a request.
    Router,
    /// A sample line of the memory.
    Memory,
    /// A sample line of the load.
    Load,
    /// Another sample line.
    Sample,
    /// `State changed from … to …`.
    State,
    /// `Process exited with status …`.
    Exit,
    /// `Error R14 (…)` and the like.
    Code,
    /// Any other line of the platform about a dyno.
    Platform,
    /// `Scaled to …`.
    Scaling,
    /// `Deploy … by user …`.
    Deploy,
    /// `Release … created by user …`.
    Release,
    /// `Build succeeded` and the like.
    Build,
    /// `Set … config vars by user …`.
    Config,
    /// Any other line of the platform about the app.
    Api,
    /// A line of tailrace about itself.
    Agent,
}

impl LineKind {
    /// Classifies a frame.
    pub fn of(frame: &Frame<'_>) -> Self {
        match (frame.app, frame.proc_id) {
            ("heroku", "router") => Self::Router,
            ("heroku", _) => Self::platform(frame.msg),
            ("tailrace", _) if !frame.is_app_line() => Self::Agent,
            (_, "api") => Self::api(frame.msg),
            _ => Self::App,
        }
    }

    fn platform(message: &str) -> Self {
        let starts = |text| message.starts_with(text);
        match () {
            () if starts("source=") && message.contains(" sample#memory_total=") => Self::Memory,
            () if starts("source=") && message.contains(" sample#load_avg_1m=") => Self::Load,
            () if starts("source=") && message.contains(" sample#") => Self::Sample,
            () if starts("State changed from ") => Self::State,
            () if starts("Process exited with status ") => Self::Exit,
            () if code(message).is_some() => Self::Code,
            () => Self::Platform,
        }
    }

    fn api(message: &str) -> Self {
        let starts = |text| message.starts_with(text);
        match () {
            () if starts("Scaled to ") => Self::Scaling,
            () if starts("Deploy ") => Self::Deploy,
            () if starts("Release v") => Self::Release,
            () if starts("Build ") => Self::Build,
            () if message.contains(" config vars") => Self::Config,
            () => Self::Api,
        }
    }

    /// Whether the platform logs lines of this kind about dynos, and tailrace does too.
    pub(crate) fn is_dyno_event(self) -> bool {
        matches!(self, Self::State | Self::Exit | Self::Platform)
    }
}

/// Splits `Error R14 (Memory quota exceeded)` into the code and the rest.
pub(crate) fn code(message: &str) -> Option<(&str, &str)> {
    let (code, rest) = message.strip_prefix("Error ")?.split_at_checked(3)?;
    let mut bytes = code.bytes();
    let is_code = matches!(bytes.next(), Some(b'H' | b'L' | b'R')) && bytes.all(|b| b.is_ascii_digit());
    is_code.then_some((code, rest.trim_start()))
}

/// The pairs of a line such as `at=info path="/a b" status=200`, without quotes.
pub(crate) fn pairs(message: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let (before, after) = rest.split_once('=')?;
        let key = before.rsplit(' ').next().unwrap_or(before);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        rest = next;
        Some((key, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_quoted_or_empty() {
        let line = r#"at=error desc="App crashed" path="/?a=b" dyno= connect=1ms tail words"#;
        let found: Vec<_> = pairs(line).collect();
        let expected =
            [("at", "error"), ("desc", "App crashed"), ("path", "/?a=b"), ("dyno", ""), ("connect", "1ms")];
        assert_eq!(found, expected);
    }

    #[test]
    fn codes_are_a_letter_and_two_digits() {
        assert_eq!(code("Error R14 (Memory quota exceeded)"), Some(("R14", "(Memory quota exceeded)")));
        assert_eq!((code("Error Rxy"), code("Error")), (None, None));
    }
}
