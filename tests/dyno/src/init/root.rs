//! The root directory of a dyno: the directories of this machine, read-only where the kernel allows it, the app, a
//! `/tmp`, and the memory limit file of a slug dyno.

use super::{INIT_PATH, Spec};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The directory that a dyno shares with the simulation, as the dyno sees it.
pub(crate) const SHARED_DIR: &str = "/simulation";
/// Mount options of a dyno's `/dev/shm`.
const SHM_OPTIONS: &str = "size=64m,mode=1777";
/// Entries of this machine's root directory that are not mounted into a dyno.
const EXCLUDED: [&str; 8] = ["proc", "sys", "tmp", "app", "workspace", "layers", "simulation", "lost+found"];

/// Adds the failed step to an error.
fn context<T>(step: &str, result: nix::Result<T>) -> io::Result<T> {
    result.map_err(|errno| io::Error::other(format!("{step}: {}", errno.desc())))
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    context(&format!("bind {}", to.display()), mount(Some(from), to, None::<&str>, flags, None::<&str>))
}

fn tmpfs(at: &Path, options: &str) -> io::Result<()> {
    fs::create_dir_all(at)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    context(&format!("tmpfs {}", at.display()), mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options)))
}

/// Builds the root directory and changes into it; returns the path of the spec file inside.
pub(super) fn build(spec: &Spec, spec_file: &Path) -> io::Result<PathBuf> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    context("make mounts private", mount(None::<&str>, "/", None::<&str>, private, None::<&str>))?;
    let root = spec.dir.join("root");
    tmpfs(&root, "size=16m,mode=755")?;
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    bind_host_dirs(&root)?;
    let shm = root.join("dev/shm");
    if shm.is_dir() {
        tmpfs(&shm, SHM_OPTIONS)?;
    }
    let var_tmp = root.join("var/tmp");
    if var_tmp.is_dir() {
        bind(&spec.dir.join("tmp"), &var_tmp)?;
    }
    let tmp = root.join("tmp");
    match spec.tmp_size {
        Some(bytes) => tmpfs(&tmp, &format!("size={bytes},mode=1777"))?,
        None => bind_at(&spec.dir.join("tmp"), &tmp)?,
    }
    bind_at(&spec.dir.join("app"), &inside(&spec.app_dir))?;
    bind_at(&spec.dir.join("out"), &inside(Path::new(SHARED_DIR)))?;
    for mount in &spec.mounts {
        bind_at(&mount.source, &inside(&mount.target))?;
    }
    write_memory_limit(&root, spec.memory_limit)?;
    let program = inside(Path::new(INIT_PATH));
    fs::write(&program, "")?;
    bind(&std::env::current_exe()?, &program)?;
    let inner_spec_file = Path::new("/.spec");
    fs::copy(spec_file, inside(inner_spec_file))?;
    fs::set_permissions(inside(inner_spec_file), fs::Permissions::from_mode(0o600))?;
    fs::create_dir(root.join("proc"))?;
    bind(Path::new("/proc"), &root.join("proc"))?; // PID 1 mounts its own over it
    std::env::set_current_dir(&root)?;
    context("change the root", nix::unistd::pivot_root(".", "."))?;
    context("leave the old root", umount2(".", MntFlags::MNT_DETACH))?;
    std::env::set_current_dir("/")?;
    let read_only =
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    context("make the root read-only", mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>))?;
    Ok(inner_spec_file.to_owned())
}

/// Mounts `/proc` for the current PID namespace; called by its first process.
pub(super) fn mount_proc() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    context("mount /proc", mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>))
}

/// Creates the mount point, and mounts a directory there.
fn bind_at(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    bind(from, to)
}

/// Mounts the directories of this machine, and copies its symbolic links (`/bin`, `/lib`).
fn bind_host_dirs(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let (from, to, kind) = (entry.path(), root.join(entry.file_name()), entry.file_type()?);
        if EXCLUDED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if kind.is_dir() {
            bind_at(&from, &to)?;
            if entry.file_name() != "dev" {
                let remount = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                // Stays writable where the mount has flags that a user namespace may not change.
                mount(None::<&str>, &to, None::<&str>, remount, None::<&str>).ok();
            }
        }
    }
    Ok(())
}

/// Writes the memory limit. A slug dyno has no cgroup file system, but a plain file in the place of this one
/// (heroku-buildpack-php, `test/fixtures/cgroups`).
fn write_memory_limit(root: &Path, bytes: Option<u64>) -> io::Result<()> {
    let Some(bytes) = bytes else { return fs::create_dir(root.join("sys")) };
    let dir = root.join("sys/fs/cgroup/memory");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("memory.limit_in_bytes"), format!("{bytes}\n"))
}
