//! A temporary directory to build an app in: buildpack, app, cache, config vars. All its paths contain blanks.

use crate::release;
use nix::sys::stat::{Mode, umask};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Parts of values of config vars that no script may print.
const SECRETS: [&str; 2] = ["s3cret-value", "LOCAL-SECRET"];

/// A buildpack, an app, a cache and config vars in one temporary directory.
pub(crate) struct Workspace {
    dir: TempDir,
    /// Environment variables of the build, in addition to those of the platform.
    pub(crate) vars: BTreeMap<String, String>,
}

/// Exit status and output of a script.
#[derive(Debug)]
pub(crate) struct ScriptOutput {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl ScriptOutput {
    /// Asserts status 0.
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }

    /// Asserts status 1 and one error message of this kind, which contains all of `texts`.
    pub(crate) fn fails_with(self, kind: &str, texts: &[&str]) -> Self {
        assert_eq!(self.status, 1, "{self:?}");
        let head = format!("\n !     tailrace was not installed: {kind}\n !     expected: ");
        assert!(self.stderr.contains(&head), "{kind}: {self:?}");
        assert_eq!(self.stderr.matches("was not installed").count(), 1, "{self:?}");
        for text in ["\n !     found:    ", "\n !     to do:    ", "\n !     to read:  "].iter().chain(texts)
        {
            assert!(self.stderr.contains(text), "{text}: {self:?}");
        }
        self
    }

    /// Asserts that each of these texts is in standard output or standard error.
    pub(crate) fn prints(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stdout.contains(text) || self.stderr.contains(text), "{text}: {self:?}");
        }
        self
    }

    /// Asserts that standard error is empty.
    pub(crate) fn without_warnings(self) -> Self {
        assert_eq!(self.stderr, "", "{self:?}");
        self
    }
}

impl Workspace {
    /// With a released buildpack, which contains the archive.
    pub(crate) fn new() -> Self {
        let workspace = Self::without_archive();
        fs::create_dir(workspace.vendor()).unwrap();
        fs::hard_link(release::archive(), workspace.vendored_archive())
            .or_else(|_| fs::copy(release::archive(), workspace.vendored_archive()).map(drop))
            .unwrap();
        workspace
    }

    /// With a buildpack from git, which contains no archive.
    pub(crate) fn without_archive() -> Self {
        umask(Mode::from_bits_truncate(0o022)); // as on the platform
        let dir = TempDir::with_prefix("tailrace build ").unwrap();
        // The dyno runs as another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let workspace = Self { dir, vars: BTreeMap::new() };
        for (from, to) in [("bin", "bin"), ("buildpack", "buildpack"), ("buildpack.toml", "buildpack.toml")] {
            copy(&release::repository().join(from), &workspace.buildpack().join(to));
        }
        fs::copy(release::directory().join("checksums"), workspace.checksums()).unwrap();
        for name in ["cache", "env", "build_1"] {
            fs::create_dir(workspace.path(name)).unwrap();
        }
        fs::write(workspace.path("env/SECRET"), "s3cret-value").unwrap();
        fs::write(workspace.path("env/TAILRACE_DRAIN_URL"), "https://127.0.0.1:1/LOCAL-SECRET\n").unwrap();
        workspace
    }

    /// Adds a Procfile.
    pub(crate) fn procfile(self, text: &str) -> Self {
        self.file("Procfile", text)
    }

    /// Adds a file to the app.
    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.app().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Sets a config var.
    pub(crate) fn config_var(self, name: &str, value: &str) -> Self {
        fs::write(self.path("env").join(name), value).unwrap();
        self
    }

    /// Sets an environment variable of the build.
    pub(crate) fn build_var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Makes the buildpack expect this archive.
    pub(crate) fn with_checksum_of(self, archive: &Path) -> Self {
        let line = format!("{} {} {}\n", release::VERSION, release::TRIPLE, release::sha256(archive));
        fs::write(self.checksums(), line).unwrap();
        self
    }

