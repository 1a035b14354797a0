//! The command line.

use crate::fault::Fault;
use crate::platform::{Generation, Limits, SIZES, Size};
use crate::traffic::RequestSpec;
use lexopt::{Arg, Parser, ValueExt as _};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One screen.
pub const HELP: &str = include_str!("help.txt");
/// How long a run without a person takes, once all dynos are up.
const CHECK: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// The screen of help.
    Help,
    /// A simulation.
    Simulate(Box<Args>),
}

/// How to simulate.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own on the command line")]
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    /// The app's directory; the default is in `tests/apps`.
    pub app: Option<PathBuf>,
    /// Instead of the formation: a command for a one-off dyno.
    pub command: Option<Vec<OsString>>,
    /// The platform.
    pub generation: Generation,
    /// How many dynos of which process type; empty for one of each.
    pub formation: BTreeMap<String, u32>,
    /// The dyno type.
    pub size: Size,
    /// What the platform grants.
    pub limits: Limits,
    /// How long the dynos are up; without it, until Ctrl-C.
    pub run_for: Option<Duration>,
    /// Nobody watches: only the report counts.
    pub check: bool,
    /// The report is JSON.
    pub json: bool,
    /// Config vars of the command line.
    pub config: Vec<(String, String)>,
    /// Receivers instead of the local one.
    pub drains: Vec<String>,
    /// What shall go wrong.
    pub faults: Vec<Fault>,
    /// Requests per second to the router, when somebody says how many.
    pub traffic: Option<f64>,
    /// What they are for, when somebody says.
    pub asked: Vec<RequestSpec>,
    /// The router's port; 0 for any.
    pub port: u16,
    /// `HEROKU_*` in the environment, as by `heroku labs:enable runtime-dyno-metadata`.
    pub metadata: bool,
    /// How often SIGTERM is sent.
    pub sigterms: u32,
    /// A second web dyno without the agent gets the same requests, to compare with.
    pub compare: bool,
    /// Namespaces are not used even where the machine has them.
    pub open: bool,
    /// In front of the dyno's PATH.
    pub path: Vec<PathBuf>,
    /// The agent's binary, for an app that no buildpack has prepared.
    pub agent: PathBuf,
    /// The app as the buildpack left it.
    pub slug: Option<PathBuf>,
    /// The buildpack's layers (Fir).
    pub layers: Option<PathBuf>,
    /// A directory of whoever made the slug, which goes with the simulation.
    pub site: Option<PathBuf>,
    /// Only say what is to be built, and write the config vars into this directory.
    pub plan: Option<PathBuf>,
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

impl Args {
    /// The app's directory, or this one, by the name that it has whichever way it was reached.
    ///
    /// # Errors
    /// When it is not there.
    pub fn app(&self) -> std::io::Result<PathBuf> {
        self.app.as_deref().unwrap_or(Path::new(".")).canonicalize()
    }

    fn new(beside: &Path) -> Self {
        Self {
            app: None,
            command: None,
            generation: Generation::default(),
            formation: BTreeMap::new(),
            size: Size::default(),
            limits: Limits::default(),
            run_for: None,
            check: false,
            json: false,
            config: Vec::new(),
            drains: Vec::new(),
            faults: Vec::new(),
            traffic: None,
            asked: Vec::new(),
            port: 0,
            metadata: true,
            sigterms: 1,
            compare: false,
            open: false,
            path: Vec::new(),
            agent: beside.join("tailrace"),
            slug: None,
            layers: None,
            site: None,
            plan: None,
        }
    }
}

