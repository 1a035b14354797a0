//! What changes the disk: each call is one step. Unit tests end the agent before or within a step (`crash`), which a
//! kill at any moment can do.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

#[cfg(test)]
pub(crate) mod crash;
/// Nothing ends the agent here but a real kill.
#[cfg(not(test))]
mod crash {
    pub(super) fn step() {}
    pub(super) fn step_of_removal() {}
    pub(super) fn step_of_write(_: &std::fs::File, _: &[u8], _: u64) {}
}

/// For a change that is made elsewhere: a step of its own.
pub(super) fn before_change() {
    crash::step();
}

/// Creates a file that is not there yet.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    crash::step();
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes all of `bytes` at `at`.
pub(super) fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    crash::step_of_write(file, bytes, at);
    file.write_all_at(bytes, at)
}

/// Cuts a file.
pub(super) fn set_len(file: &File, len: u64) -> io::Result<()> {
    crash::step();
    file.set_len(len)
}

/// Renames a file.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    crash::step_of_removal();
    std::fs::rename(from, to)
}

/// Removes a file.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    crash::step_of_removal();
    std::fs::remove_file(path)
}

/// Removes an empty directory.
pub(super) fn remove_dir(path: &Path) -> io::Result<()> {
    crash::step();
    std::fs::remove_dir(path)
}
