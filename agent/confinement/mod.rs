//! Confinement of the shipper: what the process that talks to the network cannot do, whoever gains control of it.
//!
//! | means | what is left |
//! |---|---|
//! | `no_new_privs` | no privileges from set-user-ID programs |
//! | Landlock (Linux 5.13, ports 6.7, scopes 6.12) | the spool directory; reading the resolver's files and CA bundles; TCP to the ports of drains, proxy and DNS; no signals to others |
//! | seccomp | the system calls of `system_calls`: no exec, fork, ptrace, kill, mount, listen |
//!
//! Each is applied where the kernel has it, and `status` says which were. A file that is replaced after that, such as
//! `/etc/resolv.conf`, cannot be read any more: [`Confinement::is_outdated`] tells, and a new shipper takes over.

mod files_and_ports;
pub(crate) mod system_calls;

use crate::config::Config;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Random numbers, where the kernel refuses getrandom(2).
const RANDOM_FILES: [&str; 2] = ["/dev/urandom", "/dev/random"];
/// What the resolver of the C library reads: musl the first two, glibc all.
const RESOLVER_FILES: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];

/// What a forbidden system call leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// An error: what was forgotten in the list then fails, and nothing else.
    Fails,
    /// The end of the process by SIGSYS: in tests, where it must be noticed.
    Kills,
}

impl Violation {
    /// As the settings say.
    pub(crate) fn of(config: &Config) -> Self {
        if config.confinement_kills { Self::Kills } else { Self::Fails }
    }
}

/// A file by its path and what was there: device and inode.
#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    id: Option<(u64, u64)>,
}

impl WatchedFile {
    fn new(path: PathBuf) -> Self {
        Self { id: Self::id(&path), path }
    }

    fn id(path: &Path) -> Option<(u64, u64)> {
        std::fs::metadata(path).ok().map(|meta: Metadata| (meta.dev(), meta.ino()))
    }

    fn is_replaced(&self) -> bool {
        Self::id(&self.path) != self.id
    }
}

/// A confined process.
#[derive(Debug)]
pub(crate) struct Confinement {
    description: String,
    /// Files that a rule of Landlock stands for: a rule is for the file, not for its path.
    watched: Vec<WatchedFile>,
    /// Keeps the entry of `/proc/self/status` that has the rule: procfs makes new ones at will.
    _status: Option<::landlock::PathFd>,
}

/// A build that measures coverage writes its counts at its end, to a file that the shipper must not open.
const CAN_CONFINE: bool = !cfg!(coverage);
const INSTRUMENTED: &str = "not in a build that measures coverage";

impl Confinement {
    /// Confines this process for good. To be called before it starts a thread.
    pub(crate) fn apply(config: &Config, violation: Violation) -> Self {
        let mut applied = Applied::default();
        let files: Vec<PathBuf> = files(config).collect();
        let status = files_and_ports::open("/proc/self/status".as_ref());
        let mut watched = Vec::new();
        let restricted = if CAN_CONFINE {
            files_and_ports::restrict(&config.spool_dir, &files, status.as_ref(), ports(config))
        } else {
            Err(INSTRUMENTED.to_owned())
        };
        match restricted {
            Ok(restricted) => {
                applied.has(if restricted.ports { "landlock" } else { "landlock-files" });
                if !restricted.ports {
                    applied.lacks("landlock-ports", "not in this kernel");
                }
                watched = files.into_iter().map(WatchedFile::new).collect();
            }
            Err(reason) => applied.lacks("landlock", &reason),
        }
        // Last: it forbids the calls that the others make.
        let no_new_privs = nix::sys::prctl::set_no_new_privs();
        // A call that the list lacks would fail, and delivery with it: only where the list was tested.
        let is_tested = cfg!(target_arch = "x86_64");
        let restricted = if !CAN_CONFINE {
            Err(INSTRUMENTED.to_owned())
        } else if is_tested {
            system_calls::restrict(violation)
        } else {
            Err("its list is tested on x86_64 only".to_owned())
        };
        match restricted {
            Ok(()) => applied.has("seccomp"),
            Err(reason) => applied.lacks("seccomp", &reason),
        }
        match no_new_privs {
            Ok(()) => applied.has("no-new-privs"),
            Err(errno) => applied.lacks("no-new-privs", errno.desc()),
        }
        Self { description: applied.to_string(), watched, _status: status }
    }

    /// What is applied, and what is not and why: `landlock,seccomp,no-new-privs`, or
    /// `seccomp,no-new-privs (landlock: not in this kernel)`.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Whether a file that this process reads was replaced: the new one cannot be read.
    pub(crate) fn is_outdated(&self) -> bool {
        self.watched.iter().any(WatchedFile::is_replaced)
    }
}

/// What was applied of the confinement.
#[derive(Debug, Default)]
struct Applied {
    means: Vec<&'static str>,
    missing: Vec<String>,
}

impl Applied {
    fn has(&mut self, means: &'static str) {
        self.means.push(means);
    }

    fn lacks(&mut self, means: &str, reason: &str) {
        self.missing.push(format!("{means}: {reason}"));
    }
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.means.is_empty() { "no" } else { "" })?;
        f.write_str(&self.means.join(","))?;
        if self.missing.is_empty() { Ok(()) } else { write!(f, " ({})", self.missing.join("; ")) }
    }
}

/// The files that the shipper reads, beside the spool.
fn files(config: &Config) -> impl Iterator<Item = PathBuf> {
    let bundles = config.ca_file.iter().chain(&config.ssl_cert_file).cloned();
    RESOLVER_FILES.into_iter().chain(RANDOM_FILES).map(PathBuf::from).chain(bundles)
}

/// The TCP ports that the shipper connects to: the proxy's or the drains', and that of DNS, for answers that are too
/// long for UDP.
fn ports(config: &Config) -> Vec<u16> {
    const DNS: u16 = 53;
    let mut ports = match &config.proxy {
        Some((_, port)) => vec![*port],
        None => config.drains.iter().map(|drain| drain.url.port()).collect(),
    };
    ports.push(DNS);
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn config(vars: &[(&str, &str)]) -> Config {
        let vars = vars.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::from_env(vars).0
    }

    #[test]
    fn ports_are_those_of_the_drains_or_of_the_proxy() {
        let drains = ("TAILRACE_DRAIN_URL", "https://a.example/x https://b.example:8443/y");
        assert_eq!(ports(&config(&[drains])), [443, 8443, 53]);
        assert_eq!(ports(&config(&[drains, ("TAILRACE_PROXY", "http://proxy.example:3128")])), [3128, 53]);
    }

    #[test]
    fn the_description_names_what_is_missing_and_why() {
        let mut applied = Applied::default();
        applied.lacks("landlock", "not in this kernel");
        assert_eq!(applied.to_string(), "no (landlock: not in this kernel)");
        applied.has("seccomp");
        applied.has("no-new-privs");
        assert_eq!(applied.to_string(), "seccomp,no-new-privs (landlock: not in this kernel)");
        applied.missing.clear();
        assert_eq!(applied.to_string(), "seccomp,no-new-privs");
    }

    #[test]
    fn a_replaced_file_outdates_the_confinement() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("resolv.conf");
        let missing = WatchedFile::new(path.clone());
        assert!(!missing.is_replaced());
        std::fs::write(&path, "1").unwrap();
        assert!(missing.is_replaced());
        let watched = WatchedFile::new(path.clone());
        std::fs::write(&path, "2").unwrap();
        assert!(!watched.is_replaced(), "the file is the same");
        std::fs::write(dir.path().join("new"), "3").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(watched.is_replaced());
    }
}
