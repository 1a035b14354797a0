//! What the app inherits is what it would have had without us.

use crate::harness::{Rig, wait_for};
use std::fs;
use std::process::{Command, Stdio};

/// Shows what a program can see of what it inherited; descriptors are shown by what they lead to. Signals 32 to 34
/// are the C library's own: how they were left depends on who started the program, and nobody can use them.
const SHOW: &str = r#"
    for set in SigIgn SigBlk; do
        hex=$(grep $set /proc/self/status)
        printf '%s %x\n' $set $((0x${hex##*[[:space:]]} & ~(7 << 31)))
    done
    ulimit -a; umask; pwd; cat /proc/self/oom_score_adj
    for fd in 0 3 4 5 6 7 8 9 10 11 12; do printf "$fd "; readlink /proc/$$/fd/$fd || echo; done
    env | grep -v -e '^_=' -e '^TAILRACE_LEDGER_FILE=' -e '^SHLVL=' -e s3cret | sort
    echo "$0" "$@""#;

/// What a parent may have set up.
const PARENT: &str =
    r#"trap '' PIPE USR1 TSTP; umask 027; ulimit -n 200; ulimit -c 0; cd /; exec 7</etc/passwd; exec "$@""#;

#[test]
fn everything_is_as_without_us() {
    let shown = |rig: &Rig, words: &[&str]| {
        let agent = rig.through(&["bash", "-c", PARENT, "bash"], &[&["run", "--"], words].concat());
        let end = agent.end();
        assert_eq!((end.status, end.err.as_str()), (0, ""));
        end.text()
    };
    let words = ["bash", "-c", SHOW, "shown", "a b", "", "c\nd"];
    let bare = shown(&Rig::new().set("TAILRACE", "off"), &words);
    assert!(bare.contains("/etc/passwd") && bare.ends_with("shown a b  c\nd\n"), "{bare}");
    let direct =
        Command::new("bash").args(["-c", PARENT, "bash"]).args(words).stdin(Stdio::piped()).output().unwrap();
    let direct = String::from_utf8(direct.stdout).unwrap();
    let without_env = |text: &str| -> Vec<String> {
        let kept = text.lines().filter(|line| !line.contains('=') && !line.starts_with("0 "));
        kept.map(str::to_owned).collect()
    };
    assert_eq!(without_env(&bare), without_env(&direct), "exec in our place");
    let rig = Rig::new();
    let wrapped = shown(&rig, &words);
    let comparable = |text: &str| -> Vec<String> {
        let own = ["TAILRACE=", "TAILRACE_SPOOL_DIR=", "TAILRACE_CA_FILE=", "TMPDIR=", "0 "];
        text.lines().filter(|line| !own.iter().any(|own| line.starts_with(own))).map(str::to_owned).collect()
    };
    assert_eq!(comparable(&wrapped), comparable(&bare));
}

#[test]
fn arguments_may_be_long_and_odd() {
    let rig = Rig::new();
    let long = "x".repeat(120_000);
    let agent = rig.run(&[
        "sh",
        "-c",
        "for word; do printf '%s|' \"${#word}\"; done",
        "sh",
        &long,
        "",
        "-v",
        "--",
        "a\nb",
    ]);
    let end = agent.end();
    assert_eq!((end.status, end.text().as_str()), (0, "120000|0|2|2|3|"));
}

#[test]
fn who_waits_for_the_app_to_close_a_descriptor_does_not_wait_for_us() {
    let rig = Rig::new();
    let closed = rig.path("closed");
    // The subshell that reads ends when nobody has the other end any more.
    let script = format!(
        "mkfifo {0}.pipe; (cat {0}.pipe; echo >{0}) & exec 8>{0}.pipe; \"$@\" 8>&8 & exec 8>&-; wait",
        closed.display()
    );
    let agent = rig.through(
        &["bash", "-c", &script, "bash"],
        &["run", "--", "bash", "-c", "exec 8>&-; echo up; exec sleep 600"],
    );
    agent.wait_out("up");
    agent.wait_out("up");
    wait_for("the other end", || closed.exists().then_some(()));
}

#[test]
fn the_shipper_goes_before_the_app_when_memory_is_short() {
    let rig = Rig::new();
    let mut agent = rig.run(&["cat"]);
    agent.feed("x\n");
    let score =
        |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().to_owned();
    let shipper = agent.shipper();
    wait_for("a raised score", || (score(shipper) == "900").then_some(()));
    assert_eq!(score(agent.pid()), score(std::process::id() as i32));
    rig.wait_lines(1);
    rig.all_delivered(&agent.end(), 1);
}

#[test]
fn an_environment_as_large_as_there_may_be() {
    // A string may have 128 KiB (execve(2), MAX_ARG_STRLEN); all of them share a quarter of the stack's limit.
    let mut rig = Rig::new();
    for number in 0..14 {
        rig = rig.set(&format!("FILLED_{number}"), &"x".repeat(130_000));
    }
    let agent = rig.run(&["sh", "-c", "env | wc -c; echo ${#1}", "sh", &"y".repeat(131_000)]);
    let end = agent.end();
    let text = end.text();
    let (bytes, long) = text.trim().split_once('\n').unwrap();
    assert!(bytes.trim().parse::<u64>().unwrap() > 14 * 130_000 && long == "131000", "{text}");
    assert_eq!((end.status, end.err.as_str()), (0, ""));
    rig.all_delivered(&end, 2);
}

#[test]
fn many_short_runs_leave_nothing_behind() {
    let rig = Rig::new();
    let before = crate::procfs::children(std::process::id() as i32);
    for _ in 0..300 {
        let end = rig.run(&["true"]).end();
        assert_eq!((end.status, end.out.len(), end.err.as_str()), (0, 0, ""));
    }
    assert!(rig.is_spool_empty());
    assert!(fs::read_dir(rig.path("tmp")).unwrap().next().is_none());
    assert_eq!(crate::procfs::children(std::process::id() as i32), before, "no process is left");
    // Nor one that nobody waits for.
    let mark = rig.settings()["TMPDIR"].clone().into_bytes();
    let left = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let vars = fs::read(entry.path().join("environ")).unwrap_or_default();
        memchr::memmem::find(&vars, &mark).is_some()
    });
    assert_eq!(left.count(), 0);
}
