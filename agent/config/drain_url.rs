//! Drain URLs: a strict parser for the parts that are used, and a display without secrets.

use super::nearest;
use super::value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Limits of a batch in bytes, for the setting and for the URL's option.
pub(super) const BATCH_BYTES: RangeInclusive<u64> = (16 << 10)..=(4 << 20);

/// Hosts whose receivers accept gzip: Sumo Logic's collectors, Datadog, New Relic (each documents
/// `Content-Encoding: gzip`).
const GZIP_HOSTS: [&str; 6] =
    [".sumologic.com", ".sumologic.net", ".datadoghq.com", ".datadoghq.eu", ".newrelic.com", ".nr-data.net"];

/// What does not separate URLs.
pub(super) const SEPARATORS: [char; 2] = [',', ';'];
/// What to do about URLs that are separated by something else than a blank.
pub(super) const BLANK_BETWEEN: &str = "put a blank between them";

/// The protocol of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP over TLS.
    Https,
    /// HTTP without encryption.
    Http,
    /// Syslog over TLS (RFC 5425).
    SyslogTls,
    /// Syslog over TCP without encryption.
    Syslog,
}

impl Scheme {
    const ALL: [Self; 4] = [Self::Https, Self::Http, Self::SyslogTls, Self::Syslog];

    fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::SyslogTls => "syslog+tls",
            Self::Syslog => "syslog",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
            Self::SyslogTls => 6514,
            Self::Syslog => 514,
        }
    }
}

/// The URL of a drain. `Display` and `Debug` show nothing of it but scheme, host and port: where the secret is depends
/// on the receiver.
#[derive(Clone, PartialEq, Eq)]
pub struct DrainUrl {
    scheme: Scheme,
    credentials: Option<Credentials>,
    host: String,
    port: u16,
    path_and_query: String,
    options: DrainOptions,
}

/// User and password, percent-decoded.
#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

/// The options in a URL's fragment, which is never sent.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct DrainOptions {
    gzip: Option<bool>,
    batch_bytes: Option<u64>,
}

/// What is wrong with a URL. The text does not contain the URL, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError(String);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UrlError {}

fn error<T>(text: impl Into<String>) -> Result<T, UrlError> {
    Err(UrlError(text.into()))
}

impl DrainUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`UrlError`] names the part that is wrong, what was expected, and what to do.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        check_text(text)?;
        let Some((scheme, rest)) = text.split_once("://") else {
            return error("no scheme: expected https://HOST/PATH");
        };
        let known = Scheme::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(scheme));
        let Some(scheme) = known else {
            return error("unknown scheme: expected https://");
        };
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (userinfo, address) =
            authority.rsplit_once('@').map_or((None, authority), |(user, address)| (Some(user), address));
        let (host, port) = parse_address(address, scheme.default_port())?;
        let options = DrainOptions::parse(fragment)?;
        Ok(Self {
            scheme,
            credentials: userinfo.map(Credentials::parse).transpose()?,
            host,
            port,
            path_and_query: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            options,
        })
    }

    /// Its protocol.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::SyslogTls)
    }

    /// Host name or address; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, byte for byte as in the URL; at least `/`.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The value of `Authorization` (RFC 7617), when the URL has a user.
    pub fn authorization(&self) -> Option<String> {
        let Credentials { user, password } = self.credentials.as_ref()?;
        let pair = [user.as_slice(), password].join(&b':');
        Some(format!("Basic {}", BASE64.encode(pair)))
    }

    /// Whether bodies are compressed with gzip: by the URL's option, else when the receiver is known to accept it.
    pub fn gzip(&self) -> bool {
        self.options.gzip.unwrap_or_else(|| GZIP_HOSTS.iter().any(|host| self.host.ends_with(host)))
    }

    /// Bytes per batch by the URL's option.
    pub fn batch_bytes(&self) -> Option<u64> {
        self.options.batch_bytes
    }

    /// The drain's name in ledgers: host, and port if it is not the default; no secret.
    pub fn name(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for DrainUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.credentials.is_some() { "…@" } else { "" };
        let path = if self.path_and_query == "/" { "" } else { "…" };
        write!(f, "{}://{user}{}/{path}", self.scheme.name(), self.name())
    }
}

