//! The end at drains of every kind: it comes in time, and what could not be delivered is counted and said, once.

use crate::harness::{PATIENCE, Rig, in_order, numbers, wait_for};
use crate::procfs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// What a machine under load may add to any end.
const SLACK: Duration = Duration::from_secs(8);

/// Drains at which nothing is ever delivered.
const DEAD: &[&str] = &[
    "refuse",
    "stall=600s",
    "tls-stall",
    "slow-read=1B/s",
    "status=500",
    "status=429:retry-after=600",
    "reset-before",
];

/// Twenty lines at a dead drain are held, exactly, and one line says so.
fn all_held(rig: &Rig, end: &crate::harness::End, status: i32) {
    let (account, said) = (end.ledger().drains[0].clone(), end.said());
    assert_eq!((end.status, end.ledger().captured), (status, 20), "{}", end.err);
    assert_eq!(
        (account.held, account.delivered, account.dropped, account.rejected),
        (20, 0, 0, 0),
        "{account:?}"
    );
    let last: Vec<_> = said.iter().filter(|line| line.contains("at=lines-not-delivered")).collect();
    assert_eq!((last.len(), said.last().unwrap().contains("held=20")), (1, true), "{said:?}");
    assert!(said.len() <= 2, "the trouble, and what came of it: {said:?}");
    assert!(!rig.is_spool_empty(), "what is held is kept, for whoever comes after us");
}

#[test]
fn a_stop_at_a_dead_drain_ends_with_the_grace() {
    for fault in DEAD {
        let rig = Rig::with_faults(fault).set("TAILRACE_STOP_GRACE", "1s");
        let agent = rig.sh("seq 20; exec sleep 60");
        agent.wait_out("20");
        let start = Instant::now();
        agent.signal(Signal::SIGTERM);
        let end = agent.end();
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(900) && took < SLACK, "{fault}: {took:?}");
        all_held(&rig, &end, 143);
    }
}

#[test]
fn a_crash_at_a_dead_drain_holds_the_dyno_for_five_seconds_at_most() {
    for fault in DEAD {
        let rig = Rig::with_faults(fault);
        let mut agent = rig.run(&["sh", "-c", "seq 20; read line; exit 9"]);
        agent.wait_out("\n20\n");
        agent.feed("go\n");
        let start = Instant::now();
        let end = agent.end();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5) + SLACK, "{fault}: {took:?}");
        all_held(&rig, &end, 9);
    }
}

#[test]
fn a_name_that_does_not_resolve_is_a_dead_drain() {
    // Reserved for names that never exist: RFC 6761 section 6.4.
    let rig = Rig::new().set("TAILRACE_DRAIN_URL", "https://drain.invalid/").set("TAILRACE_STOP_GRACE", "1s");
    let agent = rig.sh("seq 20; exec sleep 60");
    agent.wait_out("20");
    let start = Instant::now();
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    all_held(&rig, &end, 143);
}

#[test]
fn a_drain_that_recovers_within_the_grace_gets_everything() {
    let rig = Rig::with_faults("status=429:n=2:retry-after=600").set("TAILRACE_STOP_GRACE", "6s");
    let agent = rig.sh("trap 'echo last; exit 3' TERM; seq 20; while :; do sleep 0.1; done");
    agent.wait_out("20");
    assert!(rig.drain.wait_until(PATIENCE, |report| report.requests >= 1));
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    assert_eq!(end.status, 3, "{}", end.err);
    rig.all_delivered(&end, 21);
}

#[test]
fn last_words_of_ten_megabytes_all_arrive() {
    let rig = Rig::new().set("TAILRACE_STOP_GRACE", "100s");
    let agent = rig.sh("trap 'seq 1300000; exit 4' TERM; echo up; while :; do sleep 0.1; done");
    agent.wait_out("up");
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    assert_eq!(end.status, 4, "{}", end.err);
    assert!(end.text() == format!("up\n{}", numbers(1..=1_300_000)), "{} bytes", end.out.len());
    rig.all_delivered(&end, 1_300_001);
    in_order(&rig.report(), 1_300_000);
}

#[test]
fn an_app_that_ignores_the_stop_is_not_left_alone() {
    let rig = Rig::new().set("TAILRACE_STOP_GRACE", "1s");
    let script = "trap '' TERM; echo up; for i in $(seq 30); do sleep 0.1; done; echo late; exit 6";
    let agent = rig.run(&["bash", "-c", script]);
    agent.wait_out("up");
    agent.signal_all(Signal::SIGTERM);
    let end = agent.end();
    assert_eq!((end.status, end.text().as_str()), (6, "up\nlate\n"), "{}", end.err);
    let account = end.ledger().drains[0].clone();
    assert_eq!((end.ledger().captured, account.delivered + account.held), (2, 2), "{account:?}");
}

#[test]
fn the_books_are_written_at_the_deadline_also_when_the_app_stays_for_the_kill() {
    for fault in ["", "status=503"] {
        let rig = Rig::with_faults(fault).set("TAILRACE_STOP_GRACE", "1s");
        let agent = rig.run(&["bash", "-c", "trap '' TERM; seq 9; exec sleep 60"]);
        agent.wait_out("\n9\n");
        agent.signal_all(Signal::SIGTERM);
        wait_for("the ledger", || agent.ledger_text());
        if !fault.is_empty() {
            agent.wait_said(&["at=lines-not-delivered", "captured=9 delivered=0 held=9"]);
        }
        agent.signal_all(Signal::SIGKILL);
        let end = agent.end();
        let account = end.ledger().drains[0].clone();
        let expected = if fault.is_empty() { (9, 0) } else { (0, 9) };
        assert_eq!((end.status, end.ledger().captured), (-(Signal::SIGKILL as i32), 9), "{}", end.err);
        assert_eq!((account.delivered, account.held), expected);
    }
}

#[test]
fn a_shipper_that_is_stopped_at_the_deadline_is_killed_and_the_books_are_closed() {
    let rig = Rig::new().set("TAILRACE_STOP_GRACE", "2s");
    let mut agent = rig.run(&["sh", "-c", "echo one; read line; seq 19; exec sleep 60"]);
    rig.wait_lines(1);
    let shipper = agent.shipper();
    kill(Pid::from_raw(shipper), Signal::SIGSTOP).unwrap();
    agent.feed("go\n");
    agent.wait_out("\n19\n");
    let start = Instant::now();
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    let account = end.ledger().drains[0].clone();
    assert_eq!(
        (end.status, end.ledger().captured, account.delivered, account.held),
        (143, 20, 1, 19),
        "{}",
        end.err
    );
    assert!(!std::path::Path::new(&format!("/proc/{shipper}")).exists(), "it was killed and reaped");
}

#[test]
fn what_a_killed_keeper_left_is_delivered() {
    let rig = Rig::with_faults("status=503");
    let mut agent = rig.run(&["sh", "-c", "seq 5000; exec sleep 60"]);
    agent.wait_out("\n5000\n");
    assert!(rig.drain.wait_until(PATIENCE, |report| report.requests >= 1));
    let shipper = agent.shipper();
    drop(agent.input.take());
    wait_for("all lines in the spool", || {
        String::from_utf8_lossy(&crate::harness::contents(&rig.spool()))
            .contains(" web.1 - 5000\n")
            .then_some(())
    });
    agent.signal(Signal::SIGKILL);
    rig.drain.set_faults("").unwrap();
    rig.wait_lines(5000);
    in_order(&rig.report(), 5000);
    wait_for("the shipper to go", || (!procfs::is_alive(shipper)).then_some(()));
    assert!(rig.is_spool_empty());
    assert_eq!(agent.end().status, -9);
}
