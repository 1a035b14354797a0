//! A dyno as seen from the simulation: the handle of its outer init process, which takes commands on standard input.
//! Dropping the handle kills all processes of the dyno.

use crate::init::{InitCommand, Spec};
use crate::process;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// What the shell of a Cedar dyno runs before the command (Dev Center, "Dyno Startup Behavior").
const PROFILE_SCRIPT: &str = "\
for file in \"$HOME\"/.profile.d/*.sh \"$HOME\"/.profile; do
\t[[ ! -r $file ]] || source \"$file\"
done
unset file";

/// How the shell of a dyno starts a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShellProfile<'a> {
    /// Without the app's profile, as heroku/procfile does on Fir.
    Skipped,
    /// With `.profile.d/*.sh` and `.profile`, as on Cedar.
    Sourced {
        /// Printed to both streams after the profile, so that output of the profile can be told from the command's.
        marker: Option<&'a str>,
    },
}

/// The arguments that start a line of a Procfile in a shell.
pub fn shell_command(line: &OsStr, profile: ShellProfile<'_>) -> Vec<OsString> {
    let mut script = OsString::new();
    if let ShellProfile::Sourced { marker } = profile {
        script.push(PROFILE_SCRIPT);
        if let Some(marker) = marker {
            let marker = marker.trim_end();
            script.push(format!("\nprintf '%s\\n' '{marker}'; printf '%s\\n' '{marker}' >&2"));
        }
        script.push("\n");
    }
    script.push(line);
    vec!["/bin/bash".into(), "-c".into(), script]
}

/// A running dyno. Dropping it kills all its processes.
#[derive(Debug)]
pub struct Dyno {
    child: Child,
    commands: Option<ChildStdin>,
    pid: Option<Pid>,
}

/// A dyno that was started, and its output.
#[derive(Debug)]
pub struct StartedDyno {
    /// The dyno.
    pub dyno: Dyno,
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
}

impl Dyno {
    /// Starts a dyno in a process group of its own, so that a Ctrl-C on the terminal does not reach it. The spec is
    /// passed to its init process in `spec_file`.
    ///
    /// # Errors
    /// When the file cannot be written or the process cannot be started.
    pub fn start(spec: &Spec, spec_file: &Path) -> io::Result<StartedDyno> {
        let mut command = init_command(spec, spec_file)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let no_pipe = || io::Error::other("the dyno's output has no pipe");
        let stdout = child.stdout.take().ok_or_else(no_pipe)?;
        let stderr = child.stderr.take().ok_or_else(no_pipe)?;
        Ok(StartedDyno { dyno: Self::from_child(child), stdout, stderr })
    }

    /// Starts a dyno on the caller's terminal.
    ///
    /// # Errors
    /// When the file cannot be written or the process cannot be started.
    pub fn attach(spec: &Spec, spec_file: &Path) -> io::Result<Self> {
        Ok(Self::from_child(init_command(spec, spec_file)?.spawn()?))
    }

    fn from_child(mut child: Child) -> Self {
        let pid = child.id().map(|pid| Pid::from_raw(pid as i32));
        let commands = child.stdin.take();
        Self { child, commands, pid }
    }

    /// The process id of its outer init process.
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Waits until the dyno has ended; returns the app's exit status as a shell reports it.
    pub async fn wait(&mut self) -> u8 {
        // Waiting fails only if another part of the program had reaped the child; none does.
        self.child.wait().await.map_or(u8::MAX, exit_code)
    }

    /// Sends a command to the dyno's init process; ignored when the dyno has ended.
    pub async fn send(&mut self, command: InitCommand) {
        if let Some(commands) = &mut self.commands {
            commands.write_all(format!("{command}\n").as_bytes()).await.ok(); // fails when the dyno has ended
        }
    }
}

impl Drop for Dyno {
    fn drop(&mut self) {
        let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
        if let Some(pid) = self.pid.filter(|_| !has_ended) {
            // The kernel kills all processes of a PID namespace when its first process ends.
            process::kill_tree(pid);
        }
    }
}

/// Writes the spec, and returns the command of the init process.
fn init_command(spec: &Spec, spec_file: &Path) -> io::Result<Command> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(spec_file)?;
    file.write_all(&serde_json::to_vec(spec)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--init").arg(spec_file);
    Ok(command)
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or(Signal::SIGKILL as i32) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_passed_to_the_shell_unchanged() {
        let line = OsStr::new("web \"$PORT\" | cat");
        assert_eq!(shell_command(line, ShellProfile::Skipped)[2], line);
        let sourced = |marker| {
            let script = shell_command(line, ShellProfile::Sourced { marker })[2].clone();
            script.into_string().expect("is text")
        };
        let script = sourced(None);
        assert!(script.ends_with("\nunset file\nweb \"$PORT\" | cat"), "{script}");
        let script = sourced(Some("mark\n"));
        let end = "\nunset file\nprintf '%s\\n' 'mark'; printf '%s\\n' 'mark' >&2\nweb \"$PORT\" | cat";
        assert!(script.ends_with(end), "{script}");
    }
}
