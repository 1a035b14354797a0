//! Why there is no simulation.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no simulation.
#[derive(Debug)]
pub enum SimulationError {
    /// There is no Procfile.
    NoProcfile(PathBuf, io::Error),
    /// The Procfile has no entry that could run.
    NoEntry(PathBuf),
    /// The formation has no dyno.
    NoDyno,
    /// The formation names a type that the Procfile has not.
    NoType(String, String),
    /// A program that is needed is missing.
    NoProgram(PathBuf),
    /// The system refuses something.
    System(&'static str, io::Error),
}

impl SimulationError {
    /// The exit status for it: `EX_USAGE`, `EX_UNAVAILABLE` of sysexits(3).
    pub fn status(&self) -> u8 {
        match self {
            Self::NoProcfile(..) | Self::NoEntry(_) | Self::NoDyno | Self::NoType(..) => 64,
            Self::NoProgram(_) | Self::System(..) => 69,
        }
    }
}

impl fmt::Display for SimulationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcfile(path, error) => {
                write!(f, "{}: {error}: expected a directory with a Procfile", path.display())
            }
            Self::NoEntry(path) => write!(f, "{}: no entry, such as \"web: node web.js\"", path.display()),
            Self::NoDyno => f.write_str("--formation: expected one dyno at least"),
            Self::NoType(name, known) => {
                write!(f, "--formation: the Procfile has no entry {name:?}; it has {known}")
            }
            Self::NoProgram(path) => {
                write!(f, "{}: not there: build it, or name it with --agent", path.display())
            }
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for SimulationError {}

pub(crate) fn step<T>(what: &'static str, result: io::Result<T>) -> Result<T, SimulationError> {
    result.map_err(|error| SimulationError::System(what, error))
}
