//! A signal that only the supervisor got is forwarded once; a signal that the app already has is not.

use crate::harness::{Agent, Harness, WAIT_TIMEOUT, program, quoted, skip, wait_until};
use crate::procfs::{children, is_pending, state};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Prints the name of each signal it gets; exits at USR2 or after a minute. Without a command substitution: a signal to the
/// group would end that, too.
const PRINTS_SIGNALS: &str = "
    for s in HUP INT QUIT USR1 WINCH CONT; do trap \"echo $s\" $s; done
    trap 'echo end; exit 6' USR2
    echo up
    for ((i = 0; i < 1200; i++)); do sleep 0.05 & wait $!; done";

/// The process of the app: the child of the supervisor that is not the shipper.
fn app_of(agent: &Agent) -> i32 {
    let shipper = agent.wait_for_shipper();
    children(agent.pid()).into_iter().find(|pid| *pid != shipper).unwrap()
}

#[test]
fn each_signal_is_forwarded_once_and_in_order() {
    let harness = Harness::new();
    let agent = harness.run(&["bash", "-c", PRINTS_SIGNALS]);
    agent.wait_for_stdout("up\n");
    agent.wait_for_shipper();
    let mut expected = String::from("up\n");
    for name in ["HUP", "INT", "QUIT", "USR1", "WINCH", "CONT", "USR1"] {
        agent.signal(format!("SIG{name}").parse().unwrap());
        expected.push_str(name);
        expected.push('\n');
        agent.wait_for_stdout(&expected);
    }
    agent.signal(Signal::SIGUSR2);
    let output = agent.finish();
    assert_eq!((output.status, output.stdout_text(), output.stderr.as_str()), (6, expected + "end\n", ""));
}

#[test]
fn a_signal_does_not_overtake_an_earlier_one() {
    for later in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        let harness = Harness::new();
        let agent = harness.sh("echo up; exec sleep 60");
        agent.wait_for_stdout("up\n");
        agent.wait_for_shipper();
        agent.signal(Signal::SIGTERM);
        // Signals that are pending together are received in the order of their numbers.
        wait_until("the supervisor to receive SIGTERM", || !is_pending(agent.pid(), Signal::SIGTERM));
        agent.signal(later);
        assert_eq!(agent.finish().status, 143, "the first signal ends the app, also before {later}");
    }
}

#[test]
fn a_signal_to_the_whole_group_is_not_forwarded() {
    let harness = Harness::new();
    let agent = harness.run(&["bash", "-c", PRINTS_SIGNALS]);
    agent.wait_for_stdout("up\n");
    agent.wait_for_shipper();
    agent.signal_group(Signal::SIGHUP);
    agent.wait_for_stdout("up\nHUP\n");
    // The next one goes to the supervisor alone. The shipper must have cleared the pending signal of the first.
    let shipper = agent.wait_for_shipper();
    wait_until("the shipper to clear its pending signal", || !is_pending(shipper, Signal::SIGHUP));
    agent.signal(Signal::SIGHUP);
    agent.wait_for_stdout("up\nHUP\nHUP\n");
    agent.signal(Signal::SIGUSR2);
    assert_eq!(agent.finish().stdout_text(), "up\nHUP\nHUP\nend\n");
}

#[test]
fn signals_from_the_app_are_not_sent_back_to_it() {
    let harness = Harness::new();
    // From the app itself, from a child of the app, and to the whole group, which includes the app.
    let script = "trap 'echo usr1' USR1; echo up; kill -USR1 $PPID; (kill -HUP $PPID; sleep 0.3); kill -USR1 0; sleep 0.5; echo end";
    let script = script.replace("(kill -HUP $PPID; sleep 0.3)", "sh -c 'kill -HUP '$PPID'; sleep 0.3'");
    let output = harness.run(&["bash", "-c", &script]).finish();
    output.assert_exit(0, "up\nusr1\nend\n", "");
    harness.assert_all_delivered(&output, 3);
}

#[test]
fn a_sigterm_to_one_process_after_another_is_one_stop() {
    for shipper_is_stopped in [false, true] {
        let harness = Harness::new();
        let agent = harness.run(&[
            "bash",
            "-c",
            "trap 'echo term; n=1' TERM; echo up; until [ $n ]; do sleep 0.05 & wait $!; done; \
             for i in $(seq 16); do sleep 0.05 & wait $!; done; wait; exit 3",
        ]);
        agent.wait_for_stdout("up\n");
        let (app, shipper) = (app_of(&agent), agent.wait_for_shipper());
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
        let output = agent.finish();
        assert_eq!(
            (output.status, output.stdout_text().as_str()),
            (3, "up\nterm\n"),
            "stopped: {shipper_is_stopped}"
        );
        harness.assert_all_delivered(&output, 2);
    }
}

