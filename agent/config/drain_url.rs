//! Drain URLs: small and strict, and shown without their secrets.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How a drain is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP over TLS.
    Https,
    /// HTTP in the clear.
    Http,
    /// Syslog over TLS (RFC 5425).
    SyslogTls,
    /// Syslog over TCP in the clear.
    Syslog,
}

impl Scheme {
    const ALL: [(&'static str, Self, u16); 4] = [
        ("https", Self::Https, 443),
        ("http", Self::Http, 80),
        ("syslog+tls", Self::SyslogTls, 6514),
        ("syslog", Self::Syslog, 514),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, scheme, _)| *scheme == self).map_or("", |(name, ..)| name)
    }
}

/// The URL of a drain. Neither `Display` nor `Debug` show its secrets: userinfo, last path segment, query.
#[derive(Clone, PartialEq, Eq)]
pub struct DrainUrl {
    scheme: Scheme,
    userinfo: Option<(Vec<u8>, Vec<u8>)>,
    host: String,
    port: u16,
    path_and_query: String,
    /// The drain's own options, from the fragment; never sent.
    gzip: Option<bool>,
    batch_bytes: Option<u64>,
}

/// What is wrong with a URL. It never repeats the URL: that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError(String);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UrlError {}

fn wrong<T>(text: impl Into<String>) -> Result<T, UrlError> {
    Err(UrlError(text.into()))
}

impl DrainUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`UrlError`] names the part, what was expected there, and what to do.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if let Some(at) = text.bytes().position(|b| !b.is_ascii_graphic()) {
            return wrong(format!("byte {at} may not stand in a URL: percent-encode it"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("no scheme: expected https://HOST/PATH");
        };
        let known = Scheme::ALL.iter().find(|(name, ..)| name.eq_ignore_ascii_case(scheme));
        let Some((_, scheme, default_port)) = known else {
            return wrong("unknown scheme: expected https://");
        };
        let (rest, fragment) =
            rest.split_once('#').map_or((rest, None), |(rest, options)| (rest, Some(options)));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (userinfo, address) =
            authority.rsplit_once('@').map_or((None, authority), |(user, address)| (Some(user), address));
        let (host, port) = host_and_port(address, *default_port)?;
        let (gzip, batch_bytes) = options(fragment.unwrap_or(""))?;
        Ok(Self {
            scheme: *scheme,
            userinfo: userinfo.map(credentials).transpose()?,
            host,
            port,
            path_and_query: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            gzip,
            batch_bytes,
        })
    }

    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether that is over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::SyslogTls)
    }

    /// Name or address; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, byte for byte as they were explicit; `/` at least.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The value of `Authorization` (RFC 7617), when the URL has a user.
    pub fn authorization(&self) -> Option<String> {
        let (user, password) = self.userinfo.as_ref()?;
        let mut pair = user.clone();
        pair.push(b':');
        pair.extend_from_slice(password);
        Some(format!("Basic {}", BASE64_STANDARD.encode(&pair)))
    }

    /// Whether bodies go out with gzip: as the option says, else where the receiver is known to take it
    /// (Sumo Logic's collectors, Datadog, New Relic, Loki: each documents `Content-Encoding: gzip`).
    pub fn gzip(&self) -> bool {
        let known = [
            ".sumologic.com",
            ".sumologic.net",
            ".datadoghq.com",
            ".datadoghq.eu",
            ".newrelic.com",
            ".nr-data.net",
        ];
        self.gzip.unwrap_or_else(|| known.iter().any(|host| self.host.ends_with(host)))
    }

    /// Bytes per batch, when the option says so.
    pub fn batch_bytes(&self) -> Option<u64> {
        self.batch_bytes
    }

    /// How the drain is called in ledgers: host and port, no secret.
    pub fn name(&self) -> String {
        let default =
            Scheme::ALL.iter().any(|(_, scheme, port)| *scheme == self.scheme && *port == self.port);
        if default { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Whether it stays on this machine.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for DrainUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.userinfo.is_some() { "…@" } else { "" };
        write!(f, "{}://{user}{}", self.scheme.name(), self.name())?;
        let path = self.path_and_query.split('?').next().unwrap_or("");
        match path.rfind('/') {
            Some(last) if last + 1 < path.len() => write!(f, "{}…", &path[..=last])?,
            _ => f.write_str(path)?,
        }
        if self.path_and_query.contains('?') { f.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for DrainUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DrainUrl({self})")
    }
}

fn host_and_port(address: &str, default: u16) -> Result<(String, u16), UrlError> {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, rest)) => {
            if inner.parse::<Ipv6Addr>().is_err() {
                return wrong("what stands in brackets is no IPv6 address");
            }
            match rest {
                "" => (format!("[{inner}]"), None),
                rest => match rest.strip_prefix(':') {
                    Some(port) => (format!("[{inner}]"), Some(port)),
                    None => return wrong("expected :PORT or / behind the IPv6 address"),
                },
            }
        }
        None => match address.rsplit_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (address.to_ascii_lowercase(), None),
        },
    };
    if host.is_empty() {
        return wrong("no host: expected https://HOST/PATH");
    }
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if !host.starts_with('[') && host.parse::<Ipv4Addr>().is_err() && !is_name(&host) {
        return wrong("the host is neither a name nor an address");
    }
    let port = match port {
        None => default,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return wrong("the port is not a number from 1 to 65535"),
        },
    };
    Ok((host, port))
}

