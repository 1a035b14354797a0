//! The release that the tests install: the output of `buildpack/package`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version under test.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The target triple of this machine.
pub(crate) const TRIPLE: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-musl" } else { "x86_64-unknown-linux-musl" };

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary under test: `TAILRACE_TEST_BINARY`, else the one that Cargo built.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TAILRACE_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_tailrace").into()).into()
}

/// The archive for this machine.
pub(crate) fn archive() -> PathBuf {
    directory().join(archive_name(TRIPLE))
}

/// The file name of an archive.
pub(crate) fn archive_name(triple: &str) -> String {
    format!("tailrace-{VERSION}-{triple}.tar.gz")
}

/// The release that `tests/run` made, with the binaries of both machines: `TAILRACE_TEST_RELEASE`.
pub(crate) fn from_environment() -> Option<PathBuf> {
    std::env::var_os("TAILRACE_TEST_RELEASE").map(PathBuf::from)
}

/// The directory of the release that all tests share: [`from_environment`], else one with only the binary under test.
pub(crate) fn directory() -> PathBuf {
    from_environment().unwrap_or_else(|| {
        let binary = fs::metadata(stripped()).unwrap();
        let name = format!("release-{}-{}.{}", binary.len(), binary.mtime(), binary.mtime_nsec());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Each test is a process: the first one makes the release, the others wait for the lock.
        let lock = File::create(directory.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !directory.join("SHA256SUMS").exists() {
            package(&directory, &[]);
        }
        directory
    })
}

/// A copy of the binary under test without symbols, as the release profile makes it: its archive is packed and unpacked
/// hundreds of times.
fn stripped() -> PathBuf {
    let binary = fs::metadata(binary()).unwrap();
    let name = format!("stripped-{}-{}.{}", binary.len(), binary.mtime(), binary.mtime_nsec());
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !copy.exists() {
        let new = copy.with_extension(std::process::id().to_string());
        let status = Command::new("strip").arg("-o").args([&new, &self::binary()]).status().unwrap();
        assert!(status.success(), "strip: {status}");
        fs::rename(new, &copy).unwrap();
    }
    copy
}

/// Runs `buildpack/package` with the binary under test; returns its standard output.
pub(crate) fn package(out: &Path, options: &[&str]) -> String {
    let output = Command::new(repository().join("buildpack/package"))
        .args(["--out", out.to_str().unwrap(), "--checksums", out.join("checksums").to_str().unwrap()])
        .args(["--binary", &format!("{TRIPLE}={}", stripped().display())])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

/// The SHA-256 of a file.
pub(crate) fn sha256(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Whether a program is in `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(program).is_file())
}
