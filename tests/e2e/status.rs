//! `tailrace status`, from a second shell: it needs no setting, and it answers whatever the shipper does.

use crate::harness::{Agent, Rig, program, wait_for};
use crate::procfs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Command, Output};

/// Asks as a second shell does: without any config var.
fn status(arguments: &[&str]) -> Output {
    Command::new(program()).arg("status").args(arguments).env_clear().output().unwrap()
}

/// What it says of this agent. Others of this user may run beside it.
fn of(agent: &Agent) -> Option<Value> {
    let answers: Value = serde_json::from_slice(&status(&["--json"]).stdout).ok()?;
    answers.as_array()?.iter().find(|answer| answer["pid"] == agent.pid()).cloned()
}

/// The lines for people of this agent.
fn text_of(agent: &Agent) -> Option<String> {
    let text = String::from_utf8(status(&[]).stdout).unwrap();
    let own = format!("pid {}, up ", agent.pid());
    text.split("\n\n").find(|part| part.contains(&own)).map(str::to_owned)
}

#[test]
fn a_healthy_agent_shows_its_books() {
    let rig = Rig::new();
    let mut agent = rig.run(&["cat"]);
    agent.feed("1\n2\n3\n");
    let told = wait_for("three lines", || {
        of(&agent)
            .filter(|told| told["drains"][0]["delivered_lines"] == 3 && !told["drains"][0]["last"].is_null())
    });
    let drain = &told["drains"][0];
    assert_eq!((told["app"].as_str(), told["dyno"].as_str()), (Some("path"), Some("web.1")), "{told}");
    assert_eq!((&told["captured_lines"], &told["shipper"]["starts"]), (&3.into(), &1.into()), "{told}");
    assert_eq!(told["shipper"]["pid"], agent.shipper(), "{told}");
    for (key, value) in
        [("held_lines", 0), ("held_bytes", 0), ("dropped_lines", 0), ("rejected_lines", 0), ("failures", 0)]
    {
        assert_eq!(drain[key], value, "{key}: {told}");
    }
    let text = text_of(&agent).unwrap();
    for words in
        ["captured    3 lines", "delivered   3 lines", "held        0 lines", "last answer delivered, "]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("LOCAL-SECRET") && !told.to_string().contains("LOCAL-SECRET"), "{text}");
    let end = agent.end();
    rig.all_delivered(&end, 3);
}

#[test]
fn the_oldest_line_is_the_one_that_waits_and_not_one_that_came() {
    let rig = Rig::with_faults("refuse");
    let mut agent = rig.run(&["cat"]);
    let oldest = |agent: &Agent| of(agent).and_then(|told| told["drains"][0]["oldest_seconds"].as_u64());
    agent.feed("old\n");
    wait_for("an old line", || oldest(&agent).filter(|seconds| *seconds >= 2));
    rig.drain.set_faults("").unwrap();
    rig.wait_lines(1);
    wait_for("nothing that waits", || oldest(&agent).filter(|seconds| *seconds == 0));
    rig.drain.set_faults("refuse").unwrap();
    agent.feed("new\n");
    let told =
        wait_for("a line that waits", || of(&agent).filter(|told| told["drains"][0]["held_lines"] == 1));
    let age = told["drains"][0]["oldest_seconds"].as_u64().unwrap();
    assert!(age <= 1, "the segment is older than the line: {told}");
    rig.drain.set_faults("").unwrap();
    rig.all_delivered(&agent.end(), 2);
}

#[test]
fn a_drain_in_trouble_is_named_with_what_is_held() {
    let rig = Rig::with_faults("status=401");
    let mut agent = rig.run(&["cat"]);
    agent.feed("kept\n");
    let told = wait_for("a refusal", || of(&agent).filter(|told| told["drains"][0]["failures"] != 0));
    let drain = &told["drains"][0];
    assert_eq!((&drain["held_lines"], &drain["last"]["status"]), (&1.into(), &401.into()), "{told}");
    assert!(drain["held_bytes"].as_u64().unwrap() > 5 && drain["next_attempt_seconds"].is_u64(), "{told}");
    let text = text_of(&agent).unwrap();
    assert!(text.contains("held        1 lines, ") && text.contains("next attempt in "), "{text}");
    rig.drain.set_faults("").unwrap();
    rig.all_delivered(&agent.end(), 1);
}

#[test]
fn a_stopped_shipper_and_none_at_all_are_told() {
    let rig = Rig::new().set("TAILRACE_REQUEST_TIMEOUT", "60s");
    let mut agent = rig.run(&["cat"]);
    agent.feed("1\n");
    rig.wait_lines(1);
    let shipper = agent.shipper();
    kill(Pid::from_raw(shipper), Signal::SIGSTOP).unwrap();
    agent.feed("2\n");
    let held = |told: &Value| told["captured_lines"] == 2 && told["drains"][0]["held_lines"] != 0;
    let told = wait_for("a line that is held", || of(&agent).filter(held));
    assert_eq!(told["shipper"]["pid"], shipper, "{told}");
    let text = wait_for("to be told that it is stuck", || {
        text_of(&agent).filter(|text| text.contains("it is stuck, and will be replaced"))
    });
    assert!(text.contains("held        1 lines"), "{text}");
    // Killed twice in a row, so that the next start waits a second: somebody sees it without a shipper.
    wait_for("no shipper", || {
        if let Some(pid) = procfs::shipper_of(agent.pid()) {
            let _gone_already = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        of(&agent).filter(|told| told["shipper"]["pid"].is_null())
    });
    rig.wait_lines(2);
    rig.all_delivered(&agent.end(), 2);
}

#[test]
fn it_says_when_there_is_nobody() {
    // In a network namespace of its own nobody is found. (Needs the right to make one.)
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user"]).arg(program()).arg("status").env_clear();
    command.env("PATH", std::env::var("PATH").unwrap());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    if said.contains("unshare") {
        crate::namespace::skipped(&said);
        return;
    }
    assert_eq!((output.status.code(), output.stdout.len()), (Some(69), 0));
    assert!(said.contains("no agent of this user runs here"), "{said}");
}

#[test]
fn an_agent_that_does_not_answer_is_said() {
    let rig = Rig::new();
    let mut agent = rig.run(&["cat"]);
    agent.feed("one\n");
    rig.wait_lines(1);
    let id = of(&agent).unwrap()["agent"].as_str().unwrap().to_owned();
    agent.signal(Signal::SIGSTOP);
    let output = status(&[]);
    agent.signal(Signal::SIGCONT);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("@tailrace.{id} does not answer")), "{said}");
    agent.end();
}
