//! Behaviour that tini, dumb-init and catatonit are tested for, and more: in both launch modes, in three languages.

use crate::harness::{Harness, numbers, quoted, wait_until};
use crate::launch::{COUNTS_SIGTERM, Language, LaunchMode};
use crate::threads::check_in_threads;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Every signal that is forwarded and that programs in any language can handle.
const SIGNALS: [&str; 17] = [
    "HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "STKFLT", "CONT", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
    "WINCH", "IO", "PWR", "TSTP",
];

/// Prints the name of each signal it gets, of those named in its argument; exits with 3 at SIGTERM.
const PRINTS_SIGNALS: &str = "
import os, signal, sys, time
names = sys.argv[1].split()
def handle(number, _):
    os.write(1, (names[numbers.index(number)] + '\\n').encode())
    if names[numbers.index(number)] == 'TERM': os._exit(3)
numbers = [getattr(signal, 'SIG' + name, 16) for name in names]
for number in numbers: signal.signal(number, handle)
print('up')
while True: time.sleep(0.05)
";

#[test]
fn the_status_of_an_app_that_a_signal_kills_is_128_plus_the_signal() {
    for mode in LaunchMode::all() {
        // The last two are real-time signals.
        for signal in [1, 3, 6, 9, 11, 15, 35, 64] {
            let harness = Harness::new();
            let script = format!("ulimit -c 0; echo up; kill -{signal} $$; sleep 60");
            let output = mode.run(&harness, &["sh", "-c", &script]).agent.finish();
            assert_eq!((output.status, output.stderr.as_str()), (128 + signal, ""), "{mode:?}: {signal}");
            harness.assert_all_delivered(&output, 1);
        }
    }
}

#[test]
fn the_exit_status_is_that_of_the_app_in_every_language() {
    let languages = Language::installed();
    let in_mode = |mode| languages.iter().map(move |language| (mode, *language));
    check_in_threads(4, LaunchMode::all().into_iter().flat_map(in_mode), |(mode, language)| {
        for status in [0, 1, 2, 32, 64, 126, 127, 254, 255] {
            let harness = Harness::new();
            let text = match language {
                Language::Bash => format!("echo $$; exit {status}"),
                Language::Python => format!("import sys; print(1); sys.exit({status})"),
                Language::Node => format!("console.log(1); process.exitCode = {status}"),
            };
            let output = mode.run(&harness, &language.command(&text)).agent.finish();
            assert_eq!((output.status, output.stderr.as_str()), (status, ""), "{mode:?}: {language:?}");
            harness.assert_all_delivered(&output, 1);
        }
    });
}

#[test]
fn a_forwarded_signal_kills_an_app_without_a_handler() {
    for mode in LaunchMode::all() {
        for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGUSR1, 138), (Signal::SIGUSR2, 140)] {
            let harness = Harness::new();
            let launched = mode.run(&harness, &["sh", "-c", "echo up; exec sleep 60"]);
            launched.agent.wait_for_stdout("up\n");
            launched.wait_for_shipper();
            launched.signal(signal);
            let output = launched.agent.finish();
            assert_eq!((output.status, output.stderr.as_str()), (status, ""), "{mode:?}: {signal}");
            harness.assert_all_delivered(&output, 1);
        }
    }
}

#[test]
fn every_signal_is_forwarded_once_and_in_order() {
    for mode in LaunchMode::all() {
        let harness = Harness::new();
        let names = SIGNALS.join(" ") + " TERM";
        let launched = mode.run(&harness, &["python3", "-uc", PRINTS_SIGNALS, &names]);
        launched.agent.wait_for_stdout("up\n");
        launched.wait_for_shipper();
        let mut expected = String::from("up\n");
        for name in SIGNALS.iter().chain(&SIGNALS) {
            launched.signal(format!("SIG{name}").parse().unwrap());
            expected.push_str(name);
            expected.push('\n');
            launched.agent.wait_for_stdout(&expected);
        }
        launched.signal(Signal::SIGTERM);
        let output = launched.agent.finish();
        assert_eq!(
            (output.status, output.stdout_text(), output.stderr.as_str()),
            (3, expected + "TERM\n", ""),
            "{mode:?}"
        );
    }
}

