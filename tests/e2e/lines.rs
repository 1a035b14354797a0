//! Arbitrary bytes are passed through unchanged and delivered as lines.

use crate::harness::{Harness, Output, numbers};
use std::fs;
use std::time::{Duration, Instant};

/// Runs an app that prints `bytes`; checks that they pass unchanged and that their `lines` lines are delivered.
fn print(harness: &Harness, bytes: &[u8], lines: u64) -> Output {
    let file = harness.path("bytes");
    fs::write(&file, bytes).unwrap();
    let output = harness.run(&["cat", file.to_str().unwrap()]).finish();
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    assert!(output.stdout == bytes, "bytes were changed: {:?}", String::from_utf8_lossy(&output.stdout));
    let account = output.ledger().drains[0].clone();
    assert_eq!((output.ledger().captured, account.delivered), (lines, lines), "{account:?}");
    harness.report();
    output
}

#[test]
fn invalid_text_is_delivered_as_valid_text() {
    let harness = Harness::new();
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
    let output = print(&harness, &bytes, cases.len() as u64);
    assert_eq!(harness.drain.lines(), cases.map(|(_, message)| message));
    harness.assert_all_delivered(&output, cases.len() as u64);
}

#[test]
fn long_lines_are_split_between_characters_without_loss() {
    let harness = Harness::new();
    let ascii: String = (0..25_000).map(|n: u32| char::from(b'a' + (n % 26) as u8)).collect();
    let wide = "\u{1f600}\u{e9}x".repeat(4000);
    let exact = "y".repeat(10_000);
    print(&harness, format!("before\n{ascii}\n{wide}\n{exact}\nafter\n").as_bytes(), 5);
    let lines = harness.drain.lines();
    assert!(lines.iter().all(|line| line.len() <= 10_000));
    let lengths: Vec<usize> = lines.iter().map(String::len).collect();
    assert_eq!(lengths, [6, 10_000, 10_000, 5000, 10_000, 9999, 8001, 10_000, 5]);
    assert_eq!(lines[1..4].concat(), ascii);
    assert_eq!(lines[4..7].concat(), wide);
    assert_eq!(lines[7], exact);
}

#[test]
fn the_maximum_line_length_is_a_setting() {
    let harness = Harness::new().set("TAILRACE_MAX_LINE", "256");
    print(&harness, format!("{}\n", "0123456789".repeat(100)).as_bytes(), 1);
    let lines = harness.drain.lines();
    assert_eq!((lines.len(), lines.concat()), (4, "0123456789".repeat(100)));
}

#[test]
fn random_bytes_are_passed_through_and_delivered_as_lines() {
    let harness = Harness::new();
    // SplitMix64 with a fixed seed: all byte values, the same in every run.
    let mut state = 7_u64;
    let mut bytes = Vec::new();
    while bytes.len() < 1 << 20 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 27)).to_le_bytes());
    }
    bytes.push(b'\n');
    let lines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
    let output = print(&harness, &bytes, lines);
    harness.assert_all_delivered(&output, lines);
}

#[test]
fn an_unfinished_line_is_delivered_after_a_second() {
    let harness = Harness::new();
    let mut agent = harness.run(&["cat"]);
    let start = Instant::now();
    agent.feed("Password: ");
    harness.wait_for_lines(1);
    assert!(start.elapsed() >= Duration::from_secs(1), "it was delivered before a second had passed");
    assert_eq!(harness.drain.lines(), ["Password: "]);
    agent.feed("wrong\nnext\n");
    harness.wait_for_lines(3);
    let output = agent.finish();
    assert_eq!(harness.drain.lines(), ["Password: ", "wrong", "next"]);
    assert_eq!((output.stdout_text().as_str(), output.ledger().captured), ("Password: wrong\nnext\n", 2));
}

/// Feeds an agent that copies its input a line that never pauses for a second, until a part of it is delivered; checks
/// that the parts make up the line.
fn assert_trickle_is_delivered(arguments: &[&str]) {
    let harness = Harness::new();
    let mut agent = harness.start(arguments);
    let (start, mut line) = (Instant::now(), String::new());
    while harness.drain.report().lines == 0 {
        // The bound is 5 s; an agent without it waits until the line is full, which takes half an hour at this rate.
        assert!(start.elapsed() < Duration::from_secs(15), "nothing of the line was delivered");
        line.push('.');
        agent.feed(".");
        std::thread::sleep(Duration::from_millis(200));
    }
    agent.feed(" done\nnext\n");
    let output = agent.finish();
    let mut parts = harness.drain.lines();
    assert_eq!(parts.pop().as_deref(), Some("next"));
    assert!(parts.len() > 1 && parts.concat() == format!("{line} done"), "{parts:?}");
    assert_eq!((output.ledger().captured, output.ledger().drains[0].delivered), (2, 2));
    harness.report();
}

#[test]
fn a_line_that_trickles_is_delivered_as_far_as_it_came() {
    assert_trickle_is_delivered(&["run", "--", "cat"]);
}

#[test]
fn a_line_that_trickles_into_ship_is_delivered_as_far_as_it_came() {
    assert_trickle_is_delivered(&["ship"]);
}

#[test]
fn a_line_of_two_writes_is_one_message() {
    let harness = Harness::new();
    let output = harness.sh("for n in 1 2 3; do printf 'half '; sleep 0.05; echo whole; done").finish();
    assert_eq!(harness.drain.lines(), ["half whole"; 3]);
    harness.assert_all_delivered(&output, 3);
}

#[test]
fn the_first_line_does_not_wait_for_the_linger() {
    let harness = Harness::new().set("TAILRACE_BATCH_LINGER", "60s");
    let mut agent = harness.run(&["cat"]);
    let start = Instant::now();
    agent.feed("first\n");
    harness.wait_for_lines(1);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let output = agent.finish();
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn a_line_of_a_hundred_megabytes_counts_as_one_line() {
    let harness = Harness::new().set("TAILRACE_STOP_GRACE", "100s");
    let output = harness
        .run(&["sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo after; exit 3"])
        .finish();
    assert_eq!((output.status, output.stdout.len(), output.stderr.as_str()), (3, 100_000_007, ""));
    let (account, report) = (output.ledger().drains[0].clone(), harness.report());
    assert_eq!((output.ledger().captured, account.delivered, account.dropped), (2, 2, 0), "{account:?}");
    assert_eq!(report.lines, 10_001, "it must arrive in frames of 10,000 bytes");
}

#[test]
fn bytes_that_are_written_one_by_one_form_lines() {
    let harness = Harness::new();
    let text = "import os\nfor byte in ''.join(f'{n}\\n' for n in range(1, 3001)).encode(): os.write(1, bytes([byte]))";
    let output = harness.run(&["python3", "-c", text]).finish();
    assert_eq!((output.status, output.stdout_text()), (0, numbers(1..=3000)));
    // The ledger counts lines: a line that pauses for a second would be two frames.
    assert_eq!((output.ledger().captured, output.ledger().drains[0].delivered), (3000, 3000));
}
