//! The command line. Arguments of the app's command are passed on unchanged and need not be UTF-8.

use crate::dyno::{name::is_entry_name, procfile};
use std::ffi::{OsStr, OsString};
use std::fmt;

/// A parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run this argument vector as the dyno's process.
    Run(Vec<OsString>),
    /// Run the command that the buildpack stored for a Procfile entry.
    RunType {
        /// Name of the entry.
        name: String,
        /// Arguments to append to its command.
        arguments: Vec<OsString>,
    },
    /// Ship standard input.
    Ship,
    /// Print the settings and test the drains.
    Check(TestFrame),
    /// Print the status of the agents in this dyno.
    Status(StatusFormat),
    /// Print the help.
    Help,
    /// Print the settings table.
    HelpSettings,
    /// Print the version.
    Version,
    /// Run the network process. Not in the help: the supervisor starts it.
    Shipper {
        /// The agent id of the supervisor.
        agent: String,
    },
    /// Try what the shipper's confinement forbids. Not in the help: for tests.
    ConfinementProbe(Vec<OsString>),
}

/// Whether `check` posts a test frame to each drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestFrame {
    /// Post it.
    Send,
    /// Only connect.
    Omit,
}

/// The output format of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFormat {
    /// For people.
    Text,
    /// A JSON array.
    Json,
}

/// What is wrong with the command line, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The help, which fits on one screen.
pub const HELP: &str = "\
tailrace ships what a Heroku dyno prints to log drains, framed as Logplex does.

  tailrace run [--] COMMAND [ARG…]    run COMMAND, ship what it prints
  tailrace run --shell 'COMMAND LINE' the same through bash -c
  tailrace run --type web [ARG…]      an entry that the buildpack wrapped
  tailrace ship                       ship standard input: app | tailrace ship
  tailrace check [--no-send]          try settings and drains, say what is wrong
  tailrace status [--json]            what the agent delivered, holds, dropped
  tailrace help settings              all settings with their defaults

Settings are environment variables (config vars). The one that is needed:

  TAILRACE_DRAIN_URL=https://HOST/receiver/v1/http/SECRET

Without it, with TAILRACE=off, or on a terminal, `run` is plain exec; `ship`
without it, or with TAILRACE=off, reads its input to the end and discards it.
`run` exits as COMMAND does, and prints nothing of its own on standard output.
`ship` exits with 0, 75 when lines were lost, 74 for input it cannot read, or
71 when the system refuses what it needs. After SIGTERM it reads on.
`check` exits with 0, 64 for settings, 69 for a drain that refuses.

  heroku config:set TAILRACE_DRAIN_URL='https://…'
The buildpack puts the Procfile's entries under `run`. By hand it is:
  web: tailrace run -- bundle exec puma
";

const COMMANDS: [&str; 5] = ["run", "ship", "check", "status", "help"];

fn usage_error<T>(text: impl Into<String>) -> Result<T, UsageError> {
    Err(UsageError(text.into()))
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// [`UsageError`] names what was found and what was expected.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let Some(first) = args.next() else { return Ok(Command::Help) };
    let rest: Vec<OsString> = args.collect();
    let command = match first.to_str() {
        Some("run") => return parse_run(rest),
        Some("ship") => Command::Ship,
        Some("shipper") => {
            let agent = rest.first().and_then(|agent| agent.to_str()).unwrap_or_default().to_owned();
            return without_arguments(Command::Shipper { agent }, rest.get(1..).unwrap_or_default());
        }
        Some("confinement-probe") => return Ok(Command::ConfinementProbe(rest)),
        Some("check") => {
            return Ok(match parse_option(&rest, "check", "--no-send")? {
                Parsed::Absent => Command::Check(TestFrame::Send),
                Parsed::Present => Command::Check(TestFrame::Omit),
                Parsed::Help => Command::Help,
            });
        }
        Some("status") => {
            return Ok(match parse_option(&rest, "status", "--json")? {
                Parsed::Absent => Command::Status(StatusFormat::Text),
                Parsed::Present => Command::Status(StatusFormat::Json),
                Parsed::Help => Command::Help,
            });
        }
        Some("help") if rest.first().is_some_and(|topic| topic == "settings") => {
            return without_arguments(Command::HelpSettings, &rest[1..]);
        }
        Some("help" | "--help" | "-h") => return Ok(Command::Help),
        Some("--version" | "-V") => Command::Version,
        _ => return Err(unknown_command(&first)),
    };
    if rest.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Ok(Command::Help);
    }
    without_arguments(command, &rest)
}

/// `command`, which takes no arguments; an error when some are left.
fn without_arguments(command: Command, rest: &[OsString]) -> Result<Command, UsageError> {
    match rest.first() {
        None => Ok(command),
        Some(arg) => usage_error(format!("unexpected argument {}", quoted(arg))),
    }
}

fn quoted(arg: &OsStr) -> String {
    format!("{:?}", arg.to_string_lossy())
}

