//! Parses a Procfile by the rules of Cedar.

/// The entries in order: process type and command.
///
/// As on the platform, leading blanks, a missing blank after the colon, a missing colon and CRLF are accepted; comments
/// and other lines that are not entries are ignored.
pub fn parse(text: &str) -> Vec<(&str, &str)> {
    text.lines().filter_map(entry).collect()
}

/// The command of a process type. When a type occurs twice, the last entry applies.
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
    fn entries_are_parsed_as_the_platform_parses_them() {
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
    fn crlf_is_not_part_of_a_command() {
        assert_eq!(parse("web: a\r\n\r\nworker: b\r\n"), [("web", "a"), ("worker", "b")]);
    }

    #[test]
    fn the_last_entry_of_a_type_applies() {
        assert_eq!(command("web: a\nworker: b\nweb: c\n", "web"), Some("c"));
        assert_eq!(command("worker: b\n", "web"), None);
    }
}
