//! `tailrace ship` and whoever writes to it: input is read to its end, what is left after the grace is counted, and
//! nothing that is wrong with the agent breaks the writer's pipe.

use crate::harness::{Agent, Harness, Output, assert_in_order, contents, numbers, wait_until};
use crate::procfs;
use crate::suspended_threads::SuspendedThreads;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ChildStdin, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a machine under load may add to the duration of a shutdown.
const SLACK: Duration = Duration::from_secs(8);
/// Lines that do not fit into a spool of 4 MiB, but into that, the buffer of the reader and a pipe of 1 MiB.
const MORE_THAN_A_SPOOL: usize = 30_000;

/// Lines of 111 bytes, with the line end.
fn long_lines(count: usize) -> String {
    let mut text = String::new();
    for number in 1..=count {
        writeln!(text, "seq={number:06} {:099}", 0).unwrap();
    }
    text
}

/// Sends a signal and waits until the agent has received it.
fn signal_and_wait(ship: &Agent, signal: Signal) {
    ship.signal(signal);
    wait_until("the signal to be received", || !procfs::is_pending(ship.pid(), signal));
}

/// Waits until `ship` reads its input: the pipe has the capacity that the reader gives it.
fn wait_for_reader(input: &ChildStdin) {
    wait_until("a pipe of 1 MiB", || fcntl(input, FcntlArg::F_GETPIPE_SZ).unwrap() == 1 << 20);
}

/// A pseudoterminal, the slave of which is closed when this process closes it.
fn pseudoterminal() -> (OwnedFd, OwnedFd) {
    let pty = openpty(None, None).unwrap();
    fcntl(&pty.slave, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    (pty.master, pty.slave)
}

/// Bytes of `input` that nobody has read.
fn unread(input: impl AsFd) -> u64 {
    rustix::io::ioctl_fionread(input).unwrap()
}

/// The only message, which must have these parts.
fn assert_one_message(output: &Output, parts: &[&str]) {
    let messages = output.messages();
    assert!(
        messages.len() == 1 && parts.iter().all(|part| messages[0].contains(part)),
        "{parts:?}: {}",
        output.stderr
    );
}

#[test]
fn input_is_read_to_its_end_after_stop_signals() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let harness = Harness::new();
        let mut ship = harness.start(&["ship"]);
        ship.feed(numbers(1..=10));
        harness.wait_for_lines(10);
        for first in [11, 21] {
            signal_and_wait(&ship, signal);
            ship.feed(numbers(first..=first + 9));
        }
        // The lines arrive while the writer goes on, not only at its end.
        harness.wait_for_lines(30);
        ship.feed(numbers(31..=40));
        ship.finish().assert_exit(0, "", "");
        assert_in_order(&harness.report(), 40);
    }
}

#[test]
fn lines_that_were_written_before_the_signal_are_delivered() {
    let count = 100_001;
    let harness = Harness::new();
    let mut ship = harness.start(&["ship"]);
    wait_for_reader(ship.stdin.as_ref().unwrap());
    ship.signal(Signal::SIGSTOP);
    wait_until("a stopped process", || procfs::state(ship.pid()) == Some('T'));
    ship.feed(numbers(1..=count));
    drop(ship.stdin.take());
    ship.signal(Signal::SIGTERM);
    ship.signal(Signal::SIGCONT);
    let output = ship.finish();
    output.assert_exit(0, "", "");
    harness.assert_all_delivered(&output, count);
    assert_in_order(&harness.report(), count);
}

#[test]
fn the_last_words_of_an_app_are_delivered_when_all_processes_get_sigterm() {
    let harness = Harness::new();
    let app = "trap 'for line in 2 3 4 5 6 7 8 9 10 11; do echo $line; sleep 0.02; done; exit 0' TERM
        echo 1; while :; do sleep 0.1; done";
    // The shell catches the signal, so that its children do not inherit that it is ignored, and waits for both.
    let script =
        format!("trap : TERM; sh -c \"{app}\" 2>/dev/null | \"$0\" \"$@\"").replace("$line", "\\$line");
    let pipeline = harness.start_via(&["sh", "-c", &script], &["ship"]);
    harness.wait_for_lines(1);
    pipeline.signal_group(Signal::SIGTERM);
    let output = pipeline.finish();
    output.assert_exit(0, "", "");
    harness.assert_all_delivered(&output, 11);
    assert_in_order(&harness.report(), 11);
}

