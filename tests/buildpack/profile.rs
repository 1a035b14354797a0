//! `.profile.d/tailrace.sh`: extends PATH and changes nothing else; other files in `.profile.d` cannot break it.

use crate::dyno::{Dyno, Finished, Platform};
use crate::release::repository;
use crate::threads::check_in_threads;
use crate::workspace::Workspace;
use std::fs;
use std::process::Command;

/// Runs a script with `SOURCE` replaced by a command that sources the file.
fn bash(script: &str, vars: &[(&str, &str)]) -> Finished {
    let script = script.replace("SOURCE", "source buildpack/profile.d/tailrace.sh");
    let mut command = Command::new("/bin/bash");
    let output = command
        .args(["-c", &script])
        .env_clear()
        .envs(vars.iter().copied())
        .current_dir(repository())
        .output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished {
        status: output.status.code().unwrap(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[test]
fn path_is_set_once_under_any_shell_options() {
    let vars = &[("HOME", "/app"), ("PATH", "/usr/bin:/bin")][..];
    let expected = "/app/.tailrace/bin:/usr/bin:/bin";
    for (script, vars, path) in [
        ("SOURCE; echo $PATH", vars, expected),
        ("SOURCE; SOURCE; echo $PATH", vars, expected),
        ("set -eu; SOURCE; echo $PATH", vars, expected),
        ("set -euo pipefail; SOURCE && SOURCE; echo $PATH", vars, expected),
        ("set -u; unset PATH; SOURCE; echo $PATH", vars, "/app/.tailrace/bin"),
        ("set -u; PATH=; SOURCE; echo $PATH", vars, "/app/.tailrace/bin"),
        ("set -eu; unset HOME; SOURCE; echo $PATH", vars, "/.tailrace/bin:/usr/bin:/bin"),
        (
            "set -eu; IFS=/:; set -f; SOURCE; echo \"$PATH\"",
            &[("HOME", "/my app"), ("PATH", "/b c")],
            "/my app/.tailrace/bin:/b c",
        ),
        ("set -e; trap 'echo trapped' ERR EXIT; SOURCE; trap - EXIT; echo $PATH", vars, expected),
    ] {
        assert_eq!(bash(script, vars), Finished::new(0, &format!("{path}\n"), ""), "{script}");
    }
}

#[test]
fn variables_options_and_traps_are_unchanged() {
    let script = "before=$(set; set +o; shopt; trap); SOURCE; after=$(set; set +o; shopt; trap); \
                  diff <(echo \"$before\") <(echo \"$after\") | grep '^[<>]'";
    let Finished { stdout, stderr, .. } = bash(script, &[("HOME", "/app"), ("PATH", "/usr/bin:/bin")]);
    let changed: Vec<_> = stdout
        .lines()
        .filter(|line| {
            !["PATH=", "_=", "before=", "BASH_ARG", "PIPESTATUS"]
                .iter()
                .any(|name| line[2..].starts_with(name))
        })
        .collect();
    assert!(changed.is_empty(), "{changed:?} {stderr}");
}

#[test]
fn other_files_in_profile_d_do_not_stop_the_app() {
    let files = [
        ("set -e\n", &[Platform::Cedar, Platform::Herokuish][..]),
        ("set -euo pipefail\n", &[Platform::Cedar, Platform::Herokuish]),
        ("export PATH=/usr/bin:/bin\n", &[Platform::Cedar, Platform::Herokuish]),
        ("unset DYNO PORT\n", &[Platform::Cedar, Platform::Herokuish]),
        ("shopt -s nullglob failglob extglob; set -o noglob\n", &[Platform::Cedar]),
        (
            "cd() { false; }; exec() { false; }; printf() { false; }; export -f cd printf\n",
            &[Platform::Cedar],
        ),
        ("tailrace() { false; }; alias bash=false\n", &[Platform::Cedar]),
        ("export IFS=/ BASH_ENV=/dev/null CDPATH=/ POSIXLY_CORRECT=1\n", &[Platform::Cedar]),
        ("trap 'exit 9' USR1; ulimit -c 0; umask 077\n", &[Platform::Cedar, Platform::Herokuish]),
    ];
    let cases = files
        .into_iter()
        .flat_map(|(text, platforms)| platforms.iter().map(move |platform| (text, *platform)));
    check_in_threads(4, cases, |(text, platform)| {
        for name in ["000.sh", "zzz.sh"] {
            let workspace = Workspace::new().procfile("web: echo here; exit 42\n");
            let dyno = Dyno::new(platform, workspace.file(&format!(".profile.d/{name}"), text));
            let finished = dyno.start("web", "").wait();
            assert_eq!(finished, Finished::new(42, "here\n", ""), "{platform:?} {name}: {text}");
            assert_eq!(dyno.drain.lines(), ["here"], "{platform:?} {name}: {text}");
        }
    });
}

#[test]
fn a_procfile_that_was_replaced_after_the_build_is_reported_at_boot() {
    let reported = |name: &str| {
        format!(
            "tailrace at=not-shipping error=\"the Procfile was replaced after the build wrapped it\" \
             detail=\"{name} runs without tailrace\" try=\"put the buildpack that replaces it before tailrace\"\n"
        )
    };
    let built = "web: x\nclock: tailrace run -- y\nrelease: z\n";
    for platform in [Platform::Cedar, Platform::Herokuish] {
        let dyno = Dyno::new(platform, Workspace::new().procfile(built));
        let wrapped = fs::read_to_string(dyno.app.join("Procfile")).unwrap();
        for (now, dyno_name, expected) in [
            // As it was built.
            (wrapped.as_str(), "web.1", String::new()),
            (&wrapped, "release.1", String::new()),
            // Replaced: by a file without tailrace, with another entry, with other lines around it.
            ("web: x\n", "web.1", reported("web")),
            ("web: x\nworker: y\n", "worker.2", reported("worker")),
            ("release: y\n", "release.1", String::new()),
            ("web: x\n", "run.1", String::new()),
            ("web: x\n", "scheduler.1", String::new()),
            ("web: x\n", "worker.1", String::new()),
            ("web: x\n", "a b/c.1", String::new()),
            ("web: tailrace run -- x\n", "web.1", String::new()),
            (&format!("{wrapped}extra: x\n"), "web.1", String::new()),
            (&format!("{wrapped}extra: x\n"), "release.1", String::new()),
        ] {
            fs::write(dyno.app.join("Procfile"), now).unwrap();
            let dyno = dyno.start_as(dyno_name, "true").wait();
            assert_eq!(dyno, Finished::new(0, "", &expected), "{platform:?} {dyno_name}: {now}");
        }
        fs::remove_file(dyno.app.join("Procfile")).unwrap();
        assert_eq!(dyno.start_as("web.1", "true").wait(), Finished::new(0, "", ""), "{platform:?}");
    }
}

#[test]
fn an_entry_that_the_build_did_not_wrap_is_not_reported() {
    let workspace = Workspace::new().procfile("web: x\nworker: y\n").config_var("TAILRACE_TYPES", "web");
    let dyno = Dyno::new(Platform::Cedar, workspace);
    fs::write(dyno.app.join("Procfile"), "web: z\nworker: y\n").unwrap();
    assert_eq!(dyno.start_as("worker.1", "true").wait(), Finished::new(0, "", ""));
    assert_ne!(dyno.start_as("web.1", "true").wait().stderr, "");
}
