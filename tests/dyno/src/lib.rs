//! A dyno at the desk: runs a Procfile's `web` entry under tailrace as `web.1`, asks it things so that it logs,
//! stops it as a dyno is stopped, and compares the agent's ledger with what the test drain saw.

pub mod account;
pub mod args;
pub mod dyno;
pub mod environment;
pub mod output;
pub mod port;
pub mod process;
pub mod procfile;
pub mod report;
pub mod router;
pub mod screen;
pub mod simulate;
pub mod verdict;

use args::{Args, Request};
use screen::{Screen, Target};
use simulate::Limits;
use std::ffi::OsString;
use std::io;
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
    let beside = std::env::current_exe().unwrap_or_default();
    match args::parse(args, beside.parent().unwrap_or(&beside)) {
        Ok(Request::Help) => {
            print!("{}", args::HELP);
            0
        }
        Ok(Request::Simulate(args)) => run(&args).unwrap_or_else(|error| {
            eprintln!("tailrace-dyno: {error}");
            UNAVAILABLE
        }),
        Err(error) => {
            eprintln!("tailrace-dyno: {error}\nTry `tailrace-dyno --help`.");
            USAGE
        }
    }
}

fn run(args: &Args) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let stop = interrupts()?;
        let mut enough = stop.clone();
        tokio::select! {
            status = perform(args, stop) => status,
            // Dropping the simulation ends all of it.
            _ = enough.wait_for(|count| *count > 1) => Ok(INTERRUPTED),
        }
    });
    runtime.shutdown_background();
    status
}

/// Counts what asks us to stop: the first time the dyno stops, the second time we do.
fn interrupts() -> io::Result<watch::Receiver<u32>> {
    let (sender, receiver) = watch::channel(0);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        drop(tokio::spawn(async move {
            while signals.recv().await.is_some() {
                sender.send_modify(|count| *count += 1);
            }
        }));
    }
    Ok(receiver)
}

/// The simulation, and its report.
async fn perform(args: &Args, stop: watch::Receiver<u32>) -> io::Result<u8> {
    let (screen, written) = Screen::start(if args.json { Target::Err } else { Target::Out })?;
    let outcome = match simulate::simulate(args, Limits::default(), screen.clone(), stop).await {
        Ok(outcome) => outcome,
        Err(trouble) => {
            drop(screen);
            let _all_is_written = written.await;
            eprintln!("tailrace-dyno: {trouble}");
            return Ok(trouble.status());
        }
    };
    let problems = outcome.evidence.problems();
    if args.json {
        let (report, reported) = Screen::start(Target::Out)?;
        report.text(outcome.json(&problems)).await;
        drop(report);
        let _all_is_written = reported.await;
    } else {
        screen.text(outcome.text(&problems)).await;
    }
    drop(screen);
    let _all_is_written = written.await;
    Ok(u8::from(!problems.is_empty()))
}
