//! Signals that were meant for the keeper alone reach the app once; others are the app's own.

use crate::harness::{Agent, PATIENCE, Rig, wait_for};
use crate::procfs::children;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Says every signal that it can catch, and ends at USR2 or after a minute.
const SAYS: &str = "
    for s in HUP INT QUIT USR1 WINCH CONT; do trap \"echo $s\" $s; done
    trap 'echo end; exit 6' USR2
    echo up
    for i in $(seq 1200); do sleep 0.05 & wait $!; done";

fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

/// Whether a process has this signal pending.
fn pending(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut sets =
        status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    sets.any(|set| u64::from_str_radix(set.trim(), 16).unwrap() >> (signal as i32 - 1) & 1 == 1)
}

fn app_of(agent: &Agent) -> i32 {
    let shipper = agent.shipper();
    children(agent.pid()).into_iter().find(|pid| *pid != shipper).unwrap()
}

#[test]
fn each_reaches_the_app_once_and_in_order() {
    let rig = Rig::new();
    let agent = rig.run(&["bash", "-c", SAYS]);
    agent.wait_out("up");
    agent.shipper();
    let mut said = String::from("up\n");
    for name in ["HUP", "INT", "QUIT", "USR1", "WINCH", "CONT", "USR1"] {
        agent.signal(format!("SIG{name}").parse().unwrap());
        said.push_str(name);
        said.push('\n');
        agent.wait_out(&said);
    }
    agent.signal(Signal::SIGUSR2);
    let end = agent.end();
    assert_eq!((end.status, end.text(), end.err.as_str()), (6, said + "end\n", ""));
}

#[test]
fn what_goes_to_the_whole_group_is_not_repeated() {
    let rig = Rig::new();
    let agent = rig.run(&["bash", "-c", SAYS]);
    agent.wait_out("up");
    agent.shipper();
    agent.signal_all(Signal::SIGHUP);
    agent.wait_out("up\nHUP\n");
    // Meant for us alone this time: the canary has forgotten the one before.
    let shipper = agent.shipper();
    wait_for("the canary to forget", || (!pending(shipper, Signal::SIGHUP)).then_some(()));
    agent.signal(Signal::SIGHUP);
    agent.wait_out("up\nHUP\nHUP\n");
    agent.signal(Signal::SIGUSR2);
    assert_eq!(agent.end().text(), "up\nHUP\nHUP\nend\n");
}

#[test]
fn what_the_app_sends_us_is_not_for_the_app() {
    let rig = Rig::new();
    // From the app itself, from a child of its, and to the whole group: the app has that one already.
    let script = "trap 'echo usr1' USR1; echo up; kill -USR1 $PPID; (kill -HUP $PPID; sleep 0.3); kill -USR1 0; sleep 0.5; echo end";
    let script = script.replace("(kill -HUP $PPID; sleep 0.3)", "sh -c 'kill -HUP '$PPID'; sleep 0.3'");
    let end = rig.run(&["bash", "-c", &script]).end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (0, "up\nusr1\nend\n", ""));
    rig.all_delivered(&end, 3);
}

#[test]
fn a_loop_over_pids_with_gaps_is_one_stop() {
    for shipper_is_stopped in [false, true] {
        let rig = Rig::new();
        let agent = rig.run(&[
            "bash",
            "-c",
            "trap 'echo term' TERM; echo up; for i in $(seq 20); do sleep 0.05 & wait $!; done; wait; exit 3",
        ]);
        agent.wait_out("up");
        let (app, shipper) = (app_of(&agent), agent.shipper());
        if shipper_is_stopped {
            kill(Pid::from_raw(shipper), Signal::SIGSTOP).unwrap();
        }
        for (index, pid) in [agent.pid(), app, shipper].into_iter().enumerate() {
            std::thread::sleep(Duration::from_millis(40 * index as u64));
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        }
        if shipper_is_stopped {
            std::thread::sleep(Duration::from_millis(400));
            kill(Pid::from_raw(shipper), Signal::SIGCONT).unwrap();
        }
        let end = agent.end();
        assert_eq!((end.status, end.text().as_str()), (3, "up\nterm\n"), "stopped: {shipper_is_stopped}");
        rig.all_delivered(&end, 2);
    }
}

