//! Exits under unusual conditions: slow or blocked readers, a blocked disk, killed supervisors and shippers, apps in
//! their own process group or session.

use crate::harness::{
    Harness, WAIT_TIMEOUT, assert_in_order, contents, numbers, program, quoted, skip, wait_for, wait_until,
};
use crate::launch::LaunchMode;
use crate::procfs;
use crate::status::status_of;
use crate::suspended_threads::SuspendedThreads;
use crate::threads::check_in_threads;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write as _, pipe};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn a_slow_reader_gets_everything_and_the_drain_does_not_wait_for_it() {
    let harness = Harness::new();
    let (mut reader, writer) = pipe().unwrap();
    let agent = harness.start_with(|command| {
        command.args(["run", "--", "sh", "-c", "seq 60000; exit 3"]).stdout(Stdio::from(writer));
    });
    // Until all lines have arrived it reads what keeps the pass-through from being given up; all of it would take 8 s.
    let have_arrived = Arc::new(AtomicBool::new(false));
    let may_hurry = Arc::clone(&have_arrived);
    let slow = thread::spawn(move || {
        let (mut text, mut buffer) = (Vec::new(), [0; 16 << 10]);
        let size = || if may_hurry.load(Ordering::SeqCst) { 16 << 10 } else { 4 << 10 };
        while let Ok(got @ 1..) = reader.read(&mut buffer[..size()]) {
            text.extend_from_slice(&buffer[..got]);
            thread::sleep(Duration::from_millis(100));
        }
        text
    });
    harness.wait_for_lines(60_000);
    have_arrived.store(true, Ordering::SeqCst);
    let output = agent.finish();
    assert_eq!((output.status, output.stderr.as_str()), (3, ""));
    assert!(slow.join().unwrap() == numbers(1..=60_000).into_bytes(), "standard output must be byte-exact");
    harness.assert_all_delivered(&output, 60_000);
    assert_in_order(&harness.report(), 60_000);
}

#[test]
fn a_reader_that_reads_nothing_does_not_delay_the_exit() {
    for stop in [false, true] {
        let harness = Harness::new();
        let (reader, writer) = pipe().unwrap();
        let agent = harness.start_with(|command| {
            let script = if stop { "seq 60000; exec sleep 60" } else { "seq 60000; exit 3" };
            command.args(["run", "--", "sh", "-c", script]).stdout(Stdio::from(writer));
        });
        if stop {
            agent.wait_for_shipper();
            // While standard output is blocked, the rest of the app's output is not read until the exit.
            harness.wait_for_lines(1000);
            agent.signal(Signal::SIGTERM);
        }
        let start = Instant::now();
        let output = agent.finish();
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert_eq!(output.status, if stop { 143 } else { 3 }, "{}", output.stderr);
        // Everything that the app printed was delivered.
        let account = harness.reconcile(&output);
        assert_eq!((output.ledger().captured, account.delivered), (60_000, 60_000), "stop: {stop}");
        drop(reader);
    }
}

#[test]
fn a_blocked_disk_does_not_delay_a_stop() {
    check_in_threads(2, LaunchMode::all(), |mode| {
        let harness = Harness::new().set("TAILRACE_STOP_GRACE", "2s");
        let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
        let launched = mode.run(&harness, &["bash", "-c", script]);
        harness.wait_for_lines(1);
        let supervisor = launched.supervisor_pid();
        // A blocked disk stops the threads that write to it and no others.
        let Some(suspended) = SuspendedThreads::of(supervisor, &["disk-worker", "recorder"]) else { return };
        let start = Instant::now();
        launched.signal(Signal::SIGTERM);
        launched.agent.wait_for_stdout("up\nbye\n");
        let output = thread::scope(|scope| {
            let exit = scope.spawn(|| launched.agent.finish());
            wait_until("the exit or 4 s", || {
                start.elapsed() > Duration::from_secs(4) || !procfs::is_alive(supervisor)
            });
            drop(suspended);
            exit.join().unwrap()
        });
        assert_eq!(
            (output.status, output.stdout_text().as_str()),
            (3, "up\nbye\n"),
            "{mode:?}: {}",
            output.stderr
        );
        assert!(output.stderr.contains(" at=output-not-recorded bytes=4 "), "{mode:?}: {}", output.stderr);
    });
}

