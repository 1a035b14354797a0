//! A place where an app is built: a buildpack, an app, a cache, config vars. Every path in it has blanks.

use crate::release;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Config vars that are none of ours.
const SECRETS: [&str; 2] = ["s3cret-value", "LOCAL-SECRET"];

/// See above.
pub(crate) struct Site {
    dir: TempDir,
    /// Environment variables of the build beside the platform's.
    pub(crate) vars: BTreeMap<String, String>,
}

/// What a script left.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Built {
    /// It went well.
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }

    /// It failed with one message of this kind, which says all of `words`.
    pub(crate) fn failed(self, kind: &str, words: &[&str]) -> Self {
        assert_eq!(self.status, 1, "{self:?}");
        let head = format!("\n !     tailrace was not installed: {kind}\n !     expected: ");
        assert!(self.err.contains(&head), "{kind}: {self:?}");
        assert_eq!(self.err.matches("was not installed").count(), 1, "{self:?}");
        for word in ["\n !     found:    ", "\n !     to do:    ", "\n !     to read:  "].iter().chain(words)
        {
            assert!(self.err.contains(word), "{word}: {self:?}");
        }
        self
    }

    /// It says all of these.
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.out.contains(word) || self.err.contains(word), "{word}: {self:?}");
        }
        self
    }

    /// Nothing to act on.
    pub(crate) fn quiet(self) -> Self {
        assert_eq!(self.err, "", "{self:?}");
        self
    }
}

impl Site {
    /// With a buildpack as it is released: the archive inside.
    pub(crate) fn new() -> Self {
        let site = Self::without_archive();
        fs::create_dir(site.vendor()).unwrap();
        fs::hard_link(release::archive(), site.vendored())
            .or_else(|_| fs::copy(release::archive(), site.vendored()).map(drop))
            .unwrap();
        site
    }

    /// With a buildpack as it is in git.
    pub(crate) fn without_archive() -> Self {
        let dir = TempDir::with_prefix("tailrace build ").unwrap();
        // For another user, who runs the dyno.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let site = Self { dir, vars: BTreeMap::new() };
        for (from, to) in [("bin", "bin"), ("buildpack", "buildpack"), ("buildpack.toml", "buildpack.toml")] {
            copy(&release::root().join(from), &site.buildpack().join(to));
        }
        fs::copy(release::directory().join("pins"), site.pins()).unwrap();
        for name in ["cache", "env", "build_1"] {
            fs::create_dir(site.path(name)).unwrap();
        }
        fs::write(site.path("env/SECRET"), "s3cret-value").unwrap();
        fs::write(site.path("env/TAILRACE_DRAIN_URL"), "https://drain.example/LOCAL-SECRET\n").unwrap();
        site
    }

    /// The same with this Procfile.
    pub(crate) fn procfile(self, text: &str) -> Self {
        self.file("Procfile", text)
    }

    /// The same with this file in the app.
    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.app().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// The same with a config var.
    pub(crate) fn set(self, name: &str, value: &str) -> Self {
        fs::write(self.path("env").join(name), value).unwrap();
        self
    }

    /// The same with a variable of the build's environment.
    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with other pins.
    pub(crate) fn pinned(self, archive: &Path) -> Self {
        let line = format!("{} {} {}\n", release::VERSION, release::TRIPLE, release::sum(archive));
        fs::write(self.pins(), line).unwrap();
        self
    }

    /// A path at this place.
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

    pub(crate) fn pins(&self) -> PathBuf {
        self.buildpack().join("buildpack/checksums")
    }

    fn vendor(&self) -> PathBuf {
        self.buildpack().join("buildpack/vendor")
    }

    /// The archive inside the buildpack.
    pub(crate) fn vendored(&self) -> PathBuf {
        self.vendor().join(release::name(release::TRIPLE))
    }

    /// The archive in the cache.
    pub(crate) fn cached(&self) -> PathBuf {
        self.path("cache/tailrace").join(release::name(release::TRIPLE))
    }

    /// The app's Procfile as it is now.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.app().join("Procfile")).unwrap()
    }

    /// The line that is stored for an entry.
    pub(crate) fn stored(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.app().join(".tailrace/types").join(name)).ok()
    }

    /// Runs a script of the buildpack.
    pub(crate) fn script(&self, name: &str, prepare: impl FnOnce(&mut Command)) -> Built {
        self.run(&mut Command::new(self.buildpack().join("bin").join(name)), prepare)
    }

    /// Runs something as the platform does: with next to nothing in its environment.
    pub(crate) fn run(&self, command: &mut Command, prepare: impl FnOnce(&mut Command)) -> Built {
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
        let built = Built {
            status: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        for secret in SECRETS {
            assert!(!built.out.contains(secret) && !built.err.contains(secret), "{secret}: {built:?}");
        }
        built
    }

    /// `bin/compile` with these arguments; what it prints is as the platform wants it.
    pub(crate) fn compile_with(&self, arguments: &[&Path]) -> Built {
        let built = self.script("compile", |command| {
            command.args(arguments);
        });
        let is_step = |line: &str| line.starts_with("-----> ") || line.starts_with("       ");
        assert!(built.out.lines().all(is_step), "{built:?}");
        assert!(built.err.lines().all(|line| line.is_empty() || line.starts_with(" !     ")), "{built:?}");
        let left: Vec<_> =
            files(self.dir.path()).into_keys().filter(|name| name.contains(".stage")).collect();
        assert!(left.is_empty(), "{left:?}");
        built
    }

    /// `bin/compile` with all three directories.
    pub(crate) fn compile(&self) -> Built {
        self.compile_with(&[&self.app(), &self.path("cache"), &self.path("env")])
    }

    /// `bin/build` in the app's directory, as the lifecycle calls it.
    pub(crate) fn build(&self) -> Built {
        self.build_in("layers")
    }

    /// The same with this directory for its layers.
    pub(crate) fn build_in(&self, layers: &str) -> Built {
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

/// Copies a tree, with its modes.
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

/// All files below a directory, by their path in it: mode and content.
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
