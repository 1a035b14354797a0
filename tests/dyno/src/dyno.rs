//! The dyno: a command under the agent, with all processes that come from it. Nothing of it outlives its owner.

use crate::environment::Environment;
use crate::process;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// What a dyno's shell does first.
const PROFILE: &str = "\
for file in \"$HOME\"/.profile.d/*.sh \"$HOME\"/.profile; do
\t[[ ! -r $file ]] || source \"$file\"
done
unset file";
/// How often it is looked whether all processes are gone.
const LOOK: Duration = Duration::from_millis(20);

/// A running dyno; dropping it ends all of it with SIGKILL.
#[derive(Debug)]
pub struct Dyno {
    child: Child,
    pid: Option<Pid>,
}

impl Dyno {
    /// Starts a command in the app's directory, in a process group of its own, so that a Ctrl-C is not for it: under
    /// the agent, or, where its line names the agent itself, as Cedar does, in a shell with the app's profile (Dev
    /// Center, "Dyno Startup Behavior").
    ///
    /// # Errors
    /// When that cannot be started.
    pub fn start(
        agent: Option<&Path>,
        command: &str,
        app: &Path,
        environment: Environment,
    ) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        process::adopt()?;
        let mut starter = Command::new(agent.unwrap_or(Path::new("/bin/bash")));
        if agent.is_some() {
            starter.args(["run", "--shell", command]);
        } else {
            starter.args(["-c", &format!("{PROFILE}\n{command}")]);
        }
        let mut child = starter
            .env_clear()
            .envs(environment)
            .current_dir(app)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pid = child.id().map(|pid| Pid::from_raw(pid as i32));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let dyno = Self { child, pid };
        let no_pipe = || io::Error::other("the dyno's output has no pipe");
        Ok((dyno, out.ok_or_else(no_pipe)?, err.ok_or_else(no_pipe)?))
    }

    /// Waits for the end of the main process; returns its exit status as a shell would.
    pub async fn exited(&mut self) -> u8 {
        // It can be waited for: nobody else does.
        self.child.wait().await.map_or(u8::MAX, status)
    }

    /// Waits for the end of all processes; returns the exit status of the main one.
    pub async fn empty(&mut self) -> u8 {
        let status = self.exited().await;
        while process::reap(self.pid) > 0 {
            tokio::time::sleep(LOOK).await;
        }
        status
    }

    /// SIGTERM to every process, as the platform does it (Dev Center, "Dyno shutdown behavior").
    pub fn terminate(&self) {
        process::signal_all(Signal::SIGTERM);
    }

    /// SIGKILL to every process; false when some do not end even so.
    pub fn kill(&self) -> bool {
        process::kill_all(self.pid)
    }
}

impl Drop for Dyno {
    fn drop(&mut self) {
        if !process::kill_all(None) {
            eprintln!("tailrace-dyno: processes of the dyno are left that SIGKILL does not end");
        }
    }
}

fn status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or_default() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(status(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(status(ExitStatus::from_raw(15)), 143);
    }
}