#[test]
fn lines_that_are_not_delivered_when_the_grace_is_over_are_counted() {
    let harness = Harness::with_faults("refuse").set("TAILRACE_STOP_GRACE", "1s");
    let mut ship = harness.start(&["ship"]);
    ship.feed(numbers(1..=100));
    ship.wait_for_message(&["at=drain-unreachable"]);
    let start = Instant::now();
    signal_and_wait(&ship, Signal::SIGTERM);
    ship.feed(numbers(101..=150));
    ship.feed("no line end");
    let input = ship.stdin.take(); // the writer does not end
    let output = ship.finish();
    let duration = start.elapsed();
    assert!(duration >= Duration::from_millis(900) && duration < SLACK, "{duration:?}");
    drop(input);
    assert_eq!(output.status, 75, "{}", output.stderr);
    let messages = output.messages();
    let parts = ["at=lines-not-delivered", "captured=151", "delivered=0", "held=151", "dropped=0"];
    assert!(parts.iter().all(|part| messages.last().unwrap().contains(part)), "{messages:?}");
    assert_eq!((output.ledger().captured, harness.reconcile(&output).held), (151, 151));
}

#[test]
fn a_writer_that_is_silent_is_waited_for_until_the_grace_is_over() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let mut ship = harness.start(&["ship"]);
    ship.feed(numbers(1..=10));
    harness.wait_for_lines(10);
    let input = ship.stdin.take();
    let start = Instant::now();
    ship.signal(Signal::SIGTERM);
    let output = ship.finish();
    let duration = start.elapsed();
    assert!(duration >= Duration::from_millis(900) && duration < SLACK, "{duration:?}");
    drop(input);
    output.assert_exit(0, "", "");
    harness.assert_all_delivered(&output, 10);
}

#[test]
fn what_is_in_the_pipe_when_the_grace_is_over_is_counted() {
    let refuses = || {
        Harness::with_faults("refuse").set("TAILRACE_SPOOL_BYTES", "4MiB").set("TAILRACE_STOP_GRACE", "1s")
    };
    for harness in [refuses(), refuses().without_spool_directory()] {
        let mut ship = harness.start(&["ship"]);
        wait_for_reader(ship.stdin.as_ref().unwrap());
        ship.feed(long_lines(MORE_THAN_A_SPOOL));
        let input = ship.stdin.take().unwrap();
        ship.wait_for_message(&["at=drain-unreachable"]);
        ship.signal(Signal::SIGTERM);
        assert!(unread(&input) > 0, "the spool must be full");
        let output = ship.finish();
        assert_eq!((output.status, unread(&input)), (75, 0), "{}", output.stderr);
        let account = harness.reconcile(&output);
        assert_eq!(
            (output.ledger().captured, account.held + account.dropped),
            (MORE_THAN_A_SPOOL as u64, MORE_THAN_A_SPOOL as u64),
            "{account:?}"
        );
        let captured = format!("captured={MORE_THAN_A_SPOOL} ");
        let last = output.messages().last().copied().unwrap();
        assert!(last.contains("at=lines-not-delivered") && last.contains(&captured), "{}", output.stderr);
    }
}

#[test]
fn bytes_of_a_file_that_were_not_read_are_reported() {
    let harness =
        Harness::with_faults("refuse").set("TAILRACE_SPOOL_BYTES", "4MiB").set("TAILRACE_STOP_GRACE", "1s");
    let path = harness.path("input");
    let text = long_lines(100_000);
    fs::write(&path, &text).unwrap();
    let ship = harness.start_with(|command| {
        command.arg("ship").stdin(File::open(&path).unwrap());
    });
    wait_until("a full spool", || contents(&harness.spool_dir()).len() > 3 << 20);
    ship.signal(Signal::SIGTERM);
    let output = ship.finish();
    assert_eq!(output.status, 75, "{}", output.stderr);
    let message = output.messages().into_iter().find(|line| line.contains("at=input-not-read")).unwrap();
    let bytes = message.split_once(" bytes=").unwrap().1.split(' ').next().unwrap();
    let read = text.len() - bytes.parse::<usize>().unwrap();
    assert_eq!(output.ledger().captured, read.div_ceil(text.len() / 100_000) as u64, "{message}");
}

