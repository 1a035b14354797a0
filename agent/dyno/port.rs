//! Whether somebody listens on the app's port: asked of the kernel, without touching the app.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::AsRawFd;

/// `TCP_LISTEN` (`include/net/tcp_states.h`).
const LISTEN: u8 = 10;
/// `SOCK_DIAG_BY_FAMILY` (`sock_diag(7)`).
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR` and `NLMSG_DONE` (netlink(7)).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP` (netlink(7)).
const DUMP: u16 = 0x301;
/// Bytes of a message's head, of a request, and from a message's start to the port of an answer (`sock_diag(7)`).
const HEAD: usize = 16;
const REQUEST: usize = 72;
const PORT_AT: usize = HEAD + 4;
/// For how long the kernel is waited for, which answers at once: in ms.
const PATIENCE: i64 = 100;

/// Whether somebody listens on this port; without a port there is nothing to wait for.
pub fn is_open(port: Option<u16>) -> bool {
    let Some(port) = port else { return true };
    let asked = [AddressFamily::Inet, AddressFamily::Inet6].map(|family| ask(family, port));
    if asked.contains(&Some(true)) {
        return true;
    }
    // Refused, or not there. The tables cost more: the kernel walks all connections of the machine for them.
    let is_listed = |table: &str| std::fs::read_to_string(table).is_ok_and(|table| listens(&table, port));
    asked.contains(&None) && ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().any(is_listed)
}

/// Asks for the sockets of a family that listen; none when that is refused.
fn ask(family: AddressFamily, port: u16) -> Option<bool> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag).ok()?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PATIENCE)).ok()?;
    sendto(socket.as_raw_fd(), &request(family as u8), &NetlinkAddr::new(0, 0), MsgFlags::empty()).ok()?;
    let mut bytes = vec![0; 32 << 10];
    loop {
        let got = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).ok()?;
        match found(&bytes[..got], port)? {
            Found::Listener => return Some(true),
            Found::End => return Some(false),
            Found::Nothing => {}
        }
    }
}

/// A request for all sockets of TCP that listen: a message's head and `struct inet_diag_req_v2` (`sock_diag(7)`).
fn request(family: u8) -> [u8; REQUEST] {
    const TCP: u8 = 6;
    let mut bytes = [0; REQUEST];
    bytes[..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    bytes[HEAD] = family;
    bytes[HEAD + 1] = TCP;
    bytes[HEAD + 4..HEAD + 8].copy_from_slice(&(1_u32 << LISTEN).to_ne_bytes());
    bytes
}

/// What an answer holds.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Listener,
    End,
    Nothing,
}

/// Looks through messages, each a head and a `struct inet_diag_msg`; none when they are an error, or none at all.
fn found(mut bytes: &[u8], port: u16) -> Option<Found> {
    while !bytes.is_empty() {
        let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let message = bytes.get(..len).filter(|_| len >= HEAD)?;
        match kind {
            DONE => return Some(Found::End),
            ERROR => return None,
            BY_FAMILY if message.get(HEAD + 1) == Some(&LISTEN) => {
                let of_socket: [u8; 2] = message.get(PORT_AT..PORT_AT + 2)?.try_into().ok()?;
                if u16::from_be_bytes(of_socket) == port {
                    return Some(Found::Listener);
                }
            }
            _ => {}
        }
        // Messages are aligned to 4 bytes (netlink(3), NLMSG_ALIGN).
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Found::Nothing)
}

/// Whether a table of sockets (`/proc/net/tcp`, `tcp6`; proc(5)) shows somebody who listens on this port.
fn listens(table: &str, port: u16) -> bool {
    let port = format!("{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().and_then(|local| local.rsplit_once(':')).map(|(_, port)| port);
        local == Some(port.as_str()) && fields.nth(1) == Some("0A") // TCP_LISTEN
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_seen_and_its_end_too() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue }; // no IPv6 here
            let port = listener.local_addr().unwrap().port();
            let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(is_open(Some(port)), "{address}");
            drop(listener);
            assert!(!is_open(Some(port)), "{address}: a connection is no listener");
            drop(connected);
        }
        assert!(is_open(None));
    }

    #[test]
    fn odd_answers_are_none() {
        let message = |kind: u16, rest: &[u8]| {
            let mut bytes = (HEAD as u32 + rest.len() as u32).to_ne_bytes().to_vec();
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.resize(HEAD, 0);
            bytes.extend_from_slice(rest);
            bytes
        };
        let socket = message(BY_FAMILY, &[2, LISTEN, 0, 0, 0x13, 0x88, 0, 0]);
        assert_eq!(found(&socket, 5000), Some(Found::Listener));
        assert_eq!(found(&[socket.clone(), message(DONE, &[0; 4])].concat(), 5001), Some(Found::End));
        assert_eq!(found(&socket, 5001), Some(Found::Nothing));
        assert_eq!(found(&message(ERROR, &[0; 4]), 5000), None);
        for len in 1..socket.len() {
            assert_eq!(found(&socket[..len], 5000), None, "{len}");
        }
        assert_eq!(found(&[0; 64], 5000), None, "a length of 0 leads nowhere");
    }

    #[test]
    fn a_listener_is_found_in_the_kernels_tables() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";
        let v4 =
            format!("{head}   0: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0\n");
        assert!(listens(&v4, 5000) && !listens(&v4, 5001));
        let connected = v4.replace(" 0A ", " 01 ");
        assert!(!listens(&connected, 5000));
        let v6 = format!(
            "{head}   0: 00000000000000000000000000000000:1388 00000000000000000000000000000000:0000 0A 0\n"
        );
        assert!(listens(&v6, 5000));
        assert!(!listens("", 5000));
    }
}
