//! What the agent says to a person: single lines on standard error, in stable logfmt, because people alert on
//! them. Never a secret, and never a wait: a line that standard error does not take at once is not said.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::time::Duration;

/// Bytes of a line at most: what a pipe takes in one piece (`PIPE_BUF`, pipe(7)).
const MOST: usize = 4096;

/// A line under way: `tailrace at=… key=value …`.
#[derive(Debug)]
pub struct Event(String);

/// Starts the line about an event.
pub fn event(event: &str) -> Event {
    Event(format!("tailrace at={event}"))
}

impl Event {
    /// Adds `key=value`, quoted where needed.
    #[must_use]
    pub fn field(mut self, key: &str, value: impl fmt::Display) -> Self {
        let _infallible = write!(self.0, " {key}={}", quoted(&value.to_string()));
        self
    }

    /// The text, without its LF.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Says it.
    pub fn emit(mut self) {
        let cut = self.0.floor_char_boundary(MOST - 1);
        self.0.truncate(cut);
        self.0.push('\n');
        let stderr = std::io::stderr();
        let takes = {
            let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
            poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        };
        if takes {
            drop(stderr.lock().write_all(self.0.as_bytes()));
        }
    }
}

/// A value of logfmt, in quotes where it needs them.
pub fn quoted(value: &str) -> Cow<'_, str> {
    let is_plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && !b"\"=\\".contains(&b));
    if is_plain {
        return value.into();
    }
    let clean: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\"")).into()
}

/// Whole seconds, as people read them.
pub fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64().round())
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_are_quoted_where_they_must_be() {
        let line = super::event("drain-refused")
            .field("status", 401)
            .field("error", "a \"b\" c\nd")
            .field("try", "");
        assert_eq!(line.text(), r#"tailrace at=drain-refused status=401 error="a \"b\" c d" try="""#);
    }
}