/// Reads the arguments behind the program's name. The agent is looked for in `beside` unless named.
///
/// # Errors
/// [`UsageError`] names the option, and what was expected.
pub fn parse(args: impl IntoIterator<Item = OsString>, beside: &Path) -> Result<Request, UsageError> {
    let mut options = Args::new(beside);
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Request::Help),
            Arg::Long("app") => {
                options.app = Some(parser.value()?.into());
            }
            Arg::Long("generation") => options.generation = read(&mut parser, "--generation", generation)?,
            Arg::Long("formation") => options.formation = read(&mut parser, "--formation", formation)?,
            Arg::Long("size") => options.size = read(&mut parser, "--size", size)?,
            Arg::Long("for") => options.run_for = Some(read(&mut parser, "--for", duration)?),
            Arg::Long("boot-timeout") => {
                options.limits.boot = read(&mut parser, "--boot-timeout", duration)?;
            }
            Arg::Long("exit-timeout") => {
                options.limits.exit = read(&mut parser, "--exit-timeout", duration)?;
            }
            Arg::Long("request-timeout") => {
                options.limits.answer = read(&mut parser, "--request-timeout", duration)?;
            }
            Arg::Long("check") => options.check = true,
            Arg::Long("json") => options.json = true,
            Arg::Long("config") => options.config.push(read(&mut parser, "--config", config_var)?),
            Arg::Long("drain") => options.drains.push(parser.value()?.string()?),
            Arg::Long("fault") => options.faults.extend(read(&mut parser, "--fault", faults)?),
            Arg::Long("traffic") => options.traffic = Some(read(&mut parser, "--traffic", rate)?),
            Arg::Long("ask") => options.asked.push(read(&mut parser, "--ask", visit)?),
            Arg::Long("port") => options.port = read(&mut parser, "--port", port)?,
            Arg::Long("no-metadata") => options.metadata = false,
            Arg::Long("sigterms") => options.sigterms = read(&mut parser, "--sigterms", few)?,
            Arg::Long("compare") => options.compare = true,
            Arg::Long("no-namespaces") => options.open = true,
            Arg::Long("path") => options.path.push(parser.value()?.into()),
            Arg::Long("agent") => options.agent = parser.value()?.into(),
            Arg::Long("slug") => options.slug = Some(parser.value()?.into()),
            Arg::Long("layers") => options.layers = Some(parser.value()?.into()),
            Arg::Long("site") => options.site = Some(parser.value()?.into()),
            Arg::Long("plan") => options.plan = Some(parser.value()?.into()),
            Arg::Value(word) if word == "run" && options.command.is_none() => {
                let command: Vec<OsString> = parser.raw_args()?.collect();
                if command.is_empty() {
                    return Err(UsageError("run: expected a command behind it, such as run bash".to_owned()));
                }
                options.command = Some(command);
            }
            Arg::Value(word) if options.app.is_none() => options.app = Some(word.into()),
            _ => return Err(arg.unexpected().into()),
        }
    }
    if options.check {
        options.run_for.get_or_insert(CHECK);
    }
    let of_the_receiver = options.faults.iter().find_map(|fault| match fault {
        Fault::Drain { text, .. } => Some(text),
        Fault::Dyno(_) => None,
    });
    if let (Some(text), false) = (of_the_receiver, options.drains.is_empty()) {
        return Err(UsageError(format!("--fault {text}: the receiver of --drain is not ours")));
    }
    Ok(Request::Simulate(Box::new(options)))
}

/// The value of an option. What is wrong with it is told with the option's name.
fn read<T>(
    parser: &mut Parser,
    option: &str,
    of: impl Fn(&str) -> Result<T, UsageError>,
) -> Result<T, UsageError> {
    of(&parser.value()?.string()?).map_err(|error| UsageError(format!("{option}: {error}")))
}

fn wrong<T>(found: &str, expected: &str) -> Result<T, UsageError> {
    Err(UsageError(format!("found {found:?}, expected {expected}")))
}

fn generation(text: &str) -> Result<Generation, UsageError> {
    Generation::named(text).map_or_else(|| wrong(text, "cedar or fir"), Ok)
}

fn size(text: &str) -> Result<Size, UsageError> {
    let names = SIZES.map(|size| size.name).join(", ");
    Size::named(text).map_or_else(|| wrong(text, &format!("one of {names}")), Ok)
}

fn few(text: &str) -> Result<u32, UsageError> {
    let number = text.parse().ok().filter(|number| (1..=10).contains(number));
    number.map_or_else(|| wrong(text, "a number from 1 to 10"), Ok)
}

fn rate(text: &str) -> Result<f64, UsageError> {
    let number = text.parse().ok().filter(|rate: &f64| (0.0..=10_000.0).contains(rate));
    number.map_or_else(|| wrong(text, "requests per second, from 0 to 10000"), Ok)
}

fn port(text: &str) -> Result<u16, UsageError> {
    text.parse().or_else(|_| wrong(text, "a port from 0 to 65535"))
}

fn visit(text: &str) -> Result<RequestSpec, UsageError> {
    RequestSpec::read(text)
        .map_or_else(|| wrong(text, "a path, such as /orders?page=2 or 'POST /orders'"), Ok)
}

