//! Dynos at the desk: runs a Procfile's entries under tailrace as the platform would, asks them things so that they
//! log, lets things go wrong, stops them as dynos are stopped, and compares the agents' ledgers with what the test
//! drain saw.

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
pub mod simulate;
pub mod simulation;
pub mod traffic;
pub mod verdict;

use args::{Args, Request};
use console::{Console, Target};
use error::SimulationError;
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
    let args: Vec<OsString> = args.into_iter().collect();
    if let [part, argument] = &args[..]
        && let Some(part @ ("--init" | "--init-first" | "--grow")) = part.to_str()
    {
        return init::main(part, argument.as_ref());
    }
    let beside = std::env::current_exe().unwrap_or_default();
    match args::parse(args, beside.parent().unwrap_or(&beside)) {
        Ok(Request::Help) => {
            print!("{}", args::HELP);
            0
        }
        Ok(Request::Simulate(args)) => {
            let done = if let Some(dir) = &args.plan { plan(&args, dir) } else { run(&args) };
            done.unwrap_or_else(|error| {
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

/// Where the sample apps are.
pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("apps")
}

/// Says what is to be built, a line each, and writes the config vars as a build gets them.
fn plan(args: &Args, dir: &Path) -> io::Result<u8> {
    let here = std::env::current_dir()?;
    let app = args.app.as_ref().map_or(samples().join("rust-web"), |app| here.join(app));
    if !app.join("Procfile").is_file() {
        eprintln!(" !     {}: expected a directory with a Procfile", app.display());
        return Ok(USAGE);
    }
    let app = app.canonicalize()?;
    let vars = config_vars::gather(&app, std::env::vars_os(), &args.config)?;
    config_vars::write(&vars, dir)?;
    let named = if args.app.is_some() { "named" } else { "sample" };
    println!("{}\n{}\n{named}", app.display(), args.generation.as_str());
    Ok(0)
}

fn run(args: &Args) -> io::Result<u8> {
    process::adopt()?;
    // Nobody else's business: config vars and what the app writes are in it.
    let only_ours = Permissions::from_mode(0o700);
    let temporary = tempfile::Builder::new().prefix("tailrace-dyno-").permissions(only_ours).tempdir()?;
    let site = args.site.as_deref();
    let _janitor = cleanup::start(&[Some(temporary.path()), site].into_iter().flatten().collect::<Vec<_>>());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let stop = interrupts(args.command.is_some())?;
        let mut enough = stop.clone();
        tokio::select! {
            status = perform(args, stop, temporary.path()) => status,
            _ = enough.wait_for(|count| *count > 1) => Ok(INTERRUPTED),
        }
    });
    runtime.shutdown_background();
    if !process::kill_all(None) {
        eprintln!("tailrace-dyno: processes of a dyno are left that SIGKILL does not end");
    }
    if let Some(site) = site {
        std::fs::remove_dir_all(site)?;
    }
    status
}

/// Counts what asks us to stop: the first time the dynos stop, the second time we do. On an attached dyno's terminal
/// Ctrl-C asks the dyno.
fn interrupts(is_attached: bool) -> io::Result<watch::Receiver<u32>> {
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

/// The simulation, and its report.
async fn perform(args: &Args, stop: watch::Receiver<u32>, dir: &Path) -> io::Result<u8> {
    let is_apart = args.json || args.command.is_some();
    let (screen, written) = Console::start(if is_apart { Target::Err } else { Target::Out })?;
    let told = |trouble: SimulationError| {
        eprintln!(" !     {trouble}");
        Ok(trouble.status())
    };
    if let Some(command) = &args.command {
        return one_off::run(args, command, screen, stop, dir).await.map_or_else(told, Ok);
    }
    let outcome = match simulate::simulate(args, screen.clone(), stop, dir).await {
        Ok(outcome) => outcome,
        Err(trouble) => {
            drop(screen);
            let _all_is_written = written.await;
            return told(trouble);
        }
    };
    let verdict = outcome.evidence.verdict();
    if args.json {
        let (report, reported) = Console::start(Target::Out)?;
        report.text(outcome.json(&verdict)).await;
        drop(report);
        let _all_is_written = reported.await;
    } else {
        screen.text(outcome.text(&verdict)).await;
    }
    drop(screen);
    let _all_is_written = written.await;
    Ok(u8::from(!verdict.problems.is_empty()))
}
