//! The dyno's `$PORT`.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A port that nobody has right now.
///
/// # Errors
/// When the system has none.
pub fn free() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

/// Whether somebody listens on it, on any address. Looked up in proc(5), so that the app is not knocked at.
pub fn is_taken(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .any(|table| table.lines().any(|line| listens(line, port)))
}

/// `SL: ADDRESS:PORT ADDRESS:PORT STATE …`, in hex; state 0A is `TCP_LISTEN`.
fn listens(line: &str, port: u16) -> bool {
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
    fn only_listeners_count() {
        let line = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12";
        assert!(listens(line, 8080));
        assert!(!listens(line, 8081));
        assert!(!listens(&line.replace(" 0A ", " 01 "), 8080));
        assert!(!listens("  sl  local_address rem_address   st tx_queue", 8080));
    }

    #[test]
    fn a_free_port_is_taken_once_somebody_listens() {
        let port = free().expect("there is one");
        assert!(!is_taken(port));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("is free");
        assert!(is_taken(port));
        let _client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("listens");
        drop(listener);
        assert!(!is_taken(port), "a connection is no listener");
    }
}
