//! The app's config vars: `.env` of the app, as `heroku local` reads it, then `TAILRACE_*` of the caller, then those
//! of the command line.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::dotenv::{self, UnclosedQuote};
use crate::environment::Environment;

/// Whether a variable of the caller is for the agent.
pub fn is_ours(name: &OsStr) -> bool {
    name == "TAILRACE" || name.as_bytes().starts_with(b"TAILRACE_")
}

/// All of them. `caller` is the environment of this process.
///
/// # Errors
/// When `.env` is there and cannot be read. Nothing that stands in it is told.
pub fn gather(
    app: &Path,
    caller: impl IntoIterator<Item = (OsString, OsString)>,
    named: &[(String, String)],
) -> io::Result<Environment> {
    let mut vars = Environment::new();
    let path = app.join(".env");
    if path.is_file() {
        let wrong = |text: &str| io::Error::other(format!("{}: {text}", path.display()));
        let bytes = fs::read(&path).map_err(|error| wrong(&error.to_string()))?;
        if bytes.contains(&0) {
            return Err(wrong("no text: it has a NUL byte"));
        }
        let entries = dotenv::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|UnclosedQuote(line)| wrong(&format!("line {line}: the quote is not closed")))?;
        vars.extend(entries.into_iter().map(|(name, value)| (name.into(), value.into())));
    }
    vars.extend(caller.into_iter().filter(|(name, _)| is_ours(name)));
    vars.extend(named.iter().map(|(name, value)| (name.into(), value.into())));
    Ok(vars)
}

/// Writes them as a build gets them: a file each (Dev Center, "Buildpack API").
///
/// # Errors
/// When a file cannot be written.
pub fn write(vars: &Environment, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, value) in vars.iter().filter(|(name, _)| !name.as_bytes().contains(&b'/')) {
        fs::write(dir.join(name), value.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn the_command_line_has_the_last_word() {
        let app = TempDir::new().expect("is made");
        fs::write(app.path().join(".env"), "# a comment\nA=\"one two\"\nB=file\nTAILRACE=file\n")
            .expect("is written");
        let caller = [("TAILRACE", "caller"), ("TAILRACED", "no"), ("HOME", "no"), ("TAILRACE_TTY", "wrap")];
        let caller = caller.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let vars = gather(app.path(), caller, &[("B".to_owned(), "line".to_owned())]).expect("is read");
        let expected = [("A", "one two"), ("B", "line"), ("TAILRACE", "caller"), ("TAILRACE_TTY", "wrap")];
        let expected = expected.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        assert_eq!(vars, expected.into());
        write(&vars, &app.path().join("env")).expect("is written");
        assert_eq!(fs::read(app.path().join("env/A")).expect("is there"), b"one two");
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let app = TempDir::new().expect("is made");
        for (text, expected) in
            [("B=c\nA='never closed\n", ".env: line 2: the quote is not closed"), ("A=\0", ".env: no text")]
        {
            fs::write(app.path().join(".env"), text).expect("is written");
            let error = gather(app.path(), [], &[]).expect_err("is broken").to_string();
            assert!(error.contains(expected) && !error.contains("never"), "{error}");
        }
    }
}
