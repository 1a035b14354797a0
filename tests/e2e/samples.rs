//! Samples, lifecycle lines and agent events, as the drain gets them from the real program.

use crate::harness::{Harness, ReservedPort, WAIT_TIMEOUT, program, wait_for, wait_until};
use crate::published_parsers::{
    BOTH, LIFECYCLE, LOAD, MEMORY, ReceivedFrame, has_correct_len, l2met_units, last_capture,
    lumbermill_accepts, matches, strip_as_splunk,
};
use crate::suspended_threads::SuspendedThreads;
use crate::threads::check_in_threads;
use nix::sys::signal::Signal;
use std::process::Command;

/// The messages of the agent's frames with this app name that begin with `prefix`, in order.
fn agent_messages(harness: &Harness, app: &str, prefix: &str) -> Vec<String> {
    let frames = harness.drain.frames();
    let frames = frames.iter().filter(|frame| !frame.is_app && frame.app == app && frame.proc_id == "web.1");
    frames.filter(|frame| frame.message.starts_with(prefix)).map(|frame| frame.message.clone()).collect()
}

/// All frames that the drain received.
fn received_frames(harness: &Harness) -> Vec<ReceivedFrame> {
    let (raw, lines) = (harness.drain.raw(), harness.drain.frames());
    lines.into_iter().zip(raw).map(|(line, raw)| ReceivedFrame { line, raw }).collect()
}

/// Waits for `count` samples of load and of memory; returns the frames of all samples.
fn wait_for_samples(harness: &Harness, count: usize) -> Vec<ReceivedFrame> {
    wait_for("samples", || {
        let mut all = received_frames(harness);
        all.retain(|frame| frame.line.message.contains(" sample#"));
        let count_of = |key: &str| all.iter().filter(|frame| frame.line.message.contains(key)).count();
        (count_of("load_avg_1m") >= count && count_of("memory_total") >= count).then_some(all)
    })
}

/// The frames whose message contains `key`, as they were sent.
fn raw_with(frames: &[ReceivedFrame], key: &str) -> Vec<String> {
    frames.iter().filter(|frame| frame.line.message.contains(key)).map(|frame| frame.raw.clone()).collect()
}

#[test]
fn published_parsers_read_the_samples() {
    let harness = Harness::new()
        .set("TAILRACE_SAMPLE_INTERVAL", "1s")
        .set("TAILRACE_MEMORY_QUOTA", "512MiB")
        .set("TAILRACE_SAMPLE_MORE", "on");
    let agent = harness.run(&["cat"]);
    // The third load sample is the first with all three averages.
    let all = wait_for_samples(&harness, 3);
    assert!(all.iter().all(|frame| has_correct_len(&frame.raw)), "{all:?}");
    assert!(all.iter().all(lumbermill_accepts), "{all:?}");
    let (load, memory) = (raw_with(&all, "load_avg_1m"), raw_with(&all, "memory_total"));
    for (parsers, line) in [(LOAD, &load[2]), (MEMORY, &memory[0]), (BOTH, &load[2]), (BOTH, &memory[0])] {
        for parser in parsers {
            let captured = last_capture(parser.expression, line);
            assert!(matches(parser.captures, &captured), "{}: {captured:?} of {line}", parser.expression);
        }
    }
    for line in [&load[2], &memory[0]] {
        let line = strip_as_splunk(line);
        assert!(matches(r"^\S+\sheroku\s(?!router)", &line), "{line}");
        assert!(matches(r"heroku\s\w+\.\d+\s-\ssource=\w+\.\d+\sdyno=heroku\.", &line), "{line}");
    }
    assert_sample_formats(&load, &memory, &raw_with(&all, "cpu_user"));
    // Load, memory, extra: in this order, with increasing timestamps.
    let keys: Vec<&str> = ["load_avg_1m", "memory_total", "cpu_user"].repeat(2);
    assert!(all.iter().zip(&keys).all(|(frame, key)| frame.line.message.contains(key)), "{all:?}");
    assert!(all.windows(2).all(|pair| pair[0].line.time < pair[1].line.time));
    let output = agent.finish();
    harness.assert_all_delivered(&output, 0);
    assert_eq!(output.stderr, "");
}

