//! The platform as an app sees it: what surrounds a dyno, and what is done to it.

use crate::harness::{Harness, PATIENCE, Running, ended};
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
use tailrace_drain::{Drain, Options};

/// What the dyno's shell knows; one name for each line.
const LOOK: &str = "echo \"uid=$(id -u) cwd=$PWD home=$HOME dyno=$DYNO app=$HEROKU_APP_NAME parent=$PPID\"; \
                    echo \"limit=$(cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null) cap=$(ulimit -u)\"; \
                    echo \"mine=$MINE yours=$YOURS\"; sleep 300 & wait\n";

/// Whether dynos are more than process groups here. Where all must run, they are.
fn has_walls(err: &str) -> bool {
    let has = !err.contains("process groups of this system");
    assert!(has || std::env::var_os("CI").is_none(), "{err}");
    has
}

#[test]
fn a_dyno_of_cedar_is_as_the_platform_has_it() {
    let desk = Harness::new(&format!("worker: {LOOK}")).with(".env", "MINE=\"from the file\"\nYOURS=file\n");
    let (status, report, err) =
        desk.report(&["--for", "300ms", "--config", "YOURS=line", "--size", "standard-2x"]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(err.contains(" app[worker.1]: mine=from the file yours=line\n"), "{err}");
    if has_walls(&err) {
        for part in [" cwd=/app home=/app dyno=worker.1 app=", "limit=1073741824 cap=512\n"] {
            assert!(err.contains(part), "{part:?}: {err}");
        }
        assert!(!err.contains("uid=0 "), "{err}");
    }
    desk.assert_clean();
}

#[test]
fn a_dyno_of_fir_is_the_first_process_and_stops_alone() {
    let desk = Harness::new(&format!("worker: trap 'echo told' TERM; {LOOK}"));
    let (status, report, err) = desk.report(&["--for", "300ms", "--generation", "fir", "--no-metadata"]);
    assert_eq!(status, 0, "{report:#}{err}");
    let name = report["dynos"][0]["name"].as_str().expect("is text").to_owned();
    assert!(name.starts_with("worker-") && name.len() == "worker-12a34b56d-e78f9".len(), "{name}");
    if has_walls(&err) {
        assert!(
            err.contains(&format!(" cwd=/workspace home=/workspace dyno={name} app= parent=1\n")),
            "{err}"
        );
        assert!(err.contains("limit= cap=256\n"), "{err}");
    }
    assert_eq!(report["drains"].as_array().map(Vec::len), Some(1), "no platform drain: {report:#}");
    desk.assert_clean();
}

#[test]
fn every_dyno_of_the_formation_runs_and_all_web_dynos_are_asked() {
    let desk = Harness::new("web: rust-web\nworker: echo working; sleep 300\nclock: false\nrelease: false\n");
    let (status, report, err) =
        desk.report(&["--for", "2s", "--formation", "web=2,worker=1", "--traffic", "20", "--sigterms", "3"]);
    assert_eq!(status, 0, "{report:#}{err}");
    let names: Vec<&str> = report["dynos"]
        .as_array()
        .expect("are some")
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
    let drains = report["drains"].as_array().expect("are some");
    for drain in drains {
        assert_eq!((&drain["arrived"], &drain["announced"]), (&drain["messages"], &0.into()), "{report:#}");
    }
    assert_eq!(drains.len(), 2);
    desk.assert_clean();
}

#[test]
fn an_app_is_asked_on_demand_only() {
    let desk = Harness::new("web: rust-web\n");
    let (status, report, err) = desk.report(&["--for", "1s"]);
    assert_eq!((status, &report["requests"]["sent"]), (0, &0.into()), "{report:#}{err}");
    assert!(err.contains(" (--traffic 5 asks it five times a second)\n"), "{err}");
    desk.assert_clean();
    // Nobody is there to answer, and the router says so.
    let desk = Harness::new("web: rust-web\nworker: sleep 300\n");
    let formation = ["--for", "1s", "--formation", "web=0,worker=1", "--traffic", "20"];
    let (status, report, err) = desk.report(&formation);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(err.contains("at=error code=H14 desc=\"No web processes running\""), "{err}");
    assert!(report["requests"]["failed"]["H14"].as_u64() > Some(1), "{report:#}");
    desk.assert_clean();
}

#[test]
fn a_dyno_that_crashes_starts_again() {
    let desk = Harness::new("worker: echo \"run in $HOME\"; sleep 1; exit 3\n");
    let mut running = Running::start(desk.command(&[]));
    for part in [
        "heroku[worker.1]: State changed from starting to up",
        "heroku[worker.1]: Process exited with status 3",
        "heroku[worker.1]: State changed from up to crashed",
        "heroku[worker.1]: State changed from crashed to starting",
        "heroku[worker.1]: Starting process with command",
        "heroku[worker.1]: State changed from starting to up",
    ] {
        running.until(part);
    }
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 1, "a crash is a problem: {seen}");
    assert!(seen.contains(" !     worker.1: the app ended by itself, with status 3\n"), "{seen}");
    desk.assert_clean();
}

