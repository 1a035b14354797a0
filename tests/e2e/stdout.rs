//! Failures of the agent's standard output affect neither the app nor the delivery.

use crate::harness::{Harness, numbers, quoted, wait_until};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, pipe};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

/// Runs `seq 100000` with this standard output; checks its exit status and that everything was delivered.
fn assert_unaffected(harness: &Harness, out: Stdio) {
    let agent = harness.start_with(|command| {
        command.args(["run", "--", "sh", "-c", "seq 100000; echo err >&2; exit 3"]).stdout(out);
    });
    let output = agent.finish();
    assert_eq!((output.status, output.stderr.as_str()), (3, "err\n"));
    harness.assert_all_delivered(&output, 100_001);
}

#[test]
fn a_closed_reader_affects_neither_app_nor_delivery() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    assert_unaffected(&Harness::new(), writer.into());
}

#[test]
fn a_full_disk_affects_neither_app_nor_delivery() {
    assert_unaffected(&Harness::new(), File::options().write(true).open("/dev/full").unwrap().into());
}

#[test]
fn output_is_appended_to_a_file() {
    let harness = Harness::new();
    let path = harness.path("log");
    fs::write(&path, "before\n").unwrap();
    assert_unaffected(&harness, OpenOptions::new().append(true).open(&path).unwrap().into());
    assert!(fs::read_to_string(&path).unwrap() == format!("before\n{}", numbers(1..=100_000)));
}

#[test]
fn nonblocking_sockets_and_pipes_get_everything() {
    let harness = Harness::new();
    let (mut reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let slow = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut buffer = [0; 5000];
        while let Ok(got @ 1..) = reader.read(&mut buffer) {
            text.extend_from_slice(&buffer[..got]);
            std::thread::sleep(Duration::from_micros(50));
        }
        text
    });
    assert_unaffected(&harness, Stdio::from(std::os::fd::OwnedFd::from(writer)));
    assert!(slow.join().unwrap() == numbers(1..=100_000).into_bytes());
    let harness = Harness::new();
    let (mut reader, writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let slow = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text
    });
    assert_unaffected(&harness, writer.into());
    assert!(slow.join().unwrap() == numbers(1..=100_000).into_bytes());
}

#[test]
fn a_closed_standard_output_affects_neither_app_nor_delivery() {
    let harness = Harness::new();
    let output = harness
        .start_via(&["sh", "-c", "exec \"$@\" >&-", "sh"], &["run", "--", "sh", "-c", "echo one; exit 3"])
        .finish();
    assert_eq!((output.status, output.stderr.as_str()), (3, ""));
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn a_stalled_reader_of_one_stream_blocks_neither_the_other_nor_the_delivery() {
    let harness = Harness::new();
    let (mut reader, writer) = pipe().unwrap();
    let agent = harness.start_with(|command| {
        let script =
            "seq 300000 & i=0; while [ $i -lt 50 ]; do echo err $i >&2; sleep 0.02; i=$((i+1)); done; wait";
        command.args(["run", "--", "sh", "-c", script]).stdout(Stdio::from(writer));
    });
    wait_until("all of standard error", || agent.stderr().contains("err 49\n"));
    // All of standard error is delivered, and what was read of standard output before it stalled.
    harness.wait_for_lines(51);
    let rest = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text
    });
    let output = agent.finish();
    assert!(rest.join().unwrap() == numbers(1..=300_000).into_bytes());
    // A line that was incomplete when the reader stalled is two frames, and one line in the ledger.
    let account = &output.ledger().drains[0];
    assert_eq!((output.ledger().captured, account.delivered), (300_050, 300_050));
    assert!((300_050..=300_051).contains(&harness.report().lines));
}

