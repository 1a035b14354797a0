//! What the platform does when its patience ends. One test: the family of processes is that of this very process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tailrace_dyno::args::Args;
use tailrace_dyno::report::Outcome;
use tailrace_dyno::screen::{Screen, Target};
use tailrace_dyno::simulate::{Limits, simulate};
use tailrace_dyno::verdict::Ending;
use tempfile::TempDir;
use tokio::sync::watch;

/// Runs this web entry for a moment, under a platform with little patience.
async fn simulated(entry: &str) -> Outcome {
    let app = TempDir::new().expect("is made");
    fs::write(app.path().join("Procfile"), format!("web: {entry}\n")).expect("is written");
    let dyno = Path::new(env!("CARGO_BIN_EXE_tailrace-dyno"));
    let beside = || dyno.with_file_name("tailrace");
    let args = Args {
        app: app.path().to_owned(),
        slug: false,
        run_for: Some(Duration::from_millis(300)),
        json: false,
        path: vec![dyno.parent().expect("is in a directory").to_owned()],
        agent: std::env::var_os("TAILRACE_TEST_BINARY").map_or_else(beside, PathBuf::from),
    };
    let limits = Limits { boot: Duration::from_secs(4), exit: Duration::from_secs(2) };
    let (screen, _written) = Screen::start(Target::Err).expect("starts");
    let (_stop, stopped) = watch::channel(0);
    simulate(&args, limits, screen, stopped).await.expect("begins")
}

#[tokio::test]
async fn patience_ends() {
    let outcome = simulated("sleep 300").await;
    assert_eq!(outcome.evidence.ending, Ending::BootTimeout);
    let outcome = simulated("trap '' TERM; rust-web & sleep 300 & wait; sleep 300").await;
    assert_eq!(outcome.evidence.ending, Ending::ExitTimeout);
    let problems = outcome.evidence.problems();
    assert!(problems.iter().any(|problem| problem.contains("within 30 s of SIGTERM")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.starts_with("no ledger")), "{problems:?}");
    // The main process ends in time, but not all processes do.
    let outcome = simulated("(trap '' TERM; exec sleep 300) & exec rust-web").await;
    assert_eq!(outcome.evidence.ending, Ending::ExitTimeout);
    assert!(outcome.evidence.ledger.is_ok(), "the agent came to its end");
}
