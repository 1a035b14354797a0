//! Scripts without `#!`. The kernel does not run them (ENOEXEC); execvp(3) has to run them through `sh` (POSIX.1-2024,
//! exec), as every shell does. musl's does not.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const SHELL: &str = "/bin/sh";
/// How much of a file decides whether it is a text.
const CHECKED_BYTES: u64 = 256;

/// The argument vector that runs this command through `sh`, if its file may be a script without `#!`: a text. Of
/// binary files the error of the kernel says more than what `sh` makes of them.
pub(super) fn through_shell(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = arguments.split_first()?;
    let file = find(program, &std::env::var_os("PATH").unwrap_or_default())?;
    let mut begin = Vec::new();
    File::open(&file).ok()?.take(CHECKED_BYTES).read_to_end(&mut begin).ok()?;
    if begin.starts_with(b"#!") || begin.contains(&0) {
        return None;
    }
    let shell = [OsString::from(SHELL), file.into_os_string()];
    Some(shell.into_iter().chain(rest.iter().cloned()).collect())
}

/// The file that execvp(3) executes. Its path does not look like an option.
fn find(program: &OsStr, path: &OsStr) -> Option<PathBuf> {
    let is_executable = |file: &PathBuf| {
        file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.as_bytes().contains(&b'/') {
        return Some(Path::new(".").join(program)).filter(is_executable);
    }
    std::env::split_paths(path).map(|dir| Path::new(".").join(dir).join(program)).find(is_executable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn texts_without_an_interpreter_are_run_through_sh() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("start");
        let path = file.to_str().expect("UTF-8");
        for (text, mode, is_script) in [
            (&b"echo $1\n"[..], 0o755, true),
            (b"", 0o755, true),
            (b"#!/bin/bash\necho\n", 0o755, false),
            (b"\x7fELF\x02\x01\x01\0", 0o755, false),
            (b"echo\n", 0o644, false),
        ] {
            fs::write(&file, text).expect("a file");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("its mode");
            let argv = through_shell(&[path, "a b"].map(OsString::from));
            let expected = ["/bin/sh", path, "a b"].map(OsString::from).to_vec();
            assert_eq!(argv, is_script.then_some(expected), "{text:?}");
        }
        assert_eq!(through_shell(&[]), None);
        assert_eq!(through_shell(&[OsString::from(dir.path().join("absent"))]), None);
    }

    #[test]
    fn programs_are_found_in_path_and_their_paths_are_no_options() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, mode) in [("one/-x", 0o644), ("two/-x", 0o755)] {
            let file = dir.path().join(name);
            fs::create_dir(file.parent().expect("a directory")).expect("a directory");
            fs::write(&file, "").expect("a file");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("its mode");
        }
        let path = format!("{0}/none:{0}/one:{0}/two", dir.path().display());
        assert_eq!(find("-x".as_ref(), path.as_ref()), Some(dir.path().join("two/-x")));
        assert_eq!(find("-y".as_ref(), path.as_ref()), None);
        assert_eq!(find("/".as_ref(), path.as_ref()), None);
        assert_eq!(find("Cargo.toml".as_ref(), "".as_ref()), None, "not executable");
    }
}
