//! A dyno of a built app: started as the platforms start it, by a user without rights, against a drain.

use crate::workspace::{Site, files};
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

/// Nobody, as the platform's dynos are: of no group and without rights.
const USER: u32 = 65534;
/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a platform starts a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through bash, which sources `.profile.d` first.
    Cedar,
    /// Without a shell: expanded, split at blanks, executed; `.profile.d` under `set -eo pipefail`.
    Herokuish,
    /// By the launcher of a Cloud Native image, with its layers, and bash as heroku/procfile has it.
    Native,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Cedar, Self::Herokuish, Self::Native];
}

/// See above.
pub(crate) struct Dyno {
    pub(crate) site: Site,
    pub(crate) drain: Drain,
    way: Way,
    /// The app's directory, which is not where it was built.
    pub(crate) app: PathBuf,
    vars: Vec<(String, String)>,
}

impl Dyno {
    /// Builds the app, and moves it to where it runs.
    pub(crate) fn new(way: Way, site: Site) -> Self {
        if way == Way::Native {
            site.build().good();
        } else {
            site.compile().good();
        }
        let app = site.path("app");
        fs::rename(site.app(), &app).unwrap();
        let drain = Drain::start(Options::default()).unwrap();
        let mut dyno = Self { site, drain, way, app, vars: Vec::new() };
        let (tmp, ca) = (dyno.site.path("tmp"), dyno.site.path("ca.pem"));
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

    /// The same with a config var.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The line of a Procfile's entry, as the platform has it after the build.
    fn line(&self, name: &str) -> String {
        let text = fs::read_to_string(self.app.join("Procfile")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap().to_owned()
    }

    /// Starts an entry; `more` is what stands behind its line in `heroku run`.
    pub(crate) fn start(&self, name: &str, more: &str) -> Running {
        self.start_line(&format!("{} {more}", self.line(name)))
    }

    /// Starts any line, as `heroku run` does.
    pub(crate) fn start_line(&self, line: &str) -> Running {
        let mut command = Command::new("/bin/bash");
        let source = "for file in \"$HOME\"/.profile.d/*.sh; do source \"$file\"; done";
        match self.way {
            Way::Cedar => command.args(["-c", &format!("{source}\n{line}")]),
            Way::Herokuish => command
                .args([
                    "-c",
                    &format!("set -eo pipefail\n{source}\nread -ra words <<<\"$1\"\nexec \"${{words[@]}}\""),
                ])
                .args(["bash", line]),
            Way::Native => command.args(["-c", line]),
        };
        command.env_clear().envs(self.vars.iter().map(|(name, value)| (name, value)));
        if self.way == Way::Native {
            command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.layers()));
        }
        if geteuid().is_root() {
            command.uid(USER).gid(USER);
        }
        command.current_dir(&self.app).process_group(0).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: Some(command.spawn().unwrap()) }
    }

    /// What the launcher puts in front of PATH: `bin` of each layer that is for launch.
    fn layers(&self) -> String {
        let layers = self.site.path("layers");
        let for_launch = files(&layers).into_iter().filter_map(|(name, (_, text))| {
            let layer = name.strip_suffix(".toml")?;
            let text: toml::Table = toml::from_str(std::str::from_utf8(&text).unwrap()).unwrap();
            let bin = layers.join(layer).join("bin");
            text["types"]["launch"].as_bool()?.then(|| bin.to_str().unwrap().to_owned())
        });
        for_launch.collect::<Vec<_>>().join(":")
    }

    /// Waits until the drain has that line.
    pub(crate) fn wait_line(&self, line: &str) {
        let arrived = self.drain.wait_until(PATIENCE, |_| self.drain.lines().iter().any(|have| have == line));
        assert!(arrived, "{line:?} did not come: {:?}", self.drain.lines());
    }
}

/// A running dyno; nothing of it is left behind.
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

    /// SIGTERM as the platform sends it: to every process (Cedar), or to the first.
    pub(crate) fn terminate(&self, way: Way) {
        if way == Way::Cedar {
            killpg(self.group(), Signal::SIGTERM).unwrap();
        } else {
            kill(self.group(), Signal::SIGTERM).unwrap();
        }
    }

    /// Exit status, standard output, standard error.
    pub(crate) fn end(mut self) -> (i32, String, String) {
        let group = self.group();
        let child = self.child.take().unwrap();
        // Whoever hangs is ended, and the test fails with what was said.
        let (sender, done) = std::sync::mpsc::channel::<()>();
        let watch = thread::spawn(move || {
            if done.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _nobody_left = killpg(group, Signal::SIGKILL);
            }
        });
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        drop(sender);
        watch.join().unwrap();
        let status = status.code().unwrap_or_else(|| -status.signal().unwrap());
        (status, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _nobody_left = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            drop(child.wait());
        }
    }
}

/// Makes a file anew, with a mode.
pub(crate) fn put(path: &std::path::Path, bytes: &[u8], mode: u32) {
    drop(fs::remove_file(path));
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
