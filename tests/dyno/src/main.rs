//! The simulation's program; `bin/simulate` builds what it needs and starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tailrace_dyno::main(std::env::args_os().skip(1)))
}
