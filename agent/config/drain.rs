//! The settings of each drain, from `TAILRACE_DRAIN_URL` and `TAILRACE_DRAIN_TOKEN`.

use super::drain_url::{BLANK_BETWEEN, DrainUrl, SEPARATORS, Scheme};
use super::env::EnvReader;

pub(super) const DRAIN_URL: &str = "TAILRACE_DRAIN_URL";

/// One drain.
#[derive(Clone, Debug)]
pub struct DrainSettings {
    /// Its URL.
    pub url: DrainUrl,
    /// `Logplex-Drain-Token`.
    pub token: String,
    /// Whether bodies are compressed with gzip.
    pub gzip: bool,
    /// Bytes at which a batch closes.
    pub batch_bytes: usize,
}

/// Settings that apply to all drains.
pub(super) struct DrainDefaults<'a> {
    /// The app, of which tokens are derived.
    pub(super) app: &'a str,
    pub(super) batch_bytes: u64,
    /// Whether `http://` is allowed beyond loopback.
    pub(super) allows_plaintext: bool,
}

impl DrainSettings {
    /// Parses one URL, which follows those of the drains `before`.
    ///
    /// # Errors
    /// What is wrong with the URL and what to do; no secret.
    fn parse(text: &str, before: &[Self], defaults: &DrainDefaults<'_>) -> Result<Self, String> {
        let url = DrainUrl::parse(text).map_err(|error| error.to_string())?;
        match url.scheme() {
            Scheme::SyslogTls | Scheme::Syslog => {
                Err("syslog drains are not supported by this version: use an https:// drain".to_owned())
            }
            Scheme::Http if !url.is_loopback() && !defaults.allows_plaintext => {
                Err("http:// would send everything in the clear: use https://, or set \
                     TAILRACE_ALLOW_PLAINTEXT=on"
                    .to_owned())
            }
            Scheme::Http | Scheme::Https => Ok(Self {
                token: derive_token(defaults.app, &url, before),
                gzip: url.gzip(),
                batch_bytes: url.batch_bytes().unwrap_or(defaults.batch_bytes) as usize,
                url,
            }),
        }
    }

    /// Reads all drains. URLs that cannot be used are reported to `env` and left out.
    pub(super) fn read_all(env: &mut EnvReader, app: &str, batch_bytes: u64) -> Vec<Self> {
        let allows_plaintext = env.switch("TAILRACE_ALLOW_PLAINTEXT", false);
        let defaults = DrainDefaults { app, batch_bytes, allows_plaintext };
        let text = env.read_unlisted(DRAIN_URL).unwrap_or_default();
        let urls: Vec<&str> = text.split_whitespace().collect();
        let tokens = read_tokens(env, urls.len());
        let mut drains = Vec::new();
        for (index, url) in urls.iter().enumerate() {
            let parsed = match url {
                url if urls.len() > 1 && url.ends_with(SEPARATORS) => {
                    Err(format!("{BLANK_BETWEEN}, and nothing else"))
                }
                url => Self::parse(url, &drains, &defaults),
            };
            match parsed {
                Ok(mut drain) => {
                    env.list(DRAIN_URL, drain.url.to_string());
                    if let Some(token) = tokens.get(index) {
                        token.clone_into(&mut drain.token);
                    }
                    drains.push(drain);
                }
                Err(error) if urls.len() > 1 => env.error(DRAIN_URL, format!("URL {}: {error}", index + 1)),
                Err(error) => env.error(DRAIN_URL, error),
            }
        }
        drains
    }
}

/// Reads the tokens that are configured: one for each of the `expected` URLs, or none.
fn read_tokens(env: &mut EnvReader, expected: usize) -> Vec<String> {
    const TOKENS: &str = "TAILRACE_DRAIN_TOKEN";
    let Some(text) = env.read_unlisted(TOKENS) else { return Vec::new() };
    let tokens: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if tokens.len() != expected {
        let found = tokens.len();
        env.error(TOKENS, format!("found {found} tokens, expected {expected}: one per drain URL"));
    } else if !tokens.iter().all(|token| token.bytes().all(|b| b.is_ascii_graphic())) {
        env.error(TOKENS, "expected printable ASCII");
    } else {
        env.list(TOKENS, text);
        return tokens;
    }
    Vec::new()
}

/// Derives a drain token that is the same for every dyno and release, when a URL's secret is rotated, and when other
/// drains are added or removed: only those on the same host and port are numbered. As Logplex's tokens it is `d.` and a
/// UUID (RFC 9562 section 5.8, version 8).
fn derive_token(app: &str, url: &DrainUrl, before: &[DrainSettings]) -> String {
    let name = url.name();
    let number = before.iter().filter(|drain| drain.url.name() == name).count() as u64;
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [app.as_bytes(), name.as_bytes(), &number.to_le_bytes()] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finish();
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_ref()[..16]);
    let bits = u128::from_be_bytes(half) & !(0xf << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("d.{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
