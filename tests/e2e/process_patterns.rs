//! What apps do with their processes and streams: the same comes of it as without us.

use crate::harness::{Rig, numbers, program, wait_for};
use nix::sys::signal::Signal;
use std::fs;

#[test]
fn a_pipeline_of_four_ends_as_one() {
    let rig = Rig::new();
    let end = rig.run(&["bash", "-c", "set -o pipefail; seq 100000 | cat | tac | (cat; exit 5)"]).end();
    assert_eq!((end.status, end.out.len(), end.err.as_str()), (5, numbers(1..=100_000).len(), ""));
    rig.all_delivered(&end, 100_000);
    let rig = Rig::new();
    let agent = rig.run(&["bash", "-c", "(echo up; sleep 60) | cat | cat | cat"]);
    agent.wait_out("up");
    agent.shipper();
    agent.signal_all(Signal::SIGTERM);
    let end = agent.end();
    assert_eq!(end.status, 143);
    rig.all_delivered(&end, 1);
}

#[test]
fn a_keeper_below_another_steps_aside() {
    let agent = program().display().to_string();
    for (words, lines) in [
        (vec![agent.as_str(), "run", "--", "sh", "-c", "echo one; exit 4"], 1),
        (vec!["env", "A=b", "timeout", "60", &agent, "run", "--shell", "echo one; exit 4"], 1),
        (vec!["bash", "-c", &format!("echo zero; '{agent}' run -- echo one; exit 4"), "bash"], 2),
        (vec![agent.as_str(), "run", "--", &agent, "run", "sh", "-c", "echo one; exit 4"], 1),
    ] {
        let rig = Rig::new();
        let end = rig.run(&words).end();
        assert_eq!((end.status, end.err.as_str(), end.out.ends_with(b"one\n")), (4, "", true), "{words:?}");
        rig.all_delivered(&end, lines);
    }
    // What does not come to the one above is shipped by the one below.
    let rig = Rig::new();
    let file = rig.path("file");
    let line = format!("'{agent}' run -- echo below >{}; echo above", file.display());
    let end = rig.run(&["bash", "-c", &line]).end();
    assert_eq!((end.status, end.text().as_str()), (0, "above\n"));
    let mut lines = rig.drain.lines();
    lines.sort();
    assert_eq!(lines, ["above", "below"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "below\n");
}

/// A daemon that wrote its pid to this file is still there when the dyno has ended. It ends now.
fn outlived(file: &std::path::Path) {
    wait_for("the daemon", || file.exists().then_some(()));
    let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    assert!(crate::procfs::is_alive(pid), "nobody ended it");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn a_daemon_goes_its_own_way() {
    let rig = Rig::new();
    let pid = rig.path("pid");
    let script = format!(
        "setsid sh -c 'echo $$ >{0}.new; mv {0}.new {0}; exec sleep 60' >/dev/null 2>&1 & echo up; exit 3",
        pid.display()
    );
    let end = rig.run(&["bash", "-c", &script]).end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "up\n", ""));
    rig.all_delivered(&end, 1);
    outlived(&pid);
}

#[test]
fn a_daemon_that_keeps_the_pipe_is_not_waited_for() {
    let rig = Rig::new();
    let start = std::time::Instant::now();
    let agent = rig.run(&["bash", "-c", "sleep 60 & echo up; exit 3"]);
    let end = agent.end();
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "up\n", ""));
    rig.all_delivered(&end, 1);
}

#[test]
fn an_app_in_a_group_of_its_own_is_told_of_a_stop() {
    let rig = Rig::new();
    let agent =
        rig.run(&["python3", "-uc", "import os, signal; os.setpgid(0, 0); print('up'); signal.pause()"]);
    agent.wait_out("up");
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    assert_eq!((end.status, end.err.as_str()), (143, ""));
    rig.all_delivered(&end, 1);
}

