//! Errors of the transport in plain replies. Nothing of them comes from the drain's URL.

use super::connector::{ConnectError, Phase};
use rustls::CertificateError;
use std::error::Error;
use std::io;
use std::time::Duration;

/// What a deadline cut short.
pub(super) fn timed_out(patience: Duration, phase: Phase) -> String {
    let doing = match phase {
        Phase::Lookup => "looking up the name",
        Phase::Connect => "connecting",
        Phase::Proxy => "asking the proxy",
        Phase::Tls => "agreeing on TLS",
        Phase::Request | Phase::Response => "waiting for the answer",
    };
    match (patience.as_secs(), patience.subsec_millis()) {
        (seconds, 0) => format!("timed out after {seconds} s while {doing}"),
        _ => format!("timed out after {} ms while {doing}", patience.as_millis()),
    }
}

/// An error of the transport. Nothing of it comes from the URL.
pub(super) fn transport(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        if error.is_parse() {
            // Its replies are fixed ones: nothing of the answer.
            return format!("the answer is not proper HTTP/1.1: {error}");
        }
        if error.source().is_none() {
            return "connection closed before the answer".to_owned();
        }
    }
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return error.to_string();
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return tls(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // `source` of an I/O error skips the error that it wraps.
        return match error.get_ref() {
            Some(inner) => transport(inner),
            None => system(error),
        };
    }
    match error.source() {
        Some(source) => transport(source),
        None => error.to_string(),
    }
}

fn system(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => "connection closed by the drain",
        io::ErrorKind::ConnectionAborted => "connection aborted",
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset by the drain",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::TimedOut => "timed out while connecting",
        _ => return error.to_string(),
    }
    .to_owned()
}

fn tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => format!("certificate: {}", certificate(error)),
        rustls::Error::InvalidMessage(_) => {
            "TLS: the drain does not speak it (is this the drain's port?)".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("TLS: the drain refused with {alert:?}"),
        rustls::Error::PeerIncompatible(_) => {
            "TLS: no version or cipher in common (the drain needs TLS 1.2 or 1.3)".to_owned()
        }
        other => format!("TLS: {other}"),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "unknown issuer (set TAILRACE_CA_FILE)",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "not valid yet (is this machine's clock right?)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "not valid for the drain's host name"
        }
        CertificateError::Revoked => "revoked",
        CertificateError::BadSignature => "its signature is wrong",
        other => return other.to_string(),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        assert_eq!(
            timed_out(Duration::from_secs(20), Phase::Connect),
            "timed out after 20 s while connecting"
        );
        assert_eq!(
            timed_out(Duration::from_millis(1500), Phase::Lookup),
            "timed out after 1500 ms while looking up the name"
        );
    }

    #[test]
    fn errors_within_errors() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(transport(&io::Error::other(io::Error::other(refused))), "connection refused");
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::NoCertificatesPresented);
        assert!(transport(&io::Error::other(tls)).starts_with("TLS: "));
        let revoked = rustls::Error::InvalidCertificate(CertificateError::Revoked);
        assert_eq!(transport(&revoked), "certificate: revoked");
        assert_eq!(transport(&ConnectError::Refused(407)), "the proxy answered 407 to CONNECT");
        let name = io::Error::other("failed to lookup address information: Try again");
        assert_eq!(transport(&ConnectError::Name(name)), "name not found: Try again");
    }
}
