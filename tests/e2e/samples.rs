//! Samples and lines about the dyno's life, as the drain gets them from the real program.

use crate::harness::{PATIENCE, Rig, program, wait_for};
use fancy_regex::Regex;
use nix::sys::signal::Signal;
use std::net::TcpListener;
use std::process::Command;
use tailrace_drain::tally::Line;

/// The texts of frames of this voice, in order.
fn of(rig: &Rig, app: &str, start: &str) -> Vec<String> {
    let frames = rig.drain.frames();
    let own = frames.iter().filter(|frame| !frame.is_app && frame.app == app && frame.proc_id == "web.1");
    own.filter(|frame| frame.message.starts_with(start)).map(|frame| frame.message.clone()).collect()
}

/// The frames, each with its bytes as they came, without its LF.
fn frames(rig: &Rig) -> Vec<(Line, String)> {
    let (raw, frames) = (rig.drain.raw(), rig.drain.frames());
    frames.into_iter().zip(raw).collect()
}

/// Those of samples, once there are `count` of load and as many of memory.
fn samples(rig: &Rig, count: usize) -> Vec<(Line, String)> {
    wait_for("samples", || {
        let mut all = frames(rig);
        all.retain(|(frame, _)| frame.message.contains(" sample#"));
        let of = |key: &str| all.iter().filter(|(frame, _)| frame.message.contains(key)).count();
        (of("load_avg_1m") >= count && of("memory_total") >= count).then_some(all)
    })
}

/// What octet counting says of a frame (RFC 6587 section 3.4.1): LEN counts what stands behind its space, with the LF.
fn is_counted(raw: &str) -> bool {
    let (len, rest) = raw.split_once(' ').unwrap();
    len.parse() == Ok(rest.len() + 1)
}

