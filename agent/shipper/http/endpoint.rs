//! The address of a drain and how to post to it, validated for the wire.

use crate::config::RESERVED_HEADERS;
use crate::version::VERSION;
use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

pub(super) const MSG_COUNT: HeaderName = HeaderName::from_static("logplex-msg-count");
pub(super) const FRAME_ID: HeaderName = HeaderName::from_static("logplex-frame-id");
const DRAIN_TOKEN: HeaderName = HeaderName::from_static("logplex-drain-token");

/// A drain, and how to post to it.
#[derive(Clone)]
pub struct Endpoint {
    /// Name or address, an IPv6 address with or without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query, sent byte for byte. Begins with `/`. A secret.
    pub path_and_query: String,
    /// The value of `Authorization`, such as `Basic dTpw`. A secret.
    pub authorization: Option<String>,
    /// `https`; else `http`, which the settings allow for loopback only, or with `TAILRACE_ALLOW_PLAINTEXT`.
    pub tls: bool,
    /// Extra headers, name and value, sent in this order. The values are secrets.
    pub headers: Vec<(String, String)>,
    /// `Logplex-Drain-Token`.
    pub token: String,
    /// Send bodies with gzip, until the drain is found not to accept it.
    pub gzip: bool,
    /// Time limit of one attempt, from the lookup of the name to the last byte of the response that is read.
    pub request_timeout: Duration,
    /// How old a connection gets that serves one request after the other: then the name is resolved anew.
    pub max_connection_age: Duration,
    /// A CONNECT proxy: host and port.
    pub proxy: Option<(String, u16)>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why requests to an endpoint cannot be formed. Never shows a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// The host is neither a name nor an address.
    Host,
    /// The path or query has a byte that no request line may have, or does not begin with `/`.
    Path,
    /// The `Authorization` value has a byte that no header may have.
    Authorization,
    /// The drain token has a byte that no header may have.
    Token,
    /// This extra header's name or value is not valid.
    Header(String),
    /// The agent sets this header itself.
    Reserved(String),
    /// The proxy's host is neither a name nor an address.
    Proxy,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the drain's host is neither a name nor an address"),
            Self::Path => f.write_str(
                "the drain's path or query has a byte that a URL may not have: percent-encode blanks, control \
                 characters and any of <>`#",
            ),
            Self::Authorization => f.write_str("the drain's user or password has a byte that no header may have"),
            Self::Token => f.write_str("the drain token has a byte that no header may have"),
            Self::Header(name) => write!(f, "the extra header {name} has a name or value that no header may have"),
            Self::Reserved(name) => write!(f, "the extra header {name} is set by tailrace itself"),
            Self::Proxy => f.write_str("the proxy's host is neither a name nor an address"),
        }
    }
}

impl std::error::Error for EndpointError {}

impl Endpoint {
    /// Scheme, host and port of the drain.
    pub(super) fn authority(&self) -> Result<Uri, EndpointError> {
        let scheme = if self.tls { "https" } else { "http" };
        base_uri(scheme, &self.host, self.port).ok_or(EndpointError::Host)
    }

    /// Scheme, host and port of the proxy.
    pub(super) fn proxy(&self) -> Result<Option<Uri>, EndpointError> {
        let Some((host, port)) = &self.proxy else { return Ok(None) };
        base_uri("http", host, *port).map(Some).ok_or(EndpointError::Proxy)
    }

    /// The request target, in origin form (RFC 9112 §3.2.1).
    pub(super) fn path_and_query(&self) -> Result<Uri, EndpointError> {
        let text = self.path_and_query.as_str();
        let uri: Uri = text.parse().map_err(|_| EndpointError::Path)?;
        // The parser drops a fragment and accepts other forms of targets: both would change what is sent.
        let unchanged =
            text.starts_with('/') && uri.path_and_query().is_some_and(|parsed| parsed.as_str() == text);
        if unchanged { Ok(uri) } else { Err(EndpointError::Path) }
    }

    /// All headers but Content-Length, in the order in which they are sent. Those that depend on the batch are empty
    /// placeholders.
    pub(super) fn headers(&self) -> Result<HeaderMap, EndpointError> {
        let authority = self.authority()?;
        let default_port = if self.tls { 443 } else { 80 };
        let host = if self.port == default_port {
            authority.host().unwrap_or_default().to_owned()
        } else {
            host_and_port(&authority)
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, secret_value(&host).ok_or(EndpointError::Host)?);
        if let Some(authorization) = &self.authorization {
            headers.insert(
                header::AUTHORIZATION,
                secret_value(authorization).ok_or(EndpointError::Authorization)?,
            );
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/logplex-1"));
        headers.insert(MSG_COUNT, HeaderValue::from_static(""));
        headers.insert(FRAME_ID, HeaderValue::from_static(""));
        headers.insert(DRAIN_TOKEN, secret_value(&self.token).ok_or(EndpointError::Token)?);
        let agent = HeaderValue::try_from(format!("tailrace/{VERSION}"))
            .unwrap_or(HeaderValue::from_static("tailrace"));
        headers.insert(header::USER_AGENT, agent);
        for (name, value) in &self.headers {
            let invalid = || EndpointError::Header(name.clone());
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            if is_reserved(&parsed) {
                return Err(EndpointError::Reserved(name.clone()));
            }
            headers.insert(parsed, secret_value(value).ok_or_else(invalid)?);
        }
        Ok(headers)
    }
}

fn is_reserved(name: &HeaderName) -> bool {
    RESERVED_HEADERS.contains(&name.as_str())
}

/// A header value that `Debug` does not show.
fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn base_uri(scheme: &str, host: &str, port: u16) -> Option<Uri> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let authority = match inner.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) if host.is_empty() || host.contains([':', '@', '[', ']']) => return None,
        Err(_) => format!("{host}:{port}"),
    };
    Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build().ok()
}

/// `host:port`, with an IPv6 address in brackets.
pub(super) fn host_and_port(uri: &Uri) -> String {
    uri.authority().map_or_else(String::new, ToString::to_string)
}
