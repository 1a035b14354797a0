//! Exit statuses of the `tailrace` command. `tailrace run` exits with the app's status.

/// Why the command ends, as an exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Everything succeeded.
    Success = 0,
    /// The command line or a setting is invalid (`EX_USAGE`, sysexits(3)).
    Usage = 64,
    /// A drain refused, or no agent answered (`EX_UNAVAILABLE`, sysexits(3)).
    Unavailable = 69,
    /// The operating system refused a resource that is needed (`EX_OSERR`, sysexits(3)).
    System = 71,
    /// The input cannot be read (`EX_IOERR`, sysexits(3)).
    InputOutput = 74,
    /// Lines were lost (`EX_TEMPFAIL`, sysexits(3)).
    LinesLost = 75,
    /// The command was found and cannot be executed (POSIX, XCU 2.8.2).
    NotExecutable = 126,
    /// The command was not found (POSIX, XCU 2.8.2).
    NotFound = 127,
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code as Self
    }
}

impl ExitCode {
    /// The status that a shell reports for a command that could not be started with this error.
    pub fn of_exec_error(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound { Self::NotFound } else { Self::NotExecutable }
    }
}
