//! Ends in odd company: outputs that are slow or stand still, disks that do, keepers and shippers that are killed,
//! groups and sessions of an app's own.

use crate::harness::{PATIENCE, Rig, contents, in_order, numbers, wait_for};
use crate::launch::Mode;
use crate::procfs;
use crate::stalled_recorder::Stalled;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write as _, pipe};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn a_slow_reader_gets_all_and_so_does_the_drain_before_it() {
    let rig = Rig::new();
    let (mut reader, writer) = pipe().unwrap();
    let agent = rig.start_with(|command| {
        command.args(["run", "--", "sh", "-c", "seq 60000; exit 3"]).stdout(Stdio::from(writer));
    });
    // It reads nothing yet; the app is through at once, its pipe being large.
    rig.wait_lines(60_000);
    let slow = thread::spawn(move || {
        let (mut text, mut piece) = (Vec::new(), [0; 16 << 10]);
        while let Ok(got @ 1..) = reader.read(&mut piece) {
            text.extend_from_slice(&piece[..got]);
            thread::sleep(Duration::from_millis(100)); // 2 s in all, and never still
        }
        text
    });
    let end = agent.end();
    assert_eq!((end.status, end.err.as_str()), (3, ""));
    assert!(slow.join().unwrap() == numbers(1..=60_000).into_bytes(), "byte by byte");
    rig.all_delivered(&end, 60_000);
    in_order(&rig.report(), 60_000);
}

#[test]
fn a_reader_that_takes_nothing_holds_nobody() {
    for stop in [false, true] {
        let rig = Rig::new();
        let (reader, writer) = pipe().unwrap();
        let agent = rig.start_with(|command| {
            let script = if stop { "seq 60000; exec sleep 60" } else { "seq 60000; exit 3" };
            command.args(["run", "--", "sh", "-c", script]).stdout(Stdio::from(writer));
        });
        if stop {
            agent.shipper();
            // What stands behind a full output is not read before the end.
            rig.wait_lines(1000);
            agent.signal(Signal::SIGTERM);
        }
        let start = Instant::now();
        let end = agent.end();
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert_eq!(end.status, if stop { 143 } else { 3 }, "{}", end.err);
        // All that the app printed is at the drain.
        let account = rig.agree(&end);
        assert_eq!((end.ledger().captured, account.delivered), (60_000, 60_000), "stop: {stop}");
        drop(reader);
    }
}

#[test]
fn a_disk_that_stands_still_holds_up_no_stop() {
    for mode in Mode::all() {
        let rig = Rig::new().set("TAILRACE_STOP_GRACE", "2s");
        let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
        let running = mode.run(&rig, &["bash", "-c", script]);
        rig.wait_lines(1);
        let keeper = running.keeper();
        // As for a disk: the threads that write to it stand, the others go on.
        let Some(stalled) = Stalled::of(keeper, &["files", "recorder"]) else { return };
        let start = Instant::now();
        running.signal(Signal::SIGTERM);
        running.agent.wait_out("up\nbye\n");
        let end = thread::scope(|scope| {
            let end = scope.spawn(|| running.agent.end());
            wait_for("the last word", || {
                (start.elapsed() > Duration::from_secs(4) || !procfs::is_alive(keeper)).then_some(())
            });
            drop(stalled);
            end.join().unwrap()
        });
        assert_eq!((end.status, end.text().as_str()), (3, "up\nbye\n"), "{mode:?}: {}", end.err);
    }
}

#[test]
fn what_a_killed_keeper_had_in_memory_is_delivered_under_its_id() {
    let rig = Rig::with_faults("reset-after").set("TAILRACE_SPOOL_DIR", "/proc/tailrace");
    let mut agent = rig.run(&["sh", "-c", "seq 500; exec sleep 60"]);
    agent.wait_out("\n500\n");
    assert!(rig.drain.wait_until(PATIENCE, |report| report.lines == 500));
    let shipper = agent.shipper();
    let before = rig.report().duplicates;
    drop(agent.input.take());
    agent.signal(Signal::SIGKILL);
    agent.wait_said(&["at=keeper-gone"]);
    rig.drain.set_faults("").unwrap();
    wait_for("the shipper to go", || (!procfs::is_alive(shipper)).then_some(()));
    let report = rig.report();
    in_order(&report, 500);
    assert!(report.duplicates > before, "the batch that was sealed came once more, unchanged: {report:?}");
    assert_eq!(agent.end().status, -9);

    // More than was sealed, at a drain that takes nothing until then.
    let rig = Rig::with_faults("status=503").set("TAILRACE_SPOOL_DIR", "/proc/tailrace");
    let agent = rig.run(&["sh", "-c", "seq 50000; exec sleep 60"]);
    agent.wait_out("\n50000\n");
    agent.wait_said(&["at=drain-failing", "held=50000"]);
    let shipper = agent.shipper();
    agent.signal(Signal::SIGKILL);
    agent.wait_said(&["at=keeper-gone"]);
    rig.drain.set_faults("").unwrap();
    rig.wait_lines(50_000);
    in_order(&rig.report(), 50_000);
    wait_for("the shipper to go", || (!procfs::is_alive(shipper)).then_some(()));
}