#[test]
fn lines_of_two_streams_into_one_pipe_stay_whole() {
    let harness = Harness::new();
    let (mut reader, writer) = pipe().unwrap();
    // Each write consists of whole lines and is small enough to be atomic (pipe(7), PIPE_BUF).
    let awk = "BEGIN { s = sprintf(\"%119s\", \"\"); gsub(/ /, c, s); for (i = 0; i < 60000; i++) { printf \"%s\\n\", s; if (i % 30 == 29) fflush() } }";
    let script = format!("awk -v c=a '{awk}' & awk -v c=b '{awk}' >&2; wait");
    let agent = harness.start_with(|command| {
        let both = writer.try_clone().unwrap();
        command
            .args(["run", "--", "sh", "-c", &script])
            .stdout(Stdio::from(writer))
            .stderr(Stdio::from(both));
    });
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let output = agent.finish();
    assert_eq!(text.lines().count(), 120_000);
    let split = text.lines().filter(|line| line.len() != 119).count();
    assert_eq!((split, output.status), (0, 0));
    harness.assert_all_delivered(&output, 120_000);
}

/// Prints the numbers from 1 to 400, one every 6 ms or so: the odd ones to standard output, the even ones to standard error.
const ALTERNATING: &str = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i >&$((2-i%2)); sleep 0.005; done";

#[test]
fn two_streams_into_one_pipe_keep_their_order() {
    let harness = Harness::new();
    let (mut reader, writer) = pipe().unwrap();
    let agent = harness.start_with(|command| {
        let both = writer.try_clone().unwrap();
        command.args(["run", "--", "sh", "-c", ALTERNATING]).stdout(writer).stderr(both);
    });
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let output = agent.finish();
    assert_eq!((output.status, text), (0, numbers(1..=400)));
    assert_eq!(harness.drain.lines().join("\n") + "\n", numbers(1..=400));
    harness.assert_all_delivered(&output, 400);
}

#[test]
fn two_streams_into_one_file_keep_their_order() {
    let harness = Harness::new();
    let output = harness
        .start_via(&["sh", "-c", "exec \"$@\" 2>&1", "sh"], &["run", "--", "sh", "-c", ALTERNATING])
        .finish();
    output.assert_exit(0, &numbers(1..=400), "");
    assert_eq!(harness.drain.lines().join("\n") + "\n", numbers(1..=400));
    harness.assert_all_delivered(&output, 400);
}

#[test]
fn two_open_files_of_one_name_are_written_as_without_the_agent() {
    let harness = Harness::new();
    let file = harness.path("log");
    let files = format!("exec \"$@\" >{0} 2>{0}", quoted(&file));
    let script = "echo longer; echo err >&2; exit 3";
    let plain = std::process::Command::new("sh").args(["-c", &files, "sh", "sh", "-c", script]).status();
    let expected = (plain.unwrap().code(), fs::read_to_string(&file).unwrap());
    assert_eq!(expected, (Some(3), "err\ner\n".to_owned()), "each file has a position of its own");
    let output = harness.start_via(&["sh", "-c", &files, "sh"], &["run", "--", "sh", "-c", script]).finish();
    assert_eq!(fs::read_to_string(&file).unwrap().len(), expected.1.len());
    assert_eq!(output.status, 3);
    harness.assert_all_delivered(&output, 2);
}

#[test]
fn two_streams_into_two_files_are_delivered_nearly_in_order() {
    let harness = Harness::new();
    let output = harness.sh(ALTERNATING).finish();
    let all = numbers(1..=400);
    let every_second = |first| all.split_inclusive('\n').skip(first).step_by(2).collect::<String>();
    output.assert_exit(0, &every_second(0), &every_second(1));
    let lines: Vec<u32> = harness.drain.lines().iter().map(|line| line.parse().unwrap()).collect();
    // The audit below includes that no timestamp is earlier than the one before.
    let inversions = lines.windows(2).filter(|pair| pair[0] > pair[1]).count();
    // Pumps that rest independently of each other make 80; a few are left on a machine without a free core.
    assert!(inversions <= 40, "{inversions} inversions: {lines:?}");
    harness.assert_all_delivered(&output, 400);
}

#[test]
fn the_app_may_reopen_and_close_its_output() {
    let harness = Harness::new();
    let script = "echo one; echo two >/dev/stdout; echo three >/proc/self/fd/1; exec 1>&-; echo four >&2; sleep 0.1; exit 3";
    let output = harness.run(&["bash", "-c", script]).finish();
    output.assert_exit(3, "one\ntwo\nthree\n", "four\n");
    harness.assert_all_delivered(&output, 4);
}
