//! Whether a process listens on the app's port. The kernel is asked (`sock_diag(7)`, proc(5)); no connection is made.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::AsRawFd;

/// `TCP_LISTEN` (`include/net/tcp_states.h`).
const TCP_LISTEN: u8 = 10;
/// `SOCK_DIAG_BY_FAMILY` (`sock_diag(7)`).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Message types of netlink(7).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP` (netlink(7)).
const REQUEST_DUMP: u16 = 0x301;
/// Bytes of a message's header and of a request, and the offset of the port in a response (`sock_diag(7)`).
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = 72;
const PORT_OFFSET: usize = HEADER_BYTES + 4;
/// Timeout for the kernel's response, in ms; the kernel responds at once.
const RESPONSE_TIMEOUT_MS: i64 = 100;

/// Whether a process listens on this port. Without a port the answer is yes: there is nothing to wait for.
pub(crate) fn is_open(port: Option<u16>) -> bool {
    let Some(port) = port else { return true };
    let answers = [AddressFamily::Inet, AddressFamily::Inet6].map(|family| has_listener(family, port));
    if answers.contains(&Some(true)) {
        return true;
    }
    // sock_diag is refused or not available. The tables cost more: they list all connections of the machine.
    let is_listed =
        |table: &str| std::fs::read_to_string(table).is_ok_and(|table| lists_listener(&table, port));
    answers.contains(&None) && ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().any(is_listed)
}

/// Whether a socket of this family listens on the port; none when `sock_diag` is refused or not available.
fn has_listener(family: AddressFamily, port: u16) -> Option<bool> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag).ok()?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(RESPONSE_TIMEOUT_MS)).ok()?;
    sendto(socket.as_raw_fd(), &request(family as u8), &NetlinkAddr::new(0, 0), MsgFlags::empty()).ok()?;
    let mut bytes = vec![0; 32 << 10];
    loop {
        let received = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).ok()?;
        match find_listener(&bytes[..received], port)? {
            Search::Found => return Some(true),
            Search::End => return Some(false),
            Search::Continue => {}
        }
    }
}

/// A request for all listening TCP sockets: a message header and `struct inet_diag_req_v2` (`sock_diag(7)`).
fn request(family: u8) -> [u8; REQUEST_BYTES] {
    const IPPROTO_TCP: u8 = 6;
    let mut bytes = [0; REQUEST_BYTES];
    bytes[..4].copy_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes[HEADER_BYTES] = family;
    bytes[HEADER_BYTES + 1] = IPPROTO_TCP;
    bytes[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&(1_u32 << TCP_LISTEN).to_ne_bytes());
    bytes
}

/// The result of searching one part of the response.
#[derive(Debug, PartialEq, Eq)]
enum Search {
    /// The port has a listener.
    Found,
    /// The response ended without one.
    End,
    /// More messages follow.
    Continue,
}

/// Searches messages, each a header and a `struct inet_diag_msg`; none when one is an error or malformed.
fn find_listener(mut bytes: &[u8], port: u16) -> Option<Search> {
    while !bytes.is_empty() {
        let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let message = bytes.get(..len).filter(|_| len >= HEADER_BYTES)?;
        match kind {
            NLMSG_DONE => return Some(Search::End),
            NLMSG_ERROR => return None,
            SOCK_DIAG_BY_FAMILY if message.get(HEADER_BYTES + 1) == Some(&TCP_LISTEN) => {
                let local_port: [u8; 2] = message.get(PORT_OFFSET..PORT_OFFSET + 2)?.try_into().ok()?;
                if u16::from_be_bytes(local_port) == port {
                    return Some(Search::Found);
                }
            }
            _ => {}
        }
        // Messages are aligned to 4 bytes (netlink(3), NLMSG_ALIGN).
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Search::Continue)
}

/// Whether a table of sockets (`/proc/net/tcp`, `tcp6`; proc(5)) lists a listener on this port.
fn lists_listener(table: &str, port: u16) -> bool {
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
    fn a_listener_is_detected_until_it_closes() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue }; // no IPv6 here
            let port = listener.local_addr().unwrap().port();
            let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap(); // keeps the port from being given to others
            assert!(is_open(Some(port)), "{address}");
            drop(listener);
            assert!(!is_open(Some(port)), "{address}: a connection is not a listener");
            drop((connected, accepted));
        }
        assert!(is_open(None));
    }

    #[test]
    fn malformed_responses_are_rejected() {
        let message = |kind: u16, rest: &[u8]| {
            let mut bytes = (HEADER_BYTES as u32 + rest.len() as u32).to_ne_bytes().to_vec();
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.resize(HEADER_BYTES, 0);
            bytes.extend_from_slice(rest);
            bytes
        };
        let socket = message(SOCK_DIAG_BY_FAMILY, &[2, TCP_LISTEN, 0, 0, 0x13, 0x88, 0, 0]);
        assert_eq!(find_listener(&socket, 5000), Some(Search::Found));
        assert_eq!(
            find_listener(&[socket.clone(), message(NLMSG_DONE, &[0; 4])].concat(), 5001),
            Some(Search::End)
        );
        assert_eq!(find_listener(&socket, 5001), Some(Search::Continue));
        assert_eq!(find_listener(&message(NLMSG_ERROR, &[0; 4]), 5000), None);
        for len in 1..socket.len() {
            assert_eq!(find_listener(&socket[..len], 5000), None, "{len}");
        }
        assert_eq!(find_listener(&[0; 64], 5000), None, "a length of 0 must not loop");
    }

    #[test]
    fn a_listener_is_found_in_a_socket_table() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";
        let v4 =
            format!("{head}   0: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0\n");
        assert!(lists_listener(&v4, 5000) && !lists_listener(&v4, 5001));
        let connected = v4.replace(" 0A ", " 01 ");
        assert!(!lists_listener(&connected, 5000));
        let v6 = format!(
            "{head}   0: 00000000000000000000000000000000:1388 00000000000000000000000000000000:0000 0A 0\n"
        );
        assert!(lists_listener(&v6, 5000));
        assert!(!lists_listener("", 5000));
    }
}
