//! Fail open: where the agent lacks a resource, the app runs as without the agent, with one message about it at most.

use crate::harness::{Harness, Output, program, skip};
use crate::threads::check_in_threads;
use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use tailrace_drain::Options;
use tempfile::TempDir;

/// An app that needs few resources.
const APP: [&str; 3] = ["sh", "-c", "echo up; exit 7"];

/// Whether `PREFIX COMMAND` runs without the agent.
fn runs_without_agent(harness: &Harness, prefix: &[&str], app: &[&str]) -> bool {
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).args(app).env_clear().envs(harness.settings());
    command.output().is_ok_and(|output| output.status.success() || output.status.code() == Some(7))
}

/// Checks that the app ran as without the agent, and that the agent gave one reason at most. What it could not deliver
/// before the end it says on top of that.
fn assert_app_ran(what: &str, output: &Output) {
    assert_eq!((output.status, output.stdout_text().as_str()), (7, "up\n"), "{what}: {}", output.stderr);
    let messages = output.messages();
    let reasons = messages.iter().filter(|message| !message.contains("at=lines-not-delivered")).count();
    assert!(
        reasons <= 1 && messages.len() <= 2 && messages.len() == output.stderr.lines().count(),
        "{what}: {}",
        output.stderr
    );
}

/// `PREFIX bash -c 'LIMIT; exec "$@"' bash`: a prefix that sets a limit with `ulimit`.
fn limit_prefix(prefix: &[&str], limit: &str) -> Vec<String> {
    let script = format!("{limit}; exec \"$@\"");
    prefix.iter().copied().chain(["bash", "-c", &script, "bash"]).map(str::to_owned).collect()
}

/// Tries limits. Wherever the app runs without the agent, and the agent can be started at all, the app must run under
/// the agent.
fn try_limits(harness: &Harness, prefix: &[&str], program: &str, limits: impl Iterator<Item = String>) {
    let (mut tried, mut delivered_runs) = (0, 0);
    for limit in limits {
        let prefix = limit_prefix(prefix, &limit);
        let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
        if !runs_without_agent(harness, &prefix, &APP)
            || !runs_without_agent(harness, &prefix, &[program, "--version"])
        {
            continue;
        }
        let command = [&prefix[..], &[program]].concat();
        let agent = harness.start_command(&command, &[&["run", "--"], &APP[..]].concat());
        let output = agent.finish();
        assert_app_ran(&limit, &output);
        // Otherwise the next agent would adopt this spool, and report that.
        fs::remove_dir_all(harness.spool_dir()).ok(); // the spool may be in memory
        tried += 1;
        delivered_runs += u32::from(output.has_ledger() && output.ledger().drains[0].delivered == 1);
    }
    assert!(
        tried > 3 && delivered_runs < tried,
        "no limit was low enough: {tried} tried, {delivered_runs} delivered"
    );
    assert!(delivered_runs > 0, "every limit was too low");
}

#[test]
fn the_app_runs_when_descriptors_run_out() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let program = program();
    try_limits(&harness, &[], program.to_str().unwrap(), (4..48).map(|count| format!("ulimit -n {count}")));
}

#[test]
fn the_app_runs_when_address_space_runs_out() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let program = program();
    let limits = (0..40).map(|step| format!("ulimit -v {}", 4000 + step * 1500));
    let limits = limits.chain(["ulimit -v unlimited".to_owned()]);
    try_limits(&harness, &[], program.to_str().unwrap(), limits);
}

#[test]
fn the_app_runs_when_processes_run_out() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can switch to a user without other processes");
        return;
    }
    // The limit counts all processes of a user, so this test runs as a separate user, who owns its files.
    let user = 2_000_000_000 + std::process::id();
    let dir = TempDir::with_prefix("tailrace-limits-").unwrap();
    let copy = dir.path().join("tailrace");
    fs::copy(program(), &copy).unwrap();
    let program = copy.to_str().unwrap().to_owned();
    let ca = dir.path().join("ca.pem");
    let harness = Harness::in_directory(dir, Options::default());
    fs::copy(harness.drain.ca_file(), &ca).unwrap();
    for file in [copy.parent().unwrap(), &copy, &ca, &harness.path("tmp")] {
        chown(file, Some(user), Some(user)).unwrap();
    }
    let harness = harness.set("TAILRACE_CA_FILE", ca.to_str().unwrap()).set("TAILRACE_STOP_GRACE", "1s");
    let user = user.to_string();
    let as_user = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    try_limits(&harness, &as_user, &program, (1..16).map(|count| format!("ulimit -u {count}")));
}

/// Arguments before a command that runs it in its own mount namespace, started by this shell script.
fn with_mount(script: &str) -> [&str; 7] {
    ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
}

#[test]
fn the_app_runs_without_proc() {
    let harness = Harness::new();
    let prefix = with_mount("mount -t tmpfs none /proc && exec \"$@\"");
    if !runs_without_agent(&harness, &prefix, &["true"]) {
        skip("mount namespaces cannot be created");
        return;
    }
    assert_app_ran("no /proc", &harness.start_via(&prefix, &[&["run", "--"], &APP[..]].concat()).finish());
}

#[test]
fn everything_is_delivered_with_a_read_only_spool_directory() {
    let harness = Harness::new();
    let prefix = with_mount("mount -t tmpfs -o ro none \"$TMPDIR\" && exec \"$@\"");
    if !runs_without_agent(&harness, &prefix, &["true"]) {
        skip("mount namespaces cannot be created");
        return;
    }
    let spool = harness.path("tmp/spool");
    let harness = harness.set("TAILRACE_SPOOL_DIR", spool.to_str().unwrap());
    let output = harness.start_via(&prefix, &[&["run", "--"], &APP[..]].concat()).finish();
    assert_app_ran("a read-only spool directory", &output);
    assert!(output.messages()[0].contains("at=spool-in-memory"), "{}", output.stderr);
    assert_eq!(output.ledger().drains[0].delivered, 1);
}

/// Makes one system call fail with EPERM, then executes the rest of its arguments (seccomp(2), classic BPF of bpf(2)).
/// Not tried: poll(2). Without it, Rust's runtime aborts a program before `main`.
const FILTER: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
number, command = int(sys.argv[1]), sys.argv[2:]
step = lambda code, jt, jf, k: struct.pack("HBBI", code, jt, jf, k)
filter = step(0x20, 0, 0, 0) + step(0x15, 0, 1, number) + step(0x06, 0, 0, 0x00050001) + step(0x06, 0, 0, 0x7fff0000)
text = ctypes.create_string_buffer(filter, len(filter))
program = struct.pack("HxxxxxxQ", 4, ctypes.addressof(text))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
os.execvp(command[0], command)
"#;

#[test]
#[cfg(target_arch = "x86_64")]
fn the_app_runs_when_a_system_call_is_refused() {
    use nix::libc;
    let tried = AtomicU32::new(0);
    let calls = [
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
    ];
    check_in_threads(4, calls, |(name, number)| {
        let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
        let number = number.to_string();
        let prefix = ["python3", "-c", FILTER, &number];
        // Some are needed by the shell as well.
        if !runs_without_agent(&harness, &prefix, &APP) {
            return;
        }
        let output = harness.start_via(&prefix, &[&["run", "--"], &APP[..]].concat()).finish();
        assert_app_ran(name, &output);
        tried.fetch_add(1, Ordering::Relaxed);
    });
    let tried = tried.into_inner();
    assert!(tried == 0 || tried > 15, "{tried}");
    if tried == 0 {
        skip("python3 is not installed, or filters are refused");
    }
}