#[test]
fn the_patience_of_the_platform_ends() {
    let desk = Harness::new("web: sleep 300\n");
    let (status, out, err) = desk.run(&["--boot-timeout", "500ms"]);
    assert_eq!(status, 1, "{out}{err}");
    for part in
        ["Error R10 (Boot timeout) -> ", "Process exited with status 137\n", "did not listen on $PORT"]
    {
        assert!(out.contains(part), "{part:?}: {out}{err}");
    }
    desk.assert_clean();

    // The main process ends in time, but not all processes do.
    let desk = Harness::new("web: (trap '' TERM; exec sleep 300) & exec rust-web\n");
    let (status, out, err) = desk.run(&["--for", "100ms", "--exit-timeout", "2s"]);
    assert_eq!(status, 0, "the app's own doing: {out}{err}");
    for part in ["Error R12 (Exit timeout) -> ", "Stopping remaining processes with SIGKILL\n"] {
        assert!(out.contains(part), "{part:?}: {out}{err}");
    }
    desk.assert_clean();

    // The agent's grace is shorter than the platform's patience, whatever that is: there is a ledger.
    let desk = Harness::new("worker: trap '' TERM; echo deaf; while sleep 0.1; do echo still here; done\n");
    let (status, out, err) = desk.run(&["--for", "300ms", "--exit-timeout", "2s"]);
    assert_eq!(status, 0, "the app's own doing: {out}{err}");
    for part in ["failed to exit within 2 seconds of SIGTERM\n", "did not end within 2 s of SIGTERM (R12)\n"]
    {
        assert!(out.contains(part), "{part:?}: {out}{err}");
    }
    assert!(!out.contains("no ledger"), "{out}{err}");
    desk.assert_clean();
}

#[test]
fn nobody_else_may_look_into_a_simulation() {
    let desk = Harness::new("worker: echo working; sleep 300\n").with(".env", "SECRET=s\n");
    let mut running = Running::start(desk.command(&[]));
    running.until("app[worker.1]: working");
    let mode = |path: &Path| path.metadata().expect("is there").permissions().mode() & 0o777;
    let mut specs = 0;
    for entry in fs::read_dir(desk.tmp.path()).expect("is there").flatten() {
        assert_eq!(mode(&entry.path()), 0o700, "{entry:?}");
        for boot in fs::read_dir(entry.path()).expect("is ours").flatten() {
            let spec = boot.path().join("spec.json");
            if spec.is_file() {
                assert_eq!(mode(&spec), 0o600, "{spec:?}");
                specs += 1;
            }
        }
    }
    assert_eq!(specs, 1, "the dyno's");
    running.interrupt();
    assert_eq!(running.end().0, 0);
    desk.assert_clean();
}

#[test]
fn all_dynos_of_an_app_know_it_by_one_id() {
    let desk =
        Harness::new("web: echo id $HEROKU_APP_ID; rust-web\nworker: echo id $HEROKU_APP_ID; sleep 300\n");
    let (status, report, err) = desk.report(&["--for", "300ms"]);
    assert_eq!(status, 0, "{report:#}{err}");
    let ids: Vec<&str> = err.lines().filter_map(|line| line.split_once("]: id ").map(|(_, id)| id)).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1] && ids[0].len() == 36, "{ids:?}: {err}");
    desk.assert_clean();
}

#[test]
fn a_one_off_dyno_has_the_status_and_the_streams_of_its_command() {
    let desk = Harness::new("web: rust-web\ngreet: echo \"$GREETING $1\" from\n")
        .with(".profile.d/a.sh", "export GREETING=hello\n");
    let (status, out, err) = desk.run(&["run", "echo \"$GREETING $DYNO $PORT\"; exit 7"]);
    assert_eq!(status, 7, "{out}{err}");
    let name = out.strip_prefix("hello run.").and_then(|rest| rest.strip_suffix(" \n")).expect(&out);
    assert!(name.parse::<u32>().is_ok(), "{out}");
    desk.assert_clean();
    for (words, expected) in
        [(&["bash", "-c", "echo a b"][..], "a b\n"), (&["greet", "the desk"], "hello  from the desk\n")]
    {
        let (status, out, err) = desk.run(&[&["run"], words].concat());
        assert_eq!((status, out.as_str()), (0, expected), "{words:?}: {err}");
    }
    let (status, out, err) = desk.run(&["run", ".tailrace/bin/tailrace", "check"]);
    assert_eq!(status, 0, "{out}{err}");
    // Where the machine lets a dyno have a limit file of its own, the spool keeps to a quarter of it.
    let limited = out.contains("quota 512 MB by limit file");
    assert!(
        limited == out.contains("at most 128MiB") && (limited || !nix::unistd::geteuid().is_root()),
        "{out}"
    );
    desk.assert_clean();
}

