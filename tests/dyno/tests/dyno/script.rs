//! The script `bin/simulate`: different apps, called from different directories.

use crate::harness::{Running, run_to_end};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

/// The top directory of the slug of a minimal app.
const SLUG_ENTRIES: &str = ".profile.d\n.tailrace\nProcfile\n";

/// Limit for the script when nothing is built yet.
const BUILD_TIMEOUT: Duration = Duration::from_mins(10);
/// The repository.
static ROOT: LazyLock<PathBuf> =
    LazyLock::new(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("exists"));

/// A directory of apps.
struct Apps(TempDir);

impl Apps {
    fn new() -> Self {
        Self(TempDir::new().expect("is created"))
    }

    /// Adds an app with these files.
    fn with(self, name: &str, files: &[(&str, &str)]) -> Self {
        let procfile = ("Procfile", "worker: sleep 300\n");
        for (file, text) in files.iter().chain([&procfile]) {
            let path = self.path(name).join(file);
            fs::create_dir_all(path.parent().expect("is in a directory")).expect("is created");
            fs::write(path, text).expect("is written");
        }
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn command(current_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(ROOT.join("bin/simulate"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        // Cargo's variables for a test would make the script's cargo rebuild everything.
        let is_test_variable =
            name.starts_with("CARGO") && name != "CARGO_HOME" && name != "CARGO_TARGET_DIR";
        if name.starts_with("TAILRACE") || is_test_variable {
            command.env_remove(&*name);
        }
    }
    command.current_dir(current_dir).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The output of a one-off dyno.
fn output(current_dir: &Path, arguments: &[&str]) -> String {
    let (status, out, err) = run_to_end(command(current_dir, arguments));
    assert_eq!(status, 0, "{arguments:?}: {out}{err}");
    out
}

#[test]
fn the_slug_does_not_depend_on_how_the_app_is_named() {
    let names = ["shop", "env", "buildpack", "release", "cache", "slug"];
    let apps = names.iter().fold(Apps::new(), |apps, name| apps.with(name, &[]));
    fs::create_dir(apps.path("shop/lib")).expect("is created");
    let list =
        |current_dir: &str, app: &str| output(&apps.path(current_dir), &[app, "run", "ls -A | grep -v lib"]);
    for name in names {
        assert_eq!(list(".", name), SLUG_ENTRIES, "{name}");
    }
    for (current_dir, app) in
        [(".", "shop/"), ("shop", "."), ("shop/lib", ".."), ("shop/lib", "../../shop/.")]
    {
        assert_eq!(list(current_dir, app), SLUG_ENTRIES, "{app} from {current_dir}");
        let name = output(&apps.path(current_dir), &[app, "run", "echo $HEROKU_APP_NAME"]);
        assert_eq!(name, "shop\n", "{app} from {current_dir}");
    }
}

#[test]
fn slugignore_is_applied_as_the_platform_applies_it() {
    // `.slugignore`: names anywhere, paths from the top, no negation (Dev Center, "Slug Compiler").
    let ignored = "# pictures\n*.psd\n\n/doc\nspec/fixtures\n!keep.psd\n../other\nno such file\n";
    let apps = Apps::new().with("other", &[]).with(
        "shop",
        &[
            ("target/app.jar", "built before"),
            (".slugignore", ignored),
            ("a.psd", ""),
            ("art/keep.psd", ""),
            ("art/b.png", ""),
            ("doc/a", ""),
            ("lib/doc/b", ""),
            ("spec/fixtures/c", ""),
            ("spec/d", ""),
            (".git/config", ""),
        ],
    );
    let list = output(&apps.path("."), &["shop", "run", "find . -type f ! -path './.tailrace/*' | sort"]);
    let expected = [".profile.d/tailrace.sh", ".slugignore", "Procfile", "art/b.png", "lib/doc/b", "spec/d"];
    let expected: Vec<String> =
        expected.iter().chain(&["target/app.jar"]).map(|file| format!("./{file}\n")).collect();
    assert_eq!(list, expected.concat());
    assert!(apps.path("other/Procfile").is_file() && apps.path("shop/a.psd").is_file());
}

#[test]
fn the_build_directory_is_private_and_removed_at_the_end() {
    let apps = Apps::new().with("shop", &[(".env", "SECRET=s\n")]);
    let mut running = Running::start(command(&apps.path("."), &["shop"]));
    running.wait_for_within(BUILD_TIMEOUT, "heroku[worker.1]: State changed from starting to up");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| ROOT.join("target"), PathBuf::from);
    let build_dir = target.join("simulate").join(running.child.id().to_string()); // the script replaces itself by the simulation
    assert_eq!(fs::read(build_dir.join("env/SECRET")).expect("can be read"), b"s");
    assert_eq!(build_dir.metadata().expect("exists").permissions().mode() & 0o777, 0o700);
    running.interrupt();
    let (status, output) = running.end();
    assert_eq!(status, 0, "{output}");
    assert!(!build_dir.exists());
}
