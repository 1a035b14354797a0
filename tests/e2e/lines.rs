//! Bytes of any kind: passed through as they are, and delivered as lines.

use crate::harness::{End, Rig};
use std::fs;
use std::time::{Duration, Instant};

/// Runs an app that prints `bytes`, which must come through as they are; all of its `lines` lines are delivered.
fn print(rig: &Rig, bytes: &[u8], lines: u64) -> End {
    let file = rig.path("bytes");
    fs::write(&file, bytes).unwrap();
    let end = rig.run(&["cat", file.to_str().unwrap()]).end();
    assert_eq!((end.status, end.err.as_str()), (0, ""));
    assert!(end.out == bytes, "passed through: {:?}", String::from_utf8_lossy(&end.out));
    let account = end.ledger().drains[0].clone();
    assert_eq!((end.ledger().captured, account.delivered), (lines, lines), "{account:?}");
    rig.report();
    end
}

#[test]
fn what_is_no_text_becomes_text() {
    let rig = Rig::new();
    let cases: [(&[u8], &str); 9] = [
        (b"plain\n", "plain"),
        (b"\n", ""),
        (b"windows\r\n", "windows"),
        (b"over\rwritten\r\r\n", "over written "),
        (b"nul\0nul\n", "nul nul"),
        (b"latin \xe9t\xe9\n", "latin \u{fffd}t\u{fffd}"),
        (b"cut \xe2\x82\n", "cut \u{fffd}"),
        ("snow \u{2603} \u{1f600}\n".as_bytes(), "snow \u{2603} \u{1f600}"),
        (b"the last one has no end", "the last one has no end"),
    ];
    let bytes: Vec<u8> = cases.iter().flat_map(|(raw, _)| raw.iter().copied()).collect();
    let end = print(&rig, &bytes, cases.len() as u64);
    assert_eq!(rig.drain.lines(), cases.map(|(_, message)| message));
    rig.all_delivered(&end, cases.len() as u64);
}

#[test]
fn long_lines_are_cut_between_characters_and_lose_nothing() {
    let rig = Rig::new();
    let ascii: String = (0..25_000).map(|n: u32| char::from(b'a' + (n % 26) as u8)).collect();
    let wide = "\u{1f600}\u{e9}x".repeat(4000);
    let exact = "y".repeat(10_000);
    print(&rig, format!("before\n{ascii}\n{wide}\n{exact}\nafter\n").as_bytes(), 5);
    let lines = rig.drain.lines();
    assert!(lines.iter().all(|line| line.len() <= 10_000));
    let lens: Vec<usize> = lines.iter().map(String::len).collect();
    assert_eq!(lens, [6, 10_000, 10_000, 5000, 10_000, 9999, 8001, 10_000, 5]);
    assert_eq!(lines[1..4].concat(), ascii);
    assert_eq!(lines[4..7].concat(), wide);
    assert_eq!(lines[7], exact);
}

#[test]
fn the_limit_of_a_line_is_a_setting() {
    let rig = Rig::new().set("TAILRACE_MAX_LINE", "256");
    print(&rig, format!("{}\n", "0123456789".repeat(100)).as_bytes(), 1);
    let lines = rig.drain.lines();
    assert_eq!((lines.len(), lines.concat()), (4, "0123456789".repeat(100)));
}

#[test]
fn noise_passes_and_is_delivered_as_something() {
    let rig = Rig::new();
    // SplitMix64: every byte value, in no order, and the same in every run.
    let mut state = 7_u64;
    let mut noise = Vec::new();
    while noise.len() < 1 << 20 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        noise.extend_from_slice(&(mixed ^ (mixed >> 27)).to_le_bytes());
    }
    noise.push(b'\n');
    let lines = memchr::memchr_iter(b'\n', &noise).count() as u64;
    let end = print(&rig, &noise, lines);
    rig.all_delivered(&end, lines);
}

#[test]
fn a_line_that_stands_still_is_not_withheld() {
    let rig = Rig::new();
    let mut agent = rig.run(&["cat"]);
    let start = Instant::now();
    agent.feed("Password: ");
    rig.wait_lines(1);
    assert!(start.elapsed() >= Duration::from_secs(1), "it had no second to be finished in");
    assert_eq!(rig.drain.lines(), ["Password: "]);
    agent.feed("wrong\nnext\n");
    rig.wait_lines(3);
    let end = agent.end();
    assert_eq!(rig.drain.lines(), ["Password: ", "wrong", "next"]);
    assert_eq!((end.text().as_str(), end.ledger().captured), ("Password: wrong\nnext\n", 2));
}

#[test]
fn a_quiet_app_is_seen_at_once() {
    // It is not this linger that the first line waits for.
    let rig = Rig::new().set("TAILRACE_BATCH_LINGER", "60s");
    let mut agent = rig.run(&["cat"]);
    let start = Instant::now();
    agent.feed("first\n");
    rig.wait_lines(1);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let end = agent.end();
    rig.all_delivered(&end, 1);
}

#[test]
fn a_line_of_a_hundred_megabytes_is_one_line() {
    let rig = Rig::new().set("TAILRACE_STOP_GRACE", "100s");
    let end =
        rig.run(&["sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo after; exit 3"]).end();
    assert_eq!((end.status, end.out.len(), end.err.as_str()), (3, 100_000_007, ""));
    let (account, report) = (end.ledger().drains[0].clone(), rig.report());
    assert_eq!((end.ledger().captured, account.delivered, account.dropped), (2, 2, 0), "{account:?}");
    assert_eq!(report.lines, 10_001, "in frames of 10,000 bytes");
}

#[test]
fn bytes_one_by_one_are_lines_all_the_same() {
    let rig = Rig::new();
    let text = "import os\nfor byte in ''.join(f'{n}\\n' for n in range(1, 3001)).encode(): os.write(1, bytes([byte]))";
    let end = rig.run(&["python3", "-c", text]).end();
    assert_eq!((end.status, end.text()), (0, crate::harness::numbers(1..=3000)));
    // One that stood still for a second in the middle would be two frames.
    assert_eq!((end.ledger().captured, end.ledger().drains[0].delivered), (3000, 3000));
}