#[test]
fn a_stop_reaches_apps_in_every_language_once() {
    let languages = Language::installed();
    let in_mode =
        |mode| languages.iter().flat_map(move |language| [false, true].map(|all| (mode, *language, all)));
    check_in_threads(4, LaunchMode::all().into_iter().flat_map(in_mode), |(mode, language, to_all)| {
        let text = match language {
            Language::Bash => {
                "trap 'echo term; n=1' TERM; echo up; until [ $n ]; do sleep 0.05 & wait $!; done; \
                 for i in 1 2 3 4 5 6 7 8; do sleep 0.05 & wait $!; done; exit 9"
            }
            Language::Python => {
                "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: got.append(print('term')))\n\
                 got = []\nprint('up')\nwhile not got: time.sleep(0.05)\nend = time.monotonic() + 0.4\n\
                 while time.monotonic() < end: time.sleep(0.05)\nsys.exit(9)"
            }
            Language::Node => {
                "process.on('SIGTERM', () => { console.log('term'); setTimeout(() => process.exit(9), 400); }); \
                 console.log('up'); setInterval(() => {}, 1000);"
            }
        };
        let harness = Harness::new();
        let launched = mode.run(&harness, &language.command(text));
        launched.agent.wait_for_stdout("up\n");
        launched.wait_for_shipper();
        if to_all && language != Language::Bash {
            launched.signal_every_process(Signal::SIGTERM);
        } else {
            launched.signal(Signal::SIGTERM);
        }
        let output = launched.agent.finish();
        let result = (output.status, output.stdout_text(), output.stderr.as_str());
        assert_eq!(result, (9, "up\nterm\n".to_owned(), ""), "{mode:?}, {language:?}, all: {to_all}");
        harness.assert_all_delivered(&output, 2);
    });
}

#[test]
fn repeated_signals_to_every_process_are_not_multiplied() {
    let modes = LaunchMode::all();
    let at_pause =
        |pause| modes.iter().flat_map(move |mode| [5, 3, 1].map(|repeats| (*mode, pause, repeats)));
    check_in_threads(6, [500, 100, 0].into_iter().flat_map(at_pause), |(mode, pause, repeats)| {
        let harness = Harness::new();
        let launched = mode.run(&harness, &["python3", "-uc", COUNTS_SIGTERM]);
        launched.agent.wait_for_stdout("up\n");
        launched.wait_for_shipper();
        for _ in 0..repeats {
            launched.signal_every_process(Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(pause));
        }
        // Time to forward one too many; then USR1 ends the app.
        std::thread::sleep(Duration::from_millis(250));
        launched.signal(Signal::SIGUSR1);
        let output = launched.agent.finish();
        let count: u32 = output.stdout_text().trim_start_matches("up\n").trim().parse().unwrap();
        assert!((1..=repeats).contains(&count), "{mode:?}: {count} of {repeats}, {pause} ms apart");
        assert_eq!((output.status, output.stderr.as_str()), (3, ""));
    });
}

#[test]
fn a_signal_is_forwarded_to_the_app_and_not_to_its_children() {
    // The child waits for a line, so it runs when the app has handled the signal.
    let text = "
import signal, subprocess, sys
signal.signal(signal.SIGUSR1, lambda *_: print('app'))
child = ['sh', '-c', 'trap \"echo child\" USR1; echo up; read line']
sys.exit(4 if subprocess.run(child).returncode == 0 else 1)";
    for mode in LaunchMode::all() {
        let harness = Harness::new();
        let mut launched = mode.run(&harness, &["python3", "-uc", text]);
        launched.agent.wait_for_stdout("up\n");
        launched.wait_for_shipper();
        launched.signal(Signal::SIGUSR1);
        launched.agent.wait_for_stdout("up\napp\n");
        launched.agent.feed("go\n");
        let output = launched.agent.finish();
        assert_eq!(
            (output.status, output.stdout_text().as_str(), output.stderr.as_str()),
            (4, "up\napp\n", ""),
            "{mode:?}"
        );
    }
}

