//! The root of a dyno: this machine's programs, read-only where the kernel lets us, with the app, a `/tmp`, and the
//! few files of a slug dyno that the platform fakes.

use super::{SELF, Spec};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What the dyno exchanges with the simulation.
pub(crate) const SHARED_DIR: &str = "/simulation";
/// `/dev/shm` of a dyno.
const SHARED_MEMORY: &str = "size=64m,mode=1777";
/// What of this machine's root a dyno has not, or has another of.
const NOT_OURS: [&str; 8] = ["proc", "sys", "tmp", "app", "workspace", "layers", "simulation", "lost+found"];

fn attempt<T>(what: &str, result: nix::Result<T>) -> io::Result<T> {
    result.map_err(|errno| io::Error::other(format!("{what}: {}", errno.desc())))
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    attempt(&format!("bind {}", to.display()), mount(Some(from), to, None::<&str>, flags, None::<&str>))
}

fn tmpfs(at: &Path, options: &str) -> io::Result<()> {
    fs::create_dir_all(at)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    attempt(&format!("tmpfs {}", at.display()), mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options)))
}

/// Makes the root and moves into it; returns where the spec is in there.
pub(super) fn build(spec: &Spec, spec_file: &Path) -> io::Result<PathBuf> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    attempt("make mounts private", mount(None::<&str>, "/", None::<&str>, private, None::<&str>))?;
    let root = spec.dir.join("root");
    tmpfs(&root, "size=16m,mode=755")?;
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    machine(&root)?;
    let shm = root.join("dev/shm");
    if shm.is_dir() {
        tmpfs(&shm, SHARED_MEMORY)?;
    }
    let var_tmp = root.join("var/tmp");
    if var_tmp.is_dir() {
        bind(&spec.dir.join("tmp"), &var_tmp)?;
    }
    let tmp = root.join("tmp");
    match spec.disk {
        Some(bytes) => tmpfs(&tmp, &format!("size={bytes},mode=1777"))?,
        None => place(&spec.dir.join("tmp"), &tmp)?,
    }
    place(&spec.dir.join("app"), &inside(&spec.app_at))?;
    place(&spec.dir.join("out"), &inside(Path::new(SHARED_DIR)))?;
    for (here, there) in &spec.binds {
        place(here, &inside(there))?;
    }
    limit_file(&root, spec.limit_file)?;
    let program = inside(Path::new(SELF));
    fs::write(&program, "")?;
    bind(&std::env::current_exe()?, &program)?;
    let spec_at = Path::new("/.spec");
    fs::copy(spec_file, inside(spec_at))?;
    fs::set_permissions(inside(spec_at), fs::Permissions::from_mode(0o600))?;
    fs::create_dir(root.join("proc"))?;
    bind(Path::new("/proc"), &root.join("proc"))?; // until the first process has its own
    std::env::set_current_dir(&root)?;
    attempt("change the root", nix::unistd::pivot_root(".", "."))?;
    attempt("leave the old root", umount2(".", MntFlags::MNT_DETACH))?;
    std::env::set_current_dir("/")?;
    let sealed =
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    attempt("make the root read-only", mount(None::<&str>, "/", None::<&str>, sealed, None::<&str>))?;
    Ok(spec_at.to_owned())
}

/// `/proc` of the dyno's own processes; for its first one.
pub(super) fn mount_proc() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    attempt("mount /proc", mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>))
}

fn place(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    bind(from, to)
}

/// The programs of this machine.
fn machine(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let (from, to, kind) = (entry.path(), root.join(entry.file_name()), entry.file_type()?);
        if NOT_OURS.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if kind.is_dir() {
            place(&from, &to)?;
            if entry.file_name() != "dev" {
                let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                // Not where a mount has flags that a namespace of users may not change.
                let _as_it_is = mount(None::<&str>, &to, None::<&str>, again, None::<&str>);
            }
        }
    }
    Ok(())
}

/// A slug dyno has no tree of cgroups, but one plain file that looks as if (heroku-buildpack-php,
/// `test/fixtures/cgroups`).
fn limit_file(root: &Path, bytes: Option<u64>) -> io::Result<()> {
    let Some(bytes) = bytes else { return fs::create_dir(root.join("sys")) };
    let dir = root.join("sys/fs/cgroup/memory");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("memory.limit_in_bytes"), format!("{bytes}\n"))
}
