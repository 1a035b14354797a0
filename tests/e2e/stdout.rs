//! Trouble with the dyno's own output is its own: the app and the drain have none of it.

use crate::harness::{Rig, numbers, wait_for};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, pipe};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

/// Runs `seq 100000` with this standard output; it ends well and all is delivered.
fn goes_on(rig: &Rig, out: Stdio) {
    let agent = rig.start_with(|command| {
        command.args(["run", "--", "sh", "-c", "seq 100000; echo err >&2; exit 3"]).stdout(out);
    });
    let end = agent.end();
    assert_eq!((end.status, end.err.as_str()), (3, "err\n"));
    rig.all_delivered(&end, 100_001);
}

#[test]
fn a_reader_that_went_away() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    goes_on(&Rig::new(), writer.into());
}

#[test]
fn a_full_disk() {
    goes_on(&Rig::new(), File::options().write(true).open("/dev/full").unwrap().into());
}

#[test]
fn a_file_that_is_appended_to() {
    let rig = Rig::new();
    let path = rig.path("log");
    fs::write(&path, "before\n").unwrap();
    goes_on(&rig, OpenOptions::new().append(true).open(&path).unwrap().into());
    assert!(fs::read_to_string(&path).unwrap() == format!("before\n{}", numbers(1..=100_000)));
}

#[test]
fn a_socket_and_a_pipe_that_do_not_block() {
    let rig = Rig::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let slow = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut piece = [0; 5000];
        while let Ok(got @ 1..) = ours.read(&mut piece) {
            text.extend_from_slice(&piece[..got]);
            std::thread::sleep(Duration::from_micros(50));
        }
        text
    });
    goes_on(&rig, Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    assert!(slow.join().unwrap() == numbers(1..=100_000).into_bytes());
    let rig = Rig::new();
    let (mut reader, writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let slow = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text
    });
    goes_on(&rig, writer.into());
    assert!(slow.join().unwrap() == numbers(1..=100_000).into_bytes());
}

#[test]
fn no_output_at_all() {
    let rig = Rig::new();
    let end = rig
        .through(&["sh", "-c", "exec \"$@\" >&-", "sh"], &["run", "--", "sh", "-c", "echo one; exit 3"])
        .end();
    assert_eq!((end.status, end.err.as_str()), (3, ""));
    rig.all_delivered(&end, 1);
}

#[test]
fn a_stalled_reader_stalls_neither_the_other_stream_nor_the_drain() {
    let rig = Rig::new();
    let (mut reader, writer) = pipe().unwrap();
    let agent = rig.start_with(|command| {
        let script =
            "seq 300000 & i=0; while [ $i -lt 50 ]; do echo err $i >&2; sleep 0.02; i=$((i+1)); done; wait";
        command.args(["run", "--", "sh", "-c", script]).stdout(Stdio::from(writer));
    });
    wait_for("all of standard error", || agent.err().contains("err 49\n").then_some(()));
    // What was read of standard output before it stalled is at the drain, and all of standard error.
    rig.wait_lines(51);
    let rest = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text
    });
    let end = agent.end();
    assert!(rest.join().unwrap() == numbers(1..=300_000).into_bytes());
    // A line that was under way when the reader stalled is two frames (and one line in the ledger).
    let account = &end.ledger().drains[0];
    assert_eq!((end.ledger().captured, account.delivered), (300_050, 300_050));
    assert!((300_050..=300_051).contains(&rig.report().lines));
}

#[test]
fn one_pipe_for_both_streams_tears_no_lines() {
    let rig = Rig::new();
    let (mut reader, writer) = pipe().unwrap();
    // Each write is whole lines, and no longer than a pipe takes in one piece (pipe(7), PIPE_BUF).
    let awk = "BEGIN { s = sprintf(\"%119s\", \"\"); gsub(/ /, c, s); for (i = 0; i < 60000; i++) { printf \"%s\\n\", s; if (i % 30 == 29) fflush() } }";
    let script = format!("awk -v c=a '{awk}' & awk -v c=b '{awk}' >&2; wait");
    let agent = rig.start_with(|command| {
        let both = writer.try_clone().unwrap();
        command
            .args(["run", "--", "sh", "-c", &script])
            .stdout(Stdio::from(writer))
            .stderr(Stdio::from(both));
    });
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let end = agent.end();
    assert_eq!(text.lines().count(), 120_000);
    let torn = text.lines().filter(|line| line.len() != 119).count();
    assert_eq!((torn, end.status), (0, 0));
    rig.all_delivered(&end, 120_000);
}

#[test]
fn the_app_may_do_with_its_own_output_what_it_likes() {
    let rig = Rig::new();
    let script = "echo one; echo two >/dev/stdout; echo three >/proc/self/fd/1; exec 1>&-; echo four >&2; sleep 0.1; exit 3";
    let end = rig.run(&["bash", "-c", script]).end();
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "one\ntwo\nthree\n", "four\n"));
    rig.all_delivered(&end, 4);
}
