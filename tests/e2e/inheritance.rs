//! The app inherits the same environment, limits, descriptors and signal dispositions as without the agent.

use crate::harness::{Harness, quoted, wait_until};
use std::fs;
use std::process::{Command, Stdio};

/// Prints what a program can see of what it inherited; descriptors by the files they refer to. Signals 32 to 34 are
/// reserved by the C library: their disposition depends on the parent, and programs cannot use them.
const PRINTS_STATE: &str = r#"
    for set in SigIgn SigBlk; do
        hex=$(grep $set /proc/self/status)
        printf '%s %x\n' $set $((0x${hex##*[[:space:]]} & ~(7 << 31)))
    done
    ulimit -a; umask; pwd; cat /proc/self/oom_score_adj
    for fd in 0 3 4 5 6 7 8 9 10 11 12; do printf "$fd "; readlink /proc/$$/fd/$fd || echo; done
    env | grep -v -e '^_=' -e '^TAILRACE_LEDGER_FILE=' -e '^SHLVL=' -e s3cret | sort
    echo "$0" "$@""#;

/// A parent that changes what its children inherit, and opens the file `$1` as descriptor 7.
const PARENT: &str =
    r#"trap '' PIPE USR1 TSTP; umask 027; ulimit -n 200; ulimit -c 0; cd /; exec 7<"$1"; shift; exec "$@""#;

#[test]
fn the_app_inherits_the_same_as_without_the_agent() {
    let harness = Harness::new();
    let file = harness.path("inherited-file");
    fs::write(&file, "").unwrap();
    let parent = ["bash", "-c", PARENT, "bash", file.to_str().unwrap()];
    let command = ["bash", "-c", PRINTS_STATE, "state", "a b", "", "c\nd"];
    let printed = |harness: &Harness| {
        let output = harness.start_via(&parent, &[&["run", "--"], &command[..]].concat()).finish();
        assert_eq!((output.status, output.stderr.as_str()), (0, ""));
        output.stdout_text()
    };
    let replaced = printed(&Harness::new().set("TAILRACE", "off"));
    assert!(replaced.contains("/inherited-file") && replaced.ends_with("state a b  c\nd\n"), "{replaced}");
    let direct =
        Command::new(parent[0]).args(&parent[1..]).args(command).stdin(Stdio::piped()).output().unwrap();
    let direct = String::from_utf8(direct.stdout).unwrap();
    let without_env = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains('=') && !line.starts_with("0 "));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(without_env(&replaced), without_env(&direct), "the app that replaced the agent");
    let wrapped = printed(&harness);
    let comparable = |text: &str| -> Vec<String> {
        let differing = ["TAILRACE=", "TAILRACE_SPOOL_DIR=", "TAILRACE_CA_FILE=", "TMPDIR=", "0 "];
        let lines = text.lines().filter(|line| !differing.iter().any(|prefix| line.starts_with(prefix)));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(comparable(&wrapped), comparable(&replaced));
}

#[test]
fn long_and_unusual_arguments_reach_the_app() {
    let harness = Harness::new();
    let long = "x".repeat(120_000);
    let agent = harness.run(&[
        "sh",
        "-c",
        "for argument; do printf '%s|' \"${#argument}\"; done",
        "sh",
        &long,
        "",
        "-v",
        "--",
        "a\nb",
    ]);
    let output = agent.finish();
    assert_eq!((output.status, output.stdout_text().as_str()), (0, "120000|0|2|2|3|"));
}

#[test]
fn the_agent_does_not_keep_inherited_descriptors_open() {
    let harness = Harness::new();
    let closed = harness.path("closed");
    // The subshell reads until the last write end of the pipe is closed.
    let script = format!(
        "mkfifo {0}.pipe; (cat {0}.pipe; echo >{0}) & exec 8>{0}.pipe; \"$@\" 8>&8 & exec 8>&-; wait",
        quoted(&closed)
    );
    let agent = harness.start_via(
        &["bash", "-c", &script, "bash"],
        &["run", "--", "bash", "-c", "exec 8>&-; echo up; exec sleep 600"],
    );
    agent.wait_for_stdout("up\n");
    wait_until("the write end to be closed", || closed.exists());
}

#[test]
fn the_shipper_has_a_higher_oom_score_than_the_app() {
    let harness = Harness::new();
    let mut agent = harness.run(&["cat"]);
    agent.feed("x\n");
    let score =
        |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().to_owned();
    let shipper = agent.wait_for_shipper();
    wait_until("a raised score", || score(shipper) == "900");
    assert_eq!(score(agent.pid()), score(std::process::id() as i32));
    harness.wait_for_lines(1);
    harness.assert_all_delivered(&agent.finish(), 1);
}

#[test]
fn an_environment_of_the_maximum_size_reaches_the_app() {
    // A string may have 128 KiB (execve(2), MAX_ARG_STRLEN); the total is limited to a quarter of the stack limit.
    let mut harness = Harness::new();
    for number in 0..14 {
        harness = harness.set(&format!("FILLED_{number}"), &"x".repeat(130_000));
    }
    let agent = harness.run(&["sh", "-c", "env | wc -c; echo ${#1}", "sh", &"y".repeat(131_000)]);
    let output = agent.finish();
    let text = output.stdout_text();
    let (bytes, long) = text.trim().split_once('\n').unwrap();
    assert!(bytes.trim().parse::<u64>().unwrap() > 14 * 130_000 && long == "131000", "{text}");
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    harness.assert_all_delivered(&output, 2);
}

#[test]
fn many_short_runs_leave_no_files_and_no_processes() {
    let harness = Harness::new();
    let before = crate::procfs::children(std::process::id() as i32);
    for _ in 0..300 {
        let output = harness.run(&["true"]).finish();
        assert_eq!((output.status, output.stdout.len(), output.stderr.as_str()), (0, 0, ""));
    }
    assert!(harness.is_spool_empty());
    assert!(fs::read_dir(harness.path("tmp")).unwrap().next().is_none());
    assert_eq!(crate::procfs::children(std::process::id() as i32), before, "a child process was left");
    // Nor may an orphan remain. Its environment would contain the directory of this test.
    let marker = harness.settings()["TMPDIR"].clone().into_bytes();
    let remaining = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let vars = fs::read(entry.path().join("environ")).unwrap_or_default();
        memchr::memmem::find(&vars, &marker).is_some()
    });
    assert_eq!(remaining.count(), 0);
}
