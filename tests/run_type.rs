//! `run --type`: the real binary runs what the buildpack stored for a Procfile entry.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the tests of the whole path, which need more of it")]
mod harness;
#[path = "e2e/procfs.rs"]
#[expect(dead_code, reason = "shared with the tests of the whole path, which need more of it")]
mod procfs;

use harness::{Agent, End, Rig};
use nix::sys::signal::Signal;
use std::fs;

/// Starts `tailrace run --type NAME ARGUMENTS` in an app whose stored lines are those.
fn start(rig: &Rig, lines: &[(&str, &[u8])], words: &[&str]) -> Agent {
    let app = rig.path("app");
    let types = app.join(".tailrace/types");
    fs::create_dir_all(&types).unwrap();
    for (name, line) in lines {
        fs::write(types.join(name), line).unwrap();
    }
    rig.start_with(|command| {
        command.current_dir(&app).args(["run", "--type"]).args(words);
    })
}

fn web(rig: &Rig, line: &str, arguments: &[&str]) -> End {
    start(rig, &[("web", line.as_bytes())], &[&["web"], arguments].concat()).end()
}

/// Runs a line that says its pid and ends with 7; whether it ran in our place.
fn execs(rig: &Rig, name: &str) -> bool {
    let agent = start(rig, &[(name, b"echo $$; exit 7\n")], &[name]);
    let pid = agent.pid();
    let end = agent.end();
    assert_eq!((end.status, end.err.as_str()), (7, ""));
    let in_place = end.text() == format!("{pid}\n");
    assert_eq!((end.has_ledger(), rig.report().lines), (!in_place, u64::from(!in_place)));
    in_place
}

#[test]
fn a_line_is_expanded_by_bash_as_the_platform_does() {
    let rig = Rig::new().set("PORT", "5000");
    let line = "mkdir -p 'a b' && cd 'a b'; X=1 bash -c 'echo $X ${PWD##*/}' | cat; [[ $PORT == 5000 ]] && echo \
                $(echo port) $PORT # done\n";
    let end = web(&rig, line, &[]);
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (0, "1 a b\nport 5000\n", ""));
    rig.all_delivered(&end, 2);
}

#[test]
fn bash_is_found_where_the_apps_path_does_not_lead_to_it() {
    let rig = Rig::new().set("PATH", "/nowhere");
    let end = web(&rig, "echo $PATH\n", &[]);
    assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (0, "/nowhere\n", ""));
    rig.all_delivered(&end, 1);
}

#[test]
fn arguments_reach_the_last_command_as_they_are() {
    let rig = Rig::new();
    let end = web(&rig, "true && printf '[%s]\\n' first\n", &["a b", "", "$HOME", "--", "'x"]);
    assert_eq!(end.text(), "[first]\n[a b]\n[]\n[$HOME]\n[--]\n['x]\n");
    rig.all_delivered(&end, 6);
}

#[test]
fn a_line_need_not_be_text_nor_end() {
    let rig = Rig::new();
    let end = start(&rig, &[("web", b"printf '\xff\\n'")], &["web"]).end();
    assert_eq!((end.status, end.out.as_slice()), (0, &b"\xff\n"[..]));
    rig.all_delivered(&end, 1);
}

#[test]
fn status_and_signals_are_the_lines_own() {
    assert_eq!(web(&Rig::new(), "exit 42\n", &[]).status, 42);
    assert_eq!(web(&Rig::new(), "kill -9 $$\n", &[]).status, 137);
    assert_eq!(web(&Rig::new(), "no-such-program\n", &[]).status, 127);
    let rig = Rig::new();
    let agent = start(&rig, &[("web", b"exec sleep 600\n")], &["web"]);
    let _it_runs = agent.shipper();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end().status, 143);
}

#[test]
fn the_settings_of_the_boot_decide() {
    assert!(!execs(&Rig::new(), "web"));
    assert!(execs(&Rig::new().set("TAILRACE", "off"), "web"));
    assert!(execs(&Rig::new().unset("TAILRACE_DRAIN_URL"), "web"));
    for (types, name, in_place) in [
        ("none", "web", true),
        ("worker", "web", true),
        ("worker web", "web", false),
        ("all", "web", false),
        ("all", "release", true),
        ("release", "release", false),
    ] {
        assert_eq!(execs(&Rig::new().set("TAILRACE_TYPES", types), name), in_place, "{types} {name}");
    }
}

#[test]
fn in_a_one_off_dyno_the_line_runs_in_our_place() {
    for (dyno, in_place) in
        [("run.1234", true), ("run-12a34b56d-e78f9", true), ("scheduler.1", false), ("release.1", false)]
    {
        assert_eq!(execs(&Rig::new().set("DYNO", dyno), "web"), in_place, "{dyno}");
    }
}

#[test]
fn what_only_the_build_reads_is_no_unknown_setting() {
    let rig = Rig::new().set("TAILRACE_VERSION", "0.1.0").set("TAILRACE_MIRROR", "https://u:s3cret-word@h/");
    assert!(!execs(&rig, "web"));
}

#[test]
fn bad_settings_stop_no_line() {
    let rig = Rig::new().set("TAILRACE_TYPES", "web; worker");
    let end = web(&rig, "echo ran; exit 7\n", &[]);
    assert_eq!((end.status, end.text().as_str(), end.said().len()), (7, "ran\n", 1));
    assert!(end.said()[0].contains("TAILRACE_TYPES: found \\\"web; worker\\\", expected "), "{}", end.err);
}

#[test]
fn a_line_that_is_not_there_is_named() {
    let end = start(&Rig::new(), &[], &["web"]).end();
    assert_eq!((end.status, end.text().as_str(), end.said().len()), (127, "", 1));
    assert!(end.said()[0].contains("command=web error=\".tailrace/types/web: No such file"), "{}", end.err);
    for name in ["../web", "", "-", "a/b"] {
        let end = start(&Rig::new(), &[], &[name]).end();
        let status = if name == "-" { 127 } else { 64 };
        assert_eq!((end.status, end.text().as_str()), (status, ""), "{name}: {}", end.err);
    }
}
