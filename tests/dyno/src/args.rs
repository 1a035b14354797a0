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
use tailrace::config::value;

/// The text of `--help`.
pub const HELP: &str = include_str!("help.txt");
/// How long a run with `--check` lasts once all dynos are up, without `--for`.
const CHECK_DURATION: Duration = Duration::from_secs(10);

/// What the command line requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `--help`.
    Help,
    /// A simulation.
    Simulate(Box<Args>),
}

/// The options of a simulation.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own on the command line")]
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    /// `--app` or the first argument: the app's directory; the default is a sample app in `tests/apps`.
    pub app: Option<PathBuf>,
    /// `run COMMAND…`: run a one-off dyno instead of the formation.
    pub command: Option<Vec<OsString>>,
    /// `--generation`: the generation of the platform.
    pub generation: Generation,
    /// `--formation`: number of dynos by process type; empty for one of each.
    pub formation: BTreeMap<String, u32>,
    /// `--size`: the dyno type.
    pub size: Size,
    /// `--boot-timeout`, `--exit-timeout` and `--request-timeout`.
    pub limits: Limits,
    /// `--for`: how long to run once all dynos are up; without it, until Ctrl-C.
    pub run_for: Option<Duration>,
    /// `--check`: not interactive; only the report matters.
    pub check: bool,
    /// `--json`: print the report as JSON.
    pub json: bool,
    /// `--config`: config vars, name and value.
    pub config: Vec<(String, String)>,
    /// `--drain`: URLs of receivers to use instead of the local one.
    pub drains: Vec<String>,
    /// `--fault`: faults to inject.
    pub faults: Vec<Fault>,
    /// `--traffic`: requests per second to the router.
    pub traffic: Option<f64>,
    /// `--ask`: the requests to send.
    pub requests: Vec<RequestSpec>,
    /// `--port`: the router's port; 0 for any.
    pub port: u16,
    /// Whether `HEROKU_*` variables are set, as by `heroku labs:enable runtime-dyno-metadata`; off with `--no-metadata`.
    pub metadata: bool,
    /// `--sigterms`: how often SIGTERM is sent to a dyno that is stopped.
    pub sigterms: u32,
    /// `--compare`: send the same requests to a second web dyno that runs without the agent.
    pub compare: bool,
    /// `--no-namespaces`: do not use namespaces even where the machine allows them.
    pub no_namespaces: bool,
    /// `--path`: directories to put in front of the dyno's PATH.
    pub path: Vec<PathBuf>,
    /// `--agent`: the agent's binary, for an app that no buildpack has prepared.
    pub agent: PathBuf,
    /// `--slug`: the app as the buildpack left it.
    pub slug: Option<PathBuf>,
    /// `--layers`: the buildpack's layers (Fir).
    pub layers: Option<PathBuf>,
    /// `--site`: a directory of the caller, to remove at the end.
    pub build_dir: Option<PathBuf>,
    /// `--plan`: only print what is to be built, and write the config vars into this directory.
    pub plan: Option<PathBuf>,
}

/// An error in the command line.
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
    /// The canonical path of the app's directory; the current directory when none is named.
    ///
    /// # Errors
    /// When the directory does not exist.
    pub fn app(&self) -> std::io::Result<PathBuf> {
        self.app.as_deref().unwrap_or(Path::new(".")).canonicalize()
    }

    fn new(agent_dir: &Path) -> Self {
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
            requests: Vec::new(),
            port: 0,
            metadata: true,
            sigterms: 1,
            compare: false,
            no_namespaces: false,
            path: Vec::new(),
            agent: agent_dir.join("tailrace"),
            slug: None,
            layers: None,
            build_dir: None,
            plan: None,
        }
    }

    /// Fills in defaults that depend on other options, and rejects options that contradict each other.
    fn validate(mut self) -> Result<Self, UsageError> {
        if self.check {
            self.run_for.get_or_insert(CHECK_DURATION);
        }
        let drain_fault = self.faults.iter().find_map(|fault| match fault {
            Fault::Drain { text, .. } => Some(text),
            Fault::Dyno(_) => None,
        });
        if let (Some(text), false) = (drain_fault, self.drains.is_empty()) {
            return Err(UsageError(format!("--fault {text}: the receiver of --drain is not the local one")));
        }
        Ok(self)
    }
}