#[test]
fn a_writer_that_never_ends_is_left_when_the_grace_is_over() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let ship = harness.start_via(&["sh", "-c", "trap : TERM; yes | \"$0\" \"$@\""], &["ship"]);
    harness.wait_for_lines(1000);
    let start = Instant::now();
    ship.signal_group(Signal::SIGTERM);
    let output = ship.finish();
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    // The drain may have a batch whose answer came too late.
    let account = &output.ledger().drains[0];
    assert!(account.delivered <= harness.report().lines, "{account:?}");
    let is_reported = output.stderr.contains("at=lines-not-delivered");
    assert_eq!(account.held > 0, is_reported, "{}", output.stderr);
    assert_eq!(output.status == 75, !output.stderr.is_empty(), "{}", output.stderr);
}

#[test]
fn a_reader_that_stands_still_does_not_delay_the_end() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let mut ship = harness.start(&["ship"]);
    ship.feed(numbers(1..=10));
    harness.wait_for_lines(10);
    let pid = ship.pid();
    let Some(suspended) = SuspendedThreads::of(pid, &["recorder"]) else { return };
    ship.feed(numbers(11..=20));
    let input = ship.stdin.take();
    let start = Instant::now();
    ship.signal(Signal::SIGTERM);
    let output = thread::scope(|scope| {
        let exit = scope.spawn(|| ship.finish());
        wait_until("the exit", || start.elapsed() > SLACK || !procfs::is_alive(pid));
        drop(suspended);
        exit.join().unwrap()
    });
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    drop(input);
    assert_eq!((output.status, output.ledger().captured), (75, 10), "{}", output.stderr);
    for part in ["at=disk-stands-still", "at=input-not-read bytes=30 "] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
}

#[test]
fn input_that_cannot_be_read_is_an_error() {
    let harness = Harness::new();
    let (reader, writer) = io::pipe().unwrap();
    for (input, error) in [
        (Stdio::from(File::open(harness.path("tmp")).unwrap()), "\"Is a directory\""),
        (Stdio::from(File::create(harness.path("file")).unwrap()), "\"Bad file number\""),
        (Stdio::from(writer), "\"Bad file number\""),
        // Nothing is mapped at address 0.
        (Stdio::from(File::open("/proc/self/mem").unwrap()), "\"I/O error\""),
    ] {
        let output = harness
            .start_with(|command| {
                command.arg("ship").stdin(input);
            })
            .finish();
        assert_eq!(output.status, 74, "{error}: {}", output.stderr);
        assert_one_message(&output, &["at=cannot-read", error]);
        assert_eq!(output.ledger().captured, 0);
    }
    drop(reader);
}

#[test]
fn what_was_read_before_an_error_is_delivered() {
    let harness = Harness::new();
    // The reader of a pseudoterminal gets EIO when its other side is closed (pty(7)).
    let (master, slave) = pseudoterminal();
    let mut slave = File::from(slave);
    let ship = harness.start_with(|command| {
        command.arg("ship").stdin(Stdio::from(master));
    });
    slave.write_all(numbers(1..=10).as_bytes()).unwrap();
    drop(slave);
    let output = ship.finish();
    assert_eq!(output.status, 74, "{}", output.stderr);
    assert_one_message(&output, &["at=cannot-read", "I/O error"]);
    harness.assert_all_delivered(&output, 10);
}

#[test]
fn without_usable_settings_input_is_read_to_its_end_and_discarded() {
    for (harness, message) in [
        (Harness::new().unset("TAILRACE_DRAIN_URL"), "at=no-drain error="),
        (Harness::new().set("TAILRACE_DRAIN_URL", "'https://h/x'"), "at=bad-settings error="),
        (Harness::new().set("TAILRACE", "off"), "at=ship-off"),
        (Harness::new().set("TAILRACE", "off").set("TAILRACE_BATCH_LINGER", "x"), "at=ship-off"),
    ] {
        let mut ship = harness.start(&["ship"]);
        ship.wait_for_message(&[message]);
        ship.feed(long_lines(MORE_THAN_A_SPOOL));
        signal_and_wait(&ship, Signal::SIGTERM);
        ship.feed(long_lines(MORE_THAN_A_SPOOL));
        let output = ship.finish();
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert_one_message(&output, &[message, "the input is read and discarded"]);
        assert_eq!((harness.report().requests, output.has_ledger()), (0, false));
    }
}