#[test]
fn what_a_killed_keeper_left_and_nobody_took_is_said() {
    let rig = Rig::with_faults("status=503").set("TAILRACE_STOP_GRACE", "1s");
    let agent = rig.run(&["sh", "-c", "seq 50; exec sleep 60"]);
    agent.wait_out("\n50\n");
    wait_for("all lines in the spool", || {
        String::from_utf8_lossy(&contents(&rig.spool())).contains(" web.1 - 50\n").then_some(())
    });
    let shipper = agent.shipper();
    agent.signal(Signal::SIGKILL);
    let said = agent.wait_said(&["at=bytes-not-delivered"]);
    let bytes = said.split(" bytes=").nth(1).unwrap().trim().parse::<u64>().unwrap();
    assert!(bytes > 50 * 60, "{said}");
    wait_for("the shipper to go", || (!procfs::is_alive(shipper)).then_some(()));
    assert!(!rig.is_spool_empty(), "it is kept, for whoever comes after us");
}

#[test]
fn a_long_failure_is_said_at_once() {
    for fault in ["status=503:retry-after=600", "stall=600s"] {
        let rig = Rig::with_faults(fault).set("TAILRACE_REQUEST_TIMEOUT", "3s");
        let mut agent = rig.run(&["cat"]);
        agent.feed("one\n");
        let said = agent.wait_said(&["at=drain-"]);
        assert!(said.contains(" held=1 "), "{said}");
        // Not at the second try, which for one of them is ten minutes away.
        assert!(rig.drain.report().requests <= 2, "{fault}: {said}");
        rig.drain.set_faults("").unwrap();
        agent.signal_all(Signal::SIGKILL);
    }
}

#[test]
fn an_app_in_a_session_of_its_own_has_what_goes_to_our_group() {
    let rig = Rig::new();
    let text = "
import os, signal, sys
os.setsid()
signal.signal(signal.SIGTERM, lambda *_: (print('term'), sys.exit(3)))
print('up')
while True: signal.pause()";
    let agent = rig.run(&["python3", "-uc", text]);
    agent.wait_out("up");
    agent.shipper();
    // As a runner of Procfiles stops an entry.
    killpg(Pid::from_raw(agent.pid()), Signal::SIGTERM).unwrap();
    let end = agent.end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "up\nterm\n", ""));
    rig.all_delivered(&end, 2);
}

#[test]
fn a_stop_that_somebody_sent_to_the_shipper_alone_is_forgotten() {
    let rig = Rig::new();
    let script = "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    let agent = rig.run(&["bash", "-c", script]);
    agent.wait_out("up");
    let shipper = agent.shipper();
    send(shipper, Signal::SIGTERM);
    let waits = || {
        let status = fs::read_to_string(format!("/proc/{shipper}/status")).unwrap();
        let set = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap().trim().to_owned();
        u64::from_str_radix(&set, 16).unwrap() >> 14 & 1 == 1
    };
    assert!(waits(), "it is blocked");
    wait_for("it to be forgotten", || (!waits()).then_some(()));
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "up\nterm\n", ""));
}

#[test]
fn a_shipper_that_stands_still_does_not_swallow_signals() {
    let rig = Rig::new();
    let script = "trap 'echo hup' HUP; trap 'exit 3' TERM; echo up; while :; do sleep 0.05 & wait $!; done";
    let agent = rig.run(&["bash", "-c", script]);
    agent.wait_out("up");
    let shipper = agent.shipper();
    send(shipper, Signal::SIGSTOP);
    agent.signal_all(Signal::SIGHUP);
    agent.wait_out("up\nhup\n");
    for count in 2..=3 {
        // For us alone; the canary still has the one before.
        agent.signal(Signal::SIGHUP);
        agent.wait_out(&format!("up\n{}", "hup\n".repeat(count)));
    }
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    assert_eq!((end.status, end.text()), (3, format!("up\n{}", "hup\n".repeat(3))));
}