/// Parses the arguments that follow the program's name. Without `--agent`, the agent's binary is expected in
/// `agent_dir`.
///
/// # Errors
/// [`UsageError`] names the option and what was expected.
pub fn parse(args: impl IntoIterator<Item = OsString>, agent_dir: &Path) -> Result<Request, UsageError> {
    let mut options = Args::new(agent_dir);
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Request::Help),
            Arg::Long("app") => options.app = Some(parser.value()?.into()),
            Arg::Long("generation") => options.generation = read(&mut parser, "--generation", generation)?,
            Arg::Long("formation") => options.formation = read(&mut parser, "--formation", formation)?,
            Arg::Long("size") => options.size = read(&mut parser, "--size", size)?,
            Arg::Long("for") => options.run_for = Some(read(&mut parser, "--for", duration)?),
            Arg::Long("boot-timeout") => options.limits.boot = read(&mut parser, "--boot-timeout", duration)?,
            Arg::Long("exit-timeout") => options.limits.exit = read(&mut parser, "--exit-timeout", duration)?,
            Arg::Long("request-timeout") => {
                options.limits.request = read(&mut parser, "--request-timeout", duration)?;
            }
            Arg::Long("check") => options.check = true,
            Arg::Long("json") => options.json = true,
            Arg::Long("config") => options.config.push(read(&mut parser, "--config", config_var)?),
            Arg::Long("drain") => options.drains.push(parser.value()?.string()?),
            Arg::Long("fault") => options.faults.extend(read(&mut parser, "--fault", faults)?),
            Arg::Long("traffic") => options.traffic = Some(read(&mut parser, "--traffic", rate)?),
            Arg::Long("ask") => options.requests.push(read(&mut parser, "--ask", request)?),
            Arg::Long("port") => options.port = read(&mut parser, "--port", port)?,
            Arg::Long("no-metadata") => options.metadata = false,
            Arg::Long("sigterms") => options.sigterms = read(&mut parser, "--sigterms", sigterms)?,
            Arg::Long("compare") => options.compare = true,
            Arg::Long("no-namespaces") => options.no_namespaces = true,
            Arg::Long("path") => options.path.push(parser.value()?.into()),
            Arg::Long("agent") => options.agent = parser.value()?.into(),
            Arg::Long("slug") => options.slug = Some(parser.value()?.into()),
            Arg::Long("layers") => options.layers = Some(parser.value()?.into()),
            Arg::Long("site") => options.build_dir = Some(parser.value()?.into()),
            Arg::Long("plan") => options.plan = Some(parser.value()?.into()),
            Arg::Value(value) if value == "run" && options.command.is_none() => {
                let command: Vec<OsString> = parser.raw_args()?.collect();
                if command.is_empty() {
                    return Err(UsageError("run: expected a command to follow, such as run bash".to_owned()));
                }
                options.command = Some(command);
            }
            Arg::Value(value) if options.app.is_none() => options.app = Some(value.into()),
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Request::Simulate(Box::new(options.validate()?)))
}

/// Parses the value of an option; an error names the option.
fn read<T>(
    parser: &mut Parser,
    option: &str,
    parse: impl Fn(&str) -> Result<T, UsageError>,
) -> Result<T, UsageError> {
    parse(&parser.value()?.string()?).map_err(|error| UsageError(format!("{option}: {error}")))
}

fn unexpected<T>(found: &str, expected: &str) -> Result<T, UsageError> {
    Err(UsageError(format!("found {found:?}, expected {expected}")))
}