/// The parsers of Sumo Logic's app for Heroku and of others, by which of our lines they must match, and what comes
/// out of them (the group that is last).
const LOAD: &[(&str, &str)] = &[
    (
        r"dyno=(?<dyno>.*?(?= )).*load_avg_1m=(?<a>.*?(?= )).*load_avg_5m=(?<b>.*?(?= )).*load_avg_15m=(?<c>.*?(?=$))",
        r"^\d+\.\d\d$",
    ),
    (r"dyno=(?<dyno>.*?(?= )).*load_avg_1m=(?<a>.*?(?= ))", r"^\d+\.\d\d$"),
    (r"dyno=(?<dyno>.*?(?= )).*load_avg_5m=(?<b>.*?(?= ))", r"^\d+\.\d\d$"),
    (r"dyno=(?<dyno>.*?(?= )).*load_avg_15m=(?<c>.*?(?=$))", r"^\d+\.\d\d$"),
    (
        r"source=(\w+[.]\d+) dyno=([^ ]+) sample#load_avg_1m=([^ ]+) sample#load_avg_5m=([^ ]+) sample#load_avg_15m=([^ ]+)",
        r"^\d+\.\d\d$",
    ),
    (r"sample#load_avg_1m=(\d+\.\d+)", r"^\d+\.\d\d$"),
    (r"load_avg_1m=(.*?) ", r"^\d+\.\d\d$"),
    (r"load_avg_5m=(.*?) ", r"^\d+\.\d\d$"),
    (r"load_avg_15m=(.*)", r"^\d+\.\d\d$"),
];
const MEMORY: &[(&str, &str)] = &[
    (
        r"dyno=(?<dyno>.*?(?= )).*memory_total=(?<t>.*?(?=MB )).*memory_rss=(?<r>.*?(?=MB )).*memory_cache=(?<c>.*?(?=MB )).*memory_swap=(?<s>.*?(?=MB ))",
        r"^\d+\.\d\d$",
    ),
    (r"dyno=(?<dyno>.*?(?= )).*memory_quota=(?<memory_quota>.*?(?=MB))", r"^512\.00$"),
    (r"dyno=(?<dyno>.*?(?= )).*memory_pgpgin=(?<p>.*?(?=pages ))", r"^\d+$"),
    (r"dyno=(?<dyno>.*?(?= )).*memory_pgpgout=(?<p>.*?(?=pages ))", r"^\d+$"),
    (
        r"source=(\w+[.]\d+) dyno=([^ ]+) sample#memory_total=([^ ]+)MB sample#memory_rss=([^ ]+)MB sample#memory_cache=([^ ]+)MB sample#memory_swap=([^ ]+)MB sample#memory_pgpgin=([^ ]+)pages sample#memory_pgpgout=([^ ]+)pages sample#memory_quota=([^ ]+)MB",
        r"^512\.00$",
    ),
    (r"sample#memory_total=(\d+\.\d*)", r"^\d+\.\d\d$"),
    (r"memory_total=(.*?)MB", r"^\d+\.\d\d$"),
    (r"memory_rss=(.*?)MB", r"^\d+\.\d\d$"),
    (r"memory_pgpgout=(.*?)pages", r"^\d+$"),
    (r"memory_quota=(.*?)MB", r"^512\.00$"),
];
const BOTH: &[(&str, &str)] = &[
    (r"host (?<host>.*?(?= ))", r"^heroku$"),
    (
        r"host (?<host>.*?(?= )) (?<component>.*?(?= )) - (?<error_message>.*)",
        r"^source=web\.1 dyno=heroku\.0\.",
    ),
    (r" dyno=(.*?) ", r"^heroku\.0\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
    (r"heroku\s(\w+\.\d+)\s-\ssource=\w+\.\d+\sdyno=heroku\.", r"^web\.1$"),
    (
        r"^([0-9]+)\s+<(?<pri>[0-9]+)>[0-9]* (?<time>[^ ]*) (?<drain_id>[^ ]*) (?<ident>[a-zA-Z0-9_\/\.\-]*) (?<pid>[a-zA-Z0-9\.]+)? *- *(?<message>.*)$",
        r"^source=web\.1 ",
    ),
    (r">1 (\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}.\d+\+\d{2}:\d{2}).+", r"^2"),
    (r"\d+\s<\d{1,3}>\d\s(\S+)\shost", r"^2"),
    (r"\d <(.+)>", r"^134$"),
    (r"source=(web\.)", r"^web\.$"),
    // Vector splits at seven blanks.
    (r"^(?:[^ ]* ){7}(.*)$", r"^source=web\.1 dyno="),
];
const STATE: &[(&str, &str, &str)] = &[
    (
        "State changed from starting to up",
        r"State changed from (?<first_state>.*?(?= )) to (?<second_state>.*)",
        "up",
    ),
    ("State changed from starting to up", r"State changed from \w+ to (?<state>\w+)$", "up"),
    ("Process exited with status 3", r"Process exited with status (?<status>.*)", "3"),
    ("Process exited with status 3", r"Process exited with status (?<exit_code>\w+)$", "3"),
    ("Starting process", r"command `(?<command>[^`]+)`", ""),
    ("Error R14", r"Error (?<code>\w+) \((?<desc>.+)\)", "Memory quota exceeded"),
    ("Error R14", r"Error (R\d+)", "R14"),
    (
        "Error R14",
        r"host (?<host>.*?(?= )) (?<component>.*?(?= )) - (?<error_message>.*)",
        "Error R14 (Memory quota exceeded)",
    ),
];

/// A line as Splunk's recipe for Heroku has it: behind what it strips.
fn stripped(raw: &str) -> String {
    let strip = Regex::new(r"^\d+\s<\d{1,3}>\d{0,2}\s(\S+)\shost").unwrap();
    strip.replace(raw, "$1").into_owned()
}

/// The samples of a line as l2met reads them: digits and one dot, then the unit (`parser/tuple.go`).
fn l2met(message: &str) -> Vec<(&str, f64, &str)> {
    let pairs = message.split(' ').filter_map(|word| word.strip_prefix("sample#")?.split_once('='));
    pairs
        .map(|(key, value)| {
            let unit = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
            (key, value[..unit].parse().unwrap(), &value[unit..])
        })
        .collect()
}

/// Whether Heroku's own lumbermill takes a frame (`drain.go`, `dyno_msg.go`): its time, its app, its source.
fn lumbermill_takes((frame, _): &(Line, String)) -> bool {
    let time = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$").unwrap();
    let source = frame.message.strip_prefix("source=").and_then(|rest| rest.split(' ').next());
    let is_error = Regex::new(r"^Error R\d\d ").unwrap().is_match(&frame.message).unwrap();
    let is_of_web = source.is_some_and(|source| source.split('.').next() == Some("web"));
    time.is_match(&frame.time).unwrap() && frame.app == "heroku" && (is_of_web || is_error)
}

/// What the last group of a parser gets out of a line.
fn parsed(parser: &str, line: &str) -> String {
    let captures = Regex::new(parser).unwrap().captures(line).unwrap();
    let captures = captures.unwrap_or_else(|| panic!("{parser} does not match: {line}"));
    captures.iter().flatten().last().unwrap().as_str().to_owned()
}

#[test]
fn published_parsers_read_our_samples() {
    let rig = Rig::new()
        .set("TAILRACE_SAMPLE_INTERVAL", "1s")
        .set("TAILRACE_MEMORY_QUOTA", "512MiB")
        .set("TAILRACE_SAMPLE_MORE", "on");
    let agent = rig.run(&["cat"]);
    // The third line of load is the first with all three figures.
    let all = samples(&rig, 3);
    let lines = |key: &str| -> Vec<String> {
        all.iter().filter(|(frame, _)| frame.message.contains(key)).map(|(_, raw)| raw.clone()).collect()
    };
    assert!(all.iter().all(|(_, raw)| is_counted(raw)), "{all:?}");
    assert!(all.iter().all(lumbermill_takes), "{all:?}");
    let (load, memory) = (lines("load_avg_1m"), lines("memory_total"));
    for (parsers, line) in [(LOAD, &load[2]), (MEMORY, &memory[0]), (BOTH, &load[2]), (BOTH, &memory[0])] {
        for (parser, expected) in parsers {
            let got = parsed(parser, line);
            assert!(Regex::new(expected).unwrap().is_match(&got).unwrap(), "{parser}: {got:?} of {line}");
        }
    }
    for line in [&load[2], &memory[0]] {
        let line = stripped(line);
        assert!(Regex::new(r"^\S+\sheroku\s(?!router)").unwrap().is_match(&line).unwrap(), "{line}");
        assert!(
            Regex::new(r"heroku\s\w+\.\d+\s-\ssource=\w+\.\d+\sdyno=heroku\.")
                .unwrap()
                .is_match(&line)
                .unwrap()
        );
    }
    let units = |line: &str| {
        l2met(line).into_iter().map(|(key, _, unit)| format!("{key} {unit}")).collect::<Vec<_>>()
    };
    assert_eq!(units(&load[2]), ["load_avg_1m ", "load_avg_5m ", "load_avg_15m "]);
    let [mb, pages] = [["total", "rss", "cache", "swap"].as_slice(), &["pgpgin", "pgpgout"]];
    let of = |names: &[&str], unit: &str| {
        names.iter().map(|name| format!("memory_{name} {unit}")).collect::<Vec<_>>()
    };
    assert_eq!(units(&memory[0]), [of(mb, "MB"), of(pages, "pages"), of(&["quota"], "MB")].concat());
    // A young dyno's lines have what it knows.
    let young = r"sample#load_avg_1m=\d+\.\d\d( sample#load_avg_5m=\d+\.\d\d)?$";
    assert!(parsed(young, &load[1]).contains("load_avg_5m="), "{load:?}");
    assert!(parsed(young, &load[0]).contains("load_avg_1m="), "{load:?}");
    let more = lines("cpu_user");
    let third = r"^.* sample#cpu_user=\d+ms sample#cpu_system=\d+ms sample#cpu=\d+\.\d\d% sample#processes=\d+ sample#threads=\d+( sample#threads_max=\d+)? sample#open_files=\d+ sample#open_files_max=\d+ sample#received=\d+B sample#sent=(\d+)B$";
    parsed(third, &more[1]);
    // Load, memory, more: in this order, and time goes on.
    let keys: Vec<&str> = ["load_avg_1m", "memory_total", "cpu_user"].repeat(2);
    assert!(all.iter().zip(&keys).all(|((frame, _), key)| frame.message.contains(key)), "{all:?}");
    assert!(all.windows(2).all(|pair| pair[0].0.time < pair[1].0.time));
    let end = agent.end();
    rig.all_delivered(&end, 0);
    assert_eq!(end.err, "");
}

#[test]
fn the_life_of_a_web_dyno_is_told_in_order() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let rig = Rig::new().set("TAILRACE_LIFECYCLE", "on").set("PORT", &port);
    let script = "
import os, signal, socket, sys, time
print('booting', flush=True)
sys.stdin.readline()
listener = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(3)))
print('listening', flush=True)
while True: time.sleep(1)
";
    let mut agent = rig.run(&["python3", "-c", script, "$PORT"]);
    agent.wait_out("booting");
    rig.wait_lines(1);
    wait_for("the start", || (!of(&rig, "heroku", "Starting process").is_empty()).then_some(()));
    assert!(of(&rig, "heroku", "State changed").is_empty(), "nobody listens yet");
    agent.feed("go\n");
    assert!(
        rig.drain
            .wait_until(PATIENCE, |_| !of(&rig, "heroku", "State changed from starting to up").is_empty())
    );
    agent.signal(Signal::SIGTERM);
    let end = agent.end();
    assert_eq!((end.status, end.err.as_str()), (3, ""));
    let told = of(&rig, "heroku", "");
    assert!(
        told[0].starts_with("Starting process with command `python3 -c ")
            && told[0].ends_with(&format!("{port}`"))
    );
    assert_eq!(
        told[1..],
        [
            "State changed from starting to up",
            "State changed from up to down",
            "Stopping all processes with SIGTERM",
            "Process exited with status 3"
        ]
    );
    let frames = rig.drain.frames();
    let at = |text: &str| frames.iter().position(|frame| frame.message.starts_with(text)).unwrap();
    assert!(
        at("at=start") < at("Starting process")
            && at("bye") < at("Process exited")
            && at("Process exited") < at("at=stop")
    );
    let stop = of(&rig, "tailrace", "at=stop");
    assert!(stop[0].starts_with("at=stop captured=3 delivered="), "{stop:?}");
    let whole = self::frames(&rig);
    for (start, parser, expected) in STATE {
        for (frame, raw) in whole.iter().filter(|(frame, _)| frame.message.starts_with(start)) {
            assert!(is_counted(raw) && raw.contains(" <134>1 ") && frame.app == "heroku", "{raw}");
            let got = parsed(parser, raw);
            assert!(got == *expected || expected.is_empty() && got.starts_with("python3"), "{parser}: {got}");
        }
    }
    rig.all_delivered(&end, 3);
}

