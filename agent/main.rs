//! The `tailrace` command.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use tailrace::cli::{self, Command};
use tailrace::commands::{check, ship, status};
use tailrace::config::{self, Config, Problem, Tty};
use tailrace::dyno::procfile;
use tailrace::exit_code::ExitCode;
use tailrace::shipper::{self, Ending};
use tailrace::{diag, keeper};

fn main() -> std::process::ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("tailrace: {error}\nTry `tailrace --help`.");
            return u8::from(ExitCode::Usage).into();
        }
    };
    let status = match command {
        Command::Run(words) => run(&words, None),
        Command::RunType { name, arguments } => match procfile::words(&name, &arguments) {
            Ok(words) => run(&words, Some(&name)),
            Err(error) => keeper::cannot_start(&[OsString::from(name)], &error),
        },
        Command::Ship => ship(),
        Command::Check { send } => {
            let (config, problems) = settings();
            check::run(&config, &problems, send, &mut io::stdout().lock()).into()
        }
        Command::Status { json } => status::run(json, &mut io::stdout().lock()).into(),
        Command::Help => print(cli::HELP),
        Command::HelpSettings => print(&config::text()),
        Command::Version => print(concat!("tailrace ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Shipper { agent } => serve(&agent),
    };
    status.into()
}

fn settings() -> (Config, Vec<Problem>) {
    let (mut config, problems) = Config::from_env(std::env::vars_os());
    config.settle_paths();
    (config, problems)
}

fn print(text: &str) -> u8 {
    // A reader that went away (`| head`) has seen enough.
    drop(io::stdout().write_all(text.as_bytes()));
    0
}

/// All problems in one line; whether one of them is fatal.
fn complain(problems: &[Problem], consequence: &str) -> bool {
    let is_fatal = problems.iter().any(|problem| problem.is_fatal);
    if !problems.is_empty() {
        let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let event = if is_fatal { "bad-settings" } else { "unknown-settings" };
        let mut line = diag::at(event).with("error", texts.join("; "));
        if is_fatal {
            line = line.with("detail", consequence);
        }
        line.with("try", "tailrace check").say();
    }
    is_fatal
}

/// Runs the command under the keeper, or plainly where there is nothing to ship to, where a keeper above
/// ships it already, or where the Procfile entry that it stands for is not to be wrapped.
fn run(words: &[OsString], entry: Option<&str>) -> u8 {
    let (config, problems) = settings();
    let has_terminal = config.tty == Tty::Exec && io::stdout().is_terminal();
    let is_off = !config.enabled
        || (config.drains.is_empty() && problems.is_empty())
        || has_terminal
        || keeper::is_below_another()
        || entry.is_some_and(|name| !config.wraps(name));
    if is_off || complain(&problems, "the command runs without tailrace") || config.drains.is_empty() {
        return keeper::cannot_start(words, &keeper::exec(words));
    }
    keeper::run(&config, words)
}

fn ship() -> u8 {
    let (config, problems) = settings();
    if complain(&problems, "nothing was read") {
        return ExitCode::Usage.into();
    }
    if config.drains.is_empty() {
        let line = diag::at("no-drain").with("error", "TAILRACE_DRAIN_URL is not set");
        line.with("detail", "nothing was read").say();
        return ExitCode::Usage.into();
    }
    ship::run(&config)
        .unwrap_or_else(|error| {
            diag::at("cannot-ship").with("error", error).say();
            ExitCode::System
        })
        .into()
}

/// When memory is short the shipper goes before the app: it loses nothing by that. Raising is allowed to all
/// (proc(5), `oom_score_adj`).
fn volunteer() {
    const FIRST: i32 = 900;
    let file = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if now.is_some_and(|now| now < FIRST) {
        drop(std::fs::write(file, FIRST.to_string()));
    }
}

/// The memory file, which the keeper gives us as standard output.
fn memory() -> Option<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).ok()
}

/// The hidden part: standard input is the keeper's socket, standard output the memory file.
fn serve(agent: &str) -> u8 {
    let (config, _said_by_the_keeper) = settings();
    // The directory that the app was started in is not ours to hold.
    let _or_stay = std::env::set_current_dir("/");
    volunteer();
    let control = || io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    match control().and_then(|control| shipper::serve(&config, control, memory(), agent)) {
        Ok(Ending::Finished) => 0,
        // The keeper is gone, and cannot have meant it.
        Ok(Ending::Orphaned(estate)) => {
            ship::inherit(&config, memory(), &estate).map_or(ExitCode::System.into(), |()| 0)
        }
        Err(error) => {
            // The keeper says it, when somebody has to know.
            drop(control().and_then(|control| shipper::tell(&config, control, &error)));
            ExitCode::System.into()
        }
    }
}