#[test]
fn an_app_that_becomes_another_is_the_same_app() {
    let rig = Rig::new();
    let end =
        rig.run(&["bash", "-c", "echo one; exec sh -c 'echo two; exec sh -c \"echo three; exit 4\"'"]).end();
    assert_eq!((end.status, end.text().as_str()), (4, "one\ntwo\nthree\n"));
    rig.all_delivered(&end, 3);
}

#[test]
fn workers_that_were_forked_before_print_as_one() {
    let rig = Rig::new();
    let script = "
import os, sys
for worker in range(8):
    if os.fork() == 0:
        for line in range(500):
            os.write(1, f'worker {worker} line {line}\\n'.encode())
        os._exit(0)
for worker in range(8):
    os.wait()
sys.exit(6)
";
    let end = rig.run(&["python3", "-c", script]).end();
    assert_eq!((end.status, end.text().lines().count()), (6, 4000));
    for worker in 0..8 {
        let own = format!("worker {worker} line ");
        let text = end.text();
        let lines: Vec<u32> = text.lines().filter_map(|line| line.strip_prefix(&own)?.parse().ok()).collect();
        assert!(lines.iter().copied().eq(0..500), "worker {worker}");
    }
    rig.all_delivered(&end, 4000);
}

#[test]
fn an_app_that_puts_a_file_in_the_place_of_its_output() {
    let rig = Rig::new();
    let file = rig.path("file");
    let script = format!("echo one; exec >{}; echo two; echo three >&2; exit 3", file.display());
    let end = rig.run(&["bash", "-c", &script]).end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "one\n", "three\n"));
    assert_eq!(fs::read_to_string(file).unwrap(), "two\n", "that is the app's own");
    rig.all_delivered(&end, 2);
}

#[test]
fn a_daemon_of_the_old_school_is_let_go() {
    let rig = Rig::new();
    let pid = rig.path("pid");
    // Twice forked, a session of its own, no stream of ours.
    let text = format!(
        "
import os, sys, time
print('up', flush=True)
if os.fork(): os._exit(3)
os.setsid()
if os.fork(): os._exit(0)
null = os.open('/dev/null', os.O_RDWR)
for fd in (0, 1, 2): os.dup2(null, fd)
with open('{0}.new', 'w') as file: file.write(str(os.getpid()))
os.rename('{0}.new', '{0}')
time.sleep(60)",
        pid.display()
    );
    let end = rig.run(&["python3", "-c", &text]).end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "up\n", ""));
    rig.all_delivered(&end, 1);
    outlived(&pid);
}

#[test]
fn a_virtual_machine_and_a_cluster_stop_as_without_us() {
    let java = "class Up { public static void main(String[] a) throws Exception { System.out.println(\"up\"); \
                Thread.sleep(60000); } }";
    let cluster = "const c = require('cluster'); if (c.isPrimary) { let n = 0; c.on('online', () => { if (++n == 2) \
                   console.log('up'); }); c.fork(); c.fork(); process.on('SIGTERM', () => { let left = 2; \
                   c.on('exit', () => { if (--left == 0) { console.log('end'); process.exit(7); } }); \
                   c.disconnect(); }); } else { process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); \
                   process.on('disconnect', () => process.exit(0)); }";
    let rig = Rig::new();
    let (file, main) = (rig.path("Up.java"), rig.path("main.js"));
    fs::write(&file, java).unwrap();
    fs::write(&main, cluster).unwrap();
    for (words, text, status) in [
        (vec!["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", file.to_str().unwrap()], "up\n", 143),
        (vec!["node", main.to_str().unwrap()], "up\nend\n", 7),
    ] {
        if std::process::Command::new(words[0]).arg("--version").output().is_err() {
            eprintln!("skipped: {} is not installed", words[0]);
            continue;
        }
        for to_all in [false, true] {
            let rig = Rig::new();
            let agent = rig.run(&words);
            agent.wait_out("up\n");
            agent.shipper();
            if to_all {
                agent.signal_all(Signal::SIGTERM);
            } else {
                agent.signal(Signal::SIGTERM);
            }
            let end = agent.end();
            assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (status, text, ""), "{words:?}");
            rig.all_delivered(&end, text.lines().count() as u64);
        }
    }
}
