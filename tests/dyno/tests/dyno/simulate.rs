//! One simulation, from its start to its end.

use crate::harness::{Harness, PATIENCE, Running, agent, ended};
use std::fs;
use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[test]
fn every_line_of_a_real_app_is_accounted_for() {
    let desk = Harness::new("web: rust-web\n");
    let asked = ["--ask", "/", "--ask", "POST /orders", "--ask", "/missing"];
    let (status, report, stream) = desk.run(&[&["--for", "2s", "--json"], &asked[..]].concat());
    assert_eq!(status, 0, "{report}{stream}");
    let report: serde_json::Value = serde_json::from_str(&report).expect("stands alone");
    let captured = report["dynos"][0]["ledger"]["captured_lines"].as_u64().expect("is a number");
    assert!(captured >= 7, "two of the start, and one per request: {report:#}");
    assert_eq!(report["dynos"][0]["printed"]["lines"], captured, "{report:#}");
    let account = &report["dynos"][0]["ledger"]["drains"][0];
    assert_eq!(account["delivered_lines"], captured, "{report:#}");
    assert_eq!(report["dynos"][0]["exit_status"], 143, "{report:#}");
    assert!(report["requests"]["by_status"]["201"].as_u64() >= Some(1), "{report:#}");
    for personality in ["sumo", "vector", "alloy", "logplex-strict"] {
        assert_eq!(report["drain"]["conformance"][personality]["errors"], 0, "{report:#}");
    }
    for part in [
        " heroku[web.1]: Starting process with command `rust-web`\n",
        " app[web.1]: => Booting rust-web\n",
        " heroku[web.1]: State changed from starting to up\n",
        " heroku[router]: at=info method=POST path=\"/orders\" host=",
        " app[web.1]: method=POST path=/orders ",
        " heroku[web.1]: Stopping all processes with SIGTERM\n",
        " heroku[web.1]: Process exited with status 143\n",
    ] {
        assert!(stream.contains(part), "{part:?}: {stream}");
    }
    let told = stream.lines().filter_map(|line| line.split_once(" tailrace[web.1]: ").map(|(_, text)| text));
    let life: Vec<&str> =
        told.filter(|text| !text.starts_with("source=") && !text.starts_with("at=")).collect();
    assert_eq!(
        life,
        [
            "Starting process with command `rust-web`",
            "State changed from starting to up",
            "State changed from up to down",
            "Stopping all processes with SIGTERM",
            "Process exited with status 143",
        ]
    );
    assert!(!stream.contains('\x1b'), "colour is for terminals: {stream}");
    desk.assert_clean();
}

#[test]
fn a_dyno_that_outgrows_its_quota_shows_samples_and_r14() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let desk = Harness::new(
        "web: python3 -c 'own = bytearray(b\"x\" * (1 << 20)) * 70; print(\"grown\", flush=True); import http.server as h, os; h.HTTPServer((\"127.0.0.1\", int(os.environ[\"PORT\"])), h.SimpleHTTPRequestHandler).serve_forever()'\n",
    );
    let mut command = desk.command(&[]);
    command.env("TAILRACE_SAMPLE_INTERVAL", "1s").env("TAILRACE_MEMORY_QUOTA", "64MiB");
    let mut running = Running::start(command);
    // The agent looks closely at a process once a minute, and may just have done so while it grew.
    running.until_within(Duration::from_secs(150), " tailrace[web.1]: Error R14 (Memory quota exceeded)");
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    for part in [
        " sample#load_avg_1m=",
        " sample#memory_total=",
        " sample#memory_quota=64.00MB",
        "Process running mem=",
    ] {
        assert!(seen.contains(part), "{part:?}: {seen}");
    }
    desk.assert_clean();
}

#[test]
fn a_slug_runs_as_it_stands() {
    let desk = Harness::new("web: .tailrace/bin/tailrace run --type web\nworker: none\n");
    let slug = desk.app.path();
    let (bin, types, profile) =
        (slug.join(".tailrace/bin"), slug.join(".tailrace/types"), slug.join(".profile.d"));
    for dir in [&bin, &types, &profile] {
        fs::create_dir_all(dir).expect("is made");
    }
    fs::copy(agent(), bin.join("tailrace")).expect("is copied");
    fs::write(types.join("web"), "echo \"$GREETING\" && rust-web\n").expect("is written");
    let greeting = "export GREETING=hello; echo from the profile; echo and its stderr >&2\n";
    fs::write(profile.join("greeting.sh"), greeting).expect("is written");
    let mut command = desk.command(&["--for", "1s", "--formation", "web=1"]);
    command.arg("--agent").arg("/nowhere/tailrace").arg("--slug").arg(slug);
    let (status, out, err) = ended(command);
    assert_eq!(status, 0, "{out}{err}");
    for part in [
        " heroku[web.1]: Starting process with command `.tailrace/bin/tailrace run --type web`\n",
        " app[web.1]: from the profile\n",
        " app[web.1]: hello\n",
        "web.1: 2 lines came from .profile.d or .profile, before the agent was there: only the platform has them\n",
        "lines arrived, and no receiver objected.\n",
    ] {
        assert!(out.contains(part), "{part:?}: {out}{err}");
    }
    assert!(!out.contains("tailrace-dyno"), "the mark is nobody's business: {out}");
    desk.assert_clean();
}