#[test]
fn with_a_bad_value_input_is_shipped() {
    let harness = Harness::new().set("TAILRACE_BATCH_LINGER", "x").set("TAILRACE_STOP_GRACE", "20");
    let mut ship = harness.start(&["ship"]);
    ship.feed(numbers(1..=10));
    let output = ship.finish();
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_one_message(
        &output,
        &["at=bad-settings error=", "20: no unit; did you mean 20s?", "lines are shipped"],
    );
    harness.assert_all_delivered(&output, 10);
}

#[test]
fn discarding_ends_when_the_grace_is_over() {
    let harness = Harness::new().unset("TAILRACE_DRAIN_URL").set("TAILRACE_STOP_GRACE", "1s");
    let mut ship = harness.start(&["ship"]);
    ship.wait_for_message(&["at=no-drain"]);
    let input = ship.stdin.take();
    let start = Instant::now();
    ship.signal(Signal::SIGTERM);
    let output = ship.finish();
    let duration = start.elapsed();
    assert!(duration >= Duration::from_millis(900) && duration < SLACK, "{duration:?}");
    drop(input);
    assert_eq!(output.status, 0, "{}", output.stderr);
}

#[test]
fn input_is_read_to_its_end_when_descriptors_run_out() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "1s");
    let (mut failed, mut delivered) = (0, 0);
    for limit in 4..48 {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let mut ship = harness.start_via(&["sh", "-c", &script], &["ship"]);
        // More than a pipe holds.
        ship.feed(long_lines(2000));
        let output = ship.finish();
        let what = format!("{limit} descriptors: {}", output.stderr);
        fs::remove_dir_all(harness.spool_dir()).ok(); // the spool may be in memory
        if output.status == 0 {
            if output.has_ledger() {
                assert_eq!(output.ledger().drains[0].delivered, 2000, "{what}");
            } else {
                assert!(output.stderr.contains("at=no-ledger"), "{what}");
            }
            delivered += 1;
        } else {
            assert!([71, 75].contains(&output.status) && !output.stderr.is_empty(), "{what}");
            assert_eq!(output.status == 71, output.stderr.contains("at=cannot-ship"), "{what}");
            assert!(!output.stderr.contains("at=input-not-read"), "{what}");
            failed += u32::from(output.status == 71);
        }
    }
    assert!(failed > 3 && delivered > 3, "{failed} failed, {delivered} delivered");
}

#[test]
fn signals_that_are_ignored_at_the_start_stay_ignored() {
    // As below nohup(1), and in a job that a shell runs in the background.
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "0s");
    let mut ship = harness.start_via(&["sh", "-c", "trap '' HUP INT; exec \"$0\" \"$@\""], &["ship"]);
    ship.feed("1\n");
    harness.wait_for_lines(1);
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        signal_and_wait(&ship, signal);
    }
    ship.feed("2\n");
    harness.wait_for_lines(2);
    assert!(procfs::is_alive(ship.pid()), "{}", ship.stderr());
    signal_and_wait(&ship, Signal::SIGTERM);
    assert_eq!(ship.finish().ledger().captured, 2);
}

#[test]
fn a_stop_signal_ends_the_input_from_a_terminal() {
    for (switch, lines) in [("on", 1), ("off", 0)] {
        let harness = Harness::new().set("TAILRACE_STOP_GRACE", "5m").set("TAILRACE", switch);
        let (master, slave) = pseudoterminal();
        let mut terminal = File::from(master);
        let ship = harness.start_with(|command| {
            command.arg("ship").stdin(Stdio::from(slave));
        });
        terminal.write_all(b"1\n").unwrap();
        harness.wait_for_lines(lines);
        if lines == 0 {
            ship.wait_for_message(&["at=ship-off"]);
        }
        ship.signal(Signal::SIGINT);
        let output = ship.finish();
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert_eq!(harness.report().lines, lines);
    }
}