/// Checks the keys and units of samples: of load, of memory, and of the extra line.
fn assert_sample_formats(load: &[String], memory: &[String], extra: &[String]) {
    let units = |line: &str| {
        l2met_units(line).into_iter().map(|(key, unit)| format!("{key} {unit}")).collect::<Vec<_>>()
    };
    assert_eq!(units(&load[2]), ["load_avg_1m ", "load_avg_5m ", "load_avg_15m "]);
    let [mb, pages] = [["total", "rss", "cache", "swap"].as_slice(), &["pgpgin", "pgpgout"]];
    let keys = |names: &[&str], unit: &str| {
        names.iter().map(|name| format!("memory_{name} {unit}")).collect::<Vec<_>>()
    };
    assert_eq!(units(&memory[0]), [keys(mb, "MB"), keys(pages, "pages"), keys(&["quota"], "MB")].concat());
    // The first two load samples have the averages that are known by then.
    let partial = r"sample#load_avg_1m=\d+\.\d\d( sample#load_avg_5m=\d+\.\d\d)?$";
    assert!(last_capture(partial, &load[1]).contains("load_avg_5m="), "{load:?}");
    assert!(last_capture(partial, &load[0]).contains("load_avg_1m="), "{load:?}");
    let extra_format = r"^.* sample#cpu_user=\d+ms sample#cpu_system=\d+ms sample#cpu=\d+\.\d\d% sample#processes=\d+ sample#threads=\d+( sample#threads_max=\d+)? sample#open_files=\d+ sample#open_files_max=\d+ sample#received=\d+B sample#sent=(\d+)B$";
    last_capture(extra_format, &extra[1]);
}

#[test]
fn lifecycle_lines_of_a_web_dyno_arrive_in_order() {
    let port = ReservedPort::new();
    let number = port.number().to_string();
    let harness = Harness::new().set("TAILRACE_LIFECYCLE", "on").set("PORT", &number);
    let script = "
import os, signal, socket, sys, time
print('booting', flush=True)
sys.stdin.readline()
listener = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(3)))
print('listening', flush=True)
while True: time.sleep(1)
";
    let mut agent = harness.run(&["python3", "-c", script, "$PORT"]);
    agent.wait_for_stdout("booting");
    harness.wait_for_lines(1);
    wait_until("the start", || !agent_messages(&harness, "heroku", "Starting process").is_empty());
    assert!(agent_messages(&harness, "heroku", "State changed").is_empty(), "nothing listens yet");
    agent.feed("go\n");
    assert!(harness.drain.wait_until(WAIT_TIMEOUT, |_| {
        !agent_messages(&harness, "heroku", "State changed from starting to up").is_empty()
    }));
    agent.signal(Signal::SIGTERM);
    let output = agent.finish();
    assert_eq!((output.status, output.stderr.as_str()), (3, ""));
    let messages = agent_messages(&harness, "heroku", "");
    assert!(messages[0].starts_with("Starting process with command `python3 -c "), "{messages:?}");
    assert!(messages[0].ends_with(&format!("{number}`")), "{messages:?}");
    assert_eq!(
        messages[1..],
        [
            "State changed from starting to up",
            "State changed from up to down",
            "Stopping all processes with SIGTERM",
            "Process exited with status 3"
        ]
    );
    assert_lifecycle_frames(&harness);
    harness.assert_all_delivered(&output, 3);
}

/// Checks the order of all frames, and that published parsers read the lifecycle lines.
fn assert_lifecycle_frames(harness: &Harness) {
    let frames = harness.drain.frames();
    let index_of = |prefix: &str| frames.iter().position(|frame| frame.message.starts_with(prefix)).unwrap();
    assert!(index_of("at=start") < index_of("Starting process"), "{frames:?}");
    assert!(index_of("bye") < index_of("Process exited"), "{frames:?}");
    assert!(index_of("Process exited") < index_of("at=stop"), "{frames:?}");
    let stop = agent_messages(harness, "tailrace", "at=stop");
    assert!(stop[0].starts_with("at=stop captured=3 delivered="), "{stop:?}");
    // All of it arrived before this line.
    assert!(stop[0].contains(" queued=") && !stop[0].contains("held"), "{stop:?}");
    let frames = received_frames(harness);
    for parser in LIFECYCLE {
        for ReceivedFrame { line, raw } in
            frames.iter().filter(|frame| frame.line.message.starts_with(parser.prefix))
        {
            assert!(has_correct_len(raw) && raw.contains(" <134>1 ") && line.app == "heroku", "{raw}");
            let captured = last_capture(parser.expression, raw);
            let is_command = parser.captures.is_empty() && captured.starts_with("python3");
            assert!(captured == parser.captures || is_command, "{}: {captured}", parser.expression);
        }
    }
}

