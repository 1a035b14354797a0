//! Where the binary comes from, and that nothing unverified is ever installed.

use crate::release::{self, TRIPLE, VERSION};
use crate::workspace::Site;
use flate2::{Compression, GzBuilder};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tailrace_drain::{Drain, Options};

const WEB: &str = "web: x\n";

/// A mirror in the site, with the archive.
fn mirror(site: &Site) -> PathBuf {
    let mirror = site.path("mirror");
    fs::create_dir(&mirror).unwrap();
    fs::copy(release::archive(), mirror.join(release::name(TRIPLE))).unwrap();
    mirror
}

fn mirrored() -> (Site, PathBuf) {
    let site = Site::without_archive().procfile(WEB);
    let mirror = mirror(&site);
    let url = format!("file://{}", mirror.display());
    (site.set("TAILRACE_MIRROR", &url), mirror.join(release::name(TRIPLE)))
}

/// An archive with this as its program.
fn archive_of(site: &Site, program: &[u8]) -> PathBuf {
    let dir = site.path("packed");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("tailrace"), program).unwrap();
    fs::set_permissions(dir.join("tailrace"), fs::Permissions::from_mode(0o755)).unwrap();
    let archive = site.path("packed.tar.gz");
    let packed = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&dir).arg("tailrace").status();
    assert!(packed.unwrap().success());
    archive
}

/// The buildpack has this archive inside, with its sum.
fn vendored(make: impl FnOnce(&Site) -> PathBuf) -> Site {
    let site = Site::new().procfile(WEB);
    let archive = make(&site);
    fs::remove_file(site.vendored()).unwrap();
    fs::copy(&archive, site.vendored()).unwrap();
    site.pinned(&archive)
}

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

fn installs_nothing(site: &Site) {
    assert!(!site.app().join(".tailrace/bin/tailrace-agent").exists());
    assert_eq!(site.text(), WEB);
}

#[test]
fn a_corrupt_cache_is_replaced() {
    let (site, _) = mirrored();
    site.compile().good().says(&["binary: downloaded, "]);
    for harm in [damage, truncate] {
        harm(&site.cached());
        site.compile()
            .good()
            .quiet()
            .says(&["the cached archive is not used: its SHA-256 is ", "downloaded, "]);
        assert_eq!(release::sum(&site.cached()), release::sum(&release::archive()));
    }
    site.compile().good().quiet().says(&["binary: cached, "]);
}

