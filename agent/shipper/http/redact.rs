//! Redaction: what a drain answers is shown without the secrets of its URL and headers.

use super::endpoint::Endpoint;

/// The longest detail, in bytes.
pub(super) const LIMIT: usize = 256;
/// What stands where a secret stood.
const MASK: &str = "[secret]";

/// Everything of a target that must not be printed, the longest first.
pub(super) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    pub(super) fn of(target: &Endpoint) -> Self {
        let (path, query) = target.path_and_query.split_once('?').unwrap_or((&target.path_and_query, ""));
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut add = |text: &[u8]| {
            found.push(text.to_vec());
            found.push(percent_decoded(text));
        };
        add(path.rsplit('/').next().unwrap_or_default().as_bytes());
        add(query.as_bytes());
        for pair in query.split('&') {
            add(pair.split_once('=').map_or(pair, |(_, value)| value).as_bytes());
        }
        for value in target.headers.iter().map(|(_, value)| value).chain(&target.authorization) {
            add(value.as_bytes());
            let credentials = value.split_once(' ').map_or(value.as_str(), |(_, rest)| rest);
            add(credentials.as_bytes());
            let userinfo = base64_decoded(credentials).unwrap_or_default();
            userinfo.splitn(2, |&byte| byte == b':').for_each(&mut add);
        }
        found.retain(|secret| !secret.is_empty());
        found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        found.dedup();
        Self(found)
    }

    /// `text` as at most 256 bytes of printable ASCII, secrets masked. `cut`: more followed, so that its end
    /// may be the beginning of a secret.
    pub(super) fn mask(&self, text: &[u8], cut: bool) -> String {
        let longest = self.0.first().map_or(0, Vec::len);
        let mut out = String::new();
        let mut at = 0;
        while at < text.len() && out.len() < LIMIT {
            if let Some(secret) = self.0.iter().find(|secret| stands_at(text, at, secret)) {
                out.push_str(MASK);
                at += secret.len();
                continue;
            }
            if cut && at + longest > text.len() {
                break;
            }
            match text[at] {
                byte if byte.is_ascii_graphic() => out.push(byte.into()),
                byte if byte >= 0x80 => out.push('?'),
                _ if out.ends_with(' ') => {}
                _ => out.push(' '),
            }
            at += 1;
        }
        out.truncate(LIMIT);
        out.trim().to_owned()
    }
}

/// A secret of three bytes or fewer counts as a word only: `x` is a common user, and part of many replies.
fn stands_at(text: &[u8], at: usize, secret: &[u8]) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text[at..].starts_with(secret)
        && (secret.len() > 3
            || !(at.checked_sub(1).is_some_and(|before| word(text.get(before)))
                || word(text.get(at + secret.len()))))
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16).map(|digit| digit as u8);
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'%'
            && let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2))
        {
            out.push(high << 4 | low);
            at += 3;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

/// RFC 4648 §4; `None` when it is not base64.
fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn target(path_and_query: &str, authorization: Option<&str>, header: Option<&str>) -> Endpoint {
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
            proxy: None,
        }
    }

    fn masked(target: &Endpoint, text: &str) -> String {
        Secrets::of(target).mask(text.as_bytes(), false)
    }

    #[test]
    fn all_secrets_of_a_target() {
        let path = target("/receiver/v1/http/Abc%2Fd==", None, None);
        assert_eq!(masked(&path, "receiver Abc%2Fd== or Abc/d=="), "receiver [secret] or [secret]");
        let query = target("/v1/input?dd-api-key=k%20ey1&ddtags=env:prod&flag&x=", None, None);
        assert_eq!(
            masked(
                &query,
                "k%20ey1, k ey1, env:prod, flag, dd-api-key; dd-api-key=k%20ey1&ddtags=env:prod&flag&x="
            ),
            "[secret], [secret], [secret], [secret], dd-api-key; [secret]"
        );
        // `user:pa:ss`, and `:token` without padding.
        let basic = target("/", Some("Basic dXNlcjpwYTpzcw=="), None);
        assert_eq!(
            masked(&basic, "user <pa:ss> dXNlcjpwYTpzcw== Basic"),
            "[secret] <[secret]> [secret] Basic"
        );
        let basic = target("/", Some("Basic OnRva2Vu"), None);
        assert_eq!(masked(&basic, "token"), "[secret]");
        let header = target("/", Some("Bearer a-b-c"), Some("s3cr3t"));
        assert_eq!(masked(&header, "a-b-c Bearer s3cr3t X-Key"), "[secret] Bearer [secret] X-Key");
        let none = target("/", None, None);
        assert_eq!(masked(&none, "all is response_text"), "all is response_text");
    }

    #[test]
    fn short_secrets_are_words() {
        // `x:ab`
        let short = target("/", Some("Basic eDphYg=="), None);
        assert_eq!(
            masked(&short, "expected ab, not x (about xab)"),
            "expected [secret], not [secret] (about xab)"
        );
    }

    #[test]
    fn the_longest_secret_wins() {
        let target = target("/abcd?key=abcdef", None, None);
        assert_eq!(masked(&target, "abcdef abcd"), "[secret] [secret]");
    }

    #[test]
    fn no_beginning_of_a_secret_at_a_cut() {
        let target = target("/0123456789", None, None);
        let secrets = Secrets::of(&target);
        for kept in 0..10 {
            let text = format!("the key is {}", &"0123456789"[..kept]);
            assert_eq!(secrets.mask(text.as_bytes(), true), text[..text.len() - 9].trim_end(), "{kept}");
        }
        assert_eq!(secrets.mask(b"the key 0123456789", true), "the key [secret]");
    }

    #[test]
    fn printable_and_bounded() {
        let none = target("/", None, None);
        assert_eq!(
            masked(&none, "  two\r\n\r\nlines\t\0 and \x1b[1m caf\u{e9} \u{202e}"),
            "two lines and [1m caf?? ???"
        );
        let secrets = Secrets::of(&none);
        assert_eq!(secrets.mask(&[b'x'; 5000], false), "x".repeat(LIMIT));
        let long = target("/abcd", None, None);
        assert_eq!(masked(&long, &"abcd".repeat(1000)).len(), LIMIT);
    }

    #[test]
    fn decoding() {
        assert_eq!(percent_decoded(b"a%2Bb%zz%4%"), b"a+b%zz%4%");
        for (text, expected) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(base64_decoded(text).unwrap(), expected.as_bytes(), "RFC 4648 section 10");
        }
        assert_eq!(base64_decoded("Zm 9v"), None);
    }
}
