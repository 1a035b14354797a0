//! `tailrace run`: runs a command under the supervisor, or without it.

use super::{report_problems, settings};
use crate::config::Tty;
use crate::dyno::procfile;
use crate::supervisor;
use std::ffi::OsString;
use std::io::{self, IsTerminal};

/// Runs a command as the dyno's process and returns its exit status.
pub fn run(command: &[OsString]) -> u8 {
    run_entry(command, None)
}

/// Runs the command line that the buildpack stored for the Procfile entry `name`.
pub fn run_type(name: &str, arguments: &[OsString]) -> u8 {
    match procfile::command(name, arguments) {
        Ok(command) => run_entry(&command, Some(name)),
        Err(error) => supervisor::cannot_start(&[OsString::from(name)], &error),
    }
}

/// Runs a command under the supervisor. Without it where tailrace is off, no drain is set or usable, standard output is
/// a terminal, another supervisor ships the output already, or the Procfile entry is not to be wrapped.
fn run_entry(command: &[OsString], entry: Option<&str>) -> u8 {
    let (config, problems) = settings();
    let has_terminal = config.tty == Tty::Exec && io::stdout().is_terminal();
    let is_off = !config.enabled
        || (config.drains.is_empty() && problems.is_empty())
        || has_terminal
        || supervisor::is_nested()
        || entry.is_some_and(|name| !config.wraps_type(name));
    if !is_off {
        report_problems(&config, &problems, "the command runs without tailrace");
    }
    if is_off || config.drains.is_empty() {
        return supervisor::cannot_start(command, &supervisor::exec(command));
    }
    supervisor::run(&config, command)
}
