//! What a dyno can be surrounded by on this machine: tried, not guessed.

use crate::dyno::Dyno;
use crate::init::{Isolation, Spec};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt as _;

/// The best walls that hold, and why the better ones do not.
///
/// # Errors
/// When not even a plain process can be started.
pub async fn find(dir: &Path) -> io::Result<(Isolation, Vec<String>)> {
    let mut reasons = Vec::new();
    let is_root = nix::unistd::geteuid().is_root();
    for walls in Isolation::ALL {
        if (walls == Isolation::Root) != is_root && walls != Isolation::None {
            continue;
        }
        let dir = dir.join(format!("try-{walls:?}"));
        for name in ["root", "app", "tmp", "out"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let tried = attempt(walls, &dir).await;
        drop(fs::remove_dir_all(&dir)); // or with the simulation
        match tried? {
            None => return Ok((walls, reasons)),
            Some(why) => reasons.push(why),
        }
    }
    Err(io::Error::other(reasons.join("; ")))
}

/// Directories of a PATH that a dyno's user may not enter, because they are in somebody's private home.
pub fn private(path: &OsStr) -> BTreeSet<PathBuf> {
    let may_enter = |dir: &Path| {
        let is_open = |part: &Path| part.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
        dir.ancestors().all(is_open)
    };
    std::env::split_paths(path).filter(|dir| dir.is_absolute() && dir.is_dir() && !may_enter(dir)).collect()
}

/// Why there cannot be such walls; nothing when there can.
async fn attempt(walls: Isolation, dir: &Path) -> io::Result<Option<String>> {
    let spec = Spec {
        walls,
        is_first: false,
        dir: dir.to_owned(),
        app_at: "/app".into(),
        binds: Vec::new(),
        user: 20_000,
        processes: 0,
        limit_file: Some(1 << 29),
        disk: None,
        host: "dyno".to_owned(),
        environment: Vec::new(),
        command: ["/bin/sh", "-c", "test -r /proc/self/stat"].map(Into::into).to_vec(),
        is_attached: false,
    };
    let (mut dyno, _out, mut err) = Dyno::start(&spec, &dir.join("spec.json"))?;
    let mut said = String::new();
    err.read_to_string(&mut said).await?;
    let status = dyno.exited().await;
    let why = said.lines().last().unwrap_or("no reason given").rsplit_once("cannot make a dyno: ");
    let why = why.map_or(said.as_str(), |(_, why)| why).trim_end();
    Ok((status != 0).then(|| format!("{why} (status {status})")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn what_a_dynos_user_may_not_enter_is_found() {
        let dir = TempDir::new().expect("is made");
        let (open, private_dir) = (dir.path().join("open"), dir.path().join("home"));
        let inner = private_dir.join("bin");
        fs::create_dir_all(&inner).expect("is made");
        fs::create_dir(&open).expect("is made");
        for (path, mode) in [(dir.path(), 0o755), (&open, 0o755), (&private_dir, 0o700), (&inner, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("is ours");
        }
        let path = std::env::join_paths([&open, &inner, &dir.path().join("missing")]).expect("are paths");
        assert_eq!(private(&path), [inner].into());
    }
}
