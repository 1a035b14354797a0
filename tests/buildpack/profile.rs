//! `.profile.d/tailrace.sh`: PATH, and nothing else, whatever its neighbours do.

use crate::dyno::{Dyno, Way};
use crate::release::root;
use crate::workspace::Site;
use std::process::Command;

fn bash(script: &str, vars: &[(&str, &str)]) -> (i32, String, String) {
    let script = script.replace("SOURCE", "source buildpack/profile.d/tailrace.sh");
    let mut command = Command::new("/bin/bash");
    let output =
        command.args(["-c", &script]).env_clear().envs(vars.iter().copied()).current_dir(root()).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn it_sets_path_once_and_cannot_fail() {
    let vars = &[("HOME", "/app"), ("PATH", "/usr/bin:/bin")][..];
    let good = "/app/.tailrace/bin:/usr/bin:/bin";
    for (script, vars, path) in [
        ("SOURCE; echo $PATH", vars, good),
        ("SOURCE; SOURCE; echo $PATH", vars, good),
        ("set -eu; SOURCE; echo $PATH", vars, good),
        ("set -euo pipefail; SOURCE && SOURCE; echo $PATH", vars, good),
        ("set -u; unset PATH; SOURCE; echo $PATH", vars, "/app/.tailrace/bin"),
        ("set -u; PATH=; SOURCE; echo $PATH", vars, "/app/.tailrace/bin"),
        ("set -eu; unset HOME; SOURCE; echo $PATH", vars, "/.tailrace/bin:/usr/bin:/bin"),
        (
            "set -eu; IFS=/:; set -f; SOURCE; echo \"$PATH\"",
            &[("HOME", "/my app"), ("PATH", "/b c")],
            "/my app/.tailrace/bin:/b c",
        ),
        ("set -e; trap 'echo trapped' ERR EXIT; SOURCE; trap - EXIT; echo $PATH", vars, good),
    ] {
        assert_eq!(bash(script, vars), (0, format!("{path}\n"), String::new()), "{script}");
    }
}

#[test]
fn it_leaves_nothing_else_behind() {
    let script = "before=$(set; set +o; shopt; trap); SOURCE; after=$(set; set +o; shopt; trap); \
                  diff <(echo \"$before\") <(echo \"$after\") | grep '^[<>]'";
    let (_, out, err) = bash(script, &[("HOME", "/app"), ("PATH", "/usr/bin:/bin")]);
    let changed: Vec<_> = out
        .lines()
        .filter(|line| {
            !["PATH=", "_=", "before=", "BASH_ARG", "PIPESTATUS"]
                .iter()
                .any(|name| line[2..].starts_with(name))
        })
        .collect();
    assert!(changed.is_empty(), "{changed:?} {err}");
}

#[test]
fn hostile_neighbours_stop_no_app() {
    for (text, ways) in [
        ("set -e\n", &[Way::Cedar, Way::Herokuish][..]),
        ("set -euo pipefail\n", &[Way::Cedar, Way::Herokuish]),
        ("export PATH=/usr/bin:/bin\n", &[Way::Cedar, Way::Herokuish]),
        ("unset DYNO PORT\n", &[Way::Cedar, Way::Herokuish]),
        ("shopt -s nullglob failglob extglob; set -o noglob\n", &[Way::Cedar]),
        ("cd() { false; }; exec() { false; }; printf() { false; }; export -f cd printf\n", &[Way::Cedar]),
        ("tailrace() { false; }; alias bash=false\n", &[Way::Cedar]),
        ("export IFS=/ BASH_ENV=/dev/null CDPATH=/ POSIXLY_CORRECT=1\n", &[Way::Cedar]),
        ("trap 'exit 9' USR1; ulimit -c 0; umask 077\n", &[Way::Cedar, Way::Herokuish]),
    ] {
        for way in ways {
            for name in ["000.sh", "zzz.sh"] {
                let site = Site::new().procfile("web: echo here; exit 42\n");
                let dyno = Dyno::new(*way, site.file(&format!(".profile.d/{name}"), text));
                let (status, out, err) = dyno.start("web", "").end();
                assert_eq!(
                    (status, out.as_str(), err.as_str()),
                    (42, "here\n", ""),
                    "{way:?} {name}: {text}"
                );
                assert_eq!(dyno.drain.lines(), ["here"], "{way:?} {name}: {text}");
            }
        }
    }
}