fn generation(text: &str) -> Result<Generation, UsageError> {
    Generation::from_name(text).map_or_else(|| unexpected(text, "cedar or fir"), Ok)
}

fn size(text: &str) -> Result<Size, UsageError> {
    let names = SIZES.map(|size| size.name).join(", ");
    Size::from_name(text).map_or_else(|| unexpected(text, &format!("one of {names}")), Ok)
}

fn sigterms(text: &str) -> Result<u32, UsageError> {
    let number = text.parse().ok().filter(|number| (1..=10).contains(number));
    number.map_or_else(|| unexpected(text, "a number from 1 to 10"), Ok)
}

fn rate(text: &str) -> Result<f64, UsageError> {
    let number = text.parse().ok().filter(|rate: &f64| (0.0..=10_000.0).contains(rate));
    number.map_or_else(|| unexpected(text, "requests per second, from 0 to 10000"), Ok)
}

fn port(text: &str) -> Result<u16, UsageError> {
    text.parse().or_else(|_| unexpected(text, "a port from 0 to 65535"))
}

fn request(text: &str) -> Result<RequestSpec, UsageError> {
    RequestSpec::parse(text)
        .map_or_else(|| unexpected(text, "a path, such as /orders?page=2 or 'POST /orders'"), Ok)
}

fn config_var(text: &str) -> Result<(String, String), UsageError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => unexpected(text, "KEY=VALUE"),
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
    entries
        .map_or_else(|| unexpected(text, "process types with numbers up to 100, such as web=2,worker=1"), Ok)
}

fn faults(text: &str) -> Result<Vec<Fault>, UsageError> {
    Fault::parse(text).map_err(|error| UsageError(error.to_string()))
}

fn duration(text: &str) -> Result<Duration, UsageError> {
    value::duration(text).or_else(|expected| unexpected(text, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Request, UsageError> {
        parse(arguments.iter().map(OsString::from), Path::new("/bin"))
    }

    fn simulate(arguments: &[&str]) -> Args {
        match parsed(arguments) {
            Ok(Request::Simulate(args)) => *args,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    #[test]
    fn every_option_has_a_default() {
        assert_eq!(simulate(&[]), Args::new(Path::new("/bin")));
        assert_eq!(simulate(&["--check"]).run_for, Some(CHECK_DURATION));
        assert_eq!(simulate(&["--check", "--for", "1s"]).run_for, Some(Duration::from_secs(1)));
    }

    #[test]
    fn options_are_parsed() {
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
        let paths: Vec<String> = args.requests.iter().map(|request| request.path.clone()).collect();
        assert_eq!((args.traffic, paths), (Some(0.5), vec!["/a".to_owned(), "/orders".to_owned()]));
        assert_eq!(parsed(&["--json", "--help"]), Ok(Request::Help));
    }

    #[test]
    fn all_arguments_after_run_are_the_command() {
        let args = simulate(&["--app", "a", "run", "ls", "--json", "run"]);
        assert_eq!(args.command, Some(["ls", "--json", "run"].map(OsString::from).to_vec()));
        assert!(!args.json);
    }

    #[test]
    fn durations_require_a_unit() {
        for (text, millis) in [("500ms", 500), ("20s", 20_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "20", "s", "-1s", "20sec", "99999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_name_the_option_and_what_was_expected() {
        for (arguments, part) in [
            (&["--for", "20"][..], "--for: found \"20\", expected a duration such as 250ms, 20s or 5m"),
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
            (&["--fault=outage=1"], "--fault: outage=1: found \"1\", expected a duration"),
            (&["--sigterms=0"], "1 to 10"),
            (&["--traffic=-1"], "0 to 10000"),
            (&["--ask=orders"], "'POST /orders'"),
            (&["--port=http"], "--port: found \"http\", expected a port"),
            (
                &["--drain=https://h/", "--fault=outage=1s"],
                "outage=1s: the receiver of --drain is not the local one",
            ),
        ] {
            let error = parsed(arguments).expect_err("is invalid").to_string();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
