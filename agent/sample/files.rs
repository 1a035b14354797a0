//! Small files of the kernel, below a root that is `/` but in tests.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes read of a file at most: the largest that we read is a table of mounts or sockets.
const MOST: u64 = 256 << 10;

/// Where the files are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    /// Below this root.
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The text of a file.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let mut text = Vec::new();
        File::open(self.path(name)).ok()?.take(MOST).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// A file that holds a number and nothing else.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.trim().parse().ok()
    }

    /// The number behind a key at the start of a line.
    pub(crate) fn key(&self, name: &str, key: &str) -> Option<u64> {
        key_of(&self.text(name)?, key)
    }
}

/// The number behind a key at the start of a line.
pub(crate) fn key_of(text: &str, key: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.split_whitespace().next());
    values.next()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A root with these files.
    pub(crate) fn layout(files: &[(&str, &str)]) -> (TempDir, Files) {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let files = Files::below(dir.path());
        (dir, files)
    }

    #[test]
    fn numbers_stand_alone_or_behind_a_key() {
        let (_dir, files) = layout(&[("a", "12\n"), ("b", "x 1\nanon 7\nanon_thp 8\n"), ("c", "max\n")]);
        assert_eq!((files.number("a"), files.number("c"), files.number("d")), (Some(12), None, None));
        assert_eq!((files.key("b", "anon "), files.key("b", "none ")), (Some(7), None));
    }
}
