//! What tini, dumb-init and catatonit are tested for, and what nobody tests: in both modes, in three languages.

use crate::harness::{Rig, numbers, wait_for};
use crate::launch::{Language, Mode};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Every signal that is passed on, and that a program in any language can hear of.
const HEARD: [&str; 17] = [
    "HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "STKFLT", "CONT", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
    "WINCH", "IO", "PWR", "TSTP",
];

/// Says each signal that comes, in order; ends with 3 at SIGTERM.
const HEARS: &str = "
import os, signal, sys
names = sys.argv[1].split()
def heard(number, _):
    os.write(1, (names[numbers.index(number)] + '\\n').encode())
    if names[numbers.index(number)] == 'TERM': os._exit(3)
numbers = [getattr(signal, 'SIG' + name, 16) for name in names]
for number in numbers: signal.signal(number, heard)
print('up')
while True: signal.pause()
";

#[test]
fn an_app_that_a_signal_ends_has_that_status() {
    for mode in Mode::all() {
        // Those at the end are real-time signals.
        for signal in [1, 3, 6, 9, 11, 15, 35, 64] {
            let rig = Rig::new();
            let script = format!("ulimit -c 0; echo up; kill -{signal} $$; sleep 60");
            let end = mode.run(&rig, &["sh", "-c", &script]).agent.end();
            assert_eq!((end.status, end.err.as_str()), (128 + signal, ""), "{mode:?}: {signal}");
            rig.all_delivered(&end, 1);
        }
    }
}

#[test]
fn statuses_are_the_apps_in_every_language() {
    for mode in Mode::all() {
        for language in Language::all() {
            for status in [0, 1, 2, 32, 64, 126, 127, 254, 255] {
                let rig = Rig::new();
                let text = match language {
                    Language::Bash => format!("echo $$; exit {status}"),
                    Language::Python => format!("import sys; print(1); sys.exit({status})"),
                    Language::Node => format!("console.log(1); process.exitCode = {status}"),
                };
                let end = mode.run(&rig, &language.words(&text)).agent.end();
                assert_eq!((end.status, end.err.as_str()), (status, ""), "{mode:?}: {language:?}");
                rig.all_delivered(&end, 1);
            }
        }
    }
}

#[test]
fn a_signal_to_us_ends_an_app_that_does_not_expect_it() {
    for mode in Mode::all() {
        for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGUSR1, 138), (Signal::SIGUSR2, 140)] {
            let rig = Rig::new();
            let running = mode.run(&rig, &["sh", "-c", "echo up; exec sleep 60"]);
            running.agent.wait_out("up");
            running.shipper();
            running.signal(signal);
            let end = running.agent.end();
            assert_eq!((end.status, end.err.as_str()), (status, ""), "{mode:?}: {signal}");
            rig.all_delivered(&end, 1);
        }
    }
}

#[test]
fn every_signal_reaches_the_app_once_and_in_order() {
    for mode in Mode::all() {
        let rig = Rig::new();
        let names = HEARD.join(" ") + " TERM";
        let running = mode.run(&rig, &["python3", "-uc", HEARS, &names]);
        running.agent.wait_out("up");
        running.shipper();
        let mut said = String::from("up\n");
        for name in HEARD.iter().chain(&HEARD) {
            running.signal(format!("SIG{name}").parse().unwrap());
            said.push_str(name);
            said.push('\n');
            running.agent.wait_out(&said);
        }
        running.signal(Signal::SIGTERM);
        let end = running.agent.end();
        assert_eq!((end.status, end.text(), end.err.as_str()), (3, said + "TERM\n", ""), "{mode:?}");
    }
}

#[test]
fn a_stop_reaches_apps_in_every_language_once() {
    for mode in Mode::all() {
        for language in Language::all() {
            let text = match language {
                Language::Bash => {
                    "trap 'echo term; n=1' TERM; echo up; until [ $n ]; do sleep 0.05 & wait $!; done; \
                     for i in 1 2 3 4 5 6 7 8; do sleep 0.05 & wait $!; done; exit 9"
                }
                Language::Python => {
                    "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: print('term'))\n\
                     print('up')\nsignal.pause()\nend = time.monotonic() + 0.4\n\
                     while time.monotonic() < end: time.sleep(0.05)\nsys.exit(9)"
                }
                Language::Node => {
                    "process.on('SIGTERM', () => { console.log('term'); setTimeout(() => process.exit(9), 400); }); \
                     console.log('up'); setInterval(() => {}, 1000);"
                }
            };
            for to_all in [false, true] {
                let rig = Rig::new();
                let running = mode.run(&rig, &language.words(text));
                running.agent.wait_out("up");
                running.shipper();
                if to_all && language != Language::Bash {
                    running.signal_all(Signal::SIGTERM);
                } else {
                    running.signal(Signal::SIGTERM);
                }
                let end = running.agent.end();
                let told = (end.status, end.text(), end.err.as_str());
                assert_eq!(told, (9, "up\nterm\n".to_owned(), ""), "{mode:?}, {language:?}, all: {to_all}");
                rig.all_delivered(&end, 2);
            }
        }
    }
}

