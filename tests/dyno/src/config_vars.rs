//! The app's config vars. Sources, later ones win: the app's `.env` as `heroku local` reads it, `TAILRACE_*` of the
//! caller's environment, `--config` options.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::dotenv::{self, UnclosedQuote};
use crate::environment::Environment;

/// Whether a variable configures the agent.
pub fn is_agent_setting(name: &OsStr) -> bool {
    name == "TAILRACE" || name.as_bytes().starts_with(b"TAILRACE_")
}

/// Collects the config vars from all sources. `caller` is the environment of this process, `options` the values of
/// `--config`.
///
/// # Errors
/// When `.env` exists and cannot be read. The message does not quote its content, which may be secret.
pub fn collect(
    app: &Path,
    caller: impl IntoIterator<Item = (OsString, OsString)>,
    options: &[(String, String)],
) -> io::Result<Environment> {
    let mut vars = Environment::new();
    let path = app.join(".env");
    if path.is_file() {
        let invalid = |text: &str| io::Error::other(format!("{}: {text}", path.display()));
        let bytes = fs::read(&path).map_err(|error| invalid(&error.to_string()))?;
        if bytes.contains(&0) {
            return Err(invalid("not a text file: it contains a NUL byte"));
        }
        let entries = dotenv::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|UnclosedQuote(line)| invalid(&format!("line {line}: the quote is not closed")))?;
        vars.extend(entries.into_iter().map(|(name, value)| (name.into(), value.into())));
    }
    vars.extend(caller.into_iter().filter(|(name, _)| is_agent_setting(name)));
    vars.extend(options.iter().map(|(name, value)| (name.into(), value.into())));
    Ok(vars)
}

/// Writes the variables as a build gets them: one file per variable (Dev Center, "Buildpack API").
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
    fn options_override_the_caller_which_overrides_the_file() {
        let app = TempDir::new().expect("is created");
        fs::write(app.path().join(".env"), "# a comment\nA=\"one two\"\nB=file\nTAILRACE=file\n")
            .expect("is written");
        let caller = [("TAILRACE", "caller"), ("TAILRACED", "no"), ("HOME", "no"), ("TAILRACE_TTY", "wrap")];
        let caller = caller.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let vars = collect(app.path(), caller, &[("B".to_owned(), "line".to_owned())]).expect("is read");
        let expected = [("A", "one two"), ("B", "line"), ("TAILRACE", "caller"), ("TAILRACE_TTY", "wrap")];
        let expected = expected.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        assert_eq!(vars, expected.into());
        write(&vars, &app.path().join("env")).expect("is written");
        assert_eq!(fs::read(app.path().join("env/A")).expect("exists"), b"one two");
    }

    #[test]
    fn an_invalid_file_is_named_but_its_content_is_not_quoted() {
        let app = TempDir::new().expect("is created");
        for (text, expected) in [
            ("B=c\nA='never closed\n", ".env: line 2: the quote is not closed"),
            ("A=\0", ".env: not a text file"),
        ] {
            fs::write(app.path().join(".env"), text).expect("is written");
            let error = collect(app.path(), [], &[]).expect_err("is invalid").to_string();
            assert!(error.contains(expected) && !error.contains("never"), "{error}");
        }
    }
}
