//! `tailrace shipper`, a hidden subcommand: the shipper process. The supervisor starts it, with the control socket as
//! standard input and the memory file as standard output.

use super::{settings, ship};
use crate::confinement::{Confinement, Violation};
use crate::exit_code::ExitCode;
use crate::shipper::{self, Exit};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// `oom_score_adj` of the shipper; 1000 is the highest.
const OOM_SCORE: i32 = 900;

/// Makes the shipper the OOM killer's first choice: killing it loses no lines, killing the app would. Raising the score
/// needs no privilege (proc(5)).
fn raise_oom_score() {
    let file = "/proc/self/oom_score_adj";
    let score = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if score.is_some_and(|score| score < OOM_SCORE) {
        std::fs::write(file, OOM_SCORE.to_string()).ok(); // without it the kernel chooses by size
    }
}

/// The memory file.
fn memory() -> Option<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).ok()
}

/// Runs the shipper of the agent with this id. Returns the exit status.
pub fn run(agent: &str) -> u8 {
    let (config, _) = settings(); // the supervisor reported the problems
    std::env::set_current_dir("/").ok(); // keeps no directory busy that the app was started in
    raise_oom_score();
    let confinement = Confinement::apply(&config, Violation::of(&config));
    let control = || io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let serve = |control| shipper::serve(&config, control, memory().as_ref(), agent, Some(&confinement));
    match control().and_then(serve) {
        Ok(Exit::Finished) => 0,
        // The supervisor was killed: what it left is delivered from here.
        Ok(Exit::SupervisorGone(takeover)) => {
            ship::deliver_after_supervisor(&config, memory().as_ref(), &takeover)
                .map_or(ExitCode::System.into(), |()| 0)
        }
        Err(error) => {
            // The supervisor alerts when this lasts. It may be gone.
            control().and_then(|control| shipper::report_failure(&config, control, &error)).ok();
            ExitCode::System.into()
        }
    }
}
