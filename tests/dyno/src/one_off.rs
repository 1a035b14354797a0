//! One-off dynos: a command on the caller's terminal, as with `heroku run`.

use crate::args::Args;
use crate::console::Console;
use crate::dyno::{self, Dyno, ShellProfile};
use crate::error::{SimulationError, context};
use crate::platform::Generation;
use crate::procfile;
use crate::setup::Setup;
use crate::simulation::{DynoOptions, TerminalMode};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use tokio::sync::watch;

/// Runs the command to its end; returns its exit status. Ctrl-C reaches the command only. Files go to `dir`.
///
/// # Errors
/// [`SimulationError`] when the dyno cannot be started.
pub async fn run(
    args: &Args,
    command: &[OsString],
    console: Console,
    mut stop: watch::Receiver<u32>,
    dir: &Path,
) -> Result<u8, SimulationError> {
    let setup = Setup::prepare(args, console, dir).await?;
    let simulation = &setup.simulation;
    let number = fastrand::u32(1000..10_000);
    let name = simulation.args.generation.dyno_name("run", number);
    let procfile = fs::read_to_string(simulation.slug.join("Procfile")).unwrap_or_default();
    let line = resolve_entry(command_line(command), &procfile);
    let shell_profile = match simulation.args.generation {
        Generation::Cedar => ShellProfile::Sourced { marker: None },
        Generation::Fir => ShellProfile::Skipped,
    };
    let options = DynoOptions {
        dyno: &name,
        port: None,
        command: dyno::shell_command(&line, shell_profile),
        without_agent: false,
        terminal: TerminalMode::Attached,
    };
    let mut prepared = context("cannot make the dyno", simulation.prepare_dyno(options))?;
    prepared.spec.environment.extend(terminal_vars());
    let dyno = Dyno::attach(&prepared.spec, &prepared.spec_file);
    let mut dyno = context("cannot start the dyno", dyno)?;
    tokio::select! {
        status = dyno.wait() => Ok(status),
        // Returning drops the dyno, which kills it.
        _ = stop.wait_for(|count| *count > 0) => Ok(crate::INTERRUPTED),
    }
}

/// Joins arguments to a line for the dyno's shell. A single argument is used as it is; of several, those that contain a
/// space or a double quote are quoted (heroku/cli 11.10, `src/lib/run/helpers.ts`, `buildCommand`).
fn command_line(arguments: &[OsString]) -> OsString {
    if let [line] = arguments {
        return line.clone();
    }
    let mut line = Vec::new();
    for argument in arguments {
        line.push(b' ');
        let argument = argument.as_bytes();
        if argument.iter().any(|byte| matches!(byte, b' ' | b'"')) {
            line.push(b'"');
            for byte in argument {
                line.extend_from_slice(if *byte == b'"' { b"\\\"" } else { std::slice::from_ref(byte) });
            }
            line.push(b'"');
        } else {
            line.extend_from_slice(argument);
        }
    }
    OsString::from_vec(line.trim_ascii().to_vec())
}

/// Replaces a first word that names an entry of the Procfile by its command (Dev Center, "One-Off Dynos").
fn resolve_entry(line: OsString, procfile: &str) -> OsString {
    let bytes = line.as_bytes();
    let end = bytes.iter().position(u8::is_ascii_whitespace).unwrap_or(bytes.len());
    let command = std::str::from_utf8(&bytes[..end]).ok().and_then(|name| procfile::command(procfile, name));
    let Some(command) = command else { return line };
    let mut resolved = OsString::from(command);
    resolved.push(OsStr::from_bytes(&bytes[end..]));
    resolved
}

/// The variables that the CLI sets for the caller's terminal (`src/lib/run/dyno.ts`); the size only when standard output
/// is a terminal.
fn terminal_vars() -> Vec<(OsString, OsString)> {
    let mut vars = Vec::new();
    if let Some(term) = std::env::var_os("TERM") {
        vars.push(("TERM".into(), term));
    }
    if io::stdout().is_terminal()
        && let Ok(size) = rustix::termios::tcgetwinsize(io::stdout())
    {
        for (name, count) in [("COLUMNS", size.ws_col), ("LINES", size.ws_row)] {
            vars.push((name.into(), count.to_string().into()));
        }
    }
    vars
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected lines are what the function of the CLI returned.
    #[test]
    fn arguments_are_joined_as_the_cli_joins_them() {
        for (arguments, expected) in [
            (&["bash"][..], "bash"),
            (&["echo a  b; exit 7"], "echo a  b; exit 7"),
            (&["bash", "-c", "echo a b"], "bash -c \"echo a b\""),
            (&["echo", "say \"hi\""], "echo \"say \\\"hi\\\"\""),
            (&["echo", "a\"b", "$HOME", "it's", ""], "echo \"a\\\"b\" $HOME it's"),
            (&["echo", "a\tb"], "echo a\tb"),
        ] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            assert_eq!(command_line(&arguments), OsStr::new(expected));
        }
    }

    #[test]
    fn the_name_of_an_entry_is_replaced_by_its_command() {
        let procfile = "web: tailrace run --type web\nrake: bundle exec rake\n";
        for (line, expected) in [
            ("web", "tailrace run --type web"),
            ("rake db:migrate \"a b\"", "bundle exec rake db:migrate \"a b\""),
            ("webs", "webs"),
            ("echo web", "echo web"),
            ("", ""),
        ] {
            assert_eq!(resolve_entry(line.into(), procfile), OsStr::new(expected), "{line}");
        }
    }
}
