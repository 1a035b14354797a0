//! Redaction: the drain's response is shown without the secrets of the drain's URL and headers, in whatever form the
//! drain repeats them: as they were sent, decoded, or encoded once more for JSON, HTML or a URL.

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
/// So is a segment of the path of up to so many lower-case letters: `http` is a part of many words.
const MAX_WORD_SEGMENT_BYTES: usize = 12;
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

/// A text that must not be shown.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Secret {
    bytes: Vec<u8>,
    /// Masked as a whole word only.
    is_word: bool,
}

/// Everything of an endpoint that must not be shown, the longest first.
pub(super) struct Secrets(Vec<Secret>);

impl Secrets {
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let (path, query) = endpoint.path_and_query.split_once('?').unwrap_or((&endpoint.path_and_query, ""));
        let mut secrets = Self(Vec::new());
        let (segments, last) = path.rsplit_once('/').unwrap_or(("", path));
        secrets.add(last.as_bytes());
        for segment in segments.split('/').chain(segments.split('/').flat_map(parts)).chain(parts(last)) {
            let is_letters = segment.bytes().all(|b| b.is_ascii_lowercase());
            secrets.add_as(segment.as_bytes(), is_letters && segment.len() <= MAX_WORD_SEGMENT_BYTES);
        }
        secrets.add(query.as_bytes());
        for pair in query.split('&') {
            let value = pair.split_once('=').map_or(pair, |(_, value)| value);
            secrets.add(value.as_bytes());
            secrets.add(value.replace('+', " ").as_bytes());
            parts(value).for_each(|part| secrets.add(part.as_bytes()));
        }
        for value in endpoint.headers.iter().map(|(_, value)| value).chain(&endpoint.authorization) {
            secrets.add(value.as_bytes());
            let credentials = value.split_once(' ').map_or(value.as_str(), |(_, credentials)| credentials);
            secrets.add(credentials.as_bytes());
            let userinfo = base64_decoded(credentials).unwrap_or_default();
            userinfo.splitn(2, |&byte| byte == b':').for_each(|part| secrets.add(part));
        }
        secrets.0.sort_by(|a, b| b.bytes.len().cmp(&a.bytes.len()).then_with(|| a.cmp(b)));
        secrets.0.dedup_by(|next, kept| next.bytes == kept.bytes); // the one that is no word comes first
        secrets
    }

    fn add(&mut self, secret: &[u8]) {
        self.add_as(secret, false);
    }

    /// Adds a secret as it is, decoded, and without the padding of base64.
    fn add_as(&mut self, secret: &[u8], is_word: bool) {
        let decoded: Vec<u8> = percent_decode(secret).collect();
        for bytes in [secret, &decoded] {
            let end = bytes.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
            for bytes in [bytes, &bytes[..end]].into_iter().filter(|bytes| !bytes.is_empty()) {
                let is_word = is_word || bytes.len() <= MAX_WORD_SECRET_BYTES;
                self.0.push(Secret { bytes: bytes.to_vec(), is_word });
            }
        }
    }

    /// `text` as at most [`MAX_DETAIL_BYTES`] of printable ASCII, with all secrets masked. Of a truncated text, an end
    /// that may be the beginning of a secret is left out.
    pub(super) fn redact(&self, text: &[u8], end: BodyEnd) -> String {
        let longest = self.0.first().map_or(0, |secret| secret.bytes.len());
        let mut out = String::new();
        let mut position = 0;
        while position < text.len() && out.len() < MAX_DETAIL_BYTES {
            let found = self.0.iter().map(|secret| secret.find_at(text, position));
            // The longest in the text, which may be another one than the longest secret.
            match found.max().unwrap_or(Found::Not) {
                Found::Secret { len } => {
                    out.push_str(MASK);
                    position += len;
                    continue;
                }
                Found::Beginning if end == BodyEnd::Truncated => break,
                Found::Beginning | Found::Not => {}
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

/// The parts of a segment or value, as in `env:production,team:shop`.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split([':', ',', ';'])
}

/// What is at a position of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Not,
    /// The text ends in the middle of a secret.
    Beginning,
    /// A secret that takes this many bytes.
    Secret {
        len: usize,
    },
}

impl Secret {
    /// Whether the secret is to be masked at `position`: each of its bytes as itself, in either case, or encoded.
    fn find_at(&self, text: &[u8], position: usize) -> Found {
        let is_word_byte = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        if self.is_word && is_word_byte(text[..position].last()) && !ends_encoded(&text[..position]) {
            return Found::Not;
        }
        // Where the bytes so far may end: `%` as itself or as `%25`.
        let mut ends = vec![position];
        let mut is_cut = false;
        for byte in &self.bytes {
            if ends.is_empty() {
                break;
            }
            let mut next: Vec<usize> = Vec::new();
            for end in ends {
                let rest = &text[end..];
                is_cut |= rest.len() < MAX_ENCODED_BYTES && is_beginning_of_encoded(rest);
                let lengths = encoded_lengths(rest, *byte).filter(|len| !next.contains(&(end + len)));
                next.extend(lengths.map(|len| end + len).collect::<Vec<_>>());
            }
            ends = next;
        }
        let is_end = |end: &usize| !(self.is_word && is_word_byte(text.get(*end)));
        match ends.into_iter().filter(is_end).max() {
            Some(end) => Found::Secret { len: end - position },
            None if is_cut => Found::Beginning,
            None => Found::Not,
        }
    }
}

/// Whether a text ends with an encoded byte, such as `%2F`: its digits are no part of the word that follows.
fn ends_encoded(text: &[u8]) -> bool {
    let has = |digits: usize, begin: &[u8]| {
        let at = text.len().checked_sub(digits);
        at.map(|at| text.split_at(at))
            .is_some_and(|(before, last)| before.ends_with(begin) && last.iter().all(u8::is_ascii_hexdigit))
    };
    has(2, b"%") || has(2, b"%25") || has(4, b"\\u")
}

/// Bytes of the longest form of a byte: `&quot;`, `\u0022`, `%2522`.
const MAX_ENCODED_BYTES: usize = 6;

/// Whether a text ends before it is known which byte it encodes.
fn is_beginning_of_encoded(rest: &[u8]) -> bool {
    match rest {
        [b'%', digits @ ..] => digits.len() < 2,
        [b'\\', b'u', digits @ ..] => digits.len() < 4,
        [] | [b'\\'] => true,
        [b'&', name @ ..] => !name.contains(&b';'),
        _ => false,
    }
}

/// How many bytes at the beginning of `rest` stand for `byte`, in each form that they are one in.
fn encoded_lengths(rest: &[u8], byte: u8) -> impl Iterator<Item = usize> {
    let is_same = |other: u8| other.eq_ignore_ascii_case(&byte);
    let is_hex = |digits: Option<&[u8]>| {
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).is_some_and(is_same)
    };
    let itself = rest.first().is_some_and(|first| is_same(*first)).then_some(1);
    let other = match rest {
        [b'+', ..] if byte == b' ' => Some(1),
        [b'%', b'2', b'5', ..] if is_hex(rest.get(3..5)) => Some(5),
        [b'%', ..] if is_hex(rest.get(1..3)) => Some(3),
        [b'\\', b'u', ..] if is_hex(rest.get(2..6)) => Some(6),
        [b'\\', escaped, ..] if *escaped == byte => Some(2),
        [b'&', ..] => html_len(rest, byte),
        _ => None,
    };
    itself.into_iter().chain(other)
}