#[test]
fn an_app_that_listens_while_it_stops_does_not_come_up() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let rig = Rig::new().set("TAILRACE_LIFECYCLE", "on").set("PORT", &port);
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
    let mut agent = rig.run(&["python3", "-c", script]);
    agent.wait_out("booting");
    agent.shipper();
    agent.signal(Signal::SIGTERM);
    agent.wait_out("listening");
    // Several looks at the port.
    std::thread::sleep(std::time::Duration::from_secs(1));
    agent.feed("go\n");
    assert_eq!(agent.end().status, 3);
    assert_eq!(
        of(&rig, "heroku", "")[1..],
        [
            "State changed from starting to down",
            "Stopping all processes with SIGTERM",
            "Process exited with status 3"
        ]
    );
}

#[test]
fn what_tells_of_the_start_stands_before_the_first_line() {
    for _ in 0..20 {
        let rig = Rig::new().set("TAILRACE_LIFECYCLE", "on");
        let end = rig.run(&["/bin/echo", "hi"]).end();
        rig.all_delivered(&end, 1);
        let texts: Vec<String> = rig.drain.frames().into_iter().map(|frame| frame.message).collect();
        let starts: Vec<&str> = texts.iter().map(|text| text.split(' ').next().unwrap()).collect();
        assert_eq!(
            starts,
            ["at=start", "Starting", "State", "hi", "Process", "State", "at=stop"],
            "{texts:?}"
        );
    }
}