#[test]
fn repeats_of_a_broadcast_do_not_multiply() {
    for mode in Mode::all() {
        for repeats in [1, 3, 5] {
            for pause in [0, 100, 500] {
                let rig = Rig::new();
                let running = mode.run(&rig, &["python3", "-uc", COUNTS]);
                running.agent.wait_out("up");
                running.shipper();
                for _ in 0..repeats {
                    running.signal_all(Signal::SIGTERM);
                    std::thread::sleep(Duration::from_millis(pause));
                }
                std::thread::sleep(Duration::from_millis(250));
                running.signal_all(Signal::SIGUSR1);
                let end = running.agent.end();
                let told: u32 = end.text().trim_start_matches("up\n").trim().parse().unwrap();
                assert!((1..=repeats).contains(&told), "{mode:?}: {told} of {repeats}, {pause} ms apart");
                assert_eq!((end.status, end.err.as_str()), (3, ""));
            }
        }
    }
}

/// Counts SIGTERMs until SIGUSR1.
const COUNTS: &str = "
import signal, sys
told = 0
def term(*_):
    global told
    told += 1
def usr1(*_):
    print(told)
    sys.exit(3)
signal.signal(signal.SIGTERM, term)
signal.signal(signal.SIGUSR1, usr1)
print('up')
while True: signal.pause()
";

#[test]
fn a_signal_is_for_the_app_and_not_for_its_children() {
    for mode in Mode::all() {
        let rig = Rig::new();
        let script = "trap '' USR1; sh -c 'trap \"echo child\" USR1; echo up; for i in $(seq 20); do sleep 0.05; done'; \
                      exit 4";
        let running = mode.run(&rig, &["bash", "-c", script]);
        running.agent.wait_out("up");
        running.shipper();
        running.signal(Signal::SIGUSR1);
        let end = running.agent.end();
        assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (4, "up\n", ""), "{mode:?}");
    }
}

#[test]
fn what_the_app_sends_to_us_or_to_its_group_is_no_stop() {
    // By the app itself; by a child that is gone at once; by one whose parent is gone; to the whole group.
    let to_us = [
        ("os.kill(keeper, signal.SIGTERM)", false),
        ("subprocess.run(['sh', '-c', f'kill -TERM {keeper}; sleep 0.2'])", false),
        ("subprocess.run(['sh', '-c', f'(sleep 0.2; kill -TERM {keeper}; sleep 0.3) & exit 0'])", false),
        ("os.kill(0, signal.SIGTERM)", true),
    ];
    for mode in Mode::all() {
        for (call, has_own) in to_us {
            // Gone at once: in a container nobody else could have sent it.
            let variants = if mode == Mode::First && !has_own {
                vec![call.to_owned(), "subprocess.run(['/bin/kill', '-TERM', str(keeper)])".to_owned()]
            } else {
                vec![call.to_owned()]
            };
            for call in variants {
                let rig = Rig::new().set("TAILRACE_STOP_GRACE", "1s");
                let text = format!(
                    "import os, signal, subprocess, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
keeper = os.getppid()
{call}
end = time.monotonic() + 2
while time.monotonic() < end: time.sleep(0.05)
print('own', len(told))
sys.stdin.readline()
print('all', len(told))
while len(told) < {expected}: time.sleep(0.05)
time.sleep(0.5)
print('end', len(told))
sys.exit(5)",
                    expected = 1 + u32::from(has_own)
                );
                let mut running = mode.run(&rig, &["python3", "-uc", &text]);
                let own = u32::from(has_own);
                running.agent.wait_out(&format!("own {own}\n"));
                // Past the grace: nothing has been said, and delivery goes on.
                rig.wait_lines(1);
                assert_eq!(running.agent.err(), "", "{mode:?}: {call}");
                assert!(running.agent.ledger_text().is_none(), "{mode:?}: {call}");
                running.agent.feed("go\n");
                running.agent.wait_out(&format!("all {own}\n"));
                // A stop that is one.
                running.signal(Signal::SIGTERM);
                let end = running.agent.end();
                let text = format!("own {own}\nall {own}\nend {}\n", own + 1);
                assert_eq!((end.status, end.text(), end.err.as_str()), (5, text, ""), "{mode:?}: {call}");
                rig.all_delivered(&end, 3);
            }
        }
    }
}

