//! The command line of the bench.

use std::path::PathBuf;
use std::time::Duration;

use crate::Result;
use crate::steady_load::Scale;

pub(crate) const HELP: &str = "\
Usage: tests/bench/run [--quick] [--runs N] [--lines N] [--cores N] [--dir DIR] [--only LIST]
                       [--json FILE] [--readme]
       tests/bench/run --outage MINUTES

Measures the cost of tailrace beside that of the bare loop, and prints a table with the budget of each figure.
Exits 1 if lines were lost or a measurement failed, whatever the figures are.

  --quick       one run with short measurements
  --runs N      the number of runs; the table shows medians (3)
  --lines N     lines at full speed (1000000)
  --cores N     cores that agent, app and sink share (2)
  --dir DIR     directory of load and spool; its file system affects the figures (target/…/tmp)
  --only LIST   only these measurements, separated by commas; `ru` selects all that begin with it:
                tee bare ship run run.pipe bare.gzip ship.gzip run.gzip paced.1000 paced.10000
                paced.100000 streams.1000 write burst outage start end idle sample
  --json FILE   write all figures of all runs to FILE
  --readme      put the table between the markers in README.md
  --outage MINUTES
                instead: the drain is down for so long at 1,000 lines/s, in a control group with 128 MiB; exits 1
                unless every line arrives, 20 times as fast as they came, and agent and page cache take no more
                than 2 MiB above what they took after the first minute. Needs root

Set TAILRACE_BENCH_BINARY to measure another binary than that of this tree.
";

/// The options of a run.
pub(crate) struct Options {
    pub(crate) runs: u64,
    pub(crate) lines: u64,
    pub(crate) cores: usize,
    pub(crate) dir: PathBuf,
    pub(crate) only: Vec<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) readme: bool,
    pub(crate) outage: Option<u64>,
    pub(crate) scale: Scale,
}

const FULL: Scale = Scale {
    idle: Duration::from_secs(25), // holds one runtime sample
    paced: Duration::from_secs(11),
    fault: Duration::from_secs(5),
    bursts: 60,
    starts: 20,
};
const QUICK: Scale = Scale {
    idle: Duration::from_secs(6),
    paced: Duration::from_secs(5),
    fault: Duration::from_secs(3),
    bursts: 20,
    starts: 10,
};

impl Options {
    /// Parses the arguments; `None` for `--help`.
    pub(crate) fn parse(args: &[String]) -> Result<Option<Self>> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let mut options = Self {
            runs: if quick { 1 } else { 3 },
            lines: 1_000_000,
            cores: 2,
            dir: env!("CARGO_TARGET_TMPDIR").into(),
            only: Vec::new(),
            json: None,
            readme: false,
            outage: None,
            scale: if quick { QUICK } else { FULL },
        };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} takes a value"));
            match name.as_str() {
                "--help" | "-h" => return Ok(None),
                "--quick" => {}
                "--readme" => options.readme = true,
                "--outage" => options.outage = Some(value()?.parse()?),
                "--runs" => options.runs = value()?.parse()?,
                "--lines" => options.lines = value()?.parse()?,
                "--cores" => options.cores = value()?.parse()?,
                "--dir" => options.dir = value()?.into(),
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--json" => options.json = Some(value()?.into()),
                _ => return Err(format!("unknown option {name}; see --help").into()),
            }
        }
        Ok(Some(options))
    }
}
