//! What a dyno can be surrounded by on this machine: tried, not guessed.

use crate::dyno::Dyno;
use crate::init::{Spec, Walls};
use std::fs;
use std::io;
use std::path::Path;
use tokio::io::AsyncReadExt as _;

/// The best walls that hold, and why the better ones do not.
///
/// # Errors
/// When not even a plain process can be started.
pub async fn find(dir: &Path) -> io::Result<(Walls, Vec<String>)> {
    let mut reasons = Vec::new();
    let is_root = nix::unistd::geteuid().is_root();
    for walls in Walls::ALL {
        if (walls == Walls::Root) != is_root && walls != Walls::None {
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

/// Why there cannot be such walls; nothing when there can.
async fn attempt(walls: Walls, dir: &Path) -> io::Result<Option<String>> {
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
