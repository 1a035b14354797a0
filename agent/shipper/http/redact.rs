//! Redaction: the drain's response is shown without the secrets of the drain's URL and headers.

use super::endpoint::Endpoint;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode;

/// The longest detail of an outcome.
pub(super) const MAX_DETAIL_BYTES: usize = 256;
/// Replaces a secret.
const MASK: &str = "[secret]";
/// Up to this length, a secret is masked as a whole word only: `x` is a common user name and part of many responses.
const MAX_WORD_SECRET_BYTES: usize = 3;
/// RFC 4648 §4, lenient about padding and trailing bits: what a drain could decode must be masked.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a text is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// The text is all of the body.
    Complete,
    /// More followed, so the text may end in the middle of a secret.
    Truncated,
}

/// Everything of an endpoint that must not be shown, the longest first.
pub(super) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let (path, query) = endpoint.path_and_query.split_once('?').unwrap_or((&endpoint.path_and_query, ""));
        let mut secrets: Vec<Vec<u8>> = Vec::new();
        let mut add = |secret: &[u8]| {
            secrets.push(secret.to_vec());
            secrets.push(percent_decode(secret).collect());
        };
        add(path.rsplit('/').next().unwrap_or_default().as_bytes());
        add(query.as_bytes());
        for pair in query.split('&') {
            add(pair.split_once('=').map_or(pair, |(_, value)| value).as_bytes());
        }
        for value in endpoint.headers.iter().map(|(_, value)| value).chain(&endpoint.authorization) {
            add(value.as_bytes());
            let credentials = value.split_once(' ').map_or(value.as_str(), |(_, credentials)| credentials);
            add(credentials.as_bytes());
            let userinfo = base64_decoded(credentials).unwrap_or_default();
            userinfo.splitn(2, |&byte| byte == b':').for_each(&mut add);
        }
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self(secrets)
    }

    /// `text` as at most [`MAX_DETAIL_BYTES`] of printable ASCII, with all secrets masked. Of a truncated text, an end
    /// that may be the beginning of a secret is left out.
    pub(super) fn redact(&self, text: &[u8], end: BodyEnd) -> String {
        let longest = self.0.first().map_or(0, Vec::len);
        let mut out = String::new();
        let mut position = 0;
        while position < text.len() && out.len() < MAX_DETAIL_BYTES {
            if let Some(secret) = self.0.iter().find(|secret| is_secret_at(text, position, secret)) {
                out.push_str(MASK);
                position += secret.len();
                continue;
            }
            if end == BodyEnd::Truncated && position + longest > text.len() {
                break;
            }
            match text[position] {
                byte if byte.is_ascii_graphic() => out.push(byte.into()),
                byte if byte >= 0x80 => out.push('?'),
                _ if out.ends_with(' ') => {}
                _ => out.push(' '),
            }
            position += 1;
        }
        out.truncate(MAX_DETAIL_BYTES);
        out.trim().to_owned()
    }
}

/// Whether `secret` is to be masked at `position`. A short one only as a whole word.
fn is_secret_at(text: &[u8], position: usize, secret: &[u8]) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let before = position.checked_sub(1).and_then(|before| text.get(before));
    text[position..].starts_with(secret)
        && (secret.len() > MAX_WORD_SECRET_BYTES
            || !(is_word(before) || is_word(text.get(position + secret.len()))))
}