#[test]
fn suspend_and_resume_take_both() {
    let rig = Rig::new();
    let agent = rig.run(&["bash", "-c", "echo up; for i in $(seq 1200); do sleep 0.05; done"]);
    agent.wait_out("up");
    let app = app_of(&agent);
    agent.signal(Signal::SIGTSTP);
    wait_for("both to stop", || (state(agent.pid()) == 'T' && state(app) == 'T').then_some(()));
    agent.signal(Signal::SIGCONT);
    wait_for("both to go on", || (state(agent.pid()) != 'T' && state(app) != 'T').then_some(()));
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end().status, 143);
}

#[test]
fn other_languages_end_as_without_us() {
    let python = "import signal,sys\nsignal.signal(signal.SIGTERM, lambda *a: (print('term', flush=True), sys.exit(9)))\nprint('up', flush=True)\nwhile True: signal.pause()";
    let node = "process.on('SIGTERM', () => { console.log('term'); process.exit(9); }); console.log('up'); setInterval(() => {}, 1000);";
    for (words, status, text) in [
        (["python3", "-c", python], 9, "up\nterm\n"),
        (["node", "-e", node], 9, "up\nterm\n"),
        (["python3", "-c", "import time\nprint('up', flush=True)\ntime.sleep(60)"], 143, "up\n"),
        (["node", "-e", "console.log('up'); setInterval(() => {}, 1000)"], 143, "up\n"),
    ] {
        if Command::new(words[0]).arg("--version").output().is_err() {
            eprintln!("skipped: {} is not installed", words[0]);
            continue;
        }
        let rig = Rig::new();
        let agent = rig.run(&words);
        agent.wait_out("up");
        agent.shipper();
        agent.signal(Signal::SIGTERM);
        let end = agent.end();
        assert_eq!((end.status, end.text().as_str()), (status, text), "{words:?}");
    }
}

#[test]
fn a_window_that_changes_its_size_is_seen_by_the_app() {
    let rig = Rig::new().set("TAILRACE_TTY", "wrap");
    let pty = openpty(None, None).unwrap();
    // As a terminal emulator does it; stty(1) acts on its standard input.
    let size = |rows: &str, columns: &str| {
        let master = Stdio::from(pty.master.try_clone().unwrap());
        let status = Command::new("stty").args(["rows", rows, "columns", columns]).stdin(master).status();
        assert!(status.unwrap().success());
    };
    size("24", "80");
    let seen = rig.path("seen");
    let script = format!(
        "trap 'stty size >>{0}' WINCH; stty size >>{0}; for i in $(seq 200); do sleep 0.05 & wait $!; [ $(wc -l <{0}) = 2 ] && exit 4; done",
        seen.display()
    );
    let agent = rig.start_with(|command| {
        let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
        command
            .args(["run", "--", "bash", "-c", &script])
            .stdin(terminal())
            .stdout(terminal())
            .stderr(terminal());
    });
    wait_for("the first size", || {
        fs::read_to_string(&seen).is_ok_and(|text| text == "24 80\n").then_some(())
    });
    size("40", "100");
    agent.signal(Signal::SIGWINCH); // what the kernel does for a controlling terminal
    let end = agent.end();
    assert_eq!((end.status, fs::read_to_string(&seen).unwrap().as_str()), (4, "24 80\n40 100\n"));
}

#[test]
fn ctrl_c_in_a_terminal_reaches_the_app_once() {
    let rig = Rig::new().set("TAILRACE_TTY", "wrap");
    let log = rig.path("log");
    // It has no children, which might hear the signal before they are programs of their own.
    let app = format!(
        "trap 'echo int >>{0}' INT; mkfifo {0}.none; exec 3<>{0}.none; echo up >>{0}
        for ((n = 0; n < 20; n++)); do read -rt 0.05 <&3; done; exit 4",
        log.display()
    );
    let file = rig.path("app.sh");
    fs::write(&file, app).unwrap();
    let line = format!("exec {} run -- bash {}", crate::harness::program().display(), file.display());
    let Ok(mut script) = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(rig.settings())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
    else {
        eprintln!("skipped: script(1), which makes terminals, is not installed");
        return;
    };
    wait_for("the app", || fs::read_to_string(&log).is_ok_and(|text| text == "up\n").then_some(()));
    script.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = script.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((status.code(), fs::read_to_string(&log).unwrap().as_str()), (Some(4), "up\nint\n"));
}
