//! What an agent finds in the directory of the spools when it starts: what is its app's, and what is not.

use crate::harness::{Agent, Harness, Output, WAIT_TIMEOUT, assert_in_order, contents, numbers, wait_until};
use crate::spool::{kill_dyno, wait_for_spooled};
use crate::status::{status_of, text_of};
use memchr::memmem;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};
use tailrace_drain::stats::Report;

/// Leaves a spool with the line `text`: its agent is killed.
fn leave_spool(harness: &Harness, text: &str) {
    harness.drain.set_faults("refuse").unwrap();
    let mut agent = harness.run(&["cat"]);
    agent.feed(format!("{text}\n"));
    wait_for_spooled(harness, text);
    kill_dyno(agent);
    harness.drain.set_faults("").unwrap();
}

/// The directories of the spools.
fn spools(harness: &Harness) -> Vec<PathBuf> {
    fs::read_dir(harness.spool_dir()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The only spool.
fn only_spool(harness: &Harness) -> PathBuf {
    let [spool] = &spools(harness)[..] else { panic!("one spool") };
    spool.clone()
}

/// A harness with a drain of its own and the spools of `other`.
fn beside(other: &Harness) -> Harness {
    Harness::new().set("TAILRACE_SPOOL_DIR", other.spool_dir().to_str().unwrap())
}

/// Sets the times of everything in `directory` back.
fn age(directory: &Path, by: Duration) {
    let time = SystemTime::now() - by;
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([directory.to_owned()]) {
        File::open(path).unwrap().set_modified(time).unwrap();
    }
}

fn assert_quiet(output: &Output) {
    assert_eq!((output.status, output.messages()), (0, Vec::new()), "{}", output.stderr);
}

#[test]
fn the_spool_of_another_app_is_left_alone_and_named_by_status() {
    let shop = Harness::new().set("TAILRACE_APP", "shop");
    leave_spool(&shop, "of shop");
    let blog = beside(&shop).set("TAILRACE_APP", "blog");
    let mut agent = blog.run(&["cat"]);
    agent.feed("of blog\n");
    blog.wait_for_lines(1);
    let status = status_of(&agent).unwrap();
    let [other] = status["other_spools"].as_array().unwrap().as_slice() else { panic!("{status}") };
    let directory = &spools(&shop).into_iter().find(|path| other["directory"] == path.to_str().unwrap());
    assert!(directory.is_some(), "{status}");
    assert_eq!(other["app"], "shop", "{status}");
    assert!(other["bytes"].as_u64().unwrap() > 50 && other["unchanged_seconds"].is_u64(), "{status}");
    let text = text_of(&agent).unwrap();
    assert!(text.contains(" of shop: ") && text.contains("24h"), "{text}");
    assert_quiet(&agent.finish());
    assert_eq!(blog.drain.lines(), ["of blog"]);
    // The next agent of its own app delivers it.
    let output = shop.run(&["echo", "next"]).finish();
    assert_eq!(output.messages().len(), 1, "{}", output.stderr);
    assert_eq!(shop.drain.lines(), ["of shop", "next"]);
    assert!(shop.is_spool_empty());
}

#[test]
fn apps_without_a_name_are_told_apart_by_their_drains() {
    let first = Harness::new().unset("TAILRACE_APP");
    leave_spool(&first, "first");
    let second = beside(&first).unset("TAILRACE_APP");
    assert_quiet(&second.run(&["echo", "second"]).finish());
    assert_eq!(second.drain.lines(), ["second"]);
    first.run(&["echo", "next"]).finish();
    assert_eq!(first.drain.lines(), ["first", "next"]);
}

#[test]
fn a_spool_of_another_app_is_removed_24_hours_after_its_last_change() {
    let shop = Harness::new().set("TAILRACE_APP", "shop");
    leave_spool(&shop, "of shop");
    let spool = &only_spool(&shop);
    let blog = beside(&shop).set("TAILRACE_APP", "blog");
    age(spool, Duration::from_hours(24) - Duration::from_mins(1));
    assert_quiet(&blog.run(&["true"]).finish());
    assert!(spool.exists());
    age(spool, Duration::from_hours(24) + Duration::from_mins(1));
    let output = blog.run(&["true"]).finish();
    let [message] = output.messages()[..] else { panic!("{}", output.stderr) };
    for part in ["at=spool-expired", "app=shop", "bytes=", spool.to_str().unwrap()] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!spool.exists());
    assert_eq!(blog.drain.lines(), Vec::<String>::new());
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

#[test]
fn foreign_files_in_an_adopted_directory_are_ignored_and_reported() {
    let harness = Harness::new();
    leave_spool(&harness, "held");
    let spool = only_spool(&harness);
    let foreign = ["00000000000000000007", "18446744073709551615", "00000000001000000000", "notes", "link"]
        .map(|name| spool.join(name));
    let [inside, last, sparse, notes, link] = &foreign;
    fs::write(inside, "inside of the first segment").unwrap();
    fs::write(last, "behind every offset").unwrap();
    File::create(sparse).unwrap().set_len(3 << 30).unwrap();
    fs::write(notes, "somebody's").unwrap();
    std::os::unix::fs::symlink("/dev/zero", link).unwrap();
    fifo(&spool.join("00000000000500000000"));
    let output = harness.run(&["echo", "next"]).finish();
    let [foreign_files, adopted] = output.messages()[..] else { panic!("{}", output.stderr) };
    assert!(adopted.contains("at=adopted"), "{adopted}");
    for part in ["at=spool-foreign", " files=6 ", spool.to_str().unwrap(), "00000000000000000007"] {
        assert!(foreign_files.contains(part), "{part}: {foreign_files}");
    }
    assert_eq!(output.ledger().drains[0].delivered, 1);
    assert_eq!(harness.drain.lines(), ["held", "next"]);
    assert!(foreign.iter().all(|path| path.symlink_metadata().is_ok()), "they are somebody else's");
    // What is left is not ours: the next agent has nothing to adopt.
    let output = harness.run(&["echo", "again"]).finish();
    assert_quiet(&output);
    assert_eq!(harness.drain.lines(), ["held", "next", "again"]);
}

#[test]
fn a_damaged_checkpoint_costs_repetition_and_no_line() {
    for damage in ["digit", "cut", "long", "fifo"] {
        let harness = Harness::new();
        let mut agent = harness.run(&["cat"]);
        agent.feed("1\n");
        harness.wait_for_lines(1);
        harness.drain.set_faults("refuse").unwrap();
        agent.feed("2\n");
        wait_for_spooled(&harness, "2");
        agent.wait_for_message(&["at=drain-unreachable"]);
        kill_dyno(agent);
        harness.drain.set_faults("").unwrap();
        let file = only_spool(&harness).join("cursors");
        let text = fs::read_to_string(&file).unwrap();
        match damage {
            "digit" => {
                // The first digit of the hash of a URL, which may be any.
                let at = text.find(' ').unwrap() + 1;
                let other = if text[at..].starts_with('9') { '8' } else { '9' };
                fs::write(&file, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
            }
            "cut" => fs::write(&file, &text[..text.len() / 2]).unwrap(),
            "long" => File::options().write(true).open(&file).unwrap().set_len(3 << 30).unwrap(),
            _ => {
                fs::remove_file(&file).unwrap();
                fifo(&file);
            }
        }
        let output = harness.run(&["echo", "3"]).finish();
        let messages = output.messages();
        assert!(messages.iter().any(|line| line.contains("at=checkpoint-damaged")), "{damage}: {messages:?}");
        assert_eq!(messages.len(), 2, "{damage}: {messages:?}");
        let mut lines = harness.drain.lines();
        lines.dedup();
        assert!(lines.ends_with(&["2".to_owned(), "3".to_owned()]), "{damage}: {lines:?}");
        assert!(harness.is_spool_empty(), "{damage}");
    }
}

#[test]
fn a_lock_that_is_no_file_is_reported_and_waited_for_by_nobody() {
    let harness = Harness::new();
    leave_spool(&harness, "held");
    let lock = only_spool(&harness).join("lock");
    fs::remove_file(&lock).unwrap();
    fifo(&lock);
    let output = harness.run(&["echo", "next"]).finish();
    let [message] = output.messages()[..] else { panic!("{}", output.stderr) };
    assert!(message.contains("at=spool-foreign") && message.contains(lock.to_str().unwrap()), "{message}");
    assert_eq!(harness.drain.lines(), ["next"]);
    fs::remove_file(&lock).unwrap();
    harness.run(&["true"]).finish();
    assert_eq!(harness.drain.lines(), ["next", "held"]);
}

/// Feeds the numbered lines `range`, each of 100 bytes and more, and waits until the last is in the spool.
fn feed_long(harness: &Harness, agent: &mut Agent, range: RangeInclusive<u64>) {
    for number in range.clone() {
        agent.feed(format!("seq={number} {}\n", "x".repeat(100)));
    }
    let last = format!("seq={} x", range.end());
    wait_until("the last line in the spool", || {
        memmem::find(&contents(&harness.spool_dir()), last.as_bytes()).is_some()
    });
}

#[test]
fn adopted_lines_beyond_the_size_limit_are_counted_and_announced() {
    // Also when the app's lines have the name that the agent's own have.
    for app in ["app", "tailrace"] {
        assert_dropped_lines_of_a_dead_agent_are_announced(
            Harness::with_faults("refuse").set("TAILRACE_FRAME_APP", app),
        );
    }
}

fn assert_dropped_lines_of_a_dead_agent_are_announced(harness: Harness) {
    let mut dead = harness.run(&["cat"]);
    feed_long(&harness, &mut dead, 1..=60_000);
    kill_dyno(dead);
    let harness = harness.set("TAILRACE_SPOOL_BYTES", "4MiB");
    let mut agent = harness.run(&["cat"]);
    agent.wait_for_message(&["at=drain-unreachable"]);
    feed_long(&harness, &mut agent, 60_001..=60_001);
    harness.drain.set_faults("").unwrap();
    let is_last = |report: &Report| report.sequence.get("web.1").is_some_and(|s| s.last == Some(60_001));
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, is_last));
    let output = agent.finish();
    let report = harness.report();
    let sequence = &report.sequence["web.1"];
    let missing = 60_001 - sequence.count;
    assert!(missing > 10_000, "{sequence:?}");
    assert_eq!((report.losses.lines, sequence.backward), (missing, 0), "each missing line must be announced");
    let drain = &output.ledger().value["drains"][0];
    assert_eq!(drain["adopted_dropped_lines"], missing, "{drain}");
    assert_eq!((output.ledger().captured, output.ledger().drains[0].delivered), (1, 1), "{drain}");
    assert!(harness.is_spool_empty());
}

#[test]
fn losses_that_a_killed_agent_did_not_announce_are_announced_once() {
    let harness = Harness::new().set("TAILRACE_SPOOL_BYTES", "4MiB");
    let mut dead = harness.run(&["cat"]);
    dead.feed("seq=1\n");
    wait_until("no batch to be sealed", || {
        status_of(&dead).is_some_and(|status| status["drains"][0]["delivered_lines"] == 1)
    });
    kill(Pid::from_raw(dead.wait_for_shipper()), Signal::SIGSTOP).unwrap();
    feed_long(&harness, &mut dead, 2..=60_000);
    kill_dyno(dead);
    let output = harness.run(&["echo", "seq=60001"]).finish();
    let report = harness.report();
    let sequence = &report.sequence["web.1"];
    let missing = 60_001 - sequence.count;
    assert!(missing > 10_000, "{sequence:?}");
    assert_eq!(
        (sequence.first, sequence.last, sequence.backward),
        (Some(1), Some(60_001), 0),
        "{sequence:?}"
    );
    assert_eq!((report.losses.notices, report.losses.lines), (1, missing));
    assert_eq!((output.ledger().captured, output.ledger().drains[0].delivered), (1, 1));
    assert!(harness.is_spool_empty());
}

#[test]
fn a_batch_that_a_dead_agent_had_sealed_is_repeated_whole_with_any_batch_size() {
    let harness = Harness::new();
    let mut dead = harness.run(&["cat"]);
    dead.feed("1\n");
    harness.wait_for_lines(1);
    harness.drain.set_faults("reset-after").unwrap();
    dead.feed(numbers(2..=3000));
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |report| report.lines > 1), "{:?}", harness.report());
    wait_for_spooled(&harness, "3000");
    kill_dyno(dead);
    let stored = harness.report().lines;
    harness.drain.set_faults("").unwrap();
    let harness = harness.set("TAILRACE_BATCH_BYTES", "16KiB");
    harness.run(&["true"]).finish();
    // The drain counts a body that it has already under the same id as a duplicate, not as lines.
    let report = harness.report();
    assert!(report.duplicates > 0 && report.lines >= stored, "{report:?}");
    assert_in_order(&report, 3000);
}