fn options(fragment: &str) -> Result<(Option<bool>, Option<u64>), UrlError> {
    let (mut gzip, mut batch_bytes) = (None, None);
    for option in fragment.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "gzip" => match crate::config::value::switch(value) {
                Ok(on) => gzip = Some(on),
                Err(expected) => return wrong(format!("option #gzip: expected {expected}")),
            },
            "batch" => match crate::config::value::bytes(value) {
                Ok(bytes) if crate::config::BATCH.contains(&bytes) => batch_bytes = Some(bytes),
                _ => return wrong("option #batch: expected a size from 16KiB to 4MiB, such as 1MiB"),
            },
            "insecure" => {
                return wrong(
                    "option #insecure is not taken: TLS is always verified. For a private authority set TAILRACE_CA_FILE",
                );
            }
            _ => return wrong("unknown option behind #: expected gzip=on, gzip=off or batch=SIZE"),
        }
    }
    Ok((gzip, batch_bytes))
}

fn credentials(userinfo: &str) -> Result<(Vec<u8>, Vec<u8>), UrlError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    Ok((percent_decoded(user)?, percent_decoded(password)?))
}

/// RFC 3986 section 2.1, strict: the crate leaves a `%` without two hex digits as it is.
fn percent_decoded(text: &str) -> Result<Vec<u8>, UrlError> {
    let is_escape =
        |after: &str| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        return wrong("a % in user or password is not followed by two hex digits");
    }
    Ok(percent_decode_str(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_come_out_as_they_went_in() {
        let url = DrainUrl::parse(
            "https://us%65r:p%40ss@Collectors.Example.com:8443/a//b%2F?x=1&y#gzip=on&batch=1MiB",
        )
        .expect("good");
        assert_eq!((url.host(), url.port()), ("collectors.example.com", 8443));
        assert_eq!(url.path_and_query(), "/a//b%2F?x=1&y");
        assert_eq!(url.authorization().as_deref(), Some("Basic dXNlcjpwQHNz"));
        assert_eq!((url.gzip(), url.batch_bytes()), (true, Some(1 << 20)));
        assert_eq!(url.to_string(), "https://…@collectors.example.com:8443/a//…?…");
    }

    #[test]
    fn defaults_are_what_the_scheme_says() {
        let url = DrainUrl::parse("https://h").expect("good");
        assert_eq!((url.port(), url.path_and_query(), url.name()), (443, "/", "h".to_owned()));
        let url = DrainUrl::parse("https://[::1]:9/x").expect("good");
        assert_eq!((url.host(), url.port(), url.is_loopback()), ("[::1]", 9, true));
        assert!(DrainUrl::parse("https://endpoint4.collection.sumologic.com/x").expect("good").gzip());
        assert_eq!(DrainUrl::parse("syslog+tls://h").expect("good").port(), 6514);
    }

    #[test]
    fn errors_name_the_part() {
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
    fn credentials_are_encoded_as_rfc_7617_says() {
        for (userinfo, coded) in [
            // The examples of RFC 7617 sections 2 and 2.1.
            ("Aladdin:open%20sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test:123%C2%A3", "dGVzdDoxMjPCow=="),
            // The three lengths of padding (RFC 4648 section 4).
            ("", "Og=="),
            ("f", "Zjo="),
            ("fo", "Zm86"),
            ("f:oobar", "Zjpvb2Jhcg=="),
        ] {
            let url = DrainUrl::parse(&format!("https://{userinfo}@h/")).expect("good");
            assert_eq!(url.authorization(), Some(format!("Basic {coded}")), "{userinfo}");
        }
    }

    #[test]
    fn bad_percent_escapes_in_credentials_are_refused() {
        for userinfo in ["a%", "a%4", "%4g", "%g4", "a:%", "a:b%4", "%%41", "%+1"] {
            let error = DrainUrl::parse(&format!("https://{userinfo}@h/")).expect_err(userinfo).to_string();
            assert_eq!(error, "a % in user or password is not followed by two hex digits", "{userinfo}");
        }
    }

    proptest! {
        #[test]
        fn no_secret_is_ever_shown(secret in "[A-Z0-9]{12,40}", place in 0usize..4, broken in any::<bool>()) {
            let broken = if broken { "#x=" } else { "#" };
            let text = match place {
                0 => format!("https://{secret}@h/a{broken}"),
                1 => format!("https://u:{secret}@h/a{broken}"),
                2 => format!("https://h/receiver/{secret}{broken}"),
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
