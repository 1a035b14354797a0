//! The subcommands.

pub mod check;
pub mod confinement_probe;
mod discard;
pub mod run;
pub mod ship;
pub mod shipper;
pub mod status;
mod stop_signals;

use crate::config::{Config, Problem, ProblemKind};
use crate::diag;

/// What bad values mean: none of them stops delivery.
const DEFAULTS: &str = "these settings have their defaults";
/// What it means that a drain URL cannot be used beside others.
const OTHER_DRAINS: &str = "lines are shipped to the other drains";

/// The settings of this process, with absolute paths, and the problems with them.
fn settings() -> (Config, Vec<Problem>) {
    let (mut config, problems) = Config::from_env(std::env::vars_os());
    config.absolutize_paths();
    (config, problems)
}

/// Reports all problems in one line. `consequence`: what happens without a drain.
fn report_problems(config: &Config, problems: &[Problem], consequence: &str) {
    if problems.is_empty() {
        return;
    }
    let is_bad = |problem: &Problem| problem.kind == ProblemKind::BadValue;
    let event =
        if problems.iter().any(is_bad) { diag::Event::BadSettings } else { diag::Event::UnknownSettings };
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let mut line = diag::event(event).field("error", texts.join("; "));
    if let Some(detail) = consequence_of(config, problems, consequence) {
        line = line.field("detail", detail);
    }
    line.field("try", "tailrace check").emit();
}

/// What the problems mean for delivery; none where they change nothing. `consequence`: what happens without a drain.
fn consequence_of(config: &Config, problems: &[Problem], consequence: &str) -> Option<String> {
    let is_bad_url = |problem: &&Problem| problem.name == "TAILRACE_DRAIN_URL";
    let (bad_urls, others): (Vec<&Problem>, Vec<&Problem>) = problems.iter().partition(is_bad_url);
    let has_bad_value = others.iter().any(|problem| problem.kind == ProblemKind::BadValue);
    match (config.drains.is_empty(), bad_urls.is_empty()) {
        (true, true) => Some(format!("TAILRACE_DRAIN_URL is not set: {consequence}")),
        (true, false) => Some(consequence.to_owned()),
        (false, true) if has_bad_value => Some(format!("{DEFAULTS}; lines are shipped")),
        (false, true) => None,
        (false, false) if has_bad_value => Some(format!("{DEFAULTS}; {OTHER_DRAINS}")),
        (false, false) => Some(OTHER_DRAINS.to_owned()),
    }
}
