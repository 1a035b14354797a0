//! The simulated platform as an app sees it: the surroundings of a dyno, and its lifecycle.

use crate::harness::{Harness, Running, TIMEOUT, run_to_end};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tailrace_drain::{Drain, Options, skip};

/// Prints the surroundings of the dyno's shell.
const PRINT_SURROUNDINGS: &str = "echo \"uid=$(id -u) cwd=$PWD home=$HOME dyno=$DYNO app=$HEROKU_APP_NAME parent=$PPID\"; \
                    echo \"limit=$(cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null) cap=$(ulimit -u)\"; \
                    echo \"mine=$MINE yours=$YOURS\"; sleep 300 & wait\n";

/// Whether dynos are isolated by namespaces. In CI they must be.
fn is_isolated(err: &str) -> bool {
    let is_isolated = !err.contains("process groups of this system");
    if !is_isolated {
        skip(&format!("simulated dynos cannot be isolated by namespaces: {err}"));
    }
    is_isolated
}

#[test]
fn a_cedar_dyno_has_the_surroundings_of_the_platform() {
    let harness = Harness::new(&format!("worker: {PRINT_SURROUNDINGS}"))
        .with(".env", "MINE=\"from the file\"\nYOURS=file\n");
    let (status, report, err) =
        harness.report(&["--for", "2s", "--config", "YOURS=line", "--size", "standard-2x"]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(err.contains(" app[worker.1]: mine=from the file yours=line\n"), "{err}");
    if is_isolated(&err) {
        for part in [" cwd=/app home=/app dyno=worker.1 app=", "limit=1073741824 cap=512\n"] {
            assert!(err.contains(part), "{part:?}: {err}");
        }
        assert!(!err.contains("uid=0 "), "{err}");
    }
    harness.assert_clean();
}

#[test]
fn in_a_fir_dyno_the_app_is_pid_1_and_only_it_gets_sigterm() {
    let harness = Harness::new(&format!("worker: trap 'echo stopping' TERM; {PRINT_SURROUNDINGS}"));
    let (status, report, err) = harness.report(&["--for", "2s", "--generation", "fir", "--no-metadata"]);
    assert_eq!(status, 0, "{report:#}{err}");
    let name = report["dynos"][0]["name"].as_str().expect("is text").to_owned();
    assert!(name.starts_with("worker-") && name.len() == "worker-12a34b56d-e78f9".len(), "{name}");
    if is_isolated(&err) {
        assert!(
            err.contains(&format!(" cwd=/workspace home=/workspace dyno={name} app= parent=1\n")),
            "{err}"
        );
        assert!(err.contains("limit= cap=256\n"), "{err}");
    }
    assert_eq!(report["drains"].as_array().map(Vec::len), Some(1), "no platform drain: {report:#}");
    harness.assert_clean();
}

#[test]
fn all_dynos_of_the_formation_run_and_all_web_dynos_get_requests() {
    let harness =
        Harness::new("web: rust-web\nworker: echo working; sleep 300\nclock: false\nrelease: false\n");
    let (status, report, err) = harness.report(&[
        "--for",
        "2s",
        "--formation",
        "web=2,worker=1",
        "--traffic",
        "20",
        "--sigterms",
        "3",
    ]);
    assert_eq!(status, 0, "{report:#}{err}");
    let names: Vec<&str> = report["dynos"]
        .as_array()
        .expect("is an array")
        .iter()
        .filter_map(|dyno| dyno["name"].as_str())
        .collect();
    assert!(
        names.len() == 3 && ["web.1", "web.2", "worker.1"].iter().all(|name| names.contains(name)),
        "{names:?}"
    );
    for part in [" dyno=web.1 connect=", " dyno=web.2 connect=", " app[worker.1]: working\n"] {
        assert!(err.contains(part), "{part:?}: {err}");
    }
    let drains = report["drains"].as_array().expect("is an array");
    for drain in drains {
        assert_eq!((&drain["arrived"], &drain["announced"]), (&drain["messages"], &0.into()), "{report:#}");
    }
    assert_eq!(drains.len(), 2);
    harness.assert_clean();
}

#[test]
fn an_app_gets_requests_only_on_demand() {
    let harness = Harness::new("web: rust-web\n");
    let (status, report, err) = harness.report(&["--for", "1s"]);
    assert_eq!((status, &report["requests"]["sent"]), (0, &0.into()), "{report:#}{err}");
    assert!(err.contains(" (--traffic 5 sends it five requests a second)\n"), "{err}");
    harness.assert_clean();
    // Without a web dyno, the router responds with an error.
    let harness = Harness::new("web: rust-web\nworker: sleep 300\n");
    let formation = ["--for", "1s", "--formation", "web=0,worker=1", "--traffic", "20"];
    let (status, report, err) = harness.report(&formation);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(err.contains("at=error code=H14 desc=\"No web processes running\""), "{err}");
    assert!(report["requests"]["failed"]["H14"].as_u64() > Some(1), "{report:#}");
    harness.assert_clean();
}

#[test]
fn a_crashed_dyno_is_restarted() {
    let harness = Harness::new("worker: echo \"run in $HOME\"; sleep 1; exit 3\n");
    let mut running = Running::start(harness.command(&[]));
    for part in [
        "heroku[worker.1]: State changed from starting to up",
        "heroku[worker.1]: Process exited with status 3",
        "heroku[worker.1]: State changed from up to crashed",
        "heroku[worker.1]: State changed from crashed to starting",
        "heroku[worker.1]: Starting process with command",
        "heroku[worker.1]: State changed from starting to up",
    ] {
        running.wait_for(part);
    }
    running.interrupt();
    let (status, output) = running.end();
    assert_eq!(status, 1, "a crash is a problem: {output}");
    assert!(output.contains(" !     worker.1: the app ended by itself, with status 3\n"), "{output}");
    harness.assert_clean();
}

#[test]
fn a_dyno_is_killed_after_the_boot_timeout() {
    let harness = Harness::new("web: sleep 300\n");
    let (status, out, err) = harness.run(&["--boot-timeout", "500ms"]);
    assert_eq!(status, 1, "{out}{err}");
    for part in
        ["Error R10 (Boot timeout) -> ", "Process exited with status 137\n", "did not listen on $PORT"]
    {
        assert!(out.contains(part), "{part:?}: {out}{err}");
    }
    harness.assert_clean();
}

#[test]
fn a_process_that_outlives_the_main_process_is_killed_after_the_exit_timeout() {
    let harness = Harness::new("web: (trap '' TERM; exec sleep 300) & exec rust-web\n");
    let (status, out, err) = harness.run(&["--for", "100ms", "--exit-timeout", "2s"]);
    assert_eq!(status, 0, "caused by the app: {out}{err}");
    for part in ["Error R12 (Exit timeout) -> ", "Stopping remaining processes with SIGKILL\n"] {
        assert!(out.contains(part), "{part:?}: {out}{err}");
    }
    harness.assert_clean();
}

#[test]
fn an_app_that_ignores_sigterm_is_killed_after_the_exit_timeout() {
    // The agent's stop grace is shorter than any exit timeout, so that it writes its ledger in time.
    let harness =
        Harness::new("worker: trap '' TERM; echo deaf; while sleep 0.1; do echo still here; done\n");
    let (status, out, err) = harness.run(&["--for", "300ms", "--exit-timeout", "2s"]);
    assert_eq!(status, 0, "caused by the app: {out}{err}");
    for part in ["failed to exit within 2 seconds of SIGTERM\n", "did not end within 2 s of SIGTERM (R12)\n"]
    {
        assert!(out.contains(part), "{part:?}: {out}{err}");
    }
    assert!(!out.contains("no ledger"), "{out}{err}");
    harness.assert_clean();
}

#[test]
fn files_of_a_simulation_are_private() {
    let harness = Harness::new("worker: echo working; sleep 300\n").with(".env", "SECRET=s\n");
    let mut running = Running::start(harness.command(&[]));
    running.wait_for("app[worker.1]: working");
    let mode = |path: &Path| path.metadata().expect("exists").permissions().mode() & 0o777;
    let mut specs = 0;
    for entry in fs::read_dir(harness.tmp.path()).expect("exists").flatten() {
        assert_eq!(mode(&entry.path()), 0o700, "{entry:?}");
        for boot in fs::read_dir(entry.path()).expect("can be accessed").flatten() {
            let spec = boot.path().join("spec.json");
            if spec.is_file() {
                assert_eq!(mode(&spec), 0o600, "{spec:?}");
                specs += 1;
            }
        }
    }
    assert_eq!(specs, 1, "that of the dyno");
    running.interrupt();
    assert_eq!(running.end().0, 0);
    harness.assert_clean();
}

#[test]
fn all_dynos_of_an_app_have_the_same_app_id() {
    let harness =
        Harness::new("web: echo id $HEROKU_APP_ID; rust-web\nworker: echo id $HEROKU_APP_ID; sleep 300\n");
    let (status, report, err) = harness.report(&["--for", "300ms"]);
    assert_eq!(status, 0, "{report:#}{err}");
    let ids: Vec<&str> = err.lines().filter_map(|line| line.split_once("]: id ").map(|(_, id)| id)).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1] && ids[0].len() == 36, "{ids:?}: {err}");
    harness.assert_clean();
}

