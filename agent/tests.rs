//! What the unit tests of several modules share.

pub(crate) mod fuzz;

use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm};

/// For property tests: proptest's defaults (256 cases, or `PROPTEST_CASES`), but failing inputs are stored below `tests/`.
pub(crate) fn property_config() -> Config {
    let persistence = FileFailurePersistence::SourceParallel("tests/proptest-regressions");
    Config {
        failure_persistence: Some(Box::new(persistence)),
        // In a debug build the default, ChaCha, takes two thirds of the time of a test.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    }
}

/// The same with `factor` times as many cases, for models that find little in few, or whose cases are costly.
pub(crate) fn property_config_with(factor: f64) -> Config {
    let config = property_config();
    Config { cases: (f64::from(config.cases) * factor) as u32, ..config }
}
