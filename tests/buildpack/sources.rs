//! A buildpack from git builds the binary from its own sources. Cargo, rustc and rustup-init are stand-ins; the last test has the
//! real ones.

use crate::dyno::{Dyno, Finished, Platform};
use crate::file_server::FileServer;
use crate::release::{self, TRIPLE, VERSION, repository};
use crate::workspace::{ScriptOutput, Workspace, files};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const WEB: &str = "web: echo here\n";
/// Longest time of a build whose binary, or whose toolchain, is in the build cache.
const CACHED_BUILD: Duration = Duration::from_secs(10);

/// `Cargo.lock` and manifest of the repository, and the layout that the stand-ins need: a clone without the agent's sources.
fn clone() -> Workspace {
    let workspace = Workspace::without_archive().procfile(WEB);
    let buildpack = workspace.buildpack();
    for name in ["Cargo.toml", "Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(repository().join(name), buildpack.join(name)).unwrap();
    }
    fs::create_dir(buildpack.join("agent")).unwrap();
    fs::write(buildpack.join("agent/main.rs"), "fn main() {}\n").unwrap();
    fs::write(workspace.checksums(), "# none\n").unwrap();
    git(&workspace, &["init", "--quiet"]);
    commit(&workspace);
    write_script(&workspace.path("stand-ins/cargo"), CARGO);
    write_script(&workspace.path("stand-ins/rustc"), RUSTC);
    fs::copy(release::binary(), workspace.path("built")).unwrap();
    let log = workspace.path("log");
    fs::write(&log, "").unwrap();
    let built = workspace.path("built");
    workspace
        .build_var("STAND_IN_LOG", log.to_str().unwrap())
        .build_var("STAND_IN_BUILT", built.to_str().unwrap())
}

/// The same where Rust is installed.
fn clone_with_rust() -> Workspace {
    let workspace = clone();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", workspace.path("stand-ins").display());
    workspace.build_var("PATH", &path)
}

/// Answers as cargo does. What it builds prints the version that it was built with, and is the binary under test otherwise.
const CARGO: &str = r#"#!/bin/bash
set -eu
printf '%s\n' "$PWD: $*" >>"$STAND_IN_LOG"
[[ "$1" != --version ]] || { echo "cargo ${STAND_IN_VERSION:-1.95.0} (stand-in)"; exit; }
echo "   Compiling tailrace" >&2
if [[ -n "${STAND_IN_FAILURE-}" ]]; then printf '%b\n' "$STAND_IN_FAILURE" >&2; exit 101; fi
for argument in "$@"; do [[ "$argument" != *-linux-* ]] || target="$argument"; done
mkdir -p "$CARGO_TARGET_DIR/$target/release"
cat >"$CARGO_TARGET_DIR/$target/release/tailrace" <<SCRIPT
#!/bin/sh
[ "\$1" != --version ] || exec echo "tailrace $TAILRACE_BUILD_VERSION"
exec "$STAND_IN_BUILT" "\$@"
SCRIPT
chmod 755 "$CARGO_TARGET_DIR/$target/release/tailrace"
"#;

/// Answers as rustc does; it can build for musl when `STAND_IN_STATIC` is not `no`.
const RUSTC: &str = r#"#!/bin/bash
case "$*" in
*target-libdir*) [[ "${STAND_IN_STATIC-}" == no ]] && echo /nowhere || echo /usr ;;
*) printf 'rustc 1.95.0\nhost: stand-in-linux-gnu\n' ;;
esac
"#;

/// Answers as rustup-init does: gets what it installs from the server.
const RUSTUP_INIT: &str = r#"#!/bin/bash
set -eu
printf '%s\n' "rustup-init: $*" >>"$STAND_IN_LOG"
bin="$RUSTUP_HOME/toolchains/RUST-MACHINE-unknown-linux-gnu/bin"
echo "info: downloading component 'cargo'" >&2
mkdir -p "$bin" "$bin/../lib/rustlib/TRIPLE" "$CARGO_HOME/bin"
for program in cargo rustc; do
	curl --fail --silent --show-error --output "$bin/$program" "$RUSTUP_DIST_SERVER/dist/$program"
	chmod 755 "$bin/$program"
