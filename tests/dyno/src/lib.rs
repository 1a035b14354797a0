//! A dyno at the desk: runs a Procfile's `web` entry under tailrace as `web.1`, asks it things so that it logs,
//! stops it as a dyno is stopped, and compares the agent's ledger with what the test drain saw.

pub mod account;
pub mod args;
pub mod procfile;
pub mod verdict;

use std::ffi::OsString;

/// Runs the program with these arguments; returns its exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let beside = std::env::current_exe().unwrap_or_default();
    match args::parse(args, beside.parent().unwrap_or(&beside)) {
        Ok(args::Request::Help) => print!("{}", args::HELP),
        Ok(args::Request::Simulate(_)) => {}
        Err(error) => {
            eprintln!("tailrace-dyno: {error}");
            return 64;
        }
    }
    0
}