#[test]
fn a_one_off_dyno_passes_on_streams_and_exit_status() {
    let harness = Harness::new("web: rust-web\ngreet: echo \"$GREETING $1\" from\n")
        .with(".profile.d/a.sh", "export GREETING=hello\n");
    let (status, out, err) = harness.run(&["run", "echo \"$GREETING $DYNO $PORT\"; exit 7"]);
    assert_eq!(status, 7, "{out}{err}");
    let name = out.strip_prefix("hello run.").and_then(|rest| rest.strip_suffix(" \n")).expect(&out);
    assert!(name.parse::<u32>().is_ok(), "{out}");
    harness.assert_clean();
    for (arguments, expected) in
        [(&["bash", "-c", "echo a b"][..], "a b\n"), (&["greet", "the test"], "hello  from the test\n")]
    {
        let (status, out, err) = harness.run(&[&["run"], arguments].concat());
        assert_eq!((status, out.as_str()), (0, expected), "{arguments:?}: {err}");
    }
    let (status, out, err) = harness.run(&["run", ".tailrace/bin/tailrace", "check"]);
    assert_eq!(status, 0, "{out}{err}");
    // With a limit file in the dyno, the spool's default size is a quarter of the limit.
    let limited = out.contains("quota 512 MB by limit file");
    assert!(
        limited == out.contains("at most 128MiB") && (limited || !nix::unistd::geteuid().is_root()),
        "{out}"
    );
    harness.assert_clean();
}

