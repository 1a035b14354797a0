//! A dyno at the desk. `bin/simulate` builds what this needs and starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tailrace_dyno::main(std::env::args_os().skip(1)))
}
