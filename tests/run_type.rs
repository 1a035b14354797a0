//! `run --type`: the real binary runs the command line that the buildpack stored for a Procfile entry.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod harness;
#[path = "e2e/procfs.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod procfs;

use harness::{Agent, Harness, Output};
use nix::sys::signal::Signal;
use std::fs;

/// Starts `tailrace run --type ARGUMENTS` in an app with these stored entries: names and command lines.
fn start(harness: &Harness, entries: &[(&str, &[u8])], arguments: &[&str]) -> Agent {
    let app = harness.path("app");
    let types = app.join(".tailrace/types");
    fs::create_dir_all(&types).unwrap();
    for (name, line) in entries {
        fs::write(types.join(name), line).unwrap();
    }
    harness.start_with(|command| {
        command.current_dir(&app).args(["run", "--type"]).args(arguments);
    })
}

/// Runs the entry `web` with this command line.
fn run_web(harness: &Harness, line: &str, arguments: &[&str]) -> Output {
    start(harness, &[("web", line.as_bytes())], &[&["web"], arguments].concat()).finish()
}

/// Runs an entry that prints its PID and exits with 7; returns whether the agent replaced itself with it.
fn is_replaced(harness: &Harness, name: &str) -> bool {
    let agent = start(harness, &[(name, b"echo $$; exit 7\n")], &[name]);
    let pid = agent.pid();
    let output = agent.finish();
    assert_eq!((output.status, output.stderr.as_str()), (7, ""));
    let replaced = output.stdout_text() == format!("{pid}\n");
    assert_eq!((output.has_ledger(), harness.report().lines), (!replaced, u64::from(!replaced)));
    replaced
}

#[test]
fn a_line_is_expanded_by_bash_as_the_platform_does() {
    let harness = Harness::new().set("PORT", "5000");
    let line = "mkdir -p 'a b' && cd 'a b'; X=1 bash -c 'echo $X ${PWD##*/}' | cat; [[ $PORT == 5000 ]] && echo \
                $(echo port) $PORT # done\n";
    let output = run_web(&harness, line, &[]);
    output.assert_exit(0, "1 a b\nport 5000\n", "");
    harness.assert_all_delivered(&output, 2);
}

#[test]
fn bash_is_found_when_it_is_not_in_the_path_of_the_app() {
    let harness = Harness::new();
    let absent = harness.absent_path();
    let absent = absent.to_str().unwrap();
    let harness = harness.set("PATH", absent);
    let output = run_web(&harness, "echo $PATH\n", &[]);
    assert_eq!((output.status, output.stdout_text(), output.stderr.as_str()), (0, format!("{absent}\n"), ""));
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn arguments_reach_the_last_command_unchanged() {
    let harness = Harness::new();
    let output = run_web(&harness, "true && printf '[%s]\\n' first\n", &["a b", "", "$HOME", "--", "'x"]);
    assert_eq!(output.stdout_text(), "[first]\n[a b]\n[]\n[$HOME]\n[--]\n['x]\n");
    harness.assert_all_delivered(&output, 6);
}

#[test]
fn a_command_line_may_be_invalid_utf_8_without_a_line_end() {
    let harness = Harness::new();
    let output = start(&harness, &[("web", b"printf '\xff\\n'")], &["web"]).finish();
    assert_eq!((output.status, output.stdout.as_slice()), (0, &b"\xff\n"[..]));
    harness.assert_all_delivered(&output, 1);
}

#[test]
fn status_and_signals_are_those_of_the_command_line() {
    assert_eq!(run_web(&Harness::new(), "exit 42\n", &[]).status, 42);
    assert_eq!(run_web(&Harness::new(), "kill -9 $$\n", &[]).status, 137);
    let harness = Harness::new();
    assert_eq!(run_web(&harness, &harness.absent_command(), &[]).status, 127);
    let harness = Harness::new();
    let agent = start(&harness, &[("web", b"exec sleep 600\n")], &["web"]);
    agent.wait_for_shipper();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.finish().status, 143);
}

#[test]
fn the_settings_at_boot_decide_whether_the_agent_stays() {
    assert!(!is_replaced(&Harness::new(), "web"));
    assert!(is_replaced(&Harness::new().set("TAILRACE", "off"), "web"));
    assert!(is_replaced(&Harness::new().unset("TAILRACE_DRAIN_URL"), "web"));
    for (types, name, replaced) in [
        ("none", "web", true),
        ("worker", "web", true),
        ("worker web", "web", false),
        ("all", "web", false),
        ("all", "release", true),
        ("release", "release", false),
    ] {
        assert_eq!(
            is_replaced(&Harness::new().set("TAILRACE_TYPES", types), name),
            replaced,
            "{types} {name}"
        );
    }
}

#[test]
fn in_a_one_off_dyno_the_command_line_replaces_the_agent() {
    for (dyno, replaced) in
        [("run.1234", true), ("run-12a34b56d-e78f9", true), ("scheduler.1", false), ("release.1", false)]
    {
        assert_eq!(is_replaced(&Harness::new().set("DYNO", dyno), "web"), replaced, "{dyno}");
    }
}

#[test]
fn settings_of_the_build_are_not_unknown_settings() {
    let harness = Harness::new()
        .set("TAILRACE_VERSION", "0.1.0")
        .set("TAILRACE_MIRROR", "https://u:s3cret-word@h/")
        .set("TAILRACE_BUILD", "never");
    assert!(!is_replaced(&harness, "web"));
}

#[test]
fn the_command_line_runs_with_bad_settings() {
    let harness = Harness::new().set("TAILRACE_TYPES", "web; worker");
    let output = run_web(&harness, "echo ran; exit 7\n", &[]);
    assert_eq!((output.status, output.stdout_text().as_str(), output.messages().len()), (7, "ran\n", 1));
    assert!(
        output.messages()[0]
            .contains("TAILRACE_TYPES: web; worker: names are separated by commas; did you mean"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_missing_entry_is_reported() {
    let output = start(&Harness::new(), &[], &["web"]).finish();
    assert_eq!((output.status, output.stdout_text().as_str(), output.messages().len()), (127, "", 1));
    assert!(
        output.messages()[0].contains("command=web error=\".tailrace/types/web: No such file"),
        "{}",
        output.stderr
    );
    for name in ["../web", "", "-", "a/b"] {
        let output = start(&Harness::new(), &[], &[name]).finish();
        let status = if name == "-" { 127 } else { 64 };
        assert_eq!((output.status, output.stdout_text().as_str()), (status, ""), "{name}: {}", output.stderr);
    }
}