#[test]
fn a_sigterm_from_the_app_to_the_supervisor_or_its_group_is_no_stop() {
    // From the app, from its child, from an orphaned grandchild, and to the whole group. The flag is whether the app
    // gets its own signal.
    let senders = [
        ("os.kill(supervisor, signal.SIGTERM)", false),
        ("subprocess.run(['sh', '-c', f'kill -TERM {supervisor}; sleep 0.2'])", false),
        ("subprocess.run(['sh', '-c', f'(sleep 0.2; kill -TERM {supervisor}; sleep 0.3) & exit 0'])", false),
        ("os.kill(0, signal.SIGTERM)", true),
    ];
    let modes = LaunchMode::all();
    let mut cases: Vec<_> = modes
        .iter()
        .flat_map(|mode| senders.map(|(call, includes_app)| (*mode, call, includes_app)))
        .collect();
    if modes.contains(&LaunchMode::Pid1) {
        // From a child that exits at once: in a PID namespace the signal cannot have another sender.
        cases.push((LaunchMode::Pid1, "subprocess.run(['kill', '-TERM', str(supervisor)])", false));
    }
    check_in_threads(cases.len(), cases, |(mode, call, includes_app)| {
        let harness = Harness::new().set("TAILRACE_STOP_GRACE", "2s");
        let text = format!(
            "import os, signal, subprocess, sys, time
received = []
signal.signal(signal.SIGTERM, lambda *_: received.append(1))
supervisor = os.getppid()
{call}
end = time.monotonic() + 3
while time.monotonic() < end: time.sleep(0.05)
print('before', len(received))
sys.stdin.readline()
print('after', len(received))
while len(received) < {expected}: time.sleep(0.05)
time.sleep(0.5)
print('end', len(received))
sys.exit(5)",
            expected = 1 + u32::from(includes_app)
        );
        let mut launched = mode.run(&harness, &["python3", "-uc", &text]);
        let received = u32::from(includes_app);
        launched.agent.wait_for_stdout(&format!("before {received}\n"));
        // After the stop grace: no message was printed, and delivery goes on.
        harness.wait_for_lines(1);
        assert_eq!(launched.agent.stderr(), "", "{mode:?}: {call}");
        assert!(launched.agent.ledger_text().is_none(), "{mode:?}: {call}");
        launched.agent.feed("go\n");
        launched.agent.wait_for_stdout(&format!("after {received}\n"));
        // A real stop.
        launched.signal(Signal::SIGTERM);
        let output = launched.agent.finish();
        let text = format!("before {received}\nafter {received}\nend {}\n", received + 1);
        assert_eq!(
            (output.status, output.stdout_text(), output.stderr.as_str()),
            (5, text, ""),
            "{mode:?}: {call}"
        );
        harness.assert_all_delivered(&output, 3);
    });
}

#[test]
fn the_app_inherits_the_signal_mask_and_ignored_signals() {
    // Set by a program that executes tailrace; printed by the app.
    let set = "
import os, signal, sys
for name in sys.argv[1].split(): signal.signal(getattr(signal, 'SIG' + name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, 'SIG' + name) for name in sys.argv[2].split()])
os.execvp(sys.argv[3], sys.argv[3:])";
    let show = "grep -E '^Sig(Ign|Blk)' /proc/self/status | tr -d '[:space:]'; exit 6";
    for (ignored, blocked) in [("", ""), ("TTOU SEGV INT CHLD", "TTIN ILL TERM USR1"), ("PIPE XFSZ", "CHLD")]
    {
        let prefix = ["python3", "-c", set, ignored, blocked];
        let printed = |harness: &Harness, mode: LaunchMode| {
            let output = mode.run_via(harness, &prefix, &["sh", "-c", show]).agent.finish();
            assert_eq!((output.status, output.stderr.as_str()), (6, ""), "{mode:?}: {ignored}, {blocked}");
            output.stdout_text()
        };
        for mode in LaunchMode::all() {
            let replaced = printed(&Harness::new().set("TAILRACE", "off"), mode);
            let wrapped = printed(&Harness::new(), mode);
            let signal_sets = |text: &str| -> Vec<u64> {
                // Signals 32 to 34 are reserved by the C library.
                let sets = text.split("Sig").filter_map(|set| u64::from_str_radix(set.get(4..)?, 16).ok());
                sets.map(|set| set & !(7 << 31)).collect()
            };
            assert!(signal_sets(&replaced).len() == 2, "{replaced}");
            assert_eq!(signal_sets(&wrapped), signal_sets(&replaced), "{mode:?}: {ignored}, {blocked}");
        }
    }
}

#[test]
fn an_ignored_sigchld_does_not_hide_the_exit_status() {
    let ignores = "import os, signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nos.execvp(sys.argv[1], sys.argv[1:])";
    for mode in LaunchMode::all() {
        let harness = Harness::new();
        let launched =
            mode.run_via(&harness, &["python3", "-c", ignores], &["bash", "-c", "echo up; exit 3"]);
        let output = launched.agent.finish();
        assert_eq!(
            (output.status, output.stdout_text().as_str(), output.stderr.as_str()),
            (3, "up\n", ""),
            "{mode:?}"
        );
        harness.assert_all_delivered(&output, 1);
    }
}