/// Two drains on one host and port, with the paths `/a` and `/b`.
struct TwoPaths {
    address: String,
    state: Arc<Mutex<PathState>>,
}

#[derive(Default)]
struct PathState {
    /// It answers 503 there.
    down: Option<&'static str>,
    /// Path, id and body of all requests, and whether they were accepted.
    requests: Vec<(String, String, String, bool)>,
}

impl TwoPaths {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<Mutex<PathState>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || answer(stream, &shared));
            }
        });
        Self { address, state }
    }

    /// The value of `TAILRACE_DRAIN_URL`.
    fn urls(&self, paths: &[&str]) -> String {
        let urls: Vec<String> = paths.iter().map(|path| format!("http://{}{path}", self.address)).collect();
        urls.join(" ")
    }

    /// The ids of the requests to a path that were answered so.
    fn ids(&self, path: &str, is_accepted: bool) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let of_path =
            state.requests.iter().filter(|(to, .., accepted)| to == path && *accepted == is_accepted);
        of_path.map(|(_, id, ..)| id.clone()).collect()
    }

    /// The lines that a path accepted, those of each id once.
    fn lines(&self, path: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let mut seen = Vec::new();
        let mut lines = Vec::new();
        for (_, id, body, _) in state.requests.iter().filter(|(to, .., accepted)| to == path && *accepted) {
            if !seen.contains(&id) {
                seen.push(id);
                let of_app = body.lines().filter_map(|line| line.split_once(" app web.1 - "));
                lines.extend(of_app.map(|(_, text)| text.to_owned()));
            }
        }
        lines
    }
}

