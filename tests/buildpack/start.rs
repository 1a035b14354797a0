//! From a Procfile to the drain on each platform: exit status, signals, output.

use crate::dyno::{Dyno, Finished, Platform};
use crate::workspace::Workspace;
use std::fs;

fn dyno(platform: Platform, procfile: &str) -> Dyno {
    Dyno::new(platform, Workspace::new().procfile(procfile))
}

#[test]
fn shell_syntax_in_a_command_works_on_every_platform() {
    let line = "web: mkdir -p 'a b' && cd 'a b'; X=1 bash -c 'echo $X \"${PWD##*/}\"' | cat; echo \"port  $PORT\" $(id -u) >&2; exit 42\n";
    for platform in Platform::ALL {
        let dyno = dyno(platform, line);
        let Finished { status, stdout, stderr } = dyno.start("web", "").wait();
        assert_eq!((status, stdout.as_str()), (42, "1 a b\n"), "{platform:?}: {stderr}");
        assert_ne!(stderr, "port  5000 0\n", "{platform:?}: runs as root");
        assert!(stderr.starts_with("port  5000 ") && stderr.lines().count() == 1, "{platform:?}: {stderr}");
        let mut lines = dyno.drain.lines();
        lines.sort();
        assert_eq!(lines, ["1 a b", stderr.trim_end()], "{platform:?}");
        assert_eq!(dyno.drain.report().malformed, 0);
    }
}

#[test]
fn sigterm_reaches_the_app_once_and_its_last_lines_arrive() {
    let line = "web: trap 'echo got TERM; sleep 0.2; echo bye; exit 3' TERM; echo ready; \
                while :; do sleep 0.05; done\n";
    for platform in Platform::ALL {
        let dyno = dyno(platform, line);
        let running = dyno.start("web", "");
        dyno.wait_line("ready");
        running.terminate(platform);
        let Finished { status, stdout, stderr } = running.wait();
        // bash prints "Terminated" when its sleep got the signal too.
        let stderr: Vec<_> = stderr.lines().filter(|line| !line.contains("Terminated")).collect();
        assert_eq!(
            (status, stdout.as_str(), stderr.as_slice()),
            (3, "ready\ngot TERM\nbye\n", &[][..]),
            "{platform:?}"
        );
        let lines = dyno.drain.lines();
        let from_app: Vec<_> = lines.iter().filter(|line| !line.contains("Terminated")).collect();
        assert_eq!(from_app, ["ready", "got TERM", "bye"], "{platform:?}");
    }
}

#[test]
fn without_shipping_the_app_replaces_the_first_process() {
    for platform in Platform::ALL {
        for (name, value) in
            [("TAILRACE", "off"), ("TAILRACE_TYPES", "none"), ("DYNO", "run.1"), ("TAILRACE_DRAIN_URL", "")]
        {
            let dyno = dyno(platform, "web: echo $$\n").config_var(name, value);
            let running = dyno.start("web", "");
            let pid = running.pid();
            assert_eq!(running.wait(), Finished::new(0, &format!("{pid}\n"), ""), "{platform:?} {name}");
            assert_eq!(dyno.drain.report().requests, 0);
        }
    }
}

#[test]
fn exit_statuses_of_signals_and_missing_programs_are_those_of_a_shell() {
    let dyno = dyno(Platform::Cedar, "web: kill -9 $$\nworker: exec no-such-program\n");
    assert_eq!(dyno.start("web", "").wait().status, 137);
    assert_eq!(dyno.start("worker", "").wait().status, 127);
}

#[test]
fn arguments_after_the_entry_reach_its_command() {
    let line = "web: true && printf '[%s]\\n' first\n";
    for (platform, arguments, stdout) in [
        (Platform::Cedar, "--flag 'x  y' \"$PORT\" '$PORT'", "[first]\n[--flag]\n[x  y]\n[5000]\n[$PORT]\n"),
        (
            Platform::CloudNative,
            "--flag 'x  y' \"$PORT\" '$PORT'",
            "[first]\n[--flag]\n[x  y]\n[5000]\n[$PORT]\n",
        ),
        (Platform::Herokuish, "--flag x", "[first]\n[--flag]\n[x]\n"),
    ] {
        assert_eq!(
            dyno(platform, line).start("web", arguments).wait(),
            Finished::new(0, stdout, ""),
            "{platform:?}"
        );
    }
}

#[test]
fn unwrapped_entries_run_unchanged() {
    let dyno = dyno(Platform::Cedar, "web: x\nrelease: echo migrated; exit 4\n");
    assert_eq!(dyno.start("release", "").wait(), Finished::new(4, "migrated\n", ""));
    assert_eq!(dyno.drain.report().requests, 0);
}

#[test]
fn tailrace_is_in_path_in_a_shell_of_the_dyno() {
    for platform in Platform::ALL {
        let dyno = dyno(platform, "web: x\n").config_var("DYNO", "run.1");
        let Finished { status, stdout, stderr } = dyno.start_command("tailrace check").wait();
        assert_eq!((status, stderr.as_str()), (0, ""), "{platform:?}: {stdout}");
        assert!(stdout.contains("answer   ok: 204"), "{platform:?}: {stdout}");
    }
}

#[test]
fn a_profile_that_changes_the_directory_changes_it_for_the_command_only() {
    let workspace = Workspace::new().procfile("web: echo \"${PWD##*/}\"\n").file("api/x", "");
    let dyno = Dyno::new(Platform::Cedar, workspace);
    // What the build writes where the app is /app, whose path has no blanks.
    let line = "cd api; \"$HOME\"/.tailrace/bin/tailrace run --type web";
    assert_eq!(dyno.start_command(line).wait(), Finished::new(0, "api\n", ""));
    assert_eq!(dyno.drain.lines(), ["api"]);
    fs::remove_file(dyno.app.join(".tailrace/bin/tailrace-agent")).unwrap();
    let Finished { status, stdout, stderr } = dyno.start_command(line).wait();
    assert_eq!((status, stdout.as_str()), (0, "api\n"), "{stderr}");
}

#[test]
fn check_lists_which_entries_run_under_tailrace() {
    let text = "web: x\nworker: y\nclock: tailrace run -- z\nrelease: r\n";
    for platform in Platform::ALL {
        let dyno = dyno(platform, text).config_var("DYNO", "run.1").config_var("TAILRACE_TYPES", "web");
        let stdout = dyno.start_command("tailrace check --no-send").wait().stdout;
        let expected = "  Procfile under tailrace: web, clock\n           \
                        not: worker (excluded by TAILRACE_TYPES), release\n";
        assert!(stdout.contains(expected), "{platform:?}: {stdout}");
        // Another buildpack replaced it.
        fs::write(dyno.app.join("Procfile"), "web: x\n").unwrap();
        let stdout = dyno.start_command("tailrace check --no-send").wait().stdout;
        let expected = "  Procfile under tailrace: none\n           \
                        not: web (the build wrapped it; another buildpack replaced the Procfile)\n";
        assert!(stdout.contains(expected), "{platform:?}: {stdout}");
        fs::remove_file(dyno.app.join("Procfile")).unwrap();
        let stdout = dyno.start_command("tailrace check --no-send").wait().stdout;
        assert!(!stdout.contains("Procfile"), "{platform:?}: {stdout}");
    }
}
