//! The spool: what outlives the agent, what happens at its limit, and what serves when there is no directory.

use crate::harness::{Agent, PATIENCE, Rig, contents, in_order, numbers, wait_for};
use crate::procfs;
use memchr::memmem;
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::thread;

/// Waits until the line `text` is in the spool, and what the agent says of itself at its start, which may come
/// after the first lines of the app.
fn wait_spooled(rig: &Rig, text: &str) {
    let frame = format!(" - {text}\n");
    for part in [frame.as_str(), " - at=start "] {
        wait_for("the line in the spool", || {
            memmem::find(&contents(&rig.spool()), part.as_bytes()).map(drop)
        });
    }
}

/// Kills keeper, shipper and app, as the platform kills a dyno. A shipper alone would take over what the keeper
/// left, and hold its lock until it is gone.
fn kill(agent: Agent) {
    let group = agent.pid();
    agent.signal_all(Signal::SIGKILL);
    assert_eq!(agent.end().status, -(Signal::SIGKILL as i32));
    wait_for("the end of the group", || (!procfs::is_group_alive(group)).then_some(()));
}

#[test]
fn what_a_dead_agent_left_is_delivered_by_the_next() {
    let rig = Rig::with_faults("refuse");
    let mut dead = rig.run(&["cat"]);
    dead.feed(numbers(1..=1000));
    wait_spooled(&rig, "1000");
    kill(dead);
    rig.drain.set_faults("").unwrap();
    let end = rig.run(&["echo", "1001"]).end();
    assert_eq!((end.status, end.text().as_str()), (0, "1001\n"));
    let said = end.said();
    assert!(said.len() == 1 && said[0].contains("at=adopted"), "{said:?}");
    let account = &end.ledger().drains[0];
    assert_eq!(
        (end.ledger().captured, account.delivered, account.adopted_frames),
        (1, 1, 1001),
        "and what it said of itself"
    );
    in_order(&rig.report(), 1001);
    assert!(rig.is_spool_empty());
}

#[test]
fn what_a_dead_agent_had_sealed_is_repeated_under_its_id() {
    let rig = Rig::with_faults("reset-after");
    let mut dead = rig.run(&["cat"]);
    dead.feed(numbers(1..=100));
    assert!(rig.drain.wait_until(PATIENCE, |report| report.accepted == 1));
    dead.feed(numbers(101..=200));
    wait_spooled(&rig, "200");
    kill(dead);
    let before = rig.report().duplicates;
    rig.drain.set_faults("").unwrap();
    let end = rig.run(&["true"]).end();
    in_order(&rig.report(), 200);
    assert!(rig.report().duplicates > before, "the batch that was sealed came once more, unchanged");
    assert_eq!(end.ledger().drains[0].adopted_frames, 201, "and what it said of itself");
    assert!(rig.is_spool_empty());
}

