//! The spool: takeover by the next agent, the size limit, and the spool in memory where no directory is usable.

use crate::harness::{
    Agent, Harness, WAIT_TIMEOUT, assert_in_order, contents, numbers, wait_for, wait_until,
};
use crate::procfs;
use memchr::memmem;
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::thread;

/// Waits until the spool contains the line `text` and the agent's start event, which may follow the first lines of the
/// app.
pub(crate) fn wait_for_spooled(harness: &Harness, text: &str) {
    let frame = format!(" - {text}\n");
    for text in [frame.as_str(), " - at=start "] {
        wait_for("the line in the spool", || memmem::find(&contents(&harness.spool_dir()), text.as_bytes()));
    }
}

/// Kills supervisor, shipper and app, as the platform kills a dyno. A surviving shipper would deliver the spool itself,
/// and keep it locked until then.
pub(crate) fn kill_dyno(agent: Agent) {
    let group = agent.pid();
    agent.signal_group(Signal::SIGKILL);
    assert_eq!(agent.finish().status, -(Signal::SIGKILL as i32));
    wait_until("the end of the group", || !procfs::is_group_alive(group));
}

/// Leaves the lines 1 to `last` in the spool of a dead agent. The drain must not accept them.
pub(crate) fn leave_lines(harness: &Harness, last: u64) {
    let mut dead = harness.run(&["cat"]);
    dead.feed(numbers(1..=last));
    wait_for_spooled(harness, &last.to_string());
    kill_dyno(dead);
}

#[test]
fn the_next_agent_delivers_the_spool_of_a_dead_one() {
    let harness = Harness::with_faults("refuse");
    leave_lines(&harness, 1000);
    harness.drain.set_faults("").unwrap();
    let output = harness.run(&["echo", "1001"]).finish();
    assert_eq!((output.status, output.stdout_text().as_str()), (0, "1001\n"));
    let messages = output.messages();
    assert!(messages.len() == 1 && messages[0].contains("at=adopted"), "{messages:?}");
    let account = &output.ledger().drains[0];
    assert_eq!(
        (output.ledger().captured, account.delivered, account.adopted_frames),
        (1, 1, 1001),
        "the lines and the start event of the dead agent must be adopted"
    );
    assert_in_order(&harness.report(), 1001);
    assert!(harness.is_spool_empty());
}

#[test]
fn the_sealed_batch_of_a_dead_agent_is_repeated_under_its_frame_id() {
    let harness = Harness::with_faults("reset-after");
    let mut dead = harness.run(&["cat"]);
    dead.feed(numbers(1..=100));
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.accepted == 1));
    dead.feed(numbers(101..=200));
    wait_for_spooled(&harness, "200");
    kill_dyno(dead);
    let before = harness.report().duplicates;
    harness.drain.set_faults("").unwrap();
    let output = harness.run(&["true"]).finish();
    assert_in_order(&harness.report(), 200);
    assert!(harness.report().duplicates > before, "the sealed batch must be repeated unchanged");
    assert_eq!(output.ledger().drains[0].adopted_frames, 201, "200 lines and the start event");
    assert!(harness.is_spool_empty());
}

