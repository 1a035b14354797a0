//! Holes and damage in the spool: delivery goes on behind them, and what is missing is counted and announced.

use crate::harness::{Harness, WAIT_TIMEOUT, contents, skip, wait_for, wait_until};
use crate::spool::kill_dyno;
use crate::status::status_of;
use crate::threads::check_in_threads;
use memchr::memmem;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tailrace_drain::stats::Report;

/// What happens to a file of the spool.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Emptied,
    Cut,
    Removed,
    Flipped,
    Zeroed,
}

impl Damage {
    const ALL: [Self; 5] = [Self::Emptied, Self::Cut, Self::Removed, Self::Flipped, Self::Zeroed];

    fn strike(self, path: &Path) {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        match self {
            Self::Emptied => file.set_len(0).unwrap(),
            Self::Cut => file.set_len(len / 2 + 7).unwrap(),
            Self::Removed => fs::remove_file(path).unwrap(),
            // The first digit of the length of the first frame.
            Self::Flipped => file.write_all_at(b"x", 0).unwrap(),
            Self::Zeroed => file.write_all_at(&[0; 4096], 0).unwrap(),
        }
    }
}

/// Numbered lines of 200 bytes.
fn lines(range: std::ops::RangeInclusive<u64>) -> String {
    let line = |number| format!("seq={number} {}\n", "x".repeat(190));
    range.map(line).collect::<Vec<_>>().concat()
}

/// The segments of all agents in the spool, in the order in which they were written.
fn segments(harness: &Harness) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for agent in fs::read_dir(harness.spool_dir()).unwrap().flatten() {
        let files = fs::read_dir(agent.path()).unwrap().flatten().map(|file| file.path());
        found.extend(files.filter(|path| path.file_name().unwrap().len() == 20));
    }
    found.sort_by_key(|path| path.file_name().unwrap().to_owned());
    found
}

fn is_spooled(harness: &Harness, number: u64) -> bool {
    memmem::find(&contents(&harness.spool_dir()), format!("seq={number} ").as_bytes()).is_some()
}

fn wait_for_spooled(harness: &Harness, number: u64) {
    wait_until("the line in the spool", || is_spooled(harness, number));
}

/// Waits until the drain has the line with this number.
fn wait_for_number(harness: &Harness, number: u64) {
    let arrived =
        |report: &Report| report.sequence.get("web.1").is_some_and(|sequence| sequence.last == Some(number));
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, arrived), "{:?}", harness.drain.report());
}

#[test]
fn what_several_dead_agents_left_is_delivered() {
    let harness = Harness::with_faults("refuse");
    for run in 0..3 {
        let mut dead = harness.run(&["cat"]);
        dead.feed(lines(run * 10_000 + 1..=(run + 1) * 10_000)); // several segments each
        wait_for_spooled(&harness, (run + 1) * 10_000);
        kill_dyno(dead);
    }
    harness.drain.set_faults("").unwrap();
    let mut agent = harness.run(&["cat"]);
    wait_for_number(&harness, 30_000);
    agent.feed("seq=30001\n");
    wait_for_number(&harness, 30_001);
    let output = agent.finish();
    let sequence = &harness.report().sequence["web.1"];
    assert_eq!((sequence.count, sequence.missing, sequence.backward), (30_001, 0, 0), "{sequence:?}");
    assert_eq!(output.ledger().drains[0].delivered, 1);
    assert!(harness.is_spool_empty(), "{}", output.stderr);
}

#[test]
fn delivery_goes_on_behind_a_damaged_segment_of_a_dead_agent() {
    check_in_threads(3, Damage::ALL, |damage| {
        let harness = Harness::with_faults("refuse");
        let mut dead = harness.run(&["cat"]);
        dead.feed(lines(1..=20_000));
        wait_for_spooled(&harness, 20_000);
        kill_dyno(dead);
        damage.strike(&segments(&harness)[2]);
        harness.drain.set_faults("").unwrap();
        let mut agent = harness.run(&["cat"]);
        wait_for_number(&harness, 20_000);
        agent.feed("seq=20001\n");
        wait_for_number(&harness, 20_001);
        let output = agent.finish();
        let report = harness.report();
        let sequence = &report.sequence["web.1"];
        assert!(sequence.missing > 0 && sequence.backward == 0, "{damage:?}: {sequence:?}");
        assert_eq!(output.ledger().drains[0].delivered, 1, "{damage:?}");
        assert_eq!((report.losses.notices, report.losses.lines), (1, sequence.missing), "{damage:?}");
        let events = output.messages().iter().filter(|line| line.contains("at=spool-damaged")).count();
        assert_eq!(events, 1, "{damage:?}: {}", output.stderr);
        assert!(harness.is_spool_empty(), "{damage:?}: {}", output.stderr);
    });
}

