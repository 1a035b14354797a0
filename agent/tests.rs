//! What the unit tests of several modules share.

pub(crate) mod fuzz;

use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm};

/// Cases of a property test, unless `TAILRACE_TEST_CASES` says how many. (`PROPTEST_CASES` would undo the factors.)
pub(crate) const DEFAULT_CASES: u32 = 256;

/// For property tests: proptest's defaults, but failing inputs are stored below `tests/`.
pub(crate) fn property_config() -> Config {
    property_config_with(1.0)
}

/// The same with `factor` times as many cases, for models that find little in few, or whose cases are costly.
pub(crate) fn property_config_with(factor: f64) -> Config {
    let asked = std::env::var("TAILRACE_TEST_CASES");
    let cases = asked.map_or(DEFAULT_CASES, |cases| cases.parse().expect("TAILRACE_TEST_CASES is a number"));
    let persistence = FileFailurePersistence::SourceParallel("tests/proptest-regressions");
    Config {
        cases: (f64::from(cases) * factor).ceil() as u32,
        failure_persistence: Some(Box::new(persistence)),
        // In a debug build the default, ChaCha, takes two thirds of the time of a test.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    }
}