#[test]
fn lines_in_the_memory_of_a_killed_supervisor_are_delivered_under_their_frame_id() {
    let harness = Harness::with_faults("reset-after").without_spool_directory();
    let mut agent = harness.run(&["sh", "-c", "seq 500; exec sleep 60"]);
    agent.wait_for_stdout("\n500\n");
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.lines == 500));
    let shipper = agent.wait_for_shipper();
    let before = harness.report().duplicates;
    drop(agent.stdin.take());
    agent.signal(Signal::SIGKILL);
    agent.wait_for_message(&["at=keeper-gone"]);
    harness.drain.set_faults("").unwrap();
    wait_until("the shipper to exit", || !procfs::is_alive(shipper));
    let report = harness.report();
    assert_in_order(&report, 500);
    assert!(report.duplicates > before, "the sealed batch must be repeated unchanged: {report:?}");
    assert_eq!(agent.finish().status, -9);

    // More lines than the sealed batch, at a drain that accepts nothing until the supervisor is dead.
    let harness = Harness::with_faults("status=503").without_spool_directory();
    let agent = harness.run(&["sh", "-c", "seq 50000; exec sleep 60"]);
    agent.wait_for_stdout("\n50000\n");
    agent.wait_for_message(&["at=drain-failing"]);
    wait_until("all lines in memory", || {
        status_of(&agent).is_some_and(|status| status["drains"][0]["held_lines"] == 50_000)
    });
    let shipper = agent.wait_for_shipper();
    agent.signal(Signal::SIGKILL);
    agent.wait_for_message(&["at=keeper-gone"]);
    harness.drain.set_faults("").unwrap();
    harness.wait_for_lines(50_000);
    assert_in_order(&harness.report(), 50_000);
    wait_until("the shipper to exit", || !procfs::is_alive(shipper));
}

#[test]
fn undelivered_bytes_of_a_killed_supervisor_are_reported() {
    let harness = Harness::with_faults("status=503").set("TAILRACE_STOP_GRACE", "1s");
    let agent = harness.run(&["sh", "-c", "seq 50; exec sleep 60"]);
    agent.wait_for_stdout("\n50\n");
    wait_until("all lines in the spool", || {
        String::from_utf8_lossy(&contents(&harness.spool_dir())).contains(" web.1 - 50\n")
    });
    let shipper = agent.wait_for_shipper();
    agent.signal(Signal::SIGKILL);
    let message = agent.wait_for_message(&["at=bytes-not-delivered"]);
    let bytes =
        message.split(" bytes=").nth(1).unwrap().split_whitespace().next().unwrap().parse::<u64>().unwrap();
    assert!(bytes > 50 * 60, "{message}");
    wait_until("the shipper to exit", || !procfs::is_alive(shipper));
    assert!(!harness.is_spool_empty(), "undelivered data must stay for the next agent");
    drop(agent);
    harness.drain.set_faults("").unwrap();
    let mut next = harness.run(&["cat"]);
    harness.wait_for_lines(50);
    drop(next.stdin.take());
    assert!(next.finish().ledger().drains[0].adopted_frames >= 50);
    assert_in_order(&harness.report(), 50);
    assert!(harness.is_spool_empty());
}

#[test]
fn a_failure_with_a_long_wait_is_reported_at_once() {
    for fault in ["status=503:retry-after=600", "stall=600s"] {
        let harness = Harness::with_faults(fault).set("TAILRACE_REQUEST_TIMEOUT", "3s");
        let mut agent = harness.run(&["cat"]);
        agent.feed("one\n");
        let message = agent.wait_for_message(&["at=drain-"]);
        assert!(message.contains(" held=1 "), "{message}");
        // The report must not wait for the second attempt, which may be ten minutes away.
        assert!(harness.drain.report().requests <= 2, "{fault}: {message}");
        harness.drain.set_faults("").unwrap();
        agent.signal_group(Signal::SIGKILL);
    }
}