impl fmt::Debug for DrainUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DrainUrl({self})")
    }
}

/// Checks what is no URL as a whole: quotes, several URLs, bytes that cannot be sent.
fn check_text(text: &str) -> Result<(), UrlError> {
    if let Some(quote) = nearest::quote_around(text) {
        return error(format!("there are quotes ({quote}) around the URL: remove them"));
    }
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || c == '+';
    for (at, _) in text.match_indices("://").skip(1) {
        let before = text[..at].trim_end_matches(is_scheme);
        if let Some(separator) = before.chars().next_back().filter(|last| SEPARATORS.contains(last)) {
            let name = if separator == ',' { "comma" } else { "semicolon" };
            return error(format!("several URLs with a {name} between them: {BLANK_BETWEEN}"));
        }
    }
    match text.bytes().position(|b| !b.is_ascii_graphic() || b"<>`".contains(&b)) {
        Some(at) if b"<>".contains(&text.as_bytes()[at]) => {
            error(format!("byte {at} is < or >: is it the placeholder of an example?"))
        }
        Some(at) => error(format!("byte {at} is not allowed in a URL: percent-encode it")),
        None => Ok(()),
    }
}

/// Parses host and port.
fn parse_address(address: &str, default_port: u16) -> Result<(String, u16), UrlError> {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, rest)) => {
            if inner.parse::<Ipv6Addr>().is_err() {
                return error("the text in brackets is not an IPv6 address");
            }
            match rest {
                "" => (format!("[{inner}]"), None),
                rest => match rest.strip_prefix(':') {
                    Some(port) => (format!("[{inner}]"), Some(port)),
                    None => return error("expected :PORT or / after the IPv6 address"),
                },
            }
        }
        None => match address.rsplit_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (address.to_ascii_lowercase(), None),
        },
    };
    if host.is_empty() {
        return error("no host: expected https://HOST/PATH");
    }
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if !host.starts_with('[') && host.parse::<Ipv4Addr>().is_err() && !is_name(&host) {
        return error("the host is neither a name nor an address");
    }
    let port = match port {
        None => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return error("the port is not a number from 1 to 65535"),
        },
    };
    Ok((host, port))
}

impl DrainOptions {
    fn parse(fragment: &str) -> Result<Self, UrlError> {
        let mut options = Self::default();
        for option in fragment.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "gzip" => match value::switch(value) {
                    Ok(is_on) => options.gzip = Some(is_on),
                    Err(expected) => return error(format!("option #gzip: expected {expected}")),
                },
                "batch" => match value::bytes(value) {
                    Ok(bytes) if BATCH_BYTES.contains(&bytes) => options.batch_bytes = Some(bytes),
                    _ => return error("option #batch: expected a size from 16KiB to 4MiB, such as 1MiB"),
                },
                "insecure" => {
                    return error(
                        "option #insecure is not supported: TLS certificates are always verified. For a private \
                         authority set TAILRACE_CA_FILE",
                    );
                }
                _ => return error("unknown option after #: expected gzip=on, gzip=off or batch=SIZE"),
            }
        }
        Ok(options)
    }
}

impl Credentials {
    fn parse(userinfo: &str) -> Result<Self, UrlError> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        Ok(Self { user: percent_decode(user)?, password: percent_decode(password)? })
    }
}

