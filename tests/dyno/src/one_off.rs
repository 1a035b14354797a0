//! A one-off dyno: a command on the caller's terminal, as `heroku run` has it.

use crate::args::Args;
use crate::console::Console;
use crate::dyno::{self, Dyno};
use crate::error::{SimulationError, step};
use crate::platform::Generation;
use crate::procfile;
use crate::simulate::Setup;
use crate::simulation::DynoOptions;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use tokio::sync::watch;

/// Runs the command to its end; returns its exit status. A Ctrl-C is the command's own business. Files go to `dir`.
///
/// # Errors
/// [`SimulationError`] when it cannot begin.
pub async fn run(
    args: &Args,
    command: &[OsString],
    screen: Console,
    mut stop: watch::Receiver<u32>,
    dir: &Path,
) -> Result<u8, SimulationError> {
    let stage = Setup::prepare(args, screen, dir).await?;
    let world = &stage.world;
    let number = fastrand::u32(1000..10_000);
    let name = world.args.generation.dyno_name("run", number);
    let procfile = fs::read_to_string(world.slug.join("Procfile")).unwrap_or_default();
    let line = entry(line(command), &procfile);
    let words = dyno::words(&line, world.args.generation == Generation::Cedar, None);
    let wish = DynoOptions { dyno: &name, port: None, command: words, is_bare: false, is_attached: true };
    let mut place = step("cannot make the dyno", world.place(wish))?;
    place.spec.environment.extend(terminal());
    let mut dyno = step("cannot start the dyno", Dyno::attach(&place.spec, &place.spec_file))?;
    tokio::select! {
        status = dyno.exited() => Ok(status),
        // Dropping the dyno ends it.
        _ = stop.wait_for(|count| *count > 0) => Ok(crate::INTERRUPTED),
    }
}

/// The words as one line for the dyno's shell: a single one as it stands, of several those in quotes that have a blank
/// or a quote in them (heroku/cli 11.10, `src/lib/run/helpers.ts`, `buildCommand`).
fn line(words: &[OsString]) -> OsString {
    if let [line] = words {
        return line.clone();
    }
    let mut line = Vec::new();
    for word in words {
        line.push(b' ');
        let word = word.as_bytes();
        if word.iter().any(|byte| matches!(byte, b' ' | b'"')) {
            line.push(b'"');
            for byte in word {
                line.extend_from_slice(if *byte == b'"' { b"\\\"" } else { std::slice::from_ref(byte) });
            }
            line.push(b'"');
        } else {
            line.extend_from_slice(word);
        }
    }
    OsString::from_vec(line.trim_ascii().to_vec())
}

/// An entry of the Procfile is run by its name, with what stands behind it (Dev Center, "One-Off Dynos").
fn entry(line: OsString, procfile: &str) -> OsString {
    let bytes = line.as_bytes();
    let end = bytes.iter().position(u8::is_ascii_whitespace).unwrap_or(bytes.len());
    let command = std::str::from_utf8(&bytes[..end]).ok().and_then(|name| procfile::command(procfile, name));
    let Some(command) = command else { return line };
    let mut whole = OsString::from(command);
    whole.push(OsStr::from_bytes(&bytes[end..]));
    whole
}

/// What the CLI tells a dyno of the caller's terminal (`src/lib/run/dyno.ts`): its size only where there is one.
fn terminal() -> Vec<(OsString, OsString)> {
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

    /// Each as the CLI's own function gives it.
    #[test]
    fn words_become_a_line_as_the_cli_makes_one() {
        for (words, expected) in [
            (&["bash"][..], "bash"),
            (&["echo a  b; exit 7"], "echo a  b; exit 7"),
            (&["bash", "-c", "echo a b"], "bash -c \"echo a b\""),
            (&["echo", "say \"hi\""], "echo \"say \\\"hi\\\"\""),
            (&["echo", "a\"b", "$HOME", "it's", ""], "echo \"a\\\"b\" $HOME it's"),
            (&["echo", "a\tb"], "echo a\tb"),
        ] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(line(&words), OsStr::new(expected));
        }
    }

    #[test]
    fn an_entry_is_run_by_its_name() {
        let procfile = "web: tailrace run --type web\nrake: bundle exec rake\n";
        for (line, expected) in [
            ("web", "tailrace run --type web"),
            ("rake db:migrate \"a b\"", "bundle exec rake db:migrate \"a b\""),
            ("webs", "webs"),
            ("echo web", "echo web"),
            ("", ""),
        ] {
            assert_eq!(entry(line.into(), procfile), OsStr::new(expected), "{line}");
        }
    }
}
