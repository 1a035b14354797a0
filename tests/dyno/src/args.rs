//! The command line.

use lexopt::{Arg, Parser, ValueExt as _};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One screen.
pub const HELP: &str = "\
Runs a Procfile's web entry under tailrace as dyno web.1, against a local TLS drain, and counts what arrives.
bin/simulate builds what this needs and starts it.

  tailrace-dyno [--app DIR] [--slug] [--for 20s] [--json]

  --app DIR      the app: a directory with a Procfile; without it the current one
  --slug         the app is a slug: its web entry runs as it stands, as Cedar runs it
  --for TIME     once it is up, stop the dyno after this time (500ms, 20s, 5m, 1h); without it, at Ctrl-C
  --json         the report as JSON, alone on standard output; the stream goes to standard error
  --path DIR     in front of the dyno's PATH; may stand several times
  --agent FILE   the tailrace binary; without it the one beside this program
  --help         this screen

TAILRACE_* variables reach the agent as config vars do, but for those that the simulation sets itself.
Exit status: 0 when every captured line is accounted for and the drain had nothing to object to, 1 when not,
64 for the command line, 69 when something that is needed is missing, 130 after a second Ctrl-C, which ends all at once.
";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The screen of help.
    Help,
    /// A simulation.
    Simulate(Args),
}

/// How to simulate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// The app's directory.
    pub app: PathBuf,
    /// The app is a slug, as the buildpack leaves it: its entry names the agent.
    pub slug: bool,
    /// How long the dyno is up; without it, until Ctrl-C.
    pub run_for: Option<Duration>,
    /// The report is JSON.
    pub json: bool,
    /// In front of the dyno's PATH.
    pub path: Vec<PathBuf>,
    /// The agent's binary.
    pub agent: PathBuf,
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

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

/// Reads the arguments behind the program's name. The agent is looked for in `beside` unless named.
///
/// # Errors
/// [`UsageError`] names the option, and what was expected.
pub fn parse(args: impl IntoIterator<Item = OsString>, beside: &Path) -> Result<Request, UsageError> {
    let mut options = Args {
        app: PathBuf::from("."),
        slug: false,
        run_for: None,
        json: false,
        path: Vec::new(),
        agent: beside.join("tailrace"),
    };
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Request::Help),
            Arg::Long("app") => options.app = parser.value()?.into(),
            Arg::Long("slug") => options.slug = true,
            Arg::Long("for") => options.run_for = Some(parser.value()?.parse_with(duration)?),
            Arg::Long("json") => options.json = true,
            Arg::Long("path") => options.path.push(parser.value()?.into()),
            Arg::Long("agent") => options.agent = parser.value()?.into(),
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Request::Simulate(options))
}

/// A time with its unit.
fn duration(text: &str) -> Result<Duration, UsageError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = unit.zip(number.parse::<u64>().ok()).and_then(|(unit, number)| number.checked_mul(unit));
    let expected = || UsageError("expected a time such as 20s, 5m or 500ms".to_owned());
    millis.map(Duration::from_millis).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Request, UsageError> {
        parse(words.iter().map(OsString::from), Path::new("/bin"))
    }

    fn simulate(words: &[&str]) -> Args {
        match parsed(words) {
            Ok(Request::Simulate(args)) => args,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn everything_has_a_default() {
        let expected = Args {
            app: PathBuf::from("."),
            slug: false,
            run_for: None,
            json: false,
            path: Vec::new(),
            agent: PathBuf::from("/bin/tailrace"),
        };
        assert_eq!(simulate(&[]), expected);
    }

    #[test]
    fn options_are_taken() {
        let args = simulate(&[
            "--for=20s",
            "--app",
            "a",
            "--slug",
            "--json",
            "--path",
            "b",
            "--path=c",
            "--agent",
            "d",
        ]);
        assert_eq!(args.run_for, Some(Duration::from_secs(20)));
        assert_eq!(args.app, Path::new("a"));
        assert!(args.json && args.slug);
        assert_eq!(args.path, [Path::new("b"), Path::new("c")]);
        assert_eq!(args.agent, Path::new("d"));
        assert_eq!(parsed(&["--json", "--help"]), Ok(Request::Help));
    }

    #[test]
    fn times_carry_a_unit() {
        for (text, millis) in [("500ms", 500), ("20s", 20_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "20", "s", "-1s", "1.5s", "20 s", "20sec", "99999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (words, part) in [
            (&["--for", "20"][..], "20s, 5m or 500ms"),
            (&["--for"], "--for"),
            (&["--wat"], "--wat"),
            (&["--json=yes"], "--json"),
            (&["stray"], "stray"),
        ] {
            let error = parsed(words).expect_err("is wrong").to_string();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }
}
