//! The dyno from outside: its first process, to which orders go. Nothing of it outlives its owner.

use crate::init::Spec;
use crate::process;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// What a dyno's shell does first on Cedar (Dev Center, "Dyno Startup Behavior").
const PROFILE: &str = "\
for file in \"$HOME\"/.profile.d/*.sh \"$HOME\"/.profile; do
\t[[ ! -r $file ]] || source \"$file\"
done
unset file";

/// The words that start a line of a Procfile: through a shell with the app's profile, as Cedar does, or through one
/// without, as heroku/procfile has it on Fir. Behind a profile the shell prints `mark`, if any, to both streams.
pub fn words(line: &OsStr, has_profile: bool, mark: Option<&str>) -> Vec<std::ffi::OsString> {
    let mut script = std::ffi::OsString::new();
    if has_profile {
        script.push(PROFILE);
        if let Some(mark) = mark {
            let mark = mark.trim_end();
            script.push(format!("\nprintf '%s\\n' '{mark}'; printf '%s\\n' '{mark}' >&2"));
        }
        script.push("\n");
    }
    script.push(line);
    vec!["/bin/bash".into(), "-c".into(), script]
}

/// A running dyno; dropping it ends all of it with SIGKILL.
#[derive(Debug)]
pub struct Dyno {
    child: Child,
    orders: Option<ChildStdin>,
    pid: Option<Pid>,
}

impl Dyno {
    /// Starts a dyno, in a process group of its own, so that a Ctrl-C is not for it. `spec_file` is where its first
    /// process reads what it shall be.
    ///
    /// # Errors
    /// When that cannot be started.
    pub fn start(spec: &Spec, spec_file: &Path) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        let mut command = init(spec, spec_file)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let no_pipe = || io::Error::other("the dyno's output has no pipe");
        Ok((Self::of(child), out.ok_or_else(no_pipe)?, err.ok_or_else(no_pipe)?))
    }

    /// Starts a dyno that has the caller's terminal.
    ///
    /// # Errors
    /// When that cannot be started.
    pub fn attach(spec: &Spec, spec_file: &Path) -> io::Result<Self> {
        Ok(Self::of(init(spec, spec_file)?.spawn()?))
    }

    fn of(mut child: Child) -> Self {
        let pid = child.id().map(|pid| Pid::from_raw(pid as i32));
        let orders = child.stdin.take();
        Self { child, orders, pid }
    }

    /// Its first process.
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Waits for its end; returns the exit status of the app as a shell would.
    pub async fn exited(&mut self) -> u8 {
        // It can be waited for: nobody else does.
        self.child.wait().await.map_or(u8::MAX, status)
    }

    /// Gives an order (`init`). A dyno that is gone needs none.
    pub async fn order(&mut self, order: &str) {
        if let Some(orders) = &mut self.orders {
            drop(orders.write_all(format!("{order}\n").as_bytes()).await);
        }
    }
}

impl Drop for Dyno {
    fn drop(&mut self) {
        let is_gone = self.child.try_wait().is_ok_and(|status| status.is_some());
        if let Some(pid) = self.pid.filter(|_| !is_gone) {
            // Its death ends the others: the kernel ends a namespace with its first process.
            process::kill_family(pid);
        }
    }
}

fn init(spec: &Spec, spec_file: &Path) -> io::Result<Command> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(spec_file)?;
    file.write_all(&serde_json::to_vec(spec)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--init").arg(spec_file);
    Ok(command)
}

fn status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or(Signal::SIGKILL as i32) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reaches_the_shell_as_it_stands() {
        let line = OsStr::new("web \"$PORT\" | cat");
        assert_eq!(words(line, false, Some("mark\n"))[2], line);
        let script = words(line, true, None)[2].clone().into_string().expect("is text");
        assert!(script.ends_with("\nunset file\nweb \"$PORT\" | cat"), "{script}");
        let script = words(line, true, Some("mark\n"))[2].clone().into_string().expect("is text");
        let end = "\nunset file\nprintf '%s\\n' 'mark'; printf '%s\\n' 'mark' >&2\nweb \"$PORT\" | cat";
        assert!(script.ends_with(end), "{script}");
    }
}