    /// Packs an archive with this program.
    pub(crate) fn pack_program(&self, program: &[u8]) -> PathBuf {
        let dir = self.path("packed");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("tailrace"), program).unwrap();
        fs::set_permissions(dir.join("tailrace"), fs::Permissions::from_mode(0o755)).unwrap();
        let archive = self.path("packed.tar.gz");
        let packed =
            Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&dir).arg("tailrace").status();
        assert!(packed.unwrap().success());
        archive
    }

    /// A path in the workspace.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `BUILD_DIR`.
    pub(crate) fn app(&self) -> PathBuf {
        self.path("build_1")
    }

    pub(crate) fn buildpack(&self) -> PathBuf {
        self.path("the buildpack")
    }

    pub(crate) fn checksums(&self) -> PathBuf {
        self.buildpack().join("buildpack/checksums")
    }

    fn vendor(&self) -> PathBuf {
        self.buildpack().join("buildpack/vendor")
    }

    /// The archive inside the buildpack.
    pub(crate) fn vendored_archive(&self) -> PathBuf {
        self.vendor().join(release::archive_name(release::TRIPLE))
    }

    /// The archive in the cache.
    pub(crate) fn cached_archive(&self) -> PathBuf {
        self.path("cache/tailrace").join(release::archive_name(release::TRIPLE))
    }

    /// The current content of the app's Procfile.
    pub(crate) fn procfile_text(&self) -> String {
        fs::read_to_string(self.app().join("Procfile")).unwrap()
    }

    /// The stored command of a wrapped entry, with its newline.
    pub(crate) fn stored_command(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.app().join(".tailrace/types").join(name)).ok()
    }

    /// Runs a script of the buildpack.
    pub(crate) fn script(&self, name: &str, prepare: impl FnOnce(&mut Command)) -> ScriptOutput {
        self.run(&mut Command::new(self.buildpack().join("bin").join(name)), prepare)
    }

    /// Runs a command as the platform does: with few environment variables. Asserts that no secret is printed.
    pub(crate) fn run(&self, command: &mut Command, prepare: impl FnOnce(&mut Command)) -> ScriptOutput {
        command
            .env_clear()
            .envs([("HOME", "/app"), ("LANG", "en_US.UTF-8"), ("PATH", "/usr/local/bin:/usr/bin:/bin")])
            .envs([("STACK", "heroku-24"), ("GIT_DIR", "/nowhere"), ("CDPATH", "/:/usr"), ("IFS", "/")])
            .env("TMPDIR", self.dir.path())
            .envs(&self.vars)
            .current_dir(self.buildpack())
            .stdin(Stdio::null());
        prepare(command);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let output = ScriptOutput {
            status: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        for secret in SECRETS {
            assert!(
                !output.stdout.contains(secret) && !output.stderr.contains(secret),
                "{secret}: {output:?}"
            );
        }
        output
    }

    /// Runs `bin/compile` with these arguments. Asserts the format of its output, and that no staging directory is left.
    pub(crate) fn compile_with(&self, arguments: &[&Path]) -> ScriptOutput {
        let output = self.script("compile", |command| {
            command.args(arguments);
        });
        let is_step = |line: &str| line.starts_with("-----> ") || line.starts_with("       ");
        assert!(output.stdout.lines().all(is_step), "{output:?}");
        assert!(
            output.stderr.lines().all(|line| line.is_empty() || line.starts_with(" !     ")),
            "{output:?}"
        );
        let left: Vec<_> =
            files(self.dir.path()).into_keys().filter(|name| name.contains(".staging")).collect();
        assert!(left.is_empty(), "{left:?}");
        output
    }

    /// Runs `bin/compile` with all three directories.
    pub(crate) fn compile(&self) -> ScriptOutput {
        self.compile_with(&[&self.app(), &self.path("cache"), &self.path("env")])
    }

    /// Runs `bin/build` in the app's directory, as the lifecycle does.
    pub(crate) fn build(&self) -> ScriptOutput {
        self.build_in("layers")
    }

    /// Runs `bin/build` with this directory for its layers.
    pub(crate) fn build_in(&self, layers: &str) -> ScriptOutput {
        fs::create_dir_all(self.path(layers)).unwrap();
        fs::create_dir_all(self.path("platform")).unwrap();
        copy(&self.path("env"), &self.path("platform/env"));
        self.script("build", |command| {
            command
                .current_dir(self.app())
                .env("CNB_LAYERS_DIR", self.path(layers))
                .env("CNB_PLATFORM_DIR", self.path("platform"))
                .env("CNB_BUILDPACK_DIR", self.buildpack())
                .env("CNB_BP_PLAN_PATH", self.path("plan.toml"))
                .env("CNB_TARGET_OS", "linux");
        })
    }
}

/// Copies a directory tree with file modes.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// Mode and content of all files below a directory, by relative path.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            all.extend(files(&path).into_iter().map(|(below, file)| (format!("{name}/{below}"), file)));
        } else if path.is_file() {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            all.insert(name, (mode, fs::read(&path).unwrap()));
        }
    }
    all
}
