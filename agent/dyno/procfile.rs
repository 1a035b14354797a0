//! The commands of Procfile entries. The buildpack stores them when it replaces an entry's command with
//! `tailrace run --type NAME`. And the Procfile itself, for `tailrace check`.

use super::name::is_entry_name;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The directory with one file per entry, relative to the app's directory.
const COMMANDS_DIR: &str = ".tailrace/types";

/// The argument vector that runs an entry's command through bash, as the platform does. Arguments are appended to the
/// command unchanged, where `heroku run NAME ARG…` puts them (Dev Center, "One-Off Dynos").
///
/// # Errors
/// When the entry's file cannot be read; the text names the file.
pub(crate) fn command(name: &str, arguments: &[OsString]) -> io::Result<Vec<OsString>> {
    let path = format!("{COMMANDS_DIR}/{name}");
    let mut command_line = std::fs::read(&path)
        .or_else(|error| std::fs::read(beside_executable(name).ok_or(error)?))
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    command_line.truncate(command_line.trim_ascii_end().len());
    if !arguments.is_empty() {
        command_line.extend_from_slice(b" \"$@\"");
    }
    Ok(bash(OsString::from_vec(command_line), arguments))
}

/// The file of an entry beside `.tailrace/bin`, when this program is there: `.profile` may have changed to another
/// directory than the app's.
fn beside_executable(name: &str) -> Option<PathBuf> {
    let bin = std::env::current_exe().ok()?.parent()?.to_owned();
    let app = bin.ends_with(".tailrace/bin").then(|| bin.parent()?.parent()).flatten()?;
    Some(app.join(COMMANDS_DIR).join(name))
}

/// An entry of a Procfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: String,
    /// How its command starts.
    pub(crate) start: Start,
}

/// How the command of an entry starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// By `tailrace run --type`, as the buildpack writes it: `TAILRACE_TYPES` decides at boot.
    ByType,
    /// By `tailrace run` or `tailrace ship`, as a person writes it.
    ByHand,
    /// Without tailrace.
    Plain,
}

/// The entries of a Procfile. The buildpack reads it in the same way (buildpack/lib/procfile.sh).
pub(crate) fn entries(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let (name, command) = line.split_once(':')?;
        let name = name.trim_start();
        let is_name = is_entry_name(name);
        is_name.then(|| Entry { name: name.to_owned(), start: Start::of(without_comment(command.trim())) })
    };
    text.lines().filter_map(entry).collect()
}

/// A command without the comment at its end. A `#` before a quote may be part of a word.
fn without_comment(command: &str) -> &str {
    let is_comment =
        |at: &usize| command[..*at].ends_with(char::is_whitespace) && !command[*at..].contains(['"', '\'']);
    let comment = command.match_indices('#').map(|(at, _)| at).find(is_comment);
    command[..comment.unwrap_or(command.len())].trim_end()
}

impl Start {
    fn of(command: &str) -> Self {
        let starts = command.match_indices("tailrace").filter_map(|(at, program)| {
            let is_word = command[..at]
                .chars()
                .next_back()
                .is_none_or(|before| before.is_whitespace() || ";&|(/\"'`".contains(before));
            let rest = command[at + program.len()..].trim_start_matches(['"', '\'']);
            let subcommand = rest.trim_start();
            if !is_word || subcommand.len() == rest.len() {
                return None;
            }
            let ends = |c: char| c.is_whitespace() || ";&|)\"'`".contains(c);
            match subcommand.split(ends).next()? {
                "run" if subcommand.split_whitespace().nth(1) == Some("--type") => Some(Self::ByType),
                "run" | "ship" => Some(Self::ByHand),
                _ => None,
            }
        });
        starts.last().unwrap_or(Self::Plain)
    }
}

/// Whether the buildpack stored a command for this entry, so that it was wrapped.
pub(crate) fn is_stored(name: &str) -> bool {
    Path::new(COMMANDS_DIR).join(name).exists()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_the_start_that_the_buildpack_sees() {
        for (command, start) in [
            ("puma", Start::Plain),
            ("", Start::Plain),
            (".tailrace/bin/tailrace run --type web", Start::ByType),
            ("/app/.tailrace/bin/tailrace run --type web", Start::ByType),
            ("tailrace run -- puma", Start::ByHand),
            ("\"tailrace\" run puma", Start::ByHand),
            ("cd a && bin/tailrace  run", Start::ByHand),
            ("app | tailrace ship", Start::ByHand),
            ("bash -c 'tailrace run -- x'", Start::ByHand),
            ("puma # tailrace run", Start::Plain),
            ("tailrace run -- puma # it's here", Start::ByHand),
            ("tailrace check", Start::Plain),
            ("my-tailrace run", Start::Plain),
            ("tailrace running", Start::Plain),
            ("tailracerun", Start::Plain),
        ] {
            let expected = Entry { name: "web".to_owned(), start };
            assert_eq!(entries(&format!("web: {command}\n")), [expected], "{command}");
        }
        let names: Vec<_> = entries("# x: y\n\n  web:a\r\nmy_worker-2: b\nno entry\na b: c\n")
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names, ["web", "my_worker-2"]);
    }
}
