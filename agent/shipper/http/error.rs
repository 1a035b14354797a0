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

/// Names of a certificate that are shown.
const MAX_NAMES: usize = 5;
const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

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
                // Among them the end of TLS without close_notify, whose text is for programmers.
                _ if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Self::Connection { kind: error.kind(), text: String::new() }
                }
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
            Self::Certificate(error) => {
                f.write_str("certificate: ")?;
                fmt_certificate(error, f)
            }
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

fn fmt_certificate(error: &CertificateError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        CertificateError::UnknownIssuer => f.write_str("unknown issuer (set TAILRACE_CA_FILE)"),
        CertificateError::Expired => f.write_str("expired"),
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / SECONDS_PER_DAY;
            write!(f, "expired {days} days ago")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            f.write_str("not valid yet (is this machine's clock right?)")
        }
        CertificateError::NotValidForName => f.write_str("not valid for the drain's host name"),
        CertificateError::NotValidForNameContext { presented, .. } => {
            f.write_str("not valid for the drain's host name, but for ")?;
            fmt_names(presented, f)
        }
        CertificateError::Revoked => f.write_str("revoked"),
        CertificateError::BadSignature => f.write_str("its signature is wrong"),
        error if is_ca_of_itself(error) => f.write_str(
            "it is that of an authority, made by `openssl req -x509` for example (set TAILRACE_CA_FILE to exactly this \
             certificate)",
        ),
        other => write!(f, "{other}"),
    }
}

/// Writes the names in a certificate. They come as `DnsName("drain.example")` or `IpAddress(127.0.0.1)`.
fn fmt_names(presented: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let names = presented.iter().filter_map(|name| {
        let (_, name) = name.split_once('(')?;
        Some(name.trim_end_matches(')').trim_matches('"'))
    });
    let is_shown = |c: &char| c.is_ascii_graphic();
    let names: Vec<String> = names.map(|name| name.chars().filter(is_shown).collect()).collect();
    match names.as_slice() {
        [] => f.write_str("no name at all"),
        names if names.len() <= MAX_NAMES => f.write_str(&names.join(", ")),
        names => write!(f, "{} and {} more", names[..MAX_NAMES].join(", "), names.len() - MAX_NAMES),
    }
}

/// Whether a certificate was refused because a server uses that of an authority: a self-signed one, usually.
pub(super) fn is_ca_of_itself(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else { return false };
    other.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}

fn fmt_tls(error: &rustls::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use rustls::{AlertDescription, PeerIncompatible};
    match error {
        rustls::Error::InvalidMessage(_) => {
            f.write_str("TLS: the drain does not speak it (is this the drain's port?)")
        }
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => f.write_str(
            "TLS: the drain speaks TLS 1.1 or older only, which is not secure; it needs 1.2 or 1.3",
        ),
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)
        | rustls::Error::PeerIncompatible(_) => f.write_str(
            "TLS: no cipher in common with the drain; it needs one of TLS 1.2 (ECDHE with AES-GCM) or 1.3",
        ),
        rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            f.write_str("TLS: the drain does not know this host name")
        }
        rustls::Error::AlertReceived(alert) => write!(f, "TLS: the drain refused with {alert:?}"),
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
    fn an_end_without_close_notify_is_a_closed_connection() {
        let text_of_library =
            "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/";
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, text_of_library);
        assert_eq!(text(&io::Error::other(eof)), "connection closed by the drain");
    }

    #[test]
    fn certificates_are_refused_with_what_is_wrong_with_them() {
        use rustls::pki_types::{ServerName, UnixTime};
        let day = |day: u64| UnixTime::since_unix_epoch(Duration::from_secs(day * SECONDS_PER_DAY));
        let wrong_name = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("h").expect("a name"),
            presented: presented.iter().map(|name| (*name).to_owned()).collect(),
        };
        let many = ["DnsName(\"a\")"; 7];
        for (error, expected) in [
            (CertificateError::ExpiredContext { time: day(20), not_after: day(8) }, "expired 12 days ago"),
            (
                wrong_name(&["DnsName(\"*.drain.example\")", "IpAddress(127.0.0.1)"]),
                "not valid for the drain's host name, but for *.drain.example, 127.0.0.1",
            ),
            (wrong_name(&[]), "not valid for the drain's host name, but for no name at all"),
            (wrong_name(&many), "not valid for the drain's host name, but for a, a, a, a, a and 2 more"),
            (
                CertificateError::Other(rustls::OtherError(std::sync::Arc::new(
                    webpki::Error::CaUsedAsEndEntity,
                ))),
                "it is that of an authority, made by `openssl req -x509` for example (set TAILRACE_CA_FILE to exactly \
                 this certificate)",
            ),
        ] {
            let error = rustls::Error::InvalidCertificate(error);
            assert_eq!(text(&error), format!("certificate: {expected}"));
        }
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