#[test]
fn a_signal_to_the_group_reaches_an_app_in_its_own_session() {
    let harness = Harness::new();
    let text = "
import os, signal, sys, time
os.setsid()
signal.signal(signal.SIGTERM, lambda *_: (print('term'), sys.exit(3)))
print('up')
while True: time.sleep(0.05)";
    let agent = harness.run(&["python3", "-uc", text]);
    agent.wait_for_stdout("up\n");
    agent.wait_for_shipper();
    // As a Procfile runner stops an entry.
    killpg(Pid::from_raw(agent.pid()), Signal::SIGTERM).unwrap();
    let output = agent.finish();
    output.assert_exit(3, "up\nterm\n", "");
    harness.assert_all_delivered(&output, 2);
}

#[test]
fn a_sigterm_to_the_shipper_alone_is_cleared() {
    let harness = Harness::new();
    let script = "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    let agent = harness.run(&["bash", "-c", script]);
    agent.wait_for_stdout("up\n");
    let shipper = agent.wait_for_shipper();
    send(shipper, Signal::SIGTERM);
    assert!(procfs::is_pending(shipper, Signal::SIGTERM), "the shipper must block SIGTERM");
    wait_until("the signal to be cleared", || !procfs::is_pending(shipper, Signal::SIGTERM));
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    output.assert_exit(3, "up\nterm\n", "");
}

#[test]
fn a_stopped_shipper_does_not_swallow_signals() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let script = "trap 'echo hup' HUP; trap 'exit 3' TERM; echo up; while :; do sleep 0.05 & wait $!; done";
    let agent = harness.run(&["bash", "-c", script]);
    agent.wait_for_stdout("up\n");
    let shipper = agent.wait_for_shipper();
    send(shipper, Signal::SIGSTOP);
    agent.signal_group(Signal::SIGHUP);
    agent.wait_for_stdout("up\nhup\n");
    for count in 2..=3 {
        // To the supervisor alone; the shipper still has the first one pending.
        agent.signal(Signal::SIGHUP);
        agent.wait_for_stdout(&format!("up\n{}", "hup\n".repeat(count)));
    }
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    assert_eq!((output.status, output.stdout_text()), (3, format!("up\n{}", "hup\n".repeat(3))));
}

