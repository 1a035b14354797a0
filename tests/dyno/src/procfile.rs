//! Which command a Procfile has for a process type, by the rules of the classic platform.

/// The entries in their order: type and command line.
///
/// Leading blanks, a missing blank behind the colon, a missing colon, CRLF and comment lines are what the platform
/// puts up with, so this does too. Lines that are no entries are ignored, as there.
pub fn parse(text: &str) -> Vec<(&str, &str)> {
    text.lines().filter_map(entry).collect()
}

/// The command of a process type. Where a type stands twice, the last one counts.
pub fn command<'a>(text: &'a str, process_type: &str) -> Option<&'a str> {
    parse(text).into_iter().rev().find(|(name, _)| *name == process_type).map(|(_, command)| command)
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')?;
    let (name, rest) = line.split_at(end);
    let command = match rest.strip_prefix(':') {
        Some(command) => command.trim_start(),
        None if rest.starts_with(char::is_whitespace) => rest.trim_start(),
        None => return None,
    };
    (!name.is_empty() && !command.is_empty()).then_some((name, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_the_platform_reads_them() {
        for (line, expected) in [
            ("web: bundle exec puma", Some(("web", "bundle exec puma"))),
            ("my-worker: x", Some(("my-worker", "x"))),
            ("my_worker: x", Some(("my_worker", "x"))),
            ("  web: x  ", Some(("web", "x"))),
            ("web:x", Some(("web", "x"))),
            ("web x", Some(("web", "x"))),
            ("web : x", Some(("web", ": x"))),
            ("web: a: b # c", Some(("web", "a: b # c"))),
            ("Web: x", Some(("Web", "x"))),
            ("web:", None),
            ("web", None),
            ("", None),
            ("  # note: x", None),
            (": x", None),
            ("wéb: x", None),
        ] {
            assert_eq!(entry(line), expected, "{line:?}");
        }
    }

    #[test]
    fn crlf_is_no_part_of_a_command() {
        assert_eq!(parse("web: a\r\n\r\nworker: b\r\n"), [("web", "a"), ("worker", "b")]);
    }

    #[test]
    fn the_last_entry_of_a_type_counts() {
        assert_eq!(command("web: a\nworker: b\nweb: c\n", "web"), Some("c"));
        assert_eq!(command("worker: b\n", "web"), None);
    }
}
