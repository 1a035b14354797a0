//! What happens to a dyno, in the words of the platform's dyno manager (Dev Center "Dyno Lifecycle" and captures of
//! 2013 to 2026), for places where no platform says it. Pure: who calls it knows what happened.

use crate::own::{Own, Voice};

/// A dyno as far as its life is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// It is up once something listens on its port.
    pub is_web: bool,
    /// It ends well when its command does: one-off, release phase, scheduler.
    is_task: bool,
}

fn say(text: impl Into<String>) -> Own {
    Own::new(Voice::State, text)
}

impl Lifecycle {
    /// That of a dyno by its name: `web.1`, `run.9157`; `web-12a34b56d-e78f9` on Fir.
    pub fn of(dyno: &str) -> Self {
        let kind = dyno.split(['.', '-']).next().unwrap_or_default();
        Self { is_web: kind == "web", is_task: ["run", "release", "scheduler", "local"].contains(&kind) }
    }

    /// Whether the platform that names a dyno like this tells its life itself, into a Logplex: Cedar does.
    pub fn is_told(dyno: Option<&str>) -> bool {
        let numbered =
            |(_, number): (&str, &str)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        dyno.is_some_and(|dyno| dyno.rsplit_once('.').is_some_and(numbered))
    }

    /// The command starts; the port's number stands where its name did.
    pub fn starting(command: &str, port: Option<u16>) -> Own {
        let mut command = command.to_owned();
        if let Some(port) = port {
            let port = port.to_string();
            command = command.replace("${PORT}", &port).replace("$PORT", &port);
        }
        say(format!("Starting process with command `{command}`"))
    }

    /// It is up.
    pub fn up() -> Own {
        say("State changed from starting to up")
    }

    /// It is asked to stop, when it `was_up` or not yet.
    pub fn stopping(was_up: bool) -> Vec<Own> {
        vec![changed(was_up, "down"), say("Stopping all processes with SIGTERM")]
    }

    /// Its process ended with this status; when it was asked to, nothing more is to be said.
    pub fn ended(&self, was_up: bool, was_asked: bool, status: u8) -> Vec<Own> {
        let mut lines = vec![say(format!("Process exited with status {status}"))];
        if !was_asked {
            lines.push(changed(was_up, if self.is_task { "complete" } else { "crashed" }));
        }
        lines
    }
}

fn changed(was_up: bool, to: &str) -> Own {
    say(format!("State changed from {} to {to}", if was_up { "up" } else { "starting" }))
}

/// Whether a table of sockets (`/proc/net/tcp`, `tcp6`; proc(5)) shows somebody who listens on this port.
pub fn listens(table: &str, port: u16) -> bool {
    /// `TCP_LISTEN` (`include/net/tcp_states.h`).
    const LISTEN: &str = "0A";
    let port = format!("{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().and_then(|local| local.rsplit_once(':')).map(|(_, port)| port);
        local == Some(port.as_str()) && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Own]) -> Vec<&str> {
        lines.iter().map(|own| own.text.as_str()).collect()
    }

    #[test]
    fn lives_end_as_the_platform_tells_it() {
        let (web, run) = (Lifecycle::of("web.1"), Lifecycle::of("run.9157"));
        assert_eq!(
            (web.is_web, run.is_web, Lifecycle::of("web-12a34b56d-e78f9").is_web),
            (true, false, true)
        );
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
    }

    #[test]
    fn cedar_tells_it_itself() {
        for (dyno, told) in [
            (Some("web.1"), true),
            (Some("web-12a34b56d-e78f9"), false),
            (Some("web."), false),
            (None, false),
        ] {
            assert_eq!(Lifecycle::is_told(dyno), told, "{dyno:?}");
        }
    }

    #[test]
    fn a_listener_is_found_in_the_kernels_tables() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";
        let v4 =
            format!("{head}   0: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0\n");
        assert!(listens(&v4, 5000) && !listens(&v4, 5001));
        let connected = v4.replace(" 0A ", " 01 ");
        assert!(!listens(&connected, 5000));
        let v6 = format!(
            "{head}   0: 00000000000000000000000000000000:1388 00000000000000000000000000000000:0000 0A 0\n"
        );
        assert!(listens(&v6, 5000));
        assert!(!listens("", 5000));
    }
}