fn config_var(text: &str) -> Result<(String, String), UsageError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => wrong(text, "KEY=VALUE"),
    }
}

/// `web=2,worker=1`.
fn formation(text: &str) -> Result<BTreeMap<String, u32>, UsageError> {
    let entry = |part: &str| {
        let (name, count) = part.split_once('=')?;
        let count = count.parse().ok().filter(|count| *count <= 100)?;
        (!name.is_empty()).then(|| (name.to_owned(), count))
    };
    let entries: Option<BTreeMap<_, _>> = text.split(',').map(entry).collect();
    entries.map_or_else(|| wrong(text, "process types with numbers up to 100, such as web=2,worker=1"), Ok)
}

fn faults(text: &str) -> Result<Vec<Fault>, UsageError> {
    Fault::parse(text).map_err(|error| UsageError(error.to_string()))
}

/// A time with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, UsageError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = scale.zip(number.parse::<u64>().ok()).and_then(|(scale, number)| number.checked_mul(scale));
    millis.map_or_else(
        || wrong(text, "a time such as 20s, 5m or 500ms"),
        |millis| Ok(Duration::from_millis(millis)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Request, UsageError> {
        parse(words.iter().map(OsString::from), Path::new("/bin"))
    }

    fn simulate(words: &[&str]) -> Args {
        match parsed(words) {
            Ok(Request::Simulate(args)) => *args,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn everything_has_a_default() {
        assert_eq!(simulate(&[]), Args::new(Path::new("/bin")));
        assert_eq!(simulate(&["--check"]).run_for, Some(CHECK));
        assert_eq!(simulate(&["--check", "--for", "1s"]).run_for, Some(Duration::from_secs(1)));
    }

    #[test]
    fn options_are_taken() {
        let args = simulate(&[
            "an app",
            "--for=20s",
            "--generation=fir",
            "--formation",
            "web=2,worker=0",
            "--size=Standard-2X",
            "--config=A=b=c",
            "--fault",
            "outage=5s@1s,shipper=kill",
            "--sigterms=3",
            "--traffic=0.5",
            "--ask=/a",
            "--ask",
            "POST /orders",
        ]);
        assert_eq!(
            (args.app.as_deref(), args.run_for),
            (Some(Path::new("an app")), Some(Duration::from_secs(20)))
        );
        assert_eq!((args.generation, args.size.memory_mib), (Generation::Fir, 1024));
        assert_eq!(args.formation, BTreeMap::from([("web".to_owned(), 2), ("worker".to_owned(), 0)]));
        assert_eq!(args.config, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!((args.faults.len(), args.sigterms), (2, 3));
        let asked: Vec<String> = args.asked.iter().map(|visit| visit.path.clone()).collect();
        assert_eq!((args.traffic, asked), (Some(0.5), vec!["/a".to_owned(), "/orders".to_owned()]));
        assert_eq!(parsed(&["--json", "--help"]), Ok(Request::Help));
    }

    #[test]
    fn what_stands_behind_run_is_the_command() {
        let args = simulate(&["--app", "a", "run", "ls", "--json", "run"]);
        assert_eq!(args.command, Some(["ls", "--json", "run"].map(OsString::from).to_vec()));
        assert!(!args.json);
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
            (&["--for", "20"][..], "--for: found \"20\", expected a time such as 20s, 5m or 500ms"),
            (&["--for"], "--for"),
            (&["--wat"], "--wat"),
            (&["--json=yes"], "--json"),
            (&["app", "stray"], "stray"),
            (&["run"], "run bash"),
            (&["--generation=oak"], "--generation: found \"oak\", expected cedar or fir"),
            (&["--formation=web"], "web=2,worker=1"),
            (&["--size=xxl"], "standard-2x"),
            (&["--config=x"], "--config: found \"x\", expected KEY=VALUE"),
            (&["--fault=flood"], "--fault: flood: no such fault"),
            (&["--fault=outage=1"], "--fault: outage=1: found \"1\", expected a time"),
            (&["--sigterms=0"], "1 to 10"),
            (&["--traffic=-1"], "0 to 10000"),
            (&["--ask=orders"], "'POST /orders'"),
            (&["--port=http"], "--port: found \"http\", expected a port"),
            (&["--drain=https://h/", "--fault=outage=1s"], "outage=1s: the receiver of --drain is not ours"),
        ] {
            let error = parsed(words).expect_err("is wrong").to_string();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }
}