#[test]
fn the_spool_is_in_the_temporary_directory_and_accessible_to_its_owner_only() {
    let harness = Harness::with_faults("refuse").unset("TAILRACE_SPOOL_DIR");
    let base = harness.path("tmp/tailrace");
    let mut agent = harness.run(&["cat"]);
    agent.feed("mine\n");
    wait_for("the line in the spool", || memmem::find(&contents(&base), b" - mine\n"));
    let spool = fs::read_dir(&base).unwrap().next().unwrap().unwrap().path();
    for dir in [&base, &spool] {
        assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
    harness.drain.set_faults("").unwrap();
    let output = agent.finish();
    assert_eq!(harness.reconcile(&output).delivered, 1);
    assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
}

#[test]
fn the_spool_of_a_running_agent_is_not_adopted() {
    let harness = Harness::with_faults("refuse");
    let mut running = harness.run(&["cat"]);
    running.feed("mine\n");
    wait_for_spooled(&harness, "mine");
    let harness = harness.set("TAILRACE_STOP_GRACE", "1s");
    let output = harness.run(&["echo", "other"]).finish();
    assert_eq!((output.ledger().captured, output.ledger().drains[0].held), (1, 1), "{}", output.stderr);
    harness.drain.set_faults("").unwrap();
    let output = running.finish();
    assert_eq!(output.ledger().drains[0].delivered, 1);
    assert_eq!(harness.drain.lines(), ["mine"]);
    // The next agent delivers what the other one left.
    harness.run(&["true"]).finish();
    assert_eq!(harness.drain.lines(), ["mine", "other"]);
}

#[test]
fn at_the_size_limit_the_oldest_lines_are_dropped_and_a_notice_counts_them() {
    let count = 60_000;
    let harness = Harness::with_faults("refuse").set("TAILRACE_SPOOL_BYTES", "4MiB");
    let mut agent = harness.run(&["cat"]);
    agent.feed("seq=1 sent while the drain is unreachable\n");
    agent.wait_for_message(&["at=drain-unreachable"]); // the first line is sealed
    for number in 2..=count {
        agent.feed(format!("seq={number} {}\n", "x".repeat(100)));
    }
    wait_for("the last line in the spool", || {
        memmem::find(&contents(&harness.spool_dir()), format!("seq={count} x").as_bytes())
    });
    harness.drain.set_faults("").unwrap();
    let arrived = |report: &tailrace_drain::stats::Report| {
        report.sequence.get("web.1").is_some_and(|sequence| sequence.last == Some(count))
    };
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, arrived));
    let output = agent.finish();
    let (account, report) = (harness.reconcile(&output), harness.report());
    let sequence = &report.sequence["web.1"];
    assert_eq!((output.ledger().captured, account.held), (count, 0));
    assert!(account.dropped > count / 4 && account.delivered > count / 4, "{account:?}");
    assert_eq!(account.reasons.iter().collect::<Vec<_>>(), [(&"spool-full".to_owned(), &account.dropped)]);
    assert_eq!((sequence.first, sequence.missing, sequence.backward), (Some(1), account.dropped, 0));
    assert_eq!(
        (report.losses.notices, report.losses.lines),
        (1, account.dropped),
        "the notice must count exactly the missing lines"
    );
    assert_eq!(
        (output.ledger().agent_frames, report.system_frames),
        (3, 3),
        "one notice, one start and one stop event"
    );
    let frames = harness.drain.frames();
    let index = frames.iter().position(|frame| frame.proc_id == "logplex").unwrap();
    let notice = &frames[index];
    let start = format!("Error L10 (output buffer overflow): {} messages dropped since 2", account.dropped);
    assert!(notice.message.starts_with(&start), "{notice:?}");
    assert!(
        notice.message.contains(" tailrace source=web.1 ") && notice.message.ends_with(" reason=spool-full")
    );
    assert_eq!((notice.app.as_str(), notice.proc_id.as_str()), ("heroku", "logplex"));
    let number = |index: usize| frames[index].message[4..].split(' ').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(
        number(index + 1) - number(index - 1) - 1,
        account.dropped,
        "the notice must be at the position of the gap"
    );
    assert!(output.messages().iter().any(|line| line.contains(&format!("spool-full={}", account.dropped))));
}

#[test]
fn ship_blocks_instead_of_dropping() {
    let harness =
        Harness::with_faults("refuse").set("TAILRACE_SPOOL_BYTES", "4MiB").set("TAILRACE_STOP_GRACE", "5m");
    let mut ship = harness.start(&["ship"]);
    let mut text = String::new();
    for number in 1..=100_000 {
        writeln!(text, "seq={number} {}", "x".repeat(100)).unwrap();
    }
    let mut input = ship.stdin.take().unwrap();
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    ship.wait_for_message(&["at=drain-unreachable"]);
    wait_until("a full spool", || contents(&harness.spool_dir()).len() > 3 << 20);
    assert!(!writer.is_finished(), "the writer must be blocked");
    harness.drain.set_faults("").unwrap();
    writer.join().unwrap().unwrap();
    let output = ship.finish();
    assert_eq!(output.status, 0, "{}", output.stderr);
    harness.assert_all_delivered(&output, 100_000);
    assert_in_order(&harness.report(), 100_000);
}

#[test]
fn without_a_usable_directory_the_spool_is_in_memory() {
    let harness = Harness::new();
    let file = harness.path("regular-file");
    fs::write(&file, "").unwrap();
    let below = file.join("spool");
    // Not even root can create a directory in /proc.
    for path in [file.to_str().unwrap(), below.to_str().unwrap(), "/proc/tailrace"] {
        let harness = Harness::new().set("TAILRACE_SPOOL_DIR", path).set("TAILRACE_BATCH_LINGER", "20ms");
        let mut agent = harness.run(&["cat"]);
        // Several times the capacity of the spool in memory, no faster than it is delivered.
        for chunk in 0..10 {
            agent.feed(numbers(chunk * 10_000 + 1..=(chunk + 1) * 10_000));
            harness.wait_for_lines((chunk + 1) * 10_000);
        }
        let output = agent.finish();
        let messages = output.messages();
        assert!(
            messages.len() == 1 && messages[0].contains("at=spool-in-memory") && messages[0].contains(path),
            "{messages:?}"
        );
        assert_eq!((output.ledger().captured, harness.reconcile(&output).delivered), (100_000, 100_000));
        assert_in_order(&harness.report(), 100_000);
    }
}

#[test]
fn the_spool_in_memory_survives_the_shipper() {
    let harness = Harness::with_faults("refuse").without_spool_directory();
    let mut agent = harness.run(&["cat"]);
    agent.feed(numbers(1..=1000));
    agent.wait_for_message(&["at=drain-unreachable"]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent.wait_for_shipper()), Signal::SIGKILL).unwrap();
    harness.drain.set_faults("").unwrap();
    harness.wait_for_lines(1000);
    let output = agent.finish();
    assert_eq!(harness.reconcile(&output).delivered, 1000);
    assert_in_order(&harness.report(), 1000);
}
