//! `tailrace run`: the command under the supervisor, or plainly.

use super::{report_problems, settings};
use crate::config::Tty;
use crate::dyno::procfile;
use crate::supervisor;
use std::ffi::OsString;
use std::io::{self, IsTerminal};

/// Runs the command `words` as the dyno's process and returns its exit status.
pub fn run(words: &[OsString]) -> u8 {
    run_entry(words, None)
}

/// Runs the line that the buildpack stored for the Procfile entry `name`.
pub fn run_type(name: &str, arguments: &[OsString]) -> u8 {
    match procfile::command(name, arguments) {
        Ok(words) => run_entry(&words, Some(name)),
        Err(error) => supervisor::cannot_start(&[OsString::from(name)], &error),
    }
}

/// Runs the command under the keeper, or plainly where there is nothing to ship to, where a keeper above
/// ships it already, or where the Procfile entry that it stands for is not to be wrapped.
fn run_entry(words: &[OsString], entry: Option<&str>) -> u8 {
    let (config, problems) = settings();
    let has_terminal = config.tty == Tty::Exec && io::stdout().is_terminal();
    let is_off = !config.enabled
        || (config.drains.is_empty() && problems.is_empty())
        || has_terminal
        || supervisor::is_below_another()
        || entry.is_some_and(|name| !config.wraps_type(name));
    if is_off || report_problems(&problems, "the command runs without tailrace") || config.drains.is_empty() {
        return supervisor::cannot_start(words, &supervisor::exec(words));
    }
    supervisor::run(&config, words)
}
