//! How well dynos can be isolated on this machine; found out by trying.

use crate::dyno::{Dyno, StartedDyno};
use crate::init::Spec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt as _;

/// How a dyno is isolated from this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Namespaces created by root: the app has a user of its own.
    Root,
    /// Namespaces inside a user namespace: the app has the caller's rights under another uid.
    User,
    /// No namespaces: the dyno is the tree of descendants of its first process.
    None,
}

impl Isolation {
    /// All levels, strongest first.
    const ALL: [Self; 3] = [Self::Root, Self::User, Self::None];

    /// Whether the dyno has a root directory of its own.
    pub fn has_root(self) -> bool {
        self != Self::None
    }
}

/// The strongest isolation that this machine allows.
#[derive(Clone, Debug)]
pub struct Detected {
    /// The isolation.
    pub isolation: Isolation,
    /// Why stronger ones do not work.
    pub reasons: Vec<String>,
}

/// Detects the strongest isolation that works.
///
/// # Errors
/// When not even a plain process can be started.
pub async fn detect(dir: &Path) -> io::Result<Detected> {
    let mut reasons = Vec::new();
    let is_root = nix::unistd::geteuid().is_root();
    for isolation in Isolation::ALL {
        if (isolation == Isolation::Root) != is_root && isolation != Isolation::None {
            continue;
        }
        let dir = dir.join(format!("probe-{isolation:?}"));
        for name in ["root", "app", "tmp", "out"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let failure = probe(isolation, &dir).await;
        fs::remove_dir_all(&dir).ok(); // otherwise removed with the simulation's directory
        match failure? {
            None => return Ok(Detected { isolation, reasons }),
            Some(reason) => reasons.push(reason),
        }
    }
    Err(io::Error::other(reasons.join("; ")))
}

/// Directories of a PATH that a dyno's user may not enter, such as those in a private home directory.
pub fn inaccessible_dirs(path: &OsStr) -> BTreeSet<PathBuf> {
    let may_enter = |dir: &Path| {
        let is_searchable =
            |part: &Path| part.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
        dir.ancestors().all(is_searchable)
    };
    std::env::split_paths(path).filter(|dir| dir.is_absolute() && dir.is_dir() && !may_enter(dir)).collect()
}

/// Starts a dyno with this isolation; returns why it failed, `None` when it worked.
async fn probe(isolation: Isolation, dir: &Path) -> io::Result<Option<String>> {
    let spec = Spec {
        isolation,
        app_is_pid1: false,
        dir: dir.to_owned(),
        app_dir: "/app".into(),
        mounts: Vec::new(),
        user: 20_000,
        process_limit: 0,
        memory_limit: Some(1 << 29),
        tmp_size: None,
        hostname: "dyno".to_owned(),
        environment: Vec::new(),
        command: ["/bin/sh", "-c", "test -r /proc/self/stat"].map(Into::into).to_vec(),
        is_attached: false,
    };
    let StartedDyno { mut dyno, stdout: _stdout, mut stderr } = Dyno::start(&spec, &dir.join("spec.json"))?;
    let mut errors = String::new();
    stderr.read_to_string(&mut errors).await?;
    let status = dyno.wait().await;
    let last = errors.lines().last().unwrap_or("no reason given");
    let reason = last.rsplit_once("cannot make a dyno: ").map_or(errors.as_str(), |(_, reason)| reason);
    Ok((status != 0).then(|| format!("{} (status {status})", reason.trim_end())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn directories_without_search_permission_are_inaccessible() {
        let dir = TempDir::new().expect("is created");
        let (public, home) = (dir.path().join("public"), dir.path().join("home"));
        let inner = home.join("bin");
        fs::create_dir_all(&inner).expect("is created");
        fs::create_dir(&public).expect("is created");
        for (path, mode) in [(dir.path(), 0o755), (&public, 0o755), (&home, 0o700), (&inner, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("can be accessed");
        }
        let path = std::env::join_paths([&public, &inner, &dir.path().join("missing")]).expect("are paths");
        assert_eq!(inaccessible_dirs(&path), [inner].into());
    }
}
