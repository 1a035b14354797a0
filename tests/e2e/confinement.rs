//! The shipper is confined: each forbidden thing is refused, and possible without the confinement. (All other tests run
//! with a confinement that kills: what was forgotten in it ends the shipper, and the run fails.)

use crate::harness::{Agent, Harness, Output, program, wait_for};
use crate::namespace;
use crate::status::status_of;
use nix::sys::signal::Signal;
use std::fs;
use std::net::TcpListener;

/// Whether the kernel has Landlock with rules for ports, and seccomp; else reports what it lacks.
fn is_available() -> bool {
    // With a directory of its own: it leaves a spool there.
    let confined = confined_of(&Harness::new().run(&["cat"]));
    let is_available = confined == "landlock,seccomp,no-new-privs";
    if !is_available {
        crate::harness::skip(&format!("the kernel cannot confine: {confined}"));
    }
    is_available
}

fn confined_of(agent: &Agent) -> String {
    wait_for("a confined shipper", || {
        let confined = status_of(agent)?["confined"].as_str()?.to_owned();
        Some(confined).filter(|confined| !confined.is_empty())
    })
}

/// Tries something so that it is refused by the confinement and nothing else: what needs root, as root of a user
/// namespace.
fn probe(harness: &Harness, confinement: &str, what: &str, argument: &str) -> Output {
    let arguments = ["confinement-probe", confinement, what, argument];
    if ["chroot", "mount"].contains(&what) {
        harness.start_via(&["unshare", "--map-root-user", "--mount"], &arguments).finish()
    } else {
        harness.start(&arguments).finish()
    }
}

#[test]
fn each_forbidden_thing_is_refused_and_possible_without_confinement() {
    let harness = Harness::new().set("TAILRACE_TEST_CONFINEMENT", "");
    if !namespace::is_available() || !is_available() {
        return;
    }
    let own_pid = std::process::id().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_port = listener.local_addr().unwrap().port().to_string();
    let path = |name: &str| harness.path(name).to_str().unwrap().to_owned();
    let environment = format!("/proc/{own_pid}/environ");
    fs::create_dir(path("directory")).unwrap();
    fs::write(path("secret"), "").unwrap();
    for (what, argument) in [
        ("read", path("secret")),
        ("read", "/etc/passwd".to_owned()),
        ("read", environment),
        ("list", path("directory")),
        ("write", path("new")),
        ("rename", path("secret")),
        ("exec", String::new()),
        ("spawn", "/bin/true".to_owned()),
        ("connect", other_port),
        ("listen", String::new()),
        ("abstract-socket", path("abstract")),
        ("netlink", String::new()),
        ("kill", own_pid),
        ("limits", String::new()),
        ("chroot", path("directory")),
        ("memory-file", String::new()),
        ("ptrace", String::new()),
        ("mount", path("directory")),
    ] {
        let confined = probe(&harness, "confined", what, &argument).stdout_text();
        assert!(confined.starts_with("refused: "), "{what} {argument}: {confined}");
        let free = probe(&harness, "free", what, &argument).stdout_text();
        assert_eq!(free, "allowed\n", "{what} {argument}");
    }
}

#[test]
fn what_the_shipper_needs_is_allowed() {
    let harness = Harness::new();
    if !is_available() {
        return;
    }
    fs::create_dir_all(harness.spool_dir()).unwrap();
    let in_spool = harness.spool_dir().join("file").to_str().unwrap().to_owned();
    let port = harness.drain.url().rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
    let ca_file = harness.drain.ca_file().to_str().unwrap().to_owned();
    for (what, argument) in [
        ("write", in_spool.as_str()),
        ("read", in_spool.as_str()),
        ("list", harness.spool_dir().to_str().unwrap()),
        ("read", ca_file.as_str()),
        ("read", "/proc/self/status"),
        ("connect", port.as_str()),
    ] {
        let output = harness.start(&["confinement-probe", "confined", what, argument]).finish();
        assert_eq!(output.stdout_text(), "allowed\n", "{what} {argument}");
    }
}

#[test]
fn in_tests_a_forbidden_system_call_kills() {
    let harness = Harness::new();
    if !is_available() {
        return;
    }
    let output = harness.start(&["confinement-probe", "confined", "kill", "1"]).finish();
    assert_eq!(output.status, -(Signal::SIGSYS as i32), "{}", output.stderr);
}

#[test]
fn the_shipper_alone_is_confined_and_says_so() {
    let harness = Harness::new();
    let mut agent = harness.run(&["cat"]);
    agent.feed("1\n");
    harness.wait_for_lines(1);
    let confined = confined_of(&agent);
    let field = |pid: i32, name: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.map(str::to_owned)
    };
    let shipper = agent.wait_for_shipper();
    for (name, means) in [("Seccomp", "seccomp"), ("NoNewPrivs", "no-new-privs")] {
        let (in_shipper, in_supervisor) = (field(shipper, name), field(agent.pid(), name));
        assert_eq!(in_shipper != in_supervisor, confined.contains(means), "{name}: {confined}");
    }
    harness.assert_all_delivered(&agent.finish(), 1);
}

#[test]
fn lines_are_delivered_where_the_kernel_lacks_a_part() {
    for (lacks, confined) in [
        ("landlock", "seccomp,no-new-privs (landlock: not in this kernel)"),
        ("seccomp", "landlock,no-new-privs (seccomp: "),
    ] {
        let harness = Harness::new();
        if !is_available() {
            return;
        }
        let binary = program();
        let prefix = [binary.to_str().unwrap(), "confinement-probe", "without", lacks];
        let mut agent = harness.start_via(&prefix, &["run", "--", "cat"]);
        assert!(confined_of(&agent).starts_with(confined), "{lacks}: {}", confined_of(&agent));
        agent.feed("1\n");
        harness.wait_for_lines(1);
        let output = agent.finish();
        output.assert_exit(0, "1\n", "");
        harness.assert_all_delivered(&output, 1);
    }
}