#[test]
fn delivery_goes_on_behind_a_damaged_segment_of_a_living_agent() {
    check_in_threads(3, Damage::ALL, |damage| {
        let harness = Harness::with_faults("refuse");
        let mut agent = harness.run(&["cat"]);
        agent.feed(lines(1..=20_000));
        wait_for_spooled(&harness, 20_000);
        damage.strike(&segments(&harness)[2]);
        harness.drain.set_faults("").unwrap();
        wait_for_number(&harness, 20_000);
        agent.feed("seq=20001\n");
        wait_for_number(&harness, 20_001);
        let output = agent.finish();
        let (account, report) = (harness.reconcile(&output), harness.report());
        let sequence = &report.sequence["web.1"];
        assert!(account.dropped > 0 && account.held == 0, "{damage:?}: {account:?}");
        assert_eq!(
            account.reasons.iter().collect::<Vec<_>>(),
            [(&"spool-damaged".to_owned(), &account.dropped)],
            "{damage:?}"
        );
        assert_eq!((sequence.missing, sequence.backward), (account.dropped, 0), "{damage:?}");
        assert_eq!((report.losses.notices, report.losses.lines), (1, account.dropped), "{damage:?}");
        let events = output.messages().iter().filter(|line| line.contains("at=spool-damaged")).count();
        assert_eq!(events, 1, "{damage:?}: {}", output.stderr);
    });
}

#[test]
fn the_good_frames_of_a_damaged_sealed_batch_are_delivered() {
    let harness = Harness::new();
    let mut agent = harness.run(&["cat"]);
    agent.feed(lines(1..=1));
    harness.wait_for_lines(1);
    harness.drain.set_faults("refuse").unwrap();
    agent.feed(lines(2..=1000));
    agent.wait_for_message(&["at=drain-unreachable"]);
    wait_for_spooled(&harness, 1000);
    let segment = &segments(&harness)[0];
    let bytes = fs::read(segment).unwrap();
    let text = memmem::find(&bytes, b"seq=500 ").unwrap();
    let frame = memchr::memrchr(b'\n', &bytes[..text]).unwrap() + 1;
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(b"x", frame as u64).unwrap();
    kill(Pid::from_raw(agent.wait_for_shipper()), Signal::SIGKILL).unwrap();
    harness.drain.set_faults("").unwrap();
    wait_for_number(&harness, 499);
    agent.feed("seq=1001\n");
    let output = agent.finish();
    let (account, report) = (harness.reconcile(&output), harness.report());
    assert_eq!((account.held, account.dropped), (0, 1001 - report.lines), "{account:?}");
    assert!((499..=501).contains(&report.lines), "{report:?}");
    assert_eq!(report.losses.lines, account.dropped);
}

#[test]
fn delivery_goes_on_behind_segments_that_were_dropped_before_the_shipper_knew_them() {
    for kill_shipper in [false, true] {
        let harness = Harness::with_faults("refuse").set("TAILRACE_SPOOL_BYTES", "4MiB");
        let mut agent = harness.run(&["cat"]);
        agent.feed(lines(1..=1));
        agent.wait_for_message(&["at=drain-unreachable"]); // the first line is sealed
        if kill_shipper {
            kill(Pid::from_raw(agent.wait_for_shipper()), Signal::SIGSTOP).unwrap();
        }
        agent.feed(lines(2..=100_000));
        // Lines that the recorder was too busy for are not in the spool: once it has caught up, a new one is.
        let mut last = 100_000;
        wait_until("a line behind all these", || {
            last += 1;
            agent.feed(lines(last..=last));
            is_spooled(&harness, last)
        });
        harness.drain.set_faults("").unwrap();
        if kill_shipper {
            kill(Pid::from_raw(agent.wait_for_shipper()), Signal::SIGKILL).unwrap();
        }
        wait_for_number(&harness, last);
        agent.feed(lines(last + 1..=last + 1));
        wait_for_number(&harness, last + 1);
        let output = agent.finish();
        let (account, report) = (harness.reconcile(&output), harness.report());
        assert_eq!((account.held, account.dropped), (0, report.sequence["web.1"].missing), "{account:?}");
        assert_eq!(report.losses.lines, account.dropped);
    }
}

