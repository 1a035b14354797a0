//! Why an attempt got no response. Errors of all layers become one enum; its `Display` is the text that users see.
//! Nothing of it comes from the drain's URL.

use super::connector::Phase;
use rustls::CertificateError;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// What the standard library puts before the text of `gai_strerror(3)`. It does not expose the error code.
const LOOKUP_PREFIX: &str = "failed to lookup address information: ";

/// Why an attempt got no response.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AttemptError {
    /// The frame id has a byte that no header value may have: nothing was sent.
    FrameId,
    /// The host name has no address. Holds the resolver's text.
    Lookup(String),
    /// TCP could not be connected, or the connection broke later.
    Connection {
        /// The kind of the I/O error.
        kind: io::ErrorKind,
        /// The text of the I/O error, for the kinds without a text of their own.
        text: String,
    },
    /// The connection ended before the response.
    ConnectionClosed,
    /// The proxy answered CONNECT with this status.
    ProxyRefused(u16),
    /// The proxy's response to CONNECT is not HTTP, too long, or incomplete.
    ProxyResponse,
    /// The drain's certificate was not accepted.
    Certificate(CertificateError),
    /// The TLS handshake or a TLS record failed for another reason than the certificate.
    Tls(rustls::Error),
    /// The response is not HTTP/1.1. Holds the parser's text, which repeats nothing of the response.
    Response(String),
    /// A deadline passed.
    Timeout {
        /// What the deadline interrupted.
        phase: Phase,
        /// The time limit.
        after: Duration,
    },
    /// An error of another type, as its `Display`.
    Other(String),
}

impl AttemptError {
    /// The error of a failed lookup.
    pub(super) fn lookup(error: &io::Error) -> Self {
        let text = error.to_string();
        Self::Lookup(text.strip_prefix(LOOKUP_PREFIX).unwrap_or(&text).to_owned())
    }

    /// Classifies an error of the connector or of the connection by the first error of a known type in its chain of
    /// sources.
    pub(super) fn classify(error: &(dyn Error + 'static)) -> Self {
        if let Some(error) = error.downcast_ref::<Self>() {
            return error.clone();
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return match error {
                rustls::Error::InvalidCertificate(error) => Self::Certificate(error.clone()),
                other => Self::Tls(other.clone()),
            };
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // `source` of an I/O error skips the error that it wraps.
            return match error.get_ref() {
                Some(inner) => Self::classify(inner),
                None => Self::Connection { kind: error.kind(), text: error.to_string() },
            };
        }
        match error.source() {
            Some(source) => Self::classify(source),
            None => Self::Other(error.to_string()),
        }
    }
}

impl From<hyper::Error> for AttemptError {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() {
            return Self::Response(error.to_string());
        }
        error.source().map_or(Self::ConnectionClosed, Self::classify)
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameId => f.write_str("the frame id has a byte that no header may have"),
            Self::Lookup(text) => write!(f, "name not found: {text}"),
            Self::Connection { kind, text } => f.write_str(connection_text(*kind).unwrap_or(text)),
            Self::ConnectionClosed => f.write_str("connection closed before the answer"),
            Self::ProxyRefused(status) => write!(f, "the proxy answered {status} to CONNECT"),
            Self::ProxyResponse => {
                f.write_str("the proxy's answer to CONNECT is not HTTP (is TAILRACE_PROXY a proxy?)")
            }
            Self::Certificate(error) => match certificate_text(error) {
                Some(text) => write!(f, "certificate: {text}"),
                None => write!(f, "certificate: {error}"),
            },
            Self::Tls(error) => fmt_tls(error, f),
            Self::Response(text) => write!(f, "the answer is not proper HTTP/1.1: {text}"),
            Self::Timeout { phase, after } => fmt_timeout(*phase, *after, f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl Error for AttemptError {}

fn connection_text(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => Some("connection closed by the drain"),
        io::ErrorKind::ConnectionAborted => Some("connection aborted"),
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::ConnectionReset => Some("connection reset by the drain"),
        io::ErrorKind::HostUnreachable => Some("host unreachable"),
        io::ErrorKind::NetworkUnreachable => Some("network unreachable"),
        io::ErrorKind::TimedOut => Some("timed out while connecting"),
        _ => None,
    }
}

fn certificate_text(error: &CertificateError) -> Option<&'static str> {
    match error {
        CertificateError::UnknownIssuer => Some("unknown issuer (set TAILRACE_CA_FILE)"),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some("expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("not valid yet (is this machine's clock right?)")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some("not valid for the drain's host name")
        }
        CertificateError::Revoked => Some("revoked"),
        CertificateError::BadSignature => Some("its signature is wrong"),
        _ => None,
    }
}

fn fmt_tls(error: &rustls::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        rustls::Error::InvalidMessage(_) => {
            f.write_str("TLS: the drain does not speak it (is this the drain's port?)")
        }
        rustls::Error::AlertReceived(alert) => write!(f, "TLS: the drain refused with {alert:?}"),
        rustls::Error::PeerIncompatible(_) => {
            f.write_str("TLS: no version or cipher in common (the drain needs TLS 1.2 or 1.3)")
        }
        other => write!(f, "TLS: {other}"),
    }
}

fn fmt_timeout(phase: Phase, after: Duration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let activity = match phase {
        Phase::Lookup => "looking up the name",
        Phase::Connect => "connecting",
        Phase::Proxy => "asking the proxy",
        Phase::Tls => "agreeing on TLS",
        Phase::Request | Phase::Response => "waiting for the answer",
    };
    match (after.as_secs(), after.subsec_millis()) {
        (seconds, 0) => write!(f, "timed out after {seconds} s while {activity}"),
        _ => write!(f, "timed out after {} ms while {activity}", after.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: &(dyn Error + 'static)) -> String {
        AttemptError::classify(error).to_string()
    }

    #[test]
    fn timeouts_state_the_limit_and_the_phase() {
        let timeout = |after, phase| AttemptError::Timeout { phase, after }.to_string();
        assert_eq!(timeout(Duration::from_secs(20), Phase::Connect), "timed out after 20 s while connecting");
        assert_eq!(
            timeout(Duration::from_millis(1500), Phase::Lookup),
            "timed out after 1500 ms while looking up the name"
        );
    }

    #[test]
    fn wrapped_errors_are_classified_by_their_source() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(text(&io::Error::other(io::Error::other(refused))), "connection refused");
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::NoCertificatesPresented);
        assert!(text(&io::Error::other(tls)).starts_with("TLS: "));
        let revoked = rustls::Error::InvalidCertificate(CertificateError::Revoked);
        assert_eq!(text(&revoked), "certificate: revoked");
        assert_eq!(AttemptError::classify(&revoked), AttemptError::Certificate(CertificateError::Revoked));
        let refused = io::Error::other(AttemptError::ProxyRefused(407));
        assert_eq!(text(&refused), "the proxy answered 407 to CONNECT");
        assert_eq!(text(&fmt::Error), fmt::Error.to_string());
    }

    #[test]
    fn errors_without_a_text_of_their_own_keep_the_text_of_the_system() {
        let full = io::Error::from_raw_os_error(28);
        assert_eq!(text(&full), full.to_string());
    }

    #[test]
    fn lookup_errors_keep_the_text_of_the_resolver() {
        let lookup = |error: &str| AttemptError::lookup(&io::Error::other(error)).to_string();
        assert_eq!(lookup("failed to lookup address information: Try again"), "name not found: Try again");
        assert_eq!(lookup("no: such: file"), "name not found: no: such: file");
    }
}
