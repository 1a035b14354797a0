//! `tailrace status` from a second shell: it needs no settings and works whatever state the shipper is in.

use crate::harness::{Agent, Harness, documented_keys, key_paths, program, skip, wait_for};
use crate::procfs;
use crate::scripted_receiver::{self, response};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Command, Output};

/// Runs `tailrace status` without any config var.
fn status(arguments: &[&str]) -> Output {
    Command::new(program()).arg("status").args(arguments).env_clear().output().unwrap()
}

/// Keys of the ledger file that `status --json` does not have.
const NOT_IN_STATUS: [&str; 2] = ["].adopted_frames", "].adopted_dropped_lines"];

/// The status of this agent; other agents of this user may be running.
pub(crate) fn status_of(agent: &Agent) -> Option<Value> {
    let answers: Value = serde_json::from_slice(&status(&["--json"]).stdout).ok()?;
    answers.as_array()?.iter().find(|answer| answer["pid"] == agent.pid()).cloned()
}

/// The status of this agent as text.
pub(crate) fn text_of(agent: &Agent) -> Option<String> {
    let text = String::from_utf8(status(&[]).stdout).unwrap();
    let title = format!("pid {}, up ", agent.pid());
    text.split("\n\n").find(|section| section.contains(&title)).map(str::to_owned)
}

#[test]
fn a_healthy_agent_shows_its_ledger() {
    let harness = Harness::new();
    let mut agent = harness.run(&["cat"]);
    agent.feed("1\n2\n3\n");
    let status = wait_for("three lines", || {
        status_of(&agent).filter(|status| {
            status["drains"][0]["delivered_lines"] == 3 && !status["drains"][0]["last"].is_null()
        })
    });
    let drain = &status["drains"][0];
    assert_eq!((status["app"].as_str(), status["dyno"].as_str()), (Some("e2e"), Some("web.1")), "{status}");
    assert_eq!((&status["captured_lines"], &status["shipper"]["starts"]), (&3.into(), &1.into()), "{status}");
    assert_eq!(status["shipper"]["pid"], agent.wait_for_shipper(), "{status}");
    for (key, value) in
        [("held_lines", 0), ("held_bytes", 0), ("dropped_lines", 0), ("rejected_lines", 0), ("failures", 0)]
    {
        assert_eq!(drain[key], value, "{key}: {status}");
    }
    let [ledger, mut documented] = documented_keys();
    documented.extend(ledger.into_iter().filter(|key| !NOT_IN_STATUS.iter().any(|name| key.ends_with(name))));
    let mut keys = key_paths(&status);
    keys.retain(|key| !key.starts_with("drains[].last."));
    assert_eq!(keys, documented);
    let text = text_of(&agent).unwrap();
    for part in
        ["captured    3 lines", "delivered   3 lines", "held        0 lines", "last answer delivered, "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("LOCAL-SECRET") && !status.to_string().contains("LOCAL-SECRET"), "{text}");
    let output = agent.finish();
    harness.assert_all_delivered(&output, 3);
}

#[test]
fn the_age_is_that_of_the_oldest_undelivered_line() {
    let harness = Harness::with_faults("refuse");
    let mut agent = harness.run(&["cat"]);
    let oldest =
        |agent: &Agent| status_of(agent).and_then(|status| status["drains"][0]["oldest_seconds"].as_u64());
    agent.feed("old\n");
    wait_for("an old line", || oldest(&agent).filter(|seconds| *seconds >= 2));
    harness.drain.set_faults("").unwrap();
    harness.wait_for_lines(1);
    wait_for("no undelivered line", || oldest(&agent).filter(|seconds| *seconds == 0));
    harness.drain.set_faults("refuse").unwrap();
    agent.feed("new\n");
    let status = wait_for("an undelivered line", || {
        status_of(&agent).filter(|status| status["drains"][0]["held_lines"] == 1)
    });
    let age = status["drains"][0]["oldest_seconds"].as_u64().unwrap();
    assert!(age <= 1, "the age must be that of the line, not of its segment: {status}");
    harness.drain.set_faults("").unwrap();
    harness.assert_all_delivered(&agent.finish(), 2);
}

