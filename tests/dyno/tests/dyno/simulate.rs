//! Simulations from start to end.

use crate::harness::{Harness, Running, TIMEOUT, agent, run_to_end};
use std::fs;
use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, Instant};
use tailrace_drain::skip;
use tempfile::TempDir;

#[test]
fn every_line_of_a_real_app_is_accounted_for() {
    let harness = Harness::new("web: rust-web\n");
    let requests = ["--ask", "/", "--ask", "POST /orders", "--ask", "/missing"];
    let (status, report, stream) = harness.run(&[&["--for", "2s", "--json"], &requests[..]].concat());
    assert_eq!(status, 0, "{report}{stream}");
    let report: serde_json::Value = serde_json::from_str(&report).expect("is JSON");
    let captured = report["dynos"][0]["ledger"]["captured_lines"].as_u64().expect("is a number");
    assert!(captured >= 7, "two at the start, and one per request: {report:#}");
    assert_eq!(report["dynos"][0]["printed"]["lines"], captured, "{report:#}");
    let account = &report["dynos"][0]["ledger"]["drains"][0];
    assert_eq!(account["delivered_lines"], captured, "{report:#}");
    assert_eq!(report["dynos"][0]["exit_status"], 143, "{report:#}");
    assert!(report["requests"]["by_status"]["201"].as_u64() >= Some(1), "{report:#}");
    for receiver in ["sumo", "vector", "alloy", "logplex-strict"] {
        assert_eq!(report["drain"]["conformance"][receiver]["errors"], 0, "{report:#}");
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
    let agent_lines =
        stream.lines().filter_map(|line| line.split_once(" tailrace[web.1]: ").map(|(_, text)| text));
    let lifecycle: Vec<&str> =
        agent_lines.filter(|text| !text.starts_with("source=") && !text.starts_with("at=")).collect();
    assert_eq!(
        lifecycle,
        [
            "Starting process with command `rust-web`",
            "State changed from starting to up",
            "State changed from up to down",
            "Stopping all processes with SIGTERM",
            "Process exited with status 143",
        ]
    );
    assert!(!stream.contains('\x1b'), "colour is for terminals: {stream}");
    harness.assert_clean();
}

#[test]
fn a_dyno_above_its_memory_quota_logs_samples_and_r14() {
    if Command::new("python3").arg("--version").output().is_err() {
        skip("python3 is not installed");
        return;
    }
    let harness = Harness::new(
        "web: python3 -c 'data = bytearray(b\"x\" * (1 << 20)) * 70; print(\"grown\", flush=True); import http.server as h, os; h.HTTPServer((\"127.0.0.1\", int(os.environ[\"PORT\"])), h.SimpleHTTPRequestHandler).serve_forever()'\n",
    );
    let mut command = harness.command(&[]);
    command.env("TAILRACE_SAMPLE_INTERVAL", "1s").env("TAILRACE_MEMORY_QUOTA", "64MiB");
    let mut running = Running::start(command);
    // The agent reads a process's detailed memory figures once a minute.
    running.wait_for_within(Duration::from_secs(150), " tailrace[web.1]: Error R14 (Memory quota exceeded)");
    running.interrupt();
    let (status, output) = running.end();
    assert_eq!(status, 0, "{output}");
    for part in [
        " sample#load_avg_1m=",
        " sample#memory_total=",
        " sample#memory_quota=64.00MB",
        "Process running mem=",
    ] {
        assert!(output.contains(part), "{part:?}: {output}");
    }
    harness.assert_clean();
}

#[test]
fn a_slug_from_the_buildpack_is_run_unchanged() {
    let harness = Harness::new("web: .tailrace/bin/tailrace run --type web\nworker: none\n");
    let slug = harness.app.path();
    let (bin, types, profile) =
        (slug.join(".tailrace/bin"), slug.join(".tailrace/types"), slug.join(".profile.d"));
    for dir in [&bin, &types, &profile] {
        fs::create_dir_all(dir).expect("is created");
    }
    fs::copy(agent(), bin.join("tailrace")).expect("is copied");
    fs::write(types.join("web"), "echo \"$GREETING\" && rust-web\n").expect("is written");
    let greeting = "export GREETING=hello; echo from the profile; echo and its stderr >&2\n";
    fs::write(profile.join("greeting.sh"), greeting).expect("is written");
    let mut command = harness.command(&["--for", "1s", "--formation", "web=1"]);
    command.arg("--agent").arg("/nowhere/tailrace").arg("--slug").arg(slug);
    let (status, out, err) = run_to_end(command);
    assert_eq!(status, 0, "{out}{err}");
    for part in [
        " heroku[web.1]: Starting process with command `.tailrace/bin/tailrace run --type web`\n",
        " app[web.1]: from the profile\n",
        " app[web.1]: hello\n",
        "web.1: 2 lines came from .profile.d or .profile, before the agent was started: only the platform has them\n",
        "lines arrived, and no receiver objected.\n",
    ] {
        assert!(out.contains(part), "{part:?}: {out}{err}");
    }
    assert!(!out.contains("tailrace-dyno"), "the marker is not printed: {out}");
    harness.assert_clean();
}

#[test]
fn ctrl_c_stops_the_dyno_and_all_its_processes() {
    // The first sleep is orphaned, in a session of its own; the app's shell stays the parent of rust-web.
    let harness =
        Harness::new("web: (setsid sleep 300 &); echo \"port $PORT, home $HOME\"; rust-web; echo done\n");
    let mut running = Running::start(harness.command(&["--traffic", "5"]));
    running.wait_for("State changed from starting to up");
    running.wait_for("heroku[router]: at=info");
    running.interrupt();
    let (status, output) = running.end();
    assert_eq!(status, 0, "{output}");
    for part in
        [", home /app\n", "lines arrived, and no receiver objected.\n", "Process exited with status 143\n"]
    {
        assert!(output.contains(part), "{part:?}: {output}");
    }
    harness.assert_clean();
}

#[test]
fn a_second_ctrl_c_kills_everything_at_once() {
    let harness =
        Harness::new("web: trap '' TERM; sleep 300 & echo ignoring; while true; do sleep 1; done\n");
    let mut running = Running::start(harness.command(&["--for", "1s"]));
    running.wait_for("app[web.1]: ignoring");
    running.interrupt();
    running.wait_for("Stopping all processes with SIGTERM");
    let started = Instant::now();
    running.interrupt();
    let (status, output) = running.end();
    assert_eq!(status, 130, "{output}");
    assert!(started.elapsed() < TIMEOUT, "at once, not after the 30 s of the platform");
    harness.assert_clean();
}

#[test]
fn closing_standard_output_stops_the_dyno() {
    let harness = Harness::new("web: rust-web\n");
    let mut command = harness.command(&[]);
    let mut child = command.spawn().expect("starts");
    let mut first = [0];
    child.stdout.take().expect("is a pipe").read_exact(&mut first).expect("is printed");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    harness.assert_clean();
}

#[test]
fn an_app_that_exits_before_it_is_up_fails_the_simulation() {
    for (procfile, status, output) in [
        ("web: echo bye; exit 7\n", 7, "app[web.1]: bye\n"),
        ("web: no-such-program -x\n", 127, "no-such-program"),
    ] {
        let harness = Harness::new(procfile);
        let (code, out, err) = harness.run(&["--for", "1s"]);
        assert_eq!(code, 1, "{out}{err}");
        let problem =
            format!(" !     web.1: the app ended with status {status} before it listened on $PORT\n");
        for part in [problem.as_str(), output, "State changed from starting to crashed\n"] {
            assert!(out.contains(part), "{part:?}: {out}{err}");
        }
        harness.assert_clean();
    }
}

#[test]
fn a_missing_ledger_fails_the_simulation() {
    let harness = Harness::new("web: rust-web\n");
    let mut command = harness.command(&["--for", "300ms"]);
    command.env("TAILRACE", "off");
    let (code, out, err) = run_to_end(command);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains(" !     web.1: no ledger: "), "{out}{err}");
    harness.assert_clean();
}

#[test]
fn errors_name_what_is_missing() {
    let harness = Harness::new("# nothing\n");
    let empty = TempDir::new().expect("is created");
    let empty = empty.path().to_str().expect("is text");
    for (options, status, part) in [
        (&[][..], 64, "Procfile: no entry"),
        (&["--app", empty], 64, "expected a directory with a Procfile"),
        (&["--formation", "web=1"], 64, "Procfile: no entry"),
        (&["--wat"], 64, "--wat"),
    ] {
        let (code, out, err) = harness.run(options);
        assert_eq!((code, out.as_str()), (status, ""), "{err}");
        assert!(err.contains(part), "{part:?}: {err}");
    }
    let harness = Harness::new("web: sleep 1\n");
    for (formation, part) in
        [("worker=1", "the Procfile has no entry \"worker\""), ("web=0", "at least one dyno")]
    {
        let (code, _, err) = harness.run(&["--formation", formation]);
        assert!(code == 64 && err.contains(part), "{part:?}: {err}");
    }
    let (code, _, err) = harness.run(&["--agent", "/nowhere/tailrace"]);
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("/nowhere/tailrace: not found"), "{err}");
    harness.assert_clean();
}