#[test]
fn signal_masks_and_ignored_signals_are_the_apps() {
    // Set up by a program that execs tailrace; shown by the app.
    let set = "
import os, signal, sys
for name in sys.argv[1].split(): signal.signal(getattr(signal, 'SIG' + name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, 'SIG' + name) for name in sys.argv[2].split()])
os.execvp(sys.argv[3], sys.argv[3:])";
    let show = "grep -E '^Sig(Ign|Blk)' /proc/self/status | tr -d '[:space:]'; exit 6";
    for (ignored, blocked) in [("", ""), ("TTOU SEGV INT CHLD", "TTIN ILL TERM USR1"), ("PIPE XFSZ", "CHLD")]
    {
        let before = ["python3", "-c", set, ignored, blocked];
        let shown = |rig: &Rig, mode: Mode| {
            let end = mode.through(rig, &before, &["sh", "-c", show]).agent.end();
            assert_eq!((end.status, end.err.as_str()), (6, ""), "{mode:?}: {ignored}, {blocked}");
            end.text()
        };
        for mode in Mode::all() {
            let bare = shown(&Rig::new().set("TAILRACE", "off"), mode);
            let wrapped = shown(&Rig::new(), mode);
            let only = |text: &str| -> Vec<u64> {
                // Signals 32 to 34 are the C library's own.
                let sets = text.split("Sig").filter_map(|set| u64::from_str_radix(set.get(4..)?, 16).ok());
                sets.map(|set| set & !(7 << 31)).collect()
            };
            assert!(only(&bare).len() == 2, "{bare}");
            assert_eq!(only(&wrapped), only(&bare), "{mode:?}: {ignored}, {blocked}");
        }
    }
}

#[test]
fn who_ignores_the_end_of_children_is_told_of_ours() {
    let ignores = "import os, signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nos.execvp(sys.argv[1], sys.argv[1:])";
    for mode in Mode::all() {
        let rig = Rig::new();
        let running = mode.through(&rig, &["python3", "-c", ignores], &["bash", "-c", "echo up; exit 3"]);
        let end = running.agent.end();
        assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "up\n", ""), "{mode:?}");
        rig.all_delivered(&end, 1);
    }
}

#[test]
fn a_limit_of_file_sizes_ends_nobody() {
    for mode in Mode::all() {
        for limit in ["0", "100"] {
            let rig = Rig::new();
            // Pass-through to a pipe: the limit is of files.
            let script =
                format!("exec 3>&1; (ulimit -f {limit}; exec \"$@\") | cat >&3; exit ${{PIPESTATUS[0]}}");
            let running =
                mode.through(&rig, &["bash", "-c", &script, "bash"], &["bash", "-c", "seq 30000; exit 3"]);
            let end = running.agent.end();
            assert_eq!(end.status, 3, "{mode:?}: ulimit -f {limit}: {}", end.err);
        }
    }
}

#[test]
fn the_directory_that_it_was_started_in_may_go() {
    for mode in Mode::all() {
        let rig = Rig::new();
        let dir = rig.path("app");
        fs::create_dir(&dir).unwrap();
        let script = format!("cd {} && exec \"$@\"", dir.display());
        let words = ["bash", "-c", "pwd; read line; exit 3"];
        let mut running = mode.through(&rig, &["bash", "-c", &script, "bash"], &words);
        running.agent.wait_out("/app\n");
        for pid in [running.keeper(), running.shipper()] {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
            assert_eq!(cwd.to_str(), Some("/"), "{mode:?}");
        }
        running.agent.feed("go\n");
        let end = running.agent.end();
        assert_eq!((end.status, end.err.as_str()), (3, ""));
        rig.all_delivered(&end, 1);
    }
}

#[test]
fn relative_paths_in_settings_are_the_apps() {
    let rig = Rig::new();
    fs::copy(rig.drain.ca_file(), rig.path("ca.pem")).unwrap();
    let rig = rig.set("TAILRACE_CA_FILE", "ca.pem").set("TAILRACE_SPOOL_DIR", "a/spool");
    let here = rig.path("");
    let agent = rig.start_with(|command| {
        command.current_dir(&here).args(["run", "--", "echo", "one"]);
    });
    let end = agent.end();
    assert_eq!((end.status, end.err.as_str()), (0, ""));
    assert_eq!(rig.agree(&end).delivered, 1);
    assert!(rig.path("a/spool").is_dir());
}