#[test]
fn an_app_that_listens_during_the_stop_does_not_come_up() {
    let port = ReservedPort::new();
    let harness = Harness::new().set("TAILRACE_LIFECYCLE", "on").set("PORT", &port.number().to_string());
    let script = "
import os, signal, socket, sys, time
def stop(*_):
    listener = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
    print('listening', flush=True)
    sys.stdin.readline()
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
print('booting', flush=True)
while True: time.sleep(1)
";
    let mut agent = harness.run(&["python3", "-c", script]);
    agent.wait_for_stdout("booting");
    agent.wait_for_shipper();
    agent.signal(Signal::SIGTERM);
    agent.wait_for_stdout("listening");
    // Time for several checks of the port.
    std::thread::sleep(std::time::Duration::from_secs(1));
    agent.feed("go\n");
    assert_eq!(agent.finish().status, 3);
    assert_eq!(
        agent_messages(&harness, "heroku", "")[1..],
        [
            "State changed from starting to down",
            "Stopping all processes with SIGTERM",
            "Process exited with status 3"
        ]
    );
}

#[test]
fn the_start_events_precede_the_first_line_of_the_app() {
    for _ in 0..20 {
        let harness = Harness::new().set("TAILRACE_LIFECYCLE", "on");
        let output = harness.run(&["echo", "hi"]).finish();
        harness.assert_all_delivered(&output, 1);
        let texts: Vec<String> = harness.drain.frames().into_iter().map(|frame| frame.message).collect();
        let starts: Vec<&str> = texts.iter().map(|text| text.split(' ').next().unwrap()).collect();
        assert_eq!(
            starts,
            ["at=start", "Starting", "State", "hi", "Process", "State", "at=stop"],
            "{texts:?}"
        );
    }
}

#[test]
fn the_first_sample_counts_shared_memory_of_a_preforked_app_once() {
    let harness = Harness::new().set("TAILRACE_SAMPLE_INTERVAL", "8s");
    let script = "
import os, sys
memory = bytearray(os.urandom(1024)) * 60000
for _ in range(12):
    if os.fork() == 0:
        os.read(0, 1)
        os._exit(0)
print('up', flush=True)
sys.stdin.readline()
";
    let agent = harness.run(&["python3", "-c", script]);
    agent.wait_for_stdout("up\n");
    let raw = &raw_with(&wait_for_samples(&harness, 1), "memory_total")[0];
    let total: f64 = last_capture(r"memory_total=(.*?)MB", raw).parse().unwrap();
    assert!((58.0..200.0).contains(&total), "13 processes share 60 MB: {raw}");
    agent.finish();
}

#[test]
fn checking_the_port_costs_little_cpu_time() {
    check_in_threads(2, ["off", "on"], |lifecycle| {
        let port = ReservedPort::new();
        let harness = Harness::new().set("PORT", &port.number().to_string()).set("TAILRACE_HEARTBEAT", "2s");
        let harness = harness.set("TAILRACE_SAMPLE_INTERVAL", "0").set("TAILRACE_LIFECYCLE", lifecycle);
        let agent = harness.run(&["sleep", "60"]);
        let heartbeats = wait_for("two heartbeats", || {
            Some(agent_messages(&harness, "tailrace", "at=heartbeat")).filter(|all| all.len() > 1)
        });
        // With lifecycle lines the port was checked 40 times by now. Reading the tables of proc(5) for that would take
        // 10 ms and more each time.
        let cpu: u64 = last_capture(r" cpu=(\d+)ms$", &heartbeats[1]).parse().unwrap();
        assert!(cpu < 250, "{lifecycle}: {heartbeats:?}");
        agent.signal(Signal::SIGTERM);
        agent.finish();
    });
}

#[test]
fn a_task_completes_and_a_worker_crashes_when_it_exits() {
    for (dyno, state) in [("run.9157", "complete"), ("worker.2", "crashed")] {
        let harness = Harness::new().set("TAILRACE_LIFECYCLE", "on").set("DYNO", dyno);
        harness.sh("exit 0").finish();
        let texts: Vec<String> = harness
            .drain
            .frames()
            .into_iter()
            .filter(|frame| frame.app == "heroku")
            .map(|frame| frame.message)
            .collect();
        assert_eq!(
            texts[1..],
            [
                "State changed from starting to up",
                "Process exited with status 0",
                &format!("State changed from up to {state}")
            ]
        );
    }
}