#[test]
fn a_file_size_limit_kills_neither_agent_nor_app() {
    for mode in LaunchMode::all() {
        for limit in ["0", "100"] {
            let harness = Harness::new();
            // Output goes to a pipe, because the limit applies to files.
            let script =
                format!("exec 3>&1; (ulimit -f {limit}; exec \"$@\") | cat >&3; exit ${{PIPESTATUS[0]}}");
            let launched = mode.run_via(
                &harness,
                &["bash", "-c", &script, "bash"],
                &["bash", "-c", "seq 30000; exit 3"],
            );
            let output = launched.agent.finish();
            assert_eq!(output.status, 3, "{mode:?}: ulimit -f {limit}: {}", output.stderr);
        }
    }
}

#[test]
fn the_agent_does_not_keep_its_working_directory_busy() {
    for mode in LaunchMode::all() {
        let harness = Harness::new();
        let dir = harness.path("app");
        fs::create_dir(&dir).unwrap();
        let script = format!("cd {} && exec \"$@\"", quoted(&dir));
        let command = ["bash", "-c", "pwd; read line; exit 3"];
        let mut launched = mode.run_via(&harness, &["bash", "-c", &script, "bash"], &command);
        launched.agent.wait_for_stdout("/app\n");
        for pid in [launched.supervisor_pid(), launched.wait_for_shipper()] {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
            assert_eq!(cwd.to_str(), Some("/"), "{mode:?}");
        }
        launched.agent.feed("go\n");
        let output = launched.agent.finish();
        assert_eq!((output.status, output.stderr.as_str()), (3, ""));
        harness.assert_all_delivered(&output, 1);
    }
}

#[test]
fn relative_paths_in_settings_start_at_the_working_directory() {
    let harness = Harness::new();
    fs::copy(harness.drain.ca_file(), harness.path("ca.pem")).unwrap();
    let harness = harness.set("TAILRACE_CA_FILE", "ca.pem").set("TAILRACE_SPOOL_DIR", "a/spool");
    let here = harness.path("");
    let agent = harness.start_with(|command| {
        command.current_dir(&here).args(["run", "--", "echo", "one"]);
    });
    let output = agent.finish();
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    assert_eq!(harness.reconcile(&output).delivered, 1);
    assert!(harness.path("a/spool").is_dir());
}

#[test]
fn a_closed_standard_input_is_closed_for_the_app() {
    for mode in LaunchMode::all() {
        for setting in ["off", "on"] {
            let harness = Harness::new().set("TAILRACE", setting);
            let script = "test -e /proc/self/fd/0 && exit 1; readlink /proc/$$/fd/0; exit 4";
            let prefix = ["bash", "-c", "exec \"$@\" <&-", "bash"];
            let output = mode.run_via(&harness, &prefix, &["bash", "-c", script]).agent.finish();
            assert_eq!(
                (output.status, output.stdout_text().as_str()),
                (4, ""),
                "{mode:?}, {setting}: {}",
                output.stderr
            );
        }
    }
}

#[test]
fn a_program_that_cannot_run_is_reported_and_options_belong_to_the_program() {
    for mode in LaunchMode::all() {
        let harness = Harness::new();
        let file = harness.path("no-program");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let dashed = harness.path("-x");
        fs::write(&dashed, "#!/bin/sh\necho ran \"$@\"; exit 8\n").unwrap();
        fs::set_permissions(&dashed, fs::Permissions::from_mode(0o755)).unwrap();
        let harness = harness.set(
            "PATH",
            &format!("{}:{}", dashed.parent().unwrap().display(), std::env::var("PATH").unwrap()),
        );
        let absent = harness.absent_path();
        for (command, status) in [
            ([absent.to_str().unwrap()].as_slice(), 127),
            (&[file.to_str().unwrap()], 126),
            (&["/"], 126),
            (&[""], 127),
        ] {
            let output = mode.run(&harness, command).agent.finish();
            assert_eq!(
                (output.status, output.messages().len(), output.stdout.len()),
                (status, 1, 0),
                "{mode:?}: {command:?}"
            );
            assert!(output.messages()[0].contains("at=cannot-start"), "{}", output.stderr);
        }
        let output = mode.run(&harness, &["-x", "--version", "--", "-v"]).agent.finish();
        assert_eq!(
            (output.status, output.stdout_text().as_str()),
            (8, "ran --version -- -v\n"),
            "{mode:?}: {}",
            output.stderr
        );
    }
}