done
"#;

fn write_script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn git(workspace: &Workspace, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=x", "-c", "user.email=x@example.com", "-C"])
        .arg(workspace.buildpack())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Commits all files of the buildpack; returns the version that a build of that commit has.
fn commit(workspace: &Workspace) -> String {
    git(workspace, &["add", "--all"]);
    git(workspace, &["commit", "--quiet", "--message", "x"]);
    version_from_git(workspace)
}

fn version_from_git(workspace: &Workspace) -> String {
    format!("{VERSION}+git.{}", git(workspace, &["rev-parse", "--short=12", "HEAD"]))
}

/// The version that the installed program prints.
fn installed_version(workspace: &Workspace) -> String {
    let output = Command::new(workspace.app().join(".tailrace/bin/tailrace-agent")).arg("--version").output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim_end().replace("tailrace ", "")
}

/// How often cargo built.
fn builds(workspace: &Workspace) -> usize {
    fs::read_to_string(workspace.path("log")).unwrap().matches(": build ").count()
}

/// Builds the app again, in another directory, and asserts that it does not take long.
fn build_again(workspace: &Workspace) -> ScriptOutput {
    fs::remove_dir_all(workspace.app()).unwrap();
    fs::create_dir(workspace.app()).unwrap();
    fs::write(workspace.app().join("Procfile"), WEB).unwrap();
    let start = Instant::now();
    let output = workspace.compile().succeeds();
    assert!(start.elapsed() < CACHED_BUILD, "{:?}", start.elapsed());
    output
}

#[test]
fn a_clone_builds_with_the_rust_that_is_there_and_ships() {
    for platform in [Platform::Cedar, Platform::CloudNative] {
        // Those of the app are for the app.
        let workspace = clone_with_rust().file("rust-toolchain.toml", "[toolchain]\nchannel = \"1.0.0\"\n");
        let log = workspace.path("log");
        let dyno = Dyno::new(platform, workspace);
        assert_eq!(dyno.start("web", "").wait(), Finished::new(0, "here\n", ""), "{platform:?}");
        assert_eq!(dyno.drain.lines(), ["here"], "{platform:?}");
        let log = fs::read_to_string(log).unwrap();
        let build = format!(
            "/: build --release --locked --bin tailrace --target {TRIPLE} --manifest-path {}/Cargo.toml\n",
            dyno.workspace.buildpack().display()
        );
        assert_eq!(log, format!("/: --version\n{build}"), "{platform:?}");
    }
}

#[test]
fn a_build_from_git_says_so_and_is_kept_for_the_next() {
    let workspace = clone_with_rust();
    let version = version_from_git(&workspace);
    let head = format!("-----> tailrace {version} ({})\n", std::env::consts::ARCH);
    workspace.compile().succeeds().without_warnings().prints(&[
        &head,
        "       building it from these sources: some minutes, once for each version\n       Compiling tailrace\n",
        "       binary: built from these sources, ",
        "wrapped: web",
    ]);
    assert_eq!(installed_version(&workspace), version);
    let first = files(&workspace.app());
    build_again(&workspace).without_warnings().prints(&[&head, "       binary: built before, "]);
    assert_eq!((builds(&workspace), first == files(&workspace.app())), (1, true));

    // Another commit is another version, and a stack may have another C library.
    fs::write(workspace.buildpack().join("agent/main.rs"), "fn main() { }\n").unwrap();
    let version = commit(&workspace);
    build_again(&workspace).prints(&["binary: built from these sources"]);
    assert_eq!((installed_version(&workspace), builds(&workspace)), (version, 2));
    let workspace = workspace.build_var("STACK", "heroku-26");
    build_again(&workspace).prints(&["binary: built from these sources"]);

    // What is damaged in the cache is built again.
    let archive = format!("cache/tailrace/tailrace-{}-{TRIPLE}.tar.gz", installed_version(&workspace));
    fs::write(workspace.path(&archive), "x").unwrap();
    build_again(&workspace).prints(&["the cached archive is not used: its SHA-256 is ", "built from these"]);
}

#[test]
fn a_layer_names_the_version_that_was_built() {
    let workspace = clone_with_rust();
    let version = version_from_git(&workspace);
    workspace.build().succeeds().without_warnings();
    let read = |name| fs::read_to_string(workspace.path(name)).unwrap();
    assert!(read("layers/agent.toml").contains(&format!("version = \"{version}\"")));
    let sbom: serde_json::Value = serde_json::from_str(&read("layers/agent.sbom.cdx.json")).unwrap();
    let purl = format!("pkg:generic/tailrace@{}?", version.replace('+', "%2B"));
    assert!(sbom["components"][0]["purl"].as_str().unwrap().starts_with(&purl), "{sbom}");
    assert!(workspace.path("layers/download/built").exists());
    workspace.procfile(WEB).build().succeeds().prints(&["binary: built before"]);
}

#[test]
fn sources_that_are_not_a_commit_have_another_version() {
    let workspace = clone_with_rust();
    fs::write(workspace.buildpack().join("agent/new.rs"), "").unwrap();
    workspace.compile().succeeds();
    assert_eq!(installed_version(&workspace), format!("{}.modified", version_from_git(&workspace)));
    fs::write(workspace.buildpack().join("agent/new.rs"), "// \n").unwrap();
    build_again(&workspace).prints(&["binary: built from these sources"]);
    fs::remove_dir_all(workspace.buildpack().join(".git")).unwrap();
    build_again(&workspace);
    let version = installed_version(&workspace);
    let hash = version.strip_prefix(&format!("{VERSION}+sources.")).unwrap();
    assert!(hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{version}");
}

/// A clone without Rust, and the server that has it.
fn clone_and_rustup() -> (Workspace, FileServer) {
    let workspace = clone();
    let toolchain = fs::read_to_string(workspace.buildpack().join("buildpack/toolchain")).unwrap();
    let field = |name: &str| {
        let line = toolchain.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split(' ').nth(1).unwrap().to_owned()
    };
    let (rust, rustup, machine) = (field("rust"), field("rustup"), std::env::consts::ARCH);
    let script = RUSTUP_INIT.replace("RUST-MACHINE", &format!("{rust}-{machine}")).replace("TRIPLE", TRIPLE);
    let rustup_init = workspace.path("rustup-init");
    fs::write(&rustup_init, &script).unwrap();
    let pinned = format!("rust {rust}\nrustup {rustup} {machine} {}\n", release::sha256(&rustup_init));
    fs::write(workspace.buildpack().join("buildpack/toolchain"), pinned).unwrap();
    let path = format!("/rustup/archive/{rustup}/{machine}-unknown-linux-gnu/rustup-init");
    let files = [(path.as_str(), script.as_str()), ("/dist/cargo", CARGO), ("/dist/rustc", RUSTC)];
    let server = FileServer::start(BTreeMap::from(files.map(|(path, text)| (path.to_owned(), text.into()))));
    let url = server.url();
    let workspace = workspace
        .config_var("RUSTUP_UPDATE_ROOT", &format!("{url}/rustup"))
        .config_var("RUSTUP_DIST_SERVER", &url);
    (workspace, server)
}

#[test]
fn without_rust_a_toolchain_is_installed_into_the_build_cache() {
    let (workspace, server) = clone_and_rustup();
    let note = format!(
        "       installing Rust 1.95.0 into the build cache, with rustup 1.28.2 from {}/…\n",
        server.url()
    );
    workspace.compile().succeeds().without_warnings().prints(&[
        "       there is no cargo in PATH\n",
        &note,
        "       info: downloading component 'cargo'\n",
        "       Compiling tailrace\n",
        "binary: built from these sources",
    ]);
    assert_eq!(server.requests().len(), 3, "{:?}", server.requests());
    let log = fs::read_to_string(workspace.path("log")).unwrap();
    let expected = format!(
        "rustup-init: -y --no-modify-path --profile minimal --default-toolchain 1.95.0 --target {TRIPLE}\n"
    );
    assert!(log.starts_with(&expected), "{log}");

    // The same sources again: the binary is there. Others: the toolchain is there.
    build_again(&workspace).without_warnings().prints(&["binary: built before"]);
    fs::write(workspace.buildpack().join("agent/main.rs"), "fn main() { }\n").unwrap();
    build_again(&workspace)
        .prints(&["Rust 1.95.0: from the build cache\n", "binary: built from these sources"]);
    assert_eq!(server.requests().len(), 3, "{:?}", server.requests());

    let dyno = Dyno::new(Platform::Cedar, workspace.procfile(WEB));
    assert_eq!(dyno.start("web", "").wait(), Finished::new(0, "here\n", ""));
    assert_eq!(dyno.drain.lines(), ["here"]);
}

#[test]
fn a_rustup_init_with_another_checksum_is_not_run() {
    let (workspace, _server) = clone_and_rustup();
    let pinned = fs::read_to_string(workspace.buildpack().join("buildpack/toolchain")).unwrap();
    let (head, _) = pinned.trim_end().rsplit_once(' ').unwrap();
    fs::write(workspace.buildpack().join("buildpack/toolchain"), format!("{head} {}\n", "0".repeat(64)))
        .unwrap();
    workspace.compile().fails_with("no-toolchain", &["with SHA-256 0000", "found:    its SHA-256 is "]);
    assert_eq!(fs::read_to_string(workspace.path("log")).unwrap(), "");
    assert!(!workspace.app().join(".tailrace/bin/tailrace-agent").exists());
}

const WAYS_OUT: [&str; 4] =
    ["tailrace-buildpack-VERSION.tgz", "TAILRACE_MIRROR", "have Rust installed", "TAILRACE_BUILD=never"];

#[test]
fn a_broken_network_is_named_with_the_ways_out() {
    let workspace = clone()
        .config_var("RUSTUP_UPDATE_ROOT", "http://127.0.0.1:1/LOCAL-SECRET")
        .build_var("CURL_TIMEOUT", "1");
    workspace
        .compile()
        .fails_with(
            "no-toolchain",
            &["expected: rustup-init 1.28.2 from http://127.0.0.1:1/… with ", "curl: (7)"],
        )
        .prints(&WAYS_OUT);

    let (workspace, _server) = clone_and_rustup();
    let workspace = workspace.config_var("RUSTUP_DIST_SERVER", "http://127.0.0.1:1");
    workspace
        .compile()
        .fails_with("no-toolchain", &["expected: Rust 1.95.0 for ", "curl: (7)"])
        .prints(&WAYS_OUT);

    let failure =
        "error: failed to download from `https://index.crates.io`\\n\\nCaused by:\\n  could not resolve host";
    let workspace = clone_with_rust().build_var("STAND_IN_FAILURE", failure);
    workspace
        .compile()
        .fails_with(
            "no-dependencies",
            &["expected: the crates of Cargo.lock", "found:    error: failed to download"],
        )
        .prints(&WAYS_OUT);
    assert_eq!(workspace.procfile_text(), WEB);
}

#[test]
fn a_build_that_fails_says_why() {
    for (failure, found) in [
        (
            "warning: x\\nerror[E0001]: no such thing\\nerror: aborting",
            "found:    error[E0001]: no such thing\n",
        ),
        ("error: could not compile\\n  (signal: 9, SIGKILL: kill)", "for want of memory"),
        ("", "found:    Compiling tailrace\n"),
    ] {
        let workspace =
            clone_with_rust().build_var("STAND_IN_FAILURE", if failure.is_empty() { "\\c" } else { failure });
        workspace.compile().fails_with("build-failed", &[found]).prints(&WAYS_OUT);
        assert!(!workspace.path("cache/tailrace/built").exists());
    }
}

#[test]
fn a_cargo_that_cannot_be_used_is_replaced() {
    for (version, note) in [
        ("1.80.1", "       cargo 1.80.1 (stand-in) is too old, 1.95 is needed\n"),
        ("1.9.0", "is too old"),
        ("2.0.0", "Compiling tailrace"),
        ("1.95.0-nightly", "Compiling tailrace"),
    ] {
        let path = |workspace: &Workspace| {
            format!("{}:/usr/local/bin:/usr/bin:/bin", workspace.path("stand-ins").display())
        };
        let (workspace, server) = clone_and_rustup();
        let stand_ins = path(&workspace);
        // Only the one that is there has this version.
        let text = CARGO.replace("${STAND_IN_VERSION:-1.95.0}", version);
        write_script(&workspace.path("stand-ins/cargo"), &text);
        let workspace = workspace.build_var("PATH", &stand_ins);
        workspace.compile().succeeds().prints(&[note]);
        assert_eq!(server.requests().is_empty(), note == "Compiling tailrace", "{version}");
    }
}

#[test]
fn without_the_static_target_the_build_says_so() {
    let workspace = clone_with_rust().build_var("STAND_IN_STATIC", "no");
    workspace
        .compile()
        .succeeds()
        .without_warnings()
        .prints(&[&format!("not static: this Rust cannot build for {TRIPLE}; ")]);
    let log = fs::read_to_string(workspace.path("log")).unwrap();
    assert!(log.contains("--target stand-in-linux-gnu "), "{log}");
}

#[test]
fn the_setting_decides_whether_sources_are_built() {
    let never = clone_with_rust().config_var("TAILRACE_BUILD", "never");
    never
        .compile()
        .fails_with("no-release", &["TAILRACE_BUILD is never", "heroku config:unset TAILRACE_BUILD"]);
    assert_eq!(builds(&never), 0);

    for value in ["Always", "yes", "on please"] {
        let workspace = clone_with_rust().config_var("TAILRACE_BUILD", value);
        let found = format!("found:    \"{value}\"\n");
        workspace.compile().fails_with(
            "wrong-setting",
            &["expected: in TAILRACE_BUILD one of auto, always, never\n", &found],
        );
    }

    Workspace::new()
        .procfile(WEB)
        .config_var("TAILRACE_BUILD", "always")
        .compile()
        .fails_with("no-sources", &["heroku config:unset TAILRACE_BUILD"]);
}

/// Makes the buildpack of a clone know the release, without its archive.
fn pin(workspace: &Workspace) {
    fs::copy(release::directory().join("checksums"), workspace.checksums()).unwrap();
}

#[test]
fn a_version_that_is_pinned_is_built_only_when_it_can_be_had_nowhere_else() {
    let workspace =
        clone_with_rust().config_var("TAILRACE_MIRROR", "file:///nowhere").build_var("CURL_TIMEOUT", "1");
    pin(&workspace);
    commit(&workspace);
    let text = format!(
        "{} cannot be had: vendored: none; cached: none; downloaded: ",
        release::archive_name(TRIPLE)
    );
    workspace.compile().succeeds().without_warnings().prints(&[&text, "binary: built from these sources"]);
    assert_eq!(installed_version(&workspace), version_from_git(&workspace));

    // Once the archive is there it is used, and the cache is emptied.
    let mirror = workspace.path("mirror");
    fs::create_dir(&mirror).unwrap();
    fs::copy(release::archive(), mirror.join(release::archive_name(TRIPLE))).unwrap();
    let workspace = workspace.config_var("TAILRACE_MIRROR", &format!("file://{}", mirror.display()));
    let change = format!("version: {} → {VERSION}\n", version_from_git(&workspace));
    build_again(&workspace).without_warnings().prints(&["binary: downloaded, ", &change]);
    assert_eq!((installed_version(&workspace).as_str(), builds(&workspace)), (VERSION, 1));
    let cached: Vec<_> = files(&workspace.path("cache/tailrace")).into_keys().collect();
    assert_eq!(cached, ["installed".to_owned(), "report".to_owned(), release::archive_name(TRIPLE)]);

    let workspace = workspace.config_var("TAILRACE_BUILD", "always");
    build_again(&workspace).prints(&["binary: built from these sources"]);
}

#[test]
fn another_version_than_that_of_the_sources_is_not_built() {
    let workspace = clone_with_rust().config_var("TAILRACE_VERSION", "0.0.9");
    workspace.compile().fails_with(
        "unknown-version",
        &[&format!("expected: in TAILRACE_VERSION {VERSION}, "), "found:    0.0.9\n"],
    );
    fs::write(workspace.checksums(), format!("0.0.9 {TRIPLE} 00\n")).unwrap();
    workspace.compile().fails_with("no-binary", &["downloaded: no mirror is set"]);
    assert_eq!(builds(&workspace), 0);
}

#[test]
fn without_a_writable_cache_the_build_succeeds_and_keeps_nothing() {
    let workspace = clone_with_rust();
    let output = workspace.compile_with(&[&workspace.app(), Path::new("/proc"), &workspace.path("env")]);
    output.succeeds().prints(&["nothing is kept for the next build", "binary: built from these sources"]);
    workspace.compile_with(&[&workspace.app()]).succeeds().prints(&["binary: built from these sources"]);
}

#[test]
fn the_toolchain_is_the_oldest_that_the_manifest_allows() {
    let toolchain = fs::read_to_string(repository().join("buildpack/toolchain")).unwrap();
    let manifest: toml::Table =
        toml::from_str(&fs::read_to_string(repository().join("Cargo.toml")).unwrap()).unwrap();
    let oldest = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    let lines: Vec<Vec<_>> = toolchain
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(' ').collect())
        .collect();
    assert_eq!(lines[0], ["rust", &format!("{oldest}.0")]);
    for (line, machine) in lines[1..].iter().zip(["x86_64", "aarch64"]) {
        assert_eq!((line[0], line[2], line[3].len(), lines.len()), ("rustup", machine, 64, 3));
    }
}

#[test]
fn a_real_clone_builds_with_real_rust() {
    // Takes some minutes the first time: `tests/run --release`. The dependencies stay in `target/clone`.
    let Some(release) = release::from_environment() else { return };
    if !release.join(release::archive_name("aarch64-unknown-linux-musl")).exists() {
        return;
    }
    let workspace = Workspace::without_archive().procfile(WEB);
    fs::remove_dir_all(workspace.buildpack()).unwrap();
    let cloned =
        Command::new("git").args(["clone", "--quiet"]).arg(repository()).arg(workspace.buildpack()).status();
    assert!(cloned.unwrap().success());
    let version = version_from_git(&workspace);
    fs::create_dir(workspace.path("cache/tailrace")).unwrap();
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    let target = target.join("clone");
    fs::create_dir_all(&target).unwrap();
    symlink(target, workspace.path("cache/tailrace/target")).unwrap();
    let home = std::env::var("HOME").unwrap();
    let var = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| format!("{home}/{default}"));
    let (cargo, rustup) = (var("CARGO_HOME", ".cargo"), var("RUSTUP_HOME", ".rustup"));
    let path = format!("{cargo}/bin:/usr/local/bin:/usr/bin:/bin");
    let workspace = workspace
        .config_var("TAILRACE_BUILD", "always")
        .build_var("PATH", &path)
        .build_var("CARGO_HOME", &cargo)
        .build_var("RUSTUP_HOME", &rustup);
    workspace.compile().succeeds().without_warnings().prints(&["binary: built from these sources"]);
    assert_eq!(installed_version(&workspace), version);
    let dyno = Dyno::new(Platform::Cedar, workspace.procfile(WEB));
    assert_eq!(dyno.start("web", "").wait(), Finished::new(0, "here\n", ""));
    assert_eq!(dyno.drain.lines(), ["here"]);
}
