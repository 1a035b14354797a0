//! The sources of the binary, and that nothing unverified is installed.

use crate::release::{self, TRIPLE, VERSION};
use crate::workspace::{ScriptOutput, Workspace};
use flate2::{Compression, GzBuilder};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tailrace_drain::{Drain, Options};

const WEB: &str = "web: x\n";

/// Creates a mirror that has the archive; returns its directory.
fn create_mirror(workspace: &Workspace) -> PathBuf {
    let mirror = workspace.path("mirror");
    fs::create_dir(&mirror).unwrap();
    fs::copy(release::archive(), mirror.join(release::archive_name(TRIPLE))).unwrap();
    mirror
}

/// A workspace that uses a mirror, and the path of the archive there.
fn mirrored() -> (Workspace, PathBuf) {
    let workspace = Workspace::without_archive().procfile(WEB);
    let mirror = create_mirror(&workspace);
    let url = format!("file://{}", mirror.display());
    (workspace.config_var("TAILRACE_MIRROR", &url), mirror.join(release::archive_name(TRIPLE)))
}

/// A workspace whose buildpack contains and expects the archive that `make` creates.
fn vendored(make: impl FnOnce(&Workspace) -> PathBuf) -> Workspace {
    let workspace = Workspace::new().procfile(WEB);
    let archive = make(&workspace);
    fs::remove_file(workspace.vendored_archive()).unwrap();
    fs::copy(&archive, workspace.vendored_archive()).unwrap();
    workspace.with_checksum_of(&archive)
}

/// Flips one bit.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn assert_nothing_installed(workspace: &Workspace) {
    assert!(!workspace.app().join(".tailrace/bin/tailrace-agent").exists());
    assert_eq!(workspace.procfile_text(), WEB);
}

#[test]
fn a_corrupt_cache_is_replaced() {
    let (workspace, _) = mirrored();
    workspace.compile().succeeds().prints(&["binary: downloaded, "]);
    for corrupt in [damage, truncate] {
        corrupt(&workspace.cached_archive());
        workspace
            .compile()
            .succeeds()
            .without_warnings()
            .prints(&["the cached archive is not used: its SHA-256 is ", "downloaded, "]);
        assert_eq!(release::sha256(&workspace.cached_archive()), release::sha256(&release::archive()));
    }
    workspace.compile().succeeds().without_warnings().prints(&["binary: cached, "]);
}

#[test]
fn the_cache_keeps_one_version_and_nothing_when_the_archive_is_vendored() {
    let (workspace, _) = mirrored();
    fs::create_dir(workspace.path("cache/tailrace")).unwrap();
    let old = workspace.path("cache/tailrace").join("tailrace-0.0.1-x86_64-unknown-linux-musl.tar.gz");
    fs::write(&old, "old").unwrap();
    fs::write(workspace.path("cache/other"), "of another buildpack").unwrap();
    workspace.compile().succeeds().without_warnings();
    assert!(workspace.cached_archive().exists() && !old.exists() && workspace.path("cache/other").exists());
    fs::create_dir(workspace.vendored_archive().parent().unwrap()).unwrap();
    fs::copy(release::archive(), workspace.vendored_archive()).unwrap();
    workspace.compile().succeeds().without_warnings().prints(&["binary: vendored, "]);
    assert!(!workspace.cached_archive().exists());
}

#[test]
fn an_unwritable_cache_does_not_fail_the_build() {
    let (workspace, _) = mirrored();
    File::create(workspace.path("file")).unwrap();
    for cache in ["/proc", workspace.path("file").to_str().unwrap()] {
        let output = workspace.compile_with(&[&workspace.app(), Path::new(cache), &workspace.path("env")]);
        output
            .succeeds()
            .without_warnings()
            .prints(&["the archive cannot be cached: ", "binary: downloaded, "]);
    }
}

#[test]
fn a_damaged_vendored_archive_is_reported_and_another_source_used() {
    let (workspace, _) = mirrored();
    fs::create_dir(workspace.vendored_archive().parent().unwrap()).unwrap();
    for corrupt in [damage, truncate] {
        fs::copy(release::archive(), workspace.vendored_archive()).unwrap();
        corrupt(&workspace.vendored_archive());
        let texts = ["the vendored archive is not used: its SHA-256 is ", "d, "];
        workspace.compile().succeeds().prints(&texts);
    }
}

