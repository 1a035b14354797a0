//! Patterns of processes and streams in apps: each behaves as without the agent.

use crate::harness::{Harness, numbers, program, quoted, skip, wait_until};
use nix::sys::signal::Signal;
use std::fs;

#[test]
fn a_pipeline_exits_as_one_command() {
    let harness = Harness::new();
    let output =
        harness.run(&["bash", "-c", "set -o pipefail; seq 100000 | cat | tac | (cat; exit 5)"]).finish();
    assert_eq!(
        (output.status, output.stdout.len(), output.stderr.as_str()),
        (5, numbers(1..=100_000).len(), "")
    );
    harness.assert_all_delivered(&output, 100_000);
    let harness = Harness::new();
    let agent = harness.run(&["bash", "-c", "(echo up; sleep 60) | cat | cat | cat"]);
    agent.wait_for_stdout("up\n");
    agent.wait_for_shipper();
    agent.signal_group(Signal::SIGTERM);
    let output = agent.finish();
    assert_eq!(output.status, 143);
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn a_nested_supervisor_replaces_itself_with_the_app() {
    let agent = program().display().to_string();
    for (command, lines) in [
        (vec![agent.as_str(), "run", "--", "sh", "-c", "echo one; exit 4"], 1),
        (vec!["env", "A=b", "timeout", "60", &agent, "run", "--shell", "echo one; exit 4"], 1),
        (vec!["bash", "-c", &format!("echo zero; '{agent}' run -- echo one; exit 4"), "bash"], 2),
        (vec![agent.as_str(), "run", "--", &agent, "run", "sh", "-c", "echo one; exit 4"], 1),
    ] {
        let harness = Harness::new();
        let output = harness.run(&command).finish();
        assert_eq!(
            (output.status, output.stderr.as_str(), output.stdout.ends_with(b"one\n")),
            (4, "", true),
            "{command:?}"
        );
        harness.assert_all_delivered(&output, lines);
    }
    // The inner supervisor stays where the outer one does not see the output.
    let harness = Harness::new();
    let file = harness.path("file");
    let line = format!("'{agent}' run -- echo inner >{}; echo outer", quoted(&file));
    let output = harness.run(&["bash", "-c", &line]).finish();
    assert_eq!((output.status, output.stdout_text().as_str()), (0, "outer\n"));
    let mut lines = harness.drain.lines();
    lines.sort();
    assert_eq!(lines, ["inner", "outer"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "inner\n");
}

/// Checks that the daemon whose PID is in this file runs after the exit of the supervisor, and kills it.
fn assert_daemon_survived(file: &std::path::Path) {
    wait_until("the daemon", || file.exists());
    let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    assert!(crate::procfs::is_alive(pid), "the daemon was killed");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn a_daemon_in_its_own_session_survives() {
    let harness = Harness::new();
    let pid = harness.path("pid");
    let script = format!(
        "file={}; export file; setsid sh -c 'echo $$ >\"$file.new\"; mv \"$file.new\" \"$file\"; exec sleep 60' \
         >/dev/null 2>&1 & echo up; exit 3",
        quoted(&pid)
    );
    let output = harness.run(&["bash", "-c", &script]).finish();
    output.assert_exit(3, "up\n", "");
    harness.assert_all_delivered(&output, 1);
    assert_daemon_survived(&pid);
}

#[test]
fn a_daemon_that_keeps_the_pipe_open_does_not_delay_the_exit() {
    let harness = Harness::new();
    let start = std::time::Instant::now();
    let agent = harness.run(&["bash", "-c", "sleep 60 & echo up; exit 3"]);
    let output = agent.finish();
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    output.assert_exit(3, "up\n", "");
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn a_stop_reaches_an_app_in_its_own_process_group() {
    let harness = Harness::new();
    let agent =
        harness.run(&["python3", "-uc", "import os, signal; os.setpgid(0, 0); print('up'); signal.pause()"]);
    agent.wait_for_stdout("up\n");
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    assert_eq!((output.status, output.stderr.as_str()), (143, ""));
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn an_app_that_executes_another_program_stays_the_app() {
    let harness = Harness::new();
    let output = harness
        .run(&["bash", "-c", "echo one; exec sh -c 'echo two; exec sh -c \"echo three; exit 4\"'"])
        .finish();
    assert_eq!((output.status, output.stdout_text().as_str()), (4, "one\ntwo\nthree\n"));
    harness.assert_all_delivered(&output, 3);
}

#[test]
fn output_of_preforked_workers_arrives_in_order() {
    let harness = Harness::new();
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
    let output = harness.run(&["python3", "-c", script]).finish();
    assert_eq!((output.status, output.stdout_text().lines().count()), (6, 4000));
    for worker in 0..8 {
        let prefix = format!("worker {worker} line ");
        let text = output.stdout_text();
        let lines: Vec<u32> =
            text.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect();
        assert!(lines.iter().copied().eq(0..500), "worker {worker}");
    }
    harness.assert_all_delivered(&output, 4000);
}

#[test]
fn an_app_may_redirect_its_own_output_to_a_file() {
    let harness = Harness::new();
    let file = harness.path("file");
    let script = format!("echo one; exec >{}; echo two; echo three >&2; exit 3", quoted(&file));
    let output = harness.run(&["bash", "-c", &script]).finish();
    output.assert_exit(3, "one\n", "three\n");
    assert_eq!(fs::read_to_string(file).unwrap(), "two\n", "the file must have what the app redirected");
    harness.assert_all_delivered(&output, 2);
}

#[test]
fn a_daemon_that_forked_twice_survives() {
    let harness = Harness::new();
    let pid = harness.path("pid");
    // Forked twice, in its own session, without the streams of the app.
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
    let output = harness.run(&["python3", "-c", &text]).finish();
    output.assert_exit(3, "up\n", "");
    harness.assert_all_delivered(&output, 1);
    assert_daemon_survived(&pid);
}

#[test]
fn a_java_app_and_a_node_cluster_stop_as_without_the_agent() {
    let java = "class Up { public static void main(String[] a) throws Exception { System.out.println(\"up\"); \
                Thread.sleep(60000); } }";
    let cluster = "const c = require('cluster'); if (c.isPrimary) { let n = 0; c.on('online', () => { if (++n == 2) \
                   console.log('up'); }); c.fork(); c.fork(); process.on('SIGTERM', () => { let left = 2; \
                   c.on('exit', () => { if (--left == 0) { console.log('end'); process.exit(7); } }); \
                   c.disconnect(); }); } else { process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); \
                   process.on('disconnect', () => process.exit(0)); }";
    let harness = Harness::new();
    let (file, main) = (harness.path("Up.java"), harness.path("main.js"));
    fs::write(&file, java).unwrap();
    fs::write(&main, cluster).unwrap();
    for (command, text, status) in [
        (vec!["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", file.to_str().unwrap()], "up\n", 143),
        (vec!["node", main.to_str().unwrap()], "up\nend\n", 7),
    ] {
        if std::process::Command::new(command[0]).arg("--version").output().is_err() {
            skip(&format!("{} is not installed", command[0]));
            continue;
        }
        for to_all in [false, true] {
            let harness = Harness::new();
            let agent = harness.run(&command);
            agent.wait_for_stdout("up\n");
            agent.wait_for_shipper();
            if to_all {
                agent.signal_group(Signal::SIGTERM);
            } else {
                agent.signal(Signal::SIGTERM);
            }
            let output = agent.finish();
            assert_eq!(
                (output.status, output.stdout_text().as_str(), output.stderr.as_str()),
                (status, text, ""),
                "{command:?}"
            );
            harness.assert_all_delivered(&output, text.lines().count() as u64);
        }
    }
}
