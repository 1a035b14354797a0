//! Fail open: where something is lacking that we need, the app runs as it does without us, and we say a line at most.

use crate::harness::{Agent, End, Rig, program};
use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;
use tailrace_drain::Options;
use tempfile::TempDir;

/// An app that needs little.
const APP: [&str; 3] = ["sh", "-c", "echo up; exit 7"];

/// Whether `prefix APP` runs, without us.
fn runs(rig: &Rig, prefix: &[&str], app: &[&str]) -> bool {
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).args(app).env_clear().envs(rig.settings());
    command.output().is_ok_and(|output| output.status.success() || output.status.code() == Some(7))
}

/// It ran as it would have, and we said a line at most.
fn ran(what: &str, end: &End) {
    assert_eq!((end.status, end.text().as_str()), (7, "up\n"), "{what}: {}", end.err);
    assert!(
        end.err.lines().count() <= 1 && end.said().len() == end.err.lines().count(),
        "{what}: {}",
        end.err
    );
}

/// `bash -c 'LIMIT; exec "$@"' bash`, behind other words.
fn limited(before: &[&str], limit: &str) -> Vec<String> {
    let script = format!("{limit}; exec \"$@\"");
    before.iter().copied().chain(["bash", "-c", &script, "bash"]).map(str::to_owned).collect()
}

/// Steps through a limit; the app runs wherever it runs without us and our program can be loaded at all.
fn stepping(rig: &Rig, before: &[&str], program: &str, limits: impl Iterator<Item = String>) {
    let (mut tried, mut shipped) = (0, 0);
    for limit in limits {
        let prefix = limited(before, &limit);
        let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
        if !runs(rig, &prefix, &APP) || !runs(rig, &prefix, &[program, "--version"]) {
            continue;
        }
        let mut words = prefix.clone();
        words.push(program);
        let agent: Agent = rig.plain(&words, &[&["run", "--"], &APP[..]].concat());
        let end = agent.end();
        ran(&limit, &end);
        // What one holds at its end, the next would deliver, and say so.
        let _or_memory = fs::remove_dir_all(rig.spool());
        tried += 1;
        shipped += u32::from(end.has_ledger() && end.ledger().drains[0].delivered == 1);
    }
    assert!(tried > 3 && shipped < tried, "the limits did bite: {tried} tried, {shipped} shipped");
    assert!(shipped > 0, "and the last did not");
}

#[test]
fn descriptors_run_out() {
    let rig = Rig::new().set("TAILRACE_STOP_GRACE", "1s");
    let program = program();
    stepping(&rig, &[], program.to_str().unwrap(), (4..48).map(|count| format!("ulimit -n {count}")));
}

#[test]
fn address_space_runs_out() {
    let rig = Rig::new().set("TAILRACE_STOP_GRACE", "1s");
    let program = program();
    let limits = (0..40).map(|step| format!("ulimit -v {}", 4000 + step * 1500));
    let limits = limits.chain(["ulimit -v unlimited".to_owned()]);
    stepping(&rig, &[], program.to_str().unwrap(), limits);
}

#[test]
fn processes_run_out() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become a user who has no other processes");
        return;
    }
    // A user of this test alone, because the limit counts all processes of a user; all files are this user's.
    let user = 2_000_000_000 + std::process::id();
    let dir = TempDir::with_prefix("tailrace-limits-").unwrap();
    let own = dir.path().join("tailrace");
    let program = own.to_str().unwrap().to_owned();
    fs::copy(crate::harness::program(), &own).unwrap();
    let ca = dir.path().join("ca.pem");
    let rig = Rig::within(dir, Options::default());
    fs::copy(rig.drain.ca_file(), &ca).unwrap();
    for file in [own.parent().unwrap(), &own, &ca, &rig.path("tmp")] {
        chown(file, Some(user), Some(user)).unwrap();
    }
    let rig = rig.set("TAILRACE_CA_FILE", ca.to_str().unwrap()).set("TAILRACE_STOP_GRACE", "1s");
    let user = user.to_string();
    let user = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    stepping(&rig, &user, &program, (1..16).map(|count| format!("ulimit -u {count}")));
}

#[test]
fn without_proc_the_app_runs() {
    let rig = Rig::new();
    let words = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /proc && exec \"$@\"",
        "sh",
    ];
    if !runs(&rig, &words, &["true"]) {
        crate::namespace::skipped("no namespace of mounts can be made");
        return;
    }
    ran("no /proc", &rig.through(&words, &[&["run", "--"], &APP[..]].concat()).end());
}

