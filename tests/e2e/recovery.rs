//! What an agent finds in the directory of the spools when it starts: what is its app's, and what is not.

use crate::harness::{Harness, Output};
use crate::spool::{kill_dyno, wait_for_spooled};
use crate::status::{status_of, text_of};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

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

/// A harness with a drain of its own and the spools of `other`.
fn beside(other: &Harness) -> Harness {
    Harness::new().set("TAILRACE_SPOOL_DIR", other.spool_dir().to_str().unwrap())
}

/// Sets the times of everything in `directory` back.
fn age(directory: &PathBuf, by: Duration) {
    let time = SystemTime::now() - by;
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([directory.clone()]) {
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
    let [spool] = &spools(&shop)[..] else { panic!("one spool") };
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