#[test]
fn a_one_off_dyno_gets_the_callers_terminal_settings() {
    let harness = Harness::new("web: rust-web\n").with(".env", "TERM=config\n");
    let arguments = ["run", "echo \"$TERM ${COLUMNS-none} ${LINES-none}\""];
    let mut command = harness.command(&arguments);
    command.env("TERM", "vt220");
    let (_, out, err) = run_to_end(command);
    assert_eq!(out, "vt220 none none\n", "{err}");
    let size = Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).expect("is created");
    let mut command = harness.command(&arguments);
    command.env("TERM", "xterm").stdout(Stdio::from(pty.slave)).stderr(Stdio::null());
    let mut child = command.spawn().expect("starts");
    drop(command); // closes this process's copy of the terminal, so that reading ends with the child
    let mut output = Vec::new();
    fs::File::from(pty.master).read_to_end(&mut output).ok(); // a terminal ends with EIO
    assert!(child.wait().expect("ends").success());
    let output = String::from_utf8_lossy(&output);
    assert!(output.starts_with("xterm 111 33\r\n"), "{output}");
    harness.assert_clean();
}

#[test]
fn a_real_receiver_replaces_the_local_one() {
    let drain = Drain::start(Options::default()).expect("starts");
    let ca = fs::read_to_string(drain.ca_file()).expect("exists");
    let harness = Harness::new("worker: echo hello; sleep 300\n")
        .with("ca.pem", &ca)
        .with(".env", "TAILRACE_CA_FILE=ca.pem\nTAILRACE_DRAIN_URL=https://production.invalid/\n");
    let (status, report, err) = harness.report(&["--for", "300ms", "--drain", &drain.url()]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(report["drain"].is_null(), "{report:#}");
    assert!(drain.lines().contains(&"hello".to_owned()), "{:?}", drain.lines());
    harness.assert_clean();
}

#[test]
fn typed_commands_are_executed() {
    let harness = Harness::new("worker: echo working; sleep 300\n");
    let mut command = harness.command(&[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.wait_for("app[worker.1]: working");
    running.type_line("dance");
    running.wait_for("\"dance\" is not a command; expected fault ");
    running.type_line("restart worker.1");
    // The new run starts before the old one is stopped.
    for part in
        ["Restarting", "State changed from up to starting", "Starting process", "Stopping all processes"]
    {
        running.wait_for(&format!("heroku[worker.1]: {part}"));
    }
    running.wait_for("heroku[worker.1]: Process exited with status 143");
    running.type_line("stop");
    let (status, output) = running.end();
    assert_eq!(status, 0, "{output}");
    assert_eq!(output.matches("app[worker.1]: working\n").count(), 2, "{output}");
    harness.assert_clean();
}

#[test]
fn requests_wait_for_the_replacement_during_a_restart() {
    let harness = Harness::new("web: rust-web\n");
    let mut command = harness.command(&["--traffic", "50"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.wait_for("heroku[router]: at=info");
    running.type_line("restart");
    running.wait_for("heroku[web.1]: Starting process with command");
    running.wait_for("heroku[web.1]: State changed from starting to up");
    running.wait_for("heroku[router]: at=info");
    running.type_line("stop");
    let (status, output) = running.end();
    assert_eq!(status, 0, "{output}");
    // A request in flight may be cut off with the old run (H13, H18), but none finds the app without dynos.
    assert!(!output.contains("code=H14") && !output.contains("code=H10"), "{output}");
    harness.assert_clean();
}

#[test]
fn a_killed_simulation_leaves_nothing_behind() {
    for options in [&[][..], &["--no-namespaces"]] {
        let harness = Harness::new("worker: (setsid sleep 300 &) ; echo working; sleep 300\n");
        let mut running = Running::start(harness.command(options));
        running.wait_for("app[worker.1]: working");
        kill(Pid::from_raw(running.child.id() as i32), Signal::SIGKILL).expect("exists");
        running.child.wait().expect("ends");
        let started = Instant::now();
        while !harness.leftovers().is_empty() {
            assert!(started.elapsed() < TIMEOUT, "left behind: {:?}", harness.leftovers());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_simulation_runs_without_namespaces() {
    let harness =
        Harness::new("web: rust-web\nworker: echo \"in $HOME\"; (setsid sleep 300 &) ; sleep 300\n");
    let (status, report, err) = harness.report(&["--for", "1s", "--no-namespaces"]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(err.contains("process groups of this system, not namespaces: --no-namespaces\n"), "{err}");
    harness.assert_clean();
}

#[test]
fn an_interactive_simulation_has_a_page_of_the_drain() {
    let harness = Harness::new("worker: echo hello; sleep 300\n");
    let mut running = Running::start(harness.command(&[]));
    running.wait_for("the drain's page: http://");
    let address = running.output.trim_end().rsplit_once("http://").expect("is printed").1.to_owned();
    running.wait_for("tailrace[worker.1]: State changed from starting to up");
    let started = Instant::now();
    loop {
        let mut stream = TcpStream::connect(&address).expect("listens");
        let request = format!("GET /model.json HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("is text");
        // Both drains are shown, and a launch is counted once although both drains report it.
        let body = answer.split_once("\r\n\r\n").expect("has a body").1;
        let json: serde_json::Value = serde_json::from_str(body).expect("is JSON");
        let model = &json["model"];
        let tokens = model["delivery"]["tokens"].as_object().expect("is an array");
        let has_both = tokens.len() == 2 && tokens.keys().any(|token| token.ends_with(" (platform)"));
        let launches = model["dynos"]["by_dyno"]["worker.1"]["launches"]["up"].as_u64();
        // The first line of a drain may come before that of the launch.
        if has_both && launches.is_some_and(|launches| launches > 0) {
            assert_eq!(launches, Some(1), "{model:#}");
            break;
        }
        assert!(started.elapsed() < TIMEOUT, "{model:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.interrupt();
    assert_eq!(running.end().0, 0);
    harness.assert_clean();
}
