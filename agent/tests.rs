//! What the unit tests of several modules share.

use proptest::test_runner::{Config, FileFailurePersistence};

/// For property tests: proptest's defaults, but failing inputs are stored below `tests/`.
pub(crate) fn property_config() -> Config {
    let persistence = FileFailurePersistence::SourceParallel("tests/proptest-regressions");
    Config { failure_persistence: Some(Box::new(persistence)), ..Config::default() }
}