#[test]
fn end_of_file_on_a_terminal_ends_the_input() {
    const CTRL_D: &[u8] = b"\x04";
    let harness = Harness::new();
    let (master, slave) = pseudoterminal();
    let mut terminal = File::from(master);
    let ship = harness.start_with(|command| {
        command.arg("ship").stdin(Stdio::from(slave));
    });
    terminal.write_all(b"1\n2\n").unwrap();
    harness.wait_for_lines(1);
    terminal.write_all(CTRL_D).unwrap();
    let output = ship.finish();
    output.assert_exit(0, "", "");
    harness.assert_all_delivered(&output, 2);
}

#[test]
fn a_closed_standard_input_has_no_lines() {
    let harness = Harness::new();
    let output = harness.start_via(&["sh", "-c", "exec \"$0\" \"$@\" <&-"], &["ship"]).finish();
    output.assert_exit(0, "", "");
    assert_eq!((output.ledger().captured, harness.report().requests), (0, 0));
}

#[test]
fn a_non_blocking_standard_input_is_read_to_its_end() {
    let harness = Harness::new();
    let (reader, mut writer) = io::pipe().unwrap();
    // The flag is one of the open pipe: any process that has it may set it, at any time.
    let shared = reader.try_clone().unwrap();
    let mut ship = harness.start_with(|command| {
        command.arg("ship").stdin(Stdio::from(reader));
    });
    drop(ship.stdin.take());
    for (number, flags) in [(1, OFlag::O_NONBLOCK), (2, OFlag::empty()), (3, OFlag::O_NONBLOCK)] {
        fcntl(&shared, FcntlArg::F_SETFL(flags)).unwrap();
        writeln!(writer, "{number}").unwrap();
        harness.wait_for_lines(number);
    }
    drop(writer);
    let output = ship.finish();
    output.assert_exit(0, "", "");
    harness.assert_all_delivered(&output, 3);
}

#[test]
fn a_closed_standard_error_and_sigpipe_change_nothing() {
    let harness = Harness::with_faults("refuse").set("TAILRACE_STOP_GRACE", "1s");
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut ship = harness.start_with(|command| {
        command.arg("ship").stderr(Stdio::from(writer));
    });
    wait_for_reader(ship.stdin.as_ref().unwrap());
    signal_and_wait(&ship, Signal::SIGPIPE);
    ship.feed(numbers(1..=10));
    let output = ship.finish();
    assert_eq!((output.status, harness.reconcile(&output).held), (75, 10));
}

#[test]
fn the_status_tells_lines_that_were_lost_before_an_error_of_the_input() {
    let harness = Harness::with_faults("refuse").set("TAILRACE_STOP_GRACE", "1s");
    let (master, slave) = pseudoterminal();
    let mut slave = File::from(slave);
    let ship = harness.start_with(|command| {
        command.arg("ship").stdin(Stdio::from(master));
    });
    slave.write_all(numbers(1..=10).as_bytes()).unwrap();
    ship.wait_for_message(&["at=drain-unreachable"]);
    drop(slave);
    let output = ship.finish();
    assert_eq!((output.status, harness.reconcile(&output).held), (75, 10));
    for part in ["at=cannot-read", "at=lines-not-delivered"] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
}

#[test]
fn a_writer_blocked_by_a_full_spool_gets_room_within_the_grace() {
    let harness =
        Harness::with_faults("refuse").set("TAILRACE_SPOOL_BYTES", "4MiB").set("TAILRACE_STOP_GRACE", "5m");
    let mut ship = harness.start(&["ship"]);
    let mut input = ship.stdin.take().unwrap();
    let writer = thread::spawn(move || input.write_all(long_lines(100_000).as_bytes()));
    ship.wait_for_message(&["at=drain-unreachable"]);
    wait_until("a full spool", || contents(&harness.spool_dir()).len() > 3 << 20);
    signal_and_wait(&ship, Signal::SIGTERM);
    assert!(!writer.is_finished(), "the writer must be blocked");
    harness.drain.set_faults("").unwrap();
    writer.join().unwrap().unwrap();
    let output = ship.finish();
    assert_eq!(output.status, 0, "{}", output.stderr);
    harness.assert_all_delivered(&output, 100_000);
    assert_in_order(&harness.report(), 100_000);
}
