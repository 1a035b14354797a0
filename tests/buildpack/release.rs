//! Releases to build with: what `buildpack/package` made.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version under test.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What this machine runs.
pub(crate) const TRIPLE: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-musl" } else { "x86_64-unknown-linux-musl" };

/// The sources.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("TAILRACE_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_tailrace").into()).into()
}

/// The archive of this machine.
pub(crate) fn archive() -> PathBuf {
    directory().join(name(TRIPLE))
}

/// What an archive is called.
pub(crate) fn name(triple: &str) -> String {
    format!("tailrace-{VERSION}-{triple}.tar.gz")
}

/// The release of `tests/run`, with both machines; without it there is one of the program under test alone.
pub(crate) fn full() -> Option<PathBuf> {
    std::env::var_os("TAILRACE_TEST_RELEASE").map(PathBuf::from)
}

/// A release: all tests share it.
pub(crate) fn directory() -> PathBuf {
    full().unwrap_or_else(|| {
        let binary = fs::metadata(program()).unwrap();
        let name = format!("release-{}-{}.{}", binary.len(), binary.mtime(), binary.mtime_nsec());
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Tests are processes of their own: one makes it, the others wait.
        let turn = File::create(made.with_extension("lock")).unwrap();
        turn.lock().unwrap();
        if !made.join("SHA256SUMS").exists() {
            pack(&made, &[]);
        }
        made
    })
}

/// Runs `buildpack/package` with the program under test; returns what it says.
pub(crate) fn pack(out: &Path, options: &[&str]) -> String {
    let output = Command::new(root().join("buildpack/package"))
        .args(["--out", out.to_str().unwrap(), "--pins", out.join("pins").to_str().unwrap()])
        .args(["--binary", &format!("{TRIPLE}={}", program().display())])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The SHA-256 of a file.
pub(crate) fn sum(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Whether a program is there.
pub(crate) fn has(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(program).is_file())
}