/// Answers one request, and closes the connection.
fn answer(stream: TcpStream, state: &Mutex<PathState>) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    for line in reader.by_ref().lines() {
        match line {
            Ok(line) if !line.is_empty() => head.push(line),
            _ => break,
        }
    }
    let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let header = |name: &str| {
        let fields = head.iter().filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let mut body = vec![0; header("content-length").unwrap().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let mut state = state.lock().unwrap();
    let is_accepted = state.down != Some(path);
    let (id, body) = (header("logplex-frame-id").unwrap(), String::from_utf8(body).unwrap());
    state.requests.push((path.to_owned(), id, body, is_accepted));
    let status = if is_accepted { "204 No Content" } else { "503 Service Unavailable" };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes()).ok(); // the agent may have been killed
}

#[test]
fn drains_on_one_host_that_change_places_keep_their_backlogs() {
    for (next, down) in [(&["/b", "/a"][..], "/a"), (&["/b", "/a"], "/b"), (&["/b"], "/a")] {
        let drains = TwoPaths::new();
        drains.state.lock().unwrap().down = Some(down);
        let harness = Harness::new().set("TAILRACE_DRAIN_URL", &drains.urls(&["/a", "/b"]));
        let mut dead = harness.run(&["cat"]);
        dead.feed("1\n");
        let up = if down == "/a" { "/b" } else { "/a" };
        wait_until("one drain to accept, the other to refuse", || {
            !drains.ids(up, true).is_empty() && !drains.ids(down, false).is_empty()
        });
        kill_dyno(dead);
        let refused = drains.ids(down, false);
        drains.state.lock().unwrap().down = None;
        let harness = harness.set("TAILRACE_DRAIN_URL", &drains.urls(next));
        let output = harness.run(&["echo", "2"]).finish();
        assert_eq!(output.status, 0, "{}", output.stderr);
        for path in next {
            assert_eq!(drains.lines(path), ["1", "2"], "{next:?} with {down} down: {path}");
        }
        let gone: Vec<_> = output.messages().into_iter().filter(|m| m.contains(" at=drain-gone ")).collect();
        if next.contains(&down) {
            assert!(drains.ids(down, true).contains(&refused[0]), "a repeated batch keeps its id");
            assert_eq!(gone, Vec::<&str>::new());
        } else {
            assert!(matches!(&gone[..], [gone] if gone.contains(" lines=1 ")), "{}", output.stderr);
        }
        assert!(harness.is_spool_empty(), "{next:?} with {down} down");
    }
}
