//! The subcommands.

pub mod check;
pub mod confinement_probe;
mod discard;
pub mod run;
pub mod ship;
pub mod shipper;
pub mod status;
mod stop_signals;

use crate::config::{Config, Problem};
use crate::diag;

/// The settings of this process, with absolute paths, and the problems with them.
fn settings() -> (Config, Vec<Problem>) {
    let (mut config, problems) = Config::from_env(std::env::vars_os());
    config.absolutize_paths();
    (config, problems)
}

/// Reports all problems in one line. Returns whether one of them is fatal.
fn report_problems(problems: &[Problem], consequence: &str) -> bool {
    let is_fatal = problems.iter().any(|problem| problem.is_fatal);
    if !problems.is_empty() {
        let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let event = if is_fatal { diag::Event::BadSettings } else { diag::Event::UnknownSettings };
        let mut line = diag::event(event).field("error", texts.join("; "));
        if is_fatal {
            line = line.field("detail", consequence);
        }
        line.field("try", "tailrace check").emit();
    }
    is_fatal
}