#[test]
fn a_preforked_app_is_not_counted_n_times_in_its_first_sample() {
    let rig = Rig::new().set("TAILRACE_SAMPLE_INTERVAL", "8s");
    let script = "
import os, sys
own = bytearray(os.urandom(1024)) * 60000
for _ in range(12):
    if os.fork() == 0:
        os.read(0, 1)
        os._exit(0)
print('up', flush=True)
sys.stdin.readline()
";
    let agent = rig.run(&["python3", "-c", script]);
    agent.wait_out("up");
    let (_, raw) = samples(&rig, 1).into_iter().find(|(_, raw)| raw.contains("memory_total")).unwrap();
    let total: f64 = parsed(r"memory_total=(.*?)MB", &raw).parse().unwrap();
    assert!((58.0..200.0).contains(&total), "13 processes share 60 MB: {raw}");
    agent.end();
}

#[test]
fn nobody_looks_for_a_port_that_nobody_wants_to_hear_of() {
    for lifecycle in ["off", "on"] {
        let rig = Rig::new().set("PORT", "1").set("TAILRACE_HEARTBEAT", "2s");
        let rig = rig.set("TAILRACE_SAMPLE_INTERVAL", "0").set("TAILRACE_LIFECYCLE", lifecycle);
        let agent = rig.run(&["sleep", "60"]);
        let beat =
            wait_for("two heartbeats", || Some(of(&rig, "tailrace", "at=heartbeat")).filter(|b| b.len() > 1));
        // 40 looks by now where it is wanted; each cost 10 ms and more while the tables of proc(5) were read for it.
        let cpu: u64 = parsed(r" cpu=(\d+)ms$", &beat[1]).parse().unwrap();
        assert!(cpu < 250, "{lifecycle}: {beat:?}");
        agent.signal(Signal::SIGTERM);
        agent.end();
    }
}