#[test]
fn streams_that_were_closed_are_closed_for_the_app() {
    for mode in Mode::all() {
        for off in ["off", "on"] {
            let rig = Rig::new().set("TAILRACE", off);
            let script = "test -e /proc/self/fd/0 && exit 1; readlink /proc/$$/fd/0; exit 4";
            let before = ["bash", "-c", "exec \"$@\" <&-", "bash"];
            let end = mode.through(&rig, &before, &["bash", "-c", script]).agent.end();
            assert_eq!((end.status, end.text().as_str()), (4, ""), "{mode:?}, {off}: {}", end.err);
        }
    }
}

#[test]
fn a_program_that_cannot_run_is_named_and_options_are_its_own() {
    for mode in Mode::all() {
        let rig = Rig::new();
        let file = rig.path("no-program");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let odd = rig.path("-x");
        fs::write(&odd, "#!/bin/sh\necho odd \"$@\"; exit 8\n").unwrap();
        fs::set_permissions(&odd, fs::Permissions::from_mode(0o755)).unwrap();
        let rig = rig
            .set("PATH", &format!("{}:{}", odd.parent().unwrap().display(), std::env::var("PATH").unwrap()));
        for (words, status) in [
            (["/nonexistent"].as_slice(), 127),
            (&[file.to_str().unwrap()], 126),
            (&["/"], 126),
            (&[""], 127),
        ] {
            let end = mode.run(&rig, words).agent.end();
            assert_eq!((end.status, end.said().len(), end.out.len()), (status, 1, 0), "{mode:?}: {words:?}");
            assert!(end.said()[0].contains("at=cannot-start"), "{}", end.err);
        }
        let end = mode.run(&rig, &["-x", "--version", "--", "-v"]).agent.end();
        assert_eq!((end.status, end.text().as_str()), (8, "odd --version -- -v\n"), "{mode:?}: {}", end.err);
    }
}

#[test]
fn an_app_that_catches_the_suspension_is_not_left_behind() {
    for mode in Mode::all() {
        let rig = Rig::new();
        let text = "
import signal, sys
signal.signal(signal.SIGTSTP, lambda *_: print('quiet'))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print('up')
while True: signal.pause()";
        let running = mode.run(&rig, &["python3", "-uc", text]);
        running.agent.wait_out("up");
        running.shipper();
        running.signal(Signal::SIGTSTP);
        running.agent.wait_out("quiet");
        // For terminals only: neither stops us.
        running.signal(Signal::SIGTTOU);
        running.signal(Signal::SIGTTIN);
        running.signal(Signal::SIGTERM);
        let end = running.agent.end();
        assert_eq!((end.status, end.text().as_str(), end.err.as_str()), (3, "up\nquiet\n", ""), "{mode:?}");
        rig.all_delivered(&end, 2);
    }
}

#[test]
fn last_words_and_deadlines_hold_in_a_container_too() {
    if !Mode::all().contains(&Mode::First) {
        return;
    }
    let rig = Rig::new();
    let script = "trap 'seq 300000; exit 4' TERM; echo up; while :; do sleep 0.1; done";
    let running = Mode::First.run(&rig, &["sh", "-c", script]);
    running.agent.wait_out("up");
    running.shipper();
    running.signal(Signal::SIGTERM);
    let end = running.agent.end();
    assert_eq!(end.status, 4, "{}", end.err);
    assert!(end.text() == format!("up\n{}", numbers(1..=300_000)), "{} bytes", end.out.len());
    rig.all_delivered(&end, 300_001);
    for fault in
        ["refuse", "stall=600s", "tls-stall", "slow-read=1B/s", "status=500", "status=429:retry-after=600"]
    {
        let rig = Rig::with_faults(fault).set("TAILRACE_STOP_GRACE", "1s");
        let running = Mode::First.run(&rig, &["sh", "-c", "seq 20; exec sleep 60"]);
        running.agent.wait_out("\n20\n");
        running.shipper();
        running.signal(Signal::SIGTERM);
        let end = running.agent.end();
        let account = end.ledger().drains[0].clone();
        assert_eq!((end.status, account.held, account.delivered), (143, 20, 0), "{fault}: {}", end.err);
        assert_eq!(end.err.matches("at=lines-not-delivered").count(), 1, "{fault}: {}", end.err);
    }
}

#[test]
fn a_shipper_that_dies_in_a_container_is_replaced() {
    if !Mode::all().contains(&Mode::First) {
        return;
    }
    let rig = Rig::new();
    let mut running = Mode::First.run(&rig, &["cat"]);
    running.agent.feed(numbers(1..=1000));
    rig.wait_lines(1000);
    let shipper = running.shipper();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shipper), Signal::SIGKILL).unwrap();
    running.agent.feed(numbers(1001..=2000));
    wait_for("another shipper", || (running.shipper() != shipper).then_some(()));
    let end = running.agent.end();
    assert_eq!((end.status, end.text()), (0, numbers(1..=2000)));
    rig.all_delivered(&end, 2000);
}