#[test]
fn sigtstp_and_sigcont_act_on_supervisor_and_app() {
    let harness = Harness::new();
    let agent = harness.run(&["bash", "-c", "echo up; for i in $(seq 1200); do sleep 0.05; done"]);
    agent.wait_for_stdout("up\n");
    let app = app_of(&agent);
    agent.signal(Signal::SIGTSTP);
    wait_until("both to stop", || state(agent.pid()) == Some('T') && state(app) == Some('T'));
    agent.signal(Signal::SIGCONT);
    wait_until("both to continue", || state(agent.pid()) != Some('T') && state(app) != Some('T'));
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.finish().status, 143);
}

#[test]
fn apps_in_python_and_node_stop_as_without_the_agent() {
    let python = "import signal,sys,time\nsignal.signal(signal.SIGTERM, lambda *a: (print('term', flush=True), sys.exit(9)))\nprint('up', flush=True)\nwhile True: time.sleep(0.05)";
    let node = "process.on('SIGTERM', () => { console.log('term'); process.exit(9); }); console.log('up'); setInterval(() => {}, 1000);";
    for (command, status, text) in [
        (["python3", "-c", python], 9, "up\nterm\n"),
        (["node", "-e", node], 9, "up\nterm\n"),
        (["python3", "-c", "import time\nprint('up', flush=True)\ntime.sleep(60)"], 143, "up\n"),
        (["node", "-e", "console.log('up'); setInterval(() => {}, 1000)"], 143, "up\n"),
    ] {
        if Command::new(command[0]).arg("--version").output().is_err() {
            skip(&format!("{} is not installed", command[0]));
            continue;
        }
        let harness = Harness::new();
        let agent = harness.run(&command);
        agent.wait_for_stdout("up\n");
        agent.wait_for_shipper();
        agent.signal(Signal::SIGTERM);
        let output = agent.finish();
        assert_eq!((output.status, output.stdout_text().as_str()), (status, text), "{command:?}");
    }
}

#[test]
fn a_change_of_the_terminal_size_reaches_the_app() {
    let harness = Harness::new().set("TAILRACE_TTY", "wrap");
    let pty = openpty(None, None).unwrap();
    // Sets the size as a terminal emulator does; stty(1) acts on its standard input.
    let size = |rows: &str, columns: &str| {
        let master = Stdio::from(pty.master.try_clone().unwrap());
        let status = Command::new("stty").args(["rows", rows, "columns", columns]).stdin(master).status();
        assert!(status.unwrap().success());
    };
    size("24", "80");
    let sizes = harness.path("sizes");
    let script = format!(
        "sizes={}; trap 'stty size >>\"$sizes\"' WINCH; stty size >>\"$sizes\"; for i in $(seq 200); do \
         sleep 0.05 & wait $!; [ $(wc -l <\"$sizes\") = 2 ] && exit 4; done",
        quoted(&sizes)
    );
    let agent = harness.start_with(|command| {
        let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
        command
            .args(["run", "--", "bash", "-c", &script])
            .stdin(terminal())
            .stdout(terminal())
            .stderr(terminal());
    });
    wait_until("the first size", || fs::read_to_string(&sizes).is_ok_and(|text| text == "24 80\n"));
    size("40", "100");
    agent.signal(Signal::SIGWINCH); // the kernel sends it for a controlling terminal
    let output = agent.finish();
    assert_eq!((output.status, fs::read_to_string(&sizes).unwrap().as_str()), (4, "24 80\n40 100\n"));
}

#[test]
fn ctrl_c_in_a_terminal_reaches_the_app_once() {
    let harness = Harness::new().set("TAILRACE_TTY", "wrap");
    let log = harness.path("log");
    // An app without children: a child would get the signal too, possibly before its exec.
    let app = format!(
        "log={}; trap 'echo int >>\"$log\"; got=1' INT; mkfifo \"$log.none\"; exec 3<>\"$log.none\"; echo up >>\"$log\"
        until [ $got ]; do read -rt 0.05 <&3; done
        for ((n = 0; n < 20; n++)); do read -rt 0.05 <&3; done; exit 4",
        quoted(&log)
    );
    let file = harness.path("app.sh");
    fs::write(&file, app).unwrap();
    let line = format!("exec {} run -- bash {}", quoted(&program()), quoted(&file));
    let Ok(mut script) = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(harness.settings())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
    else {
        skip("script(1), which creates terminals, is not installed");
        return;
    };
    wait_until("the app", || fs::read_to_string(&log).is_ok_and(|text| text == "up\n"));
    script.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = script.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < WAIT_TIMEOUT);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((status.code(), fs::read_to_string(&log).unwrap().as_str()), (Some(4), "up\nint\n"));
}
