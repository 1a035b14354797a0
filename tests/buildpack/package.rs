//! Releases: the same bytes each time, all that a build needs inside, small, and for both machines.

use crate::release::{self, TRIPLE, VERSION, directory, full, name, pack, sum};
use crate::workspace::{Site, files};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tailrace_drain::{Drain, Options};
use tempfile::TempDir;

/// What `tar` prints of an archive.
fn tar(options: &[&str], archive: &Path) -> String {
    let output = Command::new("tar").args(options).arg("-f").arg(archive).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn packed_twice_it_is_the_same() {
    let dir = TempDir::with_prefix("tailrace package ").unwrap();
    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
    let said = pack(&first, &[]);
    assert_eq!(said, fs::read_to_string(first.join("SHA256SUMS")).unwrap());
    pack(&second, &[]);
    assert!(files(&first) == files(&second), "{said}");
    let archive = first.join(name(TRIPLE));
    assert!(said.contains(&format!("{}  {}\n", sum(&archive), name(TRIPLE))), "{said}");
    let listed = tar(&["--list", "--verbose", "--gzip", "--numeric-owner", "--utc"], &archive);
    let listed: Vec<_> = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let shown: Vec<_> = listed.iter().map(|words| (words[0], words[1], words[3], words[5])).collect();
    let expected =
        [("-rw-r--r--", "0/0", "1980-01-01", "LICENSE"), ("-rwxr-xr-x", "0/0", "1980-01-01", "tailrace")];
    assert_eq!(shown, expected);
}

#[test]
fn pins_of_other_versions_stay_and_the_newest_comes_first() {
    let dir = TempDir::with_prefix("tailrace package ").unwrap();
    let pins = dir.path().join("pins");
    let old = "# a note\nmirror https://example.com/{version}\n0.0.9 x 11\n0.0.9 y 22\n";
    fs::write(&pins, format!("{old}{VERSION} z 33\n")).unwrap();
    pack(dir.path(), &[]);
    let line = format!("{VERSION} {TRIPLE} {}\n", sum(&dir.path().join(name(TRIPLE))));
    let expected = old.replace("0.0.9 x", &format!("{line}0.0.9 x"));
    assert_eq!(fs::read_to_string(pins).unwrap(), expected);
}

#[test]
fn the_buildpack_archive_is_all_that_a_build_needs() {
    let site = Site::without_archive().procfile("web: x\n");
    fs::remove_dir_all(site.buildpack()).unwrap();
    fs::create_dir(site.buildpack()).unwrap();
    let archive = directory().join(format!("tailrace-buildpack-{VERSION}.tgz"));
    tar(&["--extract", "--gzip", "--directory", site.buildpack().to_str().unwrap()], &archive);
    site.compile().good().quiet().says(&["binary: vendored, "]);
    let inside: Vec<_> = files(&site.buildpack()).into_keys().collect();
    for name in
        ["LICENSE", "README.md", "bin/build", "bin/detect", "bin/release", "bin/report", "buildpack.toml"]
    {
        assert!(inside.iter().any(|have| have == name), "{name}: {inside:?}");
    }
    for name in ["bin/simulate", "buildpack/package", "Cargo.toml"] {
        assert!(!inside.iter().any(|have| have == name), "{name}: {inside:?}");
    }
}

/// Bytes of a directory as the platform keeps it.
fn slug(dir: &Path) -> usize {
    let output = Command::new("tar").args(["--create", "--gzip", "--directory"]).arg(dir).arg(".").output();
    output.unwrap().stdout.len()
}

#[test]
fn a_slug_grows_by_2_mb_at_most() {
    // A build for tests is larger than the one that ships.
    let Some(release) = full() else { return };
    let site = Site::new().procfile("web: x\n");
    let before = slug(&site.app());
    site.compile().good();
    let growth = slug(&site.app()) - before;
    println!("the slug grows by {growth} bytes");
    assert!(growth <= 2_000_000, "{growth}");
    for triple in ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"] {
        assert!(fs::metadata(release.join(name(triple))).unwrap().len() <= 2_000_000, "{triple}");
    }
}

/// Runs the binary for ARM.
fn emulated(program: &Path, arguments: &[&str], vars: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new("qemu-aarch64-static");
    command.arg(program).args(arguments).env_clear().envs(vars.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn the_binary_for_arm_runs() {
    let Some(release) = full() else { return };
    assert!(release::has("qemu-aarch64-static"), "install qemu-user-static");
    let dir = TempDir::new().unwrap();
    let archive = release.join(name("aarch64-unknown-linux-musl"));
    tar(&["--extract", "--gzip", "--directory", dir.path().to_str().unwrap()], &archive);
    let program = dir.path().join("tailrace");
    assert_eq!(emulated(&program, &["--version"], &[]), (0, format!("tailrace {VERSION}\n")));
    let ran = emulated(&program, &["run", "--", "/bin/sh", "-c", "echo ran; exit 7"], &[]);
    assert_eq!(ran, (7, "ran\n".to_owned()));
    // Names, TLS, compression, a request: all but the processes of the keeper.
    let drain = Drain::start(Options::default()).unwrap();
    let url = format!("{}#gzip=on", drain.url());
    let vars =
        [("TAILRACE_DRAIN_URL", url.as_str()), ("TAILRACE_CA_FILE", drain.ca_file().to_str().unwrap())];
    let (status, out) = emulated(&program, &["check"], &vars);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("on aarch64\n") && out.contains("answer   ok: 204"), "{out}");
    assert_eq!((drain.report().own_frames, drain.report().malformed), (1, 0));
}
