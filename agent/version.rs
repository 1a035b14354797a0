//! The version, as `--version`, the frames and the status show it.

/// The package's version. A build from git sets `TAILRACE_BUILD_VERSION`, which names the commit too:
/// `0.1.0+git.1a2b3c4d5e6f` (buildpack/lib/sources.sh).
pub const VERSION: &str = match option_env!("TAILRACE_BUILD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
