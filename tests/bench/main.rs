//! The bench: what tailrace costs, each figure beside its budget.

mod app;
mod baseline;
mod cores;
mod full_speed;
mod harness;
mod load;
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
use full_speed::Who;
use harness::Rig;
use options::{HELP, Options};
use results::Book;
use steady_load::Lengths;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match role(&args).unwrap_or_else(|| bench(&args)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!(" !     {error}");
            ExitCode::from(2)
        }
    }
}

/// The hidden roles: the sink, the bare loop, and the apps under measurement.
fn role(args: &[String]) -> Option<Result<ExitCode>> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["sink", ca] => sink::serve(Path::new(ca)),
        ["bare", port, ca, level] => {
            number(port).and_then(|port| baseline::run(port as u16, Path::new(ca), *level != "0"))
        }
        ["load", file, lines] => {
            number(lines).and_then(|lines| load::write_file(Path::new(file), lines)).map(drop)
        }
        ["blast", load, report] => app::blast(Path::new(load), Path::new(report)),
        ["pace", rate, time, report] => {
            number(rate).and_then(|rate| app::pace(rate, seconds(time)?, Path::new(report)))
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
        table::replace(&std::fs::read_to_string("README.md")?, "")?; // says at once that a marker is missing
    }
    let cores = Cores::share(options.cores)?;
    let count = cores.count;
    let binary =
        std::env::var_os("TAILRACE_BENCH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_tailrace").into());
    let binary = PathBuf::from(binary);
    let mut book = Book::default();
    book.add("binary", std::fs::metadata(&binary)?.len() as f64);
    let mut rig = Rig::new(binary, &options.dir, options.lines, cores)?;
    for run in 1..=options.runs {
        eprintln!("-----> Run {run} of {}", options.runs);
        round(&mut rig, &options, &mut book);
    }
    let table = table::markdown(&book) + &caption(&options, count);
    print!("{table}");
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", book.json()))?;
    }
    if options.readme {
        let readme = std::fs::read_to_string("README.md")?;
        std::fs::write("README.md", table::replace(&readme, &table)?)?;
    }
    Ok(if book.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the table was made with.
fn caption(options: &Options, cores: usize) -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, name)| name);
    let Options { runs, lines, .. } = options;
    format!(
        "\nMedians of {runs} runs, {lines} lines each at full speed; agent, app and sink share {cores} cores of {model}. \
         × and + compare with the first row of the group, or the one above where it says so, run by run.\n"
    )
}

/// One run of everything. What fails is said and leaves its figures out.
fn round(rig: &mut Rig, options: &Options, book: &mut Book) {
    type Cell<'a> = (&'static str, Box<dyn Fn(&mut Rig, &mut Book) -> Result<()> + 'a>);
    let Lengths { idle, paced, trouble, bursts, starts } = options.lengths;
    let mut cells: Vec<Cell> = Vec::new();
    for who in Who::ALL {
        cells.push((who.key(), Box::new(move |rig, book| full_speed::run(rig, who, book))));
    }
    cells.push(("paced.1000", Box::new(move |rig, book| steady_load::paced(rig, 1_000, paced, book))));
    cells.push(("paced.10000", Box::new(move |rig, book| steady_load::paced(rig, 10_000, paced, book))));
    cells.push(("write", Box::new(move |rig, book| steady_load::writes(rig, trouble, book))));
    cells.push(("burst", Box::new(move |rig, book| steady_load::bursts(rig, bursts, book))));
    cells.push(("outage", Box::new(outage::run)));
    cells.push(("start", Box::new(move |rig, book| steady_load::starts(rig, starts, book))));
    cells.push(("end", Box::new(move |rig, book| steady_load::ends(rig, starts, book))));
    cells.push(("idle", Box::new(move |rig, book| steady_load::idle(rig, idle, book))));
    cells.push(("sample", Box::new(sample::run)));
    for (name, cell) in cells {
        if options.only.iter().all(|prefix| !name.starts_with(prefix.as_str())) && !options.only.is_empty() {
            continue;
        }
        eprintln!("       {name}");
        if let Err(error) = cell(rig, book) {
            book.fault(format!("{name}: {error}"));
        }
        for line in rig.said().unwrap_or_default().lines().take(20) {
            eprintln!("         {line}");
        }
    }
}
