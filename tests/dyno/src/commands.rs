//! Commands that can be typed while the dynos run, one per line.

use crate::fault::{self, Fault};
use std::io::BufRead as _;
use tokio::sync::mpsc;

/// The commands.
pub const HELP: &str = "fault outage=20s | heal | restart [DYNO] | stop | help";

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Inject these faults, in addition to those in force.
    Fault(Vec<Fault>),
    /// End all faults.
    Heal,
    /// Restart a dyno, or all dynos without a name.
    Restart(Option<String>),
    /// Stop the simulation.
    Stop,
    /// List the commands.
    Help,
}

/// Parses a line; `None` for an empty one.
///
/// # Errors
/// What was expected.
pub fn parse(line: &str) -> Result<Option<Command>, String> {
    let (name, argument) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    match (name, argument.trim()) {
        ("", _) => Ok(None),
        ("fault", spec) => match Fault::parse(spec) {
            Ok(faults) if faults.is_empty() => Err(format!("fault: expected {}", fault::SYNTAX)),
            Ok(faults) => Ok(Some(Command::Fault(faults))),
            Err(error) => Err(error.to_string()),
        },
        ("heal", "") => Ok(Some(Command::Heal)),
        ("restart", "") => Ok(Some(Command::Restart(None))),
        ("restart", dyno) => Ok(Some(Command::Restart(Some(dyno.to_owned())))),
        ("stop", "") => Ok(Some(Command::Stop)),
        ("help", "") => Ok(Some(Command::Help)),
        _ => Err(format!("{line:?} is not a command; expected {HELP}")),
    }
}

/// Reads the lines of standard input on a thread of its own; the channel closes at end of file.
pub fn stdin_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_parsed() {
        assert_eq!(parse(" "), Ok(None));
        assert_eq!(parse("restart web.1"), Ok(Some(Command::Restart(Some("web.1".to_owned())))));
        assert_eq!(parse("heal "), Ok(Some(Command::Heal)));
        assert!(matches!(parse("fault outage=20s"), Ok(Some(Command::Fault(faults))) if faults.len() == 1));
        for (line, part) in
            [("fault", "outage=20s@10s"), ("fault x=y", "no such fault"), ("dance", "restart [DYNO]")]
        {
            assert!(parse(line).is_err_and(|error| error.contains(part)), "{line}");
        }
    }
}
