//! Local simulation of Heroku dynos: runs a Procfile's entries under tailrace as the platform would, sends them
//! requests, injects faults, stops them as the platform does, and compares the agents' ledgers with what the test
//! drain received.

pub mod args;
mod cleanup;
pub mod commands;
pub mod config_vars;
pub mod console;
pub mod dotenv;
pub mod dyno;
pub mod environment;
pub mod error;
pub mod expected_loss;
pub mod fault;
pub mod fault_injection;
pub mod init;
pub mod isolation;
pub mod ledger;
pub mod lifecycle;
pub mod logplex;
pub mod one_off;
pub mod output;
pub mod platform;
pub mod port;
pub mod process;
pub mod procfile;
pub mod report;
pub mod router;
pub mod setup;
pub mod simulate;
pub mod simulation;
pub mod traffic;
pub mod verdict;

use args::{Args, Request};
use console::{Console, OutputStream};
use error::SimulationError;
use nix::sys::stat::{Mode, umask};
use std::ffi::OsString;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Exit status for a command line that cannot be used (`EX_USAGE` of sysexits(3)).
const USAGE: u8 = 64;
/// Exit status when something that is needed is missing (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;
/// Exit status after a second Ctrl-C: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs the program with these arguments; returns its exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    // As on the platform: the user of a dyno reads what others wrote.
    umask(Mode::from_bits_truncate(0o022));
    let args: Vec<OsString> = args.into_iter().collect();
    if let [mode, argument] = &args[..]
        && let Some(mode @ ("--init" | "--init-first" | "--grow")) = mode.to_str()
    {
        return init::main(mode, argument.as_ref());
    }
    let program = std::env::current_exe().unwrap_or_default();
    match args::parse(args, program.parent().unwrap_or(&program)) {
        Ok(Request::Help) => {
            print!("{}", args::HELP);
            0
        }
        Ok(Request::Simulate(args)) => {
            let result = if let Some(dir) = &args.plan { print_build_plan(&args, dir) } else { run(&args) };
            result.unwrap_or_else(|error| {
                eprintln!(" !     {error}");
                UNAVAILABLE
            })
        }
        Err(error) => {
            eprintln!(" !     {error}; bin/simulate --help lists the options");
            USAGE
        }
    }
}

/// The directory of the sample apps.
pub(crate) fn sample_apps_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("apps")
}

/// Prints what `bin/simulate` has to build, one value per line, and writes the config vars as a build gets them.
fn print_build_plan(args: &Args, env_dir: &Path) -> io::Result<u8> {
    let current_dir = std::env::current_dir()?;
    let app = args.app.as_ref().map_or(sample_apps_dir().join("rust-web"), |app| current_dir.join(app));
    if !app.join("Procfile").is_file() {
        eprintln!(" !     {}: expected a directory with a Procfile", app.display());
        return Ok(USAGE);
    }
    let app = app.canonicalize()?;
    let vars = config_vars::collect(&app, std::env::vars_os(), &args.config)?;
    config_vars::write(&vars, env_dir)?;
    let source = if args.app.is_some() { "named" } else { "sample" };
    println!("{}\n{}\n{source}", app.display(), args.generation.as_str());
    Ok(0)
}

fn run(args: &Args) -> io::Result<u8> {
    process::become_subreaper()?;
    // Private: the directory holds config vars and the app's output.
    let private = Permissions::from_mode(0o700);
    let temporary = tempfile::Builder::new().prefix("tailrace-dyno-").permissions(private).tempdir()?;
    let build_dir = args.build_dir.as_deref();
    let _cleanup =
        cleanup::start(&[Some(temporary.path()), build_dir].into_iter().flatten().collect::<Vec<_>>());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let is_attached = args.command.is_some();
        let stop = stop_requests(is_attached)?;
        let mut second_stop = stop.clone();
        tokio::select! {
            status = simulate_and_report(args, stop, temporary.path()) => status,
            _ = second_stop.wait_for(|count| *count > 1) => Ok(INTERRUPTED),
        }
    });
    runtime.shutdown_background();
    if !process::kill_all(None) {
        eprintln!("tailrace-dyno: some processes of a dyno are still running after SIGKILL");
    }
    if let Some(build_dir) = build_dir {
        std::fs::remove_dir_all(build_dir)?;
    }
    status
}

/// Counts the signals that request a stop: the first one stops the dynos, the second one ends the simulation at once.
/// SIGINT does not count while a one-off dyno has the terminal: Ctrl-C is for the dyno then.
fn stop_requests(is_attached: bool) -> io::Result<watch::Receiver<u32>> {
    let (sender, receiver) = watch::channel(0);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        let counts = !is_attached || kind != SignalKind::interrupt();
        drop(tokio::spawn(async move {
            while signals.recv().await.is_some() {
                sender.send_modify(|count| *count += u32::from(counts));
            }
        }));
    }
    Ok(receiver)
}

/// Runs the simulation and prints its report. With `--json` and for one-off dynos, the log stream goes to standard
/// error.
async fn simulate_and_report(args: &Args, stop: watch::Receiver<u32>, dir: &Path) -> io::Result<u8> {
    let reserves_stdout = args.json || args.command.is_some();
    let stream = if reserves_stdout { OutputStream::Stderr } else { OutputStream::Stdout };
    let (console, flushed) = Console::start(stream)?;
    let report_error = |error: SimulationError| {
        eprintln!(" !     {error}");
        Ok(error.status())
    };
    if let Some(command) = &args.command {
        return one_off::run(args, command, console, stop, dir).await.map_or_else(report_error, Ok);
    }
    let outcome = match simulate::simulate(args, console.clone(), stop, dir).await {
        Ok(outcome) => outcome,
        Err(error) => {
            drop(console);
            flushed.await.ok(); // resolves with an error once the thread has ended
            return report_error(error);
        }
    };
    let verdict = outcome.observations.verdict();
    if args.json {
        let (report, reported) = Console::start(OutputStream::Stdout)?;
        report.print(outcome.json(&verdict)).await;
        drop(report);
        reported.await.ok(); // as above
    } else {
        console.print(outcome.text(&verdict)).await;
    }
    drop(console);
    flushed.await.ok(); // as above
    Ok(u8::from(!verdict.problems.is_empty()))
}
