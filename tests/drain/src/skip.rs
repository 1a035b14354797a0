//! Tests that lack something.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Reports why a test is left out: on standard error, and in the file that `TAILRACE_TEST_SKIPS` names, from which
/// `tests/run` prints the reasons at its end.
///
/// # Panics
/// With `CI` set: there, no test may be left out. Also when the file cannot be written.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "must not be left out in CI: {reason}");
    eprintln!("skipped: {reason}");
    if let Some(path) = std::env::var_os("TAILRACE_TEST_SKIPS") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("is writable");
        file.write_all(format!("{reason}\n").as_bytes()).expect("is writable");
    }
}
