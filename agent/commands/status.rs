//! `tailrace status`: what the agents here captured, delivered, hold and dropped. They are found through `/proc`:
//! a second shell lacks the config vars.

use crate::exit_code::ExitCode;
use crate::status::{NAME, SEPARATOR};
use std::io::{self, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer at most.
const MOST: u64 = 1 << 20;

/// Asks every agent here and writes what they say to `out`: for people, or as a JSON array. Returns the exit status.
pub fn run(json: bool, out: &mut impl Write) -> ExitCode {
    let table = match std::fs::read_to_string("/proc/net/unix") {
        Ok(table) => table,
        Err(error) => {
            eprintln!("tailrace: cannot read /proc/net/unix, where agents are found: {error}");
            return ExitCode::Unavailable;
        }
    };
    let (mut answers, mut deaf) = (Vec::new(), 0);
    for name in names(&table) {
        match ask(&name, json) {
            Ok(answer) => answers.push(answer),
            // Another user's, or one that ended just now.
            Err(error)
                if [ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied].contains(&error.kind()) => {}
            Err(error) => {
                deaf += 1;
                eprintln!("tailrace: the agent at @{name} does not answer ({error}): is it stopped?");
            }
        }
    }
    if answers.is_empty() {
        if deaf == 0 {
            eprintln!("tailrace: no agent of this user runs here: tailrace run -- COMMAND starts one");
        }
        return ExitCode::Unavailable;
    }
    // A reader that went away has seen enough.
    drop(if json { writeln!(out, "[{}]", answers.join(",")) } else { write!(out, "{}", answers.join("\n")) });
    ExitCode::Success
}

/// The agents' sockets in the table of proc(5), `/proc/net/unix`: abstract names are shown behind an `@`.
fn names(table: &str) -> Vec<String> {
    let sockets = table.lines().filter_map(|line| line.split_ascii_whitespace().nth(7)?.strip_prefix('@'));
    let mut names: Vec<String> = sockets.filter(|name| name.starts_with(NAME)).map(str::to_owned).collect();
    names.sort();
    names.dedup(); // a connection is shown under the name of its listener
    names
}

fn ask(name: &str, json: bool) -> io::Result<String> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    let at = answer.iter().position(|byte| *byte == SEPARATOR).ok_or(ErrorKind::UnexpectedEof)?;
    let part = if json { &answer[at + 1..] } else { &answer[..at] };
    Ok(String::from_utf8_lossy(part).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_found_in_the_kernels_table() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 21005 @tailrace.00ff\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 21006 @tailrace.00ff\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 21007\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 21008 /run/tailrace.sock\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 21009 @tailrace.00aa\n";
        assert_eq!(names(table), ["tailrace.00aa", "tailrace.00ff"]);
    }
}