#[test]
fn without_a_valid_archive_one_message_lists_all_three_sources() {
    let (workspace, archive) = mirrored();
    fs::create_dir(workspace.vendored_archive().parent().unwrap()).unwrap();
    fs::write(workspace.vendored_archive(), "").unwrap();
    fs::create_dir(workspace.path("cache/tailrace")).unwrap();
    fs::write(workspace.cached_archive(), "x").unwrap();
    // An error page instead of the file.
    fs::write(&archive, "<html>429 Too Many Requests</html>").unwrap();
    let expected = format!(
        "expected: {} with SHA-256 {}",
        release::archive_name(TRIPLE),
        release::sha256(&release::archive())
    );
    let texts =
        ["vendored: its SHA-256 is e3b0c442", "; cached: its SHA-256 is 2d711642", "; downloaded: file://"];
    workspace.compile().fails_with("no-binary", &texts).prints(&[
        &expected,
        "/mirror: its SHA-256 is ",
        "set TAILRACE_MIRROR",
    ]);
    assert_nothing_installed(&workspace);
    fs::remove_file(&archive).unwrap();
    workspace.compile().fails_with("no-binary", &["/mirror: curl: (37)"]);
}

#[test]
fn without_a_network_the_build_fails_within_a_minute() {
    let workspace = Workspace::without_archive().procfile(WEB).build_var("CURL_TIMEOUT", "1");
    workspace
        .compile()
        .fails_with("no-binary", &["vendored: none; cached: none; downloaded: no mirror is set"]);
    let workspace = workspace
        .config_var("TAILRACE_MIRROR", "https://user:LOCAL-SECRET@127.0.0.1:1/LOCAL-SECRET?x=LOCAL-SECRET");
    let start = Instant::now();
    workspace.compile().fails_with("no-binary", &["downloaded: https://127.0.0.1:1/…: curl: (7)"]);
    assert!(start.elapsed() < Duration::from_mins(1));
    assert_nothing_installed(&workspace);
}

#[test]
fn an_http_error_is_reported_with_its_status_and_without_secrets() {
    let drain = Drain::start(Options::default()).unwrap();
    drain.set_faults("status=404").unwrap();
    let workspace = Workspace::without_archive()
        .procfile(WEB)
        .config_var("TAILRACE_MIRROR", &drain.url())
        .build_var("CURL_CA_BUNDLE", drain.ca_file().to_str().unwrap());
    let output =
        workspace.compile().fails_with("no-binary", &["/…: curl: (22) The requested URL returned error: 4"]);
    assert!(output.stderr.contains("downloaded: https://127.0.0.1:"), "{output:?}");
    assert_nothing_installed(&workspace);
}

#[test]
fn mirrors_other_than_https_and_file_are_refused_without_printing_secrets() {
    let workspace = Workspace::without_archive().procfile(WEB).build_var("CURL_TIMEOUT", "1");
    for mirror in [
        "http://127.0.0.1:1/LOCAL-SECRET",
        "user:LOCAL-SECRET@127.0.0.1:1/LOCAL-SECRET",
        "https:/user:LOCAL-SECRET@127.0.0.1:1",
        "-K/etc/passwd",
    ] {
        fs::write(workspace.path("env/TAILRACE_MIRROR"), mirror).unwrap();
        workspace
            .compile()
            .fails_with("no-binary", &["the mirror's address does not begin with https:// or file://"]);
    }
    // The slash in the password is not percent-encoded.
    let workspace =
        workspace.config_var("TAILRACE_MIRROR", "https://user:x/LOCAL-SECRET@127.0.0.1:1/LOCAL-SECRET");
    workspace.compile().fails_with("no-binary", &["downloaded: https://127.0.0.1:1/…: "]);
}

#[test]
fn curl_globs_and_blanks_in_a_mirror_are_taken_literally() {
    let workspace = Workspace::without_archive().procfile(WEB);
    let from = create_mirror(&workspace);
    let special = workspace.path("{a,b} [1-3]");
    fs::rename(from, &special).unwrap();
    let workspace = workspace.config_var("TAILRACE_MIRROR", &format!("file://{}", special.display()));
    workspace.compile().succeeds().without_warnings().prints(&["binary: downloaded, "]);
}

#[test]
fn an_unreadable_cache_is_reported() {
    let workspace = Workspace::without_archive().procfile(WEB);
    fs::create_dir_all(workspace.cached_archive()).unwrap(); // root cannot read it as a file either
    workspace.compile().fails_with("no-binary", &["cached: it cannot be read"]);
}

#[test]
fn the_mirror_of_the_checksums_file_is_used_with_the_version_inserted() {
    let workspace = Workspace::without_archive().procfile(WEB);
    let from = create_mirror(&workspace);
    fs::rename(from, workspace.path(VERSION)).unwrap();
    let checksums = fs::read_to_string(workspace.checksums()).unwrap();
    fs::write(
        workspace.checksums(),
        format!("{checksums}mirror file://{}/{{version}}\n", workspace.path("").display()),
    )
    .unwrap();
    workspace.compile().succeeds().without_warnings().prints(&["binary: downloaded, "]);
}

