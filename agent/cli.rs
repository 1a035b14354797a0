//! The command line. What the command itself is given passes untouched, whatever its encoding.

use crate::dyno::{name::is_entry_name, procfile};
use std::ffi::{OsStr, OsString};
use std::fmt;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run these words as the dyno's process.
    Run(Vec<OsString>),
    /// Run what the buildpack stored for a Procfile entry.
    RunType {
        /// The entry.
        name: String,
        /// What stands behind its line.
        arguments: Vec<OsString>,
    },
    /// Ship standard input.
    Ship,
    /// Explain the settings and try the drains.
    Check {
        /// Whether a test frame is posted.
        send: bool,
    },
    /// Ask the agents here how they are.
    Status {
        /// As JSON.
        json: bool,
    },
    /// The screen of help.
    Help,
    /// The settings table.
    HelpSettings,
    /// The version.
    Version,
    /// The network part, started by the keeper: hidden.
    Shipper {
        /// The id of the keeper's agent.
        agent: String,
    },
}

/// What is wrong with the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// One screen.
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

Without it, with TAILRACE=off, or on a terminal, `run` is plain exec.
`run` exits as COMMAND does, and prints nothing of its own on standard output.
`ship` exits with 0 when all was delivered, 75 when lines were lost.
`check` exits with 0, 64 for settings, 69 for a drain that refuses.

  heroku config:set TAILRACE_DRAIN_URL='https://…'
The buildpack puts the Procfile's entries under `run`. By hand it is:
  web: tailrace run -- bundle exec puma
";

const COMMANDS: [&str; 5] = ["run", "ship", "check", "status", "help"];

fn usage<T>(text: impl Into<String>) -> Result<T, UsageError> {
    Err(UsageError(text.into()))
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// [`UsageError`] says what was found, and what was expected.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let Some(first) = args.next() else { return Ok(Command::Help) };
    let rest: Vec<OsString> = args.collect();
    let command = match first.to_str() {
        Some("run") => return run(rest),
        Some("ship") => Command::Ship,
        Some("shipper") => {
            let agent = rest.first().and_then(|agent| agent.to_str()).unwrap_or_default().to_owned();
            return nothing_more(Command::Shipper { agent }, rest.get(1..).unwrap_or_default());
        }
        Some("check") => {
            return flag(&rest, "check", "--no-send")
                .map(|given| given.map_or(Command::Help, |no| Command::Check { send: !no }));
        }
        Some("status") => {
            return flag(&rest, "status", "--json")
                .map(|given| given.map_or(Command::Help, |json| Command::Status { json }));
        }
        Some("help") if rest.first().is_some_and(|topic| topic == "settings") => {
            return nothing_more(Command::HelpSettings, &rest[1..]);
        }
        Some("help" | "--help" | "-h") => return Ok(Command::Help),
        Some("--version" | "-V") => Command::Version,
        _ => return unknown(&first),
    };
    if rest.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Help);
    }
    nothing_more(command, &rest)
}

fn nothing_more(command: Command, rest: &[OsString]) -> Result<Command, UsageError> {
    match rest.first() {
        None => Ok(command),
        Some(word) => usage(format!("unexpected argument {}", shown(word))),
    }
}

fn shown(word: &OsStr) -> String {
    format!("{:?}", word.to_string_lossy())
}

fn unknown(word: &OsStr) -> Result<Command, UsageError> {
    let text = word.to_string_lossy();
    let near = COMMANDS.iter().find(|command| crate::config::value::distance(command, &text) <= 2);
    let hint = near.map_or_else(
        || "expected run, ship, check, status or help; to run a program: tailrace run -- PROGRAM".to_owned(),
        |near| format!("did you mean {near}?"),
    );
    usage(format!("unknown command {}: {hint}", shown(word)))
}

fn run(words: Vec<OsString>) -> Result<Command, UsageError> {
    let mut words = words.into_iter();
    let Some(first) = words.next() else {
        return usage("run: expected a command: tailrace run -- COMMAND [ARG…]");
    };
    match first.to_str() {
        Some("--help" | "-h") => Ok(Command::Help),
        Some("--") => {
            let words: Vec<OsString> = words.collect();
            if words.is_empty() {
                usage("run: expected a command behind --")
            } else {
                Ok(Command::Run(words))
            }
        }
        Some("--shell") => {
            let Some(line) = words.next() else {
                return usage("run: expected a command line behind --shell, in quotes");
            };
            Ok(Command::Run(procfile::bash(line, words.as_slice())))
        }
        Some("--type") => {
            let name = words.next().and_then(|name| name.into_string().ok());
            let Some(name) = name.filter(|name| is_entry_name(name)) else {
                return usage("run: expected the name of a Procfile entry behind --type");
            };
            Ok(Command::RunType { name, arguments: words.collect() })
        }
        Some(option) if option.starts_with('-') => {
            usage(format!("run: unknown option {option:?}: expected --shell, --type, or -- and the command"))
        }
        _ => Ok(Command::Run(std::iter::once(first).chain(words).collect())),
    }
}

/// Whether the one flag of a command is given; nothing when help is asked for.
fn flag(words: &[OsString], command: &str, flag: &str) -> Result<Option<bool>, UsageError> {
    let mut is_given = false;
    for word in words {
        match word.to_str() {
            Some("--help" | "-h") => return Ok(None),
            Some(word) if word == flag => is_given = true,
            _ => {
                return usage(format!(
                    "{command}: unexpected argument {}: expected {flag} or nothing",
                    shown(word)
                ));
            }
        }
    }
    Ok(Some(is_given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn command_lines_are_read_as_the_help_says() {
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
            ("check", Command::Check { send: true }),
            ("check --no-send", Command::Check { send: false }),
            ("status", Command::Status { json: false }),
            ("status --json", Command::Status { json: true }),
            ("status --help", Command::Help),
            ("run -- a -b --help", Command::Run(words("a -b --help"))),
            ("run a -- b", Command::Run(words("a -- b"))),
            ("run -- -- b", Command::Run(words("-- b"))),
            ("run --shell x", Command::Run(words("bash -c x"))),
            ("run --shell x y -z", Command::Run(words("bash -c x bash y -z"))),
            ("run --type web", Command::RunType { name: "web".to_owned(), arguments: vec![] }),
            (
                "run --type my_web-2 -- --help",
                Command::RunType { name: "my_web-2".to_owned(), arguments: words("-- --help") },
            ),
        ] {
            assert_eq!(parse(words(line)), Ok(command), "{line}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, text) in [
            ("run", "expected a command"),
            ("run --", "behind --"),
            ("run --shell", "behind --shell"),
            ("run --tpye web", "unknown option \"--tpye\""),
            ("run --type", "behind --type"),
            ("run --type ../web", "behind --type"),
            ("rnu x", "did you mean run?"),
            ("puma -C config", "tailrace run -- PROGRAM"),
            ("ship x", "unexpected argument \"x\""),
            ("check --send", "expected --no-send"),
        ] {
            let error = parse(words(line)).expect_err(line).to_string();
            assert!(error.contains(text), "{line}: {error}");
        }
    }

    #[test]
    fn arguments_need_not_be_text() {
        let odd = OsString::from_vec(vec![0xff, b'x']);
        assert_eq!(parse([OsString::from("run"), odd.clone()]), Ok(Command::Run(vec![odd])));
    }

    #[test]
    fn help_fits_a_screen() {
        assert!(HELP.lines().count() <= 24);
        assert!(HELP.lines().all(|line| line.chars().count() <= 80));
    }
}