#[test]
fn a_terminal_that_goes_away_is_told_to_the_app() {
    let rig = Rig::new().set("TAILRACE_TTY", "wrap");
    let (log, up) = (rig.path("log"), rig.path("up"));
    let script = format!(
        "trap 'echo hup >>{}; exit 4' HUP; echo >{}; while :; do sleep 0.05; done",
        log.display(),
        up.display()
    );
    let pty = openpty(None, None).unwrap();
    // Only we hold the other end.
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    fcntl(&pty.slave, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    // The leader of a session with that terminal, which is what a login has.
    let lead = "import fcntl, os, sys, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execv(sys.argv[1], sys.argv[1:])";
    let program = crate::harness::program();
    let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = Command::new("python3")
        .args(["-c", lead, program.to_str().unwrap(), "run", "--", "bash", "-c", &script])
        .env_clear()
        .envs(rig.settings())
        .stdin(terminal())
        .stdout(terminal())
        .stderr(terminal())
        .spawn()
        .unwrap();
    wait_for("the app", || up.exists().then_some(()));
    wait_for("a shipper", || procfs::shipper_of(child.id() as i32));
    let nix::pty::OpenptyResult { master, slave } = pty;
    drop((master, slave));
    wait_for("the app to be told", || {
        fs::read_to_string(&log).is_ok_and(|text| text == "hup\n").then_some(())
    });
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_shell_on_a_terminal_has_its_job_control() {
    let rig = Rig::new();
    let line = format!("exec {} run -- bash --norc --noprofile -i", crate::harness::program().display());
    let Ok(mut script) = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(rig.settings())
        .env("PS1", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    else {
        crate::namespace::skipped("script(1), which makes terminals, is not installed");
        return;
    };
    let mut input = script.stdin.take().unwrap();
    input.write_all(b"sleep 60 &\njobs -l\nkill %1\nwait %1 2>/dev/null; echo status $?\nexit 5\n").unwrap();
    let output = script.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(
        text.contains("Running") && text.contains("status 143") && !text.contains("no job control"),
        "{text}"
    );
}

#[test]
fn a_stop_in_the_handshake_ends_it_too() {
    let rig = Rig::with_faults("tls-stall").set("TAILRACE_STOP_GRACE", "1s");
    let agent = rig.sh("echo up; exec sleep 60");
    agent.wait_out("up");
    let shipper = agent.shipper();
    // It is connected, and hears nothing.
    wait_for("a connection", || {
        let table = fs::read_to_string(format!("/proc/{shipper}/net/tcp")).unwrap();
        let port =
            rig.drain.url().split(':').nth(2).unwrap().split('/').next().unwrap().parse::<u16>().unwrap();
        let remote = format!("0100007F:{port:04X} 01");
        table.contains(&remote).then_some(())
    });
    let start = Instant::now();
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    assert_eq!((end.status, end.ledger().drains[0].held), (143, 1), "{}", end.err);
}

#[test]
fn a_shipper_that_has_no_memory_left_is_replaced() {
    let rig = Rig::new();
    let mut agent = rig.run(&["cat"]);
    agent.feed(numbers(1..=1000));
    rig.wait_lines(1000);
    let shipper = agent.shipper();
    let limited = Command::new("prlimit")
        .args(["--as=1", "--pid", &shipper.to_string()])
        .status()
        .is_ok_and(|status| status.success());
    if !limited {
        crate::namespace::skipped("prlimit(1) cannot limit another process");
        return;
    }
    // Batches that need more than it has.
    for part in 0..20 {
        agent.feed(numbers(1001 + part * 50_000..=1000 + (part + 1) * 50_000));
    }
    wait_for("another shipper", || (agent.shipper() != shipper).then_some(()));
    rig.wait_lines(1_001_000);
    let end = agent.end();
    assert_eq!((end.status, end.text()), (0, numbers(1..=1_001_000)));
    rig.all_delivered(&end, 1_001_000);
    in_order(&rig.report(), 1_001_000);
}

#[test]
fn outages_without_end_cost_no_descriptor_and_no_memory() {
    let rig = Rig::new().set("TAILRACE_BATCH_LINGER", "20ms");
    let mut agent = rig.run(&["cat"]);
    let descriptors = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let own = |pid: i32| procfs::Memory::of(pid).unwrap().own;
    let (mut line, mut first) = (0, None);
    for round in 0..30 {
        rig.drain.set_faults(if round % 2 == 0 { "refuse" } else { "status=503" }).unwrap();
        let requests = rig.drain.report().requests;
        for _ in 0..20 {
            agent.feed(numbers(line + 1..=line + 100));
            line += 100;
        }
        if round % 2 == 1 {
            assert!(rig.drain.wait_until(PATIENCE, |report| report.requests > requests));
        }
        rig.drain.set_faults("").unwrap();
        rig.wait_lines(line);
        let (keeper, shipper) = (agent.pid(), agent.shipper());
        let now = (shipper, [descriptors(keeper), descriptors(shipper)], own(keeper) + own(shipper));
        let (same, before, memory) = *first.get_or_insert(now);
        if round >= 5 {
            assert_eq!(now.0, same, "the shipper is the same");
            assert!(now.1.iter().zip(before).all(|(now, before)| *now <= before + 1), "{now:?}, {before:?}");
            assert!(now.2 < memory + (4 << 20), "{now:?}, {memory}");
        }
    }
    let end = agent.end();
    rig.all_delivered(&end, line);
    in_order(&rig.report(), line);
}