/// `None` if `text` is not base64.
fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn endpoint(path_and_query: &str, authorization: Option<&str>, header: Option<&str>) -> Endpoint {
        Endpoint {
            host: "drain.example".to_owned(),
            port: 443,
            path_and_query: path_and_query.to_owned(),
            authorization: authorization.map(str::to_owned),
            tls: true,
            headers: header.map(|value| ("X-Key".to_owned(), value.to_owned())).into_iter().collect(),
            token: "d.1".to_owned(),
            gzip: false,
            request_timeout: Duration::from_secs(20),
            max_connection_age: Duration::MAX,
            proxy: None,
        }
    }

    fn masked(endpoint: &Endpoint, text: &str) -> String {
        Secrets::of(endpoint).redact(text.as_bytes(), BodyEnd::Complete)
    }

    #[test]
    fn all_secrets_of_an_endpoint_are_masked() {
        let path = endpoint("/receiver/v1/http/Abc%2Fd==", None, None);
        assert_eq!(masked(&path, "receiver Abc%2Fd== or Abc/d=="), "receiver [secret] or [secret]");
        let query = endpoint("/v1/input?dd-api-key=k%20ey1&ddtags=env:prod&flag&x=", None, None);
        assert_eq!(
            masked(
                &query,
                "k%20ey1, k ey1, env:prod, flag, dd-api-key; dd-api-key=k%20ey1&ddtags=env:prod&flag&x="
            ),
            "[secret], [secret], [secret], [secret], dd-api-key; [secret]"
        );
        // `user:pa:ss`, and `:token` without padding.
        let basic = endpoint("/", Some("Basic dXNlcjpwYTpzcw=="), None);
        assert_eq!(
            masked(&basic, "user <pa:ss> dXNlcjpwYTpzcw== Basic"),
            "[secret] <[secret]> [secret] Basic"
        );
        let basic = endpoint("/", Some("Basic OnRva2Vu"), None);
        assert_eq!(masked(&basic, "token"), "[secret]");
        let header = endpoint("/", Some("Bearer a-b-c"), Some("s3cr3t"));
        assert_eq!(masked(&header, "a-b-c Bearer s3cr3t X-Key"), "[secret] Bearer [secret] X-Key");
        let none = endpoint("/", None, None);
        assert_eq!(masked(&none, "nothing is masked"), "nothing is masked");
    }

    #[test]
    fn short_secrets_are_masked_as_words_only() {
        // `x:ab`
        let short = endpoint("/", Some("Basic eDphYg=="), None);
        assert_eq!(
            masked(&short, "expected ab, not x (about xab)"),
            "expected [secret], not [secret] (about xab)"
        );
    }

    #[test]
    fn the_longest_secret_is_masked() {
        let endpoint = endpoint("/abcd?key=abcdef", None, None);
        assert_eq!(masked(&endpoint, "abcdef abcd"), "[secret] [secret]");
    }

    #[test]
    fn a_truncated_text_shows_no_beginning_of_a_secret() {
        let endpoint = endpoint("/0123456789", None, None);
        let secrets = Secrets::of(&endpoint);
        for kept in 0..10 {
            let text = format!("the key is {}", &"0123456789"[..kept]);
            assert_eq!(
                secrets.redact(text.as_bytes(), BodyEnd::Truncated),
                text[..text.len() - 9].trim_end(),
                "{kept}"
            );
        }
        assert_eq!(secrets.redact(b"the key 0123456789", BodyEnd::Truncated), "the key [secret]");
    }

    #[test]
    fn the_detail_is_printable_and_bounded() {
        let none = endpoint("/", None, None);
        assert_eq!(
            masked(&none, "  two\r\n\r\nlines\t\0 and \x1b[1m caf\u{e9} \u{202e}"),
            "two lines and [1m caf?? ???"
        );
        let secrets = Secrets::of(&none);
        assert_eq!(secrets.redact(&[b'x'; 5000], BodyEnd::Complete), "x".repeat(MAX_DETAIL_BYTES));
        let long = endpoint("/abcd", None, None);
        assert_eq!(masked(&long, &"abcd".repeat(1000)).len(), MAX_DETAIL_BYTES);
    }

    #[test]
    fn secrets_are_decoded_leniently() {
        assert_eq!(percent_decode(b"a%2Bb%zz%4%").collect::<Vec<u8>>(), b"a+b%zz%4%");
        for (text, expected) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(base64_decoded(text).unwrap(), expected.as_bytes(), "RFC 4648 section 10");
        }
        for text in ["Zg", "Zg=", "Zg==", "Zg===", "Zh=="] {
            assert_eq!(base64_decoded(text).unwrap(), b"f", "{text}");
        }
        assert_eq!(base64_decoded("Zm 9v"), None);
    }
}