#[test]
fn a_defective_archive_is_not_installed() {
    let truncated = vendored(|workspace| {
        let path = workspace.path("truncated.tar.gz");
        fs::copy(release::archive(), &path).unwrap();
        truncate(&path);
        path
    });
    truncated.compile().fails_with("bad-archive", &["expected: a program named tailrace in ", "gzip: "]);
    assert_nothing_installed(&truncated);
    let other = vendored(|workspace| {
        let path = workspace.path("other.tar.gz");
        let mut file = GzBuilder::new().write(File::create(&path).unwrap(), Compression::fast());
        file.write_all(b"no tar").unwrap();
        path
    });
    other.compile().fails_with("bad-archive", &[]);
    assert_nothing_installed(&other);
}

#[test]
fn a_program_that_does_not_run_is_not_installed() {
    let mut foreign = fs::read(release::binary()).unwrap()[..4096].to_vec();
    foreign[18..20].copy_from_slice(&[0xf3, 0]); // e_machine: RISC-V, which no test machine uses
    for (program, found) in [
        (&foreign[..], "cannot execute binary file: Exec format error"),
        (b"#!/bin/sh\necho tailrace 0.0.1\n", "found:    \"tailrace 0.0.1\", status 0"),
        (b"#!/bin/sh\necho tailrace 0.1.0\nexit 3\n", "status 3"),
        (b"#!/bin/sh\nkill -SEGV $$\n", "status 139"),
    ] {
        let workspace = vendored(|workspace| workspace.pack_program(program));
        let expected = format!("expected: \"tailrace {VERSION}\" when asked for its version");
        workspace.compile().fails_with("bad-binary", &[&expected, found]);
        assert_nothing_installed(&workspace);
    }
}

/// Puts a `uname` into `PATH` that prints this machine.
fn with_machine(workspace: Workspace, machine: &str) -> Workspace {
    let dir = workspace.path("programs");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("uname"), format!("#!/bin/sh\necho {machine}\n")).unwrap();
    fs::set_permissions(dir.join("uname"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dir.display());
    workspace.build_var("PATH", &path)
}

#[test]
fn the_machine_selects_the_archive() {
    let workspace = with_machine(Workspace::new().procfile(WEB), "riscv64");
    workspace
        .compile()
        .fails_with("unknown-architecture", &["expected: x86_64 or aarch64", "found:    riscv64"]);
    for (name, triple) in
        [("arm64", "aarch64"), ("aarch64", "aarch64"), ("amd64", "x86_64"), ("x86_64", "x86_64")]
    {
        let workspace = with_machine(Workspace::without_archive().procfile(WEB), name);
        let triple = format!("{triple}-unknown-linux-musl");
        fs::write(workspace.checksums(), format!("{VERSION} {triple} 00\n")).unwrap();
        workspace.compile().fails_with(
            "no-binary",
            &[&format!("expected: {} with SHA-256 00", release::archive_name(&triple))],
        );
    }
}

#[test]
fn the_version_must_be_in_the_checksums_file() {
    Workspace::new()
        .procfile(WEB)
        .config_var("TAILRACE_VERSION", VERSION)
        .compile()
        .succeeds()
        .without_warnings();
    for (version, expected) in [
        ("9.9.9", format!("expected: in TAILRACE_VERSION one of {VERSION} 0.0.9 0.0.8\n")),
        ("latest", "found:    latest for ".to_owned()),
        ("0.0.8", format!("found:    0.0.8 for {TRIPLE}\n")),
    ] {
        let workspace = Workspace::without_archive().procfile(WEB).config_var("TAILRACE_VERSION", version);
        let checksums =
            format!("# note\n\n{VERSION} {TRIPLE} 00\n0.0.9 {TRIPLE} 00\n0.0.8 another-triple 00\n");
        fs::write(workspace.checksums(), checksums).unwrap();
        workspace
            .compile()
            .fails_with("unknown-version", &[&expected, "heroku config:unset TAILRACE_VERSION"]);
        assert_nothing_installed(&workspace);
    }
}

#[test]
fn a_build_that_installs_another_version_names_both() {
    for build in [Workspace::compile, Workspace::build] {
        let workspace = Workspace::new().procfile(WEB);
        let arrow = |output: &ScriptOutput| output.stdout.contains('→');
        assert!(!arrow(&build(&workspace).succeeds()));
        let workspace = workspace.procfile(WEB);
        assert!(!arrow(&build(&workspace).succeeds()));
        let cache = [workspace.path("cache/tailrace"), workspace.path("layers/download")];
        let cache = cache.iter().find(|cache| cache.join("installed").exists()).unwrap();
        fs::write(cache.join("installed"), "0.0.9\n").unwrap();
        let workspace = workspace.procfile(WEB);
        build(&workspace).succeeds().prints(&[&format!("       version: 0.0.9 → {VERSION}\n")]);
        assert!(!arrow(&build(&workspace.procfile(WEB)).succeeds()));
    }
}
