//! From a Procfile to the drain, on every platform: status, signals, output.

use crate::dyno::{Dyno, Way};
use crate::workspace::Site;

fn dyno(way: Way, procfile: &str) -> Dyno {
    Dyno::new(way, Site::new().procfile(procfile))
}

#[test]
fn lines_with_all_of_a_shell_run_on_every_platform() {
    let line = "web: mkdir -p 'a b' && cd 'a b'; X=1 bash -c 'echo $X \"${PWD##*/}\"' | cat; echo \"port  $PORT\" $(id -u) >&2; exit 42\n";
    for way in Way::ALL {
        let dyno = dyno(way, line);
        let (status, out, err) = dyno.start("web", "").end();
        assert_eq!((status, out.as_str()), (42, "1 a b\n"), "{way:?}: {err}");
        assert_ne!(err, "port  5000 0\n", "{way:?}: with rights");
        assert!(err.starts_with("port  5000 ") && err.lines().count() == 1, "{way:?}: {err}");
        let mut lines = dyno.drain.lines();
        lines.sort();
        assert_eq!(lines, ["1 a b", err.trim_end()], "{way:?}");
        assert_eq!(dyno.drain.report().malformed, 0);
    }
}

#[test]
fn sigterm_reaches_the_app_once_and_its_last_words_arrive() {
    let line = "web: trap 'echo got TERM; sleep 0.2; echo bye; exit 3' TERM; echo ready; \
                while :; do sleep 0.05; done\n";
    for way in Way::ALL {
        let dyno = dyno(way, line);
        let running = dyno.start("web", "");
        dyno.wait_line("ready");
        running.terminate(way);
        let (status, out, err) = running.end();
        // bash itself says when its sleep got the signal too.
        let err: Vec<_> = err.lines().filter(|line| !line.contains("Terminated")).collect();
        assert_eq!((status, out.as_str(), err.as_slice()), (3, "ready\ngot TERM\nbye\n", &[][..]), "{way:?}");
        let lines = dyno.drain.lines();
        let own: Vec<_> = lines.iter().filter(|line| !line.contains("Terminated")).collect();
        assert_eq!(own, ["ready", "got TERM", "bye"], "{way:?}");
    }
}

#[test]
fn one_process_becomes_the_other_down_to_the_app() {
    for way in Way::ALL {
        for (name, value) in
            [("TAILRACE", "off"), ("TAILRACE_TYPES", "none"), ("DYNO", "run.1"), ("TAILRACE_DRAIN_URL", "")]
        {
            let dyno = dyno(way, "web: echo $$\n").set(name, value);
            let running = dyno.start("web", "");
            let pid = running.pid();
            assert_eq!(running.end(), (0, format!("{pid}\n"), String::new()), "{way:?} {name}");
            assert_eq!(dyno.drain.report().requests, 0);
        }
    }
}

#[test]
fn the_end_of_a_dyno_that_is_killed_is_a_shells() {
    let dyno = dyno(Way::Cedar, "web: kill -9 $$\nworker: exec no-such-program\n");
    assert_eq!(dyno.start("web", "").end().0, 137);
    assert_eq!(dyno.start("worker", "").end().0, 127);
}

#[test]
fn arguments_behind_the_entry_reach_its_command() {
    let line = "web: true && printf '[%s]\\n' first\n";
    for (way, more, out) in [
        (Way::Cedar, "--flag 'x  y' \"$PORT\" '$PORT'", "[first]\n[--flag]\n[x  y]\n[5000]\n[$PORT]\n"),
        (Way::Native, "--flag 'x  y' \"$PORT\" '$PORT'", "[first]\n[--flag]\n[x  y]\n[5000]\n[$PORT]\n"),
        (Way::Herokuish, "--flag x", "[first]\n[--flag]\n[x]\n"),
    ] {
        assert_eq!(dyno(way, line).start("web", more).end(), (0, out.to_owned(), String::new()), "{way:?}");
    }
}

#[test]
fn other_entries_run_as_they_were() {
    let dyno = dyno(Way::Cedar, "web: x\nrelease: echo migrated; exit 4\n");
    assert_eq!(dyno.start("release", "").end(), (4, "migrated\n".to_owned(), String::new()));
    assert_eq!(dyno.drain.report().requests, 0);
}

#[test]
fn the_program_is_at_hand_in_a_shell_of_the_dyno() {
    for way in Way::ALL {
        let dyno = dyno(way, "web: x\n").set("DYNO", "run.1");
        let (status, out, err) = dyno.start_line("tailrace check").end();
        assert_eq!((status, err.as_str()), (0, ""), "{way:?}: {out}");
        assert!(out.contains("answer   ok: 204"), "{way:?}: {out}");
    }
}