#[test]
fn on_a_disk_that_cannot_be_written_all_is_delivered() {
    let rig = Rig::new();
    let words = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs -o ro none \"$TMPDIR\" && exec \"$@\"",
        "sh",
    ];
    if !runs(&rig, &words, &["true"]) {
        crate::namespace::skipped("no namespace of mounts can be made");
        return;
    }
    let spool = rig.path("tmp/spool");
    let rig = rig.set("TAILRACE_SPOOL_DIR", spool.to_str().unwrap());
    let end = rig.through(&words, &[&["run", "--"], &APP[..]].concat()).end();
    ran("a disk that cannot be written", &end);
    assert!(end.said()[0].contains("at=spool-in-memory"), "{}", end.err);
    assert_eq!(end.ledger().drains[0].delivered, 1);
}

/// Refuses one system call with EPERM, then runs the rest of its words (seccomp(2), the classic filter of bpf(2)).
/// Not tried: poll(2). Rust's runtime ends a program that may not call it, before `main`.
const FILTER: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
number, words = int(sys.argv[1]), sys.argv[2:]
step = lambda code, jt, jf, k: struct.pack("HBBI", code, jt, jf, k)
filter = step(0x20, 0, 0, 0) + step(0x15, 0, 1, number) + step(0x06, 0, 0, 0x00050001) + step(0x06, 0, 0, 0x7fff0000)
text = ctypes.create_string_buffer(filter, len(filter))
program = struct.pack("HxxxxxxQ", 4, ctypes.addressof(text))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
os.execvp(words[0], words)
"#;

#[test]
#[cfg(target_arch = "x86_64")]
fn a_system_call_that_is_refused_stops_no_app() {
    use nix::libc;
    let rig = Rig::new().set("TAILRACE_STOP_GRACE", "1s");
    let mut tried = 0;
    for (name, number) in [
        ("eventfd2", libc::SYS_eventfd2),
        ("signalfd4", libc::SYS_signalfd4),
        ("memfd_create", libc::SYS_memfd_create),
        ("pipe2", libc::SYS_pipe2),
        ("fcntl", libc::SYS_fcntl),
        ("flock", libc::SYS_flock),
        ("sync_file_range", libc::SYS_sync_file_range),
        ("fadvise64", libc::SYS_fadvise64),
        ("getrandom", libc::SYS_getrandom),
        ("prctl", libc::SYS_prctl),
        ("socketpair", libc::SYS_socketpair),
        ("socket", libc::SYS_socket),
        ("ppoll", libc::SYS_ppoll),
        ("clone3", libc::SYS_clone3),
        ("sigaltstack", libc::SYS_sigaltstack),
        ("epoll_create1", libc::SYS_epoll_create1),
        ("statx", libc::SYS_statx),
        ("mkdir", libc::SYS_mkdir),
        ("fallocate", libc::SYS_fallocate),
        ("getdents64", libc::SYS_getdents64),
        ("readlink", libc::SYS_readlink),
        ("madvise", libc::SYS_madvise),
        ("pwrite64", libc::SYS_pwrite64),
        ("rename", libc::SYS_rename),
        ("sched_getaffinity", libc::SYS_sched_getaffinity),
        ("clock_nanosleep", libc::SYS_clock_nanosleep),
        ("waitid", libc::SYS_waitid),
        ("fstat", libc::SYS_fstat),
        ("chdir", libc::SYS_chdir),
        ("sendto", libc::SYS_sendto),
    ] {
        let number = number.to_string();
        let prefix = ["python3", "-c", FILTER, &number];
        // Some are needed by the shell too.
        if !runs(&rig, &prefix, &APP) {
            continue;
        }
        let end = rig.through(&prefix, &[&["run", "--"], &APP[..]].concat()).end();
        let _or_memory = fs::remove_dir_all(rig.spool());
        assert_eq!((end.status, end.text().as_str()), (7, "up\n"), "{name}: {}", end.err);
        assert!(end.err.lines().count() <= 1, "{name}: {}", end.err);
        tried += 1;
    }
    assert!(tried == 0 || tried > 15, "{tried}");
    if tried == 0 {
        eprintln!("skipped: python3 is not installed, or filters are refused");
    }
}