#[test]
fn the_hangup_of_the_terminal_reaches_the_app() {
    let harness = Harness::new().set("TAILRACE_TTY", "wrap");
    let (log, up) = (harness.path("log"), harness.path("up"));
    let script = format!(
        "log={}; trap 'echo hup >>\"$log\"; exit 4' HUP; echo >{}; while :; do sleep 0.05; done",
        quoted(&log),
        quoted(&up)
    );
    let pty = openpty(None, None).unwrap();
    // Only this process may hold the master end.
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    fcntl(&pty.slave, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    // The leader of a session with that controlling terminal, as a login shell is.
    let lead = "import fcntl, os, sys, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execv(sys.argv[1], sys.argv[1:])";
    let program = program();
    let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = Command::new("python3")
        .args(["-c", lead, program.to_str().unwrap(), "run", "--", "bash", "-c", &script])
        .env_clear()
        .envs(harness.settings())
        .stdin(terminal())
        .stdout(terminal())
        .stderr(terminal())
        .spawn()
        .unwrap();
    wait_until("the app", || up.exists());
    wait_for("a shipper", || procfs::shipper_of(child.id() as i32));
    let nix::pty::OpenptyResult { master, slave } = pty;
    drop((master, slave));
    wait_until("SIGHUP to reach the app", || fs::read_to_string(&log).is_ok_and(|text| text == "hup\n"));
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_shell_on_a_terminal_has_job_control() {
    let harness = Harness::new();
    let line = format!("exec {} run -- bash --norc --noprofile -i", quoted(&program()));
    let Ok(mut script) = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(harness.settings())
        .env("PS1", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    else {
        skip("script(1), which creates terminals, is not installed");
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
fn a_stop_ends_a_pending_tls_handshake() {
    let harness = Harness::with_faults("tls-stall").set("TAILRACE_STOP_GRACE", "1s");
    let agent = harness.sh("echo up; exec sleep 60");
    agent.wait_for_stdout("up\n");
    let shipper = agent.wait_for_shipper();
    // The connection is established; the handshake gets no answer.
    wait_until("a connection", || {
        let table = fs::read_to_string(format!("/proc/{shipper}/net/tcp")).unwrap();
        let port =
            harness.drain.url().split(':').nth(2).unwrap().split('/').next().unwrap().parse::<u16>().unwrap();
        let remote = format!("0100007F:{port:04X} 01");
        table.contains(&remote)
    });
    let start = Instant::now();
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    assert_eq!((output.status, output.ledger().drains[0].held), (143, 1), "{}", output.stderr);
}

#[test]
fn a_shipper_that_runs_out_of_memory_is_replaced() {
    // Large batches: no allocator has that much free memory left from the start of the shipper.
    let harness = Harness::new().set("TAILRACE_BATCH_BYTES", "4MiB");
    let mut agent = harness.run(&["cat"]);
    agent.feed(numbers(1..=1000));
    harness.wait_for_lines(1000);
    let shipper = agent.wait_for_shipper();
    // The limit of the address space alone does not stop an allocator from using address space that it has reserved.
    let limited = Command::new("prlimit")
        .args(["--as=1", "--data=1", "--pid", &shipper.to_string()])
        .status()
        .is_ok_and(|status| status.success());
    if !limited {
        skip("prlimit(1) cannot limit another process");
        return;
    }
    // During an outage enough lines are recorded that the next batches have the full size.
    harness.drain.set_faults("status=503").unwrap();
    for chunk in 0..20 {
        agent.feed(numbers(1001 + chunk * 50_000..=1000 + (chunk + 1) * 50_000));
    }
    agent.wait_for_stdout("\n1001000\n");
    harness.drain.set_faults("").unwrap();
    wait_until("another shipper", || agent.wait_for_shipper() != shipper);
    harness.wait_for_lines(1_001_000);
    let output = agent.finish();
    assert_eq!((output.status, output.stdout_text()), (0, numbers(1..=1_001_000)));
    harness.assert_all_delivered(&output, 1_001_000);
    assert_in_order(&harness.report(), 1_001_000);
}

/// What supervisor and shipper use at one moment.
#[derive(Clone, Copy, Debug)]
struct Usage {
    shipper: i32,
    /// Open file descriptors of the supervisor and of the shipper.
    descriptors: [usize; 2],
    /// Bytes of both.
    private_memory: u64,
}

#[test]
fn repeated_outages_leak_no_descriptors_and_no_memory() {
    let harness = Harness::new().set("TAILRACE_BATCH_LINGER", "20ms");
    let mut agent = harness.run(&["cat"]);
    let descriptors = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let private_memory = |pid: i32| procfs::Memory::of(pid).unwrap().private;
    let (mut line, mut first) = (0, None::<Usage>);
    for round in 0..30 {
        harness.drain.set_faults(if round % 2 == 0 { "refuse" } else { "status=503" }).unwrap();
        let requests = harness.drain.report().requests;
        for _ in 0..20 {
            agent.feed(numbers(line + 1..=line + 100));
            line += 100;
        }
        if round % 2 == 1 {
            assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.requests > requests));
        }
        harness.drain.set_faults("").unwrap();
        harness.wait_for_lines(line);
        let (supervisor, shipper) = (agent.pid(), agent.wait_for_shipper());
        let now = Usage {
            shipper,
            descriptors: [descriptors(supervisor), descriptors(shipper)],
            private_memory: private_memory(supervisor) + private_memory(shipper),
        };
        let first = *first.get_or_insert(now);
        if round >= 5 {
            assert_eq!(now.shipper, first.shipper, "the shipper was replaced");
            let mut pairs = now.descriptors.iter().zip(first.descriptors);
            assert!(pairs.all(|(now, first)| *now <= first + 1), "{now:?}, {first:?}");
            assert!(now.private_memory < first.private_memory + (4 << 20), "{now:?}, {first:?}");
        }
    }
    let output = agent.finish();
    harness.assert_all_delivered(&output, line);
    assert_in_order(&harness.report(), line);
}
