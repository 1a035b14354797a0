//! The launcher: the app starts even when the binary is missing, broken, or made for another machine.

use crate::dyno::{Dyno, Finished, Platform, replace_file};
use crate::workspace::Workspace;
use std::fs;

/// A file in the place of the binary.
struct Replacement {
    bytes: Vec<u8>,
    mode: u32,
}

impl Replacement {
    fn new(bytes: Vec<u8>, mode: u32) -> Self {
        Self { bytes, mode }
    }
}

/// Binaries that do not run, with a description each; `None`: there is no file.
fn broken_binaries(dyno: &Dyno) -> Vec<(&'static str, Option<Replacement>)> {
    let agent = match dyno.workspace.path("layers/agent/bin/tailrace-agent") {
        layer if layer.exists() => layer,
        _ => dyno.app.join(".tailrace/bin/tailrace-agent"),
    };
    let intact = fs::read(agent).unwrap();
    let mut foreign = intact.clone();
    foreign[18..20].copy_from_slice(&[0xf3, 0]); // e_machine: RISC-V
    let truncated = intact[..1 << 16].to_vec();
    vec![
        ("missing", None),
        ("not executable", Some(Replacement::new(intact, 0o644))),
        ("truncated", Some(Replacement::new(truncated, 0o755))),
        ("foreign", Some(Replacement::new(foreign, 0o755))),
        ("an error page", Some(Replacement::new(b"<html>\n".to_vec(), 0o755))),
        ("empty", Some(Replacement::new(Vec::new(), 0o644))),
    ]
}

fn replace_binary(dyno: &Dyno, replacement: Option<&Replacement>) {
    for dir in [dyno.app.join(".tailrace/bin"), dyno.workspace.path("layers/agent/bin")] {
        let agent = dir.join("tailrace-agent");
        if agent.exists() {
            fs::remove_file(&agent).unwrap();
        }
        if let Some(Replacement { bytes, mode }) = replacement.filter(|_| dir.exists()) {
            replace_file(&agent, bytes, *mode);
        }
    }
}

#[test]
fn the_app_starts_without_the_binary_and_one_line_reports_it() {
    for platform in Platform::ALL {
        let dyno =
            Dyno::new(platform, Workspace::new().procfile("web: printf '[%s]\\n' $$ \"$PORT\" && exit 7\n"));
        for (what, replacement) in broken_binaries(&dyno) {
            replace_binary(&dyno, replacement.as_ref());
            let running = dyno.start("web", "");
            let pid = running.pid();
            let Finished { status, stdout, stderr } = running.wait();
            let expected = (7, format!("[{pid}]\n[5000]\n"));
            assert_eq!((status, stdout), expected, "{platform:?}, {what}: {stderr}");
            assert!(
                stderr.starts_with("tailrace at=not-shipping error=\""),
                "{platform:?}, {what}: {stderr}"
            );
            assert_eq!(stderr.lines().count(), 1, "{platform:?}, {what}: {stderr}");
        }
    }
}

#[test]
fn every_subcommand_has_a_fallback_without_the_binary() {
    let workspace = Workspace::new().procfile("web: exec printf '[%s]\\n' first\n");
    let dyno = Dyno::new(Platform::Cedar, workspace);
    replace_binary(&dyno, None);
    for (line, status, stdout) in [
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
        let finished = dyno.start_command(line).wait();
        assert_eq!(
            (finished.status, finished.stdout.as_str()),
            (status, stdout),
            "{line}: {}",
            finished.stderr
        );
        assert!(finished.stderr.starts_with("tailrace at=not-shipping "), "{line}: {}", finished.stderr);
    }
}

#[test]
fn the_fallback_of_ship_passes_on_the_last_lines_after_a_sigterm_to_all() {
    let dyno = Dyno::new(Platform::Cedar, Workspace::new().procfile("web: x\n"));
    replace_binary(&dyno, None);
    // The reader tells the writer when the fallback runs, then the writer signals the whole process group.
    let line = "mkfifo \"$TMPDIR/runs\"; trap : TERM
        { trap '' TERM; echo up; read -r _ <\"$TMPDIR/runs\"; kill -TERM 0; echo last; } |
        tailrace ship |
        { trap '' TERM; read -r line; echo \"$line\" >\"$TMPDIR/runs\"; read -r line; echo \"$line\"; }";
    let finished = dyno.start_command(line).wait();
    assert_eq!((finished.status, finished.stdout.as_str()), (0, "last\n"), "{}", finished.stderr);
}

#[test]
fn the_launcher_ignores_shell_settings_that_are_meant_for_the_app() {
    let workspace = Workspace::new()
        .procfile("web: hello_function; echo $HELLO $agent\n")
        .file("env.sh", "export HELLO=$((HELLO + 1))\n");
    let dyno = Dyno::new(Platform::Cedar, workspace);
    let env = dyno.app.join("env.sh");
    let dyno = dyno
        .config_var("BASH_ENV", env.to_str().unwrap())
        .config_var("agent", "the app's")
        .config_var("BASH_FUNC_hello_function%%", "() { echo hello; }")
        .config_var("SHELLOPTS", "braceexpand");
    let finished = dyno.start("web", "").wait();
    // BASH_ENV was read by the platform's shell and by the shell of the command, not by the launcher's.
    assert_eq!(finished, Finished::new(0, "hello\n2 the app's\n", ""));
}