#[test]
fn lifecycle_lines_are_sent_where_the_platform_does_not_send_them() {
    for (dyno, expected) in [("web.1", false), ("worker-12a34b56d-e78f9", true)] {
        let harness = Harness::new().set("DYNO", dyno);
        let output = harness.sh("exit 0").finish();
        let lifecycle = harness.drain.frames().into_iter().filter(|frame| frame.app == "heroku").count();
        assert_eq!((lifecycle > 0, output.status), (expected, 0), "{dyno}");
    }
}

#[test]
fn a_dyno_above_its_memory_quota_gets_an_r14() {
    let harness = Harness::new()
        .set("TAILRACE_SAMPLE_INTERVAL", "1s")
        .set("TAILRACE_MEMORY_QUOTA", "48MiB")
        .set("TAILRACE_LIFECYCLE", "on");
    let script = "import os, sys; sys.stdin.readline(); memory = bytearray(os.urandom(1024)) * 60000; print('grown', flush=True); sys.stdin.readline()";
    let mut agent = harness.run(&["python3", "-c", script]);
    // The growth of a process that was read when small is read a minute later, so nothing is read before.
    let suspended = SuspendedThreads::of(agent.pid(), &["sampler"]);
    agent.feed("grow\n");
    agent.wait_for_stdout("grown\n");
    drop(suspended);
    let errors = wait_for("R14", || {
        Some(agent_messages(&harness, "heroku", "Error R14")).filter(|errors| !errors.is_empty())
    });
    assert_eq!(errors[0], "Error R14 (Memory quota exceeded)");
    let frames = received_frames(&harness);
    let index = frames.iter().position(|frame| frame.line.message.starts_with("Error R14")).unwrap();
    let running = &frames[index - 1].line.message;
    let megabytes = last_capture(r"^Process running mem=(\d+)M\(\d+\.\d%\)$", running);
    assert!((58..90).contains(&megabytes.parse::<u64>().unwrap()), "{running}");
    let error = &frames[index];
    assert!(has_correct_len(&error.raw) && lumbermill_accepts(error), "{error:?}");
    for parser in LIFECYCLE.iter().filter(|parser| parser.prefix == "Error R14") {
        assert_eq!(last_capture(parser.expression, &error.raw), parser.captures);
    }
    agent.finish();
}

#[test]
fn heartbeats_report_the_ledger_and_the_cost_of_the_agent() {
    let harness = Harness::new().set("TAILRACE_HEARTBEAT", "1s").set("TAILRACE_SAMPLE_INTERVAL", "0");
    let mut agent = harness.run(&["cat"]);
    agent.feed("1\n2\n");
    harness.wait_for_lines(2);
    let heartbeat = wait_for("a heartbeat after the delivery", || {
        agent_messages(&harness, "tailrace", "at=heartbeat")
            .pop()
            .filter(|heartbeat| heartbeat.contains(" held=0 "))
    });
    last_capture(
        r"^at=heartbeat captured=2 delivered=2 held=0 dropped=0 rejected=0 retries=0 oldest=0s memory=\d+\.\d\dMB cpu=(\d+)ms$",
        &heartbeat,
    );
    let start = agent_messages(&harness, "tailrace", "at=start");
    last_capture(
        r"^at=start version=\S+ source=web\.1 app=e2e probe=(processes|cgroup1|cgroup2)$",
        &start[0],
    );
    let output = agent.finish();
    harness.assert_all_delivered(&output, 2);
    assert!(
        harness.drain.frames().iter().all(|frame| !frame.message.contains("sample#")),
        "samples are turned off"
    );
}

#[test]
fn check_and_status_show_the_probe_and_the_quota() {
    let harness = Harness::new().set("TAILRACE_MEMORY_QUOTA", "512MiB");
    let text = harness.start(&["check", "--no-send"]).finish().stdout_text();
    last_capture(r"  probe    (processes|cgroup1|cgroup2), quota 512 MB by TAILRACE_MEMORY_QUOTA", &text);
    let agent = harness.run(&["cat"]);
    let title = format!("pid {}, up ", agent.pid());
    let status = wait_for("a probe", || {
        let output = Command::new(program()).arg("status").env_clear().output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let section = text.split("\n\n").find(|section| section.contains(&title))?;
        section.contains("quota 512 MB").then(|| section.to_owned())
    });
    last_capture(
        r"  probe       (processes|cgroup1|cgroup2), quota 512 MB by TAILRACE_MEMORY_QUOTA",
        &status,
    );
    agent.finish();
}