#[test]
fn ctrl_c_stops_the_dyno_and_all_its_processes() {
    // The first process leaves the family, the app's shell stays above it.
    let desk =
        Harness::new("web: (setsid sleep 300 &); echo \"port $PORT, home $HOME\"; rust-web; echo done\n");
    let mut running = Running::start(desk.command(&["--traffic", "5"]));
    running.until("State changed from starting to up");
    running.until("heroku[router]: at=info");
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 0, "{seen}");
    for part in
        [", home /app\n", "lines arrived, and no receiver objected.\n", "Process exited with status 143\n"]
    {
        assert!(seen.contains(part), "{part:?}: {seen}");
    }
    desk.assert_clean();
}

#[test]
fn a_second_ctrl_c_ends_everything_at_once() {
    let desk = Harness::new("web: trap '' TERM; sleep 300 & echo deaf; while true; do sleep 1; done\n");
    let mut running = Running::start(desk.command(&["--for", "1s"]));
    running.until("app[web.1]: deaf");
    running.interrupt();
    running.until("Stopping all processes with SIGTERM");
    let begun = Instant::now();
    running.interrupt();
    let (status, seen) = running.end();
    assert_eq!(status, 130, "{seen}");
    assert!(begun.elapsed() < PATIENCE, "at once, not after the 30 s of the platform");
    desk.assert_clean();
}

#[test]
fn a_stream_that_nobody_reads_stops_the_dyno() {
    let desk = Harness::new("web: rust-web\n");
    let mut command = desk.command(&[]);
    let mut child = command.spawn().expect("starts");
    let mut first = [0];
    child.stdout.take().expect("is a pipe").read_exact(&mut first).expect("is printed");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    desk.assert_clean();
}

#[test]
fn an_app_that_dies_early_fails_the_simulation() {
    for (procfile, status, also) in [
        ("web: echo bye; exit 7\n", 7, "app[web.1]: bye\n"),
        ("web: no-such-program -x\n", 127, "no-such-program"),
    ] {
        let desk = Harness::new(procfile);
        let (code, out, err) = desk.run(&["--for", "1s"]);
        assert_eq!(code, 1, "{out}{err}");
        let problem =
            format!(" !     web.1: the app ended with status {status} before it listened on $PORT\n");
        for part in [problem.as_str(), also, "State changed from starting to crashed\n"] {
            assert!(out.contains(part), "{part:?}: {out}{err}");
        }
        desk.assert_clean();
    }
}

#[test]
fn a_missing_ledger_fails_the_simulation() {
    let desk = Harness::new("web: rust-web\n");
    let mut command = desk.command(&["--for", "300ms"]);
    command.env("TAILRACE", "off");
    let (code, out, err) = ended(command);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains(" !     web.1: no ledger: "), "{out}{err}");
    desk.assert_clean();
}

#[test]
fn what_is_missing_is_named() {
    let desk = Harness::new("# nothing\n");
    let none = TempDir::new().expect("is made");
    let elsewhere = none.path().to_str().expect("is text");
    for (options, status, part) in [
        (&[][..], 64, "Procfile: no entry"),
        (&["--app", elsewhere], 64, "expected a directory with a Procfile"),
        (&["--formation", "web=1"], 64, "Procfile: no entry"),
        (&["--wat"], 64, "--wat"),
    ] {
        let (code, out, err) = desk.run(options);
        assert_eq!((code, out.as_str()), (status, ""), "{err}");
        assert!(err.contains(part), "{part:?}: {err}");
    }
    let desk = Harness::new("web: sleep 1\n");
    for (formation, part) in
        [("worker=1", "the Procfile has no entry \"worker\""), ("web=0", "one dyno at least")]
    {
        let (code, _, err) = desk.run(&["--formation", formation]);
        assert!(code == 64 && err.contains(part), "{part:?}: {err}");
    }
    let (code, _, err) = desk.run(&["--agent", "/nowhere/tailrace"]);
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("/nowhere/tailrace: not there"), "{err}");
    desk.assert_clean();
}