#[test]
fn a_failing_drain_is_shown_with_its_held_lines() {
    let harness = Harness::with_faults("status=401");
    let mut agent = harness.run(&["cat"]);
    agent.feed("held\n");
    let status =
        wait_for("a refusal", || status_of(&agent).filter(|status| status["drains"][0]["failures"] != 0));
    let drain = &status["drains"][0];
    assert_eq!((&drain["held_lines"], &drain["last"]["status"]), (&1.into(), &401.into()), "{status}");
    assert!(drain["held_bytes"].as_u64().unwrap() > 5 && drain["next_attempt_seconds"].is_u64(), "{status}");
    let text = text_of(&agent).unwrap();
    assert!(text.contains("held        1 lines, ") && text.contains("next attempt in "), "{text}");
    harness.drain.set_faults("").unwrap();
    harness.assert_all_delivered(&agent.finish(), 1);
}

#[test]
fn a_stopped_and_a_missing_shipper_are_shown() {
    let harness = Harness::new().set("TAILRACE_REQUEST_TIMEOUT", "60s");
    let mut agent = harness.run(&["cat"]);
    agent.feed("1\n");
    // Not only the drain has it: the answer has arrived.
    let delivered = |status: &Value| status["drains"][0]["delivered_lines"] == 1;
    wait_for("a line that is delivered", || status_of(&agent).filter(delivered));
    let shipper = agent.wait_for_shipper();
    kill(Pid::from_raw(shipper), Signal::SIGSTOP).unwrap();
    agent.feed("2\n");
    let held = |status: &Value| status["captured_lines"] == 2 && status["drains"][0]["held_lines"] != 0;
    let status = wait_for("a line that is held", || status_of(&agent).filter(held));
    assert_eq!(status["shipper"]["pid"], shipper, "{status}");
    let text = wait_for("the status to show a stuck shipper", || {
        text_of(&agent).filter(|text| text.contains("it is stuck, and will be replaced"))
    });
    assert!(text.contains("held        1 lines"), "{text}");
    // After two kills in a row the next start is delayed by a second, in which no shipper runs.
    wait_for("no shipper", || {
        if let Some(pid) = procfs::shipper_of(agent.pid()) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok(); // it may have exited
        }
        status_of(&agent).filter(|status| status["shipper"]["pid"].is_null())
    });
    harness.wait_for_lines(2);
    harness.assert_all_delivered(&agent.finish(), 2);
}

#[test]
fn no_running_agent_is_an_error() {
    // Status sockets are abstract, so none is visible in a new network namespace.
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user"]).arg(program()).arg("status").env_clear();
    command.env("PATH", std::env::var("PATH").unwrap());
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    if stderr.contains("unshare") {
        skip(&stderr);
        return;
    }
    assert_eq!((output.status.code(), output.stdout.len()), (Some(69), 0));
    assert!(stderr.contains("no agent of this user runs here"), "{stderr}");
}

#[test]
fn an_agent_that_does_not_answer_is_reported() {
    let harness = Harness::new();
    let mut agent = harness.run(&["cat"]);
    agent.feed("one\n");
    harness.wait_for_lines(1);
    let id = status_of(&agent).unwrap()["agent"].as_str().unwrap().to_owned();
    agent.signal(Signal::SIGSTOP);
    let output = status(&[]);
    agent.signal(Signal::SIGCONT);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(&format!("@tailrace.{id} does not answer")), "{stderr}");
    agent.finish();
}

#[test]
fn an_answer_without_a_text_is_shown_as_its_status() {
    for (status, event) in [("403 Forbidden", "at=drain-refused"), ("400 Bad Request", "at=drain-rejected")] {
        let port = scripted_receiver::start(move |_| response(status, "", ""));
        let harness = Harness::new()
            .set("TAILRACE_DRAIN_URL", &format!("http://127.0.0.1:{port}/x"))
            .set("TAILRACE_STOP_GRACE", "1s");
        let mut agent = harness.run(&["cat"]);
        agent.feed("line\n");
        let message = agent.wait_for_message(&[event]);
        assert!(!message.contains("error="), "{message}");
        let expected = format!("last answer {}, ", &status[..3]);
        let text = wait_for("the answer", || text_of(&agent).filter(|text| text.contains(&expected)));
        let rest = text.split(&expected).nth(1).unwrap();
        assert!(rest.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(", ,"), "{text}");
        agent.finish();
    }
}
