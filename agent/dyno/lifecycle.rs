//! Lifecycle lines of a dyno as the platform's dyno manager writes them (Dev Center "Dyno Lifecycle" and captures of
//! 2013 to 2026), for places where no platform sends them. Pure: the caller knows what happened.

use super::name::process_type;
use crate::frame::{AgentLine, AgentLineKind};

/// Whether the app is up: the two states that the platform shows of a running dyno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It runs, but a web process does not listen on its port yet.
    Starting,
    /// It runs; a web process listens on its port.
    Up,
}

/// Why the app's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitCause {
    /// By itself, or by a signal that did not come from the platform.
    Unrequested,
    /// The platform asked it to stop.
    StopRequested,
}

/// When a dyno that ended by itself is complete rather than crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completion {
    /// Never: it is to run until it is stopped.
    Never,
    /// With status 0: outside a platform, a command may be a service or a task.
    OnSuccess,
    /// Always: one-off dynos, the release phase and the scheduler.
    Always,
}

/// The lifecycle of a dyno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lifecycle {
    completion: Completion,
}

fn line(text: impl Into<String>) -> AgentLine {
    AgentLine::new(AgentLineKind::Lifecycle, text)
}

/// The line about a change of state.
fn state_changed(from: Readiness, to: &str) -> AgentLine {
    let from = match from {
        Readiness::Starting => "starting",
        Readiness::Up => "up",
    };
    line(format!("State changed from {from} to {to}"))
}

impl Lifecycle {
    /// The lifecycle of the dyno with this name: `web.1`, `run.9157`; `web-12a34b56d-e78f9` on Fir.
    pub(crate) fn for_dyno(dyno: &str) -> Self {
        let completion = match process_type(dyno) {
            "run" | "release" | "scheduler" => Completion::Always,
            "local" => Completion::OnSuccess,
            _ => Completion::Never,
        };
        Self { completion }
    }

    /// The command starts. `$PORT` in it is replaced by the port.
    pub(crate) fn starting(command: &str, port: Option<u16>) -> AgentLine {
        let command = match port {
            Some(port) => substitute_port(command, &port.to_string()),
            None => command.to_owned(),
        };
        line(format!("Starting process with command `{command}`"))
    }

    /// The app is up.
    pub(crate) fn up() -> AgentLine {
        state_changed(Readiness::Starting, "up")
    }

    /// The platform asks the app to stop.
    pub(crate) fn stopping(from: Readiness) -> Vec<AgentLine> {
        vec![state_changed(from, "down"), line("Stopping all processes with SIGTERM")]
    }

    /// The app's process ended with this status.
    pub(crate) fn ended(&self, from: Readiness, cause: ExitCause, status: u8) -> Vec<AgentLine> {
        let mut lines = vec![line(format!("Process exited with status {status}"))];
        if cause == ExitCause::Unrequested {
            let is_complete = match self.completion {
                Completion::Never => false,
                Completion::OnSuccess => status == 0,
                Completion::Always => true,
            };
            lines.push(state_changed(from, if is_complete { "complete" } else { "crashed" }));
        }
        lines
    }
}

/// Replaces `$PORT` and `${PORT}` in a command where a shell would expand them.
fn substitute_port(command: &str, port: &str) -> String {
    let mut out = String::with_capacity(command.len());
    let mut rest = command;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        out.push_str(before);
        let is_escaped = (before.len() - before.trim_end_matches('\\').len()) % 2 == 1;
        let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let after = dollar
            .strip_prefix("${PORT}")
            .or_else(|| dollar.strip_prefix("$PORT").filter(|rest| !rest.starts_with(is_name_char)));
        if let Some(after) = after.filter(|_| !is_escaped) {
            out.push_str(port);
            rest = after;
        } else if let Some(after) = dollar.strip_prefix("$$").filter(|_| !is_escaped) {
            out.push_str("$$"); // the shell's pid, not the start of `$PORT`
            rest = after;
        } else {
            out.push('$');
            rest = &dollar[1..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::ExitCause::{StopRequested, Unrequested};
    use super::Readiness::{Starting, Up};
    use super::*;

    fn texts(lines: &[AgentLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lifecycles_end_as_on_the_platform() {
        let (web, run) = (Lifecycle::for_dyno("web.1"), Lifecycle::for_dyno("run.9157"));
        let jobs = Lifecycle::for_dyno("run-jobs.1").ended(Up, Unrequested, 1);
        assert_eq!(texts(&jobs)[1], "State changed from up to crashed");
        for (status, state) in [(0, "complete"), (1, "crashed")] {
            let local = Lifecycle::for_dyno("local.1").ended(Up, Unrequested, status);
            assert_eq!(texts(&local)[1], format!("State changed from up to {state}"));
        }
        assert_eq!(
            texts(&web.ended(Up, Unrequested, 1)),
            ["Process exited with status 1", "State changed from up to crashed"]
        );
        assert_eq!(
            texts(&web.ended(Starting, Unrequested, 127)),
            ["Process exited with status 127", "State changed from starting to crashed"]
        );
        assert_eq!(
            texts(&run.ended(Up, Unrequested, 0)),
            ["Process exited with status 0", "State changed from up to complete"]
        );
        assert_eq!(
            texts(&Lifecycle::stopping(Up)),
            ["State changed from up to down", "Stopping all processes with SIGTERM"]
        );
        assert_eq!(texts(&web.ended(Up, StopRequested, 143)), ["Process exited with status 143"]);
    }

    #[test]
    fn the_port_is_substituted_where_a_shell_would_expand_it() {
        let text = |command, port| Lifecycle::starting(command, port).text;
        assert_eq!(
            text("puma -p $PORT -b ${PORT}", Some(5000)),
            "Starting process with command `puma -p 5000 -b 5000`"
        );
        assert_eq!(text("x $PORT", None), "Starting process with command `x $PORT`");
        assert_eq!(
            text(r#"echo $PORTFOLIO \$PORT "$PORT_X" \\$PORT $$PORT $PORT"#, Some(1)),
            r#"Starting process with command `echo $PORTFOLIO \$PORT "$PORT_X" \\1 $$PORT 1`"#
        );
    }
}