#[test]
fn it_is_in_the_temporary_directory_and_nobody_elses() {
    let rig = Rig::with_faults("refuse").unset("TAILRACE_SPOOL_DIR");
    let base = rig.path("tmp/tailrace");
    let mut agent = rig.run(&["cat"]);
    agent.feed("mine\n");
    wait_for("the line in the spool", || memmem::find(&contents(&base), b" - mine\n"));
    let own = fs::read_dir(&base).unwrap().next().unwrap().unwrap().path();
    for dir in [&base, &own] {
        assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
    rig.drain.set_faults("").unwrap();
    let end = agent.end();
    assert_eq!(rig.agree(&end).delivered, 1);
    assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
}

#[test]
fn a_living_agents_spool_is_left_alone() {
    let rig = Rig::with_faults("refuse");
    let mut living = rig.run(&["cat"]);
    living.feed("mine\n");
    wait_spooled(&rig, "mine");
    let rig = rig.set("TAILRACE_STOP_GRACE", "1s");
    let end = rig.run(&["echo", "other"]).end();
    assert_eq!((end.ledger().captured, end.ledger().drains[0].held), (1, 1), "{}", end.err);
    rig.drain.set_faults("").unwrap();
    let end = living.end();
    assert_eq!(end.ledger().drains[0].delivered, 1);
    assert_eq!(rig.drain.lines(), ["mine"]);
    // What the other one left is for whoever comes next.
    rig.run(&["true"]).end();
    assert_eq!(rig.drain.lines(), ["mine", "other"]);
}

#[test]
fn at_the_limit_the_oldest_lines_go_and_the_stream_says_how_many() {
    let count = 60_000;
    let rig = Rig::with_faults("refuse").set("TAILRACE_SPOOL_BYTES", "4MiB");
    let mut agent = rig.run(&["cat"]);
    agent.feed("seq=1 the first one is on its way when the drain goes\n");
    agent.wait_said(&["at=drain-unreachable"]); // so it is sealed
    for number in 2..=count {
        agent.feed(format!("seq={number} {}\n", "x".repeat(100)));
    }
    wait_for("the last line in the spool", || {
        memmem::find(&contents(&rig.spool()), format!("seq={count} x").as_bytes())
    });
    rig.drain.set_faults("").unwrap();
    let arrived = |report: &tailrace_drain::tally::Report| {
        report.sequence.get("web.1").is_some_and(|sequence| sequence.last == Some(count))
    };
    assert!(rig.drain.wait_until(PATIENCE, arrived));
    let end = agent.end();
    let (account, report) = (rig.agree(&end), rig.report());
    let sequence = &report.sequence["web.1"];
    assert_eq!((end.ledger().captured, account.held), (count, 0));
    assert!(account.dropped > count / 4 && account.delivered > count / 4, "{account:?}");
    assert_eq!(account.reasons.iter().collect::<Vec<_>>(), [(&"spool-full".to_owned(), &account.dropped)]);
    assert_eq!((sequence.first, sequence.missing, sequence.backward), (Some(1), account.dropped, 0));
    assert_eq!((report.losses.notices, report.losses.lines), (1, account.dropped), "exactly what is missing");
    assert_eq!(
        (end.ledger().own_frames, report.own_frames),
        (3, 3),
        "a notice is no line, nor are start and stop"
    );
    let frames = rig.drain.frames();
    let at = frames.iter().position(|frame| frame.proc_id == "logplex").unwrap();
    let notice = &frames[at];
    let start = format!("Error L10 (output buffer overflow): {} messages dropped since 2", account.dropped);
    assert!(notice.message.starts_with(&start), "{notice:?}");
    assert!(
        notice.message.contains(" tailrace source=web.1 ") && notice.message.ends_with(" reason=spool-full")
    );
    assert_eq!((notice.app.as_str(), notice.proc_id.as_str()), ("heroku", "logplex"));
    let number = |at: usize| frames[at].message[4..].split(' ').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(number(at + 1) - number(at - 1) - 1, account.dropped, "it stands at the place of the gap");
    assert!(end.said().iter().any(|line| line.contains(&format!("spool-full={}", account.dropped))));
}

#[test]
fn ship_waits_instead_of_dropping() {
    let rig = Rig::with_faults("refuse").set("TAILRACE_SPOOL_BYTES", "4MiB").set("TAILRACE_STOP_GRACE", "5m");
    let mut ship = rig.start(&["ship"]);
    let mut text = String::new();
    for number in 1..=100_000 {
        writeln!(text, "seq={number} {}", "x".repeat(100)).unwrap();
    }
    let mut input = ship.input.take().unwrap();
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    ship.wait_said(&["at=drain-unreachable"]);
    wait_for("a full spool", || (contents(&rig.spool()).len() > 3 << 20).then_some(()));
    assert!(!writer.is_finished(), "whoever writes waits");
    rig.drain.set_faults("").unwrap();
    writer.join().unwrap().unwrap();
    let end = ship.end();
    assert_eq!(end.status, 0, "{}", end.err);
    rig.all_delivered(&end, 100_000);
    in_order(&rig.report(), 100_000);
}

#[test]
fn without_a_directory_memory_serves() {
    let rig = Rig::new();
    let file = rig.path("a-file");
    fs::write(&file, "").unwrap();
    for path in [file.to_str().unwrap(), "/proc/tailrace"] {
        let rig = Rig::new().set("TAILRACE_SPOOL_DIR", path).set("TAILRACE_BATCH_LINGER", "20ms");
        let mut agent = rig.run(&["cat"]);
        // Several times what memory holds, no faster than it is taken.
        for part in 0..10 {
            agent.feed(numbers(part * 10_000 + 1..=(part + 1) * 10_000));
            rig.wait_lines((part + 1) * 10_000);
        }
        let end = agent.end();
        let said = end.said();
        assert!(
            said.len() == 1 && said[0].contains("at=spool-in-memory") && said[0].contains(path),
            "{said:?}"
        );
        assert_eq!((end.ledger().captured, rig.agree(&end).delivered), (100_000, 100_000));
        in_order(&rig.report(), 100_000);
    }
}

#[test]
fn memory_survives_the_shipper() {
    let rig = Rig::with_faults("refuse").set("TAILRACE_SPOOL_DIR", "/proc/tailrace");
    let mut agent = rig.run(&["cat"]);
    agent.feed(numbers(1..=1000));
    agent.wait_said(&["at=drain-unreachable"]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent.shipper()), Signal::SIGKILL).unwrap();
    rig.drain.set_faults("").unwrap();
    rig.wait_lines(1000);
    let end = agent.end();
    assert_eq!(rig.agree(&end).delivered, 1000);
    in_order(&rig.report(), 1000);
}
