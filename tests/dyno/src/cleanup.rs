//! Removes temporary directories when the simulation ends in any way, SIGKILL included: a shell process waits for it.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Standard input ends when the simulation, which holds the other end, ends. Removing is retried for 2 s: processes in
/// the directories may take a moment to exit.
const SCRIPT: &str = "trap '' HUP INT TERM; cat >/dev/null
for round in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- \"$@\" 2>/dev/null && exit; sleep 0.2; done";

/// Starts the process. After a regular end it is killed together with the dynos' processes.
pub(crate) fn start(dirs: &[&Path]) -> Option<Child> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "cleanup"]).args(dirs).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok()
}