/// Bytes of the HTML entity at the beginning of `rest` that stands for `byte`.
fn html_len(rest: &[u8], byte: u8) -> Option<usize> {
    let end = rest.iter().take(MAX_ENCODED_BYTES).position(|b| *b == b';')?;
    let value = match &rest[1..end] {
        b"amp" => b'&',
        b"lt" => b'<',
        b"gt" => b'>',
        b"quot" => b'"',
        b"apos" => b'\'',
        [b'#', b'x' | b'X', digits @ ..] => u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?,
        [b'#', digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok()?,
        _ => return None,
    };
    (value == byte).then_some(end + 1)
}

/// `None` if `text` is not base64.
fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::drain_url::DrainUrl;
    use proptest::prelude::*;
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
        assert_eq!(
            masked(&path, "code Abc%2Fd== or Abc/d== or Abc/d"),
            "code [secret] or [secret] or [secret]"
        );
        assert_eq!(
            masked(&path, "/receiver/v1/http/Abc%2Fd==, see https://help.example/v10"),
            "/[secret]/[secret]/[secret]/[secret], see https://help.example/v10"
        );
        assert_eq!(masked(&path, r"%2Freceiver%252Fhttp\u002fv1"), r"%2F[secret]%252F[secret]\u002f[secret]");
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
    fn secrets_are_masked_however_they_are_encoded() {
        // `u<"a&b/` as user, `pass word` as password.
        let basic = endpoint("/Ab-Cd/Ef%2Fgh?k=a+b%26c", Some("Basic dTwiYSZiLzpwYXNzIHdvcmQ="), None);
        for text in [
            r#"u<"a&b/"#,
            r#"u<\"a&b\/"#,
            r"u\u003c\u0022a\u0026b\u002f",
            "u&lt;&quot;a&amp;b/",
            "u&#60;&#x22;a&#38;b&#x2F;",
            "u%3C%22a%26b%2F",
            "u%3c%22a%26b%2f",
            "pass word",
            "pass+word",
            "PASS%20WORD",
            "dTwiYSZiLzpwYXNzIHdvcmQ=",
            "dTwiYSZiLzpwYXNzIHdvcmQ",
            "Ab-Cd",
            "ab-cd",
            "Ef%2Fgh",
            "Ef/gh",
            "Ef%252Fgh",
            "a+b%26c",
            "a+b&c",
            "a b&c",
        ] {
            assert_eq!(masked(&basic, &format!("<{text}>")), "<[secret]>", "{text}");
            assert_eq!(masked(&basic, text), "[secret]", "{text}");
            for kept in 0..text.len() {
                let shown = Secrets::of(&basic).redact(&text.as_bytes()[..kept], BodyEnd::Truncated);
                assert!(shown.is_empty() || shown == MASK, "{kept} of {text}: {shown}");
            }
        }
    }

    /// The forms of drain URLs of all receivers that are documented; `$` stands for what the user fills in.
    const RECEIVERS: [&str; 24] = [
        "https://endpoint4.collection.sumologic.com/receiver/v1/http/$==",
        "https://http-intake.logs.datadoghq.com/api/v2/logs?dd-api-key=$&ddsource=heroku&ddtags=env:$&service=$&host=$",
        "https://http-intake.logs.datadoghq.eu/v1/input/$?ddsource=heroku&service=$",
        "https://logs.collector.na-01.cloud.solarwinds.com/v1/logs/logplex/$",
        "https://logs-01.loggly.com/bulk/$/tag/heroku",
        "https://user:$@logs.timber.io/sources/$/frames",
        "https://api.logflare.app/logs/logplex?api_key=$&source=$",
        "https://$:$@heroku.logdna.com/heroku/logplex?app=$",
        "https://axiom:$@example.axiom.co/v1/ingest/$",
        "https://:$@api.axiom.co/v1/datasets/$/ingest",
        "https://listener.logz.io:8081?token=$&env=$",
        "https://x:$@splunk.example/services/collector/raw?sourcetype=heroku&source=$&host=$&channel=$",
        "https://$:$@logstash.example:8080/",
        "https://$:$@vector.example:8443/events",
        "https://alloy.example:8080/heroku/api/v1/drain?tenant=$",
        "https://fluentd.example:9880/$",
        "https://o1.ingest.sentry.io/api/$/integration/heroku/logs?sentry_key=$",
        "https://$:$@ingest.us.signoz.cloud:443/logs/heroku",
        "https://logplex.honeybadger.io/v1/events?api_key=$&env=$",
        "https://appsignal-endpoint.net/logplex?api_key=$&name=$&environment=$",
        "https://push.appsignal.com/2/logplex?api_key=$",
        "https://uid.middleware.io:443/heroku?mw-api-key=$&app=$&service=$",
        "https://logdrain.hirefire.io",
        "https://panther.example/http/$",
    ];

    fn is_in(text: &str, part: &str) -> bool {
        !part.is_empty() && text.to_lowercase().contains(&part.to_lowercase())
    }

    proptest! {
        #![proptest_config(crate::tests::property_config())]

        #[test]
        fn no_documented_receiver_can_make_us_show_a_part_of_its_url(
            receiver in 0..RECEIVERS.len(),
            secrets in proptest::collection::vec("[A-Za-z0-9_+.~-]{2,20}(%2[0-9A-F]|%3D|%40)?[A-Za-z0-9_-]{4,20}", 4),
            before in "[ <\"'/=:;,&?]{1}",
            after in "[ >\"'/;,&?.]{1}",
        ) {
            let mut filled = secrets.iter();
            let mut text = String::new();
            for part in RECEIVERS[receiver].split_inclusive('$') {
                text.push_str(part.trim_end_matches('$'));
                if part.ends_with('$') {
                    text.push_str(filled.next().expect("at most 4"));
                }
            }
            let used = &secrets[..secrets.len() - filled.len()];
            let url = DrainUrl::parse(&text).expect("a drain URL");
            let shown = url.to_string().replace(&url.name(), "");
            let behind_host = text.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
            for part in behind_host.unwrap_or_default().split(['/', '?', '&', '=']) {
                prop_assert!(part.len() < 5 || !is_in(&shown, part), "{} in {}", part, shown);
            }
            let mut endpoint = endpoint(url.path_and_query(), url.authorization().as_deref(), None);
            url.host().clone_into(&mut endpoint.host);
            let redacted = Secrets::of(&endpoint);
            let decoded = |text: &str| {
                String::from_utf8_lossy(&percent_decode(text.as_bytes()).collect::<Vec<_>>()).into_owned()
            };
            let json = |text: &str| serde_json::to_string(text).expect("JSON").replace('/', r"\/");
            let html = |text: &str| text.replace('&', "&amp;").replace('+', "&#43;").replace('=', "&#x3D;");
            let encoded = |text: &str| {
                percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
            };
            let userinfo = text.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
            let parts = used.iter().map(String::as_str).chain(userinfo.map(|(userinfo, _)| userinfo)).chain([
                url.path_and_query(),
                url.path_and_query().split('?').next().unwrap_or_default(),
                url.path_and_query().split('?').nth(1).unwrap_or_default(),
            ]);
            for part in parts.chain(url.authorization().as_deref()) {
                for echoed in [
                    part.to_owned(),
                    decoded(part),
                    json(part),
                    json(&decoded(part)),
                    html(part),
                    html(&decoded(part)),
                    encoded(part),
                    encoded(&decoded(part)),
                    encoded(part).to_lowercase(),
                    part.to_uppercase(),
                ] {
                    let detail = redacted.redact(format!("{before}{echoed}{after}").as_bytes(), BodyEnd::Complete);
                    let detail = detail.replace(MASK, "*");
                    for secret in used {
                        for form in [secret.clone(), decoded(secret), json(secret), html(secret), encoded(secret)] {
                            let is_shown = is_in(&detail, &form) || is_in(&decoded(&detail), &form);
                            prop_assert!(!is_shown, "{} of {} in {}", form, text, detail);
                        }
                    }
                    if let Some(authorization) = url.authorization() {
                        prop_assert!(!is_in(&detail, authorization.trim_start_matches("Basic ")), "{}", detail);
                    }
                    let detail = decoded(&detail);
                    for segment in url.path_and_query().split('?').next().unwrap_or_default().split('/') {
                        let is_shown = detail.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == segment);
                        prop_assert!(segment.is_empty() || !is_shown, "{} in {}", segment, detail);
                    }
                }
            }
        }
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
