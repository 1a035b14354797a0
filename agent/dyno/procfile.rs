//! The commands of Procfile entries. The buildpack stores them when it replaces an entry's command with
//! `tailrace run --type NAME`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

/// The directory with one file per entry, relative to the app's directory, where every process of a dyno starts.
const COMMANDS_DIR: &str = ".tailrace/types";

/// The argument vector that runs an entry's command through bash, as the platform does. Arguments are appended to the
/// command unchanged, where `heroku run NAME ARG…` puts them (Dev Center, "One-Off Dynos").
///
/// # Errors
/// When the entry's file cannot be read; the text names the file.
pub(crate) fn command(name: &str, arguments: &[OsString]) -> io::Result<Vec<OsString>> {
    let path = format!("{COMMANDS_DIR}/{name}");
    let mut command_line =
        std::fs::read(&path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    command_line.truncate(command_line.trim_ascii_end().len());
    if !arguments.is_empty() {
        command_line.extend_from_slice(b" \"$@\"");
    }
    Ok(bash(OsString::from_vec(command_line), arguments))
}

/// The bash to run: the one in `PATH`; `/bin/bash` where `PATH`, which the app may have changed, has none. The
/// platform starts commands with a bash that does not depend on the app's `PATH`.
fn bash_program() -> &'static str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_in_path = path.is_empty() || std::env::split_paths(&path).any(|dir| dir.join("bash").is_file());
    if is_in_path { "bash" } else { "/bin/bash" }
}

/// The argument vector that runs a command line through bash. Arguments are its `"$@"`.
pub(crate) fn bash(command_line: OsString, arguments: &[OsString]) -> Vec<OsString> {
    let mut argv = vec![OsString::from(bash_program()), OsString::from("-c"), command_line];
    if !arguments.is_empty() {
        argv.push(OsString::from("bash"));
        argv.extend_from_slice(arguments);
    }
    argv
}
