//! `tailrace status`: what the agents in this dyno captured, delivered, hold and dropped. Agents are found through
//! `/proc`, because a shell opened beside the app does not have the config vars.

use crate::cli::StatusFormat;
use crate::exit_code::ExitCode;
use crate::status::{NAME, SEPARATOR};
use std::io::{self, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

/// How long an agent may take to respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Read at most this many bytes of a response.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

/// Asks every agent in this dyno for its status and writes the responses to `out`: as text, or as a JSON array.
/// Returns the exit status.
pub fn run(format: StatusFormat, out: &mut impl Write) -> ExitCode {
    let table = match std::fs::read_to_string("/proc/net/unix") {
        Ok(table) => table,
        Err(error) => {
            eprintln!("tailrace: cannot read /proc/net/unix, where agents are found: {error}");
            return ExitCode::Unavailable;
        }
    };
    let (mut statuses, mut unresponsive) = (Vec::new(), 0);
    for name in socket_names(&table) {
        match query(&name, format) {
            Ok(status) => statuses.push(status),
            // The agent belongs to another user, or has just ended.
            Err(error)
                if [ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied].contains(&error.kind()) => {}
            Err(error) => {
                unresponsive += 1;
                eprintln!("tailrace: the agent at @{name} does not answer ({error}): is it stopped?");
            }
        }
    }
    if statuses.is_empty() {
        if unresponsive == 0 {
            eprintln!("tailrace: no agent of this user runs here; start one with tailrace run -- COMMAND");
        }
        return ExitCode::Unavailable;
    }
    let written = match format {
        StatusFormat::Json => writeln!(out, "[{}]", statuses.join(",")),
        StatusFormat::Text => write!(out, "{}", statuses.join("\n")),
    };
    written.ok(); // the reader may have closed the pipe
    ExitCode::Success
}

/// The names of the agents' sockets in `/proc/net/unix` (proc(5)), which shows abstract names after an `@`.
fn socket_names(table: &str) -> Vec<String> {
    let sockets = table.lines().filter_map(|line| line.split_ascii_whitespace().nth(7)?.strip_prefix('@'));
    let mut names: Vec<String> = sockets.filter(|name| name.starts_with(NAME)).map(str::to_owned).collect();
    names.sort();
    names.dedup(); // connections are listed under the name of their listener
    names
}

fn query(name: &str, format: StatusFormat) -> io::Result<String> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response)?;
    let at = response.iter().position(|byte| *byte == SEPARATOR).ok_or(ErrorKind::UnexpectedEof)?;
    let part = match format {
        StatusFormat::Json => &response[at + 1..],
        StatusFormat::Text => &response[..at],
    };
    Ok(String::from_utf8_lossy(part).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_found_in_the_table_of_sockets() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 21005 @tailrace.00ff\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 21006 @tailrace.00ff\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 21007\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 21008 /run/tailrace.sock\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 21009 @tailrace.00aa\n";
        assert_eq!(socket_names(table), ["tailrace.00aa", "tailrace.00ff"]);
    }
}