#[test]
fn a_task_completes_and_a_web_process_crashes() {
    for (dyno, end) in [("run.9157", "complete"), ("worker.2", "crashed")] {
        let rig = Rig::new().set("TAILRACE_LIFECYCLE", "on").set("DYNO", dyno);
        rig.sh("exit 0").end();
        let texts: Vec<String> = rig
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
                &format!("State changed from up to {end}")
            ]
        );
    }
}

#[test]
fn cedar_tells_its_own_story_and_others_have_ours() {
    for (dyno, told) in [("web.1", false), ("worker-12a34b56d-e78f9", true)] {
        let rig = Rig::new().set("DYNO", dyno);
        let end = rig.sh("exit 0").end();
        let state = rig.drain.frames().into_iter().filter(|frame| frame.app == "heroku").count();
        assert_eq!((state > 0, end.status), (told, 0), "{dyno}");
    }
}

#[test]
fn a_dyno_that_outgrows_its_quota_is_told_so() {
    let rig = Rig::new()
        .set("TAILRACE_SAMPLE_INTERVAL", "1s")
        .set("TAILRACE_MEMORY_QUOTA", "48MiB")
        .set("TAILRACE_LIFECYCLE", "on");
    let script = "import os, sys; sys.stdin.readline(); own = bytearray(os.urandom(1024)) * 60000; print('grown', flush=True); sys.stdin.readline()";
    let mut agent = rig.run(&["python3", "-c", script]);
    // At once: of a process that was small a moment ago it is believed a minute later.
    agent.feed("grow\n");
    let told = wait_for("R14", || Some(of(&rig, "heroku", "Error R14")).filter(|told| !told.is_empty()));
    assert_eq!(told[0], "Error R14 (Memory quota exceeded)");
    let frames = rig.drain.frames();
    let at = frames.iter().position(|frame| frame.message.starts_with("Error R14")).unwrap();
    let figure = parsed(r"^Process running mem=(\d+)M\(\d+\.\d%\)$", &frames[at - 1].message);
    assert!((58..90).contains(&figure.parse::<u64>().unwrap()), "{figure}");
    let told = self::frames(&rig);
    assert!(is_counted(&told[at].1) && lumbermill_takes(&told[at]), "{:?}", told[at]);
    for (_, parser, expected) in STATE.iter().filter(|(start, ..)| *start == "Error R14") {
        assert_eq!(parsed(parser, &told[at].1), *expected);
    }
    agent.end();
}

#[test]
fn the_agent_says_how_it_is_where_that_is_wanted() {
    let rig = Rig::new().set("TAILRACE_HEARTBEAT", "1s").set("TAILRACE_SAMPLE_INTERVAL", "0");
    let mut agent = rig.run(&["cat"]);
    agent.feed("1\n2\n");
    rig.wait_lines(2);
    let beat = wait_for("a heartbeat that knows of the delivery", || {
        of(&rig, "tailrace", "at=heartbeat").pop().filter(|beat| beat.contains(" held=0 "))
    });
    parsed(
        r"^at=heartbeat captured=2 delivered=2 held=0 dropped=0 rejected=0 retries=0 oldest=0s memory=\d+\.\d\dMB cpu=(\d+)ms$",
        &beat,
    );
    let start = of(&rig, "tailrace", "at=start");
    parsed(r"^at=start version=\S+ source=web\.1 app=path probe=(processes|cgroup1|cgroup2)$", &start[0]);
    let end = agent.end();
    rig.all_delivered(&end, 2);
    assert!(rig.drain.frames().iter().all(|frame| !frame.message.contains("sample#")), "samples are off");
}

#[test]
fn check_and_status_say_how_it_is_sampled() {
    let rig = Rig::new().set("TAILRACE_MEMORY_QUOTA", "512MiB");
    let text = rig.start(&["check", "--no-send"]).end().text();
    parsed(r"  probe    (processes|cgroup1|cgroup2), quota 512 MB by TAILRACE_MEMORY_QUOTA", &text);
    let agent = rig.run(&["cat"]);
    let told = wait_for("a probe", || {
        let told = Command::new(program()).arg("status").env_clear().output().unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        let own = text.split("\n\n").find(|part| part.contains(&format!("pid {}, up ", agent.pid())))?;
        own.contains("quota 512 MB").then(|| own.to_owned())
    });
    parsed(r"  probe       (processes|cgroup1|cgroup2), quota 512 MB by TAILRACE_MEMORY_QUOTA", &told);
    agent.end();
}
