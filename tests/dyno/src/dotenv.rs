//! `.env` as `heroku local` reads it (CLI 11.10, `dist/lib/local/foreman/envs.cjs`): values stand as they are written,
//! nothing is put in for `$NAME`, `#` begins a comment also within a word, and a file that is JSON counts as such.

use serde_json::Value;

/// The first line, counted from 1, that cannot be read. Nothing of it is told: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnclosedQuote(pub usize);

/// The variables of a file in their order; of two with one name the last one counts.
///
/// # Errors
/// [`UnclosedQuote`], at which `heroku local` stops, too.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, UnclosedQuote> {
    let text = text.trim_start_matches('\u{feff}');
    if let Ok(json @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
        let mut vars = Vec::new();
        flatten(&json, "", &mut vars);
        return Ok(vars);
    }
    let mut vars = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        // Too short for a name and a value: passed over there, too.
        if line.starts_with('#') || line.chars().count() <= 2 {
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        if !name.trim().is_empty() {
            let value = read(value.trim()).ok_or(UnclosedQuote(index + 1))?;
            vars.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    Ok(vars)
}

/// In quotes up to the next one, which nothing escapes; else up to a comment.
fn read(value: &str) -> Option<&str> {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.split_once(quote).map(|(inside, _)| inside);
        }
    }
    value.split('#').next().map(str::trim_end)
}

/// `{"a": {"b": 1}}` is `A_B=1`.
fn flatten(value: &Value, path: &str, vars: &mut Vec<(String, String)>) {
    let below = |key: &str| {
        if path.is_empty() { key.to_uppercase() } else { format!("{path}_{}", key.to_uppercase()) }
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(value, &below(key), vars)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(key, value)| flatten(value, &below(&key.to_string()), vars));
        }
        Value::Null => {}
        Value::String(text) => vars.push((path.to_owned(), text.clone())),
        Value::Bool(_) | Value::Number(_) => vars.push((path.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).expect("can be read")
    }

    /// Each pair as the CLI reads it: its function gave the same.
    #[test]
    fn values_are_what_the_cli_makes_of_them() {
        for (line, value) in [
            ("A=b", "b"),
            ("A = b ", "b"),
            ("A=pa$$word$HOME", "pa$$word$HOME"),
            ("A=postgres://u:p$1@h/d?x=y", "postgres://u:p$1@h/d?x=y"),
            ("A=unquoted with spaces", "unquoted with spaces"),
            ("A={\"a\": [1, \"b\"]}", "{\"a\": [1, \"b\"]}"),
            ("A=\"one # two\" # three", "one # two"),
            ("A='it is' rest", "it is"),
            ("A=\"a\\\"b\"", "a\\"),
            ("A=x\"y", "x\"y"),
            ("A=word # comment", "word"),
            ("A=pass#word", "pass"),
            ("A=\\n`date`", "\\n`date`"),
            ("A=\"\"", ""),
            ("A=#", ""),
            ("\u{feff}A=b\r", "b"),
        ] {
            assert_eq!(parsed(line), [("A".to_owned(), value.to_owned())], "{line}");
        }
    }

    #[test]
    fn lines_that_set_nothing_are_passed_over() {
        assert_eq!(
            parsed("\n# A=b\n  #x=y\nA=\n=b\n \t\nNAME\nexport B=c\n"),
            [("NAME".to_owned(), String::new()), ("export B".to_owned(), "c".to_owned()),]
        );
    }

    #[test]
    fn a_file_may_be_json() {
        let vars = parsed("{\"a\": {\"b\": \"c\", \"d\": [1, true, null]}, \"E\": 0.5}");
        let vars: Vec<(&str, &str)> = vars.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(vars, [("E", "0.5"), ("A_B", "c"), ("A_D_0", "1"), ("A_D_1", "true")]);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_found() {
        assert_eq!(parse("A=b\n# c\nB='secret\n"), Err(UnclosedQuote(3)));
        assert_eq!(parse("A=\"se'cret"), Err(UnclosedQuote(1)));
    }
}
