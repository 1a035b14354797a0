//! The launcher: the app starts also when the binary is missing, broken, or made for another machine.

use crate::dyno::{Dyno, Way, put};
use crate::workspace::Site;
use std::fs;

/// What stands in the binary's place, and with which mode, if anything does.
type Harm = Option<(Vec<u8>, u32)>;

/// What is done to the binary.
fn harms(dyno: &Dyno) -> Vec<(&'static str, Harm)> {
    let agent = match dyno.site.path("layers/agent/bin/tailrace-agent") {
        layer if layer.exists() => layer,
        _ => dyno.app.join(".tailrace/bin/tailrace-agent"),
    };
    let good = fs::read(agent).unwrap();
    let mut foreign = good.clone();
    foreign[18..20].copy_from_slice(&[0xf3, 0]); // e_machine: RISC-V
    let cut = good[..1 << 16].to_vec();
    vec![
        ("missing", None),
        ("not executable", Some((good, 0o644))),
        ("truncated", Some((cut, 0o755))),
        ("foreign", Some((foreign, 0o755))),
        ("an error page", Some((b"<html>\n".to_vec(), 0o755))),
        ("empty", Some((Vec::new(), 0o644))),
    ]
}

fn harm(dyno: &Dyno, harm: &Harm) {
    for dir in [dyno.app.join(".tailrace/bin"), dyno.site.path("layers/agent/bin")] {
        let agent = dir.join("tailrace-agent");
        if agent.exists() {
            fs::remove_file(&agent).unwrap();
        }
        if let Some((bytes, mode)) = harm.as_ref().filter(|_| dir.exists()) {
            put(&agent, bytes, *mode);
        }
    }
}

#[test]
fn the_app_starts_without_the_binary_and_one_line_says_so() {
    for way in Way::ALL {
        let dyno = Dyno::new(way, Site::new().procfile("web: printf '[%s]\\n' $$ \"$PORT\" && exit 7\n"));
        for (what, how) in harms(&dyno) {
            harm(&dyno, &how);
            let running = dyno.start("web", "");
            let pid = running.pid();
            let (status, out, err) = running.end();
            assert_eq!((status, out), (7, format!("[{pid}]\n[5000]\n")), "{way:?}, {what}: {err}");
            assert!(err.starts_with("tailrace at=not-shipping error=\""), "{way:?}, {what}: {err}");
            assert_eq!(err.lines().count(), 1, "{way:?}, {what}: {err}");
        }
    }
}

#[test]
fn every_way_to_run_a_command_has_its_way_without_the_binary() {
    let site = Site::new().procfile("web: exec printf '[%s]\\n' first\n");
    let dyno = Dyno::new(Way::Cedar, site);
    harm(&dyno, &None);
    for (line, status, out) in [
        ("tailrace run --type web 'a  b' '' '$x'", 0, "[first]\n[a  b]\n[]\n[$x]\n"),
        ("tailrace run --type none", 127, ""),
        ("tailrace run -- printf '[%s]\\n' 'a  b'", 0, "[a  b]\n"),
        ("tailrace run printf '[%s]\\n' --", 0, "[--]\n"),
        ("tailrace run --shell 'echo \"$1\"; exit 5' 'a  b'", 5, "a  b\n"),
        ("tailrace run -- no-such-program", 127, ""),
        ("tailrace run -- /", 126, ""),
        ("echo line | tailrace ship", 0, "line\n"),
        ("PATH=/nowhere .tailrace/bin/tailrace run --shell 'echo there'", 0, "there\n"),
        ("tailrace run", 64, ""),
        ("tailrace run --", 64, ""),
        ("tailrace run --shell", 64, ""),
        ("tailrace check", 126, ""),
        ("tailrace", 126, ""),
    ] {
        let (have, text, err) = dyno.start_line(line).end();
        assert_eq!((have, text.as_str()), (status, out), "{line}: {err}");
        assert!(err.starts_with("tailrace at=not-shipping "), "{line}: {err}");
    }
}

#[test]
fn what_is_meant_for_the_apps_shell_is_not_for_the_launchers() {
    let site = Site::new()
        .procfile("web: greet; echo $HELLO $agent\n")
        .file("env.sh", "export HELLO=$((HELLO + 1))\n");
    let dyno = Dyno::new(Way::Cedar, site);
    let env = dyno.app.join("env.sh");
    let dyno = dyno
        .set("BASH_ENV", env.to_str().unwrap())
        .set("agent", "the app's")
        .set("BASH_FUNC_greet%%", "() { echo hello; }")
        .set("SHELLOPTS", "braceexpand");
    let (status, out, err) = dyno.start("web", "").end();
    // Once for the platform's shell, once for the line's, and not for the launcher's.
    assert_eq!((status, out.as_str(), err.as_str()), (0, "hello\n2 the app's\n", ""));
}
