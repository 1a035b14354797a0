//! Parsing and wrapping of Procfiles. A file that platforms parse differently is not changed; lines that are not wrapped
//! keep their bytes.

use crate::threads::check_in_threads;
use crate::workspace::Workspace;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// The expected result for a line.
enum Expected {
    /// It is wrapped: this name and the stored command.
    Wrapped(&'static str, &'static str),
    /// It is not changed.
    Unchanged,
    /// The whole file is not changed, with a warning that contains this reason.
    Refused(&'static str),
}
use Expected::{Refused, Unchanged, Wrapped};

const OTHER: &str = "other: sleep 1\n";
const LONG: &str = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd: x\n";

/// The line of a wrapped entry, without its newline.
fn wrapped_line(name: &str) -> String {
    format!("{name}: /app/.tailrace/bin/tailrace run --type {name}")
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn lines_are_parsed_as_on_all_platforms_or_the_file_is_refused() {
    let by_hand = "web: .tailrace/bin/tailrace run -- x\n";
    let cases = [
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
        ("web:\n", Unchanged),
        ("web:  \r\n", Unchanged),
        ("release: rake db:migrate\n", Unchanged),
        ("# web: x\n", Unchanged),
        ("  # note: x\n", Unchanged),
        ("\n", Unchanged),
        (" \t \r\n", Unchanged),
        (by_hand, Unchanged),
        ("web: tailrace run -- x\n", Unchanged),
        ("web: FOO=1 exec tailrace run --shell 'x | y'\n", Unchanged),
        ("web: bash -c \"tailrace run -- x\"\n", Unchanged),
        ("web: \"tailrace\" run -- x\n", Unchanged),
        ("web: sh -c 'exec tailrace run -- x'\n", Unchanged),
        ("web: tailrace run -- x # no tailrace\n", Unchanged),
        ("web: puma # not tailrace run\n", Wrapped("web", "puma # not tailrace run")),
        ("web: x 2>&1 | tailrace ship\n", Unchanged),
        ("web: (/opt/tailrace ship <x)\n", Unchanged),
        ("web x\n", Refused("line 1 is not an entry, expected \"NAME: COMMAND\"")),
        ("web : x\n", Refused("line 1 is not an entry")),
        ("web.1: x\n", Refused("line 1 is not an entry")),
        (LONG, Refused("line 1 has a name of 64 characters, expected at most 63")),
        ("wéb: x\n", Refused("line 1 is not an entry")),
        (": x\n", Refused("line 1 is not an entry")),
        ("<<<<<<< HEAD\n", Refused("line 1 is not an entry")),
        ("\u{feff}web: x\n", Refused("line 1 is not an entry")),
        ("web: x\0\n", Refused("it contains NUL bytes, expected text")),
        ("other: x\n", Refused("other occurs twice, expected one line for each entry")),
        ("web: x\nweb: x\n", Refused("web occurs twice")),
    ];
    check_in_threads(4, cases, |(line, expected)| {
        let text = format!("{line}{OTHER}");
        let workspace = Workspace::new().procfile(&text);
        let output = workspace.compile().succeeds();
        if let Refused(reason) = expected {
            assert_eq!(workspace.procfile_text(), text);
            output.prints(&[
                "the Procfile is not changed: ",
                reason,
                "until that is corrected, nothing runs under tailrace",
            ]);
            assert!(!workspace.app().join(".tailrace/types").exists(), "{line:?}");
            return;
        }
        let output = output.without_warnings();
        assert_eq!(workspace.stored_command("other").as_deref(), Some("sleep 1\n"));
        let first = match expected {
            Wrapped(name, command) => {
                assert_eq!(workspace.stored_command(name), Some(format!("{command}\n")), "{line:?}");
                output.prints(&[&format!("wrapped: {name}, other (")]);
                wrapped_line(name) + "\n"
            }
            _ => line.to_owned(),
        };
        assert_eq!(workspace.procfile_text(), format!("{first}{}\n", wrapped_line("other")), "{line:?}");
    });
}

#[test]
fn tailrace_types_selects_the_entries() {
    let text = "web: a\nworker: b\nrelease: c\n";
    let cases = [
        ("", &["web", "worker"][..]),
        ("all", &["web", "worker"]),
        (" all\n", &["web", "worker"]),
        ("all release", &["web", "worker", "release"]),
        ("web", &["web"]),
        ("web,worker", &["web", "worker"]),
        ("web, worker\n", &["web", "worker"]),
        ("release", &["release"]),
        ("none", &[]),
    ];
    check_in_threads(4, cases, |(types, names)| {
        let workspace = Workspace::new().procfile(text).config_var("TAILRACE_TYPES", types);
        let output = workspace.compile().succeeds();
        for name in ["web", "worker", "release"] {
            let is_wrapped = names.contains(&name);
            assert_eq!(workspace.stored_command(name).is_some(), is_wrapped, "{types:?}: {name}");
            assert_eq!(
                workspace.procfile_text().contains(&wrapped_line(name)),
                is_wrapped,
                "{types:?}: {name}"
            );
        }
        if names.is_empty() {
            output.prints(&[
                "nothing in the Procfile runs under tailrace",
                "heroku config:unset TAILRACE_TYPES",
            ]);
        } else {
            output.without_warnings();
        }
    });
}

#[test]
fn invalid_values_of_tailrace_types_are_reported() {
    let workspace = Workspace::new().procfile("web: a\n").config_var("TAILRACE_TYPES", "web wrker");
    workspace
        .compile()
        .succeeds()
        .prints(&["TAILRACE_TYPES contains wrker, but the Procfile has no such entry"]);
    let workspace = Workspace::new().procfile("web: a\n").config_var("TAILRACE_TYPES", "web; worker");
    workspace
        .compile()
        .succeeds()
        .prints(&["TAILRACE_TYPES: web; worker: names are separated by commas; did you mean web,worker?"]);
    assert_eq!(workspace.procfile_text(), wrapped_line("web") + "\n");
}

#[test]
fn line_ends_are_kept() {
    let workspace = Workspace::new().procfile("\r\nworker: b\nweb: a");
    workspace.compile().succeeds().without_warnings();
    assert_eq!(workspace.procfile_text(), format!("\r\n{}\n{}", wrapped_line("worker"), wrapped_line("web")));
}

#[test]
fn the_file_mode_is_kept_and_a_link_is_replaced() {
    let workspace = Workspace::new().file("deploy/Procfile", "web: a\n");
    let target = workspace.app().join("deploy/Procfile");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("deploy/Procfile", workspace.app().join("Procfile")).unwrap();
    workspace.compile().succeeds().without_warnings();
    assert_eq!(workspace.procfile_text(), wrapped_line("web") + "\n");
    assert_eq!(fs::read_to_string(target).unwrap(), "web: a\n", "the link's target is not changed");
    assert_eq!(fs::metadata(workspace.app().join("Procfile")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn an_unreadable_or_too_large_procfile_is_not_changed() {
    for make in [
        |workspace: &Workspace| symlink("nowhere", workspace.app().join("Procfile")).unwrap(),
        |workspace: &Workspace| fs::create_dir(workspace.app().join("Procfile")).unwrap(),
    ] {
        let workspace = Workspace::new();
        make(&workspace);
        workspace.compile().succeeds().prints(&["the Procfile is not changed: it is not a readable file"]);
    }
    let workspace = Workspace::new().procfile(&format!("web: {}\n", "x".repeat(1 << 20)));
    workspace.compile().succeeds().prints(&["it has 1048582 bytes, expected at most 1048576"]);
}

#[test]
fn a_committed_wrapper_without_its_stored_command_fails_the_build() {
    let workspace = Workspace::new().procfile(&(wrapped_line("web") + "\n"));
    workspace.compile().fails_with(
        "orphaned-entry",
        &["expected: the command of web", ".tailrace/bin/tailrace run --type web"],
    );
}
