//! Errors that prevent a simulation.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a simulation cannot start or continue.
#[derive(Debug)]
pub enum SimulationError {
    /// The Procfile cannot be read.
    NoProcfile {
        /// Its path.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The Procfile at this path has no entries.
    EmptyProcfile(PathBuf),
    /// The formation has no dynos.
    EmptyFormation,
    /// The formation names a process type that the Procfile does not have.
    UnknownProcessType {
        /// The process type.
        name: String,
        /// The process types of the Procfile.
        known: String,
    },
    /// The program at this path does not exist.
    MissingProgram(PathBuf),
    /// A system call failed.
    Io {
        /// What failed, such as "cannot start the drain".
        step: &'static str,
        /// The error.
        source: io::Error,
    },
}

impl SimulationError {
    /// The exit status: `EX_USAGE` or `EX_UNAVAILABLE` of sysexits(3).
    pub fn status(&self) -> u8 {
        match self {
            Self::NoProcfile { .. }
            | Self::EmptyProcfile(_)
            | Self::EmptyFormation
            | Self::UnknownProcessType { .. } => crate::USAGE,
            Self::MissingProgram(_) | Self::Io { .. } => crate::UNAVAILABLE,
        }
    }
}

impl fmt::Display for SimulationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcfile { path, source } => {
                write!(f, "{}: {source}: expected a directory with a Procfile", path.display())
            }
            Self::EmptyProcfile(path) => {
                write!(f, "{}: no entry, such as \"web: node web.js\"", path.display())
            }
            Self::EmptyFormation => f.write_str("--formation: expected at least one dyno"),
            Self::UnknownProcessType { name, known } => {
                write!(f, "--formation: the Procfile has no entry {name:?}; it has {known}")
            }
            Self::MissingProgram(path) => {
                write!(f, "{}: not found: build it, or name it with --agent", path.display())
            }
            Self::Io { step, source } => write!(f, "{step}: {source}"),
        }
    }
}

impl std::error::Error for SimulationError {}

/// Adds the failed step to an error.
pub(crate) fn context<T>(step: &'static str, result: io::Result<T>) -> Result<T, SimulationError> {
    result.map_err(|source| SimulationError::Io { step, source })
}
