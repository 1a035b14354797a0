//! Whose spool a directory is: lines of one app must not go to the drains of another that uses the same disk.

use super::directory::{open_regular, read_small};
use super::disk;
use crate::config::Config;
use crate::config::drain_url::DrainUrl;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

/// Name of the file.
pub(super) const FILE_NAME: &str = "app";
/// Bytes of the file at most: longer ones are no agent's.
const MAX_BYTES: u64 = 1024;
/// Characters of a name that are recorded.
const MAX_NAME_CHARS: usize = 64;
/// Digits of a key.
const KEY_DIGITS: usize = 32;

/// The app that a spool belongs to, as recorded in its directory: one line, `KEY NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppIdentity {
    /// The same for all agents of an app, and for no other app: a hash in hex.
    key: String,
    /// The name of the app, for people; empty when it is not known.
    pub(super) name: String,
}

impl AppIdentity {
    /// An app is known by its name. Apps without one are told apart by their drains.
    pub(crate) fn of(config: &Config) -> Self {
        if config.app_known {
            let name = config.app.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
            return Self { key: hash([b"name", config.app.as_bytes()]), name };
        }
        let mut drains: Vec<String> = config.drains.iter().map(|drain| text_of(&drain.url)).collect();
        drains.sort_unstable();
        let key = hash([b"drains".as_slice()].into_iter().chain(drains.iter().map(String::as_bytes)));
        Self { key, name: String::new() }
    }

    /// An app for tests.
    #[cfg(test)]
    pub(crate) fn of_test() -> Self {
        Self { key: hash([b"test".as_slice()]), name: "test".to_owned() }
    }

    /// Writes the file in `directory`.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        disk::before_change();
        let file = open_regular(&directory.join(FILE_NAME), &mut options)?;
        disk::write_all_at(&file, format!("{} {}\n", self.key, self.name).as_bytes(), 0)
    }

    /// Whether there is a file in `directory` that is as long as this one's.
    pub(super) fn is_recorded_in(&self, directory: &Path) -> bool {
        let len = self.key.len() + self.name.len() + 2;
        std::fs::symlink_metadata(directory.join(FILE_NAME)).is_ok_and(|meta| meta.len() == len as u64)
    }

    /// Reads the file in `directory`; none without a complete one.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let bytes = read_small(&directory.join(FILE_NAME), MAX_BYTES).ok()?;
        let (key, name) = std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?.split_once(' ')?;
        let is_key = key.len() == KEY_DIGITS && key.bytes().all(|b| b.is_ascii_hexdigit());
        is_key.then(|| Self { key: key.to_owned(), name: name.to_owned() })
    }

    /// When the agent of `directory` recorded it: at its start. What was changed last does not tell: an agent that
    /// adopts a directory changes it.
    pub(super) fn recorded_at(directory: &Path) -> Option<SystemTime> {
        std::fs::symlink_metadata(directory.join(FILE_NAME)).and_then(|meta| meta.modified()).ok()
    }

    /// Whether both are the same app.
    pub(super) fn is_same_app(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// Tells a drain from any other, wherever it is in the setting. The hash of its URL, which may contain secrets.
pub(super) fn url_hash(url: &DrainUrl) -> String {
    hash([b"drain".as_slice(), text_of(url).as_bytes()])
}

/// A URL with its secrets and without its options, to be hashed.
fn text_of(url: &DrainUrl) -> String {
    let user = url.authorization().unwrap_or_default();
    format!("{:?} {user} {} {}", url.scheme(), url.name(), url.path_and_query())
}

/// The first half of SHA-256 over some parts, in hex.
pub(super) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut half = [0; KEY_DIGITS / 2];
    half.copy_from_slice(&hash.finish().as_ref()[..KEY_DIGITS / 2]);
    format!("{:032x}", u128::from_be_bytes(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_known_by_all_parts_of_its_url_but_the_options() {
        let hash = |text: &str| url_hash(&DrainUrl::parse(text).expect("a URL"));
        let urls = [
            "https://h/a",
            "http://h:443/a",
            "https://h:8443/a",
            "https://g/a",
            "https://h/b",
            "https://h/a?key=s",
            "https://u@h/a",
            "https://u:s@h/a",
        ];
        let hashes: std::collections::BTreeSet<String> = urls.iter().map(|url| hash(url)).collect();
        assert_eq!(hashes.len(), urls.len());
        assert_eq!(hash("https://h/a"), hash("https://H:443/a#gzip=on&batch=1MiB"));
        assert!(hashes.iter().all(|hash| hash.len() == KEY_DIGITS), "no part is in the clear");
    }
}