#[test]
fn a_one_off_dyno_knows_the_callers_terminal() {
    let desk = Harness::new("web: rust-web\n").with(".env", "TERM=config\n");
    let ask = ["run", "echo \"$TERM ${COLUMNS-none} ${LINES-none}\""];
    let mut command = desk.command(&ask);
    command.env("TERM", "vt220");
    let (_, out, err) = ended(command);
    assert_eq!(out, "vt220 none none\n", "{err}");
    let size = Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).expect("is made");
    let mut command = desk.command(&ask);
    command.env("TERM", "xterm").stdout(Stdio::from(pty.slave)).stderr(Stdio::null());
    let mut child = command.spawn().expect("starts");
    drop(command); // the last of the slave's that is ours
    let mut seen = Vec::new();
    drop(fs::File::from(pty.master).read_to_end(&mut seen)); // EIO at the end of a terminal
    assert!(child.wait().expect("ends").success());
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.starts_with("xterm 111 33\r\n"), "{seen}");
    desk.assert_clean();
}

#[test]
fn a_real_receiver_takes_the_place_of_the_local_one() {
    let drain = Drain::start(Options::default()).expect("starts");
    let ca = fs::read_to_string(drain.ca_file()).expect("is there");
    let desk = Harness::new("worker: echo hello; sleep 300\n")
        .with("ca.pem", &ca)
        .with(".env", "TAILRACE_CA_FILE=ca.pem\nTAILRACE_DRAIN_URL=https://production.invalid/\n");
    let (status, report, err) = desk.report(&["--for", "300ms", "--drain", &drain.url()]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(report["drain"].is_null(), "{report:#}");
    assert!(drain.lines().contains(&"hello".to_owned()), "{:?}", drain.lines());
    desk.assert_clean();
}

#[test]
fn what_is_typed_is_done() {
    let desk = Harness::new("worker: echo working; sleep 300\n");
    let mut command = desk.command(&[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.until("app[worker.1]: working");
    running.type_line("dance");
    running.until("\"dance\" is no command; expected fault ");
    running.type_line("restart worker.1");
    // The new one starts first; for a while there are two of one name.
    for part in
        ["Restarting", "State changed from up to starting", "Starting process", "Stopping all processes"]
    {
        running.until(&format!("heroku[worker.1]: {part}"));
    }
    running.until("heroku[worker.1]: Process exited with status 143");
    running.type_line("stop");
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    assert_eq!(seen.matches("app[worker.1]: working\n").count(), 2, "{seen}");
    desk.assert_clean();
}

#[test]
fn while_one_dyno_makes_room_requests_wait_for_the_other() {
    let desk = Harness::new("web: rust-web\n");
    let mut command = desk.command(&["--traffic", "50"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    running.until("heroku[router]: at=info");
    running.type_line("restart");
    running.until("heroku[web.1]: Starting process with command");
    running.until("heroku[web.1]: State changed from starting to up");
    running.until("heroku[router]: at=info");
    running.type_line("stop");
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    // One that was under way in the old one may be cut off (H13, H18); none meets an app without dynos.
    assert!(!seen.contains("code=H14") && !seen.contains("code=H10"), "{seen}");
    desk.assert_clean();
}

#[test]
fn nothing_is_left_of_a_simulation_that_was_killed() {
    for options in [&[][..], &["--no-namespaces"]] {
        let desk = Harness::new("worker: (setsid sleep 300 &) ; echo working; sleep 300\n");
        let mut running = Running::start(desk.command(options));
        running.until("app[worker.1]: working");
        kill(Pid::from_raw(running.child.id() as i32), Signal::SIGKILL).expect("is there");
        running.child.wait().expect("ends");
        let begun = Instant::now();
        while !desk.left().is_empty() {
            assert!(begun.elapsed() < PATIENCE, "left behind: {:?}", desk.left());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn without_namespaces_it_does_what_it_can() {
    let desk = Harness::new("web: rust-web\nworker: echo \"in $HOME\"; (setsid sleep 300 &) ; sleep 300\n");
    let (status, report, err) = desk.report(&["--for", "1s", "--no-namespaces"]);
    assert_eq!(status, 0, "{report:#}{err}");
    assert!(err.contains("process groups of this system, not namespaces: --no-namespaces\n"), "{err}");
    desk.assert_clean();
}

#[test]
fn the_drain_has_a_page_while_a_person_watches() {
    let desk = Harness::new("worker: echo hello; sleep 300\n");
    let mut running = Running::start(desk.command(&[]));
    running.until("the drain's page: http://");
    let address = running.seen.trim_end().rsplit_once("http://").expect("is printed").1.to_owned();
    running.until("tailrace[worker.1]: State changed from starting to up");
    let begun = Instant::now();
    loop {
        let mut stream = TcpStream::connect(&address).expect("listens");
        let request = format!("GET /model.json HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("is text");
        // Both drains, and the dyno once though both tell of it.
        let body = answer.split_once("\r\n\r\n").expect("has a body").1;
        let json: serde_json::Value = serde_json::from_str(body).expect("is JSON");
        let model = &json["model"];
        let tokens = model["delivery"]["tokens"].as_object().expect("are some");
        if tokens.len() == 2 && tokens.keys().any(|token| token.ends_with(" (platform)")) {
            assert_eq!(model["dynos"]["by_dyno"]["worker.1"]["launches"]["up"], 1, "{model:#}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{model:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.interrupt();
    assert_eq!(running.end().0, 0);
    desk.assert_clean();
}
