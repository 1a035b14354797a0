//! The command-line program of the test drain.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tailrace_drain::fault::{FaultPlan, GRAMMAR};
use tailrace_drain::receiver::Receiver;
use tailrace_drain::stats::Line;
use tailrace_drain::{Drain, Options, Sink};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
tailrace-drain is a log drain for tests: HTTPS with its own certificate authority.

  tailrace-drain [--listen 127.0.0.1:0] [--control 127.0.0.1:0] [--dir DIR]
                 [--receiver NAME]… [--fault SPEC]… [--print] [--out FILE]

  --listen ADDRESS     address of the drain (127.0.0.1:0: any free port)
  --control ADDRESS    address of the page, and for scripts of GET /report, GET /model.json,
                       GET /lines?from=N&limit=M, POST /faults and POST /reset
  --dir DIR            write ca.pem here and, when the drain is ready, ready.json (url, control, ca, pid)
  --receiver NAME      check requests as this receiver does: all (default), sumo, vector, alloy,
                       logplex-strict
  --print              print lines as `heroku logs --tail` does
  --out FILE           append the messages of the app's lines, each once
  --fault SPEC         inject a fault

";

struct Args {
    options: Options,
    print: bool,
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}{GRAMMAR}");
        return ExitCode::SUCCESS;
    }
    match parse_args(&args).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tailrace-drain: {error}\nTry `tailrace-drain --help`.");
            ExitCode::from(64)
        }
    }
}

fn parse_args(args: &[String]) -> Result<Args, Box<dyn Error>> {
    let mut options = Options { control: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..Options::default() };
    let (mut print, mut out, mut faults, mut receivers) = (false, None, Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--print" {
            print = true;
            continue;
        }
        let known = ["--listen", "--control", "--dir", "--receiver", "--fault", "--out"];
        if !known.contains(&arg.as_str()) {
            return Err(format!("unknown option {arg:?}").into());
        }
        let value = args.next().ok_or_else(|| format!("{arg}: expected a value"))?;
        let address = || value.parse().map_err(|_| format!("{arg}: found {value:?}, expected ADDRESS:PORT"));
        match arg.as_str() {
            "--listen" => options.listen = address()?,
            "--control" => options.control = Some(address()?),
            "--dir" => options.dir = Some(PathBuf::from(value)),
            "--receiver" if value == "all" => {}
            "--receiver" => receivers.push(Receiver::by_name(value).ok_or_else(|| {
                format!("--receiver: found {value:?}, expected all, sumo, vector, alloy or logplex-strict")
            })?),
            "--fault" => faults.push(value.clone()),
            _ => out = Some(PathBuf::from(value)),
        }
    }
    options.faults = FaultPlan::parse(&faults.join("\n")).map_err(|error| format!("--fault: {error}"))?;
    if !receivers.is_empty() {
        options.receivers = receivers;
    }
    Ok(Args { options, print, out })
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let Args { mut options, print, out } = args;
    let dir = options.dir.clone();
    if let Some(dir) = &dir {
        std::fs::create_dir_all(dir).map_err(|error| format!("--dir {}: {error}", dir.display()))?;
    }
    let file = out.map(|path| {
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        opened.map_err(|error| format!("--out {}: {error}", path.display()))
    });
    options.sink = sink(print, file.transpose()?);
    let drain = Drain::start(options)?;
    let control = drain.control().unwrap_or_default();
    println!(
        "drain    {}\npage     {control}/\ncontrol  {control}\nCA       {}",
        drain.url(),
        drain.ca_file().display()
    );
    io::stdout().flush()?;
    if let Some(dir) = dir {
        write_ready_file(&dir, &drain, &control)?;
    }
    wait_for_signal()?;
    let report = drain.report();
    println!(
        "{} requests, {} lines, {} duplicates, {} changed bodies, {} malformed",
        report.requests, report.lines, report.duplicates, report.changed_bodies, report.malformed
    );
    for (name, complaints) in &report.conformance {
        println!("{name}: {} errors {}", complaints.errors, complaints.last.as_deref().unwrap_or(""));
    }
    Ok(())
}

/// Writes `ready.json`, complete or not at all.
fn write_ready_file(dir: &Path, drain: &Drain, control: &str) -> io::Result<()> {
    let ready = serde_json::json!({
        "url": drain.url(),
        "control": control,
        "ca": drain.ca_file(),
        "pid": std::process::id(),
    });
    let partial = dir.join("ready.json.partial");
    std::fs::write(&partial, format!("{ready:#}\n"))?;
    std::fs::rename(partial, dir.join("ready.json"))
}

/// Waits for SIGTERM or SIGINT.
fn wait_for_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        Ok(())
    })
}

/// Prints or stores lines. Write errors are ignored: the drain goes on when its terminal is closed.
fn sink(print: bool, file: Option<File>) -> Sink {
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut file = file.map(BufWriter::new);
    Box::new(move |lines| {
        if print {
            let mut text = Vec::new();
            for Line { time, app, proc_id, message, .. } in lines {
                let (on, off) = if colour { ("\x1b[36m", "\x1b[0m") } else { ("", "") };
                writeln!(text, "{on}{time} {app}[{proc_id}]:{off} {message}").ok(); // a Vec takes everything
            }
            io::stdout().write_all(&text).ok(); // the terminal may be closed
        }
        if let Some(file) = &mut file {
            for line in lines.iter().filter(|line| line.is_app) {
                let written = file.write_all(line.message.as_bytes()).and_then(|()| file.write_all(b"\n"));
                written.ok(); // the disk may be full
            }
            file.flush().ok(); // the disk may be full
        }
    })
}