#[test]
fn a_script_without_an_interpreter_runs_through_sh() {
    for mode in LaunchMode::all() {
        let harness = Harness::new();
        let file = harness.path("start");
        fs::write(&file, "echo \"$1\" $#; exit 3\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", file.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let harness = harness.set("PATH", &path);
        for command in [file.to_str().unwrap(), "start"] {
            let output = mode.run(&harness, &[command, "a b", ""]).agent.finish();
            output.assert_exit(3, "a b 2\n", "");
        }
        // The same without the agent.
        let harness = harness.set("TAILRACE", "off");
        let output = mode.run(&harness, &["start", "a b", ""]).agent.finish();
        output.assert_exit(3, "a b 2\n", "");
    }
}

#[test]
fn the_supervisor_keeps_running_when_the_app_handles_sigtstp() {
    for mode in LaunchMode::all() {
        let harness = Harness::new();
        let text = "
import signal, sys, time
signal.signal(signal.SIGTSTP, lambda *_: print('tstp'))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print('up')
while True: time.sleep(0.05)";
        let launched = mode.run(&harness, &["python3", "-uc", text]);
        launched.agent.wait_for_stdout("up\n");
        launched.wait_for_shipper();
        launched.signal(Signal::SIGTSTP);
        launched.agent.wait_for_stdout("tstp\n");
        // Neither of these stops the supervisor.
        launched.signal(Signal::SIGTTOU);
        launched.signal(Signal::SIGTTIN);
        launched.signal(Signal::SIGTERM);
        let output = launched.agent.finish();
        assert_eq!(
            (output.status, output.stdout_text().as_str(), output.stderr.as_str()),
            (3, "up\ntstp\n", ""),
            "{mode:?}"
        );
        harness.assert_all_delivered(&output, 2);
    }
}

#[test]
fn last_lines_are_delivered_as_pid_1() {
    if !LaunchMode::all().contains(&LaunchMode::Pid1) {
        return;
    }
    let harness = Harness::new();
    let script = "trap 'seq 300000; exit 4' TERM; echo up; while :; do sleep 0.1; done";
    let launched = LaunchMode::Pid1.run(&harness, &["sh", "-c", script]);
    launched.agent.wait_for_stdout("up\n");
    launched.wait_for_shipper();
    launched.signal(Signal::SIGTERM);
    let output = launched.agent.finish();
    assert_eq!(output.status, 4, "{}", output.stderr);
    assert!(output.stdout_text() == format!("up\n{}", numbers(1..=300_000)), "{} bytes", output.stdout.len());
    harness.assert_all_delivered(&output, 300_001);
}

#[test]
fn deadlines_hold_as_pid_1() {
    if !LaunchMode::all().contains(&LaunchMode::Pid1) {
        return;
    }
    let faults =
        ["refuse", "stall=600s", "tls-stall", "slow-read=1B/s", "status=500", "status=429:retry-after=600"];
    check_in_threads(faults.len(), faults, |fault| {
        let harness = Harness::with_faults(fault).set("TAILRACE_STOP_GRACE", "1s");
        let launched = LaunchMode::Pid1.run(&harness, &["sh", "-c", "seq 20; exec sleep 60"]);
        launched.agent.wait_for_stdout("\n20\n");
        launched.wait_for_shipper();
        launched.signal(Signal::SIGTERM);
        let output = launched.agent.finish();
        let account = output.ledger().drains[0].clone();
        assert_eq!(
            (output.status, account.held, account.delivered),
            (143, 20, 0),
            "{fault}: {}",
            output.stderr
        );
        assert_eq!(output.stderr.matches("at=lines-not-delivered").count(), 1, "{fault}: {}", output.stderr);
    });
}

#[test]
fn a_shipper_that_dies_is_replaced_as_pid_1() {
    if !LaunchMode::all().contains(&LaunchMode::Pid1) {
        return;
    }
    let harness = Harness::new();
    let mut launched = LaunchMode::Pid1.run(&harness, &["cat"]);
    launched.agent.feed(numbers(1..=1000));
    harness.wait_for_lines(1000);
    let shipper = launched.wait_for_shipper();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shipper), Signal::SIGKILL).unwrap();
    launched.agent.feed(numbers(1001..=2000));
    wait_until("another shipper", || launched.wait_for_shipper() != shipper);
    let output = launched.agent.finish();
    assert_eq!((output.status, output.stdout_text()), (0, numbers(1..=2000)));
    harness.assert_all_delivered(&output, 2000);
}