/// Decodes percent-encoding (RFC 3986 section 2.1).
fn percent_decode(text: &str) -> Result<Vec<u8>, UrlError> {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    if !text.split('%').skip(1).all(|rest| rest.as_bytes().get(..2).is_some_and(is_hex)) {
        return error("a % in user or password is not followed by two hex digits");
    }
    Ok(percent_encoding::percent_decode_str(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_parts_of_a_url_are_parsed() {
        let url = DrainUrl::parse(
            "https://us%65r:p%40ss@Collectors.Example.com:8443/a//b%2F?x=1&y#gzip=on&batch=1MiB",
        )
        .expect("valid");
        assert_eq!((url.host(), url.port()), ("collectors.example.com", 8443));
        assert_eq!(url.path_and_query(), "/a//b%2F?x=1&y");
        assert_eq!(url.authorization().as_deref(), Some("Basic dXNlcjpwQHNz"));
        assert_eq!((url.gzip(), url.batch_bytes()), (true, Some(1 << 20)));
        assert_eq!(url.to_string(), "https://…@collectors.example.com:8443/…");
        assert_eq!(format!("{url:?}"), format!("DrainUrl({url})"));
    }

    #[test]
    fn omitted_parts_have_the_defaults_of_the_scheme() {
        let url = DrainUrl::parse("https://h").expect("valid");
        assert_eq!((url.port(), url.path_and_query(), url.name()), (443, "/", "h".to_owned()));
        let url = DrainUrl::parse("https://[::1]:9/x").expect("valid");
        assert_eq!((url.host(), url.port(), url.is_loopback()), ("[::1]", 9, true));
        assert!(DrainUrl::parse("https://endpoint4.collection.sumologic.com/x").expect("valid").gzip());
        for (scheme, port, is_tls) in
            [("https", 443, true), ("HTTP", 80, false), ("syslog+tls", 6514, true), ("syslog", 514, false)]
        {
            let url = DrainUrl::parse(&format!("{scheme}://h")).expect("valid");
            assert_eq!((url.port(), url.is_tls()), (port, is_tls), "{scheme}");
            assert_eq!(url.to_string(), format!("{}://h/", scheme.to_lowercase()));
        }
    }

    #[test]
    fn errors_name_the_part_that_is_wrong() {
        for (text, part) in [
            ("collectors.example.com/x", "scheme"),
            ("ftp://h/x", "scheme"),
            ("https:///x", "host"),
            ("https://h:0/x", "port"),
            ("https://h:99999/x", "port"),
            ("https://[::g]/x", "IPv6"),
            ("https://h o/x", "byte 9"),
            ("https://h/x#insecure", "TAILRACE_CA_FILE"),
            ("https://h/x#gzip=maybe", "#gzip"),
            ("https://h/x#batch=1", "#batch"),
            ("https://h/x#color=red", "option"),
            ("https://a%4:b@h/", "%"),
        ] {
            let error = DrainUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_are_padded_as_in_rfc_4648_section_4() {
        for (userinfo, encoded) in [
            ("", "Og=="),
            ("a", "YTo="),
            ("ab", "YWI6"),
            ("a:bc", "YTpiYw=="),
            ("ab:cd", "YWI6Y2Q="),
            ("a%ff", "Yf86"),
        ] {
            let url = DrainUrl::parse(&format!("https://{userinfo}@h")).expect("valid");
            assert_eq!(url.authorization(), Some(format!("Basic {encoded}")), "{userinfo}");
        }
    }

    proptest! {
        #![proptest_config(crate::tests::property_config())]

        #[test]
        fn no_secret_is_displayed(secret in "[A-Z0-9]{12,40}", place in 0usize..5, broken in any::<bool>()) {
            let broken = if broken { "#x=" } else { "#" };
            let text = match place {
                0 => format!("https://{secret}@h/a{broken}"),
                1 => format!("https://u:{secret}@h/a{broken}"),
                2 => format!("https://h/receiver/{secret}{broken}"),
                3 => format!("https://h/bulk/{secret}/tag/heroku{broken}"),
                _ => format!("https://h/a?token={secret}{broken}"),
            };
            let shown = match DrainUrl::parse(&text) {
                Ok(url) => format!("{url} {url:?} {}", url.name()),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains(&secret), "{}", shown);
        }
    }
}
