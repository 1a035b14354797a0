//! What happens to a dyno, in the words of the platform's dyno manager (Dev Center "Dyno Lifecycle" and captures of
//! 2013 to 2026), for places where no platform says it. Pure: who calls it knows what happened.

use super::name::process_type;
use crate::frame::{AgentLine, AgentLineKind};

/// A dyno as far as its life is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// It is up once something listens on its port.
    pub is_web: bool,
    /// It is complete when its command ends, as one-off dynos are, the release phase and the scheduler.
    is_task: bool,
    /// The same when its command ends well: there is no platform.
    is_local: bool,
}

fn say(text: impl Into<String>) -> AgentLine {
    AgentLine::new(AgentLineKind::Lifecycle, text)
}

impl Lifecycle {
    /// That of a dyno by its name: `web.1`, `run.9157`; `web-12a34b56d-e78f9` on Fir.
    pub fn of(dyno: &str) -> Self {
        let kind = process_type(dyno);
        Self {
            is_web: kind == "web",
            is_task: ["run", "release", "scheduler"].contains(&kind),
            is_local: kind == "local",
        }
    }

    /// The command starts; the port's number stands where its name did.
    pub fn starting(command: &str, port: Option<u16>) -> AgentLine {
        let mut command = command.to_owned();
        if let Some(port) = port {
            command = with_port(&command, &port.to_string());
        }
        say(format!("Starting process with command `{command}`"))
    }

    /// It is up.
    pub fn up() -> AgentLine {
        say("State changed from starting to up")
    }

    /// It is asked to stop, when it `was_up` or not yet.
    pub fn stopping(was_up: bool) -> Vec<AgentLine> {
        vec![changed(was_up, "down"), say("Stopping all processes with SIGTERM")]
    }

    /// Its process ended with this status; when it was asked to, nothing more is to be said.
    pub fn ended(&self, was_up: bool, was_asked: bool, status: u8) -> Vec<AgentLine> {
        let mut lines = vec![say(format!("Process exited with status {status}"))];
        if !was_asked {
            let is_complete = self.is_task || (self.is_local && status == 0);
            lines.push(changed(was_up, if is_complete { "complete" } else { "crashed" }));
        }
        lines
    }
}

/// A command with a number in the place of `$PORT` and `${PORT}`, where a shell would have it there.
fn with_port(command: &str, port: &str) -> String {
    let mut out = String::with_capacity(command.len());
    let mut rest = command;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        out.push_str(before);
        let is_escaped = (before.len() - before.trim_end_matches('\\').len()) % 2 == 1;
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let behind = dollar
            .strip_prefix("${PORT}")
            .or_else(|| dollar.strip_prefix("$PORT").filter(|rest| !rest.starts_with(is_of_name)));
        if let Some(behind) = behind.filter(|_| !is_escaped) {
            out.push_str(port);
            rest = behind;
        } else if let Some(behind) = dollar.strip_prefix("$$").filter(|_| !is_escaped) {
            out.push_str("$$"); // the shell's pid
            rest = behind;
        } else {
            out.push('$');
            rest = &dollar[1..];
        }
    }
    out + rest
}

fn changed(was_up: bool, to: &str) -> AgentLine {
    say(format!("State changed from {} to {to}", if was_up { "up" } else { "starting" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[AgentLine]) -> Vec<&str> {
        lines.iter().map(|own| own.text.as_str()).collect()
    }

    #[test]
    fn lives_end_as_the_platform_tells_it() {
        let (web, run) = (Lifecycle::of("web.1"), Lifecycle::of("run.9157"));
        let is_web = |dyno: &str| Lifecycle::of(dyno).is_web;
        let of = ["web.1", "run.9157", "web-12a34b56d-e78f9", "web-admin.1", "web-admin-12a34b56d-e78f9"];
        assert_eq!(of.map(is_web), [true, false, true, false, false]);
        let jobs = Lifecycle::of("run-jobs.1").ended(true, false, 1);
        assert_eq!(texts(&jobs)[1], "State changed from up to crashed");
        for (status, state) in [(0, "complete"), (1, "crashed")] {
            let local = Lifecycle::of("local.1").ended(true, false, status);
            assert_eq!(texts(&local)[1], format!("State changed from up to {state}"));
        }
        assert_eq!(
            texts(&web.ended(true, false, 1)),
            ["Process exited with status 1", "State changed from up to crashed"]
        );
        assert_eq!(
            texts(&web.ended(false, false, 127)),
            ["Process exited with status 127", "State changed from starting to crashed"]
        );
        assert_eq!(
            texts(&run.ended(true, false, 0)),
            ["Process exited with status 0", "State changed from up to complete"]
        );
        assert_eq!(
            texts(&Lifecycle::stopping(true)),
            ["State changed from up to down", "Stopping all processes with SIGTERM"]
        );
        assert_eq!(texts(&web.ended(true, true, 143)), ["Process exited with status 143"]);
    }

    #[test]
    fn the_port_is_a_number_in_the_command() {
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
