//! The Procfile: what platforms make of odd lines, and what we make of them. A file that they read differently is
//! left alone; lines that are not wrapped stay byte for byte.

use crate::workspace::Site;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// What becomes of a line.
enum Fate {
    /// It is wrapped: its command is stored under that name.
    Wrapped(&'static str, &'static str),
    /// It stays.
    Stays,
    /// The whole file stays, with a warning that says why.
    Refused(&'static str),
}
use Fate::{Refused, Stays, Wrapped};

const OTHER: &str = "other: sleep 1\n";
const LONG: &str = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd: x\n";

fn wrapped(name: &str) -> String {
    format!("{name}: .tailrace/bin/tailrace run --type {name}")
}

#[test]
fn odd_lines_are_read_as_all_platforms_do_or_not_at_all() {
    let under_us = "web: .tailrace/bin/tailrace run -- x\n";
    for (line, fate) in [
        ("web: bundle exec puma -C config/puma.rb\n", Wrapped("web", "bundle exec puma -C config/puma.rb")),
        ("my-worker: x\n", Wrapped("my-worker", "x")),
        ("my_worker: x\n", Wrapped("my_worker", "x")),
        ("worker2: x\n", Wrapped("worker2", "x")),
        ("  web: x\n", Wrapped("web", "x")),
        ("\tweb: x\n", Wrapped("web", "x")),
        ("web:x\n", Wrapped("web", "x")),
        ("web:\t x\n", Wrapped("web", "x")),
        ("web: x \t\n", Wrapped("web", "x")),
        ("Web: x\n", Wrapped("Web", "x")),
        ("web: x\r\n", Wrapped("web", "x")),
        ("web: x # y\n", Wrapped("web", "x # y")),
        ("web: a: b && c; d\n", Wrapped("web", "a: b && c; d")),
        (
            "web: FOO='a b' x \"$PORT\" $(y) \\t `z` * ~ {a,b}\n",
            Wrapped("web", "FOO='a b' x \"$PORT\" $(y) \\t `z` * ~ {a,b}"),
        ),
        (
            "web: cd \"sub dir\" && exec ./run | tee x > y 2>&1 &\n",
            Wrapped("web", "cd \"sub dir\" && exec ./run | tee x > y 2>&1 &"),
        ),
        ("web: näe 漢字\n", Wrapped("web", "näe 漢字")),
        ("web: tailrace-viewer run\n", Wrapped("web", "tailrace-viewer run")),
        ("web: cd tailrace && ./run\n", Wrapped("web", "cd tailrace && ./run")),
        ("web:\n", Stays),
        ("web:  \r\n", Stays),
        ("release: rake db:migrate\n", Stays),
        ("# web: x\n", Stays),
        ("  # note: x\n", Stays),
        ("\n", Stays),
        (" \t \r\n", Stays),
        (under_us, Stays),
        ("web: tailrace run -- x\n", Stays),
        ("web: FOO=1 exec tailrace run --shell 'x | y'\n", Stays),
        ("web: bash -c \"tailrace run -- x\"\n", Stays),
        ("web: \"tailrace\" run -- x\n", Stays),
        ("web: sh -c 'exec tailrace run -- x'\n", Stays),
        ("web: tailrace run -- x # no tailrace\n", Stays),
        ("web: puma # not tailrace run\n", Wrapped("web", "puma # not tailrace run")),
        ("web: x 2>&1 | tailrace ship\n", Stays),
        ("web: (/opt/tailrace ship <x)\n", Stays),
        ("web x\n", Refused("line 1 is no entry, expected \"NAME: COMMAND\"")),
        ("web : x\n", Refused("line 1 is no entry")),
        ("web.1: x\n", Refused("line 1 is no entry")),
        (LONG, Refused("line 1 has a name of 64 characters, expected at most 63")),
        ("wéb: x\n", Refused("line 1 is no entry")),
        (": x\n", Refused("line 1 is no entry")),
        ("<<<<<<< HEAD\n", Refused("line 1 is no entry")),
        ("\u{feff}web: x\n", Refused("line 1 is no entry")),
        ("web: x\0\n", Refused("it has NUL bytes, expected text")),
        ("other: x\n", Refused("other stands in it twice, expected one line for each entry")),
        ("web: x\nweb: x\n", Refused("web stands in it twice")),
    ] {
        let text = format!("{line}{OTHER}");
        let site = Site::new().procfile(&text);
        let built = site.compile().good();
        if let Refused(why) = fate {
            assert_eq!(site.text(), text);
            built.says(&[
                "the Procfile is left as it is: ",
                why,
                "nothing is put under tailrace until that is mended",
            ]);
            assert!(!site.app().join(".tailrace/types").exists(), "{line:?}");
            continue;
        }
        let built = built.quiet();
        assert_eq!(site.stored("other").as_deref(), Some("sleep 1\n"));
        let first = match fate {
            Wrapped(name, command) => {
                assert_eq!(site.stored(name), Some(format!("{command}\n")), "{line:?}");
                built.says(&[&format!("wrapped: {name}, other (")]);
                wrapped(name) + "\n"
            }
            _ => line.to_owned(),
        };
        assert_eq!(site.text(), format!("{first}{}\n", wrapped("other")), "{line:?}");
    }
}

#[test]
fn the_setting_says_which_entries() {
    let text = "web: a\nworker: b\nrelease: c\n";
    for (types, names) in [
        ("", &["web", "worker"][..]),
        ("all", &["web", "worker"]),
        (" all\n", &["web", "worker"]),
        ("all release", &["web", "worker", "release"]),
        ("web", &["web"]),
        ("web,worker", &["web", "worker"]),
        ("web, worker\n", &["web", "worker"]),
        ("release", &["release"]),
        ("none", &[]),
    ] {
        let site = Site::new().procfile(text).set("TAILRACE_TYPES", types);
        let built = site.compile().good();
        for name in ["web", "worker", "release"] {
            let is_wrapped = names.contains(&name);
            assert_eq!(site.stored(name).is_some(), is_wrapped, "{types:?}: {name}");
            assert_eq!(site.text().contains(&wrapped(name)), is_wrapped, "{types:?}: {name}");
        }
        if names.is_empty() {
            built
                .says(&["nothing in the Procfile runs under tailrace", "heroku config:unset TAILRACE_TYPES"]);
        } else {
            built.quiet();
        }
    }
}

#[test]
fn what_the_setting_may_not_hold_is_said() {
    let site = Site::new().procfile("web: a\n").set("TAILRACE_TYPES", "web wrker");
    site.compile().good().says(&["TAILRACE_TYPES names wrker, and the Procfile has no such entry"]);
    let site = Site::new().procfile("web: a\n").set("TAILRACE_TYPES", "web; worker");
    let told = [
        "TAILRACE_TYPES: found \"web; worker\", expected all, none, or names",
        "nothing runs under tailrace",
    ];
    site.compile().good().says(&told);
    assert_eq!(site.text(), wrapped("web") + "\n");
    let site = Site::new().procfile("web: a\n").set("TAILRACE_TYPES", "web;\nworker");
    site.compile().good().says(&["TAILRACE_TYPES: found \"web; worker\", expected "]);
}

#[test]
fn a_last_line_without_an_end_stays_one() {
    let site = Site::new().procfile("\r\nworker: b\nweb: a");
    site.compile().good().quiet();
    assert_eq!(site.text(), format!("\r\n{}\n{}", wrapped("worker"), wrapped("web")));
}

#[test]
fn mode_and_link_are_seen_to() {
    let site = Site::new().file("deploy/Procfile", "web: a\n");
    let target = site.app().join("deploy/Procfile");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("deploy/Procfile", site.app().join("Procfile")).unwrap();
    site.compile().good().quiet();
    assert_eq!(site.text(), wrapped("web") + "\n");
    assert_eq!(fs::read_to_string(target).unwrap(), "web: a\n", "the other file is the app's");
    assert_eq!(fs::metadata(site.app().join("Procfile")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn what_is_no_file_is_left_alone() {
    for make in [
        |site: &Site| symlink("nowhere", site.app().join("Procfile")).unwrap(),
        |site: &Site| fs::create_dir(site.app().join("Procfile")).unwrap(),
    ] {
        let site = Site::new();
        make(&site);
        site.compile().good().says(&["the Procfile is left as it is: it is no file that can be read"]);
    }
    let site = Site::new().procfile(&format!("web: {}\n", "x".repeat(1 << 20)));
    site.compile().good().says(&["it has 1048582 bytes, expected at most 1048576"]);
}

#[test]
fn a_committed_line_of_ours_without_its_own_fails_the_build_not_the_dyno() {
    let site = Site::new().procfile(&(wrapped("web") + "\n"));
    site.compile()
        .failed("orphaned-entry", &["expected: the command of web", ".tailrace/bin/tailrace run --type web"]);
}
