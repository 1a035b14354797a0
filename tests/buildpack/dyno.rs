//! A dyno of a built app: started as the platforms start it, by an unprivileged user, with a test drain.

use crate::workspace::{Workspace, files};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;
use tailrace_drain::{Drain, Options};

/// User and group of the dyno: nobody, unprivileged as on the platforms.
const USER: u32 = 65534;
/// Upper bound for steps whose duration is not under test.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A platform, which decides how an entry's command is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// Heroku Cedar: bash, which sources `.profile.d` first.
    Cedar,
    /// herokuish (Dokku): the command is split at blanks and executed without a shell; `.profile.d` is sourced under
    /// `set -eo pipefail`.
    Herokuish,
    /// A Cloud Native image (Heroku Fir): layers in `PATH`, bash as set by heroku/procfile.
    CloudNative,
}

impl Platform {
    pub(crate) const ALL: [Self; 3] = [Self::Cedar, Self::Herokuish, Self::CloudNative];
}

/// A dyno that has not been started, and its drain.
pub(crate) struct Dyno {
    pub(crate) workspace: Workspace,
    pub(crate) drain: Drain,
    platform: Platform,
    /// The app's directory; differs from the directory it was built in.
    pub(crate) app: PathBuf,
    vars: Vec<(String, String)>,
}

impl Dyno {
    /// Builds the app and moves it to another directory. That is not `/app`, so the build must not know it.
    pub(crate) fn new(platform: Platform, workspace: Workspace) -> Self {
        let workspace = workspace.build_var("HOME", "/nowhere");
        if platform == Platform::CloudNative {
            workspace.build().succeeds();
        } else {
            workspace.compile().succeeds();
        }
        let app = workspace.path("app");
        fs::rename(workspace.app(), &app).unwrap();
        let drain = Drain::start(Options::default()).unwrap();
        let mut dyno = Self { workspace, drain, platform, app, vars: Vec::new() };
        let (tmp, ca) = (dyno.workspace.path("tmp"), dyno.workspace.path("ca.pem"));
        fs::create_dir(&tmp).unwrap();
        fs::copy(dyno.drain.ca_file(), &ca).unwrap();
        if geteuid().is_root() {
            for dir in [&tmp, &dyno.app] {
                chown(dir, Some(USER), Some(USER)).unwrap();
            }
        }
        for (name, value) in [
            ("DYNO", "web.1"),
            ("HOME", dyno.app.to_str().unwrap()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("PORT", "5000"),
            ("TMPDIR", tmp.to_str().unwrap()),
            ("TAILRACE_APP", "shop"),
            ("TAILRACE_CA_FILE", ca.to_str().unwrap()),
            ("TAILRACE_DRAIN_URL", &dyno.drain.url()),
        ] {
            dyno.vars.push((name.to_owned(), value.to_owned()));
        }
        dyno
    }

    /// Sets a config var.
    pub(crate) fn config_var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command of a Procfile entry after the build.
    fn command(&self, name: &str) -> String {
        let text = fs::read_to_string(self.app.join("Procfile")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap().to_owned()
    }

    /// Starts an entry with these arguments, as `heroku run NAME ARG…` does.
    pub(crate) fn start(&self, name: &str, arguments: &str) -> Running {
        self.start_command(&format!("{} {arguments}", self.command(name)))
    }

    /// Starts any command line, as `heroku run` does.
    pub(crate) fn start_command(&self, line: &str) -> Running {
        self.start_with(line, &[])
    }

    /// Starts any command line in a dyno with this name.
    pub(crate) fn start_as(&self, name: &str, line: &str) -> Running {
        self.start_with(line, &[("DYNO", name)])
    }

    fn start_with(&self, line: &str, vars: &[(&str, &str)]) -> Running {
        let mut command = Command::new("/bin/bash");
        let source = "for file in \"$HOME\"/.profile.d/*.sh; do source \"$file\"; done";
        match self.platform {
            Platform::Cedar => command.args(["-c", &format!("{source}\n{line}")]),
            Platform::Herokuish => command
                .args([
                    "-c",
                    &format!("set -eo pipefail\n{source}\nread -ra argv <<<\"$1\"\nexec \"${{argv[@]}}\""),
                ])
                .args(["bash", line]),
            Platform::CloudNative => command.args(["-c", line]),
        };
        command.env_clear().envs(self.vars.iter().map(|(name, value)| (name, value)));
        command.envs(vars.iter().copied());
        if self.platform == Platform::CloudNative {
            command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.layer_path()));
        }
        if geteuid().is_root() {
            command.uid(USER).gid(USER);
        }
        command.current_dir(&self.app).process_group(0).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: Some(command.spawn().unwrap()) }
    }

    /// What the image's launcher puts in front of `PATH`: `bin` of each launch layer.
    fn layer_path(&self) -> String {
        let layers = self.workspace.path("layers");
        let for_launch = files(&layers).into_iter().filter_map(|(name, (_, text))| {
            let layer = name.strip_suffix(".toml")?;
            let text: toml::Table = toml::from_str(std::str::from_utf8(&text).unwrap()).unwrap();
            let bin = layers.join(layer).join("bin");
            text["types"]["launch"].as_bool()?.then(|| bin.to_str().unwrap().to_owned())
        });
        for_launch.collect::<Vec<_>>().join(":")
    }

    /// Waits until the drain has received this line.
    pub(crate) fn wait_line(&self, line: &str) {
        let arrived =
            self.drain.wait_until(TIMEOUT, |_| self.drain.lines().iter().any(|received| received == line));
        assert!(arrived, "{line:?} did not arrive: {:?}", self.drain.lines());
    }
}

/// A running dyno. Its process group is killed when this is dropped.
pub(crate) struct Running {
    child: Option<Child>,
}

impl Running {
    fn group(&self) -> Pid {
        Pid::from_raw(self.pid())
    }

    /// The process that the platform started.
    pub(crate) fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id() as i32
    }

    /// Sends SIGTERM as the platform does: to all processes (Cedar), or to the first one.
    pub(crate) fn terminate(&self, platform: Platform) {
        if platform == Platform::Cedar {
            killpg(self.group(), Signal::SIGTERM).unwrap();
        } else {
            kill(self.group(), Signal::SIGTERM).unwrap();
        }
    }

    /// Waits for the end. Kills the dyno after [`TIMEOUT`], so that the test fails with its output.
    pub(crate) fn wait(mut self) -> Finished {
        let group = self.group();
        let child = self.child.take().unwrap();
        let (sender, done) = std::sync::mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            if done.recv_timeout(TIMEOUT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                killpg(group, Signal::SIGKILL).ok(); // may have exited just now
            }
        });
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        drop(sender);
        watchdog.join().unwrap();
        Finished {
            status: status.code().unwrap_or_else(|| -status.signal().unwrap()),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

/// Exit status and output of a dyno. A signal that killed it is a negative status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn new(status: i32, stdout: &str, stderr: &str) -> Self {
        Self { status, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL).ok(); // may have exited
            drop(child.wait());
        }
    }
}

/// Replaces a file, with this mode.
pub(crate) fn replace_file(path: &std::path::Path, bytes: &[u8], mode: u32) {
    drop(fs::remove_file(path));
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
