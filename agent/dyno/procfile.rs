//! A Procfile entry's own line, as the buildpack stored it when it put `tailrace run --type NAME` in its place.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

/// Where the lines are, a file for each entry: below the app's directory, where every process of a dyno starts.
const DIR: &str = ".tailrace/types";

/// The words that run an entry's line through bash, as the platform does. Arguments stand behind the line, where
/// `heroku run NAME ARG…` puts them (Dev Center, "One-Off Dynos"), as they are.
///
/// # Errors
/// When there is no such line; the text names its file.
pub fn words(name: &str, arguments: &[OsString]) -> io::Result<Vec<OsString>> {
    let path = format!("{DIR}/{name}");
    let mut line =
        std::fs::read(&path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    line.truncate(line.trim_ascii_end().len());
    if !arguments.is_empty() {
        line.extend_from_slice(b" \"$@\"");
    }
    Ok(bash(OsString::from_vec(line), arguments))
}

/// bash, also where what an app makes of `PATH` does not lead to it: the platform's own would have run the line.
fn shell() -> &'static str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = path.is_empty() || std::env::split_paths(&path).any(|dir| dir.join("bash").is_file());
    if is_there { "bash" } else { "/bin/bash" }
}

/// The words that run a line through bash. Arguments are its `"$@"`.
pub(crate) fn bash(line: OsString, arguments: &[OsString]) -> Vec<OsString> {
    let mut words = vec![OsString::from(shell()), OsString::from("-c"), line];
    if !arguments.is_empty() {
        words.push(OsString::from("bash"));
        words.extend_from_slice(arguments);
    }
    words
}
