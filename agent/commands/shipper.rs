//! The hidden subcommand that the supervisor starts: standard input is its socket, standard output the memory file.

use super::{settings, ship};
use crate::exit_code::ExitCode;
use crate::shipper::{self, Exit};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

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
pub fn run(agent: &str) -> u8 {
    let (config, _said_by_the_keeper) = settings();
    // The directory that the app was started in is not ours to hold.
    let _or_stay = std::env::set_current_dir("/");
    volunteer();
    let control = || io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    match control().and_then(|control| shipper::serve(&config, control, memory().as_ref(), agent)) {
        Ok(Exit::Finished) => 0,
        // The keeper is gone, and cannot have meant it.
        Ok(Exit::SupervisorGone(takeover)) => ship::deliver_after_supervisor(&config, memory(), &takeover)
            .map_or(ExitCode::System.into(), |()| 0),
        Err(error) => {
            // The keeper says it, when somebody has to know.
            drop(control().and_then(|control| shipper::report_failure(&config, control, &error)));
            ExitCode::System.into()
        }
    }
}
