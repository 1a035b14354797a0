//! The dyno's `$PORT`.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Finds a port that no process listens on at the moment.
///
/// # Errors
/// When the system has none.
pub fn find_free() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

/// Whether a process listens on the port, on any address. Read from proc(5): a connection attempt would reach the app.
pub fn is_listening(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .any(|table| table.lines().any(|line| is_listener_entry(line, port)))
}

/// `SL: ADDRESS:PORT ADDRESS:PORT STATE …`, in hex; state 0A is `TCP_LISTEN`.
fn is_listener_entry(line: &str, port: u16) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (Some(local), Some(_remote), Some(state)) = (fields.next(), fields.next(), fields.next()) else {
        return false;
    };
    let number = local.rsplit_once(':').and_then(|(_, number)| u16::from_str_radix(number, 16).ok());
    state == "0A" && number == Some(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn only_entries_in_the_listen_state_count() {
        let line = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12";
        assert!(is_listener_entry(line, 8080));
        assert!(!is_listener_entry(line, 8081));
        assert!(!is_listener_entry(&line.replace(" 0A ", " 01 "), 8080));
        assert!(!is_listener_entry("  sl  local_address rem_address   st tx_queue", 8080));
    }

    #[test]
    fn a_port_is_listening_while_a_listener_exists() {
        let port = find_free().expect("a port is free");
        assert!(!is_listening(port));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("is free");
        assert!(is_listening(port));
        let _client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("listens");
        drop(listener);
        assert!(!is_listening(port), "a connection is not a listener");
    }
}
