//! Start: blocks signals, sets everything up, starts the app, and enters the event loop.

use super::setup::{Setup, SetupError};
use super::shipper_process::ShipperProcess;
use super::shutdown::AppState;
use super::spawn::{self, ChildEvent, cannot_start, exec};
use super::supervisor::Supervisor;
use crate::config::Config;
use crate::diag;
use crate::recorder::Input;
use crate::signals::forward::{PlatformSignals, SignalForwarder};
use crate::signals::source::Signals;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A shipper hangs that sends nothing for the request timeout and this: no attempt takes so long.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);
/// How often children are collected when signals cannot be received.
const FALLBACK_POLL_MS: u16 = 1000;

/// Runs a command under the supervisor and returns its exit status. When the supervisor cannot be set up, that is
/// reported in one line, and the command is executed in its place.
pub(crate) fn run(config: &Config, command: &[OsString]) -> u8 {
    let inherited = spawn::inherited_fds();
    spawn::reset_sigchld();
    let signals = match Signals::block_forwarded() {
        Ok(signals) => signals,
        Err(error) => return exec_unsupervised(command, &SetupError::new("cannot take signals", error)),
    };
    let setup = match Setup::prepare(config, display_command(command)) {
        Ok(setup) => setup,
        Err(error) => {
            signals.restore_mask();
            return exec_unsupervised(command, &error);
        }
    };
    let pipes = setup.app_pipes;
    let app = match spawn::start_app(command, pipes.out, pipes.err, signals.original_mask) {
        Ok(child) => Pid::from_raw(child.id() as i32),
        Err(error) => {
            signals.restore_mask();
            if spawn::is_fork_error(&error) {
                return exec_unsupervised(command, &SetupError::new("cannot start a process", error));
            }
            return cannot_start(command, &error);
        }
    };
    spawn::release_inherited(inherited);
    if !config.waits_for_port() {
        setup.shared_state.set_up(|| {}); // the sampler sends this line with its first ones
    }
    // Both queues have room for their first entry.
    setup.recorder.try_send(Input::Start).ok();
    setup.begin.try_send(app.as_raw()).ok();
    let silence_timeout = config.request_timeout + SILENCE_MARGIN;
    let shared_state = Arc::clone(&setup.shared_state);
    let supervisor = Supervisor {
        config,
        signals,
        wake: setup.wake,
        gone: setup.gone,
        recorder_thread: setup.recorder_thread,
        unfinished_pumps: setup.unfinished_pumps,
        shipper: ShipperProcess::new(setup.memory, config.paths(), silence_timeout, shared_state),
        coordinator: None,
        status_socket: None,
        started: Instant::now(),
        app,
        state: AppState::Running,
        forwarder: SignalForwarder::new(platform_signals()),
        suspend_until: None,
        recorder: setup.recorder,
        shared_state: setup.shared_state,
        _sampler: setup.begin,
    };
    catch_unwind(AssertUnwindSafe(|| supervisor.run())).unwrap_or_else(|_| run_fallback(app))
}

/// Reports why the supervisor cannot be set up, and executes the command in its place.
fn exec_unsupervised(command: &[OsString], error: &SetupError) -> u8 {
    diag::event(diag::Event::NotShipping).field("error", error).emit();
    cannot_start(command, &exec(command))
}

/// How this platform sends a stop signal. Cedar's dyno manager signals every process; in a container whose PID 1 is the
/// supervisor only that is signalled.
fn platform_signals() -> PlatformSignals {
    if std::env::var_os("DYNO").is_some() && std::process::id() != 1 {
        PlatformSignals::ToEveryProcess
    } else {
        PlatformSignals::ToMainProcess
    }
}

/// After a panic of the supervisor: forwards all signals and waits for the app.
fn run_fallback(app: Pid) -> u8 {
    diag::event(diag::Event::SupervisorFault)
        .field("detail", "a bug in tailrace; the app goes on, and nothing is shipped any more")
        .emit();
    let signals = Signals::block_forwarded().ok();
    loop {
        while let Some(received) = signals.as_ref().and_then(Signals::next) {
            if received.signal != Signal::SIGCHLD {
                kill(app, received.signal).ok(); // it may have ended
            }
        }
        while let Some(event) = spawn::next_child_event() {
            if let ChildEvent::Ended { pid, status } = event
                && pid == app
            {
                return status;
            }
        }
        let mut polled: Vec<PollFd<'_>> =
            signals.iter().map(|signals| PollFd::new(signals.fd().as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut polled, PollTimeout::from(FALLBACK_POLL_MS)).ok(); // interrupted: the loop checks again
    }
}

/// The command as the platform displays it: the line that a shell runs, or the arguments.
fn display_command(command: &[OsString]) -> String {
    let arguments: Vec<_> = command.iter().map(|argument| argument.to_string_lossy()).collect();
    match arguments.as_slice() {
        [shell, flag, line, ..] if shell.ends_with("bash") && flag == "-c" => line.to_string(),
        arguments => arguments.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_displayed_command_is_the_line_of_a_shell_or_the_arguments() {
        for (command, expected) in [
            (&["bash", "-c", "exec puma -p $PORT", "bash", "x"][..], "exec puma -p $PORT"),
            (&["/bin/bash", "-c", "a; b"], "a; b"),
            (&["bash", "script"], "bash script"),
            (&["node", "a b.js"], "node a b.js"),
            (&[], ""),
        ] {
            let command: Vec<OsString> = command.iter().map(OsString::from).collect();
            assert_eq!(display_command(&command), expected);
        }
    }
}
