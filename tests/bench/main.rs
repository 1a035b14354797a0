//! The bench: the cost of tailrace, each figure compared with its budget.

mod app;
mod cores;
mod full_speed;
mod harness;
mod load;
mod long_outage;
mod measure;
mod options;
mod outage;
mod peak;
mod results;
mod sample;
mod sink;
mod stats;
mod steady_load;
mod table;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cores::Cores;
use full_speed::Contestant;
use harness::Harness;
use options::{HELP, Options};
use results::Results;
use steady_load::Scale;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match run_role(&args).unwrap_or_else(|| bench(&args)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!(" !     {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs an internal role: the sink, or an app under measurement. `None` if the arguments name none.
fn run_role(args: &[String]) -> Option<Result<ExitCode>> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["sink", ca] => sink::serve(Path::new(ca)),
        ["load", file, lines] => {
            number(lines).and_then(|lines| load::write_file(Path::new(file), lines)).map(drop)
        }
        ["blast", load, report] => app::blast(Path::new(load), Path::new(report)),
        ["pace", rate, time, report] => {
            number(rate).and_then(|rate| app::pace(rate, seconds(time)?, Path::new(report)))
        }
        ["alternate", rate, time, report] => {
            number(rate).and_then(|rate| app::alternate(rate, seconds(time)?, Path::new(report)))
        }
        ["burst", count, report] => number(count).and_then(|count| app::burst(count, Path::new(report))),
        ["idle", time, report] => seconds(time).and_then(|time| app::idle(time, Path::new(report))),
        ["sample"] => sample::measure(),
        ["stamp", report] => app::stamp(Path::new(report)),
        ["last", report] => app::last(Path::new(report)),
        _ => return None,
    };
    Some(done.map(|()| ExitCode::SUCCESS))
}

fn number(text: &str) -> Result<u64> {
    Ok(text.parse()?)
}

fn seconds(text: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

fn bench(args: &[String]) -> Result<ExitCode> {
    let Some(options) = Options::parse(args)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    if options.readme {
        table::replace(&std::fs::read_to_string("README.md")?, "")?; // fails early if a marker is missing
    }
    let cores = Cores::share(options.cores)?;
    let count = cores.count;
    let binary =
        std::env::var_os("TAILRACE_BENCH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_tailrace").into());
    let binary = PathBuf::from(binary);
    let mut results = Results::default();
    results.add("binary", std::fs::metadata(&binary)?.len() as f64);
    let mut harness = Harness::new(binary, &options.dir, options.lines, cores)?;
    if let Some(minutes) = options.outage {
        long_outage::run(&mut harness, minutes, &mut results)?;
        for fault in results.faults() {
            eprintln!(" !     {fault}");
        }
        return Ok(if results.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    for run in 1..=options.runs {
        eprintln!("-----> Run {run} of {}", options.runs);
        run_all(&mut harness, &options, &mut results);
    }
    let table = table::markdown(&results) + &caption(&options, count);
    print!("{table}");
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", results.json()))?;
    }
    if options.readme {
        let readme = std::fs::read_to_string("README.md")?;
        std::fs::write("README.md", table::replace(&readme, &table)?)?;
    }
    Ok(if results.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The conditions of the measurements.
fn caption(options: &Options, cores: usize) -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, name)| name);
    let Options { runs, lines, .. } = options;
    format!(
        "\nMedians of {runs} runs, {lines} lines each at full speed; agent, app and sink share {cores} cores of {model}. \
         × and + compare, run by run, with the first row of the group, or with the row above where the name says so.\n"
    )
}

/// Whether `wanted` selects the measurement `name`: as its name, or else as the beginning of it.
fn selects(wanted: &str, name: &str, names: &[&str]) -> bool {
    if names.contains(&wanted) { name == wanted } else { name.starts_with(wanted) }
}

/// Runs every selected measurement once. A failure is reported, and its figures are missing.
fn run_all(harness: &mut Harness, options: &Options, results: &mut Results) {
    type Measurement<'a> = (&'static str, Box<dyn Fn(&mut Harness, &mut Results) -> Result<()> + 'a>);
    let Scale { idle, paced, fault, bursts, starts } = options.scale;
    let mut measurements: Vec<Measurement> = Vec::new();
    for contestant in Contestant::ALL {
        measurements.push((
            contestant.key(),
            Box::new(move |harness, results| full_speed::run(harness, contestant, results)),
        ));
    }
    measurements.push((
        "paced.1000",
        Box::new(move |harness, results| steady_load::paced(harness, 1_000, paced, results)),
    ));
    measurements.push((
        "paced.10000",
        Box::new(move |harness, results| steady_load::paced(harness, 10_000, paced, results)),
    ));
    measurements.push((
        "paced.100000",
        Box::new(move |harness, results| steady_load::paced(harness, 100_000, paced, results)),
    ));
    measurements.push((
        "streams.1000",
        Box::new(move |harness, results| steady_load::alternating(harness, 1_000, paced, results)),
    ));
    measurements
        .push(("write", Box::new(move |harness, results| steady_load::writes(harness, fault, results))));
    measurements
        .push(("burst", Box::new(move |harness, results| steady_load::bursts(harness, bursts, results))));
    measurements.push(("outage", Box::new(outage::run)));
    measurements
        .push(("start", Box::new(move |harness, results| steady_load::starts(harness, starts, results))));
    measurements.push(("end", Box::new(move |harness, results| steady_load::ends(harness, starts, results))));
    measurements.push(("idle", Box::new(move |harness, results| steady_load::idle(harness, idle, results))));
    measurements.push(("sample", Box::new(sample::run)));
    let names: Vec<&str> = measurements.iter().map(|(name, _)| *name).collect();
    for (name, measure) in measurements {
        if !options.only.is_empty() && !options.only.iter().any(|wanted| selects(wanted, name, &names)) {
            continue;
        }
        eprintln!("       {name}");
        if let Err(error) = measure(harness, results) {
            results.add_fault(format!("{name}: {error}"));
        }
        for line in harness.take_stderr().unwrap_or_default().lines().take(20) {
            eprintln!("         {line}");
        }
    }
}
