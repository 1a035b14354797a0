//! Releases: reproducible, complete, small, and for both machines.

use crate::release::{
    TRIPLE, VERSION, archive_name, directory, from_environment, is_installed, package, sha256,
};
use crate::workspace::{Workspace, files};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tailrace_drain::{Drain, Options};
use tempfile::TempDir;

/// Runs `tar` on an archive; returns its standard output.
fn tar(options: &[&str], archive: &Path) -> String {
    let output = Command::new("tar").args(options).arg("-f").arg(archive).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn packages_are_reproducible() {
    let dir = TempDir::with_prefix("tailrace package ").unwrap();
    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
    let stdout = package(&first, &[]);
    assert_eq!(stdout, fs::read_to_string(first.join("SHA256SUMS")).unwrap());
    package(&second, &[]);
    assert!(files(&first) == files(&second), "{stdout}");
    let archive = first.join(archive_name(TRIPLE));
    assert!(stdout.contains(&format!("{}  {}\n", sha256(&archive), archive_name(TRIPLE))), "{stdout}");
    let listed = tar(&["--list", "--verbose", "--gzip", "--numeric-owner", "--utc"], &archive);
    let listed: Vec<_> = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let entries: Vec<_> = listed.iter().map(|fields| [fields[0], fields[1], fields[3], fields[5]]).collect();
    let expected = [
        ["-rw-r--r--", "0/0", "1980-01-01", "LICENSE-APACHE"],
        ["-rw-r--r--", "0/0", "1980-01-01", "LICENSE-MIT"],
        ["-rwxr-xr-x", "0/0", "1980-01-01", "tailrace"],
    ];
    assert_eq!(entries, expected);
}

#[test]
fn checksums_of_other_versions_are_kept_after_those_of_the_new_one() {
    let dir = TempDir::with_prefix("tailrace package ").unwrap();
    let checksums = dir.path().join("checksums");
    let old = "# a note\nmirror https://example.com/{version}\n0.0.9 x 11\n0.0.9 y 22\n";
    fs::write(&checksums, format!("{old}{VERSION} z 33\n")).unwrap();
    package(dir.path(), &[]);
    let line = format!("{VERSION} {TRIPLE} {}\n", sha256(&dir.path().join(archive_name(TRIPLE))));
    let expected = old.replace("0.0.9 x", &format!("{line}0.0.9 x"));
    assert_eq!(fs::read_to_string(checksums).unwrap(), expected);
}

#[test]
fn the_buildpack_archive_contains_everything_that_a_build_needs() {
    let workspace = Workspace::without_archive().procfile("web: x\n");
    fs::remove_dir_all(workspace.buildpack()).unwrap();
    fs::create_dir(workspace.buildpack()).unwrap();
    let archive = directory().join(format!("tailrace-buildpack-{VERSION}.tgz"));
    tar(&["--extract", "--gzip", "--directory", workspace.buildpack().to_str().unwrap()], &archive);
    workspace.compile().succeeds().without_warnings().prints(&["binary: vendored, "]);
    let inside: Vec<_> = files(&workspace.buildpack()).into_keys().collect();
    for name in [
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "bin/build",
        "bin/detect",
        "bin/release",
        "bin/report",
        "buildpack.toml",
    ] {
        assert!(inside.iter().any(|file| file == name), "{name}: {inside:?}");
    }
    for name in ["bin/simulate", "buildpack/package", "Cargo.toml"] {
        assert!(!inside.iter().any(|file| file == name), "{name}: {inside:?}");
    }
}

/// The size of a directory as a compressed slug, in bytes.
fn slug_size(dir: &Path) -> usize {
    let output = Command::new("tar").args(["--create", "--gzip", "--directory"]).arg(dir).arg(".").output();
    output.unwrap().stdout.len()
}

#[test]
fn a_slug_grows_by_2_mb_at_most() {
    // A debug build is larger than a release.
    let Some(release) = from_environment() else { return };
    let workspace = Workspace::new().procfile("web: x\n");
    let before = slug_size(&workspace.app());
    workspace.compile().succeeds();
    let growth = slug_size(&workspace.app()) - before;
    println!("the slug grows by {growth} bytes");
    assert!(growth <= 2_000_000, "{growth}");
    for triple in ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"] {
        match fs::metadata(release.join(archive_name(triple))) {
            Ok(archive) => assert!(archive.len() <= 2_000_000, "{triple}"),
            // `tests/run --release` makes both.
            Err(error) => assert_ne!(triple, TRIPLE, "{error}"),
        }
    }
}

/// Runs the ARM binary in an emulator; returns its exit status, and standard output followed by standard error.
fn emulated(program: &Path, arguments: &[&str], vars: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new("qemu-aarch64-static");
    command.arg(program).args(arguments).env_clear().envs(vars.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn the_arm_binary_runs() {
    // `tests/run --release` builds it.
    let archive = from_environment().map(|release| release.join(archive_name("aarch64-unknown-linux-musl")));
    let Some(archive) = archive.filter(|archive| archive.exists()) else { return };
    assert!(is_installed("qemu-aarch64-static"), "install qemu-user-static");
    let dir = TempDir::new().unwrap();
    tar(&["--extract", "--gzip", "--directory", dir.path().to_str().unwrap()], &archive);
    let program = dir.path().join("tailrace");
    assert_eq!(emulated(&program, &["--version"], &[]), (0, format!("tailrace {VERSION}\n")));
    let ran = emulated(&program, &["run", "--", "/bin/sh", "-c", "echo ran; exit 7"], &[]);
    assert_eq!(ran, (7, "ran\n".to_owned()));
    // Name resolution, TLS, compression, a request: everything except the supervisor's processes.
    let drain = Drain::start(Options::default()).unwrap();
    let url = format!("{}#gzip=on", drain.url());
    let vars =
        [("TAILRACE_DRAIN_URL", url.as_str()), ("TAILRACE_CA_FILE", drain.ca_file().to_str().unwrap())];
    let (status, out) = emulated(&program, &["check"], &vars);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("on aarch64\n") && out.contains("answer   ok: 204"), "{out}");
    assert_eq!((drain.report().system_frames, drain.report().malformed), (1, 0));
}