fn unknown_command(arg: &OsStr) -> UsageError {
    const MAX_EDITS: usize = 2;
    let text = arg.to_string_lossy();
    let similar = COMMANDS.iter().find(|command| strsim::levenshtein(command, &text) <= MAX_EDITS);
    let hint = similar.map_or_else(
        || "expected run, ship, check, status or help; to run a program: tailrace run -- PROGRAM".to_owned(),
        |similar| format!("did you mean {similar}?"),
    );
    UsageError(format!("unknown command {}: {hint}", quoted(arg)))
}

fn parse_run(arguments: Vec<OsString>) -> Result<Command, UsageError> {
    let mut rest = arguments.into_iter();
    let Some(first) = rest.next() else {
        return usage_error("run: expected a command: tailrace run -- COMMAND [ARG…]");
    };
    match first.to_str() {
        Some("--help" | "-h") => Ok(Command::Help),
        Some("--") => {
            let command: Vec<OsString> = rest.collect();
            if command.is_empty() {
                usage_error("run: expected a command after --")
            } else {
                Ok(Command::Run(command))
            }
        }
        Some("--shell") => {
            let Some(line) = rest.next() else {
                return usage_error("run: expected a command line after --shell, in quotes");
            };
            Ok(Command::Run(procfile::bash(line, rest.as_slice())))
        }
        Some("--type") => {
            let name = rest.next().and_then(|name| name.into_string().ok());
            let Some(name) = name.filter(|name| is_entry_name(name)) else {
                return usage_error("run: expected the name of a Procfile entry after --type");
            };
            Ok(Command::RunType { name, arguments: rest.collect() })
        }
        Some(option) if option.starts_with('-') => usage_error(format!(
            "run: unknown option {option:?}: expected --shell, --type, or -- and the command"
        )),
        _ => Ok(Command::Run(std::iter::once(first).chain(rest).collect())),
    }
}

/// The arguments of a command that takes one option.
enum Parsed {
    /// There are none.
    Absent,
    /// The option.
    Present,
    /// A request for help.
    Help,
}

/// Parses the arguments of a command that takes only `option`.
fn parse_option(args: &[OsString], command: &str, option: &str) -> Result<Parsed, UsageError> {
    let mut parsed = Parsed::Absent;
    for arg in args {
        match arg.to_str() {
            Some("--help" | "-h") => return Ok(Parsed::Help),
            Some(arg) if arg == option => parsed = Parsed::Present,
            _ => {
                let arg = quoted(arg);
                return usage_error(format!(
                    "{command}: unexpected argument {arg}: expected {option} or nothing"
                ));
            }
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|arg| !arg.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn command_lines_are_parsed_as_the_help_documents() {
        for (line, command) in [
            ("", Command::Help),
            ("help", Command::Help),
            ("--help", Command::Help),
            ("run --help", Command::Help),
            ("ship -h", Command::Help),
            ("help settings", Command::HelpSettings),
            ("--version", Command::Version),
            ("ship", Command::Ship),
            ("shipper 00ff", Command::Shipper { agent: "00ff".to_owned() }),
            ("confinement-probe free kill 1", Command::ConfinementProbe(args("free kill 1"))),
            ("check", Command::Check(TestFrame::Send)),
            ("check --no-send", Command::Check(TestFrame::Omit)),
            ("status", Command::Status(StatusFormat::Text)),
            ("status --json", Command::Status(StatusFormat::Json)),
            ("status --help", Command::Help),
            ("run -- a -b --help", Command::Run(args("a -b --help"))),
            ("run a -- b", Command::Run(args("a -- b"))),
            ("run -- -- b", Command::Run(args("-- b"))),
            ("run --shell x", Command::Run(args("bash -c x"))),
            ("run --shell x y -z", Command::Run(args("bash -c x bash y -z"))),
            ("run --type web", Command::RunType { name: "web".to_owned(), arguments: vec![] }),
            (
                "run --type my_web-2 -- --help",
                Command::RunType { name: "my_web-2".to_owned(), arguments: args("-- --help") },
            ),
        ] {
            assert_eq!(parse(args(line)), Ok(command), "{line}");
        }
    }

    #[test]
    fn usage_errors_name_what_was_expected() {
        for (line, text) in [
            ("run", "expected a command"),
            ("run --", "after --"),
            ("run --shell", "after --shell"),
            ("run --tpye web", "unknown option \"--tpye\""),
            ("run --type", "after --type"),
            ("run --type ../web", "after --type"),
            ("rnu x", "did you mean run?"),
            ("puma -C config", "tailrace run -- PROGRAM"),
            ("ship x", "unexpected argument \"x\""),
            ("check --send", "expected --no-send"),
        ] {
            let error = parse(args(line)).expect_err(line).to_string();
            assert!(error.contains(text), "{line}: {error}");
        }
    }

    #[test]
    fn arguments_need_not_be_utf8() {
        let invalid = OsString::from_vec(vec![0xff, b'x']);
        assert_eq!(parse([OsString::from("run"), invalid.clone()]), Ok(Command::Run(vec![invalid])));
    }

    #[test]
    fn the_help_fits_on_a_screen() {
        assert!(HELP.lines().count() <= 24);
        assert!(HELP.lines().all(|line| line.chars().count() <= 80));
    }
}
