//! `bin/simulate`, as people call it: from whatever directory, with whatever app.

use crate::harness::{Running, ended};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

/// What a slug of a plain app has in its top directory.
const SLUG: &str = ".profile.d\n.tailrace\nProcfile\n";

/// What the script may take where nothing is built yet.
const BUILD: Duration = Duration::from_mins(10);
/// The repository.
static ROOT: LazyLock<PathBuf> =
    LazyLock::new(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("is there"));

/// A directory with apps in it.
struct Apps(TempDir);

impl Apps {
    fn new() -> Self {
        Self(TempDir::new().expect("is made"))
    }

    /// An app with these files.
    fn with(self, name: &str, files: &[(&str, &str)]) -> Self {
        let procfile = ("Procfile", "worker: sleep 300\n");
        for (file, text) in files.iter().chain([&procfile]) {
            let path = self.at(name).join(file);
            fs::create_dir_all(path.parent().expect("is in a directory")).expect("is made");
            fs::write(path, text).expect("is written");
        }
        self
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn command(here: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(ROOT.join("bin/simulate"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        // What cargo tells a test makes another cargo build everything anew.
        let is_for_the_test = name.starts_with("CARGO") && name != "CARGO_HOME" && name != "CARGO_TARGET_DIR";
        if name.starts_with("TAILRACE") || is_for_the_test {
            command.env_remove(&*name);
        }
    }
    command.current_dir(here).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a one-off dyno of the app prints.
fn said(here: &Path, words: &[&str]) -> String {
    let (status, out, err) = ended(command(here, words));
    assert_eq!(status, 0, "{words:?}: {out}{err}");
    out
}

#[test]
fn an_app_is_the_same_however_it_is_named() {
    let names = ["shop", "env", "buildpack", "release", "cache", "slug"];
    let apps = names.iter().fold(Apps::new(), |apps, name| apps.with(name, &[]));
    fs::create_dir(apps.at("shop/lib")).expect("is made");
    let list = |here: &str, app: &str| said(&apps.at(here), &[app, "run", "ls -A | grep -v lib"]);
    for name in names {
        assert_eq!(list(".", name), SLUG, "{name}");
    }
    for (here, app) in [(".", "shop/"), ("shop", "."), ("shop/lib", ".."), ("shop/lib", "../../shop/.")] {
        assert_eq!(list(here, app), SLUG, "{app} from {here}");
        let name = said(&apps.at(here), &[app, "run", "echo $HEROKU_APP_NAME"]);
        assert_eq!(name, "shop\n", "{app} from {here}");
    }
}

#[test]
fn a_slug_has_what_the_platform_leaves_in_it() {
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
    let list = said(&apps.at("."), &["shop", "run", "find . -type f ! -path './.tailrace/*' | sort"]);
    let expected = [".profile.d/tailrace.sh", ".slugignore", "Procfile", "art/b.png", "lib/doc/b", "spec/d"];
    let expected: Vec<String> =
        expected.iter().chain(&["target/app.jar"]).map(|file| format!("./{file}\n")).collect();
    assert_eq!(list, expected.concat());
    assert!(apps.at("other/Procfile").is_file() && apps.at("shop/a.psd").is_file());
}

#[test]
fn the_site_of_a_simulation_is_ours_and_goes_with_it() {
    let apps = Apps::new().with("shop", &[(".env", "SECRET=s\n")]);
    let mut running = Running::start(command(&apps.at("."), &["shop"]));
    running.until_within(BUILD, "heroku[worker.1]: State changed from starting to up");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| ROOT.join("target"), PathBuf::from);
    let site = target.join("simulate").join(running.child.id().to_string()); // the script has become the simulation
    assert_eq!(fs::read(site.join("env/SECRET")).expect("is ours"), b"s");
    assert_eq!(site.metadata().expect("is there").permissions().mode() & 0o777, 0o700);
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    assert!(!site.exists());
}