#[test]
fn lines_that_cannot_be_written_are_announced() {
    let harness = Harness::new().without_spool_directory();
    let mut agent = harness.start_with(|command| {
        command.args(["run", "--", "cat"]).stdout(Stdio::null());
    });
    agent.feed(lines(1..=1));
    harness.wait_for_lines(1);
    // The spool is in memory, in a file that is larger than the ledger and standard error.
    let pid = agent.pid().to_string();
    let limit_files = |size: &str| {
        let limit = format!("--fsize={size}:");
        Command::new("prlimit").args([&limit, "--pid", &pid]).status().is_ok_and(|status| status.success())
    };
    if !limit_files("65536") {
        return skip("prlimit(1) cannot limit another process");
    }
    agent.feed(lines(2..=3000));
    wait_for("the lines in the ledger", || {
        status_of(&agent).filter(|status| status["captured_lines"] == 3000)
    });
    assert!(limit_files("unlimited"));
    agent.feed(lines(3001..=3100));
    wait_for_number(&harness, 3100);
    let output = agent.finish();
    let (account, report) = (harness.reconcile(&output), harness.report());
    assert_eq!((output.ledger().captured, account.held), (3100, 0), "{account:?}");
    assert!(account.dropped > 2000, "{account:?}");
    assert_eq!(account.reasons.keys().collect::<Vec<_>>(), ["spool-unwritable"]);
    assert_eq!((report.losses.lines, report.sequence["web.1"].missing), (account.dropped, account.dropped));
}

#[test]
fn a_burst_into_a_small_spool_is_delivered_or_counted() {
    let harness = Harness::new().set("TAILRACE_SPOOL_BYTES", "4MiB").set("TAILRACE_BATCH_LINGER", "20ms");
    for run in 0..3 {
        let script = format!("seq -f 'seq=%.0f {}' 400000; echo seq=400001", "y".repeat(60));
        let output = harness.sh(&script).finish();
        let account = &output.ledger().drains[0];
        assert_eq!(output.ledger().captured, 400_001);
        assert_eq!(account.delivered + account.dropped, 400_001, "run {run}: {account:?} {}", output.stderr);
        assert_eq!(output.status, 0, "{}", output.stderr);
    }
    let report = harness.report();
    assert_eq!(report.sequence["web.1"].last, Some(400_001));
    assert!(harness.is_spool_empty());
}

#[test]
fn a_batch_whose_notice_is_longer_than_its_lines_is_split() {
    let harness = Harness::with_faults("refuse");
    let mut agent = harness.run(&["cat"]);
    agent.feed("seq=1 \n");
    wait_for_spooled(&harness, 1);
    agent.wait_for_message(&["at=drain-unreachable"]); // the first shipper has read it
    fs::remove_file(&segments(&harness)[0]).unwrap();
    agent.feed("seq=2 \nseq=3 \n");
    wait_for_spooled(&harness, 3);
    // The next shipper cannot read the first line, so that a notice goes out with the other two.
    kill(Pid::from_raw(agent.wait_for_shipper()), Signal::SIGKILL).unwrap();
    agent.wait_for_message(&["at=spool-damaged"]);
    harness.drain.set_faults("status=413:n=1").unwrap();
    let is_decided = |report: &Report| report.by_status.contains_key(&413) && report.losses.lines > 0;
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, is_decided), "{:?}", harness.report());
    let output = agent.finish();
    let (account, report) = (harness.reconcile(&output), harness.report());
    assert_eq!((account.delivered, account.dropped, account.rejected), (2, 1, 0), "{}", output.stderr);
    assert_eq!((report.by_status[&413], report.losses.lines), (1, 1));
}