#[test]
fn the_cache_keeps_one_version_and_none_beside_a_vendored_one() {
    let (site, _) = mirrored();
    fs::create_dir(site.path("cache/tailrace")).unwrap();
    let old = site.path("cache/tailrace").join("tailrace-0.0.1-x86_64-unknown-linux-musl.tar.gz");
    fs::write(&old, "old").unwrap();
    fs::write(site.path("cache/other"), "of another buildpack").unwrap();
    site.compile().good().quiet();
    assert!(site.cached().exists() && !old.exists() && site.path("cache/other").exists());
    fs::create_dir(site.vendored().parent().unwrap()).unwrap();
    fs::copy(release::archive(), site.vendored()).unwrap();
    site.compile().good().quiet().says(&["binary: vendored, "]);
    assert!(!site.cached().exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_no_trouble() {
    let (site, _) = mirrored();
    File::create(site.path("file")).unwrap();
    for cache in ["/proc", site.path("file").to_str().unwrap()] {
        let built = site.compile_with(&[&site.app(), Path::new(cache), &site.path("env")]);
        built.good().quiet().says(&["the archive cannot be cached: ", "binary: downloaded, "]);
    }
}

#[test]
fn a_damaged_vendored_archive_is_said_and_another_source_taken() {
    let (site, _) = mirrored();
    fs::create_dir(site.vendored().parent().unwrap()).unwrap();
    for harm in [damage, truncate] {
        fs::copy(release::archive(), site.vendored()).unwrap();
        harm(&site.vendored());
        let told = ["the vendored archive is not used: its SHA-256 is ", "d, "];
        site.compile().good().says(&told);
    }
}

#[test]
fn with_no_good_source_the_one_message_names_all_three() {
    let (site, archive) = mirrored();
    fs::create_dir(site.vendored().parent().unwrap()).unwrap();
    fs::write(site.vendored(), "").unwrap();
    fs::create_dir(site.path("cache/tailrace")).unwrap();
    fs::write(site.cached(), "x").unwrap();
    // An error page that was saved as if it were the file.
    fs::write(&archive, "<html>429 Too Many Requests</html>").unwrap();
    let expected =
        format!("expected: {} with SHA-256 {}", release::name(TRIPLE), release::sum(&release::archive()));
    let told =
        ["vendored: its SHA-256 is e3b0c442", "; cached: its SHA-256 is 2d711642", "; downloaded: file://"];
    site.compile().failed("no-binary", &told).says(&[
        &expected,
        "/mirror: its SHA-256 is ",
        "set TAILRACE_MIRROR",
    ]);
    installs_nothing(&site);
    fs::remove_file(&archive).unwrap();
    site.compile().failed("no-binary", &["/mirror: curl: (37)"]);
}

#[test]
fn without_a_network_the_build_fails_soon() {
    let site = Site::without_archive().procfile(WEB).var("CURL_TIMEOUT", "1");
    site.compile().failed("no-binary", &["vendored: none; cached: none; downloaded: no mirror is set"]);
    let site =
        site.set("TAILRACE_MIRROR", "https://user:LOCAL-SECRET@127.0.0.1:1/LOCAL-SECRET?x=LOCAL-SECRET");
    let start = Instant::now();
    site.compile().failed("no-binary", &["downloaded: https://127.0.0.1:1/…: curl: (7)"]);
    assert!(start.elapsed() < Duration::from_mins(1));
    installs_nothing(&site);
}

#[test]
fn a_server_that_has_none_is_said_with_its_status_and_without_secrets() {
    let drain = Drain::start(Options::default()).unwrap();
    drain.set_faults("status=404").unwrap();
    let site = Site::without_archive()
        .procfile(WEB)
        .set("TAILRACE_MIRROR", &drain.url())
        .var("CURL_CA_BUNDLE", drain.ca_file().to_str().unwrap());
    let built = site.compile().failed("no-binary", &["/…: curl: (22) The requested URL returned error: 4"]);
    assert!(built.err.contains("downloaded: https://127.0.0.1:"), "{built:?}");
    installs_nothing(&site);
}

#[test]
fn a_mirror_is_an_https_address_or_a_file_and_no_secret_of_it_is_shown() {
    let site = Site::without_archive().procfile(WEB).var("CURL_TIMEOUT", "1");
    for mirror in [
        "http://127.0.0.1:1/LOCAL-SECRET",
        "user:LOCAL-SECRET@127.0.0.1:1/LOCAL-SECRET",
        "https:/user:LOCAL-SECRET@127.0.0.1:1",
        "-K/etc/passwd",
    ] {
        fs::write(site.path("env/TAILRACE_MIRROR"), mirror).unwrap();
        site.compile().failed("no-binary", &["the mirror's address does not begin with https:// or file://"]);
    }
    // Somebody did not encode a slash.
    let site = site.set("TAILRACE_MIRROR", "https://user:x/LOCAL-SECRET@127.0.0.1:1/LOCAL-SECRET");
    site.compile().failed("no-binary", &["downloaded: https://127.0.0.1:1/…: "]);
}

#[test]
fn a_mirrors_address_is_one_address() {
    let site = Site::without_archive().procfile(WEB);
    let from = mirror(&site);
    let odd = site.path("{a,b} [1-3]");
    fs::rename(from, &odd).unwrap();
    let site = site.set("TAILRACE_MIRROR", &format!("file://{}", odd.display()));
    site.compile().good().quiet().says(&["binary: downloaded, "]);
}

#[test]
fn a_cache_that_cannot_be_read_is_called_so() {
    let site = Site::without_archive().procfile(WEB);
    fs::create_dir_all(site.cached()).unwrap(); // also root cannot read it as a file
    site.compile().failed("no-binary", &["cached: it cannot be read"]);
}

#[test]
fn the_mirror_of_the_pins_is_used_with_the_version_in_its_address() {
    let site = Site::without_archive().procfile(WEB);
    let from = mirror(&site);
    fs::rename(from, site.path(VERSION)).unwrap();
    let pins = fs::read_to_string(site.pins()).unwrap();
    fs::write(site.pins(), format!("{pins}mirror file://{}/{{version}}\n", site.path("").display())).unwrap();
    site.compile().good().quiet().says(&["binary: downloaded, "]);
}

#[test]
fn an_archive_that_was_packed_wrong_is_not_installed() {
    let cut = vendored(|site| {
        let path = site.path("cut.tar.gz");
        fs::copy(release::archive(), &path).unwrap();
        truncate(&path);
        path
    });
    cut.compile().failed("bad-archive", &["expected: a program named tailrace in ", "gzip: "]);
    installs_nothing(&cut);
    let other = vendored(|site| {
        let path = site.path("other.tar.gz");
        let mut file = GzBuilder::new().write(File::create(&path).unwrap(), Compression::fast());
        file.write_all(b"no tar").unwrap();
        path
    });
    other.compile().failed("bad-archive", &[]);
    installs_nothing(&other);
}

#[test]
fn a_program_that_does_not_run_here_is_not_installed() {
    let mut foreign = fs::read(release::program()).unwrap()[..4096].to_vec();
    foreign[18..20].copy_from_slice(&[0xf3, 0]); // e_machine: RISC-V, which no test machine is
    for (program, found) in [
        (&foreign[..], "cannot execute binary file: Exec format error"),
        (b"#!/bin/sh\necho tailrace 0.0.1\n", "found:    \"tailrace 0.0.1\", status 0"),
        (b"#!/bin/sh\necho tailrace 0.1.0\nexit 3\n", "status 3"),
        (b"#!/bin/sh\nkill -SEGV $$\n", "status 139"),
    ] {
        let site = vendored(|site| archive_of(site, program));
        let expected = format!("expected: \"tailrace {VERSION}\" when asked for its version");
        site.compile().failed("bad-binary", &[&expected, found]);
        installs_nothing(&site);
    }
}

/// A `uname` that says this is another machine.
fn machine(site: Site, machine: &str) -> Site {
    let dir = site.path("programs");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("uname"), format!("#!/bin/sh\necho {machine}\n")).unwrap();
    fs::set_permissions(dir.join("uname"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dir.display());
    site.var("PATH", &path)
}

#[test]
fn the_machine_decides_which_archive() {
    let site = machine(Site::new().procfile(WEB), "riscv64");
    site.compile().failed("unknown-architecture", &["expected: x86_64 or aarch64", "found:    riscv64"]);
    for (name, triple) in
        [("arm64", "aarch64"), ("aarch64", "aarch64"), ("amd64", "x86_64"), ("x86_64", "x86_64")]
    {
        let site = machine(Site::without_archive().procfile(WEB), name);
        let triple = format!("{triple}-unknown-linux-musl");
        fs::write(site.pins(), format!("{VERSION} {triple} 00\n")).unwrap();
        site.compile()
            .failed("no-binary", &[&format!("expected: {} with SHA-256 00", release::name(&triple))]);
    }
}

#[test]
fn a_version_is_one_that_is_pinned() {
    Site::new().procfile(WEB).set("TAILRACE_VERSION", VERSION).compile().good().quiet();
    for (version, expected) in [
        ("9.9.9", format!("expected: in TAILRACE_VERSION one of {VERSION} 0.0.9 0.0.8\n")),
        ("latest", "found:    latest for ".to_owned()),
        ("0.0.8", format!("found:    0.0.8 for {TRIPLE}\n")),
    ] {
        let site = Site::without_archive().procfile(WEB).set("TAILRACE_VERSION", version);
        let pins = format!("# note\n\n{VERSION} {TRIPLE} 00\n0.0.9 {TRIPLE} 00\n0.0.8 another-triple 00\n");
        fs::write(site.pins(), pins).unwrap();
        site.compile().failed("unknown-version", &[&expected, "heroku config:unset TAILRACE_VERSION"]);
        installs_nothing(&site);
    }
}
